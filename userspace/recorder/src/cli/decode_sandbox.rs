//! `spantape decode-sandbox`: what this program starts itself as, to become a decoder.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::decode::sandbox;

/// Become a program that gets at nothing but its standard input and output
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of the processor that it may take
    #[arg(long, value_name = "N", default_value = "60")]
    cpu_seconds: u64,
    /// Path of the program, and what it is told
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (program, rest) = args
        .program
        .split_first()
        .map_or((PathBuf::new(), &[][..]), |(program, rest)| (program.into(), rest));
    match sandbox::enter(&program, rest, args.cpu_seconds)? {}
}
