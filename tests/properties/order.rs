//! Copies, reordering and a second run change nothing.

use proptest::prelude::*;
use spantape_core::record::CallRow;
use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, Timestamp};
use spantape_tests::call::{Call, Sent};
use spantape_tests::frame::{Frame, merge};
use spantape_tests::runner::{Outcome, run};
use spantape_tests::truth;

use crate::whole::call;

/// What of a call's row does not count messages.
fn essence(row: &CallRow) -> String {
    let row = CallRow { messages: 0, retransmissions: 0, ..row.clone() };
    format!("{row:?}")
}

fn same_audio(a: &Outcome, b: &Outcome) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.recordings.len(), b.recordings.len());
    for (a, b) in a.recordings.iter().zip(&b.recordings) {
        prop_assert_eq!((a.row.id, a.row.start, a.row.end), (b.row.id, b.row.start, b.row.end));
        prop_assert!(a.samples == b.samples, "other samples");
    }
    Ok(())
}

fn same_calls(a: &Outcome, b: &Outcome) -> Result<(), TestCaseError> {
    let essences = |outcome: &Outcome| outcome.calls.iter().map(essence).collect::<Vec<_>>();
    prop_assert_eq!(essences(a), essences(b));
    Ok(())
}

/// Some frames come a second time, a little later.
fn with_copies(frames: &[Frame], copies: &[Option<i64>]) -> Vec<Frame> {
    let copies = frames
        .iter()
        .zip(copies.iter().cycle())
        .filter_map(|(frame, delay)| Some(Frame { at: frame.at + (*delay)?, bytes: frame.bytes.clone() }));
    merge([frames.to_vec(), copies.collect()])
}

/// Delays some packets. The first and some others come in time, as they do where a route is not all bad.
fn delayed(call: &Call, delays: &[i64]) -> Vec<Sent> {
    let mut media = call.media();
    let last = call.end() - 120 * MILLISECOND;
    for (index, (packet, delay)) in media.iter_mut().zip(delays.iter().cycle()).enumerate() {
        let first = packet.spoken == call.first_packet(packet.side);
        if index % 4 != 0 && !first && packet.spoken < last {
            packet.at += *delay;
        }
    }
    media
}

fn copies() -> impl Strategy<Value = Vec<Option<i64>>> {
    prop::collection::vec(prop::option::of(0..100 * MILLISECOND), 1..50)
}

proptest! {
    #![proptest_config(crate::cases(64))]

    #[test]
    fn copies_change_nothing(call in call(0), copies in copies()) {
        let frames = call.frames();
        let (once, twice) = (run(Config::default(), &frames), run(Config::default(), &with_copies(&frames, &copies)));
        same_audio(&once, &twice)?;
        same_calls(&once, &twice)?;
        let rest = |outcome: &Outcome| outcome.events.iter().map(|event| format!("{event:?}")).collect::<Vec<_>>();
        prop_assert_eq!(rest(&once), rest(&twice));
    }

    #[test]
    fn a_two_way_mirror_changes_nothing(call in call(0)) {
        let frames = call.frames();
        let (once, twice) = (run(Config::default(), &frames), run(Config::default(), &with_copies(&frames, &[Some(1000)])));
        same_audio(&once, &twice)?;
        same_calls(&once, &twice)?;
        let rtp = call.media().len() as u64;
        let duplicates: u64 = twice.streams.iter().map(|row| row.completeness.duplicate).sum();
        prop_assert_eq!(duplicates, rtp);
        prop_assert_eq!(twice.calls[0].messages, once.calls[0].messages);
        prop_assert_eq!(u64::from(twice.calls[0].retransmissions), twice.counters.sip_messages / 2);
    }

    #[test]
    fn packets_out_of_order(call in call(0), delays in prop::collection::vec(0..100 * MILLISECOND, 1..60)) {
        let media = delayed(&call, &delays);
        let frames = merge([call.signalling(), media.iter().map(Sent::frame).collect()]);
        let (straight, crooked) = (run(Config::default(), &call.frames()), run(Config::default(), &frames));
        same_calls(&straight, &crooked)?;
        prop_assert_eq!(crooked.recordings.len(), 1);
        let recording = &crooked.recordings[0];
        truth::is_placed(recording, &media, &[]).map_err(TestCaseError::fail)?;
        for (a, b) in straight.recordings[0].row.completeness.iter().zip(&recording.row.completeness) {
            prop_assert_eq!((a.expected, a.received, a.lost, a.late), (b.expected, b.received, b.lost, b.late));
        }
    }

    #[test]
    fn the_same_frames_give_the_same_events((a, b) in (call(0), call(1)), copies in copies()) {
        let frames = with_copies(&merge([a.frames(), b.frames()]), &copies);
        prop_assert_eq!(run(Config::default(), &frames).hash, run(Config::default(), &frames).hash);
    }
}

#[test]
fn a_hash_sees_what_differs() {
    let (a, b) = (Call::plain(0, 0, 1_000_000_000), Call::plain(1, 0, 1_000_000_000));
    assert_ne!(run(Config::default(), &a.frames()).hash, run(Config::default(), &b.frames()).hash);
    assert_eq!(a.frames()[0].at, Timestamp(a.start));
}
