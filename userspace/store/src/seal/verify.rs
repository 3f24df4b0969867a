//! Verifying: whatever is not as it was sealed is named.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::chain::{
    Link, MANIFESTS, Tombstones, UNKNOWN, apply, is_part_of_recordings, links_in, of_each_node,
};
use super::{Change, Entry, PublicKey, Removal, Row, files, grows, hash_of};
use crate::error::Result;
use crate::place::Place;
use crate::{journal, rows, scan};

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
    /// A row of the catalog names a recording that is not there, or whose hash is another.
    Row(String),
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
            Finding::Row(what) => f.write_str(what),
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
    /// Files that no manifest has sealed yet.
    pub unsealed: Vec<String>,
    /// Rows of recordings whose files have the hash that the row says.
    pub rows: u64,
    /// Rows of recordings whose files have gone, as a tombstone says.
    pub deleted: u64,
    /// Files of an export that were made of what is sealed, by decoding it: they cannot be held against it.
    pub derived: u64,
}

/// Looks at everything that was sealed, and at every recording that the catalog names. With `trusted`, manifests that
/// another key has signed are findings; without it each is only held against the key that it names itself. `progress` is told
/// the bytes that have been read.
pub fn verify(
    archive: impl Into<Place>,
    trusted: Option<&PublicKey>,
    mut progress: impl FnMut(u64),
) -> Result<Report> {
    let archive: Place = archive.into();
    let mut report = Report::default();
    let mut known = BTreeMap::new();
    let mut sealed_rows = HashMap::new();
    for dir in of_each_node(&archive, MANIFESTS)? {
        let node = dir.strip_prefix(MANIFESTS).unwrap_or_default();
        let links = links_in(&archive, &dir)?;
        chain(&dir, &links, trusted, &mut report);
        for link in links.iter().filter(|link| link.manifest.is_some()) {
            let Some(lines) = link.changes()? else {
                report.findings.push(Finding::List(format!("{dir}/{}", link.name)));
                continue;
            };
            for change in lines.iter().filter_map(|line| serde_json::from_str(line).ok()) {
                let change = of_node(node, change);
                match &change {
                    // What was sealed of it first counts.
                    Change::Row(row) => {
                        sealed_rows.entry(key(&row.recording_id)).or_insert(key(&row.sha256));
                    }
                    Change::Removed(gone) if gone.reason == UNKNOWN => {
                        report.findings.push(Finding::Unexplained(gone.entry.path.clone()));
                    }
                    _ => {}
                }
                apply(&mut known, change);
            }
        }
    }

    let there: BTreeMap<String, u64> = files(&archive)?.into_iter().collect();
    report.unsealed = there.keys().filter(|path| !known.contains_key(*path)).cloned().collect();
    let tombstones = Tombstones::read(&archive)?;
    let mut sealed = Vec::new();
    for entry in known.into_values() {
        match there.get(&entry.path) {
            None if tombstones.tell(&entry.path) => {}
            None => report.findings.push(Finding::Missing(entry.path)),
            Some(&bytes) => sealed.push((entry, bytes)),
        }
    }
    let as_far_as = |(entry, bytes): &(Entry, u64)| if grows(&entry.path) { entry.bytes } else { *bytes };
    let wanted: Vec<_> = sealed.iter().map(|sealed| (sealed.0.path.as_str(), as_far_as(sealed))).collect();
    let found = archive.hashes(&wanted, &mut progress)?;
    let mut hashes = BTreeMap::new();
    for ((entry, bytes), found) in sealed.into_iter().zip(found) {
        let is_whole = bytes == entry.bytes || grows(&entry.path) && bytes > entry.bytes;
        if found == entry.sha256 && is_whole {
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
    let mut scene = Scene { archive, there, changed: changed.collect(), hashes, tombstones, sealed_rows };
    scene.rows_and_files(&mut report, progress)?;
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
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
    hashes: BTreeMap<String, String>,
    tombstones: Tombstones,
    /// Ids and hashes of rows, as short as they can be kept.
    sealed_rows: HashMap<u128, u128>,
}

impl Scene {
    /// The catalog says of each recording which file it is, and what its hash is.
    fn rows_and_files(&mut self, report: &mut Report, mut progress: impl FnMut(u64)) -> Result<()> {
        // What is not as it was sealed is a finding already, and not to be believed.
        let parts =
            self.there.keys().filter(|path| is_part_of_recordings(path) && !self.changed.contains(*path));
        let parts: Vec<String> = parts.cloned().collect();
        for path in parts {
            let part = Bytes::from(self.archive.read_one(&path)?.unwrap_or_default());
            // The readers of Parquet are not made for files that somebody has tampered with.
            let Ok(Ok(batches)) = catch_unwind(AssertUnwindSafe(|| scan::batches(part))) else {
                report.findings.push(Finding::Row(format!("{path}: cannot be read")));
                continue;
            };
            let rows: Vec<_> = batches.iter().flat_map(rows::objects).collect();
            self.hash_files(&rows, &mut progress)?;
            rows.iter().for_each(|row| self.row(row, report));
        }
        Ok(())
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

    fn row(&self, row: &Map<String, Value>, report: &mut Report) {
        let (id, file, sha256) = (text(row, "recording_id"), text(row, "file"), text(row, "sha256"));
        let mut find = |what: &str| report.findings.push(Finding::Row(format!("recording {id}: {what}")));
        let is_as_sealed =
            self.sealed_rows.get(&key(id)).is_none_or(|sealed| *sealed == key(&Row::of(row).sha256));
        if !is_as_sealed {
            find("its row is not the one that was sealed");
        }
        if !self.there.contains_key(file) {
            match self.tombstones.tell(file) {
                true => report.deleted += 1,
                false => find(&format!("its file {file} is missing")),
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

/// The first 32 hex digits as a number: 128 bits of a hash are more than anybody can match.
fn key(hex: &str) -> u128 {
    hex.get(..32).and_then(|digits| u128::from_str_radix(digits, 16).ok()).unwrap_or_default()
}
