//! What is compacted stays, what is purged goes and leaves a tombstone, and what is held stays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod examples;

use std::fs;
use std::path::Path;

use examples::{at, call, event, id, recording, stream};
use serde_json::{Map, Value};
use spantape_core::media::TapeId;
use spantape_core::record::{EventRow, RecordingRow, StreamRow};
use spantape_core::time::{SECOND, Timestamp};
use spantape_store::repack::{Order, compact};
use spantape_store::retention::{Held, Hold, Retention, Wanted, hold, plan, purge};
use spantape_store::seal::{Report, SecretKey, seal, verify};
use spantape_store::utc::Day;
use spantape_store::{Archive, ArchiveOptions, Query, SpoolOptions, Table, rows};
use tempfile::TempDir;

const DAY: u64 = 86_400;

/// A call of each of these seconds, flushed by itself, by `node`.
fn record(archive: &Path, seconds: &[u64], node: Option<&str>) {
    let spool = SpoolOptions { node: node.map(str::to_owned), ..SpoolOptions::default() };
    let mut archive =
        Archive::create_with(archive, ArchiveOptions { spool, ..ArchiveOptions::default() }).unwrap();
    for &n in seconds {
        let tape = TapeId(n);
        let row = RecordingRow { call: id(n), frames: 100, end: at(n + 5), ..recording(n) };
        archive.open_tape(tape, 8000, 2, (0, 1)).unwrap();
        archive.write(tape, &[n as i16; 200]).unwrap();
        archive.cut(tape, 0..100, &[], &row, true).unwrap();
        archive.stream(&StreamRow { call: id(n), ..stream(n) }).unwrap();
        archive.event(&EventRow { call: id(n), ..event(n, "message") }).unwrap();
        archive.call(&call(n)).unwrap();
        archive.flush().unwrap();
    }
}

fn order(reason: &str) -> Order {
    let text = |text: &str| text.to_owned();
    Order { at: text("2026-11-30T00:00:00Z"), by: text("tester"), reason: text(reason) }
}

fn all(archive: &Path, table: Table) -> Vec<Map<String, Value>> {
    let batches = Query { table, ..Query::default() }.run(archive).unwrap();
    batches.flat_map(|batch| rows::objects(&batch.unwrap()).collect::<Vec<_>>()).collect()
}

fn parts(archive: &Path, table: Table) -> usize {
    let mut open = vec![archive.join("catalog").join(table.as_str())];
    let mut count = 0;
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(!name.ends_with(".new") && !name.starts_with(".switch"), "{name}");
            count += usize::from(name.starts_with("part-"));
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    count
}

fn sealed(dir: &TempDir, archive: &Path) -> Report {
    let path = dir.path().join("key");
    let key = SecretKey::read(&path).unwrap_or_else(|_| SecretKey::generate(&path).unwrap().0);
    seal(archive, &key, "2026-11-30T00:00:00Z").unwrap();
    verify(archive, Some(&key.public()), |_| {}).unwrap()
}

#[test]
fn few_parts_say_what_many_did() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, 2, 3, DAY + 1], Some("north"));
    record(&archive, &[4, 5], Some("south"));
    assert!(sealed(&dir, &archive).findings.is_empty());
    let before: Vec<_> = Table::ALL.map(|table| all(&archive, table)).into();
    assert_eq!((before[0].len(), parts(&archive, Table::Calls)), (6, 6));
    let done = compact(&archive, Day::of(at(2 * DAY)), &order("compaction"), |_, _| {}).unwrap();
    assert_eq!((done.days, done.before, done.after), (8, 20, 8));
    assert_eq!(parts(&archive, Table::Calls), 3);
    assert_eq!(Table::ALL.map(|table| all(&archive, table)).to_vec(), before);
    // Nobody may say that they have been lost, nor make other rows of them.
    let report = sealed(&dir, &archive);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.rows, 6);
    let again = compact(&archive, Day::of(at(2 * DAY)), &order("compaction"), |_, _| {}).unwrap();
    assert_eq!(again, Default::default());
    // What is there already is not added again.
    record(&archive, &[2], Some("north"));
    assert_eq!(parts(&archive, Table::Calls), 3);
}

