//! Codecs that a program outside decodes: from RTP payloads to the frames that its decoder reads.
//!
//! What is silent is said to be so and not handed on: frames that describe background noise, or that were
//! marked as damaged. So of every frame that is handed on it is known how many samples must come back.

mod amr;

use std::ops::Range;

use super::{Codec, CodecKind};

/// Frames of one payload; a hostile one could be cut into more.
const MAX_FRAMES: usize = 64;

/// How the frames of a codec stand in the stream that a decoder reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum External {
    /// G.729: frames of 10 bytes.
    G729,
    /// G.723.1: frames of 24 or 20 bytes, as their first bits say.
    G7231,
    /// iLBC (RFC 3952 section 5): `#!iLBC20` or `#!iLBC30` and a line feed, frames of 38 or 50 bytes.
    Ilbc {
        /// Milliseconds a frame: 20 or 30.
        mode: u8,
    },
    /// AMR (RFC 4867 section 5): `#!AMR` and a line feed, frames that begin with a byte of their type.
    Amr,
    /// AMR-WB: the same with `#!AMR-WB`.
    AmrWb,
    /// Speex: each payload is a packet of Ogg.
    Speex {
        /// Samples a second: 8000, 16,000 or 32,000.
        rate: u32,
    },
}

/// A part of a payload, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// To be decoded.
    Speech(Vec<u8>),
    /// Nothing to be heard.
    Silence,
}

/// Why a payload has no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is shorter than it says, or nothing.
    Truncated,
    /// Frames of a type, or of a length, that there is none of.
    UnknownFrame,
    /// More frames than make sense.
    TooMany,
}

impl External {
    /// The format of a codec of which the frames of `payload` are; `None` for one that no program is given.
    pub fn of(codec: &Codec, payload: &[u8]) -> Option<External> {
        Some(match codec.kind {
            CodecKind::G729 => External::G729,
            CodecKind::G7231 => External::G7231,
            // Whatever was said, the length tells.
            CodecKind::Ilbc { mode: 20 }
                if !payload.len().is_multiple_of(38) && payload.len().is_multiple_of(50) =>
            {
                External::Ilbc { mode: 30 }
            }
            CodecKind::Ilbc { mode: 30 }
                if !payload.len().is_multiple_of(50) && payload.len().is_multiple_of(38) =>
            {
                External::Ilbc { mode: 20 }
            }
            CodecKind::Ilbc { mode } => External::Ilbc { mode },
            CodecKind::Amr { .. } => External::Amr,
            CodecKind::AmrWb { .. } => External::AmrWb,
            CodecKind::Speex => External::Speex { rate: codec.clock },
            _ => return None,
        })
    }

    /// Samples a second of what is decoded: the clock rate of the codec's timestamps as well.
    pub fn rate(self) -> u32 {
        match self {
            External::AmrWb => 16_000,
            External::Speex { rate } => rate,
            External::G729 | External::G7231 | External::Ilbc { .. } | External::Amr => 8000,
        }
    }

    /// Samples that one frame decodes to. Of Speex, a frame is a payload with one frame in it.
    pub fn frame_samples(self) -> usize {
        match self {
            External::G729 => 80,
            External::G7231 => 240,
            External::Ilbc { mode } => usize::from(mode) * 8,
            External::Amr => 160,
            External::AmrWb => 320,
            External::Speex { rate } => rate as usize / 50,
        }
    }

    /// The frames of a payload of `codec`, which has this format.
    pub fn frames(self, codec: &Codec, payload: &[u8]) -> Result<Vec<Frame>, Unreadable> {
        match (self, codec.kind) {
            (External::G729, _) => g729(payload),
            (External::G7231, _) => g7231(payload),
            (External::Ilbc { mode }, _) => ilbc(mode, payload),
            (External::Amr, CodecKind::Amr { octet_aligned }) => {
                amr::frames(&amr::NARROW, octet_aligned, payload)
            }
            (External::AmrWb, CodecKind::AmrWb { octet_aligned }) => {
                amr::frames(&amr::WIDE, octet_aligned, payload)
            }
            (External::Speex { .. }, _) => speex(payload),
            _ => Err(Unreadable::UnknownFrame),
        }
    }
}

