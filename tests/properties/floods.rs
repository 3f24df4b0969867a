//! Hostile traffic around a call: what is kept stays within its limit, and the call is recorded as without it.

use std::net::{Ipv4Addr, SocketAddrV4};

use spantape_core::engine::Counters;
use spantape_core::record::EndReason;
use spantape_core::record::Side;
use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, EPOCH};
use spantape_tests::frame::{Frame, merge, rtp, tcp, udp};
use spantape_tests::runner::{Outcome, run};
use spantape_tests::sip::{Dialog, sdp};

/// Enough for the victim, and for a small part of any flood.
const MEMORY: usize = 3 << 20;
const LENGTH: i64 = 4 * SECOND;

fn victim() -> Call {
    let mut call = Call::plain(3, 300 * MILLISECOND, 3 * SECOND);
    // What the callee is heard to say while it rings comes before it has said where it receives.
    (call.early, call.lost.progress) = (true, true);
    call
}

fn spoofed(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(
        Ipv4Addr::from(0x6400_0000 + number.wrapping_mul(0x9e37_79b1) % 0x3f_ffff),
        1024 + (number % 60_000) as u16,
    )
}

fn pbx() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), 5060)
}

/// So many frames, evenly spread.
fn flood(count: u32, frame: impl Fn(i64, u32) -> Frame) -> Vec<Frame> {
    (0..count).map(|number| frame(EPOCH + LENGTH * i64::from(number) / i64::from(count), number)).collect()
}

/// The same while the call is up.
fn meanwhile(count: u32, frame: impl Fn(i64, u32) -> Frame) -> Vec<Frame> {
    let (begin, length) = (victim().answered() + SECOND / 2, victim().talk - SECOND);
    (0..count).map(|number| frame(begin + length * i64::from(number) / i64::from(count), number)).collect()
}

fn dialog(number: u32) -> Dialog {
    Dialog { call_id: format!("flood-{number}"), users: ["a", "b"].map(|user| format!("{user}{number}")) }
}

fn invite(number: u32, media: SocketAddrV4) -> Vec<u8> {
    dialog(number).request("INVITE", Side::Caller, 1, true, "", &sdp(media))
}

/// The first eight bytes of a datagram, whose rest is missing.
fn fragment(at: i64, number: u32) -> Frame {
    let mut frame = udp(at, spoofed(number), pbx(), &[0; 1000]);
    frame.bytes[18..20].copy_from_slice(&(number as u16).to_be_bytes());
    frame.bytes[20..22].copy_from_slice(&[0x20, 0]);
    frame
}

fn recorded(outcome: &Outcome) -> Vec<(i64, &[i16])> {
    let call_id = victim().dialog().call_id;
    let found = outcome.recordings.iter().filter(|recording| recording.row.call_id == call_id);
    found.map(|recording| (recording.row.start.0, recording.samples.as_slice())).collect()
}

/// Runs a flood; returns what was counted.
fn survive(flood: Vec<Frame>) -> Counters {
    let config = Config { max_memory: MEMORY, ..Config::default() };
    let quiet = run(config.clone(), &victim().frames());
    assert_eq!(recorded(&quiet).len(), 1);
    let outcome = run(config, &merge([victim().frames(), flood]));
    assert!(recorded(&outcome) == recorded(&quiet), "the recording is another one");
    let victim =
        outcome.calls.iter().find(|call| call.call_id == victim().dialog().call_id).expect("it is known");
    assert_eq!(victim.end_reason, EndReason::Bye);
    let peak = outcome.counters.memory_peak;
    assert!(peak <= MEMORY, "{peak} bytes");
    outcome.counters
}

#[test]
fn invites_that_nobody_answers() {
    let counters =
        survive(flood(5000, |at, number| udp(at, spoofed(number), pbx(), &invite(number, spoofed(number)))));
    assert!(counters.calls_evicted > 1000, "{counters:?}");
}

#[test]
fn descriptions_that_all_name_the_victim() {
    let media = victim().media[0];
    let counters =
        survive(meanwhile(5000, |at, number| udp(at, spoofed(number), pbx(), &invite(number, media))));
    assert!(counters.calls_evicted > 1000, "{counters:?}");
}

#[test]
fn answers_to_no_invite() {
    let counters = survive(flood(5000, |at, number| {
        let text = dialog(number).response(200, "INVITE", Side::Caller, 1, &sdp(spoofed(number)));
        udp(at, spoofed(number), pbx(), &text)
    }));
    assert!(counters.calls_evicted > 1000, "{counters:?}");
}

