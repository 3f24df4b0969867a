//! Calls: from the first INVITE to the last packet.

mod description;
mod dialog;
mod directory;
mod floor;
mod keys;
mod lookup;
mod operator;
mod record_server;
mod recording;
mod report;
mod session;
mod table;
mod triggers;

use std::collections::VecDeque;
use std::net::IpAddr;

use description::Descriptions;
use directory::Names;
use floor::Floor;
use recording::Recorder;
use session::{Passed, Session};
pub use table::Calls;
use triggers::Pending;

use crate::codec::Codec;
use crate::event::Event;
use crate::media::{Binding, BoundBy, CallKey, Flow, FlowId, Flows};
use crate::record::{EndReason, EventRow, Id, Party, Side};
use crate::rtp::{Note, Packet, Playout, Stream};
use crate::rules::{Action, Config, Facts, Rule, Rules};
use crate::time::{SECOND, Timestamp};
use crate::trigger::feature_code::{Keys, Way};
use crate::wire::{Endpoint, FlowKey};

/// A call that is over is kept so long, for late packets and retransmissions.
const LINGER: i64 = 4 * SECOND;
/// One whose INVITE was rejected may be tried again, or answered by another branch of a fork.
const LINGER_REJECTED: i64 = 32 * SECOND;
/// One that was asked for a password may wait for a person to type it.
const LINGER_CHALLENGED: i64 = 120 * SECOND;
/// Media that goes on after the end is waited out, but not for longer.
const LINGER_MEDIA: i64 = 64 * SECOND;
/// Such a time without packets means that media has stopped.
const MEDIA_STOPPED: i64 = 2 * SECOND;
/// RFC 3261, timer F: a request without an answer after this time will have none.
const TIMER_F: i64 = 32 * SECOND;
/// When both sides have been silent for so long, without hold or signalling, and other streams begin on the
/// same ports, then those are another call's, of which nothing else was seen.
const SILENT_BEFORE_TAKEOVER: i64 = 5 * SECOND;
/// A stream must have so many packets before a recording is begun for it.
const MIN_PACKETS: u64 = 3;
/// After this time what a stream held when it was bound is let go.
const HELD_TOGETHER: i64 = SECOND / 4;
/// Messages by which retransmissions are known.
const SEEN: usize = 64;

/// What a call needs of the rest of the engine.
pub struct Context<'a> {
    /// Present.
    pub now: Timestamp,
    /// Settings.
    pub config: &'a Config,
    /// Media flows.
    pub flows: &'a mut Flows,
    /// What comes out.
    pub events: &'a mut VecDeque<Event>,
    /// Number of the next tape.
    pub next_tape: &'a mut u64,
    /// Kept for its memory.
    pub scratch: &'a mut Vec<i16>,
}

/// How a call came to its end, or seems to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    at: Timestamp,
    reason: EndReason,
    linger: i64,
}

/// One call. A Call-ID that is used again later is another one.
pub struct Call {
    key: CallKey,
    id: Id,
    /// Call-ID as it was on the wire.
    raw_call_id: Box<[u8]>,
    call_id: String,
    conversation_id: String,
    caller_tags: Vec<Box<[u8]>>,
    callee_tags: Vec<Box<[u8]>>,
    from: Party,
    to: Party,
    start: Timestamp,
    joined: bool,
    orphan: bool,
    answer: Option<Timestamp>,
    status: u16,
    /// CSeq of the latest INVITE without To tag.
    invite: u32,
    /// The first INVITE seen was within the dialog: what answers it is no answer to the call.
    in_dialog: bool,
    cancelled: Option<Timestamp>,
    end: Option<End>,
    descriptions: Descriptions,
    triggers: VecDeque<Pending>,
    /// Keys that caller and callee have pressed.
    keys: [Keys; 2],
    /// The rules under which it began.
    rules: Rules,
    rule: Option<usize>,
    recorder: Recorder,
    flows: Vec<FlowId>,
    /// It is no conversation, but records one.
    session: Option<Box<Session>>,
    /// The sessions that record it.
    recorded_by: Vec<CallKey>,
    /// What they, or the one that it records, are to know.
    passed: Vec<Passed>,
    /// Something has happened for which its timers must be looked at.
    is_stirred: bool,
    /// Where its stream is received, when no description says so.
    receives_at: Option<Endpoint>,
    /// Between which hosts its first INVITE was seen first.
    invited: Option<(u128, u128)>,
    /// By what it can be found.
    names: Names,
    /// Since when it goes on, and nobody holds it.
    active_since: Timestamp,
    /// Who is heard, on either side.
    floors: [Floor; 2],
    /// Media addresses of branches of a fork that were not chosen.
    void: Vec<Endpoint>,
    /// Last packet of a stream that belongs to the call.
    last_media: Option<Timestamp>,
    last_signal: Timestamp,
    seen: VecDeque<u64>,
    messages: u32,
    retransmissions: u32,
    streams: u32,
    recordings: u32,
    /// An earlier engine has recorded it until then.
    resumed: Option<Timestamp>,
    undecodable: Vec<String>,
    notes: Vec<(Timestamp, Note)>,
    /// When to let go what streams hold.
    drain_at: Timestamp,
    /// When to look after it next, as the table knows it.
    deadline: Timestamp,
}

