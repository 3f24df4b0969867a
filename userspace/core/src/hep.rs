//! HEP, the Homer Encapsulation Protocol: copies that SIP servers and agents send to a collector of what they see
//! (versions 1 and 2, and version 3, which is called EEP as well).
//!
//! What is in them has been said elsewhere. Only who says that nothing else is to be seen has them read.

use memchr::memmem;

use crate::wire::{Endpoint, FlowKey};

const MARK: &[u8] = b"HEP3";
/// Mark and length.
const HEAD: usize = 6;

/// A copy of a datagram, or of a message by another transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied<'a> {
    /// Who said it to whom.
    pub flow: FlowKey,
    /// What it is said to be.
    pub kind: Kind,
    /// What was said.
    pub payload: &'a [u8],
}

/// What has been copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SIP.
    Sip,
    /// RTP.
    Rtp,
    /// Reports, logs, packed payloads and other protocols.
    Other,
}

/// Whether a datagram or a message on a stream is a copy.
pub fn is_copy(bytes: &[u8]) -> bool {
    bytes.starts_with(MARK) || fixed_header(bytes).is_some()
}

/// What a datagram or a message on a stream is a copy of.
pub fn parse(bytes: &[u8]) -> Option<Copied<'_>> {
    if bytes.starts_with(MARK) { version_3(bytes) } else { version_1_or_2(bytes) }
}

/// Copies in one direction of a connection, of version 3. One joined in the middle is followed from the next on.
#[derive(Default)]
pub struct Framer {
    /// Bytes of a copy that is not complete yet.
    kept: Vec<u8>,
}

impl Framer {
    /// Bytes that it keeps in memory.
    pub fn memory(&self) -> usize {
        self.kept.capacity()
    }

    /// Takes the next bytes and hands on what is complete.
    pub fn add(&mut self, bytes: &[u8], mut deliver: impl FnMut(&[u8])) {
        self.kept.extend_from_slice(bytes);
        let mut done = 0;
        loop {
            let mut rest = &self.kept[done..];
            let start = memmem::find(rest, MARK).unwrap_or(rest.len().saturating_sub(MARK.len() - 1));
            (done, rest) = (done + start, &rest[start..]);
            let Some(length) = stated_length(rest).filter(|length| *length <= rest.len()) else { break };
            // Shorter than its own head it is none.
            let length = length.max(MARK.len());
            deliver(&rest[..length]);
            done += length;
        }
        // What is left is no longer than a length can say.
        self.kept.drain(..done);
    }

    /// Bytes are missing here: what was begun cannot be completed.
    pub fn gap(&mut self) {
        self.kept = Vec::new();
    }
}

fn stated_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..HEAD).filter(|head| head.starts_with(MARK))?;
    Some(usize::from(u16::from_be_bytes([head[4], head[5]])))
}

/// Chunks of vendor, type, length and value.
fn version_3(bytes: &[u8]) -> Option<Copied<'_>> {
    let length = stated_length(bytes)?.min(bytes.len());
    let mut rest = bytes.get(HEAD..length)?;
    let (mut addresses, mut ports) = ([None; 2], [None; 2]);
    let (mut kind, mut payload) = (None, None);
    while let [vendor_high, vendor_low, type_high, type_low, high, low, ..] = *rest {
        let length = usize::from(u16::from_be_bytes([high, low]));
        // The last one may have been cut by the capture.
        let value = rest.get(6..length.min(rest.len()))?;
        rest = rest.get(length..).unwrap_or_default();
        if [vendor_high, vendor_low] != [0, 0] {
            continue;
        }
        match u16::from_be_bytes([type_high, type_low]) {
            3 => addresses[0] = v4(value),
            4 => addresses[1] = v4(value),
            5 => addresses[0] = v6(value),
            6 => addresses[1] = v6(value),
            7 => ports[0] = be16(value),
            8 => ports[1] = be16(value),
            11 => kind = value.first().copied(),
            15 => payload = Some(value),
            _ => {}
        }
    }
    let [Some(from), Some(to)] = addresses else { return None };
    let end = |ip, port: Option<u16>| Endpoint { ip, port: port.unwrap_or(0) };
    let flow = FlowKey { source: end(from, ports[0]), destination: end(to, ports[1]) };
    let kind = match (kind, payload) {
        (Some(1), Some(_)) => Kind::Sip,
        (Some(4), Some(_)) => Kind::Rtp,
        _ => Kind::Other,
    };
    Some(Copied { flow, kind, payload: payload.unwrap_or_default() })
}

/// A fixed header; version 2 has a time behind the addresses. What is copied is SIP.
fn version_1_or_2(bytes: &[u8]) -> Option<Copied<'_>> {
    const TIME: usize = 12;
    let length = fixed_header(bytes)?;
    let (header, rest) = bytes.split_at_checked(length)?;
    let payload = if header[0] == 2 { rest.get(TIME..)? } else { rest };
    let (from, to) = header[8..].split_at((length - 8) / 2);
    let address = |bytes| v4(bytes).or_else(|| v6(bytes));
    let flow = FlowKey {
        source: Endpoint { ip: address(from)?, port: be16(&header[4..6])? },
        destination: Endpoint { ip: address(to)?, port: be16(&header[6..8])? },
    };
    Some(Copied { flow, kind: Kind::Sip, payload })
}

