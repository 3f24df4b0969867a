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

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::chain::links_in;
use super::tree::Proof;
use super::verify::{Finding, Report, chain};
use super::{Change, PublicKey, Row, hash};
use crate::encrypt::SUFFIX;
use crate::error::{Error, Result, io};
use crate::schema::Table;

/// Which file of an export a row is of, under the name `exported` in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Relative to where the rows are.
    #[serde(default)]
    pub file: String,
    /// How it was made: `archived`, as it was; `decrypted`; `decoded`. `purged`: there is none, as it has gone.
    pub how: String,
}

/// Lists of hashes: of a folder, and of a bag the payload's and that of all else.
const SUMS: &str = "SHA256SUMS";
const BAG: [&str; 2] = ["manifest-sha256.txt", "tagmanifest-sha256.txt"];

/// Looks at every file of an export, at the chain that comes with it, and at whether each row and recording was sealed.
/// `trusted` and `progress` are as for [`verify`](super::verify()); the list of hashes must have been signed by `signer`, if
/// that is another key than `trusted`.
pub fn verify_export(
    export: &Path,
    trusted: Option<&PublicKey>,
    signer: Option<&PublicKey>,
    mut progress: impl FnMut(u64),
) -> Result<Report> {
    let mut report = Report::default();
    let mut hashes = BTreeMap::new();
    let there = files(export, &mut report)?;
    let is_there = |name: &str| there.iter().any(|(path, _)| path == name);
    let is_bag = is_there("bagit.txt");
    let lists = if is_bag { &BAG[..] } else { &[SUMS][..] };
    if !is_there(lists[0]) {
        return Err(Error::NoExport { path: export.to_owned() });
    }
    if is_there(SUMS) && BAG.iter().any(|list| is_there(list)) {
        report.findings.push(Finding::Odd(format!("{SUMS}: lies beside the lists of a bag")));
    }
    for (path, bytes) in there {
        let found = hash(&export.join(&path))?;
        hashes.insert(path, found);
        progress(bytes);
        report.bytes += bytes;
    }
    let mut found = Found::new(export, if is_bag { "data/" } else { "" }, hashes);
    found.sums(lists, &mut report)?;
    let last = lists[lists.len() - 1];
    let is_signed = found.signature(last, signer.or(trusted), &mut report)?;
    found.is_trusted = is_signed && signer.or(trusted).is_some();
    if signer.is_some() && !found.hashes.contains_key(&format!("{last}.sig")) {
        report.findings.push(Finding::Unsigned(last.to_owned()));
    }
    found.proofs(trusted, &mut report)?;
    found.recordings(trusted.is_some(), &mut report)?;

    let own = lists.iter().flat_map(|list| [(*list).to_owned(), format!("{list}.sig")]);
    let own: HashSet<String> = own.collect();
    for (path, sha256) in &found.hashes {
        let is_proved = found.proved.contains(path) || found.sealed.contains(sha256);
        if is_signed && found.listed.contains(path) || is_proved {
            report.signed += 1;
        } else if !own.contains(path) && !path.starts_with(PROOF) {
            report.unproved.push(path.clone());
        }
    }
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
}

/// Where the chain and the proofs lie.
const PROOF: &str = "proof/";

/// What has been found out of an export.
struct Found<'a> {
    export: &'a Path,
    /// What exported files' names begin with.
    payload: &'static str,
    /// Of all files.
    hashes: BTreeMap<String, String>,
    /// Files that are what a list says.
    listed: HashSet<String>,
    /// Whether a key that is trusted has signed the lists.
    is_trusted: bool,
    /// Hashes of files by path, and of rows by id, that the chain proves.
    files: HashMap<String, String>,
    rows: HashMap<String, String>,
    /// Hashes of files that the chain proves.
    sealed: HashSet<String>,
    /// Files that rows which are proved stand for.
    proved: HashSet<String>,
}

