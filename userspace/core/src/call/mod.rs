//! Calls: from the first INVITE to the last packet.

mod alike;
mod conversation;
mod description;
mod dialog;
mod directory;
mod fax;
mod floor;
mod keys;
mod lookup;
mod nameless;
mod operator;
mod orphan;
mod protection;
mod record_server;
mod recording;
mod report;
mod room;
mod session;
mod shared;
mod table;
mod transfer;
mod triggers;

use std::collections::VecDeque;
use std::net::IpAddr;

pub use alike::Prints;
use description::Descriptions;
use directory::Names;
use fax::Fax;
use floor::Floor;
use recording::Recorder;
use session::{Passed, Session};
pub use table::Calls;
use transfer::Refer;
use triggers::Pending;

use crate::association::Associations;
use crate::codec::Codec;
use crate::event::Event;
use crate::fetch::fetch;
use crate::media::{Binding, BoundBy, CallKey, Flow, FlowId, Flows, Tape};
use crate::record::{EndReason, EventRow, Id, Party, Side};
use crate::rtp::{MIN_PACKETS, Note, Packet, Playout, Stream, Undecoded};
use crate::rules::{Action, Config, Facts, Rule, Rules};
use crate::time::{MILLISECOND, SECOND, Timestamp};
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
/// A block of a tape is written so long after the packets that would have pushed it on.
const QUIET: i64 = 100 * MILLISECOND;
/// After this time what a stream held when it was bound is let go.
const HELD_TOGETHER: i64 = SECOND / 4;
/// Messages by which retransmissions are known.
const SEEN: usize = 64;
/// Flows of one call. Somebody who is told where it is received may send from anywhere.
const MAX_FLOWS: usize = 64;
/// With more flows, or streams of one, most are not of the call: nobody is heard for a packet or two.
const MANY: usize = 16;

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
    /// What goes between the ends of flows beside media.
    pub associations: &'a Associations,
    /// Decrypted payload; kept for its memory.
    pub clear: &'a mut Vec<u8>,
    /// What was sent lately.
    pub prints: &'a mut Prints,
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
    /// Of several engines it is this one that records it, and says what there is to say of it.
    is_own: bool,
    /// Call-ID as it was on the wire.
    raw_call_id: Box<[u8]>,
    /// By what it is known beside that, if it has none.
    aliases: Vec<Box<[u8]>>,
    /// Empty if it has none.
    call_id: String,
    conversation_id: String,
    /// When the first call of the conversation began.
    conversation_began: Timestamp,
    /// The conversation is a guess: that it is a leg of this call.
    guessed: Option<CallKey>,
    /// Requests to call somebody else.
    refers: Vec<Refer>,
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
    /// The latest offer of a fax.
    fax: Option<Fax>,
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
    /// Where connectivity checks have shown its sides to be.
    checked: Vec<Endpoint>,
    /// Payloads are compared with others' until then.
    compared_until: Timestamp,
    ears: Vec<alike::Ear>,
    /// A call that carries the same payloads.
    resembles: Option<CallKey>,
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
    undecoded: Vec<Undecoded>,
    /// When to let go what streams hold.
    drain_at: Timestamp,
    /// When to look after it next, as the table knows it.
    deadline: Timestamp,
    /// When it is given up, as the table knows it.
    place: Option<room::Place>,
}

impl Call {
    /// Fetches from memory what the next packet will need of it, but for the audio.
    pub(crate) fn fetch(&self) {
        fetch(&self.answer);
        self.recorder.fetch();
        fetch(&self.last_media);
        fetch(&self.keys);
        self.floors.iter().for_each(fetch);
        fetch(&self.key);
        fetch(&self.flows);
        fetch(&self.void);
        fetch(&self.notes);
        fetch(&self.undecoded);
        fetch(&self.end);
        fetch(&self.start);
        fetch(&self.compared_until);
        fetch(&self.is_stirred);
    }

    /// Fetches where the block is that comes next. What this reads is to be fetched before.
    pub(crate) fn fetch_block(&self) {
        if let Some(tape) = &self.recorder.tape {
            tape.fetch_block();
        }
    }

    /// Fetches the part of it in which the next packet of a side will be heard. What this reads is to be fetched before.
    pub(crate) fn fetch_samples(&self, side: Side) {
        if let Some(tape) = &self.recorder.tape {
            tape.fetch_samples(side);
        }
    }

