//! The built program over a small archive.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../store/tests/examples/mod.rs"]
mod examples;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use examples::{call, id, recording};
use serde_json::{Value, json};
use spantape_store::{Catalog, Saved};
use tempfile::TempDir;

/// Twelve hours in seconds: calls are so far apart.
const APART: u64 = 43_200;
/// A text that a terminal would obey.
const HOSTILE: &str = "\x1b[2JEve\u{202e}";

/// Calls from 1000 to 1003, on the 14th, the 15th, the 15th and the 16th of November 2023. The first has no recording, the
/// last no answer.
fn archive() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    dir
}

fn fill(archive: &Path) {
    let mut catalog = Catalog::open(archive).unwrap();
    for n in 0..4 {
        let mut row = call(n * APART);
        row.id = id(n);
        row.from.user = format!("100{n}");
        if n == 0 {
            row.from.display = HOSTILE.to_owned();
        }
        if n == 3 {
            row.answer = None;
        }
        catalog.call(&row).unwrap();
        if n > 0 {
            let mut row = recording(n * APART);
            (row.id, row.call) = (id(100 + n), id(n));
            let file = format!("recordings/{n}.wav");
            let saved = Saved { file, bytes: 1, ..Saved::default() };
            catalog.recording(&row, &saved).unwrap();
        }
    }
    catalog.flush().unwrap();
}

fn program(archive: &Path, sql: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spantape-sql"));
    command.arg("--archive").arg(archive).arg(sql).args(more).env_remove("SPANTAPE_ARCHIVE");
    command
}

fn ask(archive: &Path, sql: &str, more: &[&str]) -> Output {
    program(archive, sql, more).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The answer as JSON; it has to have rows.
fn rows(archive: &Path, sql: &str) -> Value {
    let output = ask(archive, sql, &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{sql}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// One line says why there is no answer.
fn refused(archive: &Path, sql: &str, more: &[&str]) -> String {
    let output = ask(archive, sql, more);
    let said = stderr(&output);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{sql}: {said}");
    assert!(said.starts_with("spantape: ") && output.stdout.is_empty(), "{said}");
    said
}

/// All files below a directory.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path);
        }
    }
    found
}

/// The days of the table `calls`, in order.
fn days(archive: &Path) -> Vec<PathBuf> {
    let mut days: Vec<PathBuf> =
        fs::read_dir(archive.join("catalog/calls")).unwrap().map(|entry| entry.unwrap().path()).collect();
    days.sort();
    days
}

/// Puts the parts of a day into the directory of a node.
fn give_to_node(day: &Path, node: &str) {
    let parts = files(day);
    let dir = day.join(format!("node={node}"));
    fs::create_dir(&dir).unwrap();
    for part in parts {
        fs::rename(&part, dir.join(part.file_name().unwrap())).unwrap();
    }
}

#[test]
fn counts_and_filters() {
    let dir = archive();
    let is = |sql: &str, expected: Value| assert_eq!(rows(dir.path(), sql), expected, "{sql}");
    is("select count(*) as n from calls", json!([{ "n": 4 }]));
    is("select count(*) as n from recordings where trigger = 'nothing'", json!([{ "n": 0 }]));
    is(
        "select day, count(*) as n from calls group by day order by day",
        json!([
            { "day": "2023-11-14", "n": 1 },
            { "day": "2023-11-15", "n": 2 },
            { "day": "2023-11-16", "n": 1 },
        ]),
    );
    let users = |filter: &str| format!("select from_user as f from calls where {filter} order by start");
    is(&users("day = '2023-11-15'"), json!([{ "f": "1001" }, { "f": "1002" }]));
    is(&users("day > date '2023-11-15'"), json!([{ "f": "1003" }]));
    is(&users(&format!("call_uid = '{}'", id(2))), json!([{ "f": "1002" }]));
    is(&users("from_user like '%3' and answered is null"), json!([{ "f": "1003" }]));
    is(&users("start < '2023-11-14T22:13:21Z'"), json!([{ "f": "1000" }]));
    is(
        "select start, talk_s, joined, answered from calls where from_user = '1003'",
        json!([{ "start": "2023-11-16T10:13:20Z", "talk_s": null, "joined": false, "answered": null }]),
    );
}

