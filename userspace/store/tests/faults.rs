//! A process that is killed at any call by which it changes its archive, and a disk that fails at any of them: what was
//! told of is there, once, and nothing else.
//!
//! A script is carried out by a process of its own, which is this program once more, under strace: that strikes at one call
//! after the other. What the next process finds is held against what it finds when the script ends before the step that
//! was struck, or after it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod examples;
#[path = "faults/found.rs"]
mod found;
#[path = "faults/script.rs"]
mod script;
#[path = "faults/strace.rs"]
mod strace;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use found::{Found, Rows};
use script::{Recorder, Script, Step, block};
use serde_json::Value;
use strace::{ARCHIVE, FAILURES, KILLED, Struck, scratch, strike};

#[test]
#[ignore = "is what the other tests strike"]
fn live_child() {
    strace::carry_out_and_tell(Script::Live);
}

#[test]
#[ignore = "is what the other tests strike"]
fn replay_child() {
    strace::carry_out_and_tell(Script::Replay);
}

#[test]
fn killed_at_any_call() {
    strike(Script::Live, &[KILLED], check_live);
}

#[test]
fn a_disk_that_fails_at_any_call() {
    strike(Script::Live, &FAILURES, check_live);
}

/// Whatever a replay was struck by, repeated it gives what it gives when nothing strikes.
#[test]
fn a_replay_is_repeated() {
    let steps = Script::Replay.steps();
    let whole = left(Script::Replay, &steps);
    strike(Script::Replay, &[KILLED, FAILURES[0], FAILURES[1]], |struck| {
        let mut recorder = Recorder::new(Script::Replay, &struck.archive());
        let repeated = steps.iter().try_for_each(|step| recorder.carry_out(step).map(drop));
        drop(recorder);
        let mut found = Found::in_archive(&struck.archive());
        found.ensure(repeated.is_ok(), "it cannot be repeated");
        // Not in the same parts of the catalog, as some were written before.
        found.ensure(found.rows == whole.rows, "repeated, it gives other rows");
        found.ensure(found.files == whole.files, "repeated, it gives other recordings");
        found.wrong
    });
}

/// What the other tests hold archives against is what the script says.
#[test]
fn nothing_strikes() {
    let found = left(Script::Live, &Script::Live.steps());
    assert!(found.wrong.is_empty(), "{:?}", found.wrong);
    let mut recordings: Vec<(String, u64, String)> = Vec::new();
    for (_, row) in found.rows.iter().filter(|(name, _)| name.starts_with("recordings ")) {
        let row: Value = serde_json::from_str(row).unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        recordings.push((text("start"), row["frames"].as_u64().unwrap(), text("end_reason")));
    }
    recordings.sort();
    let kept: Vec<(u64, &str)> =
        recordings.iter().map(|(_, frames, reason)| (*frames, reason.as_str())).collect();
    let expected = [(320, "bye"), (1150, "bye"), (240, "bye"), (280, "interrupted"), (320, "interrupted")];
    assert_eq!(kept, expected);
    let (_, whole) = found.files.iter().find(|(file, _)| file.ends_with("_00000003.wav")).unwrap();
    let samples = hound::WavReader::new(&whole[..]).unwrap().into_samples::<i16>();
    let samples: Vec<i16> = samples.map(|sample| sample.unwrap()).collect();
    assert_eq!(samples, [block(5, 160), vec![0; 160]].concat());
    for end in ["_00000001.callee.rtpdump", "_00000002.callee.rtpdump", "_00000003.pcap"] {
        assert!(found.files.keys().any(|file| file.ends_with(end)), "{end}: {:?}", found.files.keys());
    }
    assert_eq!(found.rows.keys().filter(|name| name.starts_with("signal ")).count(), 1);
}

fn check_live(struck: &Struck<'_>) -> Vec<String> {
    let Found { rows, mut wrong, .. } = Found::in_archive(&struck.archive());
    let lost = &struck.told.lost;
    wrong.extend(differences(&rows, &left_after(lost.len(), lost), &left_after(lost.len() + 1, lost)));
    wrong
}

/// What is neither as it is before a step nor as it is after it.
fn differences(found: &Rows, before: &Rows, after: &Rows) -> Vec<String> {
    let names: BTreeSet<&String> = [found, before, after].into_iter().flat_map(BTreeMap::keys).collect();
    let mut wrong = Vec::new();
    for name in names {
        let row = found.get(name);
        if row != before.get(name) && row != after.get(name) {
            let is_known = before.contains_key(name) || after.contains_key(name);
            wrong.push(match row {
                None => format!("{name} is missing"),
                Some(_) if is_known => format!("{name} is not what it was"),
                Some(_) => format!("{name} is made up"),
            });
        }
    }
    // One may have taken the place of another one: then neither both are there, nor none.
    let count = |rows: &Rows| rows.keys().filter(|name| name.starts_with("recordings ")).count();
    let (count, before, after) = (count(found), count(before), count(after));
    if !(before.min(after)..=before.max(after)).contains(&count) {
        wrong.push(format!("there are {count} recordings, not {before} or {after}"));
    }
    wrong
}

/// What is found of a script that ends after these steps.
fn left(script: Script, steps: &[Step]) -> Found {
    let dir = scratch();
    let path = dir.path().join(ARCHIVE);
    let mut recorder = Recorder::new(script, &path);
    for step in steps {
        recorder.carry_out(step).unwrap();
    }
    drop(recorder);
    Found::in_archive(&path)
}

/// What is found of the live script, by how many steps it has carried out.
static LEFT: LazyLock<Vec<Rows>> = LazyLock::new(|| {
    let steps = Script::Live.steps();
    (0..=steps.len()).map(|done| left(Script::Live, &steps[..done]).rows).collect()
});

/// The same, when the samples of some steps could not be written.
fn left_after(done: usize, lost: &[bool]) -> Rows {
    let done = done.min(LEFT.len() - 1);
    if !lost.contains(&true) {
        return LEFT[done].clone();
    }
    let mut steps = Script::Live.steps();
    steps.truncate(done);
    for (step, _) in steps.iter_mut().zip(lost).filter(|(_, lost)| **lost) {
        *step = step.without_samples();
    }
    left(Script::Live, &steps).rows
}