impl Call {
    fn new(key: CallKey, call_id: &[u8], tag: &[u8], context: &Context<'_>) -> Call {
        let now = context.now;
        let id = Id::derive(&[call_id, tag, &now.0.to_le_bytes()]);
        Call {
            key,
            id,
            raw_call_id: call_id.into(),
            call_id: String::from_utf8_lossy(call_id).into_owned(),
            conversation_id: id.to_string(),
            caller_tags: Vec::new(),
            callee_tags: Vec::new(),
            from: Party::default(),
            to: Party::default(),
            start: now,
            joined: false,
            orphan: false,
            answer: None,
            status: 0,
            invite: 0,
            in_dialog: false,
            cancelled: None,
            end: None,
            descriptions: Descriptions::default(),
            triggers: VecDeque::new(),
            keys: Default::default(),
            rules: context.config.rules.clone(),
            rule: None,
            recorder: Recorder::default(),
            flows: Vec::new(),
            session: None,
            recorded_by: Vec::new(),
            passed: Vec::new(),
            is_stirred: false,
            receives_at: None,
            invited: None,
            names: Names::default(),
            active_since: now,
            floors: Default::default(),
            void: Vec::new(),
            last_media: None,
            last_signal: now,
            seen: VecDeque::new(),
            messages: 0,
            retransmissions: 0,
            streams: 0,
            recordings: 0,
            resumed: None,
            undecodable: Vec::new(),
            notes: Vec::new(),
            drain_at: Timestamp::FAR_FUTURE,
            deadline: Timestamp::FAR_FUTURE,
        }
    }

    /// A call made of RTP alone: whoever sends first is called the caller.
    fn orphan(key: CallKey, flow: &FlowKey, ssrc: u32, context: &Context<'_>) -> Call {
        let name = format!("{}-{}", flow.source.socket(), flow.destination.socket());
        let mut call = Call::new(key, b"", format!("{name}-{ssrc:08x}").as_bytes(), context);
        let party =
            |address: IpAddr| Party { user: address.to_string(), address: Some(address), ..Party::default() };
        call.from = party(flow.source.address());
        call.to = party(flow.destination.address());
        call.orphan = true;
        call
    }

    /// Whether the call was made up from RTP alone.
    pub fn is_orphan(&self) -> bool {
        self.orphan
    }

    /// Whether `side` has said where it receives.
    pub fn has_side(&self, side: Side) -> bool {
        self.orphan || self.descriptions.has_side(side)
    }

    /// Whether the call has ended, though it may still be kept for a while.
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Whether it must be [rescheduled](Calls::reschedule).
    pub fn is_stirred(&self) -> bool {
        self.is_stirred
    }

    /// Whether it has been answered and goes on.
    fn is_answered(&self) -> bool {
        (self.answer.is_some() || self.joined) && !self.is_over()
    }

    /// Whether it can be found by that.
    fn has_name(&self, name: &directory::Whom) -> bool {
        self.names.has(name)
    }

