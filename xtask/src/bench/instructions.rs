//! `cargo xtask bench instructions`: how many instructions a packet and a message take, by valgrind, and how many calls of
//! the kernel, by strace.
//!
//! Seconds differ from run to run; instructions hardly do, so that a change of a few percent shows on any machine. Each
//! figure is the difference of two replays over the difference of their sizes: what starting takes is in neither.
//! Audio is written a quarter of a second at a time, which is all that a packet may call the kernel for; and it is read
//! once more to be hashed. Valgrind's processor has no instructions for SHA-256, so that hashing counts for more here than it takes.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
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
    limit: Taken,
}

/// What one message or packet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    instructions: u64,
    /// Of a thousand.
    calls: u64,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "a SIP message",
        loads: [Load { calls: 200, seconds: 0 }, Load { calls: 1200, seconds: 0 }],
        spread: Duration::from_secs(2),
        options: &["--no-audio"],
        size: |load| u64::from(load.calls) * 7,
        limit: Taken { instructions: 80_000, calls: 30 },
    },
    Kind {
        name: "an RTP packet",
        loads: [Load { calls: 10, seconds: 10 }, Load { calls: 10, seconds: 30 }],
        spread: SPREAD,
        options: &["--no-audio"],
        size: Load::rtp_packets,
        limit: Taken { instructions: 3_400, calls: 2 },
    },
    Kind {
        name: "an RTP packet, recorded",
        loads: [Load { calls: 10, seconds: 10 }, Load { calls: 10, seconds: 30 }],
        spread: SPREAD,
        options: &[],
        size: Load::rtp_packets,
        limit: Taken { instructions: 24_500, calls: 46 },
    },
];

/// Counts, prints, keeps and judges, in this order: a failed check costs no figures.
pub(super) fn run(args: &Args) -> Result<()> {
    require("valgrind", "valgrind")?;
    require("strace", "strace")?;
    let spantape = match &args.binary {
        Some(binary) => binary.clone(),
        None => programs::release_build("spantape")?,
    };
    let figures = Figures(KINDS.iter().map(|kind| kind.count(&spantape)).collect::<Result<_>>()?);
    args.output.publish(&figures)?;
    figures.check()
}

impl Kind {
    fn count(&self, spantape: &Path) -> Result<Taken> {
        let scratch = tempfile::tempdir_in(folder()?).context("make a folder")?;
        let said = scratch.path().join("strace");
        let [small, large] = self.loads;
        let of = |load: Load| -> Result<[u64; 2]> {
            let file = scratch.path().join(load.file_name());
            load.write_spread(&file, self.spread)?;
            let replay = |program: &str, args: &[&OsStr]| -> Result<String> {
                let archive = tempfile::tempdir_in(scratch.path()).context("make a folder")?;
                let mut command = Command::new(program);
                command.args(args).arg(spantape).args(["replay", "--threads", "1", "--archive"]);
                command.arg(archive.path()).arg(&file).args(self.options);
                let output = command.output().with_context(|| format!("run {program}"))?;
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                ensure!(output.status.success(), "{program}: {}", said.trim());
                Ok(said)
            };
            let tool = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"];
            let valgrind = replay("valgrind", &tool.map(OsStr::new))?;
            let instructions =
                instructions(&valgrind).with_context(|| format!("valgrind says {:?}", valgrind.trim()))?;
            let options = ["-f", "--summary-only", "-o"].map(OsStr::new);
            replay("strace", &[&options[..], &[said.as_os_str()]].concat())?;
            let summary = std::fs::read_to_string(&said).context("read what strace says")?;
            let calls = calls(&summary).with_context(|| format!("strace says {summary:?}"))?;
            Ok([instructions, calls])
        };
        let (small_took, large_took) = (of(small)?, of(large)?);
        let more = (self.size)(large) - (self.size)(small);
        let [instructions, calls] = [0, 1].map(|at| large_took[at].saturating_sub(small_took[at]));
        Ok(Taken { instructions: instructions / more, calls: calls * 1000 / more })
    }
}

/// `==7== I   refs:      4,478,676,641`
fn instructions(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("I refs:") || line.contains("I   refs:"))?;
    line.rsplit(':').next()?.trim().replace(',', "").parse().ok()
}

/// `100.00    0.098765           5     18765       123 total`
fn calls(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// In the order of [`KINDS`].
struct Figures(Vec<Taken>);

impl Figures {
    fn check(&self) -> Result<()> {
        let mut exceeded = Vec::new();
        for (Kind { name, limit, .. }, taken) in KINDS.iter().zip(&self.0) {
            if taken.instructions > limit.instructions {
                let (is, allowed) = (taken.instructions, limit.instructions);
                exceeded.push(format!("{name} takes {is} instructions, and {allowed} are allowed"));
            }
            if taken.calls > limit.calls {
                let (is, allowed) = (taken.calls, limit.calls);
                exceeded.push(format!(
                    "a thousand of: {name} make {is} calls of the kernel, and {allowed} are allowed"
                ));
            }
        }
        if exceeded.is_empty() { Ok(()) } else { bail!("{}", exceeded.join("\n")) }
    }
}

impl Findings for Figures {
    fn stem(&self) -> String {
        "instructions".to_owned()
    }

    fn json(&self) -> Value {
        let json =
            |taken: &Taken| json!({ "instructions": taken.instructions, "calls_of_1000": taken.calls });
        KINDS.iter().zip(&self.0).map(|(kind, taken)| (kind.name.to_owned(), json(taken))).collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["instructions", "allowed", "kernel, of 1000", "allowed"];
        write!(f, "{:<24} {:>12} {:>8} {:>16} {:>8}", "", heads[0], heads[1], heads[2], heads[3])?;
        for (Kind { name, limit, .. }, taken) in KINDS.iter().zip(&self.0) {
            let (instructions, calls) = (taken.instructions, taken.calls);
            let allowed = limit.instructions;
            write!(f, "\n{name:<24} {instructions:>12} {allowed:>8} {calls:>16} {:>8}", limit.calls)?;
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
    fn what_strace_says() {
        let said = "% time seconds usecs/call calls errors syscall\n100.00    0.098765           5     18765       123 total\n";
        assert_eq!(calls(said), Some(18_765));
        assert_eq!(calls("100.00    0.000000           0        42           total\n"), Some(42));
        assert_eq!(calls("% time     seconds\n"), None);
    }

    #[test]
    fn limits_are_for_each() {
        let limits: Vec<Taken> = KINDS.iter().map(|kind| kind.limit).collect();
        assert!(Figures(limits.clone()).check().is_ok());
        let mut exceeded = limits;
        exceeded[1].instructions += 1;
        exceeded[2].calls += 1;
        let said = Figures(exceeded).check().unwrap_err().to_string();
        assert!(said.contains("an RTP packet takes") && said.contains("recorded make"), "{said}");
    }
}
