//! What comes over TCP: SIP, also in WebSockets, HTTP record triggers, the control connections of record servers, and
//! copies in HEP.

use std::collections::VecDeque;

use hashlink::LinkedHashMap;

use super::Engine;
use crate::hep;
use crate::http;
use crate::media::CallKey;
use crate::reassembly::tcp::{Chunk, Direction};
use crate::sip::{Framer, Framing};
use crate::time::{MILLISECOND, Timestamp};
use crate::trigger::record_server;
use crate::trigger::url_record::{self, Answers};
use crate::websocket;
use crate::wire::{FlowKey, Segment};

/// Requests of one connection that may wait for their responses.
const MAX_ASKED: usize = 32;
/// A message to or from a record server that nothing ends has ended when nothing more comes for so long.
const MESSAGE_ENDS: i64 = 20 * MILLISECOND;

/// Bytes that a direction takes beside what it keeps: its entry in the table, and what allocations cost.
const OVERHEAD: usize = 96 + size_of::<(FlowKey, Entry)>();

/// One direction of a connection.
#[derive(Default)]
struct Connection {
    direction: Direction,
    talk: Talk,
}

impl Connection {
    fn memory(&self) -> usize {
        OVERHEAD + self.direction.waiting() + self.talk.memory()
    }
}

/// What is said in one direction.
enum Talk {
    /// SIP, or not known yet.
    Sip(Framer),
    /// HTTP requests; or responses of which the first leads to a WebSocket.
    Requests(Box<http::Framer>),
    /// The responses, from the first request that is a trigger on.
    Responses(Box<Responses>),
    /// What phones and a record server say to each other.
    Control(Box<record_server::Framer>),
    /// SIP in a WebSocket, or not known yet.
    WebSocket(Box<websocket::Framer>),
    /// What is copied to a collector.
    Copies(Box<hep::Framer>),
    /// Nothing that matters.
    Foreign,
}

impl Default for Talk {
    fn default() -> Talk {
        Talk::Sip(Framer::default())
    }
}

#[derive(Default)]
struct Responses {
    framer: http::Framer,
    /// Requests in the order in which they were made.
    asked: VecDeque<Asked>,
    status: u16,
}

/// A request that has no response yet.
#[derive(Clone, Copy, Debug)]
struct Asked {
    trigger: Option<Pending>,
    /// To HEAD.
    is_bare: bool,
}

/// A trigger that waits for its response.
#[derive(Clone, Copy, Debug)]
struct Pending {
    call: CallKey,
    number: u64,
    answer: Answers,
}

/// A direction in the table.
struct Entry {
    connection: Connection,
    last: Timestamp,
    /// What it takes, as the table knows it.
    memory: usize,
}

/// TCP connections, each direction for itself, the longest idle first to go.
pub(super) struct Connections {
    /// The longest idle first.
    by_flow: LinkedHashMap<FlowKey, Entry, foldhash::fast::RandomState>,
    capacity: usize,
    memory: usize,
    pub(super) evicted: u64,
    /// Directions in which a message may be complete, if nothing more comes until then.
    unfinished: VecDeque<(Timestamp, FlowKey)>,
}

impl Engine {
    /// When something is due here.
    pub(super) fn poll_streams(&self) -> Timestamp {
        self.tcp.unfinished.front().map_or(Timestamp::FAR_FUTURE, |(at, _)| *at)
    }

    /// Does what is due now.
    pub(super) fn handle_idle_streams(&mut self) {
        while let Some((_, flow)) = self.tcp.unfinished.pop_front_if(|(at, _)| *at <= self.now) {
            if self.tcp.last(&flow).is_some_and(|last| self.now.since(last) >= MESSAGE_ENDS) {
                self.finish_message(&flow);
            }
        }
    }

    /// Nothing in that direction says so, but what has come of a message is all of it.
    fn finish_message(&mut self, flow: &FlowKey) {
        let Some(entry) = self.tcp.by_flow.get_mut(flow) else { return };
        let (at, Talk::Control(framer)) = (entry.last, &mut entry.connection.talk) else { return };
        let mut framer = std::mem::take(framer);
        framer.finish(|message| self.handle_control(flow, &message, at));
        if let Some(entry) = self.tcp.by_flow.get_mut(flow) {
            entry.connection.talk = Talk::Control(framer);
        }
    }

