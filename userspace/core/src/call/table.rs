//! All calls, by Call-ID and by when they must be looked after.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::hash::BuildHasher;

use hashbrown::HashMap;
use hashlink::LinkedHashMap;
use slab::Slab;

use super::conversation::{Past, past_mark};
use super::directory::Directory;
use super::record_server::Orders;
use super::room::{Place, Room};
use super::session::Passed;
use super::{Call, Context};
use crate::control::{self, LiveCalls, Refusal, Request, Target};
use crate::event::Event;
use crate::media::CallKey;
use crate::record::{EndReason, EventRow, Id};
use crate::recording_session::{self, Recognised};
use crate::sip::{Message, StartLine};
use crate::time::{SECOND, Timestamp};
use crate::trigger::feature_code::Effect;
use crate::trigger::url_record::{self, Answers};
use crate::trigger::{Answer, Outcome, Transaction, Trigger, Verb, audiocodes, sip_info};
use crate::wire::FlowKey;

/// Messages of a call that is done with are known for so long as stragglers.
const STRAGGLERS: i64 = 64 * SECOND;
/// Calls that end together where there are no more frames.
const ENDED_TOGETHER: usize = 16;
/// Call-IDs of calls that are done with.
const MAX_ENDED: usize = 65_536;

/// The table of calls.
pub struct Calls {
    pub(super) calls: Slab<Call>,
    pub(super) by_call_id: HashMap<Box<[u8]>, CallKey, foldhash::fast::RandomState>,
    /// Recording sessions, by what their dialogs have in common.
    sessions: HashMap<Box<[u8]>, CallKey, foldhash::fast::RandomState>,
    pub(super) directory: Directory,
    /// What phones have ordered from record servers.
    pub(super) orders: Orders,
    timers: BTreeSet<(Timestamp, CallKey)>,
    pub(super) room: Room,
    generation: u64,
    /// Calls that end as there are no more frames, the first one last.
    ending: Vec<CallKey>,
    /// Calls that are done with, the longest ago first, by hashes of their Call-IDs, which may be long, and of what marks
    /// their conversations.
    ended: LinkedHashMap<u64, Past, foldhash::fast::RandomState>,
    hasher: foldhash::quality::RandomState,
    /// Calls seen.
    pub total: u64,
    /// Calls given up for want of room.
    pub evicted: u64,
}

impl Default for Calls {
    fn default() -> Calls {
        Calls {
            calls: Slab::new(),
            by_call_id: HashMap::default(),
            sessions: HashMap::default(),
            directory: Directory::default(),
            orders: Orders::default(),
            timers: BTreeSet::new(),
            room: Room::default(),
            generation: 0,
            ending: Vec::new(),
            ended: LinkedHashMap::default(),
            hasher: foldhash::quality::RandomState::default(),
            total: 0,
            evicted: 0,
        }
    }
}

impl Calls {
    /// A call, if it is still known.
    pub fn get(&self, key: CallKey) -> Option<&Call> {
        self.calls.get(key.slot).filter(|call| call.key == key)
    }

    /// Whatever call is where that one was.
    pub(crate) fn in_slot(&self, key: CallKey) -> Option<&Call> {
        self.calls.get(key.slot)
    }

    /// A call, if it is still known.
    pub fn get_mut(&mut self, key: CallKey) -> Option<&mut Call> {
        self.calls.get_mut(key.slot).filter(|call| call.key == key)
    }

    /// Takes a SIP message. Returns whether it belongs to a call.
    pub fn handle_message(
        &mut self,
        flow: &FlowKey,
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        match message.call_id.filter(|call_id| !call_id.is_empty()) {
            Some(call_id) => self.handle_named(flow, call_id, message, context),
            None => self.handle_nameless(flow, message, context),
        }
    }

