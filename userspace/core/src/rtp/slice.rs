//! What a stream was like in each five seconds of it.

use super::burst::Bursts;
use crate::record::{LossPattern, Reported};
use crate::time::{SECOND, Timestamp};

/// Slices begin at multiples of this time, so that those of all streams begin together.
pub(super) const SLICE: i64 = 5 * SECOND;

/// A slice that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// When the stream began.
    pub stream: Timestamp,
    /// Its synchronisation source.
    pub ssrc: u32,
    /// When the slice begins.
    pub start: Timestamp,
    /// The last packet in it.
    pub end: Timestamp,
    /// Packets whose turn came and that were there.
    pub received: u64,
    /// That were not.
    pub lost: u64,
    /// That came after their turn.
    pub late: u64,
    /// Second copies.
    pub duplicate: u64,
    /// Interarrival jitter (RFC 3550 section 6.4.1), the mean of its values after each packet, in milliseconds.
    pub jitter_ms: f64,
    /// Its maximum.
    pub max_jitter_ms: f64,
    /// Bursts and gaps within the slice.
    pub pattern: LossPattern,
    /// Opinion score; 0 for what is no audio.
    pub mos: f64,
    /// What its receiver has said in this time.
    pub reported: Reported,
}

/// The slice that goes on: figures of a stream's packets, added up as they come.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) duplicate: u64,
    jitter_sum: f64,
    jitter_max: f64,
    pub(super) bursts: Bursts,
    pub(super) reported: Reported,
}

impl Open {
    /// Whether what happens at `at` is of a later slice.
    pub(super) fn is_over(&self, at: Timestamp) -> bool {
        at.since(self.start) >= SLICE
    }

    /// Nothing has happened in it.
    pub(super) fn is_empty(&self) -> bool {
        self.received + self.lost + self.late + self.duplicate == 0
    }

    /// Begins the slice in which `at` lies.
    pub(super) fn begin(&mut self, at: Timestamp) {
        let start = Timestamp(at.0.saturating_sub(at.0.rem_euclid(SLICE)));
        *self = Open { start, end: at, ..Open::default() };
    }

    /// A packet that came at `at` was heard; the stream's jitter is that many nanoseconds now.
    pub(super) fn receive(&mut self, at: Timestamp, jitter: f64) {
        self.end = self.end.max(at);
        self.received += 1;
        self.bursts.receive();
        self.jitter_sum += jitter;
        self.jitter_max = self.jitter_max.max(jitter);
    }

    pub(super) fn lose(&mut self, lost: u64) {
        self.lost += lost;
        self.bursts.lose(lost);
    }

    /// A packet came that had been given up. If that was in an earlier slice, it stays lost there.
    pub(super) fn receive_late(&mut self) {
        self.late += 1;
        if self.lost > 0 {
            self.lost -= 1;
            self.received += 1;
        }
    }

    /// Mean and maximum of the jitter, in nanoseconds.
    pub(super) fn jitter(&self) -> (f64, f64) {
        (self.jitter_sum / self.received.max(1) as f64, self.jitter_max)
    }
}
