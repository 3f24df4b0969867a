//! What a row must be like, asked of statistics, bloom filters and rows alike.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use spantape_core::time::Timestamp;

use crate::utc;

/// A test that one of some columns has to pass.
#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    pub(crate) columns: Vec<&'static str>,
    pub(crate) test: Test,
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// The text is this.
    Equals(String),
    /// The text is one of these.
    OneOf(Arc<HashSet<String>>),
    /// The text begins with this.
    Prefix(String),
    /// The text matches this, with `*` and `?`.
    Glob(String),
    /// The list has this codec: `PCMU/8000`, or `pcmu` whatever its clock.
    Codec(String),
    /// The number is this or more.
    AtLeast(f64),
    /// The moment is this or later, both in whole microseconds as the catalog has them.
    From(Timestamp),
    /// The moment is earlier than this, both in whole microseconds.
    Before(Timestamp),
}

impl Test {
    /// A text as a user types it: exact, or with `*` and `?`.
    pub(crate) fn text(wanted: &str) -> Test {
        if wanted.contains(['*', '?']) {
            Test::Glob(wanted.to_owned())
        } else {
            Test::Equals(wanted.to_owned())
        }
    }

    /// The values to look for in a bloom filter; `None` if it cannot answer.
    pub(crate) fn values(&self) -> Option<Vec<&str>> {
        match self {
            Test::Equals(wanted) => Some(vec![wanted]),
            Test::OneOf(wanted) if wanted.len() <= 256 => Some(wanted.iter().map(String::as_str).collect()),
            _ => None,
        }
    }

    /// Whether a value that passes can lie between the i-th minimum and maximum.
    pub(crate) fn may_pass(&self, mins: &ArrayRef, maxes: &ArrayRef, i: usize) -> bool {
        // No statistics: there can be anything.
        if mins.is_null(i) || maxes.is_null(i) {
            return true;
        }
        let texts = || Some((mins.as_string_opt::<i32>()?.value(i), maxes.as_string_opt::<i32>()?.value(i)));
        let time = |array: &ArrayRef| Some(array.as_primitive_opt::<TimestampMicrosecondType>()?.value(i));
        let number = |array: &ArrayRef| Some(array.as_primitive_opt::<Float64Type>()?.value(i));
        let answer = match self {
            Test::Equals(wanted) => {
                texts().map(|(min, max)| min <= wanted.as_str() && wanted.as_str() <= max)
            }
            Test::OneOf(wanted) => texts().map(|(min, max)| {
                wanted.iter().any(|wanted| min <= wanted.as_str() && wanted.as_str() <= max)
            }),
            Test::Prefix(wanted) => texts().map(|(min, max)| {
                (min <= wanted.as_str() || min.starts_with(wanted.as_str())) && wanted.as_str() <= max
            }),
            Test::Glob(_) | Test::Codec(_) => None,
            Test::AtLeast(least) => number(maxes).map(|max| max >= *least),
            Test::From(at) => time(maxes).map(|max| max >= utc::micros(*at)),
            Test::Before(at) => time(mins).map(|min| min < utc::micros(*at)),
        };
        answer.unwrap_or(true)
    }

    /// Which values pass.
    fn passes(&self, values: &ArrayRef) -> Result<BooleanBuffer, ArrowError> {
        match self {
            Test::Equals(wanted) => texts(values, |text| text == wanted),
            Test::OneOf(wanted) => texts(values, |text| wanted.contains(text)),
            Test::Prefix(wanted) => texts(values, |text| text.starts_with(wanted.as_str())),
            Test::Glob(wanted) => texts(values, |text| glob(wanted, text)),
            Test::Codec(wanted) => texts(values, |text| text.split(',').any(|codec| is_codec(codec, wanted))),
            Test::AtLeast(least) => {
                let values = values.as_primitive_opt::<Float64Type>().ok_or_else(mismatch)?;
                Ok(BooleanBuffer::collect_bool(values.len(), |i| {
                    values.is_valid(i) && values.value(i) >= *least
                }))
            }
            Test::From(at) => {
                let at = utc::micros(*at);
                times(values, |moment| moment >= at)
            }
            Test::Before(at) => {
                let at = utc::micros(*at);
                times(values, |moment| moment < at)
            }
        }
    }
}

