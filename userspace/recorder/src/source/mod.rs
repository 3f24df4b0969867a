//! Where frames come from.

pub(crate) mod buffer;
pub(crate) mod capture_file;
pub(crate) mod clock;
pub(crate) mod driver;
pub(crate) mod genesys_log;
mod input;
pub(crate) mod interface;
pub(crate) mod key_log;
pub(crate) mod listen;
pub(crate) mod memory;
pub(crate) mod merge;
pub(crate) mod packet;
pub(crate) mod tap;
pub(crate) mod xdp;

use std::io;

use spantape_core::time::Timestamp;
use spantape_core::wire::LinkType;

/// A frame as a source hands it on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) at: Timestamp,
    pub(crate) link: LinkType,
    pub(crate) data: &'a [u8],
}

/// Why a capture cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{name}: cannot be read: {source}")]
    Read { name: String, source: io::Error },
    #[error("{name}: is no capture file (neither pcap nor pcapng, also not within gzip or zstd)")]
    NotACapture { name: String },
    #[error("{name}: is empty")]
    Empty { name: String },
    #[error("{name}: link type {number}{} is not supported; {}", link_name(*.number), remedy(*.number))]
    LinkType { name: String, number: u32 },
    #[error("{name}: damaged after {frames} frames; what came before has been used")]
    Damaged { name: String, frames: u64 },
    #[error(
        "{name}: ends in the middle of a record (the capture was cut off); the {frames} frames before it have been used"
    )]
    Truncated { name: String, frames: u64 },
}

impl SourceError {
    /// A file cut off at the end is common and no failure.
    pub(crate) fn is_warning(&self) -> bool {
        matches!(self, SourceError::Truncated { .. })
    }
}

fn link_name(number: u32) -> &'static str {
    match number {
        105 | 119 | 127 | 163 | 192 => " (IEEE 802.11 wireless)",
        195 | 230 => " (IEEE 802.15.4)",
        189 | 220 | 249 => " (USB)",
        140..=142 => " (SS7 MTP)",
        147..=162 => " (private use)",
        239 => " (Linux NFLOG)",
        _ => "",
    }
}

fn remedy(number: u32) -> &'static str {
    match number {
        // Most are encrypted, and what the radio did not receive is not in them.
        105 | 119 | 127 | 163 | 192 => {
            "capture where the access point joins the wired network, or let airdecap-ng make Ethernet of it"
        }
        _ => {
            "Ethernet, Linux cooked, raw IP, BSD loopback, PPP, PPPoE, Cisco HDLC, ERF, PKTAP, SCTP and PDUs exported \
             by Wireshark are"
        }
    }
}
