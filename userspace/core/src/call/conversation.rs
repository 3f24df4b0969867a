//! Which calls belong together: they carry one `conversation_id`.
//!
//! Each call begins as a conversation of its own. What says that two calls belong together joins their conversations:
//! the one that began first keeps its id, and all calls of the other that are not over take it. So whoever comes late
//! joins what has been written already. Signs are, in the order in which they count:
//!
//! 1. A call names another: Replaces (RFC 3891), Join (RFC 3911), Target-Dialog (RFC 4538), REFER (RFC 3515), or a
//!    header field whose value is the other's Call-ID.
//! 2. Both carry the same mark: a half of the Session-ID (RFC 7989), a header field that equals the other's, the URI of
//!    one conference (RFC 4579).
//! 3. Their streams carry the same payloads: [`super::alike`].
//! 4. Users, time and hosts let it be guessed. That is taken back when payloads say otherwise.

use super::directory::Whom;
use super::table::Calls;
use super::{Call, Context};
use crate::media::CallKey;
use crate::record::Id;
use crate::rules::Config;
use crate::sip::{Address, Message, StartLine};
use crate::time::{SECOND, Timestamp};
use crate::wire::FlowKey;

/// A PBX calls on behalf of a caller within this time.
const NEXT_LEG: i64 = 5 * SECOND;
/// Calls of one caller that are looked through for it.
const MOST_LEGS: usize = 256;
/// Calls that are renamed when conversations join; no conversation has more at a time.
const MOST_TOGETHER: usize = 1024;
/// No value that tells calls apart is longer.
const LONGEST_VALUE: usize = 256;

/// Header fields that have one value in all legs of a call, and another in any other call: Genesys' SIP Server,
/// AudioCodes' SBCs, Cisco's gateways.
const ONE_VALUE: [&[u8]; 3] = [b"x-genesys-calluuid", b"global-session-id", b"cisco-guid"];
/// One whose value is the Call-ID of the leg before, in what Kamailio, OpenSIPS and HOMER's agents send.
const OTHER_CALL_ID: [&[u8]; 1] = [b"x-cid"];

/// A call of which no more is known than how to find it in the catalog.
#[derive(Clone, Debug)]
pub(super) struct Past {
    /// When it was done with.
    pub(super) at: Timestamp,
    pub(super) call: Id,
    pub(super) is_own: bool,
    pub(super) call_id: String,
    conversation_id: String,
    conversation_began: Timestamp,
}

/// A call that another one speaks of.
#[derive(Clone, Debug)]
pub(super) enum Relative {
    Known(CallKey),
    Past(Past),
}

impl Past {
    pub(super) fn of(call: &Call, at: Timestamp) -> Past {
        Past {
            at,
            call: call.id,
            is_own: call.is_own,
            call_id: call.call_id.clone(),
            conversation_id: call.conversation_id.clone(),
            conversation_began: call.conversation_began,
        }
    }
}

impl Calls {
    /// A message has come in that call: what does it say of others?
    pub(super) fn correlate(
        &mut self,
        key: CallKey,
        flow: &FlowKey,
        message: &Message<'_>,
        is_first: bool,
        context: &mut Context<'_>,
    ) {
        if is_first {
            self.name_conversation(key);
        }
        if message.method().eq_ignore_ascii_case(b"INVITE") {
            self.join_by_marks(key, message, context);
            if matches!(message.start, StartLine::Request { .. }) && message.to().tag().is_none() {
                self.join_by_call_id(key, message, context.config);
                self.join_by_dialog(key, flow, message, context);
            }
        }
        self.follow_transfer(key, flow, message, context);
        if is_first {
            self.guess_leg(key, flow, context.now);
        }
    }

    /// What carries a mark of this call belongs with it.
    fn join_by_marks(&mut self, key: CallKey, message: &Message<'_>, context: &mut Context<'_>) {
        let Some(call) = self.get(key).filter(|call| call.is_conversation()) else { return };
        let mut marks = marks_of(message, context.config);
        marks.retain(|mark| !call.has_name(mark));
        for mark in marks {
            let relative = self.bearer(key, &mark);
            if let Some(call) = self.get_mut(key) {
                call.names.add(mark.clone());
            }
            if let Some(relative) = relative.filter(|relative| !relative.is(key)) {
                self.join(key, &relative);
                if let Whom::Focus(uri) = &mark {
                    let words = format!("of {}", String::from_utf8_lossy(uri));
                    self.tell_both(key, &relative, "conference", [&words, &words], context);
                }
            }
        }
        self.enter(key);
    }

