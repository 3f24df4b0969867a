//! Calls without a Call-ID.
//!
//! What is damaged, cut off, or written by somebody who has not read the standard may have none (RFC 3261, 8.1.1.4).
//! Such a message is known by what else a dialog is identified by (RFC 3261, 12): the tags, each with the URI that it
//! stands with; without tags by the URIs of From and To, or else the Request-URI; and if there is none of these either,
//! as in the responses of such stacks, by the sockets between which it goes. Of calls without tags that have the same
//! URIs at the same time no more can be told than that they are one.
//!
//! These names stand in the table among Call-IDs, which never begin with white space.

use super::table::Calls;
use super::{Call, Context};
use crate::media::CallKey;
use crate::sip::{self, Address, Message, StartLine};
use crate::wire::{Endpoint, FlowKey};

/// Names of one call; a fork has one for each branch.
const MAX_ALIASES: usize = 32;

/// Requests that belong to a call, so that URIs are enough to tell of which.
const METHODS: [&[u8]; 8] = [b"INVITE", b"ACK", b"BYE", b"CANCEL", b"PRACK", b"UPDATE", b"INFO", b"REFER"];

/// What a name is made of.
const BY_TAG: &[u8] = b" tag";
const BY_URIS: &[u8] = b" uris";
const BY_SOCKETS: &[u8] = b" sockets";

/// The Call-ID that people are shown.
pub(super) fn shown(call_id: &[u8]) -> String {
    if call_id.starts_with(b" ") { String::new() } else { sip::text(call_id).into_owned() }
}

impl Calls {
    /// Takes a message that has no Call-ID. Returns whether it belongs to a call.
    pub(super) fn handle_nameless(
        &mut self,
        flow: &FlowKey,
        message: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        let (names, telling) = names(flow, message);
        let known = names.iter().take(telling).find(|name| self.by_call_id.contains_key(&***name));
        let Some(name) = known.or(names.first()).cloned() else { return false };
        if !self.handle_named(flow, &name, message, context) {
            return false;
        }
        if let Some(key) = self.by_call_id.get(&name).copied() {
            for name in names {
                self.add_alias(key, name);
            }
        }
        true
    }

    fn add_alias(&mut self, key: CallKey, name: Box<[u8]>) {
        let other = self.by_call_id.get(&name).copied();
        // A response answers the latest request.
        let is_free = name.starts_with(BY_SOCKETS)
            || other.is_none_or(|other| self.get(other).is_none_or(Call::is_over));
        let Some(call) = self.get_mut(key).filter(|call| call.aliases.len() < MAX_ALIASES) else { return };
        if is_free && other != Some(key) {
            call.aliases.push(name.clone());
            self.by_call_id.insert(name, key);
        }
    }
}

/// By what a message may be known, best first, and how many of these tell of which call it is.
fn names(flow: &FlowKey, message: &Message<'_>) -> (Vec<Box<[u8]>>, usize) {
    let (from, to) = (message.from(), message.to());
    let mut names: Vec<_> = [from, to].iter().filter_map(by_tag).collect();
    if !names.is_empty() {
        let telling = names.len();
        return (names, telling);
    }
    let target = match message.start {
        // A phone registers with the URI that it is called by.
        StartLine::Request { method, .. }
            if !METHODS.iter().any(|known| known.eq_ignore_ascii_case(method)) =>
        {
            return (Vec::new(), 0);
        }
        StartLine::Request { uri, .. } => Address::parse(uri).bare_uri(),
        StartLine::Response { .. } => b"",
    };
    let uris = match (from.bare_uri(), to.bare_uri()) {
        (from, b"") => (from, target),
        uris => uris,
    };
    if uris != (b"", b"") {
        // Requests of the callee have them the other way round.
        names.push(name(BY_URIS, uris.0.min(uris.1), uris.0.max(uris.1)));
    }
    // On one socket there may be many calls: it names one only to those that say nothing else.
    if from.uri.is_empty() && to.uri.is_empty() {
        let (a, b) = (socket(flow.source), socket(flow.destination));
        names.push(name(BY_SOCKETS, &a.min(b), &a.max(b)));
    }
    // An INVITE may begin a call where others go on.
    let begins =
        matches!(message.start, StartLine::Request { method, .. } if method.eq_ignore_ascii_case(b"INVITE"));
    let telling = if begins { 1 } else { names.len() };
    (names, telling)
}

fn by_tag(address: &Address<'_>) -> Option<Box<[u8]>> {
    let tag = address.tag().filter(|tag| !tag.is_empty())?;
    Some(name(BY_TAG, tag, address.bare_uri()))
}

fn name(kind: &[u8], first: &[u8], second: &[u8]) -> Box<[u8]> {
    [kind, b"\n", first, b"\n", second].concat().into()
}

fn socket(endpoint: Endpoint) -> [u8; 18] {
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&endpoint.ip.to_be_bytes());
    bytes[16..].copy_from_slice(&endpoint.port.to_be_bytes());
    bytes
}
