//! What of a mirror port's traffic spantape needs.
//!
//! The same code runs in the kernel, as an XDP program, and outside it, behind `AF_PACKET`, where it is tested
//! as well. It says of a frame what it is ([`Class`]); what is not needed never reaches the recorder. When in
//! doubt a frame is needed: the recorder looks closer.
//!
//! Two things are remembered between frames, both by whoever calls ([`Memory`]): connections that have shown
//! what they carry, of which all later segments are needed, and the endpoints of media that session
//! descriptions have named.

#![no_std]
#![forbid(unsafe_code)]

mod class;
mod flow;
mod payload;
mod walk;

pub use class::{CLASSES, Class};
pub use flow::{Endpoint, Flow, PATH, Path, Ports, Wish};
pub use walk::sieve;

/// Bytes of a frame, each looked at only if it is there.
pub trait Bytes {
    /// `N` bytes from `at` on, if the frame has them.
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
}

/// What is configured, and what earlier frames and the recorder have made known.
pub trait Memory {
    /// What is said of a port.
    fn port(&self, port: u16) -> Ports;

    /// What the recorder wants of media from or to an endpoint.
    fn wish(&self, endpoint: &Endpoint) -> Option<Wish>;

    /// What a connection is known to carry.
    fn flow(&self, flow: &Flow) -> Option<Class>;

    /// A connection has shown what it carries.
    fn remember(&mut self, flow: &Flow, class: Class);

    /// Whether an HTTP request for this path may be a record trigger.
    fn is_trigger(&self, path: &Path) -> bool;

    /// Whether unknown RTP is needed, or only that which the recorder has asked for.
    fn takes_unknown_media(&self) -> bool;
}

impl Bytes for [u8] {
    #[inline(always)]
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk::<N>().copied()
    }
}

/// What the kernel's program writes in front of each frame that it hands up, as XDP metadata.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// [`Stamp::MARK`], so that what an earlier frame left there is not taken for a stamp.
    pub mark: u64,
    /// When the frame was received: nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic: u64,
}

impl Stamp {
    /// Any number that does not occur by chance.
    pub const MARK: u64 = u64::from_be_bytes(*b"spantape");
}

/// Frames that were needed and could not be handed up, because nothing listens on their queue: counted behind
/// the classes.
pub const COUNT_NO_SOCKET: u32 = CLASSES as u32;

/// How many counters the kernel's program keeps.
pub const COUNTERS: u32 = COUNT_NO_SOCKET + 1;
