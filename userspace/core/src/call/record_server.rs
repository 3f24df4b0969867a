//! Recordings that phones order from a record server over TCP, and the stream with all they hear that they send it.

use std::collections::{BTreeMap, BTreeSet};

use super::directory::Whom;
use super::lookup::Caller;
use super::session::Original;
use super::table::{Calls, tell_lost};
use super::{Call, Context, End, LINGER};
use crate::media::CallKey;
use crate::record::{EndReason, Party, Side};
use crate::recording_session::{Carries, Recognised};
use crate::time::Timestamp;
use crate::trigger::record_server::{Direction, Kind, Message, NAME};
use crate::trigger::url_record::device;
use crate::trigger::{Answer, Outcome, Transaction, Trigger, Verb};
use crate::wire::{Endpoint, FlowKey};

/// Recordings on all connections; the oldest is forgotten first.
const MAX_ORDERS: usize = 16_384;
/// Recordings on one connection.
const MAX_ORDERS_OF_CONNECTION: usize = 256;
/// Characters kept of a field.
const MAX_FIELD: usize = 200;

/// Names a recording: the connection, from phone to server, and the id on it.
pub(super) type OrderKey = (FlowKey, Box<str>);

/// A recording that a phone has ordered.
pub(super) struct Order {
    at: Timestamp,
    /// The call that is to be recorded, if it is seen.
    original: Option<CallKey>,
    /// The stream to the server.
    stream: Option<CallKey>,
    /// The requests to start and to stop that wait for their answers.
    start: Option<u64>,
    stop: Option<(u64, Timestamp)>,
    parties: (Party, Party),
}

/// All of them.
#[derive(Default)]
pub(super) struct Orders {
    all: BTreeMap<OrderKey, Order>,
    by_age: BTreeSet<(Timestamp, OrderKey)>,
}

impl Orders {
    fn get_mut(&mut self, key: &OrderKey) -> Option<&mut Order> {
        self.all.get_mut(key)
    }

    fn insert(&mut self, key: OrderKey, order: Order) {
        self.by_age.insert((order.at, key.clone()));
        self.all.insert(key, order);
    }

    fn remove(&mut self, key: &OrderKey) -> Option<Order> {
        let order = self.all.remove(key)?;
        self.by_age.remove(&(order.at, key.clone()));
        Some(order)
    }

    fn of_connection(&self, flow: FlowKey) -> impl Iterator<Item = &OrderKey> {
        let first = (flow, Box::from(""));
        self.all.range(first..).map(|(key, _)| key).take_while(move |(other, _)| *other == flow)
    }

    /// Whether one more is taken, for which the oldest is given up if need be.
    fn make_room(&mut self, key: &OrderKey) -> bool {
        if self.all.contains_key(key) || self.of_connection(key.0).nth(MAX_ORDERS_OF_CONNECTION - 1).is_some()
        {
            return false;
        }
        if self.all.len() >= MAX_ORDERS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.all.remove(&oldest);
        }
        true
    }
}

impl Calls {
    /// Takes a message of a control connection that came at `at`. `number` is that of a request.
    pub fn handle_control(
        &mut self,
        flow: &FlowKey,
        message: &Message<'_>,
        number: u64,
        at: Timestamp,
        context: &mut Context<'_>,
    ) {
        let id: String = message.id().unwrap_or_default().chars().take(MAX_FIELD).collect();
        let id = id.into_boxed_str();
        match message.kind {
            Kind::StartRequest => self.order(flow, id, message, number, at, context),
            Kind::StartResponse => self.answer_order(&(flow.reversed(), id), message, at, context),
            Kind::StopRequest => self.cancel_order(&(*flow, id), number, at, context),
            Kind::StopResponse => self.answer_cancel(&(flow.reversed(), id), message, context),
        }
    }

