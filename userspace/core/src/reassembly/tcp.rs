//! TCP segments to a stream of bytes, one direction at a time.
//!
//! A mirror port loses segments and joins connections in the middle, so a stream here may have gaps. What
//! is in order is handed on at once, without a copy; what came early waits, in bounded memory, until the
//! missing bytes come or are given up.

use std::collections::BTreeMap;

use crate::time::{SECOND, Timestamp};
use crate::wire::Segment;

/// How long bytes that came early wait for those before them.
const GAP_TIMEOUT: i64 = 3 * SECOND;
/// Bytes that may wait in one direction of a connection.
const MAX_WAITING: usize = 256 * 1024;
/// A segment that waits takes so many bytes more than it carries.
const OVERHEAD: usize = 64;

/// One direction of a connection.
#[derive(Default)]
pub struct Direction {
    /// Where the next byte in order stands, once that is known: an offset whose low 32 bits are the
    /// sequence number and which does not wrap.
    next: Option<u64>,
    /// What came early, by offset.
    early: BTreeMap<u64, Vec<u8>>,
    waiting: usize,
    waiting_since: Timestamp,
}

/// Bytes of the stream, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// The next bytes.
    Data(&'a [u8]),
    /// Bytes are missing here and will not come.
    Gap,
}

impl Direction {
    /// Takes a segment and hands what is now in order to `deliver`.
    pub fn add(&mut self, now: Timestamp, segment: &Segment<'_>, mut deliver: impl FnMut(Chunk<'_>)) {
        let sequence = segment.sequence.wrapping_add(u32::from(segment.syn));
        let mut start = self.offset(sequence);
        if segment.syn && self.next.is_some_and(|next| next.abs_diff(start) > MAX_WAITING as u64) {
            // A new connection on the same ports.
            *self = Direction::default();
            start = self.offset(sequence);
        }
        if segment.syn || self.next.is_none() {
            self.next.get_or_insert(start);
        }
        if !segment.payload.is_empty() {
            self.keep_or_deliver(now, start, segment.payload, &mut deliver);
        }
        self.give_up_gaps(now, &mut deliver);
    }

    /// Bytes of memory in which data waits for what comes before it.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn offset(&self, sequence: u32) -> u64 {
        match self.next {
            None => (1 << 32) + u64::from(sequence),
            Some(next) => next.saturating_add_signed(i64::from(sequence.wrapping_sub(next as u32) as i32)),
        }
    }

    fn keep_or_deliver(
        &mut self,
        now: Timestamp,
        start: u64,
        payload: &[u8],
        deliver: &mut impl FnMut(Chunk<'_>),
    ) {
        if self.next.is_some_and(|next| start > next) {
            if self.early.is_empty() {
                self.waiting_since = now;
            }
            let slot = self.early.entry(start).or_default();
            if slot.len() < payload.len() {
                let overhead = if slot.is_empty() { OVERHEAD } else { 0 };
                self.waiting += overhead + payload.len() - slot.len();
                *slot = payload.to_vec();
            }
            return;
        }
        self.deliver_fresh(start, payload, deliver);
        self.drain(deliver);
    }

    /// Delivers what of `payload` has not been delivered before.
    fn deliver_fresh(&mut self, start: u64, payload: &[u8], deliver: &mut impl FnMut(Chunk<'_>)) {
        let Some(next) = self.next else { return };
        let seen = usize::try_from(next.saturating_sub(start)).unwrap_or(usize::MAX);
        if let Some(fresh) = payload.get(seen..).filter(|fresh| !fresh.is_empty()) {
            deliver(Chunk::Data(fresh));
            self.next = Some(next + fresh.len() as u64);
        }
    }

    fn drain(&mut self, deliver: &mut impl FnMut(Chunk<'_>)) {
        while let Some(entry) = self.early.first_entry()
            && self.next.is_some_and(|next| *entry.key() <= next)
        {
            let (start, payload) = entry.remove_entry();
            self.waiting -= OVERHEAD + payload.len();
            self.deliver_fresh(start, &payload, deliver);
        }
    }

    fn give_up_gaps(&mut self, now: Timestamp, deliver: &mut impl FnMut(Chunk<'_>)) {
        while self.waiting > MAX_WAITING || (self.waiting > 0 && now.since(self.waiting_since) > GAP_TIMEOUT)
        {
            let Some((&start, _)) = self.early.first_key_value() else { return };
            deliver(Chunk::Gap);
            self.next = Some(start);
            self.waiting_since = now;
            self.drain(deliver);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(sequence: u32, payload: &[u8]) -> Segment<'_> {
        Segment { sequence, syn: false, fin: false, rst: false, payload }
    }

    fn run(segments: &[(i64, Segment<'_>)]) -> Vec<u8> {
        let (mut direction, mut out) = (Direction::default(), Vec::new());
        for (at, segment) in segments {
            direction.add(Timestamp(*at), segment, |chunk| match chunk {
                Chunk::Data(data) => out.extend_from_slice(data),
                Chunk::Gap => out.push(b'|'),
            });
        }
        out
    }

    #[test]
    fn out_of_order_and_retransmitted_across_the_wrap() {
        let base = u32::MAX - 2;
        let at = |offset: u32| base.wrapping_add(offset);
        let segments = [
            (0, segment(at(0), b"ab")),
            (0, segment(at(4), b"ef")),
            (0, segment(at(4), b"ef")),
            (0, segment(at(1), b"bcd")),
            (0, segment(at(0), b"abcdefg")),
        ];
        assert_eq!(run(&segments), b"abcdefg");
    }

    #[test]
    fn a_lost_segment_is_given_up_after_a_while() {
        let segments = [(0, segment(0, b"ab")), (1, segment(4, b"ef")), (5 * SECOND, segment(6, b"gh"))];
        assert_eq!(run(&segments), b"ab|efgh");
    }

    #[test]
    fn memory_is_bounded() {
        let mut direction = Direction::default();
        direction.add(Timestamp(0), &segment(0, b"x"), |_| {});
        for i in 0..10_000u32 {
            direction.add(Timestamp(0), &segment(10 + i * 1000, &[0; 999]), |_| {});
            assert!(direction.waiting() <= MAX_WAITING);
        }
        // Of single bytes there are not as many: each takes its place in the list.
        let mut direction = Direction::default();
        direction.add(Timestamp(0), &segment(0, b"x"), |_| {});
        for i in 0..10_000u32 {
            direction.add(Timestamp(0), &segment(10 + i * 2, &[0]), |_| {});
        }
        assert!(direction.early.len() <= MAX_WAITING / OVERHEAD);
    }

    proptest! {
        #[test]
        fn any_order_within_reach_gives_the_same_bytes(
            text in proptest::collection::vec(any::<u8>(), 1..2000),
            cuts in proptest::collection::vec(1usize..200, 1..40),
            start: u32,
            swaps in proptest::collection::vec((0usize..40, 0usize..40), 0..40),
        ) {
            let mut segments = Vec::new();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(text.len());
                segments.push((0, segment(start.wrapping_add(at as u32), &text[at..end])));
                at = end;
                if at == text.len() { break }
            }
            // The first segment tells where the stream begins: all others may come in any order.
            for (a, b) in swaps {
                let (a, b) = (1 + a, 1 + b);
                if a < segments.len() && b < segments.len() { segments.swap(a, b) }
            }
            prop_assert_eq!(run(&segments), text);
        }
    }
}
