//! `spantape search`: what the catalog has.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::Value;
use spantape_core::time::SECOND;
use spantape_store::{Place, Rows, Table, rows};

use super::filter::Filter;
use super::terminal::{Column, Screen, clean, clean_json, reader_left};
use super::{PARTLY, access, when};

/// Search the catalog of an archive.
///
/// What is given must all hold; with nothing given, every recording is found. The exit code is 0 when
/// something was found, 1 when nothing was, and 2 when the search could not be made.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  spantape search --archive tape --party 1009 --since 2026-11-22
  spantape search --archive tape --to '+4930*' --min-duration 2m --since '8h ago'
  spantape search --archive tape --table events --call-id 3c26-9f@192.0.2.9
  spantape search --archive tape --table calls --conversation 3357caa874a18f39bf59b8d72a2c0887
  spantape search --archive tape --table events --trigger url-record --since '1h ago'
  spantape search --archive tape --trigger sip-info --format jsonl | jq -r .file
  spantape search --archive tape --table calls --since 2026-11-01 --format parquet --into november.parquet
  spantape search --archive s3://recordings/site-1 --party 1009")]
pub(crate) struct Args {
    /// The archive to search: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// Where to look
    #[arg(long, value_name = "TABLE", default_value = "recordings", value_parser = clap::builder::PossibleValuesParser::new(["recordings", "calls", "streams", "events", "quality"]))]
    table: String,
    /// How to print what is found
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Save what is found in a file, instead of printing it
    #[arg(long, value_name = "FILE", required_if_eq("format", "parquet"))]
    into: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// For reading, as wide as the terminal
    Table,
    /// One JSON array
    Json,
    /// A JSON object a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
    /// Rows as the catalog has them; needs --into
    Parquet,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let query = args.filter.query(args.table.parse().map_err(anyhow::Error::msg)?);
    let archive = Place::named(&args.archive)?;
    access::note(&archive, "search", &args.what());
    let rows = query.run(archive)?;
    let found = match (&args.into, args.format) {
        (Some(path), format) => save(path, rows, query.table, format),
        (None, format) => {
            let mut out = BufWriter::new(io::stdout().lock());
            print(&mut out, rows, query.table, format, Screen::stdout())
        }
    };
    let found = match found {
        Err(error) if reader_left(&error) => true,
        found => found?,
    };
    if found {
        return Ok(ExitCode::SUCCESS);
    }
    if args.format == Format::Table {
        eprintln!("spantape: nothing in the table `{}` matches", query.table);
    }
    Ok(ExitCode::from(PARTLY))
}

impl Args {
    /// What is asked for, as the access log has it.
    fn what(&self) -> String {
        let mut what = self.filter.to_string();
        if self.table != Table::default().as_str() {
            what.push_str(&format!(" --table {}", self.table));
        }
        what.push_str(&self.into.as_deref().map(access::into).unwrap_or_default());
        what
    }
}

/// Writes the rows into a file. Tells whether there were any.
fn save(path: &Path, found: Rows, table: Table, format: Format) -> anyhow::Result<bool> {
    let cannot = || format!("{}: cannot be written", path.display());
    let file = File::create(path).with_context(cannot)?;
    if format != Format::Parquet {
        return print(&mut BufWriter::new(file), found, table, format, Screen::file());
    }
    let schema = table.schema();
    let mut writer = rows::parquet_writer(file, schema.clone()).with_context(cannot)?;
    let mut any = false;
    for batch in found {
        let batch = batch?.with_schema(schema.clone());
        let batch = batch.context("the catalog has other columns than this version of spantape")?;
        any |= batch.num_rows() > 0;
        writer.write(&batch).with_context(cannot)?;
    }
    writer.close().with_context(cannot)?;
    Ok(any)
}

