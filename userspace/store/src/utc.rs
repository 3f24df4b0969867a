//! Moments and days in UTC, as the archive writes them.

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use spantape_core::time::{SECOND, Timestamp};

const DAY: i64 = 86_400 * SECOND;

/// A day in UTC, counted from 1970-01-01: the unit in which the catalog is partitioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

impl Day {
    /// The day that holds a moment.
    pub fn of(at: Timestamp) -> Day {
        Day(at.0.div_euclid(DAY))
    }

    /// The day `days` before this one.
    pub fn before(self, days: i64) -> Day {
        Day(self.0 - days)
    }

    /// Its first moment.
    pub fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(DAY))
    }

    /// Reads `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Day> {
        let date: Date = text.parse().ok()?;
        let midnight = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
        Some(Day(midnight.as_second().div_euclid(86_400)))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", civil(self.start()).date())
    }
}

/// A moment as the catalog keeps it: whole microseconds since 1970, what is below cut off.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.0.div_euclid(1_000)
}

/// The moment that the catalog keeps so.
pub(crate) fn from_micros(micros: i64) -> Timestamp {
    Timestamp(micros.saturating_mul(1_000))
}

/// The moment that [`rfc3339`], or anybody else, has written so.
pub fn parse(text: &str) -> Option<Timestamp> {
    let at = text.parse::<jiff::Timestamp>().ok()?;
    i64::try_from(at.as_nanosecond()).ok().map(Timestamp)
}

/// A moment as RFC 3339 with milliseconds, and with micro- or nanoseconds only if it has any.
pub fn rfc3339(at: Timestamp) -> String {
    let (t, ns) = (civil(at), at.0.rem_euclid(SECOND));
    let fraction = match ns {
        _ if ns % 1_000_000 == 0 => format!("{:03}", ns / 1_000_000),
        _ if ns % 1_000 == 0 => format!("{:06}", ns / 1_000),
        _ => format!("{ns:09}"),
    };
    let (date, hour, minute, second) = (t.date(), t.hour(), t.minute(), t.second());
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{fraction}Z")
}

/// Nanoseconds since midnight.
pub(crate) fn since_midnight(at: Timestamp) -> u64 {
    at.0.rem_euclid(DAY).unsigned_abs()
}

/// Date and time of day.
pub(crate) fn civil(at: Timestamp) -> DateTime {
    // Every i64 of nanoseconds lies between the years 1677 and 2262, which jiff can tell.
    let at = jiff::Timestamp::from_nanosecond(at.0.into()).unwrap_or_default();
    TimeZone::UTC.to_datetime(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Timestamp(1_700_000_000_120_000_000)), "2023-11-14T22:13:20.120Z");
        assert_eq!(rfc3339(Timestamp(1_700_000_000_120_400_000)), "2023-11-14T22:13:20.120400Z");
        assert_eq!(rfc3339(Timestamp(1_700_000_000_120_400_001)), "2023-11-14T22:13:20.120400001Z");
        assert_eq!(rfc3339(Timestamp(-1)), "1969-12-31T23:59:59.999999999Z");
        assert!(rfc3339(Timestamp::FAR_FUTURE).starts_with("2262-"));
    }

    #[test]
    fn microseconds() {
        for (ns, us) in [(0, 0), (999, 0), (1_000, 1), (-1, -1), (-1_000, -1), (-1_001, -2)] {
            assert_eq!(micros(Timestamp(ns)), us);
        }
        // A moment stays within its day, and the last there is can be told.
        assert_eq!(Day::of(from_micros(micros(Timestamp(DAY - 1)))), Day::of(Timestamp(0)));
        assert_eq!(from_micros(micros(Timestamp::FAR_FUTURE)), Timestamp(i64::MAX - 807));
    }

    #[test]
    fn days() {
        for text in ["1970-01-01", "1969-12-31", "2024-02-29", "2026-11-22"] {
            assert_eq!(Day::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Day::of(Timestamp(-1)), Day::parse("1969-12-31").unwrap());
        assert_eq!(Day::of(Timestamp(DAY)).before(1), Day::of(Timestamp(0)));
        assert_eq!(Day::parse("2024-02-30"), None);
        assert_eq!(Day::parse("part-00"), None);
    }
}
