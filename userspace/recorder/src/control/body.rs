//! What is said over the control interface: the bodies of requests and answers.

use serde::{Deserialize, Serialize};
use spantape_core::control::{Answer, Effect, LiveCall, LiveCalls, Target};
use spantape_core::record::Party;
use spantape_core::time::Timestamp;
use spantape_core::trigger::Verb;

/// `POST /v1/triggers`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trigger {
    pub(crate) verb: TypedVerb,
    pub(crate) id: Option<String>,
    pub(crate) call_id: Option<String>,
    pub(crate) dn: Option<String>,
    pub(crate) note: Option<String>,
}

/// `POST /v1/notes`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    pub(crate) id: Option<String>,
    pub(crate) call_id: Option<String>,
    pub(crate) dn: Option<String>,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TypedVerb {
    Start,
    Stop,
    Pause,
    Resume,
}

/// One of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    pub(crate) id: Option<String>,
    pub(crate) call_id: Option<String>,
    pub(crate) dn: Option<String>,
}

/// Answer to `GET /v1/calls`
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Calls {
    pub(crate) calls: Vec<Call>,
    /// How many there are; `calls` has the latest of them.
    pub(crate) matched: usize,
}

/// A call that is up.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) call_id: String,
    pub(crate) conversation_id: String,
    pub(crate) from: User,
    pub(crate) to: User,
    pub(crate) start: String,
    pub(crate) answered: Option<String>,
    pub(crate) last_media: Option<String>,
    pub(crate) rule: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) recording: bool,
    pub(crate) trigger: Option<String>,
    pub(crate) paused: bool,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct User {
    pub(crate) user: String,
    pub(crate) uri: String,
    pub(crate) display: String,
}

/// Answer to what was obeyed.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Done {
    pub(crate) effect: String,
    /// Why there is no effect.
    pub(crate) reason: Option<String>,
    /// How many calls may have been meant.
    pub(crate) matched: usize,
    pub(crate) call: Call,
}

/// Answer to what was not.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Failure {
    pub(crate) error: String,
    pub(crate) hint: String,
}

/// No Call-ID or number is longer in earnest.
const LONGEST_NAME: usize = 512;

impl Named {
    /// What is meant, `None` when nothing is named.
    pub(crate) fn target(self) -> Result<Option<Target>, String> {
        let named = [self.id.map(Target::Id), self.call_id.map(Target::CallId), self.dn.map(Target::Dn)];
        let mut named = named.into_iter().flatten();
        let target = named.next();
        if named.next().is_some() {
            return Err("`id`, `call_id` and `dn` exclude each other".to_owned());
        }
        let Some(Target::Id(name) | Target::CallId(name) | Target::Dn(name)) = &target else {
            return Ok(None);
        };
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(format!("a name of a call has 1 to {LONGEST_NAME} bytes"));
        }
        let digits = name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if matches!(target, Some(Target::Id(_))) && !digits {
            return Err("`id` is up to 32 hexadecimal digits".to_owned());
        }
        Ok(target)
    }
}

impl From<TypedVerb> for Verb {
    fn from(verb: TypedVerb) -> Verb {
        match verb {
            TypedVerb::Start => Verb::Start,
            TypedVerb::Stop => Verb::Stop,
            TypedVerb::Pause => Verb::Pause,
            TypedVerb::Resume => Verb::Resume,
        }
    }
}

impl From<LiveCalls> for Calls {
    fn from(live: LiveCalls) -> Calls {
        Calls { calls: live.calls.into_iter().map(Call::from).collect(), matched: live.matched }
    }
}

impl From<LiveCall> for Call {
    fn from(call: LiveCall) -> Call {
        Call {
            id: call.id.to_string(),
            call_id: call.call_id,
            conversation_id: call.conversation_id,
            from: call.from.into(),
            to: call.to.into(),
            start: rfc3339(call.start),
            answered: call.answer.map(rfc3339),
            last_media: call.last_media.map(rfc3339),
            rule: call.rule,
            action: call.action.map(str::to_owned),
            recording: call.recording.is_some(),
            trigger: call.recording.map(str::to_owned),
            paused: call.paused,
        }
    }
}

impl From<Party> for User {
    fn from(party: Party) -> User {
        User { user: party.user, uri: party.uri, display: party.display }
    }
}

impl From<Answer> for Done {
    fn from(answer: Answer) -> Done {
        let reason = match answer.effect {
            Effect::None(reason) => Some(reason.to_owned()),
            Effect::Done | Effect::Pending => None,
        };
        let effect = answer.effect.as_str().to_owned();
        Done { effect, reason, matched: answer.matched, call: answer.call.into() }
    }
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(at.0.into()).map_or_else(|_| String::new(), |at| at.to_string())
}