    fn handle_control(&mut self, flow: &FlowKey, message: &record_server::Message<'_>, at: Timestamp) {
        self.next_request += 1;
        let number = self.next_request;
        let (calls, mut context) = self.split();
        calls.handle_control(flow, message, number, at, &mut context);
        self.bind_dirty();
    }

    pub(super) fn handle_segment(&mut self, flow: &FlowKey, segment: &Segment<'_>) {
        self.counters.tcp_segments += 1;
        if segment.payload.is_empty() && !segment.syn && !segment.rst && !segment.fin {
            return;
        }
        let now = self.now;
        let Some(connection) = self.tcp.find(flow, segment, now) else { return };
        if matches!(connection.talk, Talk::Foreign) {
            if segment.syn {
                *connection = Connection::default();
            } else if !segment.fin && !segment.rst {
                return;
            }
        }
        let Connection { mut direction, mut talk } = std::mem::take(connection);
        let mut gaps = 0;
        direction.add(now, segment, |chunk| match chunk {
            Chunk::Data(bytes) => self.handle_bytes(flow, &mut talk, bytes),
            Chunk::Gap => {
                talk.gap();
                gaps += 1;
            }
        });
        self.counters.tcp_gaps += gaps;
        if segment.fin || segment.rst {
            self.handle_end(flow, &mut talk);
        }
        self.tcp.put_back(flow, Connection { direction, talk });
        if segment.rst || segment.fin {
            self.tcp.close(flow, segment.rst);
        }
    }

    fn handle_bytes(&mut self, flow: &FlowKey, talk: &mut Talk, bytes: &[u8]) {
        if let Some(other) = talk.turns_to(bytes) {
            *talk = other;
        }
        let mut web_socket = None;
        let is_foreign = match talk {
            Talk::Sip(framer) => {
                framer.add(bytes, |message| self.handle_message(flow, message)) == Framing::Foreign
            }
            Talk::Requests(framer) => {
                let request = |message: http::Message<'_>| match message {
                    http::Message::Head(head @ http::Head::Request { .. }) => {
                        self.handle_request(flow, &head)
                    }
                    http::Message::WebSocket(bytes) => web_socket = Some(bytes.to_vec()),
                    http::Message::Head(http::Head::Response { .. }) | http::Message::End(_) => {}
                };
                framer.add(bytes, || true, request) == http::Framing::Foreign
            }
            Talk::Responses(responses) => self.handle_responses(responses, bytes, &mut web_socket),
            Talk::Control(framer) => {
                // Whoever is answered has said all there was to say.
                self.finish_message(&flow.reversed());
                let now = self.now;
                let framing = framer.add(bytes, |message| self.handle_control(flow, &message, now));
                if framer.is_unfinished() {
                    self.tcp.await_end(flow, now);
                }
                framing == record_server::Framing::Foreign
            }
            Talk::WebSocket(framer) => self.handle_websocket(flow, framer, bytes),
            Talk::Copies(framer) => {
                framer.add(bytes, |copy| self.handle_copy(flow, copy));
                false
            }
            Talk::Foreign => false,
        };
        if is_foreign {
            *talk = Talk::Foreign;
        } else if let Some(bytes) = web_socket {
            let mut framer = Box::<websocket::Framer>::default();
            let is_foreign = self.handle_websocket(flow, &mut framer, &bytes);
            *talk = if is_foreign { Talk::Foreign } else { Talk::WebSocket(framer) };
        }
    }

    fn handle_websocket(&mut self, flow: &FlowKey, framer: &mut websocket::Framer, bytes: &[u8]) -> bool {
        let framing = framer.add(bytes, |message| match message {
            websocket::Message::Sip(text) => self.handle_messages(flow, text),
            websocket::Message::Unread => self.counters.websocket_unread += 1,
        });
        framing == websocket::Framing::Foreign
    }

    /// There will be no more bytes.
    fn handle_end(&mut self, flow: &FlowKey, talk: &mut Talk) {
        match talk {
            Talk::Responses(responses) => {
                let Responses { framer, asked, status } = &mut **responses;
                framer.close(|message| {
                    if let http::Message::End(body) = message {
                        self.handle_response(asked, *status, body);
                    }
                });
            }
            Talk::Control(framer) => {
                let now = self.now;
                framer.finish(|message| self.handle_control(flow, &message, now));
                self.finish_message(&flow.reversed());
                let (calls, mut context) = self.split();
                calls.control_closed(flow, &mut context);
            }
            Talk::Sip(_) | Talk::Requests(_) | Talk::WebSocket(_) | Talk::Copies(_) | Talk::Foreign => {}
        }
    }

    fn handle_request(&mut self, flow: &FlowKey, head: &http::Head<'_>) {
        let read = self.config.urls.iter().find_map(|template| template.read(head));
        let trigger = read.and_then(|asked| {
            self.next_request += 1;
            let number = self.next_request;
            let (calls, mut context) = self.split();
            let call = calls.request_by_url(flow, &asked, number, &mut context)?;
            Some(Pending { call, number, answer: asked.answer })
        });
        let is_bare = matches!(head, http::Head::Request { method: "HEAD", .. });
        self.tcp.expect_response(&flow.reversed(), Asked { trigger, is_bare }, self.now);
    }

    fn handle_responses(
        &mut self,
        responses: &mut Responses,
        bytes: &[u8],
        web_socket: &mut Option<Vec<u8>>,
    ) -> bool {
        let Responses { framer, asked, status } = responses;
        let is_bare = asked.front().is_some_and(|asked| asked.is_bare);
        let response = |message: http::Message<'_>| match message {
            http::Message::Head(http::Head::Response { status: said }) => *status = said,
            http::Message::Head(_) => {}
            http::Message::End(body) => self.handle_response(asked, *status, body),
            http::Message::WebSocket(bytes) => *web_socket = Some(bytes.to_vec()),
        };
        framer.add(bytes, || !is_bare, response) == http::Framing::Foreign
    }

    fn handle_response(&mut self, asked: &mut VecDeque<Asked>, status: u16, body: &[u8]) {
        if status < 200 {
            return;
        }
        let Some(Pending { call, number, answer }) = asked.pop_front().and_then(|asked| asked.trigger) else {
            return;
        };
        let (calls, mut context) = self.split();
        let Some(found) = calls.get_mut(call) else { return };
        // With a password the same comes again.
        let answer = if matches!(status, 401 | 407) {
            None
        } else {
            url_record::answer(answer, status, body, found.was_recording(number))
        };
        found.answer_numbered(number, answer, &mut context);
        calls.reschedule(call, &mut context);
    }
}

