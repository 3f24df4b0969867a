//! `cargo xtask bench capture`: what live capture costs and how much it bears, in network namespaces of its own.
//!
//! Frames are sent into one end of a veth; at the other end the receivers take turns. XDP works in interrupts, on
//! nobody's account, so that it is the whole machine's time that is compared, less what sending costs.

mod clocks;
mod figures;
mod highest;
mod real_time;
mod receiver;
pub(super) mod send;
mod socket;
mod traffic;
mod trial;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use self::figures::{Figures, Share};
use self::highest::Highest;
use self::real_time::RealTime;
use self::receiver::Kind;
use self::send::Frames;
use self::traffic::Mix;
use self::trial::Stage;
use super::load::Load;
use super::machine::Output;
use crate::lab::recorder::Source;
use crate::lab::{Bench, process, switch};
use crate::programs;

/// What `cargo xtask bench capture` understands.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    mix: Mix,
    /// Runs of each receiver at that rate
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How many of a hundred frames are needed
    #[arg(long, value_name = "PERCENT", num_args = 1.., default_values_t = [100, 10, 1],
          value_parser = clap::value_parser!(u64).range(1..=100))]
    wanted: Vec<u64>,
    /// What frames are when they arrive; in real time they always come from a socket
    #[arg(long, value_enum, default_value_t = Frames::Driver)]
    frames: Frames,
    /// Only these parts
    #[arg(long, value_enum, num_args = 1..)]
    only: Vec<Part>,
    /// Seconds at each rate, when the highest is looked for
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    step_seconds: u32,
    /// Calls in real time
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    calls: u32,
    /// Measure this build of spantape and make none
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// CPU at a fixed rate
    Cost,
    /// The highest rate without loss
    Highest,
    /// The load of the replay bench, watched on a terminal
    RealTime,
}

const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("sysctl", "procps"),
    ("kill", "procps"),
    ("tcpdump", "tcpdump"),
    ("script", "bsdutils"),
];

/// In the order of their turns. What the first costs is what sending costs.
const AT_FIXED_RATE: [Kind; 5] = [Kind::Discard, Kind::Nobody, Kind::Tcpdump, Kind::Packet, Kind::Xdp];
const AT_HIGHEST: [Kind; 4] = [Kind::Tcpdump, Kind::TcpdumpLarge, Kind::Packet, Kind::Xdp];
/// Before what else a machine has to do, as both ends of the wire are to be.
const NICE: i32 = -10;

/// Measures, prints and keeps.
pub(super) fn run(args: &Args) -> Result<()> {
    process::require_root()?;
    for (program, package) in PROGRAMS {
        process::require(program, package)?;
    }
    switch::remove_leftovers()?;
    process::remove_old_scratch()?;
    let xtask = programs::optimised_xtask()?;
    let spantape = match &args.binary {
        Some(binary) => std::path::absolute(binary).context("find the binary")?,
        None => programs::release_build("spantape")?,
    };
    rustix::process::nice(NICE).context("go before others")?;
    let stage = Stage { bench: Bench::new()?, spantape, xtask, frames: args.frames };
    let figures = measure(&stage, args)?;
    args.output.publish(&figures)
}

fn measure(stage: &Stage, args: &Args) -> Result<Figures> {
    let is_wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut shares = Vec::new();
    for &wanted in &args.wanted {
        let mut share = Share { wanted, rounds: Vec::new(), highest: Vec::new() };
        if is_wanted(Part::Cost) {
            for number in 1..=args.runs {
                share.rounds.push(round(stage, wanted, args.mix, number)?);
            }
        }
        if is_wanted(Part::Highest) {
            // At the rate itself nothing is lost, if the machine is worth measuring on.
            let mix = Mix { rate: args.mix.rate * 2, seconds: args.step_seconds };
            for kind in AT_HIGHEST {
                share.highest.push(Highest::find(stage, kind, wanted, mix)?);
            }
        }
        shares.push(share);
    }
    let mut real_time = Vec::new();
    if is_wanted(Part::RealTime) {
        let load = Load { calls: args.calls, seconds: args.mix.seconds };
        for source in Source::ALL {
            real_time.push(RealTime::run(stage, source, load)?);
        }
    }
    Ok(Figures { frames: args.frames, mix: args.mix, runs: args.runs, shares, real_time })
}

/// Each receiver once.
fn round(stage: &Stage, wanted: u64, mix: Mix, number: u32) -> Result<Vec<(Kind, trial::Trial)>> {
    let mut trials = Vec::new();
    // To drop what comes from a socket costs XDP a copy: there nobody at all is the least.
    let is_turn = |kind: &Kind| stage.frames == Frames::Driver || *kind != Kind::Discard;
    for kind in AT_FIXED_RATE.into_iter().filter(is_turn) {
        let trial = stage.trial(kind, mix.calls(wanted), mix.rest(wanted))?;
        eprintln!(
            "{wanted:>3} % wanted, run {number}: {:<8} {:.2} s system, {:.2} s own, {:.2} s others; {} passed, {} \
             refused by the wire, {} lost",
            kind.name(),
            trial.used.system_s,
            trial.used.own_s,
            trial.used.others_s,
            trial.passed,
            trial.refused,
            trial.lost
        );
        trials.push((kind, trial));
    }
    Ok(trials)
}
