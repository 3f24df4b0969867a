//! Who is heard when several streams speak for the same side at once: branches of a fork that all play
//! early media, the last packets of a source that has just been replaced, or the same media seen on two
//! hops. One is heard, as on a phone; mixed together they would be noise.

use super::{Call, Context, MIN_PACKETS};
use crate::media::FlowId;
use crate::record::Side;
use crate::rtp::Packet;
use crate::time::{MILLISECOND, Timestamp};

/// Who has been silent for so long has given up the floor.
const IDLE: i64 = 200 * MILLISECOND;

/// The stream of one side that is heard at present.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    holder: Option<Holder>,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    flow: FlowId,
    ssrc: u32,
    /// When that stream began.
    began: Timestamp,
    last: Timestamp,
}

impl Floor {
    pub(super) fn is_held_by(&self, flow: FlowId, ssrc: u32) -> bool {
        self.holder.is_some_and(|holder| holder.flow == flow && holder.ssrc == ssrc)
    }
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
        let is_credible = self.is_credible(found, stream);
        let floor = &mut self.floors[speaker.channel()];
        if let Some(holder) =
            floor.holder.as_mut().filter(|holder| holder.flow == flow && holder.ssrc == stream.ssrc)
        {
            holder.last = packet.at;
            return;
        }
        let free = floor.holder.is_none_or(|holder| packet.at.since(holder.last) > IDLE);
        let newer =
            floor.holder.is_some_and(|holder| stream.first > holder.began) && stream.unique() >= MIN_PACKETS;
        let audible = || self.descriptions.codec(&found.key, speaker, packet.payload_type).is_decodable();
        if (free && is_credible || newer) && !self.void.contains(&found.key.source) && audible() {
            let holder = Holder { flow, ssrc: stream.ssrc, began: stream.first, last: packet.at };
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
        payload_type: u8,
        context: &Context<'_>,
    ) {
        let found = context.flows.get(flow);
        let Some(stream) = found.streams.get(stream).filter(|stream| self.is_credible(found, stream)) else {
            return;
        };
        let floor = &mut self.floors[speaker.channel()];
        let audible = || self.descriptions.codec(&found.key, speaker, payload_type).is_decodable();
        if floor.holder.is_none() && audible() {
            floor.holder = Some(Holder { flow, ssrc: stream.ssrc, began: stream.first, last: stream.last });
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
        let successor = Holder { flow, ssrc: found.ssrc, began: found.first, last: found.last };
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
