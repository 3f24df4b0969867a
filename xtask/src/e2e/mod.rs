//! `cargo xtask e2e`: live capture from end to end, in network namespaces of its own. Needs root.

mod call;
mod compare;
mod control;
mod crash;
mod frames;
mod live;
mod model;
mod program;
mod refusals;
mod sieve;
mod stop;
mod test_run;
mod triggers;

use anyhow::{Context as _, Result, bail};

use crate::lab::{process, switch};

/// What `cargo xtask e2e` understands.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these parts
    #[arg(long, value_name = "PART", num_args = 1..)]
    only: Vec<String>,
    /// How often a recorder of each kind is killed in the part `crash`
    #[arg(long, default_value_t = 25)]
    kills: u32,
}

type Part = fn(&Args) -> Result<()>;

/// In the order in which they run: the shortest first.
const PARTS: [(&str, Part); 8] = [
    ("test-run", |_| test_run::run()),
    ("sieve", |_| sieve::run()),
    ("refusals", |_| refusals::run()),
    ("control", |_| control::run()),
    ("stop", |_| stop::run()),
    ("crash", |args| crash::run(args.kills)),
    ("triggers", |_| triggers::run()),
    ("live", |_| live::run()),
];

/// Runs all parts, or those that were asked for. The first that fails ends it.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(unknown) = args.only.iter().find(|name| !PARTS.iter().any(|(part, _)| part == name)) {
        let names: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        bail!("there is no part {unknown}; there are {}", names.join(", "));
    }
    process::require_root()?;
    for (program, package) in PROGRAMS {
        process::require(program, package)?;
    }
    switch::remove_leftovers()?;
    process::remove_old_scratch()?;
    for (name, part) in PARTS {
        if args.only.is_empty() || args.only.iter().any(|only| only == name) {
            println!("{name}");
            part(args).with_context(|| format!("part {name}"))?;
        }
    }
    Ok(())
}

/// Missing ones are told before anything is built.
const PROGRAMS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ethtool", "ethtool"),
    ("setpriv", "util-linux"),
    ("kill", "procps"),
    ("tcpdump", "tcpdump"),
    ("sipp", "sip-tester"),
    ("baresip", "baresip-core"),
];
