//! Proof that an archive is as it was: a chain of signed manifests.
//!
//! ```text
//! <archive>/manifests/000001-2026-11-22.json        what has come and gone since the manifest before
//!                     000001-2026-11-22.json.sig    Ed25519 signature of that file's bytes, 128 hex digits
//!                     000001-2026-11-22.json.tsr    RFC 3161 answer of a time-stamping authority, if there is one
//!                     000002-2026-11-23.json        …
//! ```
//!
//! A manifest names recordings and parts of the catalog by their SHA-256, and carries the SHA-256 of the manifest before it.
//! So who has the last one, or its hash, can tell whether anything that was sealed has been changed, removed, or put in
//! order anew since: a row, an event, a tombstone, a recording.

mod chain;
mod key;
mod time_stamp;
mod verify;

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Result, io};

pub use chain::{Sealed, seal};
pub use key::{PublicKey, SecretKey};
pub use time_stamp::{attach_time_stamp, time_stamp_request};
pub use verify::{Finding, Report, verify};

/// What has come and gone since the manifest before.
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
    /// Files that have come, by path.
    pub added: Vec<Entry>,
    /// Files that have gone, by path.
    pub removed: Vec<Removal>,
}

impl Manifest {
    /// What is read and written here.
    pub const FORMAT: &'static str = "spantape-manifest/1";
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

/// A file that the archive had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// As it was called.
    #[serde(flatten)]
    pub entry: Entry,
    /// Why it went: `retention`, `erased`, `compacted`…
    pub reason: String,
    /// When, as RFC 3339.
    pub at: String,
}

/// Directories whose files are sealed.
const SEALED: [&str; 2] = ["catalog", "recordings"];

/// The files of an archive that are sealed, in order of their paths; what is not finished has a name that begins with a
/// dot and is none of them.
fn files(archive: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut open: Vec<String> = SEALED.map(str::to_owned).to_vec();
    while let Some(path) = open.pop() {
        let dir = archive.join(&path);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(io("read", &dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(io("read", &dir))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{path}/{name}");
            let kind = entry.file_type().map_err(io("look at", &dir))?;
            if kind.is_dir() {
                open.push(path);
            } else if !name.starts_with('.') {
                // Gone since: by retention, or into another part.
                let Ok(metadata) = entry.metadata() else { continue };
                found.push((path, metadata.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The SHA-256 of a file in hex.
pub(crate) fn hash(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(io("open", path))?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block).map_err(io("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&block[..read]),
        }
    }
}

fn hash_of(bytes: &[u8]) -> String {
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
