//! Writing the catalog.
//!
//! ```text
//! <archive>/catalog/calls/day=2026-11-22/part-0123456789abcdef.parquet
//!                   recordings/day=…/…
//!                   streams/day=…/…
//!                   events/day=…/…
//!                   quality/day=…/…
//! ```
//!
//! One of several recorders has a directory of its own within a day's, `node=<name>`.
//!
//! A part is written under a temporary name (`.part-*.tmp`) and renamed. Its rows are sorted by time and
//! id; its name is a hash of their ids, and nothing in it tells when or where it was written: the same
//! rows give the same file. Rows that the partition has already are left out.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::buffer::Buffer;
use arrow::compute::interleave;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use spantape_core::record::{CallRow, EventRow, Id, QualityRow, RecordingRow, StreamRow};
use spantape_core::time::Timestamp;

use crate::columns::{self, CALLS, EVENTS, QUALITY, RECORDINGS, STREAMS};
use crate::error::{Result, io, parquet};
use crate::partition;
use crate::schema::{Builder, Column, TIME_COLUMN, Table};
use crate::seal::hex;
use crate::spool::{self, Saved};
use crate::utc::{self, Day};

/// Rows of a table that are kept in memory before they are written.
pub const BUFFERED_ROWS: usize = ROW_GROUP_ROWS / 2;

/// The tables of an archive, for writing.
///
/// Rows not flushed when it is dropped are lost.
pub struct Catalog {
    archive: PathBuf,
    /// Which of several recorders this is.
    node: Option<String>,
    /// Nobody else writes parts as this one: those that are not finished are of a process that was killed.
    is_locked: bool,
    limit: usize,
    buffers: BTreeMap<(Table, Day), Rows>,
    /// Rows in the buffers of each table.
    buffered: BTreeMap<Table, usize>,
    /// What is known of the partitions written to lately.
    partitions: BTreeMap<(Day, Table), Vec<Part>>,
}

impl Catalog {
    /// Opens the catalog of an archive, which is created if it is not there.
    pub fn open(archive: &Path) -> Result<Catalog> {
        Catalog::with_buffer(archive, BUFFERED_ROWS)
    }

    /// Writes as one of several recorders from now on. The lock of that one is held.
    pub(crate) fn of_node(mut self, node: Option<String>) -> Catalog {
        (self.node, self.is_locked) = (node, true);
        self
    }

    /// Opens the catalog with another number of rows than [`BUFFERED_ROWS`].
    pub fn with_buffer(archive: &Path, rows: usize) -> Result<Catalog> {
        let dir = archive.join("catalog");
        fs::create_dir_all(&dir).map_err(io("create", &dir))?;
        let (buffers, buffered, partitions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Catalog {
            archive: archive.to_owned(),
            node: None,
            is_locked: false,
            limit: rows.max(1),
            buffers,
            buffered,
            partitions,
        })
    }

    /// Adds a call.
    pub fn call(&mut self, row: &CallRow) -> Result<()> {
        self.add(Table::Calls, CALLS, row.start, row.id, row)
    }

    /// Adds a recording and where it was saved.
    pub fn recording(&mut self, row: &RecordingRow, saved: &Saved) -> Result<()> {
        self.add(Table::Recordings, RECORDINGS, row.start, row.id, &(row.clone(), saved.clone()))
    }

    /// Adds a stream.
    pub fn stream(&mut self, row: &StreamRow) -> Result<()> {
        self.add(Table::Streams, STREAMS, row.start, columns::stream_id(row), row)
    }

    /// Adds an event.
    pub fn event(&mut self, row: &EventRow) -> Result<()> {
        self.identified_event(&(row.clone(), columns::event_id(row)))
    }

    pub(crate) fn identified_event(&mut self, row: &(EventRow, Id)) -> Result<()> {
        self.add(Table::Events, EVENTS, row.0.at, row.1, row)
    }

