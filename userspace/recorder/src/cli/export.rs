//! `spantape export`: recordings, and what is known of them, for somebody else.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use spantape_core::time::Timestamp;
use spantape_store::encrypt::{Identities, clear_name};
use spantape_store::journal::{self, Book, Deletion};
use spantape_store::rows::text_of;
use spantape_store::seal::{self, SecretKey};
use spantape_store::{Place, Query, Table, rows};
use tempfile::NamedTempFile;

use super::filter::{Filter, word};
use super::identity::{Identity, open};
use super::terminal::clean;
use super::{PARTLY, access};
use crate::config;
use crate::decode::{Ffmpeg, redecode};
use crate::export::vcon::{self, Media};
use crate::export::{Folder, Info, Mark, bag, pack, page};

/// Copy recordings out of an archive, with what is known of them and the proof that they are what was recorded
///
/// What is given must all hold; with nothing given, every recording is copied. What was begun and not finished goes on where
/// it was when the same is asked for once more.
#[derive(clap::Args)]
// Of the filter, `--to` is who was called: here it is where to.
#[command(mut_arg("to", |arg| arg.long("callee")))]
#[command(after_help = "\
Examples:
  spantape export --archive tape --party 1009 --since 2026-11-22 --to evidence
  spantape export --archive tape --conversation 3357caa874a18f39bf59b8d72a2c0887 --format bagit --sign seal.key --to bag
  spantape export --archive tape --since '1d ago' --format zip --to yesterday.zip
  spantape export --archive tape --call-id 3c26-9f@192.0.2.9 --format vcon --to vcons
  spantape export --archive tape --since 2026-11-22 --to audible --redecode
  spantape verify evidence --key seal.key.pub           # by whoever has got it

What comes out, file by file: docs/export.md.

Exit code: 0 all that was found has been copied, 1 nothing was found, something had been purged or could not be decoded,
2 it could not be done.")]
pub(crate) struct Args {
    /// The archive: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// Where to: a folder that is empty or not there, or a zip file
    #[arg(long = "to", visible_alias = "into", value_name = "PATH")]
    target: PathBuf,
    /// As what
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "dir")]
    format: Format,
    /// Sign it, with a key that `spantape keygen` has made
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Tell nobody which keys were pressed: they are starred, and capture files, which have them as packets, are left out.
    /// Tones that were sent as sound stay in the recordings
    #[arg(long, conflicts_with = "encrypted")]
    redact_digits: bool,
    /// Where the recordings of vCons will be found (https://…), which then do not have them in themselves
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    #[command(flatten)]
    identity: Identity,
    /// Copy encrypted recordings as they are, with their keys, which are encrypted as well; whatever the identity is
    #[arg(long, conflicts_with = "redecode")]
    encrypted: bool,
    /// Decode what was kept undecoded, by ffmpeg, into the copies
    #[arg(long)]
    redecode: bool,
    /// Which ffmpeg (`[audio]`); without it, the one that a shell would find
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A folder
    Dir,
    /// A folder that archives can check (BagIt 1.0, RFC 8493)
    Bagit,
    /// A zip file with a page that plays what is in it
    Zip,
    /// A JSON document for each call (draft-ietf-vcon-vcon-core)
    Vcon,
}

type Row = Map<String, Value>;

