//! What SIP messages do to a call.

use std::hash::{BuildHasher, Hasher};

use super::conversation::session_id;
use super::description::{Offer, Origin};
use super::directory::Whom;
use super::{Call, Context, End, LINGER, LINGER_CHALLENGED, LINGER_REJECTED, SEEN};
use crate::event::{Event, Signal, Signalled};
use crate::record::{EndReason, EventRow, Party, Side};
use crate::recording_session::genesys;
use crate::sdp;
use crate::sip::{self, Address, Message, StartLine};
use crate::trigger::feature_code::Way;
use crate::trigger::{Transaction, Trigger, audiocodes, msml, sip_info, url_record};
use crate::wire::FlowKey;

/// Tags kept of each side; a fork has one for each branch.
const MAX_TAGS: usize = 16;

impl Call {
    /// Takes a message with this call's Call-ID. Returns whether it is a new one.
    pub(super) fn handle_message(
        &mut self,
        flow: &FlowKey,
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        if self.is_retransmission(flow, message) {
            self.retransmissions += 1;
            return false;
        }
        self.messages += 1;
        self.last_signal = self.last_signal.max(context.now);
        let author = self.author(message);
        self.note_parties(flow, message, author);
        self.tell_message(flow, message, context);
        if context.config.tells_signalling {
            self.tell_signal(flow, message, context);
        }
        match message.start {
            StartLine::Request { method, .. } => self.handle_request(method, flow, message, author, context),
            StartLine::Response { status, .. } => {
                self.handle_response(status, flow, message, author, context)
            }
        }
        true
    }

    fn tell_signal(&self, flow: &FlowKey, message: &Message<'_>, context: &mut Context<'_>) {
        let at = context.now;
        self.emit(context, || {
            let what = Signalled::Message {
                source: flow.source.socket(),
                destination: flow.destination.socket(),
                text: message.bytes().iter().map(|&byte| char::from(byte)).collect(),
            };
            Event::Signalled { call: self.id, signal: Signal { at, what } }
        });
    }

    /// The same message between the same hosts again: sent again, or seen twice by the mirror.
    fn is_retransmission(&mut self, flow: &FlowKey, message: &Message<'_>) -> bool {
        // A fixed seed: what is a second copy must not depend on chance.
        let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
        hasher.write_u128(flow.source.ip);
        hasher.write_u128(flow.destination.ip);
        hasher.write(message.bytes());
        let hash = hasher.finish();
        if self.seen.contains(&hash) {
            return true;
        }
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
        false
    }

    /// Whose words a message carries.
    fn author(&mut self, message: &Message<'_>) -> Side {
        let (from, to) = (message.from().tag().unwrap_or_default(), message.to().tag().unwrap_or_default());
        let is_request = matches!(message.start, StartLine::Request { .. });
        let sender = self.side_of_sender(from, to);
        self.learn_tag(sender, from);
        self.learn_tag(sender.other(), to);
        if is_request { sender } else { sender.other() }
    }

    /// Who sent the request that this message is, or answers.
    pub(super) fn side_of_sender(&self, from: &[u8], to: &[u8]) -> Side {
        let knows =
            |tags: &[Box<[u8]>], tag: &[u8]| !tag.is_empty() && tags.iter().any(|known| **known == *tag);
        if knows(&self.caller_tags, from) {
            Side::Caller
        } else if knows(&self.callee_tags, from) || knows(&self.caller_tags, to) {
            Side::Callee
        } else {
            Side::Caller
        }
    }

    fn learn_tag(&mut self, side: Side, tag: &[u8]) {
        let tags = match side {
            Side::Caller => &mut self.caller_tags,
            Side::Callee => &mut self.callee_tags,
        };
        if !tag.is_empty() && tags.len() < MAX_TAGS && !tags.iter().any(|known| **known == *tag) {
            tags.push(tag.into());
        }
    }

