//! From audio and triggers to recordings.
//!
//! A call's audio runs on a tape from the moment it may be wanted; recordings are parts of it. A trigger
//! counts from the moment it was asked for, although the answer comes later: so a tape runs from the
//! request on, and is thrown away when the answer is no.

use std::ops::Range;

use super::triggers::Pending;
use super::{Call, Context};
use crate::codec::Codec;
use crate::event::{Event, Part, kept};
use crate::fetch::fetch;
use crate::few;
use crate::media::{Figures, FlowId, Reel, Tape, TapeId};
use crate::record::{EndReason, EventRow, Id, RecordingRow, Side};
use crate::rtp::MIN_PACKETS;
use crate::rules::{Action, Beginning, Config, LookBack, Paused};
use crate::time::{MILLISECOND, Timestamp};

/// The trigger of what is recorded by rule.
const BY_RULE: &str = "rule";
/// The trigger of what is recorded because nothing else is known of it.
const ORPHAN: &str = "orphan";

/// A tape that nobody wants any more goes on for so long: longer than a stream waits for packets that are out of order, so that
/// what was said before its end has come.
const TAIL: i64 = 350 * MILLISECOND;
/// Pauses of one call that are remembered until it has a tape.
const MOST_PAST_PAUSES: usize = 16;
/// Recordings of one call. When there are more, the last one goes on: nothing is lost.
const MAX_SEGMENTS: usize = 1024;

/// A part of the tape that is to be a recording.
pub(super) struct Segment {
    start: Timestamp,
    end: Option<(Timestamp, EndReason)>,
    trigger: &'static str,
    /// Figures of the tape when it began and when it ended.
    before: Figures,
    after: Option<Figures>,
}

/// What is being recorded of a call.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) tape: Option<Tape>,
    /// Of the tape.
    channels: u16,
    pub(super) segments: Vec<Segment>,
    /// The tape runs for a trigger alone: nothing before or after is wanted.
    pub(super) on_demand: bool,
    /// The tape may be closed then.
    pub(super) idle_since: Option<Timestamp>,
    /// Nothing is kept since then.
    pub(super) paused_since: Option<Timestamp>,
    /// When nothing was to be kept before there was a tape: packets of then may still wait for one.
    past_pauses: Vec<Range<Timestamp>>,
    /// What is to be kept of the tape has changed since it was told.
    untold: bool,
    /// It would be recorded, were any audio kept.
    unheard: bool,
}

impl Recorder {
    pub(super) fn fetch(&self) {
        fetch(self);
        if let Some(tape) = &self.tape {
            tape.fetch();
        }
    }

    /// Writes what is past. Returns whether anything was.
    fn advance(&mut self, context: &mut Context<'_>) -> bool {
        let Some(tape) = &mut self.tape else { return false };
        let (id, channels, events) = (tape.id, self.channels, &mut *context.events);
        tape.advance(context.now, &mut |reel| events.extend(reel_event(id, channels, reel)))
    }

    /// Hands over what came after its place had been written.
    pub(super) fn overdub(&mut self, context: &mut Context<'_>) {
        if let Some(tape) = self.tape.as_mut().filter(|tape| tape.has_overdubs()) {
            let (id, channels, events) = (tape.id, self.channels, &mut *context.events);
            tape.overdub(&mut |reel| events.extend(reel_event(id, channels, reel)));
        }
    }

    /// Keeps nothing of a time, and erases what has been kept of it.
    pub(super) fn mute(&mut self, time: Range<Timestamp>, context: &mut Context<'_>) {
        if let Some(tape) = &mut self.tape {
            let (id, channels, events) = (tape.id, self.channels, &mut *context.events);
            tape.mute(time, &mut |reel| events.extend(reel_event(id, channels, reel)));
            self.untold = true;
        }
    }

    /// Audio is kept again from then on.
    pub(super) fn resume(&mut self, at: Timestamp) {
        let Some(since) = self.paused_since.take() else { return };
        match &mut self.tape {
            Some(tape) => tape.unmute(at),
            None if self.past_pauses.len() < MOST_PAST_PAUSES => {
                few::push(&mut self.past_pauses, since..at.max(since));
            }
            // No person presses so often before anything is heard.
            None => self
                .past_pauses
                .iter_mut()
                .skip(MOST_PAST_PAUSES - 1)
                .for_each(|last| last.end = last.end.max(at)),
        }
    }

    /// Whether what a side says has a place in the recording: of what has one channel, only the caller's does.
    pub(super) fn keeps(&self, side: Side) -> bool {
        self.channels != 1 || side == Side::Caller
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
            Some(since) if self.tape.is_some() => since + TAIL,
            _ => Timestamp::FAR_FUTURE,
        }
    }

    /// Bytes that its recordings take until they are told, about.
    pub(super) fn memory(&self) -> usize {
        self.segments.len() * size_of::<Segment>()
    }

    /// What has caused the recording that goes on.
    pub(super) fn recording(&self) -> Option<&'static str> {
        self.segments.last().filter(|segment| segment.end.is_none()).map(|segment| segment.trigger)
    }

    /// Whether nothing is kept until it is resumed.
    pub(super) fn is_paused(&self) -> bool {
        self.paused_since.is_some()
    }

    pub(super) fn is_recording(&self) -> bool {
        self.recording().is_some()
    }

    /// Whether it is recorded, or would be, were any audio kept.
    pub(super) fn is_on(&self) -> bool {
        self.is_recording() || self.unheard
    }
}

