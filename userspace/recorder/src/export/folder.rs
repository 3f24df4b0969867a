//! A folder that is being filled, which may take several attempts.
//!
//! ```text
//! <folder>/.export        what is being exported, until it is finished
//!          .export-…      a file that is being written
//!          …              files, each of which appears whole
//!          SHA256SUMS     all of them, as `sha256sum --check` reads it
//! ```

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spantape_store::seal::SecretKey;
use tempfile::NamedTempFile;

/// Says that an export is not finished.
const MARK: &str = ".export";
/// What the names of files begin with that are being written.
const SCRATCH: &str = ".export-";
/// The list of all hashes.
const SUMS: &str = "SHA256SUMS";

/// A folder that is being filled.
pub(crate) struct Folder {
    root: PathBuf,
    /// What is exported, relative to the root.
    payload: &'static str,
    /// Files that this attempt wants there, relative to the root.
    claimed: RefCell<Vec<String>>,
}

/// What a folder is being filled with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Of two attempts at the same this is the same.
    pub(crate) typed: String,
    /// What the moments in it were at the first attempt, in nanoseconds since 1970.
    pub(crate) moments: [Option<i64>; 2],
}

impl Folder {
    /// What was begun in a folder, if anything was. Another thing than what was `typed` is an error, as is a folder that is
    /// not empty. Nothing is created.
    pub(crate) fn begun(root: &Path, payload: &str, typed: &str) -> Result<Option<Mark>> {
        let mark = root.join(MARK);
        match fs::read(&mark) {
            Ok(begun) => match serde_json::from_slice::<Mark>(&begun).ok().filter(|mark| mark.typed == typed)
            {
                Some(mark) => Ok(Some(mark)),
                None => bail!(
                    "another export was begun in {}: finish it, or choose another folder",
                    root.display()
                ),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let is_ours = |entry: &fs::DirEntry| {
                    let name = entry.file_name();
                    let is_empty =
                        |dir: PathBuf| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
                    name.to_string_lossy().starts_with(SCRATCH)
                        || (!payload.is_empty() && name == payload && is_empty(entry.path()))
                };
                match fs::read_dir(root) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(error).with_context(|| format!("read {}", root.display())),
                    Ok(mut entries) => {
                        if entries.any(|entry| !entry.is_ok_and(|entry| is_ours(&entry))) {
                            bail!("{} is not empty: choose another folder", root.display());
                        }
                        Ok(None)
                    }
                }
            }
            Err(error) => Err(error).with_context(|| format!("read {}", mark.display())),
        }
    }

    /// Begins a folder, or goes on with one in which the same was begun: see [`Folder::begun`]. The payload lies in a
    /// directory of its own, or `payload` is empty.
    pub(crate) fn begin(root: &Path, payload: &'static str, mark: &Mark) -> Result<Folder> {
        fs::create_dir_all(root).with_context(|| format!("create {}", root.display()))?;
        if !root.join(MARK).exists() {
            let mut scratch = scratch(root)?;
            let written = serde_json::to_vec(mark).map_err(std::io::Error::other);
            let written = written.and_then(|mark| scratch.write_all(&mark));
            written.with_context(|| format!("write {}", root.join(MARK).display()))?;
            place(scratch, &root.join(MARK))?;
        }
        fs::create_dir_all(root.join(payload)).with_context(|| format!("create {}", root.display()))?;
        for name in all_files(root)?.iter().filter(|name| base(name).starts_with(SCRATCH)) {
            remove(&root.join(name))?;
        }
        Ok(Folder { root: root.to_owned(), payload, claimed: RefCell::default() })
    }

    /// How many files have been claimed, to [`Folder::forget`] those that come next.
    pub(crate) fn claims(&self) -> usize {
        self.claimed.borrow().len()
    }

    /// Files that were claimed since are not wanted after all.
    pub(crate) fn forget(&self, claims: usize) {
        self.claimed.borrow_mut().truncate(claims);
    }

    /// Removes what another attempt has left and this one has not asked for.
    pub(crate) fn settle(&self) -> Result<()> {
        let claimed = self.claimed.borrow();
        let claimed: HashSet<&str> = claimed.iter().map(String::as_str).collect();
        let found = files(&self.root)?;
        found
            .iter()
            .filter(|name| !claimed.contains(name.as_str()))
            .try_for_each(|name| remove(&self.root.join(name)))
    }

    fn claim(&self, name: &str) {
        let slash = if self.payload.is_empty() { "" } else { "/" };
        self.claimed.borrow_mut().push(format!("{}{slash}{name}", self.payload));
    }

    /// Where a file of the payload lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(self.payload).join(name)
    }

    /// Whether it is there already, from an earlier attempt.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.claim(name);
        self.path(name).exists()
    }

    /// A file that is about to be one of the payload.
    pub(crate) fn scratch(&self) -> Result<NamedTempFile> {
        scratch(&self.root.join(self.payload))
    }

    /// Makes it one.
    pub(crate) fn place(&self, scratch: NamedTempFile, name: &str) -> Result<()> {
        self.claim(name);
        place(scratch, &self.path(name))
    }

    /// Copies into the payload.
    pub(crate) fn copy(&self, from: &mut impl Read, name: &str) -> Result<()> {
        let scratch = self.scratch_of(from, name, "")?;
        self.place(scratch, name)
    }

    /// A copy of a file that is called so, whose hash must be that one unless none is known.
    pub(crate) fn scratch_of(&self, from: &mut impl Read, file: &str, sha256: &str) -> Result<NamedTempFile> {
        let mut scratch = self.scratch()?;
        let (found, _) =
            hashed(from, |block| scratch.write_all(block)).with_context(|| format!("copy {file}"))?;
        if !sha256.is_empty() && found != sha256 {
            bail!("{file} is not the one that its row was written for: `spantape verify` says more");
        }
        Ok(scratch)
    }

    /// Writes a file beside the payload, by its name relative to the folder.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.claimed.borrow_mut().push(name.to_owned());
        let path = self.root.join(name);
        let dir = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let mut scratch = scratch(dir)?;
        scratch.write_all(bytes).with_context(|| format!("write {}", path.display()))?;
        place(scratch, &path)
    }

    /// The hashes of all files but those that a test leaves out, by their names in order.
    pub(crate) fn sums(
        &self,
        is_listed: impl Fn(&str) -> bool,
        mut progress: impl FnMut(u64),
    ) -> Result<String> {
        let mut names: Vec<String> = files(&self.root)?.into_iter().filter(|name| is_listed(name)).collect();
        names.sort();
        let mut sums = String::new();
        for name in names {
            let path = self.root.join(&name);
            let (hash, bytes) = hash(&path).with_context(|| format!("read {}", path.display()))?;
            progress(bytes);
            sums.push_str(&format!("{hash}  {name}\n"));
        }
        Ok(sums)
    }

    /// Lists all hashes in one file, and signs it if there is a key.
    pub(crate) fn seal(&self, key: Option<&SecretKey>, progress: impl FnMut(u64)) -> Result<()> {
        let sums = self.sums(|name| name != SUMS && name.strip_suffix(".sig") != Some(SUMS), progress)?;
        self.write(SUMS, sums.as_bytes())?;
        key.map_or(Ok(()), |key| self.write(&format!("{SUMS}.sig"), sign(key, sums.as_bytes()).as_bytes()))
    }

    /// Nothing more comes.
    pub(crate) fn finish(self) -> Result<()> {
        fs::remove_file(self.root.join(MARK)).with_context(|| format!("finish {}", self.root.display()))
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// A signature and the public key, in hex.
pub(crate) fn sign(key: &SecretKey, bytes: &[u8]) -> String {
    format!("{} {}\n", key.sign(bytes), key.public().to_hex())
}

/// All files below a directory but those whose names begin with a dot, relative to it.
pub(super) fn files(root: &Path) -> Result<Vec<String>> {
    let mut found = all_files(root)?;
    found.retain(|name| !name.split('/').any(|part| part.starts_with('.')));
    Ok(found)
}

fn all_files(root: &Path) -> Result<Vec<String>> {
    let (mut found, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(below) = open.pop() {
        let dir = root.join(&below);
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let entry = entry.with_context(|| format!("read {}", dir.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir { open.push(format!("{below}{name}/")) } else { found.push(format!("{below}{name}")) }
        }
    }
    Ok(found)
}

fn hash(path: &Path) -> std::io::Result<(String, u64)> {
    hashed(&mut File::open(path)?, |_| Ok(()))
}

/// The hash of what is read, in hex, and how many bytes it is. Each block is handed on.
fn hashed(
    from: &mut impl Read,
    mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<(String, u64)> {
    let (mut hash, mut block, mut bytes) = (Sha256::new(), vec![0; 1 << 18], 0);
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), bytes)),
            Ok(read) => {
                hash.update(&block[..read]);
                each(&block[..read])?;
                bytes += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What of a name comes behind the directories.
fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("remove {}", path.display()))
}

/// A file that other users may read as far as the process's umask lets them.
fn scratch(dir: &Path) -> Result<NamedTempFile> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let made = tempfile::Builder::new().prefix(SCRATCH).permissions(mode).tempfile_in(dir);
    made.with_context(|| format!("create a file in {}", dir.display()))
}

