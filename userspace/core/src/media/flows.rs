//! Which call a media flow belongs to.
//!
//! Session descriptions name endpoints: "here I want to receive". A flow between two endpoints belongs to
//! the call that names them. Ports are used again, signalling gets lost, NAT changes addresses, and one
//! port may serve many calls; so the rule is:
//!
//! 1. A call that names *both* ends of a flow, or that names one end and has not said yet where its other
//!    side receives, may own the flow. Of several the one whose description is newest owns it, except that
//!    a flow in full swing stays with its call: no port is given to another call while media goes on, so that
//!    other call is the same conversation beyond a PBX. Only a description that has come since and names both
//!    ends, where its own call names but one, knows better. For the same reason
//!    both directions of a conversation stay together.
//! 2. Else a call that names one end owns it, although it expects the other side elsewhere: NAT. Again the
//!    newest.
//! 3. Else the flow in the opposite direction tells (symmetric RTP).
//!
//! An ICE connectivity check between two endpoints carries names that both sides have made up for the call: it is as
//! good as a description of each that names its end, but only for what goes between just those two.
//!
//! A call that is over comes after all others: what is still sent for it is counted, and not recorded.

mod passing;
mod room;

use hashbrown::HashMap;
use hashlink::LinkedHashSet;
use slab::Slab;

use crate::fetch::fetch;
use crate::record::Side;
use crate::rtp::Stream;
use crate::share::Glance;
use crate::time::{MILLISECOND, SECOND, Timestamp};
use crate::wire::{Endpoint, FlowKey};
use passing::Passing;
use room::{Evicted, is_established};

/// A flow that had a packet so recently is in full swing.
const IN_SWING: i64 = 500 * MILLISECOND;
/// Flows that nobody has claimed are forgotten after this time without packets.
const UNCLAIMED_IDLE: i64 = 10 * SECOND;
/// Calls that name one endpoint; no gateway's port serves more of them at a time.
const MAX_CLAIMS: usize = 256;
/// Flows from and to one endpoint.
const MAX_FLOWS_OF_ENDPOINT: usize = 1024;
/// Of those so many, the newest, are looked at at once when a description names the endpoint; all others with
/// their next packets.
const LOOKED_AT_ONCE: usize = 64;
/// Flows that are looked through for what an RTCP packet speaks of.
const MAX_REPORTED: usize = 64;

/// A slot in the call table and how often it has been used before: never names a later call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey {
    /// First, so that keys stand in the order in which their calls began.
    pub(crate) generation: u64,
    pub(crate) slot: usize,
}

/// Names a flow in [`Flows`].
pub type FlowId = usize;

/// How a flow was bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    /// Both ends stand in the descriptions of the call.
    Both,
    /// The two ends have exchanged a connectivity check (RFC 8445) with the names that the call has for them.
    Ice,
    /// The receiver does.
    Destination,
    /// The sender does.
    Source,
    /// Neither; the flow in the opposite direction is bound.
    Reverse,
}

impl BoundBy {
    /// The word used in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            BoundBy::Both => "sdp",
            BoundBy::Ice => "ice",
            BoundBy::Destination => "sdp-destination",
            BoundBy::Source => "sdp-source",
            BoundBy::Reverse => "symmetric",
        }
    }

    /// Whether the call has named both ends.
    pub fn is_sure(self) -> bool {
        matches!(self, BoundBy::Both | BoundBy::Ice)
    }
}

/// To what a flow is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The call.
    pub call: CallKey,
    /// Who speaks.
    pub speaker: Side,
    /// How that is known.
    pub by: BoundBy,
}

/// Whether a call may own a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It must have ended unseen, or is not known any more: it owns nothing new.
    Gone,
    /// It has ended: what is still sent for it is counted.
    Over,
    /// It goes on.
    Live,
}

/// A description's claim to an endpoint.
#[derive(Clone, Copy, Debug)]
struct Claim {
    call: CallKey,
    /// Who receives here.
    side: Side,
    since: Timestamp,
    /// Superseded by a newer description of the same side: ends then.
    until: Timestamp,
    /// By a connectivity check: it holds only together with one of the other side.
    by_ice: bool,
    /// By it a flow has been bound to the call.
    is_proven: bool,
}

