//! What tcpdump has seen: when things were asked for, and what was said then.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::lab::archive::Audio;
use crate::lab::capture::{Capture, Frame};
use crate::lab::media::Clip;
use crate::lab::wire::Datagram;

/// Frames, each once.
pub(super) struct Seen(Vec<Frame>);

impl Seen {
    pub(super) fn read(capture: &Path) -> Result<Self> {
        let mut frames = Capture::read(capture)?.frames;
        // The mirror port shows a frame that enters at one port and leaves at the other twice.
        let mut known = HashSet::new();
        frames.retain(|frame| known.insert(frame.data.clone()));
        Ok(Self(frames))
    }

    /// When a frame with all these texts came for the first time, as of the epoch.
    pub(super) fn moment(&self, texts: &[&str]) -> Result<Duration> {
        self.moments(texts).next().with_context(|| format!("nothing with {texts:?} was seen"))
    }

    pub(super) fn moments(&self, texts: &[&str]) -> impl Iterator<Item = Duration> {
        let has =
            |frame: &Frame, text: &str| frame.data.windows(text.len()).any(|part| part == text.as_bytes());
        self.0.iter().filter(move |frame| texts.iter().all(|text| has(frame, text))).map(|frame| frame.at)
    }

    /// When a clip began to be played.
    pub(super) fn clip(&self, clip: &Clip) -> Result<Duration> {
        let is_of = |frame: &Frame| {
            Datagram::parse(&frame.data).is_some_and(|datagram| {
                datagram.is_rtp() && datagram.payload[8..12] == clip.ssrc.to_be_bytes()
            })
        };
        let first = self.0.iter().find(|frame| is_of(frame));
        first.map(|frame| frame.at).with_context(|| format!("no packet of {:x} was seen", clip.ssrc))
    }
}

/// What a channel must hold.
pub(super) struct Voice<'a> {
    pub(super) said: &'a [i16],
    /// When that began, in seconds of the recording: before it most often.
    pub(super) since: f64,
    /// Nothing of it is kept meanwhile, in seconds of the recording too.
    pub(super) paused: Option<[f64; 2]>,
}

/// Compared at once.
const WINDOW_S: f64 = 0.25;
/// A phone's program and a recorder may place a stream so far from when its first packet came.
const REACH_S: f64 = 0.03;
/// The correlation of what was said with the same after a codec.
const ALIKE: f64 = 0.9;
/// Of a window whose root of mean squares is less, nothing can be said.
const AUDIBLE: f64 = 500.0;
/// Packets are kept whole or not at all: near the edges of a recording or of a pause both are right.
const EDGE_S: f64 = 0.1;

impl Voice<'_> {
    /// That it is heard on a channel when it was said, from beginning to end.
    pub(super) fn ensure_heard(&self, audio: &Audio, channel: usize) -> Result<()> {
        let rate = f64::from(audio.rate);
        let (length, reach) = ((WINDOW_S * rate) as usize, (REACH_S * rate) as isize);
        if let Some([from, to]) = self.paused {
            let peak = audio.peak(channel, from + EDGE_S, to - EDGE_S);
            ensure!(to - from > 4.0 * EDGE_S && peak == 0, "{peak} on channel {channel} during the pause");
        }
        let mut compared = [0; 2];
        let edge = (EDGE_S * rate) as usize;
        let samples = &audio.channels[channel];
        let within = samples.get(edge..samples.len().saturating_sub(edge)).unwrap_or_default();
        for (number, heard) in within.chunks_exact(length).enumerate() {
            let at = EDGE_S + number as f64 * WINDOW_S;
            let is_paused = |[from, to]: [f64; 2]| at + WINDOW_S > from - EDGE_S && at < to + EDGE_S;
            let place = ((at - self.since) * rate) as isize;
            let said = |shift: isize| {
                let from = usize::try_from(place + shift).ok()?;
                self.said.get(from..from + length)
            };
            let Some(said_here) = said(0) else { continue };
            if self.paused.is_some_and(is_paused) || product(said_here, said_here).sqrt() < AUDIBLE {
                continue;
            }
            let likeness = (-reach..=reach).filter_map(said).map(|said| likeness(said, heard));
            let best = likeness.fold(0.0, f64::max);
            ensure!(best >= ALIKE, "at {at:.2} s, channel {channel} is not what was said: {best:.2}");
            compared[usize::from(at > audio.seconds() / 2.0)] += 1;
        }
        ensure!(compared.iter().all(|count| *count > 0), "channel {channel} is silent in one of its halves");
        Ok(())
    }
}

/// How much alike two runs of samples are, whatever their level: 1 if they are the same.
fn likeness(one: &[i16], other: &[i16]) -> f64 {
    let scale = (product(one, one) * product(other, other)).sqrt();
    if scale == 0.0 { 0.0 } else { product(one, other) / scale }
}

/// The mean of the products, sample by sample.
fn product(one: &[i16], other: &[i16]) -> f64 {
    let sum: i64 = one.iter().zip(other).map(|(one, other)| i64::from(*one) * i64::from(*other)).sum();
    sum as f64 / one.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<i16> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i16 / 2
        };
        std::iter::repeat_with(&mut next).take(count).collect()
    }

    #[test]
    fn what_was_said_is_heard_where_it_was_said_and_nowhere_else() {
        let said = noise(24_000);
        // A recording that begins a second later.
        let audio = |samples: &[i16]| Audio { rate: 8000, channels: vec![samples.to_vec()] };
        let voice = |since, paused| Voice { said: &said, since, paused };
        let heard = |voice: &Voice<'_>, samples: &[i16]| voice.ensure_heard(&audio(samples), 0).is_ok();
        assert!(heard(&voice(-1.0, None), &said[8000..]));
        assert!(heard(&voice(-1.02, None), &said[8000..]));
        assert!(!heard(&voice(-1.1, None), &said[8000..]));
        assert!(!heard(&voice(-1.0, None), &noise(32_000)[9000..]));
        assert!(!heard(&voice(-1.0, None), &[&said[8000..16_000], &[0; 8000]].concat()));
    }

    #[test]
    fn of_a_pause_nothing_is_heard() {
        let said = noise(24_000);
        let mut samples = said.clone();
        let voice = Voice { said: &said, since: 0.0, paused: Some([1.0, 2.0]) };
        let audio = |samples: &[i16]| Audio { rate: 8000, channels: vec![samples.to_vec()] };
        assert!(voice.ensure_heard(&audio(&samples), 0).is_err());
        samples[8000..16_000].fill(0);
        assert!(voice.ensure_heard(&audio(&samples), 0).is_ok());
        samples[12_000] = 1;
        assert!(voice.ensure_heard(&audio(&samples), 0).is_err());
    }
}
