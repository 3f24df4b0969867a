//! Whether the packets of a stream are ciphertext, and their payload once it has been undone.

use super::stream::Packet;
use crate::codec::{Codec, CodecKind};
use crate::srtp::{Encryption, Protection, Receiver, Sealed};

/// What is known of how a stream is protected.
#[derive(Default)]
pub(super) struct Seal {
    state: State,
    receiver: Option<Box<Receiver>>,
    hunch: Hunch,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// To be asked for with the next packet.
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
        self.state = State::Unknown;
    }

    /// Whether the key may come yet.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.state, State::Awaited(_))
    }

    /// How it is encrypted, if nothing of it could be undone.
    pub(super) fn encryption(&self) -> Option<Encryption> {
        let fits = self.receiver.as_ref().is_some_and(|receiver| receiver.fits());
        match self.state {
            State::Awaited(encryption) | State::Closed(encryption) => Some(encryption),
            State::Keys(otherwise) if !fits => {
                otherwise.or(self.hunch.is_ciphertext().then_some(Encryption::Unknown))
            }
            State::Unknown | State::None | State::Keys(_) => {
                self.hunch.is_ciphertext().then_some(Encryption::Unknown)
            }
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
        if self.state == State::Unknown {
            self.learn(ask());
        }
        if let State::Keys(otherwise) = self.state
            && let Some(receiver) = &mut self.receiver
        {
            let (header, body) = packet.raw.split_at(packet.header.min(packet.raw.len()));
            if receiver.open(&Sealed { header, body, sequence: packet.sequence, ssrc }, clear) {
                let is_padded = header.first().is_some_and(|first| first & 0x20 != 0);
                let padding = if is_padded { clear.last().map_or(0, |&length| usize::from(length)) } else { 0 };
                let length = clear.len().saturating_sub(padding);
                return Packet { payload: &clear[..length], raw: &[], header: 0, is_sealed: false, ..*packet };
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
        self.tagged >= Self::ENOUGH
    }

    fn observe(&mut self, packet: &Packet<'_>, codec: &dyn Fn(u8) -> Codec) {
        if self.looked_at >= Self::LOOKS || self.plain >= Self::ENOUGH || self.is_ciphertext() {
            return;
        }
        self.looked_at += 1;
        let Packet { sequence, timestamp, payload_type, .. } = *packet;
        let now = Seen { sequence, timestamp, payload_type, length: packet.payload.len() };
        let Some(before) = self.before.replace(now) else { return };
        let step = now.timestamp.wrapping_sub(before.timestamp);
        if now != (Seen { sequence: before.sequence.wrapping_add(1), timestamp: now.timestamp, ..before }) {
            return;
        }
        // They have a byte for each tick, and no packet is shorter or longer than that.
        if !matches!(codec(payload_type).kind, CodecKind::Pcmu | CodecKind::Pcma | CodecKind::G722)
            || !(40..=1600).contains(&step)
        {
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
