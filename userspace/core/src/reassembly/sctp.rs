//! SCTP chunks to messages (RFC 9260; interleaved ones: RFC 8260), in bounded memory.
//!
//! Most messages are in one chunk and are handed on as they come: nobody here needs them in the order of their stream,
//! and a second copy is a retransmission to whoever reads it. The pieces of others wait for each other, in any order.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use crate::time::{SECOND, Timestamp};
use crate::wire::{FlowKey, SctpPacket};

/// Pieces wait no longer for those that are missing.
const TIMEOUT: i64 = 30 * SECOND;
/// No message that is of use here is longer, as none that comes by UDP is.
const MAX_MESSAGE: usize = 64 * 1024;
/// Nor is it in more pieces.
const MAX_PIECES: usize = 256;

const DATA: u8 = 0;
const I_DATA: u8 = 64;
const ENDS: u8 = 0x01;
const BEGINS: u8 = 0x02;
const UNORDERED: u8 = 0x04;

/// Messages of which some pieces are still missing.
pub struct Messages {
    open: HashMap<Key, Open, foldhash::fast::RandomState>,
    /// In order of their first piece, for time-out and eviction. May name what is done.
    order: VecDeque<(Timestamp, Key)>,
    capacity: usize,
    /// What was given up: too old, too long, or too many.
    pub abandoned: u64,
}

/// What tells the pieces of different messages apart. Those of unordered messages are told apart by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    flow: FlowKey,
    /// Verification tag: the association, where its addresses and ports are used again.
    tag: u32,
    is_interleaved: bool,
    is_unordered: bool,
    stream: u16,
    message: u32,
}

struct Open {
    since: Timestamp,
    /// By TSN, or the number within the message where messages are interleaved.
    pieces: BTreeMap<u32, Piece>,
    bytes: usize,
    /// Of the last message that was put together, its first place and how many: second copies of them are no pieces of
    /// the next one.
    done: Option<(u32, u32)>,
}

struct Piece {
    begins: bool,
    ends: bool,
    data: Vec<u8>,
}

/// A chunk with a message or a piece of one.
struct Chunk<'a> {
    key: Key,
    place: u32,
    begins: bool,
    ends: bool,
    data: &'a [u8],
    /// By the capture.
    is_cut: bool,
}

impl Messages {
    /// Keeps pieces of at most `capacity` incomplete messages; the oldest is given up first.
    pub fn new(capacity: usize) -> Messages {
        Messages { open: HashMap::default(), order: VecDeque::new(), capacity, abandoned: 0 }
    }

    /// Takes a packet. Returns the messages that are complete with it; of one that the capture cut, what there is.
    pub fn add<'a>(&mut self, now: Timestamp, flow: &FlowKey, packet: &SctpPacket<'a>) -> Vec<Cow<'a, [u8]>> {
        let mut messages = Vec::new();
        let mut rest = packet.chunks;
        while let Some((chunk, after)) = split(rest) {
            rest = after;
            let Some(chunk) = data(flow, packet.tag, chunk) else { continue };
            if chunk.data.is_empty() {
                continue;
            }
            if chunk.begins && chunk.ends {
                messages.push(Cow::Borrowed(chunk.data));
            } else if !chunk.is_cut {
                messages.extend(self.keep(now, &chunk).map(Cow::Owned));
            }
        }
        messages
    }

    /// Messages that still wait for pieces.
    pub fn waiting(&self) -> usize {
        self.open.values().filter(|open| !open.pieces.is_empty()).count()
    }

    /// Keeps a piece. Returns the message when it was the last one missing.
    fn keep(&mut self, now: Timestamp, chunk: &Chunk<'_>) -> Option<Vec<u8>> {
        self.expire(now);
        let key = chunk.key;
        let open = self.open.entry(key).or_insert_with(|| {
            self.order.push_back((now, key));
            Open { since: now, pieces: BTreeMap::new(), bytes: 0, done: None }
        });
        if open.done.is_some_and(|(first, count)| chunk.place.wrapping_sub(first) < count) {
            return None;
        }
        let &Chunk { place, begins, ends, data, .. } = chunk;
        open.pieces.entry(place).or_insert_with(|| {
            open.bytes += data.len();
            Piece { begins, ends, data: data.to_vec() }
        });
        if open.bytes > MAX_MESSAGE || open.pieces.len() > MAX_PIECES {
            self.open.remove(&key);
            self.abandoned += 1;
            return None;
        }
        let message = open.take_complete(place)?;
        // What comes now may be a second copy, or another message without order.
        open.since = now;
        self.order.push_back((now, key));
        Some(message)
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some(&(since, key)) = self.order.front() {
            if now.since(since) < TIMEOUT
                && self.open.len() < self.capacity
                && self.order.len() <= 2 * self.capacity
            {
                return;
            }
            self.order.pop_front();
            if self.open.get(&key).is_some_and(|open| open.since == since) {
                let is_complete = self.open.remove(&key).is_none_or(|open| open.pieces.is_empty());
                self.abandoned += u64::from(!is_complete);
            }
        }
    }
}

