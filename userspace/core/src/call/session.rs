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
use crate::trigger::{Transaction, Trigger, Verb};
use crate::wire::FlowKey;

/// Dialogs of one session.
const MAX_DIALOGS: usize = 16;
/// Dialogs of which nothing but the recorder is known are a pair if they begin within this time.
const PAIRED: i64 = 3 * SECOND;

/// What makes a call a recording session.
pub(super) struct Session {
    pub(super) system: &'static str,
    carries: Carries,
    pub(super) groups: Vec<Box<[u8]>>,
    pub(super) dialogs: Vec<Dialog>,
    /// The call that is recorded.
    pub(super) original: Option<Original>,
    /// What the original is to be told.
    pub(super) passed: Vec<Trigger>,
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
    call_id: String,
    conversation_id: String,
    from: Party,
    to: Party,
    rules: Rules,
    rule: Option<usize>,
}

impl Original {
    pub(super) fn of(call: &Call) -> Original {
        Original {
            key: call.key,
            id: call.id,
            call_id: call.call_id.clone(),
            conversation_id: call.conversation_id.clone(),
            from: call.from.clone(),
            to: call.to.clone(),
            rules: call.rules.clone(),
            rule: call.rule,
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
            self.conversation_id.clone_from(&original.conversation_id);
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
            passed: Vec::new(),
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
        let is = |party: &Party| !voice.user.is_empty() && party.user == voice.user;
        match (is(&self.from), is(&self.to)) {
            (true, false) => return Side::Caller,
            (false, true) => return Side::Callee,
            _ => {}
        }
        let mut taken = session.dialogs.iter().flat_map(|dialog| &dialog.speakers).copied().chain(before);
        let last = taken.by_ref().last();
        // Of both that a system tells apart, one may be known to be on the other side.
        voice.side.filter(|side| last != Some(*side)).or(last.map(Side::other)).unwrap_or(Side::Caller)
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
        let call_id = message.call_id.unwrap_or_default();
        if let Some(dialog) = session.dialogs.iter_mut().find(|dialog| *dialog.call_id == *call_id) {
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
        let call_id = message.call_id.unwrap_or_default();
        if let Some(dialog) = session.dialogs.iter_mut().find(|dialog| *dialog.call_id == *call_id) {
            dialog.is_over = true;
        }
        session.dialogs.iter().all(|dialog| dialog.is_over)
    }

    /// The recorder has answered a phone that sends it all it hears: from now on the original is recorded.
    pub(super) fn tell_begin(&mut self, answer: &FlowKey, at: Timestamp) {
        if let Some(session) = self.session.as_mut().filter(|session| session.begun.is_none()) {
            session.begun = Some(answer.reversed());
            session.pass_bound(Verb::Start, at);
        }
    }

    /// That has ended.
    pub(super) fn tell_end(&mut self, at: Timestamp) {
        if let Some(session) = self.session.as_mut().filter(|session| !session.has_ended) {
            session.has_ended = true;
            session.pass_bound(Verb::Stop, at);
        }
    }

    /// What is obeyed here holds for the original as well.
    pub(super) fn pass_on(&mut self, trigger: &Trigger) {
        if let Some(session) = self.session.as_mut().filter(|session| session.original.is_some()) {
            session.passed.push(Trigger { transaction: None, ..trigger.clone() });
        }
    }
}

impl Session {
    fn dialog(&self, message: &Message<'_>) -> Option<&Dialog> {
        let call_id = message.call_id.unwrap_or_default();
        self.dialogs.iter().find(|dialog| *dialog.call_id == *call_id)
    }

    fn pass_bound(&mut self, verb: Verb, at: Timestamp) {
        if let Some(flow) = &self.begun
            && self.carries == Carries::Mixed
            && self.original.is_some()
        {
            self.passed.push(Trigger::new(self.system, verb, at, flow, None));
        }
    }
}
