//! Whatever is done to a sealed archive is noticed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod examples;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use examples::{call, event, id, recording};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use spantape_core::media::TapeId;
use spantape_core::record::RecordingRow;
use spantape_store::journal::{self, Access, Book, Deletion};
use spantape_store::seal::{
    Entry, Finding, PublicKey, Report, Row, SecretKey, attach_time_stamp, manifest_files, prove, seal,
    time_stamp_request, verify, verify_export,
};
use spantape_store::{Archive, ArchiveOptions, Query, SpoolOptions, Table, rows};
use tempfile::TempDir;

struct Scene {
    dir: TempDir,
    key: SecretKey,
    public: PublicKey,
}

impl Scene {
    /// An archive with two recordings, each sealed on a day of its own.
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let (key, path) = SecretKey::generate(&dir.path().join("key")).unwrap();
        let scene = Scene { public: PublicKey::read(&path).unwrap(), key, dir };
        assert_eq!(scene.public, scene.key.public());
        for day in 1..=2 {
            scene.record(day);
            let sealed = scene.seal(day).unwrap();
            assert_eq!(sealed.manifest.number, day);
        }
        scene
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    fn record(&self, n: u64) {
        let spool = SpoolOptions { sha256: true, ..SpoolOptions::default() };
        let options = ArchiveOptions { spool, ..ArchiveOptions::default() };
        let mut archive = Archive::create_with(&self.archive(), options).unwrap();
        let row = RecordingRow { frames: 100, ..recording(n) };
        archive.open_tape(TapeId(1), 8000, 2, (0, 1)).unwrap();
        archive.write(TapeId(1), &[n as i16; 200]).unwrap();
        archive.cut(TapeId(1), 0..100, &[], &row, true).unwrap();
        archive.call(&call(n)).unwrap();
        archive.flush().unwrap();
    }

    fn seal(&self, day: u64) -> Option<spantape_store::seal::Sealed> {
        seal(&self.archive(), &self.key, &format!("2026-11-{day:02}T00:00:00Z")).unwrap()
    }

