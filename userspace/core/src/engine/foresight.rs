//! Fetching from memory what coming packets will need.
//!
//! With thousands of calls a packet is of another call than the one before, whose state no cache has any more, and the
//! processor waits for memory a dozen times: for the flow, that tells where its stream and its call are, which tell where
//! the audio goes. Of several packets it can wait at the same time.

use super::Engine;
use crate::media::Flow;
use crate::share::Glimpse;
use crate::time::Timestamp;
use crate::wire::{self, LinkType, Packet};

/// For so many frames at once it is worth while: more would drive out of the cache what has just been fetched.
pub const FORESEEN: usize = 16;

/// What fewer flows take is in the cache anyway.
const FEW_FLOWS: usize = 1000;

/// Frames that are gone through at most to find that many which do not pass.
const GONE_THROUGH: usize = u128::BITS as usize;

/// A frame that is to be handled with others.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it came.
    pub at: Timestamp,
    /// What its first header is.
    pub link: LinkType,
    /// Its bytes.
    pub data: &'a [u8],
    /// What the [share's glance](crate::share::Share::glance) has caught of it.
    pub glimpse: Option<Glimpse>,
}

impl Engine {
    /// Takes frames as [`Engine::handle_frame`] does, one after the other, but fetches from memory what several will need at the
    /// same time; and has those pass of which a glimpse is all there is to be seen. Nothing else is changed by it but how
    /// long they take.
    pub fn handle_frames<'a>(&mut self, frames: impl Iterator<Item = Frame<'a>> + Clone) {
        let mut rest = frames;
        loop {
            let (mut count, mut looked_at) = (0, 0u128);
            for frame in rest.clone().take(GONE_THROUGH) {
                let passes = frame.glimpse.is_some_and(|glimpse| self.flows.are_passing(&glimpse));
                looked_at |= u128::from(!passes) << count;
                count += 1;
                if looked_at.count_ones() as usize == FORESEEN {
                    break;
                }
            }
            if count == 0 {
                return;
            }
            let is_looked_at = |index: usize| looked_at >> index & 1 == 1;
            let some = rest.clone().take(count).enumerate();
            self.foresee(some.filter(|(index, _)| is_looked_at(*index)).map(|(_, frame)| frame));
            for (index, frame) in rest.by_ref().take(count).enumerate() {
                let passes = !is_looked_at(index)
                    && frame
                        .glimpse
                        .is_some_and(|glimpse| self.lets_pass(frame.at, frame.data.len(), &glimpse));
                if !passes {
                    self.handle_frame(frame.at, frame.link, frame.data);
                }
            }
        }
    }

    /// Fetches what is known of the streams of frames that come next.
    fn foresee<'a>(&self, frames: impl Iterator<Item = Frame<'a>>) {
        if self.flows.count() < FEW_FLOWS {
            return;
        }
        let mut ids = [None; FORESEEN];
        for (id, frame) in ids.iter_mut().zip(frames) {
            if let Ok(Packet::Udp { flow, .. }) = wire::parse(frame.link, frame.data) {
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
    }
}
