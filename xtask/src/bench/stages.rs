//! `cargo xtask bench stages`: what each stage of a packet's way costs, in nanoseconds, and as a multiple of decoding it
//! by table in the same run.
//!
//! The XDP program runs in the kernel on live frames (`BPF_PROG_TEST_RUN`), in turn with one that drops all it sees: the
//! difference is what the sieve costs, by the class of the frame. Its stamp and its look for a socket are in it.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use spantape_core::codec::{Codec, Decoder};
use spantape_core::rtp;
use spantape_core::sip::Message;
use spantape_core::time::Timestamp;
use spantape_core::wire::{self, LinkType};
use spantape_sieve::testing::{self, Tables};
use spantape_sieve::{Class, sieve};
use spantape_store::wav::Encoding;

use super::call;
use super::figures::rounded;
use super::machine::{Findings, Output};
use crate::lab::driver::{Alone, Verdict};
use crate::lab::sieve::{KernelSieve, Options};

/// What `cargo xtask bench stages` understands.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Rounds, of which the fastest turn of each stage counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    output: Output,
    /// Fail when the first pass over an INVITE takes longer, in nanoseconds
    #[arg(long, default_value_t = 1000.0)]
    max_invite_ns: f64,
}

/// Each stage has a turn so long, in each round.
const TURN: Duration = Duration::from_millis(50);
/// Runs between two looks at the clock.
const AT_ONCE: u32 = 256;
/// Frames of a turn in the kernel, and how many of them at once.
const LIVE_FRAMES: u32 = 200_000;
const LIVE_BATCH: u32 = 64;
/// 20 ms at 8 kHz.
const SAMPLES: usize = 160;
/// What all others are compared with.
const BASE: &str = "decode by table, 20 ms";
const INVITE: &str = "SIP, first pass over an INVITE";

/// Measures, prints, keeps and judges, in this order: a failed check costs no figures.
pub(super) fn run(args: &Args) -> Result<()> {
    let figures = Figures { here: here(args.rounds)?, kernel: kernel(args.rounds)? };
    args.output.publish(&figures)?;
    let invite = figures.here.iter().find(|stage| stage.name == INVITE).context("an INVITE")?.ns;
    // In these words a figure that is no number does not pass.
    let fast = invite <= args.max_invite_ns;
    ensure!(fast, "an INVITE takes {invite:.0} ns, and {} are allowed", args.max_invite_ns);
    Ok(())
}

struct Stage {
    name: &'static str,
    /// The fastest turn.
    ns: f64,
}

struct Figures {
    /// The first one is the base.
    here: Vec<Stage>,
    /// By class; `None` where the kernel may not be asked.
    kernel: Option<Vec<Stage>>,
}

/// A stage, and what it does with one packet.
type Work<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// All stages outside the kernel.
fn here(rounds: u32) -> Result<Vec<Stage>> {
    let payload: Vec<u8> = (0..SAMPLES as u64).map(|at| super::scatter(at) as u8).collect();
    let header = [0x80, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4];
    let datagram = [&header[..], &payload].concat();
    let frame = testing::udp(testing::alice(30_000), testing::wanted(), &datagram);
    let invite = call::Call(7).text(call::Message::Invite);
    let mut decoder = Decoder::new(&Codec::from_static(0)).context("PCMU is not decoded")?;
    let mut samples = Vec::with_capacity(SAMPLES);
    decoder.decode(&payload, &mut samples);
    let both = [&samples[..], &samples[..]].concat();
    let (mut decoded, mut bytes, mut tables) = (Vec::new(), Vec::new(), Tables::sample());
    let (mut pcm, mut law) = (Vec::new(), Vec::new());
    Encoding::Pcm16.encode_channels(&both, 2, &mut pcm);
    let mut stages: Vec<Work<'_>> = vec![
        (
            BASE,
            Box::new(|| {
                decoded.clear();
                decoder.decode(black_box(&payload), &mut decoded);
                black_box(&decoded);
            }),
        ),
        (
            "the sieve outside the kernel",
            Box::new(|| _ = black_box(sieve(black_box(&frame[..]), &mut tables))),
        ),
        (
            "Ethernet, IP and UDP taken apart",
            Box::new(|| _ = black_box(wire::parse(LinkType::Ethernet, black_box(&frame)))),
        ),
        ("RTP header", Box::new(|| _ = black_box(rtp::read(black_box(&datagram), Timestamp(0), true)))),
        (INVITE, Box::new(|| _ = black_box(Message::parse(black_box(invite.as_bytes()))))),
        (
            "both channels to 16 bits, 20 ms",
            Box::new(|| {
                Encoding::Pcm16.encode_channels(black_box(&both), 2, &mut bytes);
                black_box(&bytes);
            }),
        ),
        (
            "both channels to µ-law, 20 ms",
            Box::new(|| {
                Encoding::MuLaw.encode_channels(black_box(&both), 2, &mut law);
                black_box(&law);
            }),
        ),
        ("SHA-256 of both at 16 bits, 20 ms", Box::new(|| _ = black_box(Sha256::digest(black_box(&pcm))))),
    ];
    let mut best = vec![f64::MAX; stages.len()];
    for _ in 0..rounds {
        for ((_, stage), best) in stages.iter_mut().zip(&mut best) {
            *best = best.min(turn(stage));
        }
    }
    Ok(stages.iter().zip(best).map(|((name, _), ns)| Stage { name, ns }).collect())
}

