//! From audio and triggers to recordings.
//!
//! A call's audio runs on a tape from the moment it may be wanted; recordings are parts of it. A trigger
//! counts from the moment it was asked for, although the answer comes later: so a tape runs from the
//! request on, and is thrown away when the answer is no.

use std::ops::Range;

use super::{Call, Context, MIN_PACKETS};
use crate::event::{Event, kept};
use crate::media::{Figures, FlowId, LATENCY, Reel, Tape, TapeId};
use crate::record::{EndReason, EventRow, Id, RecordingRow, Side};
use crate::rules::{Action, Beginning, LookBack, OnRefused, Paused};
use crate::time::Timestamp;
use crate::trigger::{Answer, Outcome, Transaction, Trigger, Verb};

/// The trigger of what is recorded by rule.
const BY_RULE: &str = "rule";
/// The trigger of what is recorded because nothing else is known of it.
const ORPHAN: &str = "orphan";

/// Triggers of one call that may wait for their answers.
const MAX_PENDING: usize = 32;

/// A part of the tape that is to be a recording.
struct Segment {
    start: Timestamp,
    end: Option<(Timestamp, EndReason)>,
    trigger: &'static str,
    /// Figures of the tape when it began and when it ended.
    before: Figures,
    after: Option<Figures>,
}

/// A trigger that waits for its answer.
pub(super) struct Pending {
    pub(super) trigger: Trigger,
    /// Figures of the tape when it was asked for.
    figures: Figures,
    /// The server wants a password: the same press comes again.
    challenged: bool,
    /// What came of it, while an earlier one still waits.
    outcome: Option<Outcome>,
    /// In which words that was said.
    words: String,
}

/// What is being recorded of a call.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) tape: Option<Tape>,
    /// Of the tape.
    channels: u16,
    segments: Vec<Segment>,
    /// The tape runs for a trigger alone: nothing before or after is wanted.
    on_demand: bool,
    /// The tape may be closed then.
    idle_since: Option<Timestamp>,
    /// Nothing is kept since then.
    paused_since: Option<Timestamp>,
}

impl Recorder {
    /// Writes what is past.
    pub(super) fn advance(&mut self, context: &mut Context<'_>) {
        if let Some(tape) = &mut self.tape {
            let (id, channels, events) = (tape.id, self.channels, &mut *context.events);
            tape.advance(context.now, &mut |reel| events.extend(reel_event(id, channels, reel)));
        }
    }

    /// Hands over what came after its place had been written.
    pub(super) fn overdub(&mut self, context: &mut Context<'_>) {
        if let Some(tape) = self.tape.as_mut().filter(|tape| tape.has_overdubs()) {
            let (id, channels, events) = (tape.id, self.channels, &mut *context.events);
            tape.overdub(&mut |reel| events.extend(reel_event(id, channels, reel)));
        }
    }

    /// Keeps nothing of a time, and erases what has been kept of it.
    fn mute(&mut self, time: Range<Timestamp>, context: &mut Context<'_>) {
        if let Some(tape) = &mut self.tape {
            let (id, channels, events) = (tape.id, self.channels, &mut *context.events);
            tape.mute(time, &mut |reel| events.extend(reel_event(id, channels, reel)));
        }
    }

    /// Since when nothing is kept.
    pub(super) fn paused_since(&self) -> Option<Timestamp> {
        self.paused_since
    }

    /// Nothing has been kept yet, nor is to be.
    pub(super) fn begin_paused(&mut self, since: Option<Timestamp>) {
        self.paused_since = since;
    }

    pub(super) fn deadline(&self) -> Timestamp {
        match self.idle_since {
            Some(since) if self.tape.is_some() => since + LATENCY,
            _ => Timestamp::FAR_FUTURE,
        }
    }

    /// What has caused the recording that goes on.
    pub(super) fn recording(&self) -> Option<&'static str> {
        self.segments.last().filter(|segment| segment.end.is_none()).map(|segment| segment.trigger)
    }

    /// Whether nothing is kept until it is resumed.
    pub(super) fn is_paused(&self) -> bool {
        self.paused_since.is_some()
    }

    fn is_recording(&self) -> bool {
        self.recording().is_some()
    }
}

