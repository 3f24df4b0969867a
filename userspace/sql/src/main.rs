//! `spantape sql`: what the catalog of an archive says, asked in SQL.
//!
//! A program of its own, which `spantape` starts: DataFusion, by which it is done, is larger than all the rest.

mod answer;
mod tables;

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SQLOptions;
use spantape_store::rows::clean;
use tokio::runtime::Runtime;

use crate::answer::Format;
use crate::tables::Tables;

/// Ask the catalog of an archive in SQL
///
/// The tables are calls, recordings, streams, events and quality, with the columns that docs/catalog.md tells, and the
/// column `day`: the date in UTC on which a row began. A condition on `day` spares reading all other days. Nothing is ever
/// written into the archive. The SQL is DataFusion's: <https://datafusion.apache.org/user-guide/sql>
#[derive(Parser)]
#[command(name = "spantape sql", bin_name = "spantape sql", version, max_term_width = 100)]
#[command(after_help = "\
Examples:
  spantape sql --archive tape \"select start, from_user, file from recordings where day = '2026-11-22' order by start\"
  spantape sql --archive tape \"select date_trunc('hour', start) as hour, count(*) as calls from calls group by hour\"
  spantape sql --archive tape \"select c.from_user, e.text from events e join calls c using (call_uid) \\
                               where e.outcome = 'refused'\" --format jsonl
  spantape sql --archive tape \"select * from streams where mos < 3.6\" --format parquet --into poor.parquet
  spantape sql --archive tape \"describe calls\"

Exit code: 0 there are rows, 1 there are none, 2 it could not be told.")]
struct Args {
    /// What to ask: SELECT, EXPLAIN, DESCRIBE or SHOW
    #[arg(value_name = "SQL")]
    sql: String,

    /// The archive
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: PathBuf,

    /// How to print the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,

    /// Save the answer in a file, instead of printing it
    #[arg(long, visible_alias = "to", value_name = "FILE", required_if_eq("format", "parquet"))]
    into: Option<PathBuf>,

    /// What sorting, grouping and joining may take of memory; beyond that they use the directory for temporary files
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size)]
    memory: usize,
}

/// Exit code when there are no rows.
const NONE: u8 = 1;
/// Exit code when there is no answer.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NONE),
        Err(error) if reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spantape: {}", clean(&format!("{error:#}")));
            ExitCode::from(FAILED)
        }
    }
}

/// Tells whether the answer has any rows.
fn run(args: &Args) -> Result<bool> {
    let runtime = Runtime::new().context("threads cannot be started")?;
    runtime.block_on(async {
        tokio::select! {
            found = ask(args) => found,
            // Not killed, so that no temporary files are left.
            Ok(()) = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
        }
    })
}

async fn ask(args: &Args) -> Result<bool> {
    let Tables { context, notes } = tables::open(&args.archive, args.memory).await?;
    let plan = context.state().create_logical_plan(&args.sql).await.map_err(told)?;
    let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reading
        .verify_plan(&plan)
        .map_err(told)
        .context("only SELECT, EXPLAIN, DESCRIBE and SHOW are allowed")?;
    let read = tables_of(&plan).map_err(told)?;
    for (table, note) in notes.iter().filter(|(table, _)| read.contains(table.as_str())) {
        eprintln!("spantape: note: the table `{table}` {note}");
    }
    let asked = context.execute_logical_plan(plan).await.map_err(told)?;
    let rows = asked.execute_stream().await.map_err(told)?;
    answer::give(rows, args.format, args.into.as_deref()).await
}

/// The tables that are read.
fn tables_of(plan: &LogicalPlan) -> Result<HashSet<String>, DataFusionError> {
    let mut names = HashSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.insert(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}

/// What DataFusion complains of, in one line.
fn told(error: DataFusionError) -> anyhow::Error {
    let text = error.strip_backtrace();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => anyhow!("{line}; more is allowed by --memory"),
        _ => anyhow!(line),
    }
}

/// Whether writing failed because the reader has seen enough (`| head`): that is no error.
fn reader_left(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// `512MiB`, `2GiB`, in bytes.
fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim_start() {
        "KiB" => Some(1usize << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes = unit.and_then(|unit| number.parse::<usize>().ok()?.checked_mul(unit));
    bytes.ok_or_else(|| "a size is such as `512MiB` or `2GiB`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        for text in ["", "2", "GiB", "2GB", "-1GiB", "99999999999999999999GiB", "18446744073709551615GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn complaints_are_one_line() {
        let error = DataFusionError::Plan("no such\n  column".to_owned());
        assert_eq!(format!("{:#}", told(error)), "Error during planning: no such column");
        let error = DataFusionError::ResourcesExhausted("sort".to_owned());
        assert!(told(error.context("in a sort")).to_string().ends_with("--memory"));
    }
}
