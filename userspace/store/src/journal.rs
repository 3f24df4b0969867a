//! What people have done with an archive: who has looked at what, what must stay, and what has gone.
//!
//! ```text
//! <archive>/journal/access-2026-11-30.jsonl    who has looked at what, a file a day
//!                   holds.jsonl                legal holds, placed and lifted
//!                   deletions.jsonl            tombstones: what has gone, when, why, by whom
//! ```
//!
//! Each line is a JSON object. Lines are only added, so a [`seal`](crate::seal) of such a file is one of its beginning.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Result, io};
use crate::partition;
use crate::place::{Place, must_be_directory};
use crate::seal::Entry;
use crate::utc::Day;

/// The directory's name.
pub(crate) const DIRECTORY: &str = "journal";

/// Which file of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Book {
    /// Who has looked at what on a day, `YYYY-MM-DD`.
    Access(String),
    /// What must stay.
    Holds,
    /// What has gone.
    Deletions,
}

/// Somebody has looked at something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// When, as RFC 3339.
    pub at: String,
    /// Who.
    pub by: String,
    /// By which command: `search`, `sql`, `show`, `play`, `export`.
    pub command: String,
    /// At what: a recording, or what was asked for.
    pub what: String,
}

/// A tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When, as RFC 3339.
    pub at: String,
    /// Who.
    pub by: String,
    /// Why: `retention`, `erasure`, `compaction`, and what was said of it.
    pub reason: String,
    /// The recording, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// The files that have gone.
    pub files: Vec<Entry>,
    /// Recordings whose rows have been taken out of the catalog.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<String>,
}

impl Book {
    fn path(&self, archive: &Path) -> PathBuf {
        archive.join(DIRECTORY).join(self.name())
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Book::Access(day) => format!("access-{day}.jsonl"),
            Book::Holds => "holds.jsonl".to_owned(),
            Book::Deletions => "deletions.jsonl".to_owned(),
        }
    }
}

/// Adds a line. On return of all but accesses it is on the disk.
pub fn append(archive: &Path, book: &Book, entry: &impl Serialize) -> Result<()> {
    must_be_directory(archive)?;
    let path = book.path(archive);
    let dir = archive.join(DIRECTORY);
    fs::create_dir_all(&dir).map_err(io("create", &dir))?;
    let mut file =
        File::options().create(true).read(true).append(true).open(&path).map_err(io("open", &path))?;
    // Texts and numbers only, which cannot fail.
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    line.push(b'\n');
    let written = file.lock().and_then(|()| {
        if is_torn(&mut file)? {
            // Whoever wrote the last line was killed in the middle of it.
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        if matches!(book, Book::Access(_)) { Ok(()) } else { file.sync_data() }
    });
    written.map_err(io("write", &path))
}

/// All lines, in order, and how many cannot be read.
pub fn read<T: DeserializeOwned>(archive: impl Into<Place>, book: &Book) -> Result<(Vec<T>, u64)> {
    read_in(&archive.into(), DIRECTORY, book)
}

/// All lines of a book in a directory, in order, and how many cannot be read.
pub(crate) fn read_in<T: DeserializeOwned>(place: &Place, dir: &str, book: &Book) -> Result<(Vec<T>, u64)> {
    let mut entries = Vec::new();
    let damaged = each(place, dir, book, |entry, _| entries.push(entry))?;
    Ok((entries, damaged))
}

/// Hands out each line of a book in a directory, in order, and where in the book it ends. Returns how many cannot be read.
pub(crate) fn each<T: DeserializeOwned>(
    place: &Place,
    dir: &str,
    book: &Book,
    mut take: impl FnMut(T, u64),
) -> Result<u64> {
    let name = format!("{dir}/{}", book.name());
    let Some(file) = place.file(&name)? else { return Ok(0) };
    let (mut damaged, mut at) = (0, 0);
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(|error| io("read", &place.path(&name))(error))?;
        let end = at + line.len() as u64;
        match serde_json::from_slice(&line) {
            Ok(entry) => take(entry, end),
            Err(_) => damaged += u64::from(!line.is_empty()),
        }
        at = end + 1;
    }
    Ok(damaged)
}

/// The days of which there is an access log, oldest first.
pub fn access_days(archive: &Path) -> Result<Vec<Day>> {
    let names = partition::names(&archive.join(DIRECTORY))?;
    let day = |name: &String| Day::parse(name.strip_prefix("access-")?.strip_suffix(".jsonl")?);
    let mut days: Vec<Day> = names.iter().filter_map(day).collect();
    days.sort();
    Ok(days)
}

fn is_torn(file: &mut File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(what: &str) -> Access {
        let text = |text: &str| text.to_owned();
        Access { at: text("2026-11-30T00:00:00Z"), by: text("root"), command: text("show"), what: text(what) }
    }

    #[test]
    fn lines_stay_apart() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::Access("2026-11-30".to_owned());
        assert_eq!(read::<Access>(dir.path(), &book).unwrap(), (Vec::new(), 0));
        append(dir.path(), &book, &access("a\nb")).unwrap();
        let path = book.path(dir.path());
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &whole[..20]].concat()).unwrap();
        append(dir.path(), &book, &access("c")).unwrap();
        assert_eq!(read(dir.path(), &book).unwrap(), (vec![access("a\nb"), access("c")], 1));
    }

    #[test]
    fn days_of_the_access_log() {
        let dir = tempfile::tempdir().unwrap();
        assert!(access_days(dir.path()).unwrap().is_empty());
        for day in ["2026-12-01", "2026-11-30", "x"] {
            append(dir.path(), &Book::Access(day.to_owned()), &access("a")).unwrap();
        }
        append(dir.path(), &Book::Deletions, &access("a")).unwrap();
        let days: Vec<String> = access_days(dir.path()).unwrap().iter().map(Day::to_string).collect();
        assert_eq!(days, ["2026-11-30", "2026-12-01"]);
    }
}
