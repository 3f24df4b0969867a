//! `spantape access`: who has looked at what. And the log of it, which those write by whom it is looked at.

use std::io;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;

use serde_json::{Map, Value};
use spantape_core::time::Timestamp;
use spantape_store::journal::{self, Access, Book};
use spantape_store::utc::{Day, rfc3339};
use spantape_store::{Place, check_archive};

use super::listing::{self, Field, Format, field};
use super::terminal::{Screen, reader_left};
use super::{PARTLY, filter, operator, when};

/// Show who has looked at what in an archive
///
/// `search`, `sql`, `show`, `play`, `export`, and `purge` without --yes write a line into the archive's journal before they
/// answer. The exit code is 0 when something was found, 1 when nothing was, and 2 when it could not be told.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  spantape access --archive /srv/calls --since 2026-11-30
  spantape access --archive /srv/calls --by alice --command play --format csv")]
pub(crate) struct Args {
    /// The archive
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: PathBuf,
    /// Leave out what was before: `2026-11-22`, `2026-11-22 14:30` (UTC), RFC 3339, or `2h ago`
    #[arg(long, value_name = "TIME", value_parser = when::moment)]
    since: Option<Timestamp>,
    /// Leave out what was then or later; a date is its first moment
    #[arg(long, value_name = "TIME", value_parser = when::moment)]
    until: Option<Timestamp>,
    /// What this user has looked at, also as another one after a login
    #[arg(long, value_name = "USER")]
    by: Option<String>,
    /// What was looked at by this command: `search`, `sql`, `show`, `play`, `export` or `purge`
    #[arg(long, value_name = "NAME")]
    command: Option<String>,
    /// How to print what is found
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

const FIELDS: &[Field] = &[
    field("AT (UTC)", 0, "at"),
    field("BY", 0, "by"),
    field("COMMAND", 0, "command"),
    field("WHAT", 0, "what"),
];

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let found: Vec<Map<String, Value>> = args.find()?.iter().map(row).collect();
    match listing::print(&mut io::stdout().lock(), FIELDS, &found, args.format, Screen::stdout()) {
        Err(error) if !reader_left(&error) => return Err(error),
        _ => {}
    }
    if !found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if args.format == Format::Table {
        eprintln!("spantape: nothing in the access log matches");
    }
    Ok(ExitCode::from(PARTLY))
}

/// Notes that an archive is looked at. Where that cannot be written, as in one that may only be read, it is said, and no
/// reason not to look.
pub(super) fn note(archive: impl Into<Place>, command: &str, what: &str) {
    let archive: Place = archive.into();
    let archive = match archive {
        Place::Local(archive) => archive,
        #[cfg(feature = "remote")]
        Place::Remote(_) => {
            eprintln!(
                "spantape: warning: this access is not logged: of an object store the store keeps its own log"
            );
            return;
        }
    };
    // What is no archive gets no journal: whoever looks says what it lacks.
    if check_archive(&archive).is_err() {
        return;
    }
    let at = operator::now();
    let (command, what) = (command.to_owned(), what.to_owned());
    let access = Access { at: rfc3339(at), by: operator::name(), command, what };
    if let Err(error) = journal::append(&archive, &Book::Access(Day::of(at).to_string()), &access) {
        eprintln!("spantape: warning: this access is not logged: {error}");
    }
}

/// Where what is found goes to, as the log has it.
pub(super) fn into(path: &Path) -> String {
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    format!(" --into {}", filter::word(&path.to_string_lossy()))
}

impl Args {
    fn find(&self) -> anyhow::Result<Vec<Access>> {
        check_archive(&self.archive)?;
        let (first, last) = (self.since.map(Day::of), self.until.map(Day::of));
        let mut days = journal::access_days(&self.archive)?;
        days.retain(|&day| first.is_none_or(|first| first <= day) && last.is_none_or(|last| day <= last));
        let mut found = Vec::new();
        for day in days {
            let (lines, damaged) = journal::read::<Access>(&self.archive, &Book::Access(day.to_string()))?;
            if damaged > 0 {
                eprintln!("spantape: warning: {damaged} lines of the access log of {day} cannot be read");
            }
            found.extend(lines.into_iter().filter(|access| self.has(access)));
        }
        Ok(found)
    }

    fn has(&self, access: &Access) -> bool {
        let is_between = |at: Timestamp| {
            self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at < until)
        };
        when::of_row(&access.at).is_none_or(is_between)
            && self.by.as_ref().is_none_or(|by| operator::is(&access.by, by))
            && self.command.as_ref().is_none_or(|command| *command == access.command)
    }
}

fn row(access: &Access) -> Map<String, Value> {
    let Access { at, by, command, what } = access;
    let values = [("at", at), ("by", by), ("command", command), ("what", what)];
    values.into_iter().map(|(name, text)| (name.to_owned(), text.as_str().into())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use super::super::testing;
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn find(archive: &Path, options: &[&str]) -> Vec<String> {
        let start = ["access", "--archive", archive.to_str().unwrap()];
        let args = Cli::try_parse_from(start.iter().chain(options).copied()).unwrap().args;
        args.find().unwrap().into_iter().map(|access| access.what).collect()
    }

    #[test]
    fn who_has_looked_at_what() {
        let archive = testing::archive();
        let add = |at: &str, by: &str, command: &str| {
            let [time, by, command] = [at, by, command].map(str::to_owned);
            let access = Access { at: time, by, command, what: at[11..16].to_owned() };
            journal::append(archive.path(), &Book::Access(at[..10].to_owned()), &access).unwrap();
        };
        add("2026-11-29T23:59:59.999Z", "bob", "search");
        add("2026-11-30T08:00:00.000Z", "root (login bob)", "play");
        add("2026-11-30T09:00:00.000Z", "alice", "play");
        add("2026-12-01T00:00:00.000Z", "alice", "show");
        let found = |options: &[&str]| find(archive.path(), options);
        assert_eq!(found(&[]), ["23:59", "08:00", "09:00", "00:00"]);
        assert_eq!(found(&["--since", "2026-11-30 08:00", "--until", "2026-12-01"]), ["08:00", "09:00"]);
        assert_eq!(found(&["--by", "bob"]), ["23:59", "08:00"]);
        assert_eq!(found(&["--by", "alice", "--command", "play"]), ["09:00"]);
        assert!(found(&["--since", "2026-12-02"]).is_empty());
    }

    #[test]
    fn what_is_looked_at_is_noted() {
        let archive = testing::archive();
        note(archive.path(), "show", "0a1b2c3d");
        let access = journal::access_days(archive.path()).unwrap();
        let book = Book::Access(access[0].to_string());
        let (lines, _) = journal::read::<Access>(archive.path(), &book).unwrap();
        assert_eq!((lines[0].command.as_str(), lines[0].what.as_str()), ("show", "0a1b2c3d"));
        assert_eq!(lines[0].by, operator::name());
        // Where nothing is kept, nothing comes to be.
        let dir = tempfile::tempdir().unwrap();
        note(dir.path(), "show", "0a1b2c3d");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
