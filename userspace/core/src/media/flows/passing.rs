//! Flows of calls that another engine records ([`crate::share`]).
//!
//! With many engines most packets are of others' calls. Once such a call has been compared with its like and nothing is
//! happening, all that is to be known of a packet is that it has come: a look into a small table tells. What its flow, its
//! stream and its call would know of it, they are told before anybody asks.

use hashbrown::HashMap;

use super::{Flow, FlowId, Flows};
use crate::rtp::Packet;
use crate::share::{Glance, Glimpse};
use crate::time::{SECOND, Timestamp};

/// A packet after so long may be the first of something else.
const GOES_ON: i64 = SECOND;
/// One whose number is further ahead may be the first of a new run.
const AHEAD: u16 = 100;

/// Flows whose packets are let pass, by the hash of what they go between.
#[derive(Default)]
pub(super) struct Passing {
    glance: Option<Glance>,
    last: HashMap<u64, Last, foldhash::fast::RandomState>,
}

/// The packet that came last.
struct Last {
    at: Timestamp,
    glimpse: Glimpse,
    /// See [`Flow::resolve_at`].
    resolve_at: Timestamp,
}

impl Passing {
    pub(super) fn new(glance: Option<Glance>) -> Passing {
        Passing { glance, ..Passing::default() }
    }

    /// The binding of a flow is to be looked at again with the first packet from then on.
    pub(super) fn resolve_from(&mut self, flow: &mut Flow, at: Timestamp) {
        flow.resolve_at = flow.resolve_at.min(at);
        if let Some(last) = flow.passing.and_then(|hash| self.last.get_mut(&hash)) {
            last.resolve_at = flow.resolve_at;
        }
    }
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
        let Some(glance) = &self.passing.glance else { return };
        let flow = &mut self.flows[id];
        let glimpse = glance.of(&flow.key, ssrc, packet);
        flow.passing = Some(glimpse.flow);
        let last = Last { at: packet.at, glimpse, resolve_at: flow.resolve_at };
        self.passing.last.insert(glimpse.flow, last);
    }

    /// Whether packets of that flow are let pass.
    pub(crate) fn are_passing(&self, glimpse: &Glimpse) -> bool {
        self.passing.last.contains_key(&glimpse.flow)
    }

    /// Lets a packet pass, if that is all that is to be done with it.
    pub(crate) fn pass(&mut self, glimpse: &Glimpse, now: Timestamp) -> bool {
        let Some(last) = self.passing.last.get_mut(&glimpse.flow) else { return false };
        let ahead = glimpse.sequence.wrapping_sub(last.glimpse.sequence);
        let is_like = glimpse.ssrc == last.glimpse.ssrc && glimpse.payload_type == last.glimpse.payload_type;
        let goes_on = is_like && ahead <= AHEAD && now.since(last.at) < GOES_ON;
        if !goes_on || last.resolve_at <= now {
            return false;
        }
        if ahead > 0 {
            last.glimpse = *glimpse;
        }
        last.at = now;
        true
    }

    /// When the last packet of a flow came.
    pub(crate) fn last(&self, id: FlowId) -> Timestamp {
        let flow = &self.flows[id];
        let passed = flow.passing.and_then(|hash| self.passing.last.get(&hash));
        passed.map_or(flow.last, |last| last.at)
    }

    /// Tells the flow and its stream what has passed. The next packet is looked at again. Returns when the last one has
    /// passed, for the call to be told; `None` where none was let pass.
    #[must_use = "the call does not know of it"]
    pub(crate) fn catch_up(&mut self, id: FlowId) -> Option<Timestamp> {
        if self.passing.last.is_empty() {
            return None;
        }
        let flow = self.flows.get_mut(id)?;
        let last = self.passing.last.remove(&flow.passing.take()?)?;
        flow.last = last.at;
        let Glimpse { ssrc, sequence, timestamp, .. } = last.glimpse;
        if let Some(stream) = flow.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            stream.catch_up(sequence, timestamp, last.at);
        }
        Some(last.at)
    }
}
