//! spantape: a passive call recorder.

mod cli;
mod config;
mod pipeline;
mod source;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
