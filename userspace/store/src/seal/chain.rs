//! Sealing: one manifest more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::tree::{Proof, Tree};
use super::{Change, Entry, Manifest, Removal, Row, SecretKey, files, grows, hash_as_far_as, hash_of};
use crate::error::{Error, Result, io};
use crate::journal::{self, Book, Deletion};
use crate::place::{Place, file_name};
use crate::{keeper, partition, repack, rows, scan, spool};

/// What a manifest has sealed.
#[derive(Debug)]
pub struct Sealed {
    /// Where it lies.
    pub path: PathBuf,
    /// It.
    pub manifest: Manifest,
    /// Files that have come.
    pub added: u64,
    /// Files that have gone.
    pub removed: Vec<Removal>,
    /// SHA-256 of its bytes in hex: who has this, by any other way, can prove all that was sealed until now.
    pub hash: String,
}

/// A manifest as it was found.
pub(super) struct Link {
    place: Place,
    /// Its file, within that place.
    file: String,
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// `None`: it is none that can be read.
    pub(super) manifest: Option<Manifest>,
    pub(super) signature: Option<String>,
}

impl Link {
    /// The lines of its list of changes; `None` if that is not the list that it was made for.
    pub(super) fn changes(&self) -> Result<Option<Vec<String>>> {
        let Some(manifest) = &self.manifest else { return Ok(None) };
        let text = self.place.read_one(&changes_name(&self.file))?;
        let Some(text) = text.and_then(|text| String::from_utf8(text).ok()) else { return Ok(None) };
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let root = Tree::of(lines.iter().map(String::as_str)).root();
        Ok((lines.len() as u64 == manifest.changes && root == manifest.root).then_some(lines))
    }
}

/// Seals what has come and gone since the last manifest, at a moment given as RFC 3339. The tombstones of the
/// [journal](crate::journal) say why files have gone: one of which they do not speak has gone for `unknown` reasons, and is
/// named so. Nothing new, no manifest.
///
/// Files that are only just being written are left for the next time.
pub fn seal(archive: &Path, key: &SecretKey, now: &str) -> Result<Option<Sealed>> {
    let _lock = keeper::lock(archive)?;
    repack::recover(archive)?;
    let dir = directory(archive);
    let links = links(archive)?;
    let known = known(&links)?;
    let mut changes = Vec::new();
    let there: BTreeMap<String, u64> = files(&archive.into())?.into_iter().collect();
    for (path, &bytes) in &there {
        match known.get(path) {
            None => {}
            Some(entry) if grows(path) && entry.bytes < bytes => {}
            Some(_) => continue,
        }
        let file = archive.join(path);
        let sha256 = hash_as_far_as(&file, if grows(path) { bytes } else { u64::MAX })?;
        changes.push(Change::Added(Entry { path: path.clone(), bytes, sha256 }));
        if is_part_of_recordings(path) {
            changes.extend(rows(&file)?.into_iter().map(Change::Row));
        }
    }
    let added = changes.iter().filter(|change| matches!(change, Change::Added(_))).count() as u64;
    let tombstones = Tombstones::read(&archive.into())?;
    let gone = known.into_values().filter(|entry| !there.contains_key(&entry.path));
    let removed: Vec<Removal> = gone.map(|entry| tombstones.removal(entry, now)).collect();
    changes.extend(removed.iter().cloned().map(Change::Removed));
    if changes.is_empty() {
        return Ok(None);
    }
    // Texts and numbers only, which cannot fail.
    let lines = changes.iter().map(|change| serde_json::to_string(change).unwrap_or_default());
    let lines: Vec<String> = lines.collect();
    let manifest = Manifest {
        format: Manifest::FORMAT.to_owned(),
        number: links.len() as u64 + 1,
        previous: links.last().map(|link| hash_of(&link.bytes)),
        sealed: now.to_owned(),
        key: key.public().to_hex(),
        changes: lines.len() as u64,
        root: Tree::of(lines.iter().map(String::as_str)).root(),
    };
    let mut bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    bytes.push(b'\n');
    fs::create_dir_all(&dir).map_err(io("create", &dir))?;
    let day = now.get(..10).unwrap_or("undated");
    let path = dir.join(format!("{:06}-{day}.json", manifest.number));
    // What belongs to it comes first: a manifest without that is never there. Of one that was not finished it may be there.
    replace(&dir, &changes_path(&path), (lines.join("\n") + "\n").as_bytes())?;
    replace(&dir, &with_suffix(&path, ".sig"), format!("{}\n", key.sign(&bytes)).as_bytes())?;
    write(&dir, &path, &bytes)?;
    Ok(Some(Sealed { path, hash: hash_of(&bytes), manifest, added, removed }))
}

