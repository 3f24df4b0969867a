//! What belongs together in the samples, as those who search for it see it.

use std::process::Command;

use serde_json::Value;

use crate::case::{Archive, Case};

/// The calls of a case, by the order of their Call-IDs.
fn calls(archive: &Archive, more: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spantape"));
    command.args(["search", "--format", "jsonl", "--table", "calls", "--archive"]).arg(archive.path());
    let output = command.args(more).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut calls: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    calls.sort_by_key(|call| call["call_id"].to_string());
    calls
}

/// Each call's conversation by a letter, in the order in which they come.
fn together(case: &str) -> String {
    let archive = Case::named(case).replay("default");
    let ids: Vec<String> =
        calls(&archive, &[]).iter().map(|call| call["conversation_id"].to_string()).collect();
    let mut known: Vec<&String> = Vec::new();
    let mut letter = |id| {
        let place = known.iter().position(|other| *other == id).unwrap_or_else(|| {
            known.push(id);
            known.len() - 1
        });
        char::from(b'a' + place as u8)
    };
    ids.iter().map(&mut letter).collect()
}

#[test]
fn what_belongs_together() {
    for (case, expected) in [
        ("transfer-blind", "aa"),
        ("transfer-attended", "aaa"),
        // The third call comes when the conference is over.
        ("conference-focus", "aab"),
        ("relay-hops", "a"),
        // The legs of two calls at once.
        ("pbx-legs", "abab"),
        ("genesys", "aa"),
        ("siprec", "aa"),
    ] {
        assert_eq!(together(case), expected, "{case}");
    }
}

#[test]
fn the_first_call_gives_its_id_to_all_that_belongs_to_it() {
    let archive = Case::named("transfer-attended").replay("default");
    let [first, asked, last] = &calls(&archive, &[])[..] else { panic!("three calls") };
    let id = first["conversation_id"].as_str().unwrap();
    assert_eq!(first["call_uid"], id);
    assert_ne!(asked["call_uid"], id);
    assert_eq!(calls(&archive, &["--conversation", id]).len(), 3);
    assert_eq!(calls(&archive, &["--conversation", asked["call_uid"].as_str().unwrap()]).len(), 0);

    let shown = Command::new(env!("CARGO_BIN_EXE_spantape"))
        .args(["show", "--archive"])
        .arg(archive.path())
        .arg(archive.path().join(&archive.wavs()[2]))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for other in [first, asked] {
        assert!(shown.contains(other["call_uid"].as_str().unwrap()), "{shown}");
    }
    assert!(shown.contains(last["call_id"].as_str().unwrap()));
}
