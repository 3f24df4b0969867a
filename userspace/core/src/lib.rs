//! The sans-I/O core of spantape.
//!
//! Frames go in, calls, recordings and audio come out. There is no socket, file, thread or clock in here.

pub mod reassembly;
pub mod record;
pub mod sip;
pub mod time;
pub mod wire;
