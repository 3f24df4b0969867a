//! Link layers: what stands before the IP header.

use super::{Malformed, be16};

/// How a capture's frames begin, named as in the registry of link types of tcpdump.org.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// LINKTYPE_ETHERNET (1).
    Ethernet,
    /// LINKTYPE_LINUX_SLL (113): cooked capture, version 1.
    LinuxSll,
    /// LINKTYPE_LINUX_SLL2 (276): cooked capture, version 2.
    LinuxSll2,
    /// LINKTYPE_RAW (101), LINKTYPE_IPV4 (228), LINKTYPE_IPV6 (229): IP from the first byte.
    RawIp,
    /// LINKTYPE_NULL (0) and LINKTYPE_LOOP (108): a BSD address family in either byte order.
    Loopback,
    /// LINKTYPE_PPP (9), LINKTYPE_PPP_HDLC (50), LINKTYPE_C_HDLC (104): PPP or Cisco's HDLC.
    Hdlc,
    /// LINKTYPE_PPP_ETHER (51): PPPoE from its own header on.
    Pppoe,
    /// LINKTYPE_ERF (197): records of Endace's capture cards.
    Erf,
    /// LINKTYPE_SCTP (248): SCTP from the first byte.
    Sctp,
    /// LINKTYPE_WIRESHARK_UPPER_PDU (252): payloads that Wireshark has exported.
    UpperPdu,
    /// LINKTYPE_PKTAP (258): Apple's header in front of whatever the interface has.
    Pktap,
}

impl LinkType {
    /// The link type that a capture file names by `number`, if this program reads it.
    pub fn from_number(number: u32) -> Option<LinkType> {
        match number {
            1 => Some(LinkType::Ethernet),
            113 => Some(LinkType::LinuxSll),
            276 => Some(LinkType::LinuxSll2),
            // 12 and 14 are what raw IP is called on the BSDs.
            12 | 14 | 101 | 228 | 229 => Some(LinkType::RawIp),
            0 | 108 => Some(LinkType::Loopback),
            9 | 50 | 104 => Some(LinkType::Hdlc),
            51 => Some(LinkType::Pppoe),
            197 => Some(LinkType::Erf),
            248 => Some(LinkType::Sctp),
            252 => Some(LinkType::UpperPdu),
            258 => Some(LinkType::Pktap),
            _ => None,
        }
    }
}

