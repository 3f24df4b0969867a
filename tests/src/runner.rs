//! Carries out what the engine says, as a store would.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::hash::{DefaultHasher, Hasher};

use spantape_core::engine::{self, Counters, Engine};
use spantape_core::event::{Event, Part, kept};
use spantape_core::media::TapeId;
use spantape_core::record::{CallRow, EventRow, QualityRow, RecordingRow, Side, StreamRow};
use spantape_core::rules::Config;
use spantape_core::share::Share;
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
        assert!(!self.row.mixed, "all are heard in one channel");
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
    /// In order of their ends.
    pub quality: Vec<QualityRow>,
    /// At the end.
    pub counters: Counters,
    /// Of all events in their order.
    pub hash: u64,
    open: BTreeMap<TapeId, Open>,
}

#[derive(Debug)]
struct Open {
    rate: u32,
    channels: usize,
    samples: Vec<i16>,
    /// What was to be kept when that was last told.
    kept: Vec<Part>,
    done: bool,
}

impl Outcome {
    /// The recordings of a call.
    pub fn recordings_of<'a>(&'a self, call_id: &'a str) -> impl Iterator<Item = &'a Recording> + 'a {
        self.recordings.iter().filter(move |recording| recording.row.call_id == call_id)
    }

    /// What engines have said of the calls that are theirs is, taken together, what this one has said of all.
    fn assert_is_all_of(&self, parts: Vec<Outcome>) {
        for Outcome { counters, .. } in &parts {
            let seen = |counters: &Counters| {
                format!("{:?}", Counters { memory: 0, memory_peak: 0, ..counters.clone() })
            };
            assert_eq!(seen(counters), seen(&self.counters));
        }
        assert_same(&self.streams, parts.iter().flat_map(|part| &part.streams));
        assert_same(&self.calls, parts.iter().flat_map(|part| &part.calls));
        assert_same(&self.events, parts.iter().flat_map(|part| &part.events));
        assert_same(&self.quality, parts.iter().flat_map(|part| &part.quality));
        assert_same(
            self.recordings.iter().map(|recording| &recording.row),
            parts.iter().flat_map(|part| &part.recordings).map(|recording| &recording.row),
        );
        for recording in parts.iter().flat_map(|part| &part.recordings) {
            let is_same =
                |own: &&Recording| own.row.id == recording.row.id && own.row.start == recording.row.start;
            let own = self.recordings.iter().find(is_same).expect("it is among them");
            assert!(own.samples == recording.samples, "{:?} sounds otherwise", own.row);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Media { .. } | Event::TapePacket { .. } | Event::Signalled { .. } => {}
            Event::TapeErase { tape, range } => {
                let Open { channels, samples, .. } = self.tape(tape);
                let end = (range.end as usize * *channels).min(samples.len());
                let start = (range.start as usize * *channels).min(end);
                samples[start..end].fill(0);
            }
            Event::TapeOpened { tape, channels, sample_rate, .. } => {
                let channels = channels.into();
                let open =
                    Open { rate: sample_rate, channels, samples: Vec::new(), kept: Vec::new(), done: false };
                assert!(self.open.insert(tape, open).is_none(), "{tape:?} opened twice");
            }
            Event::TapeSamples { tape, samples } => {
                let open = self.tape(tape);
                assert_eq!(samples.len() % open.channels, 0, "half a frame");
                let frames = samples.len() / open.channels;
                let frame = |frame| samples.iter().skip(frame).step_by(frames);
                open.samples.extend((0..frames).flat_map(frame));
            }
            Event::TapeSilence { tape, frames } => {
                let Open { channels, samples, .. } = self.tape(tape);
                samples.resize(samples.len() + *channels * frames as usize, 0);
            }
            Event::TapeOverdub { tape, frame, side, samples } => {
                let Open { channels, samples: written, .. } = self.tape(tape);
                let channels = *channels;
                assert!(side.channel() < channels, "an overdub of a side that is not heard");
                let end = channels * (frame as usize + samples.len());
                assert!(end <= written.len(), "an overdub past what was written");
                let heard = written[channels * frame as usize..end].chunks_exact_mut(channels);
                for (heard, sample) in heard.zip(samples) {
                    heard[side.channel()] = heard[side.channel()].saturating_add(sample);
                }
            }
            Event::TapeRate { tape, sample_rate } => {
                let open = self.tape(tape);
                assert!(sample_rate > open.rate, "{tape:?} is brought to a lower rate");
                open.samples = raise(&open.samples, open.channels, open.rate, sample_rate);
                open.rate = sample_rate;
            }
            Event::Recording { tape, range, left_out, last, row } => {
                let open = self.tape(tape);
                assert!(!open.done, "{tape:?} goes on after its last recording");
                open.done = last;
                assert!(range.start < range.end, "an empty recording");
                let told = open.kept.iter().find(|part| part.row.id == row.id);
                let told = told.expect("what is to be kept is told before it is");
                assert_eq!((&told.range, &told.left_out), (&range, &left_out));
                let place = |frame: u64| frame as usize * open.channels;
                assert!(place(range.end) <= open.samples.len(), "{range:?} runs past {tape:?}");
                let pieces = kept(range, &left_out).map(|piece| place(piece.start)..place(piece.end));
                let samples: Vec<i16> = pieces.flat_map(|piece| open.samples[piece].to_vec()).collect();
                assert_eq!((place(row.frames), row.sample_rate), (samples.len(), open.rate));
                assert_eq!(row.mixed, open.channels == 1);
                self.recordings.push(Recording { row: *row, samples });
            }
            Event::TapeKept { tape, parts } => {
                let open = self.tape(tape);
                let mut at = 0;
                for part in &parts {
                    assert!(at <= part.range.start && part.range.start <= part.range.end, "{parts:?}");
                    assert_eq!(part.row.sample_rate, open.rate);
                    at = part.range.end;
                }
                open.kept = parts;
            }
            Event::TapeClosed { tape } => {
                assert!(self.open.remove(&tape).is_some(), "{tape:?} closed twice");
            }
            Event::Call(row) => self.calls.push(*row),
            Event::Stream(row) => self.streams.push(*row),
            Event::Happened(row) => self.events.push(*row),
            Event::Quality(row) => self.quality.push(*row),
        }
    }

    fn tape(&mut self, tape: TapeId) -> &mut Open {
        self.open.get_mut(&tape).expect("a tape is opened before it is used")
    }
}

