//! A tape: both sides of a call on one timeline, written in blocks as time goes by.
//!
//! Packets are mixed in where they belong; a block leaves once hardly anything can come for it any more. So a tape holds about
//! a third of a second of audio, however long the call.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::codec::Upsampler;
use crate::fetch::{SAMPLES_A_LINE, fetch};
use crate::record::{Completeness, Side};
use crate::time::{MILLISECOND, SECOND, Timestamp};

/// A block leaves when capture time is this far past its end: longer than most packets are delayed. What comes later, as a stream may
/// wait longer for those that are out of order, is added to what has left. Each 30 ms of it are a kilobyte a call.
const LATENCY: i64 = 140 * MILLISECOND;
/// Blocks a second.
const BLOCKS_PER_SECOND: u32 = 4;
/// A packet of which it is not known how long it is heard may be heard so long.
pub const LONGEST_PACKET: i64 = 200 * MILLISECOND;
/// Times in which nothing is kept, of one tape.
const MOST_MUTED: usize = 256;
/// Caller and callee.
pub(crate) const CHANNELS: usize = 2;

/// Names a tape within one run of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TapeId(pub u64);

impl fmt::Display for TapeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What leaves a tape.
#[derive(Debug, PartialEq, Eq)]
pub enum Reel {
    /// Samples of one side to be added to what was handed over before: they were held up on their way.
    Overdub {
        /// Where they belong.
        frame: u64,
        /// Whose they are.
        side: Side,
        /// One sample a frame.
        samples: Vec<i16>,
    },
    /// Samples that follow those before: all of the caller's, then as many of the callee's.
    Samples(Vec<i16>),
    /// So many frames in which nobody was heard.
    Silence(u64),
    /// What was handed over before of these frames is to be made silence, without a trace.
    Erase(Range<u64>),
}

/// Audio of one call from a moment on.
pub struct Tape {
    /// Its name.
    pub id: TapeId,
    /// Moment of its first frame.
    pub start: Timestamp,
    /// Frames a second.
    pub rate: u32,
    /// Report of both sides; `silent_ms` is filled in at the end.
    pub completeness: [Completeness; 2],
    /// Codecs heard, in order of appearance.
    pub codecs: Vec<String>,
    /// Frames of both sides that carry audio, real or concealed.
    covered: [u64; 2],
    concealed: [u64; 2],
    /// First frame of `blocks`.
    base: u64,
    /// Each has all that the caller says, then all that the callee says: so a packet is added to as little memory as can
    /// be, and many samples at once.
    blocks: VecDeque<Option<Vec<i16>>>,
    /// What came after its block had left.
    overdubs: Vec<Reel>,
    /// Frame after the last audio.
    extent: u64,
    /// Packets are kept beside it.
    has_packets: bool,
    /// When nothing is to be kept, in order.
    muted: Vec<Range<Timestamp>>,
    /// The same, but none of them ever made one with another, as far as there is room.
    pauses: Vec<Range<Timestamp>>,
    /// Figures as they were at certain frames, for recordings that are only a part of the tape.
    history: Option<Vec<Figures>>,
}

/// The figures of a tape at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    frame: u64,
    completeness: [Completeness; 2],
    covered: [u64; 2],
    concealed: [u64; 2],
}

impl Tape {
    /// A tape that begins at `start`.
    pub fn new(id: TapeId, start: Timestamp, rate: u32) -> Tape {
        Tape {
            id,
            start,
            rate,
            completeness: Default::default(),
            codecs: Vec::new(),
            covered: [0; 2],
            concealed: [0; 2],
            base: 0,
            blocks: VecDeque::new(),
            overdubs: Vec::new(),
            extent: 0,
            has_packets: false,
            muted: Vec::new(),
            pauses: Vec::new(),
            history: None,
        }
    }

    /// Bytes that the figures of its past take.
    pub fn history_memory(&self) -> usize {
        self.history.as_ref().map_or(0, |history| history.capacity() * size_of::<Figures>())
    }

    /// The frame that is heard at a moment; negative before the tape's start.
    pub fn frame(&self, at: Timestamp) -> i64 {
        let nanoseconds = at.since(self.start);
        let (seconds, rest) = (nanoseconds.div_euclid(SECOND), nanoseconds.rem_euclid(SECOND));
        let rate = i64::from(self.rate);
        seconds.saturating_mul(rate) + (rest * rate + SECOND / 2) / SECOND
    }

    /// The moment of a frame.
    pub fn moment(&self, frame: u64) -> Timestamp {
        let rate = u64::from(self.rate);
        let nanoseconds = (frame % rate) * SECOND as u64 / rate;
        self.start + ((frame / rate) as i64).saturating_mul(SECOND) + nanoseconds as i64
    }

