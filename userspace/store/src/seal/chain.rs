//! Sealing: one manifest more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Entry, Manifest, Removal, SecretKey, files, hash, hash_of};
use crate::error::{Error, Result, io};
use crate::spool;

/// What a manifest has sealed.
#[derive(Debug)]
pub struct Sealed {
    /// Where it lies.
    pub path: PathBuf,
    /// It.
    pub manifest: Manifest,
    /// SHA-256 of its bytes in hex: who has this, by any other way, can prove all that was sealed until now.
    pub hash: String,
}

/// A manifest as it was found.
pub(super) struct Link {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// `None`: it is none that can be read.
    pub(super) manifest: Option<Manifest>,
    pub(super) signature: Option<String>,
}

/// Seals what has come and gone since the last manifest, at a moment given as RFC 3339. `removed` says why files have
/// gone: one of which it does not speak has gone for `unknown` reasons, and is named so. Nothing new, no manifest.
///
/// Files that are only just being written are left for the next time. The catalog is not to be written to meanwhile by
/// whoever compacts or purges it.
pub fn seal(archive: &Path, key: &SecretKey, now: &str, removed: &[Removal]) -> Result<Option<Sealed>> {
    let dir = directory(archive);
    let links = links(archive)?;
    let mut known = BTreeMap::new();
    for link in &links {
        let manifest = link.manifest.as_ref().ok_or_else(|| Error::NoManifest { path: link.path.clone() })?;
        apply(&mut known, manifest);
    }
    let mut added = Vec::new();
    let there: BTreeMap<String, u64> = files(archive)?.into_iter().collect();
    for (path, &bytes) in &there {
        if !known.contains_key(path) {
            let sha256 = hash(&archive.join(path))?;
            added.push(Entry { path: path.clone(), bytes, sha256 });
        }
    }
    let gone = known.into_values().filter(|entry: &Entry| !there.contains_key(&entry.path));
    let removed: Vec<Removal> = gone
        .map(|entry| {
            let told = removed.iter().find(|removal| removal.entry.path == entry.path);
            let (reason, at) = match told {
                Some(told) => (told.reason.clone(), told.at.clone()),
                None => ("unknown".to_owned(), now.to_owned()),
            };
            Removal { entry, reason, at }
        })
        .collect();
    if added.is_empty() && removed.is_empty() {
        return Ok(None);
    }
    let manifest = Manifest {
        format: Manifest::FORMAT.to_owned(),
        number: links.len() as u64 + 1,
        previous: links.last().map(|link| hash_of(&link.bytes)),
        sealed: now.to_owned(),
        key: key.public().to_hex(),
        added,
        removed,
    };
    // Texts and numbers only, which cannot fail.
    let mut bytes = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    bytes.push(b'\n');
    fs::create_dir_all(&dir).map_err(io("create", &dir))?;
    let day = now.get(..10).unwrap_or("undated");
    let path = dir.join(format!("{:06}-{day}.json", manifest.number));
    // First the signature: a manifest without one is never there.
    write(&dir, &with_suffix(&path, ".sig"), format!("{}\n", key.sign(&bytes)).as_bytes())?;
    write(&dir, &path, &bytes)?;
    Ok(Some(Sealed { path, hash: hash_of(&bytes), manifest }))
}

/// Where the manifests of an archive lie.
pub(super) fn directory(archive: &Path) -> PathBuf {
    archive.join("manifests")
}

/// What is sealed once a manifest has been.
pub(super) fn apply(known: &mut BTreeMap<String, Entry>, manifest: &Manifest) {
    for removal in &manifest.removed {
        known.remove(&removal.entry.path);
    }
    for entry in &manifest.added {
        known.insert(entry.path.clone(), entry.clone());
    }
}

/// The manifests of an archive, in the order of their names.
pub(super) fn links(archive: &Path) -> Result<Vec<Link>> {
    let dir = directory(archive);
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io("read", &dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(io("read", &dir))?.file_name().into_string().ok());
    }
    names.retain(|name| name.ends_with(".json") && !name.starts_with('.'));
    names.sort();
    let link = |name: String| {
        let path = dir.join(&name);
        let bytes = fs::read(&path).map_err(io("read", &path))?;
        let manifest = serde_json::from_slice(&bytes).ok();
        let manifest = manifest.filter(|manifest: &Manifest| manifest.format == Manifest::FORMAT);
        let signature = fs::read_to_string(with_suffix(&path, ".sig")).ok();
        Ok(Link { path, name, bytes, manifest, signature })
    };
    names.into_iter().map(link).collect()
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn write(dir: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = spool::new_file(dir, ".", ".tmp").map_err(io("create a file in", dir))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(io("write", path))?;
    file.persist_noclobber(path).map_err(|error| io("rename into place", path)(error.error))?;
    Ok(())
}
