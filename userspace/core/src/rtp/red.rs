//! Redundant audio (RFC 2198): a packet carries its own audio, and that of packets before it once more.

/// What stands before the audio of the packet itself: an octet.
const LAST_HEADER: usize = 1;
/// What stands for each packet before it: an octet, 14 bits of distance, 10 of length.
const HEADER: usize = 4;

/// Audio of a packet that was sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// Its own payload type.
    pub payload_type: u8,
    /// By how many ticks its timestamp is before that of the packet that carries it.
    pub back: u32,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Payload type and payload of the packet itself. `None` when the payload is cut short.
pub fn primary(payload: &[u8]) -> Option<(u8, &[u8])> {
    let (mut headers, mut copies) = (payload, 0);
    while let Some((&[first, _, high, low], rest)) = headers.split_first_chunk::<HEADER>()
        && first & 0x80 != 0
    {
        copies += length(high, low);
        headers = rest;
    }
    let (&first, rest) = headers.split_first()?;
    (first & 0x80 == 0).then_some((first, rest.get(copies..)?))
}

/// The copies of earlier packets, in the order in which they stand: the oldest first. None when the payload is cut
/// short.
pub fn copies(payload: &[u8]) -> impl Iterator<Item = Block<'_>> {
    let whole = if primary(payload).is_some() { payload } else { &[] };
    let count = whole.chunks_exact(HEADER).take_while(|header| header[0] & 0x80 != 0).count();
    let (headers, rest) = whole.split_at(count * HEADER);
    let mut rest = rest.get(LAST_HEADER..).unwrap_or_default();
    headers.chunks_exact(HEADER).map(move |header| {
        let (own, after) = rest.split_at(length(header[2], header[3]).min(rest.len()));
        rest = after;
        let back = u32::from(header[1]) << 6 | u32::from(header[2] >> 2);
        Block { payload_type: header[0] & 0x7f, back, payload: own }
    })
}

fn length(high: u8, low: u8) -> usize {
    usize::from(high & 3) << 8 | usize::from(low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_copies_and_the_packet() {
        // 320 and 160 ticks back, of 3 and 2 octets.
        let payload = [0x80 | 8, 5, 0, 3, 0x80, 2, 2 << 6, 2, 0, b'a', b'b', b'c', b'd', b'e', b'f'];
        assert_eq!(primary(&payload), Some((0, &b"f"[..])));
        let found: Vec<_> = copies(&payload).collect();
        assert_eq!(
            found,
            [
                Block { payload_type: 8, back: 320, payload: b"abc" },
                Block { payload_type: 0, back: 160, payload: b"de" }
            ]
        );
        assert_eq!(primary(&payload[..13]), None);
        assert_eq!(copies(&payload[..13]).count(), 0);
        assert_eq!(primary(&[111, 1, 2]), Some((111, &[1, 2][..])));
        assert_eq!((primary(&[]), primary(&[0x80]), primary(&[0x80, 0, 0, 0])), (None, None, None));
    }

    proptest! {
        #[test]
        fn never_panics(payload: Vec<u8>) {
            let octets: usize = copies(&payload).map(|copy| copy.payload.len()).sum();
            prop_assert!(octets <= payload.len());
        }
    }
}
