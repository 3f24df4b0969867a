//! The sieve: nothing that the core can make use of is said not to be needed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spantape_core::rtp;
use spantape_core::sip::looks_like_sip;
use spantape_core::wire::{FlowKey, LinkType, Packet, parse};
use spantape_sieve::testing::Tables;
use spantape_sieve::{Class, Memory, Ports, sieve};

/// Requests that begin something here; OPTIONS and NOTIFY, which HTTP has too, do not.
const METHODS: [&str; 8] = ["INVITE ", "ACK ", "BYE ", "CANCEL ", "INFO ", "PRACK ", "UPDATE ", "REFER "];

fuzz_target!(|frame: &[u8]| {
    let mut memory = Tables { media: Default::default(), ..Tables::sample() };
    let class = sieve(frame, &mut memory);
    assert_ne!(class, Class::Unwanted, "nobody has said so");
    let useful = match parse(LinkType::Ethernet, frame) {
        Ok(Packet::Fragment(_)) => true,
        Ok(Packet::Udp { flow, payload }) => is_sip(payload) || is_media(&memory, &flow, payload),
        Ok(Packet::Tcp { flow, segment }) => {
            let at_its_port = flow.source.port == 5060 || flow.destination.port == 5060;
            at_its_port || is_sip(segment.payload)
        }
        _ => false,
    };
    assert!(!useful || class.is_needed(), "{class:?}");
});

fn is_sip(payload: &[u8]) -> bool {
    let begins = |word: &str| {
        payload.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word.as_bytes()))
    };
    looks_like_sip(payload) && (begins("SIP/2.0") || METHODS.into_iter().any(begins))
}

fn is_media(memory: &Tables, flow: &FlowKey, payload: &[u8]) -> bool {
    let ports = memory.port(flow.source.port).or(memory.port(flow.destination.port));
    rtp::is_version_2(payload) && payload.len() >= 12 && !ports.has(Ports::NO_MEDIA)
}
