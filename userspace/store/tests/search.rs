//! Finding rows again: every predicate, and how little is read for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod examples;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Instant;

use examples::{at, call, event, id, recording, stream};
use serde_json::Value;
use spantape_store::repack::{Order, compact};
use spantape_store::utc::Day;
use spantape_store::{Catalog, Query, QueryStats, Saved, Table, rows};
use tempfile::TempDir;

const DAY: u64 = 86_400;

fn saved(n: u64) -> Saved {
    let file = format!("recordings/2023/11/14/20231114T221320.000Z_{n}.wav");
    Saved { file, bytes: 1_922_048, ..Saved::default() }
}

/// Eight calls, ten minutes apart, each with its own Call-ID and its own number on one side.
fn archive() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(dir.path()).unwrap();
    for n in 0..8u64 {
        let mut row = recording(n * 600);
        row.id = id(n);
        row.from.user = format!("10{n}");
        row.to.user = if n == 3 { "101".into() } else { "+4930123".into() };
        row.call_id = format!("call-{n}@host");
        row.frames = 8000 * (n + 1);
        row.end = row.start + (n as i64 + 1) * 1_000_000_000;
        row.trigger = if n % 4 == 0 { "sip-info" } else { "rule" }.into();
        row.codecs = if n == 5 { vec!["PCMU".into(), "G722".into()] } else { vec!["PCMA".into()] };
        catalog.recording(&row, &saved(n)).unwrap();
        let mut row = call(n * 600);
        (row.id, row.call_id) = (id(n), format!("call-{n}@host"));
        row.from.user = format!("10{n}");
        catalog.call(&row).unwrap();
        let mut row = stream(n * 600);
        (row.call, row.call_id) = (id(n), format!("call-{n}@host"));
        catalog.stream(&row).unwrap();
        let mut row = event(n * 600, if n % 2 == 0 { "trigger" } else { "hold" });
        (row.call, row.call_id) = (id(n), format!("call-{n}@host"));
        catalog.event(&row).unwrap();
    }
    catalog.flush().unwrap();
    dir
}

fn find(archive: &Path, query: &Query) -> (Vec<Value>, QueryStats) {
    let mut rows = query.run(archive).unwrap();
    let mut found = Vec::new();
    for batch in &mut rows {
        found.extend(rows::objects(&batch.unwrap()).map(Value::Object));
    }
    (found, rows.stats())
}

/// The calls found, by the number in their Call-ID.
fn calls(archive: &Path, query: &Query) -> String {
    let number = |row: &Value| row["call_id"].as_str().unwrap()["call-".len()..][..1].to_owned();
    find(archive, query).0.iter().map(number).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn by_each_predicate() {
    let dir = archive();
    let is = |expected: &str, query: Query| assert_eq!(calls(dir.path(), &query), expected, "{query:?}");
    let all = Query::default;
    is("01234567", all());
    is("3", Query { from: some("103"), ..all() });
    is("", Query { from: some("10"), ..all() });
    is("01234567", Query { from: some("10*"), ..all() });
    is("2", Query { from: some("?02"), ..all() });
    is("3", Query { to: some("101"), ..all() });
    is("0124567", Query { to: some("+49*"), ..all() });
    is("13", Query { party: some("101"), ..all() });
    is("4", Query { call_id: some("call-4@host"), ..all() });
    is("01234567", Query { call_id: some("call-*"), ..all() });
    is("5", Query { recording: some("00000005"), ..all() });
    is("6", Query { recording: some(&id(6).to_string()), ..all() });
    is("6", Query { recording: some(&id(6).to_string().to_uppercase()), ..all() });
    is("2", Query { recording: some("20231114T221320.000Z_2.wav"), ..all() });
    is("2", Query { recording: some(&format!("/archive/{}", saved(2).file)), ..all() });
    is("567", Query { since: Some(at(5 * 600)), ..all() });
    // Still going on at that moment.
    is("4567", Query { since: Some(at(4 * 600 + 3)), ..all() });
    is("01", Query { until: Some(at(2 * 600)), ..all() });
    is("23", Query { since: Some(at(2 * 600)), until: Some(at(4 * 600)), ..all() });
    is("4567", Query { min_duration: Some(5.0), ..all() });
    is("04", Query { trigger: some("sip-info"), ..all() });
    is("5", Query { codec: some("g722"), ..all() });
    is("5", Query { codec: some("PCMU"), ..all() });
    is("0123467", Query { codec: some("pcma"), ..all() });
    is("012", Query { limit: Some(3), ..all() });
    is("0", Query { trigger: some("sip-info"), limit: Some(1), ..all() });
    is("", Query { limit: Some(0), ..all() });
    is("4", Query { trigger: some("sip-info"), min_duration: Some(2.0), party: some("104"), ..all() });
}

#[test]
fn in_the_other_tables() {
    let dir = archive();
    let is = |expected: &str, query: Query| assert_eq!(calls(dir.path(), &query), expected, "{query:?}");
    let table = |table| Query { table, ..Query::default() };
    is("3", Query { from: some("103"), ..table(Table::Calls) });
    is("4", Query { call_id: some(&id(4).to_string()), ..table(Table::Calls) });
    // Streams and events are found by the parties of their call.
    is("3", Query { from: some("103"), ..table(Table::Streams) });
    is("01234567", Query { party: some("10?"), ..table(Table::Streams) });
    is("", Query { party: some("nobody"), ..table(Table::Streams) });
    is("6", Query { party: some("106"), ..table(Table::Events) });
    is("01234567", Query { codec: some("PCMU/8000"), ..table(Table::Streams) });
    is("0246", Query { trigger: some("sip-info"), ..table(Table::Events) });
    is("7", Query { since: Some(at(6 * 600 + 6)), ..table(Table::Events) });
}

#[test]
fn a_row_for_machines() {
    let dir = archive();
    let (rows, _) = find(dir.path(), &Query { recording: some("00000003"), ..Query::default() });
    let [row] = rows.as_slice() else { unreachable!("{rows:?}") };
    assert_eq!(row["recording_id"], id(3).to_string());
    assert_eq!(row["start"], "2023-11-14T22:43:20.000Z");
    assert_eq!(row["duration_s"], 4.0);
    assert_eq!((&row["lost"], &row["concealed_ms"]), (&3.into(), &80.into()));
    assert_eq!((&row["caller_lost"], &row["callee_lost"]), (&2.into(), &1.into()));
    assert_eq!(row["sample_rate"], 8000);
    for name in ["call_id", "conversation_id", "from_user", "to_user", "file", "trigger", "codecs"] {
        assert!(row[name].is_string(), "{name}");
    }
}

#[test]
fn texts_longer_than_statistics_keep() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(dir.path()).unwrap();
    let call_id = |n: u64| format!("{}{n}@é", "é".repeat(60));
    for n in 0..5_000 {
        let mut row = call(n);
        row.call_id = call_id(n);
        catalog.call(&row).unwrap();
    }
    catalog.flush().unwrap();
    for n in [0, 9, 2_500, 4_999] {
        let query = Query { table: Table::Calls, call_id: Some(call_id(n)), ..Query::default() };
        assert_eq!(find(dir.path(), &query).0.len(), 1, "{n}");
    }
}