#[test]
fn joins() {
    let dir = archive();
    assert_eq!(
        rows(
            dir.path(),
            "select c.from_user, r.file from calls c left join recordings r using (call_uid) order by c.start"
        ),
        json!([
            { "from_user": "1000", "file": null },
            { "from_user": "1001", "file": "recordings/1.wav" },
            { "from_user": "1002", "file": "recordings/2.wav" },
            { "from_user": "1003", "file": "recordings/3.wav" },
        ])
    );
    let twice = "select c.start, r.start from calls c join recordings r using (call_uid)";
    assert!(refused(dir.path(), twice, &["--format", "json"]).contains("`start`"));
    assert_eq!(ask(dir.path(), twice, &["--format", "csv"]).status.code(), Some(0));
}

#[test]
fn formats() {
    let dir = archive();
    let sql = "select from_user, talk_s from calls order by start";
    let answer = |more: &[&str]| stdout(&ask(dir.path(), sql, more));
    let table = answer(&[]);
    assert!(table.starts_with("+---") && table.lines().count() == 8, "{table}");
    assert!(table.contains("| 1000      | 60.0   |"), "{table}");
    assert_eq!(answer(&["--format", "csv"]), "from_user,talk_s\n1000,60.0\n1001,60.0\n1002,60.0\n1003,\n");
    let lines = answer(&["--format", "jsonl"]);
    assert_eq!(lines.lines().count(), 4);
    assert_eq!(lines.lines().next_back(), Some(r#"{"from_user":"1003","talk_s":null}"#));
    let all: Value = serde_json::from_str(&answer(&["--format", "json"])).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 4);

    let file = dir.path().join("answer.csv");
    let output = ask(dir.path(), sql, &["--format", "csv", "--into", file.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(fs::read_to_string(file).unwrap(), answer(&["--format", "csv"]));
}

#[test]
fn parquet() {
    let dir = archive();
    let output = ask(dir.path(), "select 1", &["--format", "parquet"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--into"));

    // What was saved can be asked again, as a part of another archive.
    let other = tempfile::tempdir().unwrap();
    let day = other.path().join("catalog/calls/day=2023-11-14");
    fs::create_dir_all(&day).unwrap();
    let part = day.join("part-0.parquet");
    let sql = "select call_uid, from_user, start, talk_s from calls";
    let output = ask(dir.path(), sql, &["--format", "parquet", "--to", part.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    let sql = format!("{sql} order by start");
    assert_eq!(rows(other.path(), &sql), rows(dir.path(), &sql));
}

#[test]
fn without_rows() {
    let dir = archive();
    let none = |more: &[&str]| {
        let output = ask(dir.path(), "select from_user, to_user from calls where from_user = '1'", more);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        (stdout(&output), stderr(&output))
    };
    assert_eq!(none(&[]), (String::new(), "spantape: no rows\n".to_owned()));
    assert_eq!(none(&["--format", "json"]), ("[]\n".to_owned(), String::new()));
    assert_eq!(none(&["--format", "jsonl"]), (String::new(), String::new()));
    assert_eq!(none(&["--format", "csv"]), ("from_user,to_user\n".to_owned(), String::new()));
}

#[test]
fn nothing_but_reading() {
    let dir = archive();
    let before = files(dir.path());
    let target = dir.path().join("catalog/calls/day=2023-11-14/part-1.parquet");
    let copy = format!("copy calls to '{}'", target.display());
    let external = format!("create external table x stored as parquet location '{}'", dir.path().display());
    for sql in [
        "insert into calls select * from calls",
        "create table x as select 1",
        "create view x as select 1",
        "drop table calls",
        "delete from calls",
        "set datafusion.execution.batch_size = 1",
        copy.as_str(),
        external.as_str(),
    ] {
        let said = refused(dir.path(), sql, &[]);
        assert!(said.contains("only SELECT, EXPLAIN, DESCRIBE and SHOW are allowed"), "{sql}: {said}");
    }
    refused(dir.path(), &format!("explain analyze {copy}"), &[]);
    refused(dir.path(), "select 1; select 2", &[]);
    refused(dir.path(), &format!("select * from '{}'", target.display()), &[]);
    assert_eq!(files(dir.path()), before);
}

#[test]
fn what_can_be_asked_beside_rows() {
    let dir = archive();
    for (sql, part) in [
        ("explain select * from calls where from_user = '1'", "from_user"),
        ("describe calls", "conversation_id"),
        ("show tables", "recordings"),
        ("show columns from quality", "mos"),
    ] {
        let output = ask(dir.path(), sql, &[]);
        assert!(output.status.success(), "{sql}: {}", stderr(&output));
        assert!(stdout(&output).contains(part), "{sql}: {}", stdout(&output));
    }
}

#[test]
fn what_is_wrong() {
    let dir = archive();
    assert!(refused(dir.path(), "select nothing from calls", &[]).contains("nothing"));
    assert!(refused(dir.path(), "select * from nowhere", &[]).contains("nowhere"));
    refused(dir.path(), "selekt", &[]);
    refused(dir.path(), "", &[]);
    assert!(refused(&dir.path().join("none"), "select 1", &[]).contains("is no archive"));
    assert!(refused(&dir.path().join("catalog"), "select 1", &[]).contains("no directory `catalog`"));
    let output = ask(dir.path(), "select 1", &["--memory", "much"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("512MiB"));
}

#[test]
fn an_archive_without_rows() {
    let dir = tempfile::tempdir().unwrap();
    Catalog::open(dir.path()).unwrap();
    let output = ask(dir.path(), "select start, file from recordings where day = '2023-11-14'", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("the table `recordings` has no rows yet"));
    assert_eq!(rows(dir.path(), "select count(*) as n from calls"), json!([{ "n": 0 }]));
    // Only tables that are asked are spoken of.
    assert_eq!(stderr(&ask(dir.path(), "select 1", &[])), "");
}

#[test]
fn parts_of_several_nodes() {
    let dir = archive();
    for (day, node) in days(dir.path()).iter().zip(["a", "b", "a"]) {
        give_to_node(day, node);
    }
    assert_eq!(
        rows(dir.path(), "select node, count(*) as n from calls group by node order by node"),
        json!([{ "node": "a", "n": 2 }, { "node": "b", "n": 2 }])
    );
    assert_eq!(
        rows(dir.path(), "select from_user from calls where day = '2023-11-16' and node = 'a'"),
        json!([{ "from_user": "1003" }])
    );
}

#[test]
fn parts_with_and_without_a_node() {
    let dir = archive();
    give_to_node(&days(dir.path())[1], "a");
    let output = ask(dir.path(), "select count(*) as n from calls", &["--format", "jsonl"]);
    assert_eq!(stdout(&output), "{\"n\":4}\n");
    assert!(stderr(&output).contains("with and without `node`"));
}

#[test]
fn what_is_no_part() {
    let dir = archive();
    let day = &days(dir.path())[0];
    for name in [".part-1.tmp", ".part-1.parquet", "._part-1.parquet", "part-1.txt", "notes.parquet"] {
        fs::write(day.join(name), "no Parquet").unwrap();
    }
    assert_eq!(rows(dir.path(), "select count(*) as n from calls"), json!([{ "n": 4 }]));
}

#[test]
fn an_archive_of_an_odd_name() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("of [a] 100 % \u{fc}");
    fill(&archive);
    assert_eq!(rows(&archive, "select count(from_user) as n from calls"), json!([{ "n": 4 }]));
}

#[test]
fn hostile_texts() {
    let dir = archive();
    let sql = "select from_display from calls where from_user = '1000'";
    let json = stdout(&ask(dir.path(), sql, &["--format", "jsonl"]));
    assert!(json.trim_end().chars().all(|c| c.is_ascii() && !c.is_ascii_control()), "{json:?}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), json!({ "from_display": HOSTILE }));
    // No terminal: as it was on the wire.
    assert!(stdout(&ask(dir.path(), sql, &["--format", "csv"])).contains(HOSTILE));
}

#[test]
fn memory_is_bounded() {
    let dir = archive();
    let sql = "select value from generate_series(1, 1000000) order by value % 1000, value";
    let said = refused(dir.path(), sql, &["--memory", "1KiB"]);
    assert!(said.contains("--memory"), "{said}");
}

#[test]
fn a_reader_that_has_seen_enough() {
    let dir = archive();
    let sql = "select * from generate_series(1, 1000000)";
    let mut child = program(dir.path(), sql, &["--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}
