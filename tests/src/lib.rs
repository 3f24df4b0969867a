//! What the tests share: a generator of calls, and a runner that turns what the engine says into recordings.

pub mod call;
pub mod frame;
pub mod runner;
pub mod sip;
pub mod truth;
