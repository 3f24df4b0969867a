//! What of a mirror port's traffic spantape needs.
//!
//! The same code runs in the kernel, as an XDP program, and outside it, behind `AF_PACKET`, where it is tested
//! as well. It says of a frame what it is ([`Class`]); what is not needed never reaches the recorder. When in
//! doubt a frame is needed: the recorder looks closer.
//!
//! Two things are remembered between frames, both by whoever calls ([`Memory`]): connections that have shown
//! what they carry, of which all later segments are needed, and the endpoints of media that session
//! descriptions have named.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "testing"))]
extern crate std;

mod class;
mod flow;
mod payload;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod walk;

pub use class::{CLASSES, Class};
pub use flow::{Endpoint, Flow, PATH, Path, Ports, Wish};
pub use walk::sieve;

/// Bytes of a frame, each looked at only if it is there.
pub trait Bytes {
    /// `N` bytes from `at` on, if the frame has them.
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
}

/// What is configured, and what earlier frames and the recorder have made known.
pub trait Memory {
    /// What is said of a port.
    fn port(&self, port: u16) -> Ports;

    /// What the recorder wants of media from or to an endpoint.
    fn wish(&self, endpoint: &Endpoint) -> Option<Wish>;

    /// What a connection is known to carry.
    fn flow(&self, flow: &Flow) -> Option<Class>;

    /// A connection has shown what it carries.
    fn remember(&mut self, flow: &Flow, class: Class);

    /// Whether an HTTP request for this path may be a record trigger.
    fn is_trigger(&self, path: &Path) -> bool;

    /// Whether unknown RTP is needed, or only that which the recorder has asked for.
    fn takes_unknown_media(&self) -> bool;
}

impl Bytes for [u8] {
    #[inline(always)]
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk::<N>().copied()
    }
}

/// What the kernel's program writes in front of each frame that it hands up, as XDP metadata.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// [`Stamp::MARK`], so that what an earlier frame left there is not taken for a stamp.
    pub mark: u64,
    /// When the frame was received: nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic: u64,
}

impl Stamp {
    /// Any number that does not occur by chance.
    pub const MARK: u64 = u64::from_be_bytes(*b"spantape");
}

/// Frames that were needed and could not be handed up, because nothing listens on their queue: counted behind
/// the classes.
pub const COUNT_NO_SOCKET: u32 = CLASSES as u32;

/// How many counters the kernel's program keeps.
pub const COUNTERS: u32 = COUNT_NO_SOCKET + 1;

#[cfg(test)]
mod tests {
    use std::format;
    use std::path::Path;
    use std::vec::Vec;

    use etherparse::{SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Tables, cases, garbage};

    #[test]
    fn every_case_is_what_it_is() {
        let mut memory = Tables::sample();
        for case in cases() {
            assert_eq!(sieve(&case.frame[..], &mut memory), case.class, "{}", case.name);
        }
    }

    #[test]
    fn there_are_cases_of_every_class() {
        for class in Class::ALL {
            assert!(cases().iter().any(|case| case.class == class), "{}", class.as_str());
        }
    }

