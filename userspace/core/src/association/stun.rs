//! STUN (RFC 8489), as far as ICE (RFC 8445) says by it whose flow it is.

use super::be16;

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
/// Data that a TURN server relays before there is a channel (RFC 8656, sections 11.4 and 11.6).
const SEND_INDICATION: u16 = 0x0016;
const DATA_INDICATION: u16 = 0x0017;
const USERNAME: u16 = 0x0006;
const DATA: u16 = 0x0013;
/// Attributes looked at of one message.
const MAX_ATTRIBUTES: usize = 32;

/// Whether a datagram is a STUN message: without the cookie (RFC 3489) nobody could tell.
pub(super) fn is_message(datagram: &[u8]) -> bool {
    let length = be16(datagram, 2).map(usize::from);
    datagram.get(4..8) == Some(&MAGIC_COOKIE)
        && length.is_some_and(|length| length % 4 == 0)
        && datagram.len() >= HEADER
}

/// The two user name fragments in an ICE connectivity check: of whom it is sent to, and of whom it is sent by
/// (RFC 8445, section 7.2.2).
pub fn username(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    if be16(datagram, 0)? != BINDING_REQUEST {
        return None;
    }
    let name = attribute(datagram, USERNAME)?;
    let colon = name.iter().position(|&byte| byte == b':')?;
    Some((&name[..colon], &name[colon + 1..]))
}

/// What a TURN server is asked to relay, or has relayed.
pub(super) fn data(datagram: &[u8]) -> Option<&[u8]> {
    let is_indication = matches!(be16(datagram, 0)?, SEND_INDICATION | DATA_INDICATION);
    attribute(datagram, DATA).filter(|_| is_indication)
}

fn attribute(datagram: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = datagram.get(HEADER..)?;
    for _ in 0..MAX_ATTRIBUTES {
        let (kind, length) = (be16(rest, 0)?, usize::from(be16(rest, 2)?));
        let value = rest.get(4..4 + length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5769, section 2.1.
    const SAMPLE: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

    #[test]
    fn the_sample_of_rfc_5769() {
        assert!(is_message(SAMPLE));
        assert_eq!(username(SAMPLE), Some((&b"evtj"[..], &b"h6vY"[..])));
        assert_eq!(data(SAMPLE), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, cut in 0usize..SAMPLE.len()) {
            let _ = (is_message(&bytes), username(&bytes), data(&bytes));
            let _ = (username(&SAMPLE[..cut]), data(&SAMPLE[..cut]));
        }
    }
}