#[test]
fn what_was_not_finished_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, 2, 3], None);
    let before = all(&archive, Table::Calls);
    let day = archive.join("catalog/calls").join(format!("day={}", Day::of(at(1))));
    let keep: Vec<_> = fs::read_dir(&day).unwrap().map(|entry| entry.unwrap().path()).collect();
    let old: Vec<(std::path::PathBuf, Vec<u8>)> =
        keep.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    compact(&archive, Day::of(at(DAY)), &order("compaction"), |_, _| {}).unwrap();
    let new = fs::read_dir(&day).unwrap().next().unwrap().unwrap().path();
    let name = new.file_name().unwrap().to_str().unwrap().to_owned();
    let files: Vec<_> = old
        .iter()
        .map(|(path, _)| {
            let path = path.strip_prefix(&archive).unwrap().to_str().unwrap();
            serde_json::json!({"path": path, "bytes": 1, "sha256": ""})
        })
        .collect();
    let switch = serde_json::json!({
        "new": [name],
        "tombstone": {"at": "", "by": "", "reason": "compaction", "files": files},
    });
    let text = switch.to_string();
    // Killed at each step: the switch written in part, written, the new one renamed, an old one removed.
    for step in 0..5 {
        old.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let hidden = day.join(format!(".{name}.new"));
        match step {
            // Before it has its name, nothing has happened.
            0 => fs::rename(&new, &hidden).unwrap(),
            1 => {
                fs::write(day.join(".switch.json"), &text).unwrap();
                fs::rename(&new, &hidden).unwrap();
            }
            2 => fs::write(day.join(".switch.json"), &text).unwrap(),
            3 => {
                fs::write(day.join(".switch.json"), &text).unwrap();
                fs::remove_file(&old[0].0).unwrap();
            }
            // The disk has lost the new part: the old ones stay.
            _ => {
                fs::write(day.join(".switch.json"), &text).unwrap();
                fs::remove_file(&new).unwrap();
            }
        }
        if step > 1 {
            assert_eq!(all(&archive, Table::Calls), before, "{step}: while both are there");
        }
        let report = sealed(&dir, &archive);
        // That a part was lost which had been sealed is told.
        assert_eq!(report.findings.is_empty(), step < 4, "{step}: {:?}", report.findings);
        assert_eq!(all(&archive, Table::Calls), before, "{step}");
        assert_eq!(parts(&archive, Table::Calls), if matches!(step, 0 | 4) { 3 } else { 1 }, "{step}");
        compact(&archive, Day::of(at(DAY)), &order("compaction"), |_, _| {}).unwrap();
    }
}

#[test]
fn a_switch_that_cannot_be_read_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, 2], None);
    let day = archive.join("catalog/calls").join(format!("day={}", Day::of(at(1))));
    let (switch, new) = (day.join(".switch.json"), day.join(".part-0123456789abcdef.parquet.new"));
    fs::write(&switch, "{\"new\":[\"part-01").unwrap();
    fs::write(&new, "rows").unwrap();
    let compact = || compact(&archive, Day::of(at(DAY)), &order("compaction"), |_, _| {});
    let error = compact().unwrap_err().to_string();
    assert!(error.contains(".switch.json cannot be read") && error.contains("remove this file"), "{error}");
    assert!(switch.exists() && new.exists());
    fs::remove_file(&switch).unwrap();
    compact().unwrap();
    assert!(!new.exists());
    assert_eq!((all(&archive, Table::Calls).len(), parts(&archive, Table::Calls)), (2, 1));
}

#[test]
fn a_row_that_compaction_alters_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1], None);
    assert!(sealed(&dir, &archive).findings.is_empty());
    // Somebody writes the part anew, with another caller, and a tombstone for the old one.
    let forged = dir.path().join("forged");
    let mut other = Archive::create(&forged).unwrap();
    let mut row = RecordingRow { call: id(1), frames: 100, end: at(6), ..recording(1) };
    row.from.user = "4711".to_owned();
    other.open_tape(TapeId(1), 8000, 2, (0, 1)).unwrap();
    other.write(TapeId(1), &[1; 200]).unwrap();
    other.cut(TapeId(1), 0..100, &[], &row, true).unwrap();
    other.flush().unwrap();
    let part = |archive: &Path| {
        let day = archive.join("catalog/recordings").join(format!("day={}", Day::of(at(1))));
        fs::read_dir(day).unwrap().next().unwrap().unwrap().path()
    };
    let old = part(&archive);
    fs::copy(part(&forged), old.with_file_name("part-0000000000000000.parquet")).unwrap();
    let path = old.strip_prefix(&archive).unwrap().to_str().unwrap();
    fs::create_dir(archive.join("journal")).unwrap();
    fs::write(
        archive.join("journal/deletions.jsonl"),
        format!(
            r#"{{"at":"","by":"","reason":"compaction","files":[{{"path":"{path}","bytes":1,"sha256":""}}]}}"#
        ),
    )
    .unwrap();
    fs::remove_file(&old).unwrap();
    let findings = sealed(&dir, &archive).findings;
    assert!(
        findings.iter().any(|f| f.to_string().contains("row is not the one that was sealed")),
        "{findings:?}"
    );
}

