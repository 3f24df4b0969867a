//! Fetching from memory what coming packets will need.
//!
//! With thousands of calls a packet is of another call than the one before, whose state no cache has any more, and the
//! processor waits for memory a dozen times: for the flow, that tells where its stream and its call are, which tell where
//! the audio goes. Of several packets it can wait at the same time.

use super::Engine;
use crate::media::Flow;
use crate::wire::{self, LinkType, Packet};

/// Of so many frames at once it is worth while: more would drive out of the cache what has just been fetched.
pub const FORESEEN: usize = 16;

/// What fewer flows take is in the cache anyway.
const FEW_FLOWS: usize = 1000;

impl Engine {
    /// Frames that will be handed over next, of which the first [`FORESEEN`] are looked at: what is known of their streams is
    /// fetched from memory, for all at the same time. Nothing changes by it but how long they take. Returns of how many there was
    /// something to be fetched.
    pub fn foresee<'a>(&self, frames: impl IntoIterator<Item = (LinkType, &'a [u8])>) -> usize {
        if self.flows.count() < FEW_FLOWS {
            return 0;
        }
        let mut ids = [None; FORESEEN];
        for (id, (link, frame)) in ids.iter_mut().zip(frames) {
            if let Ok(Packet::Udp { flow, .. }) = wire::parse(link, frame) {
                *id = self.flows.find(&flow);
            }
        }
        // What is read in one of these passes, the one before has fetched, but for whether a call has a tape.
        let flows = || ids.iter().flatten().filter_map(|&id| self.flows.known(id));
        flows().for_each(Flow::fetch);
        let call = |flow: &Flow| flow.binding.and_then(|binding| self.calls.in_slot(binding.call));
        for flow in flows() {
            if let Some(stream) = flow.streams.get(flow.current) {
                stream.fetch();
            }
            if let Some(call) = call(flow) {
                call.fetch();
            }
        }
        for flow in flows() {
            if let Some(stream) = flow.streams.get(flow.current) {
                stream.fetch_decoder();
            }
            if let Some(call) = call(flow) {
                call.fetch_block();
            }
        }
        for flow in flows() {
            if let (Some(call), Some(binding)) = (call(flow), flow.binding) {
                call.fetch_samples(binding.speaker);
            }
        }
        flows().count()
    }
}
