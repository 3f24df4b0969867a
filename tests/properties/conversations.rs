//! Which calls belong together, and what is heard of a call that is seen on several hops.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use spantape_core::record::Side;
use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{EPOCH, decode};
use spantape_tests::frame::{self, Frame, merge, udp};
use spantape_tests::runner::{Outcome, run};
use spantape_tests::sip::{Dialog, sdp};

use super::cases;

const PACKET: i64 = 20 * MILLISECOND;

fn host(last: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 5, 0, last), 5060)
}

fn at_port(host: SocketAddrV4, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(*host.ip(), port)
}

/// A call between two hosts whose media goes between just these: answered after 500 ms. Times count from [`EPOCH`].
#[derive(Clone)]
struct Leg {
    id: &'static str,
    users: [&'static str; 2],
    ends: [SocketAddrV4; 2],
    port: u16,
    start: i64,
    end: i64,
    header: String,
}

impl Leg {
    fn new(id: &'static str, users: [&'static str; 2], ends: [u8; 2], start: i64, end: i64) -> Leg {
        Leg { id, users, ends: ends.map(host), port: 4000, start, end, header: String::new() }
    }

    fn with(self, header: &str) -> Leg {
        Leg { header: format!("{header}\r\n"), ..self }
    }

    fn dialog(&self) -> Dialog {
        Dialog { call_id: self.id.to_owned(), users: self.users.map(str::to_owned) }
    }

    fn media(&self) -> [SocketAddrV4; 2] {
        self.ends.map(|end| at_port(end, self.port))
    }

    fn frames(&self) -> Vec<Frame> {
        let (dialog, [caller, callee], [offer, answer]) = (self.dialog(), self.ends, self.media().map(sdp));
        let at = |after: i64| EPOCH + self.start + after;
        let answered = 500 * MILLISECOND;
        vec![
            udp(
                at(0),
                caller,
                callee,
                &dialog.request("INVITE", Side::Caller, 1, true, &self.header, &offer),
            ),
            udp(at(answered), callee, caller, &dialog.response(200, "INVITE", Side::Caller, 1, &answer)),
            udp(at(answered + 1), caller, callee, &dialog.request("ACK", Side::Caller, 1, false, "", "")),
            udp(EPOCH + self.end, caller, callee, &dialog.request("BYE", Side::Caller, 9, false, "", "")),
        ]
    }

    /// A request within it.
    fn says(&self, at: i64, by: Side, method: &str, header: &str, body: &str) -> Frame {
        let [from, to] = [by, by.other()].map(|side| self.ends[side.channel()]);
        udp(EPOCH + at, from, to, &self.dialog().request(method, by, 5, false, header, body))
    }
}

/// A stream from `path[0]` to `path[1]` of what `voice` says.
fn stream(
    path: [SocketAddrV4; 2],
    ssrc: u32,
    from: i64,
    to: i64,
    voice: impl Fn(i64) -> Vec<u8>,
) -> Vec<Frame> {
    let packets = (to - from) / PACKET;
    let packet = |number: i64| {
        let sequence = (ssrc as i64 + number) as u16;
        let bytes = frame::rtp(sequence, (number * 160) as u32, ssrc, &voice(number));
        udp(EPOCH + from + number * PACKET, path[0], path[1], &bytes)
    };
    (0..packets).map(packet).collect()
}

