//! Streams that carry the same payloads: what a relay sends on is what it has received.
//!
//! A PBX or a media relay that does not transcode changes addresses, SSRC, numbers and timestamps, but not a byte of what
//! is said. So equal payloads tell that two calls are legs of one, whatever their signalling says, and which of two
//! streams of one side is but a copy of the other. It is looked for in the first seconds of a flow, and after the answer;
//! a packet later than that costs nothing.
//!
//! What is equal without being the same: silence (few different bytes), tones (payloads come again soon), music that one
//! server plays to many (it leaves the same host in several calls).

use std::hash::{BuildHasher, Hasher};

use super::{Call, Context};
use crate::media::{CallKey, FlowId};
use crate::record::Side;
use crate::rtp::Packet;
use crate::time::{MILLISECOND, SECOND, Timestamp};
use crate::wire::FlowKey;

/// Payloads are compared for so long after a flow has come to a call, or the call has been answered.
pub(super) const COMPARED: i64 = 5 * SECOND;
/// A relay does not hold a packet for longer.
const RELAYED: i64 = 250 * MILLISECOND;
/// Lengths of payloads that are compared: frames of speech, no pictures.
const LENGTHS: std::ops::RangeInclusive<usize> = 10..=1280;
/// Silence, and noise near it, has fewer different bytes.
const LEAST_VARIETY: u32 = 8;
/// Payloads that are compared at once.
const TOGETHER: usize = 2;
/// Such matches in a row tell that calls belong together: of eight packets.
const ENOUGH: u8 = 7;
/// A payload that comes again among so many is a tone's.
const RECENT: usize = 8;
/// Streams of a call that are compared at a time.
const MAX_EARS: usize = 16;
/// Prints that are kept: at 100 packets a second and call, those of the last [`RELAYED`] of 1300 calls that begin.
const PRINTS: usize = 1 << 15;

/// What was sent lately, by what it is.
#[derive(Default)]
pub struct Prints {
    /// By the last bits of the print. A newer one takes the place of an older.
    table: Vec<Print>,
}

#[derive(Clone, Copy)]
struct Print {
    print: u64,
    at: Timestamp,
    call: CallKey,
    flow: FlowId,
    side: Side,
    /// From which host.
    host: u128,
    /// That host has sent it in several calls.
    is_common: bool,
}

/// Whose payloads these have been before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    /// Nobody's, or it tells nothing.
    None,
    /// The same side's, on another flow.
    Copy,
    /// Another call's.
    Call(CallKey),
}

/// The latest payloads of one stream.
pub(super) struct Ear {
    flow: FlowId,
    ssrc: u32,
    next: u16,
    /// Different ones, latest last.
    recent: [u64; RECENT],
    /// How many of them have come without a gap.
    count: usize,
    /// Which call they have matched, and how often in a row.
    matched: Option<(CallKey, u8)>,
}

impl Prints {
    fn find(&mut self, new: Print) -> Match {
        if self.table.is_empty() {
            let none = Print { print: !new.print, ..new };
            self.table.resize(PRINTS, none);
        }
        let place = &mut self.table[new.print as usize % PRINTS];
        if place.print != new.print || new.at.since(place.at) > RELAYED {
            *place = new;
            return Match::None;
        }
        if place.call == new.call {
            let is_copy = place.flow != new.flow && place.side == new.side;
            return if is_copy { Match::Copy } else { Match::None };
        }
        place.is_common |= place.host == new.host;
        if place.is_common { Match::None } else { Match::Call(place.call) }
    }
}

impl Ear {
    fn new(flow: FlowId, ssrc: u32) -> Ear {
        Ear { flow, ssrc, next: 0, recent: [0; RECENT], count: 0, matched: None }
    }

    /// Takes a packet. Returns what it and those before it are, if they are enough to tell.
    fn hear(&mut self, packet: &Packet<'_>) -> Option<u64> {
        if packet.sequence != self.next {
            self.forget();
        }
        self.next = packet.sequence.wrapping_add(1);
        let print = print_of(packet.payload).filter(|print| !self.recent.contains(print));
        let Some(print) = print else {
            self.forget();
            return None;
        };
        self.recent.rotate_left(1);
        self.recent[RECENT - 1] = print;
        self.count += 1;
        (self.count >= TOGETHER).then(|| {
            let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
            self.recent[RECENT - TOGETHER..].iter().for_each(|print| hasher.write_u64(*print));
            hasher.finish()
        })
    }

    fn forget(&mut self) {
        (self.count, self.matched) = (0, None);
    }

    /// Counts matches. Returns the call with which there have been enough.
    fn count(&mut self, found: Match) -> Option<CallKey> {
        let Match::Call(call) = found else {
            self.matched = None;
            return None;
        };
        let before = self.matched.filter(|(known, _)| *known == call).map_or(0, |(_, count)| count);
        let count = before.saturating_add(1);
        self.matched = Some((call, count));
        (count == ENOUGH).then_some(call)
    }
}

impl Call {
    /// Payloads are compared from now on, for a while.
    pub(super) fn compare_from(&mut self, now: Timestamp) {
        if now > self.compared_until {
            self.ears.clear();
        }
        self.compared_until = now + COMPARED;
    }

