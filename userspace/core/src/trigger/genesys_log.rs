//! Record triggers in the text logs of Genesys' SIP Server.
//!
//! How requests for private services travel is not public, but SIP Server writes them to its log:
//!
//! ```text
//! 12:34:56.789 Trc 04541 RequestPrivateService received from [568] (00000003 Desktop 10.0.0.1:1234)
//! message RequestPrivateService
//!         AttributePrivateMsgID   3015
//!         AttributeThisDN '7001'
//!         AttributeConnID 00a2021fd3d9d004
//!         AttributeCallUUID       'IE1FKNIVM56DN5TDTGSVHU9N9K00000B'
//! ```
//!
//! Attributes come in any order, and last to the next line with a time or an empty line. That the ids of the
//! messages are those that are documented for CSTA is likely, but a guess. So is that the header of a log has
//! `UTC time:` beside `Local time:`; where it has not, the log does not tell its offset from UTC.

use super::Verb;
use crate::time::{SECOND, Timestamp};

/// The word by which the catalog names this system.
pub const NAME: &str = "genesys-log";

/// Bytes looked at of a line.
const MAX_LINE: usize = 4096;
/// Bytes kept of a value.
const MAX_VALUE: usize = 128;

const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// A request that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was written; `None` if no line so far has had a time.
    pub at: Option<Moment>,
    /// What was asked for.
    pub verb: Verb,
    /// The directory number for which it was asked.
    pub this_dn: Option<String>,
    /// Genesys' own id of the call, unique to one server.
    pub conn_id: Option<String>,
    /// The call's `X-Genesys-CallUUID` in SIP.
    pub call_uuid: Option<String>,
}

/// A moment by the log's clock, as far as the log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Days since 1970-01-01.
    pub day: Option<i64>,
    /// Nanoseconds since midnight.
    pub time: i64,
    /// What that clock is ahead of UTC, in nanoseconds.
    pub offset: Option<i64>,
}

impl Moment {
    /// The moment in UTC, with the day and the offset that are to be taken when the log does not tell.
    pub fn timestamp(&self, day: i64, offset: i64) -> Timestamp {
        let midnight = self.day.unwrap_or(day).saturating_mul(DAY);
        Timestamp(midnight.saturating_add(self.time).saturating_sub(self.offset.unwrap_or(offset)))
    }
}

/// Reads a log line by line.
#[derive(Debug, Default)]
pub struct Reader {
    /// Of the last line that had a time.
    at: Option<Moment>,
    day: Option<i64>,
    offset: Option<i64>,
    local: Option<i64>,
    block: Option<Block>,
}

/// A request that is being read.
#[derive(Debug)]
struct Block {
    at: Option<Moment>,
    verb: Option<Verb>,
    this_dn: Option<String>,
    conn_id: Option<String>,
    call_uuid: Option<String>,
    /// An attribute has come.
    begun: bool,
}

impl Reader {
    /// Takes the next line, with or without its line end. Returns the request that has ended before it.
    pub fn line(&mut self, line: &[u8]) -> Option<Entry> {
        let line = String::from_utf8_lossy(&line[..line.len().min(MAX_LINE)]);
        let line = line.trim();
        let stamp = stamp(line);
        if let Some((stamp, rest)) = stamp {
            self.pass(stamp);
            self.check_point(rest);
        } else {
            self.header(line);
        }
        let names_request = line.contains("RequestPrivateService");
        let ends = stamp.is_some() || ((line.is_empty() || names_request) && self.has_begun());
        let ended = if ends { self.finish() } else { None };
        if names_request && self.block.is_none() {
            let (verb, this_dn, conn_id, call_uuid) = Default::default();
            self.block = Some(Block { at: self.at, verb, this_dn, conn_id, call_uuid, begun: false });
        } else if let Some(block) = &mut self.block {
            block.attribute(line);
        }
        ended
    }

    /// The log has ended. Returns the request that has ended with it.
    pub fn finish(&mut self) -> Option<Entry> {
        let Block { at, verb, this_dn, conn_id, call_uuid, .. } = self.block.take()?;
        Some(Entry { at, verb: verb?, this_dn, conn_id, call_uuid })
    }

