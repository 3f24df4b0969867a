//! Putting together what the network took apart: IP fragments and TCP streams.

pub mod fragments;
pub mod tcp;