    fn verify(&self) -> Report {
        verify(self.archive(), Some(&self.public), |_| {}).unwrap()
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    let is_sealed = |path: &Path| {
        let is_no_lock = |part: &str| part != "spool" && part != ".keeper";
        path.iter().all(|part| part.to_str().is_some_and(is_no_lock))
    };
    found.retain(|path| is_sealed(path));
    found.sort();
    found
}

#[test]
fn as_it_was() {
    let scene = Scene::new();
    let report = scene.verify();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    // Two parts of the catalog and a recording a day.
    assert_eq!((report.hashes.len(), report.files, report.rows, report.unsealed.len()), (2, 6, 2, 0));
    assert!(scene.seal(3).is_none(), "there is nothing new");
    scene.record(3);
    assert_eq!(scene.verify().unsealed.len(), 3);
}

#[test]
fn every_region_of_every_file_counts() {
    let scene = Scene::new();
    for path in files(&scene.archive()) {
        let whole = fs::read(&path).unwrap();
        let step = (whole.len() / 64).max(1);
        for at in (0..whole.len()).step_by(step) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            // The line end behind a signature means nothing.
            let means_nothing = path.extension().is_some_and(|suffix| suffix == "sig") && whole[at] == b'\n';
            let findings = scene.verify().findings;
            assert!(!findings.is_empty() || means_nothing, "{} {at}", path.display());
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(scene.verify().findings.is_empty());
}

#[test]
fn what_is_missing_is_named() {
    let scene = Scene::new();
    for path in files(&scene.archive()) {
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let report = scene.verify();
        let is_last = path.to_string_lossy().contains("000002-");
        // Without the last manifest the chain is only shorter: its hash, kept elsewhere, tells.
        assert!(!report.findings.is_empty() || is_last && report.hashes.len() == 1, "{}", path.display());
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn another_key_is_not_trusted() {
    let scene = Scene::new();
    let (other, _) = SecretKey::generate(&scene.dir.path().join("other")).unwrap();
    scene.record(3);
    seal(&scene.archive(), &other, "2026-11-03T00:00:00Z").unwrap().unwrap();
    let name = "manifests/000003-2026-11-03.json".to_owned();
    assert_eq!(scene.verify().findings, [Finding::OtherKey(name)]);
    assert!(verify(scene.archive(), None, |_| {}).unwrap().findings.is_empty());
}

#[test]
fn what_goes_after_it_was_sealed_is_never_forgotten() {
    let scene = Scene::new();
    let wav = files(&scene.archive()).into_iter().find(|path| path.extension().is_some_and(|e| e == "wav"));
    let wav = wav.unwrap();
    fs::remove_file(&wav).unwrap();
    let sealed = scene.seal(3).unwrap();
    assert_eq!((sealed.removed.len(), sealed.removed[0].reason.as_str()), (1, "unknown"));
    let findings = scene.verify().findings;
    assert!(matches!(&findings[..], [Finding::Unexplained(_), Finding::Row(_)]), "{findings:?}");
}

#[test]
fn keys_are_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    SecretKey::generate(&path).unwrap();
    assert!(SecretKey::generate(&path).is_err());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, "no key").unwrap();
    assert!(SecretKey::read(&path).is_err());
}

#[test]
fn time_stamps() {
    let scene = Scene::new();
    let (manifest, request) = time_stamp_request(&scene.archive(), None).unwrap();
    assert!(manifest.ends_with("manifests/000002-2026-11-02.json"));
    assert_eq!((request[0], usize::from(request[1])), (0x30, request.len() - 2));
    // An answer: granted, and a token that speaks of the hash.
    let hash = &request[request.len() - 3 - 32..request.len() - 3];
    let answer = |status: u8, hash: &[u8]| {
        let mut answer = vec![0x30, 7 + hash.len() as u8, 0x30, 3, 0x02, 1, status, 0x04, hash.len() as u8];
        answer.extend(hash);
        answer
    };
    assert!(attach_time_stamp(&scene.archive(), None, &answer(2, hash)).is_err());
    assert!(attach_time_stamp(&scene.archive(), None, &answer(0, &[0; 32])).is_err());
    assert!(attach_time_stamp(&scene.archive(), None, &[]).is_err());
    let kept = attach_time_stamp(&scene.archive(), None, &answer(0, hash)).unwrap();
    assert!(kept.ends_with("manifests/000002-2026-11-02.json.tsr"));
    assert!(time_stamp_request(&scene.archive(), Some(7)).is_err());
    assert!(scene.verify().findings.is_empty());
}

/// The wav of a recording, by its number.
fn wav(scene: &Scene, n: usize) -> PathBuf {
    let wavs =
        files(&scene.archive()).into_iter().filter(|path| path.extension().is_some_and(|e| e == "wav"));
    wavs.collect::<Vec<_>>().remove(n)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn said(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{finding}\n")).collect()
}

impl Scene {
    fn entry(&self, path: &Path) -> Entry {
        let bytes = fs::read(path).unwrap();
        let inside = path.strip_prefix(self.archive()).unwrap().to_str().unwrap().to_owned();
        Entry { path: inside, bytes: bytes.len() as u64, sha256: sha256(&bytes) }
    }

    fn tell(&self, files: Vec<Entry>, rows: Vec<String>) {
        let text = |text: &str| text.to_owned();
        let (at, by, reason) = (text("2026-11-30T00:00:00Z"), text("tester"), text("retention"));
        let told = Deletion { at, by, reason, recording: None, files, rows };
        journal::append(&self.archive(), &Book::Deletions, &told).unwrap();
    }

    fn look(&self, what: &str) {
        let text = |text: &str| text.to_owned();
        let access = Access { at: text("now"), by: text("root"), command: text("show"), what: text(what) };
        journal::append(&self.archive(), &Book::Access(text("2026-11-30")), &access).unwrap();
    }
}

#[test]
fn a_tombstone_is_of_one_file() {
    let scene = Scene::new();
    let path = wav(&scene, 0);
    let (entry, whole) = (scene.entry(&path), fs::read(&path).unwrap());
    fs::remove_file(&path).unwrap();
    scene.tell(vec![Entry { sha256: sha256(b"another"), ..entry.clone() }], Vec::new());
    assert!(said(&scene.verify()).contains("missing"));
    scene.tell(vec![entry], Vec::new());
    let report = scene.verify();
    assert!(report.findings.is_empty(), "{}", said(&report));
    assert_eq!(report.deleted, 1);
    assert!(report.unsealed.iter().any(|what| what.starts_with("tombstone of ")), "{:?}", report.unsealed);
    scene.seal(3).unwrap();
    let report = scene.verify();
    assert!(
        report.findings.is_empty() && report.unsealed.is_empty(),
        "{}{:?}",
        said(&report),
        report.unsealed
    );
    // It is there again, and is sealed again: that it has gone once is no reason any more.
    fs::write(&path, whole).unwrap();
    scene.seal(4).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(said(&scene.verify()).contains("missing"));
}

#[test]
fn the_journal_is_excused_by_nobody() {
    let scene = Scene::new();
    scene.look("a");
    scene.seal(3).unwrap();
    let path = scene.archive().join("journal/access-2026-11-30.jsonl");
    scene.tell(vec![scene.entry(&path)], Vec::new());
    fs::remove_file(&path).unwrap();
    assert!(said(&scene.verify()).contains("access-2026-11-30.jsonl: missing"));
}

#[test]
fn what_the_journal_said_stays() {
    let scene = Scene::new();
    let path = scene.archive().join("journal/access-2026-11-30.jsonl");
    for (day, what) in [(3, "aaa"), (4, "bbb")] {
        scene.look(what);
        scene.seal(day).unwrap();
    }
    assert!(scene.verify().findings.is_empty());
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replace("aaa", "ccc")).unwrap();
    assert!(said(&scene.verify()).contains("changed since it was sealed"));
    scene.look("ddd");
    let refused = seal(&scene.archive(), &scene.key, "2026-11-05T00:00:00Z").unwrap_err().to_string();
    assert!(refused.contains("access-2026-11-30.jsonl is not what was sealed of it"), "{refused}");
    fs::write(&path, whole).unwrap();
    scene.look("ddd");
    scene.seal(5).unwrap();
    assert!(scene.verify().findings.is_empty());
}

#[test]
fn rows_do_not_go_unless_it_is_said() {
    let scene = Scene::new();
    let part = files(&scene.archive().join("catalog/recordings")).remove(0);
    scene.tell(vec![scene.entry(&part)], Vec::new());
    fs::remove_file(&part).unwrap();
    let findings = scene.verify().findings;
    assert!(
        matches!(&findings[..], [Finding::Row(what)] if what.ends_with("its row is missing")),
        "{findings:?}"
    );
    scene.tell(Vec::new(), vec![id(1).to_string(), id(2).to_string()]);
    assert!(scene.verify().findings.is_empty());
}

#[test]
fn calls_and_events_are_sealed_row_by_row() {
    let scene = Scene::new();
    let mut archive = Archive::create(&scene.archive()).unwrap();
    archive.event(&event(1, "message")).unwrap();
    archive.flush().unwrap();
    drop(archive);
    scene.seal(3).unwrap();
    assert!(scene.verify().findings.is_empty());
    // Somebody puts another part in the place of the one that was sealed, and says that it was compacted.
    let forged = scene.dir.path().join("forged");
    let mut other = Archive::create(&forged).unwrap();
    let mut row = call(1);
    row.from.user = "4711".to_owned();
    other.call(&row).unwrap();
    other.flush().unwrap();
    drop(other);
    let part = files(&scene.archive().join("catalog/calls")).remove(0);
    let new = files(&forged.join("catalog/calls")).remove(0);
    fs::copy(new, part.with_file_name("part-0000000000000000.parquet")).unwrap();
    let report = scene.verify();
    let wanted = format!("call {}: its row is not the one that was sealed", id(1));
    assert!(said(&report).contains(&wanted), "{}", said(&report));
}

#[test]
fn what_is_not_catalogued_is_not_sealed() {
    let scene = Scene::new();
    let wav = wav(&scene, 0);
    let (beside, trace) = (wav.with_file_name("other.wav"), wav.with_extension("pcap"));
    fs::write(&beside, "RIFF").unwrap();
    assert!(scene.seal(3).is_none());
    // A capture file goes with its recording, also where that was sealed long before.
    fs::write(&trace, "pcap").unwrap();
    assert_eq!(scene.seal(3).unwrap().added, 1);
    assert_eq!(scene.verify().unsealed.len(), 1);
}

#[test]
fn where_there_is_no_archive_nothing_is_sealed_or_verified() {
    let scene = Scene::new();
    let typo = scene.dir.path().join("typo");
    assert!(seal(&typo, &scene.key, "2026-11-03T00:00:00Z").is_err() && !typo.exists());
    assert!(verify(&typo, None, |_| {}).is_err());
    fs::remove_dir_all(scene.archive().join("manifests")).unwrap();
    assert_eq!(scene.verify().findings, [Finding::Missing("manifests".to_owned())]);
    assert!(verify(scene.archive(), None, |_| {}).unwrap().findings.is_empty());
}

#[test]
fn rows_of_manifests_without_tables_are_of_recordings() {
    let row: Row = serde_json::from_str(r#"{"recording_id":"a","sha256":"b"}"#).unwrap();
    assert_eq!((row.table.as_str(), row.id.as_str(), row.sha256.as_str()), ("recordings", "a", "b"));
}

/// An export, of which every file is listed.
struct Export<'a> {
    scene: &'a Scene,
    dir: TempDir,
    rows: Vec<Map<String, Value>>,
}

impl Export<'_> {
    fn new(scene: &Scene) -> Export<'_> {
        let batches = Query { table: Table::Recordings, ..Query::default() }.run(scene.archive()).unwrap();
        let rows = batches.flat_map(|batch| rows::objects(&batch.unwrap()).collect::<Vec<_>>()).collect();
        let export = Export { scene, dir: tempfile::tempdir().unwrap(), rows };
        let out = export.dir.path();
        fs::create_dir_all(out.join("proof/manifests")).unwrap();
        for (name, bytes) in manifest_files(scene.archive()).unwrap() {
            fs::write(out.join("proof/manifests").join(name), bytes).unwrap();
        }
        let texts = |column: &str| -> HashSet<String> {
            export.rows.iter().map(|row| row[column].as_str().unwrap().to_owned()).collect()
        };
        let proofs = prove(scene.archive(), &texts("file"), &texts("recording_id")).unwrap();
        let lines: Vec<String> = proofs.iter().map(|proof| serde_json::to_string(proof).unwrap()).collect();
        fs::write(out.join("proof/proofs.jsonl"), lines.join("\n")).unwrap();
        for (n, row) in export.rows.iter().enumerate() {
            let file = scene.archive().join(row["file"].as_str().unwrap());
            fs::copy(file, out.join(format!("{n}.wav"))).unwrap();
        }
        export.as_made("archived", |line| line);
        export
    }

