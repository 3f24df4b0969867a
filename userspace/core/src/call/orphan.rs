//! Calls made of RTP alone: which streams are one conversation.

use super::Call;
use crate::media::Flows;
use crate::wire::FlowKey;

impl Call {
    /// Whether a flow is what the other side of such a call says, although its ports are not those of the first flow
    /// in reverse: phones may send from another port than they receive at, and a relay from another address.
    pub fn is_answered_by(&self, key: &FlowKey, flows: &Flows) -> bool {
        if !self.orphan || self.is_over() {
            return false;
        }
        let mut bound = self.flows.iter().map(|&id| flows.get(id));
        let Some(first) = bound.next() else { return false };
        let speaker = first.binding.map(|binding| binding.speaker);
        let is_one_way = bound.all(|other| other.binding.map(|binding| binding.speaker) == speaker);
        is_one_way && is_reverse(&first.key, key)
    }
}

/// Whether one end of a flow is the other's in reverse, and of the other end at least host or port.
fn is_reverse(one: &FlowKey, other: &FlowKey) -> bool {
    let (source, destination) = (other.destination, other.source);
    let near = |a: crate::wire::Endpoint, b: crate::wire::Endpoint| a.ip == b.ip || a.port == b.port;
    source == one.source && near(destination, one.destination)
        || destination == one.destination && near(source, one.source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Endpoint;

    #[test]
    fn what_goes_back() {
        let flow = |from: (u8, u16), to: (u8, u16)| {
            let end = |(host, port)| Endpoint::v4([10, 0, 0, host], port);
            FlowKey { source: end(from), destination: end(to) }
        };
        let one = flow((1, 4000), (2, 5000));
        assert!(is_reverse(&one, &flow((2, 5000), (1, 4000))));
        assert!(is_reverse(&one, &flow((2, 5002), (1, 4000))));
        assert!(is_reverse(&one, &flow((9, 5000), (1, 4000))));
        assert!(is_reverse(&one, &flow((2, 5000), (9, 4000))));
        assert!(!is_reverse(&one, &flow((2, 5002), (1, 4002))));
        assert!(!is_reverse(&one, &flow((9, 5002), (1, 4000))));
        assert!(!is_reverse(&one, &one));
    }
}
