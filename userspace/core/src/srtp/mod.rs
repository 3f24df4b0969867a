//! SRTP (RFC 3711): media that is encrypted, and what undoes it where the keys are known.
//!
//! A recorder hears of keys in session descriptions (RFC 4568) and from a key log of DTLS (RFC 5764). It joins when
//! it may, misses packets, and sees keys that are not used; so which key is the right one, and how often the
//! sequence numbers have wrapped, is found out by the authentication tag of the packets. SRTCP is not decrypted:
//! nothing in it is kept.

mod key;
mod receiver;
mod session;
mod suite;

pub use key::MasterKey;
pub use receiver::Receiver;
pub use session::{Sealed, Session};
pub use suite::Suite;

use std::sync::Arc;

/// How the media between two endpoints is kept from others, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Keys stand in the session descriptions (RFC 4568).
    Sdes,
    /// Keys come from a DTLS handshake (RFC 5764).
    DtlsSrtp,
    /// Keys are agreed on in the media itself (RFC 6189).
    Zrtp,
    /// Nothing says how.
    Unknown,
}

impl Encryption {
    /// The words used in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Encryption::Sdes => "encrypted (SDES)",
            Encryption::DtlsSrtp => "encrypted (DTLS-SRTP)",
            Encryption::Zrtp => "encrypted (ZRTP)",
            Encryption::Unknown => "encrypted",
        }
    }
}

/// What is to be done with the packets of a stream.
#[derive(Clone, Debug)]
pub enum Protection {
    /// They are as they were sent.
    None,
    /// They may be SRTP under one of these keys, the likeliest first.
    Keys {
        /// The keys.
        keys: Vec<Arc<MasterKey>>,
        /// What it is if none of them fits.
        otherwise: Option<Encryption>,
    },
    /// The key is not known yet, and may become known.
    Awaited(Encryption),
    /// The key is not known.
    Closed(Encryption),
}