/// Prints the rows as they are found; a table, whose widths depend on all of them, at the end. Tells
/// whether there were any.
fn print(
    out: &mut impl Write,
    found: Rows,
    table: Table,
    format: Format,
    screen: Screen,
) -> anyhow::Result<bool> {
    let columns = columns(table);
    let names: Vec<&str> = columns.iter().flat_map(|column| column.of).copied().collect();
    let mut lines = Vec::new();
    let mut any = false;
    if format == Format::Csv {
        writeln!(out, "{}", rows::csv_header(&table.schema()))?;
    }
    for batch in found {
        let batch = batch?;
        match format {
            Format::Table => lines.extend(rows::cells(&batch, &names).map(|cells| line(columns, &cells))),
            Format::Json | Format::Jsonl => {
                for row in rows::objects(&batch) {
                    let row = clean_json(&Value::Object(row).to_string());
                    match (format, any) {
                        (Format::Jsonl, _) => writeln!(out, "{row}")?,
                        (_, false) => write!(out, "[\n  {row}")?,
                        (_, true) => write!(out, ",\n  {row}")?,
                    }
                    any = true;
                }
            }
            Format::Csv => {
                for row in rows::csv_lines(&batch) {
                    // A file gets what was on the wire, a terminal what cannot harm it.
                    writeln!(out, "{}", if screen.terminal { clean(&row) } else { row })?;
                }
            }
            // Is saved.
            Format::Parquet => {}
        }
        any |= batch.num_rows() > 0;
    }
    match format {
        Format::Table if any => {
            let limit = screen.terminal.then_some(screen.width);
            let shown: Vec<Column> = columns.iter().map(|column| column.shown).collect();
            out.write_all(screen.table(&shown, lines, limit).as_bytes())?;
        }
        Format::Json => writeln!(out, "{}", if any { "\n]" } else { "[]" })?,
        _ => {}
    }
    out.flush()?;
    Ok(any)
}

/// A column of the table that is printed, made of columns of the catalog.
struct Shown {
    shown: Column,
    of: &'static [&'static str],
    text: fn(&[String]) -> String,
}

const fn left(
    title: &'static str,
    rank: u8,
    of: &'static [&'static str],
    text: fn(&[String]) -> String,
) -> Shown {
    Shown { shown: Column { title, rank, right: false }, of, text }
}

const fn right(
    title: &'static str,
    rank: u8,
    of: &'static [&'static str],
    text: fn(&[String]) -> String,
) -> Shown {
    Shown { shown: Column { title, rank, right: true }, of, text }
}

fn columns(table: Table) -> &'static [Shown] {
    match table {
        Table::Recordings => RECORDINGS,
        Table::Calls => CALLS,
        Table::Streams => STREAMS,
        Table::Events => EVENTS,
        Table::Quality => QUALITY,
    }
}

const RECORDINGS: &[Shown] = &[
    left("RECORDING", 0, &["recording_id"], short),
    left("START (UTC)", 0, &["start"], moment),
    right("LENGTH", 2, &["duration_s"], length),
    left("FROM", 0, &["from_user", "from_address"], first),
    left("TO", 0, &["to_user", "to_address"], first),
    left("TRIGGER", 3, &["trigger"], first),
    left("CODECS", 4, &["codecs"], first),
    right("LOST", 5, &["lost"], first),
    right("CONCEALED", 6, &["concealed_ms"], milliseconds),
    left("ENDED BY", 7, &["end_reason"], first),
    left("FILE", 9, &["file"], first),
];

const CALLS: &[Shown] = &[
    left("START (UTC)", 0, &["start"], moment),
    right("LENGTH", 2, &["duration_s"], length),
    left("FROM", 0, &["from_user", "from_address"], first),
    left("TO", 0, &["to_user", "to_address"], first),
    right("STATUS", 4, &["status"], first),
    left("ENDED BY", 3, &["end_reason"], first),
    right("STREAMS", 7, &["streams"], first),
    right("RECORDINGS", 5, &["recordings"], first),
    left("RULE", 6, &["rule"], first),
    left("CALL-ID", 8, &["call_id"], first),
];

