//! Whatever is written to tapes and cut from them, a recording holds the samples of its range.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod examples;

use std::ops::Range;
use std::path::Path;

use examples::recording;
use proptest::prelude::*;
use spantape_core::media::TapeId;
use spantape_store::{Spool, SpoolOptions};

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<i16>),
    Silence(u64),
    Cut(Range<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..80u64, 0..60u64).prop_map(|(from, frames)| from..from + frames);
    prop_oneof![
        3 => prop::collection::vec(any::<i16>(), 0..40).prop_map(Step::Write),
        2 => (0..30u64).prop_map(Step::Silence),
        1 => range.prop_map(Step::Cut),
    ]
}

fn samples(path: &Path) -> Vec<i16> {
    hound::WavReader::open(path).unwrap().samples::<i16>().map(|sample| sample.unwrap()).collect()
}

/// The samples of these frames of a tape; silence after its end.
fn heard(tape: &[i16], range: &Range<u64>) -> Vec<i16> {
    let samples = range.start as usize * 2..range.end as usize * 2;
    samples.map(|i| tape.get(i).copied().unwrap_or_default()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn recordings_hold_what_was_written(
        steps in prop::collection::vec((0..3usize, step()), 1..40),
        last in prop::collection::vec((0..20u64, 0..60u64), 3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        // Fewer open files than tapes, so that files are closed and opened again.
        let options = SpoolOptions { open_files: 2, ..Default::default() };
        let mut spool = Spool::open_with(dir.path(), options).unwrap();
        let mut tapes = vec![Vec::new(); 3];
        let mut recordings = 0..;
        let mut check = |spool: &mut Spool, tape: usize, heard_of: &[i16], range: Range<u64>, last: bool| {
            let row = recording(recordings.next().unwrap());
            let saved = spool.cut(TapeId(tape as u64), range.clone(), &[], &row, last).unwrap();
            let path = dir.path().join(&saved.file);
            prop_assert_eq!(samples(&path), heard(heard_of, &range));
            prop_assert_eq!(saved.bytes, 2048 + (range.end - range.start) * 4);
            Ok(())
        };
        for tape in 0..3 {
            spool.open_tape(TapeId(tape), 8000, 2);
        }
        for (tape, step) in steps {
            let (id, content) = (TapeId(tape as u64), &mut tapes[tape]);
            match step {
                Step::Write(mut samples) => {
                    samples.truncate(samples.len() / 2 * 2);
                    spool.write(id, &samples).unwrap();
                    content.extend(samples);
                }
                Step::Silence(frames) => {
                    spool.silence(id, frames).unwrap();
                    content.resize(content.len() + frames as usize * 2, 0);
                }
                Step::Cut(range) => check(&mut spool, tape, content, range, false)?,
            }
        }
        for (tape, (from, frames)) in last.into_iter().enumerate() {
            let from = if tape == 0 { 0 } else { from };
            check(&mut spool, tape, &tapes[tape], from..from + frames, true)?;
        }
        let left: Vec<_> = std::fs::read_dir(dir.path().join("spool")).unwrap().collect();
        prop_assert_eq!(left.len(), 1, "only the lock is left");
    }
}