    fn note_parties(&mut self, flow: &FlowKey, message: &Message<'_>, author: Side) {
        for host in [flow.source.ip, flow.destination.ip] {
            self.names.add(Whom::Host(host));
        }
        if self.has_parts() || self.is_spare() {
            // Its messages speak of recorders, not of those who are heard.
            return;
        }
        if let Some(uuid) = message.header(genesys::CALL_UUID) {
            self.names.add(Whom::Token(uuid.trim_ascii().into()));
        }
        if self.messages == 1 {
            let (from, to) = (message.from(), message.to());
            let (from, to) =
                match self.side_of_sender(from.tag().unwrap_or_default(), to.tag().unwrap_or_default()) {
                    Side::Caller => (from, to),
                    Side::Callee => (to, from),
                };
            self.from = party(&from);
            self.to = party(&to);
            if let Some(session) = session_id(message, author == Side::Caller) {
                self.conversation_id = String::from_utf8_lossy(session).into_owned();
                self.names.add(Whom::Token(session.into()));
            }
        }
        let party = match author {
            Side::Caller => &mut self.from,
            Side::Callee => &mut self.to,
        };
        party.address.get_or_insert(flow.source.address());
        if party.user_agent.is_empty()
            && let Some(agent) = message.header(b"user-agent").or_else(|| message.header(b"server"))
        {
            party.user_agent = text(agent);
            if let Some(device) = url_record::device(&party.user_agent) {
                self.names.add(Whom::Device(device));
            }
        }
        if self.messages == 1 {
            self.name_parties();
        }
    }

    /// It can be found by the users of its parties.
    pub(super) fn name_parties(&mut self) {
        for user in [&self.from.user, &self.to.user] {
            self.names.add(Whom::User(user.as_str().into()));
        }
    }

    fn tell_message(&self, flow: &FlowKey, message: &Message<'_>, context: &mut Context<'_>) {
        if !self.is_own {
            return;
        }
        let mut words = match message.start {
            StartLine::Request { method, uri } => format!("{} {}", text(method), text(uri)),
            StartLine::Response { status, reason } => {
                format!("{status} {} ({})", text(reason), text(message.cseq().method))
            }
        };
        if sdp_of(message).is_some() {
            words.push_str(" [sdp]");
        }
        let row = EventRow {
            kind: "message",
            source: Some(flow.source.socket()),
            destination: Some(flow.destination.socket()),
            text: words,
            ..self.event(context.now)
        };
        context.events.push_back(crate::event::Event::Happened(Box::new(row)));
    }

    fn handle_request(
        &mut self,
        method: &[u8],
        flow: &FlowKey,
        message: &Message<'_>,
        author: Side,
        context: &mut Context<'_>,
    ) {
        let is = |name: &[u8]| method.eq_ignore_ascii_case(name);
        let cseq = message.cseq().number;
        if is(b"INVITE") {
            let initial = message.to().tag().is_none();
            if initial {
                self.invite = cseq;
                self.try_again();
            } else if self.invite == 0 || self.has_been_answered_unseen(cseq, author) {
                self.in_dialog = true;
            }
            self.describe(flow, message, author, !initial && !self.has_parts(), context);
        } else if is(b"UPDATE") {
            self.describe(flow, message, author, self.answer.is_some(), context);
        } else if is(b"ACK") || is(b"PRACK") {
            self.describe(flow, message, author, false, context);
        } else if is(b"BYE") {
            if self.ends_with(message) {
                self.tell_end(context.now, context);
                self.end_now(EndReason::Bye, LINGER, context);
            }
        } else if is(b"CANCEL") {
            self.cancelled = Some(context.now);
        } else if is(b"INFO") {
            self.handle_info(flow, message, author, context);
        }
    }

    /// Whether an INVITE within the dialog shows that the answer to the first was missed. After a refusal it is the
    /// first once more, with a tag that it should not have.
    fn has_been_answered_unseen(&self, cseq: u32, author: Side) -> bool {
        let is_open = self.answer.is_none() && self.end.is_none() && !self.has_parts();
        is_open && author == Side::Caller && cseq > self.invite
    }

