//! The tables of the catalog and how a row becomes columns. What the columns mean is in `docs/catalog.md`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};
use spantape_core::time::Timestamp;

use crate::columns::{CALLS, EVENTS, QUALITY, RECORDINGS, STREAMS};
use crate::utc;

/// The column of each table that tells when a row began: the first sort key, and what the partition's day
/// is of.
pub const TIME_COLUMN: &str = "start";

/// A table of the catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row a call.
    Calls,
    /// One row a recording, that is, a WAV file.
    #[default]
    Recordings,
    /// One row an RTP stream.
    Streams,
    /// One row for each thing that happened in a call.
    Events,
    /// One row for each five seconds of an RTP stream.
    Quality,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 5] =
        [Table::Calls, Table::Recordings, Table::Streams, Table::Events, Table::Quality];

    /// Its name, and the name of its directory.
    pub fn as_str(self) -> &'static str {
        match self {
            Table::Calls => "calls",
            Table::Recordings => "recordings",
            Table::Streams => "streams",
            Table::Events => "events",
            Table::Quality => "quality",
        }
    }

    /// Its columns.
    pub fn schema(self) -> SchemaRef {
        Arc::new(Schema::new(match self {
            Table::Calls => fields(CALLS),
            Table::Recordings => fields(RECORDINGS),
            Table::Streams => fields(STREAMS),
            Table::Events => fields(EVENTS),
            Table::Quality => fields(QUALITY),
        }))
    }

    /// The column that is different in each row: the second sort key.
    pub fn id_column(self) -> &'static str {
        match self {
            Table::Calls => "call_uid",
            Table::Recordings => "recording_id",
            Table::Streams => "stream_id",
            Table::Events => "event_id",
            Table::Quality => "quality_id",
        }
    }

    /// Columns with a bloom filter.
    pub(crate) fn lookups(self) -> Vec<&'static str> {
        match self {
            Table::Calls => names(CALLS, |column| column.lookup),
            Table::Recordings => names(RECORDINGS, |column| column.lookup),
            Table::Streams => names(STREAMS, |column| column.lookup),
            Table::Events => names(EVENTS, |column| column.lookup),
            Table::Quality => names(QUALITY, |column| column.lookup),
        }
    }

    /// Columns in which hardly a value comes twice, so that a dictionary of them is no use.
    pub(crate) fn unique(self) -> Vec<&'static str> {
        match self {
            Table::Calls => names(CALLS, |column| column.unique),
            Table::Recordings => names(RECORDINGS, |column| column.unique),
            Table::Streams => names(STREAMS, |column| column.unique),
            Table::Events => names(EVENTS, |column| column.unique),
            Table::Quality => names(QUALITY, |column| column.unique),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Table {
    type Err = String;

    fn from_str(name: &str) -> Result<Table, String> {
        let table = Table::ALL.into_iter().find(|table| table.as_str() == name);
        table.ok_or_else(|| {
            format!("`{name}` is no table; the tables are calls, recordings, streams, events and quality")
        })
    }
}

/// A column of the table whose rows are made of `R`.
pub(crate) struct Column<R> {
    name: &'static str,
    value: Value<R>,
    nullable: bool,
    lookup: bool,
    unique: bool,
}

impl<R> Column<R> {
    pub(crate) const fn text(name: &'static str, value: fn(&R) -> Option<Cow<'_, str>>) -> Column<R> {
        Column::new(name, Value::Text(value))
    }

    pub(crate) const fn time(name: &'static str, value: fn(&R) -> Option<Timestamp>) -> Column<R> {
        Column::new(name, Value::Time(value))
    }

    pub(crate) const fn int(name: &'static str, value: fn(&R) -> Option<i64>) -> Column<R> {
        Column::new(name, Value::Int(value))
    }

    pub(crate) const fn float(name: &'static str, value: fn(&R) -> Option<f64>) -> Column<R> {
        Column::new(name, Value::Float(value))
    }

    pub(crate) const fn flag(name: &'static str, value: fn(&R) -> Option<bool>) -> Column<R> {
        Column::new(name, Value::Flag(value))
    }

    pub(crate) const fn nullable(mut self) -> Column<R> {
        self.nullable = true;
        self
    }

    pub(crate) const fn lookup(mut self) -> Column<R> {
        self.lookup = true;
        self
    }

    pub(crate) const fn unique(mut self) -> Column<R> {
        self.unique = true;
        self
    }

    /// What the column says of a row, exactly: moments are microseconds.
    fn json(&self, row: &R) -> Json {
        match &self.value {
            Value::Text(value) => value(row).into(),
            Value::Time(value) => value(row).map(utc::micros).into(),
            Value::Int(value) => value(row).into(),
            Value::Float(value) => value(row).into(),
            Value::Flag(value) => value(row).into(),
        }
    }

    const fn new(name: &'static str, value: Value<R>) -> Column<R> {
        Column { name, value, nullable: false, lookup: false, unique: false }
    }
}

/// A row to be written as what [`json_row`] makes of it.
pub(crate) struct Written<'a, R>(pub(crate) &'a [Column<R>], pub(crate) &'a R);

impl<R> Serialize for Written<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Written(columns, row) = self;
        let mut map = serializer.serialize_map(Some(columns.len()))?;
        for column in *columns {
            match &column.value {
                Value::Text(value) => map.serialize_entry(column.name, &value(row))?,
                Value::Time(value) => map.serialize_entry(column.name, &value(row).map(utc::micros))?,
                Value::Int(value) => map.serialize_entry(column.name, &value(row))?,
                Value::Float(value) => map.serialize_entry(column.name, &value(row))?,
                Value::Flag(value) => map.serialize_entry(column.name, &value(row))?,
            }
        }
        map.end()
    }
}

