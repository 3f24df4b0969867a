//! SRTP whose keys can be known is heard as if it had never been encrypted; any other is not heard at all.

use std::net::SocketAddrV4;

use proptest::prelude::*;
use spantape_core::record::Side;
use spantape_core::rules::Config;
use spantape_core::srtp::{MasterKey, Session};
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, SIDES, Sent};
use spantape_tests::frame::{self, Frame, merge};
use spantape_tests::runner::{Outcome, run};
use spantape_tests::sip::sdp;

const SUITES: [(&str, usize); 8] = [
    ("AES_CM_128_HMAC_SHA1_80", 30),
    ("AES_CM_128_HMAC_SHA1_32", 30),
    ("AES_192_CM_HMAC_SHA1_80", 38),
    ("AES_192_CM_HMAC_SHA1_32", 38),
    ("AES_256_CM_HMAC_SHA1_80", 46),
    ("AES_256_CM_HMAC_SHA1_32", 46),
    ("AEAD_AES_128_GCM", 28),
    ("AEAD_AES_256_GCM", 44),
];

/// What encrypts the media of a call.
#[derive(Clone, Copy, Debug)]
struct Secrecy {
    suite: usize,
    /// How often numbers have wrapped when the call is first seen.
    wraps: u32,
    /// The 200 to the INVITE is late by so much: the callee is heard before its key is.
    late_answer: i64,
}

/// A key of so many bytes in base64, all the same: a multiple of four letters and one more group.
fn inline(letter: char, bytes: usize) -> String {
    let text: String = std::iter::repeat_n(letter, bytes / 3 * 4).collect();
    text + match bytes % 3 {
        0 => "",
        1 => "AA==",
        _ => "AAA=",
    }
}

/// The values of `a=crypto` attributes of a side. The caller offers two, the callee takes the second.
fn attributes(suite: usize, side: Side) -> Vec<String> {
    let (name, bytes) = SUITES[suite];
    match side {
        Side::Caller => vec![
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}|2^31", inline('w', 30)),
            format!("2 {name} inline:{}", inline('b', bytes)),
        ],
        Side::Callee => vec![format!("2 {name} inline:{}|2^20|1:4", inline('c', bytes))],
    }
}

fn description(endpoint: SocketAddrV4, attributes: &[String]) -> String {
    let lines: String = attributes.iter().map(|value| format!("a=crypto:{value}\r\n")).collect();
    sdp(endpoint).replace("RTP/AVP", "RTP/SAVP") + &lines
}

fn signalling(call: &Call, suite: usize, late_answer: i64) -> Vec<Frame> {
    use Side::{Callee, Caller};
    let dialog = call.dialog();
    let [offer, answer] = SIDES.map(|side| description(call.media[side.channel()], &attributes(suite, side)));
    let [caller, callee] = call.sip;
    let end = call.end();
    vec![
        frame::udp(call.start, caller, callee, &dialog.request("INVITE", Caller, 1, true, "", &offer)),
        frame::udp(
            call.answered() + late_answer,
            callee,
            caller,
            &dialog.response(200, "INVITE", Caller, 1, &answer),
        ),
        frame::udp(end, caller, callee, &dialog.request("BYE", Caller, 9, false, "", "")),
        frame::udp(
            end + 10 * MILLISECOND,
            callee,
            caller,
            &dialog.response(200, "BYE", Callee.other(), 9, ""),
        ),
    ]
}

fn session(suite: usize, side: Side) -> Session {
    let value = attributes(suite, side).pop().unwrap_or_default();
    let keys = MasterKey::from_attribute(&value);
    Session::derive(&keys[0]).expect("a key of the right length")
}

/// A packet as it is sent; `wraps` of its sequence number lie before it.
fn sealed(sent: &Sent, session: &Session, wraps: u32) -> Frame {
    let packet = frame::rtp(sent.sequence, sent.timestamp, sent.ssrc, &vec![sent.code; sent.samples]);
    let (header, payload) = packet.split_at(12);
    let packet = session.seal(header, payload, wraps).expect("a header of 12 bytes");
    frame::udp(sent.at, sent.path[0], sent.path[1], &packet)
}

