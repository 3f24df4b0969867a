//! Encapsulated mirrors and access lines: a frame or a packet within another.
//!
//! A port is no proof of a tunnel, as media may use any. So what comes over UDP is looked into only if its header is
//! one and what is inside begins like a packet; else it is the datagram that it is.

use super::link::{self, Network};
use super::{Malformed, Packet, be16, ip};

/// Tunnels within tunnels; what is deeper is not looked at.
const MAX_DEPTH: u8 = 6;

/// How deep within tunnels a packet is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Depth(u8);

impl Depth {
    fn deeper(self) -> Option<Depth> {
        (self.0 < MAX_DEPTH).then_some(Depth(self.0 + 1))
    }
}

type Parsed<'a> = Result<Packet<'a>, Malformed>;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ETHERNET: u16 = 0x6558;
const ERSPAN_II: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;
const PPP: u16 = 0x880b;

const L2TP: u16 = 1701;
const GTP_U: u16 = 2152;
const VXLAN: u16 = 4789;
/// As Linux had it before there was a number.
const LINUX_VXLAN: u16 = 8472;
const GENEVE: u16 = 6081;
const TZSP: u16 = 37_008;

/// What a link layer carries.
#[inline(always)]
pub(super) fn network(found: Option<(Network, &[u8])>, depth: Depth) -> Parsed<'_> {
    match found {
        Some((Network::Ipv4, packet)) => ip::v4(packet, depth),
        Some((Network::Ipv6, packet)) => ip::v6(packet, depth),
        Some((Network::Ethernet, frame)) => match depth.deeper() {
            Some(depth) => ethernet(frame, depth),
            None => Ok(Packet::Other),
        },
        None => Ok(Packet::Other),
    }
}

/// The same, of what is within something.
#[cold]
#[inline(never)]
pub(super) fn inside(found: Option<(Network, &[u8])>, depth: Depth) -> Parsed<'_> {
    network(found, depth)
}

/// An Ethernet frame within something.
#[cold]
#[inline(never)]
fn ethernet(frame: &[u8], depth: Depth) -> Parsed<'_> {
    inside(link::ethernet(frame)?, depth)
}

/// A packet of which the addresses are known already.
#[cold]
#[inline(never)]
pub(super) fn carried(
    protocol: u8,
    source: u128,
    destination: u128,
    data: &[u8],
    depth: Depth,
) -> Parsed<'_> {
    ip::transport(protocol, source, destination, data, depth)
}

/// IP within IP (RFC 2003, RFC 4213).
#[cold]
#[inline(never)]
pub(super) fn ip(packet: &[u8], depth: Depth) -> Parsed<'_> {
    let Some(depth) = depth.deeper() else { return Ok(Packet::Other) };
    inside(link::by_version(packet), depth)
}

/// GRE (RFC 2784, 2890; version 1: RFC 2637), with whatever it carries.
#[cold]
#[inline(never)]
pub(super) fn gre(data: &[u8], depth: Depth) -> Parsed<'_> {
    let Some(depth) = depth.deeper() else { return Ok(Packet::Other) };
    if data.len() < 4 {
        return Err(Malformed::Tunnel);
    }
    let flags = be16(data, 0);
    let (checksum, routing, key, sequence) =
        (flags & 0x8000 != 0, flags & 0x4000 != 0, flags & 0x2000 != 0, flags & 0x1000 != 0);
    let acknowledgement = flags & 0x7 == 1 && flags & 0x80 != 0;
    if flags & 0x7 > 1 || routing {
        return Ok(Packet::Other);
    }
    let fields = [checksum, key, sequence, acknowledgement];
    let header = 4 + 4 * fields.iter().filter(|field| **field).count();
    let inner = data.get(header..).ok_or(Malformed::Tunnel)?;
    match be16(data, 2) {
        // Without a sequence number there is no header: type I.
        ERSPAN_II if !sequence => ethernet(inner, depth),
        ERSPAN_II => ethernet(inner.get(8..).ok_or(Malformed::Tunnel)?, depth),
        ERSPAN_III => {
            let (&last, _) = inner.get(11).zip(inner.first()).ok_or(Malformed::Tunnel)?;
            let subheader = if last & 1 != 0 { 8 } else { 0 };
            ethernet(inner.get(12 + subheader..).ok_or(Malformed::Tunnel)?, depth)
        }
        other => by_type(other, inner, depth),
    }
}