/// How many ticks of its clock a payload is heard, if it can be told from the payload alone.
pub fn ticks(codec: &Codec, payload: &[u8]) -> Option<i64> {
    let format = External::of(codec, payload).filter(|format| !matches!(format, External::Speex { .. }))?;
    let frames = format.frames(codec, payload).ok()?;
    i64::try_from(frames.len() * format.frame_samples()).ok()
}

/// RFC 3551, 4.5.6: frames of 10 bytes; the last may be of 2, which describe noise (Annex B).
fn g729(payload: &[u8]) -> Result<Vec<Frame>, Unreadable> {
    let (frames, rest) = payload.as_chunks::<10>();
    let noise = match rest.len() {
        0 if frames.is_empty() => return Err(Unreadable::Truncated),
        0 => None,
        2 => Some(Frame::Silence),
        _ => return Err(Unreadable::UnknownFrame),
    };
    collect(frames.iter().map(|frame| speech(frame)).chain(noise))
}

/// RFC 3551, 4.5.3: the two lowest bits of a frame's first byte tell its length.
fn g7231(mut payload: &[u8]) -> Result<Vec<Frame>, Unreadable> {
    let mut frames = Vec::new();
    while let Some(first) = payload.first() {
        let (length, is_speech) = match first & 3 {
            0 => (24, true),
            1 => (20, true),
            2 => (4, false),
            _ => (1, false),
        };
        let (frame, rest) = payload.split_at_checked(length).ok_or(Unreadable::Truncated)?;
        push(&mut frames, if is_speech { speech(frame) } else { Frame::Silence })?;
        payload = rest;
    }
    if frames.is_empty() { Err(Unreadable::Truncated) } else { Ok(frames) }
}

fn ilbc(mode: u8, payload: &[u8]) -> Result<Vec<Frame>, Unreadable> {
    let length = if mode == 20 { 38 } else { 50 };
    if payload.is_empty() {
        return Err(Unreadable::Truncated);
    }
    if !payload.len().is_multiple_of(length) {
        return Err(Unreadable::UnknownFrame);
    }
    collect(payload.chunks(length).map(speech))
}

/// Frames of Speex say nothing of their length: only a decoder can tell them apart.
fn speex(payload: &[u8]) -> Result<Vec<Frame>, Unreadable> {
    if payload.is_empty() { Err(Unreadable::Truncated) } else { Ok(vec![speech(payload)]) }
}

fn speech(frame: &[u8]) -> Frame {
    Frame::Speech(frame.to_vec())
}

fn push(frames: &mut Vec<Frame>, frame: Frame) -> Result<(), Unreadable> {
    if frames.len() == MAX_FRAMES {
        return Err(Unreadable::TooMany);
    }
    frames.push(frame);
    Ok(())
}

fn collect(found: impl Iterator<Item = Frame>) -> Result<Vec<Frame>, Unreadable> {
    let mut frames = Vec::new();
    found.into_iter().try_for_each(|frame| push(&mut frames, frame))?;
    Ok(frames)
}