/// The media of both sides, with what was lost, doubled and out of order in it.
fn media(call: &Call, lost: &[bool], swapped: &[bool]) -> Vec<Sent> {
    let mut media = call.media();
    for (packet, swapped) in media.iter_mut().zip(swapped.iter().cycle()) {
        packet.at += if *swapped { 50 * MILLISECOND } else { 0 };
    }
    let mut lost = lost.iter().cycle();
    media.retain(|packet| {
        packet.spoken < call.end() - 100 * MILLISECOND && !lost.next().is_some_and(|lost| *lost)
    });
    media
}

fn plain(call: &Call, media: &[Sent]) -> Outcome {
    run(Config::default(), &merge([call.signalling(), media.iter().map(Sent::frame).collect()]))
}

fn encrypted(call: &Call, media: &[Sent], secrecy: Secrecy) -> Outcome {
    let sessions = SIDES.map(|side| session(secrecy.suite, side));
    let frames = media.iter().map(|sent| {
        let channel = sent.side.channel();
        let has_wrapped = sent.sequence < call.sequence[channel];
        sealed(sent, &sessions[channel], secrecy.wraps + u32::from(has_wrapped))
    });
    run(Config::default(), &merge([signalling(call, secrecy.suite, secrecy.late_answer), frames.collect()]))
}

fn secrecy() -> impl Strategy<Value = Secrecy> {
    let late = prop_oneof![Just(0), (0..2 * SECOND)];
    (0..SUITES.len(), prop_oneof![Just(0u32), 0u32..40], late)
        .prop_map(|(suite, wraps, late_answer)| Secrecy { suite, wraps, late_answer })
}

proptest! {
    #![proptest_config(crate::cases(48))]

    #[test]
    fn is_heard_as_if_it_were_plain(
        secrecy in secrecy(),
        sequence: [u16; 2],
        lost in prop::collection::vec(prop::bool::weighted(0.05), 1..100),
        swapped in prop::collection::vec(prop::bool::weighted(0.1), 1..100),
    ) {
        prop_assume!(lost.contains(&false));
        let call = Call { sequence, ..Call::plain(0, 0, 5 * SECOND) };
        let media = media(&call, &lost, &swapped);
        let (plain, encrypted) = (plain(&call, &media), encrypted(&call, &media, secrecy));
        prop_assert_eq!((plain.recordings.len(), encrypted.recordings.len()), (1, 1));
        let (plain, encrypted) = (&plain.recordings[0], &encrypted.recordings[0]);
        prop_assert_eq!((plain.row.start, plain.row.end), (encrypted.row.start, encrypted.row.end));
        prop_assert!(plain.samples == encrypted.samples, "other samples");
    }

    #[test]
    fn is_not_heard_without_the_key(secrecy in secrecy(), other in 0..SUITES.len()) {
        let call = Call::plain(0, 0, 3 * SECOND);
        let media = call.media();
        // Keys of another call.
        let sessions = SIDES.map(|side| session(other, side.other()));
        let frames = media.iter().map(|sent| sealed(sent, &sessions[sent.side.channel()], secrecy.wraps));
        let frames: Vec<Frame> = frames.collect();
        // Of the other side's keys, which were said as well, nothing may be left.
        let signalling: Vec<Frame> = signalling(&call, (other + 1) % SUITES.len(), secrecy.late_answer);
        let outcome = run(Config::default(), &merge([signalling, frames]));
        // What was said is kept beside it as it came.
        prop_assert!(outcome.recordings.iter().all(|recording| recording.samples.iter().all(|&sample| sample == 0)));
        prop_assert_eq!(outcome.streams.len(), 2);
        for stream in &outcome.streams {
            prop_assert_eq!(stream.not_decoded, "encrypted (SDES)");
        }
    }
}

/// A connectivity check (RFC 8445) from one endpoint to another.
fn check(at: i64, path: [SocketAddrV4; 2], username: &str) -> Frame {
    let mut attribute = vec![0, 6];
    attribute.extend((username.len() as u16).to_be_bytes());
    attribute.extend(username.as_bytes());
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let length = (attribute.len() as u16).to_be_bytes();
    let message = [&[0, 1][..], &length, &[0x21, 0x12, 0xa4, 0x42], &[7; 12], &attribute].concat();
    frame::udp(at, path[0], path[1], &message)
}

