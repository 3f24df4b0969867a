//! Short lists, for people and for programs.

use std::io::Write;

use clap::ValueEnum;
use serde_json::{Map, Value};
use spantape_store::rows::csv_cell;

use super::terminal::{Column, Screen, clean, clean_json};
use super::when;

/// How a list is printed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For reading, as wide as the terminal
    Table,
    /// One JSON array
    Json,
    /// A JSON object a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
}

/// A column: how people see it, and how programs call it.
pub(super) struct Field {
    shown: Column,
    name: &'static str,
}

/// See [`Column`].
pub(super) const fn field(title: &'static str, rank: u8, name: &'static str) -> Field {
    Field { shown: Column { title, rank, right: false }, name }
}

/// Prints rows of these fields. A table of none is nothing.
pub(super) fn print(
    out: &mut impl Write,
    fields: &[Field],
    rows: &[Map<String, Value>],
    format: Format,
    screen: Screen,
) -> anyhow::Result<()> {
    match format {
        Format::Table if rows.is_empty() => {}
        Format::Table => {
            let shown: Vec<Column> = fields.iter().map(|field| field.shown).collect();
            let lines = rows.iter().map(|row| fields.iter().map(|field| cell(row, field)).collect());
            let limit = screen.terminal.then_some(screen.width);
            out.write_all(screen.table(&shown, lines.collect(), limit).as_bytes())?;
        }
        Format::Json => writeln!(out, "{}", clean_json(&serde_json::to_string_pretty(rows)?))?,
        Format::Jsonl => {
            for row in rows {
                writeln!(out, "{}", clean_json(&serde_json::to_string(row)?))?;
            }
        }
        Format::Csv => {
            let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
            writeln!(out, "{}", names.join(","))?;
            for row in rows {
                let cells = fields.iter().map(|field| csv_cell(text(row, field).to_owned()));
                let line = cells.collect::<Vec<_>>().join(",");
                // A file gets what was typed, a terminal what cannot harm it.
                writeln!(out, "{}", if screen.terminal { clean(&line) } else { line })?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// Fields that are moments.
const MOMENTS: [&str; 3] = ["at", "since", "until"];

/// What people see.
fn cell(row: &Map<String, Value>, field: &Field) -> String {
    let text = text(row, field);
    let moment = when::of_row(text).filter(|_| MOMENTS.contains(&field.name));
    moment.map_or_else(|| clean(text), |at| when::utc(at, 0))
}

fn text<'a>(row: &'a Map<String, Value>, field: &Field) -> &'a str {
    row.get(field.name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(rows: Value, format: Format) -> String {
        let rows: Vec<Map<String, Value>> = serde_json::from_value(rows).unwrap();
        let fields = [field("PLACED (UTC)", 0, "at"), field("REASON", 0, "reason")];
        let mut out = Vec::new();
        print(&mut out, &fields, &rows, format, Screen::plain(40)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn for_people_and_for_programs() {
        let rows = || json!([{ "at": "2026-11-30T08:15:00.000Z", "reason": "case 12, \x1b[2J" }]);
        let table = "PLACED (UTC)         REASON\n2026-11-30 08:15:00  case 12, \u{fffd}[2J\n";
        assert_eq!(printed(rows(), Format::Table), table);
        let csv = "at,reason\n2026-11-30T08:15:00.000Z,\"case 12, \u{fffd}[2J\"\n";
        assert_eq!(printed(rows(), Format::Csv), csv);
        for format in [Format::Json, Format::Jsonl] {
            let text = printed(rows(), format);
            let read: Value = serde_json::from_str(&text).unwrap();
            let read = if format == Format::Jsonl { json!([read]) } else { read };
            assert!(read == rows() && text.is_ascii(), "{text}");
        }
        let nothing = [Format::Table, Format::Json, Format::Jsonl, Format::Csv]
            .map(|format| printed(json!([]), format));
        assert_eq!(nothing, ["", "[]\n", "", "at,reason\n"]);
    }
}
