//! Which calls are whose, where several engines see the same frames.
//!
//! Each follows all signalling, and so knows all calls; but the media of a call goes one way, to the engine whose own it is.
//! That one records it and says what there is to say of it. Of the others' calls an engine knows no more than its own calls
//! have to do with: who is up, who is heard, which payloads are the same. Nothing passes between engines, and what they do
//! together is what one would do alone.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::record::Id;
use crate::rtp::{self, Packet as RtpPacket};
use crate::time::Timestamp;
use crate::wire::{self, FlowKey, LinkType, Packet};

/// One of several equal parts of all calls.
#[derive(Clone, Debug)]
pub struct Share {
    index: u64,
    of: u64,
    glance: Glance,
}

/// What is seen of a media packet at a glance. It is enough to tell whether it goes on where the one before has stopped.
#[derive(Clone, Copy, Debug)]
pub struct Glimpse {
    /// A hash of its flow.
    pub(crate) flow: u64,
    pub(crate) ssrc: u32,
    pub(crate) timestamp: u32,
    pub(crate) sequence: u16,
    pub(crate) payload_type: u8,
}

/// Looks at frames once for all engines of a [`Share::among`].
#[derive(Clone, Debug, Default)]
pub struct Glance(RandomState);

impl Glance {
    /// Whether a frame is a media packet, as far as that can be told without knowing what came before.
    pub fn at(&self, link: LinkType, frame: &[u8]) -> Option<Glimpse> {
        let Ok(Packet::Udp { flow, payload }) = wire::parse(link, frame) else { return None };
        if !rtp::is_version_2(payload) || rtp::is_rtcp(payload) {
            return None;
        }
        let (ssrc, packet) = rtp::read(payload, Timestamp(0), true)?;
        Some(self.of(&flow, ssrc, &packet))
    }

    pub(crate) fn of(&self, flow: &FlowKey, ssrc: u32, packet: &RtpPacket<'_>) -> Glimpse {
        let &RtpPacket { timestamp, sequence, payload_type, .. } = packet;
        Glimpse { flow: self.0.hash_one(flow), ssrc, timestamp, sequence, payload_type }
    }
}

impl Default for Share {
    /// All calls.
    fn default() -> Share {
        Share { index: 0, of: 1, glance: Glance::default() }
    }
}

impl Share {
    /// Divides all calls among so many engines, at least one.
    pub fn among(engines: usize) -> impl Iterator<Item = Share> {
        let of = (engines as u64).max(1);
        let glance = Glance::default();
        (0..of).map(move |index| Share { index, of, glance: glance.clone() })
    }

    /// Whether a call of that id is in it. Ids are as good as evenly spread.
    pub fn has(&self, id: &Id) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = id.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) % self.of == self.index
    }

    /// For whoever hands frames to the engines. One alone looks at all frames by itself.
    pub fn glance(&self) -> Option<&Glance> {
        (self.of > 1).then_some(&self.glance)
    }

    /// Whether what is of no call belongs to it.
    pub fn has_rest(&self) -> bool {
        self.index == 0
    }

    /// The first number that only this share gives to anything; the next one is [`Share::step`] further.
    pub(crate) fn first_number(&self) -> u64 {
        self.index + 1
    }

    /// How far numbers are apart.
    pub(crate) fn step(&self) -> u64 {
        self.of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_in_one_share_and_shares_are_alike() {
        let shares: Vec<Share> = Share::among(3).collect();
        let mut calls = [0u32; 3];
        for number in 0..3000u32 {
            let id = Id::derive(&[&number.to_le_bytes()]);
            let owners: Vec<usize> = (0..3).filter(|&owner| shares[owner].has(&id)).collect();
            assert_eq!(owners.len(), 1);
            calls[owners[0]] += 1;
        }
        assert!(calls.iter().all(|calls| (900..1100).contains(calls)), "{calls:?}");
        assert!(Share::among(0).all(|share| share.has_rest() && share.glance().is_none()));
    }

    #[test]
    fn numbers_are_given_once() {
        let numbers = |share: Share| (0..4).map(move |count| share.first_number() + count * share.step());
        let mut given: Vec<u64> = Share::among(3).flat_map(numbers).collect();
        given.sort_unstable();
        assert_eq!(given, (1..13).collect::<Vec<_>>());
    }
}
