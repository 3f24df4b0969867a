//! Whether the packets of a stream are ciphertext, and their payload once it has been undone.

use super::packet::Packet;
use super::stream::Stream;
use crate::codec::{Codec, CodecKind};
use crate::srtp::{Encryption, Protection, Receiver, Sealed};

impl Stream {
    /// Decrypts a packet of a stream that belongs to a call, if that can be done. What it carries is in `clear` then.
    /// `ask` tells how the stream is protected; it is asked once, and again after [`Stream::reseal`].
    pub fn open<'a>(
        &mut self,
        packet: &Packet<'a>,
        codec: &dyn Fn(u8) -> Codec,
        ask: &dyn Fn() -> Protection,
        clear: &'a mut Vec<u8>,
    ) -> Packet<'a> {
        let was_closed = self.seal.encryption().is_some();
        let packet = self.seal.open(packet, self.ssrc, codec, ask, clear);
        let is_closed = self.seal.encryption().is_some();
        if was_closed != is_closed && !self.held.is_empty() {
            // What was found out of this packet holds for those before it.
            self.open_held(codec, ask);
        }
        packet
    }

    /// Decrypts what waits to be heard, as far as that can be done now.
    pub fn open_held(&mut self, codec: &dyn Fn(u8) -> Codec, ask: &dyn Fn() -> Protection) {
        let mut clear = Vec::new();
        // Which key it is, and how often numbers have wrapped, may be found out by a packet after the first.
        for _ in 0..2 {
            for held in self.held.iter_mut().filter(|held| !held.is_open) {
                let opened = self.seal.open(&held.packet(), self.ssrc, codec, ask, &mut clear);
                let (is_sealed, is_opened) = (opened.is_sealed, opened.raw.is_empty());
                if is_opened {
                    let length = opened.payload.len();
                    held.bytes = [opened.head, opened.payload].concat().into();
                    (held.length, held.is_open) = (length, true);
                }
                held.is_sealed = is_sealed;
            }
            if self.seal.encryption().is_some() || !self.held.iter().any(|held| held.is_sealed) {
                break;
            }
        }
        // A hunch comes with the third packet or so.
        if self.seal.encryption().is_some() {
            self.held.iter_mut().filter(|held| !held.is_open).for_each(|held| held.is_sealed = true);
        }
        self.held.weigh();
    }

    /// More may be known of how the stream is protected.
    pub fn reseal(&mut self) {
        self.seal.forget();
    }

    /// How the stream is encrypted, if none of its packets could be decrypted, or those that come now cannot.
    pub fn encryption(&self) -> Option<Encryption> {
        self.seal.encryption()
    }

    /// Packets that were decrypted, and those that were not authentic although the key is known.
    pub fn decrypted(&self) -> (u64, u64) {
        (self.seal.opened(), self.seal.failed())
    }
}

/// What is known of how a stream is protected.
#[derive(Default)]
pub(super) struct Seal {
    state: State,
    /// More may be known by now: it is asked for with the next packet.
    is_stale: bool,
    receiver: Option<Box<Receiver>>,
    hunch: Hunch,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nobody has been asked.
    #[default]
    Unknown,
    None,
    /// The receiver has keys; it is this, if none of them fits.
    Keys(Option<Encryption>),
    Awaited(Encryption),
    Closed(Encryption),
}

impl Seal {
    /// More may be known by now.
    pub(super) fn forget(&mut self) {
        self.is_stale = true;
    }

    /// Whether the key may come yet.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.state, State::Awaited(_))
    }

    /// How it is encrypted, if nothing of it could be undone.
    pub(super) fn encryption(&self) -> Option<Encryption> {
        let hunch = || self.hunch.is_ciphertext().then_some(Encryption::Unknown);
        match self.state {
            State::Awaited(encryption) | State::Closed(encryption) => Some(encryption),
            State::Keys(_) if self.receiver.as_ref().is_some_and(|receiver| receiver.fits()) => None,
            State::Keys(otherwise) => otherwise.or_else(hunch),
            State::Unknown | State::None => hunch(),
        }
    }

    /// Packets that could not be undone, though the key of others is known.
    pub(super) fn failed(&self) -> u64 {
        self.receiver.as_ref().filter(|receiver| receiver.fits()).map_or(0, |receiver| receiver.failed)
    }

    /// Packets that were undone.
    pub(super) fn opened(&self) -> u64 {
        self.receiver.as_ref().map_or(0, |receiver| receiver.opened)
    }

    /// Undoes a packet: what it says is in `clear` then. `ask` tells what is known of the stream.
    pub(super) fn open<'a>(
        &mut self,
        packet: &Packet<'a>,
        ssrc: u32,
        codec: &dyn Fn(u8) -> Codec,
        ask: &dyn Fn() -> Protection,
        clear: &'a mut Vec<u8>,
    ) -> Packet<'a> {
        if self.is_stale || self.state == State::Unknown {
            self.is_stale = false;
            self.learn(ask());
        }
        if let State::Keys(otherwise) = self.state
            && let Some(receiver) = &mut self.receiver
        {
            let (header, body) = packet.raw.split_at(packet.header.min(packet.raw.len()));
            if receiver.open(&Sealed { header, body, sequence: packet.sequence, ssrc }, clear) {
                let is_padded = header.first().is_some_and(|first| first & 0x20 != 0);
                let padding =
                    if is_padded { clear.last().map_or(0, |&length| usize::from(length)) } else { 0 };
                let length = clear.len().saturating_sub(padding);
                return Packet {
                    payload: &clear[..length],
                    raw: &[],
                    header: 0,
                    is_sealed: false,
                    ..*packet
                };
            }
            if otherwise.is_some() || receiver.fits() {
                return Packet { is_sealed: true, ..*packet };
            }
        }
        let is_sealed = match self.state {
            State::Awaited(_) | State::Closed(_) => true,
            State::Unknown | State::None | State::Keys(_) => {
                self.hunch.observe(packet, codec);
                self.hunch.is_ciphertext()
            }
        };
        Packet { is_sealed, ..*packet }
    }

    fn learn(&mut self, protection: Protection) {
        self.state = match protection {
            Protection::None => State::None,
            Protection::Awaited(encryption) => State::Awaited(encryption),
            Protection::Closed(encryption) => State::Closed(encryption),
            Protection::Keys { keys, otherwise } => {
                match &mut self.receiver {
                    Some(receiver) => receiver.set_keys(keys),
                    None => self.receiver = Some(Box::new(Receiver::new(keys))),
                }
                State::Keys(otherwise)
            }
        };
    }
}

