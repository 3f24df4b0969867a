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

/// Steps over the link layer. `None`: the frame carries no IP.
pub(super) fn network(link: LinkType, frame: &[u8]) -> Result<Option<(Network, &[u8])>, Malformed> {
    let (ethertype, header) = match link {
        LinkType::Ethernet => (14 - 2, 14),
        LinkType::LinuxSll => (14, 16),
        LinkType::LinuxSll2 => (0, 20),
        LinkType::RawIp => return Ok(by_version(frame)),
        LinkType::Loopback => {
            // The family's number depends on the system that captured (10, 24, 28, 30 are IPv6), its
            // byte order on the machine. The IP version says the same without guessing.
            return frame.get(4..).ok_or(Malformed::Link).map(by_version);
        }
    };
    if frame.len() < header {
        return Err(Malformed::Link);
    }
    by_ethertype(be16(frame, ethertype), &frame[header..])
}

/// Steps over the header of an Ethernet frame.
pub(super) fn ethernet(frame: &[u8]) -> Result<Option<(Network, &[u8])>, Malformed> {
    network(LinkType::Ethernet, frame)
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
