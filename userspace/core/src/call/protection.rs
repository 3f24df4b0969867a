//! How a call's media is protected, and what of that can be undone; and whose connectivity checks are whose.

use super::{Call, Context, directory};
use crate::media::{CallKey, Flow, FlowId};
use crate::record::Side;
use crate::rtp::{Packet, Stream};
use crate::time::Timestamp;
use crate::wire::{Endpoint, FlowKey};

/// Endpoints that connectivity checks may name for one call.
const MAX_CHECKED: usize = 32;

impl Call {
    /// Decrypts a packet of one of its streams, if that can be done.
    pub(super) fn open<'a>(
        &self,
        id: FlowId,
        speaker: Side,
        stream: usize,
        packet: &Packet<'a>,
        clear: &'a mut Vec<u8>,
        context: &mut Context<'_>,
    ) -> Packet<'a> {
        let flow = context.flows.get_mut(id);
        let (key, since) = (flow.key, self.earliest_media());
        let Some(stream) = flow.streams.get_mut(stream) else { return *packet };
        let codec = |payload_type: u8| self.descriptions.codec(&key, speaker, payload_type);
        let associations = context.associations;
        let ask = || self.descriptions.protection(&key, speaker, associations.protection(&key, since));
        stream.open(packet, &codec, &ask, clear)
    }

    /// Decrypts what streams of a flow hold, as far as that can be done now.
    pub(super) fn open_held(&self, id: FlowId, context: &mut Context<'_>) {
        let flow: &mut Flow = context.flows.get_mut(id);
        let Some(speaker) = flow.binding.map(|binding| binding.speaker) else { return };
        let (key, since) = (flow.key, self.earliest_media());
        let codec = |payload_type: u8| self.descriptions.codec(&key, speaker, payload_type);
        let associations = context.associations;
        let ask = || self.descriptions.protection(&key, speaker, associations.protection(&key, since));
        flow.streams
            .iter_mut()
            .filter(|stream| stream.is_holding())
            .for_each(|stream| stream.open_held(&codec, &ask));
    }

    /// More may be known of how the streams of a flow are protected.
    pub fn reseal(&mut self, id: FlowId, context: &mut Context<'_>) {
        let streams = &mut context.flows.get_mut(id).streams;
        let awaits = |stream: &Stream| stream.is_holding() && stream.encryption().is_some();
        let awaited = streams.iter().any(awaits);
        streams.iter_mut().for_each(Stream::reseal);
        if awaited {
            self.receive_held(id, context);
        }
    }

    /// Who of the call is sent a connectivity check with these user name fragments, if it is one of the call.
    pub(super) fn checked(&self, receiver: &[u8], sender: &[u8]) -> Option<Side> {
        let side = self.descriptions.side_of_fragment(receiver)?;
        // Of the sender nothing may have been seen yet.
        let other = self.descriptions.side_of_fragment(sender);
        let fits = other == Some(side.other()) || other.is_none() && !self.has_side(side.other());
        (fits && !self.is_over()).then_some(side)
    }

    /// A connectivity check shows where its sides are. Returns whether that is new.
    pub(super) fn note_check(&mut self, flow: &FlowKey) -> bool {
        let ends = [flow.source, flow.destination];
        let new = |end: &&Endpoint| !self.checked.contains(end);
        if ends.iter().all(|end| self.checked.contains(end)) || self.checked.len() + 2 > MAX_CHECKED {
            return false;
        }
        let new: Vec<Endpoint> = ends.iter().filter(new).copied().collect();
        self.checked.extend(new);
        true
    }
}

impl super::Calls {
    /// A connectivity check has been seen: the flow between its ends is that of the call that has these user name
    /// fragments in its descriptions.
    pub fn handle_check(
        &mut self,
        flow: &FlowKey,
        receiver: &[u8],
        sender: &[u8],
        context: &mut Context<'_>,
    ) {
        let name = directory::Whom::IceFragment(receiver.into());
        let found: Vec<(CallKey, Side)> = self
            .directory
            .find(&name)
            .filter_map(|key| Some((key, self.get(key)?.checked(receiver, sender)?)))
            .collect();
        let now: Timestamp = context.now;
        // One conversation may have several calls, on both sides of a proxy that leaves descriptions alone.
        for (key, side) in found {
            if self.get_mut(key).is_some_and(|call| call.note_check(flow)) {
                context.flows.claim_by_ice(flow, key, side, now);
            }
        }
    }
}
