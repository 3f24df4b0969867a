//! `spantape import`: recordings that phones have made themselves.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use spantape_core::codec::Codec;
use spantape_core::media::TapeId;
use spantape_core::phone_file::{Audio, Extent, Layout, PhoneFile};
use spantape_core::record::{CallRow, Completeness, EndReason, EventRow, Id, Party, RecordingRow};
use spantape_core::time::{SECOND, Timestamp};
use spantape_store::utc::rfc3339;
use spantape_store::{Archive, ArchiveOptions, Query, SpoolOptions, rows};

use super::terminal::{clean, clean_json, reader_left};
use super::{PARTLY, when};
use crate::config;

/// The trigger of what is imported.
const NAME: &str = "import";
/// The phones mix both sides.
const CHANNELS: u16 = 1;
/// One recording is in memory as a whole: more than a day.
const MOST_BYTES: u64 = 1 << 30;

/// Import recordings that Fanvil's and Becke's phones have made themselves
///
/// The phones' files are called .wav, and no player plays them. Each becomes a recording of one channel, for
/// the phone has mixed both sides. A recording that the phone has spread over several files becomes one if
/// they are given in their order and hold RTP packets that follow one another; see --join for the others.
///
/// A recording begins when the name of its file says so (20261122143005, in the time zone of this machine or
/// of TZ), else by as much before the file's last change as it is long. Importing the same files again adds
/// nothing.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  spantape import 20261122143005.wav --archive /srv/calls
  spantape import /media/usb/record/*.wav --archive calls --json
  spantape import rec1.wav --archive calls --config /etc/spantape.toml       # encrypted, if that names recipients
  spantape import rec1.wav rec2.wav rec3.wav --join --archive calls
  spantape import old.wav --start 2026-11-22T14:30:05+01:00 --from 1009 --to 0301234 --archive calls

Exit code: 0 the archive has all of it, 1 some could not be imported (the others were), 2 nothing could be done.")]
pub(crate) struct Args {
    /// Files of a Fanvil or Becke phone
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directory of recordings and catalog; created if it is not there
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: PathBuf,
    /// For whom recordings are encrypted (`[archive] recipients`), and `node`; what else is configured says nothing of files
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What this recorder is called, of several that record into the archive (`[archive] node`)
    #[arg(long, value_name = "NAME", value_parser = config::node)]
    node: Option<String>,
    /// All files are one recording, in this order
    #[arg(long)]
    join: bool,
    /// When it began; for one recording alone
    #[arg(long, value_name = "TIME", value_parser = when::moment)]
    start: Option<Timestamp>,
    /// Who called: the files do not tell
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    from: String,
    /// Who was called
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    to: String,
    /// Print recordings and problems as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut import = Import::new(args)?;
    let mut problems = Vec::new();
    let mut pieces: Vec<Piece> = Vec::new();
    for path in &args.files {
        let before = pieces.iter().map(|piece| piece.bytes.len() as u64).sum();
        match Piece::read(path, if args.join { before } else { 0 }) {
            Err(error) if args.join => return Err(error),
            Err(error) => {
                // What comes next does not follow what came before.
                import.add(&std::mem::take(&mut pieces))?;
                problems.push(format!("{error:#}"));
            }
            Ok(piece) => {
                if !goes_on(&pieces, &piece, args.join)? {
                    import.add(&std::mem::take(&mut pieces))?;
                }
                pieces.push(piece);
            }
        }
    }
    import.add(&pieces)?;
    import.archive.flush()?;

    for problem in &problems {
        eprintln!("spantape: {}", clean(problem));
    }
    let text = if args.json {
        let all = json!({ "recordings": import.done.iter().map(Done::json).collect::<Value>(), "problems": problems });
        clean_json(&serde_json::to_string_pretty(&all)?) + "\n"
    } else {
        import.done.iter().map(Done::text).collect()
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(anyhow::Error::from) {
        Err(error) if !reader_left(&error) => Err(error),
        _ if !problems.is_empty() => Ok(ExitCode::from(PARTLY)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A file of a phone.
struct Piece {
    path: PathBuf,
    bytes: Vec<u8>,
    modified: Option<Timestamp>,
}

impl Piece {
    /// Reads a file, if it and the `before` bytes of its recording are not too many.
    fn read(path: &Path, before: u64) -> Result<Piece> {
        let cannot = || format!("{}: cannot be read", path.display());
        let file = File::open(path).with_context(cannot)?;
        let modified = file.metadata().with_context(cannot)?.modified().ok();
        let modified = modified.and_then(|at| jiff::Timestamp::try_from(at).ok());
        let modified = modified.and_then(|at| i64::try_from(at.as_nanosecond()).ok()).map(Timestamp);
        let (room, mut bytes) = (MOST_BYTES.saturating_sub(before), Vec::new());
        file.take(room + 1).read_to_end(&mut bytes).with_context(cannot)?;
        if bytes.len() as u64 > room {
            bail!("{}: is larger than any phone's recording", path.display());
        }
        let piece = Piece { path: path.to_owned(), bytes, modified };
        piece.parse()?;
        Ok(piece)
    }

    fn parse(&self) -> Result<PhoneFile<'_>> {
        PhoneFile::parse(&self.bytes).map_err(|fault| anyhow::anyhow!("{}: {fault}", self.path.display()))
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What is to be known of it, if anything.
    fn remark(&self, file: &PhoneFile<'_>) -> Option<String> {
        let words = match file.extent() {
            Extent::Whole => return None,
            Extent::Unfinished => "was never finished: the phone lost its power".to_owned(),
            Extent::Short(bytes) => format!("is truncated: {bytes} bytes are missing"),
            Extent::Long(bytes) => format!("{bytes} bytes behind its end were left"),
        };
        Some(format!("{}: {words}", self.name()))
    }
}

/// Whether a file goes on where those before end. Where all are to be joined, it must at least be like them.
fn goes_on(pieces: &[Piece], next: &Piece, join: bool) -> Result<bool> {
    let Some(last) = pieces.last() else { return Ok(true) };
    let (before, after) = (last.parse()?, next.parse()?);
    if join && !before.is_like(&after) {
        bail!(
            "{} is no part of the same recording as {}: another codec, or made in another way",
            next.path.display(),
            last.path.display()
        );
    }
    let bytes: usize = pieces.iter().chain([next]).map(|piece| piece.bytes.len()).sum();
    Ok(join || before.goes_on_in(&after) && bytes as u64 <= MOST_BYTES)
}

/// A recording that the archive has now.
struct Done {
    id: Id,
    /// It was not there before.
    added: bool,
    start: Timestamp,
    frames: u64,
    rate: u32,
    codec: String,
    file: Option<String>,
    sources: Vec<PathBuf>,
    remarks: Vec<String>,
}

impl Done {
    fn text(&self) -> String {
        let sources: Vec<String> = self.sources.iter().map(|path| path.display().to_string()).collect();
        let (id, sources) = (self.id.to_string(), clean(&sources.join(", ")));
        let mut text = match (&self.file, self.added) {
            (Some(file), true) => {
                let length = (self.frames as f64 / f64::from(self.rate.max(1)) * SECOND as f64) as i64;
                let (start, length) = (when::utc(self.start, 0), when::clock(length, 3));
                let codec = &self.codec;
                format!("{}  {start} UTC  {length}  {codec}  {sources}\n          {file}\n", &id[..8])
            }
            _ => format!("{}  in the archive already  {sources}\n", &id[..8]),
        };
        for remark in &self.remarks {
            text.push_str(&format!("          {}\n", clean(remark)));
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "recording_id": self.id.to_string(),
            "added": self.added,
            "start": self.added.then(|| rfc3339(self.start)),
            "duration_s": self.added.then(|| self.frames as f64 / f64::from(self.rate.max(1))),
            "codec": self.codec,
            "file": self.file,
            "sources": self.sources.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
            "remarks": self.remarks,
        })
    }
}

struct Import<'a> {
    args: &'a Args,
    archive: Archive,
    /// Recordings that the archive has.
    known: HashSet<String>,
    done: Vec<Done>,
}

impl<'a> Import<'a> {
    fn new(args: &'a Args) -> Result<Import<'a>> {
        let config::Configuration { audio, node, .. } = config::load(args.config.as_deref())?;
        if args.config.is_none() && args.archive.join("keys").exists() {
            bail!(
                "recordings of {} are encrypted: say by --config for whom these are to be, too",
                args.archive.display()
            );
        }
        let spool = SpoolOptions {
            node: args.node.clone().or(node),
            recipients: audio.recipients,
            ..SpoolOptions::default()
        };
        let options = ArchiveOptions { spool, repeatable: true, ..ArchiveOptions::default() };
        let archive = Archive::create_with(&args.archive, options)?;
        let query = Query { trigger: Some(NAME.to_owned()), ..Query::default() };
        let mut known = HashSet::new();
        for batch in query.run(&args.archive)? {
            let ids = rows::objects(&batch?)
                .filter_map(|row| Some(row.get("recording_id")?.as_str()?.to_owned()))
                .collect::<Vec<_>>();
            known.extend(ids);
        }
        Ok(Import { args, archive, known, done: Vec::new() })
    }

    /// Makes a recording of its pieces, if the archive does not have it.
    fn add(&mut self, pieces: &[Piece]) -> Result<()> {
        if self.args.start.is_some() && !self.done.is_empty() && !pieces.is_empty() {
            bail!("--start says when one recording began, and these are several");
        }
        let files = pieces.iter().map(Piece::parse).collect::<Result<Vec<_>>>()?;
        let Some(first) = files.first() else { return Ok(()) };
        // By what they are made of, wherever they lie and whatever they are called.
        let contents: Vec<&[u8]> = pieces.iter().map(|piece| &*piece.bytes).collect();
        let call = Id::derive(&[&[NAME.as_bytes()], &*contents].concat());
        let id = Id::derive(&[&call.0, NAME.as_bytes()]);
        let mut done = Done {
            id,
            added: self.known.insert(id.to_string()),
            start: Timestamp::default(),
            frames: 0,
            rate: first.codec().sample_rate(),
            codec: first.codec().to_string(),
            file: None,
            sources: pieces.iter().map(|piece| piece.path.clone()).collect(),
            remarks: pieces.iter().zip(&files).filter_map(|(piece, file)| piece.remark(file)).collect(),
        };
        if done.added {
            let tape = TapeId(self.done.len() as u64);
            let audio = Audio::new(&files);
            let completeness = audio.completeness();
            done.frames = self.record(tape, done.rate, audio)?;
            let length = length(done.frames, done.rate);
            done.start = self.start(pieces, length);
            if completeness.lost > 0 {
                done.remarks.push(format!("{} packets are missing, silence instead", completeness.lost));
            }
            let row = self.recording(&done, call, length, completeness);
            let saved = self.archive.cut(tape, 0..done.frames, &[], &row, true)?;
            done.file = saved.map(|saved| saved.file);
            self.archive.call(&call_row(&row))?;
            self.archive.event(&event(&row, pieces, first.layout(), first.codec(), &done.remarks))?;
        }
        self.done.push(done);
        Ok(())
    }

    /// Puts audio on a tape. Returns its frames.
    fn record(&mut self, tape: TapeId, rate: u32, audio: Audio<'_>) -> Result<u64> {
        self.archive.open_tape(tape, rate, CHANNELS, (0, 1))?;
        let mut frames = 0;
        for part in audio {
            self.archive.silence(tape, part.silence)?;
            self.archive.write(tape, &part.samples)?;
            frames += part.silence + part.samples.len() as u64;
        }
        Ok(frames)
    }

    /// When a recording of that length began.
    fn start(&self, pieces: &[Piece], length: i64) -> Timestamp {
        let by_name = || when::in_file_name(&pieces.first()?.name(), &when::local_zone());
        let by_change = || Some(pieces.last()?.modified? - length);
        self.args.start.or_else(by_name).or_else(by_change).unwrap_or_default()
    }

    fn recording(&self, done: &Done, call: Id, length: i64, completeness: Completeness) -> RecordingRow {
        let party = |user: &String| Party { user: user.clone(), ..Party::default() };
        RecordingRow {
            id: done.id,
            call,
            call_id: String::new(),
            conversation_id: call.to_string(),
            from: party(&self.args.from),
            to: party(&self.args.to),
            start: done.start,
            end: done.start + length,
            sample_rate: done.rate,
            frames: done.frames,
            trigger: NAME.into(),
            rule: String::new(),
            codecs: vec![done.codec.clone()],
            end_reason: EndReason::FileEnd,
            joined: false,
            mixed: true,
            completeness: [completeness, Completeness::default()],
        }
    }
}

/// Nanoseconds.
fn length(frames: u64, rate: u32) -> i64 {
    let nanoseconds = u128::from(frames) * SECOND.unsigned_abs() as u128 / u128::from(rate.max(1));
    i64::try_from(nanoseconds).unwrap_or(i64::MAX)
}

/// The call of a recording of which nothing else is known.
fn call_row(row: &RecordingRow) -> CallRow {
    CallRow {
        id: row.call,
        call_id: row.call_id.clone(),
        conversation_id: row.conversation_id.clone(),
        from: row.from.clone(),
        to: row.to.clone(),
        start: row.start,
        answer: None,
        end: row.end,
        end_reason: row.end_reason,
        status: 0,
        joined: false,
        orphan: true,
        rule: row.rule.clone(),
        action: "all",
        messages: 0,
        retransmissions: 0,
        streams: 0,
        recordings: 1,
        undecodable: Vec::new(),
        session: "",
    }
}

/// Says where it came from.
fn event(
    row: &RecordingRow,
    pieces: &[Piece],
    layout: Layout,
    codec: &Codec,
    remarks: &[String],
) -> EventRow {
    let names: Vec<String> = pieces.iter().map(Piece::name).collect();
    let units = match layout {
        Layout::Packets => "RTP packets",
        Layout::Payloads => "RTP payloads",
    };
    let mut text = format!("{} ({units} of {codec})", names.join(", "));
    remarks.iter().for_each(|remark| text.push_str(&format!("; {remark}")));
    EventRow {
        call: row.call,
        call_id: row.call_id.clone(),
        at: row.start,
        kind: NAME,
        trigger: "",
        verb: "",
        outcome: "",
        source: None,
        destination: None,
        text,
    }
}