/// Noise that nobody else makes.
fn noise(seed: u64) -> impl Fn(i64) -> Vec<u8> {
    move |number| {
        let mut state = ((seed << 32) | (number as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..160).map(|_| next()).collect()
    }
}

fn conversation(outcome: &Outcome, call_id: &str) -> String {
    let call = outcome.calls.iter().find(|call| call.call_id == call_id);
    call.map(|call| call.conversation_id.clone()).expect("the call is seen")
}

fn told(outcome: &Outcome, call_id: &str, kind: &str) -> Vec<String> {
    let events = outcome.events.iter().filter(|event| event.call_id == call_id && event.kind == kind);
    events.map(|event| event.text.clone()).collect()
}

/// Two calls of one user to one number at once: the legs of both are guessed to be of the later one, until they speak.
fn guessed(relayed: bool) -> Outcome {
    let users = ["1001", "2001"];
    let first = Leg::new("first", users, [1, 9], 0, 9 * SECOND);
    let second = Leg::new("second", users, [2, 9], 100 * MILLISECOND, 9 * SECOND);
    let mut first_leg = Leg::new("first-leg", users, [9, 3], 150 * MILLISECOND, 9 * SECOND);
    let mut second_leg = Leg::new("second-leg", users, [9, 4], 160 * MILLISECOND, 9 * SECOND);
    (first_leg.port, second_leg.port) = (5000, 6000);
    let mut parts = Vec::new();
    for (seed, call, leg) in [(1, &first, &first_leg), (2, &second, &second_leg)] {
        let (inner, outer, from, to) = (call.media(), leg.media(), SECOND, 8 * SECOND);
        parts.extend([call.frames(), leg.frames()]);
        parts.push(stream(inner, 10 * seed as u32, from, to, noise(seed)));
        let sent_on = if relayed { seed } else { seed + 10 };
        parts.push(stream(outer, 10 * seed as u32 + 5, from + MILLISECOND, to, noise(sent_on)));
    }
    run(Config::default(), &merge(parts))
}

#[test]
fn payloads_know_better_than_a_guess() {
    let [relayed, transcoded] = [true, false].map(guessed);
    for outcome in [&relayed, &transcoded] {
        assert_ne!(conversation(outcome, "first"), conversation(outcome, "second"));
        assert_eq!(conversation(outcome, "second-leg"), conversation(outcome, "second"));
    }
    assert_eq!(conversation(&transcoded, "first-leg"), conversation(&transcoded, "second"));
    assert_eq!(conversation(&relayed, "first-leg"), conversation(&relayed, "first"));
}

/// A border controller sends the music of one server on to two callers.
#[test]
fn music_for_all_ties_nobody_together() {
    // All of the server's first, or caller by caller.
    for steps in [[2, 1], [1, 2]] {
        music(steps);
    }
}

fn music([of_leg, of_caller]: [i64; 2]) {
    let mut parts = Vec::new();
    let ids = [["in-0", "out-0"], ["in-1", "out-1"]];
    for (index, [inner, outer]) in ids.into_iter().enumerate() {
        let start = index as i64 * 100 * MILLISECOND;
        let caller = ["1001", "1002"][index];
        let mut legs = [
            Leg::new(outer, [caller, "2001"], [1 + index as u8, 9], start, 9 * SECOND),
            Leg::new(inner, ["anonymous", "9"], [9, 10], start + 20 * MILLISECOND, 9 * SECOND),
        ];
        for (leg, later) in legs.iter_mut().zip([1, 0]) {
            leg.port = 4000 + 2 * index as u16;
            let [caller, callee] = leg.media();
            let from = SECOND + (later * of_leg + index as i64 * of_caller) * MILLISECOND / 4;
            parts.push(leg.frames());
            parts.push(stream([callee, caller], leg.port.into(), from, 8 * SECOND, noise(77)));
        }
    }
    let outcome = run(Config::default(), &merge(parts));
    assert_eq!(outcome.calls.len(), 4);
    assert_ne!(conversation(&outcome, "out-0"), conversation(&outcome, "out-1"));
    assert_ne!(conversation(&outcome, "in-0"), conversation(&outcome, "in-1"));
}

#[test]
fn a_header_that_is_configured_or_names_the_other_call() {
    let legs = [
        Leg::new("one", ["1", "2"], [1, 9], 0, 2 * SECOND).with("X-Ticket: 4711"),
        Leg::new("two", ["3", "4"], [9, 2], SECOND, 3 * SECOND).with("x-ticket:  4711"),
        // By its Call-ID, in a field that all know, and in the one that is configured; when it is over already.
        Leg::new("three", ["5", "6"], [9, 3], SECOND, 3 * SECOND).with("X-CID: one"),
        Leg::new("four", ["7", "8"], [9, 4], 40 * SECOND, 42 * SECOND).with("X-Ticket: one"),
        Leg::new("late", ["5", "6"], [9, 3], 30 * SECOND, 33 * SECOND).with("X-Ticket: 4711"),
        Leg::new("other", ["1", "2"], [1, 9], 20 * SECOND, 21 * SECOND).with("X-Ticket: 4712"),
    ];
    let frames = merge(legs.iter().map(Leg::frames));
    let config = Config { correlation_headers: vec!["X-Ticket".to_owned()], ..Config::default() };
    let outcome = run(config, &frames);
    let first = conversation(&outcome, "one");
    for id in ["two", "three", "four", "late"] {
        assert_eq!(conversation(&outcome, id), first, "{id}");
    }
    assert_ne!(conversation(&outcome, "other"), first);
    let without = run(Config::default(), &frames);
    assert_ne!(conversation(&without, "two"), conversation(&without, "one"));
    assert_eq!(conversation(&without, "three"), conversation(&without, "one"));
    // A value that two calls share by chance in a field that is to hold a Call-ID.
    let chance = ["a", "b"].map(|id| Leg::new(id, ["1", id], [1, 9], 0, SECOND).with("X-CID: 7"));
    let outcome = run(Config::default(), &merge(chance.iter().map(Leg::frames)));
    assert_ne!(conversation(&outcome, "a"), conversation(&outcome, "b"));
}

/// The Session-ID is the same in both legs of a PBX; its other half ties the call that is transferred.
#[test]
fn either_half_of_a_session_id() {
    let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(32));
    let nobody = "0".repeat(32);
    let legs = [
        Leg::new("one", ["1", "2"], [1, 9], 0, 9 * SECOND).with(&format!("Session-ID: {a};remote={nobody}")),
        Leg::new("two", ["3", "4"], [9, 2], SECOND, 9 * SECOND)
            .with(&format!("Session-ID: {a};remote={nobody}")),
        Leg::new("three", ["5", "6"], [9, 3], 2 * SECOND, 9 * SECOND)
            .with(&format!("Session-ID: {b};remote={a}")),
        Leg::new("other", ["1", "2"], [1, 9], 6 * SECOND, 9 * SECOND)
            .with(&format!("Session-ID: {c};remote={nobody}")),
    ];
    let outcome = run(Config::default(), &merge(legs.iter().map(Leg::frames)));
    assert_eq!(["one", "two", "three"].map(|id| conversation(&outcome, id)), [a.clone(), a.clone(), a]);
    assert_eq!(conversation(&outcome, "other"), c);
}