    fn new(key: CallKey, call_id: &[u8], tag: &[u8], context: &Context<'_>) -> Call {
        let now = context.now;
        let id = Id::derive(&[call_id, tag, &now.0.to_le_bytes()]);
        Call {
            key,
            id,
            is_own: context.config.share.has(&id),
            raw_call_id: call_id.into(),
            aliases: Vec::new(),
            call_id: nameless::shown(call_id),
            conversation_id: id.to_string(),
            conversation_began: now,
            guessed: None,
            refers: Vec::new(),
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
            fax: None,
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
            checked: Vec::new(),
            compared_until: now,
            ears: Vec::new(),
            resembles: None,
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
            undecoded: Vec::new(),
            drain_at: Timestamp::FAR_FUTURE,
            deadline: Timestamp::FAR_FUTURE,
            place: None,
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
    fn prominence(&self, context: &Context<'_>) -> impl Ord + use<> {
        let is_up = self.answer.is_some() || self.joined || self.orphan;
        let heard = self.heard_until(context.flows);
        let is_heard = heard.is_some_and(|last| context.now.since(last) < MEDIA_STOPPED);
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
    pub fn is_abandoned(&self, now: Timestamp, flows: &Flows) -> bool {
        // Of one that is not recorded, media is not looked at.
        let media = self.heard_until(flows).filter(|_| !self.is_ignored());
        media.is_some_and(|last| {
            now.since(last) > SILENT_BEFORE_TAKEOVER
                && self.last_signal < last
                && !self.descriptions.is_held()
                && !self.has_fax()
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
        if !binding.by.is_sure() && other_is_free && bound().any(opposite) {
            return Binding { speaker: binding.speaker.other(), ..binding };
        }
        binding
    }

    /// Whether a stream of a flow may be heard, and tell where a recording begins; the packet at hand counts.
    fn is_credible(&self, flow: &Flow, stream: &Stream) -> bool {
        let few = self.flows.len() <= MANY && flow.streams.len() <= MANY;
        few || stream.unique() + 1 >= MIN_PACKETS
    }

    /// A flow has been bound to this call. When it has too many, that of a few packets from where nobody is said to be
    /// which has been idle longest is given up; or else, with what there is to say of it, the longest idle of all.
    pub fn adopt(&mut self, flow: FlowId, context: &mut Context<'_>) {
        self.catch_up(context.flows);
        self.compare_from(context.now);
        if self.flows.contains(&flow) {
            return;
        }
        if self.flows.len() >= MAX_FLOWS {
            let idle = self.flows.iter().copied().min_by_key(|&id| {
                let flow = context.flows.get(id);
                let is_told = flow.binding.is_some_and(|binding| binding.by == BoundBy::Both);
                (is_told || flow.is_established(), flow.last)
            });
            if let Some(idle) = idle {
                self.release(idle);
                if context.flows.get(idle).is_established() {
                    self.let_go(idle, context);
                }
                context.flows.give_up(idle);
            }
        }
        self.flows.push(flow);
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
        if !self.is_own {
            return self.overhear(id, binding, stream, packet, context);
        }
        let mut clear = std::mem::take(context.clear);
        let packet = &self.open(id, binding.speaker, stream, packet, &mut clear, context);
        let flow = context.flows.get(id);
        let current = flow.streams.get(stream).and_then(Stream::current_type);
        let awaits_tape = self.awaits_tape(context.config);
        let changes = self.recorder.tape.is_some() && current != Some(packet.payload_type);
        if awaits_tape || changes {
            let codec =
                self.descriptions.carried(&flow.key, binding.speaker, packet.payload_type, packet.payload);
            if awaits_tape {
                self.begin_recording(id, stream, packet.at, &codec, context);
            } else if codec.is_decodable() && !packet.is_sealed {
                // Before it is heard, so that none of it is brought to a lower rate.
                self.raise_rate(codec.sample_rate(), context);
            }
        }
        if packet.at <= self.compared_until {
            self.compare(id, binding.speaker, stream, packet, context);
        }
        self.take_floor(id, binding.speaker, stream, packet, context);
        self.with_stream(id, binding.speaker, stream, context, |stream, out| stream.receive(packet, out));
        *context.clear = clear;
        let rate = context.flows.get(id).streams.get(stream).and_then(Stream::current_rate);
        if let Some(rate) = rate {
            self.raise_rate(rate, context);
        }
        if self.recorder.tape.as_ref().is_some_and(|tape| tape.is_due(context.now)) {
            self.wind(context);
        }
        self.expect_quiet(context.config);
    }

    /// Should no packet come any more, what was said is written all the same: whoever goes on after a crash has it.
    fn expect_quiet(&mut self, config: &Config) {
        if config.tells_signalling
            && self.drain_at == Timestamp::FAR_FUTURE
            && let Some(due) = self.recorder.tape.as_ref().and_then(Tape::due)
        {
            self.drain_at = due + QUIET;
            self.is_stirred = true;
        }
    }

    /// A flow has been bound to the call whose streams hold packets already: they are the call's.
    pub fn receive_held(&mut self, id: FlowId, context: &mut Context<'_>) {
        if self.is_ignored() {
            return;
        }
        self.open_held(id, context);
        for index in 0..context.flows.get(id).streams.len() {
            let stream = &context.flows.get(id).streams[index];
            let (last, Some((at, payload_type, payload))) = (stream.last, stream.first_held()) else {
                continue;
            };
            let (key, binding) = (context.flows.get(id).key, context.flows.get(id).binding);
            let codec = binding
                .map(|binding| self.descriptions.carried(&key, binding.speaker, payload_type, payload));
            self.last_media = Some(self.last_media.map_or(last, |media| media.max(last)));
            // What was up before it was heard of began with its media.
            self.start = self.start.min(at);
            if let Some((binding, codec)) = binding.zip(codec) {
                if self.awaits_tape(context.config) {
                    self.begin_recording(id, index, at, &codec, context);
                }
                if !self.is_own {
                    continue;
                }
                self.offer_floor(id, binding.speaker, index, &codec, context);
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
        let heard = self.floors[speaker.channel()].held_since(id, stream.ssrc);
        let has_place = self.recorder.keeps(speaker);
        let before = stream.memory();
        let tape = self.recorder.tape.as_mut().filter(|_| heard.is_some());
        let until = self.end.map_or(Timestamp::FAR_FUTURE, |end| end.at);
        let mut out = Playout {
            tape,
            since: heard.unwrap_or(Timestamp(i64::MIN)),
            until,
            side: speaker,
            codec: &codec,
            keeps: &|| has_place && descriptions.kind(&key, speaker) == "audio",
            keeps_all: context.config.keeps_packets && has_place,
            undecoded: &mut self.undecoded,
            notes: &mut self.notes,
            scratch: context.scratch,
        };
        run(stream, &mut out);
        let after = stream.memory();
        if before != after {
            context.flows.note_memory(id, before, after);
        }
        self.recorder.overdub(context);
        if !self.notes.is_empty() {
            self.tell_notes(&key, speaker, context);
        }
        if let (false, Some(tape)) =
            (self.undecoded.is_empty(), self.recorder.tape.as_ref().map(|tape| tape.id))
        {
            let (source, destination) = (key.source.socket(), key.destination.socket());
            context.events.extend(self.undecoded.drain(..).map(|packet| Event::TapePacket {
                tape,
                side: speaker,
                source,
                destination,
                packet: Box::new(packet),
            }));
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
                Note::Slice(slice) => {
                    self.tell_slice(*slice, key, speaker, context);
                    continue;
                }
                Note::Loss(packets) => ("loss", format!("{packets} packets in a row ({side})")),
            };
            self.tell(at, kind, text, context);
        }
    }

    fn tell(&self, at: Timestamp, kind: &'static str, text: String, context: &mut Context<'_>) {
        self.emit(context, || {
            let row = EventRow { kind, text, ..self.event(at) };
            Event::Happened(Box::new(row))
        });
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
            // Nobody is heard either while a fax is sent.
            (None, Some(_)) if self.descriptions.is_held() || self.has_fax() => {
                last_life + config.hold_timeout
            }
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
        self.catch_up(context.flows);
        self.expire_triggers(context);
        self.close_idle_tape(context);
        if self.drain_at <= now {
            self.drain_at = Timestamp::FAR_FUTURE;
            self.wind(context);
            self.expect_quiet(context.config);
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
        for index in 0..self.flows.len() {
            let id = self.flows[index];
            let flow: &mut Flow = context.flows.get_mut(id);
            let Some(binding) = flow.binding else { continue };
            let (key, descriptions) = (flow.key, &self.descriptions);
            let codec = |payload_type: u8| descriptions.codec(&key, binding.speaker, payload_type);
            for stream in &mut flow.streams {
                stream.renegotiate(&codec);
            }
            self.reseal(id, context);
        }
    }
}
