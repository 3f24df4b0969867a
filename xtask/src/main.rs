//! Development tasks: `cargo xtask <TASK>`.

mod bench;
mod bless;
mod conformance;
mod demo;
mod e2e;
mod ebpf;
mod lab;
mod programs;
mod samples;
mod sql;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Development tasks of spantape")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure what a replay, live capture and a search cost, against others.
    Bench(bench::Args),
    /// Build the XDP program, whose object is checked in.
    BuildEbpf(ebpf::Args),
    /// Replay captures whose content is known, and compare.
    Conformance(conformance::Args),
    /// Take what the samples give now as what they are to give.
    Bless(bless::Args),
    /// Test live capture in network namespaces; needs root.
    E2e(e2e::Args),
    /// Run the main job on the samples: replay, then search.
    Demo(demo::Args),
    /// Make the captures below samples/ again.
    Samples(samples::Args),
    /// Build spantape-sql and run its tests.
    Sql(sql::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Bench(args) => bench::run(&args),
        Task::BuildEbpf(args) => ebpf::run(&args),
        Task::Conformance(args) => conformance::run(&args),
        Task::Bless(args) => bless::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::E2e(args) => e2e::run(&args),
        Task::Samples(args) => samples::run(&args),
        Task::Sql(args) => sql::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn workspace() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace around xtask")
}
