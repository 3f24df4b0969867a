//! One RTP stream: what came, in what order, and when it is to be heard (RFC 3550).

mod burst;
mod dtmf;
mod held;
mod likeness;
mod packet;
mod quality;
pub mod red;
pub mod rtcp;
mod seal;
mod sequence;
mod slice;
mod span;
mod stream;
mod timeline;
mod undecoded;
mod voice;

use rtp_rs::{RtpReader, RtpReaderError};
pub use sequence::{Sequence, Verdict};
pub use slice::Slice;

use crate::time::Timestamp;

pub use packet::{Held, Packet};
pub use stream::{MIN_PACKETS, Note, Playout, Stream};
pub use undecoded::{BARE_HEADER, Undecoded, strip_payload};

/// Bytes of the longest header that is read of a packet whose padding makes no sense.
const MAX_HEADER: usize = 256;

/// Reads an RTP packet; returns its SSRC with it. `is_known`: media goes on here, so that padding which makes no sense
/// is more likely encrypted (RFC 3711 encrypts it with the payload) than a sign that this is something else.
pub fn read(datagram: &[u8], at: Timestamp, is_known: bool) -> Option<(u32, Packet<'_>)> {
    let packet = |reader: &RtpReader<'_>, header: usize, length: usize| Packet {
        at,
        sequence: reader.sequence_number().into(),
        timestamp: reader.timestamp(),
        payload_type: reader.payload_type(),
        head: datagram.get(..header).unwrap_or_default(),
        payload: datagram.get(header..header + length).unwrap_or_default(),
        raw: datagram,
        header,
        is_sealed: false,
    };
    match RtpReader::new(datagram) {
        Ok(reader) => {
            let (header, length) = (reader.payload_offset(), reader.payload().len());
            Some((reader.ssrc(), packet(&reader, header, length)))
        }
        Err(RtpReaderError::PaddingLengthInvalid(_)) if is_known => {
            // Read as if it had none; nothing of it is decoded unless it is decrypted.
            let mut header = [0; MAX_HEADER];
            let length = datagram.len().min(MAX_HEADER);
            header[..length].copy_from_slice(&datagram[..length]);
            header[0] &= !0x20;
            let reader = RtpReader::new(&header[..length]).ok()?;
            let offset = reader.payload_offset();
            Some((reader.ssrc(), packet(&reader, offset, 0)))
        }
        Err(_) => None,
    }
}

/// Whether a UDP payload may be RTP or RTCP: version 2 (RFC 7983 keeps STUN, DTLS and TURN apart by it).
pub fn is_version_2(payload: &[u8]) -> bool {
    payload.first().is_some_and(|first| first >> 6 == 2)
}

/// Whether a packet of version 2 is RTCP (RFC 5761 section 4).
pub fn is_rtcp(payload: &[u8]) -> bool {
    payload.get(1).is_some_and(|second| (192..=223).contains(second))
}
