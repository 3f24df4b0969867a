//! From the first byte of a frame to what it is.
//!
//! Written so that the kernel's verifier can follow it: every loop has a small bound, every byte is asked for
//! with [`Bytes::array`], and there is no call it would have to look into.

use crate::{Bytes, Class, Endpoint, Flow, Memory, Ports, Wish, payload};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_MPLS: u16 = 0x8847;
const ETHERTYPE_MPLS_MULTICAST: u16 = 0x8848;
const ETHERTYPE_PPPOE: u16 = 0x8864;

const IPV4_IN_IP: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AUTHENTICATION: u8 = 51;
const L2TP: u8 = 115;
const SCTP: u8 = 132;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

const MAX_VLAN_TAGS: usize = 2;

/// An RTP header without contributing sources (RFC 3550, 5.1).
const RTP_HEADER: usize = 12;
/// The shortest RTCP packet: a receiver report without reports, or a BYE.
const RTCP_HEADER: usize = 8;

/// Says what an Ethernet frame is.
#[inline(always)]
pub fn sieve<B: Bytes + ?Sized, M: Memory>(frame: &B, memory: &mut M) -> Class {
    match walk(frame, memory) {
        Some(class) => class,
        None => Class::Malformed,
    }
}

/// `None`: the frame ends before it should.
#[inline(always)]
fn walk<B: Bytes + ?Sized, M: Memory>(frame: &B, memory: &mut M) -> Option<Class> {
    let mut ethertype = be16(frame, 12)?;
    let mut at = 14;
    let mut tags = 0;
    while is_vlan(ethertype) {
        if tags == MAX_VLAN_TAGS {
            return Some(Class::Encapsulated);
        }
        ethertype = be16(frame, at + 2)?;
        at += 4;
        tags += 1;
    }
    let network = match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, at)?,
        ETHERTYPE_IPV6 => ipv6(frame, at)?,
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_MULTICAST | ETHERTYPE_PPPOE => return Some(Class::Encapsulated),
        _ => return Some(Class::Rest),
    };
    let transport = match network {
        Network::Packet(transport) => transport,
        Network::Is(class) => return Some(class),
    };
    match transport.protocol {
        UDP => udp(frame, &transport, memory),
        TCP => tcp(frame, &transport, memory),
        IPV4_IN_IP | IPV6_IN_IP | GRE | ESP | AUTHENTICATION | L2TP | SCTP => Some(Class::Encapsulated),
        _ => Some(Class::Rest),
    }
}

/// What an IP header says.
enum Network {
    /// A whole packet.
    Packet(Transport),
    /// Nothing else need be looked at.
    Is(Class),
}

/// Where a packet's payload begins, and between whom it is; the ports are not known yet.
struct Transport {
    protocol: u8,
    at: usize,
    source: Endpoint,
    destination: Endpoint,
}

/// 802.1Q, 802.1ad, and the QinQ of older switches.
#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100 | 0x9200)
}

#[inline(always)]
fn ipv4<B: Bytes + ?Sized>(frame: &B, at: usize) -> Option<Network> {
    let header = frame.array::<20>(at)?;
    let length = ((header[0] & 0x0f) as usize) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return None;
    }
    // As with datagrams: 0 is what segmentation offload leaves.
    let total = u16::from_be_bytes([header[2], header[3]]) as usize;
    if total != 0 && total < length {
        return None;
    }
    frame.array::<1>(at + length - 1)?;
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if fragment & 0x3fff != 0 {
        return Some(Network::Is(Class::Fragment));
    }
    let source = Endpoint::v4([header[12], header[13], header[14], header[15]], 0);
    let destination = Endpoint::v4([header[16], header[17], header[18], header[19]], 0);
    let (protocol, at) = (header[9], at + length);
    Some(Network::Packet(Transport { protocol, at, source, destination }))
}

#[inline(always)]
fn ipv6<B: Bytes + ?Sized>(frame: &B, at: usize) -> Option<Network> {
    let header = frame.array::<8>(at)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let source = Endpoint::v6(frame.array::<16>(at + 8)?, 0);
    let destination = Endpoint::v6(frame.array::<16>(at + 24)?, 0);
    let (protocol, at) = (header[6], at + 40);
    match protocol {
        FRAGMENT => Some(Network::Is(Class::Fragment)),
        // Walking them would cost the verifier more than the few such packets cost the recorder.
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY => Some(Network::Is(Class::Encapsulated)),
        _ => Some(Network::Packet(Transport { protocol, at, source, destination })),
    }
}

