//! What rows must be like: the options that searching, exporting and purging have in common.

use std::fmt;

use spantape_core::time::Timestamp;
use spantape_store::utc::rfc3339;
use spantape_store::{Query, Table};

use super::when;

/// What rows must be like, in any table.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Who called: user part of the URI, exact or with `*` and `?`
    #[arg(long, value_name = "USER")]
    from: Option<String>,
    /// Who was called
    #[arg(long, value_name = "USER")]
    to: Option<String>,
    /// Who took part, on either side
    #[arg(long, value_name = "USER")]
    party: Option<String>,
    /// SIP Call-ID, exact or with `*` and `?`, or the call's `call_uid`
    #[arg(long, value_name = "ID")]
    call_id: Option<String>,
    /// All that belongs together: the `conversation_id` of the calls
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Leave out what was over before: `2026-11-22`, `2026-11-22 14:30` (UTC), RFC 3339, or `2h ago`
    #[arg(long, value_name = "TIME", value_parser = when::moment)]
    since: Option<Timestamp>,
    /// Leave out what began then or later; a date is its first moment
    #[arg(long, value_name = "TIME", value_parser = when::moment)]
    until: Option<Timestamp>,
    /// Shortest duration: `10s`, `2m`, or plain seconds
    #[arg(long, value_name = "DURATION", value_parser = when::seconds)]
    min_duration: Option<f64>,
    /// What caused the recording: `rule`, `sip-info`, `orphan`…; in the table `events`, each trigger of that name,
    /// taken or refused
    #[arg(long, value_name = "NAME")]
    trigger: Option<String>,
    /// A codec that is heard: `g722`, `PCMU/8000`
    #[arg(long, value_name = "NAME")]
    codec: Option<String>,
    /// Not more than so many, the earliest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Filter {
    /// What is asked of a table.
    pub(super) fn query(&self, table: Table) -> Query {
        Query {
            table,
            from: self.from.clone(),
            to: self.to.clone(),
            party: self.party.clone(),
            call_id: self.call_id.clone(),
            conversation: self.conversation.clone(),
            since: self.since,
            until: self.until,
            min_duration: self.min_duration,
            trigger: self.trigger.clone(),
            codec: self.codec.clone(),
            limit: self.limit.and_then(|limit| usize::try_from(limit).ok()),
            ..Query::default()
        }
    }

    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.limit.is_none() && !self.has_conditions()
    }

    /// Whether anything is said but how many there may be.
    pub(super) fn has_conditions(&self) -> bool {
        !self.conditions().is_empty()
    }

    /// What is said, but how many there may be.
    fn conditions(&self) -> Vec<String> {
        let text = |name: &str, text: &Option<String>| Some(format!("--{name} {}", word(text.as_deref()?)));
        let moment = |name: &str, at: Option<Timestamp>| Some(format!("--{name} {}", rfc3339(at?)));
        let all = [
            text("from", &self.from),
            text("to", &self.to),
            text("party", &self.party),
            text("call-id", &self.call_id),
            text("conversation", &self.conversation),
            moment("since", self.since),
            moment("until", self.until),
            self.min_duration.map(|seconds| format!("--min-duration {seconds}")),
            text("trigger", &self.trigger),
            text("codec", &self.codec),
        ];
        all.into_iter().flatten().collect()
    }
}

/// As it could have been typed, with its moments in UTC.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.conditions();
        said.extend(self.limit.map(|limit| format!("--limit {limit}")));
        let said = if said.is_empty() { "everything".to_owned() } else { said.join(" ") };
        f.write_str(&said)
    }
}

/// What a shell takes for one word, which is this text.
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.:/+@,=%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        filter: Filter,
    }

    #[test]
    fn as_it_could_have_been_typed() {
        let typed = |typed: &[&str]| Cli::try_parse_from(["x"].iter().chain(typed).copied()).unwrap().filter;
        assert_eq!(typed(&[]).to_string(), "everything");
        assert!(typed(&[]).is_empty());
        let few = typed(&["--limit", "5"]);
        assert_eq!(few.to_string(), "--limit 5");
        assert!(!few.is_empty() && !few.has_conditions());
        let all =
            typed(&["--since", "2026-11-22", "--to", "+4930*", "--min-duration", "2m", "--party", "1009"]);
        let told = "--to '+4930*' --party 1009 --since 2026-11-22T00:00:00.000Z --min-duration 120";
        assert_eq!(all.to_string(), told);
        assert!(all.has_conditions());
        // It says the same when it is typed.
        let again = [
            "--to",
            "+4930*",
            "--party",
            "1009",
            "--since",
            "2026-11-22T00:00:00.000Z",
            "--min-duration",
            "120",
        ];
        assert_eq!(typed(&again).to_string(), told);
    }

    #[test]
    fn words() {
        for (text, expected) in [
            ("1009", "1009"),
            ("a@192.0.2.9", "a@192.0.2.9"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(word(text), expected);
        }
    }
}
