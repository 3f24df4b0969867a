//! Who seals, compacts or purges an archive: one at a time, beside the one who records into it.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result, io};
use crate::place::must_be_directory;

/// While it is held, nobody else removes parts of the catalog or seals it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Locks what has been recorded.
pub(crate) fn lock(archive: &Path) -> Result<Lock> {
    must_be_directory(archive)?;
    let dir = archive.join("catalog");
    fs::create_dir_all(&dir).map_err(io("create", &dir))?;
    let path = dir.join(".keeper");
    let file = File::create(&path).map_err(io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error::Kept { path: archive.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
    }
}
