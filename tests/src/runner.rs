//! Carries out what the engine says, as a store would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};

use spantape_core::engine::{Counters, Engine};
use spantape_core::event::{Event, kept};
use spantape_core::media::TapeId;
use spantape_core::record::{CallRow, EventRow, RecordingRow, Side, StreamRow};
use spantape_core::rules::Config;
use spantape_core::time::Timestamp;
use spantape_core::wire::LinkType;

use crate::frame::Frame;

/// A recording and its audio.
#[derive(Debug)]
pub struct Recording {
    /// What the catalog has of it.
    pub row: RecordingRow,
    /// Interleaved samples.
    pub samples: Vec<i16>,
}

impl Recording {
    /// The samples of one side.
    pub fn side(&self, side: Side) -> impl Iterator<Item = i16> + '_ {
        self.samples.iter().skip(side.channel()).step_by(2).copied()
    }
}

/// All that came out of an engine.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In order of their ends.
    pub recordings: Vec<Recording>,
    /// In order of their ends.
    pub calls: Vec<CallRow>,
    /// In order of their ends.
    pub streams: Vec<StreamRow>,
    /// In order of their telling.
    pub events: Vec<EventRow>,
    /// At the end.
    pub counters: Counters,
    /// Of all events in their order.
    pub hash: u64,
    open: BTreeMap<TapeId, Open>,
}

#[derive(Debug)]
struct Open {
    rate: u32,
    samples: Vec<i16>,
    done: bool,
}

impl Outcome {
    /// The recordings of a call.
    pub fn recordings_of<'a>(&'a self, call_id: &'a str) -> impl Iterator<Item = &'a Recording> + 'a {
        self.recordings.iter().filter(move |recording| recording.row.call_id == call_id)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Media { .. } => {}
            Event::TapeErase { tape, range } => {
                let samples = &mut self.tape(tape).samples;
                let end = (range.end as usize * 2).min(samples.len());
                samples[range.start as usize * 2..end].fill(0);
            }
            Event::TapeOpened { tape, channels, sample_rate } => {
                assert_eq!(channels, 2, "people talk in all of these calls");
                let open = Open { rate: sample_rate, samples: Vec::new(), done: false };
                assert!(self.open.insert(tape, open).is_none(), "{tape:?} opened twice");
            }
            Event::TapeSamples { tape, samples } => {
                assert_eq!(samples.len() % 2, 0, "half a frame");
                self.tape(tape).samples.extend(samples);
            }
            Event::TapeSilence { tape, frames } => {
                let samples = &mut self.tape(tape).samples;
                samples.resize(samples.len() + 2 * frames as usize, 0);
            }
            Event::TapeOverdub { tape, frame, side, samples } => {
                let written = &mut self.tape(tape).samples;
                let end = 2 * (frame as usize + samples.len());
                assert!(end <= written.len(), "an overdub past what was written");
                let heard = written[2 * frame as usize..end].chunks_exact_mut(2);
                for (heard, sample) in heard.zip(samples) {
                    heard[side.channel()] = heard[side.channel()].saturating_add(sample);
                }
            }
            Event::TapeRate { tape, sample_rate } => {
                let open = self.tape(tape);
                assert!(sample_rate > open.rate, "{tape:?} is brought to a lower rate");
                open.samples = raise(&open.samples, open.rate, sample_rate);
                open.rate = sample_rate;
            }
            Event::Recording { tape, range, left_out, last, row } => {
                let open = self.tape(tape);
                assert!(!open.done, "{tape:?} goes on after its last recording");
                open.done = last;
                assert!(range.start < range.end, "an empty recording");
                assert!(2 * range.end as usize <= open.samples.len(), "{range:?} runs past {tape:?}");
                let pieces =
                    kept(range, &left_out).map(|piece| 2 * piece.start as usize..2 * piece.end as usize);
                let samples: Vec<i16> = pieces.flat_map(|piece| open.samples[piece].to_vec()).collect();
                assert_eq!((row.frames, row.sample_rate), (samples.len() as u64 / 2, open.rate));
                self.recordings.push(Recording { row: *row, samples });
            }
            Event::TapeClosed { tape } => {
                assert!(self.open.remove(&tape).is_some(), "{tape:?} closed twice");
            }
            Event::Call(row) => self.calls.push(*row),
            Event::Stream(row) => self.streams.push(*row),
            Event::Happened(row) => self.events.push(*row),
        }
    }

    fn tape(&mut self, tape: TapeId) -> &mut Open {
        self.open.get_mut(&tape).expect("a tape is opened before it is used")
    }
}

/// Runs frames through an engine. Panics where the order of events makes no sense.
pub fn run(config: Config, frames: &[Frame]) -> Outcome {
    run_with(config, frames, |_, _| {})
}

/// The same; `before` may ask something of the engine before each frame.
pub fn run_with(config: Config, frames: &[Frame], mut before: impl FnMut(&mut Engine, Timestamp)) -> Outcome {
    let mut engine = Engine::new(config);
    let mut outcome = Outcome::default();
    let mut hash = Hash::default();
    for frame in frames {
        before(&mut engine, frame.at);
        engine.handle_frame(frame.at, LinkType::Ethernet, &frame.bytes);
        drain(&mut engine, &mut outcome, &mut hash);
    }
    engine.finish();
    drain(&mut engine, &mut outcome, &mut hash);
    assert!(outcome.open.is_empty(), "tapes left open");
    outcome.counters = engine.counters();
    outcome.hash = hash.0.finish();
    outcome
}

fn drain(engine: &mut Engine, outcome: &mut Outcome, hash: &mut Hash) {
    while let Some(event) = engine.poll_event() {
        hash.add(&event);
        outcome.take(event);
    }
}

#[derive(Default)]
struct Hash(DefaultHasher);

impl Hash {
    fn add(&mut self, event: &Event) {
        if let Event::TapeSamples { tape, samples } = event {
            self.0.write_u64(tape.0);
            samples.iter().for_each(|&sample| self.0.write_i16(sample));
        } else {
            let _ = write!(self, "{event:?}");
        }
    }
}

impl std::fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// Repeats frames; whose they are can still be told.
fn raise(samples: &[i16], from: u32, to: u32) -> Vec<i16> {
    let frames = (samples.len() / 2) as u64 * u64::from(to) / u64::from(from);
    let source = |frame: u64| (frame * u64::from(from) / u64::from(to)) as usize;
    (0..frames).flat_map(|frame| [samples[2 * source(frame)], samples[2 * source(frame) + 1]]).collect()
}
