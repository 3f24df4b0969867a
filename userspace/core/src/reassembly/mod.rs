//! Putting together what the network took apart: IP fragments, TCP streams and messages in SCTP.

pub mod fragments;
pub mod sctp;
pub mod tcp;
