//! No verdict is lost: frames of every class are sent, and each counter moves as the sieve says.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use spantape_sieve::{Class, Wish};

use super::call::{Talk, Wire};
use super::frames;
use super::model::{Counts, Model};
use crate::lab::Bench;
use crate::lab::recorder::{Order, Recorder, Source, ensure_nothing_lost};
use crate::lab::switch::{Lab, MIRROR_PORTS};
use crate::programs::release_build;

/// Changes what garbage is sent.
const SEED: u64 = 0x5eed_0001_5eed_0001;
const GARBAGE: usize = 4000;
/// For what the recorder has understood to come to its sieve.
const SETTLE: Duration = Duration::from_secs(2);
/// In one go, and then a pause: rings are emptied at leisure on a busy machine.
const BURST: usize = 16;
/// Packets of a stream after which the recorder takes it for one.
const SURE: u32 = 3;
const PAUSE: Duration = Duration::from_millis(4);

const RULES: &str = "[[rule]]\nname = \"not these\"\nmatch = { from = \"2*\" }\naction = \"ignore\"\n";

pub(super) fn run() -> Result<()> {
    let binary = release_build("spantape")?;
    let bench = Bench::new()?;
    let config = bench.scratch.path().join("rules.toml");
    std::fs::write(&config, RULES).context("write the rules")?;
    for source in Source::ALL {
        every_class(&bench, &binary, &config, source).context(source.name())?;
    }
    Ok(())
}

fn every_class(bench: &Bench, binary: &Path, config: &Path, source: Source) -> Result<()> {
    let lab = Lab::without_phones()?;
    let [(near, interface), _] = MIRROR_PORTS;
    let name = format!("sieve-{}", source.name());
    let order = Order { binary, name: &name, source, interface, config: Some(config), options: &[] };
    let mut recorder = Recorder::start(bench, &lab, &order)?;
    let mut sender = Sender { wire: Wire::open(&lab, near)?, model: Model::default(), sent: 0 };
    let begun = Instant::now();

    announce(&mut sender)?;
    let frames = frames::all()?;
    let more = [frames::cut(&frames, 100), frames::garbage(&frames, SEED, GARBAGE)].concat();
    // Before sockets see a frame the kernel takes its tag off, and drops the frame if that fails.
    let shown = |frame: &Vec<u8>| source == Source::Xdp || !frames::ends_within_tag(frame);
    sender.send(&frames)?;
    sender.send(&more.into_iter().filter(shown).collect::<Vec<_>>())?;
    std::thread::sleep(SETTLE);

    let seconds = begun.elapsed().as_secs_f64();
    let summary = recorder.stop()?;
    let (counted, expected) = (Counts::of(&summary)?, sender.model.counts());
    for class in Class::ALL {
        let (counted, expected) = (counted.get(class), expected.get(class));
        // What the filter of a packet socket takes away is not counted.
        let filtered = source == Source::Packet && !class.is_needed() && counted <= expected;
        ensure!(
            counted == expected || filtered,
            "{counted} frames of class {}, not {expected}",
            class.as_str()
        );
        // What triggers look like over HTTP is configured, and is not here.
        ensure!(counted > 0 || class == Class::Http, "no frame of class {} was sent", class.as_str());
    }
    if source == Source::Xdp {
        ensure!(counted.total() == sender.sent, "{} verdicts on {} frames", counted.total(), sender.sent);
    }
    let frames = summary["frames"].as_u64().context("the summary has no `frames`")?;
    ensure!(frames == counted.needed(), "{frames} frames came up, but {} are needed", counted.needed());
    ensure_nothing_lost(&summary)?;
    println!("  {:<7} {} frames in {seconds:.1} s, {frames} needed: {counted}", source.name(), sender.sent);
    Ok(())
}

/// A call that is recorded and one that is not: their media is known from here on.
fn announce(sender: &mut Sender) -> Result<()> {
    let (wanted, unwanted) = (Talk::new(1, "1009", "1010"), Talk::new(2, "2009", "1010"));
    for talk in [&wanted, &unwanted] {
        sender.send(&talk.begin()?)?;
    }
    // The rule is chosen with the packet that makes it sure that media has come: what follows is not needed.
    for index in 0..SURE {
        for talk in [&wanted, &unwanted] {
            sender.send(&talk.voice(index)?)?;
        }
    }
    std::thread::sleep(SETTLE);
    for (talk, wish) in [(&wanted, Wish::Wanted), (&unwanted, Wish::Unwanted)] {
        talk.media().into_iter().for_each(|endpoint| sender.model.announce(endpoint, wish));
        for index in SURE..25 {
            sender.send(&talk.voice(index)?)?;
        }
        // What is no RTP, and what is at one announced endpoint only.
        let [caller, callee] = talk.media().map(|endpoint| endpoint.port());
        sender.send(&[
            talk.datagram(0, [caller, callee], &frames::stun())?,
            talk.datagram(1, [caller, callee], &[0x80, 201, 0, 1, 1, 2, 3, 4])?,
            talk.datagram(0, [1111, callee], &frames::stun())?,
            talk.datagram(0, [caller, 2222], &frames::stun())?,
            talk.datagram(0, [1111, 2222], &frames::stun())?,
        ])?;
    }
    Ok(())
}

/// Sends frames, and knows what the sieve says of them.
struct Sender {
    wire: Wire,
    model: Model,
    sent: u64,
}

impl Sender {
    fn send(&mut self, frames: &[Vec<u8>]) -> Result<()> {
        for burst in frames.chunks(BURST) {
            self.wire.send_all(burst)?;
            for frame in burst {
                self.model.take(frame);
                self.sent += 1;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}
