//! Calls that are recording sessions: what they carry is said in another call.
//!
//! A session of parties may have several dialogs, which are one call here. It begins recorded: that is what it is
//! for. What its system says of the recording counts for the call that is recorded as well, if that is seen.

use super::description::Line;
use super::{Call, Context};
use crate::media::CallKey;
use crate::record::{Id, Party, Side};
use crate::recording_session::{Carries, Recognised, Voice};
use crate::rules::Rules;
use crate::sdp::{Direction, Kind, Media};
use crate::sip::{Message, StartLine};
use crate::time::{SECOND, Timestamp};
use crate::trigger::{Outcome, Transaction, Trigger, Verb};
use crate::wire::FlowKey;

/// Dialogs of one session.
const MAX_DIALOGS: usize = 16;
/// Sessions that record one call.
const MAX_SESSIONS: usize = 16;
/// Dialogs of which nothing but the recorder is known are a pair if they begin within this time.
const PAIRED: i64 = SECOND / 2;

/// What makes a call a recording session.
pub(super) struct Session {
    pub(super) system: &'static str,
    carries: Carries,
    pub(super) groups: Vec<Box<[u8]>>,
    pub(super) dialogs: Vec<Dialog>,
    /// The call that is recorded.
    pub(super) original: Option<Original>,
    /// All streams are inactive.
    is_paused: bool,
    /// Who has asked whom, once the original has been told of the beginning.
    begun: Option<FlowKey>,
    /// It has been told of the end.
    has_ended: bool,
}

/// One SIP dialog of a session.
pub(super) struct Dialog {
    pub(super) call_id: Box<[u8]>,
    /// Who is heard in its streams, in their order; the last one in all that follow.
    speakers: Vec<Side>,
    is_over: bool,
    is_inactive: bool,
}

/// What is to be known of the call that is recorded.
#[derive(Clone)]
pub(super) struct Original {
    pub(super) key: CallKey,
    id: Id,
    is_own: bool,
    call_id: String,
    conversation_id: String,
    conversation_began: Timestamp,
    from: Party,
    to: Party,
    rules: Rules,
    rule: Option<usize>,
    paused_since: Option<Timestamp>,
}

/// A trigger of one call that another is to know of.
pub(super) struct Passed {
    pub(super) trigger: Trigger,
    pub(super) outcome: Outcome,
}

impl Original {
    pub(super) fn of(call: &Call) -> Original {
        Original {
            key: call.key,
            id: call.id,
            is_own: call.is_own,
            call_id: call.call_id.clone(),
            conversation_id: call.conversation_id.clone(),
            conversation_began: call.conversation_began,
            from: call.from.clone(),
            to: call.to.clone(),
            rules: call.rules.clone(),
            rule: call.rule,
            paused_since: call.recorder.paused_since(),
        }
    }
}

impl Call {
    /// Whether people talk in it.
    pub(super) fn is_conversation(&self) -> bool {
        self.session.is_none()
    }

