//! Other parts for a day of a table: fewer ones, so that a search opens fewer files, or such that lack some rows.
//!
//! ```text
//! <archive>/catalog/calls/day=2026-11-22/.part-….parquet.new    what is to be there
//!                                        .switch.json           which parts take the place of which
//!                                        .repack-….tmp          either of them while it is written
//! ```
//!
//! From the moment on at which the switch has been written the new parts count, whatever happens: the next one who looks
//! after the archive finishes what was not. Until then the old ones do.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use parquet::arrow::ArrowWriter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spantape_core::time::{SECOND, Timestamp};
use tempfile::NamedTempFile;

use crate::catalog::{parse_id, properties};
use crate::error::{Error, Result, io, parquet};
use crate::journal::{self, Book, Deletion};
use crate::partition;
use crate::predicate::{Predicate, Test};
use crate::query::QueryStats;
use crate::schema::{TIME_COLUMN, Table};
use crate::seal::{Entry, hash, hex};
use crate::utc::Day;
use crate::{keeper, retention, scan, spool};

/// Rows of a part at most.
const PART_ROWS: usize = 1 << 20;
/// Rows that are sorted at a time; of a day with more, so many slices are made.
const SORTED_ROWS: usize = 1 << 20;
const SLICES: i64 = 96;

const SWITCH: &str = ".switch.json";
const NEW: &str = ".new";
const UNFINISHED: &str = ".repack-";

/// Who has it done, when, and why: what a tombstone says of the old parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Moment, as RFC 3339.
    pub at: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Order {
    pub(crate) fn tombstone(&self, recording: Option<String>, files: Vec<Entry>) -> Deletion {
        let (at, by, reason) = (self.at.clone(), self.by.clone(), self.reason.clone());
        Deletion { at, by, reason, recording, files, rows: Vec::new() }
    }
}

/// What compacting has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Days of tables that have other parts now.
    pub days: u64,
    /// Parts that they had.
    pub before: u64,
    /// Parts that they have.
    pub after: u64,
}

/// Makes few parts of many, for each table and each day before `until`. Rows stay as they are; one that is there twice is
/// there once after it. Whoever records or searches meanwhile is not disturbed. `progress` is told of each day.
pub fn compact(
    archive: &Path,
    until: Day,
    order: &Order,
    mut progress: impl FnMut(Table, Day),
) -> Result<Compacted> {
    partition::check(archive)?;
    let _lock = keeper::lock(archive)?;
    recover(archive)?;
    let mut done = Compacted::default();
    for table in Table::ALL {
        for day in partition::days(archive, table)?.into_iter().filter(|&day| day < until) {
            for place in partition::places(archive, table, day)? {
                let parts = partition::parts(&place)?;
                if parts.len() < 2 {
                    continue;
                }
                progress(table, day);
                let place = Place { archive, table, day, dir: place };
                if let Some(after) = place.repack(&parts, None, order)? {
                    done.days += 1;
                    done.before += parts.len() as u64;
                    done.after += after;
                }
            }
        }
    }
    Ok(done)
}

/// Takes rows out of a day of a table; of recordings, tombstones tell whose. The lock is held by who calls.
pub(crate) fn remove_rows(
    archive: &Path,
    table: Table,
    day: Day,
    is_kept: &dyn Fn(&RecordBatch) -> BooleanArray,
    order: &Order,
) -> Result<()> {
    for dir in partition::places(archive, table, day)? {
        let parts = partition::parts(&dir)?;
        let place = Place { archive, table, day, dir };
        if !parts.is_empty() {
            place.repack(&parts, Some(is_kept), order)?;
        }
    }
    Ok(())
}

/// Finishes what was not. The lock is held by who calls.
pub(crate) fn recover(archive: &Path) -> Result<()> {
    recover_parts(archive)?;
    retention::recover(archive)
}

