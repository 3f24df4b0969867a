//! What can go wrong with files and questions: the operation, the path, the source.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use crate::schema::Table;
use spantape_core::media::TapeId;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be kept or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {operation} {}{}", path.display(), advice(source))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A part of the catalog could not be written or read.
    #[error("cannot {operation} {}{}", path.display(), part_advice(operation, source))]
    Parquet {
        /// What was tried.
        operation: &'static str,
        /// With which part.
        path: PathBuf,
        /// Why not.
        source: ParquetError,
    },
    /// There is no archive there.
    #[error("{} is no archive: {reason}; name the directory that `--archive` named when it was recorded", path.display())]
    NoArchive {
        /// Where it was looked for.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// That is no object store.
    #[error("{url} can be no archive: {reason}")]
    NoStore {
        /// What was named.
        url: String,
        /// Why not.
        reason: String,
    },
    /// A name leads out of the archive.
    #[error("the catalog names a file outside of the archive: {name}")]
    Outside {
        /// It.
        name: String,
    },
    /// What was copied there is of another archive.
    #[error("{} is there already, of another archive: name each of them by `--node`, or copy this one to a URL of its own", path.display())]
    OtherArchive {
        /// What is not of this archive.
        path: PathBuf,
    },
    /// Another process writes to the archive.
    #[error("{} is in use: another process records into this archive; stop it, or name another directory with `--archive`", path.display())]
    Busy {
        /// The archive.
        path: PathBuf,
    },
    /// Another process seals, compacts or purges the archive.
    #[error("{} is being sealed, compacted or purged by another process; try again when it has finished", path.display())]
    Kept {
        /// The archive.
        path: PathBuf,
    },
    /// A recorder with a node's name would record beside one without.
    #[error("{} has been recorded into without a node's name, and readers of the catalog take either all with one or all without: leave it out, or name another directory with `--archive`", path.display())]
    NodeRefused {
        /// The archive.
        path: PathBuf,
    },
    /// A recorder without a node's name would record beside those that have one.
    #[error("{} is recorded into by nodes, and readers of the catalog take either all with a name or all without: give this recorder one by `--node NAME` or `[archive] node`, or name another directory with `--archive`", path.display())]
    NodeMissing {
        /// The archive.
        path: PathBuf,
    },
    /// Which parts take the place of which cannot be told.
    #[error("{} cannot be read: of the parts beside it, those named `.part-….parquet.new` were to take the place of others; as long as no part is missing that `spantape verify` knows, remove this file, and what was not finished is begun anew", path.display())]
    DamagedSwitch {
        /// The file that should tell.
        path: PathBuf,
    },
    /// Which rows were to go cannot be told.
    #[error("{} cannot be read: it names calls whose rows a `spantape purge --rows` had begun to take out; remove it, and purge again", path.display())]
    DamagedPurge {
        /// The file that should tell.
        path: PathBuf,
    },
    /// The parts of a day do not stay.
    #[error("parts of the catalog in {} go again and again while they are searched: another process compacts or purges this archive; try again when it has finished", path.display())]
    Restless {
        /// The day.
        path: PathBuf,
    },
    /// The tape was never opened, or is closed.
    #[error("tape {0} is not open; this is a fault of spantape, please report it")]
    NoTape(TapeId),
    /// What is on the tape cannot be brought to the rate.
    #[error("tape {tape} cannot be brought from {from} to {to} samples a second; it stays as it is")]
    NoRate {
        /// Which tape.
        tape: TapeId,
        /// The rate it has.
        from: u32,
        /// The rate asked for.
        to: u32,
    },
    /// A file holds no key.
    #[error("{} holds no Ed25519 key in PEM; `spantape keygen` makes one", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A hold of that name is in force.
    #[error("there is a hold `{name}` already; lift it first, or choose another name")]
    HoldThere {
        /// Its name.
        name: String,
    },
    /// No hold of that name is in force.
    #[error("there is no hold `{name}` in force; `spantape hold list` names those that are")]
    NoHold {
        /// What was given.
        name: String,
    },
    /// What is held cannot be told.
    #[error("{lines} lines of journal/holds.jsonl in {} cannot be read: nothing is deleted until somebody has looked at them; place again, by `spantape hold place`, what they were to hold, then take those lines out", path.display())]
    DamagedHolds {
        /// The archive.
        path: PathBuf,
        /// How many.
        lines: u64,
    },
    /// There is no export there.
    #[error("{} is neither a folder nor a bag that `spantape export` has made: it has no list of hashes; unpack a zip file first", path.display())]
    NoExport {
        /// The directory.
        path: PathBuf,
    },
    /// A recording is encrypted.
    #[error("{} is encrypted: name the file of an identity of age with `--identity`", path.display())]
    Encrypted {
        /// The recording.
        path: PathBuf,
    },
    /// A recording's key has gone.
    #[error("{} cannot be decrypted by anybody: its key has been destroyed", path.display())]
    KeyDestroyed {
        /// The recording.
        path: PathBuf,
    },
    /// A key is for others.
    #[error("{} is encrypted for somebody else: none of the identities in `--identity` can decrypt it", path.display())]
    OtherIdentity {
        /// The key.
        path: PathBuf,
    },
    /// A file holds no identity.
    #[error("{} holds no identity of age; `age-keygen` makes one", path.display())]
    NoIdentity {
        /// The file.
        path: PathBuf,
    },
    /// There is no such manifest, or it cannot be read.
    #[error("{} is no manifest that can be read; `spantape verify` says more", path.display())]
    NoManifest {
        /// Where.
        path: PathBuf,
    },
    /// What was sealed of a file that only grows is not there any more.
    #[error("{} is not what was sealed of it: lines that were there are others now, or have gone; nothing is sealed until it has them again, so put it back from a copy", path.display())]
    Rewritten {
        /// The file.
        path: PathBuf,
    },
    /// What should be a time stamp is not one of this manifest.
    #[error("that is no time stamp that was granted for {}", path.display())]
    NoTimeStamp {
        /// The manifest.
        path: PathBuf,
    },
    /// The table lacks the column that was asked for.
    #[error("the table `{table}` cannot be searched by {option}; tables that can: {tables}")]
    NotInTable {
        /// What was asked for.
        option: &'static str,
        /// The table.
        table: Table,
        /// The tables that have it.
        tables: String,
    },
}

