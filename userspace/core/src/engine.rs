//! The engine: frames in, events out.

mod foresight;
mod streams;

pub use foresight::{FORESEEN, Frame};

use std::collections::VecDeque;

use crate::association::{self, Associations, Kind};
use crate::call::{Call, Calls, Context, Prints};
use crate::control::{Request, Target};
use crate::event::{Event, Signal, Signalled};
use crate::hep;
use crate::media::{Binding, BoundBy, CallKey, FlowId, Flows, Standing};
use crate::reassembly::fragments::Fragments;
use crate::reassembly::sctp::Messages;
use crate::record::{EndReason, Side};
use crate::rtp::rtcp::{self, Statement};
use crate::rtp::{self, Packet as RtpPacket, Stream};
use crate::rules::{Config, Rules};
use crate::share::Glimpse;
use crate::sip::{Message, Oddity, looks_like_sip, start_of_message};
use crate::time::{MILLISECOND, Timestamp};
use crate::trigger;
use crate::wire::{self, Endpoint, FlowKey, Fragment, LinkType, Malformed, Packet, SctpPacket};
use streams::Connections;

/// An unclaimed stream is one of RTP after so many packets in this time, for `--orphans`.
const ORPHAN_PACKETS: u64 = 10;
const ORPHAN_TIME: i64 = 200 * MILLISECOND;

/// What comes of a stream in its first second is kept until it is known whose it is, however many others there are.
const YOUNG: i64 = crate::time::SECOND;

/// A stream with a packet so recently goes on.
const GOES_ON: i64 = crate::time::SECOND;

/// What became of the frames.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// All frames.
    pub frames: u64,
    /// What they had captured of them, in bytes.
    pub bytes: u64,
    /// Frames with a damaged header, in the order of [`Malformed::ALL`].
    pub malformed: [u64; Malformed::ALL.len()],
    /// Frames that carry neither UDP nor TCP nor SCTP nor a fragment.
    pub other: u64,
    /// IP fragments.
    pub fragments: u64,
    /// IP packets given up because fragments were missing.
    pub fragments_abandoned: u64,
    /// IP packets with fragments missing given up for want of room.
    pub fragments_evicted: u64,
    /// TCP segments.
    pub tcp_segments: u64,
    /// Places in TCP streams with SIP where bytes are missing.
    pub tcp_gaps: u64,
    /// TCP connections given up for want of room.
    pub tcp_evicted: u64,
    /// SCTP packets.
    pub sctp_packets: u64,
    /// Messages over SCTP given up because pieces were missing.
    pub sctp_abandoned: u64,
    /// WebSocket messages that are too long, or packed by what has not been seen.
    pub websocket_unread: u64,
    /// Copies in HEP that were left out: nobody asked for them, or they are of other protocols.
    pub hep_left_out: u64,
    /// SIP messages.
    pub sip_messages: u64,
    /// SIP messages without Call-ID that belong to no call.
    pub sip_without_call_id: u64,
    /// SIP messages that are odd, in the order of [`Oddity::ALL`].
    pub sip_odd: [u64; Oddity::ALL.len()],
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
    /// RTP flows given up for want of room: they belonged to no call, or a call had too many of them.
    pub flows_evicted: u64,
    /// RTP streams whose figures were given up for want of room: their flows had too many of them.
    pub streams_evicted: u64,
    /// RTCP packets.
    pub rtcp_packets: u64,
    /// STUN messages: they keep media flows open, and tell whose they are.
    pub stun_messages: u64,
    /// Datagrams of DTLS and ZRTP: keys of media are agreed on.
    pub key_agreement: u64,
    /// Media and STUN on their way through a TURN server, which are counted as what they are too.
    pub relayed: u64,
    /// Key agreements given up for want of room.
    pub associations_evicted: u64,
    /// UDP datagrams of other kinds.
    pub udp_other: u64,
    /// Calls seen.
    pub calls: u64,
    /// Calls given up for want of room.
    pub calls_evicted: u64,
    /// Bytes that the engine's state takes, about.
    pub memory: usize,
    /// The most that it took after any frame.
    pub memory_peak: usize,
}

