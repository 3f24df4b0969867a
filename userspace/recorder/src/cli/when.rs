//! Moments and durations as people type and read them.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Zoned};
use regex::Regex;
use spantape_core::time::{SECOND, Timestamp};

/// Reads `2026-11-22T14:30:00+01:00`, `2026-11-22 14:30` and `2026-11-22` (both UTC), or `2h ago`.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    let at = if let Ok(at) = text.parse::<jiff::Timestamp>() {
        Some(at)
    } else if let Ok(civil) = text.parse::<DateTime>() {
        TimeZone::UTC.to_timestamp(civil).ok()
    } else if let Ok(span) = text.parse::<Span>() {
        // Days and months have no fixed length: they are counted back in the calendar.
        let now = Zoned::now().with_time_zone(TimeZone::UTC);
        now.checked_sub(span.abs()).ok().map(|then| then.timestamp())
    } else {
        return Err("write it as 2026-11-22, as 2026-11-22 14:30 (both UTC), as 2026-11-22T14:30:00+01:00, \
                    or as `2h ago`"
            .to_owned());
    };
    let nanoseconds = at.and_then(|at| i64::try_from(at.as_nanosecond()).ok());
    nanoseconds.map(Timestamp).ok_or_else(|| "that lies too far from today".to_owned())
}

/// The moment in a file's name: `20261122143005`, or the same with `-`, `_`, `.` or `T` between its parts.
pub(crate) fn in_file_name(name: &str, zone: &TimeZone) -> Option<Timestamp> {
    static DATE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let part = "[-_.]?([0-9]{2})";
        let date = format!("(?:^|[^0-9])(20[0-9]{{2}}){part}{part}[-_.T]?([0-9]{{2}}){part}{part}");
        Regex::new(&date).ok()
    });
    DATE.as_ref()?.captures_iter(name).find_map(|found| {
        // Part of a longer number, it is no date.
        let end = found.get(0)?.end();
        if name[end..].starts_with(|next: char| next.is_ascii_digit()) {
            return None;
        }
        let (_, parts) = found.extract::<6>();
        let [year, month, day, hour, minute, second] = parts.map(|part| part.parse::<i16>().ok());
        let small = |part: Option<i16>| part.and_then(|part| i8::try_from(part).ok());
        let (hour, minute, second) = (small(hour)?, small(minute)?, small(second)?);
        let civil = DateTime::new(year?, small(month)?, small(day)?, hour, minute, second, 0).ok()?;
        let at = zone.to_timestamp(civil).ok()?;
        i64::try_from(at.as_nanosecond()).ok().map(Timestamp)
    })
}

/// Reads `10s`, `2m`, `1h30m`, or plain seconds.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.or_else(|| Some(text.parse::<SignedDuration>().ok()?.as_secs_f64()));
    let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| "write it as 10s, 2m, 1h30m, or as a number of seconds".to_owned())
}

/// Reads a place in a recording, in seconds: `1:30`, `1:02:03.5`, or what [`seconds`] reads.
pub(crate) fn position(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let wrong = || "write it as 1:30, as 1:02:03, as 90s, or as a number of seconds".to_owned();
    if !text.contains(':') {
        return seconds(text).map_err(|_| wrong());
    }
    let number = |place: &str| {
        let is_one = place.starts_with(|c: char| c.is_ascii_digit());
        place.parse::<f64>().ok().filter(|_| is_one)
    };
    let total = text.split(':').try_fold(0.0, |total: f64, place| Some(total * 60.0 + number(place)?));
    let total = total.filter(|total| total.is_finite() && text.matches(':').count() <= 2);
    total.ok_or_else(wrong)
}

/// A moment as the catalog tells it.
pub(crate) fn of_row(text: &str) -> Option<Timestamp> {
    spantape_store::utc::parse(text)
}

/// `2026-11-22 14:30:05.250`, in UTC. A fraction is cut off, not rounded, like those of a clock.
pub(crate) fn utc(at: Timestamp, decimals: usize) -> String {
    let zoned = zoned(at, TimeZone::UTC);
    format!("{} {}", zoned.date(), time_of_day(&zoned, decimals))
}

/// `2026-11-22 15:30:05.250 CET`: the moment where this program runs.
pub(crate) fn local(at: Timestamp) -> String {
    let zoned = zoned(at, local_zone());
    format!("{} {} {}", zoned.date(), time_of_day(&zoned, 3), zoned.strftime("%Z"))
}

/// A length of time as `0:07.250` or `1:02:03`.
pub(crate) fn clock(nanoseconds: i64, decimals: usize) -> String {
    let unit = SECOND / 10_i64.pow(decimals as u32);
    let total = (nanoseconds.unsigned_abs() + unit.unsigned_abs() / 2) / unit.unsigned_abs();
    let per_second = 10_u64.pow(decimals as u32);
    let (seconds, fraction) = (total / per_second, total % per_second);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let sign = if nanoseconds < 0 && total > 0 { "-" } else { "" };
    let mut out = match hours {
        0 => format!("{sign}{minutes}:{seconds:02}"),
        hours => format!("{sign}{hours}:{minutes:02}:{seconds:02}"),
    };
    if decimals > 0 {
        out.push_str(&format!(".{fraction:0decimals$}"));
    }
    out
}

