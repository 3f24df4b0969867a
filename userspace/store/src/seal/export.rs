//! Verifying what was taken out of an archive, without the archive.
//!
//! ```text
//! <export>/SHA256SUMS or manifest-sha256.txt     every file by its hash, as `sha256sum` and BagIt (RFC 8493) write it
//!          recordings.jsonl                      what the catalog says, and of which file each row is
//!          proof/manifests/                      the chain, without the lists of changes
//!          proof/proofs.jsonl                    that these recordings and rows were sealed
//! ```
//!
//! In a bag what is exported lies under `data/`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::chain::{links_in, with_suffix};
use super::tree::Proof;
use super::verify::{Finding, Report, chain};
use super::{Change, PublicKey, Row, hash};
use crate::error::{Error, Result, io};

/// Which file of an export a row is of, under the name `exported` in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Relative to where the rows are.
    pub file: String,
    /// How it was made: `archived`, as it was; `decrypted`; `decoded`.
    pub how: String,
}

/// Lists of hashes: of a folder, and of a bag the payload's and that of all else.
const SUMS: &str = "SHA256SUMS";
const BAG: [&str; 2] = ["manifest-sha256.txt", "tagmanifest-sha256.txt"];

/// Looks at every file of an export, at the chain that comes with it, and at whether each row and recording was sealed.
/// `trusted` and `progress` are as for [`verify`](super::verify()).
pub fn verify_export(
    export: &Path,
    trusted: Option<&PublicKey>,
    mut progress: impl FnMut(u64),
) -> Result<Report> {
    let mut report = Report::default();
    let is_bag = export.join("bagit.txt").exists();
    let lists = if is_bag { &BAG[..] } else { &[SUMS][..] };
    if !export.join(lists[0]).exists() {
        return Err(Error::NoExport { path: export.to_owned() });
    }
    let mut hashes = BTreeMap::new();
    for (path, bytes) in files(export)? {
        hashes.insert(path.clone(), hash(&export.join(&path))?);
        progress(bytes);
        report.bytes += bytes;
    }
    sums(export, lists, &hashes, &mut report)?;
    signature(export, lists[lists.len() - 1], trusted, &mut report)?;

    let links = links_in(&export.into(), "proof/manifests")?;
    chain("manifests", &links, trusted, &mut report);
    let manifests = links.iter().filter_map(|link| link.manifest.as_ref());
    let manifests: HashMap<u64, _> = manifests.map(|manifest| (manifest.number, manifest)).collect();
    let mut proved = Proved::default();
    for line in lines(&export.join("proof/proofs.jsonl"))? {
        let proof: Option<Proof> = serde_json::from_str(&line).ok();
        let leads = proof.as_ref().and_then(|proof| {
            let manifest = manifests.get(&proof.manifest)?;
            let change = serde_json::from_str(&proof.change).ok()?;
            proof.leads_to(&manifest.root, manifest.changes).then_some(change)
        });
        match leads {
            Some(Change::Added(entry)) => _ = proved.files.insert(entry.path, entry.sha256),
            Some(Change::Row(row)) => _ = proved.rows.insert(row.recording_id, row.sha256),
            Some(Change::Removed(_)) => {}
            None => report.findings.push(Finding::Unproved(proof.map_or(line, |proof| proof.change))),
        }
    }
    let payload = if is_bag { "data/" } else { "" };
    for line in lines(&export.join(payload).join("recordings.jsonl"))? {
        match serde_json::from_str::<Map<String, Value>>(&line) {
            Ok(row) => proved.row(row, payload, &hashes, &mut report),
            Err(_) => {
                report.findings.push(Finding::Row(format!("{payload}recordings.jsonl: cannot be read")))
            }
        }
    }
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
}

/// What the chain proves, by path and by id: hashes.
#[derive(Default)]
struct Proved {
    files: HashMap<String, String>,
    rows: HashMap<String, String>,
}