fn place(file: NamedTempFile, to: &Path) -> Result<()> {
    file.persist(to).map_err(|error| error.error).with_context(|| format!("write {}", to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(typed: &str) -> Mark {
        Mark { typed: typed.to_owned(), moments: [Some(7), None] }
    }

    #[test]
    fn what_is_refused_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("bag");
        assert_eq!(Folder::begun(&root, "data", "a").unwrap(), None);
        assert!(!root.exists());
        fs::create_dir_all(root.join("data")).unwrap();
        assert_eq!(Folder::begun(&root, "data", "a").unwrap(), None);
        fs::write(root.join("data/x.wav"), "x").unwrap();
        let error = Folder::begun(&root, "data", "a").unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
        assert!(Folder::begun(&root, "", "a").is_err());
        assert_eq!(all_files(&root).unwrap(), ["data/x.wav"]);
    }

    #[test]
    fn nothing_of_another_attempt_is_delivered() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("bag");
        let first = Folder::begin(&root, "data", &mark("a")).unwrap();
        first.copy(&mut &b"1"[..], "one.wav").unwrap();
        first.copy(&mut &b"2"[..], "two.wav").unwrap();
        first.write("proof/old.json", b"{}").unwrap();
        fs::write(root.join("data/.export-abc"), "half").unwrap();
        fs::write(root.join(".export-abc"), "half").unwrap();
        assert_eq!(Folder::begun(&root, "data", "a").unwrap(), Some(mark("a")));
        assert!(Folder::begun(&root, "data", "b").is_err());
        let second = Folder::begin(&root, "data", &mark("a")).unwrap();
        assert!(second.has("one.wav"));
        let claims = second.claims();
        assert!(second.has("two.wav"));
        second.forget(claims);
        second.settle().unwrap();
        let mut left = all_files(&root).unwrap();
        left.sort();
        assert_eq!(left, [".export", "data/one.wav"]);
    }

    #[test]
    fn another_hash_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::begin(&dir.path().join("x"), "", &mark("a")).unwrap();
        let one = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
        folder.scratch_of(&mut &b"1"[..], "x.wav", one).unwrap();
        let error = folder.scratch_of(&mut &b"2"[..], "x.wav", one).unwrap_err().to_string();
        assert!(error.starts_with("x.wav is not the one"), "{error}");
        folder.scratch_of(&mut &b"2"[..], "x.wav", "").unwrap();
    }
}
