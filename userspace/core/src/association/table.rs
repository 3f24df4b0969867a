//! All pairs of endpoints between which keys have been agreed on.

use std::sync::Arc;

use hashbrown::HashMap;

use super::dtls::{self, Chosen, Hello};
use super::key_log::{KeyLog, Random};
use super::zrtp::{self, Says};
use crate::srtp::{Encryption, MasterKey, Protection};
use crate::time::Timestamp;
use crate::wire::{Endpoint, FlowKey};

/// What has been agreed on between two endpoints, and how.
#[derive(Default)]
struct Association {
    handshake: Option<Handshake>,
    /// Since when media is encrypted by ZRTP.
    secure_since: Option<Timestamp>,
    last: Timestamp,
}

/// A DTLS handshake.
struct Handshake {
    client: Endpoint,
    random: Random,
    chosen: Option<Chosen>,
    /// What client and server write with.
    keys: [Vec<Arc<MasterKey>>; 2],
}

/// What goes between endpoints beside RTP, as far as it must be remembered.
pub struct Associations {
    by_ends: HashMap<(Endpoint, Endpoint), Association, foldhash::fast::RandomState>,
    capacity: usize,
    key_log: KeyLog,
    /// Given up for want of room.
    pub evicted: u64,
}

impl Associations {
    /// Keeps at most `capacity` pairs.
    pub fn new(capacity: usize) -> Associations {
        Associations { by_ends: HashMap::default(), capacity, key_log: KeyLog::default(), evicted: 0 }
    }

    /// Takes lines of a key log. Returns the flows, in one direction, of which more is known now.
    pub fn add_secrets(&mut self, text: &[u8]) -> Vec<FlowKey> {
        if self.key_log.add(text) == 0 {
            return Vec::new();
        }
        let mut found = Vec::new();
        for ((source, destination), association) in &mut self.by_ends {
            let Some(handshake) = &mut association.handshake else { continue };
            if handshake.keys[0].is_empty() && handshake.find_keys(&self.key_log) {
                found.push(FlowKey { source: *source, destination: *destination });
            }
        }
        found.sort_unstable();
        found
    }

    /// Takes a datagram of DTLS. Returns whether more is known of the flow now, and of that in the other direction.
    pub fn handle_dtls(&mut self, flow: &FlowKey, datagram: &[u8], now: Timestamp) -> bool {
        let Some(hello) = dtls::hello(datagram) else { return false };
        let Some(association) = entry(&mut self.by_ends, self.capacity, &mut self.evicted, flow, now) else {
            return false;
        };
        match hello {
            Hello::Client(random) => {
                if association.handshake.as_ref().is_some_and(|known| known.random == random) {
                    return false;
                }
                let keys = Default::default();
                association.handshake = Some(Handshake { client: flow.source, random, chosen: None, keys });
                true
            }
            Hello::Server(chosen) => {
                let handshake = association.handshake.as_mut();
                let Some(handshake) = handshake.filter(|handshake| handshake.client == flow.destination)
                else {
                    return false;
                };
                if handshake.chosen == Some(chosen) {
                    return false;
                }
                handshake.chosen = Some(chosen);
                handshake.find_keys(&self.key_log);
                true
            }
        }
    }

    /// Takes a datagram of ZRTP. Returns whether more is known of the flow now, and of that in the other direction.
    pub fn handle_zrtp(&mut self, flow: &FlowKey, datagram: &[u8], now: Timestamp) -> bool {
        let Some(says) = zrtp::says(datagram) else { return false };
        let Some(association) = entry(&mut self.by_ends, self.capacity, &mut self.evicted, flow, now) else {
            return false;
        };
        let since = (says == Says::Secure).then_some(now);
        if since.is_some() == association.secure_since.is_some() {
            // Said again; or by another call between the same ends, whose stream is a new one.
            association.secure_since = since;
            return false;
        }
        association.secure_since = since;
        true
    }

