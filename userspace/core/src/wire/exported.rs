//! What Wireshark writes when it is told to export PDUs: payloads without the packets that they came in
//! (LINKTYPE_WIRESHARK_UPPER_PDU).

use super::link::{self, Network};
use super::tunnel::{self, Depth};
use super::{Endpoint, FlowKey, Malformed, Packet};

const END: u16 = 0;
const DISSECTOR: u16 = 12;
const HEURISTIC_DISSECTOR: u16 = 13;
const IPV4_SOURCE: u16 = 20;
const IPV4_DESTINATION: u16 = 21;
const IPV6_SOURCE: u16 = 22;
const IPV6_DESTINATION: u16 = 23;
const SOURCE_PORT: u16 = 25;
const DESTINATION_PORT: u16 = 26;

/// Tags with what is known of the packet, then the payload. Whatever it came by, a message counts as a datagram.
pub(super) fn packet(mut rest: &[u8]) -> Result<Packet<'_>, Malformed> {
    let nobody = Endpoint { ip: 0, port: 0 };
    let mut flow = FlowKey { source: nobody, destination: nobody };
    let mut dissector: &[u8] = b"";
    loop {
        let [high, low, length_high, length_low, body @ ..] = rest else { return Err(Malformed::Link) };
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let (value, after) = body.split_at_checked(length).ok_or(Malformed::Link)?;
        rest = after;
        match u16::from_be_bytes([*high, *low]) {
            END => break,
            // Padded to a multiple of four.
            DISSECTOR | HEURISTIC_DISSECTOR => {
                dissector = value.split(|byte| *byte == 0).next().unwrap_or_default()
            }
            IPV4_SOURCE | IPV6_SOURCE => flow.source.ip = address(value).ok_or(Malformed::Link)?,
            IPV4_DESTINATION | IPV6_DESTINATION => {
                flow.destination.ip = address(value).ok_or(Malformed::Link)?;
            }
            SOURCE_PORT => flow.source.port = port(value).ok_or(Malformed::Link)?,
            DESTINATION_PORT => flow.destination.port = port(value).ok_or(Malformed::Link)?,
            _ => {}
        }
    }
    match dissector {
        b"eth" | b"eth_withoutfcs" | b"eth_maybefcs" => {
            tunnel::inside(Some((Network::Ethernet, rest)), Depth::default())
        }
        b"ip" | b"ipv6" => tunnel::inside(link::by_version(rest), Depth::default()),
        name if name.starts_with(b"sip") || name.starts_with(b"rtp") => {
            Ok(Packet::Udp { flow, payload: rest })
        }
        _ => Ok(Packet::Other),
    }
}

fn address(value: &[u8]) -> Option<u128> {
    let v4 = || Some(Endpoint::v4(value.try_into().ok()?, 0).ip);
    value.try_into().ok().map(u128::from_be_bytes).or_else(v4)
}

fn port(value: &[u8]) -> Option<u16> {
    u16::try_from(u32::from_be_bytes(value.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{LinkType, parse};
    use super::*;

    fn tag(kind: u16, value: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    fn exported(name: &[u8], addresses: [(u16, &[u8]); 2], payload: &[u8]) -> Vec<u8> {
        [
            tag(DISSECTOR, name),
            tag(addresses[0].0, addresses[0].1),
            tag(addresses[1].0, addresses[1].1),
            // Port type, original frame number.
            tag(24, &[0, 0, 0, 3]),
            tag(SOURCE_PORT, &[0, 0, 0x13, 0xc4]),
            tag(DESTINATION_PORT, &[0, 0, 0x13, 0xc6]),
            tag(30, &[0, 0, 0, 9]),
            tag(END, b""),
            payload.to_vec(),
        ]
        .concat()
    }

    #[test]
    fn sip_with_its_addresses() {
        let v4: [(u16, &[u8]); 2] = [(IPV4_SOURCE, &[10, 0, 0, 1]), (IPV4_DESTINATION, &[10, 0, 0, 2])];
        let (source, destination) = (Endpoint::v4([10, 0, 0, 1], 5060), Endpoint::v4([10, 0, 0, 2], 5062));
        let frame = exported(b"sip\0", v4, b"BYE");
        let flow = FlowKey { source, destination };
        assert_eq!(parse(LinkType::UpperPdu, &frame), Ok(Packet::Udp { flow, payload: b"BYE" }));
        for end in 0..frame.len() - 3 {
            assert_eq!(parse(LinkType::UpperPdu, &frame[..end]), Err(Malformed::Link), "{end}");
        }
        let v6: [(u16, &[u8]); 2] = [(IPV6_SOURCE, &[9; 16]), (IPV6_DESTINATION, &[8; 16])];
        let frame = exported(b"sip.tcp\0", v6, b"BYE");
        let Ok(Packet::Udp { flow, .. }) = parse(LinkType::UpperPdu, &frame) else { panic!() };
        assert_eq!(flow.source, Endpoint { ip: u128::from_be_bytes([9; 16]), port: 5060 });
        assert_eq!(parse(LinkType::UpperPdu, &exported(b"diameter", v4, b"x")), Ok(Packet::Other));
    }
}
