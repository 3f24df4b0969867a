//! `spantape purge`: what was kept long enough, or must not be kept, goes.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::builder::NonEmptyStringValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Map, Value};
use spantape_store::retention::{self, Plan, Purged, Wanted};
use spantape_store::rows::text_of;
use spantape_store::{Table, check_archive};

use super::filter::{Filter, word};
use super::terminal::{Column, Screen, clean, reader_left};
use super::{PARTLY, access, operator, when};
use crate::config;

/// Delete recordings, and what the catalog says of calls: what was kept long enough, or must not be kept
///
/// Without --yes nothing is deleted: it is said what would be, and what a hold keeps. What goes leaves a tombstone in the
/// archive's journal: when it went, why, by whom, and the hash of each file.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  spantape purge --archive /srv/calls --config /etc/spantape.toml
  spantape purge --archive /srv/calls --config /etc/spantape.toml --yes
  spantape purge --archive /srv/calls --party 0301234 --reason 'request of 2026-11-30' --rows --yes

Exit code: 0 something goes, 1 nothing does, 2 it could not be done.")]
pub(crate) struct Args {
    /// The archive
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// What was kept for longer than `[retention]` and the rules of this configuration say
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// Why it must not be kept; with the options that say what
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// Also what the catalog says of the calls, unless another recording of theirs is kept
    #[arg(long)]
    rows: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    check_archive(&args.archive)?;
    let (wanted, reason) = args.wanted()?;
    if !args.yes {
        access::note(args.archive.as_path(), "purge", &args.what());
    }
    let plan = retention::plan(&args.archive, &wanted, args.rows)?;
    let anything = !plan.recordings.is_empty() || !plan.calls.is_empty();
    let screen = Screen::stdout();
    let mut text = if args.yes { String::new() } else { recordings(screen, &plan) };
    text.push_str(&held(screen, &plan));
    text.push_str(&match (anything, args.yes) {
        (false, _) if matches!(&wanted, Wanted::Expired(retention, _) if retention.is_for_ever()) => {
            "everything is kept for ever: there is no `[retention]`, and no rule has `retention_days`\n"
                .to_owned()
        }
        (false, _) => "nothing is to go\n".to_owned(),
        (true, false) => {
            format!(
                "would go  {}\nNothing has been deleted: the same with --yes does it\n",
                words(total(&plan))
            )
        }
        (true, true) => format!("deleted   {}\n", words(args.carry_out(&plan, &reason)?)),
    });
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(anyhow::Error::from) {
        Err(error) if !reader_left(&error) => Err(error),
        _ if anything => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::from(PARTLY)),
    }
}

impl Args {
    /// What is asked for, as the access log has it.
    fn what(&self) -> String {
        let config = self.config.as_ref().map(|path| format!("--config {}", word(&path.to_string_lossy())));
        let what = config.unwrap_or_else(|| self.filter.to_string());
        if self.rows { what + " --rows" } else { what }
    }

    /// What is to go, and why.
    fn wanted(&self) -> Result<(Wanted, String)> {
        match (&self.config, &self.reason) {
            (Some(config), None) if self.filter.is_empty() => {
                let retention = config::load(Some(config.as_path()))?.retention;
                Ok((Wanted::Expired(retention, operator::now()), "retention".to_owned()))
            }
            (Some(_), _) => {
                bail!(
                    "--config says by itself what is to go, and why: leave it out, or all that says it otherwise"
                )
            }
            (None, Some(reason)) if self.filter.has_conditions() => {
                let query = Box::new(self.filter.query(Table::Recordings));
                Ok((Wanted::Found(query), format!("erasure: {reason}")))
            }
            (None, Some(_)) => {
                bail!("nothing says what is to go: --party, --call-id, --until and the like do")
            }
            (None, None) => bail!(
                "nothing says what is to go: --config FILE takes what was kept long enough; --party, --call-id, \
                 --until and the like, with --reason TEXT, what must not be kept"
            ),
        }
    }

    fn carry_out(&self, plan: &Plan, reason: &str) -> Result<Purged> {
        let length = Some(plan.recordings.len() as u64);
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        let purged = retention::purge(&self.archive, plan, &operator::order(reason), || bar.inc(1));
        bar.finish_and_clear();
        Ok(purged?)
    }
}

/// What goes when the plan is carried out.
fn total(plan: &Plan) -> Purged {
    Purged {
        recordings: plan.recordings.len() as u64,
        files: plan.recordings.iter().map(|doomed| doomed.files.len() as u64).sum(),
        bytes: plan.recordings.iter().map(|doomed| doomed.bytes).sum(),
        calls: plan.calls.len() as u64,
        held: 0,
    }
}

fn words(Purged { recordings, files, bytes, calls, held }: Purged) -> String {
    let mut words = format!("{recordings} recordings: {files} files, {}", megabytes(bytes));
    if calls > 0 {
        words.push_str(&format!("; what the catalog says of {calls} calls"));
    }
    if held > 0 {
        words.push_str(&format!("; {held} recordings stay, which have been held meanwhile"));
    }
    words
}

/// The recordings that go.
fn recordings(screen: Screen, plan: &Plan) -> String {
    let columns = [
        column("RECORDING", 0),
        column("START (UTC)", 0),
        column("FROM", 0),
        column("TO", 0),
        column("RULE", 2),
        Column { title: "FILES", rank: 3, right: true },
        Column { title: "SIZE", rank: 1, right: true },
    ];
    let line = |doomed: &retention::Doomed| {
        let row = &doomed.row;
        let [from, to, rule] = ["from_user", "to_user", "rule"].map(|column| text(row, column));
        let (files, size) = (doomed.files.len().to_string(), megabytes(doomed.bytes));
        vec![short(row, "recording_id"), start(row), from, to, rule, files, size]
    };
    table(screen, &columns, plan.recordings.iter().map(line).collect())
}