    fn has_begun(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.begun)
    }

    /// A line of this time.
    fn pass(&mut self, stamp: Stamp) {
        let before = self.at.map(|at| at.time);
        // Most lines have no date. When the clock goes back by most of a day, it was midnight.
        let midnight = before.is_some_and(|before| before - stamp.time > DAY / 2);
        self.day = stamp.day.or(self.day.map(|day| day + i64::from(midnight)));
        self.at = Some(Moment { day: self.day, time: stamp.time, offset: self.offset });
    }

    /// `Check point 2026-01-15T09:00:00` is written every hour or so.
    fn check_point(&mut self, rest: &str) {
        let date = rest.split_once("Check point").and_then(|(_, date)| self::stamp(date.trim_start()));
        if let (Some((Stamp { day: Some(day), .. }, _)), Some(at)) = (date, &mut self.at) {
            at.day = Some(day);
            self.day = Some(day);
        }
    }

    /// A line of the header, which says the date and may say the offset from UTC.
    fn header(&mut self, line: &str) {
        let value = |name: &str| {
            let front = line.get(..name.len()).filter(|front| front.eq_ignore_ascii_case(name))?;
            let (stamp, _) = stamp(line[front.len()..].trim_start())?;
            Some((stamp.day?, stamp.time))
        };
        if let Some((day, time)) = value("Local time:") {
            self.day = Some(day);
            self.at = Some(Moment { day: self.day, time, offset: self.offset });
            self.local = Some(day * DAY + time);
        } else if let (Some((day, time)), Some(local)) = (value("UTC time:"), self.local) {
            // Both were taken one after the other; offsets are of whole quarters of an hour.
            let quarter = 15 * MINUTE;
            let difference = local - (day * DAY + time);
            let offset = (difference + quarter / 2).div_euclid(quarter) * quarter;
            self.offset = Some(offset).filter(|offset| offset.abs() <= DAY);
        }
    }
}

impl Block {
    fn attribute(&mut self, line: &str) {
        let Some((name, value)) = line.split_once(|c: char| c.is_ascii_whitespace()) else { return };
        let value = value.trim().trim_matches(['\'', '"']);
        let text =
            || Some(value[..value.floor_char_boundary(MAX_VALUE)].to_owned()).filter(|text| !text.is_empty());
        match name {
            "AttributePrivateMsgID" => self.verb = verb(value),
            "AttributeThisDN" => self.this_dn = text(),
            "AttributeConnID" => self.conn_id = text(),
            "AttributeCallUUID" => self.call_uuid = text(),
            _ => {}
        }
        self.begun |= name.starts_with("Attribute");
    }
}

fn verb(id: &str) -> Option<Verb> {
    match id {
        "3013" => Some(Verb::Start),
        "3014" => Some(Verb::Stop),
        "3015" => Some(Verb::Pause),
        "3016" => Some(Verb::Resume),
        _ => None,
    }
}

/// What a line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    day: Option<i64>,
    time: i64,
}

/// `12:34:56.789`, `@12:34:56.7890` or `2026-01-15T09:00:00.123`, and what follows.
fn stamp(line: &str) -> Option<(Stamp, &str)> {
    let mut rest = line.strip_prefix('@').unwrap_or(line);
    let day = match date(rest) {
        Some((day, behind)) => {
            rest = behind;
            Some(day)
        }
        None => None,
    };
    let (hour, rest) = number(rest, 2, 23)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2, 59)?;
    // A leap second.
    let (second, rest) = number(rest.strip_prefix(':')?, 2, 60)?;
    let mut time = (hour * 60 + minute) * MINUTE + second * SECOND;
    let mut rest = rest;
    if let Some(digits) = rest.strip_prefix(['.', ',']) {
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        let mut unit = SECOND;
        for digit in digits.bytes().take(length.min(9)) {
            unit /= 10;
            time += i64::from(digit - b'0') * unit;
        }
        rest = &digits[length..];
    }
    Some((Stamp { day, time }, rest))
}

/// `2026-01-15T` as days since 1970-01-01, and what follows.
fn date(text: &str) -> Option<(i64, &str)> {
    // What a timestamp can tell.
    let (year, rest) = number(text, 4, 2261).filter(|&(year, _)| year >= 1970)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 2, 12)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 2, 31)?;
    let rest = rest.strip_prefix(['T', ' '])?;
    // Days of the years before, counted from March on, so that leap days come last.
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some((days + (month * 153 + 2) / 5 + day - 1 - 719_468, rest))
}