const STREAMS: &[Shown] = &[
    left("START (UTC)", 0, &["start"], moment),
    right("LENGTH", 7, &["duration_s"], length),
    left("SIDE", 0, &["side"], first),
    left("SOURCE", 1, &["source_address", "source_port"], address),
    left("DESTINATION", 8, &["destination_address", "destination_port"], address),
    left("CODECS", 4, &["codecs"], first),
    right("PACKETS", 5, &["packets"], first),
    right("LOST", 2, &["lost"], first),
    right("JITTER", 6, &["jitter_ms"], milliseconds),
    right("MOS", 3, &["mos"], first),
    left("NOT HEARD", 9, &["not_decoded"], first),
    left("CALL-ID", 10, &["call_id"], first),
];

const EVENTS: &[Shown] = &[
    left("START (UTC)", 0, &["start"], fine_moment),
    left("KIND", 0, &["kind"], first),
    left("TRIGGER", 2, &["trigger", "verb"], joined),
    left("OUTCOME", 1, &["outcome"], first),
    left("SOURCE", 4, &["source_address", "source_port"], address),
    left("DESTINATION", 5, &["destination_address", "destination_port"], address),
    left("TEXT", 0, &["text"], first),
    left("CALL-ID", 6, &["call_id"], first),
];

const QUALITY: &[Shown] = &[
    left("START (UTC)", 0, &["start"], moment),
    left("SIDE", 0, &["side"], first),
    right("EXPECTED", 4, &["expected"], first),
    right("LOST", 1, &["lost"], first),
    right("LATE", 5, &["late"], first),
    right("BURSTS", 6, &["bursts"], first),
    right("JITTER", 2, &["jitter_ms"], milliseconds),
    right("MOS", 0, &["mos"], first),
    right("ROUND TRIP", 7, &["round_trip_ms"], milliseconds),
    left("CALL-ID", 3, &["call_id"], first),
];

fn line(columns: &[Shown], cells: &[String]) -> Vec<String> {
    let mut rest = cells;
    let take = |column: &Shown| {
        let (own, others) = rest.split_at(column.of.len().min(rest.len()));
        rest = others;
        clean(&(column.text)(own))
    };
    columns.iter().map(take).collect()
}

/// The first that says something.
fn first(cells: &[String]) -> String {
    cells.iter().find(|cell| !cell.is_empty()).cloned().unwrap_or_default()
}

fn joined(cells: &[String]) -> String {
    cells.join(" ").trim().to_owned()
}

/// As many digits of an id as `spantape show` needs, but for very large archives.
fn short(cells: &[String]) -> String {
    first(cells).chars().take(SHORT_ID).collect()
}

fn moment(cells: &[String]) -> String {
    let text = first(cells);
    when::of_row(&text).map_or(text, |at| when::utc(at, 0))
}

fn fine_moment(cells: &[String]) -> String {
    let text = first(cells);
    when::of_row(&text).map_or(text, |at| when::utc(at, 3))
}

fn length(cells: &[String]) -> String {
    let seconds = first(cells).parse::<f64>().ok();
    seconds.map(|seconds| when::clock((seconds * SECOND as f64) as i64, 0)).unwrap_or_default()
}

fn milliseconds(cells: &[String]) -> String {
    let text = first(cells);
    if text.is_empty() { text } else { text + " ms" }
}

fn address(cells: &[String]) -> String {
    match cells {
        [host, port] if host.contains(':') => format!("[{host}]:{port}"),
        [host, port] if !host.is_empty() => format!("{host}:{port}"),
        _ => String::new(),
    }
}

const SHORT_ID: usize = 8;

#[cfg(test)]
mod tests {
    use clap::Parser;
    use spantape_store::Query;

    use super::super::testing;
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn search(options: &str, screen: Screen) -> (String, bool) {
        let dir = testing::archive();
        let start = ["search", "--archive", dir.path().to_str().unwrap()];
        let args = Cli::try_parse_from(start.into_iter().chain(options.split_whitespace())).unwrap().args;
        let query = args.filter.query(args.table.parse().unwrap());
        let rows = query.run(&args.archive).unwrap();
        let mut out = Vec::new();
        let found = print(&mut out, rows, query.table, args.format, screen).unwrap();
        (String::from_utf8(out).unwrap(), found)
    }

