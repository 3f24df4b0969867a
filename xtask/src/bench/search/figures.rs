//! Times of many look-ups: median, what all but a few stay below, the ratio, and what may not be exceeded.

use std::fmt;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::super::figures::{Spread, rounded};
use super::super::machine::Findings;
use super::calls::{DAYS, SUBSCRIBERS, Year};
use super::look_up::LookUp;
use super::{Answer, Way};

/// So many calls the limits are meant for.
const JUDGED_CALLS: u64 = 10_000_000;
/// Of the library's time to DuckDB's, both without the start of a process.
const MOST_RATIO: f64 = 1.0;

/// All that has been measured on one catalog.
pub(super) struct Figures {
    pub(super) year: Year,
    pub(super) duckdb: String,
    pub(super) measured: Vec<Measured>,
}

/// What one look-up took, with all its keys.
pub(super) struct Measured {
    pub(super) look_up: LookUp,
    /// By [`Way`].
    pub(super) answers: [Vec<Answer>; 3],
}

impl Figures {
    /// Of another number of calls than the limits are meant for, nothing is wanted.
    pub(super) fn check(&self) -> Result<()> {
        if self.year.calls != JUDGED_CALLS {
            return Ok(());
        }
        let failed: Vec<String> = self.measured.iter().flat_map(Measured::failures).collect();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    }
}

impl Measured {
    pub(super) fn new(look_up: LookUp) -> Self {
        Self { look_up, answers: Default::default() }
    }

    fn answers(&self, way: Way) -> &[Answer] {
        &self.answers[way as usize]
    }

    fn times(&self, way: Way) -> Times {
        Times::of(self.answers(way).iter().map(|answer| answer.ms).collect())
    }

    fn rows(&self) -> f64 {
        Spread::of(self.answers(Way::Library).iter().map(|answer| answer.rows as f64).collect()).median
    }

    /// Of the medians.
    fn ratio(&self, way: Way) -> f64 {
        self.times(way).median / self.times(Way::DuckDb).median
    }

    fn failures(&self) -> Vec<String> {
        let (name, mut failed) = (self.look_up.name(), Vec::new());
        // In these words a figure that is no number does not pass.
        for way in [Way::Library, Way::Process] {
            let (ms, limit) = (self.times(way).median, self.look_up.limit_ms().unwrap_or(f64::INFINITY));
            let fast = ms <= limit;
            if !fast {
                failed.push(format!("{name}: {ms:.1} ms by the {}, and {limit} are allowed", way.name()));
            }
        }
        let ratio = self.ratio(Way::Library);
        let fast = ratio <= MOST_RATIO;
        if !fast {
            failed.push(format!("{name}: {ratio:.2} times DuckDB's time, and {MOST_RATIO:.1} is allowed"));
        }
        failed
    }

    fn json(&self) -> Value {
        let ways = Way::ALL.map(|way| {
            let runs: Vec<f64> = self.answers(way).iter().map(|answer| rounded(answer.ms)).collect();
            let Times { median, p95 } = self.times(way);
            let figures = json!({ "median_ms": rounded(median), "p95_ms": rounded(p95), "runs_ms": runs });
            (way.name().to_owned(), figures)
        });
        let rows: Vec<u64> = self.answers(Way::Library).iter().map(|answer| answer.rows).collect();
        json!({
            "look_up": self.look_up.name(),
            "rows": rows,
            "times": Value::Object(ways.into_iter().collect()),
            "ratio": rounded(self.ratio(Way::Library)),
            "process_ratio": rounded(self.ratio(Way::Process)),
        })
    }
}

impl Findings for Figures {
    fn stem(&self) -> String {
        format!("search-{}", self.year.calls)
    }

    fn json(&self) -> Value {
        json!({
            "calls": self.year.calls,
            "days": DAYS,
            "subscribers": SUBSCRIBERS,
            "duckdb": self.duckdb,
            "look_ups": self.measured.iter().map(Measured::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (calls, duckdb) = (self.year.calls, &self.duckdb);
        let keys = self.measured.first().map_or(0, |measured| measured.answers(Way::Library).len());
        writeln!(
            f,
            "{calls} calls of {SUBSCRIBERS} subscribers on {DAYS} days, {keys} keys a look-up, in turn; ms"
        )?;
        writeln!(f, "{:<28} {:>17} {:>17} {:>17} {:>17}", "", "library", "process", "DuckDB", "to DuckDB's")?;
        let pair = format!("{:>8} {:>8}", "median", "p95");
        writeln!(f, "{:<21} {:>6} {pair} {pair} {pair} {:>8} {:>8}", "", "rows", "library", "process")?;
        for measured in &self.measured {
            let [library, process, theirs] = Way::ALL.map(|way| measured.times(way));
            let (name, rows) = (measured.look_up.name(), measured.rows());
            let (ratio, of_process) = (measured.ratio(Way::Library), measured.ratio(Way::Process));
            writeln!(
                f,
                "{name:<21} {rows:>6.0} {library} {process} {theirs} {ratio:>8.2} {of_process:>8.2}"
            )?;
        }
        write!(f, "DuckDB {duckdb}")
    }
}

/// Median, and what nineteen of twenty do not exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Times {
    median: f64,
    p95: f64,
}

impl Times {
    fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let rank = (ms.len() * 95).div_ceil(100);
        let p95 = rank.checked_sub(1).and_then(|at| ms.get(at)).copied().unwrap_or(f64::NAN);
        Self { median: Spread::of(ms).median, p95 }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.1} {:>8.1}", self.median, self.p95)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same with every key.
    fn measured(look_up: LookUp, ms: [f64; 3]) -> Measured {
        Measured { look_up, answers: ms.map(|ms| vec![Answer { ms, rows: 1 }; 20]) }
    }

    fn failures(look_up: LookUp, ms: [f64; 3]) -> usize {
        measured(look_up, ms).failures().len()
    }

    #[test]
    fn all_but_one_of_twenty() {
        let times = Times::of((1..=20).rev().map(f64::from).collect());
        assert_eq!(times, Times { median: 10.5, p95: 19.0 });
        assert!(Times::of(Vec::new()).p95.is_nan());
    }

    #[test]
    fn limits_hold_for_times_and_the_ratio() {
        assert_eq!(failures(LookUp::CallId, [40.0, 49.0, 41.0]), 0);
        assert_eq!(failures(LookUp::CallId, [40.0, 51.0, 41.0]), 1);
        assert_eq!(failures(LookUp::Number, [40.0, 51.0, 41.0]), 0);
        assert_eq!(failures(LookUp::Number, [101.0, 110.0, 90.0]), 3);
        assert_eq!(failures(LookUp::Hour, [400.0, 900.0, 500.0]), 0);
    }

    #[test]
    fn what_was_not_measured_passes_no_limit() {
        assert!(!Measured::new(LookUp::Hour).failures().is_empty());
    }

    #[test]
    fn only_ten_million_calls_are_judged() {
        let check = |calls| {
            let measured = vec![measured(LookUp::CallId, [99.0, 99.0, 1.0])];
            Figures { year: Year { calls }, duckdb: "1.0".to_owned(), measured }.check()
        };
        assert!(check(1_000_000).is_ok() && check(10_000_000).is_err());
    }
}
