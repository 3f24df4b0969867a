//! What can go wrong with files and questions: the operation, the path, the source.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use crate::schema::Table;
use crate::spool::TapeId;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be kept or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A part of the catalog could not be written or read.
    #[error("cannot {operation} {}", path.display())]
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
    /// Another process writes to the archive.
    #[error("{} is in use: another process records into this archive", path.display())]
    Busy {
        /// The archive.
        path: PathBuf,
    },
    /// The tape was never opened, or is closed.
    #[error("tape {0} is not open")]
    NoTape(TapeId),
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
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}

/// Makes an [`Error::Parquet`] of what the parquet and arrow crates complain of.
pub(crate) fn parquet<E: Into<ParquetError>>(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> Error {
    let path = path.to_owned();
    move |source| Error::Parquet { operation, path, source: source.into() }
}
