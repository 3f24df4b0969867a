//! What a process leaves that is killed at any moment, and what the next one makes of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod examples;

use std::fs;
use std::io::Read;
use std::path::Path;

use examples::{at, call, recording};
use sha2::{Digest, Sha256};
use spantape_core::codec::Codec;
use spantape_core::event::{Part, Signal, Signalled};
use spantape_core::media::TapeId;
use spantape_core::record::{EndReason, Id, RecordingRow, Side};
use spantape_core::rtp::Undecoded;
use spantape_store::encrypt::{self, Identities, Recipients};
use spantape_store::repack::{Order, compact};
use spantape_store::seal::verify;
use spantape_store::utc::Day;
use spantape_store::{Archive, ArchiveOptions, Query, Saved, SpoolOptions, Table, rows};
use tempfile::TempDir;

const TAPE: TapeId = TapeId(1);

fn live() -> ArchiveOptions {
    ArchiveOptions::default()
}

/// A copy of an archive as it is on the disk in this moment, as if the process that writes to it had been killed.
fn killed(archive: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(archive, dir.path());
    dir
}

fn samples(path: &Path) -> Vec<i16> {
    hound::WavReader::open(path).unwrap().samples::<i16>().map(|sample| sample.unwrap()).collect()
}

/// Values of a column of all rows.
fn column(archive: &Path, table: Table, name: &str) -> Vec<String> {
    let found = Query { table, ..Query::default() }.run(archive).unwrap();
    let cells = found.flat_map(|batch| rows::cells(&batch.unwrap(), &[name]).collect::<Vec<_>>());
    cells.map(|mut row| row.remove(0)).collect()
}

fn row() -> RecordingRow {
    RecordingRow { frames: 0, sample_rate: 8000, ..recording(1) }
}

fn goes_on(start: u64) -> Part {
    Part { range: start..Part::OPEN, left_out: Vec::new(), row: row() }
}

#[test]
fn a_recording_in_the_middle_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[1, 2, 3, 4, 5, 6]).unwrap();
    archive.keep(TAPE, vec![goes_on(1)]).unwrap();
    archive.write(TAPE, &[7, 8]).unwrap();

    let left = killed(dir.path());
    let next = Archive::create_with(left.path(), live()).unwrap();
    let [(row, saved)] = &next.recovered().recordings[..] else { panic!("{:?}", next.recovered()) };
    assert_eq!((row.end_reason, row.frames), (EndReason::Interrupted, 3));
    assert_ne!(row.id, recording(1).id, "the whole one has a name of its own");
    assert_eq!(samples(&left.path().join(&saved.file)), [3, 4, 5, 6, 7, 8]);
    assert_eq!(column(left.path(), Table::Recordings, "end_reason"), ["interrupted"]);
    assert_eq!(fs::read_dir(left.path().join("spool")).unwrap().count(), 2, "a lock and a log");
    drop(next);
    // Once only.
    let again = Archive::create_with(left.path(), live()).unwrap();
    assert!(again.recovered().is_empty());
    assert_eq!(column(left.path(), Table::Recordings, "end_reason"), ["interrupted"]);
}

#[test]
fn what_nobody_has_asked_for_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[1, 2, 3, 4]).unwrap();
    let left = killed(dir.path());
    let next = Archive::create_with(left.path(), live()).unwrap();
    assert!(next.recovered().is_empty(), "{:?}", next.recovered());
    assert_eq!(fs::read_dir(left.path().join("spool")).unwrap().count(), 2);
}

/// Killed after the log has heard of it, and before or after it has gone.
#[test]
fn what_must_not_be_kept_is_erased_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[1, 2, 3, 4, 5, 6]).unwrap();
    archive.keep(TAPE, vec![goes_on(0)]).unwrap();
    let tape = fs::read(dir.path().join("spool/1.part")).unwrap();
    archive.erase(TAPE, 1..100).unwrap();
    let before = killed(dir.path());
    fs::write(before.path().join("spool/1.part"), tape).unwrap();
    // What comes later is kept.
    archive.write(TAPE, &[7, 8]).unwrap();
    let after = killed(dir.path());
    for (left, expected) in [(before, &[1, 2, 0, 0, 0, 0][..]), (after, &[1, 2, 0, 0, 0, 0, 7, 8][..])] {
        let next = Archive::create_with(left.path(), live()).unwrap();
        let [(_, saved)] = &next.recovered().recordings[..] else { panic!("{:?}", next.recovered()) };
        assert_eq!(samples(&left.path().join(&saved.file)), expected);
    }
}

