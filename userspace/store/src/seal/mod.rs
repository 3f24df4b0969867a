//! Proof that an archive is as it was: a chain of signed manifests.
//!
//! ```text
//! <archive>/manifests/000001-2026-11-22.json          number, hash of the manifest before, hash of what has changed
//!                     000001-2026-11-22.json.sig      Ed25519 signature of that file's bytes, 128 hex digits
//!                     000001-2026-11-22.json.tsr      RFC 3161 answer of a time-stamping authority, if there is one
//!                     000001-2026-11-22.changes.jsonl what has come and gone since the manifest before
//!                     000002-2026-11-23.json          …
//! ```
//!
//! Changes are files by their SHA-256 (recordings, parts of the catalog, the journal as far as it goes) and rows of recordings,
//! calls and events by the SHA-256 of what they say. A manifest carries the root of the tree of hashes over them, and the SHA-256
//! of the manifest before it. So who has the last one, or its hash, can tell whether anything that was sealed has been changed,
//! removed, or put in order anew since; and of a single recording it can be proved that it was sealed, without the archive and
//! without a word about the others.
//!
//! Where several archives were copied to one place, each has a chain and a journal of its own there, in directories called
//! `node=<name>`.

mod chain;
mod export;
mod key;
mod known;
mod time_stamp;
mod tree;
mod verify;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Result, io};
use crate::journal;
use crate::place::Place;
use crate::schema::Table;

#[cfg(feature = "remote")]
pub(crate) use chain::{MANIFESTS, changes_name};
pub use chain::{Sealed, manifest_files, prove, seal};
pub use export::{Exported, verify_export};
pub use key::{PublicKey, SecretKey};
#[cfg(feature = "remote")]
pub(crate) use known::is_part_of_recordings;
pub use time_stamp::{attach_time_stamp, time_stamp_request};
pub use tree::Proof;
pub use verify::{Finding, Report, verify};

/// A link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`Manifest::FORMAT`].
    pub format: String,
    /// 1 for the first, then one more each time.
    pub number: u64,
    /// SHA-256 of the manifest before, in hex; `None` for the first.
    pub previous: Option<String>,
    /// When it was sealed, as RFC 3339.
    pub sealed: String,
    /// The public key that signs it, in hex.
    pub key: String,
    /// How many changes it has.
    pub changes: u64,
    /// The root of the tree of hashes over them (RFC 9162, section 2.1), in hex. A leaf is a line of the list of changes
    /// without its end.
    pub root: String,
}

impl Manifest {
    /// What is read and written here.
    pub const FORMAT: &'static str = "spantape-manifest/2";
}

/// What has come or gone since the manifest before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A file has come, or the journal has grown.
    Added(Entry),
    /// A file has gone.
    Removed(Removal),
    /// A row of recordings, calls or events has come.
    Row(Row),
}

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the archive, with `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash in hex.
    pub sha256: String,
}

/// A row of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Of which table; where none is named, that of recordings.
    #[serde(default = "recordings")]
    pub table: String,
    /// What the table's [`id_column`](Table::id_column) says.
    #[serde(alias = "recording_id")]
    pub id: String,
    /// The SHA-256 of the row as a JSON object ([`rows::objects`](crate::rows::objects)) without spaces, names in order.
    pub sha256: String,
}

impl Row {
    /// Of a row as it is read from the catalog.
    pub fn of(table: Table, row: &Map<String, Value>) -> Row {
        let id = row.get(table.id_column()).and_then(Value::as_str).unwrap_or_default().to_owned();
        // Texts and numbers only, which cannot fail.
        let text = serde_json::to_vec(row).unwrap_or_default();
        Row { table: table.as_str().to_owned(), id, sha256: hash_of(&text) }
    }
}

fn recordings() -> String {
    Table::Recordings.as_str().to_owned()
}

/// A file that the archive had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// As it was called.
    #[serde(flatten)]
    pub entry: Entry,
    /// Why it went: `retention`, `erasure`, `compaction`…; `unknown` when nobody has said why.
    pub reason: String,
    /// When, as RFC 3339.
    pub at: String,
}

/// Directories whose files are sealed.
const SEALED: [&str; 4] = ["catalog", "recordings", "keys", journal::DIRECTORY];

/// Whether a file is one that grows, of which as much is sealed as there is.
fn grows(path: &str) -> bool {
    path.strip_prefix(journal::DIRECTORY).is_some_and(|rest| rest.starts_with('/'))
}

/// The files of an archive that are sealed, in order of their paths.
fn files(archive: &Place) -> Result<Vec<(String, u64)>> {
    archive.files(&SEALED)
}

/// The SHA-256 of a file in hex.
pub(crate) fn hash(path: &Path) -> Result<String> {
    hash_as_far_as(path, u64::MAX)
}

/// The SHA-256 of a file's beginning in hex.
pub(crate) fn hash_as_far_as(path: &Path, bytes: u64) -> Result<String> {
    let mut file = File::open(path).map_err(io("open", path))?.take(bytes);
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block).map_err(io("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&block[..read]),
        }
    }
}

/// The SHA-256 of beginnings of a file, in hex, by their lengths, which are in order; none of those that it is too short for.
fn hashes_of_beginnings(mut file: impl Read, lengths: &[u64]) -> std::io::Result<Vec<String>> {
    let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 18]);
    let (mut at, mut hashes) = (0, Vec::new());
    for &length in lengths {
        while at < length {
            let wanted = usize::try_from(length - at).map_or(block.len(), |left| left.min(block.len()));
            let read = file.read(&mut block[..wanted])?;
            if read == 0 {
                return Ok(hashes);
            }
            hash.update(&block[..read]);
            at += read as u64;
        }
        hashes.push(hex(&hash.clone().finalize()));
    }
    Ok(hashes)
}

/// The first 32 hex digits as a number: 128 bits of a hash are more than anybody can match. Of what is none, the hash.
fn key(text: &str) -> u128 {
    let digits = |text: &str| text.get(..32).and_then(|digits| u128::from_str_radix(digits, 16).ok());
    digits(text).unwrap_or_else(|| digits(&hash_of(text.as_bytes())).unwrap_or_default())
}

pub(crate) fn hash_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if digits.1.is_empty() { digits.0.iter().map(byte).collect() } else { None }
}
