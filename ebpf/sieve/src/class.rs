//! What a frame can be.

/// How many classes there are.
pub const CLASSES: usize = Class::ALL.len();

/// What a frame is, and with that what becomes of it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// SIP: on a configured port, or a payload that begins like it, or a connection that carries it.
    Sip = 0,
    /// A connection with an HTTP request that may be a record trigger.
    Http = 1,
    /// A connection of a record-control protocol.
    Control = 2,
    /// RTP, wanted or not yet known to be unwanted.
    Rtp = 3,
    /// RTCP, likewise.
    Rtcp = 4,
    /// Something else at an endpoint of wanted media: STUN, DTLS, an unusual codec's datagram.
    Media = 5,
    /// A fragment of an IP packet: only whole packets tell what they are.
    Fragment = 6,
    /// A tunnel or an encapsulated mirror, or an IPv6 packet with extension headers: what is inside is for the
    /// recorder to see.
    Encapsulated = 7,
    /// Media of a call that is not to be recorded.
    Unwanted = 8,
    /// Anything else.
    Rest = 9,
    /// Ends before its headers do, or contradicts itself.
    Malformed = 10,
}

impl Class {
    /// All classes, in the order of their numbers.
    pub const ALL: [Class; 11] = [
        Class::Sip,
        Class::Http,
        Class::Control,
        Class::Rtp,
        Class::Rtcp,
        Class::Media,
        Class::Fragment,
        Class::Encapsulated,
        Class::Unwanted,
        Class::Rest,
        Class::Malformed,
    ];

    /// Whether the recorder needs such frames.
    #[inline(always)]
    pub fn is_needed(self) -> bool {
        (self as u32) < Class::Unwanted as u32
    }

    /// The class with that number.
    #[inline(always)]
    pub fn from_number(number: u32) -> Option<Class> {
        // No table: the kernel's program has no place for one.
        Some(match number {
            0 => Class::Sip,
            1 => Class::Http,
            2 => Class::Control,
            3 => Class::Rtp,
            4 => Class::Rtcp,
            5 => Class::Media,
            6 => Class::Fragment,
            7 => Class::Encapsulated,
            8 => Class::Unwanted,
            9 => Class::Rest,
            10 => Class::Malformed,
            _ => return None,
        })
    }

    /// The word used in figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Sip => "sip",
            Class::Http => "http",
            Class::Control => "control",
            Class::Rtp => "rtp",
            Class::Rtcp => "rtcp",
            Class::Media => "media",
            Class::Fragment => "fragment",
            Class::Encapsulated => "encapsulated",
            Class::Unwanted => "unwanted",
            Class::Rest => "rest",
            Class::Malformed => "malformed",
        }
    }
}
