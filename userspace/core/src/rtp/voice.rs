//! Decoded packets on their way to the tape: joined to what was heard before, at the tape's rate.

use crate::codec::{Concealer, Upsampler};
use crate::media::{Tape, TapeId};
use crate::record::Side;
use crate::time::SECOND;

use super::timeline::Timeline;

/// Joints are cross-faded over this part of a second.
const CROSSFADE: u32 = 250;
/// A packet that is off by up to this part of its length is stretched to fit.
const STRETCH: i64 = 32;
/// A gap of more than this part of a second is a pause, in which the clock may be set.
const PAUSE: i64 = 50;

/// What is heard of a stream.
#[derive(Default)]
pub(super) struct Voice {
    concealer: Option<Concealer>,
    upsampler: Option<Upsampler>,
    tail: Option<Tail>,
    /// Nanoseconds that were invented.
    pub(super) concealed: u64,
    heard: bool,
}

/// Where the last packet ended.
#[derive(Clone, Copy)]
struct Tail {
    tape: TapeId,
    /// Frames are counted at this rate.
    rate: u32,
    frame: i64,
}

/// Where a packet belongs.
pub(super) struct Place {
    /// RTP timestamp without the wrap.
    pub(super) timestamp: i64,
    /// Packets right before it are lost.
    pub(super) after_loss: bool,
    /// So many samples at the beginning are the decoder's own concealment of that loss.
    pub(super) concealed: usize,
    pub(super) side: Side,
    /// Samples a second of what was decoded.
    pub(super) rate: u32,
}

impl Voice {
    /// Fetches from memory where the next packet is remembered.
    pub(super) fn fetch(&self) {
        if let Some(concealer) = &self.concealer {
            concealer.fetch();
        }
    }

    /// What comes next does not follow what came before.
    pub(super) fn interrupt(&mut self) {
        self.tail = None;
    }

    /// Whether anything of it came to be on a tape.
    pub(super) fn is_heard(&self) -> bool {
        self.heard
    }

    /// Puts the samples of a packet on the tape.
    pub(super) fn play(
        &mut self,
        samples: &mut Vec<i16>,
        place: &Place,
        timeline: &mut Timeline,
        tape: &mut Tape,
    ) {
        self.prepare(samples, place, tape);
        let (Some(concealer), upsampler) = (&mut self.concealer, &mut self.upsampler) else { return };
        let tail =
            self.tail.filter(|tail| tail.tape == tape.id && tail.rate == tape.rate).map(|tail| tail.frame);
        let pause = i64::from(tape.rate) / PAUSE;

        let quiet = |tail: i64| tape.frame(timeline.place(place.timestamp)) - tail > pause;
        let unheard = !place.after_loss && tail.is_some_and(quiet);
        timeline.follow(tape.frame_time(), unheard);
        let delay = upsampler.as_ref().map_or(0, Upsampler::delay) as i64;
        let frame = tape.frame(timeline.place(place.timestamp)) - delay;
        let gap = tail.map_or(0, |tail| frame - tail);
        let lossy = place.after_loss && gap > 0;

        if lossy {
            let lost = (gap * i64::from(place.rate) / i64::from(tape.rate)) as usize;
            let filled = match place.concealed {
                0 => conceal(concealer, lost, place.rate, samples),
                own => own.min(samples.len()),
            };
            self.concealed += filled as u64 * SECOND as u64 / u64::from(place.rate);
            let mut piece: Vec<i16> = samples.drain(..filled).collect();
            if let Some(upsampler) = upsampler {
                upsampler.convert(&mut piece);
            }
            tape.mix(place.side, frame - gap, &piece, true);
        } else {
            samples.drain(..place.concealed.min(samples.len()));
            if let Some(upsampler) = upsampler.as_mut().filter(|_| gap > pause) {
                upsampler.reset();
            }
        }
        concealer.hear(samples);
        if let Some(upsampler) = upsampler {
            upsampler.convert(samples);
        }
        let end = frame + samples.len() as i64;
        let start = match tail {
            Some(tail) if !lossy => join(samples, frame, tail),
            _ => frame,
        };
        tape.mix(place.side, start, samples, false);
        self.heard = true;
        self.tail = Some(Tail { tape: tape.id, rate: tape.rate, frame: end.max(tail.unwrap_or(i64::MIN)) });
    }

    /// Makes ready for what comes at that rate. When the rate changes in mid-speech, what came before is ended and
    /// what comes now begun so that the joint is not heard.
    fn prepare(&mut self, samples: &[i16], place: &Place, tape: &mut Tape) {
        let (from, to) = (place.rate, tape.rate);
        let rates = self.upsampler.as_ref().map_or((from, from), Upsampler::rates);
        if rates != (from, to) {
            let mut tail = self.tail.as_mut().filter(|tail| tail.tape == tape.id && tail.rate == to);
            if let (Some(tail), Some(old), Some(heard)) =
                (&mut tail, &mut self.upsampler, &mut self.concealer)
            {
                let rest = old.finish(heard.heard());
                tape.mix(place.side, tail.frame, &rest, false);
                tail.frame += rest.len() as i64;
            }
            self.upsampler = Upsampler::new(from, to);
            if let (Some(_), Some(new)) = (tail, &mut self.upsampler) {
                new.begin(samples);
            }
        }
        if self.concealer.as_ref().is_none_or(|concealer| concealer.rate() != from) {
            self.concealer = Some(Concealer::new(from));
        }
    }
}

