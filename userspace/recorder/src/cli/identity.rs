//! Who may hear recordings that are encrypted.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use spantape_store::encrypt::{self, Clear, Identities};

use super::show::Record;
use crate::encode::Sound;

/// What opens recordings.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Identity {
    /// Identities of age, as `age-keygen` writes them, for recordings that are encrypted
    #[arg(long, value_name = "FILE", env = "SPANTAPE_IDENTITY")]
    identity: Option<PathBuf>,
}

impl Identity {
    /// Reads the file, if one is named.
    pub(super) fn read(&self) -> Result<Option<Identities>> {
        Ok(self.identity.as_deref().map(Identities::read).transpose()?)
    }

    /// The samples of a recording.
    pub(super) fn sound(&self, archive: &Path, recording: &Record) -> Result<Sound> {
        let file = recording.text("file");
        let clear = open(archive, &file, &recording.text("key"), self.read()?.as_ref())?;
        Sound::of(clear, Path::new(encrypt::clear_name(&file)))
    }
}

/// A file of a recording in clear, by the names that the catalog has.
pub(super) fn open(
    archive: &Path,
    file: &str,
    key: &str,
    identities: Option<&Identities>,
) -> Result<Box<dyn Clear>> {
    inside(archive, file)?;
    inside(archive, key)?;
    encrypt::open(archive, file, key, identities).context("it cannot be heard")
}

/// A file of the archive by the name that the catalog has, which may not lead out of it.
pub(super) fn inside(archive: &Path, file: &str) -> Result<PathBuf> {
    let path = Path::new(file);
    if path.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        bail!("the catalog names a file outside of the archive: {file}");
    }
    Ok(archive.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_archive() {
        let dir = Path::new("/a");
        assert_eq!(inside(dir, "recordings/x.wav").unwrap(), Path::new("/a/recordings/x.wav"));
        for file in ["../x.wav", "/etc/passwd", "a/../../b"] {
            assert!(inside(dir, file).is_err(), "{file}");
        }
    }
}
