//! SIP as it really is: what is missing, comes twice, crosses, or is used again.

use std::net::SocketAddrV4;

use spantape_core::record::{CallRow, EndReason, Side};
use spantape_core::rules::Config;
use spantape_core::sip::Oddity;
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, EPOCH, Sent};
use spantape_tests::frame::{Frame, merge, rtp, udp};
use spantape_tests::runner::{Outcome, run};
use spantape_tests::sip::sdp;
use spantape_tests::truth;

/// Ethernet, IPv4 and UDP.
const HEADERS: usize = 42;

/// The same datagrams with other payloads.
fn rewritten(frames: Vec<Frame>, with: impl Fn(&str) -> String) -> Vec<Frame> {
    let end = |bytes: &[u8], ip: usize, port: usize| {
        let octets = [bytes[ip], bytes[ip + 1], bytes[ip + 2], bytes[ip + 3]];
        SocketAddrV4::new(octets.into(), u16::from_be_bytes([bytes[port], bytes[port + 1]]))
    };
    let rewrite = |frame: Frame| {
        let (from, to) = (end(&frame.bytes, 26, 34), end(&frame.bytes, 30, 36));
        let text = String::from_utf8_lossy(&frame.bytes[HEADERS..]);
        udp(frame.at.0, from, to, with(&text).as_bytes())
    };
    frames.into_iter().map(rewrite).collect()
}

/// Without the lines that begin with one of these.
fn without(text: &str, fields: &[&str]) -> String {
    let keep = |line: &&str| !fields.iter().any(|field| line.starts_with(field));
    text.split_inclusive("\r\n").filter(keep).collect()
}

fn media(call: &Call) -> Vec<Frame> {
    call.media().iter().map(Sent::frame).collect()
}

fn outcome(frames: impl IntoIterator<Item = Vec<Frame>>) -> Outcome {
    run(Config::default(), &merge(frames))
}

fn only(outcome: &Outcome) -> &CallRow {
    assert_eq!(outcome.calls.len(), 1);
    &outcome.calls[0]
}

fn kinds<'a>(outcome: &'a Outcome, kind: &str) -> Vec<&'a str> {
    outcome.events.iter().filter(|event| event.kind == kind).map(|event| event.text.as_str()).collect()
}

/// What the callee says in the dialog of a call, after its answer.
fn from_callee(call: &Call, after: i64, message: &[u8]) -> Frame {
    udp(call.answered() + after, call.sip[1], call.sip[0], message)
}

fn from_caller(call: &Call, after: i64, message: &[u8]) -> Frame {
    udp(call.answered() + after, call.sip[0], call.sip[1], message)
}

#[test]
fn calls_without_call_id_are_told_apart_by_tags_and_uris() {
    for fields in [&["Call-ID"][..], &["Call-ID", "Via", "CSeq: 9", "Max"], &["Call-ID", "Content-Length"]] {
        let mut calls =
            [0, 1].map(|index| Call::plain(index, i64::from(index) * 300 * MILLISECOND, 2 * SECOND));
        // Through the same proxy.
        calls[1].sip = calls[0].sip;
        let frames = calls.each_ref().map(|call| rewritten(call.signalling(), |text| without(text, fields)));
        let outcome = outcome(frames.into_iter().chain(calls.iter().map(media)));
        assert_eq!(outcome.calls.len(), 2, "{fields:?}");
        assert_eq!((outcome.recordings.len(), outcome.counters.sip_without_call_id), (2, 0));
        for (row, call) in outcome.calls.iter().zip(&calls) {
            assert_eq!((row.call_id.as_str(), row.end_reason), ("", EndReason::Bye));
            assert_eq!((&row.from.user, row.status), (&call.dialog().users[0], 200));
        }
        for (recording, call) in outcome.recordings.iter().zip(&calls) {
            truth::is_of(recording, call).unwrap();
        }
    }
}