    /// A header field may name another call by its Call-ID.
    fn join_by_call_id(&mut self, key: CallKey, message: &Message<'_>, config: &Config) {
        let configured = config.correlation_headers.iter().map(|name| name.as_bytes());
        for name in OTHER_CALL_ID.into_iter().chain(configured) {
            let other = message.header(name).and_then(|value| self.named(value.trim_ascii()));
            if let Some(other) = other.filter(|other| !other.is(key)) {
                self.join(key, &other);
            }
        }
    }

    /// Another call that carries a mark, or has until a short time ago. A conference is over with its last call.
    fn bearer(&self, key: CallKey, mark: &Whom) -> Option<Relative> {
        let known = self.directory.find(mark).find(|other| {
            *other != key
                && self.get(*other).is_some_and(|call| !matches!(mark, Whom::Focus(_)) || !call.is_over())
        });
        let past = || match mark {
            Whom::Mark(bytes) => self.past(&past_mark(bytes)),
            _ => None,
        };
        known.map(Relative::Known).or_else(past)
    }

    /// The call of a Call-ID, if it is or was seen.
    pub(super) fn named(&self, call_id: &[u8]) -> Option<Relative> {
        let known = self.by_call_id.get(call_id).copied().filter(|key| self.get(*key).is_some());
        known.map(Relative::Known).or_else(|| self.past(call_id))
    }

    fn past(&self, name: &[u8]) -> Option<Relative> {
        self.ended(name).cloned().map(Relative::Past)
    }

    /// Two calls belong together, and so do all that belong with either.
    pub(super) fn join(&mut self, key: CallKey, relative: &Relative) {
        let Some(call) = self.get(key) else { return };
        let one = (call.conversation_began, call.conversation_id.clone());
        let other = match relative {
            Relative::Known(other) => match self.get(*other) {
                Some(call) => (call.conversation_began, call.conversation_id.clone()),
                None => return,
            },
            Relative::Past(past) => (past.conversation_began, past.conversation_id.clone()),
        };
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        if first.1 == second.1 {
            if let Some(call) = self.get_mut(key) {
                call.conversation_began = first.0;
            }
        } else {
            let members = self.members(&second.1, |_| true);
            self.rename(&members, first.0, &first.1);
        }
    }

    /// Payloads say that two calls belong together, whatever was guessed of either.
    pub(super) fn join_by_payload(&mut self, key: CallKey, other: CallKey) {
        let (Some(one), Some(two)) = (self.get(key), self.get(other)) else { return };
        if one.conversation_id == two.conversation_id {
            // A guess among these two was right.
            for (key, with) in [(key, other), (other, key)] {
                if let Some(call) = self.get_mut(key).filter(|call| call.guessed == Some(with)) {
                    call.guessed = None;
                }
            }
            return;
        }
        for (leg, first) in [(key, other), (other, key)] {
            if self.is_leg_of(leg, first) {
                self.take_guess_back(leg);
            }
        }
        self.join(key, &Relative::Known(other));
    }

    /// Whether a call comes from the host that the other one went to: it is a leg of that, and of no other.
    fn is_leg_of(&self, leg: CallKey, first: CallKey) -> bool {
        let invited = |key: CallKey| self.get(key).and_then(|call| call.invited);
        invited(leg).zip(invited(first)).is_some_and(|((source, _), (_, destination))| source == destination)
    }

    /// The call, and what was guessed to be a leg of it in turn, are a conversation of their own again.
    fn take_guess_back(&mut self, key: CallKey) {
        let Some(call) = self.get_mut(key).filter(|call| call.guessed.is_some()) else { return };
        call.guessed = None;
        let (before, own, began) = (call.conversation_id.clone(), call.id.to_string(), call.start);
        let mut members = self.members(&before, |call| call.guessed == Some(key));
        members.push(key);
        self.rename(&members, began, &own);
    }

