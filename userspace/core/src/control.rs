//! Calls that are up, as an operator is shown them, and what may be asked of them.

use std::fmt;
use std::net::SocketAddr;

use crate::engine::Engine;
use crate::record::{Id, Party};
use crate::time::Timestamp;
use crate::trigger::Verb;

/// Characters of a note; what is behind them is cut off.
pub const LONGEST_NOTE: usize = 1000;

/// Which call is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By the first digits of its [`Id`]. A recording that goes on has no id of its own yet: it is named by its call.
    Id(String),
    /// By SIP Call-ID.
    CallId(String),
    /// By a directory number: the user part of either party. Of several calls the one that was answered last is
    /// meant, and where none is answered the one that began last.
    Dn(String),
    /// By what another system calls it: Genesys' CallUUID, Session-ID.
    Token(String),
}

/// What is asked of a call.
#[derive(Clone, Debug)]
pub struct Request {
    /// By whose word: the name of the trigger.
    pub source: &'static str,
    /// Which call.
    pub target: Target,
    /// What is to be done.
    pub verb: Option<Verb>,
    /// What is to be noted with the call.
    pub note: Option<String>,
    /// Who asks.
    pub from: Option<SocketAddr>,
    /// Where that is no address: who asks, in words.
    pub remark: String,
}

/// A call that is up.
#[derive(Clone, Debug)]
pub struct LiveCall {
    /// The call, in every table.
    pub id: Id,
    /// SIP Call-ID.
    pub call_id: String,
    /// The same for all calls that belong together.
    pub conversation_id: String,
    /// From of the first INVITE.
    pub from: Party,
    /// To of the first INVITE.
    pub to: Party,
    /// First message of the call.
    pub start: Timestamp,
    /// First 2xx to the INVITE.
    pub answer: Option<Timestamp>,
    /// Last packet of its media.
    pub last_media: Option<Timestamp>,
    /// Name of the rule that decides what is recorded, once it is chosen.
    pub rule: Option<String>,
    /// `all`, `on-demand` or `ignore`, likewise.
    pub action: Option<&'static str>,
    /// What is being recorded was caused by this: `rule`, `operator`… `None`: nothing is.
    pub recording: Option<&'static str>,
    /// Nothing is kept until it is resumed.
    pub paused: bool,
    /// Whether the engine that says this has [its media](crate::share): of several engines, one.
    pub is_own: bool,
}

/// Calls that are up, the latest first.
#[derive(Clone, Debug, Default)]
pub struct LiveCalls {
    /// Not more than were asked for.
    pub calls: Vec<LiveCall>,
    /// How many there are.
    pub matched: usize,
}

/// What has been done.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The call that was meant, as it is now.
    pub call: LiveCall,
    /// How many calls the target may have meant.
    pub matched: usize,
    /// What the verb has done.
    pub effect: Effect,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it says.
    Done,
    /// Triggers that were asked for before are not answered yet: it takes effect after them, as of when it was asked
    /// for.
    Pending,
    /// Nothing, for this reason.
    None(&'static str),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such call is up.
    NoCall,
    /// So many calls have an id with these digits at its beginning.
    Ambiguous(usize),
    /// The call is over.
    Over,
    /// The rule of this name ignores the call.
    Ignored(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoCall => f.write_str("no such call is up"),
            Refusal::Ambiguous(count) => write!(f, "{count} calls have an id that begins so"),
            Refusal::Over => f.write_str("the call is over"),
            Refusal::Ignored(rule) => write!(f, "the rule `{rule}` ignores the call"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Effect {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Done => "done",
            Effect::Pending => "pending",
            Effect::None(_) => "none",
        }
    }
}

impl Engine {
    /// The calls that are up, or those of them that are meant; not more than `limit`, the latest.
    pub fn live_calls(&self, target: Option<&Target>, limit: usize) -> LiveCalls {
        self.calls.live(target, limit)
    }

    /// Does what is asked of a call, as of `at`: no frame that is still to come was there before. Each trigger is an
    /// event of its call, also one that is refused.
    pub fn control(&mut self, at: Timestamp, request: &Request) -> Result<Answer, Refusal> {
        self.advance(at);
        let (calls, mut context) = self.split();
        let answer = calls.control(at, request, &mut context);
        self.announce_media();
        answer
    }
}
