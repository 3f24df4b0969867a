//! `spantape replay`: capture files to recordings.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use spantape_core::engine::FORESEEN;
use spantape_store::{ArchiveOptions, SpoolOptions};

use super::{PARTLY, summary};
use crate::archivist::CarryOut;
use crate::config;
use crate::finish::Haste;
use crate::pipeline::Pipeline;
use crate::source::buffer::FrameBuffer;
use crate::source::genesys_log::GenesysLogs;
use crate::source::key_log::KeyLogFile;
use crate::source::merge::Merge;

/// Frames between two looks at the progress.
const FRAMES_A_LOOK: usize = 4096;
/// Frames that several engines take at the same time.
const TOGETHER: usize = 4096;
/// Batches of events that may wait for the thread that writes.
const BATCHES: usize = 4;
/// Bytes that are read at once, but for the last frame of them.
const ENOUGH_BYTES: usize = 1 << 20;

/// Record the calls in capture files
///
/// Reads pcap and pcapng, also within gzip and zstd, from files or standard input (`-`); several files are
/// merged by time. Replaying the same files again adds nothing twice.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  spantape replay monday.pcap --archive /srv/calls
  spantape replay ring-*.pcapng.gz --archive calls --config rules.toml
  tcpdump -i eth1 -w - udp | spantape replay - --archive calls
  spantape replay rtp-only.pcap --archive calls --orphans --json
  spantape replay monday.pcap --archive quality --no-audio
  spantape replay calls.pcap --archive calls --genesys-log sipserver.log
  spantape replay webrtc.pcapng --archive calls --keylog keys.txt

Exit code: 0 all files read, 1 some could not be read (the others were), 2 nothing could be done.")]
pub(crate) struct Args {
    /// Capture files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directory of recordings and catalog; created if it is not there
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: PathBuf,
    /// What is recorded; without it, every call is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What this recorder is called, of several that record into the archive (`[archive] node`)
    #[arg(long, value_name = "NAME", value_parser = config::node)]
    node: Option<String>,
    /// Record RTP that belongs to no known call as well
    #[arg(long)]
    orphans: bool,
    /// Keep no audio: calls, streams and their quality come into the catalog, and there are no recordings
    #[arg(long)]
    no_audio: bool,
    /// Obey what this log of a Genesys SIP Server says was asked for: 3013 start, 3014 stop, 3015 pause, 3016 resume
    #[arg(long, value_name = "FILE")]
    genesys_log: Vec<PathBuf>,
    /// Decrypt DTLS-SRTP by this key log, as SSLKEYLOGFILE makes TLS libraries and browsers write it
    #[arg(long, value_name = "FILE")]
    keylog: Vec<PathBuf>,
    /// With two, one thread follows the calls while another writes, and more finish recordings; with more, so many less one have the calls between them [default: two if there are two processors, and one for a pipe]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let config::Configuration { engine: mut config, audio, key_log, node, .. } =
        config::load(args.config.as_deref())?;
    config.orphans |= args.orphans;
    config.audio &= !args.no_audio;

