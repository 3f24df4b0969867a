//! Frames of every class and a memory in tables: for the tests here, and for those that run the kernel's program
//! on the same frames.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::HashMap;
use std::vec;
use std::vec::Vec;

use crate::{Class, Endpoint, Flow, Memory, Path, Ports, Wish};

mod cases;

pub use cases::{Case, GRE, ICMP, cases};

/// What stands in [`Tables::sample`] besides [`Ports::DEFAULT`].
pub const HTTP_PORT: u16 = 8088;
/// Likewise.
pub const CONTROL_PORT: u16 = 2300;

/// A memory that forgets nothing.
#[derive(Clone, Debug)]
pub struct Tables {
    /// What is said of each port.
    pub ports: Vec<Ports>,
    /// What is wanted of media.
    pub media: HashMap<Endpoint, Wish>,
    /// What connections carry.
    pub flows: HashMap<Flow, Class>,
    /// Beginnings of paths that are triggers, at most as long as a [`Path`].
    pub paths: Vec<&'static str>,
    /// Whether unknown RTP is needed.
    pub unknown_media: bool,
}

impl Tables {
    /// What [`cases`] are made for.
    pub fn sample() -> Tables {
        let mut ports = vec![Ports::default(); 1 << 16];
        let sample = [(HTTP_PORT, Ports::HTTP), (CONTROL_PORT, Ports::CONTROL)];
        for (port, said) in Ports::DEFAULT.into_iter().chain(sample) {
            ports[usize::from(port)] = said;
        }
        let endpoint = |socket: SocketAddr| Endpoint::new(socket.ip(), socket.port());
        let media = [(endpoint(wanted()), Wish::Wanted), (endpoint(unwanted()), Wish::Unwanted)].into();
        let paths = vec!["/api/record", "/servlet?command=Record"];
        Tables { ports, media, flows: HashMap::new(), paths, unknown_media: true }
    }
}

impl Memory for Tables {
    fn port(&self, port: u16) -> Ports {
        self.ports[usize::from(port)]
    }

    fn wish(&self, endpoint: &Endpoint) -> Option<Wish> {
        self.media.get(endpoint).copied()
    }

    fn flow(&self, flow: &Flow) -> Option<Class> {
        self.flows.get(flow).copied()
    }

    fn remember(&mut self, flow: &Flow, class: Class) {
        self.flows.insert(*flow, class);
    }

    fn is_trigger(&self, path: &Path) -> bool {
        self.paths.iter().any(|begin| path.starts_with(begin.as_bytes()))
    }

    fn takes_unknown_media(&self) -> bool {
        self.unknown_media
    }
}

/// A party's address and a port.
pub fn alice(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port)
}

/// The other party's.
pub fn bob(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), port)
}

/// A party's IPv6 address.
pub fn alice_v6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), port)
}

/// The other party's.
pub fn bob_v6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)), port)
}

/// Where [`Tables::sample`] wants media.
pub fn wanted() -> SocketAddr {
    alice(40_000)
}

/// Where it does not.
pub fn unwanted() -> SocketAddr {
    bob(40_010)
}

/// An Ethernet frame.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A frame with tags of these types in front of its EtherType, the outermost first.
pub fn tagged(types: &[u16], mut frame: Vec<u8>) -> Vec<u8> {
    for tag in types.iter().rev() {
        let [high, low] = tag.to_be_bytes();
        frame.splice(12..12, [high, low, 0x20, 100]);
    }
    frame
}

/// An IP packet in an Ethernet frame, IPv4 or IPv6 as the addresses are. Two of different kinds make no packet,
/// but a frame without one.
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + length).to_be_bytes());
            packet.extend([0, 7, 0x40, 0, 64, protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend(payload);
            ethernet(0x0800, &packet)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.extend(payload);
            ethernet(0x86dd, &packet)
        }
        _ => ethernet(0xffff, payload),
    }
}

/// A UDP datagram in a frame.
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for field in [from.port(), to.port(), 8 + payload.len() as u16, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    packet(from.ip(), to.ip(), 17, &datagram)
}

/// A TCP segment in a frame.
pub fn tcp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    tcp_with_options(from, to, &[], payload)
}

/// A TCP segment with options: a multiple of four bytes.
pub fn tcp_with_options(from: SocketAddr, to: SocketAddr, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend([0, 0, 1, 0, 0, 0, 2, 0]);
    segment.extend([(20 + options.len() as u8) << 2, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    packet(from.ip(), to.ip(), 6, &segment)
}

/// An untagged IPv4 frame with eight bytes of options in its header.
pub fn with_ip_options(mut frame: Vec<u8>) -> Vec<u8> {
    frame[14] += 2;
    let total = u16::from_be_bytes([frame[16], frame[17]]) + 8;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame.splice(34..34, [1; 8]);
    frame
}

/// An untagged IPv4 frame with these flags and this offset.
pub fn as_fragment(mut frame: Vec<u8>, flags_and_offset: u16) -> Vec<u8> {
    frame[20..22].copy_from_slice(&flags_and_offset.to_be_bytes());
    frame
}

/// A packet of G.711.
pub fn rtp() -> Vec<u8> {
    let mut packet = vec![0x80, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4];
    packet.extend([0xff; 160]);
    packet
}

/// A sender report.
pub fn rtcp() -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6, 1, 2, 3, 4];
    packet.extend([0; 20]);
    packet
}

/// Frames that are anything: each is one of the cases with some of its bytes overwritten, and perhaps cut, or
/// nothing but noise. The same ones each time.
pub fn garbage() -> impl Iterator<Item = Vec<u8>> {
    let cases = cases();
    let mut state = 0_u64;
    // SplitMix64.
    let mut random = move |below: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % below.max(1) as u64) as usize
    };
    core::iter::repeat_with(move || {
        if random(8) == 0 {
            return (0..random(200)).map(|_| random(256) as u8).collect();
        }
        let mut frame = cases[random(cases.len())].frame.clone();
        for _ in 0..random(6) {
            // What the walk looks at stands in the first bytes.
            let at = random(frame.len().min(110));
            if let Some(byte) = frame.get_mut(at) {
                *byte = random(256) as u8;
            }
        }
        if random(3) == 0 {
            frame.truncate(random(frame.len()));
        }
        frame
    })
}
