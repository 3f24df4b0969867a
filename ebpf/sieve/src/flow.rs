//! Keys and values of what is remembered. They are laid out for BPF maps: no padding, nothing implied.

use core::net::IpAddr;

/// Bytes of a path that are looked at.
pub const PATH: usize = 32;

/// The beginning of an HTTP request's target; zeros behind its end.
pub type Path = [u8; PATH];

/// An IP address and a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address's bytes as they stand in a packet, IPv4 as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2).
    pub address: [u32; 4],
    /// The port, in the machine's byte order.
    pub port: u32,
}

/// A connection: its two endpoints in the order in which they compare, so that both directions are one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    low: Endpoint,
    high: Endpoint,
}

/// What the recorder wants of the media of an endpoint.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It is a recorded call's, or may become one's.
    Wanted = 1,
    /// It is only of calls that are not to be recorded.
    Unwanted = 2,
}

/// What is said of a port: a set of its constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports(pub u8);

impl Endpoint {
    /// From an address and a port.
    pub fn new(address: IpAddr, port: u16) -> Endpoint {
        match address {
            IpAddr::V4(address) => Endpoint::v4(address.octets(), port),
            IpAddr::V6(address) => Endpoint::v6(address.octets(), port),
        }
    }

    #[inline(always)]
    pub(crate) fn v4(octets: [u8; 4], port: u16) -> Endpoint {
        let address = [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), u32::from_ne_bytes(octets)];
        Endpoint { address, port: port as u32 }
    }

    #[inline(always)]
    pub(crate) fn v6(octets: [u8; 16], port: u16) -> Endpoint {
        let word =
            |at: usize| u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        Endpoint { address: [word(0), word(4), word(8), word(12)], port: port as u32 }
    }
}

impl Flow {
    /// The connection between two endpoints.
    #[inline(always)]
    pub fn between(one: Endpoint, other: Endpoint) -> Flow {
        let (a, b) = (&one.address, &other.address);
        // Word by word: the kernel's program cannot call a comparison of slices.
        let order = [(one.port, other.port), (a[3], b[3]), (a[2], b[2]), (a[1], b[1]), (a[0], b[0])];
        let mut swap = false;
        let mut index = 0;
        while index < order.len() {
            let (left, right) = order[index];
            if left != right {
                swap = left > right;
                break;
            }
            index += 1;
        }
        if swap { Flow { low: other, high: one } } else { Flow { low: one, high: other } }
    }

    /// The ports at its ends.
    #[inline(always)]
    pub fn ports(&self) -> [u32; 2] {
        [self.low.port, self.high.port]
    }
}

impl Ports {
    /// SIP is spoken here: everything is needed.
    pub const SIP: Ports = Ports(1);
    /// HTTP record triggers are served here: everything is needed.
    pub const HTTP: Ports = Ports(2);
    /// A record-control protocol is spoken here: everything is needed.
    pub const CONTROL: Ports = Ports(4);
    /// Datagrams to or from here have other datagrams inside.
    pub const ENCAPSULATED: Ports = Ports(8);
    /// A well-known service whose datagrams can look like RTP.
    pub const NO_MEDIA: Ports = Ports(16);

    /// What is said of a port unless it is configured: SIP's own, encapsulations (L2TP, GTP-U, VXLAN and
    /// its older port, Geneve, HEP, TZSP) and services (DNS, NTP, IPsec through NAT, mDNS).
    pub const DEFAULT: [(u16, Ports); 12] = [
        (5060, Ports::SIP),
        (1701, Ports::ENCAPSULATED),
        (2152, Ports::ENCAPSULATED),
        (4789, Ports::ENCAPSULATED),
        (6081, Ports::ENCAPSULATED),
        (8472, Ports::ENCAPSULATED),
        (9060, Ports::ENCAPSULATED),
        (37008, Ports::ENCAPSULATED),
        (53, Ports::NO_MEDIA),
        (123, Ports::NO_MEDIA),
        (4500, Ports::NO_MEDIA),
        (5353, Ports::NO_MEDIA),
    ];

    /// Whether all of `other` is said of this port.
    #[inline(always)]
    pub fn has(self, other: Ports) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is said of either.
    #[inline(always)]
    pub fn or(self, other: Ports) -> Ports {
        Ports(self.0 | other.0)
    }
}
