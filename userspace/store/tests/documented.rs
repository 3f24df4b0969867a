//! `docs/catalog.md` is the schema's contract: it has to name every column as it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use arrow::datatypes::{DataType, TimeUnit};
use spantape_store::Table;

#[test]
fn every_column_of_every_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/catalog.md");
    let text = std::fs::read_to_string(path).unwrap();
    for table in Table::ALL {
        let (_, section) = text.split_once(&format!("\n## `{table}`")).expect("a section for each table");
        let section = section.split("\n## ").next().unwrap_or_default();
        // Rows of the section's table: | `name` | type | … |
        let documented: Vec<(String, String)> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .map(|(name, rest)| (name.to_owned(), rest.split(" |").next().unwrap_or_default().to_owned()))
            .collect();
        let schema = table.schema();
        let columns: Vec<(String, String)> = schema
            .fields()
            .iter()
            .map(|field| {
                let kind = match field.data_type() {
                    DataType::Utf8 => "text",
                    DataType::Int64 => "int",
                    DataType::Float64 => "float",
                    DataType::Boolean => "bool",
                    DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => "time",
                    _ => "something else",
                };
                (field.name().clone(), format!("{kind}{}", if field.is_nullable() { ", null" } else { "" }))
            })
            .collect();
        assert_eq!(documented, columns, "docs/catalog.md, section `{table}`");
    }
}