#[test]
fn a_replay_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let repeatable = || ArchiveOptions { repeatable: true, ..live() };
    let mut archive = Archive::create_with(dir.path(), repeatable()).unwrap();
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[1, 2, 3, 4]).unwrap();
    archive.keep(TAPE, vec![goes_on(0)]).unwrap();
    let left = killed(dir.path());
    let next = Archive::create_with(left.path(), repeatable()).unwrap();
    assert_eq!((next.recovered().removed, next.recovered().recordings.len()), (1, 0));
    assert!(!left.path().join("recordings").exists());
}

/// Whatever has been written when the process is killed, a recording that was told of is there, and its row.
#[test]
fn killed_between_any_two_steps() {
    let whole = RecordingRow { frames: 2, ..recording(1) };
    let steps: &[fn(&mut Archive, &RecordingRow)] = &[
        |archive, _| archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap(),
        |archive, _| archive.write(TAPE, &[1, 2, 3, 4]).unwrap(),
        |archive, row| {
            let part = Part { range: 0..2, left_out: Vec::new(), row: row.clone() };
            archive.keep(TAPE, vec![part]).unwrap();
        },
        |archive, row| assert!(archive.cut(TAPE, 0..2, &[], row, true).unwrap().is_some()),
        |archive, _| archive.close(TAPE).unwrap(),
        |archive, _| archive.call(&call(1)).unwrap(),
        |archive, _| archive.write_log().unwrap(),
        |archive, _| archive.flush().unwrap(),
    ];
    for done in 0..=steps.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::create_with(dir.path(), live()).unwrap();
        steps[..done].iter().for_each(|step| step(&mut archive, &whole));
        let left = killed(dir.path());
        drop(Archive::create_with(left.path(), live()).unwrap());
        let ids = column(left.path(), Table::Recordings, "recording_id");
        let wanted = if done >= 3 { vec![whole.id.to_string()] } else { vec![] };
        assert_eq!(ids, wanted, "after {done} steps");
        for file in column(left.path(), Table::Recordings, "file") {
            assert_eq!(samples(&left.path().join(file)), [1, 2, 3, 4], "after {done} steps");
        }
        assert_eq!(column(left.path(), Table::Calls, "call_uid").len(), usize::from(done >= 7), "{done}");
    }
}

/// The log may end anywhere, and so may what is on the tape.
#[test]
fn cut_off_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[1, 2, 3, 4]).unwrap();
    archive.keep(TAPE, vec![goes_on(0)]).unwrap();
    archive.call(&call(1)).unwrap();
    archive.write_log().unwrap();
    let (log, tape) = ("spool/log", "spool/1.part");
    let length = |file: &str| fs::metadata(dir.path().join(file)).unwrap().len();
    let cuts = (0..length(log)).step_by(7).map(|end| (log, end));
    for (file, end) in cuts.chain((2040..length(tape)).map(|end| (tape, end))) {
        let left = killed(dir.path());
        fs::File::options().write(true).open(left.path().join(file)).unwrap().set_len(end).unwrap();
        let next = Archive::create_with(left.path(), live()).unwrap();
        assert_eq!(next.recovered().damaged, 0, "{file} {end}");
        for (row, saved) in &next.recovered().recordings {
            let kept = samples(&left.path().join(&saved.file));
            assert_eq!(kept, [1, 2, 3, 4][..kept.len()]);
            assert_eq!(row.frames as usize * 2, kept.len());
        }
        let audio = next.recovered().recordings.len() + next.left().len();
        if file == tape && end > 2048 + 4 {
            assert_eq!(audio, 1, "{file} {end}");
        }
    }
}

#[test]
fn calls_that_are_up_are_known_to_the_next_process() {
    let signal = |n: u64, text: &str| {
        let source = ([192, 0, 2, 9], 5060).into();
        let destination = ([192, 0, 2, 10], 5060).into();
        Signal { at: at(n), what: Signalled::Message { source, destination, text: text.to_owned() } }
    };
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    let (over, up) = (call(1).id, Id([9; 16]));
    archive.signal(over, signal(1, "INVITE")).unwrap();
    archive.signal(up, signal(3, "ACK\u{ff}")).unwrap();
    archive.signal(up, signal(2, "INVITE")).unwrap();
    archive.call(&call(1)).unwrap();
    archive.write_log().unwrap();
    for flushed in [false, true] {
        if flushed {
            archive.flush().unwrap();
        }
        let left = killed(dir.path());
        let mut next = Archive::create_with(left.path(), live()).unwrap();
        assert_eq!(next.take_signals(), [signal(2, "INVITE"), signal(3, "ACK\u{ff}")], "{flushed}");
        // Until somebody goes on with them they are not lost.
        drop(next);
        let mut next = Archive::create_with(left.path(), live()).unwrap();
        assert_eq!(next.take_signals().len(), 2);
    }
}