    /// Takes a message of the call of that name: its Call-ID, or what stands for it.
    pub(super) fn handle_named(
        &mut self,
        flow: &FlowKey,
        call_id: &[u8],
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        let mut key = self.by_call_id.get(call_id).copied();
        if let Some(known) = key.and_then(|key| self.get(key)) {
            if begins_anew(known, flow, message) {
                let known = known.key;
                self.finish(known, EndReason::Superseded, context);
                key = None;
            } else if is_of_another(known, message) {
                return true;
            }
        }
        let is_new = key.is_none();
        let key = match key {
            Some(key) => key,
            None => match self.open(flow, call_id, message, context) {
                Some(key) => key,
                None => {
                    self.refer_from_outside(flow, message, context);
                    return false;
                }
            },
        };
        if let Some(call) = self.calls.get_mut(key.slot).filter(|call| call.key == key) {
            let is_fresh = call.handle_message(flow, message, context);
            self.directory.enter(key, &mut call.names);
            if is_fresh {
                self.correlate(key, flow, message, is_new, context);
            }
        }
        self.reschedule(key, context);
        true
    }

    /// A call made of RTP alone.
    pub fn add_orphan(&mut self, flow: &FlowKey, ssrc: u32, context: &mut Context<'_>) -> CallKey {
        let key = self.insert(context, |key, context| Call::orphan(key, flow, ssrc, context));
        if let Some(call) = self.calls.get_mut(key.slot) {
            call.name_parties();
        }
        self.name_conversation(key);
        self.reschedule(key, context);
        key
    }

    /// A phone, or another on its behalf, has made a request by HTTP that is a trigger. Returns the call that it is
    /// for. What comes of it is told by [`Call::answer_numbered`].
    pub fn request_by_url(
        &mut self,
        flow: &FlowKey,
        asked: &url_record::Asked,
        number: u64,
        context: &mut Context<'_>,
    ) -> Option<CallKey> {
        let Some(key) = self.meant_by(flow, asked, context) else {
            if asked.answer != Answers::TextOrNothing {
                let verb = match asked.effect {
                    Effect::Verb(verb) => verb,
                    Effect::Toggle => Verb::Start,
                };
                let trigger = Trigger::new(url_record::NAME, verb, context.now, flow, None);
                let answer = Answer { outcome: Outcome::Unconfirmed, verb: None, words: String::new() };
                tell_lost(&trigger, &answer, context);
            }
            return None;
        };
        let call = self.get_mut(key)?;
        let verb = match asked.effect {
            Effect::Verb(verb) => verb,
            Effect::Toggle if call.will_be_recording() => Verb::Stop,
            Effect::Toggle => Verb::Start,
        };
        let transaction = Some(Transaction::Numbered(number));
        let trigger = Trigger::new(url_record::NAME, verb, context.now, flow, transaction);
        call.request(trigger, context);
        self.reschedule(key, context);
        Some(key)
    }

    /// Calls that go on.
    pub fn up(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().map(|(_, call)| call).filter(|call| !call.is_over())
    }

    /// The latest of the calls that go on, or of those that are meant.
    pub fn live(&self, target: Option<&Target>, limit: usize) -> LiveCalls {
        let found = match target {
            Some(target) => self.meant(target),
            None => self.calls.iter().map(|(_, call)| call).collect(),
        };
        let up = found.into_iter().filter(|call| !call.is_over());
        let mut up: Vec<_> = up.map(|call| (Reverse(call.key.generation), call)).collect();
        let matched = up.len();
        if limit < matched {
            up.select_nth_unstable_by_key(limit, |(age, _)| *age);
            up.truncate(limit);
        }
        up.sort_unstable_by_key(|(age, _)| *age);
        LiveCalls { calls: up.into_iter().map(|(_, call)| call.live()).collect(), matched }
    }

    /// Does what is asked of a call by hand.
    pub fn control(
        &mut self,
        at: Timestamp,
        request: &Request,
        context: &mut Context<'_>,
    ) -> Result<control::Answer, Refusal> {
        let (key, matched) = self.find(&request.target)?;
        let call = self.get_mut(key).ok_or(Refusal::NoCall)?;
        let effect = call.obey(at, request, context)?;
        let call = call.live();
        self.reschedule(key, context);
        Ok(control::Answer { call, matched, effect })
    }

    /// Goes on with calls that an earlier engine has followed.
    pub fn resume(&mut self, at: Timestamp, context: &mut Context<'_>) {
        let mut keys: Vec<CallKey> = self.up().map(|call| call.key).collect();
        keys.sort_by_key(|key| key.generation);
        for key in keys {
            if let Some(call) = self.get_mut(key) {
                call.resume_at(at, context);
            }
            self.reschedule(key, context);
        }
    }

