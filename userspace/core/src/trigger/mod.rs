//! Record triggers. Each recording system in the field is one module that turns what it parsed into a
//! [`Trigger`]; the call table alone decides what a trigger does.

pub mod audiocodes;
pub mod feature_code;
pub mod sip_info;

use std::net::SocketAddr;

use crate::time::Timestamp;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Begin to record.
    Start,
    /// End the recording.
    Stop,
    /// Keep nothing from here on, until it is resumed.
    Pause,
    /// Keep what comes again.
    Resume,
}

impl Verb {
    /// The word used in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
        }
    }
}

/// What has become of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has agreed.
    Confirmed,
    /// The server has refused, with this status.
    Refused(u16),
    /// Nobody has answered.
    Unconfirmed,
}

impl Outcome {
    /// The word used in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Confirmed => "confirmed",
            Outcome::Refused(_) => "refused",
            Outcome::Unconfirmed => "unconfirmed",
        }
    }
}

/// A trigger that has been asked for and not been answered.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// Which system: `sip-info`…
    pub source: &'static str,
    /// What is asked for.
    pub verb: Verb,
    /// When it was asked for. What comes of it counts from here.
    pub at: Timestamp,
    /// Who asked.
    pub from: SocketAddr,
    /// Whom.
    pub to: SocketAddr,
    /// From tag and CSeq of the request: the answer has the same. `None` for what needs no answer.
    pub transaction: Option<(Box<[u8]>, u32)>,
}
