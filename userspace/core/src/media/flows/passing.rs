//! Flows of calls that another engine records ([`crate::share`]).
//!
//! With many engines most packets are of others' calls. Once such a call has been compared with its like and nothing is
//! happening, all that is to be known of a packet is that it has come: it costs a look at its flow. What its stream and its
//! call would know of it, they are told before anybody asks.

use super::{Flow, FlowId, Flows};
use crate::rtp::Packet;
use crate::time::{SECOND, Timestamp};

/// A packet after so long may be the first of something else.
const GOES_ON: i64 = SECOND;
/// One whose number is further ahead may be the first of a new run.
const AHEAD: u16 = 100;

/// The packet of a stream that came last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
}

impl Flow {
    /// Whether packets that go on where the last one stopped are let pass.
    pub(crate) fn is_passing(&self) -> bool {
        self.passing.is_some()
    }
}

impl Flows {
    /// Lets packets pass that go on where this one stops, until something happens.
    pub(crate) fn let_pass(&mut self, id: FlowId, ssrc: u32, packet: &Packet<'_>) {
        let &Packet { sequence, timestamp, .. } = packet;
        self.flows[id].passing = Some(Passing { ssrc, sequence, timestamp });
    }

    /// Lets a packet pass, if that is all that is to be done with it.
    pub(crate) fn pass(&mut self, id: FlowId, ssrc: u32, packet: &Packet<'_>, now: Timestamp) -> bool {
        let Some(flow) = self.flows.get_mut(id) else { return false };
        let Some(last) = flow.passing.as_mut().filter(|last| last.ssrc == ssrc) else { return false };
        let ahead = packet.sequence.wrapping_sub(last.sequence);
        if ahead > AHEAD || now.since(flow.last) >= GOES_ON || flow.resolve_at <= now {
            return false;
        }
        if ahead > 0 {
            (last.sequence, last.timestamp) = (packet.sequence, packet.timestamp);
        }
        flow.last = now;
        true
    }

    /// Tells the stream what has passed. The next packet is looked at again.
    pub(crate) fn catch_up(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let Some(last) = flow.passing.take() else { return };
        if let Some(stream) = flow.streams.iter_mut().find(|stream| stream.ssrc == last.ssrc) {
            stream.catch_up(last.sequence, last.timestamp, flow.last);
        }
    }
}