    /// Adds five seconds of a stream.
    pub fn quality(&mut self, row: &QualityRow) -> Result<()> {
        self.add(Table::Quality, QUALITY, row.slice.start, columns::quality_id(row), row)
    }

    /// Adds a row as [`json_row`] has made it. One that lacks its time or id is none: returns whether it was added.
    pub(crate) fn logged(&mut self, table: Table, row: &Map<String, Value>) -> Result<bool> {
        let at = row.get(TIME_COLUMN).and_then(Value::as_i64).map(utc::from_micros);
        let id = row.get(table.id_column()).and_then(Value::as_str).and_then(parse_id);
        let (Some(at), Some(id)) = (at, id) else { return Ok(false) };
        match table {
            Table::Calls => {
                self.add_with(table, CALLS, at, id, |builder, column| builder.append_json(column, row))
            }
            Table::Recordings => {
                self.add_with(table, RECORDINGS, at, id, |builder, column| builder.append_json(column, row))
            }
            Table::Streams => {
                self.add_with(table, STREAMS, at, id, |builder, column| builder.append_json(column, row))
            }
            Table::Events => {
                self.add_with(table, EVENTS, at, id, |builder, column| builder.append_json(column, row))
            }
            Table::Quality => {
                self.add_with(table, QUALITY, at, id, |builder, column| builder.append_json(column, row))
            }
        }?;
        Ok(true)
    }

    /// Writes what is buffered. The rows of a part that cannot be written stay for the next time.
    pub fn flush(&mut self) -> Result<()> {
        Table::ALL.into_iter().try_for_each(|table| self.flush_table(table))
    }

    fn add<R>(&mut self, table: Table, columns: &[Column<R>], at: Timestamp, id: Id, row: &R) -> Result<()> {
        self.add_with(table, columns, at, id, |builder, column| builder.append(column, row))
    }

    fn add_with<R>(
        &mut self,
        table: Table,
        columns: &[Column<R>],
        at: Timestamp,
        id: Id,
        append: impl Fn(&mut Builder, &Column<R>),
    ) -> Result<()> {
        // As it will be read: rows of the same microsecond are in the order of their ids.
        let at = utc::from_micros(utc::micros(at));
        let buffer = self.buffers.entry((table, Day::of(at))).or_insert_with(|| Rows::new(columns));
        buffer.keys.push((at, id));
        for (builder, column) in buffer.builders.iter_mut().zip(columns) {
            append(builder, column);
        }
        if buffer.keys.len().is_multiple_of(CHUNK_ROWS) {
            buffer.close_chunk();
        }
        let rows = self.buffered.entry(table).or_default();
        *rows += 1;
        // Where the disk is full, not tried again with every row.
        if rows.is_multiple_of(self.limit) { self.flush_table(table) } else { Ok(()) }
    }