    #[test]
    fn classes_have_their_numbers() {
        for (number, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number);
            assert_eq!(Class::from_number(number as u32), Some(class));
        }
        assert_eq!(Class::from_number(CLASSES as u32), None);
    }

    #[test]
    fn every_method_is_sip_in_either_case() {
        const METHODS: &str = "INVITE ACK BYE CANCEL OPTIONS REGISTER PRACK UPDATE INFO REFER NOTIFY SUBSCRIBE \
                               MESSAGE PUBLISH SIP/2.0";
        for method in METHODS.split(' ').flat_map(|method| [method.to_uppercase(), method.to_lowercase()]) {
            let text = format!("{method} sip:bob@example.net SIP/2.0");
            let frame = testing::udp(testing::alice(33_000), testing::bob(33_001), text.as_bytes());
            assert_eq!(sieve(&frame[..], &mut Tables::sample()), Class::Sip, "{method}");
        }
    }

    #[test]
    fn media_that_nobody_has_announced_can_be_left_out() {
        let media = [Class::Rtp, Class::Rtcp];
        let mut memory = Tables { unknown_media: false, ..Tables::sample() };
        let mut left_out = 0;
        for case in cases() {
            let class = sieve(&case.frame[..], &mut memory);
            if class != case.class {
                assert!(media.contains(&case.class) && class == Class::Rest, "{}", case.name);
                left_out += 1;
            }
        }
        let announced = |case: &&testing::Case| {
            sieve(&case.frame[..], &mut Tables { unknown_media: false, ..Tables::sample() }) == case.class
        };
        let all = cases();
        let kept = all.iter().filter(|case| media.contains(&case.class)).filter(announced).count();
        assert!(left_out >= 8 && kept >= 8, "{left_out} left out, {kept} kept");
    }

    #[test]
    fn what_is_announced_later_counts_from_then_on() {
        let (from, to) = (testing::alice(30_000), testing::bob(30_002));
        let frame = testing::udp(from, to, &testing::rtp());
        let mut memory = Tables::sample();
        let (source, destination) = [from, to].map(|socket| Endpoint::new(socket.ip(), socket.port())).into();
        assert_eq!(sieve(&frame[..], &mut memory), Class::Rtp);
        memory.media.insert(source, Wish::Unwanted);
        assert_eq!(sieve(&frame[..], &mut memory), Class::Unwanted);
        memory.media.insert(destination, Wish::Wanted);
        assert_eq!(sieve(&frame[..], &mut memory), Class::Rtp);
        memory.media.clear();
        assert_eq!(sieve(&frame[..], &mut memory), Class::Rtp);
    }

    /// Where a frame that is cut is not whole yet, whatever would follow.
    fn headers(frame: &[u8]) -> usize {
        let Ok(parsed) = SlicedPacket::from_ethernet(frame) else { return 14 };
        let link = 14 + 4 * parsed.vlan_ids().len();
        let Some(ip) = parsed.net.as_ref().and_then(|net| net.ip_payload_ref()) else { return link };
        let network = ip.payload.as_ptr() as usize - frame.as_ptr() as usize;
        match parsed.transport {
            Some(TransportSlice::Udp(_)) => network + 8,
            Some(TransportSlice::Tcp(tcp)) => network + tcp.header_slice().len(),
            _ => network,
        }
    }

    #[test]
    fn a_cut_header_is_malformed_and_a_cut_payload_is_not() {
        // Only these go on to where a transport's header is needed.
        let whole = [Class::Sip, Class::Http, Class::Control, Class::Rtp, Class::Rtcp, Class::Media];
        for case in cases().iter().filter(|case| whole.contains(&case.class)) {
            let headers = headers(&case.frame);
            assert!(headers >= 42, "{}", case.name);
            for end in 0..case.frame.len() {
                let class = sieve(&case.frame[..end], &mut Tables::sample());
                assert_eq!(class == Class::Malformed, end < headers, "{} cut at {end}", case.name);
            }
        }
    }

    #[test]
    fn every_frame_can_be_cut_anywhere() {
        for case in cases() {
            for end in 0..case.frame.len() {
                let class = sieve(&case.frame[..end], &mut Tables::sample());
                assert!(end >= 14 || class == Class::Malformed, "{} cut at {end}", case.name);
            }
        }
    }

    #[test]
    fn garbage_is_of_every_class() {
        let mut counts = [0; CLASSES];
        let mut memory = Tables::sample();
        for frame in garbage().take(100_000) {
            counts[sieve(&frame[..], &mut memory) as usize] += 1;
        }
        assert!(!counts.contains(&0), "{counts:?}");
    }

    proptest! {
        #[test]
        fn both_directions_are_one_connection(one: ([u8; 16], u16), other: ([u8; 16], u16)) {
            let [one, other] = [one, other].map(|(address, port)| Endpoint::new(address.into(), port));
            prop_assert_eq!(Flow::between(one, other), Flow::between(other, one));
            prop_assert!(one == other || Flow::between(one, other) != Flow::between(one, one));
        }

        #[test]
        fn noise_does_no_harm(frame: Vec<u8>) {
            sieve(&frame[..], &mut Tables::sample());
        }

        #[test]
        fn a_changed_frame_does_no_harm(case: proptest::sample::Index, at: proptest::sample::Index, byte: u8) {
            let cases = cases();
            let mut frame = case.get(&cases).frame.clone();
            *at.get_mut(&mut frame) = byte;
            sieve(&frame[..], &mut Tables::sample());
        }
    }

    /// The frames of a classic pcap file of this machine's byte order.
    fn frames(pcap: &[u8]) -> Vec<&[u8]> {
        let mut rest = &pcap[24..];
        let mut frames = Vec::new();
        while let Some(length) = rest[..].array::<12>(0).map(|header| header[8..].first_chunk().copied()) {
            let (frame, after) = rest[16..].split_at(u32::from_le_bytes(length.unwrap()) as usize);
            frames.push(frame);
            rest = after;
        }
        frames
    }

    /// Found by other means than the sieve's: what the engine would want to see.
    fn is_of_a_call(frame: &[u8]) -> bool {
        let contains_sip = |payload: &[u8]| payload.windows(7).any(|window| window == b"SIP/2.0");
        match SlicedPacket::from_ethernet(frame).unwrap().transport {
            Some(TransportSlice::Udp(udp)) => {
                contains_sip(udp.payload()) || udp.payload().len() >= 12 && udp.payload()[0] >> 6 == 2
            }
            Some(TransportSlice::Tcp(tcp)) => contains_sip(tcp.payload()),
            // A fragment.
            None => true,
            Some(_) => false,
        }
    }

    #[test]
    fn nothing_of_a_call_in_the_samples_is_rest() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
        let mut of_calls = 0;
        for case in std::fs::read_dir(samples).unwrap() {
            let Ok(pcap) = std::fs::read(case.unwrap().path().join("input.pcap")) else { continue };
            let mut memory = Tables::sample();
            for frame in frames(&pcap).into_iter().filter(|frame| is_of_a_call(frame)) {
                let class = sieve(frame, &mut memory);
                assert!(class.is_needed(), "{class:?}: {frame:02x?}");
                of_calls += 1;
            }
        }
        assert!(of_calls > 20_000, "only {of_calls} frames");
    }
}