    /// Nanoseconds a frame.
    pub fn frame_time(&self) -> i64 {
        SECOND / i64::from(self.rate)
    }

    /// Adds samples of one side from `frame` on to what is there. Those whose block has left already are
    /// handed over for themselves. Returns how many stand before the tape's start.
    pub fn mix(&mut self, side: Side, frame: i64, samples: &[i16], concealed: bool) -> usize {
        if self.muted.is_empty() {
            return self.mix_heard(side, frame, samples, concealed);
        }
        // What lies between the times in which nothing is kept.
        let (mut before, mut at, mut rest) = (0, frame, samples);
        for index in 0..self.muted.len() {
            let Range { start, end } = self.muted[index].clone();
            let (start, end) = (self.frame(start), self.frame(end));
            let place = |frame: i64, rest: &[i16]| usize::try_from(frame - at).unwrap_or(0).min(rest.len());
            let (heard, muted) = (place(start, rest), place(end.max(start), rest));
            before += self.mix_heard(side, at, &rest[..heard], concealed);
            (at, rest) = (at + muted.max(heard) as i64, &rest[muted.max(heard)..]);
        }
        before + self.mix_heard(side, at, rest, concealed)
    }

    /// Whether a packet that would be heard at that time, for `length` nanoseconds, may be kept beside the tape.
    /// The tape is then as long as if it were heard.
    pub fn reserve(&mut self, place: Timestamp, length: i64) -> bool {
        if !self.keep(place, length) {
            return false;
        }
        self.extent = self.extent.max(self.frame(place + length).max(0) as u64);
        true
    }

    /// Whether a packet that is heard at that time, for `length` nanoseconds, may be kept as a whole; if so, it is.
    pub fn keep(&mut self, place: Timestamp, length: i64) -> bool {
        let end = place + if length == 0 { LONGEST_PACKET } else { length };
        let is_kept =
            place >= self.start && !self.muted.iter().any(|time| place < time.end && time.start < end);
        self.has_packets |= is_kept;
        is_kept
    }