impl Call {
    /// Whether media that comes may begin a tape, or only tells by which rule: where no audio is kept, once.
    pub(super) fn awaits_tape(&self, config: &Config) -> bool {
        self.recorder.tape.is_none() && (self.keeps_audio(config) || self.rule.is_none())
    }

    /// Media has come and no tape runs: begins one if the rule wants it.
    pub(super) fn begin_recording(
        &mut self,
        id: FlowId,
        stream: usize,
        at: Timestamp,
        codec: &Codec,
        context: &mut Context<'_>,
    ) {
        let Some(found) = context.flows.get(id).streams.get(stream) else { return };
        if found.unique() + 1 < MIN_PACKETS || self.is_over() {
            return;
        }
        let flow = context.flows.get(id);
        let speaker = flow.binding.map(|binding| binding.speaker);
        let is_audio = speaker.is_some_and(|speaker| self.descriptions.is_audio(&flow.key, speaker, codec));
        let (is_session, is_orphan) = (!self.is_conversation(), self.orphan);
        let rule = self.decide(Some(codec), context.flows);
        // Of what nobody speaks of and what no payload type tells, it could be anything.
        if !is_audio || is_orphan && codec.clock == 0 {
            return;
        }
        let (action, beginning) = (rule.action, rule.beginning);
        let begins_recorded = action == Action::All || is_session;
        if !begins_recorded && !rule.keeps_look_back() {
            return;
        }
        if !self.keeps_audio(context.config) {
            self.recorder.unheard = begins_recorded;
            return;
        }
        let start = match (action, beginning, self.answer) {
            _ if is_session => self.oldest_held(context).unwrap_or(at).min(at),
            (Action::All, Beginning::Answer, Some(answer)) if !self.joined => answer,
            // Of a call that was up before it was seen the answer is past.
            (Action::All, Beginning::Answer, None) if !self.joined && !self.orphan => return,
            _ => self.oldest_held(context).unwrap_or(at).min(at),
        };
        let start = self.resumed.map_or(start, |resumed| start.max(resumed));
        let rate = self.rate(codec.recorded_rate(), context);
        self.open_tape(start, rate, context);
        self.note_early_copies(context);
        if begins_recorded {
            let by_itself = if self.orphan { ORPHAN } else { BY_RULE };
            let trigger = self.session.as_ref().map_or(by_itself, |session| session.system);
            let before = Figures::default();
            few::push(
                &mut self.recorder.segments,
                Segment { start, end: None, trigger, before, after: None },
            );
            self.recorder.untold = true;
        } else if let Some(tape) = &mut self.recorder.tape {
            tape.keep_history();
        }
    }

    /// Writes what is past, and says what is to be kept of it should nothing else be said.
    pub(super) fn write(&mut self, context: &mut Context<'_>) {
        if self.recorder.advance(context) && std::mem::take(&mut self.recorder.untold) {
            self.tell_kept(context);
        }
    }

