//! IPv4 (RFC 791), IPv6 with its extension headers (RFC 8200), UDP (RFC 768), TCP (RFC 9293) and SCTP (RFC 9260).

use super::tunnel::{self, Depth};
use super::{Endpoint, FlowKey, Fragment, FragmentKey, Malformed, Packet, SctpPacket, Segment, be16, be32};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const IPV4: u8 = 4;
pub(super) const IPV6: u8 = 41;
const GRE: u8 = 47;
const ESP: u8 = 50;
pub(super) const SCTP: u8 = 132;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const MAX_EXTENSIONS: usize = 8;

#[inline(always)]
pub(super) fn v4(packet: &[u8], depth: Depth) -> Result<Packet<'_>, Malformed> {
    if packet.len() < 20 || packet[0] >> 4 != 4 {
        return Err(Malformed::Ipv4);
    }
    let header = usize::from(packet[0] & 0x0f) * 4;
    if header < 20 || packet.len() < header {
        return Err(Malformed::Ipv4);
    }
    // Segmentation offload leaves 0 in frames captured on the sender itself; frames shorter than the
    // stated length were cut by the capture; longer ones carry Ethernet padding.
    let stated = match usize::from(be16(packet, 2)) {
        0 => packet.len(),
        length => length.min(packet.len()),
    };
    if stated < header {
        return Err(Malformed::Ipv4);
    }
    let payload = &packet[header..stated];
    let protocol = packet[9];
    let source = Endpoint::v4([packet[12], packet[13], packet[14], packet[15]], 0).ip;
    let destination = Endpoint::v4([packet[16], packet[17], packet[18], packet[19]], 0).ip;

    let flags_and_offset = be16(packet, 6);
    let (offset, more) = ((flags_and_offset & 0x1fff) * 8, flags_and_offset & 0x2000 != 0);
    if offset != 0 || more {
        let identification = u32::from(be16(packet, 4));
        let key = FragmentKey { source, destination, identification, protocol };
        return Ok(Packet::Fragment(Fragment { key, offset, more, payload }));
    }
    transport(protocol, source, destination, payload, depth)
}

#[inline]
pub(super) fn v6(packet: &[u8], depth: Depth) -> Result<Packet<'_>, Malformed> {
    if packet.len() < 40 || packet[0] >> 4 != 6 {
        return Err(Malformed::Ipv6);
    }
    let stated = match usize::from(be16(packet, 4)) {
        0 => packet.len(),
        length => (40 + length).min(packet.len()),
    };
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&packet[at..at + 16]);
        u128::from_be_bytes(octets)
    };
    let (source, destination) = (address(8), address(24));
    let mut protocol = packet[6];
    let mut rest = &packet[40..stated];

    for _ in 0..MAX_EXTENSIONS {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY if rest.len() >= 8 => {
                8 + usize::from(rest[1]) * 8
            }
            AUTHENTICATION if rest.len() >= 8 => 8 + usize::from(rest[1]) * 4,
            FRAGMENT if rest.len() >= 8 => {
                let offset_and_more = be16(rest, 2);
                let (offset, more) = (offset_and_more & 0xfff8, offset_and_more & 1 != 0);
                if offset != 0 || more {
                    let identification = be32(rest, 4);
                    let key = FragmentKey { source, destination, identification, protocol: rest[0] };
                    return Ok(Packet::Fragment(Fragment { key, offset, more, payload: &rest[8..] }));
                }
                8
            }
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | AUTHENTICATION | FRAGMENT => {
                return Err(Malformed::Ipv6Extension);
            }
            _ => return transport(protocol, source, destination, rest, depth),
        };
        if rest.len() < length {
            return Err(Malformed::Ipv6Extension);
        }
        (protocol, rest) = (rest[0], &rest[length..]);
    }
    Err(Malformed::Ipv6Extension)
}

