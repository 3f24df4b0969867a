//! What the properties once found wrong, each as small as it can be.

use std::net::{Ipv4Addr, SocketAddrV4};

use spantape_core::engine::Engine;
use spantape_core::event::Event;
use spantape_core::record::Side;
use spantape_core::rules::{Action, Config, OnRefused, Rule, Rules};
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};
use spantape_core::wire::LinkType;
use spantape_tests::call::{Call, Lost, Move, PACKET, SIDES, Sent};
use spantape_tests::frame::{Frame, merge, udp};
use spantape_tests::runner::{Outcome, run};
use spantape_tests::truth;

fn heard(call: &Call, media: &[Sent]) -> Outcome {
    run(Config::default(), &merge([call.signalling(), media.iter().map(Sent::frame).collect()]))
}

/// A request and its answer, by the caller, after the call was answered.
fn info(call: &Call, after: i64, cseq: u32, record: &str, status: Option<u16>) -> Vec<Frame> {
    let (dialog, at, [caller, callee]) = (call.dialog(), call.answered() + after, call.sip);
    let header = format!("Record: {record}\r\n");
    let request = dialog.request("INFO", Side::Caller, cseq, false, &header, "");
    let answer = status.map(|status| dialog.response(status, "INFO", Side::Caller, cseq, ""));
    let mut frames = vec![udp(at, caller, callee, &request)];
    frames.extend(answer.map(|answer| udp(at + 50 * MILLISECOND, callee, caller, &answer)));
    frames
}

fn on_demand(on_refused: OnRefused) -> Config {
    let rule = Rule { on_refused, ..Rule::new("on-demand", Action::OnDemand) };
    Config { rules: Rules::new(vec![rule], Vec::new()), ..Config::default() }
}

/// Packets held of a stream whose side goes on elsewhere are heard all the same.
#[test]
fn media_that_moves_at_once() {
    let mut call = Call::plain(0, 0, 500 * MILLISECOND);
    call.moves = Some(Move { after: 100 * MILLISECOND, to: SocketAddrV4::new([10, 1, 0, 1].into(), 4444) });
    let outcome = heard(&call, &call.media());
    truth::is_placed(&outcome.recordings[0], &call.media(), &[]).unwrap();
}

/// Two calls on the same ports whose BYEs were lost; of a third, much later, only the ACK is seen.
#[test]
fn a_call_untold_is_not_given_to_one_abandoned() {
    let calls = [0, 1, 2].map(|index| {
        let mut call = Call::plain(index, i64::from(index) * 9 * SECOND, 2 * SECOND);
        call.media = [1, 2].map(|net| SocketAddrV4::new(Ipv4Addr::new(10, net, 0, 1), 4000));
        call.lost.bye = index < 2;
        if index == 2 {
            call.lost = Lost { invite: true, answer: true, ..Lost::default() };
            // The ACK comes with media under way.
            call.moves = Some(Move { after: SECOND, to: SocketAddrV4::new([10, 3, 0, 1].into(), 4000) });
        }
        call
    });
    let outcome = run(Config::default(), &merge(calls.iter().map(Call::frames)));
    for recording in &outcome.recordings {
        let call = calls.iter().find(|call| call.dialog().call_id == recording.row.call_id).unwrap();
        truth::is_of(recording, call).unwrap();
    }
}

/// The phone's "off" got no answer, its "on" did: what is honoured counts in the order of the presses.
#[test]
fn an_unanswered_trigger_is_not_obeyed_out_of_order() {
    let call = Call::plain(0, 0, 3 * SECOND);
    let off = info(&call, 500 * MILLISECOND, 10, "off", None);
    let on = info(&call, 1000 * MILLISECOND, 12, "on", Some(200));
    let outcome = run(on_demand(OnRefused::HonourKey), &merge([call.frames(), off, on]));
    assert_eq!(outcome.recordings.len(), 1);
    assert_eq!(outcome.recordings[0].row.end.0, call.end());
}

/// The same the other way round: an "on" without answer before an "off" with one does not record to the end.
#[test]
fn an_unanswered_start_ends_with_the_stop_after_it() {
    let call = Call::plain(0, 0, 3 * SECOND);
    let on = info(&call, 500 * MILLISECOND, 10, "on", None);
    let off = info(&call, 1000 * MILLISECOND, 12, "off", Some(200));
    let outcome = run(on_demand(OnRefused::HonourKey), &merge([call.frames(), on, off]));
    assert_eq!(outcome.recordings.len(), 1);
    let length = outcome.recordings[0].row.end.since(outcome.recordings[0].row.start);
    assert!((length - SECOND / 2).abs() <= 21 * MILLISECOND, "{length}");
}

