//! An archive as a replay makes it: what is in it, and that making it twice changes nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod examples;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use examples::{call, event, quality, recording, stream};
use spantape_core::media::TapeId;
use spantape_core::record::RecordingRow;
use spantape_store::{Archive, Catalog, Query, Table, rows};

const DAY: u64 = 86_400;

/// A few calls on each of three days, told in another order each time.
fn replay(archive: &Path, order: impl Iterator<Item = u64>) {
    let mut archive = Archive::create(archive).unwrap();
    for n in order {
        let n = n / 4 * DAY + n % 4 * 10;
        let row = RecordingRow { frames: 100, ..recording(n) };
        archive.open_tape(TapeId(n), 8000, 2, (0, 1)).unwrap();
        archive.write(TapeId(n), &[n as i16; 160]).unwrap();
        archive.silence(TapeId(n), 40).unwrap();
        archive.cut(TapeId(n), 0..100, &[], &row, true).unwrap();
        archive.call(&call(n)).unwrap();
        archive.stream(&stream(n)).unwrap();
        archive.event(&event(n, "trigger")).unwrap();
        (0..3).for_each(|slice| archive.quality(&quality(n, slice)).unwrap());
        archive.event(&event(n, "end")).unwrap();
        archive.event(&event(n, "end")).unwrap();
    }
    archive.flush().unwrap();
}

/// Every file of a directory and what is in it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

fn relative(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let strip = |path: PathBuf| path.strip_prefix(dir).unwrap().to_owned();
    contents(dir).into_iter().map(|(path, bytes)| (strip(path), bytes)).collect()
}

fn count(archive: &Path, table: Table) -> usize {
    let rows = Query { table, ..Query::default() }.run(archive).unwrap();
    rows.map(|batch| batch.unwrap().num_rows()).sum()
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    replay(a.path(), 0..12);
    replay(b.path(), (0..12).rev());
    let files = relative(a.path());
    // Twelve recordings, three days of each table, the lock and the log.
    assert_eq!(files.len(), 12 + 3 * 5 + 2);
    assert!(files == relative(b.path()), "the two archives differ");
}

#[test]
fn a_second_replay_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    replay(dir.path(), 0..12);
    let before = contents(dir.path());
    replay(dir.path(), 0..12);
    assert!(before == contents(dir.path()), "the second replay changed something");
    assert_eq!(Table::ALL.map(|table| count(dir.path(), table)), [12, 12, 12, 24, 36]);
}

#[test]
fn a_longer_replay_adds_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    replay(dir.path(), 0..6);
    replay(dir.path(), 0..12);
    assert_eq!(Table::ALL.map(|table| count(dir.path(), table)), [12, 12, 12, 24, 36]);
    // Rows of two parts of a day come in order of time.
    let batches = Query { table: Table::Calls, ..Query::default() }.run(dir.path()).unwrap();
    let starts: Vec<String> = batches
        .flat_map(|batch| rows::cells(&batch.unwrap(), &["start"]).collect::<Vec<_>>())
        .flatten()
        .collect();
    assert!(starts.is_sorted() && starts.len() == 12);
}

#[test]
fn a_full_buffer_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::with_buffer(dir.path(), 4).unwrap();
    for n in [5, 1, 3, 2, 4, 6, 1, 2, 5, 7] {
        catalog.call(&call(n)).unwrap();
    }
    assert_eq!(count(dir.path(), Table::Calls), 6);
    catalog.flush().unwrap();
    assert_eq!(count(dir.path(), Table::Calls), 7);
    let parts = contents(dir.path());
    assert_eq!(parts.len(), 3);
    let name = parts.keys().next().unwrap().to_str().unwrap();
    assert!(name.contains("/catalog/calls/day=2023-11-14/part-") && name.ends_with(".parquet"), "{name}");
}

#[test]
fn thousands_of_rows_come_in_the_order_of_time() {
    const ROWS: u64 = 3000;
    let dirs = [1, 1811].map(|step| {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(dir.path()).unwrap();
        (0..ROWS).for_each(|n| catalog.call(&call(n * step % ROWS)).unwrap());
        catalog.flush().unwrap();
        dir
    });
    let [parts, others] = dirs.each_ref().map(|dir| relative(dir.path()));
    assert!(parts == others && parts.len() == 1, "the two parts differ");
    let batches = Query { table: Table::Calls, ..Query::default() }.run(dirs[1].path()).unwrap();
    let rows = batches.flat_map(|batch| {
        rows::cells(&batch.unwrap(), &["call_id", "from_user", "session"]).collect::<Vec<_>>()
    });
    let expected = (0..ROWS).map(call).map(|row| vec![row.call_id, row.from.user, String::new()]);
    assert!(rows.eq(expected));
}

#[test]
fn an_archive_without_calls() {
    let dir = tempfile::tempdir().unwrap();
    Archive::create(dir.path()).unwrap().flush().unwrap();
    assert_eq!(count(dir.path(), Table::Recordings), 0);
}

#[test]
#[ignore = "needs python3 with duckdb and pyarrow"]
fn other_programs_read_it() {
    let dir = tempfile::tempdir().unwrap();
    replay(dir.path(), 0..12);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readable.py");
    let output = Command::new("python3").arg(script).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counts = "calls 12\nrecordings 12\nstreams 12\nevents 24\nquality 36\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), counts);
}