    /// How likely it is the one that somebody means who has several: the greater the likelier.
    fn prominence(&self, now: Timestamp) -> impl Ord + use<> {
        let is_up = self.answer.is_some() || self.joined || self.orphan;
        let is_heard = self.last_media.is_some_and(|last| now.since(last) < MEDIA_STOPPED);
        (
            !self.is_over(),
            is_up,
            !self.descriptions.is_held(),
            is_heard,
            self.active_since,
            self.key.generation,
        )
    }

    /// The earliest moment whose media can be of this call.
    pub fn earliest_media(&self) -> Timestamp {
        if self.joined || self.orphan { Timestamp(i64::MIN) } else { self.start }
    }

    /// Whether packets that begin a new stream at `now` are more likely another call's.
    pub fn is_abandoned(&self, now: Timestamp) -> bool {
        // Of one that is not recorded, media is not looked at.
        let media = self.last_media.filter(|_| !self.is_ignored());
        media.is_some_and(|last| {
            now.since(last) > SILENT_BEFORE_TAKEOVER
                && self.last_signal < last
                && !self.descriptions.is_held()
        })
    }

    /// Two streams that go to and fro between the same hosts are not both of one side, whatever a description
    /// seen on another hop makes of their ports: the second is the other side's.
    pub fn tell_apart(&self, flow: &FlowKey, binding: Binding, flows: &Flows) -> Binding {
        let bound = || self.flows.iter().map(|&id| flows.get(id));
        let side = |flow: &Flow| flow.binding.map(|binding| binding.speaker);
        let opposite = |other: &Flow| {
            other.key.source.ip == flow.destination.ip
                && other.key.destination.ip == flow.source.ip
                && side(other) == Some(binding.speaker)
        };
        let other_is_free = !bound().any(|other| side(other) == Some(binding.speaker.other()));
        if binding.by != BoundBy::Both && other_is_free && bound().any(opposite) {
            return Binding { speaker: binding.speaker.other(), ..binding };
        }
        binding
    }

    /// A flow has been bound to this call.
    pub fn adopt(&mut self, flow: FlowId) {
        if !self.flows.contains(&flow) {
            self.flows.push(flow);
        }
    }

    /// A flow is bound to another call from now on.
    pub fn release(&mut self, flow: FlowId) {
        self.flows.retain(|&other| other != flow);
    }

    /// Media that belongs to the call.
    pub fn receive(
        &mut self,
        id: FlowId,
        binding: &Binding,
        stream: usize,
        packet: &Packet<'_>,
        context: &mut Context<'_>,
    ) {
        if self.is_ignored() {
            return;
        }
        self.is_stirred |= self.last_media.is_none();
        self.last_media = Some(self.last_media.map_or(packet.at, |last| last.max(packet.at)));
        if self.recorder.tape.is_none() {
            self.begin_recording(id, stream, packet.at, packet.payload_type, context);
        }
        self.take_floor(id, binding.speaker, stream, packet, context);
        self.with_stream(id, binding.speaker, stream, context, |stream, out| stream.receive(packet, out));
        let rate = context.flows.get(id).streams.get(stream).and_then(Stream::current_rate);
        if let Some(rate) = rate {
            self.raise_rate(rate, context);
        }
        if self.recorder.tape.as_ref().is_some_and(|tape| tape.is_due(context.now)) {
            self.wind(context);
        }
    }

    /// A flow has been bound to the call whose streams hold packets already: they are the call's.
    pub fn receive_held(&mut self, id: FlowId, context: &mut Context<'_>) {
        if self.is_ignored() {
            return;
        }
        for index in 0..context.flows.get(id).streams.len() {
            let stream = &context.flows.get(id).streams[index];
            let (last, Some((at, payload_type))) = (stream.last, stream.first_held()) else { continue };
            self.last_media = Some(self.last_media.map_or(last, |media| media.max(last)));
            // What was up before it was heard of began with its media.
            self.start = self.start.min(at);
            if self.recorder.tape.is_none() {
                self.begin_recording(id, index, at, payload_type, context);
            }
            if let Some(speaker) = context.flows.get(id).binding.map(|binding| binding.speaker) {
                self.offer_floor(id, speaker, index, payload_type, context);
            }
            // There may be no further packet to push these on.
            self.drain_at = context.now + HELD_TOGETHER;
        }
    }

