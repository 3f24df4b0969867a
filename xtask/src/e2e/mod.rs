//! `cargo xtask e2e`: what needs root and a real kernel.

mod test_run;

use anyhow::{Result, bail};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run one part alone.
    #[arg(long)]
    only: Option<String>,
}

/// A name, and what it does.
type Part = (&'static str, fn() -> Result<()>);

/// In the order in which they run.
const PARTS: &[Part] = &[("test-run", test_run::run)];

/// Runs the parts; the first that fails ends it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let chosen = |name: &str| args.only.as_deref().is_none_or(|only| only == name);
    let parts: Vec<_> = PARTS.iter().filter(|(name, _)| chosen(name)).collect();
    if parts.is_empty() {
        let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("no such part; there are: {}", names.join(", "));
    }
    for (name, part) in parts {
        println!("{name}");
        part()?;
    }
    Ok(())
}
