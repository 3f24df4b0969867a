//! ZRTP (RFC 6189): both ends agree on keys in the media itself, and nobody else ever has them.

/// First byte, magic cookie (section 5).
const COOKIE: &[u8] = b"ZRTP";
/// Where the kind of a message stands: behind the packet's header, the preamble and the length.
const KIND: usize = 16;

/// What a message says of the media after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// What follows is encrypted.
    Secure,
    /// What follows is not.
    Clear,
}

pub(super) fn is_message(datagram: &[u8]) -> bool {
    datagram.get(4..8) == Some(COOKIE) && datagram.get(12..14) == Some(b"\x50\x5a")
}

pub(super) fn says(datagram: &[u8]) -> Option<Says> {
    match datagram.get(KIND..KIND + 8)? {
        // Whoever has sent this, or gets it, encrypts from now on (section 4.1).
        b"Confirm2" | b"Conf2ACK" => Some(Says::Secure),
        b"ClearACK" => Some(Says::Clear),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_messages_say() {
        let message =
            |kind: &str| [b"\x10\0\0\x01ZRTP\0\0\0\x01\x50\x5a\0\x03".as_slice(), kind.as_bytes()].concat();
        assert!(is_message(&message("Hello   ")));
        assert_eq!(says(&message("Hello   ")), None);
        assert_eq!(says(&message("Conf2ACK")), Some(Says::Secure));
        assert_eq!(says(&message("ClearACK")), Some(Says::Clear));
        assert_eq!(says(&message("Conf")), None);
    }
}