    /// What is known of the packets of a flow. `None`: nothing has been agreed on beside them. `call_since` is when
    /// their call began: each has its own ZRTP.
    pub fn protection(&self, flow: &FlowKey, call_since: Timestamp) -> Option<Protection> {
        let association = self.by_ends.get(&ends(flow))?;
        if association.secure_since.is_some_and(|since| since >= call_since) {
            return Some(Protection::Closed(Encryption::Zrtp));
        }
        let handshake = association.handshake.as_ref()?;
        let keys = &handshake.keys[usize::from(handshake.client != flow.source)];
        Some(match keys.is_empty() {
            // The log may be written after the handshake.
            true if !self.key_log.is_empty() => Protection::Awaited(Encryption::DtlsSrtp),
            true => Protection::Closed(Encryption::DtlsSrtp),
            false => Protection::Keys { keys: keys.clone(), otherwise: Some(Encryption::DtlsSrtp) },
        })
    }
}

impl Handshake {
    /// Returns whether there are keys now.
    fn find_keys(&mut self, log: &KeyLog) -> bool {
        let (Some(chosen), Some(secret)) = (&self.chosen, log.secret(&self.random)) else { return false };
        self.keys = Default::default();
        for [client, server] in dtls::keys(&self.random, chosen, secret) {
            self.keys[0].push(Arc::new(client));
            self.keys[1].push(Arc::new(server));
        }
        !self.keys[0].is_empty()
    }
}

/// The association of both directions.
fn ends(flow: &FlowKey) -> (Endpoint, Endpoint) {
    (flow.source.min(flow.destination), flow.source.max(flow.destination))
}

fn entry<'a>(
    by_ends: &'a mut HashMap<(Endpoint, Endpoint), Association, foldhash::fast::RandomState>,
    capacity: usize,
    evicted: &mut u64,
    flow: &FlowKey,
    now: Timestamp,
) -> Option<&'a mut Association> {
    let ends = ends(flow);
    if by_ends.len() >= capacity && !by_ends.contains_key(&ends) {
        // A good part at once, so that a flood of handshakes costs little.
        let mut ages: Vec<Timestamp> = by_ends.values().map(|association| association.last).collect();
        let (_, &mut oldest, _) = ages.select_nth_unstable(capacity / 8);
        let before = by_ends.len();
        by_ends.retain(|_, association| association.last > oldest);
        *evicted += (before - by_ends.len()) as u64;
    }
    let association = by_ends.entry(ends).or_default();
    association.last = now;
    Some(association)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> FlowKey {
        FlowKey { source: Endpoint::v4([10, 0, 0, 1], port), destination: Endpoint::v4([10, 0, 0, 2], 5000) }
    }

    fn zrtp(kind: &str) -> Vec<u8> {
        [b"\x10\0\0\x01ZRTP\0\0\0\x01\x50\x5a\0\x03".as_slice(), kind.as_bytes()].concat()
    }

    fn is_closed(associations: &Associations, flow: &FlowKey, since: i64) -> bool {
        matches!(associations.protection(flow, Timestamp(since)), Some(Protection::Closed(Encryption::Zrtp)))
    }

    #[test]
    fn zrtp_makes_both_directions_secret_for_its_call() {
        let mut associations = Associations::new(10);
        assert!(!associations.handle_zrtp(&flow(1), &zrtp("Hello   "), Timestamp(5)));
        assert!(associations.protection(&flow(1), Timestamp(0)).is_none());
        assert!(associations.handle_zrtp(&flow(1), &zrtp("Confirm2"), Timestamp(6)));
        assert!(!associations.handle_zrtp(&flow(1).reversed(), &zrtp("Conf2ACK"), Timestamp(7)));
        assert!(is_closed(&associations, &flow(1), 0) && is_closed(&associations, &flow(1).reversed(), 0));
        assert!(!is_closed(&associations, &flow(1), 8) && !is_closed(&associations, &flow(2), 0));
        assert!(associations.handle_zrtp(&flow(1), &zrtp("ClearACK"), Timestamp(9)));
        assert!(!is_closed(&associations, &flow(1), 0));
    }

    #[test]
    fn a_flood_of_handshakes_is_bounded() {
        let mut associations = Associations::new(16);
        for port in 1..1000 {
            associations.handle_zrtp(&flow(port), &zrtp("Confirm2"), Timestamp(i64::from(port)));
            assert!(associations.by_ends.len() <= 16);
        }
        assert!(is_closed(&associations, &flow(999), 0) && !is_closed(&associations, &flow(1), 0));
        assert_eq!(associations.evicted as usize, 999 - associations.by_ends.len());
    }
}
