//! Packets that are kept: because they have no decoder here, or because all are.

use super::super::packet::Packet;
use super::super::undecoded::Undecoded;
use super::{Playout, Stream};
use crate::codec::external;
use crate::time::{SECOND, Timestamp};

impl Stream {
    /// Keeps a packet that has no decoder here, or no key, if it is to be recorded.
    pub(super) fn keep_undecoded(
        &mut self,
        index: usize,
        packet: &Packet<'_>,
        place: Timestamp,
        out: &mut Playout<'_>,
    ) {
        let codec = &self.formats[index].codec;
        let is_wanted = packet.is_sealed || codec.is_undecoded_audio();
        let Some(tape) = out.tape.as_mut().filter(|_| is_wanted && (out.keeps)()) else {
            return;
        };
        if place < tape.start {
            return;
        }
        let length = self.length(index, packet);
        out.undecoded.push(Undecoded {
            is_heard: false,
            codec: codec.clone(),
            secure: packet.is_sealed,
            at: packet.at.since(tape.start),
            place: place.since(tape.start),
            length,
            packet: if tape.reserve(place, length) { packet.kept() } else { packet.without_payload() },
        });
    }

    /// Keeps a packet that is decoded here, if all are to be kept; of redundant audio what is said in it for the first time.
    /// Nothing is kept of a pause. `length` is 0 when it is not known how long it is heard.
    pub(super) fn keep_heard(
        &mut self,
        index: usize,
        packet: &Packet<'_>,
        place: Timestamp,
        length: i64,
        out: &mut Playout<'_>,
    ) {
        if !out.keeps_all {
            return;
        }
        let codec = &self.formats[index].codec;
        let Some(tape) = out.tape.as_mut() else { return };
        if tape.keep(place, length) {
            out.undecoded.push(Undecoded {
                is_heard: true,
                codec: codec.clone(),
                secure: false,
                at: packet.at.since(tape.start),
                place: place.since(tape.start),
                length,
                packet: packet.kept(),
            });
        }
    }

    /// How long a packet is heard, in nanoseconds; 0 when that is not known.
    fn length(&self, index: usize, packet: &Packet<'_>) -> i64 {
        let codec = &self.formats[index].codec;
        let ticks = match self.span.packet() {
            _ if codec.clock == 0 => 0,
            // The first packet.
            0 if packet.is_sealed => 0,
            0 => external::ticks(codec, packet.payload).unwrap_or(0),
            ticks => ticks,
        };
        ticks.saturating_mul(SECOND) / i64::from(codec.clock.max(1))
    }
}