    /// When the next call must be looked after.
    pub fn poll_timeout(&self) -> Timestamp {
        self.timers.first().map_or(Timestamp::FAR_FUTURE, |(at, _)| *at)
    }

    /// Does what is due at `context.now`.
    pub fn handle_timeout(&mut self, context: &mut Context<'_>) {
        while let Some(&(at, key)) = self.timers.first()
            && at <= context.now
        {
            let Some(call) = self.calls.get_mut(key.slot).filter(|call| call.key == key) else {
                self.timers.pop_first();
                continue;
            };
            if call.handle_timeout(context) {
                self.finish(key, EndReason::RtpTimeout, context);
            } else {
                self.reschedule(key, context);
                // Whatever a call says, it gets its turn and no more.
                if self.timers.first().is_some_and(|&(next, other)| other == key && next <= context.now) {
                    self.finish(key, EndReason::SignallingTimeout, context);
                }
            }
        }
    }

    /// Something has changed in a call: works out anew when to look after it.
    pub fn reschedule(&mut self, key: CallKey, context: &mut Context<'_>) {
        let Some(call) = self.calls.get_mut(key.slot).filter(|call| call.key == key) else { return };
        call.is_stirred = false;
        call.catch_up(context.flows);
        let passing = Passing::of(call);
        let resembles = call.resembles.take();
        let deadline = call.next_deadline(context.config);
        if deadline != call.deadline {
            self.timers.remove(&(call.deadline, key));
            call.deadline = deadline;
            self.timers.insert((deadline, key));
        }
        if let Some(other) = resembles {
            self.join_by_payload(key, other);
        }
        if let Some(call) = self.calls.get_mut(key.slot).filter(|call| call.key == key) {
            let place = Place::of(call, context.flows);
            self.room.update(key, &mut call.place, place);
        }
        if let Some(passing) = passing {
            self.pass(passing, context);
        }
    }

    /// Ends a call and says all there is to say of it.
    pub fn finish(&mut self, key: CallKey, reason: EndReason, context: &mut Context<'_>) {
        if self.get(key).is_none() {
            return;
        }
        let mut call = self.calls.remove(key.slot);
        self.timers.remove(&(call.deadline, key));
        self.room.leave(key, call.place.take());
        self.directory.strike(key, &call.names);
        call.finish(reason, context);
        let past = Past::of(&call, context.now);
        for mark in call.names.marks() {
            self.remember(&past_mark(mark), past.clone());
        }
        if let Some(passing) = Passing::of(&mut call) {
            self.pass(passing, context);
        }
        if let Some(mut session) = call.session.take() {
            for group in &session.groups {
                if self.sessions.get(group) == Some(&key) {
                    self.sessions.remove(group);
                }
            }
            for dialog in session.dialogs.drain(..).filter(|dialog| dialog.call_id != call.raw_call_id) {
                self.forget_call_id(dialog.call_id, key, past.clone());
            }
        }
        for alias in call.aliases.drain(..) {
            self.forget_call_id(alias, key, past.clone());
        }
        if !call.orphan {
            self.forget_call_id(call.raw_call_id, key, past);
        }
    }

    fn forget_call_id(&mut self, call_id: Box<[u8]>, key: CallKey, past: Past) {
        if self.by_call_id.get(&call_id) == Some(&key) {
            self.by_call_id.remove(&call_id);
        }
        self.remember(&call_id, past);
    }

    /// The capture is over: ends some calls, those that began first. Returns whether there are more.
    pub fn finish_some(&mut self, context: &mut Context<'_>) -> bool {
        if self.ending.is_empty() {
            self.ending.extend(self.calls.iter().map(|(_, call)| call.key));
            self.ending.sort_by_key(|key| Reverse(key.generation));
        }
        for _ in 0..ENDED_TOGETHER {
            let Some(key) = self.ending.pop() else { break };
            self.finish(key, EndReason::CaptureEnd, context);
        }
        !self.calls.is_empty()
    }