    let read = Arc::new(AtomicU64::new(0));
    let mut source = Merge::open(&args.files, &read);
    let mut problems = source.problems();
    let unreadable = problems.iter().filter(|problem| !problem.is_warning()).count();
    if unreadable == args.files.len() {
        for problem in &problems {
            eprintln!("spantape: {problem}");
        }
        return Ok(ExitCode::from(PARTLY));
    }
    let mut logs = GenesysLogs::read(&args.genesys_log, config.rules.zone().clone())?;
    let spool = SpoolOptions { node: args.node.clone().or(node), ..SpoolOptions::default() };
    let options = ArchiveOptions { spool, repeatable: true, ..ArchiveOptions::default() };
    // Where frames come as they are captured none waits for the next one, as they would between two threads.
    let are_files = args.files.iter().all(|path| path.is_file());
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(processors.min(2), usize::from);
    // One of them writes.
    let engines = threads.saturating_sub(1).max(1);
    let at_once = match engines {
        _ if !are_files => 1,
        1 => FORESEEN,
        _ => TOGETHER,
    };
    let helpers = threads > 1;
    let apart = helpers && (are_files || args.threads.is_some());
    let haste = Haste::None { helpers };
    let mut pipeline = Pipeline::new(config, engines, &audio, haste, &args.archive, options)?;
    for path in args.keylog.iter().chain(&key_log) {
        pipeline.add_secrets(&KeyLogFile::all(path)?);
    }
    if !pipeline.recovered().is_empty() {
        eprintln!("spantape: {}", pipeline.recovered().text());
    }
    let progress = progress_bar(&args.files);
    let look = || progress.set_position(read.load(Ordering::Relaxed));
    if apart {
        let mut two = pipeline.apart(BATCHES)?;
        replay(&mut source, &mut logs, &mut two, at_once, look)?;
        pipeline = two.together()?;
    } else {
        let done = replay(&mut source, &mut logs, &mut pipeline, at_once, look);
        if done.is_err() {
            // What has been recorded shall be found, whatever has stopped this.
            let _ = pipeline.finish_recordings();
        }
        done?;
    }
    pipeline.finish()?;
    progress.finish_and_clear();

    problems.extend(source.problems());
    for problem in &problems {
        eprintln!("spantape: {}{problem}", if problem.is_warning() { "warning: " } else { "" });
    }
    if let Some(text) = logs.unheard() {
        eprintln!("spantape: warning: {text}");
    }
    let figures = pipeline.figures();
    for problem in &figures.tally.undecoded {
        eprintln!("spantape: warning: {problem}");
    }
    if args.json {
        println!(
            "{:#}",
            summary::json(&figures, &problems.iter().map(ToString::to_string).collect::<Vec<_>>())
        );
    } else {
        print!("{}", summary::text(&figures));
    }
    let failed = problems.iter().any(|problem| !problem.is_warning());
    Ok(if failed { ExitCode::from(PARTLY) } else { ExitCode::SUCCESS })
}

/// All frames, read so many at once, and what the logs say between them.
fn replay(
    source: &mut Merge,
    logs: &mut GenesysLogs,
    pipeline: &mut Pipeline<impl CarryOut>,
    at_once: usize,
    look: impl Fn(),
) -> Result<()> {
    let mut buffer = FrameBuffer::default().glancing(pipeline.glance().cloned());
    let mut frames = 0usize;
    loop {
        while buffer.len() < at_once
            && buffer.bytes() < ENOUGH_BYTES
            && let Some(frame) = source.next_frame()
        {
            buffer.push(frame);
        }
        if buffer.is_empty() {
            return pipeline.finish_calls();
        }
        let mut begin = 0;
        for (index, frame) in buffer.frames(0..buffer.len()).enumerate() {
            while let Some((at, requests)) = logs.next_until(frame.at) {
                pipeline.handle_frames(&buffer, std::mem::replace(&mut begin, index)..index)?;
                logs.count(pipeline.control_first(at, &requests)?);
            }
        }
        pipeline.handle_frames(&buffer, begin..buffer.len())?;
        let before = frames / FRAMES_A_LOOK;
        frames += buffer.len();
        if frames / FRAMES_A_LOOK > before {
            look();
        }
        buffer.clear();
    }
}

/// Bytes read of all, with rate and time left; nothing where there is no terminal.
fn progress_bar(files: &[PathBuf]) -> ProgressBar {
    let sizes = files.iter().map(|path| std::fs::metadata(path).ok().filter(|data| data.is_file()));
    let total: Option<u64> = sizes.map(|data| data.map(|data| data.len())).sum();
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::with_draw_target(Some(total), target),
            "{bar:30} {percent:>3} %  {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left",
        ),
        None => (ProgressBar::with_draw_target(None, target), "{spinner} {bytes}  {binary_bytes_per_sec}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
