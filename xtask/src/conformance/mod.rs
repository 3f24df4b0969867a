//! `cargo xtask conformance`: replays captures whose content is known, and compares.
//!
//! Captures in which no call is told of are replayed once more, with `--orphans`. The truth comes from another program
//! than the recorder. Differences that have a reason are listed in
//! `xtask/conformance-exceptions.txt`; a listed capture that agrees is a failure too, or nobody would ever take
//! it off the list.

mod compare;
mod exceptions;
mod orphans;
mod replay;
mod report;
mod truth;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use exceptions::Exceptions;
use report::{Report, State, Verdict};
use truth::Capture;

const EXCEPTIONS: &str = "xtask/conformance-exceptions.txt";

/// What `cargo xtask conformance` understands.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder of captures with their truth.json
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Only captures with this in their file name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// The program under test [default: the release build, which is made when it is not there]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Compares what the recorder makes of the captures of a folder with what is known of them.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !args.folder.is_dir() {
        let reason = format!("{} is not there", args.folder.display());
        println!("{}", if args.json { report::skipped(&reason) } else { format!("skipped: {reason}") });
        return Ok(());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace around xtask")?;
    let known = Exceptions::read(&workspace.join(EXCEPTIONS))?;
    let captures = chosen(truth::read(&args.folder)?, args.only.as_deref())?;
    let binary = replay::binary(args.binary.as_deref())?;

    let report = Report::new(judge_all(&captures, &args.folder, &binary, &known)?);
    print!("{}", if args.json { report.json()? } else { report.table() });
    if report.failures() > 0 {
        bail!("{} not as expected; what is known to differ stands in {EXCEPTIONS}", report.failures());
    }
    Ok(())
}

fn chosen(mut captures: Vec<Capture>, only: Option<&str>) -> Result<Vec<Capture>> {
    if let Some(only) = only {
        captures.retain(|capture| capture.file.contains(only));
    }
    if captures.is_empty() {
        bail!("no capture to replay");
    }
    Ok(captures)
}

/// Each thread takes the next capture when it has finished one, as they differ much in size.
fn judge_all(captures: &[Capture], folder: &Path, binary: &Path, known: &Exceptions) -> Result<Vec<Verdict>> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let queue = Mutex::new(captures.iter());
    let next = || queue.lock().ok()?.next();
    let work = || -> Vec<Verdict> {
        std::iter::from_fn(next).map(|capture| judge(capture, folder, binary, known)).collect()
    };
    let mut verdicts = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(captures.len())).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect::<Vec<_>>()
    });
    if verdicts.len() != captures.len() {
        bail!("only {} of {} captures could be judged", verdicts.len(), captures.len());
    }
    verdicts.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(verdicts)
}

fn differences(capture: &Capture, path: &Path, binary: &Path) -> Result<Vec<String>> {
    let mut differences = compare::differences(capture, &replay::replay(binary, path, &[])?);
    if orphans::apply(capture) {
        let found = replay::replay(binary, path, &["--orphans"])?;
        differences.extend(orphans::differences(capture, &found));
    }
    Ok(differences)
}

fn judge(capture: &Capture, folder: &Path, binary: &Path, known: &Exceptions) -> Verdict {
    let path = folder.join(&capture.file);
    let differences = match differences(capture, &path, binary) {
        Ok(differences) => differences,
        Err(error) => vec![format!("{error:#}")],
    };
    let reason = known.reason(&capture.file).map(str::to_owned);
    let state = match (differences.is_empty(), reason.is_some()) {
        (true, false) => State::Agrees,
        (true, true) => State::AgreesNow,
        (false, true) => State::Known,
        (false, false) => State::Differs,
    };
    Verdict { file: capture.file.clone(), state, reason, differences }
}
