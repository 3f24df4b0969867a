//! The engine: frames in, events out.

mod streams;

use std::collections::VecDeque;

use rtp_rs::RtpReader;

use crate::call::{Call, Calls, Context};
use crate::control::{Request, Target};
use crate::event::{Event, Signal, Signalled};
use crate::media::{Binding, BoundBy, CallKey, FlowId, Flows, MAX_STREAMS, Standing};
use crate::reassembly::fragments::Fragments;
use crate::record::{EndReason, Side};
use crate::rtp::{self, Packet as RtpPacket, Stream};
use crate::rules::{Config, Rules};
use crate::sip::{Message, looks_like_sip, start_of_message};
use crate::time::{MILLISECOND, Timestamp};
use crate::trigger;
use crate::wire::{self, Endpoint, FlowKey, LinkType, Malformed, Packet};
use streams::Connections;

/// An unclaimed stream is one of RTP after so many packets in this time, for `--orphans`.
const ORPHAN_PACKETS: u64 = 10;
const ORPHAN_TIME: i64 = 200 * MILLISECOND;

/// A stream with a packet so recently goes on.
const GOES_ON: i64 = crate::time::SECOND;

/// What became of the frames.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// All frames.
    pub frames: u64,
    /// Frames with a damaged header, in the order of [`Malformed::ALL`].
    pub malformed: [u64; Malformed::ALL.len()],
    /// Frames that carry neither UDP nor TCP nor a fragment.
    pub other: u64,
    /// IP fragments.
    pub fragments: u64,
    /// IP packets given up because fragments were missing.
    pub fragments_abandoned: u64,
    /// TCP segments.
    pub tcp_segments: u64,
    /// Places in TCP streams with SIP where bytes are missing.
    pub tcp_gaps: u64,
    /// TCP connections given up for want of room.
    pub tcp_evicted: u64,
    /// SIP messages.
    pub sip_messages: u64,
    /// SIP messages without Call-ID.
    pub sip_without_call_id: u64,
    /// RTP packets.
    pub rtp_packets: u64,
    /// RTP packets of no known call.
    pub rtp_unclaimed: u64,
    /// RTP packets after the end of their call.
    pub rtp_after_end: u64,
    /// RTP packets of calls that are not recorded: a live sieve drops them before they come here.
    pub rtp_unwanted: u64,
    /// RTP packets dropped because there was no room for their flow.
    pub rtp_no_room: u64,
    /// RTCP packets.
    pub rtcp_packets: u64,
    /// UDP datagrams of other kinds.
    pub udp_other: u64,
    /// Calls seen.
    pub calls: u64,
    /// Calls given up for want of room.
    pub calls_evicted: u64,
}

/// Follows calls through frames. One engine owns its calls outright; it has no clock, no thread and no file.
pub struct Engine {
    config: Config,
    now: Timestamp,
    fragments: Fragments,
    tcp: Connections,
    pub(crate) calls: Calls,
    flows: Flows,
    events: VecDeque<Event>,
    next_tape: u64,
    /// Number of the latest request outside SIP.
    next_request: u64,
    scratch: Vec<i16>,
    counters: Counters,
}

impl Engine {
    /// An engine that has seen nothing yet.
    pub fn new(config: Config) -> Engine {
        Engine {
            now: Timestamp(i64::MIN),
            fragments: Fragments::new(config.max_fragments),
            tcp: Connections::new(config.max_tcp_flows),
            calls: Calls::default(),
            flows: Flows::new(config.max_flows),
            events: VecDeque::new(),
            next_tape: 1,
            next_request: 0,
            scratch: Vec::new(),
            counters: Counters::default(),
            config,
        }
    }

    /// Takes a frame. Timers that are due before it fire first. Stamps that run backwards (several
    /// interfaces in one file) count as the latest one seen.
    pub fn handle_frame(&mut self, at: Timestamp, link: LinkType, frame: &[u8]) {
        self.advance(at);
        self.counters.frames += 1;
        match wire::parse(link, frame) {
            Ok(packet) => self.handle_packet(packet),
            Err(malformed) => self.note_malformed(malformed),
        }
        self.announce_media();
    }

