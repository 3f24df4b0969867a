//! A packet, as a stream takes it and as it waits.

use crate::time::Timestamp;

/// An RTP packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When it came.
    pub at: Timestamp,
    /// Sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Payload type.
    pub payload_type: u8,
    /// All before the payload: the header with its sources and extension.
    pub head: &'a [u8],
    /// What it carries, without padding.
    pub payload: &'a [u8],
    /// The packet as it came, with its header; empty once it has been decrypted.
    pub raw: &'a [u8],
    /// Bytes of `raw` before the payload.
    pub header: usize,
    /// It is ciphertext: counted, and not decoded.
    pub is_sealed: bool,
}

impl Packet<'_> {
    /// One of payload type 0 that carries nothing, to be filled in.
    pub const fn bare(at: Timestamp) -> Packet<'static> {
        Packet {
            at,
            sequence: 0,
            timestamp: 0,
            payload_type: 0,
            head: &[],
            payload: &[],
            raw: &[],
            header: 0,
            is_sealed: false,
        }
    }
}

/// A packet that waits.
pub struct Held {
    pub(super) at: Timestamp,
    pub(super) number: u64,
    pub(super) timestamp: u32,
    pub(super) payload_type: u8,
    /// Header and payload: as they came, or decrypted.
    pub(super) bytes: Box<[u8]>,
    /// Bytes of the header in front.
    pub(super) header: usize,
    /// Bytes of payload behind it.
    pub(super) length: usize,
    pub(super) is_sealed: bool,
    /// It has been decrypted.
    pub(super) is_open: bool,
}

impl Held {
    /// What it carries.
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(self.header..self.header + self.length).unwrap_or_default()
    }

    pub(super) fn packet(&self) -> Packet<'_> {
        Packet {
            at: self.at,
            sequence: self.number as u16,
            timestamp: self.timestamp,
            payload_type: self.payload_type,
            head: self.bytes.get(..self.header).unwrap_or_default(),
            payload: self.payload(),
            raw: if self.is_open { &[] } else { &self.bytes },
            header: self.header,
            is_sealed: self.is_sealed,
        }
    }

    /// Bytes of what it carries.
    pub(super) fn payload_len(&self) -> usize {
        self.bytes.len()
    }
}

pub(super) fn hold(number: u64, packet: &Packet<'_>) -> Held {
    let is_raw = !packet.raw.is_empty();
    Held {
        at: packet.at,
        number,
        timestamp: packet.timestamp,
        payload_type: packet.payload_type,
        bytes: if is_raw { packet.raw.into() } else { [packet.head, packet.payload].concat().into() },
        header: packet.head.len(),
        length: packet.payload.len(),
        is_sealed: packet.is_sealed,
        is_open: !is_raw,
    }
}
