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
    #[arg(long, value_name = "TIME", value_parser = typed_moment)]
    since: Option<Moment>,
    /// Leave out what began then or later; a date is its first moment
    #[arg(long, value_name = "TIME", value_parser = typed_moment)]
    until: Option<Moment>,
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

/// A moment, and the words for it, which may be another one each time: `2h ago`.
#[derive(Clone, Debug)]
struct Moment {
    typed: String,
    at: Timestamp,
}

fn typed_moment(text: &str) -> Result<Moment, String> {
    Ok(Moment { typed: text.to_owned(), at: when::moment(text)? })
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
            since: self.since.as_ref().map(|moment| moment.at),
            until: self.until.as_ref().map(|moment| moment.at),
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
        !self.conditions("to", resolved).is_empty()
    }

    /// The moments that it has: since and until.
    pub(super) fn moments(&self) -> [Option<Timestamp>; 2] {
        [&self.since, &self.until].map(|moment| moment.as_ref().map(|moment| moment.at))
    }

    /// The same with other moments: those that the same words were the first time.
    pub(super) fn at(&self, moments: [Option<Timestamp>; 2]) -> Filter {
        let [since, until] = moments;
        let at = |moment: &Option<Moment>, at: Option<Timestamp>| {
            moment.clone().map(|moment| Moment { at: at.unwrap_or(moment.at), ..moment })
        };
        Filter { since: at(&self.since, since), until: at(&self.until, until), ..self.clone() }
    }

    /// What is said, with moments by the words for them. Two that say the same are the same.
    pub(super) fn typed(&self) -> String {
        self.said("to", |moment| word(&moment.typed))
    }

    /// As it could have been typed where who was called is another option than `--to`; empty if nothing is said.
    pub(super) fn with_callee(&self, callee: &str) -> String {
        self.said(callee, resolved)
    }

    fn said(&self, callee: &str, moment: impl Fn(&Moment) -> String) -> String {
        let mut said = self.conditions(callee, moment);
        said.extend(self.limit.map(|limit| format!("--limit {limit}")));
        said.join(" ")
    }

    /// What is said, but how many there may be.
    fn conditions(&self, callee: &str, told: impl Fn(&Moment) -> String) -> Vec<String> {
        let text = |name: &str, text: &Option<String>| Some(format!("--{name} {}", word(text.as_deref()?)));
        let moment = |name: &str, at: &Option<Moment>| Some(format!("--{name} {}", told(at.as_ref()?)));
        let all = [
            text("from", &self.from),
            text(callee, &self.to),
            text("party", &self.party),
            text("call-id", &self.call_id),
            text("conversation", &self.conversation),
            moment("since", &self.since),
            moment("until", &self.until),
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
        let said = self.said("to", resolved);
        f.write_str(if said.is_empty() { "everything" } else { &said })
    }
}

/// A moment that stays the same.
fn resolved(moment: &Moment) -> String {
    rfc3339(moment.at)
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
    fn moments_that_are_others_each_time() {
        let typed = |typed: &[&str]| Cli::try_parse_from(["x"].iter().chain(typed).copied()).unwrap().filter;
        let first = typed(&["--since", "1d ago", "--to", "1010"]);
        let mut later = typed(&["--since", "1d ago", "--to", "1010"]);
        later = later.at([Some(Timestamp(0)), None]);
        assert_eq!(first.typed(), later.typed());
        assert_eq!(later.typed(), "--to 1010 --since '1d ago'");
        assert_ne!(first.with_callee("callee"), later.with_callee("callee"));
        assert_eq!(later.with_callee("callee"), "--callee 1010 --since 1970-01-01T00:00:00.000Z");
        let same = later.at(first.moments());
        assert_eq!(same.query(Table::Recordings).since, first.query(Table::Recordings).since);
        assert_eq!(typed(&[]).with_callee("callee"), "");
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
