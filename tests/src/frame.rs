//! Frames as a capture has them.

use std::net::SocketAddrV4;

use etherparse::PacketBuilder;
use spantape_core::time::Timestamp;

/// An Ethernet frame and when it was seen.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When.
    pub at: Timestamp,
    /// From the destination MAC on, without checksum.
    pub bytes: Vec<u8>,
}

/// A UDP datagram in a frame.
pub fn udp(at: i64, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Frame {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(from.ip().octets(), to.ip().octets(), 64)
        .udp(from.port(), to.port());
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).expect("a datagram fits into a frame");
    Frame { at: Timestamp(at), bytes }
}

/// A TCP segment in a frame.
pub fn tcp(at: i64, from: SocketAddrV4, to: SocketAddrV4, sequence: u32, payload: &[u8]) -> Frame {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(from.ip().octets(), to.ip().octets(), 64)
        .tcp(from.port(), to.port(), sequence, 64_000);
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).expect("a segment fits into a frame");
    Frame { at: Timestamp(at), bytes }
}

/// An RTP packet of payload type 0.
pub fn rtp(sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// Brings frames of many senders into the order of a capture. Frames of one moment keep theirs.
pub fn merge(parts: impl IntoIterator<Item = Vec<Frame>>) -> Vec<Frame> {
    let mut frames: Vec<Frame> = parts.into_iter().flatten().collect();
    frames.sort_by_key(|frame| frame.at);
    frames
}
