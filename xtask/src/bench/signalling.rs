//! `cargo xtask bench signalling`: calls that are set up and end, and no media.
//!
//! Two loads, of which one has several times as many calls as the other at the same rate. What a set-up costs must be the
//! same in both, and so must be the memory: whatever a call leaves behind, a million calls show.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::figures::{Spread, rounded};
use super::folder;
use super::load::Load;
use super::machine::{Findings, Output};
use super::measure::{self, Cost};
use crate::programs;

/// What `cargo xtask bench signalling` understands.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Calls of the small load
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    calls: u32,
    /// The large one has so many times as many
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=100))]
    times: u32,
    /// Calls that begin in a second of the capture
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Runs of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Measure this build of spantape and make none
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    /// Fail below so many set-ups a second of CPU
    #[arg(long, default_value_t = 18_000.0)]
    min_rate: f64,
    /// Fail where the large load takes more than so many times the memory of the small one
    #[arg(long, default_value_t = 1.2)]
    max_growth: f64,
}

/// Measures, prints, keeps and judges, in this order: a failed check costs no figures.
pub(super) fn run(args: &Args) -> Result<()> {
    let figures = measure(args)?;
    args.output.publish(&figures)?;
    figures.check(args.min_rate, args.max_growth)
}

fn measure(args: &Args) -> Result<Figures> {
    measure::check_machine()?;
    let spantape = match &args.binary {
        Some(binary) => binary.clone(),
        None => programs::release_build("spantape")?,
    };
    let scratch = tempfile::tempdir_in(folder()?).context("make a folder")?;
    let loads = [args.calls, args.calls.saturating_mul(args.times)].map(|calls| Load { calls, seconds: 0 });
    let mut files = Vec::new();
    for load in loads {
        let file = scratch.path().join(load.file_name());
        eprintln!("writing {}", file.display());
        load.write_spread(&file, Duration::from_secs_f64(f64::from(load.calls) / f64::from(args.rate)))?;
        // Nobody is to pay for the disk because it comes first.
        std::io::copy(&mut std::fs::File::open(&file)?, &mut std::io::sink()).context("read the load")?;
        files.push(file);
    }
    let mut costs = [Vec::new(), Vec::new()];
    for run in 1..=args.runs {
        for ((load, file), costs) in loads.iter().zip(&files).zip(&mut costs) {
            let cost = replay(&spantape, file, scratch.path(), load.calls)?;
            eprintln!("run {run}: {} calls, {:.2} s CPU, {:.0} MB", load.calls, cost.cpu_s, cost.peak_mb);
            costs.push(cost);
        }
    }
    Ok(Figures { calls: loads.map(|load| load.calls), rate: args.rate, costs })
}

/// One replay, on one thread, of which all calls must be in the catalog.
fn replay(spantape: &Path, file: &Path, scratch: &Path, calls: u32) -> Result<Cost> {
    let archive = tempfile::tempdir_in(scratch).context("make a folder")?;
    let args = ["replay", "--threads", "1", "--json", "--archive"].map(OsStr::new);
    let args = [&args[..], &[archive.path().as_os_str(), file.as_os_str()]].concat();
    let (cost, summary) = measure::run(spantape, &args, &scratch.join("cost"))?;
    let summary: Value = serde_json::from_slice(&summary).context("the summary is no JSON")?;
    for (figure, wanted) in [("calls", calls), ("calls_answered", calls), ("sip_messages", calls * 7)] {
        let found = &summary[figure];
        ensure!(found.as_u64() == Some(wanted.into()), "{figure}: {found}, and it should be {wanted}");
    }
    let odd = [&summary["dropped"], &summary["odd"]];
    ensure!(odd.iter().all(|odd| odd.as_object().is_some_and(|odd| odd.is_empty())), "{odd:?}");
    Ok(cost)
}

struct Figures {
    /// Of the small load and of the large one, as are the costs.
    calls: [u32; 2],
    rate: u32,
    costs: [Vec<Cost>; 2],
}

impl Figures {
    fn spread(&self, load: usize, figure: impl Fn(&Cost) -> f64) -> Spread {
        Spread::of(self.costs[load].iter().map(figure).collect())
    }

    /// Set-ups a second of CPU.
    fn set_ups(&self, load: usize) -> Spread {
        self.spread(load, |cost| f64::from(self.calls[load]) / cost.cpu_s)
    }

    /// What many calls take for one of what few take.
    fn growth(&self, figure: impl Fn(&Cost) -> f64) -> f64 {
        self.spread(1, &figure).median / self.spread(0, &figure).median
    }

    fn check(&self, min_rate: f64, max_growth: f64) -> Result<()> {
        // In these words a figure that is no number does not pass.
        let (rate, growth) = (self.set_ups(1).median, self.growth(|cost| cost.peak_mb));
        let (fast, flat) = (rate >= min_rate, growth <= max_growth);
        ensure!(fast, "{rate:.0} set-ups a second of CPU, and {min_rate:.0} are wanted");
        ensure!(flat, "{growth:.2} times the memory, and {max_growth} is allowed");
        Ok(())
    }
}

impl Findings for Figures {
    fn stem(&self) -> String {
        format!("signalling-{}", self.calls[1])
    }

    fn json(&self) -> Value {
        let load = |load: usize| {
            json!({
                "calls": self.calls[load],
                "set_ups_per_cpu_s": self.set_ups(load).json(),
                "cpu_s": self.spread(load, |cost| cost.cpu_s).json(),
                "peak_mb": self.spread(load, |cost| cost.peak_mb).json(),
            })
        };
        json!({
            "calls_begun_a_second": self.rate,
            "few": load(0),
            "many": load(1),
            "memory_many_to_few": rounded(self.growth(|cost| cost.peak_mb)),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.costs[0].len();
        writeln!(
            f,
            "calls of 7 messages without media, {} begun a second, {runs} runs, one thread",
            self.rate
        )?;
        writeln!(f, "{:<32} {:>9} {:>9} {:>9}", "", "min", "median", "max")?;
        for (load, calls) in self.calls.iter().enumerate() {
            writeln!(f, "{calls:<8} {:<23} {}", "set-ups a second of CPU", self.set_ups(load))?;
            writeln!(f, "{:<8} {:<23} {}", "", "MB", self.spread(load, |cost| cost.peak_mb))?;
        }
        write!(f, "{:<32} {:>9.2}", "memory, many to few", self.growth(|cost| cost.peak_mb))
    }
}