/// Nanoseconds of one of many.
fn turn(stage: &mut dyn FnMut()) -> f64 {
    let (begin, mut runs) = (Instant::now(), 0);
    while begin.elapsed() < TURN {
        (0..AT_ONCE).for_each(|_| stage());
        runs += AT_ONCE;
    }
    begin.elapsed().as_nanos() as f64 / f64::from(runs)
}

/// What the program costs in the kernel, on frames of each class.
fn kernel(rounds: u32) -> Result<Option<Vec<Stage>>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let kernel = KernelSieve::load(&Tables::sample(), &Options { has_socket: false, ..Options::default() })?;
    let drop = Alone::load(Verdict::Discard)?;
    let (program, nothing) = (kernel.program()?, drop.program()?);
    let mut stages = Vec::new();
    for class in Class::ALL {
        let frames: Vec<_> = testing::cases()
            .into_iter()
            .filter(|case| case.class == class && case.frame.len() >= SHORTEST)
            .map(|case| case.frame)
            .collect();
        ensure!(!frames.is_empty(), "no frame of the class {}", class.as_str());
        let mut all = 0.0;
        for frame in &frames {
            let (mut with, mut without) = (f64::MAX, f64::MAX);
            for _ in 0..rounds {
                without = without.min(live(nothing, frame)?);
                with = with.min(live(program, frame)?);
            }
            all += with - without;
        }
        stages.push(Stage { name: class.as_str(), ns: all / frames.len() as f64 });
    }
    Ok(Some(stages))
}

/// The kernel takes no shorter frame.
const SHORTEST: usize = 14;

/// Nanoseconds a frame, with what the kernel does around the program.
fn live(program: &Xdp, frame: &[u8]) -> Result<f64> {
    let options = TestRunOptions {
        data_in: Some(frame),
        repeat: LIVE_FRAMES,
        attrs: TestRunAttrs::new().xdp_live_frames(LIVE_BATCH),
        ..TestRunOptions::new()
    };
    Ok(program.test_run(options).context("run the program")?.duration.as_nanos() as f64)
}

impl Findings for Figures {
    fn stem(&self) -> String {
        "stages".to_owned()
    }

    fn json(&self) -> Value {
        let all = |stages: &[Stage]| -> serde_json::Map<String, Value> {
            stages.iter().map(|stage| (stage.name.to_owned(), rounded(stage.ns).into())).collect()
        };
        json!({ "here_ns": all(&self.here), "kernel_ns": self.kernel.as_deref().map(all) })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.here.first().map_or(f64::NAN, |base| base.ns);
        let line = |f: &mut fmt::Formatter<'_>, stage: &Stage| {
            writeln!(f, "{:<36} {:>8.1} {:>10.2}", stage.name, stage.ns, stage.ns / base)
        };
        writeln!(f, "{:<36} {:>8} {:>10}", "", "ns", "times base")?;
        self.here.iter().try_for_each(|stage| line(f, stage))?;
        let Some(kernel) = &self.kernel else {
            return writeln!(f, "the sieve in the kernel is left out: it needs root");
        };
        writeln!(f, "the sieve in the kernel, by class")?;
        kernel.iter().try_for_each(|stage| line(f, stage))
    }
}
