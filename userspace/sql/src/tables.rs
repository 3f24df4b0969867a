//! The catalog as tables of DataFusion.
//!
//! ```text
//! <archive>/catalog/<table>/day=2026-11-22/part-<16 hex digits>.parquet
//! <archive>/catalog/<table>/day=2026-11-22/node=<name>/part-<16 hex digits>.parquet
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use spantape_store::{Table, check_archive};
use url::Url;

use crate::told;

/// The tables of an archive.
pub(crate) struct Tables {
    pub(crate) context: SessionContext,
    /// What is to be known of tables that are asked.
    pub(crate) notes: Vec<(Table, &'static str)>,
}

/// Opens an archive to be read, within so many bytes of memory.
pub(crate) async fn open(archive: &Path, memory: usize) -> Result<Tables> {
    check_archive(archive)?;
    let catalog = archive.join("catalog");
    let catalog =
        catalog.canonicalize().with_context(|| format!("{}: cannot be found", catalog.display()))?;
    let context = context(memory).map_err(told)?;
    let mut notes = Vec::new();
    for table in Table::ALL {
        let dir = catalog.join(table.as_str());
        let rows: Arc<dyn TableProvider> = match Parts::find(&dir)? {
            Some(parts) => {
                if parts.mixed {
                    notes.push((table, "has parts with and without `node`, which is therefore no column"));
                }
                listed(&context, &dir, &parts).await?
            }
            None => {
                notes.push((table, "has no rows yet"));
                Arc::new(EmptyTable::new(with_day(&table.schema())))
            }
        };
        context.register_table(table.as_str(), rows).map_err(told)?;
    }
    Ok(Tables { context, notes })
}

/// Reads as little as will do: filters see the statistics of row groups and pages, the bloom filters, and then their own
/// columns before any other is decoded.
fn context(memory: usize) -> Result<SessionContext, DataFusionError> {
    let mut config = SessionConfig::new().with_information_schema(true);
    let parquet = &mut config.options_mut().execution.parquet;
    parquet.pruning = true;
    parquet.enable_page_index = true;
    parquet.bloom_filter_on_read = true;
    parquet.pushdown_filters = true;
    parquet.reorder_filters = true;
    let pool = Arc::new(FairSpillPool::new(memory));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// A table of the parts that are there. Its columns are those of the newest: what older ones lack is null.
async fn listed(context: &SessionContext, dir: &Path, parts: &Parts) -> Result<Arc<dyn TableProvider>> {
    let mut partitions = vec![(DAY.to_owned(), DataType::Date32)];
    if parts.nodes && !parts.mixed {
        partitions.push(("node".to_owned(), DataType::Utf8));
    }
    let format = ParquetFormat::new().with_options(context.copied_table_options().parquet);
    let options =
        ListingOptions::new(Arc::new(format)).with_file_extension(END).with_table_partition_cols(partitions);

    let newest = Url::from_file_path(&parts.newest).map_err(|()| no_url(&parts.newest))?;
    let newest = ListingTableUrl::try_new(newest, None).map_err(told)?;
    let schema = options.infer_schema(&context.state(), &newest).await.map_err(told)?;
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Fields>()));

    // Not a path, in which `*`, `?` and `[` would be patterns.
    let all = Url::from_directory_path(dir).map_err(|()| no_url(dir))?;
    // Whatever else is there, hidden or not, is no part.
    let all = ListingTableUrl::try_new(all, None).and_then(|all| all.with_glob(&format!("{BEGIN}*{END}")));
    let config =
        ListingTableConfig::new(all.map_err(told)?).with_listing_options(options).with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config).map_err(told)?))
}

/// The columns of a table that has no part.
fn with_day(schema: &SchemaRef) -> SchemaRef {
    let day = Arc::new(Field::new(DAY, DataType::Date32, false));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([day]).collect::<Fields>()))
}

fn no_url(path: &Path) -> anyhow::Error {
    anyhow!("{}: has no URL", path.display())
}

/// The column that is no column of the parts, but the name of their directory.
const DAY: &str = "day";
/// How the name of a part begins and ends.
const BEGIN: &str = "part-";
const END: &str = ".parquet";

/// What parts a table has.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// One of the last day.
    newest: PathBuf,
    /// They lie in a directory for each node.
    nodes: bool,
    /// Only some of them do.
    mixed: bool,
}

impl Parts {
    fn find(dir: &Path) -> Result<Option<Parts>> {
        let (mut newest, mut plain, mut nodes) = (None, false, false);
        for day in entries(dir, "day=", "")? {
            if let Some(part) = entries(&day, BEGIN, END)?.pop() {
                (newest, plain) = (Some(part), true);
            }
            for node in entries(&day, "node=", "")? {
                if let Some(part) = entries(&node, BEGIN, END)?.pop() {
                    (newest, nodes) = (Some(part), true);
                }
            }
        }
        Ok(newest.map(|newest| Parts { newest, nodes, mixed: plain && nodes }))
    }
}

/// What of a directory has such a name, in order; nothing if it is not there.
fn entries(dir: &Path, begin: &str, end: &str) -> Result<Vec<PathBuf>> {
    let cannot = || format!("{}: cannot be read", dir.display());
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.with_context(cannot)?,
    };
    let mut paths = Vec::new();
    for entry in listed {
        let entry = entry.with_context(cannot)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(begin) && name.ends_with(end)) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_table() {
        let dir = tempfile::tempdir().unwrap();
        let find = || Parts::find(dir.path()).unwrap();
        let add = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        };
        assert_eq!(Parts::find(&dir.path().join("none")).unwrap(), None);
        add("day=2026-11-22/.part-1.parquet");
        add("day=2026-11-22/.part-1.tmp");
        assert_eq!(find(), None);
        let newest = add("day=2026-11-21/node=a/part-1.parquet");
        assert_eq!(find(), Some(Parts { newest, nodes: true, mixed: false }));
        let newest = add("day=2026-11-22/part-2.parquet");
        assert_eq!(find(), Some(Parts { newest, nodes: true, mixed: true }));
    }
}