#[test]
fn calls_of_nothing_but_a_request_uri_are_known_by_it() {
    let [caller, callee] = Call::plain(0, 0, SECOND).sip;
    let other = SocketAddrV4::new(*caller.ip(), 40_000);
    let say = |at: i64, from, to, text: &str| udp(EPOCH + at * MILLISECOND, from, to, text.as_bytes());
    let call = |at: i64| {
        vec![
            say(at, caller, callee, "INVITE sip:b@10.2.0.1 SIP/2.0\r\n\r\n"),
            say(
                at + 1,
                callee,
                caller,
                "SIP/2.0 100 Trying\r\n\r\nSIP/2.0 180 Ring\r\n\r\nSIP/2.0 200 OK\r\n\r\n",
            ),
            say(at + 2, caller, callee, "ACK sip:b@10.2.0.1 SIP/2.0\r\n\r\n"),
            say(at + 900, other, callee, "BYE sip:b@10.2.0.1 SIP/2.0\r\n\r\n"),
            say(at + 901, callee, other, "SIP/2.0 200 OK\r\n\r\n"),
        ]
    };
    let register = say(4000, caller, callee, "REGISTER sip:b@10.2.0.1 SIP/2.0\r\n\r\n");
    let outcome = outcome([call(0), call(1500), vec![register]]);
    assert_eq!(outcome.calls.len(), 2);
    for row in &outcome.calls {
        assert_eq!((row.end_reason, row.messages, row.answer), (EndReason::Bye, 6, None));
        // The answer to the BYE is, byte for byte, the one to the INVITE.
        assert_eq!(row.retransmissions, 1);
    }
    assert_ne!(outcome.calls[0].id, outcome.calls[1].id);
    assert_eq!(outcome.counters.sip_without_call_id, 1);
    assert_eq!(outcome.counters.sip_odd[Oddity::CallId as usize], 15);
}

#[test]
fn a_200_that_crosses_the_cancel_answers_the_call() {
    for cancel in [-20, 5] {
        let call = Call::plain(0, 0, SECOND);
        let request = call.dialog().request("CANCEL", Side::Caller, 1, true, "", "");
        let answer = call.dialog().response(200, "CANCEL", Side::Caller, 1, "");
        let race = vec![
            from_caller(&call, cancel * MILLISECOND, &request),
            from_callee(&call, (cancel + 30) * MILLISECOND, &answer),
        ];
        let outcome = outcome([call.frames(), race]);
        let row = only(&outcome);
        assert_eq!((row.status, row.end_reason, row.end.0), (200, EndReason::Bye, call.end()));
        assert_eq!(row.answer.unwrap().0, call.answered());
        truth::is_of(&outcome.recordings[0], &call).unwrap();
    }
}

#[test]
fn a_487_after_the_200_changes_nothing() {
    let call = Call::plain(0, 0, SECOND);
    let refusal = call.dialog().response(487, "INVITE", Side::Caller, 1, "");
    let outcome = outcome([call.frames(), vec![from_callee(&call, 15 * MILLISECOND, &refusal)]]);
    let row = only(&outcome);
    assert_eq!((row.status, row.end_reason, row.end.0), (200, EndReason::Bye, call.end()));
}

#[test]
fn a_cancelled_call_ends_with_the_cancel_whether_the_487_is_seen_or_not() {
    for is_seen in [true, false] {
        let mut call = Call::plain(0, 0, SECOND);
        (call.lost.answer, call.lost.ack, call.lost.bye) = (true, true, true);
        let dialog = call.dialog();
        let mut race = vec![from_caller(
            &call,
            -100 * MILLISECOND,
            &dialog.request("CANCEL", Side::Caller, 1, true, "", ""),
        )];
        if is_seen {
            race.push(from_callee(
                &call,
                -50 * MILLISECOND,
                &dialog.response(487, "INVITE", Side::Caller, 1, ""),
            ));
        }
        // After that time there will be no answer (RFC 3261, timer F).
        let later = vec![from_caller(&call, 40 * SECOND, b"\r\n\r\n")];
        let outcome = outcome([call.signalling(), race, later]);
        let row = only(&outcome);
        assert_eq!((row.end_reason, row.answer), (EndReason::Cancelled, None));
        assert_eq!(row.end.0, call.answered() - 100 * MILLISECOND);
    }
}

#[test]
fn a_call_id_used_again_is_another_call() {
    // At once, and hours later.
    for pause in [100 * MILLISECOND, 3 * SECOND, 2 * 3600 * SECOND] {
        let first = Call::plain(0, 0, SECOND);
        let again = Call { start: first.end() + pause, ..first.clone() };
        let retagged = rewritten(again.signalling(), |text| text.replace("tag=call", "tag=again"));
        // The answer to the first one's BYE is lost, and the BYE comes once more.
        let straggler = first.dialog().request("BYE", Side::Caller, 9, false, "", "");
        let straggler = from_caller(&again, 100 * MILLISECOND, &straggler);
        let outcome = outcome([first.frames(), retagged, media(&again), vec![straggler]]);
        let ends: Vec<_> = outcome.calls.iter().map(|row| (row.end_reason, row.end.0)).collect();
        assert_eq!(ends, [(EndReason::Bye, first.end()), (EndReason::Bye, again.end())], "{pause}");
        assert_ne!(outcome.calls[0].id, outcome.calls[1].id);
        assert_eq!(outcome.recordings.len(), 2);
    }
}

