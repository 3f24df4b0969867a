//! Verifying: whatever is not as it was sealed is named.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::chain::{Link, MANIFESTS, UNKNOWN, links_in, of_each_node};
use super::known::{Held, Known, Told, Tombstones, table_of_part};
use super::{Change, Entry, PublicKey, Removal, Row, files, grows, hash_of, hashes_of_beginnings, key};
use crate::error::{Result, io};
use crate::place::Place;
use crate::schema::Table;
use crate::{journal, partition, rows, scan};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A manifest cannot be read, or is of another program.
    Unreadable(String),
    /// A manifest does not carry the hash of the one before, or its number does not follow.
    Broken(String),
    /// A manifest's signature is missing, or of another key or other bytes.
    Unsigned(String),
    /// A manifest was signed by another key than the one that is trusted.
    OtherKey(String),
    /// What a manifest says has changed is not what was signed.
    List(String),
    /// A proof does not lead to the manifest that it names.
    Unproved(String),
    /// A file is not what was sealed.
    Changed(String),
    /// A file was put into an export.
    Added(String),
    /// A file that was sealed is not there.
    Missing(String),
    /// A file has gone without anybody saying why.
    Unexplained(String),
    /// A row of the catalog is another or has gone, or names a recording that is not there or whose hash is another.
    Row(String),
    /// An export is not as any was made.
    Odd(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Unreadable(name) => write!(f, "{name}: is no manifest that can be read"),
            Finding::Broken(name) => write!(f, "{name}: does not follow the manifest before it"),
            Finding::Unsigned(name) => write!(f, "{name}: the signature is missing, or not of this file"),
            Finding::OtherKey(name) => write!(f, "{name}: was signed with a key that is not trusted"),
            Finding::List(name) => {
                write!(f, "{name}: its list of changes is missing, or not the one that was signed")
            }
            Finding::Unproved(what) => write!(f, "{what}: the proof does not lead to its manifest"),
            Finding::Added(path) => write!(f, "{path}: was added since it was exported"),
            Finding::Changed(path) => write!(f, "{path}: changed since it was sealed"),
            Finding::Missing(path) => write!(f, "{path}: missing"),
            Finding::Unexplained(path) => write!(f, "{path}: was removed, and nobody has said why"),
            Finding::Row(what) | Finding::Odd(what) => f.write_str(what),
        }
    }
}

/// What was looked at, and found.
#[derive(Debug, Default)]
pub struct Report {
    /// In order of kind, then name.
    pub findings: Vec<Finding>,
    /// SHA-256 of each manifest of the chain, in hex.
    pub hashes: Vec<String>,
    /// Fingerprints of the keys that have signed it.
    pub keys: BTreeSet<String>,
    /// Sealed files that are as they were, and their bytes.
    pub files: u64,
    /// See [`Report::files`].
    pub bytes: u64,
    /// Files of an export for which the signature of its list stands, or a proof.
    pub signed: u64,
    /// Files, rows and tombstones that no manifest has sealed yet.
    pub unsealed: Vec<String>,
    /// Files of an export for which neither a signature nor a proof stands.
    pub unproved: Vec<String>,
    /// Rows of recordings whose files have the hash that the row says.
    pub rows: u64,
    /// Rows of recordings whose files have gone, as a tombstone says.
    pub deleted: u64,
    /// Files of an export that were made of what is sealed, by decoding it: they cannot be held against it.
    pub derived: u64,
}