impl Talk {
    /// What the next bytes show to be said from there on, if it is something else than until now.
    fn turns_to(&self, bytes: &[u8]) -> Option<Talk> {
        match self {
            Talk::Sip(framer) => {
                if framer.is_fresh() {
                    if http::begins_request(bytes) || http::begins_switch(bytes) {
                        return Some(Talk::Requests(Box::default()));
                    }
                    if record_server::may_begin(bytes) {
                        return Some(Talk::Control(Box::default()));
                    }
                }
                // These may have been up before: their first bytes were junk.
                if !framer.is_between_messages() {
                    None
                } else if websocket::begins_sip(bytes) {
                    Some(Talk::WebSocket(Box::default()))
                } else {
                    hep::is_copy(bytes).then(|| Talk::Copies(Box::default()))
                }
            }
            // The server did not agree: it goes on in HTTP.
            Talk::Requests(framer) if framer.is_switched() && http::begins_request(bytes) => {
                Some(Talk::Requests(Box::default()))
            }
            Talk::WebSocket(framer) if framer.is_between_frames() && http::begins_request(bytes) => {
                Some(Talk::Requests(Box::default()))
            }
            _ => None,
        }
    }

    /// Bytes are missing here.
    fn gap(&mut self) {
        match self {
            Talk::Sip(framer) => framer.gap(),
            Talk::Requests(framer) => framer.gap(),
            Talk::Control(framer) => framer.gap(),
            Talk::WebSocket(framer) => framer.gap(),
            Talk::Copies(framer) => framer.gap(),
            // Which response is whose cannot be told any more.
            Talk::Responses(_) => *self = Talk::Foreign,
            Talk::Foreign => {}
        }
    }

