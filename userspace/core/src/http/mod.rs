//! HTTP/1 in a stream of bytes (RFC 9112): requests in one direction, responses in the other.
//!
//! Only what record triggers and WebSockets need: heads, and bodies of a sensible length.

mod framing;

pub use framing::{Framer, Framing, Head, Message};

/// Whether a stream that begins like this carries responses, the first of which leads to another protocol.
pub fn begins_switch(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 101")
}

/// Whether a stream that begins like this carries requests.
pub fn begins_request(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 4] = [b"GET ", b"POST ", b"PUT ", b"HEAD "];
    METHODS.iter().any(|method| {
        let rest = bytes.strip_prefix(*method);
        rest.is_some_and(|rest| rest.starts_with(b"/") || rest.starts_with(b"http://"))
    })
}
