//! Concealment of lost packets after the method of ITU-T G.711 Appendix I: the last pitch period is
//! repeated, and fades away, because a guess gets worse with every millisecond.

use crate::fetch::{SAMPLES_A_LINE, fetch};

/// What has been invented after this time is silent.
const FADE_END_MS: usize = 60;
/// So long the repetition keeps its level.
const FADE_START_MS: usize = 10;
/// Pitch is looked for between 200 Hz and 66 Hz.
const PITCH_MIN_US: usize = 5_000;
const PITCH_MAX_US: usize = 15_000;
/// The piece that is compared with earlier ones.
const COMPARE_MS: usize = 20;

/// Remembers the end of what was heard, to go on from it.
pub struct Concealer {
    rate: usize,
    /// The last samples heard: enough for the longest pitch period and the piece compared. A ring, for each packet adds
    /// to it and few are lost.
    history: Vec<i16>,
    /// Where the oldest of them is.
    oldest: usize,
}

impl Concealer {
    /// For audio of `rate` samples a second.
    pub fn new(rate: u32) -> Concealer {
        let rate = rate as usize;
        Concealer { rate, history: vec![0; history_length(rate)], oldest: 0 }
    }

    /// Samples a second.
    pub fn rate(&self) -> u32 {
        self.rate as u32
    }

    /// Fetches from memory where the next 20 ms go.
    pub(crate) fn fetch(&self) {
        let next = self.history.iter().skip(self.oldest).take(self.rate / 50);
        next.step_by(SAMPLES_A_LINE).for_each(fetch);
    }

    /// The next samples that were heard.
    pub fn hear(&mut self, samples: &[i16]) {
        let keep = self.history.len();
        let samples = &samples[samples.len().saturating_sub(keep)..];
        let (first, rest) = samples.split_at(samples.len().min(keep - self.oldest));
        self.history[self.oldest..self.oldest + first.len()].copy_from_slice(first);
        self.history[..rest.len()].copy_from_slice(rest);
        self.oldest = (self.oldest + samples.len()) % keep;
    }

    /// The last samples that were heard.
    pub fn heard(&mut self) -> &[i16] {
        self.history.rotate_left(self.oldest);
        self.oldest = 0;
        &self.history
    }

    /// The longest loss that is filled with sound, in samples.
    pub fn longest(&self) -> usize {
        self.rate * FADE_END_MS / 1000
    }

    /// Appends up to `count` samples in the place of lost ones to `out`; returns how many.
    pub fn conceal(&mut self, count: usize, out: &mut Vec<i16>) -> usize {
        let count = count.min(self.longest());
        self.heard();
        let pitch = self.pitch();
        let period = self.history.len() - pitch;
        let begin = out.len();
        let (full, end) = (self.rate * FADE_START_MS / 1000, self.longest());
        for i in 0..count {
            let sample = i64::from(self.history[period + i % pitch]);
            let gain = if i < full { end - full } else { end - i };
            out.push((sample * gain as i64 / (end - full) as i64) as i16);
        }
        self.smooth_joint(pitch, &mut out[begin..]);
        self.hear(&out[begin..]);
        count
    }

    /// The repetition begins where the last period began: the first quarter is blended from what would
    /// have followed the sample before, so that there is no click.
    fn smooth_joint(&self, pitch: usize, filled: &mut [i16]) {
        let overlap = (pitch / 4).min(filled.len());
        let end = self.history.len();
        for (i, sample) in filled[..overlap].iter_mut().enumerate() {
            // The wave mirrored at the joint continues it smoothly.
            let mirrored = i64::from(self.history[end - 1 - i]);
            let (out, mix) = (overlap - i, i);
            *sample = ((mirrored * out as i64 + i64::from(*sample) * mix as i64) / overlap as i64) as i16;
        }
    }

    /// The distance at which the end of the history is most like itself (normalised cross-correlation).
    fn pitch(&self) -> usize {
        let (shortest, longest) =
            (self.rate * PITCH_MIN_US / 1_000_000, self.rate * PITCH_MAX_US / 1_000_000);
        let compare = self.rate * COMPARE_MS / 1000;
        let end = self.history.len();
        let recent = &self.history[end - compare..];
        let mut best = (f64::MIN, longest.max(1));
        for lag in shortest..=longest {
            let earlier = &self.history[end - compare - lag..end - lag];
            let (mut product, mut energy) = (0i64, 0i64);
            // Every second sample tells the pitch as well as every one.
            for (&a, &b) in recent.iter().zip(earlier).step_by(2) {
                product += i64::from(a) * i64::from(b);
                energy += i64::from(b) * i64::from(b);
            }
            let likeness = product as f64 / ((energy + 1) as f64).sqrt();
            if likeness > best.0 {
                best = (likeness, lag);
            }
        }
        best.1.max(1)
    }
}

fn history_length(rate: usize) -> usize {
    rate * COMPARE_MS / 1000 + rate * PITCH_MAX_US / 1_000_000 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(from: usize, count: usize) -> Vec<i16> {
        (from..from + count).map(|i| ((i as f64 * 0.1).sin() * 10_000.0) as i16).collect()
    }

    #[test]
    fn a_tone_goes_on() {
        let mut concealer = Concealer::new(8000);
        concealer.hear(&tone(0, 800));
        let mut filled = Vec::new();
        assert_eq!(concealer.conceal(80, &mut filled), 80);
        let truth = tone(800, 80);
        let error: f64 =
            filled.iter().zip(&truth).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        let energy: f64 = truth.iter().map(|b| f64::from(*b).powi(2)).sum();
        assert!(error < 0.1 * energy, "{error} against {energy}");
    }

    #[test]
    fn fades_to_silence_and_no_further() {
        let mut concealer = Concealer::new(16_000);
        concealer.hear(&tone(0, 3200));
        let mut filled = Vec::new();
        assert_eq!(concealer.conceal(100_000, &mut filled), 960);
        assert!(filled[940..].iter().all(|sample| sample.abs() < 400));
    }

    #[test]
    fn silence_stays_silent() {
        let mut filled = Vec::new();
        Concealer::new(8000).conceal(160, &mut filled);
        assert!(filled.iter().all(|&sample| sample == 0));
    }
}