/// The call that is transferred is done with before the one that goes on from it begins.
#[test]
fn a_call_that_is_over_is_told_where_it_went() {
    let first = Leg::new("first", ["1001", "1002"], [1, 2], 0, 2 * SECOND);
    let late = Leg::new("late", ["1001", "1003"], [1, 3], 20 * SECOND, 22 * SECOND)
        .with("Replaces: first;to-tag=callee;from-tag=caller");
    let outcome = run(Config::default(), &merge([first.frames(), late.frames()]));
    assert_eq!(conversation(&outcome, "late"), conversation(&outcome, "first"));
    let [old] = &told(&outcome, "first", "transfer")[..] else { panic!("{:?}", outcome.events) };
    assert!(old.starts_with("goes on in ") && old.ends_with(" (late)"), "{old}");
}

/// What comes of a REFER: the first answer that is final, whoever asked, and on however many hops it is seen.
#[test]
fn whether_a_transfer_succeeds() {
    let call = Leg::new("call", ["1001", "1002"], [1, 2], 0, 9 * SECOND);
    let sent = |at: i64, status: &str| {
        let frag = format!("SIP/2.0 {status}\r\n");
        let notify =
            call.dialog().request("NOTIFY", Side::Caller, at as u32, false, "Event: refer\r\n", &frag);
        let text = String::from_utf8(notify).unwrap().replace("application/sdp", "message/sipfrag");
        udp(EPOCH + at * SECOND, call.ends[0], call.ends[1], text.as_bytes())
    };
    let refer = call.says(2 * SECOND, Side::Callee, "REFER", "Refer-To: <sip:1003@example.net>\r\n", "");
    let mut frames = call.frames();
    let hop = udp(
        refer.at.0 + MILLISECOND,
        call.ends[0],
        host(7),
        &call.dialog().request("REFER", Side::Callee, 5, false, "r: <sip:1003@example.net>\r\n", ""),
    );
    frames.extend([refer, hop]);
    frames.extend([(3, "100 Trying"), (4, "603 Decline"), (5, "200 OK")].map(|(at, what)| sent(at, what)));
    let outcome = run(Config::default(), &merge([frames]));
    assert_eq!(
        told(&outcome, "call", "transfer"),
        ["callee to sip:1003@example.net", "to sip:1003@example.net: 603 Decline"]
    );
    let outcomes: Vec<&str> =
        outcome.events.iter().filter(|event| event.kind == "transfer").map(|event| event.outcome).collect();
    assert_eq!(outcomes, ["", "refused"]);
}