#[test]
fn what_is_old_enough_goes_and_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, DAY, 10 * DAY], None);
    assert!(sealed(&dir, &archive).findings.is_empty());
    let now = Timestamp(at(11 * DAY).0);
    let days = |days| Retention { recordings: Some(days), ..Retention::default() };
    let found = |days: Retention| plan(&archive, &Wanted::Expired(days, now), false).unwrap();
    assert_eq!([0, 1, 5, 20].map(|n| found(days(n)).recordings.len()), [3, 2, 2, 0]);
    let by_rule = Retention { by_rule: [("other".to_owned(), 0)].into(), ..days(20) };
    assert!(found(by_rule).recordings.is_empty());

    let plan = found(days(5));
    assert!(plan.calls.is_empty() && plan.held.is_empty());
    let purged = purge(&archive, &plan, &order("retention"), || {}).unwrap();
    assert_eq!((purged.recordings, purged.files), (2, 2));
    let report = sealed(&dir, &archive);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.rows, report.deleted), (1, 2));
    assert_eq!(all(&archive, Table::Recordings).len(), 3);
    assert!(found(days(5)).recordings.is_empty(), "what has gone is not found again");
}

#[test]
fn more_days_than_there_have_been() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, DAY], None);
    for days in [106_751, 106_752, 365_000, u32::MAX] {
        let retention = Retention {
            recordings: Some(days),
            by_rule: [("default".to_owned(), days)].into(),
            catalog: Some(days),
        };
        for rows in [false, true] {
            let found = plan(&archive, &Wanted::Expired(retention.clone(), at(9 * DAY)), rows).unwrap();
            assert!(found.recordings.is_empty() && found.calls.is_empty(), "{days}");
        }
    }
}

#[test]
fn whom_nobody_may_know_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, 2, 3], None);
    assert!(sealed(&dir, &archive).findings.is_empty());
    let query = Query { call_id: Some(id(2).to_string()), ..Query::default() };
    let plan = plan(&archive, &Wanted::Found(Box::new(query)), true).unwrap();
    assert_eq!((plan.recordings.len(), plan.calls.len()), (1, 1));
    purge(&archive, &plan, &order("erasure: case 12"), || {}).unwrap();
    for table in [Table::Calls, Table::Recordings, Table::Streams, Table::Events] {
        let uids = all(&archive, table)
            .iter()
            .map(|row| row["call_uid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>();
        assert_eq!(uids, [id(1).to_string(), id(3).to_string()], "{table}");
    }
    let report = sealed(&dir, &archive);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn what_only_recordings_have_means_no_other_calls() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, 2, 3], None);
    let found = |query: Query, rows| plan(&archive, &Wanted::Found(Box::new(query)), rows).unwrap();
    let third = Query { call_id: Some(id(3).to_string()), ..Query::default() };
    purge(&archive, &found(third, false), &order("retention"), || {}).unwrap();
    let by_key = Query { trigger: Some("sip-info".to_owned()), ..Query::default() };
    let none = found(by_key, true);
    assert!(none.recordings.is_empty() && none.calls.is_empty(), "{:?}", none.calls);
    let by_rule = Query { trigger: Some("rule".to_owned()), limit: Some(1), ..Query::default() };
    let first = found(by_rule, true);
    assert_eq!(first.calls.into_iter().collect::<Vec<_>>(), [id(1).to_string()]);
}