/// Proofs that files and rows of recordings, by path and by id, were sealed; of what was sealed more than once, the last
/// counts, and of what was not there is none.
pub fn prove(
    archive: impl Into<Place>,
    paths: &HashSet<String>,
    recordings: &HashSet<String>,
) -> Result<Vec<Proof>> {
    let mut proofs = BTreeMap::new();
    for link in links_in(&archive.into(), MANIFESTS)? {
        let unreadable = || Error::NoManifest { path: link.path.clone() };
        let lines = link.changes()?.ok_or_else(unreadable)?;
        let manifest = link.manifest.as_ref().ok_or_else(unreadable)?;
        let wanted = |line: &String| match serde_json::from_str(line).ok()? {
            Change::Added(entry) if paths.contains(&entry.path) => Some((0, entry.path)),
            Change::Row(row) if recordings.contains(&row.recording_id) => Some((1, row.recording_id)),
            _ => None,
        };
        let found: Vec<_> = (0..).zip(&lines).filter_map(|(i, line)| Some((i, wanted(line)?))).collect();
        if found.is_empty() {
            continue;
        }
        let tree = Tree::of(lines.iter().map(String::as_str));
        for (index, key) in found {
            let change = lines[index].clone();
            let path = tree.path(index);
            proofs.insert(key, Proof { manifest: manifest.number, index: index as u64, change, path });
        }
    }
    Ok(proofs.into_values().collect())
}

/// The manifests, their signatures and time stamps, by their names: all that is needed to check a [`Proof`].
pub fn manifest_files(archive: impl Into<Place>) -> Result<Vec<(String, Vec<u8>)>> {
    let archive: Place = archive.into();
    let mut names = archive.names(MANIFESTS)?;
    names.retain(|name| [".json", ".sig", ".tsr"].iter().any(|end| name.ends_with(end)));
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    let found = archive.read(&names.iter().map(|name| format!("{MANIFESTS}/{name}")).collect::<Vec<_>>())?;
    Ok(names.into_iter().zip(found).filter_map(|(name, bytes)| Some((name, bytes?))).collect())
}

/// What tombstones say of files.
pub(super) struct Tombstones(HashMap<String, Deletion>);

impl Tombstones {
    pub(super) fn read(archive: &Place) -> Result<Tombstones> {
        let mut by_path = HashMap::new();
        for dir in of_each_node(archive, journal::DIRECTORY)? {
            let (deletions, _) = journal::read_in::<Deletion>(archive, &dir, &Book::Deletions)?;
            for deletion in deletions {
                let paths = deletion.files.iter().map(|entry| (entry.path.clone(), deletion.clone()));
                by_path.extend(paths);
            }
        }
        Ok(Tombstones(by_path))
    }

