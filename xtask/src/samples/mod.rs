//! `cargo xtask samples`: makes the captures below `samples/` again.
//!
//! A case is made in one of two ways. *Live* cases run real SIP programs in network namespaces behind a
//! software SPAN and record what its monitor port sees. The others come from our own generator, which either
//! rewrites a live capture or writes a call from nothing, for what no program can be made to send.

pub(crate) mod cases;
mod codecs;
mod conversations;
mod encrypted;
mod external;
mod generate;
mod odd_sip;
mod record_key;
mod recorders;
mod rewrite;
mod script;
mod transports;
mod tunnels;
mod url_record;

use anyhow::{Context as _, Result, bail};

use crate::lab::capture::Capture;
use crate::lab::{Bench, baresip, process, speech, switch};
use cases::{CASES, Case, Make};

/// What `cargo xtask samples` understands.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Cases to make; all of them when none is named
    cases: Vec<String>,
    /// List the cases and how each is made
    #[arg(long)]
    list: bool,
    /// Make the speech files of samples/audio again too
    #[arg(long)]
    speech: bool,
}

/// Makes the cases that were asked for, in the order of the table: later ones are rewritten from earlier ones.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for case in CASES {
            println!("{:<22} {}", case.name, case.make.about());
        }
        return Ok(());
    }
    let cases = select(&args.cases)?;
    check_machine(&cases, args.speech)?;
    switch::remove_leftovers()?;
    process::remove_old_scratch()?;
    let bench = Bench::new()?;
    if args.speech {
        speech::make_all(&bench)?;
    }
    for case in cases {
        make(&bench, case).with_context(|| format!("case {}", case.name))?;
    }
    Ok(())
}

fn select(names: &[String]) -> Result<Vec<&'static Case>> {
    if let Some(unknown) = names.iter().find(|name| !CASES.iter().any(|case| case.name == **name)) {
        bail!("there is no case {unknown}; `cargo xtask samples --list` names them all");
    }
    Ok(CASES.iter().filter(|case| names.is_empty() || names.iter().any(|name| name == case.name)).collect())
}

/// Complains before anything is built, so that a missing program costs no half-made samples.
fn check_machine(cases: &[&Case], speech: bool) -> Result<()> {
    if speech {
        process::require("espeak-ng", "espeak-ng")?;
        process::require("sox", "sox")?;
    }
    let live = || cases.iter().filter(|case| case.make.is_live());
    if live().next().is_none() {
        return Ok(());
    }
    process::require_root()?;
    process::require("ip", "iproute2")?;
    process::require("tc", "iproute2")?;
    process::require("ethtool", "ethtool")?;
    process::require("tcpdump", "tcpdump")?;
    if live().any(|case| matches!(case.make, Make::Sipp(_))) {
        process::require("sipp", "sip-tester")?;
    }
    if live().any(|case| matches!(case.make, Make::Baresip)) {
        process::require("baresip", "baresip-core")?;
    }
    Ok(())
}

fn make(bench: &Bench, case: &Case) -> Result<()> {
    let capture = match case.make {
        Make::Sipp(describe) => describe(case.name).record(bench)?,
        Make::Baresip => baresip::record(bench)?,
        Make::Rewrite { of, with } => with(input_of(bench, of)?)?,
        Make::Generate(generate) => generate(bench)?,
    };
    let folder = bench.samples.join(case.name);
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join("input.pcap");
    capture.write(&path)?;
    println!("{:<22} {:>5} frames, {:.1} s", case.name, capture.frames.len(), capture.seconds());
    Ok(())
}

fn input_of(bench: &Bench, case: &str) -> Result<Capture> {
    Capture::read(&bench.samples.join(case).join("input.pcap"))
        .with_context(|| format!("this case is rewritten from {case}: make that first"))
}