    fn members(&self, conversation: &str, fits: impl Fn(&Call) -> bool) -> Vec<CallKey> {
        let found = self.directory.find(&Whom::Conversation(conversation.into()));
        // A call that has changed its conversation may still be found by the one before.
        let is_member = |key: &CallKey| {
            self.get(*key).is_some_and(|call| call.conversation_id == conversation && fits(call))
        };
        found.filter(is_member).take(MOST_TOGETHER).collect()
    }

    fn rename(&mut self, members: &[CallKey], began: Timestamp, id: &str) {
        for &member in members {
            if let Some(call) = self.get_mut(member) {
                (call.conversation_began, call.conversation_id) = (began, id.to_owned());
            }
            self.name_conversation(member);
        }
    }

    /// The call can be found by its conversation.
    pub(super) fn name_conversation(&mut self, key: CallKey) {
        if let Some(call) = self.get_mut(key) {
            call.names.add(Whom::Conversation(call.conversation_id.as_str().into()));
        }
        self.enter(key);
    }

    pub(super) fn enter(&mut self, key: CallKey) {
        if let Some(call) = self.calls.get_mut(key.slot).filter(|call| call.key == key) {
            self.directory.enter(key, &mut call.names);
        }
    }

    /// A call that a PBX makes on behalf of another is the same conversation: it has the same users, begins soon after,
    /// and comes from the host that the other one went to.
    fn guess_leg(&mut self, key: CallKey, flow: &FlowKey, now: Timestamp) {
        let Some(call) = self.get(key).filter(|call| call.is_conversation() && !call.joined) else { return };
        let is_told = call.conversation_id != call.id.to_string();
        let user = |user: &str| Whom::User(user.into());
        let (from, to) = (user(&call.from.user), user(&call.to.user));
        let is_first_leg = |other: &&Call| {
            other.key != key
                && other.is_conversation()
                && !other.is_over()
                && now.since(other.start) < NEXT_LEG
                && other.has_name(&to)
                && other.invited.is_some_and(|(source, destination)| {
                    destination == flow.source.ip && source != flow.destination.ip
                })
        };
        // Of somebody who calls a thousand times at once the latest are enough.
        let calls = self.directory.find(&from).take(MOST_LEGS);
        let legs = calls.filter_map(|key| self.get(key)).filter(is_first_leg);
        let first = legs.max_by_key(|leg| (leg.start, leg.key.generation)).map(|leg| leg.key);
        let first = first.filter(|_| !is_told);
        if let Some(call) = self.get_mut(key) {
            call.invited = Some((flow.source.ip, flow.destination.ip));
            call.guessed = first;
        }
        if let Some(first) = first {
            self.join(key, &Relative::Known(first));
        }
    }
}

impl Relative {
    pub(super) fn is(&self, key: CallKey) -> bool {
        matches!(self, Relative::Known(other) if *other == key)
    }
}

/// By what a mark is remembered once no call carries it any more: no Call-ID has such a byte in front.
pub(super) fn past_mark(mark: &[u8]) -> Box<[u8]> {
    [b"\0", mark].concat().into()
}

/// The caller's half of the Session-ID (RFC 7989, 5): in a request of the callee, and in what answers the caller, it is
/// the second.
pub(super) fn session_id<'a>(message: &Message<'a>, is_callers: bool) -> Option<&'a [u8]> {
    let [local, remote] = halves(message.header(b"session-id")?);
    if is_callers { local } else { remote.or(local) }
}

fn halves(value: &[u8]) -> [Option<&[u8]>; 2] {
    let is_uuid = |half: &&[u8]| {
        half.len() == 32 && half.iter().all(u8::is_ascii_hexdigit) && half.iter().any(|digit| *digit != b'0')
    };
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let local = parts.next().filter(is_uuid);
    let remote = parts.find_map(|part| part.strip_prefix(b"remote=")).filter(is_uuid);
    [local, remote]
}