/// By an EtherType, or what GRE and Geneve have in its place.
fn by_type(kind: u16, inner: &[u8], depth: Depth) -> Parsed<'_> {
    match kind {
        ETHERNET => ethernet(inner, depth),
        PPP => ppp(inner, depth),
        IPV4 => inside(Some((Network::Ipv4, inner)), depth),
        IPV6 => inside(Some((Network::Ipv6, inner)), depth),
        other => inside(link::by_ethertype(other, inner)?, depth),
    }
}

/// PPP (RFC 1661), its address and control fields or the first byte of its protocol left out or not.
fn ppp(data: &[u8], depth: Depth) -> Parsed<'_> {
    inside(link::ppp(data), depth)
}

/// ESP (RFC 4303) with the NULL cipher (RFC 2410), as between phones and a mobile network: what is inside is there to
/// be read. Nothing says so, nor how long the check value is; the trailer and the lengths inside do.
#[cold]
#[inline(never)]
pub(super) fn esp<'a>(source: u128, destination: u128, data: &'a [u8], depth: Depth) -> Parsed<'a> {
    const CHECK_VALUES: [usize; 4] = [12, 16, 0, 32];
    let Some(depth) = depth.deeper() else { return Ok(Packet::Other) };
    let Some(body) = data.get(8..) else { return Err(Malformed::Tunnel) };
    for check_value in CHECK_VALUES {
        let Some((inner, protocol)) =
            body.len().checked_sub(check_value).and_then(|end| opened(&body[..end]))
        else {
            continue;
        };
        let fits = match protocol {
            ip::UDP => inner.len() >= 8 && usize::from(be16(inner, 4)) == inner.len(),
            ip::TCP => {
                inner.len() >= 20 && inner[12] >> 4 >= 5 && usize::from(inner[12] >> 4) * 4 <= inner.len()
            }
            ip::IPV4 => inner.len() >= 20 && inner[0] >> 4 == 4 && usize::from(be16(inner, 2)) == inner.len(),
            ip::IPV6 => {
                inner.len() >= 40 && inner[0] >> 4 == 6 && usize::from(be16(inner, 4)) + 40 == inner.len()
            }
            _ => false,
        };
        if fits {
            return carried(protocol, source, destination, inner, depth);
        }
    }
    Ok(Packet::Other)
}

/// What stands before the padding, whose bytes count from 1 on, and the protocol that the trailer names.
fn opened(body: &[u8]) -> Option<(&[u8], u8)> {
    let [rest @ .., padding, protocol] = body else { return None };
    let end = rest.len().checked_sub(usize::from(*padding))?;
    let (inner, padding) = rest.split_at(end);
    let counts = padding.iter().zip(1..).all(|(byte, count): (&u8, u8)| *byte == count);
    counts.then_some((inner, *protocol))
}

/// Whether a datagram to that port may be a tunnel's.
#[inline(always)]
pub(super) fn is_port(port: u16) -> bool {
    matches!(port, VXLAN | LINUX_VXLAN | GENEVE | TZSP | GTP_U | L2TP)
}

/// What a datagram to that port carries, if it is a tunnel's.
#[cold]
#[inline(never)]
pub(super) fn udp(port: u16, payload: &[u8], depth: Depth) -> Option<Parsed<'_>> {
    let depth = depth.deeper()?;
    match port {
        VXLAN | LINUX_VXLAN => vxlan(payload, depth),
        GENEVE => geneve(payload, depth),
        TZSP => tzsp(payload, depth),
        GTP_U => gtp_u(payload, depth),
        L2TP => l2tp(payload, depth),
        _ => None,
    }
}

/// RFC 7348.
fn vxlan(payload: &[u8], depth: Depth) -> Option<Parsed<'_>> {
    let [0x08, 0, 0, 0, _, _, _, 0, frame @ ..] = payload else { return None };
    carries_ip(frame).then(|| ethernet(frame, depth))
}

/// RFC 8926.
fn geneve(payload: &[u8], depth: Depth) -> Option<Parsed<'_>> {
    let (&first, &reserved) = (payload.first()?, payload.get(7)?);
    let inner = payload.get(8 + usize::from(first & 0x3f) * 4..)?;
    let kind = be16(payload, 2);
    let is_known = matches!(kind, ETHERNET | IPV4 | IPV6);
    (first >> 6 == 0 && reserved == 0 && is_known).then(|| by_type(kind, inner, depth))
}

