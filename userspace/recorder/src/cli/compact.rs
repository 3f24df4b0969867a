//! `spantape compact`: few parts of many.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use spantape_store::repack;
use spantape_store::utc::Day;

use super::operator;

/// Make few files of the many that the catalog has of a day
///
/// A recorder adds a part to each table every minute. What they say stays as it is, and what was sealed of it proves
/// itself as before; a search opens fewer files. Run it once a day, by a timer: it disturbs neither who records nor who
/// searches.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  spantape compact --archive /srv/calls
  spantape compact --archive /srv/calls --until 2026-11-01

Exit code: 0 done, also when there was nothing to do, 2 it could not be done.")]
pub(crate) struct Args {
    /// The archive
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// Leave this day and those after it as they are (UTC); without it, today
    #[arg(long, value_name = "DAY", value_parser = day)]
    until: Option<Day>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let until = args.until.unwrap_or_else(|| Day::of(operator::now()));
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let order = operator::order("compaction");
    let done = repack::compact(&args.archive, until, &order, |table, day| {
        bar.set_message(format!("{table} of {day}"));
        bar.tick();
    });
    bar.finish_and_clear();
    let done = done?;
    if done.days == 0 {
        println!("nothing to compact");
    } else {
        println!("compacted  {} days of tables: {} parts, now {}", done.days, done.before, done.after);
    }
    Ok(ExitCode::SUCCESS)
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| "write it as 2026-11-22".to_owned())
}