/// Finishes what was not of parts that were to take the place of others.
fn recover_parts(archive: &Path) -> Result<()> {
    for table in Table::ALL {
        for day in partition::days(archive, table)? {
            for dir in partition::places(archive, table, day)? {
                let path = dir.join(SWITCH);
                match fs::read(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    text => {
                        let text = text.map_err(io("read", &path))?;
                        // Half of one was never renamed into place: the disk has damaged it, and the new parts may be all
                        // that there is.
                        let switch = serde_json::from_slice::<Switch>(&text);
                        switch.map_err(|_| Error::DamagedSwitch { path })?.carry_out(archive, &dir)?;
                    }
                }
                let is_left = |name: &&String| name.ends_with(NEW) || name.starts_with(UNFINISHED);
                for name in partition::names(&dir)?.iter().filter(is_left) {
                    let path = dir.join(name);
                    fs::remove_file(&path).map_err(io("remove", &path))?;
                }
            }
        }
    }
    Ok(())
}

/// Where parts of a day lie.
struct Place<'a> {
    archive: &'a Path,
    table: Table,
    day: Day,
    dir: PathBuf,
}

/// Which parts take the place of which.
#[derive(Debug, Serialize, Deserialize)]
struct Switch {
    new: Vec<String>,
    tombstone: Deletion,
}

impl Place<'_> {
    /// How many parts there are after it; `None` when nothing had to be changed.
    fn repack(
        &self,
        parts: &[PathBuf],
        is_kept: Option<&dyn Fn(&RecordBatch) -> BooleanArray>,
        order: &Order,
    ) -> Result<Option<u64>> {
        let mut writer = Writer { place: self, open: None, new: Vec::new() };
        let mut removed = Vec::new();
        for slice in self.slices(parts)? {
            let mut found = Vec::new();
            for path in parts {
                let file = File::open(path).map_err(io("open", path))?;
                let batches = scan::part(file, &slice, usize::MAX, &mut QueryStats::default());
                found.extend(batches.map_err(parquet("read", path))?);
            }
            let Some(schema) = found.first().map(RecordBatch::schema) else { continue };
            let all = concat_batches(&schema, &found).and_then(|all| scan::sort(self.table, &all));
            let mut all = all.map_err(parquet("read", &self.dir))?;
            if let Some(is_kept) = is_kept {
                let kept = is_kept(&all);
                removed.extend(self.removed(&all, &kept));
                all = filter_record_batch(&all, &kept).map_err(parquet("read", &self.dir))?;
            }
            writer.write(&all)?;
        }
        let new = writer.finish()?;
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let names: Vec<String> = parts.iter().filter_map(name).collect();
        let (mut fresh, mut after) = (Vec::new(), Vec::new());
        for (file, name) in new {
            if !names.contains(&name) {
                let path = self.dir.join(format!(".{name}{NEW}"));
                file.as_file().sync_data().map_err(io("write", &path))?;
                file.persist(&path).map_err(|error| io("rename into place", &path)(error.error))?;
                fresh.push(name.clone());
            }
            after.push(name);
        }
        let mut gone = Vec::new();
        for (path, name) in parts.iter().zip(&names).filter(|(_, name)| !after.contains(name)) {
            let bytes = fs::metadata(path).map_err(io("look at", path))?.len();
            let inside = path.strip_prefix(self.archive).unwrap_or(path);
            debug_assert!(inside.ends_with(name));
            gone.push(Entry { path: inside.to_string_lossy().into_owned(), bytes, sha256: hash(path)? });
        }
        if gone.is_empty() && fresh.is_empty() {
            return Ok(None);
        }
        sync(&self.dir)?;
        let tombstone = Deletion { rows: removed, ..order.tombstone(None, gone) };
        let switch = Switch { new: fresh, tombstone };
        let path = self.dir.join(SWITCH);
        let mut file =
            spool::new_file(&self.dir, UNFINISHED, ".tmp").map_err(io("create a file in", &self.dir))?;
        // Texts and numbers only, which cannot fail.
        let text = serde_json::to_vec(&switch).unwrap_or_default();
        file.write_all(&text).and_then(|()| file.as_file().sync_data()).map_err(io("write", &path))?;
        file.persist(&path).map_err(|error| io("rename into place", &path)(error.error))?;
        // From here on it counts, also if the power fails.
        sync(&self.dir)?;
        switch.carry_out(self.archive, &self.dir)?;
        Ok(Some(after.len() as u64))
    }

    /// Of which recordings these rows are that are not kept. Of other tables' rows it is not told.
    fn removed(&self, rows: &RecordBatch, kept: &BooleanArray) -> Vec<String> {
        let ids =
            rows.column_by_name(Table::Recordings.id_column()).filter(|_| self.table == Table::Recordings);
        let Some(ids) = ids.and_then(|ids| ids.as_string_opt::<i32>()) else { return Vec::new() };
        let removed = (0..rows.num_rows()).filter(|&row| !kept.value(row));
        removed.map(|row| ids.value(row).to_owned()).collect()
    }

    /// Times that together are the day, each with not too many rows to be sorted in memory.
    fn slices(&self, parts: &[PathBuf]) -> Result<Vec<Arc<[Predicate]>>> {
        let rows = parts.iter().map(|path| scan::count(path)).sum::<Result<usize>>()?;
        if rows <= SORTED_ROWS {
            return Ok(vec![Arc::new([])]);
        }
        let start = |slice: i64| Timestamp(self.day.start().0 + slice * (86_400 / SLICES) * SECOND);
        let test = |test| Predicate { columns: vec![TIME_COLUMN], test };
        let slice = |slice| {
            let times = [Test::From(start(slice)), Test::Before(start(slice + 1))].map(test);
            Arc::from(times)
        };
        Ok((0..SLICES).map(slice).collect())
    }
}