/// Media between two endpoints in one direction.
pub struct Flow {
    /// The endpoints.
    pub key: FlowKey,
    /// The call, once one is known.
    pub binding: Option<Binding>,
    /// When it was bound.
    pub bound_at: Timestamp,
    /// Its streams, in order of appearance.
    pub streams: Vec<Stream>,
    /// Index of the stream that had the last packet.
    pub current: usize,
    /// When that began to be so.
    pub current_since: Timestamp,
    /// Last packet.
    pub last: Timestamp,
    /// The binding must be looked at again with the first packet from then on: a claim ends.
    pub resolve_at: Timestamp,
    /// The call it belonged to is over; until something new begins, its packets belong to nobody.
    pub spent: bool,
    /// All that is to be known of it is that it goes on: the hash by which that is noted.
    passing: Option<u64>,
    /// It stands in the list of those to be looked at again.
    is_dirty: bool,
    /// What its streams take, as the table knows it.
    memory: usize,
}

impl Flow {
    /// Fetches it from memory, but for its streams.
    pub(crate) fn fetch(&self) {
        fetch(&self.key);
        fetch(&self.last);
        fetch(&self.streams);
    }

    /// Whether any of its streams is more than a few packets that could be anybody's.
    pub fn is_established(&self) -> bool {
        self.streams.iter().any(is_established)
    }
}

#[derive(Default)]
struct Place {
    /// In the order of calls and sides.
    claims: Vec<Claim>,
    flows: Vec<FlowId>,
    /// What was said last of whether its media is wanted.
    wanted: Option<bool>,
}

impl Place {
    fn find(&self, call: CallKey, side: Side) -> Result<usize, usize> {
        let place = |claim: &Claim| (claim.call, claim.side.channel());
        self.claims.binary_search_by_key(&(call, side.channel()), place)
    }

    fn claim(&self, call: CallKey, side: Side) -> Option<&Claim> {
        self.claims.get(self.find(call, side).ok()?)
    }
}

/// All flows, and the claims to their endpoints.
pub struct Flows {
    by_key: HashMap<FlowKey, FlowId, foldhash::fast::RandomState>,
    flows: Slab<Flow>,
    passing: Passing,
    places: HashMap<Endpoint, Place, foldhash::fast::RandomState>,
    capacity: usize,
    /// Flows that no call has claimed, the longest idle first.
    unclaimed: LinkedHashSet<FlowId, foldhash::fast::RandomState>,
    /// Bytes that streams take, of unclaimed flows and of claimed ones.
    memory: [usize; 2],
    claims: usize,
    /// Flows and streams given up for want of room.
    pub(crate) evicted: Evicted,
    /// Flows to be looked at again, because descriptions have changed.
    dirty: Vec<FlowId>,
    /// Endpoints whose claims have changed.
    changed: Vec<Endpoint>,
    /// Endpoints whose media is not wanted.
    unwanted: usize,
}

impl Flows {
    /// Keeps at most `capacity` flows. With others that look at the same frames by a glance, packets of their calls are let
    /// pass.
    pub fn new(capacity: usize, glance: Option<&Glance>) -> Flows {
        Flows {
            by_key: HashMap::default(),
            flows: Slab::new(),
            passing: Passing::new(glance.cloned()),
            places: HashMap::default(),
            capacity,
            unclaimed: LinkedHashSet::default(),
            memory: [0; 2],
            claims: 0,
            evicted: Evicted::default(),
            dirty: Vec::new(),
            changed: Vec::new(),
            unwanted: 0,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.flows.len()
    }

    /// The flow of a packet, if it is known.
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        self.by_key.get(key).copied()
    }

    /// A flow, if it has not been forgotten.
    pub fn known(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(id)
    }

