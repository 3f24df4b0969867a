//! From a frame's bytes to the datagram it carries.
//!
//! The ordinary path (Ethernet, VLAN tags, IPv4 or IPv6, UDP or TCP) is parsed by hand in one walk. Every
//! header is checked for its length once, before its fields are read; what is wrong is said by
//! [`Malformed`], which is counted, never an error.

mod exported;
mod ip;
mod link;
mod tunnel;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use link::LinkType;
use tunnel::Depth;

/// An IP address and a port, packed for look-ups: IPv4 is kept as an IPv4-mapped IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address, IPv4-mapped where it is IPv4.
    pub ip: u128,
    /// UDP or TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Packs an address and a port.
    pub fn new(ip: IpAddr, port: u16) -> Endpoint {
        let ip = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Endpoint { ip, port }
    }

    pub(crate) fn v4(octets: [u8; 4], port: u16) -> Endpoint {
        Endpoint { ip: Ipv4Addr::from(octets).to_ipv6_mapped().to_bits(), port }
    }

    /// The address as the standard library has it.
    pub fn address(self) -> IpAddr {
        Ipv6Addr::from_bits(self.ip).to_canonical()
    }

    /// Address and port as the standard library has them.
    pub fn socket(self) -> SocketAddr {
        SocketAddr::new(self.address(), self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.socket(), f)
    }
}

/// Sender and receiver of a datagram or segment: the key of a flow in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Sender.
    pub source: Endpoint,
    /// Receiver.
    pub destination: Endpoint,
}

impl FlowKey {
    /// The opposite direction.
    pub fn reversed(self) -> FlowKey {
        FlowKey { source: self.destination, destination: self.source }
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A UDP datagram.
    Udp {
        /// Who to whom.
        flow: FlowKey,
        /// Its payload; shorter than it was when the capture cut it.
        payload: &'a [u8],
    },
    /// A TCP segment.
    Tcp {
        /// Who to whom.
        flow: FlowKey,
        /// Sequence number and flags.
        segment: Segment<'a>,
    },
    /// An SCTP packet.
    Sctp {
        /// Who to whom.
        flow: FlowKey,
        /// Its association and its chunks.
        packet: SctpPacket<'a>,
    },
    /// A fragment of an IP packet.
    Fragment(Fragment<'a>),
    /// Something that spantape has no use for.
    Other,
}

/// A TCP segment without its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Sequence number of the first byte (of the SYN, when that is set).
    pub sequence: u32,
    /// SYN flag.
    pub syn: bool,
    /// FIN flag.
    pub fin: bool,
    /// RST flag.
    pub rst: bool,
    /// Bytes of the stream.
    pub payload: &'a [u8],
}

/// An SCTP packet (RFC 9260) without its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SctpPacket<'a> {
    /// Verification tag: the same in all packets of one direction of an association.
    pub tag: u32,
    /// One after the other, each with its head.
    pub chunks: &'a [u8],
}

/// A fragment of an IPv4 or IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Which packet it belongs to.
    pub key: FragmentKey,
    /// Where `payload` stands in that packet, in bytes; a multiple of 8.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// This part of the packet.
    pub payload: &'a [u8],
}

/// The fields by which RFC 791 and RFC 8200 tell the fragments of different packets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Sender, as [`Endpoint::ip`].
    pub source: u128,
    /// Receiver, as [`Endpoint::ip`].
    pub destination: u128,
    /// Identification.
    pub identification: u32,
    /// Protocol of the payload.
    pub protocol: u8,
}

/// What was wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Ends within the link layer's header.
    Link,
    /// Ends within a VLAN tag.
    Vlan,
    /// Not IPv4 where the link layer said so, or ends within the header.
    Ipv4,
    /// Not IPv6 where the link layer said so, or ends within the header.
    Ipv6,
    /// An IPv6 extension header runs past the end.
    Ipv6Extension,
    /// UDP header incomplete, or its length is impossible.
    Udp,
    /// TCP header incomplete, or its data offset is impossible.
    Tcp,
    /// SCTP header incomplete.
    Sctp,
    /// The header of a tunnel is incomplete.
    Tunnel,
}

impl Malformed {
    /// All kinds, in the order of their counters.
    pub const ALL: [Malformed; 9] = [
        Malformed::Link,
        Malformed::Vlan,
        Malformed::Ipv4,
        Malformed::Ipv6,
        Malformed::Ipv6Extension,
        Malformed::Udp,
        Malformed::Tcp,
        Malformed::Sctp,
        Malformed::Tunnel,
    ];

    /// A name for figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Malformed::Link => "link header",
            Malformed::Vlan => "vlan tag",
            Malformed::Ipv4 => "ipv4 header",
            Malformed::Ipv6 => "ipv6 header",
            Malformed::Ipv6Extension => "ipv6 extension header",
            Malformed::Udp => "udp header",
            Malformed::Tcp => "tcp header",
            Malformed::Sctp => "sctp header",
            Malformed::Tunnel => "tunnel header",
        }
    }
}

/// Finds the datagram, segment or fragment in a frame.
// The plain walk is one piece of code; what leaves it, for a tunnel or an unusual link, is a call out of the way.
#[inline]
pub fn parse(link: LinkType, frame: &[u8]) -> Result<Packet<'_>, Malformed> {
    match link {
        LinkType::Ethernet => tunnel::network(link::ethernet(frame)?, Depth::default()),
        _ => parse_other(link, frame),
    }
}

#[inline(never)]
fn parse_other(link: LinkType, frame: &[u8]) -> Result<Packet<'_>, Malformed> {
    let Some((link, frame)) = link::unwrap(link, frame)? else { return Ok(Packet::Other) };
    match link {
        LinkType::UpperPdu => exported::packet(frame),
        // Between whom is not known.
        LinkType::Sctp => ip::transport(ip::SCTP, 0, 0, frame, Depth::default()),
        _ => tunnel::network(link::network(link, frame)?, Depth::default()),
    }
}

/// Reads what stood in the fragments of one packet, once they have been put together.
pub fn parse_reassembled(key: FragmentKey, payload: &[u8]) -> Result<Packet<'_>, Malformed> {
    ip::transport(key.protocol, key.source, key.destination, payload, Depth::default())
}

#[inline]
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