/// How long the header of version 1 or 2 is, if this is one: version, length, family (IPv6 has different numbers on
/// different systems), protocol, ports, addresses.
fn fixed_header(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [1 | 2, 16, 2, 6 | 17 | 132, ..] => Some(16),
        [1 | 2, 40, 10 | 23 | 24 | 28 | 30, 6 | 17 | 132, ..] => Some(40),
        _ => None,
    }
}

fn v4(value: &[u8]) -> Option<u128> {
    Some(Endpoint::v4(value.try_into().ok()?, 0).ip)
}

fn v6(value: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(value.try_into().ok()?))
}

fn be16(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(value.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAY: &[u8] = b"BYE sip:a@b SIP/2.0\r\n\r\n";

    fn chunk(kind: u16, value: &[u8]) -> Vec<u8> {
        [&[0, 0][..], &kind.to_be_bytes(), &(value.len() as u16 + 6).to_be_bytes(), value].concat()
    }

    fn copy(kind: u8, addresses: [(u16, &[u8]); 2], payload: (u16, &[u8])) -> Vec<u8> {
        let chunks = [
            chunk(1, &[2]),
            chunk(2, &[17]),
            // Of a vendor.
            [&[0, 9][..], &chunk(3, &[1, 1, 1, 1])[2..]].concat(),
            chunk(addresses[0].0, addresses[0].1),
            chunk(addresses[1].0, addresses[1].1),
            chunk(7, &5060_u16.to_be_bytes()),
            chunk(8, &5062_u16.to_be_bytes()),
            chunk(9, &[0; 4]),
            chunk(11, &[kind]),
            chunk(payload.0, payload.1),
        ]
        .concat();
        [MARK, &(chunks.len() as u16 + 6).to_be_bytes(), &chunks].concat()
    }

    fn of_sip() -> Vec<u8> {
        copy(1, [(3, &[10, 0, 0, 1]), (4, &[10, 0, 0, 2])], (15, SAY))
    }

    fn flow() -> FlowKey {
        FlowKey { source: Endpoint::v4([10, 0, 0, 1], 5060), destination: Endpoint::v4([10, 0, 0, 2], 5062) }
    }

    #[test]
    fn each_version_says_the_same() {
        let fixed = |version: u8| [version, 16, 2, 17, 0x13, 0xc4, 0x13, 0xc6, 10, 0, 0, 1, 10, 0, 0, 2];
        let first = [&fixed(1)[..], SAY].concat();
        let second = [&fixed(2)[..], &[0; 12], SAY].concat();
        for bytes in [first, second, of_sip()] {
            assert!(is_copy(&bytes));
            assert_eq!(parse(&bytes), Some(Copied { flow: flow(), kind: Kind::Sip, payload: SAY }));
        }
        let v6 = [&[2, 40, 10, 17, 0x13, 0xc4, 0x13, 0xc6][..], &[1; 16], &[2; 16], &[0; 12], SAY].concat();
        let source = Endpoint { ip: u128::from_be_bytes([1; 16]), port: 5060 };
        assert!(parse(&v6).is_some_and(|copy| copy.flow.source == source && copy.payload == SAY));
        assert!(!is_copy(SAY) && !is_copy(&[0x80, 0, 0, 1]) && !is_copy(b""));
    }

    #[test]
    fn reports_and_packed_payloads_are_something_else() {
        let ends: [(u16, &[u8]); 2] = [(5, &[1; 16]), (6, &[2; 16])];
        let kind = |bytes: Vec<u8>| parse(&bytes).map(|copy| copy.kind);
        assert_eq!(kind(copy(4, ends, (15, SAY))), Some(Kind::Rtp));
        assert_eq!(kind(copy(5, ends, (15, b"{}"))), Some(Kind::Other));
        assert_eq!(kind(copy(1, ends, (16, b"packed"))), Some(Kind::Other));
        // Without addresses it is nobody's.
        assert_eq!(kind(copy(1, [(3, &[1; 3]), (4, &[1; 4])], (15, SAY))), None);
    }

    fn run(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut framer, mut out) = (Framer::default(), Vec::new());
        for piece in pieces {
            framer.add(piece, |copy| out.push(copy.to_vec()));
            assert!(framer.kept.len() <= usize::from(u16::MAX));
        }
        out
    }

    #[test]
    fn joined_in_the_middle() {
        let stream = [b"ter/2.0\r\n\r\n", &of_sip()[..], &of_sip()].concat();
        assert_eq!(run(&[&stream]), [of_sip(), of_sip()]);
        // A length that is none does not hold it up.
        assert_eq!(run(&[b"HEP3\0\0", &of_sip()]).last(), Some(&of_sip()));
    }

    proptest! {
        #[test]
        fn cut_anywhere_it_is_the_same(cuts in proptest::collection::vec(1_usize..60, 1..40)) {
            let stream = [&b"xx"[..], &of_sip(), &of_sip()].concat();
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(stream.len());
                pieces.push(&stream[at..end]);
                at = end;
                if at == stream.len() { break }
            }
            prop_assert_eq!(run(&pieces), run(&[&stream]));
        }

        #[test]
        fn any_bytes_are_a_copy_or_none(mut bytes: Vec<u8>, begins: bool) {
            if begins {
                bytes.splice(..0, *b"HEP3");
            }
            let _ = parse(&bytes);
            run(&[&bytes]);
        }
    }
}