    fn open(
        &mut self,
        flow: &FlowKey,
        call_id: &[u8],
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) -> Option<CallKey> {
        let joined = match opens(message, context) {
            Opens::Call => false,
            Opens::JoinedCall => true,
            Opens::Nothing => return None,
        };
        self.forget(context.now);
        if joined && self.ended.contains_key(&self.hasher.hash_one(call_id)) {
            return None;
        }
        let session = recording_session::recognise(message, &context.config.recorders);
        if let Some(key) = session.as_ref().and_then(|found| self.join_session(found, call_id, context.now)) {
            return Some(key);
        }
        let original = session.as_ref().and_then(|found| self.original_of(found, flow, context));
        let recorded = original.as_ref().map(|original| original.key);
        let tag = message.from().tag().unwrap_or_default();
        let key = self.insert(context, |key, context| {
            let mut call = Call::new(key, call_id, tag, context);
            call.joined = joined;
            if let Some(found) = &session {
                call.begin_session(found, call_id, original);
            }
            call
        });
        self.by_call_id.insert(call_id.into(), key);
        if let Some(original) = recorded.and_then(|original| self.get_mut(original)) {
            original.is_recorded_by(key);
        }
        for group in session.into_iter().flat_map(|found| found.groups) {
            self.sessions.insert(group, key);
        }
        Some(key)
    }

    /// One more dialog of a session that goes on.
    fn join_session(&mut self, found: &Recognised, call_id: &[u8], now: Timestamp) -> Option<CallKey> {
        let known = found.groups.iter().filter_map(|group| self.sessions.get(group).copied());
        let key =
            known.into_iter().find(|key| self.get(*key).is_some_and(|call| call.takes_dialog(found, now)))?;
        self.get_mut(key)?.join_session(found, call_id);
        self.by_call_id.insert(call_id.into(), key);
        for group in &found.groups {
            self.sessions.insert(group.clone(), key);
        }
        Some(key)
    }

    /// A call has something to say to the one that it records, or to those that record it.
    fn pass(&mut self, from: Passing, context: &mut Context<'_>) {
        for Passed { trigger, outcome } in from.passed {
            if let Some(call) = from.original.and_then(|key| self.get_mut(key)) {
                match outcome {
                    Outcome::Confirmed => call.request(trigger.clone(), context),
                    Outcome::Refused(status) => {
                        call.tell_trigger(&trigger, outcome, status.to_string(), context);
                    }
                    Outcome::Unconfirmed => call.tell_trigger(&trigger, outcome, String::new(), context),
                }
            }
            for session in from.recorded_by.iter() {
                if let Some(session) = self.get_mut(*session) {
                    session.follow(trigger.verb, trigger.at, context);
                }
            }
        }
        if let Some(original) = from.original {
            self.reschedule(original, context);
        }
    }