    /// A control connection is no more: neither are its recordings.
    pub fn control_closed(&mut self, flow: &FlowKey, context: &mut Context<'_>) {
        for flow in [*flow, flow.reversed()] {
            let keys: Vec<OrderKey> = self.orders.of_connection(flow).cloned().collect();
            for key in keys {
                let Some(order) = self.orders.remove(&key) else { continue };
                let (at, words) = (context.now, "the connection was closed".to_owned());
                if let Some(number) = order.start {
                    let answer = Answer { outcome: Outcome::Unconfirmed, verb: None, words };
                    self.tell(order.original, number, answer, context);
                } else if let Some((number, _)) = order.stop {
                    // It was asked for, and is so.
                    let answer = Answer { outcome: Outcome::Confirmed, verb: None, words };
                    self.tell(order.original, number, answer, context);
                } else {
                    self.ask(order.original, trigger(&key, Verb::Stop, at, None), context);
                }
                let at = order.stop.map_or(at, |(_, asked)| asked);
                let stop = trigger(&key, Verb::Stop, at, None);
                self.end_stream(order.stream, &stop, EndReason::DialogGone, context);
            }
        }
    }

    fn order(
        &mut self,
        flow: &FlowKey,
        id: Box<str>,
        message: &Message<'_>,
        number: u64,
        at: Timestamp,
        context: &mut Context<'_>,
    ) {
        let key = (*flow, id);
        if !self.orders.make_room(&key) {
            // Sent again, or one of too many.
            return;
        }
        let field = |value: Option<std::borrow::Cow<'_, str>>| -> String {
            value.unwrap_or_default().chars().take(MAX_FIELD).collect()
        };
        let (local, remote) = (field(message.local_number()), field(message.remote_number()));
        let user = |user: &str| Whom::User(user.into());
        let is_up = |call: &Call| call.is_answered();
        let device = message.device().and_then(|text| device(&text)).map(Whom::Device);
        let phone = Caller { host: flow.source.ip, user: Some(&local), agent: "" };
        let original = self
            .most_prominent_of(&user(&local), context, |call| is_up(call) && call.has_name(&user(&remote)))
            .or_else(|| self.of_phone(&phone, context, is_up))
            .or_else(|| self.most_prominent_of(&device?, context, is_up));
        let party = Party {
            uri: local.clone(),
            user: local,
            display: field(message.local_name()),
            address: Some(flow.source.address()),
            ..Party::default()
        };
        let other = Party {
            uri: remote.clone(),
            user: remote,
            display: field(message.remote_name()),
            ..Party::default()
        };
        let parties = match message.direction() {
            Some(Direction::In) => (other, party),
            _ => (party, other),
        };
        let start = trigger(&key, Verb::Start, at, Some(number));
        self.ask(original, start, context);
        let order = Order { at, original, stream: None, start: Some(number), stop: None, parties };
        self.orders.insert(key, order);
    }

    fn answer_order(
        &mut self,
        key: &OrderKey,
        message: &Message<'_>,
        at: Timestamp,
        context: &mut Context<'_>,
    ) {
        let Some(order) = self.orders.get_mut(key) else { return };
        let Some(number) = order.start.take() else { return };
        let words = message.reason().map(|reason| reason.chars().take(120).collect()).unwrap_or_default();
        let succeeded = message.succeeded().unwrap_or(message.port().is_some());
        let (original, asked) = (order.original, order.at);
        if !succeeded {
            self.orders.remove(key);
            let answer = Answer { outcome: Outcome::Refused(0), verb: None, words };
            match original {
                Some(_) => self.tell(original, number, answer, context),
                None => tell_lost(&trigger(key, Verb::Start, asked, None), &answer, context),
            }
            return;
        }
        let parties = order.parties.clone();
        let start = trigger(key, Verb::Start, asked, None);
        self.tell(original, number, Answer { outcome: Outcome::Confirmed, verb: None, words }, context);
        let Some(port) = message.port() else { return };
        let server = Endpoint::new(message.server().unwrap_or(key.0.destination.address()), port);
        let stream = self.open_stream(key, original, parties, server, [asked, at], context);
        if let Some(call) = self.get_mut(stream).filter(|call| !call.is_spare()) {
            call.tell_trigger(&start, Outcome::Confirmed, String::new(), context);
        }
        if let Some(order) = self.orders.get_mut(key) {
            order.stream = Some(stream);
        }
    }

    fn cancel_order(&mut self, key: &OrderKey, number: u64, at: Timestamp, context: &mut Context<'_>) {
        let Some(order) = self.orders.get_mut(key).filter(|order| order.stop.is_none()) else { return };
        order.stop = Some((number, at));
        let original = order.original;
        self.ask(original, trigger(key, Verb::Stop, at, Some(number)), context);
    }

    fn answer_cancel(&mut self, key: &OrderKey, message: &Message<'_>, context: &mut Context<'_>) {
        let Some(order) = self.orders.get_mut(key) else { return };
        let Some((number, at)) = order.stop.take() else { return };
        let (original, stream) = (order.original, order.stream);
        let words = message.reason().map(|reason| reason.chars().take(120).collect()).unwrap_or_default();
        let succeeded = message.succeeded().unwrap_or(true);
        let outcome = if succeeded { Outcome::Confirmed } else { Outcome::Refused(0) };
        self.tell(original, number, Answer { outcome, verb: None, words }, context);
        if succeeded {
            self.orders.remove(key);
            self.end_stream(stream, &trigger(key, Verb::Stop, at, None), EndReason::Trigger, context);
        }
    }

    /// The stream in which the phone sends what it hears and says.
    fn open_stream(
        &mut self,
        key: &OrderKey,
        original: Option<CallKey>,
        parties: (Party, Party),
        server: Endpoint,
        [asked, at]: [Timestamp; 2],
        context: &mut Context<'_>,
    ) -> CallKey {
        let (flow, id) = key;
        let original = original.and_then(|key| self.get(key)).map(Original::of);
        let name = format!("{id}@{}", flow.source.socket());
        let found = Recognised::new(NAME, Carries::Mixed);
        let call = self.insert(context, |key, context| {
            let mut call = Call::new(key, name.as_bytes(), NAME.as_bytes(), context);
            (call.from, call.to) = parties;
            // Its media may have come before the message was known to be complete.
            (call.start, call.answer) = (asked, Some(at));
            call.begin_session(&found, name.as_bytes(), original);
            call
        });
        context.flows.claim(server, call, Side::Callee, context.now);
        if let Some(call) = self.get_mut(call) {
            call.receives_at = Some(server);
        }
        self.reschedule(call, context);
        call
    }

    fn end_stream(
        &mut self,
        stream: Option<CallKey>,
        stop: &Trigger,
        reason: EndReason,
        context: &mut Context<'_>,
    ) {
        let Some(key) = stream else { return };
        let at = stop.at;
        if let Some(call) = self.get_mut(key).filter(|call| !call.is_over()) {
            call.end = Some(End { at, reason, linger: LINGER });
            let server = call.receives_at.take();
            if !call.is_spare() {
                call.tell_trigger(stop, Outcome::Confirmed, String::new(), context);
            }
            // The next recording may use the same port at once.
            if let Some(server) = server {
                context.flows.drop_claim(server, key);
            }
        }
        self.reschedule(key, context);
    }

    fn ask(&mut self, call: Option<CallKey>, trigger: Trigger, context: &mut Context<'_>) {
        let Some(key) = call else { return };
        if let Some(call) = self.get_mut(key) {
            call.request(trigger, context);
        }
        self.reschedule(key, context);
    }

    fn tell(&mut self, call: Option<CallKey>, number: u64, answer: Answer, context: &mut Context<'_>) {
        let Some(key) = call else { return };
        if let Some(call) = self.get_mut(key) {
            call.answer_numbered(number, Some(answer), context);
        }
        self.reschedule(key, context);
    }
}

fn trigger((flow, _): &OrderKey, verb: Verb, at: Timestamp, number: Option<u64>) -> Trigger {
    Trigger::new(NAME, verb, at, flow, number.map(Transaction::Numbered))
}