/// A recording of two frames that is not in the catalog yet.
fn save_one(archive: &mut Archive) -> (RecordingRow, Saved) {
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[1, 2, 3, 4]).unwrap();
    let row = RecordingRow { frames: 2, ..row() };
    let saved = archive.save(TAPE, 0..2, &[], &row, true).unwrap().unwrap();
    (row, saved)
}

/// Puts another file in the place of a recording.
fn replace(archive: &Archive, saved: &Saved) -> Saved {
    let finished = archive.finished();
    let mut scratch = finished.scratch().unwrap();
    std::io::Write::write_all(&mut scratch, b"fLaC").unwrap();
    finished.complete(&finished.replace(saved, scratch, "flac").unwrap()).unwrap()
}

/// A recording becomes another file: killed before the catalog is told, it is what it was; after that, what it is now.
#[test]
fn one_of_two_files_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    let (row, saved) = save_one(&mut archive);
    archive.write_log().unwrap();
    let replaced = replace(&archive, &saved);
    assert_eq!((replaced.bytes, replaced.replaces.first()), (4, Some(&saved.file)));
    let before = killed(dir.path());
    archive.recording(&row, &replaced).unwrap();
    let after = killed(dir.path());
    archive.flush().unwrap();
    let flushed = killed(dir.path());
    for (left, file) in [(before, &saved.file), (after, &replaced.file), (flushed, &replaced.file)] {
        drop(Archive::create_with(left.path(), live()).unwrap());
        assert_eq!(column(left.path(), Table::Recordings, "file"), [file.as_str()]);
        let there = [&saved.file, &replaced.file].map(|file| left.path().join(file).exists());
        assert_eq!(there, [*file == saved.file, *file == replaced.file]);
        // And a replay of the same capture leaves it at that.
        let mut archive = Archive::create_with(left.path(), live()).unwrap();
        assert_eq!(save_one(&mut archive).1.file, *file);
    }
}

/// The same before the log has heard of the recording, as its tape goes on.
#[test]
fn one_of_two_files_is_left_where_the_log_knows_neither() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[1, 2, 3, 4]).unwrap();
    let row = RecordingRow { frames: 2, ..row() };
    archive.keep(TAPE, vec![Part { range: 0..2, left_out: Vec::new(), row: row.clone() }]).unwrap();
    let saved = archive.save(TAPE, 0..2, &[], &row, false).unwrap().unwrap();
    let replaced = replace(&archive, &saved);
    let left = killed(dir.path());
    assert!(left.path().join(&replaced.file).exists());
    drop(Archive::create_with(left.path(), live()).unwrap());
    assert_eq!(column(left.path(), Table::Recordings, "file"), [saved.file.as_str()]);
    assert!(!left.path().join(&replaced.file).exists(), "a file is left that belongs to no row");
}