impl Proved {
    fn row(
        &self,
        mut row: Map<String, Value>,
        payload: &str,
        hashes: &BTreeMap<String, String>,
        report: &mut Report,
    ) {
        let exported = row.remove("exported").and_then(|exported| serde_json::from_value(exported).ok());
        let text = |column: &str| row.get(column).and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = text("recording_id");
        let mut find = |what: &str| report.findings.push(Finding::Row(format!("recording {id}: {what}")));
        let Some(Exported { file, how }) = exported else { return find("which file it is is not said") };
        let Some(found) = hashes.get(&format!("{payload}{file}")) else {
            return find(&format!("its file {file} is missing"));
        };
        match self.rows.get(&id) {
            None => report.unsealed.push(format!("recording {id}")),
            Some(sealed) if *sealed != Row::of(&row).sha256 => find("its row is not the one that was sealed"),
            Some(_) => {}
        }
        let wanted = match how.as_str() {
            "archived" => [Some(text("sha256")), self.files.get(&text("file")).cloned()],
            "decrypted" => [Some(text("content_sha256")), None],
            _ => {
                report.derived += 1;
                return;
            }
        };
        let mut wanted = wanted.iter().flatten().filter(|hash| !hash.is_empty()).peekable();
        if wanted.peek().is_none() {
            return;
        }
        match wanted.all(|wanted| wanted == found) {
            true => report.rows += 1,
            false => find(&format!("its file {file} is not the one that its row was written for")),
        }
    }
}

/// Every file is listed, and is what the list says; there is no other.
fn sums(export: &Path, lists: &[&str], hashes: &BTreeMap<String, String>, report: &mut Report) -> Result<()> {
    let mut listed = BTreeMap::new();
    for list in lists {
        for line in lines(&export.join(list))? {
            match line.split_once(' ') {
                Some((sha256, path)) => _ = listed.insert(path.trim_start().to_owned(), sha256.to_owned()),
                None => report.findings.push(Finding::Changed((*list).to_owned())),
            }
        }
    }
    for (path, sha256) in &listed {
        match hashes.get(path) {
            None => report.findings.push(Finding::Missing(path.clone())),
            Some(found) if found == sha256 => report.files += 1,
            Some(_) => report.findings.push(Finding::Changed(path.clone())),
        }
    }
    let last = lists[lists.len() - 1];
    let is_last = |path: &str| path == last || path.strip_suffix(".sig") == Some(last);
    let added = hashes.keys().filter(|path| !listed.contains_key(*path) && !is_last(path));
    report.findings.extend(added.cloned().map(Finding::Added));
    Ok(())
}

/// The signature of the list of hashes, if it has one.
fn signature(export: &Path, list: &str, trusted: Option<&PublicKey>, report: &mut Report) -> Result<()> {
    let path = export.join(list);
    let signature = match fs::read_to_string(with_suffix(&path, ".sig")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        signature => signature.map_err(io("read", &path))?,
    };
    let bytes = fs::read(&path).map_err(io("read", &path))?;
    let mut words = signature.split_whitespace();
    let (signature, key) = (words.next().unwrap_or_default(), words.next().and_then(PublicKey::from_hex));
    if !key.as_ref().is_some_and(|key| key.has_signed(&bytes, signature)) {
        report.findings.push(Finding::Unsigned(list.to_owned()));
    } else if trusted.is_some_and(|trusted| Some(trusted) != key.as_ref()) {
        report.findings.push(Finding::OtherKey(list.to_owned()));
    }
    report.keys.extend(key.map(|key| key.fingerprint()));
    Ok(())
}

/// The lines of a file; none if it is not there.
fn lines(path: &Path) -> Result<Vec<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        text => Ok(text.map_err(io("read", path))?.lines().map(str::to_owned).collect()),
    }
}

/// All files below a directory, relative to it.
fn files(dir: &Path) -> Result<Vec<(String, u64)>> {
    let (mut found, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(below) = open.pop() {
        let here = dir.join(&below);
        for entry in fs::read_dir(&here).map_err(io("read", &here))? {
            let entry = entry.map_err(io("read", &here))?;
            let path = format!("{below}{}", entry.file_name().to_string_lossy());
            let metadata = entry.metadata().map_err(io("look at", &here))?;
            if metadata.is_dir() { open.push(path + "/") } else { found.push((path, metadata.len())) }
        }
    }
    Ok(found)
}
