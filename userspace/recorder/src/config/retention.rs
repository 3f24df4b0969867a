//! `[retention]`, and `retention_days` of rules: how long what is kept.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Error;
use spantape_store::retention::Retention;

use super::value::DayCount;
use super::{TypedAction, TypedRule};

/// As it is typed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Typed {
    days: Option<DayCount>,
    catalog_days: Option<DayCount>,
}

/// What it means, together with what rules say for themselves.
pub(super) fn retention(typed: &Typed, rules: &[TypedRule]) -> Result<Retention, toml::de::Error> {
    let mut by_rule = BTreeMap::new();
    for rule in rules {
        let Some(DayCount(days)) = rule.retention_days else { continue };
        if matches!(rule.action, TypedAction::Ignore) {
            let reason = format!(
                "rule `{}` records nothing for which there could be `retention_days`: what it has recorded before is \
                 kept as `retention.days` says",
                rule.name
            );
            return Err(toml::de::Error::custom(reason));
        }
        // Of two rules with the same name the recordings do not tell which it was.
        let longest = by_rule.entry(rule.name.clone()).or_insert(days);
        *longest = days.max(*longest);
    }
    let number = |days: Option<DayCount>| days.map(|days| days.0);
    Ok(Retention { recordings: number(typed.days), by_rule, catalog: number(typed.catalog_days) })
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn rule(name: &str, action: &str, days: u32) -> String {
        format!("[[rule]]\nname = \"{name}\"\naction = \"{action}\"\nretention_days = {days}\n")
    }

    #[test]
    fn how_long_what_is_kept() {
        let retention = |text: &str| parse(text).map(|configuration| configuration.retention);
        assert!(retention("").unwrap().is_for_ever());
        let rules = [rule("sales", "on-demand", 90), rule("rest", "all", 30), rule("rest", "all", 60)];
        let all = format!("[retention]\ndays = 1825\ncatalog_days = 2555\n{}", rules.concat());
        let all = retention(&all).unwrap();
        assert_eq!((all.recordings, all.catalog), (Some(1825), Some(2555)));
        assert_eq!(all.by_rule, [("rest".to_owned(), 60), ("sales".to_owned(), 90)].into());
        let error = retention(&rule("board", "ignore", 90)).unwrap_err().to_string();
        assert!(error.contains("`board`") && error.contains("`retention.days`"), "{error}");
    }

    #[test]
    fn no_longer_than_can_be_told() {
        assert!(parse("[retention]\ndays = 36500\n").is_ok());
        for days in [0, 36_501, 106_752, 365_000, u32::MAX] {
            for text in [
                format!("[retention]\ndays = {days}\n"),
                format!("[retention]\ncatalog_days = {days}\n"),
                rule("sales", "all", days),
            ] {
                let error = parse(&text).unwrap_err().to_string();
                assert!(error.contains("from 1 to 36500"), "{error}");
            }
        }
    }
}
