//! `spantape replay`: capture files to recordings.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use crossbeam_channel::bounded;
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
/// Frames that are read ahead at once, for one engine and for several, which take them at the same time.
const AT_ONCE: usize = 1024;
const AT_ONCE_FOR_SEVERAL: usize = 4096;
/// Bytes of 20 ms of G.711 on the wire, and some more.
const USUAL_FRAME: usize = 240;
/// As many times they are read ahead.
const BUFFERS: usize = 3;
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
    /// How many processors are there for it. With one, one thread does all; with two, calls are followed while others read ahead, write and finish recordings; with more, all but one of them have the calls between them [default: two if there are as many, and one for a pipe]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
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
    // Where frames come as they are captured none waits for the next one, as they would between threads.
    let are_files = args.files.iter().all(|path| path.is_file());
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(processors.min(2), usize::from);
    // One of them writes.
    let engines = threads.saturating_sub(1).max(1);
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
        let mut apart = pipeline.apart(BATCHES)?;
        if are_files {
            let at_once = if engines > 1 { AT_ONCE_FOR_SEVERAL } else { AT_ONCE };
            replay_ahead(&mut source, at_once, &mut logs, &mut apart, look)?;
        } else {
            replay(as_wanted(&mut source, 1), &mut logs, &mut apart, look)?;
        }
        pipeline = apart.together()?;
    } else {
        let at_once = if are_files { FORESEEN } else { 1 };
        let done = replay(as_wanted(&mut source, at_once), &mut logs, &mut pipeline, look);
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

/// All frames, as the next ones are given for the used ones, and what the logs say between them.
fn replay(
    mut next: impl FnMut(FrameBuffer) -> Option<FrameBuffer>,
    logs: &mut GenesysLogs,
    pipeline: &mut Pipeline<impl CarryOut>,
    look: impl Fn(),
) -> Result<()> {
    let (mut buffer, mut frames) = (FrameBuffer::default().glancing(pipeline.glance().cloned()), 0usize);
    while let Some(full) = next(buffer) {
        let mut begin = 0;
        let looked_through = if logs.is_empty() { 0 } else { full.len() };
        for (index, frame) in full.frames(0..looked_through).enumerate() {
            while let Some((at, requests)) = logs.next_until(frame.at) {
                pipeline.handle_frames(&full, std::mem::replace(&mut begin, index)..index)?;
                logs.count(pipeline.control_first(at, &requests)?);
            }
        }
        pipeline.handle_frames(&full, begin..full.len())?;
        let before = frames / FRAMES_A_LOOK;
        frames += full.len();
        if frames / FRAMES_A_LOOK > before {
            look();
        }
        buffer = full;
    }
    pipeline.finish_calls()
}

/// The same, but the next frames are read on another thread meanwhile, so many at once.
fn replay_ahead(
    source: &mut Merge,
    at_once: usize,
    logs: &mut GenesysLogs,
    pipeline: &mut Pipeline<impl CarryOut>,
    look: impl Fn(),
) -> Result<()> {
    thread::scope(|scope| {
        let (give_back, empty) = bounded::<FrameBuffer>(BUFFERS);
        let (hand_on, full) = bounded(BUFFERS);
        for _ in 1..BUFFERS {
            // There is room for them, and for the one that is given for the first.
            let buffer = FrameBuffer::with_capacity(at_once * USUAL_FRAME, at_once);
            let _ = give_back.send(buffer.glancing(pipeline.glance().cloned()));
        }
        scope.spawn(move || {
            for mut buffer in empty {
                // Whoever takes no more has failed, and says why.
                if !fill(&mut buffer, source, at_once) || hand_on.send(buffer).is_err() {
                    break;
                }
            }
        });
        let next = |used| {
            // One that has come to the end wants none back.
            let _ = give_back.send(used);
            full.recv().ok()
        };
        replay(next, logs, pipeline, look)
    })
}

/// Reads on this thread, when frames are wanted.
fn as_wanted(source: &mut Merge, at_once: usize) -> impl FnMut(FrameBuffer) -> Option<FrameBuffer> {
    move |mut buffer| fill(&mut buffer, source, at_once).then_some(buffer)
}

/// Reads so many frames. Returns whether there were any.
fn fill(buffer: &mut FrameBuffer, source: &mut Merge, at_once: usize) -> bool {
    buffer.clear();
    while buffer.len() < at_once
        && buffer.bytes() < ENOUGH_BYTES
        && let Some(frame) = source.next_frame()
    {
        buffer.push(frame);
    }
    !buffer.is_empty()
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
