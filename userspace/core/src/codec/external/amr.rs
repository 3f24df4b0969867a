//! AMR and AMR-WB in RTP (RFC 4867 section 4) to the frames of their files (section 5).

use super::{Bits, Frame, Unreadable, push};

/// What differs between both.
pub(super) struct Kind {
    /// Bits of each speech frame by its type.
    speech: &'static [usize],
    /// Bits of other frames that carry anything: noise descriptions, by type.
    noise: &'static [(u8, usize)],
    /// A frame of the sender's that was lost on its way to it.
    lost: Option<u8>,
}

/// 3GPP TS 26.101: eight modes, its own noise description and those of GSM-EFR, TDMA-EFR and PDC-EFR.
pub(super) const NARROW: Kind = Kind {
    speech: &[95, 103, 118, 134, 148, 159, 204, 244],
    noise: &[(8, 39), (9, 43), (10, 38), (11, 37)],
    lost: None,
};

/// 3GPP TS 26.201: nine modes and the noise description.
pub(super) const WIDE: Kind =
    Kind { speech: &[132, 177, 253, 285, 317, 365, 397, 461, 477], noise: &[(9, 40)], lost: Some(14) };

/// Nothing was sent at that time.
const NO_DATA: u8 = 15;

/// A line of the table of contents: the frame's type, and whether it is undamaged.
struct Entry {
    kind: u8,
    good: bool,
}

/// The frames of a payload: those of speech as in a file, each with a byte of its type in front.
pub(super) fn frames(kind: &Kind, octet_aligned: bool, payload: &[u8]) -> Result<Vec<Frame>, Unreadable> {
    let mut bits = Bits::new(payload);
    let pad = if octet_aligned { 4 } else { 0 };
    // Which mode the sender would like to receive: none of our business.
    bits.take(4 + pad).ok_or(Unreadable::Truncated)?;
    let contents = contents(&mut bits, octet_aligned)?;
    let mut frames = Vec::new();
    for entry in contents {
        let Some(length) = kind.bits(entry.kind) else { return Err(Unreadable::UnknownFrame) };
        let taken = if octet_aligned { length.next_multiple_of(8) } else { length };
        let data = bits.take_bytes(taken).ok_or(Unreadable::Truncated)?;
        let is_speech = entry.good && usize::from(entry.kind) < kind.speech.len();
        let frame = if is_speech {
            let head = entry.kind << 3 | 1 << 2;
            Frame::Speech([&[head], &data[..]].concat())
        } else {
            Frame::Silence
        };
        push(&mut frames, frame)?;
    }
    Ok(frames)
}

fn contents(bits: &mut Bits<'_>, octet_aligned: bool) -> Result<Vec<Entry>, Unreadable> {
    let mut entries = Vec::new();
    loop {
        let line = bits.take(6).ok_or(Unreadable::Truncated)?;
        if octet_aligned {
            bits.take(2).ok_or(Unreadable::Truncated)?;
        }
        if entries.len() == super::MAX_FRAMES {
            return Err(Unreadable::TooMany);
        }
        entries.push(Entry { kind: line >> 1 & 0x0f, good: line & 1 != 0 });
        if line & 0x20 == 0 {
            return Ok(entries);
        }
    }
}

impl Kind {
    /// Bits of a frame of that type; `None` when there is no such type.
    fn bits(&self, kind: u8) -> Option<usize> {
        if kind == NO_DATA || self.lost == Some(kind) {
            return Some(0);
        }
        let noise = || self.noise.iter().find(|(noise, _)| *noise == kind).map(|&(_, bits)| bits);
        self.speech.get(usize::from(kind)).copied().or_else(noise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits, highest first, as bytes.
    fn pack(bits: &str) -> Vec<u8> {
        let bits: Vec<u8> =
            bits.bytes().filter(|bit| !bit.is_ascii_whitespace()).map(|bit| bit - b'0').collect();
        bits.chunks(8).map(|byte| byte.iter().enumerate().map(|(at, bit)| bit << (7 - at)).sum()).collect()
    }

    #[test]
    fn bandwidth_efficient_frames_follow_each_other_bit_by_bit() {
        // CMR 15; a frame of 12.2, one without data, one of 4.75.
        let (first, last) = ("10".repeat(122), "1".repeat(95));
        let payload = pack(&format!("1111 1 0111 1 1 1111 1 0 0000 1 {first} {last}"));
        let found = frames(&NARROW, false, &payload).unwrap();
        let mut file = vec![7 << 3 | 4];
        file.extend([0xaa; 30]);
        file.push(0xa0);
        assert_eq!(found[0], Frame::Speech(file));
        assert_eq!(found[1], Frame::Silence);
        let mut file = vec![4];
        file.extend([0xff; 11]);
        file.push(0xfe);
        assert_eq!(found[2], Frame::Speech(file));
        assert_eq!(frames(&NARROW, false, &payload[..40]), Err(Unreadable::Truncated));
    }

    #[test]
    fn octet_aligned_frames_of_wide_band() {
        let mut payload = vec![0xf0, 0x80 | 8 << 3 | 4, 9 << 3 | 4];
        payload.extend([0x5a; 60]);
        payload.extend([1; 5]);
        let found = frames(&WIDE, true, &payload).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], Frame::Silence);
        let Frame::Speech(first) = &found[0] else { panic!("{found:?}") };
        assert_eq!((first[0], first.len()), (8 << 3 | 4, 61));
    }

    #[test]
    fn damaged_frames_are_silent_and_unknown_ones_refused() {
        let mut payload = vec![0xf0, 7 << 3];
        payload.extend([0x5a; 31]);
        assert_eq!(frames(&NARROW, true, &payload).unwrap(), [Frame::Silence]);
        assert_eq!(frames(&NARROW, true, &[0xf0, 14 << 3 | 4]), Err(Unreadable::UnknownFrame));
        assert_eq!(frames(&WIDE, true, &[0xf0, 14 << 3 | 4]).unwrap(), [Frame::Silence]);
        assert_eq!(frames(&WIDE, true, &[]), Err(Unreadable::Truncated));
        assert_eq!(frames(&NARROW, false, &[0xff; 100]), Err(Unreadable::TooMany));
    }
}
