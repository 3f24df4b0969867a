//! Packets of a stream that wait to be heard, and what they take.

use std::collections::VecDeque;
use std::ops::Deref;

use super::packet::Held;

/// Bytes that a payload takes beside itself.
const OVERHEAD: usize = 32;

/// Packets in the order in which they will be heard.
#[derive(Default)]
pub(super) struct Queue {
    packets: VecDeque<Held>,
    /// Of the payloads.
    memory: usize,
}

impl Deref for Queue {
    type Target = VecDeque<Held>;

    fn deref(&self) -> &VecDeque<Held> {
        &self.packets
    }
}

impl Queue {
    /// Bytes that all of them take, about.
    pub(super) fn memory(&self) -> usize {
        self.memory + self.packets.capacity() * size_of::<Held>()
    }

    pub(super) fn insert(&mut self, index: usize, held: Held) {
        self.memory += memory(&held);
        self.packets.insert(index, held);
    }

    pub(super) fn push_front(&mut self, held: Held) {
        self.insert(0, held);
    }

    pub(super) fn push_back(&mut self, held: Held) {
        self.insert(self.packets.len(), held);
    }

    pub(super) fn pop_front(&mut self) -> Option<Held> {
        let held = self.packets.pop_front()?;
        self.memory -= memory(&held);
        Some(held)
    }

    /// To be changed; [`Queue::weigh`] is to follow.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.packets.iter_mut()
    }

    /// What they take may be other than it was.
    pub(super) fn weigh(&mut self) {
        self.memory = self.packets.iter().map(memory).sum();
    }

    pub(super) fn clear(&mut self) {
        *self = Queue::default();
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Held) -> bool) {
        self.packets.retain(keep);
        self.weigh();
    }
}

fn memory(held: &Held) -> usize {
    OVERHEAD + held.payload_len()
}
