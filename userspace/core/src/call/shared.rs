//! Calls that several engines follow, and one records ([`crate::share`]).

use super::{Call, Context};
use crate::event::Event;
use crate::media::{Binding, FlowId, Flows};
use crate::rtp::{MIN_PACKETS, Packet};
use crate::rules::Config;
use crate::time::Timestamp;

impl Call {
    /// Whether this engine records it, of several that follow it.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Whether another engine records it now.
    pub(super) fn is_recorded_elsewhere(&self) -> bool {
        !self.is_own && self.recorder.is_on()
    }

    /// Whether audio of it may be kept here.
    pub(super) fn keeps_audio(&self, config: &Config) -> bool {
        config.audio && self.is_own
    }

    /// Says something of the call, unless that is for another engine to say.
    pub(super) fn emit(&self, context: &mut Context<'_>, event: impl FnOnce() -> Event) {
        if self.is_own {
            context.events.push_back(event());
        }
    }

    /// Media of a call that another engine records: what other calls have to do with it is known here as well.
    pub(super) fn overhear(
        &mut self,
        id: FlowId,
        binding: &Binding,
        stream: usize,
        packet: &Packet<'_>,
        context: &mut Context<'_>,
    ) {
        let is_compared = packet.at <= self.compared_until;
        if self.awaits_tape(context.config) || is_compared {
            let mut clear = std::mem::take(context.clear);
            let packet = &self.open(id, binding.speaker, stream, packet, &mut clear, context);
            if self.awaits_tape(context.config) {
                let key = &context.flows.get(id).key;
                let codec =
                    self.descriptions.carried(key, binding.speaker, packet.payload_type, packet.payload);
                self.begin_recording(id, stream, packet.at, &codec, context);
            }
            if is_compared {
                self.compare(id, binding.speaker, stream, packet, context);
            }
            *context.clear = clear;
        }
        let flow = context.flows.get_mut(id);
        let (key, descriptions) = (flow.key, &self.descriptions);
        let Some(stream) = flow.streams.get_mut(stream) else { return };
        let (ssrc, has_held) = (stream.ssrc, stream.is_holding());
        let is_audio =
            stream.overhear(packet, &|payload_type| descriptions.codec(&key, binding.speaker, payload_type));
        let is_known = stream.unique() > MIN_PACKETS;
        if has_held {
            context.flows.weigh(id);
        }
        if is_audio && is_known && !is_compared && !self.is_over() && !self.awaits_tape(context.config) {
            context.flows.let_pass(id, ssrc, packet);
        }
    }

    /// When the last packet of its media came.
    pub(super) fn heard_until(&self, flows: &Flows) -> Option<Timestamp> {
        if self.is_own {
            return self.last_media;
        }
        let passing = self.flows.iter().filter(|&&id| flows.get(id).is_passing());
        passing.map(|&id| flows.last(id)).chain(self.last_media).max()
    }

    /// Something happens: takes note of the packets that were [let pass](Flows::let_pass), and looks at those that come.
    pub(super) fn catch_up(&mut self, flows: &mut Flows) {
        if !self.is_own {
            let passed = self.flows.iter().filter_map(|&id| flows.catch_up(id));
            self.last_media = passed.chain(self.last_media).max();
        }
    }

    /// The last of its packets that were let pass has come then.
    pub(crate) fn note_passed(&mut self, at: Timestamp) {
        self.last_media = self.last_media.max(Some(at));
    }
}
