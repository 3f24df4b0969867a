//! `cargo xtask bench instructions`: how many instructions a packet and a message take, by valgrind.
//!
//! Seconds differ from run to run; instructions hardly do, so that a change of a few percent shows on any machine. Each
//! figure is the difference of two replays over the difference of their sizes: what starting takes is in neither.
//! Valgrind's processor has no instructions for SHA-256, so that hashing counts for more here than it takes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::folder;
use super::load::{Load, SPREAD};
use super::machine::{Findings, Output};
use crate::lab::process::require;
use crate::programs;

/// What `cargo xtask bench instructions` understands.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Measure this build of spantape and make none
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// What is counted.
struct Kind {
    name: &'static str,
    /// The small load and the large one.
    loads: [Load; 2],
    /// Between the first call and the last.
    spread: Duration,
    options: &'static [&'static str],
    /// Messages or packets.
    size: fn(Load) -> u64,
    /// What it may take: a tenth more than it does.
    limit: u64,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "a SIP message",
        loads: [Load { calls: 200, seconds: 0 }, Load { calls: 1200, seconds: 0 }],
        spread: Duration::from_secs(2),
        options: &["--no-audio"],
        size: |load| u64::from(load.calls) * 7,
        limit: 80_000,
    },
    Kind {
        name: "an RTP packet",
        loads: [Load { calls: 10, seconds: 10 }, Load { calls: 10, seconds: 30 }],
        spread: SPREAD,
        options: &["--no-audio"],
        size: Load::rtp_packets,
        limit: 3_400,
    },
    Kind {
        name: "an RTP packet, recorded",
        loads: [Load { calls: 10, seconds: 10 }, Load { calls: 10, seconds: 30 }],
        spread: SPREAD,
        options: &[],
        size: Load::rtp_packets,
        limit: 24_500,
    },
];

/// Counts, prints, keeps and judges, in this order: a failed check costs no figures.
pub(super) fn run(args: &Args) -> Result<()> {
    require("valgrind", "valgrind")?;
    let spantape = match &args.binary {
        Some(binary) => binary.clone(),
        None => programs::release_build("spantape")?,
    };
    let figures = Figures(KINDS.iter().map(|kind| kind.count(&spantape)).collect::<Result<_>>()?);
    args.output.publish(&figures)?;
    figures.check()
}

impl Kind {
    /// Instructions for one.
    fn count(&self, spantape: &Path) -> Result<u64> {
        let scratch = tempfile::tempdir_in(folder()?).context("make a folder")?;
        let [small, large] = self.loads;
        let of = |load: Load| -> Result<u64> {
            let file = scratch.path().join(load.file_name());
            load.write_spread(&file, self.spread)?;
            let archive = tempfile::tempdir_in(scratch.path()).context("make a folder")?;
            let mut command = Command::new("valgrind");
            command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
            command.arg(spantape).args(["replay", "--threads", "1", "--archive"]);
            command.arg(archive.path()).arg(&file).args(self.options);
            let output = command.output().context("run valgrind")?;
            let said = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                bail!("valgrind: {}", said.trim());
            }
            instructions(&said).with_context(|| format!("valgrind says {:?}", said.trim()))
        };
        Ok(of(large)?.saturating_sub(of(small)?) / ((self.size)(large) - (self.size)(small)))
    }
}

/// `==7== I   refs:      4,478,676,641`
fn instructions(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("I refs:") || line.contains("I   refs:"))?;
    line.rsplit(':').next()?.trim().replace(',', "").parse().ok()
}

/// In the order of [`KINDS`].
struct Figures(Vec<u64>);

impl Figures {
    fn check(&self) -> Result<()> {
        let exceeded = KINDS.iter().zip(&self.0).filter(|(kind, count)| **count > kind.limit);
        let exceeded: Vec<String> = exceeded
            .map(|(kind, count)| {
                format!("{} takes {count} instructions, and {} are allowed", kind.name, kind.limit)
            })
            .collect();
        if exceeded.is_empty() { Ok(()) } else { bail!("{}", exceeded.join("\n")) }
    }
}

impl Findings for Figures {
    fn stem(&self) -> String {
        "instructions".to_owned()
    }

    fn json(&self) -> Value {
        KINDS.iter().zip(&self.0).map(|(kind, count)| (kind.name.to_owned(), json!(count))).collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<24} {:>12} {:>8}", "instructions for", "", "allowed")?;
        for (kind, count) in KINDS.iter().zip(&self.0) {
            write!(f, "\n{:<24} {count:>12} {:>8}", kind.name, kind.limit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_valgrind_says() {
        let said = "==7== Cachegrind\n==7== \n==7== I refs:        1,234,567\n";
        assert_eq!(instructions(said), Some(1_234_567));
        assert_eq!(instructions("==7== I   refs:      9\n"), Some(9));
        assert_eq!(instructions("==7== Cachegrind\n"), None);
    }

    #[test]
    fn limits_are_for_each() {
        let limits: Vec<u64> = KINDS.iter().map(|kind| kind.limit).collect();
        assert!(Figures(limits.clone()).check().is_ok());
        let mut exceeded = limits;
        exceeded[1] += 1;
        assert!(Figures(exceeded).check().unwrap_err().to_string().contains("an RTP packet takes"));
    }
}