#[test]
fn those_with_a_name_and_those_without_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let (alone, several) = (dir.path().join("alone"), dir.path().join("several"));
    record(&alone, &[1], None);
    record(&several, &[1, DAY], Some("north"));
    let open = |archive: &Path, node: Option<&str>| {
        let spool = SpoolOptions { node: node.map(str::to_owned), ..SpoolOptions::default() };
        Archive::create_with(archive, ArchiveOptions { spool, ..ArchiveOptions::default() }).map(drop)
    };
    open(&alone, None).unwrap();
    open(&several, Some("south")).unwrap();
    for (archive, node, said) in
        [(&alone, Some("north"), "without a node's name"), (&several, None, "--node NAME")]
    {
        let error = open(archive, node).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn what_is_held_stays() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, DAY, 2 * DAY], None);
    let hold = |name: &str, held: Held| Hold {
        name: name.to_owned(),
        at: String::new(),
        by: "counsel".to_owned(),
        reason: "case 12".to_owned(),
        held,
    };
    let day = Held { since: Some(at(DAY)), until: Some(Timestamp(at(DAY).0 + SECOND)), ..Held::default() };
    hold::place(&archive, &hold("day", day)).unwrap();
    let one = Held { call: Some(id(1).to_string()), party: Some("1009".to_owned()), ..Held::default() };
    hold::place(&archive, &hold("call", one.clone())).unwrap();
    assert!(hold::place(&archive, &hold("call", one)).is_err());
    let expired = Wanted::Expired(
        Retention { recordings: Some(0), catalog: Some(0), ..Retention::default() },
        at(9 * DAY),
    );
    let found = plan(&archive, &expired, true).unwrap();
    assert_eq!((found.recordings.len(), found.calls.len()), (1, 1));
    let mut names: Vec<_> = found.held.iter().map(|(_, name)| name.as_str()).collect();
    names.sort();
    assert_eq!(names, ["call", "call", "day", "day"]);
    purge(&archive, &found, &order("retention"), || {}).unwrap();
    assert_eq!(all(&archive, Table::Calls).len(), 2);

    hold::lift(&archive, "call", String::new(), "counsel".to_owned(), "settled".to_owned()).unwrap();
    assert!(hold::lift(&archive, "call", String::new(), String::new(), String::new()).is_err());
    assert_eq!(hold::in_force(&archive).unwrap().len(), 1);
    assert_eq!(plan(&archive, &expired, true).unwrap().recordings.len(), 1);
    // Nothing goes while what is held cannot be told.
    fs::write(archive.join("journal/holds.jsonl"), "{\"placed\":\n").unwrap();
    assert!(plan(&archive, &expired, true).is_err());
}

/// Held by what is said of it.
fn hold_of(name: &str, held: Held) -> Hold {
    let text = |text: &str| text.to_owned();
    Hold { name: text(name), at: String::new(), by: text("counsel"), reason: text("case 12"), held }
}

fn everything() -> Wanted {
    Wanted::Found(Box::new(Query { party: Some("1009".to_owned()), ..Query::default() }))
}

#[test]
fn a_recording_of_a_held_call_stays() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, DAY], None);
    // The recording of the first is over at 6, its call at 63.
    let late = Held { since: Some(at(30)), until: Some(at(DAY)), ..Held::default() };
    hold::place(&archive, &hold_of("late", late)).unwrap();
    let found = plan(&archive, &everything(), true).unwrap();
    assert_eq!((found.recordings.len(), found.held.len()), (1, 2));
    purge(&archive, &found, &order("retention"), || {}).unwrap();
    for table in [Table::Calls, Table::Recordings, Table::Streams, Table::Events] {
        assert_eq!(all(&archive, table).len(), 1, "{table}");
    }
    let left = plan(&archive, &everything(), true).unwrap();
    assert!(left.recordings.is_empty() && left.calls.is_empty());
}

#[test]
fn a_recording_that_is_held_holds_its_call() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    let mut recorder = Archive::create(&archive).unwrap();
    let row = RecordingRow { id: id(7), call: id(1), frames: 100, end: at(6), ..recording(1) };
    recorder.open_tape(TapeId(1), 8000, 2, (0, 1)).unwrap();
    recorder.write(TapeId(1), &[1; 200]).unwrap();
    recorder.cut(TapeId(1), 0..100, &[], &row, true).unwrap();
    recorder.call(&call(1)).unwrap();
    recorder.flush().unwrap();
    drop(recorder);
    let one = Held { call: Some(id(7).to_string()), ..Held::default() };
    hold::place(&archive, &hold_of("one", one)).unwrap();
    // Also when its files have gone.
    for entry in fs::read_dir(archive.join("recordings/2023/11/14")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let found = plan(&archive, &everything(), true).unwrap();
    assert!(found.recordings.is_empty() && found.calls.is_empty(), "{found:?}");
    assert_eq!(found.held.len(), 2);
}