/// Media goes by way of a NAT and a TURN server: no description names an end of it.
#[test]
fn media_that_only_connectivity_checks_tie_to_its_call() {
    let call = Call::plain(0, 0, 3 * SECOND);
    let dialog = call.dialog();
    let description = |side: Side, fragment: &str| {
        sdp(call.media[side.channel()])
            + &format!("a=ice-ufrag:{fragment}\r\na=candidate:1 1 UDP 1 192.0.2.7 7000 typ host\r\n")
    };
    let [caller, callee] = call.sip;
    let signalling = vec![
        frame::udp(
            call.start,
            caller,
            callee,
            &dialog.request("INVITE", Side::Caller, 1, true, "", &description(Side::Caller, "Abcd")),
        ),
        frame::udp(
            call.answered(),
            callee,
            caller,
            &dialog.response(200, "INVITE", Side::Caller, 1, &description(Side::Callee, "wXyZ")),
        ),
        frame::udp(call.end(), caller, callee, &dialog.request("BYE", Side::Caller, 9, false, "", "")),
    ];
    let outside = ["203.0.113.1:40000", "198.51.100.2:3478"].map(|end| end.parse::<SocketAddrV4>().unwrap());
    let relayed = |sent: &Sent| {
        let packet = frame::rtp(sent.sequence, sent.timestamp, sent.ssrc, &vec![sent.code; sent.samples]);
        let wrapped = [&[0x40, 1][..], &(packet.len() as u16).to_be_bytes(), &packet].concat();
        let channel = sent.side.channel();
        frame::udp(sent.at, outside[channel], outside[1 - channel], &wrapped)
    };
    let media = call.media();
    let frames = || media.iter().map(relayed).collect::<Vec<_>>();
    let checked = vec![check(call.answered() + MILLISECOND, outside, "wXyZ:Abcd")];
    let outcome = run(Config::default(), &merge([signalling.clone(), checked, frames()]));
    let plain = plain(&call, &media);
    assert_eq!(outcome.recordings.len(), 1);
    assert!(outcome.recordings[0].samples == plain.recordings[0].samples);
    assert!(outcome.streams.iter().all(|stream| stream.bound_by == "ice"), "{:?}", outcome.streams);
    assert_eq!(outcome.counters.relayed, media.len() as u64);
    // Without it, or with that of another call, nobody can tell.
    for checks in [vec![], vec![check(call.answered() + MILLISECOND, outside, "wXyZ:abcd")]] {
        let outcome = run(Config::default(), &merge([signalling.clone(), checks, frames()]));
        assert!(outcome.recordings.is_empty());
    }
}

/// Both phones agree on keys by ZRTP a second into the call.
#[test]
fn zrtp_ends_what_is_heard() {
    let call = Call::plain(0, 0, 4 * SECOND);
    let agreed = call.answered() + SECOND;
    let message = |kind: &str| {
        [b"\x10\0\0\x01ZRTP\0\0\0\x01\x50\x5a\0\x03".as_slice(), kind.as_bytes(), b"crc."].concat()
    };
    let path = call.media;
    let agreement = vec![
        frame::udp(agreed, path[0], path[1], &message("Confirm2")),
        frame::udp(agreed + MILLISECOND, path[1], path[0], &message("Conf2ACK")),
    ];
    let media: Vec<Frame> = call
        .media()
        .iter()
        .map(|sent| match sent.at > agreed {
            true => sealed(sent, &session(0, sent.side), 0),
            false => sent.frame(),
        })
        .collect();
    let outcome = run(Config::default(), &merge([call.signalling(), agreement, media]));
    assert_eq!(outcome.recordings.len(), 1);
    let recording = &outcome.recordings[0];
    let secret_from = ((agreed - recording.row.start.0) / (SECOND / 8000) + 160) as usize;
    for side in SIDES {
        let samples: Vec<i16> = recording.side(side).collect();
        assert!(samples[..secret_from / 2].iter().any(|&sample| sample != 0));
        assert!(samples[secret_from..].iter().all(|&sample| sample == 0), "noise of {side:?}");
    }
    assert!(outcome.streams.iter().all(|stream| stream.not_decoded == "encrypted (ZRTP)"));
}
