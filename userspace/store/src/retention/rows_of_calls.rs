//! Taking the rows of calls out of every table.
//!
//! ```text
//! <archive>/catalog/.purge.json    whose rows go, until all of them have gone
//! ```
//!
//! The rows of one table are what those of the others are found by. So that nobody loses them when this process is killed,
//! what goes is written down first, and the next one who looks after the archive finishes it.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use serde::{Deserialize, Serialize};

use super::hold;
use super::kept::{Kept, Watch};
use super::purge::{files, time};
use crate::error::{Error, Result, io};
use crate::query::Query;
use crate::repack::{self, Order};
use crate::rows::text_of;
use crate::schema::{TIME_COLUMN, Table};
use crate::spool;
use crate::utc::Day;

const STARTED: &str = ".purge.json";
const UNFINISHED: &str = ".purge-";

/// Calls and recordings last: by them it is told what a hold keeps.
const ORDER: [Table; 5] = [Table::Events, Table::Streams, Table::Quality, Table::Recordings, Table::Calls];

/// Whose rows go.
#[derive(Debug, Serialize, Deserialize)]
struct Rows {
    order: Order,
    calls: BTreeSet<String>,
    /// Their recordings, whose files have gone: one that has come since stays.
    recordings: BTreeSet<String>,
}

/// Takes out the rows of these calls but of those that a hold or a recording keeps. Tells of how many they were.
pub(super) fn remove(
    archive: &Path,
    calls: &BTreeSet<String>,
    watch: &mut Watch<'_>,
    order: &Order,
) -> Result<u64> {
    if calls.is_empty() {
        return Ok(0);
    }
    let rows = {
        // Whoever places a hold from here on comes too late.
        let _lock = hold::lock(archive)?;
        let kept = watch.kept()?;
        let mut calls = calls.clone();
        calls.retain(|uid| kept.call(uid).is_none());
        let found = Query { calls: Some(set(&calls)), ..Query::default() }.objects(archive)?;
        for row in found.iter().filter(|row| !files(archive, row).is_empty()) {
            calls.remove(text_of(row, "call_uid"));
        }
        let going = found.iter().filter(|row| calls.contains(text_of(row, "call_uid")));
        let recordings = going.map(|row| text_of(row, "recording_id").to_owned()).collect();
        let rows = Rows { order: order.clone(), calls, recordings };
        if rows.calls.is_empty() {
            return Ok(0);
        }
        rows.write(archive)?;
        rows
    };
    rows.carry_out(archive)?;
    Ok(rows.calls.len() as u64)
}

/// Finishes what was not, but for what has been held since. The keeper's lock is held by who calls.
pub(crate) fn recover(archive: &Path) -> Result<()> {
    let dir = archive.join("catalog");
    let path = dir.join(STARTED);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => text.map_err(io("read", &path))?,
    };
    let mut rows: Rows = serde_json::from_slice(&text).map_err(|_| Error::DamagedPurge { path })?;
    let kept = {
        let _lock = hold::lock(archive)?;
        let holds = match hold::in_force(archive) {
            // Left to who comes after somebody has looked at them.
            Err(Error::DamagedHolds { .. }) => return Ok(()),
            holds => holds?,
        };
        Kept::of(archive, holds, &set(&rows.calls))?
    };
    rows.calls.retain(|uid| kept.call(uid).is_none());
    rows.carry_out(archive)
}

impl Rows {
    /// On return it is on the disk.
    fn write(&self, archive: &Path) -> Result<()> {
        let dir = archive.join("catalog");
        let path = dir.join(STARTED);
        let mut file = spool::new_file(&dir, UNFINISHED, ".tmp").map_err(io("create a file in", &dir))?;
        // Texts only, which cannot fail.
        let text = serde_json::to_vec(self).unwrap_or_default();
        file.write_all(&text).and_then(|()| file.as_file().sync_data()).map_err(io("write", &path))?;
        file.persist(&path).map_err(|error| io("rename into place", &path)(error.error))?;
        repack::sync(&dir)
    }

    /// What of it has been done already is left out.
    fn carry_out(&self, archive: &Path) -> Result<()> {
        let calls = set(&self.calls);
        for table in ORDER {
            let is_kept = |batch: &RecordBatch| self.is_kept(table, batch);
            let mut days = BTreeSet::new();
            let query = Query { table, calls: Some(calls.clone()), ..Query::default() };
            for row in query.objects(archive)? {
                days.extend(time(&row, TIME_COLUMN).map(Day::of));
            }
            for day in days {
                repack::remove_rows(archive, table, day, &is_kept, &self.order)?;
            }
        }
        let dir = archive.join("catalog");
        spool::remove(&dir.join(STARTED))?;
        repack::sync(&dir)
    }

    fn is_kept(&self, table: Table, batch: &RecordBatch) -> BooleanArray {
        let texts = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (uids, ids) = (texts("call_uid"), texts(table.id_column()));
        let kept = |row: usize| {
            let is_of_call = uids.is_some_and(|uids| self.calls.contains(uids.value(row)));
            let stays =
                table == Table::Recordings && ids.is_none_or(|ids| !self.recordings.contains(ids.value(row)));
            !is_of_call || stays
        };
        BooleanArray::new(BooleanBuffer::collect_bool(batch.num_rows(), kept), None)
    }
}

fn set(calls: &BTreeSet<String>) -> Arc<HashSet<String>> {
    Arc::new(calls.iter().cloned().collect())
}
