//! A key log in the form that browsers and TLS libraries write (RFC 9850, known as `SSLKEYLOGFILE`).

use std::collections::VecDeque;
use std::fmt;

use hashbrown::HashMap;
use zeroize::Zeroizing;

/// Bytes of the client's random value, by which a handshake is known.
pub(super) const RANDOM: usize = 32;
pub(super) type Random = [u8; RANDOM];

/// Secrets kept; of more the oldest go.
const MAX_SECRETS: usize = 1 << 18;
/// No hash of TLS is longer.
const MAX_SECRET: usize = 64;

/// What a line of the log tells.
#[derive(PartialEq, Eq)]
pub(super) enum Secret {
    /// `CLIENT_RANDOM`: the master secret of a version up to 1.2.
    Master(Zeroizing<Vec<u8>>),
    /// `EXPORTER_SECRET`, of version 1.3.
    Exporter(Zeroizing<Vec<u8>>),
}

/// The secrets of handshakes. They are nowhere printed, and wiped when they are dropped.
#[derive(Default)]
pub struct KeyLog {
    secrets: HashMap<Random, Secret, foldhash::fast::RandomState>,
    order: VecDeque<Random>,
}

impl KeyLog {
    /// Takes the lines of a log, or of what has been added to one; returns how many of them are of use. Other lines
    /// are passed over.
    pub fn add(&mut self, text: &[u8]) -> usize {
        text.split(|&byte| byte == b'\n').filter_map(|line| self.add_line(line)).count()
    }

    /// How many handshakes it knows.
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    pub(super) fn secret(&self, client: &Random) -> Option<&Secret> {
        self.secrets.get(client)
    }

    fn add_line(&mut self, line: &[u8]) -> Option<()> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (label, random, secret) = (words.next()?, words.next()?, words.next()?);
        let make = match label {
            b"CLIENT_RANDOM" => Secret::Master,
            b"EXPORTER_SECRET" => Secret::Exporter,
            _ => return None,
        };
        let mut client = [0; RANDOM];
        if random.len() != 2 * RANDOM || secret.len() > 2 * MAX_SECRET {
            return None;
        }
        unhex(random, &mut client)?;
        let mut bytes = Zeroizing::new(vec![0; secret.len() / 2]);
        unhex(secret, &mut bytes)?;
        if self.secrets.insert(client, make(bytes)).is_none() {
            self.order.push_back(client);
            if self.order.len() > MAX_SECRETS
                && let Some(oldest) = self.order.pop_front()
            {
                self.secrets.remove(&oldest);
            }
        }
        Some(())
    }
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyLog({} secrets, not shown)", self.len())
    }
}

fn unhex(digits: &[u8], out: &mut [u8]) -> Option<()> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() != out.len() {
        return None;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = (digit(high)? << 4 | digit(low)?) as u8;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_use_and_others() {
        let mut log = KeyLog::default();
        let (one, two, secret) = ("ab".repeat(32), "CD".repeat(32), "01".repeat(48));
        let text = format!(
            "# a comment\r\nCLIENT_RANDOM {one} {secret}\r\n\nEXPORTER_SECRET {two} {}\nCLIENT_RANDOM {one}\n\
             SERVER_TRAFFIC_SECRET_0 {one} {secret}\nCLIENT_RANDOM {one} 0\nCLIENT_RANDOM xy{one} {secret}",
            "02".repeat(32)
        );
        assert_eq!((log.add(text.as_bytes()), log.len()), (2, 2));
        assert!(log.secret(&[0xab; 32]).unwrap() == &Secret::Master(Zeroizing::new(vec![1; 48])));
        assert!(log.secret(&[0xcd; 32]).unwrap() == &Secret::Exporter(Zeroizing::new(vec![2; 32])));
        assert_eq!(format!("{log:?}"), "KeyLog(2 secrets, not shown)");
    }

    proptest! {
        #[test]
        fn never_panics(text: Vec<u8>, line in "(CLIENT_RANDOM|EXPORTER_SECRET) [0-9a-z]{0,70} [0-9a-f]{0,140}") {
            let mut log = KeyLog::default();
            log.add(&text);
            log.add(line.as_bytes());
        }
    }
}