    fn piped(options: &str) -> (String, bool) {
        let mut screen = Screen::plain(80);
        screen.terminal = false;
        search(options, screen)
    }

    #[test]
    fn a_table_for_each_width() {
        let (text, found) = piped("--trigger sip-info");
        assert!(found && text.lines().count() == 2, "{text}");
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("ab000002   2023-11-14 22:15:20    0:04  1009  1010  sip-info"), "{line}");
        assert!(line.ends_with(".wav"), "{line}");
        for width in [40, 60, 80, 120] {
            for table in Table::ALL {
                let (text, _) = search(&format!("--table {table}"), Screen::plain(width));
                let widest = text.lines().map(crate::cli::terminal::width).max().unwrap();
                assert!(widest <= width, "{width}:\n{text}");
            }
        }
    }

    #[test]
    fn json() {
        let (text, found) = piped("--format json --limit 2");
        let rows: Value = serde_json::from_str(&text).unwrap();
        assert!(found && rows.as_array().unwrap().len() == 2, "{text}");
        assert_eq!(rows[0]["start"], "2023-11-14T22:13:20.000Z");
        // What was on the wire is kept, but no terminal would obey it.
        assert_eq!(rows[0]["from_display"], "\x1b[2JEve\u{202e}");
        assert!(text.is_ascii());
        let (lines, _) = piped("--format jsonl --min-duration 4s");
        assert_eq!(lines.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 3);
    }

    #[test]
    fn csv() {
        let (text, _) = piped("--format csv --table calls --until 2023-11-14T22:14");
        assert!(text.starts_with("call_uid,call_id,") && text.lines().count() == 2, "{text}");
    }

    #[test]
    fn saved() {
        let archive = testing::archive();
        let dir = tempfile::tempdir().unwrap();
        let find = |path: &Path| Query::default().run(path).unwrap();
        let file = dir.path().join("rows.csv");
        assert!(save(&file, find(archive.path()), Table::Recordings, Format::Csv).unwrap());
        // As they are, for no terminal sees them.
        assert!(std::fs::read_to_string(&file).unwrap().contains("\x1b[2JEve"));

        // Rows in Parquet are a part of a catalog like any other.
        let day = dir.path().join("catalog/recordings/day=2023-11-14");
        std::fs::create_dir_all(&day).unwrap();
        let part = day.join("part-0.parquet");
        assert!(save(&part, find(archive.path()), Table::Recordings, Format::Parquet).unwrap());
        let lines = |found: Rows| -> Vec<String> {
            found.flat_map(|batch| rows::csv_lines(&batch.unwrap()).collect::<Vec<_>>()).collect()
        };
        assert_eq!(lines(find(dir.path())), lines(find(archive.path())));
    }

    #[test]
    fn what_the_access_log_has() {
        let what = |options: &str| {
            let start = ["search", "--archive", "a"];
            Cli::try_parse_from(start.into_iter().chain(options.split_whitespace())).unwrap().args.what()
        };
        assert_eq!(what(""), "everything");
        assert_eq!(what("--from 1 --table calls --format json"), "--from 1 --table calls");
        assert_eq!(what("--into /tmp/x.csv"), "everything --into /tmp/x.csv");
    }

    #[test]
    fn parquet_needs_a_file() {
        let args = ["search", "--archive", "a", "--format", "parquet"];
        assert!(Cli::try_parse_from(args).is_err());
        assert!(Cli::try_parse_from(args.into_iter().chain(["--into", "x.parquet"])).is_ok());
    }

    #[test]
    fn nothing() {
        assert_eq!(piped("--from 1"), (String::new(), false));
        assert_eq!(piped("--from 1 --format json"), ("[]\n".to_owned(), false));
        assert_eq!(piped("--from 1 --format jsonl"), (String::new(), false));
    }
}