/// TaZmen Sniffer Protocol, by which MikroTik's routers send what they sniff.
fn tzsp(payload: &[u8], depth: Depth) -> Option<Parsed<'_>> {
    let [1, 0, 0, 1, rest @ ..] = payload else { return None };
    let mut rest = rest;
    loop {
        match rest {
            [0, more @ ..] => rest = more,
            [1, frame @ ..] => return carries_ip(frame).then(|| ethernet(frame, depth)),
            [_, length, more @ ..] => rest = more.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}

/// 3GPP TS 29.281: version 1, a G-PDU.
fn gtp_u(payload: &[u8], depth: Depth) -> Option<Parsed<'_>> {
    let [flags, 255, high, low, ..] = payload else { return None };
    if flags >> 4 != 3 {
        return None;
    }
    let stated = 8 + usize::from(u16::from_be_bytes([*high, *low]));
    let packet = payload.get(..stated.min(payload.len()))?;
    let mut inner = 8;
    if flags & 0x7 != 0 {
        inner += 4;
        // A chain of extension headers, each with its length in units of four bytes and the next one's type.
        let mut next = if flags & 0x4 != 0 { *packet.get(11)? } else { 0 };
        while next != 0 {
            let length = usize::from(*packet.get(inner)?) * 4;
            next = *packet.get((inner + length).checked_sub(1).filter(|_| length > 0)?)?;
            inner += length;
        }
    }
    let inner = packet.get(inner..)?;
    link::by_version(inner).map(|found| inside(Some(found), depth))
}

/// RFC 2661, version 2: data messages, which carry PPP.
fn l2tp(payload: &[u8], depth: Depth) -> Option<Parsed<'_>> {
    if payload.len() < 6 {
        return None;
    }
    let flags = be16(payload, 0);
    if flags & 0x8000 != 0 || flags & 0x000f != 2 {
        return None;
    }
    let mut at = 2 + if flags & 0x4000 != 0 { 2 } else { 0 } + 4;
    at += if flags & 0x0800 != 0 { 4 } else { 0 };
    if flags & 0x0200 != 0 {
        at += 2 + usize::from(be16(payload.get(at..at + 2)?, 0));
    }
    link::ppp(payload.get(at..)?).map(|found| inside(Some(found), depth))
}

