//! Where the audio of a call comes together.

mod flows;
mod tape;

pub use flows::{Binding, BoundBy, CallKey, Flow, FlowId, Flows, Standing};
pub use tape::{Figures, LONGEST_PACKET, Reel, Tape, TapeId};
