//! The sender: frames at their times, in a process of its own so that its cost is known.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pcap::{Active, Capture};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use serde_json::json;

use super::super::load::Load;
use super::traffic::Traffic;

/// What the hidden command understands.
#[derive(clap::Args)]
pub(in super::super) struct Args {
    interface: String,
    #[command(flatten)]
    load: Load,
    /// The first and the last call begin this far apart
    #[arg(long)]
    spread_ms: u64,
    /// Frames a second that belong to no call
    #[arg(long)]
    rest: u64,
}

impl Args {
    /// How it is called with these.
    pub(super) fn words(interface: &str, load: Load, spread: Duration, rest: u64) -> Vec<String> {
        let options = [
            ("--calls", u64::from(load.calls)),
            ("--seconds", u64::from(load.seconds)),
            ("--spread-ms", spread.as_millis() as u64),
            ("--rest", rest),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]);
        ["bench", "send", interface].map(str::to_owned).into_iter().chain(options).collect()
    }
}

/// Not woken for each frame, and often enough that no ring is filled at one go.
const PACE: Duration = Duration::from_micros(250);
/// Frames that the kernel takes at once.
const AT_ONCE: usize = 64;
/// Between saying that all is ready and beginning, for whoever looks at the clocks.
const HOLD: Duration = Duration::from_millis(200);

/// Says `ready`, sends, and says what could be sent in which time.
pub(in super::super) fn run(args: &Args) -> Result<()> {
    let traffic = Traffic::new(args.load, Duration::from_millis(args.spread_ms), args.rest)?;
    let mut wire = Wire::open(&args.interface)?;
    println!("{}", json!({ "event": "ready" }));
    std::thread::sleep(HOLD);
    let start = Instant::now();
    let mut frames = traffic.frames().peekable();
    let mut batch = Vec::with_capacity(AT_ONCE);
    while let Some((at, _)) = frames.peek() {
        let early = at.saturating_sub(start.elapsed());
        if !early.is_zero() {
            std::thread::sleep(early.max(PACE));
        }
        let now = start.elapsed();
        while let Some((_, frame)) = frames.next_if(|(at, _)| *at <= now) {
            batch.push(frame);
            if batch.len() == AT_ONCE {
                break;
            }
        }
        wire.send(&batch)?;
        batch.clear();
    }
    let (seconds, planned) = (start.elapsed().as_secs_f64(), traffic.length().as_secs_f64());
    let Wire { sent, refused, .. } = wire;
    println!(
        "{}",
        json!({ "event": "sent", "sent": sent, "refused": refused, "seconds": seconds, "planned_s": planned })
    );
    Ok(())
}

/// An interface that is only sent to. libpcap opens and binds the socket, which takes `unsafe` otherwise.
struct Wire {
    socket: Capture<Active>,
    sent: u64,
    refused: u64,
}

impl Wire {
    fn open(interface: &str) -> Result<Self> {
        let open = || {
            let mut socket = Capture::from_device(interface)?.snaplen(64).buffer_size(1 << 16).open()?;
            // It is to receive nothing.
            socket.filter("less 1", true)?;
            Ok(socket)
        };
        let socket =
            open().map_err(|error: pcap::Error| error).with_context(|| format!("open {interface}"))?;
        Ok(Self { socket, sent: 0, refused: 0 })
    }

    fn send(&mut self, frames: &[&[u8]]) -> Result<()> {
        let slices: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let mut nothing: Vec<SendAncillaryBuffer<'_, '_, '_>> =
            frames.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let messages = slices.iter().zip(&mut nothing);
        let mut messages: Vec<MMsgHdr<'_>> =
            messages.map(|(slice, nothing)| MMsgHdr::new(slice, nothing)).collect();
        let mut rest = &mut messages[..];
        while !rest.is_empty() {
            let done = match sendmmsg(&self.socket, rest, SendFlags::empty()) {
                Ok(count) => {
                    self.sent += count as u64;
                    count
                }
                // The queue to the other end is full, and the frame is lost.
                Err(Errno::NOBUFS) => {
                    self.refused += 1;
                    1
                }
                Err(Errno::INTR | Errno::AGAIN) => 0,
                Err(error) => return Err(error).context("send"),
            };
            rest = &mut rest[done..];
        }
        Ok(())
    }
}
