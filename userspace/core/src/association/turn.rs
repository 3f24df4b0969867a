//! Media on its way through a TURN server (RFC 8656): between client and server it is wrapped.

use super::{Kind, be16, stun};

/// Bytes in front of the data.
const HEADER: usize = 4;

/// What a datagram between a client and its TURN server carries: RTP, or whatever goes beside it. `None`: it is no
/// such datagram. What is inside is not unwrapped again.
pub fn relayed(datagram: &[u8]) -> Option<&[u8]> {
    match Kind::of(datagram)? {
        Kind::ChannelData => channel_data(datagram),
        Kind::Stun => stun::data(datagram),
        Kind::Dtls | Kind::Zrtp => None,
    }
}

/// The data of a ChannelData message. Over UDP there may be padding (section 12.5).
pub(super) fn channel_data(datagram: &[u8]) -> Option<&[u8]> {
    let (channel, length) = (be16(datagram, 0)?, usize::from(be16(datagram, 2)?));
    let data = datagram.get(HEADER..HEADER + length)?;
    let padding = datagram.len() - HEADER - length;
    // Nothing else begins with such a number and has just that length.
    ((0x4000..=0x4fff).contains(&channel) && padding < 4 && length > 0).then_some(data)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn channel_and_indication() {
        assert_eq!(relayed(b"\x40\x01\0\x03abc\0"), Some(&b"abc"[..]));
        assert_eq!(relayed(b"\x40\x01\0\x03abc\0\0\0\0"), None);
        let indication = b"\0\x16\0\x08\x21\x12\xa4\x42............\0\x13\0\x03abc\0";
        assert_eq!(relayed(indication), Some(&b"abc"[..]));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            if let Some(inner) = relayed(&bytes) {
                prop_assert!(inner.len() < bytes.len());
            }
        }
    }
}