/// Engines among which calls are divided, to see whether it is the same.
const ENGINES: usize = 3;
/// Frames that an engine takes at a time.
const TOGETHER: usize = 200;

/// Runs frames through an engine. Panics where the order of events makes no sense, and where several engines that have the
/// calls between them say anything else.
pub fn run(config: Config, frames: &[Frame]) -> Outcome {
    let alone = run_with(config.clone(), frames, |_, _| {});
    let counters = &alone.counters;
    // What is given up for want of room is what takes most of it, and that is not the same.
    let given_up = [counters.calls_evicted, counters.flows_evicted, counters.streams_evicted]
        .into_iter()
        .chain([counters.fragments_evicted, counters.tcp_evicted, counters.associations_evicted])
        .chain([counters.rtp_no_room]);
    if given_up.sum::<u64>() == 0 {
        let shares = Share::among(ENGINES);
        let parts = shares.map(|share| run_together(Config { share, ..config.clone() }, frames));
        alone.assert_is_all_of(parts.collect());
    }
    alone
}

/// The same, but the engine takes some frames at a time, and has others' media pass.
pub fn run_together(config: Config, frames: &[Frame]) -> Outcome {
    let glance = config.share.glance().cloned();
    let mut engine = Engine::new(config);
    let (mut outcome, mut hash) = (Outcome::default(), Hash::default());
    for some in frames.chunks(TOGETHER) {
        engine.handle_frames(some.iter().map(|frame| engine::Frame {
            at: frame.at,
            link: LinkType::Ethernet,
            data: &frame.bytes,
            glimpse: glance.as_ref().and_then(|glance| glance.at(LinkType::Ethernet, &frame.bytes)),
        }));
        drain(&mut engine, &mut outcome, &mut hash);
    }
    finish(engine, outcome, hash)
}

/// The same, frame by frame; `before` may ask something of the engine before each frame.
pub fn run_with(config: Config, frames: &[Frame], mut before: impl FnMut(&mut Engine, Timestamp)) -> Outcome {
    let mut engine = Engine::new(config);
    let mut outcome = Outcome::default();
    let mut hash = Hash::default();
    for frame in frames {
        before(&mut engine, frame.at);
        engine.handle_frame(frame.at, LinkType::Ethernet, &frame.bytes);
        drain(&mut engine, &mut outcome, &mut hash);
    }
    finish(engine, outcome, hash)
}

fn finish(mut engine: Engine, mut outcome: Outcome, mut hash: Hash) -> Outcome {
    engine.finish();
    drain(&mut engine, &mut outcome, &mut hash);
    assert!(outcome.open.is_empty(), "tapes left open");
    outcome.counters = engine.counters();
    outcome.hash = hash.0.finish();
    outcome
}

/// The same rows, in whatever order.
fn assert_same<'a, T: Debug + 'a>(
    one: impl IntoIterator<Item = &'a T>,
    other: impl IntoIterator<Item = &'a T>,
) {
    let mut rows: BTreeMap<String, i32> = BTreeMap::new();
    one.into_iter().for_each(|row| *rows.entry(format!("{row:?}")).or_default() += 1);
    other.into_iter().for_each(|row| *rows.entry(format!("{row:?}")).or_default() -= 1);
    rows.retain(|_, count| *count != 0);
    assert!(rows.is_empty(), "by one engine 1, by several -1: {rows:#?}");
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
fn raise(samples: &[i16], channels: usize, from: u32, to: u32) -> Vec<i16> {
    let frames = (samples.len() / channels) as u64 * u64::from(to) / u64::from(from);
    let source = |frame: u64| (frame * u64::from(from) / u64::from(to)) as usize;
    let frame = |frame| &samples[channels * source(frame)..channels * (source(frame) + 1)];
    (0..frames).flat_map(frame).copied().collect()
}
