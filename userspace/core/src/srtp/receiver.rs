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
        Receiver {
            masters,
            sessions: Vec::new(),
            current: 0,
            last: None,
            failed_in_a_row: 0,
            opened: 0,
            failed: 0,
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Suite;
    use super::*;

    const HEADER: [u8; 12] = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

    fn key(byte: u8) -> Arc<MasterKey> {
        Arc::new(MasterKey::new(Suite::AesCm128Sha1_80, &[byte; 30]).unwrap())
    }

    /// A packet by its index: its number and the wraps before it.
    fn packet(session: &Session, index: u64) -> Vec<u8> {
        let mut header = HEADER;
        header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        session.seal(&header, &index.to_be_bytes(), (index >> 16) as u32).unwrap()
    }

    fn open(receiver: &mut Receiver, packet: &[u8]) -> Option<u64> {
        let (header, body) = packet.split_at(12);
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let mut clear = Vec::new();
        let opened = receiver.open(&Sealed { header, body, sequence, ssrc: 9 }, &mut clear);
        opened.then(|| u64::from_be_bytes(clear.try_into().unwrap()))
    }

    #[test]
    fn the_key_that_fits_and_then_another() {
        let sessions = [1, 2, 3].map(|byte| Session::derive(&key(byte)).unwrap());
        let mut receiver = Receiver::new(vec![key(1), key(2)]);
        assert_eq!(open(&mut receiver, &packet(&sessions[1], 5)), Some(5));
        assert_eq!(open(&mut receiver, &packet(&sessions[2], 6)), None);
        receiver.set_keys(vec![key(3), key(2)]);
        assert_eq!(open(&mut receiver, &packet(&sessions[2], 7)), Some(7));
        assert_eq!((receiver.opened, receiver.failed), (2, 1));
    }

    #[test]
    fn one_that_joins_late_finds_the_counter() {
        let session = Session::derive(&key(1)).unwrap();
        let mut receiver = Receiver::new(vec![key(1)]);
        let first = 40 << 16;
        let found: Vec<bool> =
            (first..first + 6).map(|index| open(&mut receiver, &packet(&session, index)).is_some()).collect();
        assert_eq!(found, [false, false, false, true, true, true]);
    }

    #[test]
    fn a_flood_of_what_does_not_fit_does_not_hide_what_does() {
        let (session, other) = (Session::derive(&key(1)).unwrap(), Session::derive(&key(2)).unwrap());
        let mut receiver = Receiver::new(vec![key(1)]);
        assert_eq!(open(&mut receiver, &packet(&session, 65_530)), Some(65_530));
        for index in 0..1000 {
            assert_eq!(open(&mut receiver, &packet(&other, index)), None);
        }
        for index in 65_531..65_550 {
            assert_eq!(open(&mut receiver, &packet(&session, index)), Some(index));
        }
    }

    proptest! {
        #[test]
        fn loss_reordering_and_wraps(start in 0u64..3 << 16, steps in prop::collection::vec((1u64..9000, 0u64..30), 1..60)) {
            let session = Session::derive(&key(1)).unwrap();
            let mut receiver = Receiver::new(vec![key(1)]);
            let (mut index, mut missed) = (start, 0);
            for (ahead, behind) in steps {
                index += ahead;
                for index in [index, index.saturating_sub(behind)] {
                    match open(&mut receiver, &packet(&session, index)) {
                        Some(found) => prop_assert_eq!(found, index),
                        None => missed += 1,
                    }
                }
            }
            // Only of one that has wrapped before it was seen first are packets missed, and then three.
            prop_assert!(missed <= if start < 1 << 16 { 1 } else { 3 }, "{} missed", missed);
        }
    }
}
