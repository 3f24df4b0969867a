//! Something like speech, cheaply: no two streams of a load carry the same.

use super::scatter;
use crate::lab::codec::Codec;

/// Samples, and thus bytes of µ-law, in one packet of 20 ms.
pub(super) const BLOCK: usize = 160;

/// One second. All frequencies are whole numbers, so it repeats without a click.
const LOOP: usize = 8000;
const VOICES: usize = 32;
/// Has no factor in common with `LOOP`, so that streams begin at different places of it.
const STRIDE: usize = 97;
/// In packets: a fifth of a second.
const SYLLABLE: usize = 10;

/// Every voice's second as µ-law, and the beginning of the next for blocks that reach over its end.
pub(super) struct Voices(Vec<Vec<u8>>);

impl Voices {
    pub(super) fn new() -> Self {
        Self((0..VOICES).map(speak).collect())
    }

    /// The payload of a stream's packet. Each stream has its own order of voices, so that even a piece of another
    /// one's audio, however it is shifted, is found out.
    pub(super) fn block(&self, stream: usize, packet: usize) -> &[u8] {
        let syllable = ((stream << 32) | (packet / SYLLABLE)) as u64;
        let voice = scatter(syllable) as usize % VOICES;
        let start = (stream * STRIDE + packet * BLOCK) % LOOP;
        &self.0[voice][start..start + BLOCK]
    }
}

fn speak(voice: usize) -> Vec<u8> {
    let pitch = 90 + 7 * voice;
    let samples: Vec<i16> = (0..LOOP + BLOCK)
        .map(|at| {
            let vowel = 4 * wave(at, pitch) + 3 * wave(at, 5 * pitch) + wave(at, 11 * pitch);
            let loudness = 1200 + wave(at, 3 + voice % 4);
            (vowel * loudness / 1000) as i16
        })
        .collect();
    Codec::Pcmu.encode(&samples)
}

/// A sine near enough, between -1000 and 1000. It is made of parabolas: integers are the same on every machine.
fn wave(at: usize, hertz: usize) -> i32 {
    const HALF: i32 = LOOP as i32 / 2;
    let phase = (at * hertz % LOOP) as i32;
    let (x, sign) = if phase < HALF { (phase, 1) } else { (phase - HALF, -1) };
    sign * 4 * x * (HALF - x) / (HALF * HALF / 1000)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn streams_all_differ() {
        let voices = Voices::new();
        let heard: HashSet<Vec<u8>> = (0..4000)
            .map(|stream| (0..100).flat_map(|n| voices.block(stream, n)).copied().collect())
            .collect();
        assert_eq!(heard.len(), 4000);
    }

    #[test]
    fn a_wave_is_a_wave() {
        let quarters = [0, 2000, 4000, 6000].map(|at| wave(at, 1));
        assert_eq!(quarters, [0, 1000, 0, -1000]);
    }
}