#[test]
fn across_midnight() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(dir.path()).unwrap();
    // 22:13:20 plus 1:46:30 is ten seconds before midnight; the call lasts 62 seconds.
    catalog.call(&call(6_390)).unwrap();
    catalog.flush().unwrap();
    let query = |since| Query { table: Table::Calls, since: Some(at(since)), ..Query::default() };
    assert_eq!(find(dir.path(), &query(6_420)).0.len(), 1);
    assert_eq!(find(dir.path(), &query(6_453)).0.len(), 0);
}

#[test]
fn moments_are_cut_to_microseconds() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(dir.path()).unwrap();
    // Within one microsecond, the later one with the lower id.
    for (n, ns) in [(1, 1_999), (2, 1_001)] {
        let mut row = call(n);
        (row.start, row.end) = (at(0) + ns, at(60) + ns);
        catalog.call(&row).unwrap();
        let mut row = event(n, "hold");
        row.at = at(0) + ns;
        catalog.event(&row).unwrap();
    }
    catalog.flush().unwrap();
    let query = Query { table: Table::Calls, ..Query::default() };
    let (rows, _) = find(dir.path(), &query);
    assert_eq!(rows.iter().map(|row| &row["start"]).collect::<Vec<_>>(), ["2023-11-14T22:13:20.000001Z"; 2]);
    assert_eq!(
        (&rows[0]["call_uid"], &rows[1]["call_uid"]),
        (&id(1).to_string().into(), &id(2).to_string().into())
    );
    let count = |since: Option<i64>, until: Option<i64>, table, from: u64| {
        let moment = |ns: Option<i64>| ns.map(|ns| at(from) + ns);
        find(dir.path(), &Query { table, since: moment(since), until: moment(until), ..Query::default() })
            .0
            .len()
    };
    // A query is cut as the rows are, so a row is found by its own moment.
    for (ns, after, before) in [(999, 2, 0), (1_000, 2, 0), (1_001, 2, 0), (1_999, 2, 0), (2_000, 0, 2)] {
        assert_eq!(count(Some(ns), None, Table::Events, 0), after, "since {ns}");
        assert_eq!(count(None, Some(ns), Table::Events, 0), before, "until {ns}");
        assert_eq!(count(Some(ns), None, Table::Calls, 60), after, "calls since {ns}");
        assert_eq!(count(None, Some(ns), Table::Calls, 0), before, "calls until {ns}");
    }
    // Told again, they are known.
    let mut catalog = Catalog::open(dir.path()).unwrap();
    let mut row = call(2);
    (row.start, row.end) = (at(0) + 1_001, at(60) + 1_001);
    catalog.call(&row).unwrap();
    catalog.flush().unwrap();
    assert_eq!(find(dir.path(), &query).0.len(), 2);
}

