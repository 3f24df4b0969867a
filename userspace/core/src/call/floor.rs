//! Who is heard when several streams speak for the same side at once: branches of a fork that all play
//! early media, the last packets of a source that has just been replaced, or the same media seen on two
//! hops. One is heard, as on a phone; mixed together they would be noise.

use super::{Call, Context};
use crate::codec::Codec;
use crate::media::FlowId;
use crate::record::Side;
use crate::rtp::{MIN_PACKETS, Packet};
use crate::time::{MILLISECOND, Timestamp};
use crate::wire::FlowKey;

/// Who has been silent for so long has given up the floor.
const IDLE: i64 = 200 * MILLISECOND;
/// Copies known of one side.
const MAX_COPIES: usize = 16;

/// The stream of one side that is heard at present.
#[derive(Clone, Debug, Default)]
pub(super) struct Floor {
    holder: Option<Holder>,
    /// Streams that were found to say what another says: seen on another hop.
    copies: Vec<(FlowId, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    flow: FlowId,
    ssrc: u32,
    /// When that stream began.
    began: Timestamp,
    last: Timestamp,
    /// It can be decoded here.
    is_audible: bool,
    /// What it said until then was said while another was heard.
    since: Timestamp,
}

impl Floor {
    /// A stream says what another of this side has said just before.
    pub(super) fn note_copy(&mut self, flow: FlowId, ssrc: u32) {
        if self.copies.len() < MAX_COPIES && !self.copies.contains(&(flow, ssrc)) {
            self.copies.push((flow, ssrc));
        }
    }

    /// Since when a stream has the floor; `None` when it has not.
    pub(super) fn held_since(&self, flow: FlowId, ssrc: u32) -> Option<Timestamp> {
        self.holder.filter(|holder| holder.flow == flow && holder.ssrc == ssrc).map(|holder| holder.since)
    }
}

/// Whether one of two flows leaves the host that the other goes to: a relay, whatever it makes of the packets.
fn are_hops(one: &FlowKey, other: &FlowKey) -> bool {
    let follows = |first: &FlowKey, next: &FlowKey| first.destination.ip == next.source.ip;
    one.source.ip != other.source.ip && (follows(one, other) || follows(other, one))
}

impl Call {
    /// A packet of `stream` has come. It takes the floor if that is free, or held by an older stream.
    pub(super) fn take_floor(
        &mut self,
        flow: FlowId,
        speaker: Side,
        stream: usize,
        packet: &Packet<'_>,
        context: &mut Context<'_>,
    ) {
        let found = context.flows.get(flow);
        let Some(stream) = found.streams.get(stream) else { return };
        let floor = &mut self.floors[speaker.channel()];
        if let Some(holder) =
            floor.holder.as_mut().filter(|holder| holder.flow == flow && holder.ssrc == stream.ssrc)
        {
            // One that was held up does not take from its successor what that has said meanwhile.
            if !stream.has_passed(packet.sequence) {
                holder.last = packet.at;
            }
            return;
        }
        let is_credible = self.is_credible(found, stream);
        let floor = &self.floors[speaker.channel()];
        let free = floor.holder.is_none_or(|holder| packet.at.since(holder.last) > IDLE);
        let newer = floor.holder.is_some_and(|holder| stream.first > holder.began)
            && stream.unique() + 1 >= MIN_PACKETS;
        // Whoever is heard already is not heard again from the next hop.
        let is_hop = || {
            let holder = floor.holder.and_then(|holder| context.flows.known(holder.flow));
            holder.is_some_and(|holder| are_hops(&holder.key, &found.key))
        };
        let newer = newer && !floor.copies.contains(&(flow, stream.ssrc)) && !is_hop();
        let codec = || self.descriptions.carried(&found.key, speaker, packet.payload_type, packet.payload);
        let is_audible = !packet.is_sealed && stream.encryption().is_none() && codec().is_decodable();
        // What is of no known use, as may be error correction, gives way to what can be heard.
        let may_speak = match floor.holder {
            Some(holder) if is_audible && !holder.is_audible => true,
            Some(holder) if holder.is_audible && !is_audible => free && is_credible,
            _ => free && is_credible || newer,
        };
        let is_audio = || is_audible || self.descriptions.is_audio(&found.key, speaker, &codec());
        if may_speak && !self.void.contains(&found.key.source) && is_audio() {
            let spoke = floor.holder.filter(|holder| !free && holder.is_audible == is_audible);
            let since = spoke.map_or(Timestamp(i64::MIN), |holder| holder.last);
            let (began, last) = (stream.first, packet.at);
            let holder = Holder { flow, ssrc: stream.ssrc, began, last, is_audible, since };
            self.finish_speaking(speaker, context);
            self.floors[speaker.channel()].holder = Some(holder);
        }
    }

