//! Transfers: a party refers the other one to somebody else, and a new call goes on where this one ends.

use percent_encoding::percent_decode;

use super::conversation::Relative;
use super::dialog::text;
use super::directory::Whom;
use super::table::Calls;
use super::{Call, Context, TIMER_F};
use crate::event::Event;
use crate::media::CallKey;
use crate::record::{EventRow, Side};
use crate::sip::{Address, Message, StartLine};
use crate::time::Timestamp;
use crate::trigger::Outcome;
use crate::wire::FlowKey;

/// The word of the events.
const TRANSFER: &str = "transfer";
/// REFERs of one call that may be on their way.
const MAX_REFERS: usize = 8;
/// Hops on which one of them is seen.
const MAX_HOPS: usize = 8;

/// A request to call somebody else (RFC 3515).
#[derive(Debug)]
pub(super) struct Refer {
    author: Side,
    cseq: u32,
    at: Timestamp,
    /// Who is to be called.
    user: Box<[u8]>,
    uri: String,
    /// Where it went.
    hosts: Vec<u128>,
    /// The call that has come of it.
    is_followed: bool,
    is_settled: bool,
}

impl Calls {
    /// A new call says which one it replaces, joins or comes from.
    pub(super) fn join_by_dialog(
        &mut self,
        key: CallKey,
        flow: &FlowKey,
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        let dialog = |name: &[u8]| message.header(name).map(call_id_of);
        for (name, kind) in [(&b"replaces"[..], TRANSFER), (b"join", "conference"), (b"target-dialog", "")] {
            let other = dialog(name).and_then(|call_id| self.named(call_id)).filter(|other| !other.is(key));
            if let Some(other) = other {
                self.relate(key, &other, kind, context);
            }
        }
        if let Some(referring) = self.referring(key, flow, message, context.now) {
            let user = [message.to().user(), request_user(message)];
            let is_followed =
                self.get_mut(referring).is_some_and(|call| call.follow_refer(&user, context.now));
            let kind = if is_followed { "" } else { TRANSFER };
            self.relate(key, &Relative::Known(referring), kind, context);
        }
    }