/// Makes an [`Error::Io`] of an [`io::Error`].
pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}

/// Makes an [`Error::Parquet`] of what the parquet and arrow crates complain of.
pub(crate) fn parquet<E: Into<ParquetError>>(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> Error {
    move |source| Error::Parquet { operation, path: path.to_owned(), source: source.into() }
}

/// What can be done about it, to follow the path.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull => {
            ": the disk is full; make room on it, or name a directory on another one with `--archive`"
        }
        ErrorKind::QuotaExceeded => {
            ": the quota is used up; make room or raise it, or name another directory with `--archive`"
        }
        ErrorKind::PermissionDenied => {
            ": permission is missing; give the user that spantape runs as access to it, or run it as its owner"
        }
        ErrorKind::ReadOnlyFilesystem => {
            ": the file system is read-only; mount it for writing, or name another directory with `--archive`"
        }
        _ if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => {
            ": too many files are open; raise the limit (`ulimit -n`, or `LimitNOFILE=` of the service)"
        }
        _ => "",
    }
}

fn part_advice(operation: &str, error: &ParquetError) -> &'static str {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return advice(error);
        }
        cause = error.source();
    }
    match operation {
        "read" => {
            ": it is damaged, or of another version of spantape; move it out of the archive and replay its capture"
        }
        _ => "",
    }
}

/// Files open in the system, and in the process. The same numbers on all of Linux.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn say_what_to_do() {
        let path = Path::new("/a/spool/1.part");
        for (number, told) in [
            (28, "cannot write /a/spool/1.part: the disk is full; make room on it, or"),
            (122, "quota is used up; make room"),
            (13, "permission is missing; give the user"),
            (30, "read-only; mount it"),
            (24, "too many files are open; raise the limit"),
        ] {
            let error = || io::Error::from_raw_os_error(number);
            let text = io("write", path)(error()).to_string();
            assert!(text.contains(told), "{text}");
            assert_eq!(parquet("write", path)(error()).to_string(), text);
        }
        assert_eq!(
            io("read", path)(io::Error::from_raw_os_error(5)).to_string(),
            "cannot read /a/spool/1.part"
        );
        let broken = parquet("read", path)(ParquetError::General("no magic".into())).to_string();
        assert!(broken.ends_with("move it out of the archive and replay its capture"), "{broken}");
    }
}