/// With a recording something is still done when the catalog is written: it stays in the log until its row comes.
#[test]
fn a_recording_that_is_still_worked_on_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    let (row, saved) = save_one(&mut archive);
    archive.close(TAPE).unwrap();
    archive.flush().unwrap();
    let before = killed(dir.path());
    archive.recording(&row, &saved).unwrap();
    archive.flush().unwrap();
    let after = killed(dir.path());
    for left in [before, after] {
        drop(Archive::create_with(left.path(), live()).unwrap());
        assert_eq!(column(left.path(), Table::Recordings, "file"), [saved.file.as_str()]);
        assert_eq!(column(left.path(), Table::Recordings, "sha256")[0].len(), 64);
        let report = verify(left.path(), None, |_| {}).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

#[test]
fn what_was_not_encrypted_yet_is_when_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let identity = age::x25519::Identity::generate();
    let mut recipients = Recipients::default();
    recipients.add(&identity.to_public().to_string()).unwrap();
    let options = || {
        let spool = SpoolOptions { recipients: recipients.clone(), ..SpoolOptions::default() };
        ArchiveOptions { spool, ..ArchiveOptions::default() }
    };
    let mut archive = Archive::create_with(dir.path(), options()).unwrap();
    // One that is finished and waits to be encrypted, and one that is going on.
    let row = RecordingRow { frames: 100, ..recording(1) };
    archive.open_tape(TapeId(1), 8000, 2, (0, 1)).unwrap();
    archive.write(TapeId(1), &[7; 200]).unwrap();
    assert!(archive.save(TapeId(1), 0..100, &[], &row, true).unwrap().unwrap().file.ends_with(".wav"));
    let part = Part { range: 0..Part::OPEN, left_out: Vec::new(), row: recording(2) };
    archive.open_tape(TapeId(2), 8000, 2, (0, 1)).unwrap();
    archive.keep(TapeId(2), vec![part]).unwrap();
    archive.write(TapeId(2), &[9; 200]).unwrap();
    archive.write_log().unwrap();
    drop(archive);

    drop(Archive::create_with(dir.path(), options()).unwrap());
    let rows = Query::default().run(dir.path()).unwrap();
    let rows: Vec<_> = rows.flat_map(|batch| rows::objects(&batch.unwrap()).collect::<Vec<_>>()).collect();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let text = |column: &str| row[column].as_str().unwrap().to_owned();
        let (file, key) = (text("file"), text("key"));
        assert!(file.ends_with(".wav.age"), "{file}");
        assert!(!dir.path().join(file.strip_suffix(".age").unwrap()).exists());
        let path = dir.path().join("identity");
        fs::write(&path, age::secrecy::ExposeSecret::expose_secret(&identity.to_string())).unwrap();
        let identities = Identities::read(&path).unwrap();
        let mut clear = Vec::new();
        encrypt::open(dir.path(), &file, &key, Some(&identities)).unwrap().read_to_end(&mut clear).unwrap();
        let hash = Sha256::digest(&clear).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(text("content_sha256"), hash);
        assert!(clear.ends_with(&[7, 0]) || clear.ends_with(&[9, 0]));
    }
}

/// A recording that cannot be made at first is made with the next flush, and after it nothing is left to do.
#[test]
fn a_recording_that_is_held_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    let row = RecordingRow { frames: 3, ..row() };
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[1, 2, 3, 4]).unwrap();
    archive.keep(TAPE, vec![Part { range: 0..3, left_out: Vec::new(), row: row.clone() }]).unwrap();
    // A file is where there should be a directory.
    fs::write(dir.path().join("recordings"), "").unwrap();
    assert!(archive.cut(TAPE, 0..3, &[], &row, true).unwrap().is_none());
    archive.close(TAPE).unwrap();
    archive.call(&call(1)).unwrap();
    archive.flush().unwrap();
    assert_eq!(column(dir.path(), Table::Calls, "call_uid").len(), 1, "it holds up the catalog");
    fs::remove_file(dir.path().join("recordings")).unwrap();
    archive.flush().unwrap();
    assert_eq!(column(dir.path(), Table::Recordings, "end_reason"), ["bye"]);
    let file = column(dir.path(), Table::Recordings, "file").remove(0);
    assert_eq!(samples(&dir.path().join(file)), [1, 2, 3, 4, 0, 0], "behind the tape's end there is silence");
    drop(archive);
    let next = Archive::create_with(dir.path(), live()).unwrap();
    assert!(next.recovered().is_empty(), "{:?}", next.recovered());
    assert_eq!(fs::read_dir(dir.path().join("spool")).unwrap().count(), 2, "a lock and a log");
}

/// Parts of the catalog that were not finished are removed by whoever would have finished them, and by nobody else.
#[test]
fn parts_that_were_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    archive.call(&call(1)).unwrap();
    archive.write_log().unwrap();
    let left = killed(dir.path());
    let day = left.path().join("catalog/calls/day=2023-11-14");
    fs::create_dir_all(day.join("node=north")).unwrap();
    let names = [".part-1a2b3c.tmp", ".repack-1a2b3c.tmp", "node=north/.part-1a2b3c.tmp"];
    names.iter().for_each(|name| fs::write(day.join(name), "PAR1").unwrap());
    let are_there = || names.map(|name| day.join(name).exists());
    drop(Archive::create_with(left.path(), live()).unwrap());
    assert_eq!(are_there(), [false, true, true]);
    let order = Order { at: String::new(), by: String::new(), reason: String::new() };
    compact(left.path(), Day::of(at(0)), &order, |_, _| {}).unwrap();
    assert_eq!(are_there(), [false, false, true]);
}

