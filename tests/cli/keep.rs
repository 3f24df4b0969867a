//! What stays, what goes, and who has looked at it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{archive, sample, spantape, stderr, stdout, text};

const TABLES: [&str; 5] = ["calls", "recordings", "streams", "events", "quality"];
/// The Call-ID of the sample `plain-pcmu`.
const PLAIN: &str = "plain-pcmu-1@10.20.0.9";

/// Exit code of a command on an archive, and all that it said.
fn run(archive: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = spantape(&[arguments, &["--archive", text(archive)][..]].concat());
    (output.status.code(), stdout(&output) + &stderr(&output))
}

fn rows(archive: &Path, table: &str, more: &[&str]) -> Vec<Value> {
    let start = ["search", "--archive", text(archive), "--format", "json", "--table", table];
    serde_json::from_slice(&spantape(&[&start[..], more].concat()).stdout).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The tombstones of an archive.
fn tombstones(archive: &Path) -> Vec<Value> {
    lines(&fs::read_to_string(archive.join("journal/deletions.jsonl")).unwrap_or_default())
}

/// Seals an archive, which must then be as it was sealed.
fn seal(archive: &Path, keys: &Path) {
    let key = keys.join("seal.key");
    if !key.exists() {
        assert!(spantape(&["keygen", "--to", text(&key)]).status.success());
    }
    let (code, said) = run(archive, &["seal", "--key", text(&key)]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(archive, &["verify", "--key", text(&keys.join("seal.key.pub"))]);
    assert_eq!(code, Some(0), "{said}");
}

/// A sample as if it had been captured six years before.
fn long_ago(case: &str, dir: &Path) -> PathBuf {
    let mut pcap = fs::read(sample(case)).unwrap();
    let word = |pcap: &[u8], at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap());
    assert_eq!(word(&pcap, 0), 0xa1b2_c3d4);
    let mut at = 24;
    while at < pcap.len() {
        let (seconds, length) = (word(&pcap, at) - 6 * 365 * 86_400, word(&pcap, at + 8) as usize);
        pcap[at..at + 4].copy_from_slice(&seconds.to_le_bytes());
        at += 16 + length;
    }
    let path = dir.join(format!("{case}.pcap"));
    fs::write(&path, pcap).unwrap();
    path
}

#[test]
fn what_must_not_be_kept_goes_when_that_is_confirmed() {
    let (archive, keys) =
        (archive(&["plain-pcmu", "early-media", "unanswered-busy"]), TempDir::new().unwrap());
    let archive = archive.path();
    seal(archive, keys.path());
    let row = rows(archive, "recordings", &["--call-id", PLAIN]).remove(0);
    let file = archive.join(row["file"].as_str().unwrap());
    let purge = |more: &[&str]| {
        run(archive, &[&["purge", "--call-id", PLAIN, "--reason", "case 12"][..], more].concat())
    };
    let (code, said) = purge(&[]);
    assert_eq!(code, Some(0), "{said}");
    for part in ["would go  1 recordings: 1 files, 0.4 MB", "1009", "1010", "with --yes"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(file.exists() && tombstones(archive).is_empty());

    let (code, said) = purge(&["--yes"]);
    assert!(code == Some(0) && said.contains("deleted   1 recordings: 1 files, 0.4 MB"), "{said}");
    assert!(!file.exists());
    let tombstone = tombstones(archive).remove(0);
    assert_eq!(tombstone["reason"], "erasure: case 12");
    assert_eq!(tombstone["recording"], row["recording_id"]);
    assert_eq!(tombstone["files"][0]["path"], row["file"]);
    assert_eq!(tombstone["files"][0]["sha256"], row["sha256"]);
    seal(archive, keys.path());
    // What the catalog says of it stays until that is to go as well.
    assert_eq!(rows(archive, "recordings", &[]).len(), 2);
    assert_eq!(purge(&[]), (Some(1), "nothing is to go\n".to_owned()));

    let (code, said) = purge(&["--rows", "--yes"]);
    assert!(code == Some(0) && said.contains("what the catalog says of 1 calls"), "{said}");
    for table in TABLES {
        assert!(rows(archive, table, &["--call-id", PLAIN]).is_empty(), "{table}");
    }
    assert_eq!((rows(archive, "calls", &[]).len(), rows(archive, "recordings", &[]).len()), (2, 1));
    seal(archive, keys.path());
}

#[test]
fn what_is_to_go_must_be_said() {
    let archive = archive(&["plain-pcmu"]);
    let config = archive.path().join("x.toml");
    fs::write(&config, "[retention]\ndays = 1\n").unwrap();
    for arguments in [
        &["--rows"][..],
        &["--reason", "x"][..],
        &["--reason", "x", "--limit", "1"][..],
        &["--party", "1009"][..],
        &["--party", "1009", "--reason", ""][..],
        &["--party", "1009", "--config", text(&config)][..],
        &["--config", "/nowhere/at/all"][..],
    ] {
        let (code, said) = run(archive.path(), &[&["purge", "--yes"][..], arguments].concat());
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
    }
    fs::write(&config, "").unwrap();
    let (code, said) = run(archive.path(), &["purge", "--yes", "--config", text(&config)]);
    assert!(code == Some(1) && said.contains("kept for ever"), "{said}");
    assert!(tombstones(archive.path()).is_empty());
}

#[test]
fn what_is_old_enough_goes_and_what_is_held_stays() {
    let dir = TempDir::new().unwrap();
    let archive = dir.path().join("archive");
    let inputs = ["plain-pcmu", "yealink-record"].map(|case| long_ago(case, dir.path()));
    let (code, said) = run(&archive, &["replay", text(&inputs[0]), text(&inputs[1])]);
    assert_eq!(code, Some(0), "{said}");
    seal(&archive, dir.path());
    let config = dir.path().join("keep.toml");
    let purge = |typed: &str, more: &[&str]| {
        fs::write(&config, typed).unwrap();
        run(&archive, &[&["purge", "--config", text(&config)][..], more].concat())
    };
    // By its rule a recording may be kept longer than others.
    let rule = "[[rule]]\nname = \"default\"\naction = \"all\"\nretention_days = 36500\n";
    assert_eq!(purge(&format!("[retention]\ndays = 30\n{rule}"), &["--yes"]).0, Some(1));

    let place = ["hold", "place", "case-12", "--call", PLAIN, "--reason", "Miller ./. Smith"];
    let (code, said) = run(&archive, &place);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&archive, &place);
    assert!(code == Some(2) && said.contains("`case-12`"), "{said}");
    assert_eq!(run(&archive, &["hold", "place", "all", "--reason", "x"]).0, Some(2));
    let holds = run(&archive, &["hold", "list", "--format", "jsonl"]).1;
    let hold = lines(&holds).remove(0);
    assert!(hold["name"] == "case-12" && hold["call"] == PLAIN && hold["party"].is_null(), "{hold}");
    assert!(!hold["by"].as_str().unwrap().is_empty());
    assert!(run(&archive, &["hold", "list"]).1.contains("Miller ./. Smith"));

    let days = "[retention]\ndays = 30\n";
    let (code, said) = purge(days, &[]);
    assert!(code == Some(0) && said.contains("would go  1 recordings") && said.contains("case-12"), "{said}");
    assert_eq!(purge(days, &["--yes"]).0, Some(0));
    let there = || {
        let exists = |row: &Value| archive.join(row["file"].as_str().unwrap()).exists();
        let rows = rows(&archive, "recordings", &[]);
        rows.iter().filter(|row| exists(row)).map(|row| row["call_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(there(), [PLAIN]);
    assert_eq!(tombstones(&archive)[0]["reason"], "retention");
    seal(&archive, dir.path());

    assert_eq!(run(&archive, &["hold", "lift", "case-12", "--reason", "settled"]).0, Some(0));
    assert_eq!(run(&archive, &["hold", "list", "--format", "json"]).1, "[]\n");
    let (code, said) = purge("[retention]\ndays = 30\ncatalog_days = 60\n", &["--yes"]);
    assert!(code == Some(0) && said.contains("what the catalog says of 2 calls"), "{said}");
    for table in TABLES {
        assert!(rows(&archive, table, &[]).is_empty(), "{table}");
    }
    seal(&archive, dir.path());
}

#[test]
fn few_files_say_what_many_did() {
    let (archive, keys) = (archive(&["plain-pcmu"]), TempDir::new().unwrap());
    let archive = archive.path();
    for case in ["early-media", "unanswered-busy"] {
        let (code, said) = run(archive, &["replay", text(&sample(case))]);
        assert_eq!(code, Some(0), "{said}");
    }
    seal(archive, keys.path());
    let parts = || {
        let days = TABLES.map(|table| archive.join("catalog").join(table).join("day=2026-11-22"));
        days.map(|day| fs::read_dir(day).unwrap().count())
    };
    let found = || TABLES.map(|table| rows(archive, table, &[]));
    let before = found();
    assert_eq!(parts()[0], 3);
    assert_eq!(
        run(archive, &["compact", "--until", "2026-11-22"]),
        (Some(0), "nothing to compact\n".to_owned())
    );
    let (code, said) = run(archive, &["compact", "--until", "2026-11-23"]);
    assert!(code == Some(0) && said.starts_with("compacted  5 days of tables: "), "{said}");
    assert!(said.ends_with(" parts, now 5\n"), "{said}");
    assert_eq!((parts(), found()), ([1; 5], before));
    assert!(tombstones(archive).iter().all(|tombstone| tombstone["reason"] == "compaction"));
    seal(archive, keys.path());
    assert_eq!(run(archive, &["compact"]), (Some(0), "nothing to compact\n".to_owned()));
    assert_eq!(run(archive, &["compact", "--until", "today"]).0, Some(2));
}

#[test]
fn who_looks_is_noted() {
    let (archive, folder) = (archive(&["plain-pcmu"]), TempDir::new().unwrap());
    let archive = archive.path();
    let row = rows(archive, "recordings", &["--party", "1009"]).remove(0);
    let id = row["recording_id"].as_str().unwrap();
    let out = folder.path().join("out");
    for arguments in [&["show", &id[..8]][..], &["play", &id[..8]][..], &["export", "--into", text(&out)][..]]
    {
        assert_eq!(run(archive, arguments).0, Some(0), "{arguments:?}");
    }
    let access = |more: &[&str]| run(archive, &[&["access"][..], more].concat());
    let noted = lines(&access(&["--format", "jsonl"]).1);
    let told: Vec<(&str, &str)> = noted
        .iter()
        .map(|line| (line["command"].as_str().unwrap(), line["what"].as_str().unwrap()))
        .collect();
    let exported = format!("--to {}", out.display());
    assert_eq!(told, [("search", "--party 1009"), ("show", id), ("play", id), ("export", exported.as_str())]);
    let by = noted[0]["by"].as_str().unwrap();
    assert!(!by.is_empty() && noted.iter().all(|line| line["by"] == by));
    assert!(
        access(&["--by", by, "--command", "play", "--format", "csv"]).1.starts_with("at,by,command,what\n")
    );
    assert_eq!(access(&["--by", "nobody at all"]).0, Some(1));
    assert_eq!(access(&["--since", "2100-01-01"]).0, Some(1));

    // What another program answers is noted by the one that starts it.
    let own = Path::new(env!("CARGO_BIN_EXE_spantape"));
    let dir = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
    let here = dir.path().join("spantape");
    fs::hard_link(own, &here).unwrap();
    std::os::unix::fs::symlink("/bin/true", dir.path().join("spantape-sql")).unwrap();
    let mut sql = Command::new(&here);
    assert!(sql.args(["sql", "select 1", "--archive", text(archive)]).status().unwrap().success());
    let noted = lines(&access(&["--command", "sql", "--format", "jsonl"]).1);
    assert!(noted.len() == 1 && noted[0]["what"] == "select 1", "{noted:?}");
}

#[test]
fn who_cannot_be_noted_may_look() {
    let archive = archive(&["plain-pcmu"]);
    fs::write(archive.path().join("journal"), "").unwrap();
    let output = spantape(&["search", "--archive", text(archive.path())]);
    assert!(output.status.success() && stdout(&output).contains("1009"));
    assert!(
        stderr(&output).starts_with("spantape: warning: this access is not logged: "),
        "{}",
        stderr(&output)
    );
    // What is no archive gets no journal.
    let folder = TempDir::new().unwrap();
    assert_eq!(run(folder.path(), &["search"]).0, Some(2));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn each_of_several_recorders_has_a_name() {
    let dir = TempDir::new().unwrap();
    let (several, alone, config) =
        (dir.path().join("several"), dir.path().join("alone"), dir.path().join("south.toml"));
    fs::write(&config, "[archive]\nnode = \"south\"\n").unwrap();
    let input = sample("plain-pcmu");
    let replay =
        |archive: &Path, more: &[&str]| run(archive, &[&["replay", text(&input)][..], more].concat());
    assert_eq!(replay(&several, &["--node", "north"]).0, Some(0));
    assert_eq!(replay(&several, &["--config", text(&config)]).0, Some(0));
    for node in ["node=north", "node=south"] {
        assert!(several.join("catalog/calls/day=2026-11-22").join(node).is_dir(), "{node}");
    }
    assert_eq!(rows(&several, "calls", &[]).len(), 1);
    let (code, said) = replay(&several, &[]);
    assert!(code == Some(2) && said.contains("--node NAME"), "{said}");
    assert_eq!(replay(&alone, &[]).0, Some(0));
    let (code, said) = replay(&alone, &["--node", "north"]);
    assert!(code == Some(2) && said.contains("without a node's name"), "{said}");
    let (code, said) = replay(&dir.path().join("other"), &["--node", "a/b"]);
    assert!(code == Some(2) && said.contains("letters, digits"), "{said}");
}

#[test]
fn a_configuration_says_how_long_what_is_kept() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("keep.toml");
    let said = |typed: &str| {
        fs::write(&file, typed).unwrap();
        stdout(&spantape(&["check-config", text(&file)]))
    };
    let rule = "[[rule]]\nname = \"sales\"\naction = \"all\"\nretention_days = 90\n";
    let told = said(&format!("[archive]\nnode = \"north\"\n[retention]\ndays = 1825\n{rule}"));
    assert!(told.contains("this recorder is `north`, one of several"), "{told}");
    let kept = "Kept: recordings for 1825 days, those of `sales` for 90 days; what the catalog says of calls without \
                one, for ever";
    assert!(told.contains(kept), "{told}");
    assert!(said("").contains("Kept: everything, for ever"));
}