    /// The call in which somebody has been referred to whom this INVITE calls.
    fn referring(
        &self,
        key: CallKey,
        flow: &FlowKey,
        message: &Message<'_>,
        now: Timestamp,
    ) -> Option<CallKey> {
        let referrer = message.header(b"referred-by").or_else(|| message.header(b"b"));
        let referrer = referrer.map(|value| text(Address::parse(value).user()));
        let users = [message.to().user(), request_user(message)];
        let calls = users.iter().flat_map(|user| self.directory.find(&Whom::Referred((*user).into())));
        let fits = |other: &CallKey| {
            let call = self.get(*other).filter(|_| *other != key)?;
            let refer = call.refers.iter().rev().find(|refer| refer.is_to(&users, now))?;
            let [author, transferee] = match refer.author {
                Side::Caller => [&call.from, &call.to],
                Side::Callee => [&call.to, &call.from],
            };
            let is_theirs = refer.hosts.contains(&flow.source.ip)
                || text(message.from().user()) == transferee.user
                || referrer.as_ref().is_some_and(|referrer| *referrer == author.user);
            is_theirs.then_some((refer.at, other.generation))
        };
        calls
            .filter_map(|other| fits(&other).map(|rank| (rank, other)))
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, key)| key)
    }

    /// REFER, its answer, and word of what has come of it.
    pub(super) fn follow_transfer(
        &mut self,
        key: CallKey,
        flow: &FlowKey,
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        let is = |name: &[u8]| message.method().eq_ignore_ascii_case(name);
        let is_refer = is(b"REFER");
        match message.start {
            StartLine::Request { .. } if is_refer => self.refer(key, flow, message, context),
            StartLine::Request { .. } if is(b"NOTIFY") => {
                if let Some(call) = self.get_mut(key) {
                    call.take_notify(message, context);
                }
            }
            StartLine::Response { status, reason }
                if is_refer && status >= 300 && !matches!(status, 401 | 407) =>
            {
                let cseq = message.cseq().number;
                if let Some(call) = self.get_mut(key) {
                    call.settle_refer(|refer| refer.cseq == cseq, status, reason, context);
                }
            }
            _ => {}
        }
    }

    /// A REFER outside a dialog names the one that it is about (RFC 4538).
    pub(super) fn refer_from_outside(
        &mut self,
        flow: &FlowKey,
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        let is_refer = matches!(message.start, StartLine::Request { method, .. } if method.eq_ignore_ascii_case(b"REFER"));
        let named = is_refer.then(|| message.header(b"target-dialog")).flatten().map(call_id_of);
        if let Some(Relative::Known(key)) = named.and_then(|call_id| self.named(call_id)) {
            self.refer(key, flow, message, context);
        }
    }

    /// A party of the call is asked to call somebody else.
    fn refer(&mut self, key: CallKey, flow: &FlowKey, message: &Message<'_>, context: &mut Context<'_>) {
        let Some(target) = message.header(b"refer-to").or_else(|| message.header(b"r")) else { return };
        let target = Address::parse(target);
        let Some(call) = self.get_mut(key) else { return };
        if !call.begin_refer(&target, flow, message, context) {
            return;
        }
        self.enter(key);
        // With consultation (RFC 5589, 7): that call belongs here whatever comes of the transfer.
        let consulted = replaced_by(&target).and_then(|call_id| self.named(&call_id));
        if let Some(consulted) = consulted.filter(|other| !other.is(key)) {
            self.join(key, &consulted);
            let words =
                [self.words("to the other end of", &consulted), self.words("of", &Relative::Known(key))];
            self.tell_both(key, &consulted, TRANSFER, [&words[0], &words[1]], context);
        }
    }

    /// A new call belongs with another; `kind` is what is told of it, if anything.
    fn relate(&mut self, key: CallKey, other: &Relative, kind: &'static str, context: &mut Context<'_>) {
        self.join(key, other);
        let [new, old] = match kind {
            "" => return,
            TRANSFER => ["goes on from", "goes on in"],
            _ => ["joins", "joined by"],
        };
        let words = [self.words(new, other), self.words(old, &Relative::Known(key))];
        self.tell_both(key, other, kind, [&words[0], &words[1]], context);
    }

    /// `goes on in 0a1b… (Call-ID)`.
    fn words(&self, verb: &str, other: &Relative) -> String {
        let (id, call_id) = match other {
            Relative::Known(key) => match self.get(*key) {
                Some(call) => (call.id, call.call_id.as_str()),
                None => return verb.to_owned(),
            },
            Relative::Past(past) => (past.call, past.call_id.as_str()),
        };
        format!("{verb} {id} ({call_id})")
    }

    /// Tells two calls of each other.
    pub(super) fn tell_both(
        &self,
        key: CallKey,
        other: &Relative,
        kind: &'static str,
        [own, others]: [&str; 2],
        context: &mut Context<'_>,
    ) {
        let mut rows = Vec::new();
        let own_call = |key| self.get(key).filter(|call| call.is_own);
        rows.extend(own_call(key).map(|call| call.note(context.now, kind, own)));
        match other {
            Relative::Known(other) => {
                rows.extend(own_call(*other).map(|call| call.note(context.now, kind, others)));
            }
            Relative::Past(past) if !past.is_own => {}
            Relative::Past(past) => rows.push(EventRow {
                call: past.call,
                call_id: past.call_id.clone(),
                at: context.now,
                kind,
                trigger: "",
                verb: "",
                outcome: "",
                source: None,
                destination: None,
                text: others.to_owned(),
            }),
        }
        context.events.extend(rows.into_iter().map(|row| Event::Happened(Box::new(row))));
    }
}

impl Call {
    /// Notes a REFER. Returns whether it has not been seen on another hop before.
    fn begin_refer(
        &mut self,
        target: &Address<'_>,
        flow: &FlowKey,
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        let [from, to] = [message.from(), message.to()].map(|party| party.tag().unwrap_or_default());
        let (author, cseq) = (self.side_of_sender(from, to), message.cseq().number);
        let known = self.refers.iter_mut().find(|refer| (refer.author, refer.cseq) == (author, cseq));
        if let Some(refer) = known {
            if refer.hosts.len() < MAX_HOPS {
                refer.hosts.push(flow.destination.ip);
            }
            return false;
        }
        if self.refers.len() == MAX_REFERS {
            self.refers.remove(0);
        }
        let (user, uri) = (target.user(), text(target.bare_uri()));
        self.names.add(Whom::Referred(user.into()));
        self.tell(context.now, TRANSFER, format!("{} to {uri}", author.as_str()), context);
        self.refers.push(Refer {
            author,
            cseq,
            at: context.now,
            user: user.into(),
            uri,
            hosts: vec![flow.destination.ip],
            is_followed: false,
            is_settled: false,
        });
        true
    }

