//! The configuration file: what is typed, and what it means to the engine.

use std::path::Path;

use anyhow::{Context, Result};
use regex::Regex;
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};
use spantape_core::rules::{
    self, Action, Beginning, CallDirection, Config, LookBack, OnRefused, Rule, Rules,
};
use spantape_core::time::{MILLISECOND, SECOND};

/// A configuration file, as it is typed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    site: Site,
    record: Record,
    limits: Limits,
    rule: Vec<TypedRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Site {
    /// Users that belong to the house: tells inbound from outbound.
    internal: Patterns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Record {
    headers: Option<Vec<String>>,
    rtp_timeout: Option<Duration>,
    hold_timeout: Option<Duration>,
    ring_timeout: Option<Duration>,
    orphans: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    calls: Option<usize>,
    flows: Option<usize>,
    tcp_connections: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedRule {
    name: String,
    #[serde(default, rename = "match")]
    conditions: Conditions,
    action: TypedAction,
    #[serde(default)]
    from: TypedBeginning,
    #[serde(default)]
    lookback: TypedLookBack,
    #[serde(default)]
    on_refused: TypedOnRefused,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Conditions {
    from: Patterns,
    to: Patterns,
    party: Patterns,
    direction: OneOrMore<TypedDirection>,
    network: OneOrMore<Network>,
    codec: OneOrMore<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedAction {
    All,
    OnDemand,
    Ignore,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedBeginning {
    #[default]
    Media,
    Answer,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedOnRefused {
    #[default]
    FollowServer,
    HonourKey,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedDirection {
    Inbound,
    Outbound,
    Internal,
    External,
}

/// `"x"` or `["x", "y"]`.
#[derive(Debug)]
struct OneOrMore<T>(Vec<T>);

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

type Patterns = OneOrMore<Pattern>;

/// A glob, or a regular expression between slashes.
#[derive(Debug)]
struct Pattern(Regex);

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
struct Network(ipnet::IpNet);

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
struct Duration(i64);

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

#[derive(Clone, Copy, Debug)]
struct TypedLookBack(LookBack);

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

/// Reads a configuration file; without one, everything is recorded.
pub(crate) fn load(path: Option<&Path>) -> Result<Config> {
    let Some(path) = path else { return Ok(Config::default()) };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    parse(&text).with_context(|| format!("{}: is no valid configuration", path.display()))
}

fn parse(text: &str) -> Result<Config, toml::de::Error> {
    let file: File = toml::from_str(text)?;
    let defaults = Config::default();
    let or = |typed: Option<Duration>, default: i64| typed.map_or(default, |duration| duration.0);
    Ok(Config {
        rules: Rules::new(file.rule.into_iter().map(rule).collect(), regexes(file.site.internal)),
        orphans: file.record.orphans,
        record_headers: file.record.headers.unwrap_or(defaults.record_headers),
        rtp_timeout: or(file.record.rtp_timeout, defaults.rtp_timeout),
        hold_timeout: or(file.record.hold_timeout, defaults.hold_timeout),
        ring_timeout: or(file.record.ring_timeout, defaults.ring_timeout),
        max_calls: file.limits.calls.unwrap_or(defaults.max_calls).max(1),
        max_flows: file.limits.flows.unwrap_or(defaults.max_flows).max(1),
        max_tcp_flows: file.limits.tcp_connections.unwrap_or(defaults.max_tcp_flows).max(1),
        ..defaults
    })
}

fn rule(typed: TypedRule) -> Rule {
    let conditions = typed.conditions;
    Rule {
        name: typed.name,
        from: regexes(conditions.from),
        to: regexes(conditions.to),
        party: regexes(conditions.party),
        direction: conditions
            .direction
            .0
            .iter()
            .map(|direction| match direction {
                TypedDirection::Inbound => CallDirection::Inbound,
                TypedDirection::Outbound => CallDirection::Outbound,
                TypedDirection::Internal => CallDirection::Internal,
                TypedDirection::External => CallDirection::External,
            })
            .collect(),
        network: conditions.network.0.into_iter().map(|network| network.0).collect(),
        codec: conditions.codec.0,
        action: match typed.action {
            TypedAction::All => Action::All,
            TypedAction::OnDemand => Action::OnDemand,
            TypedAction::Ignore => Action::Ignore,
        },
        beginning: match typed.from {
            TypedBeginning::Media => Beginning::Media,
            TypedBeginning::Answer => Beginning::Answer,
        },
        look_back: typed.lookback.0,
        on_refused: match typed.on_refused {
            TypedOnRefused::FollowServer => OnRefused::FollowServer,
            TypedOnRefused::HonourKey => OnRefused::HonourKey,
        },
    }
}

fn regexes(patterns: Patterns) -> Vec<Regex> {
    patterns.0.into_iter().map(|pattern| pattern.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file() {
        let config = parse(
            r#"
            [site]
            internal = ["1???", "/^2[0-9]{2}$/"]
            [record]
            headers = ["Record"]
            rtp_timeout = "90s"
            [[rule]]
            name = "board"
            action = "ignore"
            match = { party = "1001" }
            [[rule]]
            name = "sales"
            action = "on-demand"
            lookback = "call-start"
            on_refused = "honour-key"
            match = { from = ["10*"], direction = "outbound", network = ["10.0.0.0/8", "fd00::1"], codec = "PCMU" }
            [[rule]]
            name = "rest"
            action = "all"
            from = "answer"
            "#,
        )
        .unwrap();
        assert_eq!(config.rtp_timeout, 90 * SECOND);
        let sales = config.rules.get(1);
        assert_eq!((sales.look_back, sales.network.len()), (LookBack::CallStart, 2));
        assert_eq!(config.rules.get(2).beginning, Beginning::Answer);
    }

    #[test]
    fn errors_name_the_line_the_key_and_what_is_allowed() {
        let cases = [
            ("[[rule]]\nname = \"x\"\naction = \"al\"", "line 3", "`all`, `on-demand`, `ignore`"),
            ("[[rule]]\nname = \"x\"\naktion = \"all\"", "line 3", "`action`"),
            ("[[rule]]\nname = \"x\"\naction = \"all\"\nlookback = \"soon\"", "line 4", "`call-start`"),
            (
                "[[rule]]\nname = \"x\"\naction = \"all\"\nmatch = { from = \"/(/\" }",
                "line 4",
                "regular expression",
            ),
            (
                "[[rule]]\nname = \"x\"\naction = \"all\"\n[rule.match]\nnetwork = [\"x\"]",
                "line 5",
                "10.0.0.0/8",
            ),
            ("[record]\nrtp_timeout = 5", "line 2", "expected a string"),
        ];
        for (text, line, allowed) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(allowed), "{error}");
        }
    }
}
