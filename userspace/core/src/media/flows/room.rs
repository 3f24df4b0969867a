//! What flows and their streams take of memory, and which of them are given up when there is no room.

use super::{Claim, Flow, FlowId, Flows, Place, UNCLAIMED_IDLE};
use crate::rtp::Stream;
use crate::time::Timestamp;
use crate::wire::Endpoint;

/// Streams of one flow; a sender that changes its SSRC more often loses figures of those before.
const MAX_STREAMS: usize = 64;
/// A stream with so many packets is one.
const ESTABLISHED: u64 = 3;

/// Bytes that a flow, an endpoint and a claim take, with what allocations and tables cost.
const FLOW: usize = 256 + size_of::<Flow>();
const PLACE: usize = 64 + 2 * size_of::<(Endpoint, Place)>();
const CLAIM: usize = 2 * size_of::<Claim>();

/// What was given up for want of room.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Evicted {
    pub(crate) flows: u64,
    pub(crate) streams: u64,
}

impl Flows {
    /// Flows that no call has claimed.
    pub fn unclaimed(&self) -> usize {
        self.unclaimed.len()
    }

    /// Bytes that all take, about.
    pub fn memory(&self) -> usize {
        let [unclaimed, claimed] = self.memory;
        unclaimed + claimed + FLOW * self.flows.len() + PLACE * self.places.len() + CLAIM * self.claims
    }

    /// Bytes of it that flows take which no call has claimed.
    pub fn unclaimed_memory(&self) -> usize {
        self.memory[0] + (FLOW + PLACE) * self.unclaimed.len()
    }

    /// Gives up the flow without a call that has been idle longest, for want of room. Returns whether there was one.
    pub fn give_up_oldest(&mut self) -> bool {
        let oldest = self.unclaimed.front().copied();
        oldest.is_some_and(|id| self.give_up(id))
    }

    /// Gives up a flow for want of room.
    pub(crate) fn give_up(&mut self, id: FlowId) -> bool {
        self.remove(id);
        self.evicted.flows += 1;
        true
    }

    /// The place of the stream with that SSRC in its flow; a new one where it is new. When there are too many, those
    /// of a few packets go first, and of these the one that has been idle longest.
    pub fn find_stream(&mut self, id: FlowId, ssrc: u32, at: Timestamp) -> usize {
        let flow = &mut self.flows[id];
        if flow.streams.get(flow.current).is_some_and(|stream| stream.ssrc == ssrc) {
            return flow.current;
        }
        let known = flow.streams.iter().position(|stream| stream.ssrc == ssrc);
        if let Some(known) = known {
            // Where streams take turns by the packet, neither takes another's place.
            flow.streams[known].come_back(at.since(flow.current_since), at);
            (flow.current, flow.current_since) = (known, at);
            return known;
        }
        if flow.streams.len() >= MAX_STREAMS {
            let idle = flow.streams.iter().enumerate();
            let idle = idle.min_by_key(|(_, stream)| (is_established(stream), stream.last));
            if let Some((idle, _)) = idle {
                flow.streams.remove(idle);
                self.evicted.streams += 1;
            }
        }
        if flow.streams.is_empty() {
            // Most flows have one.
            flow.streams.reserve_exact(1);
        }
        flow.streams.push(Stream::new(ssrc, at));
        (flow.current, flow.current_since) = (flow.streams.len() - 1, at);
        let current = flow.current;
        self.weigh(id);
        current
    }

    /// Packets have come of a flow without a call.
    pub fn note_unclaimed(&mut self, id: FlowId) {
        self.unclaimed.to_back(&id);
    }

    /// What streams of the flow take has changed by so much.
    pub fn note_memory(&mut self, id: FlowId, before: usize, after: usize) {
        let flow = &mut self.flows[id];
        let all = &mut self.memory[usize::from(flow.binding.is_some())];
        for memory in [&mut flow.memory, all] {
            *memory = (*memory + after).saturating_sub(before);
        }
    }

    /// Takes note of what the streams of a flow take now.
    pub fn weigh(&mut self, id: FlowId) {
        let flow = &self.flows[id];
        let spare = (flow.streams.capacity() - flow.streams.len()) * size_of::<Stream>();
        let now = spare + flow.streams.iter().map(Stream::memory).sum::<usize>();
        self.note_memory(id, flow.memory, now);
    }