/// What a message carries that other calls may carry too.
fn marks_of(message: &Message<'_>, config: &Config) -> Vec<Whom> {
    let mut marks = Vec::new();
    let mark =
        |name: &[u8], value: &[u8]| Whom::Mark([name, b" ", value].concat().to_ascii_lowercase().into());
    let value = |name: &[u8]| {
        let value = message.header(name)?.trim_ascii();
        (!value.is_empty() && value.len() <= LONGEST_VALUE).then_some(value)
    };
    let session = halves(value(b"session-id").unwrap_or_default());
    marks.extend(session.into_iter().flatten().map(|half| mark(b"session-id", half)));
    let configured = config.correlation_headers.iter().map(|name| name.as_bytes());
    for name in ONE_VALUE.into_iter().chain(configured) {
        marks.extend(value(name).map(|value| mark(name, value)));
    }
    let charging = message.header(b"p-charging-vector").unwrap_or_default();
    let mut parameters = charging.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if let Some(icid) = parameters.find_map(|parameter| parameter.strip_prefix(b"icid-value="))
        && (1..=LONGEST_VALUE).contains(&icid.len())
    {
        // RFC 7315, 4.6: the same wherever the call passes, and globally unique.
        marks.push(mark(b"icid", icid));
    }
    marks.extend(focus(message).map(Whom::Focus));
    marks
}

/// The URI of the conference whose focus sends this (RFC 3840, RFC 4579).
fn focus(message: &Message<'_>) -> Option<Box<[u8]>> {
    let contact = Address::parse(message.header(b"contact").or_else(|| message.header(b"m"))?);
    if !contact.has_parameter(b"isfocus") {
        return None;
    }
    let conference = contact.uri_parameter(b"conf-id");
    // A server that has the same Contact in all conferences tells nothing.
    let is_own = conference.is_some() || contact.bare_uri().contains(&b'@');
    let more = conference.map(|id| [b";conf-id=", id].concat()).unwrap_or_default();
    let uri = [contact.bare_uri(), &more].concat();
    (is_own && uri.len() <= LONGEST_VALUE).then(|| uri.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(headers: &str) -> Vec<String> {
        let text = format!("INVITE sip:1@a SIP/2.0\nCall-ID: x\n{headers}\n\n");
        let config = Config { correlation_headers: vec!["X-Ticket".to_owned()], ..Config::default() };
        let name = |mark: Whom| match mark {
            Whom::Mark(bytes) | Whom::Focus(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => panic!("{other:?}"),
        };
        marks_of(&Message::parse(text.as_bytes()).unwrap(), &config).into_iter().map(name).collect()
    }

    #[test]
    fn what_marks_a_call() {
        let (one, none) = ("1a".repeat(16), "0".repeat(32));
        assert_eq!(marks(&format!("Session-ID: {one};remote={none}")), [format!("session-id {one}")]);
        assert_eq!(marks(&format!("session-id: {none}; remote={one};x")), [format!("session-id {one}")]);
        assert_eq!(marks("X-TICKET: AbC "), ["x-ticket abc"]);
        assert_eq!(marks("Cisco-Guid: 1-2-3-4\nX-Ticket:"), ["cisco-guid 1-2-3-4"]);
        assert_eq!(marks("P-Charging-Vector: icid-value=\"a1\"; orig-ioi=x"), ["icid \"a1\""]);
        assert_eq!(marks("Contact: <sip:pc@h;conf-id=m1;x=1>;a=\"b\";isfocus"), ["sip:pc@h;conf-id=m1"]);
        assert_eq!(marks("m: sip:room@h;isFocus"), ["sip:room@h"]);
        let long = "x".repeat(LONGEST_VALUE + 1);
        for none in [
            "Session-ID: 1a2b;remote=3",
            "Session-ID:",
            "Contact: <sip:bridge.example>;isfocus",
            "Contact: <sip:a@b;isfocus>",
            "P-Charging-Vector: icid-value=",
            "X-CID: 7",
            &format!("X-Ticket: {long}"),
        ] {
            assert_eq!(marks(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn the_callers_half_of_a_session() {
        let [one, two] = ["1", "2"].map(|digit| digit.repeat(32));
        let text = format!("INVITE sip:1@a SIP/2.0\nCall-ID: x\nSession-ID: {one};remote={two}\n\n");
        let message = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(session_id(&message, true), Some(one.as_bytes()));
        assert_eq!(session_id(&message, false), Some(two.as_bytes()));
    }
}