/// Bits of a payload, the highest of a byte first.
#[derive(Clone)]
struct Bits<'a> {
    bytes: &'a [u8],
    rest: Range<usize>,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, rest: 0..bytes.len() * 8 }
    }

    /// The next bits, at most 8, as the lowest of a byte.
    fn take(&mut self, count: usize) -> Option<u8> {
        if self.rest.len() < count {
            return None;
        }
        let bits = self.rest.start..self.rest.start + count;
        self.rest.start = bits.end;
        Some(bits.fold(0, |byte, at| byte << 1 | (self.bytes[at / 8] >> (7 - at % 8)) & 1))
    }

    /// The next bits as bytes, the last filled up with zeros.
    fn take_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        if self.rest.len() < count {
            return None;
        }
        let mut bytes = Vec::with_capacity(count.div_ceil(8));
        let mut left = count;
        while left > 0 {
            let now = left.min(8);
            bytes.push(self.take(now)? << (8 - now));
            left -= now;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn codec(name: &str, clock: u32, fmtp: &str) -> Codec {
        Codec::from_rtpmap(name, clock, 1).with_parameters(fmtp)
    }

    fn kinds(frames: &[Frame]) -> String {
        frames.iter().map(|frame| if *frame == Frame::Silence { '-' } else { 's' }).collect()
    }

    fn shape(codec: &Codec, payload: &[u8]) -> Result<String, Unreadable> {
        let format = External::of(codec, payload).unwrap();
        format.frames(codec, payload).map(|frames| kinds(&frames))
    }

    #[test]
    fn g729_with_noise_at_the_end() {
        let g729 = codec("G729", 8000, "annexb=yes");
        for (length, found) in [
            (20, Ok("ss")),
            (22, Ok("ss-")),
            (2, Ok("-")),
            (0, Err(Unreadable::Truncated)),
            (13, Err(Unreadable::UnknownFrame)),
            (10 * 65, Err(Unreadable::TooMany)),
        ] {
            assert_eq!(shape(&g729, &vec![7; length]).as_deref(), found.as_ref().copied(), "{length}");
        }
    }

    #[test]
    fn g7231_by_its_first_bits() {
        let g723 = codec("G723", 8000, "");
        let frames = [vec![0; 24], vec![1; 20], vec![2; 4], vec![3]];
        assert_eq!(shape(&g723, &frames.concat()).unwrap(), "ss--");
        assert_eq!(shape(&g723, &frames[0][..23]), Err(Unreadable::Truncated));
        assert_eq!(shape(&g723, &[]), Err(Unreadable::Truncated));
    }

    #[test]
    fn the_length_of_ilbc_tells_its_mode() {
        let (twenty, thirty) = (codec("iLBC", 8000, "mode=20"), codec("iLBC", 8000, ""));
        for (codec, length, mode) in [
            (&twenty, 38, 20),
            (&twenty, 50, 30),
            (&twenty, 950, 20),
            (&thirty, 100, 30),
            (&thirty, 76, 20),
            (&thirty, 950, 30),
        ] {
            let payload = vec![0; length];
            let format = External::of(codec, &payload).unwrap();
            assert_eq!(format, External::Ilbc { mode }, "{length}");
            let frames = format.frames(codec, &payload).unwrap();
            assert_eq!(frames.len(), length / if mode == 20 { 38 } else { 50 });
        }
        assert_eq!(shape(&thirty, &[0; 51]), Err(Unreadable::UnknownFrame));
    }

    #[test]
    fn what_is_decoded_here_or_nowhere_is_not_handed_on() {
        for other in [codec("PCMU", 8000, ""), codec("BV32", 16_000, ""), codec("AMR", 8000, "crc=1")] {
            assert_eq!(External::of(&other, &[0; 20]), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            for codec in [
                codec("G729", 8000, ""),
                codec("G723", 8000, ""),
                codec("iLBC", 8000, ""),
                codec("AMR", 8000, ""),
                codec("AMR", 8000, "octet-align=1"),
                codec("AMR-WB", 16_000, ""),
                codec("AMR-WB", 16_000, "octet-align=1"),
                codec("speex", 16_000, ""),
            ] {
                let format = External::of(&codec, &payload).unwrap();
                if let Ok(frames) = format.frames(&codec, &payload) {
                    prop_assert!((1..=MAX_FRAMES).contains(&frames.len()));
                    let bytes: usize = frames.iter().map(|frame| match frame {
                        Frame::Speech(bytes) => bytes.len() - usize::from(matches!(format, External::Amr | External::AmrWb)),
                        Frame::Silence => 0,
                    }).sum();
                    prop_assert!(bytes <= payload.len() + frames.len());
                }
            }
        }
    }
}
