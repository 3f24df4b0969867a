//! Where the audio of a call comes together.

mod flows;
mod tape;

pub use flows::{Binding, BoundBy, CallKey, Flow, FlowId, Flows};
pub use tape::{Reel, Tape, TapeId};
