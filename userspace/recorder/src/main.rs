//! spantape: a passive call recorder.

mod archivist;
mod cli;
mod config;
mod control;
mod decode;
mod encode;
mod engines;
mod export;
mod finish;
mod live;
mod pipeline;
mod privileges;
mod source;
mod syncer;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