/// Decoded by another program, and killed before the catalog was told: the row is of the file that is there.
#[test]
fn a_recording_that_was_decoded_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), live()).unwrap();
    let row = RecordingRow { frames: 2, ..row() };
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    let packet = Undecoded {
        is_heard: false,
        codec: Codec::from_static(18),
        secure: false,
        at: 0,
        place: 0,
        length: 0,
        packet: vec![0x80, 18, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3],
    };
    let address = ([192, 0, 2, 9], 4000).into();
    for _ in 0..8 {
        archive.packet(TAPE, Side::Caller, (address, address), &packet).unwrap();
    }
    archive.write(TAPE, &[1, 2, 3, 4]).unwrap();
    let mut saved = archive.save(TAPE, 0..2, &[], &row, true).unwrap().unwrap();
    assert!(saved.rtpdump[0].is_some());
    archive.write_log().unwrap();
    let finished = archive.finished();
    let mut scratch = finished.scratch().unwrap();
    std::io::Write::write_all(&mut scratch, b"decoded").unwrap();
    finished.replace(&saved, scratch, "wav").unwrap();
    finished.remove_rtpdump(&mut saved, 0).unwrap();
    drop(archive);
    drop(Archive::create_with(dir.path(), live()).unwrap());
    let report = verify(dir.path(), None, |_| {}).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(
        (report.rows, column(dir.path(), Table::Recordings, "caller_rtpdump").remove(0)),
        (1, String::new())
    );
}

/// Killed when the catalog has the encrypted recording, and the one in clear is still there.
#[test]
fn what_the_catalog_has_is_not_encrypted_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = Archive::create_with(dir.path(), for_somebody()).unwrap();
    let row = RecordingRow { frames: 100, ..recording(1) };
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[7; 200]).unwrap();
    let saved = archive.save(TAPE, 0..100, &[], &row, true).unwrap().unwrap();
    archive.write_log().unwrap();
    drop(archive);
    let clear = fs::read(dir.path().join(&saved.file)).unwrap();
    let log = dir.path().join("spool/log");
    let before = fs::read(&log).unwrap();
    drop(Archive::create_with(dir.path(), for_somebody()).unwrap());
    // As it is between the catalog's flush and the removal: the log has been added to, and not begun anew.
    let file = column(dir.path(), Table::Recordings, "file").remove(0);
    let row = Query::default().run(dir.path()).unwrap().next().unwrap().unwrap();
    let mut row = rows::objects(&row).next().unwrap();
    row.insert("start".to_owned(), (at(1).0 / 1000).into());
    row.insert("ended".to_owned(), (at(1).0 / 1000).into());
    let added = serde_json::json!({"row": {"table": "recordings", "row": row}});
    fs::write(&log, [&before[..], added.to_string().as_bytes(), b"\n"].concat()).unwrap();
    fs::write(dir.path().join(&saved.file), clear).unwrap();
    drop(Archive::create_with(dir.path(), for_somebody()).unwrap());
    assert_eq!(column(dir.path(), Table::Recordings, "file"), [file]);
    assert!(!dir.path().join(&saved.file).exists());
    let report = verify(dir.path(), None, |_| {}).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn what_cannot_be_encrypted_waits() {
    let dir = tempfile::tempdir().unwrap();
    // A file is where there should be a directory.
    fs::write(dir.path().join("keys"), "").unwrap();
    let mut archive = Archive::create_with(dir.path(), for_somebody()).unwrap();
    let row = RecordingRow { frames: 100, ..recording(1) };
    archive.open_tape(TAPE, 8000, 2, (0, 1)).unwrap();
    archive.write(TAPE, &[7; 200]).unwrap();
    archive.cut(TAPE, 0..100, &[], &row, true).unwrap();
    archive.flush().unwrap();
    assert!(column(dir.path(), Table::Recordings, "file").is_empty());
    assert!(archive.shortage().failures > 0);
    let killed = killed(dir.path());
    for (path, mut archive) in [(dir.path(), Some(archive)), (killed.path(), None)] {
        fs::remove_file(path.join("keys")).unwrap();
        match &mut archive {
            Some(archive) => archive.flush().unwrap(),
            None => drop(Archive::create_with(path, for_somebody()).unwrap()),
        }
        let files = column(path, Table::Recordings, "file");
        assert!(files.len() == 1 && files[0].ends_with(".wav.age"), "{files:?}");
        assert!(!path.join(files[0].strip_suffix(".age").unwrap()).exists());
    }
}

/// Recordings are encrypted, always for the same one.
fn for_somebody() -> ArchiveOptions {
    let mut recipients = Recipients::default();
    recipients.add("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p").unwrap();
    let spool = SpoolOptions { recipients, ..SpoolOptions::default() };
    ArchiveOptions { spool, ..ArchiveOptions::default() }
}
