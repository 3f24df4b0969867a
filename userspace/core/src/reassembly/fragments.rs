//! IP fragments to packets, in bounded memory.

use etherparse::defrag::{IpDefragBuf, IpFragRange};
use etherparse::{IpFragOffset, IpNumber};
use hashlink::LinkedHashMap;

use crate::time::{SECOND, Timestamp};
use crate::wire::{Fragment, FragmentKey};

/// RFC 8200 section 4.5 gives a packet 60 seconds; a recorder that sees both ends of a local network
/// knows sooner.
const TIMEOUT: i64 = 30 * SECOND;
/// Bytes that an incomplete packet takes beside its data: its entry in the table, and what allocations cost.
const OVERHEAD: usize = 256;

/// Packets of which some fragments are still missing.
pub struct Fragments {
    /// In the order of their first fragments.
    open: LinkedHashMap<FragmentKey, Open, foldhash::fast::RandomState>,
    capacity: usize,
    memory: usize,
    /// Packets given up: too old, or made of fragments that contradict each other.
    pub abandoned: u64,
    /// Packets given up for want of room.
    pub evicted: u64,
}

struct Open {
    since: Timestamp,
    buffer: IpDefragBuf,
}

impl Open {
    fn memory(&self) -> usize {
        let sections = self.buffer.sections().capacity() * size_of::<IpFragRange>();
        OVERHEAD + self.buffer.data().capacity() + sections
    }
}

impl Fragments {
    /// Keeps at most `capacity` incomplete packets; the oldest is given up first.
    pub fn new(capacity: usize) -> Fragments {
        Fragments {
            open: LinkedHashMap::default(),
            capacity: capacity.max(1),
            memory: 0,
            abandoned: 0,
            evicted: 0,
        }
    }

    /// Adds a fragment. Returns the packet's payload when this was the last one missing.
    pub fn add(&mut self, now: Timestamp, fragment: &Fragment<'_>) -> Option<Vec<u8>> {
        self.expire(now);
        let key = fragment.key;
        let Ok(offset) = IpFragOffset::try_new(fragment.offset / 8) else { return None };
        if self.open.len() >= self.capacity && !self.open.contains_key(&key) {
            self.give_up_oldest();
        }
        let memory = &mut self.memory;
        let open = self.open.entry(key).or_insert_with(|| {
            let buffer = IpDefragBuf::new(IpNumber(key.protocol), Vec::new(), Vec::new());
            let open = Open { since: now, buffer };
            *memory += open.memory();
            open
        });
        let before = open.memory();
        let added = open.buffer.add(offset, fragment.more, fragment.payload);
        self.memory = self.memory - before + open.memory();
        if added.is_err() {
            self.remove(&key);
            self.abandoned += 1;
            return None;
        }
        if open.buffer.is_complete() {
            return self.remove(&key).map(|open| open.buffer.take_bufs().0);
        }
        None
    }

    /// Packets that still wait for fragments.
    pub fn waiting(&self) -> usize {
        self.open.len()
    }

    /// Bytes that they take, about.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Gives up the packet that has waited longest, for want of room. Returns whether there was one.
    pub fn give_up_oldest(&mut self) -> bool {
        let Some((_, open)) = self.open.pop_front() else { return false };
        self.memory -= open.memory();
        self.evicted += 1;
        true
    }

    fn remove(&mut self, key: &FragmentKey) -> Option<Open> {
        let open = self.open.remove(key)?;
        self.memory -= open.memory();
        Some(open)
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some((&key, _)) = self.open.front().filter(|(_, open)| now.since(open.since) >= TIMEOUT) {
            self.remove(&key);
            self.abandoned += 1;
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
        assert_eq!((fragments.waiting(), fragments.evicted), (4, 96));
        fragments.add(Timestamp(100 * SECOND), &fragment(1000, 0, true, b"12345678"));
        assert_eq!((fragments.waiting(), fragments.abandoned), (1, 4));
    }

    #[test]
    fn memory_is_told() {
        let mut fragments = Fragments::new(100);
        for id in 0..10 {
            // The last eight bytes of a packet as long as can be.
            fragments.add(Timestamp(0), &fragment(id, 65_520, false, b"12345678"));
        }
        assert!((10 * 65_528..20 * 65_528).contains(&fragments.memory()), "{}", fragments.memory());
        fragments.add(Timestamp(0), &fragment(0, 0, true, &[0; 65_520]));
        while fragments.give_up_oldest() {}
        assert_eq!((fragments.memory(), fragments.evicted), (0, 9));
    }
}
