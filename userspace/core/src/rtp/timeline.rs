//! When a packet is to be heard: RTP timestamps on the capture's clock.
//!
//! A stream is anchored where its packets had least delay. From there its own timestamps count, so that
//! jitter is not heard; and because no sender's clock runs as the capture's does, the anchor follows, by
//! single samples, whenever the least delay of the last seconds has moved.

use crate::time::{MILLISECOND, SECOND, Timestamp};

/// Least delay is taken over so many packets…
const WINDOW_PACKETS: u32 = 64;
/// …or this time, whichever is longer.
const WINDOW_TIME: i64 = SECOND;
/// The anchor follows when it is off by more than this: two sides then stay in step within 20 ms, and a
/// sender that merely jitters is left alone, sample for sample.
const TOLERANCE: i64 = 8 * MILLISECOND;

/// Where a stream's timestamps stand on the capture's clock.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    clock: i64,
    anchor_at: i64,
    anchor_timestamp: i64,
    window: Window,
    /// Nanoseconds by which the anchor is still to move.
    correction: i64,
    /// By which it has moved.
    moved: i64,
}

#[derive(Clone, Debug)]
struct Window {
    since: i64,
    packets: u32,
    least: i64,
}

impl Timeline {
    /// `timestamp` is to be heard at `at`.
    pub(super) fn new(clock: u32, timestamp: i64, at: Timestamp) -> Timeline {
        Timeline {
            clock: i64::from(clock.max(1)),
            anchor_at: at.0,
            anchor_timestamp: timestamp,
            window: Window { since: at.0, packets: 0, least: i64::MAX },
            correction: 0,
            moved: 0,
        }
    }

    pub(super) fn clock(&self) -> u32 {
        self.clock as u32
    }

    /// When `timestamp` is to be heard.
    pub(super) fn place(&self, timestamp: i64) -> Timestamp {
        Timestamp(
            self.anchor_at.saturating_add(to_nanoseconds(timestamp - self.anchor_timestamp, self.clock)),
        )
    }

    /// The same in nanoseconds, but as if the anchor had never followed the sender's clock: a fixed time base.
    pub(super) fn nominal(&self, timestamp: i64) -> i64 {
        self.place(timestamp).0.wrapping_sub(self.moved)
    }

    /// How long after its place a packet came.
    pub(super) fn lateness(&self, timestamp: i64, at: Timestamp) -> i64 {
        at.since(self.place(timestamp))
    }

    /// Takes note of a packet's delay.
    pub(super) fn observe(&mut self, timestamp: i64, at: Timestamp) {
        // Keeps the product in `to_nanoseconds` small.
        if (timestamp - self.anchor_timestamp).abs() > 1 << 28 {
            self.anchor_at = self.place(timestamp).0;
            self.anchor_timestamp = timestamp;
        }
        let late = self.lateness(timestamp, at);
        let window = &mut self.window;
        window.packets += 1;
        window.least = window.least.min(late);
        if window.packets >= WINDOW_PACKETS && at.0 - window.since >= WINDOW_TIME {
            if window.least.abs() > TOLERANCE {
                self.correction = window.least;
            }
            *window = Window { since: at.0, packets: 0, least: i64::MAX };
        }
    }

    /// Moves the anchor towards where it should be: by one `sample` length, or all the way where nobody
    /// can hear it.
    pub(super) fn follow(&mut self, sample: i64, unheard: bool) {
        let step = if unheard { self.correction } else { self.correction.clamp(-sample, sample) };
        if !unheard && step.abs() < sample {
            return;
        }
        self.anchor_at += step;
        self.moved += step;
        self.correction -= step;
        // Delays noted before the move are relative to the old anchor.
        if self.window.least != i64::MAX {
            self.window.least -= step;
        }
    }
}

fn to_nanoseconds(ticks: i64, clock: i64) -> i64 {
    ticks.saturating_mul(SECOND) / clock
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `packets` of 20 ms from a sender whose clock is `ppm` fast, with a delay for each packet, and
    /// returns the largest distance between place and least-delay arrival.
    fn worst(ppm: i64, packets: i64, delay: impl Fn(i64) -> i64) -> i64 {
        let mut timeline = Timeline::new(8000, 0, Timestamp(delay(0)));
        let mut worst = 0;
        for i in 0..packets {
            let sent = i * 20 * MILLISECOND * (1_000_000 - ppm) / 1_000_000;
            timeline.observe(i * 160, Timestamp(sent + delay(i)));
            timeline.follow(SECOND / 8000, false);
            worst = worst.max(timeline.place(i * 160).since(Timestamp(sent)).abs());
        }
        worst
    }

    #[test]
    fn an_hour_of_drift() {
        for ppm in [-200, 200] {
            let off = worst(ppm, 180_000, |_| 0);
            assert!(off < 9 * MILLISECOND, "{off}");
        }
    }

    #[test]
    fn jitter_moves_nothing() {
        let off = worst(0, 10_000, |i| (i * 7919 % 40) * MILLISECOND);
        assert!(off < TOLERANCE, "{off}");
    }

    #[test]
    fn a_late_first_packet_is_made_good() {
        let mut timeline = Timeline::new(8000, 0, Timestamp(30 * MILLISECOND));
        for i in 0..1000 {
            timeline.observe(i * 160, Timestamp(i * 20 * MILLISECOND));
            timeline.follow(SECOND / 8000, false);
        }
        assert!(timeline.place(160_000).since(Timestamp(20 * SECOND)).abs() <= TOLERANCE);
    }
}
