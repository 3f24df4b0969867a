//! `cargo xtask bench engines`: what one of several engines has to do that have the calls between them.
//!
//! Each takes all frames, and all but looks away where the media is of another's call. How much faster they are together is
//! how much faster the first is than one that has all calls: as many processors as engines are not needed to find out. What it
//! takes to have them work at the same time is not in it, nor is the glance at each frame for all of them, which is told apart.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use spantape_core::engine::{Engine, Frame};
use spantape_core::rules::Config;
use spantape_core::share::{Glimpse, Share};
use spantape_core::time::Timestamp;
use spantape_core::wire::LinkType;

use super::figures::rounded;
use super::load::{Load, SPREAD};
use super::machine::{Findings, Output};

/// What `cargo xtask bench engines` understands.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    load: Load,
    /// Rounds, of which the fastest counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    output: Output,
    /// How many times as fast as one four engines must be
    #[arg(long, default_value_t = 2.0)]
    min_speed_up: f64,
}

const COUNTS: [usize; 5] = [1, 2, 4, 8, 16];
/// Frames that an engine takes before it is asked what has happened.
const AT_ONCE: usize = 64;
/// The number of engines that is judged.
const JUDGED: usize = 4;

/// Measures, prints, keeps and judges, in this order: a failed check costs no figures.
pub(super) fn run(args: &Args) -> Result<()> {
    let frames = Frames::of(args.load)?;
    let (mut seconds, mut glance) = (COUNTS.map(|_| f64::MAX), f64::MAX);
    for _ in 0..args.rounds {
        for (best, count) in seconds.iter_mut().zip(COUNTS) {
            let share = Share::among(count).next().context("a share")?;
            let (glimpses, taken) = frames.glance(&share);
            if count > 1 {
                glance = glance.min(taken);
            }
            *best = best.min(frames.pass(share, &glimpses)?);
        }
    }
    let figures = Figures { load: args.load, seconds, glance };
    args.output.publish(&figures)?;
    let judged = COUNTS.iter().position(|&count| count == JUDGED).context("that many engines")?;
    let times = figures.times(judged);
    // In these words a figure that is no number does not pass.
    let fast = times >= args.min_speed_up;
    ensure!(
        fast,
        "{JUDGED} engines are {times:.2} times as fast as one, and {} is wanted",
        args.min_speed_up
    );
    Ok(())
}

/// All frames, in memory.
struct Frames {
    bytes: Vec<u8>,
    /// When each came, and where it ends.
    ends: Vec<(Timestamp, usize)>,
    calls: u64,
}

impl Frames {
    fn of(load: Load) -> Result<Frames> {
        let mut frames = Frames { bytes: Vec::new(), ends: Vec::new(), calls: load.calls.into() };
        for frame in load.frames(SPREAD) {
            let (at, data) = frame?;
            frames.bytes.extend_from_slice(&data);
            let at = Timestamp(i64::try_from(at.as_nanos()).context("a capture of this century")?);
            frames.ends.push((at, frames.bytes.len()));
        }
        Ok(frames)
    }

    /// The frames, each with where it begins.
    fn all(&self) -> impl Iterator<Item = (Timestamp, &[u8])> + Clone {
        self.ends.iter().scan(0, |begin, &(at, end)| {
            Some((at, self.bytes.get(std::mem::replace(begin, end)..end).unwrap_or_default()))
        })
    }

    /// What is seen of each frame before an engine has it, and how many seconds that takes.
    fn glance(&self, share: &Share) -> (Vec<Option<Glimpse>>, f64) {
        let Some(glance) = share.glance() else { return (vec![None; self.ends.len()], 0.0) };
        let mut glimpses = Vec::with_capacity(self.ends.len());
        let started = Instant::now();
        glimpses.extend(self.all().map(|(_, data)| glance.at(LinkType::Ethernet, data)));
        (glimpses, started.elapsed().as_secs_f64())
    }

    /// Seconds that the engine takes.
    fn pass(&self, share: Share, glimpses: &[Option<Glimpse>]) -> Result<f64> {
        let mut engine = Engine::new(Config { share, ..Config::default() });
        let mut tapes = 0;
        let all = self.all().zip(glimpses).map(|((at, data), &glimpse)| Frame {
            at,
            link: LinkType::Ethernet,
            data,
            glimpse,
        });
        let started = Instant::now();
        let mut rest = all;
        for _ in self.ends.chunks(AT_ONCE) {
            engine.handle_frames(rest.clone().take(AT_ONCE));
            rest.nth(AT_ONCE - 1);
            tapes += drain(&mut engine);
        }
        while engine.finish_some() {
            tapes += drain(&mut engine);
        }
        tapes += drain(&mut engine);
        let taken: Duration = started.elapsed();
        let counters = engine.counters();
        ensure!(counters.calls == self.calls, "{} of {} calls were seen", counters.calls, self.calls);
        ensure!(tapes > 0 && tapes <= self.calls, "{tapes} recordings of {} calls", self.calls);
        Ok(taken.as_secs_f64())
    }
}

/// Takes what has happened. Returns how many recordings were completed.
fn drain(engine: &mut Engine) -> u64 {
    let events = std::iter::from_fn(|| engine.poll_event());
    events.filter(|event| matches!(event, spantape_core::event::Event::Recording { .. })).count() as u64
}

struct Figures {
    load: Load,
    /// Of the first of so many engines as [`COUNTS`] says.
    seconds: [f64; COUNTS.len()],
    /// Seconds of a glance at all frames.
    glance: f64,
}

impl Figures {
    /// How many times as fast as one.
    fn times(&self, index: usize) -> f64 {
        self.seconds[0] / self.seconds.get(index).copied().unwrap_or(f64::NAN)
    }

    fn glance_ns(&self) -> f64 {
        self.glance / self.load.rtp_packets() as f64 * 1e9
    }

    fn rows(&self) -> impl Iterator<Item = (usize, f64, f64, f64)> + '_ {
        let packets = self.load.rtp_packets() as f64;
        let row = move |(index, seconds): (usize, &f64)| {
            (COUNTS[index], *seconds, seconds / packets * 1e9, self.times(index))
        };
        self.seconds.iter().enumerate().map(row)
    }
}

impl Findings for Figures {
    fn stem(&self) -> String {
        format!("engines-{}x{}", self.load.calls, self.load.seconds)
    }

    fn json(&self) -> Value {
        let rows = self.rows().map(|(engines, seconds, ns, times)| {
            json!({
                "engines": engines,
                "seconds": rounded(seconds),
                "ns_per_packet": rounded(ns),
                "times_one": rounded(times),
            })
        });
        json!({
            "calls": self.load.calls,
            "seconds": self.load.seconds,
            "rtp_packets": self.load.rtp_packets(),
            "glance_ns_per_packet": rounded(self.glance_ns()),
            "first_of": rows.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { calls, seconds } = self.load;
        writeln!(f, "{calls} calls x {seconds} s G.711, {} RTP packets", self.load.rtp_packets())?;
        writeln!(f, "{:<8} {:>9} {:>12} {:>10}", "engines", "s", "ns a packet", "times one")?;
        self.rows().try_for_each(|(engines, seconds, ns, times)| {
            writeln!(f, "{engines:<8} {seconds:>9.2} {ns:>12.0} {times:>10.2}")
        })?;
        writeln!(f, "{:<8} {:>9.2} {:>12.0}", "glance", self.glance, self.glance_ns())
    }
}
