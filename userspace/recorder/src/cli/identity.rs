//! Who may hear recordings that are encrypted.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use spantape_store::Place;
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
    pub(super) fn sound(&self, archive: impl Into<Place>, recording: &Record) -> Result<Sound> {
        let file = recording.text("file");
        let clear = open(archive, &file, &recording.text("key"), self.read()?.as_ref())?;
        Sound::of(clear, Path::new(encrypt::clear_name(&file)))
    }
}

/// A file of a recording in clear, by the names that the catalog has.
pub(super) fn open(
    archive: impl Into<Place>,
    file: &str,
    key: &str,
    identities: Option<&Identities>,
) -> Result<Box<dyn Clear>> {
    encrypt::open(archive, file, key, identities).context("it cannot be heard")
}