/// Whether a frame begins like Ethernet that carries IP, behind tags or not.
fn carries_ip(frame: &[u8]) -> bool {
    matches!(link::ethernet(frame), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::super::{Endpoint, FlowKey, LinkType, parse};
    use super::*;

    const INNER: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];
    const PORTS: [u16; 2] = [5060, 5062];

    /// An IP packet with a datagram.
    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ipv4(INNER[0], INNER[1], 64).udp(PORTS[0], PORTS[1]);
        builder.write(&mut bytes, payload).unwrap();
        bytes
    }

    /// The same in an Ethernet frame.
    fn frame(payload: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &[0x81, 0, 0, 7, 0x08, 0], &packet(payload)].concat()
    }

    fn over_udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
        builder.udp(40_000, port).write(&mut bytes, payload).unwrap();
        bytes
    }

    fn over_ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
        builder.write(&mut bytes, protocol.into(), payload).unwrap();
        bytes
    }

    fn with(head: &[u8], inner: &[u8]) -> Vec<u8> {
        [head, inner].concat()
    }

    /// Each tunnel around a datagram that says this.
    fn tunnels(say: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let (frame, packet) = (frame(say), packet(say));
        let ppp = with(&[0xff, 0x03, 0x00, 0x21], &packet);
        let esp = [&[0, 0, 0, 9, 0, 0, 0, 1][..], &packet[20..], &[1, 2, 2, 17], &[0xaa; 12]].concat();
        let ethernet = |kind: [u8; 2], inner: &[u8]| [&[1; 12][..], &kind, inner].concat();
        let length = (packet.len() as u16 + 8).to_be_bytes();
        let pppoe = [&[0x11, 0, 0, 1, 0, 0, 0x00, 0x21][..], &packet].concat();
        vec![
            ("ipip", over_ip(4, &packet)),
            ("gre", over_ip(47, &with(&[0, 0, 8, 0], &packet))),
            ("gre, key", over_ip(47, &with(&[0x20, 0, 0x65, 0x58, 0, 0, 0, 1], &frame))),
            ("gre, ppp", over_ip(47, &[&[0x30, 0x81, 0x88, 0x0b][..], &[0; 12], &ppp].concat())),
            ("erspan I", over_ip(47, &with(&[0, 0, 0x88, 0xbe], &frame))),
            (
                "erspan II",
                over_ip(47, &[&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1][..], &[0x10; 8], &frame].concat()),
            ),
            (
                "erspan III",
                over_ip(47, &[&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1][..], &[0x20; 12], &frame].concat()),
            ),
            (
                "erspan III+",
                over_ip(47, &[&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1][..], &[0x21; 20], &frame].concat()),
            ),
            ("vxlan", over_udp(4789, &with(&[8, 0, 0, 0, 0, 0, 7, 0], &frame))),
            ("geneve", over_udp(6081, &with(&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 0], &frame))),
            ("tzsp", over_udp(37_008, &with(&[1, 0, 0, 1, 0, 10, 1, 99, 1], &frame))),
            ("gtp-u", over_udp(2152, &[&[0x30, 255][..], &length, &[0, 0, 0, 1], &packet].concat())),
            (
                "gtp-u, extended",
                over_udp(
                    2152,
                    &[&[0x34, 255, 0, 200, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 9, 0][..], &packet].concat(),
                ),
            ),
            ("l2tp", over_udp(1701, &[&[0x40, 2, 0, 100, 0, 1, 0, 2][..], &ppp].concat())),
            ("pppoe", ethernet([0x88, 0x64], &pppoe)),
            ("mpls", ethernet([0x88, 0x47], &with(&[0, 1, 0, 64, 0, 2, 1, 64], &packet))),
            ("pseudowire", ethernet([0x88, 0x47], &with(&[0, 2, 1, 64, 0, 0, 0, 0], &frame))),
            ("esp", over_ip(50, &esp)),
        ]
    }

    #[test]
    fn what_is_inside_comes_out() {
        for (name, bytes) in tunnels(b"OPTIONS sip:a@b SIP/2.0") {
            let Ok(Packet::Udp { flow, payload }) = parse(LinkType::Ethernet, &bytes) else {
                panic!("{name}: {:?}", parse(LinkType::Ethernet, &bytes));
            };
            assert_eq!(payload, b"OPTIONS sip:a@b SIP/2.0", "{name}");
            assert_eq!([flow.source.port, flow.destination.port], PORTS, "{name}");
            // In transport mode the outer addresses are all there are.
            if name != "esp" {
                let [source, destination] = [0, 1].map(|end| Endpoint::v4(INNER[end], PORTS[end]));
                assert_eq!(flow, FlowKey { source, destination }, "{name}");
            }
        }
    }

    #[test]
    fn media_on_a_tunnels_port_is_media() {
        for port in [4789, 8472, 6081, 37_008, 2152, 1701] {
            let rtp = [&[0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3][..], &[0xd5; 160]].concat();
            let bytes = over_udp(port, &rtp);
            assert!(
                matches!(parse(LinkType::Ethernet, &bytes), Ok(Packet::Udp { flow, payload })
                    if flow.destination.port == port && payload == rtp),
                "{port}"
            );
        }
    }

    #[test]
    fn tunnels_without_end_are_not_followed() {
        let mut inner = packet(b"x");
        for _ in 0..3000 {
            let length = (inner.len() as u16 + 20).to_be_bytes();
            let head = [0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 4, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];
            inner = with(&head, &inner);
        }
        let bytes = [&[1; 12][..], &[8, 0], &inner].concat();
        assert_eq!(parse(LinkType::Ethernet, &bytes), Ok(Packet::Other));
        let labels = [&[1; 12][..], &[0x88, 0x47]].concat();
        let wire = [&[0, 2, 1, 64, 0, 0, 0, 0][..], &labels].concat();
        let bytes = [&labels[..], &wire.repeat(3000)].concat();
        assert_eq!(parse(LinkType::Ethernet, &bytes), Ok(Packet::Other));
    }

    proptest! {
        #[test]
        fn cut_or_damaged_anywhere_nothing_breaks(which in 0usize..18, cut: u16, damage in proptest::collection::vec((0usize..90, any::<u8>()), 0..4)) {
            let (_, mut bytes) = tunnels(b"hello").swap_remove(which);
            for (place, byte) in damage {
                if let Some(place) = bytes.get_mut(place) {
                    *place = byte;
                }
            }
            let end = usize::from(cut) % (bytes.len() + 1);
            let _ = parse(LinkType::Ethernet, &bytes[..end]);
            let _ = parse(LinkType::Ethernet, &bytes);
        }
    }
}