#[test]
fn a_hold_that_is_placed_while_a_purge_runs() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, DAY, 2 * DAY], None);
    let found = plan(&archive, &everything(), true).unwrap();
    assert_eq!((found.recordings.len(), found.calls.len()), (3, 3));
    let call = |n: u64| Held { call: Some(id(n).to_string()), ..Held::default() };
    hold::place(&archive, &hold_of("planned", call(DAY))).unwrap();
    let purged = purge(&archive, &found, &order("retention"), || {}).unwrap();
    assert_eq!((purged.recordings, purged.held, purged.calls), (2, 1, 2));
    assert_eq!(all(&archive, Table::Calls)[0]["call_uid"], id(DAY).to_string());
    let tombstones = fs::read_to_string(archive.join("journal/deletions.jsonl")).unwrap();
    let [first, last] = [1, 2 * DAY].map(|n| format!("\"rows\":[\"{}\"]", id(n)));
    assert!(tombstones.contains(&first) && tombstones.contains(&last), "{tombstones}");
}

#[test]
fn a_purge_of_rows_that_was_killed_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, 2, 3], None);
    let query = Query { party: Some("1009".to_owned()), ..Query::default() };
    let gone = plan(&archive, &Wanted::Found(Box::new(query)), false).unwrap();
    purge(&archive, &gone, &order("retention"), || {}).unwrap();
    // Killed once it was written down whose rows go; since then one of the calls is held.
    let calls = [1, 2].map(|n| id(n).to_string());
    let started = serde_json::json!({
        "order": {"at": "", "by": "", "reason": "erasure: x"}, "calls": calls, "recordings": calls,
    });
    let path = archive.join("catalog/.purge.json");
    fs::write(&path, started.to_string()).unwrap();
    let one = Held { call: Some(calls[0].clone()), ..Held::default() };
    hold::place(&archive, &hold_of("one", one)).unwrap();
    assert!(sealed(&dir, &archive).findings.is_empty());
    assert!(!path.exists());
    for table in [Table::Calls, Table::Recordings, Table::Streams, Table::Events] {
        let rows = all(&archive, table);
        let uids: Vec<_> = rows.iter().map(|row| row["call_uid"].as_str().unwrap()).collect();
        assert_eq!(uids, [id(1).to_string(), id(3).to_string()], "{table}");
    }
    fs::write(&path, "{").unwrap();
    let error = compact(&archive, Day::of(at(1)), &order("compaction"), |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("purge again") && path.exists(), "{error}");
}

#[test]
fn every_form_of_a_recording_goes() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1, DAY], None);
    let file = |row: &Map<String, Value>| row["file"].as_str().unwrap().to_owned();
    let rows = all(&archive, Table::Recordings);
    let (stem, other) = (file(&rows[0]).replace(".wav", ""), file(&rows[1]));
    // As it is left by who was killed while encrypting.
    for end in ["wav.age", "flac", "pcap", "pcap.age", "caller.rtpdump", "callee.rtpdump.age"] {
        fs::write(archive.join(format!("{stem}.{end}")), "x").unwrap();
    }
    let key = archive.join(stem.replace("recordings/", "keys/") + ".key");
    fs::create_dir_all(key.parent().unwrap()).unwrap();
    fs::write(&key, "x").unwrap();
    let query = Query { call_id: Some(id(1).to_string()), ..Query::default() };
    let found = plan(&archive, &Wanted::Found(Box::new(query)), false).unwrap();
    assert_eq!(found.recordings[0].files.len(), 8);
    assert!(found.recordings[0].files[7].starts_with("keys/"));
    let purged = purge(&archive, &found, &order("retention"), || {}).unwrap();
    assert_eq!((purged.recordings, purged.files), (1, 8));
    let day = archive.join(&stem);
    assert_eq!(fs::read_dir(day.parent().unwrap()).unwrap().count(), 0);
    assert!(!key.exists() && archive.join(other).exists());
}

#[test]
fn a_hold_that_was_written_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    record(&archive, &[1], None);
    let path = archive.join("journal/holds.jsonl");
    let one = |name: &str| hold_of(name, Held::default());
    hold::place(&archive, &one("first")).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    // Nobody has been told that it was placed.
    fs::write(&path, format!("{whole}{}", &whole[..20])).unwrap();
    assert_eq!(hold::in_force(&archive).unwrap(), [one("first")]);
    hold::place(&archive, &one("second")).unwrap();
    assert!(hold::place(&archive, &one("second")).is_err());
    hold::lift(&archive, "first", String::new(), String::new(), String::new()).unwrap();
    let error = plan(&archive, &everything(), false).unwrap_err().to_string();
    assert!(error.contains("1 lines") && error.contains("spantape hold place"), "{error}");
}
