//! Frames: where etherparse understands one as well, both read the same. The first byte chooses the link.
#![no_main]

use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use libfuzzer_sys::fuzz_target;
use spantape_core::wire::{Endpoint, FlowKey, LinkType, Packet, parse};

const LINKS: [LinkType; 11] = [
    LinkType::Ethernet,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::RawIp,
    LinkType::Loopback,
    LinkType::Hdlc,
    LinkType::Pppoe,
    LinkType::Erf,
    LinkType::Sctp,
    LinkType::UpperPdu,
    LinkType::Pktap,
];

/// L2TP, GTP-U, VXLAN twice, Geneve, TZSP.
const TUNNELS: [u16; 6] = [1701, 2152, 4789, 8472, 6081, 37_008];

fuzz_target!(|data: &[u8]| {
    let Some((&link, frame)) = data.split_first() else { return };
    let ours = parse(LINKS[usize::from(link) % LINKS.len()], frame);
    if usize::from(link) % LINKS.len() == 0 {
        compare(&ours.ok(), frame);
    }
});

fn compare(ours: &Option<Packet<'_>>, frame: &[u8]) {
    let Ok(theirs) = SlicedPacket::from_ethernet(frame) else { return };
    // MACsec is not stepped over, not even where it does not encrypt.
    if theirs.link_exts.iter().any(|layer| matches!(layer, LinkExtSlice::Macsec(_))) {
        return;
    }
    let (Some(net), Some(transport)) = (theirs.net, theirs.transport) else { return };
    // Nobody sends as many extension headers as etherparse would follow.
    if matches!(&net, NetSlice::Ipv6(ip) if ours.is_none() && !ip.extensions().is_empty()) {
        return;
    }
    let (source, destination) = match &net {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Arp(_) => return,
    };
    let flow = |ports: (u16, u16)| FlowKey {
        source: Endpoint::new(source, ports.0),
        destination: Endpoint::new(destination, ports.1),
    };
    match transport {
        // What is in a tunnel is read instead of it.
        TransportSlice::Udp(udp) if TUNNELS.contains(&udp.destination_port()) => {}
        TransportSlice::Udp(udp) => {
            let flow = flow((udp.source_port(), udp.destination_port()));
            assert_eq!(*ours, Some(Packet::Udp { flow, payload: udp.payload() }));
        }
        TransportSlice::Tcp(tcp) => {
            let Some(Packet::Tcp { flow: found, segment }) = ours else { panic!("no TCP: {ours:?}") };
            assert_eq!(*found, flow((tcp.source_port(), tcp.destination_port())));
            assert_eq!(segment.sequence, tcp.sequence_number());
            assert_eq!((segment.syn, segment.fin, segment.rst), (tcp.syn(), tcp.fin(), tcp.rst()));
            assert_eq!(segment.payload, tcp.payload());
        }
        TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => {
            assert_eq!(*ours, Some(Packet::Other))
        }
    }
}