/// All that the columns say of a row.
pub(crate) fn json_row<R>(columns: &[Column<R>], row: &R) -> Map<String, Json> {
    columns.iter().map(|column| (column.name.to_owned(), column.json(row))).collect()
}

/// The values of a column on their way into an array.
pub(crate) enum Builder {
    Text(StringBuilder),
    Time(TimestampMicrosecondBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Flag(BooleanBuilder),
}

impl Builder {
    /// One for each column.
    pub(crate) fn for_columns<R>(columns: &[Column<R>]) -> Vec<Builder> {
        let builder = |column: &Column<R>| match column.value {
            Value::Text(_) => Builder::Text(StringBuilder::new()),
            Value::Time(_) => Builder::Time(TimestampMicrosecondBuilder::new().with_timezone(UTC)),
            Value::Int(_) => Builder::Int(Int64Builder::new()),
            Value::Float(_) => Builder::Float(Float64Builder::new()),
            Value::Flag(_) => Builder::Flag(BooleanBuilder::new()),
        };
        columns.iter().map(builder).collect()
    }

    /// Appends what the column says of a row.
    pub(crate) fn append<R>(&mut self, column: &Column<R>, row: &R) {
        match (self, &column.value) {
            (Builder::Text(to), Value::Text(value)) => to.append_option(value(row)),
            (Builder::Time(to), Value::Time(value)) => to.append_option(value(row).map(utc::micros)),
            (Builder::Int(to), Value::Int(value)) => to.append_option(value(row)),
            (Builder::Float(to), Value::Float(value)) => to.append_option(value(row)),
            (Builder::Flag(to), Value::Flag(value)) => to.append_option(value(row)),
            _ => debug_assert!(false, "builders are made for these columns"),
        }
    }

    /// Appends what [`json_row`] made of it. Of a row that has no such value, as one of another version may not, it is
    /// nothing where that can be, else empty.
    pub(crate) fn append_json<R>(&mut self, column: &Column<R>, row: &Map<String, Json>) {
        let json = row.get(column.name).unwrap_or(&Json::Null);
        let required = !column.nullable;
        match self {
            Builder::Text(to) => to.append_option(json.as_str().or(required.then_some(""))),
            Builder::Time(to) => to.append_option(json.as_i64().or(required.then_some(0))),
            Builder::Int(to) => to.append_option(json.as_i64().or(required.then_some(0))),
            Builder::Float(to) => to.append_option(json.as_f64().or(required.then_some(0.0))),
            Builder::Flag(to) => to.append_option(json.as_bool().or(required.then_some(false))),
        }
    }

    /// What has been appended; nothing has after it.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Text(from) => Arc::new(from.finish()),
            Builder::Time(from) => Arc::new(from.finish()),
            Builder::Int(from) => Arc::new(from.finish()),
            Builder::Float(from) => Arc::new(from.finish()),
            Builder::Flag(from) => Arc::new(from.finish()),
        }
    }
}

enum Value<R> {
    Text(fn(&R) -> Option<Cow<'_, str>>),
    Time(fn(&R) -> Option<Timestamp>),
    Int(fn(&R) -> Option<i64>),
    Float(fn(&R) -> Option<f64>),
    Flag(fn(&R) -> Option<bool>),
}

const UTC: &str = "UTC";

fn fields<R>(columns: &[Column<R>]) -> Vec<Field> {
    let field = |column: &Column<R>| {
        let data_type = match column.value {
            Value::Text(_) => DataType::Utf8,
            Value::Time(_) => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Value::Int(_) => DataType::Int64,
            Value::Float(_) => DataType::Float64,
            Value::Flag(_) => DataType::Boolean,
        };
        Field::new(column.name, data_type, column.nullable)
    };
    columns.iter().map(field).collect()
}

fn names<R>(columns: &[Column<R>], wanted: fn(&Column<R>) -> bool) -> Vec<&'static str> {
    columns.iter().filter(|column| wanted(column)).map(|column| column.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_columns_the_rest_relies_on() {
        for table in Table::ALL {
            let schema = table.schema();
            assert_eq!(table.as_str().parse(), Ok(table));
            for name in [TIME_COLUMN, table.id_column(), "call_uid", "call_id"] {
                assert!(!schema.field_with_name(name).unwrap().is_nullable(), "{table} {name}");
            }
            assert!(table.lookups().contains(&"call_id"));
            let mut names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), schema.fields().len(), "{table}: a name comes twice");
        }
        assert!("call".parse::<Table>().is_err());
    }
}