impl Call {
    /// Media has come and no tape runs: begins one if the rule wants it.
    pub(super) fn begin_recording(
        &mut self,
        id: FlowId,
        stream: usize,
        at: Timestamp,
        payload_type: u8,
        context: &mut Context<'_>,
    ) {
        let Some(binding) = context.flows.get(id).binding else { return };
        let key = context.flows.get(id).key;
        let codec = self.descriptions.codec(&key, binding.speaker, payload_type);
        let Some(found) = context.flows.get(id).streams.get(stream) else { return };
        if found.unique() + 1 < MIN_PACKETS || self.is_over() {
            return;
        }
        let is_session = !self.is_conversation();
        let rule = self.decide(Some(&codec), context.flows);
        if !codec.is_decodable() {
            return;
        }
        let (action, beginning) = (rule.action, rule.beginning);
        let begins_recorded = action == Action::All || is_session;
        if !begins_recorded && !rule.keeps_look_back() {
            return;
        }
        let start = match (action, beginning, self.answer) {
            _ if is_session => self.oldest_held(context).unwrap_or(at).min(at),
            (Action::All, Beginning::Answer, Some(answer)) if !self.joined => answer,
            // Of a call that was up before it was seen the answer is past.
            (Action::All, Beginning::Answer, None) if !self.joined && !self.orphan => return,
            _ => self.oldest_held(context).unwrap_or(at).min(at),
        };
        let rate = self.rate(codec.sample_rate(), context);
        self.open_tape(start, rate, context);
        self.note_early_copies(context);
        if begins_recorded {
            let by_itself = if self.orphan { ORPHAN } else { BY_RULE };
            let trigger = self.session.as_ref().map_or(by_itself, |session| session.system);
            let before = Figures::default();
            self.recorder.segments.push(Segment { start, end: None, trigger, before, after: None });
        } else if let Some(tape) = &mut self.recorder.tape {
            tape.keep_history();
        }
    }

    /// Second copies of the packets that wait for the tape have been seen before there was one.
    fn note_early_copies(&mut self, context: &Context<'_>) {
        let Some(tape) = &mut self.recorder.tape else { return };
        for flow in self.flows.iter().map(|&id| context.flows.get(id)) {
            let Some(binding) = flow.binding else { continue };
            let copies: u64 = flow.streams.iter().map(|stream| stream.completeness().duplicate).sum();
            tape.completeness[binding.speaker.channel()].duplicate += copies;
        }
    }

    /// A packet needs a higher rate than the tape has.
    pub(super) fn raise_rate(&mut self, rate: u32, context: &mut Context<'_>) {
        let rate = tape_rate(rate);
        if let Some(tape) = self.recorder.tape.as_mut().filter(|tape| tape.rate < rate) {
            tape.raise(rate);
            context.events.push_back(Event::TapeRate { tape: tape.id, sample_rate: rate });
        }
    }

    /// Somebody asks for a recording, or for its end.
    pub(super) fn request(&mut self, trigger: Trigger, context: &mut Context<'_>) {
        self.is_stirred = true;
        let again = self.triggers.iter_mut().find(|pending| {
            let known = &pending.trigger;
            let (Some(Transaction::Sip(tag, cseq)), Some(Transaction::Sip(known_tag, known_cseq))) =
                (&trigger.transaction, &known.transaction)
            else {
                return false;
            };
            let repeated = (known_tag, known_cseq) == (tag, cseq);
            // With credentials now: it is the same press, which counts from its beginning.
            let retried = pending.challenged && known_tag == tag && known_cseq < cseq;
            known.verb == trigger.verb && (repeated || retried)
        });
        if let Some(pending) = again {
            pending.trigger.transaction = trigger.transaction;
            pending.challenged = false;
            return;
        }
        if trigger.verb == Verb::Resume && self.recorder.paused_since.is_some() {
            // What is said from here on is wanted if the answer is yes, and erased if it is no.
            if let Some(tape) = &mut self.recorder.tape {
                tape.unmute(trigger.at);
            }
        }
        let wanted = trigger.verb == Verb::Start && !self.is_over() && !self.recorder.is_recording();
        if wanted
            && self.decide(None, context.flows).action == Action::OnDemand
            && self.recorder.tape.is_none()
        {
            // Audio is kept from here on, until the answer tells whether it is wanted.
            let rate = self.rate(0, context);
            self.open_tape(trigger.at, rate, context);
            self.recorder.on_demand = true;
        }
        if self.triggers.len() >= MAX_PENDING {
            // No person presses so fast, and no server leaves so much unanswered.
            if let Some(oldest) = self.triggers.front_mut() {
                oldest.outcome.get_or_insert(Outcome::Unconfirmed);
            }
            self.settle_in_order(context);
        }
        self.recorder.idle_since = None;
        let figures = self.recorder.tape.as_ref().map(|tape| tape.figures(trigger.at)).unwrap_or_default();
        let outcome = trigger.transaction.is_none().then_some(Outcome::Confirmed);
        self.triggers.push_back(Pending {
            trigger,
            figures,
            challenged: false,
            outcome,
            words: String::new(),
        });
        self.settle_in_order(context);
    }