    fn memory(&self) -> usize {
        match self {
            Talk::Sip(framer) => framer.memory(),
            Talk::Requests(framer) => size_of_val(&**framer) + framer.memory(),
            Talk::Responses(responses) => {
                let asked = responses.asked.capacity() * size_of::<Asked>();
                size_of_val(&**responses) + responses.framer.memory() + asked
            }
            Talk::Control(framer) => size_of_val(&**framer) + framer.memory(),
            Talk::WebSocket(framer) => size_of_val(&**framer) + framer.memory(),
            Talk::Copies(framer) => size_of_val(&**framer) + framer.memory(),
            Talk::Foreign => 0,
        }
    }
}

impl Connections {
    pub(super) fn new(capacity: usize) -> Connections {
        Connections {
            by_flow: LinkedHashMap::default(),
            capacity: capacity.max(1),
            memory: 0,
            evicted: 0,
            unfinished: VecDeque::new(),
        }
    }

    /// Bytes that all take, about.
    pub(super) fn memory(&self) -> usize {
        self.memory + self.unfinished.len() * size_of::<(Timestamp, FlowKey)>()
    }

    /// Gives up the direction that has been idle longest, for want of room. Returns whether there was one.
    pub(super) fn give_up_oldest(&mut self) -> bool {
        let Some((_, entry)) = self.by_flow.pop_front() else { return false };
        self.memory -= entry.memory;
        self.evicted += 1;
        true
    }

    fn find(&mut self, flow: &FlowKey, segment: &Segment<'_>, now: Timestamp) -> Option<&mut Connection> {
        if !self.by_flow.contains_key(flow) && segment.payload.is_empty() && !segment.syn {
            return None;
        }
        Some(&mut self.touch(flow, now).connection)
    }

    /// The direction, which is not idle.
    fn touch(&mut self, flow: &FlowKey, now: Timestamp) -> &mut Entry {
        if self.by_flow.to_back(flow).is_none() && self.by_flow.len() >= self.capacity {
            self.give_up_oldest();
        }
        let memory = &mut self.memory;
        let entry = self.by_flow.entry(*flow).or_insert_with(|| {
            *memory += OVERHEAD;
            Entry { connection: Connection::default(), last: now, memory: OVERHEAD }
        });
        entry.last = now;
        entry
    }

    /// A request has been made whose response will come on that flow. Responses are followed from the first request
    /// that is a trigger on.
    fn expect_response(&mut self, flow: &FlowKey, request: Asked, now: Timestamp) {
        let known = self.by_flow.get(flow);
        let follows = known.is_some_and(|known| matches!(known.connection.talk, Talk::Responses(_)));
        if !follows && request.trigger.is_none() {
            return;
        }
        let entry = self.touch(flow, now);
        if !follows {
            // What came before may not have been followed: the next bytes are where it begins.
            entry.connection =
                Connection { direction: Direction::default(), talk: Talk::Responses(Box::default()) };
        }
        if let Talk::Responses(responses) = &mut entry.connection.talk {
            if responses.asked.len() >= MAX_ASKED {
                responses.asked.clear();
            }
            responses.asked.push_back(request);
        }
        self.weigh(flow);
    }

    /// When bytes came last in that direction.
    fn last(&self, flow: &FlowKey) -> Option<Timestamp> {
        self.by_flow.get(flow).map(|entry| entry.last)
    }

    /// The message that has begun there is complete if nothing more comes for a while.
    fn await_end(&mut self, flow: &FlowKey, now: Timestamp) {
        if self.unfinished.len() < self.capacity {
            self.unfinished.push_back((now + MESSAGE_ENDS, *flow));
        }
    }

    fn put_back(&mut self, flow: &FlowKey, connection: Connection) {
        if let Some(entry) = self.by_flow.get_mut(flow) {
            entry.connection = connection;
        }
        self.weigh(flow);
    }

    /// Takes note of what a direction takes now.
    fn weigh(&mut self, flow: &FlowKey) {
        if let Some(entry) = self.by_flow.get_mut(flow) {
            let memory = entry.connection.memory();
            self.memory = self.memory - entry.memory + memory;
            entry.memory = memory;
        }
    }

    fn close(&mut self, flow: &FlowKey, both: bool) {
        self.remove(flow);
        if both {
            self.remove(&flow.reversed());
        }
    }

    fn remove(&mut self, flow: &FlowKey) {
        if let Some(entry) = self.by_flow.remove(flow) {
            self.memory -= entry.memory;
        }
    }
}