    fn handle_info(
        &mut self,
        flow: &FlowKey,
        message: &Message<'_>,
        author: Side,
        context: &mut Context<'_>,
    ) {
        if let Some(key) = sip_info::key(message) {
            self.press(key, Way::Info, author, flow, context.now, context);
        }
        let by_header = sip_info::verb(message, &context.config.record_headers);
        let found = by_header.map(|verb| (sip_info::NAME, verb));
        let found = found.or_else(|| audiocodes::verb(message).map(|verb| (audiocodes::NAME, verb)));
        let found = found.or_else(|| {
            let is_msml = msml::is_msml(message.content_type.unwrap_or_default());
            is_msml.then(|| msml::request(message.body)).flatten().map(|request| (msml::NAME, request.verb))
        });
        if let Some((source, verb)) = found {
            let tag = message.from().tag().unwrap_or_default();
            let transaction = Some(Transaction::Sip(tag.into(), message.cseq().number));
            let trigger = Trigger::new(source, verb, context.now, flow, transaction);
            self.request(trigger, context);
        }
    }

    fn handle_response(
        &mut self,
        status: u16,
        flow: &FlowKey,
        message: &Message<'_>,
        author: Side,
        context: &mut Context<'_>,
    ) {
        let cseq = message.cseq();
        let is = |name: &[u8]| cseq.method.eq_ignore_ascii_case(name);
        if self.has_parts() && (is(b"INVITE") || is(b"UPDATE")) {
            let tag = message.from().tag().unwrap_or_default();
            self.answer_trigger(tag, cseq.number, status, context);
        }
        if is(b"INVITE") {
            self.handle_invite_response(status, flow, message, author, context);
        } else if is(b"UPDATE") || is(b"PRACK") {
            self.answer_offer(status, flow, message, author, context);
        } else if is(b"INFO") {
            let tag = message.from().tag().unwrap_or_default();
            // The media server says in the body what has come of it, and 200 to the INFO as such.
            let is_msml = msml::is_msml(message.content_type.unwrap_or_default());
            let result = is_msml.then(|| msml::result(message.body)).flatten();
            let said = result.map_or(status, |result| if status < 300 { result.code } else { status });
            let was_trigger = self.answer_trigger(tag, cseq.number, said, context);
            if was_trigger && matches!(status, 408 | 481) {
                self.end_now(EndReason::DialogGone, LINGER, context);
            }
        }
    }

    fn handle_invite_response(
        &mut self,
        status: u16,
        flow: &FlowKey,
        message: &Message<'_>,
        author: Side,
        context: &mut Context<'_>,
    ) {
        let cseq = message.cseq().number;
        // A re-INVITE has a CSeq of its own, or comes from the callee. Before the call is up it is no such, but the
        // INVITE once more, with credentials or to another target, which was not seen.
        let is_first = self.invite == 0 || cseq <= self.invite || self.answer.is_none() || self.has_parts();
        let initial = author == Side::Callee && !self.in_dialog && is_first;
        if initial && cseq > self.invite {
            self.invite = cseq;
            self.revive();
        }
        if !initial {
            if self.in_dialog && (200..300).contains(&status) {
                // The call was up before; this is the first sign that it was answered.
                self.status = status;
                self.answer.get_or_insert(context.now);
            }
            self.answer_offer(status, flow, message, author, context);
            return;
        }
        match status {
            100..=199 => self.describe(flow, message, author, false, context),
            200..=299 => {
                self.describe(flow, message, author, false, context);
                self.status = status;
                if self.answer.is_none() {
                    self.answer = Some(context.now);
                    self.active_since = context.now;
                    self.compare_from(context.now);
                    self.tell_begin(flow, context);
                    self.tell_hold(context);
                    if !self.has_parts() {
                        let fork = message.to().tag().unwrap_or_default();
                        self.descriptions.choose(fork, self.key, context.now, context.flows);
                        self.silence_void(context);
                    }
                }
                // Another branch of the fork had refused, or the CANCEL came too late.
                self.revive();
            }
            // An answer to an earlier INVITE, which has been tried again since.
            _ if self.answer.is_some() || cseq < self.invite => {}
            401 | 407 => {
                self.status = status;
                self.end =
                    Some(End { at: context.now, reason: EndReason::Rejected, linger: LINGER_CHALLENGED });
            }
            _ if !self.ends_with(message) => {}
            _ => {
                self.status = status;
                self.tell_declined(flow, status, context);
                let (at, reason) = match self.cancelled {
                    Some(at) => (at, EndReason::Cancelled),
                    None => (context.now, EndReason::Rejected),
                };
                self.end = Some(End { at, reason, linger: LINGER_REJECTED });
            }
        }
    }