    /// Whether it is being recorded, or will be once all that was asked for is answered with yes.
    pub(super) fn will_be_recording(&self) -> bool {
        wished(self.triggers.iter()).unwrap_or(self.recorder.is_recording())
    }

    /// Whether it was being recorded, or would be, when that request outside SIP was made.
    pub(crate) fn was_recording(&self, number: u64) -> bool {
        let numbered = Transaction::Numbered(number);
        let before = self
            .triggers
            .iter()
            .take_while(|pending| pending.trigger.transaction.as_ref() != Some(&numbered));
        wished(before).unwrap_or(self.recorder.is_recording())
    }

    /// Whether nothing of that moment may be kept, or may turn out not to be.
    pub(super) fn is_paused(&self, at: Timestamp) -> bool {
        let asked = self.triggers.iter().any(|pending| pending.trigger.verb == Verb::Pause);
        asked || self.recorder.paused_since.is_some_and(|since| at >= since)
    }

    /// Nothing is kept from then on, until somebody has asked for that already.
    pub(super) fn pause(&mut self, at: Timestamp, context: &mut Context<'_>) {
        self.recorder.paused_since.get_or_insert(at);
        let honoured = self.decide(None, context.flows).on_refused == OnRefused::HonourKey;
        let resumed = self.triggers.iter().find(|pending| {
            let obeyed = honoured || matches!(pending.outcome, None | Some(Outcome::Confirmed));
            pending.trigger.verb == Verb::Resume && obeyed
        });
        let until = resumed.map_or(Timestamp::FAR_FUTURE, |pending| pending.trigger.at);
        self.recorder.mute(at..until, context);
    }

    /// Audio is kept from then on.
    pub(super) fn resume(&mut self, at: Timestamp) {
        if self.recorder.paused_since.take().is_some()
            && let Some(tape) = &mut self.recorder.tape
        {
            tape.unmute(at);
        }
    }

    /// The server has answered a SIP request. Returns whether it was a trigger.
    pub(super) fn answer_trigger(
        &mut self,
        tag: &[u8],
        cseq: u32,
        status: u16,
        context: &mut Context<'_>,
    ) -> bool {
        let transaction = Transaction::Sip(tag.into(), cseq);
        let Some(pending) = self.pending(&transaction) else { return false };
        match status {
            100..=199 => {}
            401 | 407 => pending.challenged = true,
            200..=299 => pending.outcome = Some(Outcome::Confirmed),
            _ => pending.outcome = Some(Outcome::Refused(status)),
        }
        self.settle_in_order(context);
        true
    }

    /// A request outside SIP has been answered; `None` when it turns out to have been no trigger.
    pub(crate) fn answer_numbered(&mut self, number: u64, answer: Option<Answer>, context: &mut Context<'_>) {
        let transaction = Transaction::Numbered(number);
        match answer {
            Some(Answer { outcome, verb, words }) => {
                let Some(pending) = self.pending(&transaction) else { return };
                pending.trigger.verb = verb.unwrap_or(pending.trigger.verb);
                (pending.outcome, pending.words) = (Some(outcome), words);
            }
            None => {
                self.triggers.retain(|pending| pending.trigger.transaction.as_ref() != Some(&transaction));
                self.note_idle(context.now);
            }
        }
        self.settle_in_order(context);
    }