    /// A call to one of these has come of a REFER. Returns whether another had already.
    fn follow_refer(&mut self, users: &[&[u8]], now: Timestamp) -> bool {
        let refer = self.refers.iter_mut().rev().find(|refer| refer.is_to(users, now));
        refer.is_some_and(|refer| std::mem::replace(&mut refer.is_followed, true))
    }

    /// The transferee says how the new call fares (RFC 3515, 2.4.4).
    fn take_notify(&mut self, message: &Message<'_>, context: &mut Context<'_>) {
        let kind = message.content_type.unwrap_or_default();
        const SIPFRAG: &[u8] = b"message/sipfrag";
        if !kind.get(..SIPFRAG.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(SIPFRAG)) {
            return;
        }
        let Some(StartLine::Response { status, reason }) =
            Message::parse(message.body).map(|part| part.start)
        else {
            return;
        };
        let event = message.header(b"event").or_else(|| message.header(b"o")).unwrap_or_default();
        let id = event.split(|byte| *byte == b';').find_map(|part| part.trim_ascii().strip_prefix(b"id="));
        let id: Option<u32> = id.and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        if status >= 200 {
            self.settle_refer(|refer| id.is_none_or(|id| refer.cseq == id), status, reason, context);
        }
    }

    fn settle_refer(
        &mut self,
        is_meant: impl Fn(&Refer) -> bool,
        status: u16,
        reason: &[u8],
        context: &mut Context<'_>,
    ) {
        let mut open = self.refers.iter_mut().rev().filter(|refer| !refer.is_settled);
        let Some(refer) = open.find(|refer| is_meant(refer)) else { return };
        refer.is_settled = true;
        let words = format!("to {}: {status} {}", refer.uri, text(reason));
        let outcome = if status < 300 { Outcome::Confirmed } else { Outcome::Refused(status) };
        let row =
            EventRow { outcome: outcome.as_str(), ..self.note(context.now, TRANSFER, words.trim_end()) };
        self.emit(context, || Event::Happened(Box::new(row)));
    }
}

impl Refer {
    fn is_to(&self, users: &[&[u8]], now: Timestamp) -> bool {
        now.since(self.at) <= TIMER_F && users.iter().any(|user| *self.user == **user)
    }
}

/// Who is called by a request.
fn request_user<'a>(message: &Message<'a>) -> &'a [u8] {
    match message.start {
        StartLine::Request { uri, .. } => Address::parse(uri).user(),
        StartLine::Response { .. } => &[],
    }
}

/// Of a dialog as Replaces, Join and Target-Dialog name it: `12345@host;to-tag=…;from-tag=…`.
pub(super) fn call_id_of(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// The Call-ID of the dialog that a transfer with consultation replaces: `<sip:a@b?Replaces=12345%40host%3B…>`.
fn replaced_by(target: &Address<'_>) -> Option<Vec<u8>> {
    const REPLACES: &[u8] = b"replaces=";
    let headers = target.uri.splitn(2, |byte| *byte == b'?').nth(1)?;
    let mut fields = headers.split(|byte| *byte == b'&');
    let found = fields
        .find(|field| field.get(..REPLACES.len()).is_some_and(|name| name.eq_ignore_ascii_case(REPLACES)))?;
    let value: Vec<u8> = percent_decode(&found[REPLACES.len()..]).collect();
    Some(call_id_of(&value).to_vec()).filter(|call_id| !call_id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_dialog_is_replaced() {
        let of = |value: &str| replaced_by(&Address::parse(value.as_bytes()));
        let refer_to = "<sip:1012@h?X=1&Replaces=90%40h%3Bto-tag%3D1%3Bfrom-tag%3D2>";
        assert_eq!(of(refer_to).unwrap(), b"90@h");
        assert_eq!(of("<sip:1012@h?replaces=90>").unwrap(), b"90");
        for none in
            ["<sip:1012@h>", "<sip:1012@h?Replaces=>", "<sip:1012@h?Replaces=%3Bto-tag>", "", "?", "<?>"]
        {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(call_id_of(b" 90@h ;to-tag=1"), b"90@h");
    }
}