pub(super) enum Network {
    Ipv4,
    Ipv6,
    /// A frame within the frame: a pseudowire.
    Ethernet,
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Tags that may stand in front of the EtherType: 802.1Q, 802.1ad and the QinQ of older switches.
const ETHERTYPE_VLAN: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
const MAX_VLAN_TAGS: usize = 4;
const ETHERTYPE_PPPOE: u16 = 0x8864;
const ETHERTYPE_MPLS: u16 = 0x8847;
const ETHERTYPE_MPLS_MULTICAST: u16 = 0x8848;
const MAX_LABELS: usize = 8;

/// What stands in a frame behind a header of whoever captured it. `None`: nothing that can be read.
pub(super) fn unwrap(link: LinkType, frame: &[u8]) -> Result<Option<(LinkType, &[u8])>, Malformed> {
    match link {
        LinkType::Erf => erf(frame),
        LinkType::Pktap => pktap(frame),
        _ => Ok(Some((link, frame))),
    }
}

/// Steps over the link layer. `None`: the frame carries no IP.
pub(super) fn network(link: LinkType, frame: &[u8]) -> Result<Option<(Network, &[u8])>, Malformed> {
    let (ethertype, header) = match link {
        LinkType::Ethernet => return ethernet(frame),
        LinkType::LinuxSll => (14, 16),
        LinkType::LinuxSll2 => (0, 20),
        LinkType::RawIp => return Ok(by_version(frame)),
        LinkType::Loopback => {
            // The family's number depends on the system that captured (10, 24, 28, 30 are IPv6), its
            // byte order on the machine. The IP version says the same without guessing.
            return frame.get(4..).ok_or(Malformed::Link).map(by_version);
        }
        LinkType::Hdlc => return hdlc(frame),
        LinkType::Pppoe => return by_ethertype(ETHERTYPE_PPPOE, frame),
        LinkType::Erf | LinkType::Pktap | LinkType::Sctp | LinkType::UpperPdu => return Ok(None),
    };
    if frame.len() < header {
        return Err(Malformed::Link);
    }
    by_ethertype(be16(frame, ethertype), &frame[header..])
}

/// Steps over the header of an Ethernet frame.
#[inline(always)]
pub(super) fn ethernet(frame: &[u8]) -> Result<Option<(Network, &[u8])>, Malformed> {
    if frame.len() < 14 {
        return Err(Malformed::Link);
    }
    let (ethertype, rest) = (be16(frame, 12), &frame[14..]);
    match ethertype {
        ETHERTYPE_IPV4 => Ok(Some((Network::Ipv4, rest))),
        _ => by_ethertype(ethertype, rest),
    }
}

pub(super) fn by_ethertype(
    mut ethertype: u16,
    mut rest: &[u8],
) -> Result<Option<(Network, &[u8])>, Malformed> {
    for _ in 0..=MAX_VLAN_TAGS {
        match ethertype {
            ETHERTYPE_IPV4 => return Ok(Some((Network::Ipv4, rest))),
            ETHERTYPE_IPV6 => return Ok(Some((Network::Ipv6, rest))),
            tag if ETHERTYPE_VLAN.contains(&tag) => {
                if rest.len() < 4 {
                    return Err(Malformed::Vlan);
                }
                ethertype = be16(rest, 2);
                rest = &rest[4..];
            }
            // RFC 2516: version, type and code, session, length.
            ETHERTYPE_PPPOE => return Ok(rest.get(6..).and_then(ppp)),
            ETHERTYPE_MPLS | ETHERTYPE_MPLS_MULTICAST => return mpls(rest),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// PPP in HDLC-like framing (RFC 1662), or what Cisco has there: an EtherType behind an address of its own.
fn hdlc(frame: &[u8]) -> Result<Option<(Network, &[u8])>, Malformed> {
    match frame {
        [0x0f | 0x8f, _, high, low, rest @ ..] => by_ethertype(u16::from_be_bytes([*high, *low]), rest),
        _ => Ok(ppp(frame)),
    }
}

/// A record of Endace's: its header, extension headers of eight bytes as long as each says that another follows, and
/// the frame.
fn erf(record: &[u8]) -> Result<Option<(LinkType, &[u8])>, Malformed> {
    const HEADER: usize = 16;
    const KIND: usize = 8;
    let mut more = record.get(KIND).ok_or(Malformed::Link)? & 0x80 != 0;
    let kind = record[KIND] & 0x7f;
    let mut rest = record.get(HEADER..).ok_or(Malformed::Link)?;
    while more {
        more = rest.first().ok_or(Malformed::Link)? & 0x80 != 0;
        rest = rest.get(8..).ok_or(Malformed::Link)?;
    }
    match kind {
        // Of HDLC, plain, with a colour, and with two kinds of hash.
        1 | 10 | 15 | 19 => Ok(Some((LinkType::Hdlc, rest))),
        // Of Ethernet likewise, behind an offset and a byte that pads.
        2 | 11 | 16 | 20 => Ok(Some((LinkType::Ethernet, rest.get(2..).ok_or(Malformed::Link)?))),
        22 | 23 => Ok(Some((LinkType::RawIp, rest))),
        _ => Ok(None),
    }
}

/// The header of Apple's packet taps: its length, what follows (1: a packet), and the link type of that.
fn pktap(frame: &[u8]) -> Result<Option<(LinkType, &[u8])>, Malformed> {
    // In the byte order of Apple's machines of the last twenty years.
    let le32 = |at: usize| frame.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let (Some(length), Some(1), Some(number)) = (le32(0), le32(4), le32(8)) else {
        return Err(Malformed::Link);
    };
    let rest =
        usize::try_from(length).ok().filter(|length| *length >= 12).and_then(|length| frame.get(length..));
    let link = LinkType::from_number(number).filter(|link| !matches!(link, LinkType::Pktap | LinkType::Erf));
    Ok(link.zip(Some(rest.ok_or(Malformed::Link)?)))
}

/// PPP (RFC 1661): the fields that say nothing, and the first byte of the protocol, may be left out.
pub(super) fn ppp(data: &[u8]) -> Option<(Network, &[u8])> {
    let data = data.strip_prefix(&[0xff, 0x03]).unwrap_or(data);
    match data {
        [0x00, 0x21, packet @ ..] | [0x21, packet @ ..] => Some((Network::Ipv4, packet)),
        [0x00, 0x57, packet @ ..] | [0x57, packet @ ..] => Some((Network::Ipv6, packet)),
        _ => None,
    }
}

/// Labels (RFC 3032), then IP, or Ethernet behind a control word (RFC 4448). Nothing says which; the first bits do.
fn mpls(mut rest: &[u8]) -> Result<Option<(Network, &[u8])>, Malformed> {
    for _ in 0..MAX_LABELS {
        let [_, _, third, _, inner @ ..] = rest else { return Err(Malformed::Link) };
        rest = inner;
        if third & 1 != 0 {
            return match rest {
                [0, 0, _, _, frame @ ..] if frame.len() >= 14 => Ok(Some((Network::Ethernet, frame))),
                _ => Ok(by_version(rest)),
            };
        }
    }
    Ok(None)
}

pub(super) fn by_version(packet: &[u8]) -> Option<(Network, &[u8])> {
    match packet.first()? >> 4 {
        4 => Some((Network::Ipv4, packet)),
        6 => Some((Network::Ipv6, packet)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::super::{Packet, parse};
    use super::*;

    fn packet() -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(5060, 5062)
            .write(&mut bytes, b"hello")
            .unwrap();
        bytes
    }

    fn erf(kind: u8, extensions: &[u8], rest: &[u8]) -> Vec<u8> {
        let length = (16 + extensions.len() + rest.len()) as u16;
        [&[7; 8][..], &[kind, 4], &length.to_be_bytes(), &[0, 0, 0, 60], extensions, rest].concat()
    }

    /// Each link type's number with a frame that carries the packet.
    fn frames() -> Vec<(u32, Vec<u8>)> {
        let packet = packet();
        let with = |head: &[u8]| [head, &packet].concat();
        let ethernet = with(&[&[1; 12][..], &[8, 0]].concat());
        let behind_offset = [&[0, 0][..], &ethernet].concat();
        let extensions = [[0x83, 0, 0, 0, 0, 0, 0, 0], [0x03, 0, 0, 0, 0, 0, 0, 0]].concat();
        let pktap = [&[108, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0][..], &[0; 96], &ethernet].concat();
        vec![
            (9, with(&[0x00, 0x21])),
            (9, with(&[0xff, 0x03, 0x00, 0x21])),
            (50, with(&[0xff, 0x03, 0x21])),
            (50, with(&[0x0f, 0x00, 0x08, 0x00])),
            (51, with(&[0x11, 0, 0, 1, 0, 35, 0x00, 0x21])),
            (104, with(&[0x8f, 0x00, 0x08, 0x00])),
            (197, erf(2, b"", &behind_offset)),
            (197, erf(0x80 | 20, &extensions, &behind_offset)),
            (197, erf(1, b"", &with(&[0x0f, 0x00, 0x08, 0x00]))),
            (197, erf(22, b"", &packet)),
            (258, pktap),
        ]
    }

    #[test]
    fn each_carries_the_packet_and_may_be_cut_anywhere() {
        for (number, frame) in frames() {
            let link = LinkType::from_number(number).unwrap();
            let Ok(Packet::Udp { flow, payload }) = parse(link, &frame) else {
                panic!("{number}: {:?}", parse(link, &frame));
            };
            assert_eq!((flow.destination.port, payload), (5062, &b"hello"[..]), "{number}");
            for end in 0..frame.len() {
                let found = parse(link, &frame[..end]);
                let is_whole = matches!(found, Ok(Packet::Udp { payload: b"hello", .. }));
                assert!(!is_whole, "{number} cut at {end}");
            }
        }
    }

    #[test]
    fn records_without_a_packet_are_nothing() {
        // Provenance, counters, padding.
        for kind in [27, 13, 48] {
            assert_eq!(parse(LinkType::Erf, &erf(kind, b"", &packet())), Ok(Packet::Other), "{kind}");
        }
        // One in another, without end.
        let tap = [&[12, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0][..]; 2].concat();
        assert_eq!(parse(LinkType::Pktap, &tap), Ok(Packet::Other));
    }
}