/// Both branches of a fork send early media; whichever answers, only it is heard from then on.
#[test]
fn the_branch_that_answers_is_heard() {
    for winner in 0..2u8 {
        let users = ["1001".to_owned(), "1002".to_owned()];
        let dialog = Dialog { call_id: "fork".to_owned(), users };
        let (caller, proxy) = (host(1), host(9));
        let branches = [2, 3].map(|last| at_port(host(last), 5000));
        let media = at_port(caller, 4000);
        let tagged = |message: Vec<u8>, branch: u8| {
            String::from_utf8(message).unwrap().replace("tag=callee", &format!("tag=b{branch}")).into_bytes()
        };
        let invite = dialog.request("INVITE", Side::Caller, 1, true, "", &sdp(media));
        let mut frames = vec![udp(EPOCH, caller, proxy, &invite)];
        for branch in 0..2u8 {
            let answer = sdp(branches[usize::from(branch)]);
            let ring = dialog.response(183, "INVITE", Side::Caller, 1, &answer);
            let at = EPOCH + (100 + 300 * i64::from(branch)) * MILLISECOND;
            frames.push(udp(at, proxy, caller, &tagged(ring, branch)));
            if branch == winner {
                let answer = dialog.response(200, "INVITE", Side::Caller, 1, &answer);
                frames.push(udp(EPOCH + 3 * SECOND, proxy, caller, &tagged(answer, branch)));
            }
        }
        let bye = dialog.request("BYE", Side::Caller, 9, false, "", "");
        frames.push(udp(EPOCH + 8 * SECOND, caller, proxy, &tagged(bye, winner)));
        let codes = [0x90, 0xa0];
        let voices = [0, 1].map(|index: usize| {
            let from = (150 + 300 * index as i64) * MILLISECOND;
            stream([branches[index], media], 50 + index as u32, from, 7 * SECOND, move |_| {
                vec![codes[index]; 160]
            })
        });
        let [one, other] = voices;
        let outcome = run(Config::default(), &merge([frames, one, other]));
        let [recording] = &outcome.recordings[..] else { panic!("{} recordings", outcome.recordings.len()) };
        let begin = (EPOCH + 3300 * MILLISECOND - recording.row.start.0) / (SECOND / 8000);
        let heard: Vec<i16> = recording.side(Side::Callee).skip(begin as usize).take(20_000).collect();
        let spoken = decode(codes[usize::from(winner)]);
        let wrong = heard.iter().filter(|sample| **sample != spoken).count();
        assert_eq!((heard.len(), wrong), (20_000, 0), "branch {winner}");
        // Nor is ever one mixed with the other.
        let both = [0, 1].map(|index: usize| decode(codes[index]));
        let mixed =
            |sample: &i16| both.iter().map(|voice| i32::from(*voice)).sum::<i32>() == i32::from(*sample);
        assert_eq!(recording.side(Side::Callee).filter(mixed).count(), 0);
    }
}

proptest! {
    #![proptest_config(cases(40))]

    /// A relay's packets are seen before and behind it, with or without another SSRC, sooner or later, from when the call
    /// begins or from its middle on. What is said is recorded once.
    #[test]
    fn a_relay_is_no_echo(
        delay in 0i64..60,
        begins in prop_oneof![Just(0i64), 1i64..200],
        renamed: bool,
        two_addresses: bool,
        speaks: u64,
    ) {
        let dialog = Dialog { call_id: "relayed".to_owned(), users: ["1001".to_owned(), "1002".to_owned()] };
        let (phones, proxy) = ([host(1), host(2)], host(9));
        let media = phones.map(|phone| at_port(phone, 4000));
        let relay = [at_port(host(20), 30_000), at_port(host(if two_addresses { 21 } else { 20 }), 30_002)];
        let mut frames = Vec::new();
        for (hop, offer, answer) in [([phones[0], proxy], media[0], relay[0]), ([proxy, phones[1]], relay[1], media[1])] {
            let [from, to] = hop;
            frames.extend([
                udp(EPOCH, from, to, &dialog.request("INVITE", Side::Caller, 1, true, "", &sdp(offer))),
                udp(EPOCH + SECOND, to, from, &dialog.response(200, "INVITE", Side::Caller, 1, &sdp(answer))),
                udp(EPOCH + 9 * SECOND, from, to, &dialog.request("BYE", Side::Caller, 9, false, "", "")),
            ]);
        }
        // What makes a payload speech, but so quiet that no sum of two is one of them.
        let voice = move |number: i64| -> Vec<u8> {
            noise(speaks & 0xffff)(number).into_iter().map(|byte| 0x90 | (byte & 0x0f)).collect()
        };
        let (from, to) = (1100 * MILLISECOND, 8 * SECOND);
        let original = stream([media[0], relay[0]], 7, from, to, voice);
        let ssrc = if renamed { 9 } else { 7 };
        let mut copy = stream([relay[1], media[1]], ssrc, from + delay * MILLISECOND, to + delay * MILLISECOND, voice);
        copy.drain(..begins as usize);
        let outcome = run(Config::default(), &merge([frames, original, copy]));
        prop_assert_eq!(outcome.calls.len(), 1);
        let [recording] = &outcome.recordings[..] else { panic!("{} recordings", outcome.recordings.len()) };
        let heard: Vec<i16> = recording.side(Side::Caller).filter(|sample| *sample != 0).collect();
        let spoken: Vec<i16> =
            (0..(to - from) / PACKET).flat_map(voice).map(decode).filter(|sample| *sample != 0).collect();
        // A relay behind another address is known only by what it says, and that not within its first packets.
        let tolerated = if two_addresses && delay >= 18 && begins > 0 { 160 * 14 } else { 0 };
        let wrong = heard.iter().zip(&spoken).filter(|(heard, spoken)| heard != spoken).count();
        prop_assert!(heard.len().abs_diff(spoken.len()) <= tolerated && (tolerated > 0 || wrong == 0), "{wrong} of {}", heard.len());
    }
}
