//! Reading one part of the catalog, and as little of it as will do.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{SortColumn, filter_record_batch, lexsort_to_indices, take_record_batch};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowPredicate, ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions,
    ParquetRecordBatchReaderBuilder, RowFilter, RowSelection,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use crate::error;
use crate::predicate::Predicate;
use crate::query::QueryStats;
use crate::schema::{TIME_COLUMN, Table};

/// The first `limit` rows of a part that pass all predicates.
pub(crate) fn part<R: ChunkReader + 'static>(
    file: R,
    predicates: &[Predicate],
    limit: usize,
    stats: &mut QueryStats,
) -> Result<Vec<RecordBatch>> {
    let file = Shared(Arc::new(file));
    let footer = Arc::new(ParquetMetaDataReader::new().parse_and_finish(&file)?);
    let metadata = arrow_metadata(footer.clone())?;
    stats.row_groups_total += footer.num_row_groups();
    let groups = by_statistics(&metadata, predicates)?;
    let groups = by_bloom_filter(&file, &metadata, predicates, groups)?;
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    drop(metadata);
    // The page index is as long as the rest of the footer: it is read only where it can help.
    let mut indexed = ParquetMetaDataReader::new_with_metadata(Arc::unwrap_or_clone(footer))
        .with_page_index_policy(PageIndexPolicy::Optional);
    indexed.read_page_indexes(&file)?;
    let metadata = arrow_metadata(Arc::new(indexed.finish()?))?;
    let mut found = Vec::new();
    let mut left = limit;
    for (group, predicates) in groups {
        let selection = by_pages(&metadata, &predicates, group)?;
        let rows = metadata.metadata().row_group(group).num_rows() as usize;
        stats.row_groups_read += 1;
        stats.rows_read += selection.as_ref().map_or(rows, RowSelection::row_count);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone())
            .with_row_groups(vec![group])
            .with_batch_size(8192)
            .with_limit(left);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        if !predicates.is_empty() {
            let filters = predicates.into_iter().map(|predicate| row_filter(&metadata, predicate));
            builder = builder.with_row_filter(RowFilter::new(filters.collect()));
        }
        for batch in builder.build()? {
            let batch = batch?;
            if batch.num_rows() > 0 {
                left -= batch.num_rows();
                found.push(batch);
            }
        }
        if left == 0 {
            break;
        }
    }
    Ok(found)
}

/// Rows in order, each once. Parts of a day overlap in time when several engines wrote them, or several replays; and where
/// parts are being compacted, the old ones and the new one may be there at once. Of two rows with one id the first stays.
pub(crate) fn sort(table: Table, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let key = |name: &str| -> Result<SortColumn, ArrowError> {
        let values = rows.column(rows.schema().index_of(name)?).clone();
        Ok(SortColumn { values, options: None })
    };
    // The sort is not stable by itself.
    let places = Arc::new(UInt64Array::from_iter_values(0..rows.num_rows() as u64));
    let place = SortColumn { values: places, options: None };
    let order = lexsort_to_indices(&[key(TIME_COLUMN)?, key(table.id_column())?, place], None)?;
    let sorted = take_record_batch(rows, &order)?;
    let ids = sorted.column(sorted.schema().index_of(table.id_column())?).as_string_opt::<i32>();
    let Some(ids) = ids else { return Ok(sorted) };
    let is_first = |row: usize| row == 0 || ids.value(row) != ids.value(row - 1);
    let first = BooleanBuffer::collect_bool(sorted.num_rows(), is_first);
    if first.count_set_bits() == sorted.num_rows() {
        return Ok(sorted);
    }
    filter_record_batch(&sorted, &BooleanArray::new(first, None))
}

/// How many rows a part has.
pub(crate) fn count(path: &Path) -> error::Result<usize> {
    let file = File::open(path).map_err(error::io("open", path))?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new().with_skip_arrow_metadata(true));
    let rows = metadata.map_err(error::parquet("read", path))?.metadata().file_metadata().num_rows();
    Ok(usize::try_from(rows).unwrap_or_default())
}

/// All rows of a part.
pub(crate) fn whole(path: &Path) -> error::Result<Vec<RecordBatch>> {
    let file = File::open(path).map_err(error::io("open", path))?;
    batches(file).map_err(error::parquet("read", path))
}

/// All rows of a part.
pub(crate) fn batches<R: ChunkReader + 'static>(file: R) -> Result<Vec<RecordBatch>> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .and_then(|builder| builder.with_batch_size(8192).build())
        .and_then(|reader| Ok(reader.collect::<Result<Vec<_>, _>>()?))
}

/// A part that is read by several.
struct Shared<R>(Arc<R>);

impl<R> Clone for Shared<R> {
    fn clone(&self) -> Shared<R> {
        Shared(self.0.clone())
    }
}

impl<R: ChunkReader> Length for Shared<R> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<R: ChunkReader> ChunkReader for Shared<R> {
    type T = R::T;