    /// The answer to an offer within the call.
    fn answer_offer(
        &mut self,
        status: u16,
        flow: &FlowKey,
        message: &Message<'_>,
        author: Side,
        context: &mut Context<'_>,
    ) {
        let cseq = message.cseq().number;
        match status {
            100..=199 => {}
            200..=299 => {
                self.descriptions.commit(cseq, self.key, context.now, context.flows);
                self.describe(flow, message, author, false, context);
                self.tell_hold(context);
                self.renegotiate(context);
            }
            408 | 481 => self.end_now(EndReason::DialogGone, LINGER, context),
            _ => {
                self.descriptions.reject(cseq, self.key, context.flows);
                self.refuse_fax(status, author, cseq, context);
            }
        }
    }

    fn describe(
        &mut self,
        flow: &FlowKey,
        message: &Message<'_>,
        author: Side,
        tentative: bool,
        context: &mut Context<'_>,
    ) {
        let Some(body) = sdp_of(message) else { return };
        let media = sdp::parse_from(body, flow.source.address());
        if media.is_empty() || self.is_over() && self.answer.is_some() {
            return;
        }
        let tag = match message.start {
            StartLine::Request { .. } => message.from().tag(),
            StartLine::Response { .. } => message.to().tag(),
        };
        let fork = match author {
            // Each dialog of a session is for itself.
            _ if self.has_parts() => message.call_id.unwrap_or_default(),
            Side::Caller => &b""[..],
            Side::Callee => tag.unwrap_or_default(),
        };
        let (a, b) = (flow.source.ip, flow.destination.ip);
        let origin = Origin { side: author, fork: fork.into(), hop: (a.min(b), a.max(b)) };
        let cseq = message.cseq().number;
        for media in &media {
            media.endpoint.into_iter().for_each(|endpoint| self.names.add(Whom::Host(endpoint.ip)));
            if !media.ice_fragment.is_empty() {
                self.names.add(Whom::IceFragment(media.ice_fragment.clone()));
            }
        }
        self.note_fax(message, author, &media, context);
        if author == Side::Caller {
            self.watch_activity(flow, message, &media, context);
        }
        let offer = Offer { cseq, lines: self.lines(message, author, media), tentative };
        let new = self.descriptions.add(origin, offer, self.key, context.now, context.flows);
        if new && !tentative {
            self.renegotiate(context);
            self.tell_hold(context);
        }
    }

    fn tell_hold(&mut self, context: &mut Context<'_>) {
        // A party that only listens, or rings silently, does not hold anybody before the call is up.
        if self.answer.is_none() && !self.joined || self.has_parts() {
            return;
        }
        for (side, holds) in self.descriptions.update_hold() {
            self.active_since = context.now;
            let kind = if holds { "hold" } else { "resume" };
            self.tell(context.now, kind, format!("by {}", side.as_str()), context);
        }
    }

    fn end_now(&mut self, reason: EndReason, linger: i64, context: &Context<'_>) {
        if self.end.is_none_or(|end| end.reason == EndReason::Rejected) {
            self.end = Some(End { at: context.now, reason, linger });
        }
    }

    /// A new INVITE in the same call, with credentials or to another target.
    fn try_again(&mut self) {
        self.cancelled = None;
        self.revive();
    }

    fn revive(&mut self) {
        if self.end.is_some_and(|end| matches!(end.reason, EndReason::Rejected | EndReason::Cancelled)) {
            self.end = None;
        }
    }
}

fn sdp_of<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    if message.body.is_empty() {
        return None;
    }
    sdp::find(message.content_type.unwrap_or_default(), message.body)
}

fn party(address: &Address<'_>) -> Party {
    Party {
        user: readable(&address.user_text()),
        uri: text(address.bare_uri()),
        display: readable(&address.display_text()),
        ..Party::default()
    }
}

/// Header text for people: whatever the bytes are, at a sensible length.
pub(super) fn text(bytes: &[u8]) -> String {
    readable(&sip::text(bytes))
}

fn readable(text: &str) -> String {
    const LONGEST: usize = 200;
    text.chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}