    /// The same, to be changed.
    pub fn known_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.flows.get_mut(id)
    }

    /// A flow.
    pub fn get(&self, id: FlowId) -> &Flow {
        &self.flows[id]
    }

    /// A flow.
    pub fn get_mut(&mut self, id: FlowId) -> &mut Flow {
        &mut self.flows[id]
    }

    /// Flows that an RTCP packet from here to there may speak of: their RTP goes to or from the same ports, or
    /// those right below (RFC 3550 section 11, RFC 5761). One end that has its RTCP elsewhere (RFC 3605) is found
    /// by the other.
    pub fn of_rtcp(&self, key: &FlowKey) -> Vec<FlowId> {
        let below = |endpoint: Endpoint| Endpoint { port: endpoint.port.wrapping_sub(1), ..endpoint };
        let ends = [below(key.source), below(key.destination), key.source, key.destination];
        let places = ends.iter().filter_map(|end| self.places.get(end));
        let mut found: Vec<FlowId> =
            places.flat_map(|place| &place.flows).copied().take(MAX_REPORTED).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Adds a flow; `None` when there is no room, for all others belong to calls.
    pub fn add(&mut self, key: FlowKey, now: Timestamp) -> Option<FlowId> {
        self.forget_idle(now);
        if self.flows.len() >= self.capacity && !self.give_up_oldest() {
            return None;
        }
        for endpoint in [key.source, key.destination] {
            let Some(place) = self.places.get(&endpoint) else { continue };
            if place.flows.len() >= MAX_FLOWS_OF_ENDPOINT {
                let oldest = *place.flows.iter().find(|&&id| self.flows[id].binding.is_none())?;
                self.give_up(oldest);
            }
        }
        let id = self.flows.insert(Flow {
            key,
            binding: None,
            bound_at: now,
            streams: Vec::new(),
            current: 0,
            current_since: Timestamp(i64::MIN),
            last: now,
            resolve_at: Timestamp::FAR_FUTURE,
            spent: false,
            passing: None,
            is_dirty: false,
            memory: 0,
        });
        self.by_key.insert(key, id);
        self.places.entry(key.source).or_default().flows.push(id);
        self.places.entry(key.destination).or_default().flows.push(id);
        self.unclaimed.insert(id);
        Some(id)
    }

    /// Forgets a flow.
    pub fn remove(&mut self, id: FlowId) -> Flow {
        // What has passed of it is nothing to a call that lets it go.
        let _ = self.catch_up(id);
        let flow = self.flows.remove(id);
        self.by_key.remove(&flow.key);
        self.unclaimed.remove(&id);
        self.memory[usize::from(flow.binding.is_some())] -= flow.memory;
        for endpoint in [flow.key.source, flow.key.destination] {
            if let Some(place) = self.places.get_mut(&endpoint) {
                place.flows.retain(|&other| other != id);
                self.forget_empty(endpoint);
            }
        }
        flow
    }

    /// A description of `call` says that `side` receives at `endpoint`.
    pub fn claim(&mut self, endpoint: Endpoint, call: CallKey, side: Side, now: Timestamp) {
        self.add_claim(
            endpoint,
            Claim { call, side, since: now, until: Timestamp::FAR_FUTURE, by_ice: false, is_proven: false },
        );
    }

    /// A connectivity check shows that `receiver` of `call` receives where `flow` goes, and the other side where it
    /// comes from.
    pub fn claim_by_ice(&mut self, flow: &FlowKey, call: CallKey, receiver: Side, now: Timestamp) {
        for (endpoint, side) in [(flow.destination, receiver), (flow.source, receiver.other())] {
            self.add_claim(
                endpoint,
                Claim {
                    call,
                    side,
                    since: now,
                    until: Timestamp::FAR_FUTURE,
                    by_ice: true,
                    is_proven: false,
                },
            );
        }
    }

    fn add_claim(&mut self, endpoint: Endpoint, new: Claim) {
        let place = self.places.entry(endpoint).or_default();
        match place.find(new.call, new.side) {
            Ok(index) => {
                let claim = &mut place.claims[index];
                let (by_ice, is_proven) = (claim.by_ice && new.by_ice, claim.is_proven);
                *claim = Claim { by_ice, is_proven, ..new };
            }
            Err(mut index) => {
                if place.claims.len() >= MAX_CLAIMS {
                    // Anybody can name an endpoint: who has been heard there comes last.
                    let claims = place.claims.iter().enumerate();
                    let oldest = claims.min_by_key(|(_, claim)| (claim.is_proven, claim.since));
                    if let Some((oldest, _)) = oldest {
                        place.claims.remove(oldest);
                        index -= usize::from(oldest < index);
                        self.claims -= 1;
                    }
                }
                place.claims.insert(index, new);
                self.claims += 1;
            }
        }
        self.changed.push(endpoint);
        self.mark_dirty(endpoint);
    }

    /// A newer description has moved `side` elsewhere: the claim ends at `until`.
    pub fn limit_claim(&mut self, endpoint: Endpoint, call: CallKey, side: Side, until: Timestamp) {
        if let Some(place) = self.places.get_mut(&endpoint) {
            for claim in place.claims.iter_mut().filter(|claim| claim.call == call && claim.side == side) {
                claim.until = claim.until.min(until);
            }
            for &id in &place.flows {
                self.passing.resolve_from(&mut self.flows[id], until);
            }
            self.changed.push(endpoint);
            self.mark_dirty(endpoint);
        }
    }

    /// The call, or one side of it, has no claim to `endpoint` any more.
    pub fn drop_claim(&mut self, endpoint: Endpoint, call: CallKey) {
        if let Some(place) = self.places.get_mut(&endpoint) {
            let before = place.claims.len();
            place.claims.retain(|claim| claim.call != call);
            self.claims -= before - place.claims.len();
            self.changed.push(endpoint);
            self.mark_dirty(endpoint);
            self.forget_empty(endpoint);
        }
    }

    /// The calls that name an endpoint.
    pub fn claimants(&self, endpoint: &Endpoint) -> impl Iterator<Item = CallKey> + '_ {
        self.places.get(endpoint).into_iter().flat_map(|place| &place.claims).map(|claim| claim.call)
    }

    /// Sets the binding of a flow.
    pub fn bind(&mut self, id: FlowId, binding: Option<Binding>, now: Timestamp) {
        let flow = &mut self.flows[id];
        let (before, after) = (flow.binding.is_some(), binding.is_some());
        if before != after {
            self.memory[usize::from(before)] -= flow.memory;
            self.memory[usize::from(after)] += flow.memory;
            if after {
                self.unclaimed.remove(&id);
            } else {
                self.unclaimed.insert(id);
            }
        }
        (flow.binding, flow.bound_at) = (binding, now);
        for endpoint in [flow.key.source, flow.key.destination] {
            let Some((place, binding)) = self.places.get_mut(&endpoint).zip(binding) else { continue };
            for side in [Side::Caller, Side::Callee] {
                if let Ok(index) = place.find(binding.call, side) {
                    place.claims[index].is_proven = true;
                }
            }
        }
        // Symmetric RTP: the opposite direction may have waited for this.
        let reverse = flow.key.reversed();
        if binding.is_some()
            && let Some(&other) = self.by_key.get(&reverse)
            && self.flows[other].binding.is_none()
        {
            look_again(&mut self.flows[other], other, &mut self.dirty);
        }
    }

    /// A flow whose binding must be looked at again, because descriptions have changed.
    pub fn poll_dirty(&mut self) -> Option<FlowId> {
        loop {
            let id = self.dirty.pop()?;
            if let Some(flow) = self.flows.get_mut(id) {
                flow.is_dirty = false;
                return Some(id);
            }
        }
    }

    /// An endpoint at which it may have changed whether media is wanted, and whether it is now, if that is
    /// something new. `wants` tells it of each call; one of which it says nothing has no say.
    pub fn poll_wanted(
        &mut self,
        wants: impl Fn(CallKey) -> Option<bool>,
    ) -> Option<(Endpoint, Option<bool>)> {
        while let Some(endpoint) = self.changed.pop() {
            let Some(place) = self.places.get_mut(&endpoint) else { return Some((endpoint, None)) };
            let mut wanted = None;
            for claim in &place.claims {
                match wants(claim.call) {
                    Some(true) => wanted = Some(true),
                    // Who has moved elsewhere does not keep others from being heard here.
                    Some(false) if claim.until == Timestamp::FAR_FUTURE => wanted = wanted.or(Some(false)),
                    _ => {}
                }
            }
            if place.wanted != wanted {
                self.unwanted -= usize::from(place.wanted == Some(false));
                self.unwanted += usize::from(wanted == Some(false));
                place.wanted = wanted;
                return Some((endpoint, wanted));
            }
        }
        None
    }

    /// Whether RTP from here to there is only of calls that are not recorded. A live sieve judges alike.
    pub fn is_unwanted(&self, key: &FlowKey) -> bool {
        if self.unwanted == 0 {
            return false;
        }
        let wanted = |endpoint| self.places.get(endpoint).and_then(|place| place.wanted);
        let (from, to) = (wanted(&key.source), wanted(&key.destination));
        from != Some(true) && to != Some(true) && (from.is_some() || to.is_some())
    }

    /// A call has changed its mind about its media.
    pub fn reconsider(&mut self, endpoint: Endpoint) {
        self.changed.push(endpoint);
    }

    /// Finds the call that owns a flow, by the rule at the head of this file. `has_side` says whether a
    /// call has said where that side receives.
    pub fn resolve(
        &self,
        id: FlowId,
        now: Timestamp,
        has_side: impl Fn(CallKey, Side) -> bool,
        standing: impl Fn(CallKey) -> Standing,
    ) -> Option<Binding> {
        let flow = &self.flows[id];
        let holds = |claim: &&Claim| claim.until > now && standing(claim.call) != Standing::Gone;
        let claims = |endpoint: &Endpoint| {
            let claims = self.places.get(endpoint).map_or(&[][..], |place| &place.claims);
            claims.iter().filter(holds)
        };
        let source = self.places.get(&flow.key.source);
        // (standing, may own for sure, owns the opposite direction, since), binding
        let mut best: Option<((Standing, bool, bool, Timestamp), Binding)> = None;
        let opposite = self.by_key.get(&flow.key.reversed()).copied();
        let opposite = opposite.filter(|&other| now.since(self.last(other)) < IN_SWING);
        let opposite = opposite.and_then(|other| self.flows[other].binding);
        let (mut current_claims, mut current_owns_both) = (false, false);
        let mut consider = |sure: bool, since: Timestamp, binding: Binding| {
            let talks_back = opposite.is_some_and(|opposite| opposite.call == binding.call);
            let rank = (standing(binding.call), sure, talks_back, since);
            if best.is_none_or(|(best_rank, _)| rank > best_rank) {
                best = Some((rank, binding));
            }
        };
        let current = flow.binding.filter(|binding| standing(binding.call) != Standing::Gone);
        for claim in claims(&flow.key.destination) {
            let speaker = claim.side.other();
            let partner = source.and_then(|source| source.claim(claim.call, speaker)).filter(holds);
            let by = match partner {
                Some(partner) if partner.by_ice || claim.by_ice => BoundBy::Ice,
                Some(_) => BoundBy::Both,
                None if claim.by_ice => continue,
                None => BoundBy::Destination,
            };
            let since = partner.map_or(claim.since, |partner| partner.since.max(claim.since));
            let is_current = current.is_some_and(|current| current.call == claim.call);
            current_claims |= is_current;
            current_owns_both |= is_current && partner.is_some();
            let sure = partner.is_some() || !has_side(claim.call, speaker);
            consider(sure, since, Binding { call: claim.call, speaker, by });
        }
        for claim in claims(&flow.key.source).filter(|claim| !claim.by_ice) {
            current_claims |= current.is_some_and(|current| current.call == claim.call);
            let sure = !has_side(claim.call, claim.side.other());
            consider(
                sure,
                claim.since,
                Binding { call: claim.call, speaker: claim.side, by: BoundBy::Source },
            );
        }
        if current_claims && now.since(flow.last) < IN_SWING {
            let told_better = best.is_some_and(|((.., since), binding)| {
                let may_leave = !current_owns_both
                    || current.is_some_and(|current| standing(current.call) == Standing::Over);
                binding.by.is_sure() && since > flow.bound_at && may_leave
            });
            if !told_better {
                return current;
            }
        }
        let found = best.map(|(_, binding)| binding);
        found.or_else(|| {
            let reverse = self.flows.get(*self.by_key.get(&flow.key.reversed())?)?;
            let binding = reverse.binding.filter(|binding| standing(binding.call) == Standing::Live)?;
            Some(Binding { call: binding.call, speaker: binding.speaker.other(), by: BoundBy::Reverse })
        })
    }

    /// Forgets a place that nobody names and where nothing comes or goes.
    fn forget_empty(&mut self, endpoint: Endpoint) {
        let Some(place) = self.places.get(&endpoint) else { return };
        if place.claims.is_empty() && place.flows.is_empty() {
            self.unwanted -= usize::from(place.wanted == Some(false));
            self.places.remove(&endpoint);
        }
    }

    fn mark_dirty(&mut self, endpoint: Endpoint) {
        let Some(place) = self.places.get(&endpoint) else { return };
        let (later, at_once) = place.flows.split_at(place.flows.len().saturating_sub(LOOKED_AT_ONCE));
        for &id in later {
            // A flood: whoever goes on is looked at then.
            self.passing.resolve_from(&mut self.flows[id], Timestamp(i64::MIN));
        }
        for &id in at_once {
            look_again(&mut self.flows[id], id, &mut self.dirty);
        }
    }
}

