//! Whatever is done to a sealed archive is noticed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod examples;

use std::fs;
use std::path::{Path, PathBuf};

use examples::{call, recording};
use spantape_core::media::TapeId;
use spantape_core::record::RecordingRow;
use spantape_store::seal::{
    Finding, PublicKey, Report, SecretKey, attach_time_stamp, seal, time_stamp_request, verify,
};
use spantape_store::{Archive, ArchiveOptions, SpoolOptions};
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
        verify(&self.archive(), Some(&self.public), |_| {}).unwrap()
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
    assert!(verify(&scene.archive(), None, |_| {}).unwrap().findings.is_empty());
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