/// Kinds of state that can be given up.
#[derive(Clone, Copy)]
enum Holding {
    Fragments,
    Connections,
    /// Of no call.
    Flows,
    /// That are not being recorded.
    Calls,
}

/// Follows calls through frames. One engine owns its calls outright; it has no clock, no thread and no file.
pub struct Engine {
    config: Config,
    now: Timestamp,
    fragments: Fragments,
    sctp: Messages,
    tcp: Connections,
    pub(crate) calls: Calls,
    flows: Flows,
    events: VecDeque<Event>,
    next_tape: u64,
    /// Number of the latest request outside SIP.
    next_request: u64,
    scratch: Vec<i16>,
    associations: Associations,
    /// Decrypted payload; kept for its memory.
    clear: Vec<u8>,
    prints: Prints,
    counters: Counters,
}

impl Engine {
    /// An engine that has seen nothing yet.
    pub fn new(config: Config) -> Engine {
        Engine {
            now: Timestamp(i64::MIN),
            fragments: Fragments::new(config.max_fragments),
            sctp: Messages::new(config.max_fragments),
            tcp: Connections::new(config.max_tcp_flows),
            calls: Calls::default(),
            flows: Flows::new(config.max_flows, config.share.glance()),
            events: VecDeque::new(),
            next_tape: config.share.first_number(),
            next_request: 0,
            scratch: Vec::new(),
            associations: Associations::new(config.max_flows),
            clear: Vec::new(),
            prints: Prints::default(),
            counters: Counters::default(),
            config,
        }
    }

    /// Takes a frame. Timers that are due before it fire first. Stamps that run backwards (several
    /// interfaces in one file) count as the latest one seen.
    pub fn handle_frame(&mut self, at: Timestamp, link: LinkType, frame: &[u8]) {
        self.advance(at);
        self.counters.frames += 1;
        self.counters.bytes += frame.len() as u64;
        match wire::parse(link, frame) {
            Ok(packet) => self.handle_packet(packet),
            Err(malformed) => self.note_malformed(malformed),
        }
        self.make_room();
        self.announce_media();
    }

    /// Takes the frame of a glimpse, if that is all there is to be seen of it.
    fn lets_pass(&mut self, at: Timestamp, length: usize, glimpse: &Glimpse) -> bool {
        self.advance(at);
        let passes = self.flows.pass(glimpse, self.now);
        if passes {
            self.counters.frames += 1;
            self.counters.bytes += length as u64;
            self.counters.rtp_packets += 1;
        }
        passes
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
        let rows = self.calls.up().filter(|call| call.is_own()).map(|call| call.note(at, kind, text));
        self.events.extend(rows.map(|row| Event::Happened(Box::new(row))));
    }

    /// Takes lines of a key log as browsers and TLS libraries write it (`SSLKEYLOGFILE`): media of handshakes in it is
    /// decrypted. It may be given before a handshake is seen, or soon after.
    pub fn add_secrets(&mut self, text: &[u8]) {
        for flow in self.associations.add_secrets(text) {
            self.reseal(&flow);
        }
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
        while self.finish_some() {}
    }

    /// The same, but a few calls: what has happened to thousands at once would take as much memory as they do. Returns
    /// whether there are more.
    pub fn finish_some(&mut self) -> bool {
        let (calls, mut context) = self.split();
        calls.finish_some(&mut context)
    }