    /// Says how the files were made, and lists all anew.
    fn as_made(&self, how: &str, alter: impl Fn(String) -> String) {
        let line = |(n, row): (usize, &Map<String, Value>)| {
            let mut row = row.clone();
            row.insert("exported".to_owned(), json!({ "file": format!("{n}.wav"), "how": how }));
            alter(serde_json::to_string(&row).unwrap()) + "\n"
        };
        let lines: String = self.rows.iter().enumerate().map(line).collect();
        fs::write(self.dir.path().join("recordings.jsonl"), lines).unwrap();
        self.list();
    }

    fn list(&self) {
        let out = self.dir.path();
        let mut sums = String::new();
        for path in files(out) {
            let name = path.strip_prefix(out).unwrap().to_str().unwrap();
            if !name.starts_with("SHA256SUMS") && path.is_file() {
                sums.push_str(&format!("{}  {name}\n", sha256(&fs::read(&path).unwrap())));
            }
        }
        fs::write(out.join("SHA256SUMS"), sums).unwrap();
    }

    fn sign(&self, key: &SecretKey) {
        let sums = fs::read(self.dir.path().join("SHA256SUMS")).unwrap();
        let signature = format!("{} {}\n", key.sign(&sums), key.public().to_hex());
        fs::write(self.dir.path().join("SHA256SUMS.sig"), signature).unwrap();
    }