/// Columns that name files of undecoded packets, of caller and callee.
const PACKETS: [&str; 2] = ["caller_rtpdump", "callee_rtpdump"];
/// How long a base URL's path segments stay as they are.
const IN_PATHS: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let work = Work::new(args)?;
    let (payload, root) = match args.format {
        Format::Bagit => ("data", args.target.clone()),
        Format::Zip => ("", with_suffix(&args.target, ".partial")),
        Format::Dir | Format::Vcon => ("", args.target.clone()),
    };
    if args.format == Format::Zip && args.target.exists() {
        bail!("{} is there already: choose another name", args.target.display());
    }
    let typed = args.typed();
    let begun = Folder::begun(&root, payload, &typed)?;
    // What was `1d ago` when it was begun is so when it goes on.
    let filter = match &begun {
        Some(mark) => args.filter.at(mark.moments.map(|at| at.map(Timestamp))),
        None => args.filter.clone(),
    };
    access::note(&work.archive, "export", &args.what(&filter));
    let rows = filter.query(Table::Recordings).objects(&work.archive)?;
    if rows.is_empty() {
        eprintln!("spantape: nothing matches");
        return Ok(ExitCode::from(PARTLY));
    }
    let moments = filter.moments().map(|at| at.map(|at| at.0));
    let folder = Folder::begin(&root, payload, &Mark { typed, moments })?;
    let (exported, problems) = work.recordings(&folder, &rows)?;
    let copied = exported.iter().filter(|row| !file_of(row).is_empty()).count();
    let calls: HashSet<String> = rows.iter().map(|row| text_of(row, "call_uid").to_owned()).collect();
    let calls = Arc::new(calls);
    if args.format == Format::Vcon {
        work.vcons(&folder, &exported, &calls)?;
    } else {
        work.tables(&folder, &exported, &calls)?;
        work.proof(&folder, &rows)?;
    }
    if args.format == Format::Zip {
        folder.write("index.html", page(&exported, &work.now).as_bytes())?;
    }
    folder.settle()?;
    let bar = bytes_bar("hashing");
    match args.format {
        Format::Vcon => {}
        Format::Bagit => {
            let date = work.now.get(..10).unwrap_or_default().to_owned();
            let description = format!("{copied} recordings of telephone calls");
            let info = Info { date, bytes: 0, files: 0, description };
            bag(&folder, info, work.key.as_ref(), |bytes| bar.inc(bytes))?;
        }
        Format::Zip => {
            folder.seal(work.key.as_ref(), |bytes| bar.inc(bytes))?;
            pack(&folder, &args.target, |bytes| bar.inc(bytes))?;
        }
        Format::Dir => folder.seal(work.key.as_ref(), |bytes| bar.inc(bytes))?,
    }
    bar.finish_and_clear();
    folder.finish()?;
    if args.format == Format::Zip {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    println!("{copied} recordings in {}", args.target.display());
    Ok(if problems > 0 { ExitCode::from(PARTLY) } else { ExitCode::SUCCESS })
}

impl Args {
    /// Of two attempts at the same this is the same. An identity may be named once it is asked for.
    fn typed(&self) -> String {
        format!(
            "archive {:?}, {:?}, format {:?}, sign {:?}, redact {}, redecode {}, base {:?}, encrypted {}, \
             config {:?}",
            self.archive,
            self.filter.typed(),
            self.format,
            self.sign,
            self.redact_digits,
            self.redecode,
            self.base_url,
            self.encrypted,
            self.config
        )
    }

    /// As it can be typed again.
    fn what(&self, filter: &Filter) -> String {
        let target = absolute(&self.target).unwrap_or_else(|_| self.target.clone());
        let target = format!("--to {}", word(&target.to_string_lossy()));
        match filter.with_callee("callee") {
            said if said.is_empty() => target,
            said => format!("{said} {target}"),
        }
    }
}

/// What it takes.
struct Work<'a> {
    args: &'a Args,
    archive: Place,
    identities: Option<Identities>,
    key: Option<SecretKey>,
    ffmpeg: Option<Ffmpeg>,
    now: String,
    /// What tombstones name, as far as somebody has asked.
    purged: RefCell<HashSet<String>>,
    /// Files of the archive that have been copied.
    copied: RefCell<HashSet<String>>,
}

