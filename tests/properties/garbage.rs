//! Whatever comes, the engine goes on, and says what it made of each frame.

use proptest::prelude::*;
use spantape_core::engine::Counters;
use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};
use spantape_tests::call::{Call, EPOCH};
use spantape_tests::frame::Frame;
use spantape_tests::runner::run;

/// What frames were counted as. A datagram with several messages counts as many times.
fn counted(counters: &Counters) -> u64 {
    counters.malformed.iter().sum::<u64>()
        + counters.other
        + counters.fragments
        + counters.tcp_segments
        + counters.sctp_packets
        + counters.hep_left_out
        + counters.sip_messages
        + counters.rtp_packets
        + counters.rtcp_packets
        + counters.stun_messages
        + counters.key_agreement
        + counters.udp_other
}

/// Changes to a frame's bytes: where, and to what.
fn mutate(frames: &mut [Frame], changes: &[(prop::sample::Index, prop::sample::Index, u8)]) {
    for (frame, byte, value) in changes {
        let frame = &mut frames[frame.index(frames.len())];
        let at = byte.index(frame.bytes.len());
        frame.bytes[at] = *value;
    }
}

/// A stream of one packet, and seconds later of more.
#[test]
fn time_leaps_after_the_first_packet() {
    let mut frames = Call::plain(0, 0, 2 * SECOND).frames();
    let steps = [0, 364 * SECOND + 1, 0, 1, 5 * SECOND + 1];
    let mut at = EPOCH;
    for (frame, step) in frames.iter_mut().zip(steps.into_iter().chain(std::iter::repeat(20 * MILLISECOND))) {
        at += step;
        frame.at = Timestamp(at);
    }
    let outcome = run(Config::default(), &frames);
    assert_eq!(outcome.counters.frames, frames.len() as u64);
}

proptest! {
    #![proptest_config(crate::cases(128))]

    #[test]
    fn noise(frames in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..200)), 1..50)) {
        let mut at = Timestamp(EPOCH);
        let frames: Vec<Frame> = frames
            .into_iter()
            .map(|(step, bytes)| {
                at = at + i64::from(step);
                Frame { at, bytes }
            })
            .collect();
        let outcome = run(Config { orphans: true, ..Config::default() }, &frames);
        prop_assert_eq!(outcome.counters.frames, frames.len() as u64);
        prop_assert!(counted(&outcome.counters) >= outcome.counters.frames);
    }

    #[test]
    fn damaged_calls(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..200),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..10),
        orphans: bool,
    ) {
        let mut call = Call::plain(0, 0, SECOND);
        call.early = true;
        let mut frames = call.frames();
        mutate(&mut frames, &changes);
        for (frame, length) in cuts {
            let frame = &mut frames[frame.index(call.frames().len())];
            frame.bytes.truncate(length.index(frame.bytes.len() + 1));
        }
        let outcome = run(Config { orphans, ..Config::default() }, &frames);
        prop_assert_eq!(outcome.counters.frames, frames.len() as u64);
        let counted = counted(&outcome.counters);
        prop_assert!(counted >= outcome.counters.frames, "{counted} of {}", outcome.counters.frames);
    }

    #[test]
    fn time_that_leaps(steps in prop::collection::vec(-SECOND..7200 * SECOND, 1..100)) {
        let call = Call::plain(0, 0, 2 * SECOND);
        let mut frames = call.frames();
        let mut at = EPOCH;
        for (frame, step) in frames.iter_mut().zip(steps.iter().chain(std::iter::repeat(&(20 * MILLISECOND)))) {
            at += step;
            frame.at = Timestamp(at);
        }
        let outcome = run(Config::default(), &frames);
        prop_assert_eq!(outcome.counters.frames, frames.len() as u64);
    }
}
