//! `spantape replay`: capture files to recordings.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use spantape_core::engine::Counters;
use spantape_core::wire::Malformed;

use super::PARTLY;
use crate::config;
use crate::pipeline::{Pipeline, Tally};
use crate::source::merge::Merge;

/// Frames between two looks at the progress.
const FRAMES_A_LOOK: u64 = 4096;

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

Exit code: 0 all files read, 1 some could not be read (the others were), 2 nothing could be done.")]
pub(crate) struct Args {
    /// Capture files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Directory of recordings and catalog; created if it is not there
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// What is recorded; without it, every call is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Record RTP that belongs to no known call as well
    #[arg(long)]
    orphans: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut config = config::load(args.config.as_deref())?;
    config.orphans |= args.orphans;

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
    let mut pipeline = Pipeline::new(config, &args.archive)?;
    let progress = progress_bar(&args.files);
    let mut frames = 0u64;
    while let Some(frame) = source.next_frame() {
        pipeline.handle_frame(&frame)?;
        frames += 1;
        if frames.is_multiple_of(FRAMES_A_LOOK) {
            progress.set_position(read.load(Ordering::Relaxed));
        }
    }
    pipeline.finish()?;
    progress.finish_and_clear();

    problems.extend(source.problems());
    for problem in &problems {
        eprintln!("spantape: {}{problem}", if problem.is_warning() { "warning: " } else { "" });
    }
    let (counters, tally) = pipeline.figures();
    if args.json {
        println!(
            "{:#}",
            as_json(&counters, tally, &problems.iter().map(ToString::to_string).collect::<Vec<_>>())
        );
    } else {
        print!("{}", as_text(&counters, tally));
    }
    let failed = problems.iter().any(|problem| !problem.is_warning());
    Ok(if failed { ExitCode::from(PARTLY) } else { ExitCode::SUCCESS })
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

/// What was dropped and why: only what happened.
fn dropped(counters: &Counters, tally: &Tally) -> Vec<(String, u64)> {
    let malformed = Malformed::ALL.iter().zip(counters.malformed);
    let mut dropped: Vec<(String, u64)> =
        malformed.map(|(kind, count)| (format!("frames with a damaged {}", kind.as_str()), count)).collect();
    let plain = [
        ("IP packets with fragments missing", counters.fragments_abandoned),
        ("gaps in TCP streams", counters.tcp_gaps),
        ("TCP connections for want of room", counters.tcp_evicted),
        ("SIP messages without Call-ID", counters.sip_without_call_id),
        ("RTP packets of no known call", counters.rtp_unclaimed),
        ("RTP packets after the end of their call", counters.rtp_after_end),
        ("RTP packets for want of room", counters.rtp_no_room),
        ("calls for want of room", counters.calls_evicted),
    ];
    dropped.extend(plain.map(|(what, count)| (what.to_owned(), count)));
    dropped.extend(
        tally
            .undecodable
            .iter()
            .map(|(codec, calls)| (format!("calls with audio in {codec}, which has no decoder"), *calls)),
    );
    dropped.retain(|(_, count)| *count > 0);
    dropped
}

fn as_text(counters: &Counters, tally: &Tally) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what:<12} {value}");
    };
    line("frames", counters.frames.to_string());
    line("calls", format!("{} ({} answered)", counters.calls, tally.answered));
    line("recordings", tally.recordings.to_string());
    line("audio", format!("{:.1} s", tally.seconds));
    line(
        "rtp",
        format!(
            "{} packets in {} streams; {} lost, {} late, {} duplicate",
            counters.rtp_packets, tally.streams, tally.lost, tally.late, tally.duplicate
        ),
    );
    for (what, count) in dropped(counters, tally) {
        line("dropped", format!("{count} {what}"));
    }
    text
}

fn as_json(counters: &Counters, tally: &Tally, problems: &[String]) -> serde_json::Value {
    let dropped: serde_json::Map<String, serde_json::Value> =
        dropped(counters, tally).into_iter().map(|(what, count)| (what, count.into())).collect();
    json!({
        "frames": counters.frames,
        "bytes": tally.bytes,
        "calls": counters.calls,
        "calls_answered": tally.answered,
        "recordings": tally.recordings,
        "audio_seconds": (tally.seconds * 1000.0).round() / 1000.0,
        "sip_messages": counters.sip_messages,
        "rtp_packets": counters.rtp_packets,
        "rtcp_packets": counters.rtcp_packets,
        "streams": tally.streams,
        "lost": tally.lost,
        "late": tally.late,
        "duplicate": tally.duplicate,
        "dropped": dropped,
        "problems": problems,
    })
}