/// Looks at everything that was sealed, and at every recording that the catalog names. With `trusted`, manifests that
/// another key has signed are findings, and that there are none is one; without it each is only held against the key that it
/// names itself. `progress` is told the bytes that have been read.
pub fn verify(
    archive: impl Into<Place>,
    trusted: Option<&PublicKey>,
    mut progress: impl FnMut(u64),
) -> Result<Report> {
    let archive: Place = archive.into();
    partition::check(&archive)?;
    let mut report = Report::default();
    let mut known = Known::default();
    let mut sealed_rows: HashMap<Table, HashMap<u128, u128>> = HashMap::new();
    for dir in of_each_node(&archive, MANIFESTS)? {
        let node = dir.strip_prefix(MANIFESTS).unwrap_or_default();
        let journal: Arc<str> = format!("{}{node}", journal::DIRECTORY).into();
        let links = links_in(&archive, &dir)?;
        chain(&dir, &links, trusted, &mut report);
        for link in links.iter().filter(|link| link.manifest.is_some()) {
            let Some(lines) = link.changes()? else {
                report.findings.push(Finding::List(format!("{dir}/{}", link.name)));
                continue;
            };
            let mut changes = Vec::new();
            for change in lines.iter().filter_map(|line| serde_json::from_str::<Change>(line).ok()) {
                match of_node(node, change) {
                    // What was sealed of it first counts.
                    Change::Row(row) => {
                        if let Ok(table) = row.table.parse::<Table>() {
                            let rows = sealed_rows.entry(table).or_default();
                            rows.entry(key(&row.id)).or_insert(key(&row.sha256));
                        }
                    }
                    change => {
                        if let Change::Removed(gone) = &change
                            && gone.reason == UNKNOWN
                        {
                            report.findings.push(Finding::Unexplained(gone.entry.path.clone()));
                        }
                        changes.push(change);
                    }
                }
            }
            known.take(&journal, changes);
        }
    }
    if trusted.is_some() && report.hashes.is_empty() {
        report.findings.push(Finding::Missing(MANIFESTS.to_owned()));
    }

    let there: BTreeMap<String, u64> = files(&archive)?.into_iter().collect();
    report.unsealed = there.keys().filter(|path| !known.files.contains_key(*path)).cloned().collect();
    let tombstones = Tombstones::read(&archive, &known)?;
    let (mut sealed, mut lost) = (Vec::new(), HashSet::new());
    for held in known.files.into_values() {
        match there.get(&held.entry.path) {
            None => match tombstones.of(&held) {
                Some(told) => excuse(told, &held.entry.path, &mut report),
                None => {
                    report.findings.push(Finding::Missing(held.entry.path.clone()));
                    lost.insert(held.entry.path);
                }
            },
            Some(&bytes) if grows(&held.entry.path) => {
                if is_beginning(&archive, &held)? {
                    (report.files, report.bytes) = (report.files + 1, report.bytes + bytes);
                } else {
                    report.findings.push(Finding::Changed(held.entry.path));
                }
                progress(bytes);
            }
            Some(&bytes) => sealed.push((held.entry, bytes)),
        }
    }
    let wanted: Vec<_> = sealed.iter().map(|(entry, bytes)| (entry.path.as_str(), *bytes)).collect();
    let found = archive.hashes(&wanted, &mut progress)?;
    let mut hashes = BTreeMap::new();
    for ((entry, bytes), found) in sealed.into_iter().zip(found) {
        if found == entry.sha256 && bytes == entry.bytes {
            (report.files, report.bytes) = (report.files + 1, report.bytes + bytes);
        } else {
            report.findings.push(Finding::Changed(entry.path.clone()));
        }
        hashes.insert(entry.path, found);
    }
    let changed = report.findings.iter().filter_map(|finding| match finding {
        Finding::Changed(path) => Some(path.clone()),
        _ => None,
    });
    let unseen = sealed_rows.get(&Table::Recordings).into_iter().flat_map(HashMap::keys).copied().collect();
    let mut scene =
        Scene { archive, there, changed: changed.collect(), lost, hashes, tombstones, sealed_rows, unseen };
    scene.rows_and_files(&mut report, progress)?;
    scene.rows_that_have_gone(&mut report);
    report.findings.sort();
    report.findings.dedup();
    report.unsealed.sort();
    report.unsealed.dedup();
    Ok(report)
}

/// Whether a file that grows has all that was ever sealed of it.
fn is_beginning(archive: &Place, held: &Held) -> Result<bool> {
    let path = &held.entry.path;
    let mut wanted: Vec<(u64, &str)> =
        held.before.iter().map(|(bytes, sha256)| (*bytes, sha256.as_str())).collect();
    wanted.push((held.entry.bytes, held.entry.sha256.as_str()));
    wanted.sort();
    let lengths: Vec<u64> = wanted.iter().map(|(bytes, _)| *bytes).collect();
    let Some(file) = archive.file(path)? else { return Ok(false) };
    let found = hashes_of_beginnings(file, &lengths).map_err(io("read", &archive.path(path)))?;
    Ok(found.len() == wanted.len() && found.iter().zip(&wanted).all(|(found, (_, sealed))| found == sealed))
}

/// What a tombstone says counts; that it could still be another is told.
fn excuse(told: &Told, what: &str, report: &mut Report) {
    if !told.is_sealed {
        report.unsealed.push(format!("tombstone of {what}"));
    }
}

/// A change as it is to be understood where the journal of its archive is that of a node, whose directory that is.
fn of_node(node: &str, change: Change) -> Change {
    let at_home = |entry: Entry| match entry.path.strip_prefix(journal::DIRECTORY) {
        Some(rest) if grows(&entry.path) => {
            Entry { path: format!("{}{node}{rest}", journal::DIRECTORY), ..entry }
        }
        _ => entry,
    };
    match change {
        Change::Added(entry) => Change::Added(at_home(entry)),
        Change::Removed(gone) => Change::Removed(Removal { entry: at_home(gone.entry), ..gone }),
        Change::Row(row) => Change::Row(row),
    }
}

/// Whether manifests follow each other, and who has signed them. `dir` is where they are said to lie.
pub(super) fn chain(dir: &str, links: &[Link], trusted: Option<&PublicKey>, report: &mut Report) {
    let mut previous = None;
    for (index, link) in links.iter().enumerate() {
        let name = format!("{dir}/{}", link.name);
        let hash = hash_of(&link.bytes);
        match &link.manifest {
            None => report.findings.push(Finding::Unreadable(name)),
            Some(manifest) => {
                if manifest.number != index as u64 + 1 || manifest.previous != previous {
                    report.findings.push(Finding::Broken(name.clone()));
                }
                let key = PublicKey::from_hex(&manifest.key);
                let signature = link.signature.as_deref().unwrap_or_default();
                if !key.as_ref().is_some_and(|key| key.has_signed(&link.bytes, signature)) {
                    report.findings.push(Finding::Unsigned(name));
                } else if trusted.is_some_and(|trusted| Some(trusted) != key.as_ref()) {
                    report.findings.push(Finding::OtherKey(name));
                }
                report.keys.extend(key.map(|key| key.fingerprint()));
            }
        }
        previous = Some(hash.clone());
        report.hashes.push(hash);
    }
}