fn look_again(flow: &mut Flow, id: FlowId, dirty: &mut Vec<FlowId>) {
    if !flow.is_dirty {
        flow.is_dirty = true;
        dirty.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: u8, port: u16) -> Endpoint {
        Endpoint::v4([10, 0, 0, host], port)
    }

    fn call(slot: usize) -> CallKey {
        CallKey { slot, generation: 0 }
    }

    struct Table {
        flows: Flows,
        id: FlowId,
    }

    impl Table {
        fn new(last: i64) -> Table {
            let mut flows = Flows::new(10, None);
            let key = FlowKey { source: endpoint(1, 4000), destination: endpoint(2, 5000) };
            let id = flows.add(key, Timestamp(last)).unwrap();
            Table { flows, id }
        }

        fn owner(&self, now: i64, sides: &[(usize, Side)]) -> Option<(usize, Side, BoundBy)> {
            let has_side = |call: CallKey, side| sides.contains(&(call.slot, side));
            let binding = self.flows.resolve(self.id, Timestamp(now), has_side, |_| Standing::Live)?;
            Some((binding.call.slot, binding.speaker, binding.by))
        }
    }

    const BOTH_OF_1: &[(usize, Side)] = &[(1, Side::Caller), (1, Side::Callee)];

    #[test]
    fn ports_reused_after_a_lost_bye() {
        let mut table = Table::new(0);
        table.flows.claim(endpoint(1, 4000), call(1), Side::Caller, Timestamp(0));
        table.flows.claim(endpoint(2, 5000), call(1), Side::Callee, Timestamp(0));
        assert_eq!(table.owner(1, BOTH_OF_1), Some((1, Side::Caller, BoundBy::Both)));
        // Of the second call only the INVITE is seen: it is newer, and its other side is not known.
        table.flows.claim(endpoint(1, 4000), call(2), Side::Caller, Timestamp(10 * SECOND));
        let sides = &[BOTH_OF_1, &[(2, Side::Caller)]].concat();
        assert_eq!(table.owner(10 * SECOND, sides), Some((2, Side::Caller, BoundBy::Source)));
    }

    #[test]
    fn one_port_that_serves_many_calls() {
        let mut table = Table::new(0);
        table.flows.claim(endpoint(1, 4000), call(1), Side::Caller, Timestamp(0));
        table.flows.claim(endpoint(2, 5000), call(1), Side::Callee, Timestamp(0));
        table.flows.claim(endpoint(3, 4000), call(2), Side::Caller, Timestamp(10 * SECOND));
        table.flows.claim(endpoint(2, 5000), call(2), Side::Callee, Timestamp(10 * SECOND));
        let sides = &[BOTH_OF_1, &[(2, Side::Caller), (2, Side::Callee)]].concat();
        assert_eq!(table.owner(10 * SECOND, sides), Some((1, Side::Caller, BoundBy::Both)));
        // Even where the new call has named nothing but the shared port, while the old one talks.
        let binding = Binding { call: call(1), speaker: Side::Caller, by: BoundBy::Both };
        table.flows.bind(table.id, Some(binding), Timestamp(0));
        table.flows.claim(endpoint(2, 5000), call(3), Side::Callee, Timestamp(20 * SECOND));
        table.flows.get_mut(table.id).last = Timestamp(20 * SECOND);
        assert_eq!(table.owner(20 * SECOND, sides), Some((1, Side::Caller, BoundBy::Both)));
    }

    #[test]
    fn nat_and_symmetric_rtp() {
        let mut table = Table::new(0);
        table.flows.claim(endpoint(9, 4000), call(1), Side::Caller, Timestamp(0));
        table.flows.claim(endpoint(2, 5000), call(1), Side::Callee, Timestamp(0));
        assert_eq!(table.owner(1, BOTH_OF_1), Some((1, Side::Caller, BoundBy::Destination)));
        let binding = Binding { call: call(1), speaker: Side::Caller, by: BoundBy::Destination };
        table.flows.bind(table.id, Some(binding), Timestamp(0));
        table.flows.drop_claim(endpoint(2, 5000), call(1));
        let back = FlowKey { source: endpoint(2, 5000), destination: endpoint(1, 4000) };
        table.id = table.flows.add(back, Timestamp(0)).unwrap();
        assert_eq!(table.owner(1, BOTH_OF_1), Some((1, Side::Callee, BoundBy::Reverse)));
    }

    #[test]
    fn a_connectivity_check_binds_what_goes_between_its_ends_alone() {
        let mut table = Table::new(0);
        let check = FlowKey { source: endpoint(1, 4000), destination: endpoint(2, 5000) };
        table.flows.claim_by_ice(&check, call(1), Side::Callee, Timestamp(0));
        assert_eq!(table.owner(1, BOTH_OF_1), Some((1, Side::Caller, BoundBy::Ice)));
        // The same relay serves others.
        let other = FlowKey { source: endpoint(9, 4000), destination: endpoint(2, 5000) };
        for key in [other, other.reversed()] {
            table.id = table.flows.add(key, Timestamp(0)).unwrap();
            assert_eq!(table.owner(1, BOTH_OF_1), None);
        }
    }

    #[test]
    fn an_endpoint_that_everybody_names_is_the_latest_ones() {
        let mut flows = Flows::new(10, None);
        for slot in 0..10 * MAX_CLAIMS {
            flows.claim(endpoint(1, 4000), call(slot), Side::Caller, Timestamp(slot as i64));
            assert!(flows.places[&endpoint(1, 4000)].claims.len() <= MAX_CLAIMS);
        }
        let kept = flows.places[&endpoint(1, 4000)].claims.iter().map(|claim| claim.call.slot).min();
        assert_eq!(kept, Some(9 * MAX_CLAIMS));
    }

    #[test]
    fn whoever_has_been_heard_keeps_an_endpoint_that_everybody_names() {
        let mut table = Table::new(0);
        table.flows.claim(endpoint(1, 4000), call(0), Side::Caller, Timestamp(0));
        table.flows.claim(endpoint(2, 5000), call(0), Side::Callee, Timestamp(0));
        let binding = Binding { call: call(0), speaker: Side::Caller, by: BoundBy::Both };
        table.flows.bind(table.id, Some(binding), Timestamp(0));
        for slot in 1..10 * MAX_CLAIMS {
            table.flows.claim(endpoint(2, 5000), call(slot), Side::Callee, Timestamp(slot as i64));
        }
        assert_eq!(table.owner(10 * MAX_CLAIMS as i64, &[]), Some((0, Side::Caller, BoundBy::Both)));
    }

    #[test]
    fn a_claim_that_was_given_up_ends() {
        let mut table = Table::new(0);
        table.flows.claim(endpoint(2, 5000), call(1), Side::Callee, Timestamp(0));
        table.flows.limit_claim(endpoint(2, 5000), call(1), Side::Callee, Timestamp(SECOND));
        assert!(table.owner(1, &[]).is_some());
        assert!(table.owner(2 * SECOND, &[]).is_none());
    }
}
