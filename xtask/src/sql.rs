//! `cargo xtask sql`: builds spantape-sql and runs its tests. It is no default member of the workspace, for DataFusion takes
//! long to build; so it is built without optimisation here.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose names have this in them
    test: Option<String>,
}

/// Builds, and tests.
pub(crate) fn run(args: &Args) -> Result<()> {
    eprintln!("building spantape-sql: the first time takes long");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tested = Command::new(cargo)
        .args(["test", "--profile", "quick", "--package", "spantape-sql", "--locked"])
        .args(&args.test)
        .current_dir(workspace()?)
        .status()
        .context("run cargo")?;
    if !tested.success() {
        bail!("spantape-sql does not pass its tests");
    }
    Ok(())
}