    /// Nothing is kept of a time, also of what has been kept of it until now.
    pub fn mute(&mut self, time: Range<Timestamp>, deliver: &mut impl FnMut(Reel)) {
        if self.muted.last().is_some_and(|last| last.end > time.start) {
            return;
        }
        if self.muted.len() >= MOST_MUTED {
            // Only packets that are late by as much would be heard between the two.
            let first = self.muted.remove(0);
            if let Some(second) = self.muted.first_mut() {
                second.start = first.start;
            }
        }
        let (from, to) = (self.frame(time.start).max(0) as u64, self.frame(time.end).max(0) as u64);
        if self.pauses.len() < MOST_MUTED {
            self.pauses.push(time.clone());
        }
        self.muted.push(time);
        // What was held up belongs where it has left: before what is erased now.
        self.overdub(deliver);
        // Packets are handed over before the samples of their time are.
        let end = if self.has_packets { to } else { to.min(self.base) };
        if from < end {
            deliver(Reel::Erase(from..end));
        }
        let frames = self.block_frames() as u64;
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let begin = self.base + index as u64 * frames;
            let place = |frame: u64| frame.saturating_sub(begin).min(frames) as usize;
            for channel in block.iter_mut().flat_map(|block| block.chunks_exact_mut(frames as usize)) {
                if let Some(samples) = channel.get_mut(place(from)..place(to)) {
                    samples.fill(0);
                }
            }
        }
    }

    /// Audio is kept again from then on.
    pub fn unmute(&mut self, from: Timestamp) {
        for all in [&mut self.muted, &mut self.pauses] {
            if let Some(last) = all.last_mut().filter(|last| last.end > from) {
                last.end = from.max(last.start);
            }
        }
    }

    /// The frames of a part of the tape in which nothing was kept, in order. Of a tape that was muted very often
    /// the last times are missing: they are silence.
    pub fn paused(&self, part: &Range<u64>) -> Vec<Range<u64>> {
        let mut paused: Vec<Range<u64>> = Vec::new();
        for time in &self.pauses {
            let place = |at| (self.frame(at).max(0) as u64).clamp(part.start, part.end.max(part.start));
            let frames = place(time.start)..place(time.end);
            match paused.last_mut() {
                Some(last) if last.end >= frames.start => last.end = last.end.max(frames.end),
                _ if frames.is_empty() => {}
                _ => paused.push(frames),
            }
        }
        paused
    }

    fn mix_heard(&mut self, side: Side, frame: i64, samples: &[i16], concealed: bool) -> usize {
        let base = self.base as i64;
        let before = usize::try_from(-frame.min(0)).unwrap_or(usize::MAX).min(samples.len());
        let (frame, samples) = (frame.max(0), &samples[before..]);
        let gone = usize::try_from(base.saturating_sub(frame)).unwrap_or(0).min(samples.len());
        let (late, samples) = samples.split_at(gone);
        if !late.is_empty() {
            self.cover(side, late.len(), concealed);
            self.overdubs.push(Reel::Overdub { frame: frame as u64, side, samples: late.to_vec() });
        }
        if samples.is_empty() {
            return before;
        }
        let mut at = (frame + gone as i64 - base) as usize;
        let end = self.base + (at + samples.len()) as u64;
        // Nothing can be so far ahead of the present that this many blocks are open.
        if at / self.block_frames() > 64 * BLOCKS_PER_SECOND as usize {
            return before;
        }
        self.extent = self.extent.max(end);
        self.cover(side, samples.len(), concealed);
        let mut rest = samples;
        while !rest.is_empty() {
            let frames = self.block_frames();
            let (index, offset) = (at / frames, at % frames);
            let count = rest.len().min(frames - offset);
            let place = side.channel() * frames + offset;
            let heard = &mut self.block(index)[place..place + count];
            for (heard, &sample) in heard.iter_mut().zip(rest) {
                *heard = heard.saturating_add(sample);
            }
            rest = &rest[count..];
            at += count;
        }
        before
    }

    /// Fetches from memory what the next packet will need of it, but for the audio.
    pub(crate) fn fetch(&self) {
        fetch(&self.blocks);
        fetch(&self.muted);
        fetch(&self.history);
        self.completeness.iter().for_each(fetch);
        fetch(&self.covered);
        fetch(&self.base);
    }

    /// Fetches where the block is that comes next.
    pub(crate) fn fetch_block(&self) {
        if let Some(block) = self.blocks.get(self.place_of_next().0) {
            fetch(block);
        }
    }

    /// Fetches the part of it in which the next packet of a side will be heard, if it is 20 ms long.
    pub(crate) fn fetch_samples(&self, side: Side) {
        let (index, at) = self.place_of_next();
        if let Some(Some(block)) = self.blocks.get(index) {
            let packet = self.rate as usize / 50;
            let begin = side.channel() * self.block_frames() + at;
            let samples = block.iter().skip(begin.saturating_sub(packet / 2)).take(2 * packet);
            samples.step_by(SAMPLES_A_LINE).for_each(fetch);
        }
    }

    /// About where the next packet will be heard: the block, and the frame in it.
    fn place_of_next(&self) -> (usize, usize) {
        let (at, frames) = (self.extent.saturating_sub(self.base) as usize, self.block_frames());
        (at / frames, at % frames)
    }

    /// Hands over what was held up.
    pub fn overdub(&mut self, deliver: &mut impl FnMut(Reel)) {
        self.overdubs.drain(..).for_each(deliver);
    }

    /// Whether anything was held up.
    pub fn has_overdubs(&self) -> bool {
        !self.overdubs.is_empty()
    }

    fn cover(&mut self, side: Side, samples: usize, concealed: bool) {
        self.covered[side.channel()] += samples as u64;
        if concealed {
            self.concealed[side.channel()] += samples as u64;
        }
    }

    /// Hands over the blocks that are past at `now`. Returns whether any was.
    pub fn advance(&mut self, now: Timestamp, deliver: &mut impl FnMut(Reel)) -> bool {
        let frames = self.block_frames() as u64;
        let present = self.frame(now - LATENCY).max(0) as u64;
        let end = present / frames * frames;
        if end <= self.base {
            return false;
        }
        self.flush(end, deliver);
        let figures = self.figures(now);
        if let Some(history) = &mut self.history {
            history.push(figures);
        }
        true
    }

    /// Frame after the last audio.
    pub fn extent(&self) -> u64 {
        self.extent
    }

    /// From now on the figures of any part of the tape can be told, not only those of the whole.
    pub fn keep_history(&mut self) {
        self.history.get_or_insert_default();
    }

    /// Goes on at a higher rate. What has been handed over before is the receiver's to convert.
    pub fn raise(&mut self, rate: u32) {
        let old = self.rate;
        let convert = |frame: u64| {
            // A block is the same part of a second at any rate, and the tape's beginning stands at a block's.
            let block = u64::from(old / BLOCKS_PER_SECOND);
            frame / block * u64::from(rate / BLOCKS_PER_SECOND)
                + frame % block * u64::from(rate) / u64::from(old)
        };
        self.base = convert(self.base);
        self.extent = convert(self.extent);
        for count in self.covered.iter_mut().chain(&mut self.concealed) {
            *count = convert(*count);
        }
        for figures in self.history.iter_mut().flatten() {
            figures.frame = convert(figures.frame);
            for count in figures.covered.iter_mut().chain(&mut figures.concealed) {
                *count = convert(*count);
            }
        }
        let raised = [0, 1].map(|channel| upsample(&self.blocks, channel, old, rate));
        let frames = (rate / BLOCKS_PER_SECOND) as usize;
        for (index, block) in self.blocks.iter_mut().enumerate().filter(|(_, block)| block.is_some()) {
            let sample =
                |all: &Vec<i16>, frame: usize| all.get(index * frames + frame).copied().unwrap_or_default();
            let channels = raised.iter().flat_map(|all| (0..frames).map(move |frame| sample(all, frame)));
            *block = Some(channels.collect());
        }
        self.rate = rate;
    }

    /// Whether [`Tape::advance`] would hand over a block.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.frame(now - LATENCY) >= (self.base + self.block_frames() as u64) as i64
    }

    /// When [`Tape::advance`] will hand over the next block in which there is something; `None` when nothing waits.
    pub fn due(&self) -> Option<Timestamp> {
        (self.extent > self.base).then(|| self.moment(self.base + self.block_frames() as u64) + LATENCY)
    }

    /// Hands over all up to `end`; what is behind that is dropped. If more than that has been handed over
    /// already, the tape is longer than `end`.
    pub fn finish(&mut self, end: u64, deliver: &mut impl FnMut(Reel)) {
        if end > self.base {
            self.flush(end, deliver);
        }
        self.blocks.clear();
    }

    /// The figures as they are at `now`.
    pub fn figures(&self, now: Timestamp) -> Figures {
        let frame = self.frame(now).max(0) as u64;
        Figures { frame, completeness: self.completeness, covered: self.covered, concealed: self.concealed }
    }

    /// The figures as they were at a moment before, as far as history was kept.
    pub fn figures_at(&self, at: Timestamp) -> Figures {
        let frame = self.frame(at).max(0) as u64;
        let history = self.history.as_deref().unwrap_or_default();
        history.iter().rev().find(|figures| figures.frame <= frame).copied().unwrap_or_default()
    }

    /// What became of the packets of both sides between two moments, for a recording of so many frames.
    pub fn report(&self, frames: u64, before: &Figures, after: &Figures) -> [Completeness; 2] {
        let rate = u64::from(self.rate);
        [0, 1].map(|side| {
            let (from, to) = (&before.completeness[side], &after.completeness[side]);
            let covered = after.covered[side].saturating_sub(before.covered[side]);
            let concealed = after.concealed[side].saturating_sub(before.concealed[side]);
            let received = to.received.saturating_sub(from.received);
            let lost = to.lost.saturating_sub(from.lost);
            Completeness {
                expected: received + lost,
                received,
                lost,
                recovered: to.recovered.saturating_sub(from.recovered),
                late: to.late.saturating_sub(from.late),
                duplicate: to.duplicate.saturating_sub(from.duplicate),
                dropped: to.dropped.saturating_sub(from.dropped),
                concealed_ms: concealed * 1000 / rate,
                silent_ms: frames.saturating_sub(covered) * 1000 / rate,
            }
        })
    }

    fn block_frames(&self) -> usize {
        (self.rate / BLOCKS_PER_SECOND) as usize
    }

    fn block(&mut self, index: usize) -> &mut [i16] {
        while self.blocks.len() <= index {
            self.blocks.push_back(None);
        }
        let samples = self.block_frames() * CHANNELS;
        self.blocks[index].get_or_insert_with(|| vec![0; samples])
    }

    fn flush(&mut self, end: u64, deliver: &mut impl FnMut(Reel)) {
        let frames = self.block_frames() as u64;
        let mut silent = 0;
        while self.base < end {
            let count = frames.min(end - self.base);
            match self.blocks.pop_front() {
                Some(Some(block)) => {
                    if silent > 0 {
                        deliver(Reel::Silence(std::mem::take(&mut silent)));
                    }
                    deliver(Reel::Samples(first(block, count as usize)));
                    self.base += count;
                }
                Some(None) => {
                    silent += count;
                    self.base += count;
                }
                None => {
                    silent += end - self.base;
                    self.base = end;
                }
            }
        }
        if silent > 0 {
            deliver(Reel::Silence(silent));
        }
    }
}

