//! What the recorder makes of a capture: replayed into an archive of its own, then read back by `search`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The rows that `search` finds.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) calls: Vec<Value>,
    pub(super) streams: Vec<Value>,
    pub(super) recordings: Vec<Value>,
    pub(super) events: Vec<Value>,
}

/// Replays a capture and reads what came of it.
pub(super) fn replay(binary: &Path, capture: &Path, options: &[&str]) -> Result<Found> {
    let folder = tempfile::tempdir().context("make a folder for the archive")?;
    let archive = folder.path().join("archive");
    let out =
        run(Command::new(binary).arg("replay").arg(capture).arg("--archive").arg(&archive).args(options))?;
    if !out.status.success() {
        bail!("replay: {}: {}", out.status, last_line(&out.stderr));
    }
    Ok(Found {
        calls: search(binary, &archive, "calls")?,
        streams: search(binary, &archive, "streams")?,
        recordings: search(binary, &archive, "recordings")?,
        events: search(binary, &archive, "events")?,
    })
}

fn search(binary: &Path, archive: &Path, table: &str) -> Result<Vec<Value>> {
    let mut command = Command::new(binary);
    command.arg("search").arg("--archive").arg(archive).args(["--table", table, "--format", "json"]);
    let out = run(&mut command)?;
    match out.status.code() {
        Some(0) => serde_json::from_slice(&out.stdout).with_context(|| format!("what is said of {table}")),
        // Nothing was found.
        Some(1) => Ok(Vec::new()),
        _ => bail!("search for {table}: {}: {}", out.status, last_line(&out.stderr)),
    }
}

fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_owned();
    command.stdin(Stdio::null()).output().with_context(|| format!("run {}", program.display()))
}

fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().next_back().unwrap_or_default().to_owned()
}

/// The program under test: the one given, or the release build.
pub(super) fn binary(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(given) => given.canonicalize().with_context(|| format!("find {}", given.display())),
        None => crate::programs::release_build("spantape"),
    }
}