    /// Gives a stream all it needs to be heard.
    fn with_stream(
        &mut self,
        id: FlowId,
        speaker: Side,
        stream: usize,
        context: &mut Context<'_>,
        run: impl FnOnce(&mut Stream, &mut Playout<'_>),
    ) {
        let flow = context.flows.get_mut(id);
        let (key, descriptions) = (flow.key, &self.descriptions);
        let Some(stream) = flow.streams.get_mut(stream) else { return };
        let codec = |payload_type: u8| descriptions.codec(&key, speaker, payload_type);
        let heard = self.floors[speaker.channel()].is_held_by(id, stream.ssrc);
        let tape = self.recorder.tape.as_mut().filter(|_| heard);
        let until = self.end.map_or(Timestamp::FAR_FUTURE, |end| end.at);
        let mut out = Playout {
            tape,
            until,
            side: speaker,
            codec: &codec,
            notes: &mut self.notes,
            scratch: context.scratch,
        };
        run(stream, &mut out);
        self.recorder.overdub(context);
        if !self.notes.is_empty() {
            self.tell_notes(&key, speaker, context);
        }
    }

    /// Lets go what streams hold back for too long, then writes what is past.
    fn wind(&mut self, context: &mut Context<'_>) {
        self.drain_streams(false, context);
        self.write(context);
    }

    fn drain_streams(&mut self, all: bool, context: &mut Context<'_>) {
        let now = context.now;
        for index in 0..self.flows.len() {
            let id = self.flows[index];
            let flow = context.flows.get(id);
            let Some(speaker) = flow.binding.map(|binding| binding.speaker) else { continue };
            for stream in 0..flow.streams.len() {
                if context.flows.get(id).streams[stream].is_holding() {
                    if all {
                        self.inherit_floor(id, speaker, stream, context);
                    }
                    self.with_stream(id, speaker, stream, context, |stream, out| stream.drain(now, all, out));
                }
            }
        }
    }

    fn tell_notes(&mut self, key: &FlowKey, speaker: Side, context: &mut Context<'_>) {
        for (at, note) in std::mem::take(&mut self.notes) {
            let side = speaker.as_str();
            let (kind, text) = match note {
                Note::Key(pressed) => {
                    self.press(pressed, Way::Rtp, speaker, key, at, context);
                    continue;
                }
                Note::Codec { from, to } => ("codec", format!("{from} -> {to} ({side})")),
                Note::Loss(packets) => ("loss", format!("{packets} packets in a row ({side})")),
            };
            self.tell(at, kind, text, context);
        }
    }

    fn tell(&self, at: Timestamp, kind: &'static str, text: String, context: &mut Context<'_>) {
        let row = EventRow { kind, text, ..self.event(at) };
        context.events.push_back(Event::Happened(Box::new(row)));
    }

    /// Something that has happened to it from outside.
    pub fn note(&self, at: Timestamp, kind: &'static str, text: &str) -> EventRow {
        EventRow { kind, text: text.to_owned(), ..self.event(at) }
    }

    fn event(&self, at: Timestamp) -> EventRow {
        EventRow {
            call: self.id,
            call_id: self.call_id.clone(),
            at,
            kind: "",
            trigger: "",
            verb: "",
            outcome: "",
            source: None,
            destination: None,
            text: String::new(),
        }
    }

    /// The rule that decides what is recorded; found once, when it is first needed.
    fn decide(&mut self, heard: Option<&Codec>, flows: &mut Flows) -> &Rule {
        if let Some(rule) = self.rule {
            return self.rules.get(rule);
        }
        let mut addresses: Vec<IpAddr> = self.descriptions.addresses();
        addresses.extend([self.from.address, self.to.address].into_iter().flatten());
        let mut codecs = self.descriptions.codec_names();
        codecs.extend(heard.map(Codec::to_string));
        let facts = Facts {
            call_id: &self.call_id,
            start: self.start,
            from: &self.from.user,
            to: &self.to.user,
            addresses: &addresses,
            codecs: &codecs,
        };
        let index = self.rules.decide(&facts);
        self.rule = Some(index);
        if self.is_ignored() {
            self.descriptions.endpoints().into_iter().for_each(|endpoint| flows.reconsider(endpoint));
        }
        self.rules.get(index)
    }

    /// Whether it has been decided that nothing of the call is recorded. Its media is not looked at then: live,
    /// it does not come here at all.
    pub fn is_ignored(&self) -> bool {
        self.rule.is_some_and(|rule| self.rules.get(rule).action == Action::Ignore)
    }

    /// Whether its media is wanted; `None` for one that no signalling speaks of.
    pub fn wants_media(&self) -> Option<bool> {
        (!self.orphan).then(|| !self.is_ignored())
    }

    /// When to look after this call next.
    fn next_deadline(&self, config: &Config) -> Timestamp {
        let media = self.last_media.filter(|_| !self.is_ignored());
        let last_life = media.map_or(self.last_signal, |media| media.max(self.last_signal));
        let life = match (&self.end, media) {
            (Some(end), media) => {
                let quiet = media.map_or(end.at, |media| media + MEDIA_STOPPED);
                (end.at + end.linger).max(quiet.min(end.at + LINGER_MEDIA))
            }
            (None, _) if self.cancelled.is_some() && self.answer.is_none() => {
                self.cancelled.map_or(last_life, |at| at + TIMER_F)
            }
            (None, Some(_)) if self.descriptions.is_held() => last_life + config.hold_timeout,
            (None, Some(_)) => last_life + config.rtp_timeout,
            (None, None) if self.answer.is_some() || self.joined => last_life + config.idle_timeout,
            (None, None) => last_life + config.ring_timeout,
        };
        let answer = self.triggers.iter().map(|pending| pending.trigger.at + TIMER_F).min();
        life.min(answer.unwrap_or(Timestamp::FAR_FUTURE)).min(self.recorder.deadline()).min(self.drain_at)
    }

    /// Does what is due. Returns whether the call is done with.
    fn handle_timeout(&mut self, context: &mut Context<'_>) -> bool {
        let now = context.now;
        self.expire_triggers(context);
        self.close_idle_tape(context);
        if self.drain_at <= now {
            self.drain_at = Timestamp::FAR_FUTURE;
            self.wind(context);
        }
        let cancelled = self.cancelled.filter(|&at| self.answer.is_none() && at + TIMER_F <= now);
        if let (None, Some(at)) = (self.end, cancelled) {
            // The 487 was not seen.
            self.end = Some(End { at, reason: EndReason::Cancelled, linger: 0 });
        }
        if self.end.is_none() && self.next_deadline(context.config) <= now {
            let reason =
                if self.last_media.is_some() { EndReason::RtpTimeout } else { EndReason::SignallingTimeout };
            self.end_at_last_media(reason, context);
        }
        self.end.is_some() && self.next_deadline(context.config) <= now
    }

    /// The end was not seen: the call ends with its last media.
    fn end_at_last_media(&mut self, reason: EndReason, context: &mut Context<'_>) {
        self.drain_streams(true, context);
        let heard = self.recorder.tape.as_ref().map(|tape| tape.moment(tape.extent()));
        let at = heard.or(self.last_media).unwrap_or(self.last_signal).max(self.start);
        self.end = Some(End { at, reason, linger: 0 });
    }

    /// What a payload type on a flow stands for changes with the descriptions.
    fn renegotiate(&mut self, context: &mut Context<'_>) {
        for &id in &self.flows {
            let flow: &mut Flow = context.flows.get_mut(id);
            let Some(binding) = flow.binding else { continue };
            let (key, descriptions) = (flow.key, &self.descriptions);
            let codec = |payload_type: u8| descriptions.codec(&key, binding.speaker, payload_type);
            for stream in &mut flow.streams {
                stream.renegotiate(&codec);
            }
        }
    }
}