/// The first frames of a block.
fn first(mut block: Vec<i16>, frames: usize) -> Vec<i16> {
    let all = block.len() / CHANNELS;
    if frames < all {
        block.copy_within(all..all + frames, frames);
        block.truncate(CHANNELS * frames);
    }
    block
}

/// A channel of all blocks at another rate, where it is at the old one.
fn upsample(blocks: &VecDeque<Option<Vec<i16>>>, channel: usize, old: u32, rate: u32) -> Vec<i16> {
    let frames = (old / BLOCKS_PER_SECOND) as usize;
    let mut samples: Vec<i16> = Vec::with_capacity(blocks.len() * frames);
    for block in blocks {
        match block {
            Some(block) => samples.extend(block.iter().skip(channel * frames).take(frames)),
            None => samples.resize(samples.len() + frames, 0),
        }
    }
    if let Some(mut upsampler) = Upsampler::new(old, rate) {
        upsampler.begin(&samples);
        upsampler.convert(&mut samples);
        samples.drain(..(upsampler.delay() as usize).min(samples.len()));
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(tape: &mut Tape, now: i64) -> Vec<Reel> {
        let mut reels = Vec::new();
        tape.advance(Timestamp(now), &mut |reel| reels.push(reel));
        reels
    }

    #[test]
    fn both_sides_on_one_timeline() {
        let mut tape = Tape::new(TapeId(1), Timestamp(0), 8000);
        assert_eq!(tape.mix(Side::Caller, 1999, &[1, 2], false), 0);
        assert_eq!(tape.mix(Side::Callee, 2000, &[-3], false), 0);
        assert_eq!(tape.mix(Side::Callee, -1, &[9, 8], false), 1);
        let now = 1400 * MILLISECOND + LATENCY;
        let reels = collect(&mut tape, now);
        let [Reel::Samples(first), Reel::Samples(second), Reel::Silence(silent)] = &reels[..] else {
            panic!()
        };
        assert_eq!((first[1999], first[2000], second[0], second[2000]), (1, 8, 2, -3));
        assert_eq!((first.len(), *silent), (4000, 6000));
        assert_eq!(tape.mix(Side::Caller, 9999, &[1, 2], false), 0);
        assert_eq!(collect(&mut tape, now), []);
        let mut late = Vec::new();
        tape.overdub(&mut |reel| late.push(reel));
        assert_eq!(late, [Reel::Overdub { frame: 9999, side: Side::Caller, samples: vec![1] }]);
    }

    #[test]
    fn ends_where_it_is_told() {
        let mut tape = Tape::new(TapeId(1), Timestamp(0), 8000);
        tape.mix(Side::Caller, 0, &[7; 3000], false);
        let mut reels = Vec::new();
        tape.finish(2500, &mut |reel| reels.push(reel));
        let frames: usize = reels
            .iter()
            .map(|reel| match reel {
                Reel::Samples(samples) => samples.len() / 2,
                Reel::Silence(frames) => *frames as usize,
                Reel::Overdub { .. } | Reel::Erase(_) => 0,
            })
            .sum();
        assert_eq!(frames, 2500);
        let (before, after) = (Figures::default(), tape.figures(Timestamp(SECOND)));
        assert_eq!(tape.report(2500, &before, &after)[1].silent_ms, 312);
    }

    #[test]
    fn a_higher_rate_leaves_everything_in_its_place() {
        let tone = |rate: f64, count: usize| -> Vec<i16> {
            (0..count)
                .map(|i| ((i as f64 / rate * 300.0 * std::f64::consts::TAU).sin() * 9000.0) as i16)
                .collect()
        };
        let mut tape = Tape::new(TapeId(1), Timestamp(0), 8000);
        tape.mix(Side::Callee, 0, &tone(8000.0, 5000), false);
        tape.raise(16_000);
        let mut heard: Vec<i16> = Vec::new();
        tape.finish(9900, &mut |reel| {
            if let Reel::Samples(samples) = reel {
                heard.extend(&samples[samples.len() / 2..]);
            }
        });
        let off = heard.iter().zip(tone(16_000.0, 9900)).map(|(&a, b)| (a - b).abs()).max().unwrap();
        assert!(heard.len() == 9900 && off < 300, "{off}");
    }

    #[test]
    fn frames_and_moments_agree() {
        for rate in [8000, 16_000, 44_100, 48_000] {
            let tape = Tape::new(TapeId(1), Timestamp(1_700_000_000_123_456_789), rate);
            for frame in [0, 1, 159, 44_099, 1_000_003] {
                assert_eq!(tape.frame(tape.moment(frame)), frame as i64);
            }
        }
    }
}