    /// Compares a packet with what others have sent just now.
    pub(super) fn compare(
        &mut self,
        flow: FlowId,
        side: Side,
        stream: usize,
        packet: &Packet<'_>,
        context: &mut Context<'_>,
    ) {
        let found = context.flows.get(flow);
        let (FlowKey { source, .. }, Some(stream)) = (found.key, found.streams.get(stream)) else { return };
        let is_of = |ear: &Ear| (ear.flow, ear.ssrc) == (flow, stream.ssrc);
        let place = match self.ears.iter().position(is_of) {
            Some(place) => place,
            None if self.ears.len() == MAX_EARS => return,
            None => {
                self.ears.push(Ear::new(flow, stream.ssrc));
                self.ears.len() - 1
            }
        };
        let ear = &mut self.ears[place];
        let Some(print) = ear.hear(packet) else { return };
        let new =
            Print { print, at: packet.at, call: self.key, flow, side, host: source.ip, is_common: false };
        let found = context.prints.find(new);
        if found == Match::Copy {
            self.floors[side.channel()].note_copy(flow, stream.ssrc);
        }
        if let Some(call) = ear.count(found) {
            self.resembles = Some(call);
            self.is_stirred = true;
        }
    }
}

/// What tells a payload from others; `None` for one that may be sent by anybody.
fn print_of(payload: &[u8]) -> Option<u64> {
    if !LENGTHS.contains(&payload.len()) {
        return None;
    }
    let (mut seen, mut variety) = ([0u64; 4], 0);
    let is_varied = payload.iter().any(|&byte| {
        let (bits, bit) = (&mut seen[usize::from(byte >> 6)], 1 << (byte & 63));
        variety += u32::from(*bits & bit == 0);
        *bits |= bit;
        variety >= LEAST_VARIETY
    });
    is_varied.then(|| {
        let mut hasher = foldhash::fast::FixedState::with_seed(1).build_hasher();
        hasher.write(payload);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: [CallKey; 3] = [call(1), call(2), call(3)];

    const fn call(slot: usize) -> CallKey {
        CallKey { slot, generation: 1 }
    }

    fn packet(sequence: u16, payload: &[u8]) -> Packet<'_> {
        Packet { sequence, payload, ..Packet::bare(Timestamp(0)) }
    }

    fn speech(number: u8) -> Vec<u8> {
        (0..160u32).map(|byte| (byte * (u32::from(number) + 3) % 251) as u8).collect()
    }

    fn print(call: CallKey, host: u128, at: i64) -> Print {
        let (print, at) = (77, Timestamp(at));
        Print { print, at, call, flow: call.slot, side: Side::Caller, host, is_common: false }
    }

    #[test]
    fn silence_tones_and_gaps_are_no_speech() {
        let mut ear = Ear::new(0, 0);
        assert_eq!(print_of(&[0xff; 160]), None);
        assert_eq!(print_of(&[0xff, 0x7f, 0xfe, 0x7e].repeat(40)), None);
        assert_eq!(print_of(&speech(0)[..9]), None);
        // A tone of two packets is something new but once, which is too little to tie calls together.
        let tone = [speech(1), speech(2)];
        let told =
            (0..40).filter(|number| ear.hear(&packet(*number, &tone[usize::from(number % 2)])).is_some());
        assert_eq!(told.collect::<Vec<_>>(), [1]);
        let heard: Vec<bool> = [100, 101, 102, 103, 105, 106, 107]
            .into_iter()
            .map(|number| ear.hear(&packet(number, &speech(number as u8))).is_some())
            .collect();
        assert_eq!(heard, [false, true, true, true, false, true, true]);
    }

    #[test]
    fn what_a_relay_sends_on() {
        let mut prints = Prints::default();
        assert_eq!(prints.find(print(CALLS[0], 1, 0)), Match::None);
        assert_eq!(prints.find(print(CALLS[1], 2, MILLISECOND)), Match::Call(CALLS[0]));
        assert_eq!(prints.find(print(CALLS[2], 3, 2 * MILLISECOND)), Match::Call(CALLS[0]));
        let other_flow = Print { flow: 9, ..print(CALLS[0], 2, 2 * MILLISECOND) };
        assert_eq!(prints.find(other_flow), Match::Copy);
        assert_eq!(prints.find(Print { side: Side::Callee, ..other_flow }), Match::None);
        assert_eq!(prints.find(print(CALLS[1], 2, RELAYED + 1)), Match::None);
    }

    #[test]
    fn what_a_server_plays_to_many() {
        let mut prints = Prints::default();
        // Music to two callers, each through the same border controller.
        assert_eq!(prints.find(print(CALLS[0], 1, 0)), Match::None);
        assert_eq!(prints.find(print(CALLS[1], 1, 1)), Match::None);
        assert_eq!(prints.find(print(CALLS[2], 2, 2)), Match::None);
    }

    #[test]
    fn eight_packets_in_a_row_are_enough() {
        let mut ear = Ear::new(0, 0);
        let mut told = |found| ear.count(found);
        let same = Match::Call(CALLS[0]);
        assert!((1..ENOUGH).all(|_| told(same).is_none()));
        assert_eq!(told(Match::None), None);
        assert!((1..ENOUGH).all(|_| told(same).is_none()));
        assert_eq!(told(Match::Call(CALLS[1])), None);
        assert!((1..ENOUGH).all(|_| told(same).is_none()));
        assert_eq!(told(same), Some(CALLS[0]));
        assert_eq!(told(same), None);
        assert_eq!(usize::from(ENOUGH) + TOGETHER - 1, 8);
    }
}
