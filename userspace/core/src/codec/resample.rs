//! From a stream's sample rate to that of the tape it is recorded on.

use audio_codec::resampler::BoxedResampler;

/// Half samples, at the input's rate, by which the filter is late: half of its 24 taps less one.
const FILTER_DELAY: u64 = 23;

/// Samples that the filter looks at.
const TAPS: usize = 24;

/// Brings packets of one rate to a higher one. It keeps the end of a packet for the beginning of the next,
/// so that the joint is not heard.
pub struct Upsampler {
    inner: BoxedResampler,
    from: u32,
    to: u32,
}

impl Upsampler {
    /// `None` when there is nothing to do, or no way to do it.
    pub fn new(from: u32, to: u32) -> Option<Upsampler> {
        if from == to {
            return None;
        }
        let inner = BoxedResampler::new(from as usize, to as usize).ok()?;
        Some(Upsampler { inner, from, to })
    }

    /// The rates it was made for.
    pub fn rates(&self) -> (u32, u32) {
        (self.from, self.to)
    }

    /// Output samples by which the result is late.
    pub fn delay(&self) -> u64 {
        FILTER_DELAY * u64::from(self.to) / (2 * u64::from(self.from))
    }

    /// Replaces `samples` by the same sound at the other rate.
    pub fn convert(&mut self, samples: &mut Vec<i16>) {
        *samples = self.inner.resample(samples);
    }

    /// What is still inside when something else follows: [`Upsampler::delay`] samples. `last` are the last that went
    /// in; as far as the filter looks beyond them, they go on as they have come, so that they end without a click.
    pub fn finish(&mut self, last: &[i16]) -> Vec<i16> {
        let mut rest: Vec<i16> = mirrored(last.iter().rev());
        self.convert(&mut rest);
        rest.truncate(self.delay() as usize);
        rest
    }

    /// Something else came before `first`: the filter begins as if that had come as these go on.
    pub fn begin(&mut self, first: &[i16]) {
        let mut before = mirrored(first.iter());
        before.reverse();
        self.convert(&mut before);
    }

    /// What comes next does not follow what came before.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

/// The wave on the other side of the first sample, away from it: level and slope go on.
fn mirrored<'a>(mut samples: impl Iterator<Item = &'a i16>) -> Vec<i16> {
    let Some(&edge) = samples.next() else { return Vec::new() };
    let turned = |&sample: &i16| (2 * i32::from(edge) - i32::from(sample)).clamp(-32_768, 32_767) as i16;
    samples.take(TAPS).map(turned).collect()
}
