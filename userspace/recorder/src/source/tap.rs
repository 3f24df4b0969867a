//! What all live sources have in common: frames are taken from a ring in batches.

use std::mem::take;

use spantape_core::share::Glance;
use spantape_core::time::Timestamp;
use spantape_core::wire::{Endpoint, LinkType};
use spantape_sieve::{CLASSES, COUNTERS};

use super::Frame;
use super::buffer::FrameBuffer;
use super::clock::Clock;
use super::xdp::Frames;

/// Bytes that a batch has room for.
pub(crate) const BATCH_BYTES: usize = 512 << 10;
/// From here on a batch is handed on; what is left is room for what is taken from a ring at once.
const ENOUGH_BYTES: usize = BATCH_BYTES / 2;
pub(crate) const ENOUGH_FRAMES: usize = 1024;

/// A ring of the kernel's that holds what an interface has received.
pub(crate) trait Tap: Send {
    /// What its frames begin with.
    fn link(&self) -> LinkType;

    /// Waits a moment for frames, and takes those that are there.
    fn read(&mut self, batch: &mut Batch) -> Result<(), TapError>;

    /// Frames that found no room in the ring so far.
    fn lost(&mut self) -> u64;

    /// Nothing more is to come into the ring, as far as that can be had.
    fn detach(&mut self);

    /// Where the frames of its memory are, if it has memory that it shares with the kernel.
    fn frames(&self) -> Option<Frames>;

    /// The clock that its time stamps go by.
    fn clock(&mut self) -> &mut Clock;
}

/// Tells the sieve which media is wanted.
pub(crate) trait Steer: Send {
    /// See [`Event::Media`](spantape_core::event::Event::Media). Says whether there was room for it.
    fn steer(&mut self, endpoint: Endpoint, wanted: Option<bool>) -> bool;
}

/// Frames by class, as the sieve has counted them so far.
pub(crate) trait Count {
    fn counts(&self) -> Counts;

    /// Whether they can be read with the privileges there are.
    fn is_readable(&self) -> bool;
}

/// What the sieve has counted: by class, and behind the classes what could not be handed up.
pub(crate) type Counts = [u64; COUNTERS as usize];

const _: () = assert!(CLASSES < COUNTERS as usize);

/// A ring that cannot be read any more.
#[derive(Debug, thiserror::Error)]
#[error("{interface}: cannot be read any more: {reason}")]
pub(crate) struct TapError {
    pub(crate) interface: String,
    pub(crate) reason: String,
}

/// Frames, copied out of the ring so that it has room again. It is filled and emptied again and again.
pub(crate) struct Batch {
    link: LinkType,
    frames: FrameBuffer,
    /// Frames that came before this time are in this batch or an earlier one.
    pub(crate) seen_until: Option<Timestamp>,
    /// What its time stamps go by.
    pub(crate) clock: Clock,
    pub(crate) lost: Lost,
}

/// Frames that were needed and have been lost, by what was too slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The interface had no room for them, or nobody to give them to.
    pub(crate) interface: u64,
    /// The ring was full, or the frame longer than its memory.
    pub(crate) ring: u64,
    /// The ring was full because the queue behind it was: the disk, or the engine, did not keep up.
    pub(crate) queue: u64,
}

impl Batch {
    /// An empty batch for frames of an interface with that link layer.
    pub(crate) fn new(link: LinkType, glance: Option<&Glance>) -> Batch {
        Batch {
            link,
            frames: FrameBuffer::with_capacity(BATCH_BYTES, 2 * ENOUGH_FRAMES).glancing(glance.cloned()),
            seen_until: None,
            clock: Clock::new(),
            lost: Lost::default(),
        }
    }

    /// Adds a frame.
    pub(crate) fn push(&mut self, at: Timestamp, frame: &[u8]) {
        self.frames.push(Frame { at, link: self.link, data: frame });
    }

    /// There is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many frames are in it.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// It is time to hand it on.
    pub(crate) fn is_full(&self) -> bool {
        self.frames.bytes() >= ENOUGH_BYTES || self.frames.len() >= ENOUGH_FRAMES
    }

    /// Frames of several queues come by queue; puts them in the order of time.
    pub(crate) fn sort(&mut self) {
        self.frames.sort();
    }

    /// Its frames.
    pub(crate) fn frames(&self) -> &FrameBuffer {
        &self.frames
    }

    /// What was lost, once.
    pub(crate) fn take_lost(&mut self) -> Lost {
        take(&mut self.lost)
    }

    /// Forgets the frames.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.seen_until = None;
        self.lost = Lost::default();
    }
}

impl Lost {
    /// All of them.
    pub(crate) fn total(self) -> u64 {
        self.interface + self.ring + self.queue
    }

    /// Adds others.
    pub(crate) fn add(&mut self, other: Lost) {
        self.interface += other.interface;
        self.ring += other.ring;
        self.queue += other.queue;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_by_time_whatever_their_queue() {
        let mut batch = Batch::new(LinkType::Ethernet, None);
        for (at, frame) in [(5, &b"first queue"[..]), (9, b"again"), (3, b"second"), (5, b"last")] {
            batch.push(Timestamp(at), frame);
        }
        batch.sort();
        let frames: Vec<(i64, &[u8])> =
            batch.frames().frames(0..9).map(|frame| (frame.at.0, frame.data)).collect();
        assert_eq!(frames, [(3, &b"second"[..]), (5, b"first queue"), (5, b"last"), (9, b"again")]);
        batch.clear();
        assert!(batch.is_empty());
    }

    #[test]
    fn a_batch_is_handed_on_before_it_has_to_grow() {
        let mut batch = Batch::new(LinkType::Ethernet, None);
        let room = batch.frames.capacity();
        while !batch.is_full() {
            batch.push(Timestamp(0), &[0; 4096]);
        }
        (0..32).for_each(|_| batch.push(Timestamp(0), &[0; 4096]));
        assert_eq!(batch.frames.capacity(), room);
    }
}