    fn verify(&self) -> Report {
        verify_export(self.dir.path(), Some(&self.scene.public), None, |_| {}).unwrap()
    }
}

#[test]
fn how_a_file_was_made_is_not_believed() {
    let scene = Scene::new();
    let export = Export::new(&scene);
    let report = export.verify();
    assert!(
        report.findings.is_empty() && report.unproved.is_empty(),
        "{}{:?}",
        said(&report),
        report.unproved
    );
    assert_eq!((report.rows, report.derived), (2, 0));
    for how in ["decoded", "decrypted", "found", "purged"] {
        export.as_made(how, |line| line);
        let report = export.verify();
        assert!(said(&report).contains("nothing proves its file 0.wav"), "{how}: {}", said(&report));
    }
    export.as_made("decoded", |line| line);
    export.sign(&scene.key);
    let report = export.verify();
    assert!(report.findings.is_empty(), "{}", said(&report));
    assert_eq!(report.derived, 2);
    let (other, _) = SecretKey::generate(&scene.dir.path().join("other")).unwrap();
    export.sign(&other);
    assert!(said(&export.verify()).contains("nothing proves its file"));
    let by_other = verify_export(export.dir.path(), Some(&scene.public), Some(&other.public()), |_| {});
    assert!(by_other.unwrap().findings.is_empty());
    // What has gone needs no file.
    fs::remove_file(export.dir.path().join("SHA256SUMS.sig")).unwrap();
    export
        .as_made("purged", |line| line.replace("\"file\":\"0.wav\",", "").replace("\"file\":\"1.wav\",", ""));
    let report = export.verify();
    assert!(report.findings.is_empty(), "{}", said(&report));
    assert_eq!(report.deleted, 2);
}