/// Ciphertext of which nothing speaks shows itself by its length: a codec of constant rate makes as many bytes as its
/// timestamps say, and SRTP puts a tag behind them.
#[derive(Default)]
struct Hunch {
    before: Option<Seen>,
    /// Packets looked at.
    looked_at: u8,
    /// Packets of just the length, and those with a tag.
    plain: u8,
    tagged: u8,
    /// The last packet has no usual length, but would have without a tag.
    is_suspect: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    sequence: u16,
    timestamp: u32,
    payload_type: u8,
    length: usize,
}

impl Hunch {
    /// Packets looked at before it is left at that.
    const LOOKS: u8 = 50;
    /// So many must agree.
    const ENOUGH: u8 = 2;
    /// Bytes behind the payload: tags of 32, 80 and 128 bits, and the first two with a key identifier of 4 bytes.
    const TAGS: [usize; 5] = [4, 8, 10, 14, 16];

    fn is_ciphertext(&self) -> bool {
        self.tagged >= Self::ENOUGH || self.is_suspect && !self.is_decided()
    }

    fn is_decided(&self) -> bool {
        self.looked_at >= Self::LOOKS || self.plain >= Self::ENOUGH || self.tagged >= Self::ENOUGH
    }

    fn observe(&mut self, packet: &Packet<'_>, codec: &dyn Fn(u8) -> Codec) {
        // They have a byte for each tick.
        let is_constant = |payload_type| {
            matches!(codec(payload_type).kind, CodecKind::Pcmu | CodecKind::Pcma | CodecKind::G722)
        };
        if self.is_decided() || !is_constant(packet.payload_type) {
            return;
        }
        self.looked_at += 1;
        // Multiples of 10 ms, or of 5.
        let is_usual = |length: usize| length.is_multiple_of(40);
        self.is_suspect = !is_usual(packet.payload.len())
            && Self::TAGS.into_iter().any(|tag| packet.payload.len().checked_sub(tag).is_some_and(is_usual));
        let Packet { sequence, timestamp, payload_type, .. } = *packet;
        let now = Seen { sequence, timestamp, payload_type, length: packet.payload.len() };
        let Some(before) = self.before.replace(now) else { return };
        let step = now.timestamp.wrapping_sub(before.timestamp);
        if now != (Seen { sequence: before.sequence.wrapping_add(1), timestamp: now.timestamp, ..before }) {
            return;
        }
        // No packet is shorter or longer than that.
        if !(40..=1600).contains(&step) {
            return;
        }
        let expected = step as usize;
        if now.length == expected {
            self.plain += 1;
        } else if now.length.checked_sub(expected).is_some_and(|tag| Self::TAGS.contains(&tag)) {
            self.tagged += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn judged(payload_type: u8, packets: &[(u16, u32, usize)]) -> bool {
        let mut hunch = Hunch::default();
        for &(sequence, timestamp, length) in packets {
            let payload = &vec![0; length][..];
            let packet = Packet { sequence, timestamp, payload_type, payload, ..Packet::bare(Timestamp(0)) };
            hunch.observe(&packet, &Codec::from_static);
        }
        hunch.is_ciphertext()
    }

    #[test]
    fn a_tag_behind_each_packet() {
        for tag in [4, 10, 16] {
            assert!(judged(0, &[(9, 0, 160 + tag), (10, 160, 160 + tag), (11, 320, 160 + tag)]));
            assert!(judged(9, &[(65_535, u32::MAX, 240 + tag), (0, 239, 240 + tag), (1, 479, 240 + tag)]));
            // Until it is known, it is not taken for plain.
            assert!(judged(8, &[(1, 0, 160 + tag)]));
        }
    }

    #[test]
    fn what_is_plain() {
        assert!(!judged(0, &[(1, 0, 160), (2, 160, 160), (3, 320, 160)]));
        // An odd packet length is nobody else's business.
        assert!(!judged(0, &[(1, 0, 170), (2, 170, 170), (3, 340, 170), (4, 510, 170)]));
        // Timestamps that stand still, or run by another clock.
        assert!(!judged(8, &[(1, 0, 160), (2, 0, 160), (3, 0, 160)]));
        assert!(!judged(8, &[(1, 0, 160), (2, 320, 160), (3, 640, 160)]));
        // Another codec's packets may be of any length.
        assert!(!judged(18, &[(1, 0, 30), (2, 160, 30), (3, 320, 30)]));
    }
}