    fn pending(&mut self, transaction: &Transaction) -> Option<&mut Pending> {
        self.triggers.iter_mut().find(|pending| pending.trigger.transaction.as_ref() == Some(transaction))
    }

    /// Those that nobody has answered in time are not confirmed.
    pub(super) fn expire_triggers(&mut self, context: &mut Context<'_>) {
        for pending in &mut self.triggers {
            if context.now.since(pending.trigger.at) >= super::TIMER_F {
                pending.outcome.get_or_insert(Outcome::Unconfirmed);
            }
        }
        self.settle_in_order(context);
    }

    /// The call is over: whoever has not answered will not.
    pub(super) fn give_up_triggers(&mut self, context: &mut Context<'_>) {
        for pending in &mut self.triggers {
            pending.outcome.get_or_insert(Outcome::Unconfirmed);
        }
        self.settle_in_order(context);
    }

    /// What was asked for first takes effect first, whoever is answered first.
    fn settle_in_order(&mut self, context: &mut Context<'_>) {
        while let Some(outcome) = self.triggers.front().and_then(|pending| pending.outcome) {
            if let Some(pending) = self.triggers.pop_front() {
                self.settle(&pending, outcome, context);
            }
        }
    }

    /// What a trigger does now that its outcome is known.
    fn settle(&mut self, pending: &Pending, outcome: Outcome, context: &mut Context<'_>) {
        let trigger = &pending.trigger;
        let rule = self.decide(None, context.flows);
        let (action, look_back) = (rule.action, rule.look_back);
        let obeyed = outcome == Outcome::Confirmed || rule.on_refused == OnRefused::HonourKey;
        let mut text = match outcome {
            _ if !pending.words.is_empty() => pending.words.clone(),
            Outcome::Refused(status) if status > 0 => format!("{status}"),
            _ => trigger.remark.clone(),
        };
        if obeyed && outcome != Outcome::Confirmed {
            text = format!("{text} honoured all the same").trim_start().to_owned();
        }
        let on_demand = action == Action::OnDemand || !self.is_conversation() && action != Action::Ignore;
        if on_demand && obeyed {
            match trigger.verb {
                Verb::Start => self.start_segment(pending, look_back),
                Verb::Stop => self.stop_segment(pending),
                Verb::Pause | Verb::Resume => {}
            }
        }
        match (trigger.verb, obeyed) {
            (Verb::Pause, true) => self.pause(trigger.at, context),
            (Verb::Resume, true) => self.resume(trigger.at),
            // What has been kept since it was asked for.
            (Verb::Resume, false) if self.recorder.paused_since.is_some() => self.pause(trigger.at, context),
            _ => {}
        }
        if obeyed && matches!(trigger.verb, Verb::Pause | Verb::Resume) {
            self.pass_on(trigger);
        }
        self.note_idle(context.now);
        self.tell_trigger(trigger, outcome, text, context);
    }

    /// Notes what has become of a trigger.
    pub(super) fn tell_trigger(
        &self,
        trigger: &Trigger,
        outcome: Outcome,
        text: String,
        context: &mut Context<'_>,
    ) {
        let row = EventRow {
            kind: "trigger",
            trigger: trigger.source,
            verb: trigger.verb.as_str(),
            outcome: outcome.as_str(),
            source: trigger.from,
            destination: trigger.to,
            text,
            ..self.event(trigger.at)
        };
        context.events.push_back(Event::Happened(Box::new(row)));
    }

    fn start_segment(&mut self, pending: &Pending, look_back: LookBack) {
        let trigger = &pending.trigger;
        let too_late = self.end.is_some_and(|end| end.at <= trigger.at);
        if self.recorder.is_recording() || too_late {
            return;
        }
        let Some(tape) = &self.recorder.tape else { return };
        let wanted = match look_back {
            LookBack::For(nanoseconds) => trigger.at - nanoseconds,
            LookBack::CallStart => tape.start,
        };
        // What has been recorded already is not recorded twice.
        let free =
            self.recorder.segments.last().and_then(|segment| segment.end).map_or(tape.start, |(end, _)| end);
        let start = wanted.max(tape.start).max(free);
        let before = if start < trigger.at { tape.figures_at(start) } else { pending.figures };
        self.recorder.segments.push(Segment {
            start,
            end: None,
            trigger: trigger.source,
            before,
            after: None,
        });
    }

