//! An archive that is copied to an object store, and read there.

#![cfg(feature = "remote")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod examples;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use examples::{at, call, event, id, recording, stream};
use object_store::memory::InMemory;
use serde_json::{Map, Value};
use spantape_core::media::TapeId;
use spantape_core::record::{EventRow, RecordingRow, StreamRow};
use spantape_store::copy::{Copied, Copier};
use spantape_store::repack::{Order, compact};
use spantape_store::retention::{Wanted, plan, purge};
use spantape_store::seal::{Report, SecretKey, seal, verify};
use spantape_store::utc::Day;
use spantape_store::{
    Archive, ArchiveOptions, Error, Place, Query, Remote, SpoolOptions, Table, check_archive, rows,
};
use tempfile::TempDir;

const DAY: u64 = 86_400;

/// A call of each of these seconds, flushed by itself, by `node`.
fn record(archive: &Path, seconds: &[u64], node: Option<&str>) {
    let spool = SpoolOptions { node: node.map(str::to_owned), sha256: true, ..SpoolOptions::default() };
    let options = ArchiveOptions { spool, ..ArchiveOptions::default() };
    let mut archive = Archive::create_with(archive, options).unwrap();
    for &n in seconds {
        let row = RecordingRow { call: id(n), frames: 100, end: at(n + 5), ..recording(n) };
        archive.open_tape(TapeId(n), 8000, 2, (0, 1)).unwrap();
        archive.write(TapeId(n), &[n as i16; 200]).unwrap();
        archive.cut(TapeId(n), 0..100, &[], &row, true).unwrap();
        archive.stream(&StreamRow { call: id(n), ..stream(n) }).unwrap();
        archive.event(&EventRow { call: id(n), ..event(n, "message") }).unwrap();
        archive.call(&call(n)).unwrap();
        archive.flush().unwrap();
    }
}

struct Scene {
    dir: TempDir,
    archive: PathBuf,
    key: SecretKey,
    sealed: Cell<u32>,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let (key, _) = SecretKey::generate(&dir.path().join("key")).unwrap();
        Scene { archive: dir.path().join("archive"), dir, key, sealed: Cell::new(0) }
    }

    fn seal(&self) {
        self.sealed.set(self.sealed.get() + 1);
        let now = format!("2026-12-{:02}T00:00:00Z", self.sealed.get());
        seal(&self.archive, &self.key, &now).unwrap().unwrap();
    }

    fn verify(&self, place: &Place) -> Report {
        let report = verify(place, Some(&self.key.public()), |_| {}).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        report
    }

    /// Where it can be copied to, and what that has.
    fn target(&self) -> (Remote, PathBuf) {
        let path = self.dir.path().join("there");
        (Remote::open(&format!("file://{}/", path.display())).unwrap(), path)
    }
}

fn memory() -> Remote {
    Remote::over(Arc::new(InMemory::new()), "memory://calls").unwrap()
}

fn copy(archive: &Path, to: &Remote) -> Copied {
    Copier::new(archive, to.clone(), None).unwrap().round(|_| {}).unwrap()
}

fn all(place: impl Into<Place>, query: &Query) -> Vec<Map<String, Value>> {
    let batches = query.run(place).unwrap();
    batches.flat_map(|batch| rows::objects(&batch.unwrap()).collect::<Vec<_>>()).collect()
}

fn tables() -> impl Iterator<Item = Query> {
    Table::ALL.into_iter().map(|table| Query { table, ..Query::default() })
}

/// What a directory has, but for the spool and names that begin with a dot.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if name != "spool" {
                    open.push(path);
                }
            } else if !name.starts_with('.') {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn order(reason: &str) -> Order {
    Order { at: "2026-12-01T00:00:00Z".to_owned(), by: "tester".to_owned(), reason: reason.to_owned() }
}

#[test]
fn what_is_there_is_what_is_here() {
    let scene = Scene::new();
    record(&scene.archive, &[1, 2, DAY + 1], None);
    scene.seal();
    for remote in [memory(), scene.target().0] {
        let place = Place::Remote(remote.clone());
        assert!(check_archive(&place).unwrap_err().to_string().contains("nothing below `catalog/`"));
        // A recording and four parts of a call, a manifest with its signature and its list.
        let copied = copy(&scene.archive, &remote);
        assert_eq!((copied.files, copied.removed, copied.problems.len()), (18, 0, 0));
        check_archive(&place).unwrap();
        for query in tables() {
            assert_eq!(all(&place, &query), all(&scene.archive, &query), "{}", query.table);
        }
        let one = Query { recording: Some(id(2).to_string()), ..Query::default() };
        let found = all(&place, &one);
        assert_eq!(found.len(), 1);
        let file = found[0]["file"].as_str().unwrap();
        let mut bytes = Vec::new();
        place.file(file).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, fs::read(scene.archive.join(file)).unwrap());
        let of_party = Query { table: Table::Events, party: Some("1009".to_owned()), ..Query::default() };
        assert_eq!(all(&place, &Query { limit: Some(2), ..of_party }).len(), 2);
        let (here, there) = (scene.verify(&Place::from(&scene.archive)), scene.verify(&place));
        assert_eq!((here.files, here.bytes, here.rows), (there.files, there.bytes, there.rows));
    }
}

