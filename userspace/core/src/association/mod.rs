//! What else goes between the two ends of a media flow: STUN, TURN, DTLS and ZRTP beside RTP (RFC 7983), and what
//! that says of it.

mod dtls;
mod key_log;
mod stun;
mod table;
mod turn;
mod zrtp;

pub use key_log::KeyLog;
pub use stun::username;
pub use table::Associations;
pub use turn::relayed;

/// What a datagram in a media flow is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A STUN message (RFC 8489): keeps a way open, or finds one.
    Stun,
    /// A record of DTLS (RFC 9147).
    Dtls,
    /// A message of ZRTP (RFC 6189).
    Zrtp,
    /// What a TURN server relays (RFC 8656, section 12.4).
    ChannelData,
}

impl Kind {
    /// `None`: RTP, RTCP, or none of all these.
    pub fn of(payload: &[u8]) -> Option<Kind> {
        match *payload.first()? {
            0..=3 if stun::is_message(payload) => Some(Kind::Stun),
            0x10 if zrtp::is_message(payload) => Some(Kind::Zrtp),
            20..=63 if dtls::is_record(payload) => Some(Kind::Dtls),
            64..=79 if turn::channel_data(payload).is_some() => Some(Kind::ChannelData),
            _ => None,
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_the_first_bytes() {
        let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        assert_eq!(Kind::of(&stun), Some(Kind::Stun));
        assert_eq!(Kind::of(&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]), Some(Kind::Dtls));
        assert_eq!(Kind::of(b"\x10\0\0\x01ZRTP\0\0\0\x01\x50\x5a\0\x03HelloACK1234"), Some(Kind::Zrtp));
        assert_eq!(Kind::of(&[0x40, 1, 0, 2, 0x80, 0]), Some(Kind::ChannelData));
        for other in [
            &b"INVITE sip:a@b SIP/2.0\r\n\r\n"[..],
            b"BYE sip:a@b SIP/2.0",
            b"\x80\0\0\x01",
            b"",
            b"\r\n\r\n",
        ] {
            assert_eq!(Kind::of(other), None);
        }
    }

    proptest! {
        #[test]
        fn rtp_is_none_of_them(first in 128u8..192, rest: Vec<u8>) {
            prop_assert_eq!(Kind::of(&[&[first][..], &rest].concat()), None);
        }
    }
}