    /// Whether its streams have one party each.
    pub(super) fn has_parts(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.carries == Carries::Parties)
    }

    /// Whether all are heard in one stream.
    pub(super) fn is_mixed(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.carries == Carries::Mixed)
    }

    /// Whether it is but a track of another call.
    pub(super) fn is_spare(&self) -> bool {
        self.is_mixed() && self.session.as_ref().is_some_and(|session| session.original.is_some())
    }

    /// The call is a session, and this its first dialog.
    pub(super) fn begin_session(&mut self, found: &Recognised, call_id: &[u8], original: Option<Original>) {
        if let Some(original) = &original {
            // What is not to be kept of the call is not to be kept of its copy.
            self.recorder.begin_paused(original.paused_since);
            // Each has something to tell the other: they stay together.
            self.is_own = original.is_own;
            self.conversation_id.clone_from(&original.conversation_id);
            self.conversation_began = original.conversation_began;
            if found.carries == Carries::Mixed {
                // All that is said of it is said of that call.
                (self.id, self.call_id) = (original.id, original.call_id.clone());
                (self.from, self.to) = (original.from.clone(), original.to.clone());
                (self.rules, self.rule) = (original.rules.clone(), original.rule);
            }
        }
        self.session = Some(Box::new(Session {
            system: found.system,
            carries: found.carries,
            groups: found.groups.clone(),
            dialogs: Vec::new(),
            original,
            is_paused: false,
            begun: None,
            has_ended: false,
        }));
        self.join_session(found, call_id);
    }

    /// Whether that dialog can be of this session.
    pub(super) fn takes_dialog(&self, found: &Recognised, now: Timestamp) -> bool {
        let Some(session) = &self.session else { return false };
        let fits_pair = session.dialogs.len() < 2 && now.since(self.start) < PAIRED;
        !self.is_over()
            && session.system == found.system
            && session.carries == found.carries
            && session.dialogs.len() < MAX_DIALOGS
            && (!found.is_pair || fits_pair)
    }

    /// One more dialog.
    pub(super) fn join_session(&mut self, found: &Recognised, call_id: &[u8]) {
        let is_first = self.session.as_ref().is_some_and(|session| session.dialogs.is_empty());
        let mut speakers = Vec::new();
        if found.carries == Carries::Parties {
            if is_first {
                (self.from, self.to) = (Party::default(), Party::default());
                if let Some(original) = self.session.as_ref().and_then(|session| session.original.as_ref()) {
                    (self.from, self.to) = (original.from.clone(), original.to.clone());
                }
            }
            for voice in &found.voices {
                let side = self.side_of(voice, speakers.last().copied());
                self.name_party(side, voice);
                speakers.push(side);
            }
            self.name_others(&found.users);
        }
        let Some(session) = &mut self.session else { return };
        for group in &found.groups {
            if !session.groups.contains(group) {
                session.groups.push(group.clone());
            }
        }
        let dialog = Dialog { call_id: call_id.into(), speakers, is_over: false, is_inactive: false };
        session.dialogs.push(dialog);
    }

    /// On which side somebody is heard. Whoever comes first is heard on the left, unless it is known better.
    fn side_of(&self, voice: &Voice, before: Option<Side>) -> Side {
        let Some(session) = &self.session else { return Side::Caller };
        let among = |from: &Party, to: &Party| {
            let is = |party: &Party| !voice.user.is_empty() && party.user == voice.user;
            match (is(from), is(to)) {
                (true, false) => Some(Side::Caller),
                (false, true) => Some(Side::Callee),
                _ => None,
            }
        };
        let original = session.original.as_ref();
        let found = original.and_then(|original| among(&original.from, &original.to));
        let named = || voice.is_known.then(|| among(&self.from, &self.to)).flatten();
        if let Some(side) = found.or_else(named) {
            return side;
        }
        let taken = session.dialogs.iter().flat_map(|dialog| &dialog.speakers).copied().chain(before);
        let last = taken.last();
        // Of both that a system tells apart, one may be known to be on the other side.
        voice.side.filter(|side| last != Some(*side)).or(last.map(Side::other)).unwrap_or(Side::Caller)
    }

    /// Who takes part and is not heard for himself is the party that has no name yet.
    fn name_others(&mut self, users: &[String]) {
        for user in users {
            let is_named = self.from.user == *user || self.to.user == *user;
            let nameless = [&mut self.from, &mut self.to].into_iter().find(|party| party.user.is_empty());
            if let Some(party) = nameless.filter(|_| !is_named) {
                party.user.clone_from(user);
                party.uri.clone_from(user);
            }
        }
    }

    fn name_party(&mut self, side: Side, voice: &Voice) {
        let party = match side {
            Side::Caller => &mut self.from,
            Side::Callee => &mut self.to,
        };
        if party.user.is_empty() && !voice.user.is_empty() {
            party.user.clone_from(&voice.user);
            party.uri.clone_from(&voice.uri);
        }
        if party.display.is_empty() {
            party.display.clone_from(&voice.name);
        }
    }

    /// The streams of a description, with who receives them.
    pub(super) fn lines(&self, message: &Message<'_>, author: Side, media: Vec<Media>) -> Vec<Line> {
        let speakers = self.session.as_ref().filter(|session| session.carries == Carries::Parties);
        let speakers = speakers.and_then(|session| session.dialog(message)).map(|dialog| &dialog.speakers);
        let receiver = |index: usize| {
            let speaker = speakers.and_then(|speakers| speakers.get(index).or(speakers.last()));
            match (speaker, author) {
                (None, author) => author,
                (Some(speaker), Side::Caller) => *speaker,
                (Some(speaker), Side::Callee) => speaker.other(),
            }
        };
        let lines = media.into_iter().enumerate();
        lines.map(|(index, media)| Line { receiver: receiver(index), media }).collect()
    }

    /// The client has offered streams: when none of the session is active any more, or one is again, the recording is
    /// paused or resumed (RFC 7866, 7.1.1.1).
    pub(super) fn watch_activity(
        &mut self,
        flow: &FlowKey,
        message: &Message<'_>,
        media: &[Media],
        context: &mut Context<'_>,
    ) {
        let StartLine::Request { method, .. } = message.start else { return };
        if !(method.eq_ignore_ascii_case(b"INVITE") || method.eq_ignore_ascii_case(b"UPDATE")) {
            return;
        }
        let Some(session) = self.session.as_mut().filter(|session| session.carries == Carries::Parties)
        else {
            return;
        };
        let mut audio = media.iter().filter(|media| media.kind == Kind::Audio).peekable();
        let is_inactive = audio.peek().is_some()
            && audio.all(|media| media.direction == Direction::Inactive || media.endpoint.is_none());
        if let Some(dialog) = session.dialog_mut(message) {
            dialog.is_inactive = is_inactive;
        }
        let is_paused =
            session.dialogs.iter().filter(|dialog| !dialog.is_over).all(|dialog| dialog.is_inactive);
        if is_paused == session.is_paused {
            return;
        }
        session.is_paused = is_paused;
        let tag = message.from().tag().unwrap_or_default();
        let verb = if is_paused { Verb::Pause } else { Verb::Resume };
        let transaction = Some(Transaction::Sip(tag.into(), message.cseq().number));
        let trigger = Trigger::new(session.system, verb, context.now, flow, transaction);
        self.request(trigger, context);
    }

    /// A dialog has ended. Returns whether the call has with it.
    pub(super) fn ends_with(&mut self, message: &Message<'_>) -> bool {
        let Some(session) = &mut self.session else { return true };
        if let Some(dialog) = session.dialog_mut(message) {
            dialog.is_over = true;
        }
        session.dialogs.iter().all(|dialog| dialog.is_over)
    }

    /// The recorder has answered: from now on the original is recorded.
    pub(super) fn tell_begin(&mut self, answer: &FlowKey, context: &mut Context<'_>) {
        let Some(session) = self.session.as_mut().filter(|session| session.begun.is_none()) else { return };
        let flow = answer.reversed();
        session.begun = Some(flow);
        let trigger = Trigger::new(session.system, Verb::Start, context.now, &flow, None);
        self.tell_bound(trigger, Outcome::Confirmed, context);
    }

    /// The recorder does not want it.
    pub(super) fn tell_declined(&mut self, answer: &FlowKey, status: u16, context: &mut Context<'_>) {
        let Some(session) = self.session.as_mut().filter(|session| session.begun.is_none()) else { return };
        let trigger = Trigger::new(session.system, Verb::Start, context.now, &answer.reversed(), None);
        self.tell_bound(trigger, Outcome::Refused(status), context);
    }

    /// That has ended.
    pub(super) fn tell_end(&mut self, at: Timestamp, context: &mut Context<'_>) {
        let Some(session) = self.session.as_mut().filter(|session| !session.has_ended) else { return };
        session.has_ended = true;
        let Some(flow) = session.begun else { return };
        let trigger = Trigger::new(session.system, Verb::Stop, at, &flow, None);
        self.tell_bound(trigger, Outcome::Confirmed, context);
    }

    /// Beginning and end of what a phone sends to a recorder are the original's; of a session of parties, its own.
    fn tell_bound(&mut self, trigger: Trigger, outcome: Outcome, context: &mut Context<'_>) {
        if self.is_spare() {
            self.passed.push(Passed { trigger, outcome });
        } else {
            let text = match outcome {
                Outcome::Refused(status) => status.to_string(),
                _ => String::new(),
            };
            self.tell_trigger(&trigger, outcome, text, context);
        }
    }

    /// What is obeyed here holds for those that it records, and for those that record it, as well.
    pub(super) fn pass_on(&mut self, trigger: &Trigger) {
        let has_original = self.session.as_ref().is_some_and(|session| session.original.is_some());
        if has_original || !self.recorded_by.is_empty() {
            let trigger = Trigger { transaction: None, ..trigger.clone() };
            self.passed.push(Passed { trigger, outcome: Outcome::Confirmed });
        }
    }

    /// The call that is recorded here has been paused or resumed.
    pub(super) fn follow(&mut self, verb: Verb, at: Timestamp, context: &mut Context<'_>) {
        match verb {
            Verb::Pause => self.pause(at, context),
            Verb::Resume => self.recorder.resume(at),
            Verb::Start | Verb::Stop => {}
        }
    }

    /// Another call records this one.
    pub(super) fn is_recorded_by(&mut self, session: CallKey) {
        if self.recorded_by.len() < MAX_SESSIONS {
            self.recorded_by.push(session);
        }
    }
}

impl Session {
    fn dialog_mut(&mut self, message: &Message<'_>) -> Option<&mut Dialog> {
        let call_id = message.call_id.unwrap_or_default();
        self.dialogs.iter_mut().find(|dialog| *dialog.call_id == *call_id)
    }

    fn dialog(&self, message: &Message<'_>) -> Option<&Dialog> {
        let call_id = message.call_id.unwrap_or_default();
        self.dialogs.iter().find(|dialog| *dialog.call_id == *call_id)
    }
}
