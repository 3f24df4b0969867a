//! Sequence numbers: what is new, what is a second copy, what is missing (RFC 3550, A.1).

/// A jump ahead by more than this begins a new run.
const MAX_DROPOUT: i16 = 3000;
/// Packets so far behind the newest are still told from second copies.
const WINDOW: i16 = 128;

/// What a sequence number says of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before; its number without the wrap.
    New(u64),
    /// Seen before.
    Duplicate,
    /// Makes no sense here. Two such in a row begin a new run: see [`Sequence::restart`].
    Stray,
    /// The second stray in a row.
    Restart,
}

/// The sequence numbers of one stream.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    started: bool,
    lowest: u64,
    highest: u64,
    /// Bit i: `highest - i` was seen.
    window: u128,
    /// The number that would make a stray the first of a new run.
    after_stray: Option<u16>,
    expected_before: u64,
    /// Different packets seen.
    pub unique: u64,
    /// Second copies.
    pub duplicate: u64,
    /// First arrivals below the highest number.
    pub reordered: u64,
    /// How often the numbers began anew.
    pub restarts: u32,
}

impl Sequence {
    /// Judges a packet. `stale`: it came so long after its place in time that it can be no late packet of
    /// this run; then the sender must have begun anew.
    pub fn receive(&mut self, number: u16, stale: bool) -> Verdict {
        if !self.started {
            self.begin(number);
            return Verdict::New(self.highest);
        }
        let ahead = number.wrapping_sub(self.highest as u16) as i16;
        if ahead > 0 && ahead < MAX_DROPOUT {
            self.after_stray = None;
            self.highest += ahead as u64;
            self.window = self.window.checked_shl(ahead as u32).unwrap_or(0) | 1;
            self.unique += 1;
            return Verdict::New(self.highest);
        }
        if ahead <= 0 && ahead > -WINDOW && !stale {
            let bit = 1u128 << ahead.unsigned_abs();
            if self.window & bit != 0 {
                self.duplicate += 1;
                return Verdict::Duplicate;
            }
            self.window |= bit;
            self.unique += 1;
            self.reordered += 1;
            let extended = self.highest - u64::from(ahead.unsigned_abs());
            self.lowest = self.lowest.min(extended);
            return Verdict::New(extended);
        }
        if self.after_stray == Some(number) {
            return Verdict::Restart;
        }
        self.after_stray = Some(number.wrapping_add(1));
        Verdict::Stray
    }

    /// How far a number is ahead of the highest one, if that is no great leap.
    pub fn ahead(&self, number: u16) -> Option<u16> {
        let ahead = number.wrapping_sub(self.highest as u16);
        (self.started && (1..500).contains(&ahead)).then_some(ahead)
    }

    /// All up to that number, which is ahead, have come and were not counted.
    pub fn catch_up(&mut self, number: u16) {
        self.highest += u64::from(number.wrapping_sub(self.highest as u16));
        self.window = 1;
    }

    /// Whether a packet with that number is behind one that has come already.
    pub fn has_passed(&self, number: u16) -> bool {
        self.started && (-WINDOW..=0).contains(&(number.wrapping_sub(self.highest as u16) as i16))
    }

    /// Begins a new run at `number`; returns that without the wrap.
    pub fn restart(&mut self, number: u16) -> u64 {
        self.expected_before = self.expected();
        self.restarts += 1;
        self.begin(number);
        self.highest
    }

    /// Packets that should have come, over all runs.
    pub fn expected(&self) -> u64 {
        if self.started { self.expected_before + (self.highest - self.lowest + 1) } else { 0 }
    }

    /// Packets that never came.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.unique)
    }

    fn begin(&mut self, number: u16) {
        // Runs stand far apart, so that a number without the wrap belongs to one run alone.
        let run = (self.highest >> 16) + 2;
        self.highest = (run << 16) + u64::from(number);
        self.lowest = self.highest;
        self.window = 1;
        self.after_stray = None;
        self.started = true;
        self.unique += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wrap_loss_reordering_and_copies() {
        let mut sequence = Sequence::default();
        for number in [65534, 65535, 1, 0, 0, 3] {
            sequence.receive(number, false);
        }
        assert_eq!((sequence.expected(), sequence.unique, sequence.lost()), (6, 5, 1));
        assert_eq!((sequence.duplicate, sequence.reordered, sequence.restarts), (1, 1, 0));
    }

    #[test]
    fn two_strays_begin_a_new_run() {
        let mut sequence = Sequence::default();
        sequence.receive(100, false);
        assert_eq!(sequence.receive(40_000, false), Verdict::Stray);
        assert_eq!(sequence.receive(101, false), Verdict::New((2 << 16) + 101));
        assert_eq!(sequence.receive(40_001, false), Verdict::Stray);
        assert_eq!(sequence.receive(40_002, false), Verdict::Restart);
        sequence.restart(40_001);
        assert!(matches!(sequence.receive(40_002, false), Verdict::New(_)));
        assert_eq!((sequence.expected(), sequence.lost(), sequence.restarts), (4, 0, 1));
    }

    #[test]
    fn the_same_numbers_again_much_later_are_a_new_run() {
        let mut sequence = Sequence::default();
        for number in 1..50 {
            sequence.receive(number, false);
        }
        assert_eq!(sequence.receive(1, true), Verdict::Stray);
        assert_eq!(sequence.receive(2, true), Verdict::Restart);
    }

    proptest! {
        #[test]
        fn counts_add_up(numbers: Vec<(u16, bool)>) {
            let mut sequence = Sequence::default();
            for (number, stale) in numbers {
                if sequence.receive(number, stale) == Verdict::Restart {
                    sequence.restart(number.wrapping_sub(1));
                    sequence.receive(number, false);
                }
                prop_assert!(sequence.unique <= sequence.expected());
            }
        }
    }
}