    fn tell_kept(&mut self, context: &mut Context<'_>) {
        if self.recorder.segments.is_empty() {
            return;
        }
        let Some(tape) = self.recorder.tape.take() else { return };
        let segments = std::mem::take(&mut self.recorder.segments);
        let cuts = self.decide(None, context.flows).paused == Paused::Cut;
        let mut parts = Vec::new();
        for segment in &segments {
            let start = tape.frame(segment.start).max(0) as u64;
            let end = segment.end.map_or(Part::OPEN, |(end, _)| tape.frame(end).max(0) as u64);
            let range = start..end;
            let left_out = if cuts { tape.paused(&range) } else { Vec::new() };
            let known = if end == Part::OPEN { start..start } else { range.clone() };
            let row = self.recording_row(&tape, segment, known, &left_out, context);
            parts.push(Part { range, left_out, row });
        }
        context.events.push_back(Event::TapeKept { tape: tape.id, parts });
        (self.recorder.tape, self.recorder.segments) = (Some(tape), segments);
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
            self.recorder.untold = true;
        }
    }

    pub(super) fn start_segment(&mut self, pending: &Pending, look_back: LookBack, keeps_audio: bool) {
        let trigger = &pending.trigger;
        let too_late = self.end.is_some_and(|end| end.at <= trigger.at);
        if self.recorder.is_recording() || too_late {
            return;
        }
        let Some(tape) = &self.recorder.tape else {
            self.recorder.unheard = !keeps_audio;
            return;
        };
        let wanted = match look_back {
            LookBack::For(nanoseconds) => trigger.at - nanoseconds,
            LookBack::CallStart => tape.start,
        };
        // What has been recorded already is not recorded twice.
        let free =
            self.recorder.segments.last().and_then(|segment| segment.end).map_or(tape.start, |(end, _)| end);
        let start = wanted.max(tape.start).max(free);
        let before = if start < trigger.at { tape.figures_at(start) } else { pending.figures };
        few::push(
            &mut self.recorder.segments,
            Segment { start, end: None, trigger: trigger.source, before, after: None },
        );
        self.recorder.untold = true;
    }

    pub(super) fn stop_segment(&mut self, pending: &Pending) {
        let call_end = self.end.map_or(Timestamp::FAR_FUTURE, |end| end.at);
        let at = pending.trigger.at;
        if at >= call_end || self.recorder.segments.len() >= MAX_SEGMENTS {
            return;
        }
        self.recorder.unheard = false;
        if let Some(segment) = self.recorder.segments.last_mut().filter(|segment| segment.end.is_none()) {
            segment.end = Some((at.max(segment.start), EndReason::Trigger));
            segment.after = Some(pending.figures);
            self.recorder.untold = true;
        }
    }

    pub(super) fn note_idle(&mut self, now: Timestamp) {
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
        let mut recordings = Vec::new();
        for (segment, range, left_out) in parts {
            let row = self.recording_row(&tape, &segment, range.clone(), &left_out, context);
            self.note_cuts(&tape, range.start, &left_out, row.id, context);
            self.recordings += 1;
            recordings.push(Part { range, left_out, row });
        }
        if !recordings.is_empty() {
            context.events.push_back(Event::TapeKept { tape: id, parts: recordings.clone() });
        }
        let count = recordings.len();
        for (index, Part { range, left_out, row }) in recordings.into_iter().enumerate() {
            let (last, row) = (index + 1 == count, Box::new(row));
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
            trigger: segment.trigger.into(),
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

    /// Goes on with a call that an earlier engine has followed, whose media nobody has seen since: what was on a tape
    /// is that engine's.
    pub(super) fn resume_at(&mut self, at: Timestamp, context: &mut Context<'_>) {
        self.resumed = Some(at);
        let Some(tape) = self.recorder.tape.take() else { return };
        context.events.push_back(Event::TapeClosed { tape: tape.id });
        let goes_on = self.recorder.segments.pop().filter(|segment| segment.end.is_none());
        self.recorder.segments.clear();
        self.open_tape(at, tape.rate, context);
        if let Some(segment) = goes_on {
            let before = Figures::default();
            self.recorder.segments.push(Segment { start: at, before, ..segment });
            self.recorder.untold = true;
        }
    }

    pub(super) fn open_tape(&mut self, start: Timestamp, rate: u32, context: &mut Context<'_>) {
        let id = TapeId(*context.next_tape);
        *context.next_tape += context.config.share.step();
        let channels = if self.is_mixed() { 1 } else { 2 };
        (self.recorder.tape, self.recorder.channels) = (Some(Tape::new(id, start, rate)), channels);
        let rule = (self.rule.unwrap_or(0), self.rules.iter().count());
        context.events.push_back(Event::TapeOpened { tape: id, channels, sample_rate: rate, rule });
        for time in std::mem::take(&mut self.recorder.past_pauses) {
            self.recorder.mute(time, context);
        }
        if let Some(since) = self.recorder.paused_since {
            let until = self.asked_to_resume(context).unwrap_or(Timestamp::FAR_FUTURE);
            self.recorder.mute(since..until, context);
        }
    }

    /// The rate for a tape: that of the stream at hand, of what other streams hold, and of what was agreed on.
    pub(super) fn rate(&self, heard: u32, context: &Context<'_>) -> u32 {
        let mut rate = heard;
        for &id in &self.flows {
            let flow = context.flows.get(id);
            let Some(binding) = flow.binding else { continue };
            let codec = |payload_type, payload: &[u8]| {
                self.descriptions.carried(&flow.key, binding.speaker, payload_type, payload)
            };
            let upcoming = flow.streams.iter().filter_map(|stream| {
                stream.current_rate().into_iter().chain(stream.upcoming_rate(&codec)).max()
            });
            rate = rate.max(upcoming.max().unwrap_or(0));
        }
        if rate == 0 { self.descriptions.preferred_rate().unwrap_or(8000) } else { tape_rate(rate) }
    }

    fn oldest_held(&self, context: &Context<'_>) -> Option<Timestamp> {
        let flows = self.flows.iter().map(|&id| context.flows.get(id));
        let streams =
            flows.flat_map(|flow| flow.streams.iter().filter(|stream| self.is_credible(flow, stream)));
        streams.filter_map(|stream| stream.oldest_held()).min()
    }
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
        Reel::Samples(mut samples) if channels == 1 => {
            samples.truncate(samples.len() / 2);
            Event::TapeSamples { tape, samples }
        }
        Reel::Samples(samples) => Event::TapeSamples { tape, samples },
        Reel::Erase(range) => Event::TapeErase { tape, range },
        Reel::Silence(frames) => Event::TapeSilence { tape, frames },
        Reel::Overdub { side, .. } if channels == 1 && side != Side::Caller => return None,
        Reel::Overdub { frame, side, samples } => Event::TapeOverdub { tape, frame, side, samples },
    })
}
