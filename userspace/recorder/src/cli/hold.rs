//! `spantape hold`: what must stay, whatever else is said.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value};
use spantape_core::time::Timestamp;
use spantape_store::check_archive;
use spantape_store::retention::{Held, Hold, hold};
use spantape_store::utc::rfc3339;

use super::listing::{self, Field, Format, field};
use super::terminal::{Screen, clean, reader_left};
use super::{operator, when};

/// Say what must stay in an archive: legal holds
///
/// What is held is deleted by no `spantape purge`, nor is what the catalog says of it, until the hold is lifted. Holds are
/// lines of the archive's journal, which `spantape seal` seals.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  spantape hold place case-12 --archive /srv/calls --reason 'Miller ./. Smith' --party 1009 --since 2026-11-01
  spantape hold list --archive /srv/calls
  spantape hold lift case-12 --archive /srv/calls --reason 'settled on 2027-03-01'

Exit code: 0 done, 2 it could not be done.")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Hold the calls that are like this, those of the past and those to come
    Place(Place),
    /// Let go what a hold has kept
    Lift(Lift),
    /// Show the holds that are in force
    List(List),
}

#[derive(clap::Args)]
struct Place {
    /// What the hold is called, such as the case
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// The archive
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    conditions: Conditions,
}

/// What calls are held: all that is given must hold.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct Conditions {
    /// Who took part, on either side: the whole user part of the URI
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    party: Option<String>,
    /// The call, all that belongs together, or a recording: SIP Call-ID, `call_uid`, `conversation_id` or `recording_id`
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    call: Option<String>,
    /// Leave out what was over before: `2026-11-22`, `2026-11-22 14:30` (UTC), RFC 3339, or `2h ago`
    #[arg(long, value_name = "TIME", value_parser = when::moment)]
    since: Option<Timestamp>,
    /// Leave out what began then or later; a date is its first moment
    #[arg(long, value_name = "TIME", value_parser = when::moment)]
    until: Option<Timestamp>,
}

#[derive(clap::Args)]
struct Lift {
    /// The hold
    #[arg(value_name = "NAME")]
    name: String,
    /// The archive
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
}

#[derive(clap::Args)]
struct List {
    /// The archive
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// How to print them
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

const FIELDS: &[Field] = &[
    field("NAME", 0, "name"),
    field("PLACED (UTC)", 2, "at"),
    field("BY", 3, "by"),
    field("REASON", 1, "reason"),
    field("PARTY", 0, "party"),
    field("CALL", 0, "call"),
    field("SINCE", 0, "since"),
    field("UNTIL", 0, "until"),
];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Place(place) => place.run(),
        What::Lift(lift) => lift.run(),
        What::List(list) => list.run(),
    }?;
    Ok(ExitCode::SUCCESS)
}

impl Place {
    fn run(&self) -> Result<()> {
        check_archive(&self.archive)?;
        let Conditions { party, call, since, until } = &self.conditions;
        if since.zip(*until).is_some_and(|(since, until)| since >= until) {
            bail!("nothing lies between --since and --until: the hold would keep nothing");
        }
        let held = Held { party: party.clone(), call: call.clone(), since: *since, until: *until };
        let (name, reason) = (self.name.clone(), self.reason.clone());
        let at = rfc3339(operator::now());
        hold::place(&self.archive, &Hold { name, at, by: operator::name(), reason, held })?;
        println!("placed  {}", clean(&self.name));
        Ok(())
    }
}

impl Lift {
    fn run(&self) -> Result<()> {
        check_archive(&self.archive)?;
        let at = rfc3339(operator::now());
        hold::lift(&self.archive, &self.name, at, operator::name(), self.reason.clone())?;
        println!("lifted  {}", clean(&self.name));
        Ok(())
    }
}

impl List {
    fn run(&self) -> Result<()> {
        check_archive(&self.archive)?;
        let holds: Vec<Map<String, Value>> = hold::in_force(&self.archive)?.iter().map(row).collect();
        if holds.is_empty() && self.format == Format::Table {
            eprintln!("spantape: no hold is in force");
        }
        match listing::print(&mut io::stdout().lock(), FIELDS, &holds, self.format, Screen::stdout()) {
            Err(error) if !reader_left(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn row(hold: &Hold) -> Map<String, Value> {
    let Hold { name, at, by, reason, held } = hold;
    let Held { party, call, since, until } = held;
    let text = |text: &String| Value::from(text.as_str());
    let moment = |at: &Option<Timestamp>| Value::from(at.map(rfc3339));
    let values = [
        ("name", text(name)),
        ("at", text(at)),
        ("by", text(by)),
        ("reason", text(reason)),
        ("party", Value::from(party.clone())),
        ("call", Value::from(call.clone())),
        ("since", moment(since)),
        ("until", moment(until)),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::testing;
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(options: &[&str]) -> Result<Args, clap::Error> {
        Cli::try_parse_from(["hold"].iter().chain(options).copied()).map(|cli| cli.args)
    }

    #[test]
    fn placed_and_lifted() {
        let archive = testing::archive();
        let dir = archive.path().to_str().unwrap();
        let place = ["place", "case-12", "--archive", dir, "--reason", "Miller", "--party", "1009"];
        let place = [&place[..], &["--since", "2026-11-01"][..]].concat();
        run(&parsed(&place).unwrap()).unwrap();
        assert!(run(&parsed(&place).unwrap()).is_err());
        let holds = hold::in_force(archive.path()).unwrap();
        let row = row(&holds[0]);
        assert_eq!(row["name"], "case-12");
        assert_eq!(row["since"], "2026-11-01T00:00:00.000Z");
        assert_eq!((row["by"].as_str(), &row["until"]), (Some(operator::name().as_str()), &Value::Null));
        run(&parsed(&["list", "--archive", dir]).unwrap()).unwrap();
        let lift = ["lift", "case-12", "--archive", dir, "--reason", "settled"];
        run(&parsed(&lift).unwrap()).unwrap();
        assert!(run(&parsed(&lift).unwrap()).is_err());
        assert!(hold::in_force(archive.path()).unwrap().is_empty());
    }

    #[test]
    fn a_hold_of_nothing_is_none() {
        let archive = testing::archive();
        let dir = archive.path().to_str().unwrap();
        let place = ["place", "x", "--archive", dir, "--reason", "y"];
        assert!(parsed(&place).is_err());
        let never = [&place[..], &["--since", "2026-11-02", "--until", "2026-11-01"][..]].concat();
        assert!(run(&parsed(&never).unwrap()).unwrap_err().to_string().contains("nothing lies between"));
        assert!(parsed(&["place", "x", "--archive", dir, "--party", "1009"]).is_err());
        assert!(parsed(&["lift", "x", "--archive", dir]).is_err());
        let elsewhere = tempfile::tempdir().unwrap();
        let place =
            ["place", "x", "--archive", elsewhere.path().to_str().unwrap(), "--reason", "y", "--party", "1"];
        assert!(run(&parsed(&place).unwrap()).is_err());
        assert!(!elsewhere.path().join("journal").exists());
    }
}