#[test]
fn only_what_is_new() {
    let scene = Scene::new();
    let (remote, there) = scene.target();
    record(&scene.archive, &[1, 2], None);
    // No part and no manifest names it.
    let unfinished = scene.archive.join("recordings/2023/11/14/unfinished.wav");
    fs::write(&unfinished, "RIFF").unwrap();
    let mut copier = Copier::new(&scene.archive, remote.clone(), None).unwrap();
    assert_eq!(copier.round(|_| {}).unwrap().files, 10);
    assert_eq!(copier.round(|_| {}).unwrap(), Copied::default());
    record(&scene.archive, &[3], None);
    assert_eq!(copier.round(|_| {}).unwrap().files, 5);
    assert_eq!(copy(&scene.archive, &remote), Copied::default());
    fs::remove_file(&unfinished).unwrap();
    assert_eq!(files(&there), files(&scene.archive));
    // Nor is it sealed.
    fs::write(&unfinished, "RIFF").unwrap();
    scene.seal();
    assert_eq!(copier.round(|_| {}).unwrap().files, 3);
    fs::remove_file(&unfinished).unwrap();
    assert_eq!(files(&there), files(&scene.archive));
}

#[test]
fn what_was_interrupted_or_altered() {
    let scene = Scene::new();
    let (remote, there) = scene.target();
    record(&scene.archive, &[1, 2, 3], None);
    scene.seal();
    copy(&scene.archive, &remote);
    let whole = files(&there);
    // Without its part a recording is looked for, with it it is taken to be there.
    let wav = whole.keys().find(|name| name.extension().is_some_and(|end| end == "wav")).unwrap();
    fs::remove_file(there.join(wav)).unwrap();
    assert_eq!(copy(&scene.archive, &remote).files, 0);
    fs::remove_dir_all(there.join("catalog/recordings")).unwrap();
    assert_eq!(copy(&scene.archive, &remote).files, 4);
    assert_eq!(files(&there), whole);

    let check = || {
        let copier = Copier::new(&scene.archive, remote.clone(), None).unwrap();
        let copied = copier.checking().round(|_| {}).unwrap();
        (copied.files, copied.checked)
    };
    // Recordings are named by parts and by the manifest.
    let (none, checked) = check();
    assert!(none == 0 && checked >= whole.len() as u64, "{none} {checked}");
    fs::write(there.join(wav), vec![0; whole[wav].len()]).unwrap();
    assert_eq!(check().0, 1);
    assert_eq!(files(&there), whole);
}

#[test]
fn what_goes_here_goes_there() {
    let scene = Scene::new();
    let (remote, there) = scene.target();
    record(&scene.archive, &[1, 2, 3], None);
    scene.seal();
    let mut copier = Copier::new(&scene.archive, remote.clone(), None).unwrap();
    copier.round(|_| {}).unwrap();
    compact(&scene.archive, Day::of(at(2 * DAY)), &order("compaction"), |_, _| {}).unwrap();
    // Four parts for twelve, and the journal.
    let copied = copier.round(|_| {}).unwrap();
    assert_eq!((copied.files, copied.removed), (5, 12));
    assert_eq!(files(&there), files(&scene.archive));

    let query = Query { recording: Some(id(2).to_string()), ..Query::default() };
    let doomed = plan(&scene.archive, &Wanted::Found(Box::new(query)), false).unwrap();
    purge(&scene.archive, &doomed, &order("erasure"), || {}).unwrap();
    scene.seal();
    let copied = copy(&scene.archive, &remote);
    assert_eq!((copied.files, copied.removed), (4, 1));
    assert_eq!(files(&there), files(&scene.archive));
    let report = scene.verify(&Place::Remote(remote));
    assert_eq!((report.rows, report.deleted), (2, 1));
}

#[test]
fn several_archives_in_one_place() {
    let (north, south) = (Scene::new(), Scene::new());
    record(&north.archive, &[1, 2], Some("north"));
    record(&south.archive, &[3, DAY], Some("south"));
    for scene in [&north, &south] {
        compact(&scene.archive, Day::of(at(2 * DAY)), &order("compaction"), |_, _| {}).unwrap();
        scene.seal();
    }
    // Under one name their manifests, and the journals, would take the place of each other.
    let remote = memory();
    copy(&north.archive, &remote);
    let other = Copier::new(&south.archive, remote, None).unwrap().round(|_| {}).unwrap_err();
    assert!(matches!(&other, Error::OtherArchive { .. }), "{other}");

    let remote = memory();
    for (scene, node) in [(&north, "north"), (&south, "south")] {
        let mut copier = Copier::new(&scene.archive, remote.clone(), Some(node.to_owned())).unwrap();
        copier.round(|_| {}).unwrap();
        assert_eq!(copier.round(|_| {}).unwrap(), Copied::default());
    }
    let place = Place::Remote(remote);
    for query in tables() {
        let both = [&north.archive, &south.archive].map(|archive| all(archive, &query).len());
        assert_eq!(all(&place, &query).len(), both[0] + both[1], "{}", query.table);
    }
    let report = verify(&place, None, |_| {}).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.hashes.len(), report.keys.len(), report.rows, report.unsealed.len()), (2, 2, 4, 0));
}
