//! Rows as people and programs read them: JSON objects, CSV lines, the cells of a table, Parquet files; and what is to
//! be done with their texts before a terminal gets them.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use serde_json::{Map, Value};

use crate::catalog::common_properties;
use crate::utc;

/// The rows as JSON objects. Moments are RFC 3339 in UTC, numbers have at most three decimals.
pub fn objects(batch: &RecordBatch) -> impl Iterator<Item = Map<String, Value>> {
    let schema = batch.schema();
    (0..batch.num_rows()).map(move |row| {
        let columns = schema.fields().iter().zip(batch.columns());
        columns.map(|(field, column)| (field.name().clone(), value(column, row))).collect()
    })
}

/// A text of a row that [`objects`] has told; empty where there is none.
pub fn text_of<'a>(row: &'a Map<String, Value>, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

/// The first line of a CSV file: the columns' names.
pub fn csv_header(schema: &SchemaRef) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.join(",")
}

/// The rows as lines of a CSV file (RFC 4180), without line ends.
pub fn csv_lines(batch: &RecordBatch) -> impl Iterator<Item = String> {
    (0..batch.num_rows()).map(|row| {
        let cells: Vec<String> = batch.columns().iter().map(|column| csv_cell(text(column, row))).collect();
        cells.join(",")
    })
}

/// A cell of a CSV file (RFC 4180).
pub fn csv_cell(cell: String) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

/// A cell of a CSV file that a spreadsheet opens: what it would take for a formula is kept from being one by a `'` before
/// it. A number with its sign, as of a telephone, does no harm.
pub fn spreadsheet_cell(cell: String) -> String {
    let is_number = cell
        .strip_prefix(['+', '-'])
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number;
    csv_cell(if is_formula { format!("'{cell}") } else { cell })
}

/// The named columns of each row as text; empty where there is no value or no such column.
pub fn cells(batch: &RecordBatch, columns: &[&str]) -> impl Iterator<Item = Vec<String>> {
    let columns: Vec<Option<ArrayRef>> =
        columns.iter().map(|name| batch.column_by_name(name).cloned()).collect();
    (0..batch.num_rows()).map(move |row| {
        let cell = |column: &Option<ArrayRef>| column.as_ref().map(|column| text(column, row));
        columns.iter().map(|column| cell(column).unwrap_or_default()).collect()
    })
}

/// A writer of Parquet that is no part of a catalog. Whoever reads it takes the types from Parquet's own schema.
pub fn parquet_writer<W: Write + Send>(out: W, schema: SchemaRef) -> Result<ArrowWriter<W>, ParquetError> {
    let options = ArrowWriterOptions::new()
        .with_properties(common_properties()?.build())
        .with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(out, schema, options)
}

/// The text without what a terminal would obey, or would not show: it came from the network.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if hostile(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// JSON that says the same, but has what [`clean`] takes out as escapes. Line ends between values stay.
pub fn clean_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && hostile(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// The texts of a column.
pub(crate) fn texts(column: &ArrayRef) -> Vec<String> {
    (0..column.len()).map(|row| text(column, row)).collect()
}

fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            ((value * 1000.0).round() / 1000.0).into()
        }
        DataType::Timestamp(..) => {
            let column = column.as_primitive_opt::<TimestampMicrosecondType>();
            column.map_or(Value::Null, |column| utc::rfc3339(utc::from_micros(column.value(row))).into())
        }
        _ => Value::Null,
    }
}

fn text(column: &ArrayRef, row: usize) -> String {
    match value(column, row) {
        Value::Null => String::new(),
        Value::String(text) => text,
        value => value.to_string(),
    }
}

/// Control characters, and those that are not seen but change how others are.
fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn batch() -> RecordBatch {
        let time = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_000), None]);
        RecordBatch::try_from_iter_with_nullable([
            ("text", Arc::new(StringArray::from(vec!["say \"a, b\"", "é"])) as ArrayRef, true),
            ("at", Arc::new(time.with_timezone("UTC")) as ArrayRef, true),
            ("n", Arc::new(Int64Array::from(vec![Some(-3), None])) as ArrayRef, true),
            ("x", Arc::new(Float64Array::from(vec![1.234_56, f64::NAN])) as ArrayRef, true),
            ("flag", Arc::new(BooleanArray::from(vec![true, false])) as ArrayRef, true),
        ])
        .unwrap()
    }

    #[test]
    fn json() {
        let rows: Vec<String> = objects(&batch()).map(|row| Value::Object(row).to_string()).collect();
        let first = r#"{"at":"2023-11-14T22:13:20.000Z","flag":true,"n":-3,"text":"say \"a, b\"","x":1.235}"#;
        assert_eq!(rows, [first, r#"{"at":null,"flag":false,"n":null,"text":"é","x":null}"#]);
    }

    #[test]
    fn csv() {
        assert_eq!(csv_header(&batch().schema()), "text,at,n,x,flag");
        let lines: Vec<String> = csv_lines(&batch()).collect();
        assert_eq!(lines, [r#""say ""a, b""",2023-11-14T22:13:20.000Z,-3,1.235,true"#, "é,,,,false"]);
    }

    #[test]
    fn no_formulas() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("=SUM(A1,A2)", "\"'=SUM(A1,A2)\""),
            ("@x", "'@x"),
            ("-1+2", "'-1+2"),
            ("+", "'+"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("+4930123", "+4930123"),
            ("1009", "1009"),
            ("a=b", "a=b"),
            ("", ""),
        ] {
            assert_eq!(spreadsheet_cell(text.to_owned()), expected);
        }
        // Programs that read CSV get what is there.
        assert_eq!(csv_cell("=1+1".to_owned()), "=1+1");
    }

    #[test]
    fn table() {
        let rows: Vec<Vec<String>> = cells(&batch(), &["n", "none", "flag"]).collect();
        assert_eq!(rows, [["-3", "", "true"], ["", "", "false"]]);
    }

    #[test]
    fn parquet() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = parquet_writer(&file, batch().schema()).unwrap();
        writer.write(&batch()).unwrap();
        writer.close().unwrap();
        let mut read = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let found = read.next().unwrap().unwrap();
        assert_eq!(found.schema(), batch().schema());
        assert!(csv_lines(&found).eq(csv_lines(&batch())));
    }

    #[test]
    fn hostile_texts() {
        assert_eq!(clean("a\x1b[2Jb\u{9b}c\u{202e}d\r\n"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}\u{fffd}");
        assert_eq!(clean("Zoë 山田"), "Zoë 山田");
        let json = serde_json::json!({ "x": "a\u{9b}b\u{202e}\u{e0001}\n" });
        let text = clean_json(&serde_json::to_string_pretty(&json).unwrap());
        assert!(text.is_ascii() && text.lines().count() == 3, "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json);
    }
}
