//! The values of a configuration file: how each is typed, and what is allowed.

use regex::Regex;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};
use spantape_core::rules::{self, LookBack};
use spantape_core::schedule::{Hours, Weekdays, Zone};
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};
use spantape_core::trigger::feature_code::LONGEST;
use spantape_store::encrypt::Recipients;

/// What tells that calls belong together, beside what is known of everybody's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Correlation {
    pub(super) headers: Vec<String>,
}

/// `"x"` or `["x", "y"]`.
#[derive(Debug)]
pub(super) struct OneOrMore<T>(pub(super) Vec<T>);

impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        OneOrMore(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = OneOrMore<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(serde::de::value::StrDeserializer::new(text)).map(|one| OneOrMore(vec![one]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMore(values))
            }
        }
        deserializer.deserialize_any(Visitor(std::marker::PhantomData))
    }
}

pub(super) type Patterns = OneOrMore<Pattern>;

/// A glob, or a regular expression between slashes.
#[derive(Debug)]
pub(super) struct Pattern(pub(super) Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        match inner {
            Some(expression) => Regex::new(expression),
            None => rules::glob(&text),
        }
        .map(Pattern)
        .map_err(|error| D::Error::custom(format!("`{text}` is no regular expression: {error}")))
    }
}

#[derive(Debug)]
pub(super) struct Network(pub(super) ipnet::IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let host = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        text.parse().or_else(|_| host()).map(Network).map_err(|_| {
            D::Error::invalid_value(Unexpected::Str(&text), &"a network such as `10.0.0.0/8` or an address")
        })
    }
}

/// `"500ms"`, `"30s"`, `"5m"`, `"2h"`, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duration(pub(super) i64);

impl Duration {
    fn parse(text: &str) -> Option<Duration> {
        let digits = text.find(|character: char| !character.is_ascii_digit())?;
        let unit = match &text[digits..] {
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" | "min" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return None,
        };
        text[..digits].parse::<i64>().ok()?.checked_mul(unit).map(Duration)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "a duration such as `500ms`, `30s`, `5m` or `2h`";
        Duration::parse(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &expected))
    }
}

/// `"512KiB"`, `"64MiB"`, `"1GiB"`, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes(pub(super) u64);

impl Bytes {
    fn parse(text: &str) -> Option<Bytes> {
        let digits = text.find(|character: char| !character.is_ascii_digit())?;
        let unit = match text[digits..].trim_start() {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        text[..digits].parse::<u64>().ok()?.checked_mul(unit).map(Bytes)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "a size such as `512KiB`, `64MiB` or `1GiB`";
        Bytes::parse(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &expected))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TypedLookBack(pub(super) LookBack);

impl Default for TypedLookBack {
    fn default() -> Self {
        TypedLookBack(LookBack::For(0))
    }
}

impl<'de> Deserialize<'de> for TypedLookBack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "`call-start`, or a duration such as `30s`";
        match (text.as_str(), Duration::parse(&text)) {
            ("call-start", _) => Ok(TypedLookBack(LookBack::CallStart)),
            (_, Some(Duration(nanoseconds))) => Ok(TypedLookBack(LookBack::For(nanoseconds))),
            _ => Err(D::Error::invalid_value(Unexpected::Str(&text), &expected)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Percent(pub(super) u8);

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let percent = u8::try_from(number).ok().filter(|percent| *percent <= 100);
        let invalid = || D::Error::invalid_value(Unexpected::Signed(number), &"a number from 0 to 100");
        percent.map(Percent).ok_or_else(invalid)
    }
}

/// Days that something may be kept at most: a hundred years. Longer is for ever, which is said by saying nothing.
const LONGEST_KEPT: u32 = 36_500;

/// How many days something is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct DayCount(pub(super) u32);

impl<'de> Deserialize<'de> for DayCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        let days = u32::try_from(number).ok().filter(|days| (1..=LONGEST_KEPT).contains(days));
        let expected = "a number of days from 1 to 36500; without it, something is kept for ever";
        let invalid = || D::Error::invalid_value(Unexpected::Signed(number), &expected);
        days.map(DayCount).ok_or_else(invalid)
    }
}

/// Keys of a telephone.
#[derive(Debug)]
pub(super) struct Keys(pub(super) String);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?.to_ascii_uppercase();
        let keys = text.chars().all(|key| "0123456789*#ABCD".contains(key));
        if !keys || text.is_empty() || text.len() > LONGEST {
            let expected = "up to eight keys of a telephone, such as `*1`";
            return Err(D::Error::invalid_value(Unexpected::Str(&text), &expected));
        }
        Ok(Keys(text))
    }
}

/// `"08:00-18:00"`.
#[derive(Debug)]
pub(super) struct TypedHours(pub(super) Hours);

impl<'de> Deserialize<'de> for TypedHours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "hours such as `08:00-18:00` or `22:00-06:00`";
        let invalid = || D::Error::invalid_value(Unexpected::Str(&text), &expected);
        Hours::parse(&text).map(TypedHours).ok_or_else(invalid)
    }
}

/// `"mon-fri"`.
#[derive(Debug)]
pub(super) struct TypedDays(pub(super) Weekdays);

impl<'de> Deserialize<'de> for TypedDays {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "days such as `mon-fri` or `sat`";
        let invalid = || D::Error::invalid_value(Unexpected::Str(&text), &expected);
        Weekdays::parse(&text).map(TypedDays).ok_or_else(invalid)
    }
}

/// `"Europe/Berlin"`: as the table has it that the program brings along, so that no machine judges otherwise.
#[derive(Debug, Default)]
pub(super) struct TypedZone(pub(super) Zone);

impl<'de> Deserialize<'de> for TypedZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "a time zone such as `Europe/Berlin` or `UTC`";
        let invalid = || D::Error::invalid_value(Unexpected::Str(&text), &expected);
        let zone = jiff::tz::TimeZone::get(&text).map_err(|_| invalid())?;
        // What the core can tell moments of ends with the year 2262.
        let seconds = |ahead: jiff::tz::Offset| ahead.seconds();
        let change = |change: jiff::tz::TimeZoneTransition<'_>| {
            let at = i64::try_from(change.timestamp().as_nanosecond()).ok()?;
            Some((Timestamp(at), seconds(change.offset())))
        };
        let epoch = jiff::Timestamp::UNIX_EPOCH;
        let changes = zone.following(epoch).map_while(change).collect();
        Ok(TypedZone(Zone::new(&text, seconds(zone.to_offset(epoch)), changes)))
    }
}
/// `"age1…"`, or several.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "OneOrMore<String>")]
pub(super) struct TypedRecipients(pub(super) Recipients);

impl TryFrom<OneOrMore<String>> for TypedRecipients {
    type Error = String;

    fn try_from(typed: OneOrMore<String>) -> Result<TypedRecipients, String> {
        let mut recipients = Recipients::default();
        let add = |one: String| recipients.add(&one).map_err(|why| format!("`{one}`: {why}"));
        typed.0.into_iter().try_for_each(add)?;
        Ok(TypedRecipients(recipients))
    }
}
