//! Opus (RFC 6716) by a library, one channel whatever is sent. A decoder has about 200 kB of state.

use std::panic::{AssertUnwindSafe, catch_unwind};

use opus_rs::OpusDecoder;

/// The longest packet (RFC 6716 section 3.2.5).
const LONGEST_MS: usize = 120;
/// Lost audio is made up for so long.
const CONCEALED_MS: usize = 60;
/// In which it fades away at its end.
const FADE_MS: usize = 20;
/// Frames are a multiple of this part of a second.
const STEPS: usize = 400;
/// A stream that makes the library panic so often is decoded no more.
const MOST_PANICS: u32 = 3;

/// One stream's decoder.
pub struct Opus {
    /// `None` once it has been given up.
    inner: Option<Box<OpusDecoder>>,
    rate: usize,
    panics: u32,
    /// What the library writes to, kept for its memory.
    samples: Box<[f32]>,
}

impl Opus {
    /// Decodes to one of Opus's rates: 8000, 12,000, 16,000, 24,000 or 48,000.
    pub(super) fn new(rate: u32) -> Opus {
        let samples = vec![0.0; rate as usize * LONGEST_MS / 1000].into();
        let mut opus = Opus { inner: None, rate: rate as usize, panics: 0, samples };
        opus.renew();
        opus
    }

    /// Appends the samples of a packet; of one that is corrupt, none.
    pub(super) fn decode(&mut self, packet: &[u8], out: &mut Vec<i16>) {
        // An empty one would be taken for one that was lost.
        if !packet.is_empty() {
            self.run(out, |decoder, samples| decoder.decode(packet, samples.len(), samples));
        }
    }

    /// Appends up to 60 ms in the place of `lost` samples before a packet that could not be recovered.
    pub(super) fn conceal(&mut self, lost: usize, out: &mut Vec<i16>) {
        let step = self.rate / STEPS;
        let count = lost.min(self.rate * CONCEALED_MS / 1000) / step * step;
        if count == 0 {
            return;
        }
        let begin = out.len();
        self.run(out, |decoder, samples| {
            decoder.decode(&[], count, samples.get_mut(..count).unwrap_or_default())
        });
        let fade = self.rate * FADE_MS / 1000;
        if lost > count && out.len() - begin == count && fade <= count {
            let faded = out.len() - fade;
            for (i, sample) in out[faded..].iter_mut().enumerate() {
                *sample = (i64::from(*sample) * (fade - i) as i64 / fade as i64) as i16;
            }
        }
    }

    /// How many samples of the packet before `packet` it carries as well, for the case of its loss (in-band FEC).
    pub(super) fn redundancy(&self, packet: &[u8]) -> Option<usize> {
        has_redundancy(packet).then(|| frame_length(packet[0]) * self.rate / 48_000)
    }

    /// Appends the audio of the lost packet before `packet`, of which [`Opus::redundancy`] tells the length.
    pub(super) fn recover(&mut self, packet: &[u8], out: &mut Vec<i16>) {
        if let Some(count) = self.redundancy(packet) {
            self.run(out, |decoder, samples| {
                decoder.decode_fec(packet, count, samples.get_mut(..count).unwrap_or_default())
            });
        }
    }

    /// The library is young: should a hostile packet make it panic, its state is thrown away.
    fn run(
        &mut self,
        out: &mut Vec<i16>,
        work: impl FnOnce(&mut OpusDecoder, &mut [f32]) -> Result<usize, &'static str>,
    ) {
        let Some(decoder) = &mut self.inner else { return };
        let samples = &mut self.samples;
        match catch_unwind(AssertUnwindSafe(|| work(decoder, samples))) {
            Ok(Ok(count)) => {
                out.extend(samples.iter().take(count).map(|sample| (sample * 32_768.0).round() as i16))
            }
            Ok(Err(_)) => {}
            Err(_) => {
                self.panics += 1;
                self.renew();
            }
        }
    }

    fn renew(&mut self) {
        let wanted = self.panics < MOST_PANICS;
        self.inner = wanted.then(|| OpusDecoder::new(self.rate as i32, 1).ok().map(Box::new)).flatten();
    }
}

/// Samples of a frame at 48 kHz (RFC 6716, table 2).
fn frame_length(toc: u8) -> usize {
    let size = usize::from(toc >> 3 & 3);
    match toc >> 3 {
        // SILK: 10, 20, 40 and 60 ms.
        0..12 => [480, 960, 1920, 2880][size],
        // Hybrid: 10 and 20 ms.
        12..16 => [480, 960][size & 1],
        // CELT: 2.5 to 20 ms.
        _ => 120 << size,
    }
}

/// Whether the first frame carries the packet before in low bit rate (LBRR): the flags stand in the first bits of
/// its SILK layer (RFC 6716 section 4.2.3), as the range coder has not begun to mix them.
fn has_redundancy(packet: &[u8]) -> bool {
    let Some((&toc, rest)) = packet.split_first() else { return false };
    if toc & 0x80 != 0 {
        return false;
    }
    let Some(&flags) = first_frame(toc, rest).and_then(<[u8]>::first) else { return false };
    // A flag of voice activity for each 20 ms and one of redundancy, then the same of the second channel.
    let parts = (frame_length(toc) / 960).max(1);
    let stereo = toc & 4 != 0;
    flags >> (7 - parts) & 1 == 1 || stereo && flags >> (6 - 2 * parts) & 1 == 1
}

/// The first frame and what follows it (RFC 6716 section 3.2); `None` when it is empty.
fn first_frame(toc: u8, rest: &[u8]) -> Option<&[u8]> {
    let length = |bytes: &[u8]| match bytes {
        [short @ ..252, ..] => Some((1, usize::from(*short))),
        [long, more, ..] => Some((2, usize::from(*long) + 4 * usize::from(*more))),
        _ => None,
    };
    let after_length = |bytes: &[u8], others: usize| {
        let (mut place, mut first) = (0, 0);
        for other in 0..others {
            let (octets, frame) = length(bytes.get(place..)?)?;
            place += octets;
            first = if other == 0 { frame } else { first };
        }
        (first > 0).then_some(place)
    };
    match toc & 3 {
        0 | 1 => Some(rest),
        2 => rest.get(after_length(rest, 1)?..),
        _ => {
            let (&count, mut rest) = rest.split_first()?;
            if count & 0x40 != 0 {
                while let Some((&255, more)) = rest.split_first() {
                    rest = more;
                }
                rest = rest.get(1..)?;
            }
            let frames = usize::from(count & 0x3f);
            if count & 0x80 != 0 && frames > 1 {
                rest.get(after_length(rest, frames - 1)?..)
            } else {
                Some(rest)
            }
        }
    }
}
