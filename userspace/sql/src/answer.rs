//! Answers, printed or saved.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::arrow::{csv, json};
use datafusion::execution::SendableRecordBatchStream;
use futures_util::TryStreamExt;
use spantape_store::rows::{clean, clean_json, parquet_writer};

use crate::told;

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For reading
    Table,
    /// One JSON array
    Json,
    /// A JSON object a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
    /// Parquet; needs --into
    Parquet,
}

/// Prints an answer, or saves it. Tells whether it has any rows.
pub(crate) async fn give(
    rows: SendableRecordBatchStream,
    format: Format,
    into: Option<&Path>,
) -> Result<bool> {
    if matches!(format, Format::Json | Format::Jsonl | Format::Parquet) {
        check_names(&rows.schema())?;
    }
    let Some(path) = into else {
        return print(rows, format, BufWriter::new(io::stdout()), io::stdout().is_terminal()).await;
    };
    let cannot = || format!("{}: cannot be written", path.display());
    let file = File::create(path).with_context(cannot)?;
    if format == Format::Parquet {
        save(rows, file).await.with_context(cannot)
    } else {
        print(rows, format, BufWriter::new(file), false).await.with_context(cannot)
    }
}

/// Objects and Parquet know columns by their names.
fn check_names(schema: &SchemaRef) -> Result<()> {
    let mut names = HashSet::new();
    for field in schema.fields() {
        if !names.insert(field.name()) {
            bail!("two columns are named `{}`: give one of them another name, by AS", field.name());
        }
    }
    Ok(())
}

async fn save(mut rows: SendableRecordBatchStream, file: File) -> Result<bool> {
    let mut writer = parquet_writer(file, rows.schema())?;
    let mut any = false;
    while let Some(batch) = rows.try_next().await.map_err(told)? {
        any |= batch.num_rows() > 0;
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(any)
}

/// Prints the rows as they come; a table, whose widths depend on all of them, at the end.
async fn print(
    mut rows: SendableRecordBatchStream,
    format: Format,
    mut out: impl Write,
    terminal: bool,
) -> Result<bool> {
    let (mut any, mut all) = (false, Vec::new());
    if format == Format::Csv {
        let header = csv_lines(&RecordBatch::new_empty(rows.schema()), true)?;
        out.write_all(shown(header, terminal).as_bytes())?;
    }
    while let Some(batch) = rows.try_next().await.map_err(told)? {
        let some = batch.num_rows() > 0;
        match format {
            Format::Table => all.push(batch),
            Format::Json | Format::Jsonl => {
                for row in json_lines(&batch)?.lines() {
                    match (format, any) {
                        (Format::Jsonl, _) => writeln!(out, "{row}")?,
                        (_, false) => write!(out, "[\n  {row}")?,
                        (_, true) => write!(out, ",\n  {row}")?,
                    }
                    any = true;
                }
            }
            Format::Csv => out.write_all(shown(csv_lines(&batch, false)?, terminal).as_bytes())?,
            // Is saved.
            Format::Parquet => {}
        }
        any |= some;
    }
    match format {
        Format::Table if any => {
            writeln!(out, "{}", shown(pretty_format_batches(&all)?.to_string(), terminal))?;
        }
        Format::Table => eprintln!("spantape: no rows"),
        Format::Json => writeln!(out, "{}", if any { "\n]" } else { "[]" })?,
        _ => {}
    }
    out.flush()?;
    Ok(any)
}

/// A file gets what was on the wire, a terminal what cannot harm it.
fn shown(lines: String, terminal: bool) -> String {
    if !terminal {
        return lines;
    }
    lines.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

fn json_lines(batch: &RecordBatch) -> Result<String> {
    let writer = json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = writer.build::<_, LineDelimited>(Vec::<u8>::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(clean_json(&String::from_utf8(writer.into_inner())?))
}

fn csv_lines(batch: &RecordBatch, header: bool) -> Result<String> {
    let mut writer = csv::WriterBuilder::new().with_header(header).build(Vec::<u8>::new());
    writer.write(batch)?;
    Ok(String::from_utf8(writer.into_inner())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_spared() {
        let table = "| a\x1b[2J |\n| b |\n";
        assert_eq!(shown(table.to_owned(), false), table);
        assert_eq!(shown(table.to_owned(), true), "| a\u{fffd}[2J |\n| b |\n");
    }
}