/// Fits samples that belong at `frame` to a tape on which `tail` comes next. Returns where they begin then.
fn join(samples: &mut Vec<i16>, frame: i64, tail: i64) -> i64 {
    let (gap, end) = (frame - tail, frame + samples.len() as i64);
    let slack = (samples.len() as i64 / STRETCH).max(2);
    if gap != 0 && gap.abs() <= slack && end > tail {
        stretch(samples, (end - tail) as usize);
        return tail;
    }
    if gap < 0 {
        // Its beginning has been heard already.
        let heard = usize::try_from(-gap).unwrap_or(usize::MAX).min(samples.len());
        samples.drain(..heard);
        return tail;
    }
    frame
}

/// Puts up to `lost` invented samples in front of `samples`, blended into them; returns how many.
fn conceal(concealer: &mut Concealer, lost: usize, rate: u32, samples: &mut Vec<i16>) -> usize {
    let mut filled = Vec::with_capacity(concealer.longest());
    let overlap = ((rate / CROSSFADE) as usize).min(samples.len());
    let made = concealer.conceal(lost + overlap, &mut filled);
    if made > lost {
        let overlap = made - lost;
        for (i, (sample, invented)) in samples.iter_mut().zip(&filled[lost..]).enumerate() {
            let (old, new) = (i64::from(*invented), i64::from(*sample));
            *sample = ((old * (overlap - i) as i64 + new * i as i64) / overlap as i64) as i16;
        }
        filled.truncate(lost);
    }
    let count = filled.len();
    samples.splice(0..0, filled);
    count
}

/// Makes `samples` a few longer or shorter, so that a clock that drifts is followed without a click.
fn stretch(samples: &mut Vec<i16>, length: usize) {
    let old = std::mem::take(samples);
    if old.len() < 2 || length < 2 {
        *samples = old;
        return;
    }
    let (last, steps) = (old.len() - 1, length - 1);
    samples.extend((0..length).map(|i| {
        let (whole, part) = (i * last / steps, i * last % steps);
        let (a, b) = (i64::from(old[whole]), i64::from(old[(whole + 1).min(last)]));
        (a + (b - a) * part as i64 / steps as i64) as i16
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Reel;
    use crate::time::{MILLISECOND, Timestamp};

    const LEVEL: f64 = 8000.0;

    /// A tone of 400 Hz in packets of 20 ms at these rates, on a tape of the last one's.
    fn tone(rates: &[u32], tape_rate: u32) -> Vec<i16> {
        let mut tape = Tape::new(TapeId(1), Timestamp(0), tape_rate);
        let mut timeline = Timeline::new(8000, 0, Timestamp(0));
        let mut voice = Voice::default();
        for (index, &rate) in rates.iter().enumerate() {
            let step = rate as usize / 50;
            let sample =
                |i: usize| (i as f64 / f64::from(rate) * 400.0 * std::f64::consts::TAU).cos() * LEVEL;
            let mut samples: Vec<i16> =
                (index * step..(index + 1) * step).map(|i| sample(i) as i16).collect();
            let timestamp = index as i64 * 160;
            let place = Place { timestamp, after_loss: false, concealed: 0, side: Side::Caller, rate };
            voice.play(&mut samples, &place, &mut timeline, &mut tape);
        }
        let mut heard = Vec::new();
        let end = Timestamp(rates.len() as i64 * 20 * MILLISECOND);
        tape.finish(tape.frame(end) as u64, &mut |reel| match reel {
            Reel::Samples(samples) => heard.extend(&samples[..samples.len() / 2]),
            other => panic!("{other:?}"),
        });
        heard
    }

    #[test]
    fn a_change_of_rate_is_not_heard() {
        for (before, after) in [(8000, 16_000), (16_000, 8000), (8000, 48_000), (48_000, 16_000)] {
            let rates: Vec<u32> = [[before; 5], [after; 5]].concat();
            let tape_rate = before.max(after);
            let heard = tone(&rates, tape_rate);
            // Of a sine the second difference is its level times the square of its step. A hole at the joint, where
            // the wave stands at its peak, would be one of the whole level.
            let bend = |at: usize| {
                let [a, b, c] = [heard[at - 1], heard[at], heard[at + 1]].map(f64::from);
                (a - 2.0 * b + c).abs()
            };
            let step = 400.0 / f64::from(tape_rate) * std::f64::consts::TAU;
            let (joint, around) = (tape_rate as usize / 10, tape_rate as usize / 100);
            let sharpest = (joint - around..joint + around).map(bend).fold(0.0, f64::max);
            assert!(sharpest < LEVEL * (step * step + 0.1), "{before} to {after}: {sharpest}");
        }
    }
}