    /// Forgets flows without a call that have gone quiet.
    pub(super) fn forget_idle(&mut self, now: Timestamp) {
        while let Some(&id) = self.unclaimed.front()
            && now.since(self.flows[id].last) > UNCLAIMED_IDLE
        {
            self.remove(id);
        }
    }
}

pub(super) fn is_established(stream: &Stream) -> bool {
    stream.unique() >= ESTABLISHED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Binding, BoundBy, CallKey};
    use crate::record::Side;
    use crate::rtp::Packet;
    use crate::time::SECOND;
    use crate::wire::FlowKey;

    fn key(host: u16, to: u16) -> FlowKey {
        let source = Endpoint::v4([10, 1, (host >> 8) as u8, host as u8], 4000);
        FlowKey { source, destination: Endpoint::v4([10, 2, 0, 1], to) }
    }

    fn packet(at: Timestamp, sequence: u16) -> Packet<'static> {
        Packet { sequence, payload: &[0; 160], ..Packet::bare(at) }
    }

    #[test]
    fn memory_is_given_back() {
        let mut flows = Flows::new(100, None);
        let ids: Vec<FlowId> =
            (0..20).map(|host| flows.add(key(host, 5000 + host), Timestamp(0)).unwrap()).collect();
        for &id in &ids {
            for sequence in 0..30 {
                let stream = flows.find_stream(id, u32::from(sequence) % 3, Timestamp(0));
                let flow = flows.get_mut(id);
                flow.streams[stream].receive_unclaimed(&packet(Timestamp(0), sequence), true);
                flows.weigh(id);
            }
        }
        let all = flows.memory();
        assert!(all > 20 * 30 * 160, "{all}");
        let call = CallKey { slot: 1, generation: 1 };
        flows.claim(key(0, 0).destination, call, Side::Caller, Timestamp(0));
        let binding = Binding { call, speaker: Side::Caller, by: BoundBy::Both };
        flows.bind(ids[0], Some(binding), Timestamp(0));
        while flows.give_up_oldest() {}
        assert_eq!((flows.evicted.flows, flows.unclaimed(), flows.unclaimed_memory()), (19, 0, 0));
        assert!(flows.memory() < all / 10 && flows.memory() > 30 * 160);
        flows.remove(ids[0]);
        flows.drop_claim(key(0, 0).destination, call);
        assert_eq!(flows.memory(), 0);
    }

    #[test]
    fn whoever_has_been_heard_stays_among_ssrcs_without_end() {
        let mut flows = Flows::new(1, None);
        let id = flows.add(key(1, 5000), Timestamp(0)).unwrap();
        for sequence in 0..ESTABLISHED as u16 {
            let stream = flows.find_stream(id, 7, Timestamp(0));
            flows.get_mut(id).streams[stream].receive_unclaimed(&packet(Timestamp(0), sequence), true);
        }
        for ssrc in 100..100_000 {
            flows.find_stream(id, ssrc, Timestamp(i64::from(ssrc)));
        }
        let flow = flows.get(id);
        assert!(flow.streams.len() <= MAX_STREAMS && flow.is_established());
        assert!(flow.streams.iter().any(|stream| stream.ssrc == 7));
    }

    #[test]
    fn sources_without_end_make_way_for_each_other() {
        let mut flows = Flows::new(100_000, None);
        let first = flows.add(key(0, 5000), Timestamp(0)).unwrap();
        let binding = Binding {
            call: CallKey { slot: 1, generation: 1 },
            speaker: Side::Caller,
            by: BoundBy::Destination,
        };
        flows.bind(first, Some(binding), Timestamp(0));
        for host in 1..10_000 {
            flows.add(key(host, 5000), Timestamp(0)).unwrap();
        }
        assert_eq!(flows.evicted.flows as usize, 10_000 - super::super::MAX_FLOWS_OF_ENDPOINT);
        assert!(flows.find(&key(0, 5000)).is_some() && flows.find(&key(1, 5000)).is_none());
        // A description that names it has few of them looked at.
        flows.claim(key(0, 5000).destination, binding.call, Side::Caller, Timestamp(0));
        flows.claim(key(0, 5000).destination, binding.call, Side::Callee, Timestamp(0));
        let looked_at = std::iter::from_fn(|| flows.poll_dirty()).count();
        assert_eq!(looked_at, super::super::LOOKED_AT_ONCE);
        // What is idle is forgotten, one by one.
        flows.add(key(10_000, 6000), Timestamp(60 * SECOND));
        assert_eq!(flows.unclaimed(), 1);
    }
}
