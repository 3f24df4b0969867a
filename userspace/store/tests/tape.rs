//! Whatever is written to tapes and cut from them, a recording holds the samples of its range.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod examples;

use std::ops::Range;
use std::path::Path;

use examples::recording;
use proptest::prelude::*;
use spantape_core::media::TapeId;
use spantape_store::wav::{Encoding, HEADER_LEN, read_format};
use spantape_store::{Spool, SpoolOptions};

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<i16>),
    Silence(u64),
    Overdub(u64, Vec<i16>),
    Erase(Range<u64>),
    Cut(Range<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..80u64, 0..60u64).prop_map(|(from, frames)| from..from + frames);
    prop_oneof![
        3 => prop::collection::vec(any::<i16>(), 0..40).prop_map(Step::Write),
        2 => (0..30u64).prop_map(Step::Silence),
        1 => (0..80u64, prop::collection::vec(any::<i16>(), 0..40)).prop_map(|(at, samples)| Step::Overdub(at, samples)),
        1 => range.clone().prop_map(Step::Erase),
        1 => range.prop_map(Step::Cut),
    ]
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Pcm16), Just(Encoding::MuLaw), Just(Encoding::ALaw)]
}

/// What becomes of samples when they are written.
fn kept(encoding: Encoding, samples: &[i16]) -> Vec<i16> {
    let (mut bytes, mut kept) = (Vec::new(), Vec::new());
    encoding.encode(samples, &mut bytes);
    encoding.decode(&bytes, &mut kept);
    kept
}

fn samples(path: &Path, encoding: Encoding) -> Vec<i16> {
    let file = std::fs::read(path).unwrap();
    let (head, body) = file.split_first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(read_format(head).unwrap().encoding, encoding);
    let mut samples = Vec::new();
    encoding.decode(body, &mut samples);
    if encoding == Encoding::Pcm16 {
        let read = hound::WavReader::open(path).unwrap().into_samples::<i16>();
        assert!(read.map(Result::unwrap).eq(samples.iter().copied()));
    }
    samples
}

/// The samples of these frames of a tape; `silence` after its end.
fn heard(tape: &[i16], range: &Range<u64>, silence: i16) -> Vec<i16> {
    let samples = range.start as usize * 2..range.end as usize * 2;
    samples.map(|i| tape.get(i).copied().unwrap_or(silence)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn recordings_hold_what_was_written(
        encoding in encoding(),
        steps in prop::collection::vec((0..3usize, step()), 1..40),
        last in prop::collection::vec((0..20u64, 0..60u64), 3),
    ) {
        let dir = tempfile::tempdir().unwrap();
        // Fewer open files than tapes, so that files are closed and opened again.
        let options = SpoolOptions { open_files: 2, encoding, ..Default::default() };
        // A-law has no code for it.
        let silence = kept(encoding, &[0])[0];
        let mut spool = Spool::open_with(dir.path(), options).unwrap();
        let mut tapes = vec![Vec::new(); 3];
        let mut recordings = 0..;
        let mut check = |spool: &mut Spool, tape: usize, heard_of: &[i16], range: Range<u64>, last: bool| {
            let row = recording(recordings.next().unwrap());
            let saved = spool.cut(TapeId(tape as u64), range.clone(), &[], &row, last).unwrap();
            let path = dir.path().join(&saved.file);
            prop_assert_eq!(samples(&path, encoding), heard(heard_of, &range, silence));
            prop_assert_eq!(saved.bytes, 2048 + (range.end - range.start) * 2 * u64::from(encoding.bytes()));
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
                    content.extend(kept(encoding, &samples));
                }
                Step::Silence(frames) => {
                    spool.silence(id, frames).unwrap();
                    content.resize(content.len() + frames as usize * 2, silence);
                }
                Step::Overdub(at, samples) => {
                    spool.overdub(id, 1, at, &samples).unwrap();
                    for (place, sample) in content.iter_mut().skip(at as usize * 2 + 1).step_by(2).zip(samples) {
                        *place = kept(encoding, &[place.saturating_add(sample)])[0];
                    }
                }
                Step::Erase(range) => {
                    spool.erase(id, range.clone()).unwrap();
                    let end = content.len().min(range.end as usize * 2);
                    content[(range.start as usize * 2).min(end)..end].fill(silence);
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
