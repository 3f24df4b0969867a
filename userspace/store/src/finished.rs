//! Recordings that are there, and what is to be done with them before they are catalogued.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::encrypt::{Recipients, SUFFIX};
use crate::error::{Result, io};
use crate::seal;
use crate::spool::{self, Saved, SpoolOptions};

/// Gets at the files of finished recordings, from any thread.
#[derive(Clone, Debug)]
pub struct Finished {
    archive: PathBuf,
    options: SpoolOptions,
}

impl Finished {
    pub(crate) fn new(archive: &Path, options: &SpoolOptions) -> Finished {
        Finished { archive: archive.to_owned(), options: options.clone() }
    }

    pub(crate) fn recipients(&self) -> &Recipients {
        &self.options.recipients
    }

    /// Where a file lies that a [`Saved`] names.
    pub fn path(&self, file: &str) -> PathBuf {
        self.archive.join(file)
    }

    /// A file to write to, which is gone when it is dropped.
    pub fn scratch(&self) -> Result<NamedTempFile> {
        let dir = spool::dir_in(&self.archive, self.options.node.as_deref());
        spool::new_file(&dir, "decode-", ".tmp").map_err(io("create a file in", &dir))
    }

    /// Puts a file in the place of a recording, by a rename. One whose name ends otherwise stands beside the one that it
    /// replaces until the catalog names it.
    pub fn replace(&self, saved: &Saved, by: NamedTempFile, extension: &str) -> Result<Saved> {
        let file = spool::with_extension(&saved.file, extension);
        let target = self.path(&file);
        if self.options.sync {
            by.as_file().sync_data().map_err(io("write", &target))?;
        }
        by.persist(&target).map_err(|error| io("rename into place", &target)(error.error))?;
        let bytes = fs::metadata(&target).map_err(io("look at", &target))?.len();
        let mut replaces = saved.replaces.clone();
        replaces.extend(Some(saved.file.clone()).filter(|before| *before != file));
        Ok(Saved { file, bytes, sha256: None, replaces, ..saved.clone() })
    }

    /// Whether recordings are to have a hash.
    pub(crate) fn hashes(&self) -> bool {
        self.options.sha256
    }

    /// What is done last with a recording, whatever else has been: it is hashed, and encrypted, if it is to be. With an hour
    /// of a call that takes a good part of a second.
    pub fn complete(&self, saved: &Saved) -> Result<Saved> {
        let mut saved = saved.clone();
        if self.hashes() && saved.sha256.is_none() {
            saved.sha256 = Some(seal::hash(&self.path(&saved.file))?);
        }
        self.encrypt(&saved)
    }

    /// Whether there is nothing left that [`Finished::complete`] would do.
    pub(crate) fn is_complete(&self, saved: &Saved) -> bool {
        (saved.sha256.is_some() || !self.hashes()) && (saved.file.ends_with(SUFFIX) || !self.encrypts())
    }

    /// Removes the undecoded packets of a recording's side, which are in it now.
    pub fn remove_rtpdump(&self, saved: &mut Saved, side: usize) -> Result<()> {
        let Some(file) = saved.rtpdump.get_mut(side).and_then(Option::take) else { return Ok(()) };
        let path = self.path(&file);
        fs::remove_file(&path).map_err(io("remove", &path))
    }
}
