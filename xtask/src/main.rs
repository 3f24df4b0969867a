//! Development tasks: `cargo xtask <TASK>`.

mod samples;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Development tasks of spantape")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make the captures below samples/ again.
    Samples(samples::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Samples(args) => samples::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
