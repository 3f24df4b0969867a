//! Packets of recorded streams that are kept: because they have no decoder here, or because all are.

use super::packet::Packet;
use crate::codec::Codec;

/// A packet that is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecoded {
    /// It has been decoded all the same: it is kept because all are.
    pub is_heard: bool,
    /// What it carries, in which format.
    pub codec: Codec,
    /// Nobody but the parties has the key.
    pub secure: bool,
    /// When it came: nanoseconds from the tape's start.
    pub at: i64,
    /// When it is to be heard, likewise.
    pub place: i64,
    /// How long it is heard, in nanoseconds; 0 when that is not known.
    pub length: i64,
    /// The RTP packet, without padding; of one in a time of which nothing is kept only its first twelve bytes, so
    /// that it is not taken for lost.
    pub packet: Vec<u8>,
}

/// The bit of an RTP header's first byte that says that there is padding behind the payload.
const PADDING: u8 = 0x20;

impl Packet<'_> {
    /// Head and payload; of one that is encrypted all there is, as whoever has the key will need it.
    pub(super) fn kept(&self) -> Vec<u8> {
        if self.is_sealed {
            return self.raw.to_vec();
        }
        let mut bytes = [self.head, self.payload].concat();
        if let [first, second, ..] = &mut bytes[..] {
            *first &= !PADDING;
            // Of redundant audio it is what is inside.
            *second = *second & 0x80 | self.payload_type & 0x7f;
        }
        bytes
    }

    /// The header alone.
    pub(super) fn without_payload(&self) -> Vec<u8> {
        let mut bytes = self.head.to_vec();
        strip_payload(&mut bytes);
        bytes
    }
}

/// What of an RTP header says nothing of the payload: no extensions, which may tell how loud it is.
pub const BARE_HEADER: usize = 12;

/// Makes a packet one without payload.
pub fn strip_payload(packet: &mut Vec<u8>) {
    packet.truncate(BARE_HEADER);
    if let Some(first) = packet.first_mut() {
        // The version stays; there are no padding, no extension and no further sources.
        *first &= 0xc0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Reel, Tape, TapeId};
    use crate::record::Side;
    use crate::rtp::{Playout, Stream};
    use crate::time::{MILLISECOND, SECOND, Timestamp};

    const HEAD: [u8; 12] = [0xa0, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

    /// Runs packets of 20 ms, given by number and arrival in milliseconds, through a stream of G.729.
    fn run(packets: &[(u16, i64)], tape: &mut Tape, is_audio: bool) -> Vec<Undecoded> {
        let mut stream = Stream::new(9, Timestamp(0));
        let (mut undecoded, mut notes, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        let mut out = Playout {
            tape: Some(tape),
            since: Timestamp(i64::MIN),
            until: Timestamp::FAR_FUTURE,
            side: Side::Caller,
            codec: &Codec::from_static,
            keeps: &|| is_audio,
            keeps_all: false,
            undecoded: &mut undecoded,
            notes: &mut notes,
            scratch: &mut scratch,
        };
        for &(number, at) in packets {
            let (at, timestamp) = (Timestamp(at * MILLISECOND), u32::from(number) * 160);
            let payload = [number as u8; 20];
            let packet = Packet {
                sequence: number,
                timestamp,
                payload_type: 18,
                head: &HEAD,
                payload: &payload,
                ..Packet::bare(at)
            };
            stream.receive(&packet, &mut out);
        }
        stream.drain(Timestamp(SECOND), true, &mut out);
        undecoded
    }

    fn places(found: &[Undecoded]) -> Vec<(u8, i64)> {
        found.iter().map(|kept| (kept.packet[12], kept.place / MILLISECOND)).collect()
    }

    #[test]
    fn in_the_order_in_which_they_would_be_heard() {
        let mut tape = Tape::new(TapeId(1), Timestamp(0), 8000);
        // The third is late by a packet, the fourth comes twice, the sixth never.
        let packets = [(0, 0), (1, 20), (3, 60), (2, 65), (3, 61), (4, 80), (6, 120)];
        let found = run(&packets, &mut tape, true);
        assert_eq!(places(&found), [(0, 0), (1, 20), (2, 40), (3, 60), (4, 80), (6, 120)]);
        assert_eq!(found[2].at, 65 * MILLISECOND);
        assert_eq!((found[0].packet.len(), found[0].packet[0]), (32, 0x80));
        assert_eq!(found[5].length, 20 * MILLISECOND);
        // The recording is as long as if they were heard.
        assert_eq!(tape.extent(), 140 * 8);
    }

    #[test]
    fn not_what_is_no_audio() {
        let mut tape = Tape::new(TapeId(1), Timestamp(0), 8000);
        assert_eq!(run(&[(0, 0), (1, 20), (2, 40)], &mut tape, false), []);
        assert_eq!(tape.extent(), 0);
    }

    #[test]
    fn nothing_of_a_pause() {
        let mut tape = Tape::new(TapeId(1), Timestamp(0), 8000);
        let mut reels = Vec::new();
        tape.mute(Timestamp(90 * MILLISECOND)..Timestamp(170 * MILLISECOND), &mut |reel| reels.push(reel));
        let packets: Vec<(u16, i64)> = (0..15).map(|number| (number, i64::from(number) * 20)).collect();
        let found = run(&packets, &mut tape, true);
        let whole = found.iter().filter(|kept| kept.packet.len() > BARE_HEADER);
        let numbers: Vec<u8> = whole.map(|kept| kept.packet[12]).collect();
        assert_eq!((found.len(), &found[5].packet[..2]), (15, &[0x80, 18][..]));
        assert_eq!(numbers, [0, 1, 2, 3, 9, 10, 11, 12, 13, 14]);
        assert_eq!(reels, []);
        // What has been handed over is taken back.
        tape.mute(Timestamp(220 * MILLISECOND)..Timestamp(240 * MILLISECOND), &mut |reel| reels.push(reel));
        assert_eq!(reels, [Reel::Erase(220 * 8..240 * 8)]);
    }
}