    fn get_read(&self, start: u64) -> Result<R::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// Row groups whose statistics allow a match.
fn by_statistics(metadata: &ArrowReaderMetadata, predicates: &[Predicate]) -> Result<Vec<usize>> {
    let groups = metadata.metadata().row_groups();
    let mut keep = vec![true; groups.len()];
    for predicate in predicates {
        let mut may = vec![false; groups.len()];
        for name in &predicate.columns {
            let converter = converter(metadata, name)?;
            let (mins, maxes) = (converter.row_group_mins(groups)?, converter.row_group_maxes(groups)?);
            for (group, may) in may.iter_mut().enumerate() {
                *may |= predicate.test.may_pass(&mins, &maxes, group);
            }
        }
        keep.iter_mut().zip(may).for_each(|(keep, may)| *keep &= may);
    }
    Ok((0..groups.len()).filter(|&group| keep[group]).collect())
}

/// Of these row groups those whose bloom filters allow a match, each with the predicates that are left to ask its rows:
/// a column whose filter says no need not be read.
fn by_bloom_filter<R: ChunkReader + 'static>(
    file: &Shared<R>,
    metadata: &ArrowReaderMetadata,
    predicates: &[Predicate],
    groups: Vec<usize>,
) -> Result<Vec<(usize, Vec<Predicate>)>> {
    let mut keep = Vec::new();
    if groups.is_empty() {
        return Ok(keep);
    }
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone());
    'groups: for group in groups {
        let mut left = Vec::with_capacity(predicates.len());
        for predicate in predicates {
            let mut predicate = predicate.clone();
            if let Some(values) = predicate.test.values() {
                let mut may = Vec::new();
                for name in &predicate.columns {
                    let column = metadata.schema().index_of(name)?;
                    let filter = builder.get_row_group_column_bloom_filter(group, column)?;
                    if filter.is_none_or(|filter| values.iter().any(|value| filter.check(*value))) {
                        may.push(*name);
                    }
                }
                predicate.columns = may;
            }
            if predicate.columns.is_empty() {
                continue 'groups;
            }
            left.push(predicate);
        }
        keep.push((group, left));
    }
    Ok(keep)
}

/// The rows of a row group that lie in pages whose statistics allow a match; `None` for all of them.
fn by_pages(
    metadata: &ArrowReaderMetadata,
    predicates: &[Predicate],
    group: usize,
) -> Result<Option<RowSelection>> {
    let parquet = metadata.metadata();
    let (Some(columns), Some(offsets)) = (parquet.column_index(), parquet.offset_index()) else {
        return Ok(None);
    };
    let rows = parquet.row_group(group).num_rows() as usize;
    let mut selection: Option<RowSelection> = None;
    for predicate in predicates {
        let mut may: Option<RowSelection> = None;
        for name in &predicate.columns {
            let converter = converter(metadata, name)?;
            let column = metadata.schema().index_of(name)?;
            let mins = converter.data_page_mins(columns, offsets, [&group])?;
            let maxes = converter.data_page_maxes(columns, offsets, [&group])?;
            let pages = offsets[group][column].page_locations();
            if mins.len() != pages.len() || maxes.len() != pages.len() {
                return Err(ParquetError::General(format!("the page index of `{name}` is broken")));
            }
            let ranges =
                (0..pages.len()).filter(|&page| predicate.test.may_pass(&mins, &maxes, page)).map(|page| {
                    let end = pages.get(page + 1).map_or(rows, |next| next.first_row_index as usize);
                    pages[page].first_row_index as usize..end
                });
            let selected = RowSelection::from_consecutive_ranges(ranges, rows);
            may = Some(may.map_or(selected.clone(), |may| may.union(&selected)));
        }
        if let Some(may) = may {
            selection = Some(selection.map_or(may.clone(), |selection| selection.intersection(&may)));
        }
    }
    Ok(selection)
}

fn row_filter(metadata: &ArrowReaderMetadata, predicate: Predicate) -> Box<dyn ArrowPredicate> {
    let mask = ProjectionMask::columns(metadata.parquet_schema(), predicate.columns.iter().copied());
    Box::new(ArrowPredicateFn::new(mask, move |batch| predicate.evaluate(&batch)))
}

/// The columns are those of the file's own schema: what Arrow has added to it is not asked.
fn arrow_metadata(footer: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata> {
    ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new().with_skip_arrow_metadata(true))
}

fn converter<'a>(metadata: &'a ArrowReaderMetadata, name: &str) -> Result<StatisticsConverter<'a>> {
    StatisticsConverter::try_new(name, metadata.schema(), metadata.parquet_schema())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};

    use super::*;
    use crate::testing::recording;
    use crate::{Catalog, Saved, partition};

    #[test]
    fn of_two_rows_with_one_id_the_first_stays() {
        let text = |texts: Vec<String>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let rows = 5_000;
        let time = TimestampMicrosecondArray::from(vec![7; rows]).with_timezone("UTC");
        let batch = RecordBatch::try_from_iter([
            (TIME_COLUMN, Arc::new(time) as ArrayRef),
            ("call_uid", text((0..rows).map(|row| format!("{}", row % 10)).collect())),
            ("text", text((0..rows).map(|row| row.to_string()).collect())),
        ]);
        let sorted = sort(Table::Calls, &batch.unwrap()).unwrap();
        let texts: Vec<&str> = sorted.column(2).as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    }

    #[test]
    fn for_one_row_a_page_of_few_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::with_buffer(dir.path(), 1 << 16).unwrap();
        let calls = 2000;
        for n in 0..calls {
            let mut row = recording(n);
            row.call_id = format!("{n}@10.0.0.1");
            row.from.user = format!("+4930{n:07}");
            catalog
                .recording(&row, &Saved { file: format!("recordings/{n}.wav"), ..Saved::default() })
                .unwrap();
        }
        catalog.flush().unwrap();
        let days = partition::days(dir.path(), Table::Recordings).unwrap();
        let parts = partition::all_parts(dir.path(), Table::Recordings, days[0]).unwrap();
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = ArrowReaderMetadata::load(&File::open(&parts[0]).unwrap(), options).unwrap();
        let group = metadata.metadata().row_group(0).num_rows();
        assert_eq!(group, calls as i64);
        for (column, index) in metadata.metadata().offset_index().unwrap()[0].iter().enumerate() {
            let firsts = index.page_locations().iter().map(|page| page.first_row_index);
            let firsts: Vec<i64> = firsts.chain([group]).collect();
            assert!(firsts.windows(2).all(|page| page[1] - page[0] <= 512), "column {column}: {firsts:?}");
        }
    }
}