impl Open {
    /// The message that has a piece there, if none of its others is missing.
    fn take_complete(&mut self, place: u32) -> Option<Vec<u8>> {
        let (mut first, mut last) = (place, place);
        while !self.pieces.get(&first)?.begins {
            first = first.wrapping_sub(1);
        }
        while !self.pieces.get(&last)?.ends {
            last = last.wrapping_add(1);
        }
        let count = last.wrapping_sub(first).wrapping_add(1);
        let mut message = Vec::new();
        for place in 0..count {
            message.extend(self.pieces.remove(&first.wrapping_add(place))?.data);
        }
        self.bytes -= message.len();
        self.done = Some((first, count));
        Some(message)
    }
}

/// The next chunk with its head, as far as the capture has it, and what stands behind it.
fn split(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let [_, _, high, low, ..] = *packet else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < 4 {
        return None;
    }
    let after = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((&packet[..length.min(packet.len())], after))
}

/// What a chunk has of a message (RFC 9260, 3.3.1; RFC 8260, 2.1).
fn data<'a>(flow: &FlowKey, tag: u32, chunk: &'a [u8]) -> Option<Chunk<'a>> {
    let &[kind @ (DATA | I_DATA), flags, high, low, ref body @ ..] = chunk else { return None };
    let is_interleaved = kind == I_DATA;
    let is_cut = chunk.len() < usize::from(u16::from_be_bytes([high, low]));
    let header = if is_interleaved { 16 } else { 12 };
    let (head, data) = body.split_at_checked(header)?;
    let be32 = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (begins, ends, is_unordered) = (flags & BEGINS != 0, flags & ENDS != 0, flags & UNORDERED != 0);
    let stream = u16::from_be_bytes([head[4], head[5]]);
    let (message, place) = match is_interleaved {
        // The first piece has the protocol where the others have their number.
        true => (be32(8), if begins { 0 } else { be32(12) }),
        false if is_unordered => (0, be32(0)),
        false => (u32::from(u16::from_be_bytes([head[6], head[7]])), be32(0)),
    };
    let key = Key { flow: *flow, tag, is_interleaved, is_unordered, stream, message };
    Some(Chunk { key, place, begins, ends, data, is_cut })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::MILLISECOND;
    use crate::wire::Endpoint;

    fn flow() -> FlowKey {
        let end = |last| Endpoint::new([192, 0, 2, last].into(), 5060);
        FlowKey { source: end(1), destination: end(2) }
    }

    fn chunk(kind: u8, flags: u8, head: &[u8], data: &[u8]) -> Vec<u8> {
        let length = (4 + head.len() + data.len()) as u16;
        let mut bytes = [&[kind, flags][..], &length.to_be_bytes(), head, data].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A piece of stream 3.
    fn piece(tsn: u32, flags: u8, ssn: u16, data: &[u8]) -> Vec<u8> {
        let head = [&tsn.to_be_bytes()[..], &[0, 3], &ssn.to_be_bytes(), &[0; 4]].concat();
        chunk(DATA, flags, &head, data)
    }

    fn interleaved(tsn: u32, flags: u8, message: u32, number: u32, data: &[u8]) -> Vec<u8> {
        let head = [tsn, 3 << 16, message, number].map(u32::to_be_bytes).concat();
        chunk(I_DATA, flags, &head, data)
    }

    fn add(messages: &mut Messages, at: i64, chunks: &[u8]) -> Vec<Vec<u8>> {
        let packet = SctpPacket { tag: 7, chunks };
        messages.add(Timestamp(at), &flow(), &packet).into_iter().map(Cow::into_owned).collect()
    }

    #[test]
    fn several_messages_in_a_packet() {
        let sack = chunk(3, 0, &[0; 12], b"");
        let packet = [sack, piece(1, 3, 0, b"first"), piece(2, 7, 0, b"second")].concat();
        assert_eq!(add(&mut Messages::new(4), 0, &packet), [b"first".to_vec(), b"second".to_vec()]);
        // Cut by the capture: what is there is the message.
        assert_eq!(add(&mut Messages::new(4), 0, &packet[..packet.len() - 4])[1], b"seco");
    }

    #[test]
    fn pieces_in_any_order_and_doubled_across_the_wrap() {
        let mut messages = Messages::new(4);
        let pieces = [
            piece(0, ENDS, 9, b"ef"),
            piece(u32::MAX, 0, 9, b"cd"),
            piece(u32::MAX, 0, 9, b"cd"),
            piece(u32::MAX - 1, BEGINS, 9, b"ab"),
        ];
        let found: Vec<_> = pieces.iter().flat_map(|piece| add(&mut messages, 0, piece)).collect();
        assert_eq!(found, [b"abcdef"]);
        // Second copies are no message, and nothing that is missing.
        for piece in &pieces {
            assert!(add(&mut messages, 1, piece).is_empty());
        }
        add(&mut messages, 100 * SECOND, &piece(50, BEGINS, 10, b"x"));
        assert_eq!((messages.waiting(), messages.abandoned), (1, 0));
    }

    #[test]
    fn pieces_of_different_messages_are_told_apart() {
        let mut messages = Messages::new(4);
        let pieces = [
            piece(1, BEGINS, 1, b"a"),
            interleaved(2, BEGINS, 1, 0, b"A"),
            interleaved(3, BEGINS | UNORDERED, 1, 0, b"x"),
            interleaved(4, ENDS, 1, 1, b"B"),
            interleaved(5, ENDS | UNORDERED, 1, 1, b"y"),
            piece(2, ENDS, 1, b"b"),
            piece(9, BEGINS | UNORDERED, 0, b"1"),
            piece(10, ENDS | UNORDERED, 0, b"2"),
            piece(11, BEGINS | UNORDERED, 0, b"3"),
            piece(12, ENDS | UNORDERED, 0, b"4"),
        ];
        let found: Vec<_> = pieces.iter().flat_map(|piece| add(&mut messages, 0, piece)).collect();
        assert_eq!(found, [&b"AB"[..], b"xy", b"ab", b"12", b"34"]);
        assert_eq!(messages.waiting(), 0);
    }

    #[test]
    fn bounded_and_timed_out() {
        let mut messages = Messages::new(4);
        for ssn in 0..100_u16 {
            add(&mut messages, i64::from(ssn) * MILLISECOND, &piece(u32::from(ssn) * 2, BEGINS, ssn, b"x"));
        }
        assert_eq!((messages.waiting(), messages.abandoned), (4, 96));
        add(&mut messages, 100 * SECOND, &piece(1000, BEGINS, 1000, b"x"));
        assert_eq!((messages.waiting(), messages.abandoned), (1, 100));
        // One that does not end.
        let mut messages = Messages::new(4);
        for tsn in 0..10_000 {
            let flags = if tsn == 0 { BEGINS } else { 0 };
            add(&mut messages, 0, &piece(tsn, flags, 0, &[0; 1000]));
            assert!(messages.open.values().all(|open| open.bytes <= MAX_MESSAGE));
        }
        assert!(messages.abandoned > 100);
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_chunks(packets in proptest::collection::vec(any::<Vec<u8>>(), 0..20)) {
            let mut messages = Messages::new(2);
            for packet in &packets {
                for message in add(&mut messages, 0, packet) {
                    prop_assert!(!message.is_empty());
                }
            }
        }

        #[test]
        fn any_order_gives_the_same_message(
            count in 1_u32..20,
            start: u32,
            swaps in proptest::collection::vec((0_usize..20, 0_usize..20), 0..40),
        ) {
            let flags = |at| if at == 0 { BEGINS } else { 0 } | if at + 1 == count { ENDS } else { 0 };
            let mut pieces: Vec<_> =
                (0..count).map(|at| piece(start.wrapping_add(at), flags(at), 1, &[at as u8, 0])).collect();
            for (a, b) in swaps {
                pieces.swap(a % count as usize, b % count as usize);
            }
            let mut messages = Messages::new(2);
            let found: Vec<_> = pieces.iter().flat_map(|piece| add(&mut messages, 0, piece)).collect();
            let whole: Vec<u8> = (0..count).flat_map(|at| [at as u8, 0]).collect();
            prop_assert_eq!(found, [whole]);
        }
    }
}