#[inline(always)]
pub(super) fn transport(
    protocol: u8,
    source: u128,
    destination: u128,
    data: &[u8],
    depth: Depth,
) -> Result<Packet<'_>, Malformed> {
    let flow = |data: &[u8]| FlowKey {
        source: Endpoint { ip: source, port: be16(data, 0) },
        destination: Endpoint { ip: destination, port: be16(data, 2) },
    };
    match protocol {
        UDP => {
            if data.len() < 8 {
                return Err(Malformed::Udp);
            }
            let stated = match usize::from(be16(data, 4)) {
                0 => data.len(),
                length if length < 8 => return Err(Malformed::Udp),
                length => length.min(data.len()),
            };
            let (flow, payload) = (flow(data), &data[8..stated]);
            if tunnel::is_port(flow.destination.port)
                && let Some(inner) = tunnel::udp(flow.destination.port, payload, depth)
            {
                return inner;
            }
            Ok(Packet::Udp { flow, payload })
        }
        TCP => {
            if data.len() < 20 {
                return Err(Malformed::Tcp);
            }
            let header = usize::from(data[12] >> 4) * 4;
            if header < 20 || data.len() < header {
                return Err(Malformed::Tcp);
            }
            let flags = data[13];
            let segment = Segment {
                sequence: be32(data, 4),
                fin: flags & 0x01 != 0,
                syn: flags & 0x02 != 0,
                rst: flags & 0x04 != 0,
                payload: &data[header..],
            };
            Ok(Packet::Tcp { flow: flow(data), segment })
        }
        // RFC 4302 authenticates and hides nothing. One such header is enough for anybody.
        AUTHENTICATION if data.len() >= 12 && data[0] != AUTHENTICATION => {
            let rest = data.get(8 + usize::from(data[1]) * 4..).ok_or(Malformed::Ipv4)?;
            tunnel::carried(data[0], source, destination, rest, depth)
        }
        IPV4 | IPV6 => tunnel::ip(data, depth),
        GRE => tunnel::gre(data, depth),
        ESP => tunnel::esp(source, destination, data, depth),
        SCTP => {
            if data.len() < 12 {
                return Err(Malformed::Sctp);
            }
            let packet = SctpPacket { tag: be32(data, 4), chunks: &data[12..] };
            Ok(Packet::Sctp { flow: flow(data), packet })
        }
        _ => Ok(Packet::Other),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::super::{LinkType, parse};
    use super::*;

    fn endpoint(ip: &str, port: u16) -> Endpoint {
        Endpoint::new(ip.parse::<IpAddr>().unwrap(), port)
    }

    #[test]
    fn udp_behind_two_vlan_tags() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .double_vlan(100.try_into().unwrap(), 200.try_into().unwrap())
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(5060, 5062)
            .write(&mut frame, b"hello")
            .unwrap();
        let flow = FlowKey { source: endpoint("10.0.0.1", 5060), destination: endpoint("10.0.0.2", 5062) };
        assert_eq!(parse(LinkType::Ethernet, &frame), Ok(Packet::Udp { flow, payload: b"hello" }));
    }

    #[test]
    fn ethernet_padding_is_no_payload() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1, 2)
            .write(&mut frame, b"x")
            .unwrap();
        frame.resize(60, 0);
        let Ok(Packet::Udp { payload, .. }) = parse(LinkType::Ethernet, &frame) else { panic!() };
        assert_eq!(payload, b"x");
    }

    #[test]
    fn ipv6_extension_headers_are_stepped_over() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, HOP_BY_HOP, 64];
        packet.extend([0; 32]);
        packet.extend([DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0]);
        packet.extend([UDP, 0, 1, 4, 0, 0, 0, 0]);
        packet.extend([0x13, 0xc4, 0x13, 0xc5, 0, 10, 0, 0, b'h', b'i']);
        let length = (packet.len() - 40) as u16;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        let Ok(Packet::Udp { flow, payload }) = parse(LinkType::RawIp, &packet) else { panic!() };
        assert_eq!((flow.source.port, payload), (5060, &b"hi"[..]));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, number in 0u32..300) {
            if let Some(link) = LinkType::from_number(number) {
                let _ = parse(link, &bytes);
            }
        }

        #[test]
        fn agrees_with_etherparse(payload: Vec<u8>, source: [u8; 4], destination: [u8; 4],
                                  ports: (u16, u16), cut in 0usize..80) {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(source, destination, 9)
                .udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
            frame.truncate(frame.len() - cut.min(frame.len()));
            let ours = parse(LinkType::Ethernet, &frame);
            if let Ok(SlicedPacket { net: Some(NetSlice::Ipv4(ip)),
                                     transport: Some(TransportSlice::Udp(udp)), .. })
                = SlicedPacket::from_ethernet(&frame) {
                let flow = FlowKey {
                    source: Endpoint::v4(ip.header().source(), udp.source_port()),
                    destination: Endpoint::v4(ip.header().destination(), udp.destination_port()),
                };
                prop_assert_eq!(ours, Ok(Packet::Udp { flow, payload: udp.payload() }));
            }
        }
    }
}