/// What stays, and by which hold.
fn held(screen: Screen, plan: &Plan) -> String {
    let columns = [
        column("HELD BY", 0),
        column("START (UTC)", 0),
        column("FROM", 0),
        column("TO", 0),
        column("WHAT", 1),
    ];
    let line = |(row, hold): &(Map<String, Value>, String)| {
        let what = match short(row, "recording_id") {
            id if id.is_empty() => format!("call {}", short(row, "call_uid")),
            id => format!("recording {id}"),
        };
        vec![clean(hold), start(row), text(row, "from_user"), text(row, "to_user"), what]
    };
    table(screen, &columns, plan.held.iter().map(line).collect())
}

/// A table, and an empty line below it; nothing if it has no lines.
fn table(screen: Screen, columns: &[Column], lines: Vec<Vec<String>>) -> String {
    if lines.is_empty() {
        return String::new();
    }
    screen.table(columns, lines, screen.terminal.then_some(screen.width)) + "\n"
}

fn column(title: &'static str, rank: u8) -> Column {
    Column { title, rank, right: false }
}

fn text(row: &Map<String, Value>, column: &str) -> String {
    clean(text_of(row, column))
}

/// As many digits of an id as `spantape show` needs.
fn short(row: &Map<String, Value>, column: &str) -> String {
    text(row, column).chars().take(8).collect()
}

fn start(row: &Map<String, Value>) -> String {
    when::of_row(&text(row, "start")).map(|at| when::utc(at, 0)).unwrap_or_default()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use clap::Parser as _;
    use spantape_store::journal::{self, Access, Book};
    use spantape_store::retention::{Held, Hold, hold};
    use spantape_store::utc::Day;

    use super::super::{terminal, testing};
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(archive: &Path, options: &[&str]) -> Args {
        let start = ["purge", "--archive", archive.to_str().unwrap()];
        Cli::try_parse_from(start.iter().chain(options).copied()).unwrap().args
    }

    #[test]
    fn one_way_or_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("x.toml");
        fs::write(&config, "[retention]\ndays = 30\n").unwrap();
        let config = ["--config", config.to_str().unwrap()];
        let wanted = |options: &[&str]| parsed(dir.path(), options).wanted();
        let (expired, reason) = wanted(&config).unwrap();
        assert!(matches!(expired, Wanted::Expired(retention, _) if retention.recordings == Some(30)));
        assert_eq!(reason, "retention");
        let (found, reason) = wanted(&["--party", "1009", "--reason", "case 12"]).unwrap();
        assert!(matches!(found, Wanted::Found(query) if query.party.as_deref() == Some("1009")));
        assert_eq!(reason, "erasure: case 12");
        for more in [&["--party", "1009"][..], &["--limit", "1"][..], &["--reason", "x"][..]] {
            let error = wanted(&[&config[..], more].concat()).unwrap_err().to_string();
            assert!(error.starts_with("--config says by itself"), "{error}");
        }
        for options in [&["--rows"][..], &["--party", "1009"][..], &["--reason", "x", "--limit", "1"][..]] {
            let error = wanted(options).unwrap_err().to_string();
            assert!(error.starts_with("nothing says what is to go"), "{error}");
        }
    }

    #[test]
    fn to_say_what_would_go_is_to_look() {
        let archive = testing::archive();
        let accesses = || {
            let days = journal::access_days(archive.path()).unwrap();
            let read = |day: &Day| {
                let book = Book::Access(day.to_string());
                journal::read::<Access>(archive.path(), &book).unwrap().0
            };
            days.iter().flat_map(read).collect::<Vec<_>>()
        };
        let options = ["--party", "4711", "--reason", "x", "--rows"];
        run(&parsed(archive.path(), &options)).unwrap();
        let noted = accesses();
        assert_eq!((noted[0].command.as_str(), noted[0].what.as_str()), ("purge", "--party 4711 --rows"));
        run(&parsed(archive.path(), &[&options[..], &["--yes"]].concat())).unwrap();
        assert_eq!(accesses().len(), 1, "of what has gone the tombstones tell");
        let config = parsed(archive.path(), &["--config", "/etc/a b.toml"]);
        assert_eq!(config.what(), "--config '/etc/a b.toml'");
    }

    #[test]
    fn what_would_go_and_what_stays() {
        let archive = testing::archive();
        let args = parsed(archive.path(), &["--party", "1009", "--reason", "x", "--rows"]);
        let plan = || retention::plan(&args.archive, &args.wanted().unwrap().0, args.rows).unwrap();
        let all = plan();
        assert_eq!(words(total(&all)), "3 recordings: 3 files, 0.4 MB; what the catalog says of 3 calls");
        assert_eq!(held(Screen::plain(80), &all), "");

        let call = text(&all.recordings[1].row, "call_uid");
        let told = |text: &str| text.to_owned();
        let held_call = Held { call: Some(call), ..Held::default() };
        let hold =
            Hold { name: told("case\x1b"), at: told(""), by: told("x"), reason: told("y"), held: held_call };
        hold::place(archive.path(), &hold).unwrap();
        let some = plan();
        assert_eq!(some.recordings.len(), 2);
        for width in [40, 60, 80, 120] {
            let texts = [recordings(Screen::plain(width), &some), held(Screen::plain(width), &some)];
            for text in texts {
                let widest = text.lines().map(terminal::width).max().unwrap();
                assert!(widest <= width && text.lines().count() == 4, "{width}:\n{text}");
                assert!(!text.contains('\x1b'));
            }
        }
        let text = held(Screen::plain(120), &some);
        assert!(text.contains("recording ab000001") && text.contains("call ab000001"), "{text}");
    }
}