impl<'a> Work<'a> {
    fn new(args: &'a Args) -> Result<Work<'a>> {
        if args.base_url.is_some() && args.format != Format::Vcon {
            bail!("--base-url is for --format vcon");
        }
        if args.base_url.as_ref().is_some_and(|url| !url.starts_with("https://")) {
            bail!("--base-url begins with https://");
        }
        if args.encrypted && args.format == Format::Vcon {
            bail!("a vCon has its recordings in clear: --encrypted is for other formats");
        }
        Ok(Work {
            args,
            archive: Place::named(&args.archive)?,
            identities: if args.encrypted { None } else { args.identity.read()? },
            key: args.sign.as_deref().map(SecretKey::read).transpose()?,
            ffmpeg: decoder(args)?,
            now: jiff::Timestamp::now().to_string(),
            purged: RefCell::default(),
            copied: RefCell::default(),
        })
    }

    /// Copies recordings; each row is returned with what was exported of it. Also tells of how many that is not everything.
    fn recordings(&self, folder: &Folder, rows: &[Row]) -> Result<(Vec<Row>, u64)> {
        let bar = bar(rows.len() as u64, "recordings");
        let (mut exported, mut partly) = (Vec::new(), 0);
        for row in rows {
            let mut row = row.clone();
            let problems = self.unless_purged(folder, &mut row)?;
            for problem in &problems {
                let file = clean(text_of(&row, "file"));
                bar.suspend(|| eprintln!("spantape: warning: {file}: {}", clean(problem)));
            }
            partly += u64::from(!problems.is_empty());
            exported.push(row);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok((exported, partly))
    }

    /// Copies one recording, unless it has been purged, be it while it was being copied. Returns what is not as it
    /// should be.
    fn unless_purged(&self, folder: &Folder, row: &mut Row) -> Result<Vec<String>> {
        let claims = folder.claims();
        if !self.is_purged(row)? {
            match self.recording(folder, row) {
                Err(error) if !self.is_purged(row)? => return Err(error),
                Err(_) => {}
                done => return done,
            }
        }
        folder.forget(claims);
        row.insert("exported".to_owned(), json!({ "file": "", "how": "purged" }));
        Ok(vec!["has been purged".to_owned()])
    }

    /// Whether something of a recording is missing, and somebody has said that it was to go.
    fn is_purged(&self, row: &Row) -> Result<bool> {
        let [caller, callee] = PACKETS;
        for column in ["file", "key", caller, callee] {
            let file = text_of(row, column);
            if !file.is_empty() && !self.archive.has(file)? && self.has_tombstone(file)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_tombstone(&self, file: &str) -> Result<bool> {
        if !self.purged.borrow().contains(file) {
            let (deletions, _) = journal::read::<Deletion>(&self.archive, &Book::Deletions)?;
            let gone = deletions.into_iter().flat_map(|deletion| deletion.files).map(|entry| entry.path);
            *self.purged.borrow_mut() = gone.collect();
        }
        Ok(self.purged.borrow().contains(file))
    }

    /// Copies one recording and what lies beside it. Returns what could not be decoded.
    fn recording(&self, folder: &Folder, row: &mut Row) -> Result<Vec<String>> {
        let file = text_of(row, "file").to_owned();
        let is_encrypted = clear_name(&file) != file;
        if is_encrypted && self.args.encrypted {
            self.as_it_is(folder, row)?;
            return Ok(Vec::new());
        }
        let name = name(clear_name(&file))?.to_owned();
        let mut packets = PACKETS.map(|column| text_of(row, column).to_owned());
        let is_decoded = self.ffmpeg.is_some() && packets.iter().any(|packets| !packets.is_empty());
        let mut problems = Vec::new();
        let mut about = json!({ "file": &name });
        if let Some(ffmpeg) = self.ffmpeg.as_ref().filter(|_| is_decoded) {
            about["how"] = "decoded".into();
            let gained = self.decoded(folder, row, ffmpeg, &name)?;
            let mut codecs = text_of(row, "codecs").to_owned();
            for (gained, packets) in gained.into_iter().zip(&mut packets) {
                let Some(gained) = gained else { continue };
                add_codecs(&mut codecs, &gained.codecs);
                if gained.complete {
                    packets.clear();
                } else if gained.problems.is_empty() {
                    problems.push("some packets have no decoder".to_owned());
                }
                problems.extend(gained.problems);
            }
            about["codecs"] = codecs.into();
        } else {
            about["how"] = if is_encrypted { "decrypted" } else { "archived" }.into();
            self.copy(folder, row, &file)?;
        }
        row.insert("exported".to_owned(), about);
        // A vCon has its recordings and nothing else.
        if self.args.format == Format::Vcon {
            return Ok(problems);
        }
        let trace = Path::new(clear_name(&file)).with_extension("pcap");
        let trace = trace.to_string_lossy();
        // Keys that were pressed are packets of it.
        let traces = if self.args.redact_digits { None } else { Some(trace) };
        for trace in traces.into_iter().flat_map(|trace| [format!("{trace}.age"), trace.into_owned()]) {
            if self.archive.has(&trace)? {
                self.copy(folder, row, &trace)?;
                break;
            }
        }
        for packets in packets.iter().filter(|packets| !packets.is_empty()) {
            self.copy(folder, row, packets)?;
        }
        Ok(problems)
    }

    /// Copies an encrypted recording, what lies beside it, and its key.
    fn as_it_is(&self, folder: &Folder, row: &mut Row) -> Result<()> {
        let file = text_of(row, "file").to_owned();
        let trace = Path::new(clear_name(&file)).with_extension("pcap.age").to_string_lossy().into_owned();
        let beside = PACKETS.map(|column| text_of(row, column).to_owned());
        let sha256 = text_of(row, "sha256").to_owned();
        let all = [file.clone(), text_of(row, "key").to_owned(), trace.clone()].into_iter().chain(beside);
        for each in all.filter(|each| !each.is_empty()) {
            let name = name(&each)?;
            if !folder.has(name) {
                let sha256 = if each == file { sha256.as_str() } else { "" };
                match self.archive.file(&each)? {
                    Some(mut from) => folder.place(folder.scratch_of(&mut from, &each, sha256)?, name)?,
                    // Not every recording has one.
                    None if each == trace => continue,
                    None => bail!("cannot open {}: it is not there", self.archive.path(&each).display()),
                }
            }
            self.copied.borrow_mut().insert(each);
        }
        row.insert("exported".to_owned(), json!({ "file": name(&file)?, "how": "archived" }));
        Ok(())
    }

    /// Copies a file of a recording in clear, unless an earlier attempt has.
    fn copy(&self, folder: &Folder, row: &Row, file: &str) -> Result<()> {
        let name = name(clear_name(file))?;
        self.copied.borrow_mut().insert(file.to_owned());
        if folder.has(name) {
            return Ok(());
        }
        folder.place(self.checked(folder, row, file)?, name)
    }

    /// A copy of a file of a recording, in clear; the recording itself is the one that its row was written for.
    fn checked(&self, folder: &Folder, row: &Row, file: &str) -> Result<NamedTempFile> {
        let column = if clear_name(file) == file { "sha256" } else { "content_sha256" };
        let sha256 = if file == text_of(row, "file") { text_of(row, column) } else { "" };
        folder.scratch_of(&mut self.open(row, file)?, file, sha256)
    }

    fn open(&self, row: &Row, file: &str) -> Result<impl Read + Seek + use<>> {
        open(&self.archive, file, text_of(row, "key"), self.identities.as_ref())
    }

    /// Makes a copy of a recording into which its packets are decoded.
    fn decoded(
        &self,
        folder: &Folder,
        row: &Row,
        ffmpeg: &Ffmpeg,
        name: &str,
    ) -> Result<[Option<crate::decode::Gained>; 2]> {
        let in_clear = |file: &str| self.checked(folder, row, file);
        let recording = in_clear(text_of(row, "file"))?;
        let mut packets = [None, None];
        for (packets, column) in packets.iter_mut().zip(PACKETS) {
            let file = text_of(row, column);
            *packets = if file.is_empty() { None } else { Some(in_clear(file)?) };
        }
        let paths = packets.each_ref().map(|file| file.as_ref().map(|file| file.path().to_owned()));
        let scratch = folder.scratch()?;
        let gained = redecode(ffmpeg, recording.path(), &paths, scratch.as_file())?;
        folder.place(scratch, name)?;
        Ok(gained)
    }

    /// What the catalog says of the recordings and of their calls.
    fn tables(&self, folder: &Folder, rows: &[Row], calls: &Arc<HashSet<String>>) -> Result<()> {
        lines(folder, "recordings.jsonl", rows)?;
        folder.copy(&mut csv(rows).as_bytes(), "recordings.csv")?;
        for table in [Table::Calls, Table::Streams, Table::Events, Table::Quality] {
            let mut rows = self.of_calls(table, calls)?;
            if table == Table::Events {
                rows = rows.iter().map(|row| vcon::told(row, self.args.redact_digits)).collect();
            }
            lines(folder, &format!("{table}.jsonl"), &rows)?;
        }
        Ok(())
    }

    /// The chain's manifests, and the proofs that these recordings and what lies beside them were sealed.
    fn proof(&self, folder: &Folder, rows: &[Row]) -> Result<()> {
        for (name, bytes) in seal::manifest_files(&self.archive)? {
            folder.write(&format!("proof/manifests/{name}"), &bytes)?;
        }
        let of = |column: &'static str| rows.iter().map(move |row| text_of(row, column).to_owned());
        let files = of("file").chain(self.copied.borrow().iter().cloned()).collect();
        let proofs = seal::prove(&self.archive, &files, &of("recording_id").collect())?;
        let lines = proofs.iter().map(|proof| Ok(serde_json::to_string(proof)? + "\n"));
        let lines: String = lines.collect::<Result<_>>()?;
        folder.write("proof/proofs.jsonl", lines.as_bytes())
    }

    fn of_calls(&self, table: Table, calls: &Arc<HashSet<String>>) -> Result<Vec<Row>> {
        Ok(Query { table, calls: Some(calls.clone()), ..Query::default() }.objects(&self.archive)?)
    }

    /// Writes a vCon for each call. With a base URL the recordings stay beside it.
    fn vcons(&self, folder: &Folder, rows: &[Row], uids: &Arc<HashSet<String>>) -> Result<()> {
        let by_call = |rows: Vec<Row>| {
            let mut all: BTreeMap<String, Vec<Row>> = BTreeMap::new();
            for row in rows {
                all.entry(text_of(&row, "call_uid").to_owned()).or_default().push(row);
            }
            all
        };
        let calls = by_call(self.of_calls(Table::Calls, uids)?);
        let events = by_call(self.of_calls(Table::Events, uids)?);
        for (uid, rows) in by_call(rows.to_vec()) {
            let mut clear = Vec::new();
            for mut row in rows {
                let file = file_of(&row).to_owned();
                if file.is_empty() {
                    continue;
                }
                row.remove("exported");
                let bytes = fs::read(folder.path(&file)).with_context(|| format!("read {file}"))?;
                row.insert("file".to_owned(), file.clone().into());
                clear.push((row, file, bytes));
            }
            let media = |file: &str, bytes: &'_ [u8]| {
                let url = self.args.base_url.as_ref()?;
                let file = percent_encoding::utf8_percent_encode(file, IN_PATHS);
                Some(Media::At {
                    url: format!("{}/{file}", url.trim_end_matches('/')),
                    sha512: Sha512::digest(bytes).into(),
                })
            };
            let recordings = clear.iter().map(|(row, file, bytes)| {
                let media = media(file, bytes).unwrap_or(Media::Inline(bytes));
                vcon::Recording { row, media }
            });
            let recordings: Vec<_> = recordings.collect();
            let call = calls.get(&uid).and_then(|calls| calls.first());
            let events = events.get(&uid).map(Vec::as_slice).unwrap_or_default();
            let made = vcon::vcon(call, &recordings, events, &self.now, self.args.redact_digits);
            let made = self.key.as_ref().map(|key| vcon::sign(&made, key)).unwrap_or(made);
            folder.copy(&mut serde_json::to_vec_pretty(&made)?.as_slice(), &format!("{uid}.vcon.json"))?;
            if self.args.base_url.is_none() {
                for (_, file, _) in &clear {
                    fs::remove_file(folder.path(file)).with_context(|| format!("remove {file}"))?;
                }
            }
        }
        Ok(())
    }
}

fn decoder(args: &Args) -> Result<Option<Ffmpeg>> {
    if !args.redecode {
        return Ok(None);
    }
    let audio = config::load(args.config.as_deref())?.audio;
    match audio.ffmpeg.find() {
        Some(ffmpeg) => Ok(Some(ffmpeg)),
        None => bail!("there is no ffmpeg to decode with: install it, or name it in `[audio]` of --config"),
    }
}

/// Rows as JSON, one a line.
fn lines(folder: &Folder, name: &str, rows: &[Row]) -> Result<()> {
    let lines = rows.iter().map(|row| Ok(serde_json::to_string(row)? + "\n"));
    let lines: String = lines.collect::<Result<_>>()?;
    folder.copy(&mut lines.as_bytes(), name)
}

/// The rows of recordings as a table, for spreadsheets: the columns of the catalog, and which file it is.
fn csv(rows: &[Row]) -> String {
    let schema = Table::Recordings.schema();
    let mut out = rows::csv_header(&schema) + ",exported\r\n";
    for row in rows {
        let cell = |value: Option<&Value>| match value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => rows::spreadsheet_cell(text.clone()),
            Some(other) => other.to_string(),
        };
        let exported = row.get("exported").and_then(|exported| exported.get("file"));
        let cells = schema.fields().iter().map(|field| cell(row.get(field.name()))).chain([cell(exported)]);
        out.push_str(&(cells.collect::<Vec<_>>().join(",") + "\r\n"));
    }
    out
}

fn add_codecs(heard: &mut String, codecs: &[String]) {
    for codec in codecs {
        if !heard.split(',').any(|known| known == codec) {
            let comma = if heard.is_empty() { "" } else { "," };
            heard.push_str(&format!("{comma}{codec}"));
        }
    }
}

fn name(path: &str) -> Result<&str> {
    Path::new(path).file_name().and_then(|name| name.to_str()).with_context(|| format!("{path} has no name"))
}

/// Which file of the export a row is of; none, if it has been purged.
fn file_of(row: &Row) -> &str {
    row.get("exported").and_then(|exported| exported.get("file")).and_then(Value::as_str).unwrap_or_default()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn bar(count: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr());
    styled(bar, "{msg} {wide_bar} {pos}/{len} {eta}", what)
}

fn bytes_bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    styled(bar, "{msg} {bytes} {bytes_per_sec}", what)
}

fn styled(bar: ProgressBar, template: &str, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar.set_message(what);
    bar
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

    #[test]
    fn recordings_and_what_is_known_of_them() {
        let archive = testing::archive();
        let to = tempfile::tempdir().unwrap();
        let out = to.path().join("out");
        let export = |trigger: &str| {
            let from = ["export", "--archive", archive.path().to_str().unwrap()];
            let what = ["--to", out.to_str().unwrap(), "--trigger", trigger];
            let args = Cli::try_parse_from(from.into_iter().chain(what)).unwrap().args;
            run(&args).map(|code| format!("{code:?}"))
        };
        assert_eq!(export("nothing").unwrap(), format!("{:?}", ExitCode::from(PARTLY)));
        assert!(!out.exists());
        assert_eq!(export("sip-info").unwrap(), format!("{:?}", ExitCode::SUCCESS));
        let rows = fs::read_to_string(out.join("recordings.jsonl")).unwrap();
        let row: Value = serde_json::from_str(rows.trim()).unwrap();
        let file = out.join(row["exported"]["file"].as_str().unwrap());
        assert_eq!(hound::WavReader::open(&file).unwrap().duration(), 32_000);
        assert_eq!(row["bytes"], fs::metadata(&file).unwrap().len());
        let csv = fs::read_to_string(out.join("recordings.csv")).unwrap();
        assert_eq!((csv.lines().count(), csv.lines().next().unwrap().ends_with(",exported")), (2, true));
        // It is finished, and nobody adds to it.
        assert!(export("sip-info").unwrap_err().to_string().contains("is not empty"));
    }

    #[test]
    fn what_the_access_log_says_can_be_typed_again() {
        let args = |more: &[&str]| {
            let always = ["export", "--archive", "a", "--to", "/tmp/a b"];
            Cli::try_parse_from(always.into_iter().chain(more.iter().copied())).unwrap().args
        };
        let all = args(&[]);
        assert_eq!(all.what(&all.filter), "--to '/tmp/a b'");
        let some = args(&["--callee", "1010", "--from", "1009"]);
        assert_eq!(some.what(&some.filter), "--from 1009 --callee 1010 --to '/tmp/a b'");
        let others = [&["--encrypted"][..], &["--config", "x"], &["--redact-digits"], &["--callee", "1010"]];
        for other in others {
            assert_ne!(args(other).typed(), all.typed(), "{other:?}");
        }
        assert_eq!(args(&["--since", "1d ago"]).typed(), args(&["--since", "1d ago"]).typed());
    }
}