/// A second press is no first one with credentials, unless the server has asked for those.
#[test]
fn a_second_press_counts_from_its_own_time() {
    let call = Call::plain(0, 0, 3 * SECOND);
    let unheard = info(&call, 500 * MILLISECOND, 10, "on", None);
    let on = info(&call, 1000 * MILLISECOND, 12, "on", Some(200));
    let outcome = run(on_demand(OnRefused::FollowServer), &merge([call.frames(), unheard, on]));
    assert_eq!(outcome.recordings.len(), 1);
    let start = outcome.recordings[0].row.start.0 - call.answered();
    assert!((start - SECOND).abs() <= 21 * MILLISECOND, "{start}");
}

/// 481 ends the call; a stop after it does not make the recording longer.
#[test]
fn no_recording_outlasts_its_call() {
    let call = Call::plain(0, 0, 3 * SECOND);
    let on = info(&call, 500 * MILLISECOND, 10, "on", Some(200));
    let gone = info(&call, 1000 * MILLISECOND, 12, "off", Some(481));
    let off = info(&call, 1500 * MILLISECOND, 14, "off", Some(200));
    let outcome = run(on_demand(OnRefused::FollowServer), &merge([call.frames(), on, gone, off]));
    assert_eq!(outcome.recordings.len(), 1);
    assert!(outcome.recordings[0].row.end <= outcome.calls[0].end);
}

/// Numbers that begin anew among the last ones seen are no second copies when their timestamps are new.
#[test]
fn a_restart_within_the_window_is_heard() {
    let call = Call::plain(0, 0, 6 * SECOND);
    let mut media = call.media();
    let later = call.first_packet(Side::Callee) + 2 * SECOND;
    for packet in media.iter_mut().filter(|packet| packet.side == Side::Callee && packet.spoken >= later) {
        packet.spoken += SECOND;
        packet.at += SECOND;
        packet.sequence = packet.sequence.wrapping_sub(100);
        packet.timestamp = packet.timestamp.wrapping_add(16_000);
    }
    media.retain(|packet| packet.spoken < call.end() - 20 * MILLISECOND);
    let outcome = heard(&call, &media);
    truth::is_placed(&outcome.recordings[0], &media, &[]).unwrap();
}

/// A call made of RTP alone begins with its first packet.
#[test]
fn an_orphan_begins_with_its_media() {
    let call = Call::plain(0, 0, 2 * SECOND);
    let frames = merge([call.media().iter().map(Sent::frame).collect()]);
    let outcome = run(Config { orphans: true, ..Config::default() }, &frames);
    assert_eq!(outcome.calls[0].start.0, call.first_packet(Side::Callee));
    assert_eq!(outcome.recordings[0].row.start, outcome.calls[0].start);
}

/// Second copies count from the first packet on.
#[test]
fn copies_of_the_first_packets_are_counted() {
    let call = Call::plain(0, 0, SECOND);
    let copies = call.frames().into_iter().map(|frame| Frame { at: frame.at + 1000, ..frame }).collect();
    let outcome = run(Config::default(), &merge([call.frames(), copies]));
    for side in SIDES {
        let report = outcome.recordings[0].row.completeness[side.channel()];
        assert_eq!(report.duplicate, call.media_of(side).len() as u64);
    }
}

/// After a second of silence all that was said is handed over, wherever in a block it ends: who goes on after a crash
/// has it.
#[test]
fn what_was_said_before_a_silence_is_written() {
    for frames_left_out in 0..14 {
        let call = Call::plain(0, 0, 4 * SECOND);
        let media = call.media();
        let media = &media[..media.len() - 2 * frames_left_out];
        let last = media.iter().map(|packet| packet.at).max().unwrap();
        let first = media.iter().map(|packet| packet.at).min().unwrap();
        let mut engine = Engine::new(Config { tells_signalling: true, ..Config::default() });
        let said = media.iter().map(Sent::frame).collect();
        let all = merge([call.signalling(), said]);
        for frame in all.iter().take_while(|frame| frame.at.0 <= last) {
            engine.handle_frame(frame.at, LinkType::Ethernet, &frame.bytes);
        }
        engine.handle_timeout(Timestamp(last + SECOND));
        let mut written = 0;
        while let Some(event) = engine.poll_event() {
            match event {
                Event::TapeSamples { samples, .. } => written += samples.len() as i64 / 2,
                Event::TapeSilence { frames, .. } => written += frames as i64,
                _ => {}
            }
        }
        let spoken = (last + PACKET - first) * 8 / MILLISECOND;
        assert!(written >= spoken, "{written} of {spoken} frames are written");
    }
}