    fn stop_segment(&mut self, pending: &Pending) {
        let call_end = self.end.map_or(Timestamp::FAR_FUTURE, |end| end.at);
        let at = pending.trigger.at;
        if at >= call_end {
            return;
        }
        if let Some(segment) = self.recorder.segments.last_mut().filter(|segment| segment.end.is_none()) {
            segment.end = Some((at.max(segment.start), EndReason::Trigger));
            segment.after = Some(pending.figures);
        }
    }

    fn note_idle(&mut self, now: Timestamp) {
        let idle = self.recorder.on_demand && self.triggers.is_empty() && !self.recorder.is_recording();
        self.recorder.idle_since = idle.then_some(now);
    }

    /// Closes a tape that ran for a trigger, once nobody wants it and the audio before its end has come.
    pub(super) fn close_idle_tape(&mut self, context: &mut Context<'_>) {
        if self.recorder.deadline() <= context.now {
            self.drain_streams(false, context);
            let end = context.now;
            self.finish_recording(end, EndReason::Trigger, context);
            self.recorder.on_demand = false;
            self.recorder.idle_since = None;
        }
    }

    /// Ends the tape and names its recordings.
    pub(super) fn finish_recording(&mut self, end: Timestamp, reason: EndReason, context: &mut Context<'_>) {
        let Some(mut tape) = self.recorder.tape.take() else { return };
        let mut segments = std::mem::take(&mut self.recorder.segments);
        for segment in &mut segments {
            segment.end.get_or_insert((end, reason));
        }
        let cuts = self.decide(None, context.flows).paused == Paused::Cut;
        let mut parts = Vec::new();
        for segment in segments {
            let end = segment.end.map_or(0, |(end, _)| tape.frame(end).max(0) as u64);
            let range = tape.frame(segment.start).max(0) as u64..end;
            let left_out = if cuts { tape.paused(&range) } else { Vec::new() };
            // Nothing may be left of it.
            if kept(range.clone(), &left_out).next().is_some() {
                parts.push((segment, range, left_out));
            }
        }
        let last_frame = parts.iter().map(|(_, range, _)| range.end).max();
        let id = tape.id;
        if let Some(last_frame) = last_frame {
            let (channels, events) = (self.recorder.channels, &mut *context.events);
            tape.finish(last_frame, &mut |reel| events.extend(reel_event(id, channels, reel)));
        }
        let count = parts.len();
        for (index, (segment, range, left_out)) in parts.into_iter().enumerate() {
            let row = Box::new(self.recording_row(&tape, &segment, range.clone(), &left_out, context));
            self.note_cuts(&tape, range.start, &left_out, row.id, context);
            self.recordings += 1;
            let last = index + 1 == count;
            context.events.push_back(Event::Recording { tape: id, range, left_out, last, row });
        }
        context.events.push_back(Event::TapeClosed { tape: id });
    }

    /// Says of each time that is left out of a recording where it would be heard.
    fn note_cuts(
        &self,
        tape: &Tape,
        start: u64,
        left_out: &[Range<u64>],
        recording: Id,
        context: &mut Context<'_>,
    ) {
        let seconds = |frames: u64| frames as f64 / f64::from(tape.rate);
        let mut before = 0;
        for out in left_out {
            let (length, place) = (out.end - out.start, out.start - start - before);
            before += length;
            let text =
                format!("{:.3} s, at {:.3} s of recording {recording}", seconds(length), seconds(place));
            let row = EventRow { kind: "cut", text, ..self.event(tape.moment(out.start)) };
            context.events.push_back(Event::Happened(Box::new(row)));
        }
    }

