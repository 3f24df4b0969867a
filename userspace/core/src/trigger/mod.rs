//! Record triggers. Each recording system in the field is one module that turns what it parsed into a
//! [`Trigger`]; the call table alone decides what a trigger does.

pub mod audiocodes;
pub mod feature_code;
pub mod genesys_log;
pub mod msml;
pub mod operator;
pub mod record_server;
pub mod sip_info;
pub mod url_record;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::wire::FlowKey;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// The trigger of that name; an operator's where there is none.
pub(crate) fn named(name: &str) -> &'static str {
    const NAMES: [&str; 7] = [
        audiocodes::NAME,
        feature_code::NAME,
        genesys_log::NAME,
        msml::NAME,
        record_server::NAME,
        sip_info::NAME,
        url_record::NAME,
    ];
    NAMES.into_iter().find(|known| *known == name).unwrap_or(operator::NAME)
}

/// What has become of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has agreed.
    Confirmed,
    /// The server has refused, with this status; 0 where there are none.
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

/// By what an answer is known to be that to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// From tag and CSeq of a SIP request: the response has the same.
    Sip(Box<[u8]>, u32),
    /// A number that the engine has given to a request outside SIP.
    Numbered(u64),
}

/// What was answered to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Yes or no.
    pub outcome: Outcome,
    /// What has been done, where that is told.
    pub verb: Option<Verb>,
    /// In which words.
    pub words: String,
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
    /// Who asked, where that is an address.
    pub from: Option<SocketAddr>,
    /// Whom.
    pub to: Option<SocketAddr>,
    /// What else is known of who asked, in words.
    pub remark: String,
    /// The answer's. `None` for what needs no answer.
    pub transaction: Option<Transaction>,
}

impl Trigger {
    /// What one host has sent another.
    pub fn new(
        source: &'static str,
        verb: Verb,
        at: Timestamp,
        flow: &FlowKey,
        transaction: Option<Transaction>,
    ) -> Trigger {
        let (from, to) = (Some(flow.source.socket()), Some(flow.destination.socket()));
        Trigger { source, verb, at, from, to, remark: String::new(), transaction }
    }
}
