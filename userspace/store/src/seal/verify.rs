//! Verifying: whatever is not as it was sealed is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::panic::catch_unwind;
use std::path::Path;

use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::Result as ParquetResult;

use super::chain::{apply, links};
use super::{PublicKey, files, hash, hash_of};
use crate::error::Result;
use crate::rows;

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
    /// A file is not what was sealed.
    Changed(String),
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
}

/// Looks at everything that was sealed, and at every recording that the catalog names. With `trusted`, manifests that
/// another key has signed are findings; without it each is only held against the key that it names itself. `progress` is told
/// the bytes that have been read.
pub fn verify(archive: &Path, trusted: Option<&PublicKey>, mut progress: impl FnMut(u64)) -> Result<Report> {
    let mut report = Report::default();
    let mut known = BTreeMap::new();
    for (index, link) in links(archive)?.iter().enumerate() {
        let name = format!("manifests/{}", link.name);
        let hash = hash_of(&link.bytes);
        match &link.manifest {
            None => report.findings.push(Finding::Unreadable(name)),
            Some(manifest) => {
                if manifest.number != index as u64 + 1 || manifest.previous.as_ref() != report.hashes.last() {
                    report.findings.push(Finding::Broken(name.clone()));
                }
                let key = PublicKey::from_hex(&manifest.key);
                let signature = link.signature.as_deref().unwrap_or_default();
                if !key.as_ref().is_some_and(|key| key.has_signed(&link.bytes, signature)) {
                    report.findings.push(Finding::Unsigned(name.clone()));
                } else if trusted.is_some_and(|trusted| Some(trusted) != key.as_ref()) {
                    report.findings.push(Finding::OtherKey(name));
                }
                report.keys.extend(key.map(|key| key.fingerprint()));
                let unexplained = manifest.removed.iter().filter(|removal| removal.reason == "unknown");
                report.findings.extend(unexplained.map(|gone| Finding::Unexplained(gone.entry.path.clone())));
                apply(&mut known, manifest);
            }
        }
        report.hashes.push(hash);
    }

    let there: BTreeMap<String, u64> = files(archive)?.into_iter().collect();
    report.unsealed = there.keys().filter(|path| !known.contains_key(*path)).cloned().collect();
    let mut hashes = BTreeMap::new();
    for entry in known.into_values() {
        match there.get(&entry.path) {
            None => report.findings.push(Finding::Missing(entry.path)),
            Some(&bytes) => {
                let found = hash(&archive.join(&entry.path))?;
                progress(bytes);
                if found == entry.sha256 && bytes == entry.bytes {
                    (report.files, report.bytes) = (report.files + 1, report.bytes + bytes);
                } else {
                    report.findings.push(Finding::Changed(entry.path.clone()));
                }
                hashes.insert(entry.path, found);
            }
        }
    }
    let changed = report.findings.iter().filter_map(|finding| match finding {
        Finding::Changed(path) => Some(path.clone()),
        _ => None,
    });
    let changed = changed.collect();
    rows_and_files(archive, &there, &changed, &mut hashes, &mut report, progress)?;
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
}

/// The catalog says of each recording which file it is, and what its hash is.
fn rows_and_files(
    archive: &Path,
    there: &BTreeMap<String, u64>,
    changed: &BTreeSet<String>,
    hashes: &mut BTreeMap<String, String>,
    report: &mut Report,
    mut progress: impl FnMut(u64),
) -> Result<()> {
    for path in
        there.keys().filter(|path| path.starts_with("catalog/recordings/") && path.ends_with(".parquet"))
    {
        // What is not as it was sealed is a finding already, and not to be believed.
        if changed.contains(path) {
            continue;
        }
        let part = archive.join(path);
        // The readers of Parquet are not made for files that somebody has tampered with.
        let read = catch_unwind(|| recordings(&part));
        let Ok(Ok(batches)) = read else {
            report.findings.push(Finding::Row(format!("{path}: cannot be read")));
            continue;
        };
        let cells = batches.iter().flat_map(|batch| rows::cells(batch, &["recording_id", "file", "sha256"]));
        for cells in cells {
            let [id, file, sha256] = &cells[..] else { continue };
            let Some(&bytes) = there.get(file) else {
                report.findings.push(Finding::Row(format!("recording {id}: its file {file} is missing")));
                continue;
            };
            if sha256.is_empty() {
                continue;
            }
            if !hashes.contains_key(file) {
                hashes.insert(file.clone(), hash(&archive.join(file))?);
                progress(bytes);
            }
            if hashes.get(file) == Some(sha256) {
                report.rows += 1;
            } else {
                let text =
                    format!("recording {id}: its file {file} is not the one that its row was written for");
                report.findings.push(Finding::Row(text));
            }
        }
    }
    Ok(())
}

/// The rows of a part of the table of recordings.
fn recordings(part: &Path) -> ParquetResult<Vec<RecordBatch>> {
    let file = File::open(part)?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?;
    let columns = ProjectionMask::columns(reader.parquet_schema(), ["recording_id", "file", "sha256"]);
    Ok(reader.with_projection(columns).build()?.collect::<Result<_, _>>()?)
}
