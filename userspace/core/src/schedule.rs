//! Hours and weekdays, in the time of a place. There is neither clock nor file in here: how a place's time
//! differs from UTC is a table that is handed in, so a replay judges a call as the capture did.

use std::fmt;
use std::sync::Arc;

use crate::time::{SECOND, Timestamp};

const MINUTES_A_DAY: u16 = 24 * 60;

/// How the time of a place differs from UTC, and since when. The default is UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: Arc<str>,
    first: i32,
    changes: Arc<[(Timestamp, i32)]>,
}

impl Default for Zone {
    fn default() -> Zone {
        Zone::new("UTC", 0, Vec::new())
    }
}

impl Zone {
    /// A place whose time is `first` seconds ahead of UTC, and from each change on as many as that says.
    pub fn new(name: &str, first: i32, mut changes: Vec<(Timestamp, i32)>) -> Zone {
        changes.sort_unstable();
        Zone { name: name.into(), first, changes: changes.into() }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// By how many seconds its clocks are ahead of UTC.
    pub fn ahead(&self, at: Timestamp) -> i64 {
        let after = self.changes.partition_point(|change| change.0 <= at);
        after.checked_sub(1).map_or(self.first, |index| self.changes[index].1).into()
    }

    /// What clocks and calendars show there.
    pub fn local(&self, at: Timestamp) -> Local {
        let minutes = (at.0.div_euclid(SECOND) + self.ahead(at)).div_euclid(60);
        let (day, minute) =
            (minutes.div_euclid(MINUTES_A_DAY.into()), minutes.rem_euclid(MINUTES_A_DAY.into()));
        // 1970-01-01 was a Thursday.
        Local { weekday: (day + 3).rem_euclid(7) as u8, minute: minute as u16 }
    }
}

/// A moment in the time of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// 0 is Monday.
    pub weekday: u8,
    /// Since midnight.
    pub minute: u16,
}

/// A part of each day, which may go on past midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    to: u16,
}

