//! Legal holds: what must stay, whatever else is said.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spantape_core::time::Timestamp;

use crate::error::{Error, Result, io};
use crate::journal::{self, Book};
use crate::place::must_be_directory;
use crate::utc;

/// What must stay: a call that fits all that is said here. Nothing said is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Who took part, on either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<String>,
    /// SIP Call-ID, `call_uid`, `conversation_id` or `recording_id`, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Not over before that, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Begun before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// By what it is lifted.
    pub name: String,
    /// When it was placed, as RFC 3339.
    pub at: String,
    /// Who has placed it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What must stay.
    pub held: Held,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Placed(Hold),
    Lifted { name: String, at: String, by: String, reason: String },
}

/// Places a hold. A name that one in force has already is an error; lines that cannot be read are none.
pub fn place(archive: &Path, hold: &Hold) -> Result<()> {
    let _lock = lock(archive)?;
    if readable(archive)?.0.iter().any(|other| other.name == hold.name) {
        return Err(Error::HoldThere { name: hold.name.clone() });
    }
    journal::append(archive, &Book::Holds, &Line::Placed(hold.clone()))
}

/// Lifts a hold that is in force.
pub fn lift(archive: &Path, name: &str, at: String, by: String, reason: String) -> Result<()> {
    let _lock = lock(archive)?;
    if !readable(archive)?.0.iter().any(|hold| hold.name == name) {
        return Err(Error::NoHold { name: name.to_owned() });
    }
    journal::append(archive, &Book::Holds, &Line::Lifted { name: name.to_owned(), at, by, reason })
}

/// The holds that are in force, the oldest first. A line that cannot be read is an error: nothing may be deleted because of it.
pub fn in_force(archive: &Path) -> Result<Vec<Hold>> {
    match readable(archive)? {
        (holds, 0) => Ok(holds),
        (_, lines) => Err(Error::DamagedHolds { path: archive.to_owned(), lines }),
    }
}

/// While it is held, no hold is placed or lifted.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Waits until nobody else has it.
pub(super) fn lock(archive: &Path) -> Result<Lock> {
    must_be_directory(archive)?;
    let dir = archive.join(journal::DIRECTORY);
    fs::create_dir_all(&dir).map_err(io("create", &dir))?;
    let path = dir.join(".holds");
    let file = File::options().create(true).append(true).open(&path).map_err(io("open", &path))?;
    file.lock().map_err(io("lock", &path))?;
    Ok(Lock { _file: file })
}

/// How long the journal of holds is, which only grows.
pub(super) fn bytes(archive: &Path) -> Result<u64> {
    let path = journal_path(archive);
    match fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        metadata => Ok(metadata.map_err(io("look at", &path))?.len()),
    }
}

/// The holds in force as far as they can be read, and how many lines cannot. Who was killed while writing the last line has
/// never been told that a hold was placed: that line counts only if it is whole.
fn readable(archive: &Path) -> Result<(Vec<Hold>, u64)> {
    let path = journal_path(archive);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        text => text.map_err(io("read", &path))?,
    };
    let (mut holds, mut damaged): (Vec<Hold>, u64) = (Vec::new(), 0);
    for line in text.split_inclusive(|&byte| byte == b'\n').filter(|line| *line != b"\n") {
        match serde_json::from_slice(line) {
            Ok(Line::Placed(hold)) => holds.push(hold),
            Ok(Line::Lifted { name, .. }) => holds.retain(|hold| hold.name != name),
            Err(_) => damaged += u64::from(line.ends_with(b"\n")),
        }
    }
    Ok((holds, damaged))
}

fn journal_path(archive: &Path) -> PathBuf {
    archive.join(journal::DIRECTORY).join("holds.jsonl")
}

impl Held {
    /// Whether a row of calls or of recordings is meant.
    pub fn has(&self, row: &Map<String, Value>) -> bool {
        let is = |column: &str, wanted: &String| row.get(column).and_then(Value::as_str) == Some(wanted);
        let is_any = |columns: &[&str], wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| columns.iter().any(|column| is(column, wanted)))
        };
        let at = |column: &str| row.get(column).and_then(Value::as_str).and_then(utc::parse);
        is_any(&["from_user", "to_user"], &self.party)
            && is_any(&["call_id", "call_uid", "conversation_id", "recording_id"], &self.call)
            && self.since.is_none_or(|since| at("ended").is_none_or(|ended| ended >= since))
            && self.until.is_none_or(|until| at("start").is_none_or(|start| start < until))
    }
}
