//! Bursts and gaps of loss (RFC 3611 section 4.7.2).
//!
//! A burst begins and ends with a lost packet, holds at least two, and nowhere so many packets in a row that
//! came as [`GMIN`]; all else is gap. So the loss of a link that fails now and then is told from that of one
//! that is always poor. A packet that came too late to be heard counts as lost here.

use crate::record::LossPattern;

/// Gmin, the value that RFC 3611 recommends.
const GMIN: u64 = 16;

/// Counts as packets come in order or are missed. Nothing is kept of single packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bursts {
    /// Those that came and those that did not.
    packets: u64,
    /// That came since the last loss.
    since: u64,
    /// Losses that are not [`GMIN`] packets apart, from the first of them to the last.
    near: Near,
    bursts: u64,
    burst_packets: u64,
    burst_lost: u64,
    gap_lost: u64,
    /// The very first packet was in a burst.
    begins: bool,
    /// Times that packets went missing, however many at once.
    runs: u64,
}

/// What is a burst if it holds two losses, and one lost packet of a gap else.
#[derive(Clone, Copy, Debug, Default)]
struct Near {
    lost: u64,
    packets: u64,
    /// It is the first thing that happened.
    first: bool,
}

impl Bursts {
    /// A packet's turn came, and it was there.
    pub(super) fn receive(&mut self) {
        self.packets += 1;
        self.since += 1;
    }

    /// So many packets' turns came, and they were not.
    pub(super) fn lose(&mut self, lost: u64) {
        if lost == 0 {
            return;
        }
        if self.near.lost == 0 || self.since >= GMIN {
            self.close();
            self.near = Near { lost, packets: lost, first: self.packets == 0 };
        } else {
            self.near.lost += lost;
            self.near.packets += self.since + lost;
        }
        self.runs += 1;
        self.packets += lost;
        self.since = 0;
    }

    /// How much longer losses in a row are than if each packet were lost by chance alone: BurstR of ITU-T G.107,
    /// 1 for random loss.
    pub(super) fn burst_ratio(&self) -> f64 {
        let lost = self.burst_lost + self.gap_lost + self.near.lost;
        if self.runs == 0 || lost >= self.packets {
            return 1.0;
        }
        let by_chance = self.packets as f64 / (self.packets - lost) as f64;
        (lost as f64 / self.runs as f64 / by_chance).max(1.0)
    }

    /// What there is to say until now of packets of so many milliseconds each.
    pub(super) fn pattern(&self, packet_ms: f64) -> LossPattern {
        let mut all = *self;
        all.close();
        let gap_packets = all.packets - all.burst_packets;
        // One between two bursts, one before and one after, if those are not empty.
        let ends = all.bursts > 0 && all.since == 0 && self.near.lost > 1;
        let gaps = (all.bursts + 1).saturating_sub(u64::from(all.begins) + u64::from(ends));
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        LossPattern {
            bursts: all.bursts,
            burst_loss: share(all.burst_lost, all.burst_packets),
            burst_ms: share(all.burst_packets, all.bursts) * packet_ms,
            gap_loss: share(all.gap_lost, gap_packets),
            gap_ms: share(gap_packets, gaps) * packet_ms,
        }
    }

    fn close(&mut self) {
        let near = std::mem::take(&mut self.near);
        if near.lost > 1 {
            self.begins |= near.first;
            self.bursts += 1;
            self.burst_packets += near.packets;
            self.burst_lost += near.lost;
        } else {
            self.gap_lost += near.lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(came: &[bool]) -> LossPattern {
        let mut bursts = Bursts::default();
        for run in came.chunk_by(|a, b| a == b) {
            if run[0] {
                run.iter().for_each(|_| bursts.receive());
            } else {
                bursts.lose(run.len() as u64);
            }
        }
        bursts.pattern(20.0)
    }

    #[test]
    fn isolated_losses_are_of_the_gap() {
        let mut came = [true; 100];
        (came[20], came[40]) = (false, false);
        let found = pattern(&came);
        assert_eq!((found.bursts, found.burst_loss, found.burst_ms), (0, 0.0, 0.0));
        assert_eq!((found.gap_loss, found.gap_ms), (0.02, 2000.0));
    }

    #[test]
    fn losses_near_each_other_are_a_burst() {
        let mut came = [true; 100];
        for lost in [20, 22, 23, 29, 90] {
            came[lost] = false;
        }
        let found = pattern(&came);
        // From 20 to 29; 20 packets before it and 70 after.
        assert_eq!((found.bursts, found.burst_loss, found.burst_ms), (1, 0.4, 200.0));
        assert_eq!((found.gap_loss, found.gap_ms), (1.0 / 90.0, 900.0));
    }

    #[test]
    fn how_bursty_it_is() {
        let mut random = Bursts::default();
        let mut bursty = Bursts::default();
        for _ in 0..100 {
            for _ in 0..10 {
                (0..9).for_each(|_| random.receive());
                random.lose(1);
            }
            (0..90).for_each(|_| bursty.receive());
            bursty.lose(10);
        }
        assert_eq!((random.burst_ratio(), bursty.burst_ratio()), (1.0, 9.0));
    }

    /// Word for word what RFC 3611 says: all stretches that are a burst, by looking at every packet again and again.
    fn by_the_book(came: &[bool]) -> LossPattern {
        let at = |index: i64| {
            usize::try_from(index).ok().and_then(|index| came.get(index)).copied().unwrap_or(true)
        };
        let mut in_burst = vec![false; came.len()];
        for begin in 0..came.len() {
            for end in begin + 1..came.len() {
                let stretch = &came[begin..=end];
                let quiet = stretch.windows(GMIN as usize).any(|window| window.iter().all(|&came| came));
                if !at(begin as i64) && !at(end as i64) && !quiet {
                    in_burst[begin..=end].fill(true);
                }
            }
        }
        // Two that touch would be one.
        let parts: Vec<&[bool]> = in_burst.chunk_by(|a, b| a == b).collect();
        let (bursts, gaps) =
            (parts.iter().filter(|part| part[0]).count(), parts.iter().filter(|part| !part[0]).count());
        let count = |burst: bool, lost: bool| {
            came.iter().zip(&in_burst).filter(|&(&came, &inside)| inside == burst && (!lost || !came)).count()
                as f64
        };
        let share = |part: f64, whole: f64| if whole == 0.0 { 0.0 } else { part / whole };
        LossPattern {
            bursts: bursts as u64,
            burst_loss: share(count(true, true), count(true, false)),
            burst_ms: share(count(true, false), bursts as f64) * 20.0,
            gap_loss: share(count(false, true), count(false, false)),
            gap_ms: share(count(false, false), gaps as f64) * 20.0,
        }
    }

    proptest! {
        #[test]
        fn as_the_standard_says(came in prop::collection::vec(prop::bool::weighted(0.9), 0..120)) {
            prop_assert_eq!(pattern(&came), by_the_book(&came));
        }
    }
}
