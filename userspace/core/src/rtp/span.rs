//! How much media a stream carried, by its own timestamps.

/// A leap of the timestamps by more than this (in ticks) is no silence.
const LONGEST_GAP: i64 = 1 << 24;
/// What the timestamps of the audio cover, over all runs.
#[derive(Default)]
pub(super) struct Span {
    before: i64,
    first: Option<i64>,
    last: i64,
    last_sequence: u16,
    /// Ticks from one packet to the next.
    packet: i64,
    /// The next packet may be anywhere.
    new: bool,
}

impl Span {
    pub(super) fn add(&mut self, timestamp: i64, sequence: u16) {
        match self.first {
            Some(first) if (timestamp - self.last).abs() < LONGEST_GAP => {
                let step = timestamp - self.last;
                if step > 0
                    && sequence == self.last_sequence.wrapping_add(1)
                    && (self.packet == 0 || step < self.packet)
                {
                    self.packet = step;
                }
                self.first = Some(first.min(timestamp));
                self.last = self.last.max(timestamp);
            }
            _ => {
                self.close();
                (self.first, self.last) = (Some(timestamp), timestamp);
            }
        }
        self.new = false;
        self.last_sequence = sequence;
    }

    /// What comes next is not to be reckoned from what came before.
    pub(super) fn close(&mut self) {
        if let Some(first) = self.first.take() {
            self.before += self.last - first + self.packet;
        }
        self.new = true;
    }

    /// The next packet may be anywhere.
    pub(super) fn renew(&mut self) {
        self.new = true;
    }

    pub(super) fn is_new(&self) -> bool {
        self.new
    }

    /// Ticks from one packet to the next; 0 when that is not known.
    pub(super) fn packet(&self) -> i64 {
        self.packet
    }

    pub(super) fn ticks(&self) -> i64 {
        self.before + self.first.map_or(0, |first| self.last - first + self.packet)
    }
}