/// What has been found out until the rows are looked at.
struct Scene {
    archive: Place,
    there: BTreeMap<String, u64>,
    changed: BTreeSet<String>,
    /// Sealed files that have gone, and no tombstone says why.
    lost: HashSet<String>,
    hashes: BTreeMap<String, String>,
    tombstones: Tombstones,
    /// Ids and hashes of rows, as short as they can be kept.
    sealed_rows: HashMap<Table, HashMap<u128, u128>>,
    /// Recordings whose rows are sealed, and which have not been seen in any part.
    unseen: HashSet<u128>,
}

impl Scene {
    /// Rows are those that were sealed. The catalog says of each recording which file it is, and what its hash is.
    fn rows_and_files(&mut self, report: &mut Report, mut progress: impl FnMut(u64)) -> Result<()> {
        // What is not as it was sealed is a finding already, and not to be believed.
        let parts = self.there.keys().filter(|path| !self.changed.contains(*path));
        let parts = parts.filter_map(|path| Some((path.clone(), table_of_part(path)?)));
        let parts: Vec<(String, Table)> = parts.collect();
        for (path, table) in parts {
            let part = Bytes::from(self.archive.read_one(&path)?.unwrap_or_default());
            // The readers of Parquet are not made for files that somebody has tampered with.
            let Ok(Ok(batches)) = catch_unwind(AssertUnwindSafe(|| scan::batches(part))) else {
                report.findings.push(Finding::Row(format!("{path}: cannot be read")));
                continue;
            };
            for batch in &batches {
                let rows: Vec<_> = rows::objects(batch).collect();
                rows.iter().for_each(|row| self.is_as_sealed(table, row, report));
                if table == Table::Recordings {
                    self.hash_files(&rows, &mut progress)?;
                    rows.iter().for_each(|row| self.file(row, report));
                }
            }
        }
        Ok(())
    }

    fn is_as_sealed(&mut self, table: Table, row: &Map<String, Value>, report: &mut Report) {
        let row = Row::of(table, row);
        let id = key(&row.id);
        if table == Table::Recordings {
            self.unseen.remove(&id);
        }
        let sealed = self.sealed_rows.get(&table).and_then(|rows| rows.get(&id));
        if sealed.is_some_and(|sealed| *sealed != key(&row.sha256)) {
            let what = match table {
                Table::Calls => "call",
                Table::Events => "event",
                _ => "recording",
            };
            report
                .findings
                .push(Finding::Row(format!("{what} {}: its row is not the one that was sealed", row.id)));
        }
    }

    /// Rows of recordings that are in no part any more.
    fn rows_that_have_gone(&self, report: &mut Report) {
        for id in &self.unseen {
            let what = format!("recording {id:032x}");
            match self.tombstones.of_row(*id) {
                Some(told) => excuse(told, &what, report),
                None => report.findings.push(Finding::Row(format!("{what}: its row is missing"))),
            }
        }
    }

    /// Hashes the files of rows that no manifest has sealed.
    fn hash_files(&mut self, rows: &[Map<String, Value>], progress: impl FnMut(u64)) -> Result<()> {
        let files = rows.iter().filter(|row| !text(row, "sha256").is_empty()).map(|row| text(row, "file"));
        let files: BTreeSet<&str> = files.filter(|file| !self.hashes.contains_key(*file)).collect();
        let bytes = |file: &str| self.there.get(file).copied();
        let wanted: Vec<_> = files.into_iter().filter_map(|file| Some((file, bytes(file)?))).collect();
        let found = self.archive.hashes(&wanted, progress)?;
        let files = wanted.into_iter().map(|(file, _)| file.to_owned());
        self.hashes.extend(files.zip(found));
        Ok(())
    }

    fn file(&self, row: &Map<String, Value>, report: &mut Report) {
        let (id, file, sha256) = (text(row, "recording_id"), text(row, "file"), text(row, "sha256"));
        let findings = &mut report.findings;
        let mut find = |what: &str| findings.push(Finding::Row(format!("recording {id}: {what}")));
        if !self.there.contains_key(file) {
            match self.tombstones.of_unsealed(file, sha256).filter(|_| !self.lost.contains(file)) {
                Some(told) => {
                    report.deleted += 1;
                    excuse(told, file, report);
                }
                None => find(&format!("its file {file} is missing")),
            }
        } else if sha256.is_empty() {
            // Nobody has said what it should be.
        } else if self.hashes.get(file).is_some_and(|found| found == sha256) {
            report.rows += 1;
        } else {
            find(&format!("its file {file} is not the one that its row was written for"));
        }
    }
}

fn text<'a>(row: &'a Map<String, Value>, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}