    /// Writes what is buffered of a table.
    pub(crate) fn flush_table(&mut self, table: Table) -> Result<()> {
        let days: Vec<Day> = self.buffers.keys().filter(|key| key.0 == table).map(|key| key.1).collect();
        for day in days {
            if let Some(mut buffer) = self.buffers.remove(&(table, day)) {
                let rows = buffer.keys.len();
                if let Err(error) = self.write(table, day, &mut buffer) {
                    self.buffers.insert((table, day), buffer);
                    return Err(error);
                }
                if let Some(buffered) = self.buffered.get_mut(&table) {
                    *buffered = buffered.saturating_sub(rows);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, table: Table, day: Day, buffer: &mut Rows) -> Result<()> {
        let dir = partition::directory(&self.archive, table, day, self.node.as_deref());
        let known = self.known(table, day, &dir)?;
        buffer.close_chunk();
        let mut rows: Vec<(Timestamp, Id, usize)> =
            (0..).zip(&buffer.keys).map(|(row, &(at, id))| (at, id, row)).collect();
        rows.sort_unstable();
        let mut fresh = fresh(table, known, &rows)?;
        // Taken out as it is kept: of a row told twice the second is left out.
        rows.retain(|row| fresh.remove(&row.1));
        let (Some(&(first, ..)), Some(&(last, ..))) = (rows.first(), rows.last()) else { return Ok(()) };

        let path = dir.join(format!("part-{}.parquet", name(&rows)));
        save(table, buffer.batches(table, &rows), &dir, &path)?;
        known.push(Part { path, first, last });
        Ok(())
    }

    /// The parts of a partition. They are looked at once, then remembered while it is written to.
    fn known(&mut self, table: Table, day: Day, dir: &Path) -> Result<&mut Vec<Part>> {
        if !self.partitions.contains_key(&(day, table)) {
            if self.is_locked {
                remove_unfinished(dir)?;
            }
            let parts = partition::parts(dir)?.into_iter().map(Part::read);
            let parts = parts.collect::<Result<Vec<_>>>()?;
            while self.partitions.len() >= PARTITIONS {
                self.partitions.pop_first();
            }
            self.partitions.insert((day, table), parts);
        }
        Ok(self.partitions.entry((day, table)).or_default())
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("archive", &self.archive).field("buffered", &self.buffered).finish()
    }
}

/// What the name of a part begins with until it is whole. Compacting, which other processes do, has another one.
const UNFINISHED: &str = ".part-";
/// Partitions whose parts are remembered.
const PARTITIONS: usize = 64;
/// Rows a row group: small enough for its statistics to tell something, large enough to compress.
const ROW_GROUP_ROWS: usize = 32_768;
/// Rows that are moved together on their way into a part.
const CHUNK_ROWS: usize = 1024;
/// Rows a page: for one row a page of each column is read.
const PAGE_ROWS: usize = 512;
/// Of a column with more texts than these the rest is written out where one row counts.
const DICTIONARY_BYTES: usize = 16 << 10;

struct Rows {
    keys: Vec<(Timestamp, Id)>,
    /// The columns of rows that came first, so many at a time: they take the room they need, and move no more.
    chunks: Vec<Vec<ArrayRef>>,
    /// Of the others.
    builders: Vec<Builder>,
}

impl Rows {
    fn new<R>(columns: &[Column<R>]) -> Rows {
        Rows { keys: Vec::new(), chunks: Vec::new(), builders: Builder::for_columns(columns) }
    }

    /// Makes a chunk of what has been appended since the last one.
    fn close_chunk(&mut self) {
        let mut columns: Vec<ArrayRef> = self.builders.iter_mut().map(Builder::finish).collect();
        if columns.first().is_some_and(|column| !column.is_empty()) {
            columns.iter_mut().for_each(|column| column.shrink_to_fit());
            self.chunks.push(columns);
        }
    }

    /// Those rows in their order, so many at a time, of what is in chunks.
    fn batches(
        &self,
        table: Table,
        rows: &[(Timestamp, Id, usize)],
    ) -> impl Iterator<Item = ParquetResult<RecordBatch>> {
        let lengths = self.chunks.iter().map(|columns| columns.first().map_or(0, |column| column.len()));
        let begins: Vec<usize> =
            lengths.scan(0, |end, rows| Some(std::mem::replace(end, *end + rows))).collect();
        let place = move |row: usize| {
            let chunk = begins.partition_point(|&begin| begin <= row).saturating_sub(1);
            (chunk, row - begins[chunk])
        };
        let schema = table.schema();
        let chunks_of = |column: usize| self.chunks.iter().map(|columns| columns[column].as_ref()).collect();
        let columns: Vec<Vec<&dyn Array>> = (0..self.builders.len()).map(chunks_of).collect();
        rows.chunks(CHUNK_ROWS).map(move |rows| {
            let places: Vec<(usize, usize)> = rows.iter().map(|row| place(row.2)).collect();
            let columns = columns.iter().map(|chunks| Ok(backed(interleave(chunks, &places)?)?));
            Ok(RecordBatch::try_new(schema.clone(), columns.collect::<ParquetResult<_>>()?)?)
        })
    }
}

/// The same, but texts that are all empty are somewhere in memory. The processor compares nothing with nothing in a few cycles, but
/// where the address is no one's in some hundred, as it finds out only then that it needs no byte of it: half of the columns of an event
/// are empty, and what Parquet does with them took a sixth of what a call without media costs.
fn backed(column: ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
    let Some(texts) = column.as_string_opt::<i32>().filter(|texts| texts.value_data().is_empty()) else {
        return Ok(column);
    };
    let somewhere = Buffer::from_vec(Vec::<u8>::with_capacity(1));
    let texts = StringArray::try_new(texts.offsets().clone(), somewhere, texts.nulls().cloned())?;
    Ok(Arc::new(texts))
}

/// A part that is there already, and the times its rows lie between.
struct Part {
    path: PathBuf,
    first: Timestamp,
    last: Timestamp,
}

impl Part {
    fn read(path: PathBuf) -> Result<Part> {
        let file = File::open(&path).map_err(io("open", &path))?;
        let spans =
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::new().with_skip_arrow_metadata(true))
                .and_then(|metadata| spans(&metadata))
                .map_err(parquet("read", &path))?;
        let first = spans.iter().map(|span| span.0).min().unwrap_or_default();
        let last = spans.iter().map(|span| span.1).max().unwrap_or_default();
        Ok(Part { path, first, last })
    }

    /// Takes the ids that this part has out of `ids`. Only row groups of that time are read.
    fn strike(&self, table: Table, first: Timestamp, last: Timestamp, ids: &mut HashSet<Id>) -> Result<()> {
        if self.last < first || last < self.first {
            return Ok(());
        }
        let file = match File::open(&self.path) {
            // Purged or compacted meanwhile: a row that is added once more is found once, and compacted into one.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file.map_err(io("open", &self.path))?,
        };
        strike(table, file, first, last, ids).map_err(parquet("read", &self.path))
    }
}

fn strike(
    table: Table,
    file: File,
    first: Timestamp,
    last: Timestamp,
    ids: &mut HashSet<Id>,
) -> ParquetResult<()> {
    let metadata =
        ArrowReaderMetadata::load(&file, ArrowReaderOptions::new().with_skip_arrow_metadata(true))?;
    let spans = spans(&metadata)?;
    let groups = (0..spans.len()).filter(|&group| spans[group].0 <= last && first <= spans[group].1);
    let mask = ProjectionMask::columns(metadata.parquet_schema(), [table.id_column()]);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
        .with_row_groups(groups.collect())
        .with_projection(mask)
        .with_batch_size(8192)
        .build()?;
    for batch in reader {
        for id in batch?.column(0).as_string::<i32>().iter().flatten().filter_map(parse_id) {
            ids.remove(&id);
        }
    }
    Ok(())
}

/// The ids of rows that no part has yet.
fn fresh(table: Table, known: &[Part], rows: &[(Timestamp, Id, usize)]) -> Result<HashSet<Id>> {
    let mut ids: HashSet<Id> = rows.iter().map(|row| row.1).collect();
    if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
        known.iter().try_for_each(|part| part.strike(table, first.0, last.0, &mut ids))?;
    }
    Ok(ids)
}

/// First and last moment of each row group.
fn spans(metadata: &ArrowReaderMetadata) -> ParquetResult<Vec<(Timestamp, Timestamp)>> {
    let converter = StatisticsConverter::try_new(TIME_COLUMN, metadata.schema(), metadata.parquet_schema())?;
    let groups = metadata.metadata().row_groups();
    let (first, last) = (converter.row_group_mins(groups)?, converter.row_group_maxes(groups)?);
    let (Some(first), Some(last)) = (
        first.as_primitive_opt::<TimestampMicrosecondType>(),
        last.as_primitive_opt::<TimestampMicrosecondType>(),
    ) else {
        return Err(ParquetError::General(format!("the column `{TIME_COLUMN}` is no time in microseconds")));
    };
    let spans = first.iter().zip(last.iter());
    Ok(spans
        .map(|(first, last)| (first.unwrap_or(i64::MIN), last.unwrap_or(i64::MAX)))
        .map(|(first, last)| (utc::from_micros(first), utc::from_micros(last)))
        .collect())
}

fn remove_unfinished(dir: &Path) -> Result<()> {
    let mut names = partition::names(dir)?;
    names.retain(|name| name.starts_with(UNFINISHED) && name.ends_with(".tmp"));
    names.iter().try_for_each(|name| spool::remove(&dir.join(name)))
}

fn save(
    table: Table,
    mut batches: impl Iterator<Item = ParquetResult<RecordBatch>>,
    dir: &Path,
    path: &Path,
) -> Result<()> {
    fs::create_dir_all(dir).map_err(io("create", dir))?;
    let file = spool::new_file(dir, UNFINISHED, ".tmp").map_err(io("create a file in", dir))?;
    let written = properties(table).and_then(|properties| {
        let mut writer = ArrowWriter::try_new(file.as_file(), table.schema(), Some(properties))?;
        batches.try_for_each(|batch| writer.write(&batch?))?;
        writer.close()
    });
    written.map_err(parquet("write", path))?;
    file.as_file().sync_data().map_err(io("write", path))?;
    file.persist(path).map_err(|error| io("rename into place", path)(error.error))?;
    Ok(())
}

/// How Parquet is written, whatever the columns are.
pub(crate) fn common_properties() -> ParquetResult<WriterPropertiesBuilder> {
    Ok(WriterProperties::builder()
        .set_created_by(concat!("spantape version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        // It is looked at after each so many rows.
        .set_write_batch_size(PAGE_ROWS)
        .set_data_page_row_count_limit(PAGE_ROWS))
}

pub(crate) fn properties(table: Table) -> ParquetResult<WriterProperties> {
    let schema = table.schema();
    let sorted = |name: &str| -> ParquetResult<SortingColumn> {
        let column_idx = i32::try_from(schema.index_of(name)?)?;
        Ok(SortingColumn { column_idx, descending: false, nulls_first: false })
    };
    let mut properties = common_properties()?
        .set_sorting_columns(Some(vec![sorted(TIME_COLUMN)?, sorted(table.id_column())?]));
    if matches!(table, Table::Calls | Table::Recordings) {
        // A number is found in one row here and one there, for each of which a page of every column is read and the dictionary
        // with it: without zstd, and with no large dictionaries, that takes a quarter of the time, for one and a half times the
        // space. What the other tables have of a call is in one place, and there is far more of it.
        properties =
            properties.set_compression(Compression::SNAPPY).set_dictionary_page_size_limit(DICTIONARY_BYTES);
    }
    for name in [TIME_COLUMN, "ended"] {
        // Rows are in the order of time, so that pages have little of it in common. Of other columns they have all.
        properties =
            properties.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Page);
    }
    for name in table.unique() {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    for name in table.lookups() {
        // Sized for a full row group; the writer folds it to what the values need.
        properties = properties
            .set_column_bloom_filter_enabled(ColumnPath::from(name), true)
            .set_column_bloom_filter_fpp(ColumnPath::from(name), 0.01)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(name), ROW_GROUP_ROWS as u64);
    }
    Ok(properties.build())
}

fn name(rows: &[(Timestamp, Id, usize)]) -> String {
    let mut hash = Sha256::new();
    rows.iter().for_each(|(_, id, _)| hash.update(id.0));
    hex(&hash.finalize()[..8])
}

pub(crate) fn parse_id(hex: &str) -> Option<Id> {
    let mut id = Id::default();
    for (byte, digits) in id.0.iter_mut().zip(hex.as_bytes().as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    (hex.len() == 32).then_some(id)
}