#[test]
fn little_is_read() {
    const DAYS: u64 = 20;
    const ROWS: u64 = 5_000;
    let dir = tempfile::tempdir().unwrap();
    // A part a day.
    let mut catalog = Catalog::with_buffer(dir.path(), (DAYS * ROWS) as usize).unwrap();
    let mut saved = saved(0);
    let started = Instant::now();
    for day in 0..DAYS {
        for n in 0..ROWS {
            // From 00:00:00, a call each 17 seconds; a caller calls on one day only.
            let mut row = recording(6_400 + day * DAY + n * 17);
            row.id = id(day * ROWS + n);
            row.call_id = format!("{day}-{n}@host");
            row.from.user = (100_000 + day * ROWS + n / 5).to_string();
            saved.file.replace_range(37.., &format!("{day}_{n}.wav"));
            catalog.recording(&row, &saved).unwrap();
        }
    }
    catalog.flush().unwrap();
    let total = DAYS * ROWS;
    println!("written: {:.0} rows/s", total as f64 / started.elapsed().as_secs_f64());

    let look_up = |what: &str, query: &Query| {
        let started = Instant::now();
        let mut rows = query.run(dir.path()).unwrap();
        let found: usize = rows.by_ref().map(|batch| batch.unwrap().num_rows()).sum();
        println!("{what}: {found} rows in {:.1?}, {:?}", started.elapsed(), rows.stats());
        (found, rows.stats())
    };
    let (found, stats) = look_up("all", &Query::default());
    assert_eq!((found as u64, stats.rows_read as u64), (total, total));
    let groups = stats.row_groups_total;
    assert_eq!(groups, DAYS as usize);

    // The bloom filters of nineteen days say no.
    let (found, stats) = look_up("call_id", &Query { call_id: some("7-4321@host"), ..Query::default() });
    assert_eq!((found, stats.row_groups_total), (1, groups));
    assert!(stats.row_groups_read <= 2 && stats.rows_read <= 2 * ROWS as usize, "{stats:?}");
    let (found, stats) = look_up("from", &Query { from: some("135100"), ..Query::default() });
    assert_eq!((found, stats.row_groups_read), (5, 1));
    let (found, stats) = look_up("party", &Query { party: some("135100"), ..Query::default() });
    assert_eq!((found, stats.row_groups_read), (5, 1));
    let (found, stats) = look_up("nobody", &Query { from: some("1"), ..Query::default() });
    assert_eq!((found, stats.row_groups_read, stats.rows_read), (0, 0, 0));

    // One hour of one day: its partition, and the seven before for what was still going on then.
    let noon = 6_400 + 10 * DAY + 12 * 3600;
    let hour = Query { since: Some(at(noon)), until: Some(at(noon + 3600)), ..Query::default() };
    let (found, stats) = look_up("hour", &hour);
    assert_eq!(found, 215); // 211 began in it, 4 were still going on
    assert_eq!((stats.partitions, stats.row_groups_read), (8, 1));
    assert!(stats.rows_read <= 2_048, "{stats:?}");

    // A glob is answered by rows, of which only one column is decoded.
    let (found, stats) = look_up("glob", &Query { from: some("1351*"), ..Query::default() });
    assert_eq!((found, stats.row_groups_read), (500, groups));
    let (found, _) = look_up("limit", &Query { limit: Some(10), ..Query::default() });
    assert_eq!(found, 10);
}

#[test]
fn parts_that_go_while_they_are_searched() {
    let dir = tempfile::tempdir().unwrap();
    let order = Order { at: String::new(), by: String::new(), reason: "compaction".to_owned() };
    let count = |archive: &Path| find(archive, &Query::default()).0.len();
    let mut recorded = 0;
    for round in 0..10u64 {
        let mut catalog = Catalog::open(dir.path()).unwrap();
        for n in 0..10 {
            let n = round * 10 + n;
            let mut row = recording(n);
            row.id = id(n);
            catalog.recording(&row, &saved(n)).unwrap();
            catalog.flush().unwrap();
            recorded += 1;
        }
        thread::scope(|scope| {
            let compacting =
                scope.spawn(|| compact(dir.path(), Day::of(at(2 * DAY)), &order, |_, _| {}).unwrap());
            while !compacting.is_finished() {
                assert_eq!(count(dir.path()), recorded);
            }
        });
        assert_eq!(count(dir.path()), recorded);
    }
    // A part that never is there, although it has a name, is not taken for one without rows.
    let day = dir.path().join("catalog/recordings").join(format!("day={}", Day::of(at(0))));
    symlink("nowhere", day.join("part-0000000000000000.parquet")).unwrap();
    let found = Query::default().run(dir.path()).unwrap().next().unwrap();
    let error = found.unwrap_err().to_string();
    assert!(error.contains("try again"), "{error}");
}
