//! Figures of many runs: the spread, the ratio, and how they are printed.

use std::fmt;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::load::Load;
use super::machine::Findings;
use super::measure::Cost;
use super::replay::Keep;

/// One run of each program, one right after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) floor: Cost,
    pub(super) spantape: Cost,
    /// Spantape with one thread, if that was asked for.
    pub(super) alone: Option<Cost>,
    /// The floor that hashes, if that was asked for.
    pub(super) hashed: Option<Cost>,
}

/// All runs on one load.
pub(super) struct Figures {
    pub(super) load: Load,
    /// Seconds between the first and the last call, if they were said.
    pub(super) begun_in: Option<u32>,
    pub(super) keep: Keep,
    /// Of spantape, if they were said.
    pub(super) threads: Option<u16>,
    pub(super) pairs: Vec<Pair>,
}

/// What may not be exceeded.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Limits {
    /// Most CPU seconds of spantape for one of the floor program, as the median of all pairs
    #[arg(long, default_value_t = 4.5)]
    max_ratio: f64,
    /// Most memory of spantape, in 10^6 bytes, in any run [default: 40, and 32 KiB a call]
    #[arg(long)]
    max_mb: Option<f64>,
    /// How many times as fast as one thread more of them must be, with --speed-up, as the median
    #[arg(long, default_value_t = 1.6)]
    min_speed_up: f64,
}

const MB_AT_ALL: f64 = 40.0;
const MB_A_CALL: f64 = 0.032768;

impl Figures {
    /// The median over the pairs: what slows the machine down slows both programs of a pair.
    pub(super) fn ratio(&self) -> Spread {
        self.spread(|pair| pair.spantape.cpu_s / pair.floor.cpu_s)
    }

    /// How many times as fast it is by the clock as with one thread.
    fn speed_up(&self) -> Option<Spread> {
        self.spread_of_some(|pair| Some(pair.alone?.wall_s / pair.spantape.wall_s))
    }

    /// CPU of the floor that hashes for that of the one that does not: no recorder has a smaller ratio that hashes.
    fn hashed_ratio(&self) -> Option<Spread> {
        self.spread_of_some(|pair| Some(pair.hashed?.cpu_s / pair.floor.cpu_s))
    }

    fn spread_of_some(&self, figure: impl Fn(&Pair) -> Option<f64>) -> Option<Spread> {
        let all: Vec<f64> = self.pairs.iter().filter_map(figure).collect();
        (!all.is_empty()).then(|| Spread::of(all))
    }

    /// From the least disturbed run of each, for a machine that others use as well.
    fn best_ratio(&self) -> f64 {
        self.spread(|pair| pair.spantape.cpu_s).min / self.spread(|pair| pair.floor.cpu_s).min
    }

    pub(super) fn check(&self, limits: Limits) -> Result<()> {
        let (ratio, peak) = (self.ratio().median, self.spread(|pair| pair.spantape.peak_mb).max);
        let max_mb = limits.max_mb.unwrap_or(MB_AT_ALL + MB_A_CALL * f64::from(self.load.calls));
        // In these words a ratio that is no number does not pass.
        let (fast, small) = (ratio <= limits.max_ratio, peak <= max_mb);
        if !fast {
            bail!("spantape takes {ratio:.2} times the floor's CPU, and {} is allowed", limits.max_ratio);
        }
        if !small {
            bail!("spantape has {peak:.1} MB resident, and {max_mb:.1} is allowed");
        }
        if let Some(times) = self.speed_up().map(|speed_up| speed_up.median)
            && times < limits.min_speed_up
        {
            bail!("more threads are {times:.2} times as fast as one, and {} is wanted", limits.min_speed_up);
        }
        Ok(())
    }

    fn program_json(&self, of: fn(&Pair) -> Cost) -> Value {
        json!({
            "cpu_s": self.spread(|pair| of(pair).cpu_s).json(),
            "wall_s": self.spread(|pair| of(pair).wall_s).json(),
            "peak_mb": self.spread(|pair| of(pair).peak_mb).json(),
            "rtp_packets_per_cpu_s": self.packets_per_cpu_second(of).round(),
        })
    }

    fn packets_per_cpu_second(&self, of: fn(&Pair) -> Cost) -> f64 {
        self.load.rtp_packets() as f64 / self.spread(|pair| of(pair).cpu_s).median
    }

    fn spread(&self, figure: impl Fn(&Pair) -> f64) -> Spread {
        Spread::of(self.pairs.iter().map(figure).collect())
    }

    fn rows(&self, f: &mut fmt::Formatter<'_>, name: &str, of: fn(&Pair) -> Cost) -> fmt::Result {
        writeln!(f, "{name:<9} CPU s   {}", self.spread(|pair| of(pair).cpu_s))?;
        writeln!(f, "{:<9} wall s  {}", "", self.spread(|pair| of(pair).wall_s))?;
        writeln!(f, "{:<9} MB      {}", "", self.spread(|pair| of(pair).peak_mb))?;
        writeln!(f, "{:<9} RTP packets per CPU second {:>13.0}", "", self.packets_per_cpu_second(of))
    }
}

impl Findings for Figures {
    fn stem(&self) -> String {
        let keep = match self.keep {
            Keep::Pcm => "",
            Keep::Ulaw => "-ulaw",
            Keep::Nothing => "-no-audio",
        };
        let begun = self.begun_in.map(|seconds| format!("-in-{seconds}")).unwrap_or_default();
        format!("replay-{}x{}{begun}{keep}", self.load.calls, self.load.seconds)
    }

