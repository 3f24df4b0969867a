//! Legal holds: what must stay, whatever else is said.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spantape_core::time::Timestamp;

use crate::error::{Error, Result};
use crate::journal::{self, Book};
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

/// Places a hold. A name that one in force has already is an error.
pub fn place(archive: &Path, hold: &Hold) -> Result<()> {
    if in_force(archive)?.iter().any(|other| other.name == hold.name) {
        return Err(Error::HoldThere { name: hold.name.clone() });
    }
    journal::append(archive, &Book::Holds, &Line::Placed(hold.clone()))
}

/// Lifts a hold that is in force.
pub fn lift(archive: &Path, name: &str, at: String, by: String, reason: String) -> Result<()> {
    if !in_force(archive)?.iter().any(|hold| hold.name == name) {
        return Err(Error::NoHold { name: name.to_owned() });
    }
    journal::append(archive, &Book::Holds, &Line::Lifted { name: name.to_owned(), at, by, reason })
}

/// The holds that are in force, the oldest first. A line that cannot be read is an error: nothing may be deleted because of it.
pub fn in_force(archive: &Path) -> Result<Vec<Hold>> {
    let (lines, damaged) = journal::read(archive, &Book::Holds)?;
    if damaged > 0 {
        return Err(Error::DamagedHolds { path: archive.to_owned(), lines: damaged });
    }
    let mut holds: Vec<Hold> = Vec::new();
    for line in lines {
        match line {
            Line::Placed(hold) => holds.push(hold),
            Line::Lifted { name, .. } => holds.retain(|hold| hold.name != name),
        }
    }
    Ok(holds)
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
