//! SIP as it is found in networks (RFC 3261 and what phones make of it).
//!
//! The parser never rejects a message that begins like one. It keeps what it understands, and says what is odd of
//! what matters here ([`Oddity`]): a recorder that loses a Call-ID over a misspelt Via loses a call.

mod framing;
mod message;
pub mod multipart;
mod oddity;
#[cfg(test)]
mod torture;
mod value;

pub use framing::{Framer, Framing};
pub use message::{Message, StartLine, looks_like_sip, start_of_message};
pub use oddity::{Oddities, Oddity};
pub use value::{Address, CSeq, parameter, text};