    fn json(&self) -> Value {
        let runs: Vec<Value> = self
            .pairs
            .iter()
            .map(|pair| {
                let ratio = pair.spantape.cpu_s / pair.floor.cpu_s;
                let alone = pair.alone.map(Cost::json);
                json!({
                    "floor": pair.floor.json(),
                    "spantape": pair.spantape.json(),
                    "one_thread": alone,
                    "floor_that_hashes": pair.hashed.map(Cost::json),
                    "ratio": rounded(ratio),
                })
            })
            .collect();
        json!({
            "calls": self.load.calls,
            "seconds": self.load.seconds,
            "begun_within_s": self.begun_in,
            "rtp_packets": self.load.rtp_packets(),
            "keep": self.keep.name(),
            "threads": self.threads,
            "runs": runs,
            "ratio": self.ratio().json(),
            "best_ratio": rounded(self.best_ratio()),
            "speed_up": self.speed_up().map(Spread::json),
            "hashed_ratio": self.hashed_ratio().map(Spread::json),
            "floor": self.program_json(|pair| pair.floor),
            "spantape": self.program_json(|pair| pair.spantape),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { calls, seconds } = self.load;
        let (packets, runs) = (self.load.rtp_packets(), self.pairs.len());
        let begun = self.begun_in.map(|seconds| format!(" begun within {seconds} s")).unwrap_or_default();
        writeln!(
            f,
            "{calls} calls x {seconds} s G.711{begun}, {packets} RTP packets, {runs} runs of each, in turn; {}",
            self.keep.name()
        )?;
        writeln!(f, "{:<17} {:>9} {:>9} {:>9}", "", "min", "median", "max")?;
        self.rows(f, "floor", |pair| pair.floor)?;
        self.rows(f, "spantape", |pair| pair.spantape)?;
        writeln!(f, "{:<17} {}", "CPU ratio by pair", self.ratio())?;
        write!(f, "{:<17} {:>9.2}", "of the best runs", self.best_ratio())?;
        if let Some(ratio) = self.hashed_ratio() {
            write!(f, "\n{:<17} {ratio}", "floor that hashes")?;
        }
        match self.speed_up() {
            Some(speed_up) => write!(f, "\n{:<17} {speed_up}", "times one thread"),
            None => Ok(()),
        }
    }
}

impl Cost {
    fn json(self) -> Value {
        json!({
            "cpu_s": rounded(self.cpu_s),
            "wall_s": rounded(self.wall_s),
            "peak_mb": rounded(self.peak_mb),
        })
    }
}

/// Smallest, middle and largest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

impl Spread {
    pub(super) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let [.., last] = figures[..] else { return Self { min: f64::NAN, median: f64::NAN, max: f64::NAN } };
        let half = figures.len() / 2;
        let median = match figures.len() % 2 {
            0 => (figures[half - 1] + figures[half]) / 2.0,
            _ => figures[half],
        };
        Self { min: figures[0], median, max: last }
    }

    pub(super) fn json(self) -> Value {
        json!({ "min": rounded(self.min), "median": rounded(self.median), "max": rounded(self.max) })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.2} {:>9.2} {:>9.2}", self.min, self.median, self.max)
    }
}

/// More digits than this nobody has measured.
pub(super) fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(cpu_s: &[f64]) -> Figures {
        let cost = |cpu_s| Cost { cpu_s, wall_s: 1.0, peak_mb: 50.0 };
        let pairs = cpu_s
            .iter()
            .map(|&cpu_s| Pair { floor: cost(0.5), spantape: cost(cpu_s), alone: None, hashed: None })
            .collect();
        Figures {
            load: Load { calls: 10, seconds: 10 },
            begun_in: None,
            keep: Keep::Pcm,
            threads: None,
            pairs,
        }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Spread { min: 1.0, median: 2.5, max: 4.0 });
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).median, 2.0);
    }

    #[test]
    fn limits_hold_for_the_median_and_the_peak() {
        let figures = figures(&[1.0, 9.0, 1.1]);
        let check = |max_ratio, max_mb| figures.check(Limits { max_ratio, max_mb, min_speed_up: 1.5 });
        assert!(check(2.2, Some(50.0)).is_ok());
        assert!(check(2.1, Some(50.0)).is_err());
        assert!(check(2.2, Some(49.0)).is_err());
        // For so few calls 50 MB are too much.
        assert!(check(2.2, None).is_err());
        let more = Figures { load: Load { calls: 310, ..figures.load }, ..figures };
        assert!(more.check(Limits { max_ratio: 2.2, max_mb: None, min_speed_up: 1.5 }).is_ok());
    }

    #[test]
    fn a_limit_holds_for_what_threads_bring() {
        let mut figures = figures(&[1.0, 1.0, 1.0]);
        let check = |figures: &Figures, min_speed_up| {
            figures.check(Limits { max_ratio: 9.0, max_mb: Some(50.0), min_speed_up })
        };
        assert!(check(&figures, 1.7).is_ok(), "nobody has asked");
        for (pair, times) in figures.pairs.iter_mut().zip([1.5, 1.75, 3.0]) {
            pair.alone = Some(Cost { wall_s: times * pair.spantape.wall_s, ..pair.spantape });
        }
        assert!(check(&figures, 1.7).is_ok());
        assert!(check(&figures, 1.8).is_err());
    }

    #[test]
    fn no_runs_pass_no_limits() {
        assert!(
            figures(&[]).check(Limits { max_ratio: 9.0, max_mb: Some(99.0), min_speed_up: 1.5 }).is_err()
        );
    }

    #[test]
    fn packets_are_counted_per_cpu_second() {
        let json = figures(&[0.5, 1.0, 2.0]).json();
        assert_eq!(json["spantape"]["rtp_packets_per_cpu_s"], 10_000.0);
        assert_eq!((&json["ratio"]["median"], &json["best_ratio"]), (&json!(2.0), &json!(1.0)));
    }
}
