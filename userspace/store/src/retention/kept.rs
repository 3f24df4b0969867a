//! What holds keep: a recording whose call is meant, and a call of which a recording is.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::hold::{self, Hold};
use crate::error::Result;
use crate::query::Query;
use crate::rows::text_of;
use crate::schema::Table;

/// What the holds in force keep of some calls.
#[derive(Debug, Default)]
pub(super) struct Kept {
    holds: Vec<Hold>,
    /// Calls that are meant themselves, and by which hold.
    calls: HashMap<String, String>,
    /// Calls of which a recording is meant.
    by_recording: HashMap<String, String>,
}

impl Kept {
    pub(super) fn of(archive: &Path, holds: Vec<Hold>, calls: &Arc<HashSet<String>>) -> Result<Kept> {
        let mut kept = Kept { holds, ..Kept::default() };
        if kept.holds.is_empty() || calls.is_empty() {
            return Ok(kept);
        }
        for table in [Table::Calls, Table::Recordings] {
            let query = Query { table, calls: Some(calls.clone()), ..Query::default() };
            for row in query.objects(archive)? {
                let Some(hold) = kept.itself(&row) else { continue };
                let all = if table == Table::Calls { &mut kept.calls } else { &mut kept.by_recording };
                all.insert(text_of(&row, "call_uid").to_owned(), hold);
            }
        }
        Ok(kept)
    }

    /// The hold that keeps a recording.
    pub(super) fn recording(&self, row: &Map<String, Value>) -> Option<String> {
        self.itself(row).or_else(|| self.calls.get(text_of(row, "call_uid")).cloned())
    }

    /// The hold that keeps what the catalog says of a call.
    pub(super) fn call(&self, uid: &str) -> Option<String> {
        self.calls.get(uid).or_else(|| self.by_recording.get(uid)).cloned()
    }

    fn itself(&self, row: &Map<String, Value>) -> Option<String> {
        self.holds.iter().find(|hold| hold.held.has(row)).map(|hold| hold.name.clone())
    }
}

/// What holds keep while a plan is carried out: those that are placed meanwhile count.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    archive: &'a Path,
    calls: Arc<HashSet<String>>,
    /// How long the journal was when it was read.
    bytes: Option<u64>,
    kept: Kept,
}

impl<'a> Watch<'a> {
    pub(super) fn new(archive: &'a Path, calls: HashSet<String>) -> Watch<'a> {
        Watch { archive, calls: Arc::new(calls), bytes: None, kept: Kept::default() }
    }

    /// What is kept now. The lock of holds is held by who calls.
    pub(super) fn kept(&mut self) -> Result<&Kept> {
        let bytes = hold::bytes(self.archive)?;
        if self.bytes != Some(bytes) {
            self.kept = Kept::of(self.archive, hold::in_force(self.archive)?, &self.calls)?;
            self.bytes = Some(bytes);
        }
        Ok(&self.kept)
    }
}
