//! The sans-I/O core of spantape.
//!
//! Frames go in, calls, recordings and audio come out. There is no socket, file, thread or clock in here.

pub mod association;
pub mod call;
pub mod codec;
pub mod control;
pub mod engine;
pub mod event;
mod fetch;
mod few;
pub mod hep;
pub mod http;
pub mod media;
pub mod phone_file;
pub mod reassembly;
pub mod record;
pub mod recording_session;
pub mod rtp;
pub mod rules;
pub mod schedule;
pub mod sdp;
pub mod share;
pub mod sip;
pub mod srtp;
pub mod time;
pub mod trigger;
pub mod websocket;
pub mod wire;
mod xml;
