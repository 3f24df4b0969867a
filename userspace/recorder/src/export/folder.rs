//! A folder that is being filled, which may take several attempts.
//!
//! ```text
//! <folder>/.export        what is being exported, until it is finished
//!          …              files, each of which appears whole
//!          SHA256SUMS     all of them, as `sha256sum --check` reads it
//! ```

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use spantape_store::seal::SecretKey;
use tempfile::NamedTempFile;

/// Says that an export is not finished.
const MARK: &str = ".export";
/// The list of all hashes.
const SUMS: &str = "SHA256SUMS";

/// A folder that is being filled.
pub(crate) struct Folder {
    root: PathBuf,
    /// What is exported, relative to the root.
    payload: &'static str,
}

impl Folder {
    /// Begins a folder, or goes on with one in which the same was begun. `what` says what is exported; the payload lies in a
    /// directory of its own, or is empty.
    pub(crate) fn begin(root: &Path, payload: &'static str, what: &str) -> Result<Folder> {
        fs::create_dir_all(root.join(payload)).with_context(|| format!("create {}", root.display()))?;
        let mark = root.join(MARK);
        match fs::read_to_string(&mark) {
            Ok(begun) if begun == what => {}
            Ok(_) => {
                bail!("another export was begun in {}: finish it, or choose another folder", root.display())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let is_ours = |name: &std::ffi::OsStr| !payload.is_empty() && name == payload;
                let mut entries = fs::read_dir(root).with_context(|| format!("read {}", root.display()))?;
                if entries.any(|entry| !entry.is_ok_and(|entry| is_ours(&entry.file_name()))) {
                    bail!("{} is not empty: choose another folder", root.display());
                }
                fs::write(&mark, what).with_context(|| format!("write {}", mark.display()))?;
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", mark.display())),
        }
        Ok(Folder { root: root.to_owned(), payload })
    }

    /// Where a file of the payload lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(self.payload).join(name)
    }

    /// Whether it is there already, from an earlier attempt.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// A file that is about to be one of the payload.
    pub(crate) fn scratch(&self) -> Result<NamedTempFile> {
        scratch(&self.root.join(self.payload))
    }

    /// Makes it one.
    pub(crate) fn place(&self, scratch: NamedTempFile, name: &str) -> Result<()> {
        place(scratch, &self.path(name))
    }

    /// Copies into the payload.
    pub(crate) fn copy(&self, from: &mut impl Read, name: &str) -> Result<()> {
        let mut scratch = self.scratch()?;
        std::io::copy(from, scratch.as_file_mut()).with_context(|| format!("copy to {name}"))?;
        self.place(scratch, name)
    }

    /// Writes a file beside the payload, by its name relative to the folder.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
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
    let (mut found, mut open) = (Vec::new(), vec![String::new()]);
    while let Some(below) = open.pop() {
        let dir = root.join(&below);
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let entry = entry.with_context(|| format!("read {}", dir.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir { open.push(format!("{below}{name}/")) } else { found.push(format!("{below}{name}")) }
        }
    }
    Ok(found)
}

fn hash(path: &Path) -> std::io::Result<(String, u64)> {
    let (mut file, mut hash, mut block, mut bytes) = (File::open(path)?, Sha256::new(), vec![0; 1 << 18], 0);
    loop {
        match file.read(&mut block)? {
            0 => return Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), bytes)),
            read => {
                hash.update(&block[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// A file that other users may read as far as the process's umask lets them.
fn scratch(dir: &Path) -> Result<NamedTempFile> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let made = tempfile::Builder::new().prefix(".export-").permissions(mode).tempfile_in(dir);
    made.with_context(|| format!("create a file in {}", dir.display()))
}

fn place(file: NamedTempFile, to: &Path) -> Result<()> {
    file.persist(to).map_err(|error| error.error).with_context(|| format!("write {}", to.display()))?;
    Ok(())
}
