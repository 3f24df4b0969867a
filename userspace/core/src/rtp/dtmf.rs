//! Key presses in RTP (RFC 4733).

/// Tells one key press from the many packets that report it.
#[derive(Clone, Debug, Default)]
pub(super) struct Dtmf {
    /// RTP timestamp of the event seen last: all packets of one press carry the same.
    last: Option<u32>,
}

impl Dtmf {
    /// The key, when a packet is the first of its press.
    pub(super) fn receive(&mut self, timestamp: u32, payload: &[u8]) -> Option<char> {
        let &event = payload.first().filter(|_| payload.len() >= 4)?;
        if self.last == Some(timestamp) {
            return None;
        }
        self.last = Some(timestamp);
        match event {
            0..=9 => Some(char::from(b'0' + event)),
            10 => Some('*'),
            11 => Some('#'),
            12..=15 => Some(char::from(b'A' + event - 12)),
            // Flash, fax tones and the like are no keys.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_a_press() {
        let mut dtmf = Dtmf::default();
        assert_eq!(dtmf.receive(1, &[11, 10, 0, 160]), Some('#'));
        assert_eq!(dtmf.receive(1, &[11, 0x8a, 1, 64]), None);
        assert_eq!(dtmf.receive(2, &[11, 10, 0, 160]), Some('#'));
        assert_eq!(dtmf.receive(3, &[66, 10, 0, 160]), None);
        assert_eq!(dtmf.receive(4, &[1]), None);
    }
}
