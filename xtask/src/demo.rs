//! `cargo xtask demo`: the main job on the samples, as a user would run it.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::programs::release_build;
use crate::workspace;

/// Nothing can be chosen.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Builds the recorder, replays every sample into one archive and prints the recordings found.
pub(crate) fn run(_: &Args) -> Result<()> {
    let root = workspace()?;
    let binary = release_build("spantape")?;
    let target = binary.ancestors().nth(2).context("the binary has no target directory")?;
    let archive = target.join("demo-archive");
    if archive.exists() {
        std::fs::remove_dir_all(&archive)
            .with_context(|| format!("{} cannot be removed", archive.display()))?;
    }
    let mut cases: Vec<_> = std::fs::read_dir(root.join("samples"))?
        .map(|entry| entry.map(|entry| entry.path().join("input.pcap")))
        .collect::<Result<_, _>>()?;
    cases.retain(|capture| capture.is_file());
    cases.sort();
    // One after the other: some samples are the same call, made over for another network.
    for capture in &cases {
        println!(
            "$ spantape replay {} --archive {}",
            capture.strip_prefix(root)?.display(),
            archive.display()
        );
        succeed(Command::new(&binary).arg("replay").arg(capture).arg("--archive").arg(&archive))?;
    }
    println!("$ spantape search --archive {}", archive.display());
    succeed(Command::new(&binary).arg("search").arg("--archive").arg(&archive))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} cannot be run"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