#[test]
fn registers_and_options_open_nothing() {
    let counters = survive(flood(5000, |at, number| {
        let method = if number % 2 == 0 { "REGISTER" } else { "OPTIONS" };
        udp(at, spoofed(number), pbx(), &dialog(number).request(method, Side::Caller, 1, true, "", ""))
    }));
    assert_eq!((counters.calls, counters.calls_evicted), (1, 0));
}

#[test]
fn record_keys_of_calls_that_nobody_has_seen() {
    let counters = survive(flood(5000, |at, number| {
        let text = dialog(number).request("INFO", Side::Caller, 1, false, "Record: on\r\n", "");
        udp(at, spoofed(number), pbx(), &text)
    }));
    assert!(counters.calls_evicted > 500, "{counters:?}");
}

#[test]
fn fragments_without_the_rest() {
    let counters = survive(flood(20_000, fragment));
    assert!(counters.fragments_evicted > 10_000, "{counters:?}");
}

#[test]
fn streams_without_end() {
    let text = format!("INVITE sip:a@b SIP/2.0\r\nContent-Length: 200000\r\n\r\n{}", "x".repeat(900));
    let counters = survive(flood(10_000, |at, number| tcp(at, spoofed(number), pbx(), 1, text.as_bytes())));
    assert!(counters.tcp_evicted > 5000, "{counters:?}");
}

#[test]
fn segments_that_wait_for_one_before() {
    let counters = survive(flood(20_000, |at, number| {
        let (connection, index) = (number / 40, number % 40);
        tcp(at, spoofed(connection), pbx(), 1 + 2000 * index, &[b'x'; 1000])
    }));
    assert!(counters.tcp_evicted > 100, "{counters:?}");
}

#[test]
fn a_stream_of_another_ssrc_with_each_packet() {
    let counters = survive(flood(20_000, |at, number| {
        udp(at, spoofed(1), spoofed(2), &rtp(number as u16, 160 * number, number, &[0x55; 160]))
    }));
    assert!(counters.streams_evicted > 19_000, "{counters:?}");
}

#[test]
fn rtp_on_any_port() {
    let counters = survive(flood(20_000, |at, number| {
        udp(at, spoofed(number), spoofed(!number), &rtp(number as u16, 160 * number, number, &[0x55; 160]))
    }));
    assert!(counters.flows_evicted > 10_000, "{counters:?}");
}

#[test]
fn rtp_to_where_the_victim_receives() {
    let media = victim().media[0];
    let counters = survive(meanwhile(20_000, |at, number| {
        udp(at, spoofed(number), media, &rtp(number as u16, 160 * number, number, &[0x55; 160]))
    }));
    assert!(counters.flows_evicted > 10_000, "{counters:?}");
}

#[test]
fn ssrcs_among_the_victims_own() {
    let [from, to] = victim().media;
    let counters = survive(meanwhile(20_000, |at, number| {
        udp(at, from, to, &rtp(number as u16, 160 * number, 1000 + number, &[0x55; 160]))
    }));
    assert!(counters.streams_evicted > 10_000, "{counters:?}");
}

/// Of calls that are recorded, all of them, some must go: those of which nothing comes any more.
#[test]
fn calls_that_are_recorded_go_last() {
    let calls: Vec<Call> =
        (0..20).map(|index| Call::plain(index, i64::from(index) * 50 * MILLISECOND, 3 * SECOND)).collect();
    let mut frames = merge(calls.iter().map(Call::frames));
    // Half of them fall silent without a BYE.
    let silent = EPOCH + 2 * SECOND;
    for call in calls.iter().take(10) {
        let ip = call.sip[0].ip().octets();
        frames.retain(|frame| frame.at.0 < silent || frame.bytes[26..30] != ip && frame.bytes[30..34] != ip);
    }
    let whole = run(Config::default(), &frames);
    let memory = whole.counters.memory_peak;
    let outcome = run(Config { max_memory: memory * 3 / 4, ..Config::default() }, &frames);
    let evicted = outcome.counters.calls_evicted;
    assert!((1..=10).contains(&evicted), "{evicted}");
    for call in calls.iter().skip(10) {
        let call_id = call.dialog().call_id;
        let of = |outcome: &Outcome| {
            outcome.recordings_of(&call_id).map(|found| found.samples.clone()).collect::<Vec<_>>()
        };
        assert!(of(&outcome) == of(&whole) && of(&whole).len() == 1, "{call_id}");
    }
}
