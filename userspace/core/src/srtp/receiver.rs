//! The SRTP state of one stream: which key, and how often its sequence numbers have wrapped.

use std::sync::Arc;

use super::{MasterKey, Sealed, Session};

/// How often sequence numbers may have wrapped before a stream was first seen: at 50 packets a second, a day of them.
const MAX_WRAPS: u32 = 64;
/// After so many packets in a row that cannot be undone, only each such one is tried with all keys and counters.
const TRY_AGAIN: u64 = 64;

/// Undoes the packets of one stream.
pub struct Receiver {
    masters: Vec<Arc<MasterKey>>,
    /// As far as they have been derived, in the same order.
    sessions: Vec<Session>,
    current: usize,
    /// The packet undone last: wraps before it, and its number.
    last: Option<(u32, u16)>,
    /// Packets in a row that could not be undone.
    failed_in_a_row: u64,
    /// Packets that were undone.
    pub opened: u64,
    /// Packets that were not.
    pub failed: u64,
}

impl Receiver {
    /// One that has these keys to choose from, the likeliest first.
    pub fn new(masters: Vec<Arc<MasterKey>>) -> Receiver {
        Receiver { masters, sessions: Vec::new(), current: 0, last: None, failed_in_a_row: 0, opened: 0, failed: 0 }
    }

    /// Other keys hold from now on; the sequence numbers go on (RFC 3711, section 3.3.1), or begin anew.
    pub fn set_keys(&mut self, masters: Vec<Arc<MasterKey>>) {
        if masters != self.masters {
            (self.masters, self.current, self.failed_in_a_row) = (masters, 0, 0);
            self.sessions.clear();
        }
    }

    /// Whether a key that fits is known.
    pub fn fits(&self) -> bool {
        self.opened > 0
    }

    /// Undoes a packet: its payload is in `clear` then. It allocates nothing, but for the first of a stream.
    pub fn open(&mut self, packet: &Sealed<'_>, clear: &mut Vec<u8>) -> bool {
        let likely = self.likely_counter(packet.sequence);
        let opened = match self.session(self.current) {
            Some(session) => session.open(packet, [likely], clear),
            None => None,
        };
        let opened = match opened {
            Some(counter) => Some(counter),
            None => self.search(packet, likely, clear),
        };
        match opened {
            Some(counter) => {
                let index = |(counter, sequence)| u64::from(counter) << 16 | u64::from(sequence);
                let now = (counter, packet.sequence);
                // A packet that is late tells nothing new; but numbers that begin anew do.
                let is_late = |last| index(now) < index(last) && index(last) - index(now) < 1 << 15;
                if !self.last.is_some_and(is_late) {
                    self.last = Some(now);
                }
                self.opened += 1;
                self.failed_in_a_row = 0;
                true
            }
            None => {
                self.failed += 1;
                self.failed_in_a_row += 1;
                false
            }
        }
    }

    /// RFC 3711, appendix A.
    fn likely_counter(&self, sequence: u16) -> u32 {
        let Some((counter, last)) = self.last else { return 0 };
        match i32::from(sequence) - i32::from(last) {
            ..=-0x8001 => counter.wrapping_add(1),
            0x8001.. => counter.saturating_sub(1),
            _ => counter,
        }
    }

    /// The key is another one, or packets were not seen for long. What a hostile sender makes of it is bounded: the
    /// counter is looked for only when a few packets of a stream could not be undone.
    fn search(&mut self, packet: &Sealed<'_>, likely: u32, clear: &mut Vec<u8>) -> Option<u32> {
        let nth = self.failed_in_a_row + 1;
        if !nth.is_power_of_two() && !nth.is_multiple_of(TRY_AGAIN) {
            return None;
        }
        let wraps = if nth < 4 { 1 } else { MAX_WRAPS };
        let first = likely.saturating_sub(1);
        let counters = (first..=likely.saturating_add(wraps)).chain(0..wraps);
        for index in 0..self.masters.len() {
            let session = self.session(index)?;
            // Without a tag the first key would always do.
            if !session.is_authenticated() && index != 0 {
                continue;
            }
            if let Some(counter) = session.open(packet, counters.clone(), clear) {
                self.current = index;
                return Some(counter);
            }
        }
        None
    }

    fn session(&mut self, index: usize) -> Option<&Session> {
        while self.sessions.len() <= index {
            let session = Session::derive(self.masters.get(self.sessions.len())?)?;
            self.sessions.push(session);
        }
        self.sessions.get(index)
    }
}
