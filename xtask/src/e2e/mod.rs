//! `cargo xtask e2e`: live capture from end to end, in network namespaces of its own. Needs root.

mod call;
mod compare;
mod control;
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
}

type Part = fn() -> Result<()>;

/// In the order in which they run: the shortest first.
const PARTS: [(&str, Part); 7] = [
    ("test-run", test_run::run),
    ("sieve", sieve::run),
    ("refusals", refusals::run),
    ("control", control::run),
    ("stop", stop::run),
    ("triggers", triggers::run),
    ("live", live::run),
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
            part().with_context(|| format!("part {name}"))?;
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
