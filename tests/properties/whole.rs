//! A call whose signalling was seen is recorded whole, and each sample stands where it belongs.

use proptest::prelude::*;
use spantape_core::record::EndReason;
use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, Move};
use spantape_tests::frame::merge;
use spantape_tests::runner::{Outcome, run};
use spantape_tests::truth;

/// A call with nothing lost, at a time of its own.
pub(crate) fn call(index: u8) -> impl Strategy<Value = Call> {
    let numbers = (any::<[u16; 2]>(), any::<[u32; 2]>(), any::<[u32; 2]>());
    (0..2000i64, 100..4000i64, 0..5000i64, any::<bool>(), numbers).prop_map(
        move |(start, ring, talk, early, (sequence, timestamp, ssrc))| {
            let mut call = Call::plain(index, start * MILLISECOND, talk * MILLISECOND + 500 * MILLISECOND);
            (call.ring, call.early) = ((ring + 150) * MILLISECOND, early);
            (call.sequence, call.timestamp, call.ssrc) = (sequence, timestamp, ssrc);
            call
        },
    )
}

fn check(outcome: &Outcome, call: &Call) -> Result<(), TestCaseError> {
    let call_id = call.dialog().call_id;
    let recordings: Vec<_> = outcome.recordings_of(&call_id).collect();
    prop_assert_eq!(recordings.len(), 1, "recordings of {}", &call_id);
    let (recording, media) = (recordings[0], call.media());
    let first = media.iter().map(|packet| packet.at).min().unwrap_or_default();
    prop_assert_eq!(recording.row.start.0, first);
    let length = (call.end() - first) * 8000 / SECOND;
    prop_assert!((recording.row.frames as i64 - length).abs() <= 160, "{} of {length}", recording.row.frames);
    prop_assert_eq!(recording.row.end_reason, EndReason::Bye);
    truth::is_placed(recording, &media, &[]).map_err(TestCaseError::fail)?;
    for (side, report) in recording.row.completeness.iter().enumerate() {
        let sent = media.iter().filter(|packet| packet.side.channel() == side).count() as u64;
        prop_assert_eq!((report.expected, report.received, report.lost, report.late), (sent, sent, 0, 0));
    }
    Ok(())
}

proptest! {
    #![proptest_config(crate::cases(64))]

    #[test]
    fn calls_side_by_side((a, b, c) in (call(0), call(1), call(2))) {
        let calls = [a, b, c];
        let outcome = run(Config::default(), &merge(calls.iter().map(Call::frames)));
        for call in &calls {
            check(&outcome, call)?;
        }
    }

    #[test]
    fn a_call_that_moves(mut call in call(0), after in 100..400i64) {
        let mut to = call.media[0];
        to.set_port(4444);
        call.moves = Some(Move { after: after * MILLISECOND, to });
        check(&run(Config::default(), &call.frames()), &call)?;
    }
}