    pub(super) fn insert(
        &mut self,
        context: &mut Context<'_>,
        make: impl FnOnce(CallKey, &Context<'_>) -> Call,
    ) -> CallKey {
        while self.calls.len() >= context.config.max_calls && self.give_up_idlest(true, context) {}
        self.total += 1;
        self.generation += 1;
        let entry = self.calls.vacant_entry();
        let key = CallKey { slot: entry.key(), generation: self.generation };
        entry.insert(make(key, context));
        key
    }

    /// What is known of a call that is done with.
    pub(super) fn ended(&self, name: &[u8]) -> Option<&Past> {
        self.ended.get(&self.hasher.hash_one(name))
    }

    fn remember(&mut self, name: &[u8], past: Past) {
        let now = past.at;
        self.ended.insert(self.hasher.hash_one(name), past);
        self.forget(now);
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some((_, past)) = self.ended.front()
            && (now.since(past.at) > STRAGGLERS || self.ended.len() > MAX_ENDED)
        {
            self.ended.pop_front();
        }
    }
}

/// What a call has to say to others.
struct Passing {
    passed: Vec<Passed>,
    original: Option<CallKey>,
    recorded_by: Vec<CallKey>,
}

impl Passing {
    fn of(call: &mut Call) -> Option<Passing> {
        if call.passed.is_empty() {
            return None;
        }
        let original = call.session.as_ref().and_then(|session| session.original.as_ref());
        Some(Passing {
            original: original.map(|original| original.key),
            recorded_by: call.recorded_by.clone(),
            passed: std::mem::take(&mut call.passed),
        })
    }
}

/// A trigger has come for which there is no call.
pub(super) fn tell_lost(trigger: &Trigger, answer: &Answer, context: &mut Context<'_>) {
    let row = EventRow {
        call: Id::default(),
        call_id: String::new(),
        at: trigger.at,
        kind: "trigger",
        trigger: trigger.source,
        verb: trigger.verb.as_str(),
        outcome: answer.outcome.as_str(),
        source: trigger.from,
        destination: trigger.to,
        text: format!("{} (of no call that is seen)", answer.words).trim_start().to_owned(),
    };
    if context.config.share.has_rest() {
        context.events.push_back(Event::Happened(Box::new(row)));
    }
}

/// Whether a message begins another call than the one that has, or had, the same Call-ID.
fn begins_anew(call: &Call, flow: &FlowKey, message: &Message<'_>) -> bool {
    let StartLine::Request { method, .. } = message.start else { return false };
    if !method.eq_ignore_ascii_case(b"INVITE") || message.to().tag().is_some() {
        return false;
    }
    let over = call.end.is_some_and(|end| {
        !matches!(end.reason, EndReason::Rejected | EndReason::Cancelled) || call.answer.is_some()
    });
    let tag = message.from().tag().unwrap_or_default();
    let has_tag = |tags: &[Box<[u8]>]| tags.iter().any(|known| **known == *tag);
    // Phones of old have no tags: theirs is a retransmission if the number is the same.
    let same_caller = if tag.is_empty() {
        !call.call_id.is_empty() && call.caller_tags.is_empty()
    } else {
        has_tag(&call.caller_tags)
    };
    let same_transaction = call.invite == message.cseq().number && same_caller;
    // The BYE was not seen, and whoever called calls again. On another hop the same call may have other tags.
    let same_way = call.invited == Some((flow.source.ip, flow.destination.ip));
    let calls_again = call.answer.is_some()
        && same_way
        && !tag.is_empty()
        && !has_tag(&call.caller_tags)
        && !has_tag(&call.callee_tags);
    (over || calls_again && call.is_conversation()) && !same_transaction
}

/// Whether a BYE is a straggler of an earlier call with the same Call-ID: it names two tags, and the call has others.
fn is_of_another(call: &Call, message: &Message<'_>) -> bool {
    let is_bye =
        matches!(message.start, StartLine::Request { method, .. } if method.eq_ignore_ascii_case(b"BYE"));
    let (from, to) = (message.from(), message.to());
    let (Some(from), Some(to)) = (from.tag(), to.tag()) else { return false };
    let knows = |tag: &[u8]| call.caller_tags.iter().chain(&call.callee_tags).any(|known| **known == *tag);
    let is_known = call.caller_tags.is_empty() || call.callee_tags.is_empty() || knows(from) || knows(to);
    is_bye && call.is_conversation() && !is_known
}

enum Opens {
    Call,
    JoinedCall,
    Nothing,
}

/// Whether a message of an unknown call is the beginning of one, or shows one that was up before.
fn opens(message: &Message<'_>, context: &Context<'_>) -> Opens {
    let method = message.method();
    let is = |name: &[u8]| method.eq_ignore_ascii_case(name);
    let in_dialog = message.to().tag().is_some();
    let has_sdp = !message.body.is_empty()
        && crate::sdp::find(message.content_type.unwrap_or_default(), message.body).is_some();
    match message.start {
        StartLine::Request { .. } if is(b"INVITE") => {
            if in_dialog {
                Opens::JoinedCall
            } else {
                Opens::Call
            }
        }
        StartLine::Request { .. } if has_sdp && (is(b"ACK") || is(b"UPDATE") || is(b"PRACK")) => {
            Opens::JoinedCall
        }
        StartLine::Request { .. }
            if is(b"INFO")
                && in_dialog
                && (sip_info::verb(message, &context.config.record_headers).is_some()
                    || audiocodes::verb(message).is_some()) =>
        {
            Opens::JoinedCall
        }
        StartLine::Response { status: 101..=299, .. } if is(b"INVITE") && has_sdp => Opens::JoinedCall,
        _ => Opens::Nothing,
    }
}