    /// Whether a file has gone for a reason.
    pub(super) fn tell(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    fn removal(&self, entry: Entry, now: &str) -> Removal {
        let (reason, at) = match self.0.get(&entry.path) {
            Some(told) => (told.reason.clone(), told.at.clone()),
            None => (UNKNOWN.to_owned(), now.to_owned()),
        };
        Removal { entry, reason, at }
    }
}

/// Of a file that has gone without anybody saying why.
pub(super) const UNKNOWN: &str = "unknown";

/// What is sealed by manifests all of which can be read.
fn known(links: &[Link]) -> Result<BTreeMap<String, Entry>> {
    let mut known = BTreeMap::new();
    for link in links {
        let lines = link.changes()?.ok_or_else(|| Error::NoManifest { path: link.path.clone() })?;
        lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .for_each(|change| apply(&mut known, change));
    }
    Ok(known)
}

/// What is sealed once a change has been.
pub(super) fn apply(known: &mut BTreeMap<String, Entry>, change: Change) {
    match change {
        Change::Added(entry) => _ = known.insert(entry.path.clone(), entry),
        Change::Removed(removal) => _ = known.remove(&removal.entry.path),
        Change::Row(_) => {}
    }
}

/// Whether a file has rows of the table of recordings.
pub(crate) fn is_part_of_recordings(path: &str) -> bool {
    path.starts_with("catalog/recordings/") && path.ends_with(".parquet")
}

/// The rows of a part of the table of recordings.
fn rows(part: &Path) -> Result<Vec<Row>> {
    let batches = scan::whole(part)?;
    Ok(batches.iter().flat_map(rows::objects).map(|row| Row::of(&row)).collect())
}

/// Where the manifests of an archive lie.
pub(super) fn directory(archive: &Path) -> PathBuf {
    archive.join(MANIFESTS)
}

/// The directory's name.
pub(crate) const MANIFESTS: &str = "manifests";

/// The manifests of an archive, in the order of their names.
pub(super) fn links(archive: &Path) -> Result<Vec<Link>> {
    links_in(&archive.into(), MANIFESTS)
}

/// A directory, and those of nodes in it, where several archives have been copied to one place.
pub(super) fn of_each_node(place: &Place, dir: &str) -> Result<Vec<String>> {
    let mut dirs: Vec<String> = place.names(dir)?.iter().map(|name| format!("{dir}/{name}")).collect();
    dirs.retain(|dir| partition::is_node(file_name(dir)));
    dirs.sort();
    dirs.insert(0, dir.to_owned());
    Ok(dirs)
}

/// The manifests in a directory of a place, in the order of their names.
pub(super) fn links_in(place: &Place, dir: &str) -> Result<Vec<Link>> {
    let mut names = place.names(dir)?;
    names.retain(|name| name.ends_with(".json") && !name.starts_with('.'));
    names.sort();
    let files: Vec<String> = names.iter().map(|name| format!("{dir}/{name}")).collect();
    let signatures: Vec<String> = files.iter().map(|file| format!("{file}.sig")).collect();
    let (found, signatures) = (place.read(&files)?, place.read(&signatures)?);
    let mut links = Vec::new();
    for (((name, file), bytes), signature) in names.into_iter().zip(files).zip(found).zip(signatures) {
        let bytes = bytes.unwrap_or_default();
        let manifest = serde_json::from_slice(&bytes).ok();
        let manifest = manifest.filter(|manifest: &Manifest| manifest.format == Manifest::FORMAT);
        let signature = signature.and_then(|signature| String::from_utf8(signature).ok());
        let (place, path) = (place.clone(), place.path(&file));
        links.push(Link { place, file, path, name, bytes, manifest, signature });
    }
    Ok(links)
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Where a manifest's changes are listed.
pub(super) fn changes_path(manifest: &Path) -> PathBuf {
    manifest.with_extension("changes.jsonl")
}

/// Likewise, by name.
pub(crate) fn changes_name(manifest: &str) -> String {
    format!("{}.changes.jsonl", manifest.strip_suffix(".json").unwrap_or(manifest))
}

/// Writes a file that must not be there.
pub(super) fn write(dir: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let persisted = written(dir, path, bytes)?.persist_noclobber(path);
    persisted.map_err(|error| io("rename into place", path)(error.error)).map(drop)
}

/// Writes a file that may be there.
fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let persisted = written(dir, path, bytes)?.persist(path);
    persisted.map_err(|error| io("rename into place", path)(error.error)).map(drop)
}

fn written(dir: &Path, path: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let mut file = spool::new_file(dir, ".", ".tmp").map_err(io("create a file in", dir))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(io("write", path))?;
    Ok(file)
}