    fn recording_row(
        &mut self,
        tape: &Tape,
        segment: &Segment,
        range: Range<u64>,
        left_out: &[Range<u64>],
        context: &mut Context<'_>,
    ) -> RecordingRow {
        let rule = self.decide(None, context.flows).name.clone();
        let start = tape.moment(range.start);
        let frames = kept(range.clone(), left_out).map(|piece| piece.end - piece.start).sum();
        RecordingRow {
            id: Id::derive(&[&self.id.0, &start.0.to_le_bytes(), segment.trigger.as_bytes()]),
            call: self.id,
            call_id: self.call_id.clone(),
            conversation_id: self.conversation_id.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            start,
            end: tape.moment(range.end),
            sample_rate: tape.rate,
            frames,
            trigger: segment.trigger,
            rule,
            codecs: tape.codecs.clone(),
            end_reason: segment.end.map_or(EndReason::Trigger, |(_, reason)| reason),
            joined: self.joined,
            mixed: self.is_mixed(),
            completeness: tape.report(
                frames,
                &segment.before,
                &segment.after.unwrap_or_else(|| tape.figures(context.now)),
            ),
        }
    }

    fn open_tape(&mut self, start: Timestamp, rate: u32, context: &mut Context<'_>) {
        let id = TapeId(*context.next_tape);
        *context.next_tape += 1;
        let channels = if self.is_mixed() { 1 } else { 2 };
        (self.recorder.tape, self.recorder.channels) = (Some(Tape::new(id, start, rate)), channels);
        context.events.push_back(Event::TapeOpened { tape: id, channels, sample_rate: rate });
        if let Some(since) = self.recorder.paused_since {
            self.recorder.mute(since..Timestamp::FAR_FUTURE, context);
        }
    }

    /// The rate for a tape: that of the stream at hand, of what other streams hold, and of what was agreed on.
    fn rate(&self, heard: u32, context: &Context<'_>) -> u32 {
        let mut rate = heard;
        for &id in &self.flows {
            let flow = context.flows.get(id);
            let Some(binding) = flow.binding else { continue };
            let codec = |payload_type: u8| self.descriptions.codec(&flow.key, binding.speaker, payload_type);
            let upcoming = flow.streams.iter().filter_map(|stream| {
                stream.current_rate().into_iter().chain(stream.upcoming_rate(&codec)).max()
            });
            rate = rate.max(upcoming.max().unwrap_or(0));
        }
        if rate == 0 { self.descriptions.preferred_rate().unwrap_or(8000) } else { tape_rate(rate) }
    }

    fn oldest_held(&self, context: &Context<'_>) -> Option<Timestamp> {
        let streams = self.flows.iter().flat_map(|&id| &context.flows.get(id).streams);
        streams.filter_map(|stream| stream.oldest_held()).min()
    }
}

/// Whether those triggers, once they are all answered with yes, begin or end a recording.
fn wished<'a>(triggers: impl Iterator<Item = &'a Pending>) -> Option<bool> {
    triggers.fold(None, |wished, pending| match pending.trigger.verb {
        Verb::Start => Some(true),
        Verb::Stop => Some(false),
        Verb::Pause | Verb::Resume => wished,
    })
}

/// The rate of a tape for audio of that rate: its blocks must hold a whole number of frames.
fn tape_rate(rate: u32) -> u32 {
    const WHOLE: [u32; 4] = [8000, 16_000, 32_000, 48_000];
    if rate.is_multiple_of(4) {
        rate
    } else {
        WHOLE.into_iter().find(|&whole| whole > rate).unwrap_or(48_000)
    }
}

/// Of what has one channel, only the caller's is kept: the phone that has mixed the voices is the caller.
fn reel_event(tape: TapeId, channels: u16, reel: Reel) -> Option<Event> {
    Some(match reel {
        Reel::Samples(samples) if channels == 1 => {
            Event::TapeSamples { tape, samples: samples.into_iter().step_by(2).collect() }
        }
        Reel::Samples(samples) => Event::TapeSamples { tape, samples },
        Reel::Erase(range) => Event::TapeErase { tape, range },
        Reel::Silence(frames) => Event::TapeSilence { tape, frames },
        Reel::Overdub { side, .. } if channels == 1 && side != Side::Caller => return None,
        Reel::Overdub { frame, side, samples } => Event::TapeOverdub { tape, frame, side, samples },
    })
}