    /// Does what is due until now. It is done as of when it was due, so that nothing depends on how often this
    /// is called.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let mut fired = false;
        while self.poll_timeout() <= now {
            self.now = self.now.max(self.poll_timeout());
            self.handle_idle_streams();
            let (calls, mut context) = self.split();
            calls.handle_timeout(&mut context);
            fired = true;
        }
        if fired {
            self.announce_media();
        }
    }

    /// What is recorded from now on; the calls that go on keep the rules that they began under.
    pub fn set_rules(&mut self, rules: Rules) {
        self.config.rules = rules;
    }

    /// Something has happened to all calls that go on: notes it for each of them.
    pub fn note(&mut self, at: Timestamp, kind: &'static str, text: &str) {
        let rows = self.calls.up().map(|call| call.note(at, kind, text));
        self.events.extend(rows.map(|row| Event::Happened(Box::new(row))));
    }

    /// Takes what an earlier engine has told of calls that went on when it was stopped, in order of time. It is to be
    /// followed by [`Engine::resume`]; the events until then that are of tapes and recordings are the earlier engine's.
    pub fn restore(&mut self, signal: &Signal) {
        match &signal.what {
            Signalled::Message { source, destination, text } => {
                self.advance(signal.at);
                let [source, destination] =
                    [source, destination].map(|socket| Endpoint::new(socket.ip(), socket.port()));
                let bytes: Vec<u8> = text.chars().filter_map(|char| u8::try_from(char).ok()).collect();
                self.handle_messages(&FlowKey { source, destination }, &bytes);
            }
            Signalled::Order { call, trigger, verb } => {
                let request = Request {
                    source: trigger::named(trigger),
                    target: Target::Id(call.to_string()),
                    verb: Some(*verb),
                    note: None,
                    from: None,
                    remark: String::new(),
                };
                // Of a call that has ended, nothing is wanted any more.
                let _ = self.control(signal.at, &request);
            }
        }
        self.announce_media();
    }

    /// All has been restored: goes on with the calls, from that moment on.
    pub fn resume(&mut self, at: Timestamp) {
        self.advance(at);
        let (calls, mut context) = self.split();
        calls.resume(at, &mut context);
    }

    /// How many calls go on.
    pub fn calls_up(&self) -> usize {
        self.calls.up().count()
    }

    /// When [`Engine::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Timestamp {
        self.calls.poll_timeout().min(self.poll_streams())
    }

    /// What has happened since.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// There will be no more frames: ends all calls.
    pub fn finish(&mut self) {
        let (calls, mut context) = self.split();
        calls.finish_all(&mut context);
    }

    /// Figures so far.
    pub fn counters(&self) -> Counters {
        Counters {
            fragments_abandoned: self.fragments.abandoned,
            tcp_evicted: self.tcp.evicted,
            calls: self.calls.total,
            calls_evicted: self.calls.evicted,
            ..self.counters.clone()
        }
    }

    /// Goes on to that moment: what was due before it is done.
    pub(crate) fn advance(&mut self, at: Timestamp) {
        self.handle_timeout(at);
        self.now = self.now.max(at);
    }

    pub(crate) fn split(&mut self) -> (&mut Calls, Context<'_>) {
        let context = Context {
            now: self.now,
            config: &self.config,
            flows: &mut self.flows,
            events: &mut self.events,
            next_tape: &mut self.next_tape,
            scratch: &mut self.scratch,
        };
        (&mut self.calls, context)
    }

    /// Says of which media it is known now whether it is wanted.
    pub(crate) fn announce_media(&mut self) {
        let calls = &self.calls;
        let wants = |key| calls.get(key).and_then(Call::wants_media);
        while let Some((endpoint, wanted)) = self.flows.poll_wanted(wants) {
            if self.config.announces_media {
                self.events.push_back(Event::Media { endpoint, wanted });
            }
        }
    }

    fn note_malformed(&mut self, malformed: Malformed) {
        self.counters.malformed[malformed as usize] += 1;
    }

    fn handle_packet(&mut self, packet: Packet<'_>) {
        match packet {
            Packet::Udp { flow, payload } => self.handle_datagram(&flow, payload),
            Packet::Tcp { flow, segment } => self.handle_segment(&flow, &segment),
            Packet::Fragment(fragment) => {
                self.counters.fragments += 1;
                if let Some(whole) = self.fragments.add(self.now, &fragment) {
                    match wire::parse_reassembled(fragment.key, &whole) {
                        Ok(packet) => self.handle_packet(packet),
                        Err(malformed) => self.note_malformed(malformed),
                    }
                }
            }
            Packet::Other => self.counters.other += 1,
        }
    }

    fn handle_datagram(&mut self, flow: &FlowKey, payload: &[u8]) {
        if rtp::is_version_2(payload) {
            if rtp::is_rtcp(payload) {
                self.counters.rtcp_packets += 1;
            } else if let Ok(reader) = RtpReader::new(payload) {
                self.counters.rtp_packets += 1;
                self.handle_rtp(flow, &reader);
            } else {
                self.counters.udp_other += 1;
            }
        } else if looks_like_sip(payload) {
            self.handle_messages(flow, payload);
        } else if (self.is_sip_port(flow.source.port) || self.is_sip_port(flow.destination.port))
            && let Some(start) = start_of_message(payload)
        {
            self.handle_messages(flow, &payload[start..]);
        } else {
            self.counters.udp_other += 1;
        }
    }

    /// Where junk before a message is tolerated.
    fn is_sip_port(&self, port: u16) -> bool {
        self.config.sip_ports.contains(&port)
    }

    /// A datagram should hold one message; some hold several.
    fn handle_messages(&mut self, flow: &FlowKey, mut payload: &[u8]) {
        while let Some(message) = Message::parse(payload) {
            self.handle_message(flow, &message);
            payload = &payload[message.length..];
        }
    }

    fn handle_message(&mut self, flow: &FlowKey, message: &Message<'_>) {
        self.counters.sip_messages += 1;
        if message.call_id.is_none_or(<[u8]>::is_empty) {
            self.counters.sip_without_call_id += 1;
            return;
        }
        let (calls, mut context) = self.split();
        calls.handle_message(flow, message, &mut context);
        self.bind_dirty();
    }

    /// Descriptions may have changed: finds out anew to whom the flows they name belong. At once, for what
    /// has been kept of a stream may be all there is of it.
    fn bind_dirty(&mut self) {
        let mut fresh = Vec::new();
        while let Some(id) = self.flows.poll_dirty() {
            if self.bind(id) {
                fresh.push(id);
            }
        }
        // Only when all are bound: a recording begins with the earliest packet of any.
        for id in fresh {
            let (calls, mut context) = self.split();
            let binding = context.flows.known(id).and_then(|flow| flow.binding);
            if let Some((call, binding)) =
                binding.and_then(|binding| Some((calls.get_mut(binding.call)?, binding)))
            {
                call.receive_held(id, &mut context);
                calls.reschedule(binding.call, &mut context);
            }
        }
    }

    fn handle_rtp(&mut self, key: &FlowKey, reader: &RtpReader<'_>) {
        if self.flows.is_unwanted(key) {
            self.counters.rtp_unwanted += 1;
            return;
        }
        let now = self.now;
        let packet = RtpPacket {
            at: now,
            sequence: reader.sequence_number().into(),
            timestamp: reader.timestamp(),
            payload_type: reader.payload_type(),
            payload: reader.payload(),
        };
        let id = match self.flows.find(key) {
            Some(id) => id,
            None => match self.flows.add(*key, now) {
                Some(id) => {
                    self.bind(id);
                    self.bind_dirty();
                    id
                }
                None => {
                    self.counters.rtp_no_room += 1;
                    return;
                }
            },
        };
        let (resolve_at, last) = (self.flows.get(id).resolve_at, self.flows.get(id).last);
        if resolve_at <= now || now.since(last) >= GOES_ON && self.has_lost_its_call(id) {
            self.bind(id);
        }
        let ssrc = reader.ssrc();
        let mut binding = self.flows.get(id).binding;
        if let Some(bound) = binding
            && self.is_taken_over(id, &bound, ssrc, &packet)
        {
            let (calls, mut context) = self.split();
            calls.finish(bound.call, EndReason::RtpTimeout, &mut context);
            self.bind_dirty();
            binding = self.flows.get(id).binding;
        }
        match binding {
            Some(binding) => self.handle_claimed(id, &binding, ssrc, &packet),
            None => self.handle_unclaimed(id, ssrc, &packet),
        }
        self.flows.get_mut(id).last = now;
    }

    /// The call that a flow is bound to is over: what begins there after a silence may be another's.
    fn has_lost_its_call(&self, id: FlowId) -> bool {
        let binding = self.flows.get(id).binding;
        binding.is_some_and(|binding| self.calls.get(binding.call).is_none_or(Call::is_over))
    }

    /// The call of a flow has been silent for long, and now something begins that does not go on where it
    /// stopped.
    fn is_taken_over(&self, id: FlowId, binding: &Binding, ssrc: u32, packet: &RtpPacket<'_>) -> bool {
        let abandoned = self.calls.get(binding.call).is_some_and(|call| call.is_abandoned(self.now));
        abandoned
            && !self
                .flows
                .get(id)
                .streams
                .iter()
                .any(|stream| stream.ssrc == ssrc && stream.continues(packet))
    }

    fn handle_claimed(&mut self, id: FlowId, binding: &Binding, ssrc: u32, packet: &RtpPacket<'_>) {
        let stream = self.find_stream(id, ssrc, packet.at);
        let (calls, mut context) = self.split();
        let Some(call) = calls.get_mut(binding.call) else { return };
        let over = call.is_over();
        call.receive(id, binding, stream, packet, &mut context);
        if call.is_stirred() {
            calls.reschedule(binding.call, &mut context);
        }
        self.counters.rtp_after_end += u64::from(over);
    }

    fn handle_unclaimed(&mut self, id: FlowId, ssrc: u32, packet: &RtpPacket<'_>) {
        self.counters.rtp_unclaimed += 1;
        let keep = self.flows.unclaimed() <= self.config.max_unclaimed || self.config.orphans;
        let stream = self.find_stream(id, ssrc, packet.at);
        let flow = self.flows.get_mut(id);
        if flow.spent && packet.at.since(flow.last) > crate::time::SECOND {
            flow.spent = false;
        }
        let (spent, key) = (flow.spent, flow.key);
        let Some(stream) = flow.streams.get_mut(stream) else { return };
        stream.receive_unclaimed(packet, keep && !spent);
        let lasting = stream.unique() >= ORPHAN_PACKETS && packet.at.since(stream.first) >= ORPHAN_TIME;
        if self.config.orphans && lasting && !spent {
            let now = self.now;
            let (calls, mut context) = self.split();
            let call = calls.add_orphan(&key, ssrc, &mut context);
            self.flows.claim(key.source, call, Side::Caller, now);
            self.flows.claim(key.destination, call, Side::Callee, now);
            self.bind_dirty();
        }
    }

    /// The stream's place in its flow; a new one where the SSRC is new.
    fn find_stream(&mut self, id: FlowId, ssrc: u32, at: Timestamp) -> usize {
        let flow = self.flows.get_mut(id);
        if flow.streams.get(flow.current).is_some_and(|stream| stream.ssrc == ssrc) {
            return flow.current;
        }
        let known = flow.streams.iter().position(|stream| stream.ssrc == ssrc);
        flow.current = known.unwrap_or_else(|| {
            if flow.streams.len() >= MAX_STREAMS {
                let idle = flow.streams.iter().enumerate().min_by_key(|(_, stream)| stream.last);
                if let Some((idle, _)) = idle {
                    flow.streams.remove(idle);
                }
            }
            flow.streams.push(Stream::new(ssrc, at));
            flow.streams.len() - 1
        });
        flow.current
    }

    /// Finds out anew which call a flow belongs to. Returns whether that is another than before.
    fn bind(&mut self, id: FlowId) -> bool {
        let now = self.now;
        let calls = &self.calls;
        let bound_to = self.flows.get(id).binding.map(|binding| binding.call);
        let standing = |key: CallKey| match calls.get(key) {
            None => Standing::Gone,
            Some(call) if call.is_over() => Standing::Over,
            // What begins now on its ports is another call's, of which nothing else may have been seen.
            Some(call) if call.is_abandoned(now) && bound_to != Some(key) => Standing::Gone,
            Some(_) => Standing::Live,
        };
        let has_side = |key, side| calls.get(key).is_some_and(|call| call.has_side(side));
        let found = self.flows.resolve(id, now, has_side, standing);
        // What was made up from two endpoints owns what goes between just those.
        let fits = |found: &Binding| {
            found.by == BoundBy::Both || !calls.get(found.call).is_some_and(|call| call.is_orphan())
        };
        let found = found.filter(fits);
        let flow = self.flows.get_mut(id);
        flow.resolve_at = Timestamp::FAR_FUTURE;
        let before = flow.binding;
        let Some(found) = found else {
            // Its call has moved elsewhere. What goes on all the same is not another call's, though.
            if let Some((before, call)) = before.and_then(|before| Some((before, calls.get(before.call)?))) {
                if now.since(flow.last) >= GOES_ON {
                    self.release(id, &before);
                } else if !call.is_over() {
                    flow.resolve_at = now + GOES_ON;
                }
            }
            return false;
        };
        if flow.spent && found.by != BoundBy::Both && now.since(flow.last) < GOES_ON {
            // The end of a call that is over, on a port that the next one names already.
            flow.resolve_at = now + GOES_ON;
            return false;
        }
        if before.is_some_and(|before| before.call == found.call && before.speaker == found.speaker) {
            return false;
        }
        if let Some(before) = before {
            self.release(id, &before);
        }
        let (calls, context) = self.split();
        let Some(call) = calls.get_mut(found.call) else { return false };
        let found = call.tell_apart(&context.flows.get(id).key, found, context.flows);
        call.adopt(id);
        let earliest = call.earliest_media();
        let flow = context.flows.get_mut(id);
        flow.spent = false;
        // Streams that ended before the call began, or had stopped by now, are not its own.
        let in_time =
            |stream: &Stream| stream.last >= earliest && now.since(stream.last) < crate::time::SECOND;
        flow.streams.retain(in_time);
        flow.current = 0;
        let claimed: u64 = flow.streams.iter_mut().map(|stream| stream.claim(earliest)).sum();
        context.flows.bind(id, Some(found), now);
        self.counters.rtp_unclaimed -= claimed;
        true
    }

    /// A flow is its call's no more.
    fn release(&mut self, id: FlowId, binding: &Binding) {
        let (calls, mut context) = self.split();
        if let Some(call) = calls.get_mut(binding.call) {
            call.let_go(id, &mut context);
            call.release(id);
        }
    }
}
