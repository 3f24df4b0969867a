//! Sealing: one manifest more.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use super::known::{Held, Known, Tombstones, is_part_of_recordings, table_of_part};
use super::tree::{Proof, Tree};
use super::{
    Change, Entry, Manifest, Removal, Row, SecretKey, files, grows, hash_as_far_as, hash_of,
    hashes_of_beginnings,
};
use crate::encrypt::SUFFIX;
use crate::error::{Error, Result, io};
use crate::place::{Place, file_name, must_be_directory};
use crate::schema::Table;
use crate::{journal, keeper, partition, repack, rows, scan, spool};

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
/// Files that are only just being written are left for the next time: those of recordings until a row names them. A journal
/// that is not what was sealed of it is an error.
pub fn seal(archive: &Path, key: &SecretKey, now: &str) -> Result<Option<Sealed>> {
    must_be_directory(archive)?;
    partition::check(archive)?;
    let _lock = keeper::lock(archive)?;
    repack::recover(archive)?;
    let dir = directory(archive);
    let links = links(archive)?;
    let known = known(&links)?;
    let there: BTreeMap<String, u64> = files(&archive.into())?.into_iter().collect();
    let mut new = New { archive, changes: Vec::new(), named: HashSet::new() };
    let mut waiting = Vec::new();
    for (path, &bytes) in &there {
        match known.files.get(path) {
            None if is_of_recording(path) => waiting.push((path, bytes)),
            None => new.file(path, bytes)?,
            Some(held) if grows(path) && held.entry.bytes < bytes => new.more(held, bytes)?,
            Some(_) => {}
        }
    }
    new.recordings(waiting, known.files.keys())?;
    let New { mut changes, .. } = new;
    let added = changes.iter().filter(|change| matches!(change, Change::Added(_))).count() as u64;
    let tombstones = Tombstones::read(&archive.into(), &known)?;
    let gone = known.files.into_values().filter(|held| !there.contains_key(&held.entry.path));
    let removed = gone.map(|held| {
        let (reason, at) = match tombstones.of(&held) {
            Some(told) => (told.reason.clone(), told.at.clone()),
            None => (UNKNOWN.to_owned(), now.to_owned()),
        };
        Removal { entry: held.entry, reason, at }
    });
    let removed: Vec<Removal> = removed.collect();
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

/// Proofs that files and rows of recordings, by path and by id, were sealed; of what was not there is none. Of files that
/// were sealed more than once the last counts, of rows the first, as it does for [`verify`](super::verify()).
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
            Change::Row(row) if row.table == Table::Recordings.as_str() && recordings.contains(&row.id) => {
                Some((1, row.id))
            }
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
            let proof = Proof { manifest: manifest.number, index: index as u64, change, path };
            match key {
                (1, _) => _ = proofs.entry(key).or_insert(proof),
                _ => _ = proofs.insert(key, proof),
            }
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

/// What is new, while it is gathered.
struct New<'a> {
    archive: &'a Path,
    changes: Vec<Change>,
    /// Files that the rows name that have been read.
    named: HashSet<String>,
}

impl New<'_> {
    /// A file that has come, and its rows. One that has gone again is left out.
    fn file(&mut self, path: &str, bytes: u64) -> Result<()> {
        let file = self.archive.join(path);
        let as_far_as = if grows(path) { bytes } else { u64::MAX };
        let Some(sha256) = unless_gone(hash_as_far_as(&file, as_far_as))? else { return Ok(()) };
        let mut changes = vec![Change::Added(Entry { path: path.to_owned(), bytes, sha256 })];
        if let Some(table) = table_of_part(path) {
            let Some(batches) = unless_gone(scan::whole(&file))? else { return Ok(()) };
            for row in batches.iter().flat_map(rows::objects) {
                if table == Table::Recordings {
                    self.named.extend(names(&row));
                }
                changes.push(Change::Row(Row::of(table, &row)));
            }
        }
        self.changes.extend(changes);
        Ok(())
    }

    /// A file that has grown: what was sealed of it must be there still.
    fn more(&mut self, held: &Held, bytes: u64) -> Result<()> {
        let path = self.archive.join(&held.entry.path);
        let lengths = [held.entry.bytes, bytes];
        let file = unless_gone(File::open(&path).map_err(io("open", &path)))?;
        let Some(file) = file else { return Ok(()) };
        let hashes = hashes_of_beginnings(file, &lengths).map_err(io("read", &path))?;
        match &hashes[..] {
            [sealed, sha256] if *sealed == held.entry.sha256 => {
                let entry = Entry { path: held.entry.path.clone(), bytes, sha256: sha256.clone() };
                self.changes.push(Change::Added(entry));
                Ok(())
            }
            _ => Err(Error::Rewritten { path }),
        }
    }

    /// The files of recordings that rows name. What they do not name is not finished, or is nobody's.
    fn recordings<'a>(
        &mut self,
        mut waiting: Vec<(&String, u64)>,
        sealed: impl Iterator<Item = &'a String>,
    ) -> Result<()> {
        let days = waiting.iter().filter(|(path, _)| !self.named.contains(*path));
        let days: HashSet<String> = days.filter_map(|(path, _)| day_of(path)).collect();
        if !days.is_empty() {
            let is_of_them = |path: &&String| {
                let day = path.split('/').nth(2).and_then(|name| name.strip_prefix("day="));
                is_part_of_recordings(path) && day.is_some_and(|day| days.contains(day))
            };
            for path in sealed.filter(is_of_them) {
                // One that cannot be read any more is not what was sealed, which `verify` tells.
                let batches = scan::whole(&self.archive.join(path)).unwrap_or_default();
                batches.iter().flat_map(rows::objects).for_each(|row| self.named.extend(names(&row)));
            }
        }
        waiting.retain(|(path, _)| self.named.contains(*path));
        waiting.into_iter().try_for_each(|(path, bytes)| self.file(path, bytes))
    }
}

/// The files of a recording that its row names, and its trace.
fn names(row: &Map<String, Value>) -> impl Iterator<Item = String> {
    let text = |column: &str| row.get(column).and_then(Value::as_str).unwrap_or_default().to_owned();
    let trace = spool::trace_name(&text("file"));
    let named = ["file", "caller_rtpdump", "callee_rtpdump", "key"].map(text);
    named.into_iter().chain([format!("{trace}{SUFFIX}"), trace]).filter(|name| !name.is_empty())
}

/// Whether it is a recording's file, or its key.
fn is_of_recording(path: &str) -> bool {
    path.starts_with("recordings/") || path.starts_with("keys/")
}

/// The day of a recording, by where it lies.
fn day_of(path: &str) -> Option<String> {
    let mut parts = path.split('/').skip(1);
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{year}-{month}-{day}"))
}

/// `None`: the file has gone meanwhile.
fn unless_gone<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Of a file that has gone without anybody saying why.
pub(super) const UNKNOWN: &str = "unknown";

/// What is sealed by manifests all of which can be read.
fn known(links: &[Link]) -> Result<Known> {
    let mut known = Known::default();
    let journal: Arc<str> = journal::DIRECTORY.into();
    for link in links {
        let lines = link.changes()?.ok_or_else(|| Error::NoManifest { path: link.path.clone() })?;
        let changes = lines.iter().filter_map(|line| serde_json::from_str::<Change>(line).ok());
        // Rows are many, and nothing is to be known of them here.
        known.take(&journal, changes.filter(|change| !matches!(change, Change::Row(_))).collect());
    }
    Ok(known)
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
