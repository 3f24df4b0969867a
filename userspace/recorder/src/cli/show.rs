//! `spantape show`: all that is known of one recording.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use spantape_core::time::{SECOND, Timestamp};
use spantape_store::{Place, Query, Table};

use super::identity::Identity;
use super::terminal::{Screen, clean, clean_json, reader_left};
use super::{PARTLY, access, picture, report, when};

/// Show one recording: parties, signalling, streams, triggers, completeness, waveform.
///
/// The exit code is 0, or 1 when there is no such recording, or 2 when it cannot be shown or several
/// match.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  spantape show --archive tape 0a1b2c3d
  spantape show tape/recordings/2026/11/22/20261122T061209.123Z_1009_1010_0a1b2c3d.wav
  spantape show --archive tape 0a1b2c3d --json | jq .streams
  spantape show --archive tape 0a1b2c3d --png call.png
  SPANTAPE_ARCHIVE=tape spantape show 0a1b2c3d | less")]
pub(crate) struct Args {
    /// The recording: its id or the first digits of it, or its file
    #[arg(value_name = "RECORDING")]
    recording: String,
    /// The archive that has it, a directory or s3://BUCKET/PREFIX; not needed with the path of a file that lies in one
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: Option<PathBuf>,
    /// Print one JSON object with all of it but the waveform
    #[arg(long)]
    json: bool,
    /// Draw parties, waveform, quality and signalling as a picture (PNG) into a file, and print nothing
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    png: Option<PathBuf>,
    #[command(flatten)]
    identity: Identity,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some((archive, recording)) = locate(&args.recording, args.archive.as_deref())? else {
        return Ok(ExitCode::from(PARTLY));
    };
    access::note(&archive, "show", &recording.text("recording_id"));
    let found = Found::gather(&archive, recording)?;
    if let Some(file) = &args.png {
        let picture = picture::draw(&found, args.identity.sound(&archive, &found.recording))?;
        fs::write(file, picture).with_context(|| format!("write {}", file.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = if args.json {
        found.json()?
    } else {
        report::text(Screen::stdout(), &found, args.identity.sound(&archive, &found.recording))
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(anyhow::Error::from) {
        Err(error) if !reader_left(&error) => Err(error),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The recording that is meant by an id, its first digits or a file, and its archive. Says so when there is none; fails when
/// several match, or when nothing tells which archive is meant.
pub(super) fn locate(wanted: &str, named: Option<&Path>) -> anyhow::Result<Option<(Place, Record)>> {
    let archive = archive(wanted, named)?;
    let Some(recording) = find(&archive, wanted)? else {
        eprintln!("spantape: no recording `{}` in {archive}", clean(wanted));
        return Ok(None);
    };
    Ok(Some((archive, recording)))
}

/// A recording and what belongs to it.
pub(super) struct Found {
    pub(super) recording: Record,
    /// Missing while the call goes on.
    pub(super) call: Option<Record>,
    /// The call's other recordings.
    pub(super) others: Vec<Record>,
    /// The calls that belong together with it.
    pub(super) conversation: Vec<Record>,
    pub(super) streams: Vec<Record>,
    pub(super) events: Vec<Record>,
    /// Five seconds each of the streams.
    pub(super) quality: Vec<Record>,
}

/// A row of the catalog.
pub(super) struct Record(Map<String, Value>);

impl Record {
    #[cfg(test)]
    pub(super) fn from_json(row: Value) -> Record {
        match row {
            Value::Object(row) => Record(row),
            _ => Record(Map::new()),
        }
    }

    /// A value as text, fit for a terminal; empty when there is none.
    pub(super) fn text(&self, column: &str) -> String {
        match self.0.get(column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => clean(text),
            Some(value) => value.to_string(),
        }
    }

    pub(super) fn number(&self, column: &str) -> Option<f64> {
        self.0.get(column)?.as_f64()
    }

    pub(super) fn flag(&self, column: &str) -> bool {
        self.0.get(column).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn time(&self, column: &str) -> Option<Timestamp> {
        when::of_row(self.0.get(column)?.as_str()?)
    }

    /// `192.0.2.1:5060`, of the columns with that prefix.
    pub(super) fn address(&self, prefix: &str) -> Option<String> {
        let (host, port) = (self.text(&format!("{prefix}_address")), self.text(&format!("{prefix}_port")));
        match host.as_str() {
            "" => None,
            host if host.contains(':') => Some(format!("[{host}]:{port}")),
            host => Some(format!("{host}:{port}")),
        }
    }
}

impl Found {
    pub(super) fn gather(archive: impl Into<Place>, recording: Record) -> anyhow::Result<Found> {
        let archive: Place = archive.into();
        let uid = recording.text("call_uid");
        let (start, end) = recording
            .time("start")
            .zip(recording.time("ended"))
            .with_context(|| format!("the catalog of {archive} does not tell the recording's times"))?;
        let of_call = |table, since: Timestamp, until: Timestamp| -> anyhow::Result<Vec<Record>> {
            let (since, until) = (Some(since), Some(until));
            let query = Query { table, call_id: Some(uid.clone()), since, until, ..Query::default() };
            let mut rows = collect(&archive, &query)?;
            // A phone may choose a Call-ID that looks like the call of another.
            rows.retain(|row| row.text("call_uid") == uid);
            Ok(rows)
        };
        let call = of_call(Table::Calls, start - DAY, end + DAY)?.into_iter().next();
        // The times of the call tell which days to look at.
        let span = call.as_ref().and_then(|call| call.time("start").zip(call.time("ended")));
        let (first, last) = span.unwrap_or((start - DAY, end + DAY));
        let (first, last) = (first.min(start) - MARGIN, last.max(end) + MARGIN);
        let mut others = of_call(Table::Recordings, first, last)?;
        others.retain(|other| other.text("recording_id") != recording.text("recording_id"));
        let (since, until) = (Some(first - DAY), Some(last + DAY));
        let id = Some(recording.text("conversation_id")).filter(|id| !id.is_empty());
        let together =
            Query { table: Table::Calls, conversation: id.clone(), since, until, ..Query::default() };
        let mut conversation = if id.is_some() { collect(&archive, &together)? } else { Vec::new() };
        conversation.retain(|other| other.text("call_uid") != uid);
        Ok(Found {
            call,
            others,
            conversation,
            streams: of_call(Table::Streams, first, last)?,
            events: of_call(Table::Events, first, last)?,
            quality: of_call(Table::Quality, first, last)?,
            recording,
        })
    }

    fn json(&self) -> anyhow::Result<String> {
        let all = |records: &[Record]| records.iter().map(|record| json!(record.0)).collect::<Value>();
        let whole = json!({
            "recording": self.recording.0,
            "call": self.call.as_ref().map(|call| &call.0),
            "other_recordings": all(&self.others),
            "conversation": all(&self.conversation),
            "streams": all(&self.streams),
            "events": all(&self.events),
            "quality": all(&self.quality),
        });
        Ok(clean_json(&serde_json::to_string_pretty(&whole)?) + "\n")
    }
}

/// How far from a recording its call is looked for.
const DAY: i64 = 86_400 * SECOND;
/// Messages still come after a call has ended.
const MARGIN: i64 = 600 * SECOND;
/// Of several recordings that match so many are named.
const NAMED: usize = 10;

/// The archive that holds the file, if it is one; else the one that was named.
fn archive(wanted: &str, named: Option<&Path>) -> anyhow::Result<Place> {
    let file = fs::canonicalize(wanted).ok().filter(|path| path.is_file());
    let around = file.and_then(|path| {
        path.ancestors().skip(1).find(|dir| dir.join("catalog").is_dir()).map(Path::to_owned)
    });
    if let Some(around) = around {
        return Ok(around.into());
    }
    let named = named.context(
        "which archive? Name it by `--archive DIR` or SPANTAPE_ARCHIVE, or give the path of the recording's file",
    )?;
    Ok(Place::named(named)?)
}

fn find(archive: impl Into<Place>, wanted: &str) -> anyhow::Result<Option<Record>> {
    let query = Query { recording: Some(wanted.to_owned()), limit: Some(NAMED + 1), ..Query::default() };
    let mut found = collect(archive, &query)?;
    if found.len() <= 1 {
        return Ok(found.pop());
    }
    let mut list = String::new();
    for record in found.iter().take(NAMED) {
        let start = record.time("start").map(|at| when::utc(at, 0)).unwrap_or_default();
        let (from, to) = (record.text("from_user"), record.text("to_user"));
        list.push_str(&format!("\n  {}  {start}  {from} -> {to}", record.text("recording_id")));
    }
    if found.len() > NAMED {
        list.push_str("\n  …");
    }
    bail!("several recordings begin with `{}`; give more digits:{list}", clean(wanted));
}

fn collect(archive: impl Into<Place>, query: &Query) -> anyhow::Result<Vec<Record>> {
    Ok(query.objects(archive)?.into_iter().map(Record).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{terminal, testing};
    use super::*;

    #[test]
    fn by_prefix_and_by_file() {
        let dir = testing::archive();
        let record = find(dir.path(), "AB000001").unwrap().unwrap();
        let file = record.text("file");
        let id = record.text("recording_id");
        let whole = dir.path().join(&file);
        for name in [id.as_str(), &file, whole.to_str().unwrap()] {
            assert_eq!(find(dir.path(), name).unwrap().unwrap().text("recording_id"), id, "{name}");
        }
        assert!(find(dir.path(), "ff").unwrap().is_none());
        let error = find(dir.path(), "ab").err().unwrap().to_string();
        assert!(error.contains("give more digits") && error.lines().count() == 4, "{error}");
        let found = archive(whole.to_str().unwrap(), None).unwrap();
        assert_eq!(found.path(""), fs::canonicalize(dir.path()).unwrap());
        assert!(archive("ab", None).unwrap_err().to_string().contains("--archive"));
    }

    #[test]
    fn everything_as_json() {
        let dir = testing::archive();
        let record = find(dir.path(), "ab000000").unwrap().unwrap();
        let found = Found::gather(dir.path(), record).unwrap();
        let text = found.json().unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["recording"]["from_display"], "\x1b[2JEve\u{202e}");
        assert_eq!(json["call"]["end_reason"], "bye");
        assert_eq!(json["streams"].as_array().unwrap().len(), 2);
        assert_eq!(json["events"].as_array().unwrap().len(), 16);
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn everything_as_text() {
        let dir = testing::archive();
        for width in [40, 60, 80, 100, 160] {
            let record = find(dir.path(), "ab000000").unwrap().unwrap();
            let found = Found::gather(dir.path(), record).unwrap();
            let text = report::text(
                Screen::plain(width),
                &found,
                Identity::default().sound(dir.path(), &found.recording),
            );
            let widest = text.lines().map(terminal::width).max().unwrap();
            assert!(widest <= width, "{width}:\n{text}");
            assert!(!text.contains('\x1b') && text.contains("Eve"), "{text}");
        }
    }
}