impl Switch {
    /// What of it has been done already is left out.
    fn carry_out(&self, archive: &Path, dir: &Path) -> Result<()> {
        let is_there = |name: &String| dir.join(name).exists() || dir.join(format!(".{name}{NEW}")).exists();
        if !self.new.iter().all(is_there) {
            // The disk has lost what was to be there: the old ones stay.
            return fs::remove_file(dir.join(SWITCH)).map_err(io("remove", &dir.join(SWITCH)));
        }
        journal::append(archive, &Book::Deletions, &self.tombstone)?;
        for name in &self.new {
            let (from, to) = (dir.join(format!(".{name}{NEW}")), dir.join(name));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(io("rename into place", &to)(error));
                }
                _ => {}
            }
        }
        // The disk has the new ones by their names before it loses the old ones, and those before it forgets that they go.
        sync(dir)?;
        let old = self.tombstone.files.iter().filter_map(|entry| entry.path.rsplit('/').next());
        old.map(|name| dir.join(name)).try_for_each(|path| spool::remove(&path))?;
        sync(dir)?;
        spool::remove(&dir.join(SWITCH))
    }
}

/// Brings the names of a directory to the disk.
pub(crate) fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("write", dir))
}

/// Writes sorted rows into parts.
struct Writer<'a> {
    place: &'a Place<'a>,
    open: Option<Open>,
    new: Vec<(NamedTempFile, String)>,
}

struct Open {
    file: NamedTempFile,
    writer: ArrowWriter<File>,
    /// Of the ids, as the name of a part is.
    ids: Sha256,
    rows: usize,
}

impl Writer<'_> {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < rows.num_rows() {
            let open = match &mut self.open {
                Some(open) => open,
                closed => closed.insert(Open::new(self.place)?),
            };
            let piece = rows.slice(at, (PART_ROWS - open.rows).min(rows.num_rows() - at));
            let ids = piece.column_by_name(self.place.table.id_column());
            let ids = ids.and_then(|ids| ids.as_string_opt::<i32>()).into_iter().flatten().flatten();
            ids.filter_map(parse_id).for_each(|id| open.ids.update(id.0));
            open.writer.write(&piece).map_err(parquet("write", &self.place.dir))?;
            (open.rows, at) = (open.rows + piece.num_rows(), at + piece.num_rows());
            if open.rows >= PART_ROWS {
                self.close()?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.writer.close().map_err(parquet("write", &self.place.dir))?;
        let name = format!("part-{}.parquet", hex(&open.ids.finalize()[..8]));
        self.new.push((open.file, name));
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<(NamedTempFile, String)>> {
        self.close()?;
        Ok(self.new)
    }
}

impl Open {
    fn new(place: &Place<'_>) -> Result<Open> {
        let file =
            spool::new_file(&place.dir, UNFINISHED, ".tmp").map_err(io("create a file in", &place.dir))?;
        let handle = file.as_file().try_clone().map_err(io("write", &place.dir))?;
        let writer = properties(place.table)
            .and_then(|properties| ArrowWriter::try_new(handle, place.table.schema(), Some(properties)));
        let writer = writer.map_err(parquet("write", &place.dir))?;
        Ok(Open { file, writer, ids: Sha256::new(), rows: 0 })
    }
}
