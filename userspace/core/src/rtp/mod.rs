//! One RTP stream: what came, in what order, and when it is to be heard (RFC 3550).

mod dtmf;
mod held;
mod likeness;
mod quality;
mod sequence;
mod span;
mod stream;
mod timeline;
mod voice;

pub use sequence::{Sequence, Verdict};
pub use stream::{Held, Note, Packet, Playout, Stream};

/// Whether a UDP payload may be RTP or RTCP: version 2 (RFC 7983 keeps STUN, DTLS and TURN apart by it).
pub fn is_version_2(payload: &[u8]) -> bool {
    payload.first().is_some_and(|first| first >> 6 == 2)
}

/// Whether a packet of version 2 is RTCP (RFC 5761 section 4).
pub fn is_rtcp(payload: &[u8]) -> bool {
    payload.get(1).is_some_and(|second| (192..=223).contains(second))
}