#[inline(always)]
fn udp<B: Bytes + ?Sized, M: Memory>(
    frame: &B,
    &Transport { at, mut source, mut destination, .. }: &Transport,
    memory: &mut M,
) -> Option<Class> {
    let header = frame.array::<8>(at)?;
    let from = u16::from_be_bytes([header[0], header[1]]);
    let to = u16::from_be_bytes([header[2], header[3]]);
    // A length of 0 is what segmentation offload leaves: the frame's end is the datagram's.
    let length = match u16::from_be_bytes([header[4], header[5]]) as usize {
        0 => usize::MAX,
        length if length < 8 => return None,
        length => length - 8,
    };
    let at = at + 8;
    (source.port, destination.port) = (from as u32, to as u32);

    let ports = memory.port(from).or(memory.port(to));
    if ports.has(Ports::SIP) || payload::is_sip(frame, at) {
        return Some(Class::Sip);
    }
    if ports.has(Ports::ENCAPSULATED) {
        return Some(Class::Encapsulated);
    }
    let kind = media(frame, at, length);
    let heard = kind.unwrap_or(Class::Media);
    // Looking up costs more than all the rest: most of what is wanted is known by where it goes.
    let to = wish(memory, destination, kind);
    if to == Some(Wish::Wanted) {
        return Some(heard);
    }
    match (to, wish(memory, source, kind)) {
        (_, Some(Wish::Wanted)) => Some(heard),
        (Some(_), _) | (_, Some(Wish::Unwanted)) => Some(Class::Unwanted),
        (None, None) => match kind {
            Some(kind) if memory.takes_unknown_media() && !ports.has(Ports::NO_MEDIA) => Some(kind),
            _ => Some(Class::Rest),
        },
    }
}

/// What is wanted of media at an endpoint. RTCP that nobody has announced goes with the RTP one port below
/// (RFC 3550, 11).
#[inline(always)]
fn wish<M: Memory>(memory: &M, mut endpoint: Endpoint, kind: Option<Class>) -> Option<Wish> {
    let wish = memory.wish(&endpoint);
    if wish.is_some() || !matches!(kind, Some(Class::Rtcp)) {
        return wish;
    }
    // Below port 0 there is none, and none is known.
    endpoint.port = endpoint.port.wrapping_sub(1);
    memory.wish(&endpoint)
}

/// Whether a datagram looks like RTP or RTCP (RFC 3550; told apart by RFC 5761, 4).
#[inline(always)]
fn media<B: Bytes + ?Sized>(frame: &B, at: usize, length: usize) -> Option<Class> {
    let header = frame.array::<2>(at)?;
    if header[0] >> 6 != 2 {
        return None;
    }
    let (class, least) =
        if matches!(header[1], 192..=223) { (Class::Rtcp, RTCP_HEADER) } else { (Class::Rtp, RTP_HEADER) };
    (length >= least && frame.array::<1>(at + least - 1).is_some()).then_some(class)
}

#[inline(always)]
fn tcp<B: Bytes + ?Sized, M: Memory>(
    frame: &B,
    &Transport { at, mut source, mut destination, .. }: &Transport,
    memory: &mut M,
) -> Option<Class> {
    let header = frame.array::<20>(at)?;
    let from = u16::from_be_bytes([header[0], header[1]]);
    let to = u16::from_be_bytes([header[2], header[3]]);
    let length = ((header[12] >> 4) as usize) * 4;
    if length < 20 {
        return None;
    }
    frame.array::<1>(at + length - 1)?;
    let ports = memory.port(from).or(memory.port(to));
    if ports.has(Ports::SIP) {
        return Some(Class::Sip);
    }
    if ports.has(Ports::HTTP) {
        return Some(Class::Http);
    }
    if ports.has(Ports::CONTROL) {
        return Some(Class::Control);
    }
    (source.port, destination.port) = (from as u32, to as u32);
    let flow = Flow::between(source, destination);
    if let Some(class) = memory.flow(&flow) {
        return Some(class);
    }
    let at = at + length;
    let class = if payload::is_sip(frame, at) {
        Class::Sip
    } else if payload::is_control(frame, at) {
        Class::Control
    } else if payload::http_path(frame, at).is_some_and(|path| memory.is_trigger(&path)) {
        Class::Http
    } else {
        return Some(Class::Rest);
    };
    memory.remember(&flow, class);
    Some(class)
}

#[inline(always)]
fn be16<B: Bytes + ?Sized>(frame: &B, at: usize) -> Option<u16> {
    frame.array::<2>(at).map(u16::from_be_bytes)
}