#[test]
fn a_call_id_used_again_before_any_end_was_seen_is_another_call_too() {
    let mut first = Call::plain(0, 0, SECOND);
    first.lost.bye = true;
    let again = Call { start: first.end() + SECOND, lost: Default::default(), ..first.clone() };
    let retagged = rewritten(again.signalling(), |text| text.replace("tag=call", "tag=again"));
    let outcome = outcome([first.frames(), retagged, media(&again)]);
    let reasons: Vec<_> = outcome.calls.iter().map(|row| row.end_reason).collect();
    assert_eq!(reasons, [EndReason::Superseded, EndReason::Bye]);
    assert!(outcome.calls[0].end.0 <= first.end());
}

#[test]
fn the_same_call_on_another_hop_is_the_same_whatever_its_tags() {
    let call = Call::plain(0, 0, SECOND);
    let mut far = call.clone();
    far.sip = [call.sip[1], SocketAddrV4::new([10, 9, 0, 1].into(), 5060)];
    far.start += 5 * MILLISECOND;
    let retagged = rewritten(far.signalling(), |text| text.replace("tag=call", "tag=far"));
    let outcome = outcome([call.frames(), retagged]);
    assert_eq!(only(&outcome).end_reason, EndReason::Bye);
    truth::is_of(&outcome.recordings[0], &call).unwrap();
}

#[test]
fn an_invite_sent_again_and_again_to_a_dead_host_is_one_call() {
    let call = Call::plain(0, 8 * SECOND, SECOND);
    let dead = SocketAddrV4::new([10, 9, 0, 9].into(), 5060);
    let invite = call.dialog().request("INVITE", Side::Caller, 1, true, "", &sdp(call.media[0]));
    let tries =
        (0..12).map(|number| udp(EPOCH + number * 600 * MILLISECOND, call.sip[0], dead, &invite)).collect();
    let outcome = outcome([tries, call.frames()]);
    let row = only(&outcome);
    // On its way to the host that answers it is a message of its own.
    assert_eq!((row.retransmissions, row.start.0, row.end_reason), (11, EPOCH, EndReason::Bye));
    truth::is_of(&outcome.recordings[0], &call).unwrap();
}

#[test]
fn what_answers_an_invite_that_was_not_seen_counts() {
    for (status, reason) in [(403, EndReason::Rejected), (200, EndReason::Bye)] {
        let mut call = Call::plain(0, 0, SECOND);
        call.lost.answer = true;
        let dialog = call.dialog();
        let answer = if status == 200 { sdp(call.media[1]) } else { String::new() };
        let responses = vec![
            from_callee(&call, -300 * MILLISECOND, &dialog.response(407, "INVITE", Side::Caller, 1, "")),
            from_callee(&call, 0, &dialog.response(status, "INVITE", Side::Caller, 2, &answer)),
        ];
        call.lost.ack = true;
        call.lost.bye = status != 200;
        let heard = if status == 200 { media(&call) } else { Vec::new() };
        let outcome = outcome([call.signalling(), responses, heard]);
        let row = only(&outcome);
        assert_eq!((row.status, row.end_reason), (status, reason));
        assert_eq!(row.answer.is_some(), status == 200);
    }
}

#[test]
fn a_refused_re_invite_does_not_end_a_call_whose_answer_was_not_seen() {
    let mut call = Call::plain(0, 0, 2 * SECOND);
    (call.lost.answer, call.lost.ack) = (true, true);
    let dialog = call.dialog();
    let hold = vec![
        from_caller(
            &call,
            SECOND,
            &dialog.request("INVITE", Side::Caller, 2, false, "", &sdp(call.media[0])),
        ),
        from_callee(&call, SECOND + 50 * MILLISECOND, &dialog.response(491, "INVITE", Side::Caller, 2, "")),
    ];
    let outcome = outcome([call.frames(), hold]);
    assert_eq!((only(&outcome).end_reason, only(&outcome).end.0), (EndReason::Bye, call.end()));
}

#[test]
fn a_response_alone_shows_a_call_that_is_up() {
    let mut call = Call::plain(0, 0, SECOND);
    call.lost.invite = true;
    let outcome = outcome([call.frames()]);
    let row = only(&outcome);
    assert!(row.joined);
    assert_eq!((row.status, row.end_reason), (200, EndReason::Bye));
}

#[test]
fn several_messages_in_one_datagram_are_all_read() {
    let mut call = Call::plain(0, 0, SECOND);
    call.lost.answer = true;
    let dialog = call.dialog();
    let mut datagram = b"\r\n\r\n".to_vec();
    for (status, body) in [(100, String::new()), (180, String::new()), (200, sdp(call.media[1]))] {
        datagram.extend(dialog.response(status, "INVITE", Side::Caller, 1, &body));
        datagram.extend(b"\r\n");
    }
    let outcome = outcome([call.frames(), vec![from_callee(&call, 0, &datagram)]]);
    let row = only(&outcome);
    assert_eq!((row.status, row.messages, row.end_reason), (200, 7, EndReason::Bye));
    truth::is_of(&outcome.recordings[0], &call).unwrap();
}

