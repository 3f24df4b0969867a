//! IP fragments to packets, in bounded memory.

use std::collections::VecDeque;

use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber};
use hashbrown::HashMap;

use crate::time::{SECOND, Timestamp};
use crate::wire::{Fragment, FragmentKey};

/// RFC 8200 section 4.5 gives a packet 60 seconds; a recorder that sees both ends of a local network
/// knows sooner.
const TIMEOUT: i64 = 30 * SECOND;

/// Packets of which some fragments are still missing.
pub struct Fragments {
    open: HashMap<FragmentKey, Open, foldhash::fast::RandomState>,
    /// In order of their first fragment, for time-out and eviction. May name packets that are done.
    order: VecDeque<(Timestamp, FragmentKey)>,
    capacity: usize,
    /// Packets given up: too old, too many, or made of fragments that contradict each other.
    pub abandoned: u64,
}

struct Open {
    since: Timestamp,
    buffer: IpDefragBuf,
}

impl Fragments {
    /// Keeps at most `capacity` incomplete packets; the oldest is given up first.
    pub fn new(capacity: usize) -> Fragments {
        Fragments { open: HashMap::default(), order: VecDeque::new(), capacity, abandoned: 0 }
    }

    /// Adds a fragment. Returns the packet's payload when this was the last one missing.
    pub fn add(&mut self, now: Timestamp, fragment: &Fragment<'_>) -> Option<Vec<u8>> {
        self.expire(now);
        let key = fragment.key;
        let Ok(offset) = IpFragOffset::try_new(fragment.offset / 8) else { return None };
        let open = self.open.entry(key).or_insert_with(|| {
            self.order.push_back((now, key));
            let buffer = IpDefragBuf::new(IpNumber(key.protocol), Vec::new(), Vec::new());
            Open { since: now, buffer }
        });
        if open.buffer.add(offset, fragment.more, fragment.payload).is_err() {
            self.open.remove(&key);
            self.abandoned += 1;
            return None;
        }
        if open.buffer.is_complete() {
            return self.open.remove(&key).map(|open| open.buffer.take_bufs().0);
        }
        None
    }

    /// Packets that still wait for fragments.
    pub fn waiting(&self) -> usize {
        self.open.len()
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some(&(since, key)) = self.order.front() {
            if now.since(since) < TIMEOUT
                && self.open.len() < self.capacity
                && self.order.len() <= 2 * self.capacity
            {
                return;
            }
            self.order.pop_front();
            // The identification may have been used again since: then this entry is not the one.
            if self.open.get(&key).is_some_and(|open| open.since == since) {
                self.open.remove(&key);
                self.abandoned += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MILLISECOND;

    fn fragment(identification: u32, offset: u16, more: bool, payload: &[u8]) -> Fragment<'_> {
        let key = FragmentKey { source: 1, destination: 2, identification, protocol: 17 };
        Fragment { key, offset, more, payload }
    }

    #[test]
    fn any_order_and_doubled() {
        let mut fragments = Fragments::new(4);
        let now = Timestamp(0);
        assert_eq!(fragments.add(now, &fragment(1, 8, false, b"tail")), None);
        assert_eq!(fragments.add(now, &fragment(1, 8, false, b"tail")), None);
        assert_eq!(fragments.add(now, &fragment(1, 0, true, b"12345678")), Some(b"12345678tail".to_vec()));
        assert_eq!(fragments.waiting(), 0);
    }

    #[test]
    fn bounded_and_timed_out() {
        let mut fragments = Fragments::new(4);
        for id in 0..100 {
            fragments.add(Timestamp(i64::from(id) * MILLISECOND), &fragment(id, 0, true, b"12345678"));
        }
        assert_eq!((fragments.waiting(), fragments.abandoned), (4, 96));
        fragments.add(Timestamp(100 * SECOND), &fragment(1000, 0, true, b"12345678"));
        assert_eq!((fragments.waiting(), fragments.abandoned), (1, 100));
    }
}