impl<'a> Found<'a> {
    fn new(export: &'a Path, payload: &'static str, hashes: BTreeMap<String, String>) -> Found<'a> {
        Found {
            export,
            payload,
            hashes,
            listed: HashSet::new(),
            is_trusted: false,
            files: HashMap::new(),
            rows: HashMap::new(),
            sealed: HashSet::new(),
            proved: HashSet::new(),
        }
    }

    /// The lines of a file; none if it is not there.
    fn lines(&self, name: &str) -> Result<Vec<String>> {
        if !self.hashes.contains_key(name) {
            return Ok(Vec::new());
        }
        let path = self.export.join(name);
        let text = fs::read_to_string(&path).map_err(io("read", &path))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Every file is listed, and is what the list says; there is no other.
    fn sums(&mut self, lists: &[&str], report: &mut Report) -> Result<()> {
        let mut listed = BTreeMap::new();
        for list in lists {
            for line in self.lines(list)? {
                let is_new = line.split_once(' ').is_some_and(|(sha256, path)| {
                    let before = listed.insert(path.trim_start().to_owned(), sha256.to_owned());
                    before.is_none_or(|before| before == sha256)
                });
                if !is_new {
                    report.findings.push(Finding::Changed((*list).to_owned()));
                }
            }
        }
        for (path, sha256) in &listed {
            match self.hashes.get(path) {
                None => report.findings.push(Finding::Missing(path.clone())),
                Some(found) if found == sha256 => _ = self.listed.insert(path.clone()),
                Some(_) => report.findings.push(Finding::Changed(path.clone())),
            }
        }
        report.files = self.listed.len() as u64;
        let last = lists[lists.len() - 1];
        let is_last = |path: &str| path == last || path.strip_suffix(".sig") == Some(last);
        let added = self.hashes.keys().filter(|path| !listed.contains_key(*path) && !is_last(path));
        report.findings.extend(added.cloned().map(Finding::Added));
        Ok(())
    }

    /// Whether the list of hashes is signed, by that key if there is one.
    fn signature(&self, list: &str, signer: Option<&PublicKey>, report: &mut Report) -> Result<bool> {
        let name = format!("{list}.sig");
        if !self.hashes.contains_key(&name) {
            return Ok(false);
        }
        let read = |name: &str| {
            let path = self.export.join(name);
            fs::read(&path).map_err(io("read", &path))
        };
        let (bytes, signature) = (read(list)?, read(&name)?);
        let signature = String::from_utf8(signature).unwrap_or_default();
        let mut words = signature.split_whitespace();
        let (signature, key) = (words.next().unwrap_or_default(), words.next().and_then(PublicKey::from_hex));
        let is_its_own = key.as_ref().is_some_and(|key| key.has_signed(&bytes, signature));
        let is_other = signer.is_some_and(|signer| Some(signer) != key.as_ref());
        if !is_its_own {
            report.findings.push(Finding::Unsigned(list.to_owned()));
        } else if is_other {
            report.findings.push(Finding::OtherKey(list.to_owned()));
        }
        report.keys.extend(key.map(|key| key.fingerprint()));
        Ok(is_its_own && !is_other)
    }

    /// The chain, and what it proves.
    fn proofs(&mut self, trusted: Option<&PublicKey>, report: &mut Report) -> Result<()> {
        // What is no file might lead anywhere, or nowhere.
        let is_odd = |finding: &Finding| matches!(finding, Finding::Odd(what) if what.starts_with("proof"));
        let is_whole = !report.findings.iter().any(is_odd);
        let links =
            if is_whole { links_in(&self.export.into(), &format!("{PROOF}manifests"))? } else { Vec::new() };
        if trusted.is_some() && links.is_empty() {
            report.findings.push(Finding::Missing(format!("{PROOF}manifests")));
        }
        chain("manifests", &links, trusted, report);
        let manifests = links.iter().filter_map(|link| link.manifest.as_ref());
        let manifests: HashMap<u64, _> = manifests.map(|manifest| (manifest.number, manifest)).collect();
        for line in self.lines(&format!("{PROOF}proofs.jsonl"))? {
            let proof: Option<Proof> = serde_json::from_str(&line).ok();
            let leads = proof.as_ref().and_then(|proof| {
                let manifest = manifests.get(&proof.manifest)?;
                let change = serde_json::from_str::<Change>(&proof.change).ok()?;
                proof.leads_to(&manifest.root, manifest.changes).then_some(change)
            });
            match leads {
                Some(Change::Added(entry)) => {
                    self.sealed.insert(entry.sha256.clone());
                    self.files.insert(entry.path, entry.sha256);
                }
                Some(Change::Row(row)) if row.table == Table::Recordings.as_str() => {
                    self.rows.insert(row.id, row.sha256);
                }
                Some(Change::Row(_) | Change::Removed(_)) => {}
                None => report.findings.push(Finding::Unproved(proof.map_or(line, |proof| proof.change))),
            }
        }
        Ok(())
    }

    /// The rows of recordings, and what they are of. With `must_be_sealed` what is not is a finding.
    fn recordings(&mut self, must_be_sealed: bool, report: &mut Report) -> Result<()> {
        let name = format!("{}recordings.jsonl", self.payload);
        if !self.hashes.contains_key(&name) {
            report.findings.push(Finding::Missing(name));
            return Ok(());
        }
        let mut are_proved = true;
        for line in self.lines(&name)? {
            let row = serde_json::from_str::<Map<String, Value>>(&line).ok();
            // Of a name that is there twice another reader might take the other value.
            let Some(row) = row.filter(|row| serde_json::to_string(row).is_ok_and(|text| text == line))
            else {
                report.findings.push(Finding::Row(format!("{name}: has a line that nobody has exported")));
                are_proved = false;
                continue;
            };
            are_proved &= self.row(row, must_be_sealed, report);
        }
        if are_proved {
            self.proved.insert(name);
        }
        Ok(())
    }

    /// Whether a row is proved.
    fn row(&mut self, mut row: Map<String, Value>, must_be_sealed: bool, report: &mut Report) -> bool {
        let exported = row.remove("exported").and_then(|exported| serde_json::from_value(exported).ok());
        let text = |column: &str| row.get(column).and_then(Value::as_str).unwrap_or_default();
        let id = text("recording_id");
        let Report { findings, unsealed, rows, deleted, derived, .. } = report;
        let mut find = |what: &str| findings.push(Finding::Row(format!("recording {id}: {what}")));
        let is_proved = match self.rows.get(id) {
            None => {
                unsealed.push(format!("recording {id}"));
                if must_be_sealed {
                    find("nothing proves its row");
                }
                false
            }
            Some(sealed) => {
                let is_it = *sealed == Row::of(Table::Recordings, &row).sha256;
                if !is_it {
                    find("its row is not the one that was sealed");
                }
                is_it
            }
        };
        let Some(Exported { file, how }) = exported else {
            find("which file it is is not said");
            return is_proved;
        };
        if how == "purged" && file.is_empty() {
            *deleted += 1;
            return is_proved;
        }
        let name = format!("{}{file}", self.payload);
        let Some(found) = self.hashes.get(&name) else {
            find(&format!("its file {file} is missing"));
            return is_proved;
        };
        let some = |hash: &str| Some(hash.to_owned()).filter(|hash| !hash.is_empty());
        let wanted = match how.as_str() {
            "archived" => [some(text("sha256")), self.files.get(text("file")).cloned()],
            "decrypted" if text("file").ends_with(SUFFIX) => [some(text("content_sha256")), None],
            "decoded" if self.is_trusted => {
                *derived += 1;
                return is_proved;
            }
            _ => [None, None],
        };
        if wanted == [None, None] {
            find(&format!("nothing proves its file {file}"));
        } else if wanted.iter().flatten().all(|wanted| wanted == found) {
            *rows += 1;
            if is_proved {
                self.proved.insert(name);
            }
        } else {
            find(&format!("its file {file} is not the one that its row was written for"));
        }
        is_proved
    }
}

/// All files below a directory, relative to it. What is neither a file nor a directory is not touched.
fn files(dir: &Path, report: &mut Report) -> Result<Vec<(String, u64)>> {
    let (mut found, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(below) = open.pop() {
        let here = dir.join(&below);
        for entry in fs::read_dir(&here).map_err(io("read", &here))? {
            let entry = entry.map_err(io("read", &here))?;
            let name = entry.file_name();
            let path = format!("{below}{}", name.to_string_lossy());
            let metadata = entry.metadata().map_err(io("look at", &here))?;
            if name.to_str().is_none() || !metadata.is_dir() && !metadata.is_file() {
                report.findings.push(Finding::Odd(format!("{path}: is no file that an export has")));
            } else if metadata.is_dir() {
                open.push(path + "/");
            } else {
                found.push((path, metadata.len()));
            }
        }
    }
    Ok(found)
}