    /// Figures so far.
    pub fn counters(&self) -> Counters {
        Counters {
            fragments_abandoned: self.fragments.abandoned,
            sctp_abandoned: self.sctp.abandoned,
            fragments_evicted: self.fragments.evicted,
            tcp_evicted: self.tcp.evicted,
            flows_evicted: self.flows.evicted.flows,
            streams_evicted: self.flows.evicted.streams,
            memory: self.memory(),
            calls: self.calls.total,
            calls_evicted: self.calls.evicted,
            associations_evicted: self.associations.evicted,
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
            associations: &self.associations,
            clear: &mut self.clear,
            prints: &mut self.prints,
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

    /// Bytes that all tables take, about.
    fn memory(&self) -> usize {
        let calls = self.calls.idle_memory() + self.calls.recorded_memory();
        self.fragments.memory() + self.tcp.memory() + self.flows.memory() + calls
    }

    /// Keeps to the memory that is allowed. The kind of state that takes most of it gives up what of it has been idle
    /// longest, so that a flood makes way for itself; calls that are being recorded come last.
    fn make_room(&mut self) {
        let mut memory = self.memory();
        while memory > self.config.max_memory {
            let mut kinds = [
                (self.fragments.memory(), Holding::Fragments),
                (self.tcp.memory(), Holding::Connections),
                (self.flows.unclaimed_memory(), Holding::Flows),
                (self.calls.idle_memory(), Holding::Calls),
            ];
            kinds.sort_unstable_by_key(|(memory, _)| std::cmp::Reverse(*memory));
            if !kinds.into_iter().any(|(_, kind)| self.give_up(kind)) && !self.give_up_call(true) {
                break;
            }
            memory = self.memory();
        }
        self.counters.memory_peak = self.counters.memory_peak.max(memory);
    }

    /// Gives up one of that kind, if there is one.
    fn give_up(&mut self, kind: Holding) -> bool {
        match kind {
            Holding::Fragments => self.fragments.give_up_oldest(),
            Holding::Connections => self.tcp.give_up_oldest(),
            Holding::Flows => self.flows.give_up_oldest(),
            Holding::Calls => self.give_up_call(false),
        }
    }

    fn give_up_call(&mut self, recorded: bool) -> bool {
        let (calls, mut context) = self.split();
        let given_up = calls.give_up_idlest(recorded, &mut context);
        self.bind_dirty();
        given_up
    }

    fn note_malformed(&mut self, malformed: Malformed) {
        self.counters.malformed[malformed as usize] += 1;
    }

    #[inline]
    fn handle_packet(&mut self, packet: Packet<'_>) {
        match packet {
            Packet::Udp { flow, payload } => self.handle_datagram(&flow, payload),
            Packet::Tcp { flow, segment } => self.handle_segment(&flow, &segment),
            Packet::Sctp { flow, packet } => self.handle_sctp(&flow, &packet),
            Packet::Fragment(fragment) => self.handle_fragment(&fragment),
            Packet::Other => self.counters.other += 1,
        }
    }

    #[inline(never)]
    fn handle_fragment(&mut self, fragment: &Fragment<'_>) {
        self.counters.fragments += 1;
        if let Some(whole) = self.fragments.add(self.now, fragment) {
            match wire::parse_reassembled(fragment.key, &whole) {
                Ok(packet) => self.handle_packet(packet),
                Err(malformed) => self.note_malformed(malformed),
            }
        }
    }

    /// A message is as good as a datagram (RFC 4168).
    #[inline(never)]
    fn handle_sctp(&mut self, flow: &FlowKey, packet: &SctpPacket<'_>) {
        self.counters.sctp_packets += 1;
        for message in self.sctp.add(self.now, flow, packet) {
            if looks_like_sip(&message) {
                self.handle_messages(flow, &message);
            }
        }
    }

    fn handle_datagram(&mut self, flow: &FlowKey, payload: &[u8]) {
        if self.handle_media(flow, payload) {
            return;
        }
        if hep::is_copy(payload) {
            self.handle_copy(flow, payload);
        } else if looks_like_sip(payload) {
            self.handle_messages(flow, payload);
        } else if (self.is_sip_port(flow.source.port) || self.is_sip_port(flow.destination.port))
            && let Some(start) = start_of_message(payload)
        {
            self.handle_messages(flow, &payload[start..]);
        } else if !self.handle_beside_media(flow, payload) {
            self.counters.udp_other += 1;
        }
    }

    /// RTP and RTCP. Returns whether it is that.
    fn handle_media(&mut self, flow: &FlowKey, payload: &[u8]) -> bool {
        if !rtp::is_version_2(payload) {
            return false;
        }
        if rtp::is_rtcp(payload) {
            self.counters.rtcp_packets += 1;
            self.handle_rtcp(flow, payload);
            return true;
        }
        let known = self.flows.find(flow);
        if let Some((ssrc, packet)) = rtp::read(payload, self.now, known.is_some()) {
            self.counters.rtp_packets += 1;
            self.handle_rtp(flow, known, ssrc, &packet);
        } else {
            self.counters.udp_other += 1;
        }
        true
    }

    /// What goes beside media, or around it. Returns whether it is that.
    fn handle_beside_media(&mut self, flow: &FlowKey, payload: &[u8]) -> bool {
        if let Some(inner) = association::relayed(payload) {
            self.counters.relayed += 1;
            // What is relayed is not relayed again: it is at the bottom.
            return self.handle_media(flow, inner) || self.handle_agreement(flow, inner);
        }
        self.handle_agreement(flow, payload)
    }

    fn handle_agreement(&mut self, flow: &FlowKey, payload: &[u8]) -> bool {
        let is_news = match Kind::of(payload) {
            Some(Kind::Stun) => {
                self.counters.stun_messages += 1;
                if let Some((receiver, sender)) = association::username(payload) {
                    let (calls, mut context) = self.split();
                    calls.handle_check(flow, receiver, sender, &mut context);
                    self.bind_dirty();
                }
                return true;
            }
            Some(Kind::Dtls) => self.associations.handle_dtls(flow, payload, self.now),
            Some(Kind::Zrtp) => self.associations.handle_zrtp(flow, payload, self.now),
            Some(Kind::ChannelData) | None => return false,
        };
        self.counters.key_agreement += 1;
        if is_news {
            self.reseal(flow);
        }
        true
    }

    /// More is known of how the media between two endpoints is protected.
    fn reseal(&mut self, flow: &FlowKey) {
        for id in [self.flows.find(flow), self.flows.find(&flow.reversed())].into_iter().flatten() {
            let (calls, mut context) = self.split();
            if let Some(binding) = context.flows.get(id).binding
                && let Some(call) = calls.get_mut(binding.call)
            {
                call.reseal(id, &mut context);
                calls.reschedule(binding.call, &mut context);
            }
        }
    }

    /// What HEP carries is no call that has not been seen elsewhere, unless somebody says so. It counts as of when it
    /// arrived: the clock of whoever copied it is not the capture's.
    #[inline(never)]
    fn handle_copy(&mut self, flow: &FlowKey, bytes: &[u8]) {
        let copied = hep::parse(bytes).filter(|_| self.config.hep_ports.contains(&flow.destination.port));
        match copied {
            Some(hep::Copied { flow, kind: hep::Kind::Sip, payload }) if looks_like_sip(payload) => {
                self.handle_messages(&flow, payload);
            }
            Some(hep::Copied { flow, kind: hep::Kind::Rtp, payload }) if rtp::is_version_2(payload) => {
                self.handle_datagram(&flow, payload);
            }
            _ => self.counters.hep_left_out += 1,
        }
    }

    /// Reports are told of streams by their SSRC, and by the host at which they begin or end.
    fn handle_rtcp(&mut self, key: &FlowKey, payload: &[u8]) {
        let ids = self.flows.of_rtcp(key);
        if ids.is_empty() {
            return;
        }
        let (flows, now) = (&mut self.flows, self.now);
        rtcp::read(payload, |statement| {
            let (ssrc, is_sender) = match &statement {
                Statement::Sender { ssrc, .. } | Statement::Name { ssrc, .. } => (*ssrc, true),
                Statement::Receiver(block) => (block.ssrc, false),
                Statement::Voice(metrics) => (metrics.ssrc, false),
            };
            for &id in &ids {
                let flow = flows.get_mut(id);
                let end = if is_sender { flow.key.source } else { flow.key.destination };
                let streams =
                    flow.streams.iter_mut().filter(|stream| stream.ssrc == ssrc && end.ip == key.source.ip);
                for stream in streams {
                    match statement {
                        Statement::Sender { stamp, .. } => stream.note_sender_report(now, stamp),
                        Statement::Receiver(block) => stream.note_receiver_report(now, &block),
                        Statement::Voice(metrics) => stream.note_voip_metrics(&metrics),
                        Statement::Name { name, .. } => stream.note_name(name),
                    }
                }
            }
        });
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
        let odd = message.oddities();
        for oddity in odd.iter() {
            self.counters.sip_odd[oddity as usize] += 1;
        }
        if odd.contains(Oddity::StatusCode) {
            return;
        }
        let (calls, mut context) = self.split();
        let is_of_call = calls.handle_message(flow, message, &mut context);
        self.counters.sip_without_call_id += u64::from(!is_of_call && odd.contains(Oddity::CallId));
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

    fn handle_rtp(&mut self, key: &FlowKey, known: Option<FlowId>, ssrc: u32, packet: &RtpPacket<'_>) {
        let now = self.now;
        if let Some(id) = known {
            self.catch_up(id);
        }
        if self.flows.is_unwanted(key) {
            self.counters.rtp_unwanted += 1;
            return;
        }
        let id = match known {
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
        // A call that has too many flows may have given this one up for others.
        let Some(flow) = self.flows.known(id) else { return };
        if flow.resolve_at <= now || now.since(flow.last) >= GOES_ON && self.has_lost_its_call(id) {
            self.bind(id);
        }
        let mut binding = self.flows.get(id).binding;
        if let Some(bound) = binding
            && self.is_taken_over(id, &bound, ssrc, packet)
        {
            let (calls, mut context) = self.split();
            calls.finish(bound.call, EndReason::RtpTimeout, &mut context);
            self.bind_dirty();
            let Some(flow) = self.flows.known(id) else { return };
            binding = flow.binding;
        }
        match binding {
            Some(binding) if self.is_fax(id, &binding, ssrc) => {
                self.counters.rtp_packets -= 1;
                self.counters.udp_other += 1;
            }
            Some(binding) => self.handle_claimed(id, &binding, ssrc, packet),
            None => self.handle_unclaimed(id, ssrc, packet),
        }
        if let Some(flow) = self.flows.known_mut(id) {
            flow.last = now;
        }
    }

    /// The call that a flow is bound to is over: what begins there after a silence may be another's.
    fn has_lost_its_call(&self, id: FlowId) -> bool {
        let binding = self.flows.get(id).binding;
        binding.is_some_and(|binding| self.calls.get(binding.call).is_none_or(Call::is_over))
    }

    /// The call of a flow has been silent for long, and now something begins that does not go on where it
    /// stopped.
    fn is_taken_over(&self, id: FlowId, binding: &Binding, ssrc: u32, packet: &RtpPacket<'_>) -> bool {
        if self.now.since(self.flows.get(id).last) < GOES_ON {
            return false;
        }
        let abandoned =
            self.calls.get(binding.call).is_some_and(|call| call.is_abandoned(self.now, &self.flows));
        abandoned
            && !self
                .flows
                .get(id)
                .streams
                .iter()
                .any(|stream| stream.ssrc == ssrc && stream.continues(packet))
    }

    /// A fax has taken the place of audio: what looks like RTP on its flow and is of no stream that was there before
    /// is UDPTL (ITU-T T.38, 9.1).
    fn is_fax(&self, id: FlowId, binding: &Binding, ssrc: u32) -> bool {
        let flow = self.flows.get(id);
        let is_fax = self.calls.get(binding.call).is_some_and(|call| call.is_fax(&flow.key, binding.speaker));
        is_fax && !flow.streams.iter().any(|stream| stream.ssrc == ssrc)
    }

    fn handle_claimed(&mut self, id: FlowId, binding: &Binding, ssrc: u32, packet: &RtpPacket<'_>) {
        let stream = self.flows.find_stream(id, ssrc, packet.at);
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
        let few = self.flows.unclaimed() <= self.config.max_unclaimed || self.config.orphans;
        let stream = self.flows.find_stream(id, ssrc, packet.at);
        self.flows.note_unclaimed(id);
        let flow = self.flows.get_mut(id);
        if flow.spent && packet.at.since(flow.last) > crate::time::SECOND {
            flow.spent = false;
        }
        let (spent, key) = (flow.spent, flow.key);
        let Some(stream) = flow.streams.get_mut(stream) else { return };
        let before = stream.memory();
        // Of what has just begun, a description may be on its way.
        let keep = few || packet.at.since(stream.first) < YOUNG;
        stream.receive_unclaimed(packet, keep && !spent);
        let after = stream.memory();
        let lasting = stream.unique() >= ORPHAN_PACKETS && packet.at.since(stream.first) >= ORPHAN_TIME;
        self.flows.note_memory(id, before, after);
        if self.config.orphans && lasting && !spent && self.is_audio(id, ssrc) {
            self.claim_orphan(&key, ssrc);
        }
    }

    fn is_audio(&self, id: FlowId, ssrc: u32) -> bool {
        let mut streams = self.flows.get(id).streams.iter();
        streams.any(|stream| stream.ssrc == ssrc && stream.looks_like_audio())
    }

    /// A stream of no call is what the other side of a call made of RTP alone says, or begins one.
    fn claim_orphan(&mut self, key: &FlowKey, ssrc: u32) {
        let now = self.now;
        let claimants = self.flows.claimants(&key.source).chain(self.flows.claimants(&key.destination));
        let is_answered =
            |call: &CallKey| self.calls.get(*call).is_some_and(|call| call.is_answered_by(key, &self.flows));
        let answered = claimants.into_iter().find(is_answered);
        let (call, speaker) = match answered {
            Some(call) => (call, Side::Callee),
            None => {
                let (calls, mut context) = self.split();
                (calls.add_orphan(key, ssrc, &mut context), Side::Caller)
            }
        };
        self.flows.claim(key.source, call, speaker, now);
        self.flows.claim(key.destination, call, speaker.other(), now);
        self.bind_dirty();
    }

    /// Takes note of the packets of a flow that were let pass.
    fn catch_up(&mut self, id: FlowId) {
        if let Some(at) = self.flows.catch_up(id)
            && let Some(binding) = self.flows.get(id).binding
            && let Some(call) = self.calls.get_mut(binding.call)
        {
            call.note_passed(at);
        }
    }

    /// Finds out anew which call a flow belongs to. Returns whether that is another than before.
    fn bind(&mut self, id: FlowId) -> bool {
        let now = self.now;
        self.catch_up(id);
        let calls = &self.calls;
        let bound_to = self.flows.get(id).binding.map(|binding| binding.call);
        let standing = |key: CallKey| match calls.get(key) {
            None => Standing::Gone,
            Some(call) if call.is_over() => Standing::Over,
            // What begins now on its ports is another call's, of which nothing else may have been seen.
            Some(call) if call.is_abandoned(now, &self.flows) && bound_to != Some(key) => Standing::Gone,
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
        if flow.spent && !found.by.is_sure() && now.since(flow.last) < GOES_ON {
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
        let (calls, mut context) = self.split();
        let Some(call) = calls.get_mut(found.call) else { return false };
        let found = call.tell_apart(&context.flows.get(id).key, found, context.flows);
        call.adopt(id, &mut context);
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
        context.flows.weigh(id);
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

#[cfg(test)]
mod tests;