#[test]
fn of_an_export_something_must_be_proved() {
    let scene = Scene::new();
    let export = Export::new(&scene);
    let out = export.dir.path();
    fs::write(out.join("calls.jsonl"), "{}\n").unwrap();
    export.list();
    assert_eq!(export.verify().unproved, ["calls.jsonl"]);
    export.sign(&scene.key);
    assert!(export.verify().unproved.is_empty());
    fs::remove_file(out.join("SHA256SUMS.sig")).unwrap();
    // Another reader might take the first of two values.
    export.as_made("archived", |line| line.replacen('{', "{\"from_user\":\"4711\",", 1));
    assert!(said(&export.verify()).contains("a line that nobody has exported"));
    export.as_made("archived", |line| line);
    fs::write(out.join("proof/proofs.jsonl"), "").unwrap();
    export.list();
    assert!(said(&export.verify()).contains("nothing proves its row"));
    let unkeyed = verify_export(out, None, None, |_| {}).unwrap();
    assert!(unkeyed.findings.is_empty() && unkeyed.unsealed.len() == 2, "{}", said(&unkeyed));
    fs::remove_file(out.join("recordings.jsonl")).unwrap();
    export.list();
    assert!(export.verify().findings.contains(&Finding::Missing("recordings.jsonl".to_owned())));
}

#[test]
fn what_no_export_has_is_found() {
    let scene = Scene::new();
    let export = Export::new(&scene);
    let out = export.dir.path();
    std::os::unix::fs::symlink("/dev/zero", out.join("zero.wav")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", out.join("proof/manifests/000003-2026-11-03.json")).unwrap();
    assert!(said(&export.verify()).contains("zero.wav: is no file that an export has"));
    fs::remove_file(out.join("zero.wav")).unwrap();
    fs::remove_file(out.join("proof/manifests/000003-2026-11-03.json")).unwrap();
    assert!(export.verify().findings.is_empty());
    fs::write(out.join("manifest-sha256.txt"), "").unwrap();
    export.list();
    assert!(said(&export.verify()).contains("beside the lists of a bag"));
}
