//! What is looked up, by which keys, and in what words.

use spantape_core::time::SECOND;
use spantape_store::{Query, Table, utc};

use super::super::scatter;
use super::calls::{DAYS, SUBSCRIBERS, Year, midnight, phone_number};

/// A kind of look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookUp {
    CallId,
    Number,
    /// In the table that a search looks into unless told otherwise.
    NumberRecorded,
    NumberInMonth,
    Conversation,
    Hour,
    /// On which days a number had calls, and how many.
    NumberByDay,
}

impl LookUp {
    pub(super) const ALL: [Self; 7] = [
        Self::CallId,
        Self::Number,
        Self::NumberRecorded,
        Self::NumberInMonth,
        Self::Conversation,
        Self::Hour,
        Self::NumberByDay,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CallId => "Call-ID",
            Self::Number => "number",
            Self::NumberRecorded => "number, recordings",
            Self::NumberInMonth => "number, one month",
            Self::Conversation => "conversation",
            Self::Hour => "one hour",
            Self::NumberByDay => "number, count by day",
        }
    }

    /// Whether days are what is found, not rows.
    pub(super) fn by_day(self) -> bool {
        self == Self::NumberByDay
    }

    /// The most that it may take, in milliseconds.
    pub(super) fn limit_ms(self) -> Option<f64> {
        match self {
            Self::CallId => Some(50.0),
            Self::Number | Self::NumberRecorded | Self::NumberInMonth => Some(100.0),
            Self::Conversation | Self::Hour | Self::NumberByDay => None,
        }
    }

    /// It with its key of this number. No two look-ups have a key in common.
    pub(super) fn query(self, year: Year, key: u64) -> Query {
        let own = key * Self::ALL.len() as u64 + self as u64;
        let random = scatter(own);
        let calls = Query { table: Table::Calls, ..Query::default() };
        let number = Some(phone_number((year.subscriber() + own) % SUBSCRIBERS));
        match self {
            Self::CallId => Query { call_id: Some(year.any(random).call_id), ..calls },
            Self::Conversation => Query { conversation: Some(year.any(random).conversation_id), ..calls },
            Self::Number | Self::NumberByDay => Query { party: number, ..calls },
            Self::NumberRecorded => Query { party: number, table: Table::Recordings, ..calls },
            Self::NumberInMonth => {
                let first = (random % u64::from(DAYS - MONTH)) as u32;
                let (since, until) = (midnight(first), midnight(first + MONTH));
                Query { party: number, since: Some(since), until: Some(until), ..calls }
            }
            Self::Hour => {
                let place = key * STRIDE % (u64::from(DAYS) * HOURS);
                let hour = FIRST_HOUR + place % HOURS;
                let since = midnight((place / HOURS) as u32) + hour as i64 * HOUR;
                Query { since: Some(since), until: Some(since + HOUR), ..calls }
            }
        }
    }
}

/// What a query asks, by the names of the options of `spantape search`.
pub(super) fn options(query: &Query) -> Vec<(&'static str, String)> {
    let options = [
        ("table", Some(query.table.to_string())),
        ("call-id", query.call_id.clone()),
        ("party", query.party.clone()),
        ("conversation", query.conversation.clone()),
        ("since", query.since.map(utc::rfc3339)),
        ("until", query.until.map(utc::rfc3339)),
    ];
    options.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

const HOUR: i64 = 3600 * SECOND;
/// In days.
const MONTH: u32 = 30;
/// Of a day, those in which most calls begin.
const FIRST_HOUR: u64 = 8;
const HOURS: u64 = 10;
/// In such hours. It has no factor in common with those of a year, so that all have their turn.
const STRIDE: u64 = 1009;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_look_up_has_keys_of_its_own() {
        let year = Year { calls: 10_000_000 };
        let mut asked = HashSet::new();
        for look_up in LookUp::ALL {
            for key in 0..100 {
                let options = options(&look_up.query(year, key));
                assert!(options.len() > 1 && asked.insert(options), "{look_up:?} {key}");
            }
        }
    }

    #[test]
    fn options_are_those_of_a_search() {
        let query = LookUp::Hour.query(Year { calls: 10_000 }, 0);
        let options = options(&query);
        let names: Vec<&str> = options.iter().map(|option| option.0).collect();
        assert_eq!((names, &*options[0].1), (vec!["table", "since", "until"], "calls"));
        assert!(options[1].1.starts_with("2025-") && options[1].1.ends_with(":00:00.000Z"), "{options:?}");
    }
}
