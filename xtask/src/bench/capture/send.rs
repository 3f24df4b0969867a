//! The sender: frames at their times, in a process of its own so that its cost is known.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

use super::super::load::Load;
use super::socket::Socket;
use super::traffic::Traffic;
use crate::lab::driver::Driver;

/// What frames are when they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum Frames {
    /// Pages, as a network card's driver has them
    Driver,
    /// Socket buffers, which XDP has to copy
    Socket,
}

impl Frames {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Socket => "socket",
        }
    }

    /// Not woken for each frame, and often enough that no ring is filled at one go. A driver uses its pages over and
    /// over, but here each time that some frames are sent the kernel takes new pages and gives them back.
    fn pace(self) -> Duration {
        match self {
            Self::Driver => Duration::from_millis(2),
            Self::Socket => Duration::from_micros(250),
        }
    }

    /// Frames that the kernel is told of at once.
    fn at_once(self) -> usize {
        match self {
            Self::Driver => 1024,
            Self::Socket => 64,
        }
    }
}

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
    #[arg(long, value_enum)]
    frames: Frames,
}

impl Args {
    /// How it is called with these.
    pub(super) fn words(
        interface: &str,
        load: Load,
        spread: Duration,
        rest: u64,
        frames: Frames,
    ) -> Vec<String> {
        let options = [
            ("--calls", u64::from(load.calls)),
            ("--seconds", u64::from(load.seconds)),
            ("--spread-ms", spread.as_millis() as u64),
            ("--rest", rest),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]);
        ["bench", "send", interface, "--frames", frames.name()]
            .map(str::to_owned)
            .into_iter()
            .chain(options)
            .collect()
    }
}

/// Between saying that all is ready and beginning, for whoever looks at the clocks.
const HOLD: Duration = Duration::from_millis(200);

/// Says `ready`, sends, and says what could be sent in which time.
pub(in super::super) fn run(args: &Args) -> Result<()> {
    let traffic = Traffic::new(args.load, Duration::from_millis(args.spread_ms), args.rest)?;
    let mut wire = Wire::open(args, &traffic)?;
    println!("{}", json!({ "event": "ready" }));
    std::thread::sleep(HOLD);
    let start = Instant::now();
    let mut frames = traffic.frames().peekable();
    let mut is_late = false;
    let mut batch = Vec::with_capacity(args.frames.at_once());
    while let Some((at, _)) = frames.peek() {
        let early = at.saturating_sub(start.elapsed());
        // A few that are due already are no reason to hurry: each time that some are sent costs.
        if !is_late {
            std::thread::sleep(early.max(args.frames.pace()));
        }
        let now = start.elapsed();
        while let Some((_, frame)) = frames.next_if(|(at, _)| *at <= now) {
            batch.push(frame);
            if batch.len() == args.frames.at_once() {
                break;
            }
        }
        is_late = batch.len() == args.frames.at_once();
        if !batch.is_empty() {
            wire.send(&batch)?;
        }
        batch.clear();
    }
    let (seconds, planned) = (start.elapsed().as_secs_f64(), traffic.length().as_secs_f64());
    let (sent, refused) = wire.counts()?;
    println!(
        "{}",
        json!({ "event": "sent", "sent": sent, "refused": refused, "seconds": seconds, "planned_s": planned })
    );
    Ok(())
}

/// How they get to the other end.
enum Wire {
    Driver(Driver),
    Socket(Socket),
}

impl Wire {
    fn open(args: &Args, traffic: &Traffic) -> Result<Self> {
        Ok(match args.frames {
            Frames::Driver => {
                Self::Driver(Driver::open(&args.interface, traffic.frames().map(|(_, frame)| frame))?)
            }
            Frames::Socket => Self::Socket(Socket::open(&args.interface)?),
        })
    }

    fn send(&mut self, frames: &[&[u8]]) -> Result<()> {
        match self {
            Self::Driver(driver) => driver.send(frames.len()),
            Self::Socket(socket) => socket.send(frames),
        }
    }

    /// Frames that were sent, and that were refused as far as the way of sending tells.
    fn counts(&mut self) -> Result<(u64, u64)> {
        Ok(match self {
            Self::Driver(driver) => (driver.sent()?, 0),
            Self::Socket(socket) => (socket.sent, socket.refused),
        })
    }
}
