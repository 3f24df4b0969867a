//! Running a program and learning what it cost.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::lab::process::require;

/// What one run of a program cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    /// User and system time of all its threads.
    pub(super) cpu_s: f64,
    pub(super) wall_s: f64,
    /// The most memory it had resident, in 10^6 bytes.
    pub(super) peak_mb: f64,
}

/// Complains before the first run when the machine cannot measure.
pub(super) fn check_machine() -> Result<()> {
    require("time", "time")
}

/// Runs a program to its end, and gives what it printed.
///
/// GNU time asks the kernel for the figures, which the standard library does not without unsafe code. Its CPU
/// seconds are rounded down to hundredths, twice. It also is a small parent: a program's peak begins with that
/// of the process it was forked from.
pub(super) fn run(program: &Path, args: &[&OsStr], report: &Path) -> Result<(Cost, Vec<u8>)> {
    let name = program.display();
    let mut command = Command::new("time");
    command.args(["-q", "-f", "%U %S %M", "-o"]).arg(report).arg(program).args(args);
    let start = Instant::now();
    // With its standard error in a pipe, the program draws no progress bar.
    let out = command.output().with_context(|| format!("run {name}"))?;
    let wall_s = start.elapsed().as_secs_f64();
    if !out.status.success() {
        bail!("{name} ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    let text = std::fs::read_to_string(report).with_context(|| format!("read {}", report.display()))?;
    Ok((parse(&text, wall_s)?, out.stdout))
}

fn parse(report: &str, wall_s: f64) -> Result<Cost> {
    let figures: Result<Vec<f64>, _> = report.split_whitespace().map(str::parse).collect();
    match figures.as_deref() {
        Ok(&[user, system, kib]) => Ok(Cost { cpu_s: user + system, wall_s, peak_mb: kib * 1024.0 / 1e6 }),
        _ => bail!("time says {:?}: is it GNU time?", report.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_user_system_and_kibibytes() {
        let cost = Cost { cpu_s: 1.5, wall_s: 2.0, peak_mb: 10.24 };
        assert_eq!(parse("1.25 0.25 10000\n", 2.0).unwrap(), cost);
        assert!(parse("real 0m0.1s", 2.0).is_err());
    }
}