#[test]
fn junk_before_a_request_is_passed_over_on_the_ports_of_sip_alone() {
    for (port, calls) in [(5060, 1), (7000, 0)] {
        let mut call = Call::plain(0, 0, SECOND);
        call.sip = call.sip.map(|end| SocketAddrV4::new(*end.ip(), port));
        let junk = rewritten(call.signalling(), |text| format!("\u{1}\0junk{text}"));
        let outcome = outcome([junk]);
        assert_eq!((outcome.calls.len(), outcome.counters.sip_messages), (calls, 5 * calls as u64), "{port}");
        assert_eq!(outcome.counters.udp_other, 5 - 5 * calls as u64);
    }
}

#[test]
fn keep_alives_are_no_messages() {
    let call = Call::plain(0, 0, SECOND);
    // RFC 5626, 4.4.1 and 4.4.2, and what older phones send.
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let payloads: [&[u8]; 6] = [b"\r\n\r\n", b"\r\n", b"hello", b"\0\0\0\0", b"jaK", &stun];
    let sent = payloads.iter().enumerate();
    let sent = sent.map(|(at, payload)| from_caller(&call, at as i64 * 10 * MILLISECOND, payload)).collect();
    let outcome = outcome([call.frames(), sent]);
    let counters = &outcome.counters;
    assert_eq!((counters.udp_other, counters.stun_messages, counters.sip_messages), (5, 1, 5));
    assert_eq!(only(&outcome).messages, 5);
}

/// A re-INVITE of the callee for a fax on the same ports, and what the caller says to it.
fn fax(call: &Call, status: u16, port: u16) -> Vec<Frame> {
    let image = |end: SocketAddrV4, port: u16| {
        let ip = end.ip();
        format!("v=0\r\no=- 1 2 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=image {port} udptl t38\r\n")
    };
    let dialog = call.dialog();
    let offer =
        dialog.request("INVITE", Side::Callee, 5, false, "", &image(call.media[1], call.media[1].port()));
    let body = if status == 200 { image(call.media[0], port) } else { String::new() };
    let answer = dialog.response(status, "INVITE", Side::Callee, 5, &body);
    vec![
        from_callee(call, 500 * MILLISECOND, &offer),
        from_caller(call, 600 * MILLISECOND, &answer),
        from_callee(call, 610 * MILLISECOND, &dialog.request("ACK", Side::Callee, 5, false, "", "")),
    ]
}

#[test]
fn a_fax_that_is_declined_leaves_the_audio_as_it_was() {
    for (status, port, words) in [(488, 4000, "declined by caller (488)"), (200, 0, "declined by caller")] {
        let call = Call::plain(0, 0, 2 * SECOND);
        // A codec that only the offer has begun to be heard under.
        let outcome = outcome([call.frames(), fax(&call, status, port)]);
        let row = only(&outcome);
        assert_eq!(kinds(&outcome, "t38"), ["offered by callee", words]);
        assert_eq!((row.undecodable.len(), outcome.streams.len(), row.end_reason), (0, 2, EndReason::Bye));
        assert!(outcome.streams.iter().all(|stream| stream.kind == "audio" && stream.not_decoded.is_empty()));
        truth::is_of(&outcome.recordings[0], &call).unwrap();
    }
}

#[test]
fn a_fax_is_named_and_never_heard() {
    let call = Call::plain(0, 0, 2 * SECOND);
    let (agreed, media) = (call.answered() + 700 * MILLISECOND, call.media());
    let audio: Vec<Frame> = media.iter().filter(|sent| sent.at < agreed).map(Sent::frame).collect();
    // UDPTL whose sequence numbers have come so far that it looks like RTP.
    let lookalike = |number: u16| {
        let packet = rtp(number, 0x0612_3456, 0x0000_00ff, &[0x55; 30]);
        udp(agreed + i64::from(number) * 30 * MILLISECOND, call.media[0], call.media[1], &packet)
    };
    let udptl: Vec<Frame> = (0..40).map(lookalike).collect();
    let outcome = outcome([call.signalling(), audio, fax(&call, 200, 4000), udptl]);
    let row = only(&outcome);
    assert_eq!(kinds(&outcome, "t38"), ["offered by callee", "accepted by caller"]);
    assert_eq!(row.undecodable, ["T38"]);
    assert_eq!((outcome.streams.len(), outcome.counters.udp_other), (2, 40));
    assert!(outcome.streams.iter().all(|stream| stream.kind == "audio" && stream.ssrc != 0xff));
    truth::is_of(&outcome.recordings[0], &call).unwrap();
}