    /// Whoever has the floor is heard to the end, before another takes it.
    fn finish_speaking(&mut self, speaker: Side, context: &mut Context<'_>) {
        let Some(holder) = self.floors[speaker.channel()].holder else { return };
        let Some(flow) = context.flows.known(holder.flow) else { return };
        let bound_here = flow.binding.is_some_and(|binding| binding.call == self.key);
        let stream = flow.streams.iter().position(|stream| stream.ssrc == holder.ssrc && stream.is_holding());
        if let Some(stream) = stream.filter(|_| bound_here) {
            let now = context.now;
            self.with_stream(holder.flow, speaker, stream, context, |stream, out| {
                stream.drain(now, true, out)
            });
        }
    }

    /// A stream whose packets have been kept speaks, if nobody else does.
    pub(super) fn offer_floor(
        &mut self,
        flow: FlowId,
        speaker: Side,
        stream: usize,
        codec: &Codec,
        context: &Context<'_>,
    ) {
        let found = context.flows.get(flow);
        let Some(stream) = found.streams.get(stream).filter(|stream| self.is_credible(found, stream)) else {
            return;
        };
        let floor = &mut self.floors[speaker.channel()];
        let is_audible = codec.is_decodable() && stream.encryption().is_none();
        let is_audio = || is_audible || self.descriptions.is_audio(&found.key, speaker, codec);
        let is_free = floor.holder.is_none_or(|holder| is_audible && !holder.is_audible);
        if is_free && is_audio() {
            let (began, last, since) = (stream.first, stream.last, Timestamp(i64::MIN));
            floor.holder = Some(Holder { flow, ssrc: stream.ssrc, began, last, is_audible, since });
        }
    }

    /// There will be no further packets: a stream that began after the holder had stopped follows it,
    /// however short it is.
    pub(super) fn inherit_floor(
        &mut self,
        flow: FlowId,
        speaker: Side,
        stream: usize,
        context: &mut Context<'_>,
    ) {
        let owner = context.flows.get(flow);
        let (source, found) = (owner.key.source, &owner.streams[stream]);
        let (began, last, since) = (found.first, found.last, Timestamp(i64::MIN));
        let is_audible = found.current_rate().is_some();
        let successor = Holder { flow, ssrc: found.ssrc, began, last, is_audible, since };
        let is_credible = self.is_credible(owner, found);
        let follows =
            |holder: Holder| successor.began > holder.last && is_credible && !self.void.contains(&source);
        if self.floors[speaker.channel()].holder.is_some_and(follows) {
            self.finish_speaking(speaker, context);
            self.floors[speaker.channel()].holder = Some(successor);
        }
    }

    /// One branch of a fork has answered: those that speak for the others are heard no more.
    pub(super) fn silence_void(&mut self, context: &Context<'_>) {
        self.void = self.descriptions.void_endpoints();
        for floor in &mut self.floors {
            let is_void = |holder: &Holder| {
                context.flows.known(holder.flow).is_some_and(|flow| self.void.contains(&flow.key.source))
            };
            if floor.holder.as_ref().is_some_and(is_void) {
                floor.holder = None;
            }
        }
    }
}