/// So many digits, and what follows.
fn number(text: &str, digits: usize, max: i64) -> Option<(i64, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let number = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
    (number <= max).then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(text: &str) -> Vec<Entry> {
        let mut reader = Reader::default();
        let mut found: Vec<_> =
            text.split_inclusive('\n').filter_map(|line| reader.line(line.as_bytes())).collect();
        found.extend(reader.finish());
        found
    }

    const LOG: &str = "Local time:       2026-01-14T10:00:00.465\r\nUTC time: 2026-01-14T09:00:01\r\n\r\n\
        23:59:58.5 Trc 04541 RequestPrivateService received from [5] (3 Desktop 10.0.0.1:1)\r\n\
        message RequestPrivateService\r\n\
        \tAttributeUserData\t[5] 00 01..\r\n\t\t'a'\t'b'\r\n\tAttributeThisDN\t'7001'\r\n\
        \tAttributePrivateMsgID\t3013\r\n\tAttributeConnID\t00a2021fd3d9d004\r\n\
        \tAttributeCallUUID\t'IE1FKNIVM56DN5TDTGSVHU9N9K00000B'\r\n\
        @00:00:01.2345 [0] 8.1.1 send_to_client: message EventAck\r\n\tAttributePrivateMsgID\t3014\r\n\r\n\
        Message RequestPrivateService received\r\n AttributePrivateMsgID 3016\r\n\r\n AttributeThisDN 'x'\r\n\
        00:00:02 RequestPrivateService\n AttributePrivateMsgID 4013\n\
        00:00:03 RequestPrivateService\n AttributePrivateMsgID 3014\n AttributeThisDN \"7002\"";

    #[test]
    fn a_log() {
        let found = entries(LOG);
        let verbs: Vec<_> = found.iter().map(|entry| entry.verb).collect();
        assert_eq!(verbs, [Verb::Start, Verb::Resume, Verb::Stop]);
        assert_eq!(found[0].this_dn.as_deref(), Some("7001"));
        assert_eq!(found[0].conn_id.as_deref(), Some("00a2021fd3d9d004"));
        assert_eq!(found[0].call_uuid.as_deref(), Some("IE1FKNIVM56DN5TDTGSVHU9N9K00000B"));
        assert_eq!((&found[1].this_dn, found[2].this_dn.as_deref()), (&None, Some("7002")));
        let times: Vec<_> = found.iter().map(|entry| entry.at.unwrap().timestamp(0, 0).to_string()).collect();
        // 2026-01-14T22:59:58.5Z, and on the other side of the log's midnight.
        assert_eq!(times, ["1768431598.500000000", "1768431601.234500000", "1768431603.000000000"]);
    }

    #[test]
    fn what_the_log_does_not_tell() {
        let found = entries("09:00:00 RequestPrivateService\nAttributePrivateMsgID 3015\n");
        assert_eq!(found[0].at, Some(Moment { day: None, time: 9 * 60 * MINUTE, offset: None }));
        assert_eq!(found[0].at.unwrap().timestamp(1, 60 * MINUTE).0, DAY + 8 * 60 * MINUTE);
        assert_eq!(entries("RequestPrivateService\nAttributePrivateMsgID 3015")[0].at, None);
        let found = entries(
            "09:00:00 Trc 04120 Check point 2026-01-15T09:00:00\n10:00:00 RequestPrivateService\n\
             AttributePrivateMsgID 3015\n2026-01-17T01:00:00,5 RequestPrivateService\n\
             AttributePrivateMsgID 3015",
        );
        let days: Vec<_> = found.iter().map(|entry| entry.at.unwrap().day).collect();
        assert_eq!(days, [Some(20_468), Some(20_470)]);
        let found = entries(
            "Local time: 0283-01-14T10:00:00\nUTC time: 2026-01-14T09:00:00\n10:00:00 RequestPrivateService\n\
             AttributePrivateMsgID 3015",
        );
        assert_eq!(found[0].at.map(|at| (at.day, at.offset)), Some((None, None)));
    }

    #[test]
    fn days() {
        let day = |text| date(text).map(|(day, _)| day);
        assert_eq!(day("1970-01-01T"), Some(0));
        assert_eq!(day("2000-02-29 "), Some(11_016));
        assert_eq!(day("2000-03-01 "), Some(11_017));
        assert_eq!(day("2261-12-31T"), Some(106_650));
        assert_eq!((day("1969-12-31T"), day("2262-01-01T")), (None, None));
        assert_eq!(day("2026-13-01T"), None);
        assert_eq!(stamp("24:00:00"), None);
        assert_eq!(stamp("1:00:00"), None);
    }

    proptest! {
        #[test]
        fn never_panics(
            bytes: Vec<u8>,
            text in "(@?[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{0,9}|RequestPrivateService|Attribute[A-Z]* \u{fc}\
                |AttributePrivateMsgID 301[3-6]|\n\
                |(Local|UTC) time: [0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:00:00){0,40}",
        ) {
            let mut reader = Reader::default();
            for line in bytes.split(|&byte| byte == b'\n').chain(text.as_bytes().split(|&byte| byte == b'\n')) {
                if let Some(entry) = reader.line(line) {
                    let _ = entry.at.map(|at| at.timestamp(i64::MAX, i64::MIN));
                }
            }
            let _ = reader.finish();
        }
    }
}
