//! Which calls are whose, where several engines see the same frames.
//!
//! Each follows all signalling, and so knows all calls; but the media of a call goes one way, to the engine whose own it is.
//! That one records it and says what there is to say of it. Of the others' calls an engine knows no more than its own calls
//! have to do with: who is up, who is heard, which payloads are the same. Nothing passes between engines, and what they do
//! together is what one would do alone.

use crate::record::Id;

/// One of several equal parts of all calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    index: u64,
    of: u64,
}

impl Default for Share {
    /// All calls.
    fn default() -> Share {
        Share { index: 0, of: 1 }
    }
}

impl Share {
    /// Divides all calls among so many engines, at least one.
    pub fn among(engines: usize) -> impl Iterator<Item = Share> {
        let of = (engines as u64).max(1);
        (0..of).map(move |index| Share { index, of })
    }

    /// Whether a call of that id is in it. Ids are as good as evenly spread.
    pub fn has(&self, id: &Id) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = id.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) % self.of == self.index
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
        assert_eq!(Share::among(0).collect::<Vec<_>>(), [Share::default()]);
    }

    #[test]
    fn numbers_are_given_once() {
        let numbers = |share: Share| (0..4).map(move |count| share.first_number() + count * share.step());
        let mut given: Vec<u64> = Share::among(3).flat_map(numbers).collect();
        given.sort_unstable();
        assert_eq!(given, (1..13).collect::<Vec<_>>());
    }
}
