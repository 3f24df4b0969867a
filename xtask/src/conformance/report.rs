//! What is printed.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

/// What a line tells at most.
const MAX_DIFFERENCES: usize = 6;

/// How a capture compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Agrees,
    /// Differs, and stands in the list.
    Known,
    Differs,
    /// Stands in the list, but does not differ.
    AgreesNow,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Agrees => "agrees",
            State::Known => "known",
            State::Differs => "DIFFERS",
            State::AgreesNow => "AGREES NOW",
        }
    }

    fn is_failure(self) -> bool {
        matches!(self, State::Differs | State::AgreesNow)
    }
}

/// What became of one capture.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) file: String,
    pub(super) state: State,
    /// Why it may differ.
    pub(super) reason: Option<String>,
    pub(super) differences: Vec<String>,
}

/// What became of all of them.
pub(super) struct Report(Vec<Verdict>);

impl Report {
    /// A report on these.
    pub(super) fn new(verdicts: Vec<Verdict>) -> Report {
        Report(verdicts)
    }

    /// Captures that are not as expected.
    pub(super) fn failures(&self) -> usize {
        self.0.iter().filter(|verdict| verdict.state.is_failure()).count()
    }

    fn count(&self, states: &[State]) -> usize {
        self.0.iter().filter(|verdict| states.contains(&verdict.state)).count()
    }

    fn agree(&self) -> usize {
        self.count(&[State::Agrees, State::AgreesNow])
    }

    fn known(&self) -> usize {
        self.count(&[State::Known])
    }

    /// A line for each capture that differs, and the sum of all.
    pub(super) fn table(&self) -> String {
        let shown = || self.0.iter().filter(|verdict| verdict.state != State::Agrees);
        let width = shown().map(|verdict| verdict.file.len()).max().unwrap_or(0);
        let mut out = String::new();
        for verdict in shown() {
            let (file, state) = (&verdict.file, verdict.state.name());
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{file:width$}  {state:10}  {}", words(verdict));
        }
        let (agree, known) = (self.agree(), self.known());
        let _ = writeln!(out, "{agree} of {} agree, {known} known exceptions", self.0.len());
        out
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Result<String> {
        let differing = self.0.iter().filter(|verdict| verdict.state != State::Agrees);
        let value = json!({
            "captures": self.0.len(),
            "agree": self.agree(),
            "known": self.known(),
            "failures": self.failures(),
            "differing": differing.map(entry).collect::<Vec<_>>(),
        });
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }
}

fn words(verdict: &Verdict) -> String {
    match &verdict.reason {
        Some(reason) if verdict.state == State::AgreesNow => format!("is listed: {reason}"),
        _ => shortened(&verdict.differences),
    }
}

fn shortened(differences: &[String]) -> String {
    let (shown, rest) = differences.split_at(differences.len().min(MAX_DIFFERENCES));
    let mut out = shown.join("; ");
    if !rest.is_empty() {
        let _ = write!(out, "; and {} more", rest.len());
    }
    out
}

fn entry(verdict: &Verdict) -> Value {
    json!({
        "file": verdict.file,
        "state": verdict.state.name().to_ascii_lowercase().replace(' ', "-"),
        "reason": verdict.reason,
        "differences": verdict.differences,
    })
}

/// Says in JSON that there was nothing to do.
pub(super) fn skipped(reason: &str) -> String {
    json!({ "skipped": reason }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let verdict = |file: &str, state, reason: Option<&str>, differences: &[&str]| Verdict {
            file: file.into(),
            state,
            reason: reason.map(str::to_owned),
            differences: differences.iter().map(|&text| text.to_owned()).collect(),
        };
        Report::new(vec![
            verdict("a.pcap", State::Agrees, None, &[]),
            verdict("bb.pcap", State::Known, Some("not yet"), &["streams 0, not 2", "answered 0, not 1"]),
            verdict("c.pcap", State::AgreesNow, Some("not yet"), &[]),
            verdict("d.pcap", State::Differs, None, &["x"; 8]),
        ])
    }

    #[test]
    fn a_line_for_each_that_differs() {
        let expected = "\
bb.pcap  known       streams 0, not 2; answered 0, not 1
c.pcap   AGREES NOW  is listed: not yet
d.pcap   DIFFERS     x; x; x; x; x; x; and 2 more
2 of 4 agree, 1 known exceptions
";
        assert_eq!(report().table(), expected);
        assert_eq!(report().failures(), 2);
    }

    #[test]
    fn json_has_all_of_it() {
        let value: Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!((&value["captures"], &value["failures"]), (&json!(4), &json!(2)));
        assert_eq!(value["differing"][1]["state"], "agrees-now");
        assert_eq!(value["differing"][2]["differences"].as_array().unwrap().len(), 8);
    }
}