fn zoned(at: Timestamp, zone: TimeZone) -> Zoned {
    jiff::Timestamp::from_nanosecond(at.0.into()).unwrap_or_default().to_zoned(zone)
}

fn time_of_day(at: &Zoned, decimals: usize) -> String {
    let fraction = format!("{:09}", at.subsec_nanosecond());
    let time = at.strftime("%H:%M:%S");
    if decimals == 0 { time.to_string() } else { format!("{time}.{}", &fraction[..decimals.min(9)]) }
}

/// The zone that `TZ` names, else that of the machine, else UTC.
pub(crate) fn local_zone() -> TimeZone {
    let file = |path: &Path| TimeZone::tzif("local", &fs::read(path).ok()?).ok();
    let name = std::env::var("TZ").unwrap_or_default();
    let name = name.strip_prefix(':').unwrap_or(&name);
    let zone = if name.is_empty() {
        file(Path::new("/etc/localtime"))
    } else {
        // Joining keeps a path that is absolute as it is.
        file(&Path::new("/usr/share/zoneinfo").join(name)).or_else(|| TimeZone::posix(name).ok())
    };
    zone.unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use spantape_store::utc::rfc3339;

    use super::*;

    #[test]
    fn moments() {
        let is = |text: &str, expected: &str| assert_eq!(rfc3339(moment(text).unwrap()), expected, "{text}");
        is("2026-11-22", "2026-11-22T00:00:00.000Z");
        is("2026-11-22 14:30", "2026-11-22T14:30:00.000Z");
        is("2026-11-22T14:30:05.25", "2026-11-22T14:30:05.250Z");
        is("2026-11-22T14:30:05Z", "2026-11-22T14:30:05.000Z");
        is("2026-11-22 14:30:05+01:00", "2026-11-22T13:30:05.000Z");
        for text in ["", "soon", "14:30", "2026-13-01", "9999-01-01"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_before_now() {
        for (text, hours) in [("2h ago", 2), ("90m", 1), ("3 days ago", 72), ("1 week ago", 168)] {
            let then = moment(text).unwrap();
            let now = Timestamp(jiff::Timestamp::now().as_nanosecond() as i64);
            let before = now.since(then) / SECOND / 3600;
            assert_eq!(before, hours, "{text}");
        }
    }

    #[test]
    fn in_names_of_files() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let is = |name: &str, expected: Option<&str>| {
            let found = in_file_name(name, &berlin).map(rfc3339);
            assert_eq!(found.as_deref(), expected, "{name}");
        };
        is("20261122143005.wav", Some("2026-11-22T13:30:05.000Z"));
        is("rec_0301234_2026-07-01_14-30-05(2).wav", Some("2026-07-01T12:30:05.000Z"));
        is("20261122T143005.wav", Some("2026-11-22T13:30:05.000Z"));
        // The first that is one.
        is("20269999999999-20261122143005", Some("2026-11-22T13:30:05.000Z"));
        for name in ["", "rec001.wav", "120261122143005.wav", "202611221430051.wav", "20261322143005.wav"] {
            is(name, None);
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [("10s", 10.0), ("2m", 120.0), ("1h30m", 5400.0), ("7", 7.0), ("0.5", 0.5)] {
            assert_eq!(seconds(text).unwrap(), expected, "{text}");
        }
        for text in ["", "-1", "NaN", "inf", "long", "2m ago"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn positions() {
        for (text, expected) in [
            ("1:30", 90.0),
            ("1:02:03.5", 3723.5),
            (" 0:07 ", 7.0),
            ("90:00", 5400.0),
            ("90s", 90.0),
            ("7", 7.0),
        ] {
            assert_eq!(position(text).unwrap(), expected, "{text}");
        }
        for text in ["", ":", "1:", ":30", "1:-30", "-0:30", "1:inf", "1:1e999", "1:2:3:4", "a:b"] {
            assert!(position(text).is_err(), "{text}");
        }
    }

    #[test]
    fn as_read() {
        let at = of_row("2026-11-22T06:12:09.123456Z").unwrap();
        assert_eq!(utc(at, 0), "2026-11-22 06:12:09");
        assert_eq!(utc(at, 3), "2026-11-22 06:12:09.123");
        assert_eq!(clock(0, 0), "0:00");
        assert_eq!(clock(59_999 * SECOND / 1000, 0), "1:00");
        assert_eq!(clock(3_723_250_000_000, 3), "1:02:03.250");
        assert_eq!(clock(-1_500_000_000, 1), "-0:01.5");
        assert_eq!(clock(-1, 3), "0:00.000");
    }
}
