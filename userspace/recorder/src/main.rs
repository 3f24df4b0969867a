//! spantape: a passive call recorder.

mod cli;
mod config;
mod control;
mod decode;
mod encode;
mod export;
mod finish;
mod keeper;
mod live;
mod pipeline;
mod privileges;
mod source;
mod syncer;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
