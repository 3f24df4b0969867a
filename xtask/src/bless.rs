//! `cargo xtask bless`: takes what the samples give now as what they are to give.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Nothing can be chosen.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs the golden tests in the mode that writes. What changes is to be reviewed before it is committed.
pub(crate) fn run(_: &Args) -> Result<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--release", "--package", "spantape", "--test", "golden", "samples_give"])
        .env("SPANTAPE_BLESS", "1")
        .status()
        .context("cargo cannot be run")?;
    if !status.success() {
        bail!("the golden tests failed: {status}");
    }
    println!("review the changes below samples/*/expected with git diff");
    Ok(())
}