impl Predicate {
    /// Which rows pass. The batch has this predicate's columns and no others.
    pub(crate) fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let mut passed = BooleanBuffer::new_unset(batch.num_rows());
        for column in batch.columns() {
            passed = &passed | &self.test.passes(column)?;
        }
        Ok(BooleanArray::new(passed, None))
    }
}

fn texts(values: &ArrayRef, test: impl Fn(&str) -> bool) -> Result<BooleanBuffer, ArrowError> {
    let values = values.as_string_opt::<i32>().ok_or_else(mismatch)?;
    Ok(BooleanBuffer::collect_bool(values.len(), |i| values.is_valid(i) && test(values.value(i))))
}

fn times(values: &ArrayRef, test: impl Fn(i64) -> bool) -> Result<BooleanBuffer, ArrowError> {
    let values = values.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(mismatch)?;
    Ok(BooleanBuffer::collect_bool(values.len(), |i| values.is_valid(i) && test(values.value(i))))
}

fn mismatch() -> ArrowError {
    ArrowError::SchemaError("a column has another type than docs/catalog.md says".to_owned())
}

/// `pcmu` is `PCMU`, and `PCMU/8000` too.
fn is_codec(codec: &str, wanted: &str) -> bool {
    let name = codec.split('/').next().unwrap_or_default();
    codec.eq_ignore_ascii_case(wanted) || name.eq_ignore_ascii_case(wanted)
}

/// `*` is any text, `?` any one character. Goes back to the last `*` only, so its time is bounded.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut star = None;
    loop {
        let left = text.clone();
        match (pattern.next(), text.next()) {
            (Some('*'), _) => {
                star = Some((pattern.clone(), left.clone()));
                text = left;
            }
            (None, None) => return true,
            (Some('?'), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => {
                // What follows the last star begins one character later, if there is one.
                let Some((after, from)) = &mut star else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, text) = (after.clone(), from.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("1009", "1009", true),
            ("1009", "10091", false),
            ("10*", "1009", true),
            ("*09", "1009", true),
            ("*0*9*", "1009", true),
            ("1?09", "1009", true),
            ("1?9", "1009", false),
            ("*", "", true),
            ("?", "", false),
            ("?", "é", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbXd", false),
            ("**1", "21", true),
            ("+49*", "+4930123", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
        let (pattern, text) = ("*a".repeat(30) + "b", "a".repeat(3000));
        assert!(!glob(&pattern, &text));
    }

    #[test]
    fn codecs() {
        assert!(
            is_codec("PCMU/8000", "pcmu") && is_codec("PCMU/8000", "PCMU/8000") && is_codec("PCMU", "pcmu")
        );
        assert!(!is_codec("PCMU/8000", "PCMA") && !is_codec("PCMU/8000", "PCM"));
    }

    #[test]
    fn statistics() {
        let array = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let (min, max) = (array("1000"), array("2000"));
        let may = |test: Test| test.may_pass(&min, &max, 0);
        assert!(may(Test::Equals("1500".into())) && may(Test::Equals("2000".into())));
        assert!(!may(Test::Equals("2001".into())) && !may(Test::Equals("0".into())));
        assert!(
            may(Test::Prefix("1".into())) && may(Test::Prefix("100".into())) && may(Test::Prefix("2".into()))
        );
        assert!(!may(Test::Prefix("3".into())) && !may(Test::Prefix("0".into())));
        assert!(may(Test::Glob("9*".into())));
        let none = Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef;
        assert!(Test::Equals("9".into()).may_pass(&none, &none, 0));
    }
}