impl Hours {
    /// Reads `08:00-18:00`, of which 18:00 is no part any more; also `22:00-06:00` and `18:00-24:00`.
    pub fn parse(text: &str) -> Option<Hours> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (time_of_day(from.trim())?, time_of_day(to.trim())?);
        (from != to && from < MINUTES_A_DAY).then_some(Hours { from, to })
    }

    /// The weekday on which they began, if the moment lies in them: of a night that is the evening's.
    fn holding(self, at: Local) -> Option<u8> {
        let wraps = self.from > self.to;
        match at.minute {
            minute if minute >= self.from && (wraps || minute < self.to) => Some(at.weekday),
            minute if wraps && minute < self.to => Some((at.weekday + 6) % 7),
            _ => None,
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// Some days of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weekdays(u8);

impl Weekdays {
    /// Reads `sat` and `mon-fri`, also `fri-mon`.
    pub fn parse(text: &str) -> Option<Weekdays> {
        let day = |text: &str| DAYS.iter().position(|day| text.trim().eq_ignore_ascii_case(day));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7 + 1;
        Some(Weekdays((first..first + count).fold(0, |days, day| days | 1 << (day % 7))))
    }

    /// These and those.
    pub fn and(self, others: Weekdays) -> Weekdays {
        Weekdays(self.0 | others.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn has(self, day: u8) -> bool {
        self.0 >> day & 1 == 1
    }
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<&str> =
            (0..7).zip(DAYS).filter(|(day, _)| self.has(*day)).map(|(_, day)| day).collect();
        f.write_str(&days.join(", "))
    }
}

/// Whether a moment lies in some of the hours of one of the days. None of either is all of them.
pub fn holds(hours: &[Hours], days: Weekdays, at: Local) -> bool {
    let on_day = |day: u8| days.is_empty() || days.has(day);
    match hours {
        [] => on_day(at.weekday),
        hours => hours.iter().filter_map(|hours| hours.holding(at)).any(on_day),
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Minutes since midnight of `08:30`; 24:00 is the day's end.
fn time_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|minutes| *minutes < 60)?);
    Some(hours * 60 + minutes).filter(|minutes| *minutes <= MINUTES_A_DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hours(text: &str) -> Hours {
        Hours::parse(text).unwrap()
    }

    fn days(text: &str) -> Weekdays {
        Weekdays::parse(text).unwrap()
    }

    /// A time of the week, such as `sat 02:00`.
    fn local(text: &str) -> Local {
        let (day, time) = text.split_once(' ').unwrap();
        let weekday = DAYS.iter().position(|name| *name == day).unwrap() as u8;
        Local { weekday, minute: time_of_day(time).unwrap() }
    }

    #[test]
    fn a_day_and_a_night() {
        let holds = |text: &str, of: &str, at: &str| holds(&[hours(text)], days(of), local(at));
        for (at, expected) in
            [("mon 07:59", false), ("mon 08:00", true), ("fri 17:59", true), ("fri 18:00", false)]
        {
            assert_eq!(holds("08:00-18:00", "mon-fri", at), expected, "{at}");
        }
        assert!(!holds("08:00-18:00", "mon-fri", "sat 12:00"));
        // Friday's night goes on into Saturday; Sunday's into Monday.
        for (at, expected) in [
            ("mon 02:00", false),
            ("mon 22:00", true),
            ("fri 23:59", true),
            ("sat 00:00", true),
            ("sat 05:59", true),
            ("sat 06:00", false),
            ("sat 22:00", false),
            ("sun 03:00", false),
        ] {
            assert_eq!(holds("22:00-06:00", "mon-fri", at), expected, "{at}");
        }
        assert!(holds("18:00-24:00", "sun", "sun 23:59") && !holds("18:00-24:00", "sun", "mon 00:00"));
    }

    #[test]
    fn several_and_none() {
        let two = [hours("08:00-12:00"), hours("13:00-17:00")];
        let any = Weekdays::default();
        assert!(holds(&two, any, local("sun 13:30")) && !holds(&two, any, local("sun 12:30")));
        assert!(holds(&[], any, local("sun 12:30")));
        assert!(holds(&[], days("sun"), local("sun 12:30")) && !holds(&[], days("sat"), local("sun 12:30")));
    }

    #[test]
    fn as_they_are_written() {
        for text in
            ["", "8-18", "08:00", "08:60-18:00", "25:00-26:00", "08:00-08:00", "24:00-08:00", "1:2:3-4:5"]
        {
            assert_eq!(Hours::parse(text), None, "{text}");
        }
        assert_eq!(hours("22:00-00:00").holding(local("mon 23:59")), Some(0));
        assert_eq!(hours("8:00 - 18:30").to_string(), "08:00-18:30");
        for text in ["", "monday", "mon-", "mon-fri-sun"] {
            assert_eq!(Weekdays::parse(text), None, "{text}");
        }
        assert_eq!(days("Mon-Wed").and(days("sun")).to_string(), "mon, tue, wed, sun");
        assert_eq!(days("fri-mon").to_string(), "mon, fri, sat, sun");
    }

    #[test]
    fn a_zone_with_summer() {
        // 2026-03-29 01:00 UTC and 2026-10-25 01:00 UTC.
        let changes = [(1_774_746_000, 7200), (1_792_890_000, 3600)];
        let changes = changes.map(|(at, ahead)| (Timestamp(at * SECOND), ahead));
        let zone = Zone::new("Berlin", 3600, changes.to_vec());
        let at = |seconds: i64| zone.local(Timestamp(seconds * SECOND));
        assert_eq!(at(1_774_745_999), local("sun 01:59"));
        assert_eq!(at(1_774_746_000), local("sun 03:00"));
        assert_eq!(at(1_792_889_999), local("sun 02:59"));
        assert_eq!(at(1_792_890_000), local("sun 02:00"));
        assert_eq!(Zone::default().local(Timestamp(0)), local("thu 00:00"));
        assert_eq!(Zone::default().local(Timestamp(-1)), local("wed 23:59"));
    }

    proptest! {
        /// A night is what a day is not.
        #[test]
        fn the_rest_of_the_day(from in 0..1440u16, to in 0..1440u16, weekday in 0..7u8, minute in 0..1440u16) {
            prop_assume!(from != to);
            let (day, rest) = (Hours { from, to }, Hours { from: to, to: from });
            let at = Local { weekday, minute };
            prop_assert_ne!(day.holding(at).is_some(), rest.holding(at).is_some());
        }
    }
}
