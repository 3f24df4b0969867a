//! `spantape export`: recordings to a folder.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use spantape_store::{Table, rows};
use tempfile::NamedTempFile;

use super::PARTLY;
use super::search::Filter;
use crate::config;
use crate::decode::{Ffmpeg, redecode};

/// Copy recordings out of an archive
///
/// What is given must all hold; with nothing given, every recording is copied. Beside the recordings, their capture files
/// if there are any, and the packets that could not be decoded, the folder gets `recordings.jsonl`: what the catalog says
/// of each, a JSON object a line.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  spantape export --archive tape --party 1009 --since 2026-11-22 --into evidence
  spantape export --archive tape --codec G729 --into audible --redecode

Exit code: 0 all that was found has been copied, 1 nothing was found or something could not be decoded, 2 it could not be
done.")]
pub(crate) struct Args {
    /// The archive
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// The folder; created if it is not there
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Decode what was kept undecoded, by ffmpeg, into the copies
    #[arg(long)]
    redecode: bool,
    /// Which ffmpeg (`[audio]`); without it, the one that a shell would find
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What the catalog says, in the folder.
const ROWS: &str = "recordings.jsonl";
/// Columns that name files of undecoded packets, of caller and callee.
const PACKETS: [&str; 2] = ["caller_rtpdump", "callee_rtpdump"];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let ffmpeg = decoder(args)?;
    fs::create_dir_all(&args.into).with_context(|| format!("create {}", args.into.display()))?;
    let mut list = BufWriter::new(new_file(&args.into)?);
    let (mut found, mut undecoded) = (0u64, 0u64);
    for batch in args.filter.query(Table::Recordings).run(&args.archive)? {
        for mut row in rows::objects(&batch?) {
            let problems = export(&args.archive, &args.into, ffmpeg.as_ref(), &mut row)?;
            for problem in &problems {
                eprintln!("spantape: warning: {}: {problem}", text(&row, "file"));
            }
            undecoded += u64::from(!problems.is_empty());
            writeln!(list, "{}", Value::Object(row)).context("write what the catalog says")?;
            found += 1;
        }
    }
    let list = list
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .context("write what the catalog says")?;
    place(list, &args.into.join(ROWS))?;
    println!("{found} recordings in {}", args.into.display());
    Ok(if found == 0 || undecoded > 0 { ExitCode::from(PARTLY) } else { ExitCode::SUCCESS })
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

/// Copies one recording, and makes its row one of the folder. Returns what could not be decoded.
fn export(
    archive: &Path,
    to: &Path,
    ffmpeg: Option<&Ffmpeg>,
    row: &mut Map<String, Value>,
) -> Result<Vec<String>> {
    let wav = inside(archive, &text(row, "file"))?;
    let mut packets = [None, None];
    for (packets, column) in packets.iter_mut().zip(PACKETS) {
        let file = text(row, column);
        if !file.is_empty() {
            *packets = Some(inside(archive, &file)?);
        }
    }
    let mut problems = Vec::new();
    let target = to.join(name(&wav)?);
    match ffmpeg.filter(|_| packets.iter().any(Option::is_some)) {
        Some(ffmpeg) => {
            let scratch = new_file(to)?;
            let gained = redecode(ffmpeg, &wav, &packets, scratch.as_file())?;
            place(scratch, &target)?;
            for (gained, packets) in gained.into_iter().zip(&mut packets) {
                let Some(gained) = gained else { continue };
                add_codecs(row, &gained.codecs);
                if gained.complete {
                    *packets = None;
                } else if gained.problems.is_empty() {
                    problems.push("some packets have no decoder".to_owned());
                }
                problems.extend(gained.problems);
            }
        }
        None => copy(&wav, to, &target)?,
    }
    let trace = wav.with_extension("pcap");
    if trace.exists() {
        copy(&trace, to, &to.join(name(&trace)?))?;
    }
    row.insert("file".to_owned(), name(&target)?.into());
    for (packets, column) in packets.iter().zip(PACKETS) {
        let mut kept = String::new();
        if let Some(packets) = packets {
            kept = name(packets)?.to_owned();
            copy(packets, to, &to.join(&kept))?;
        }
        row.insert(column.to_owned(), kept.into());
    }
    let bytes = fs::metadata(&target).with_context(|| format!("look at {}", target.display()))?.len();
    row.insert("bytes".to_owned(), bytes.into());
    Ok(problems)
}

fn add_codecs(row: &mut Map<String, Value>, codecs: &[String]) {
    let mut heard = text(row, "codecs");
    for codec in codecs {
        if !heard.split(',').any(|known| known == codec) {
            heard = if heard.is_empty() { codec.clone() } else { format!("{heard},{codec}") };
        }
    }
    row.insert("codecs".to_owned(), heard.into());
}

/// A file of the archive by the name that the catalog has, which may not lead out of it.
pub(super) fn inside(archive: &Path, file: &str) -> Result<PathBuf> {
    let path = Path::new(file);
    if path.components().any(|part| !matches!(part, Component::Normal(_))) {
        bail!("the catalog names a file outside of the archive: {file}");
    }
    Ok(archive.join(path))
}

fn name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).with_context(|| format!("{} has no name", path.display()))
}

fn text(row: &Map<String, Value>, column: &str) -> String {
    row.get(column).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn copy(from: &Path, dir: &Path, to: &Path) -> Result<()> {
    let mut file = File::open(from).with_context(|| format!("open {}", from.display()))?;
    let mut scratch = new_file(dir)?;
    std::io::copy(&mut file, scratch.as_file_mut()).with_context(|| format!("copy {}", from.display()))?;
    place(scratch, to)
}

/// A file that other users may read as far as the process's umask lets them.
fn new_file(dir: &Path) -> Result<NamedTempFile> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let made = tempfile::Builder::new().prefix(".export-").permissions(mode).tempfile_in(dir);
    made.with_context(|| format!("create a file in {}", dir.display()))
}

fn place(file: NamedTempFile, to: &Path) -> Result<()> {
    file.persist(to).map_err(|error| error.error).with_context(|| format!("write {}", to.display()))?;
    Ok(())
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
            let what = ["--into", out.to_str().unwrap(), "--trigger", trigger];
            let args = Cli::try_parse_from(from.into_iter().chain(what)).unwrap().args;
            format!("{:?}", run(&args).unwrap())
        };
        assert_eq!(export("sip-info"), format!("{:?}", ExitCode::SUCCESS));
        let rows = fs::read_to_string(out.join(ROWS)).unwrap();
        let row: Value = serde_json::from_str(rows.trim()).unwrap();
        let file = out.join(row["file"].as_str().unwrap());
        assert_eq!(hound::WavReader::open(&file).unwrap().duration(), 32_000);
        assert_eq!(row["bytes"], fs::metadata(&file).unwrap().len());
        assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
        assert_eq!(export("nothing"), format!("{:?}", ExitCode::from(PARTLY)));
    }

    #[test]
    fn nothing_outside_of_the_archive() {
        let dir = Path::new("/a");
        assert_eq!(inside(dir, "recordings/x.wav").unwrap(), Path::new("/a/recordings/x.wav"));
        for file in ["../x.wav", "/etc/passwd", "a/../../b"] {
            assert!(inside(dir, file).is_err(), "{file}");
        }
    }
}
