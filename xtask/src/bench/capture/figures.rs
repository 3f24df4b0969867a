//! Figures of a bench of live capture, and how they are printed.

use std::fmt;

use serde_json::{Value, json};

use super::super::figures::Spread;
use super::super::machine::Findings;
use super::highest::Highest;
use super::real_time::RealTime;
use super::receiver::Kind;
use super::send::Frames;
use super::traffic::Mix;
use super::trial::Trial;

/// All that was measured.
pub(super) struct Figures {
    pub(super) frames: Frames,
    pub(super) mix: Mix,
    pub(super) runs: u32,
    pub(super) shares: Vec<Share>,
    pub(super) real_time: Vec<RealTime>,
}

/// With so many percent of frames that are needed.
pub(super) struct Share {
    pub(super) wanted: u64,
    /// Each receiver once, one after the other.
    pub(super) rounds: Vec<Vec<(Kind, Trial)>>,
    pub(super) highest: Vec<Highest>,
}

/// With so few frames that are needed, XDP is to cost so little of what `AF_PACKET` does.
const GOAL_WANTED: u64 = 1;
const GOAL: f64 = 0.2;

impl Share {
    fn receivers(&self) -> Vec<Kind> {
        // The first is only there to be taken off.
        self.rounds.first().into_iter().flatten().skip(1).map(|(kind, _)| *kind).collect()
    }

    fn spread(&self, figure: impl Fn(&Round<'_>) -> Option<f64>) -> Spread {
        Spread::of(self.rounds.iter().filter_map(|round| figure(&Round(round))).collect())
    }

    fn system(&self, kind: Kind) -> Spread {
        self.spread(|round| round.system(kind))
    }

    fn own(&self, kind: Kind) -> Spread {
        self.spread(|round| Some(round.of(kind)?.own_per_million()))
    }

    /// Of XDP for one of `AF_PACKET`, in the same round.
    fn system_ratio(&self) -> Spread {
        self.spread(|round| Some(round.system(Kind::Xdp)? / round.system(Kind::Packet)?))
    }

    fn own_ratio(&self) -> Spread {
        let own = |round: &Round<'_>, kind| Some(round.of(kind)?.own_per_million());
        self.spread(|round| Some(own(round, Kind::Xdp)? / own(round, Kind::Packet)?))
    }

    fn losses(&self, of: fn(&Trial) -> u64, kind: Kind) -> u64 {
        let trials = self.rounds.iter().flatten().filter(|(each, _)| *each == kind);
        trials.map(|(_, trial)| of(trial)).sum()
    }

    fn rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} % wanted", self.wanted)?;
        writeln!(
            f,
            "  {:<10} whole  {}   {:.0} % of the machine was others'",
            "sending",
            self.sending(),
            self.others()
        )?;
        for kind in self.receivers() {
            let peak = self.spread(|round| round.of(kind)?.peak_mb).max;
            let (lost, refused) =
                (self.losses(|trial| trial.lost, kind), self.losses(|trial| trial.refused, kind));
            let name = kind.name();
            writeln!(f, "  {name:<10} whole  {}   {lost} lost", self.whole(kind))?;
            writeln!(f, "  {:<10} system {}   {refused} refused by the wire", "", self.system(kind))?;
            if kind != Kind::Nobody {
                writeln!(f, "  {:<10} own    {}   {peak:.1} MB", "", self.own(kind))?;
            }
        }
        writeln!(f, "  {:<10} system {}", "xdp/packet", self.system_ratio())?;
        writeln!(f, "  {:<10} own    {}", "", self.own_ratio())?;
        if self.wanted == GOAL_WANTED && !self.rounds.is_empty() {
            let said = if self.system_ratio().median <= GOAL { "met" } else { "NOT met" };
            writeln!(f, "  goal: xdp at most {GOAL} of packet's system, by the median: {said}")?;
        }
        Ok(())
    }

    fn sending(&self) -> Spread {
        self.spread(|round| round.sending())
    }

    /// Sending and receiving.
    fn whole(&self, kind: Kind) -> Spread {
        self.spread(|round| Some(round.of(kind)?.system_per_million()))
    }

    /// Who disturbed the bench: the share of the machine that unrelated processes had, in percent.
    fn others(&self) -> f64 {
        let shares = self.rounds.iter().flatten().map(|(_, trial)| trial.used.others_share() * 100.0);
        Spread::of(shares.collect()).median
    }

    fn json(&self) -> Value {
        let rounds = self.rounds.iter().map(|round| {
            let trials = round.iter().map(|(kind, trial)| (kind.name().to_owned(), trial.json()));
            Value::Object(trials.collect())
        });
        let receivers = self.receivers().into_iter().map(|kind| {
            let figures = json!({
                "whole": self.whole(kind).json(),
                "system": self.system(kind).json(),
                "own": self.own(kind).json(),
            });
            (kind.name().to_owned(), figures)
        });
        json!({
            "wanted_percent": self.wanted,
            "sending_cpu_s_per_million_frames": self.sending().json(),
            "cpu_s_per_million_frames": receivers.collect::<serde_json::Map<_, _>>(),
            "xdp_to_packet": { "system": self.system_ratio().json(), "own": self.own_ratio().json() },
            "highest": self.highest.iter().map(Highest::json).collect::<Vec<_>>(),
            "rounds": rounds.collect::<Vec<_>>(),
        })
    }
}

/// Each receiver once.
struct Round<'a>(&'a [(Kind, Trial)]);

impl Round<'_> {
    fn of(&self, kind: Kind) -> Option<&Trial> {
        self.0.iter().find(|(each, _)| *each == kind).map(|(_, trial)| trial)
    }

    fn system(&self, kind: Kind) -> Option<f64> {
        Some(self.of(kind)?.system_per_million() - self.sending()?)
    }

    /// What it costs when the first has its turn.
    fn sending(&self) -> Option<f64> {
        self.0.first().map(|(_, trial)| trial.system_per_million())
    }
}

impl Findings for Figures {
    fn stem(&self) -> String {
        format!("capture-{}x{}", self.mix.rate, self.mix.seconds)
    }

    fn json(&self) -> Value {
        json!({
            "frames": self.frames.name(),
            "frames_per_s": self.mix.rate,
            "seconds": self.mix.seconds,
            "shares": self.shares.iter().map(Share::json).collect::<Vec<_>>(),
            "real_time": self.real_time.iter().map(RealTime::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mix { rate, seconds } = self.mix;
        writeln!(f, "frames as they come from a {}", self.frames.name())?;
        if self.shares.iter().any(|share| !share.rounds.is_empty()) {
            let runs = self.runs;
            writeln!(f, "{rate} frames/s for {seconds} s, {runs} runs of each, in turn")?;
            writeln!(f, "CPU s of 10^6 frames; whole: with sending; system: without")?;
            writeln!(f, "{:<19} {:>9} {:>9} {:>9}", "", "min", "median", "max")?;
            for share in self.shares.iter().filter(|share| !share.rounds.is_empty()) {
                share.rows(f)?;
            }
        }
        let mut highest = self.shares.iter().filter(|share| !share.highest.is_empty()).peekable();
        if highest.peek().is_some() {
            writeln!(f, "highest rate without loss, frames/s")?;
        }
        for share in highest {
            for found in &share.highest {
                writeln!(f, "  {:>3} % wanted  {:<10} {found}", share.wanted, found.kind.name())?;
            }
        }
        if let Some(RealTime { load, .. }) = self.real_time.first() {
            writeln!(f, "{} calls x {} s in real time, watched on a terminal", load.calls, load.seconds)?;
        }
        for found in &self.real_time {
            writeln!(f, "  {found}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::clocks::Used;
    use super::*;

    fn trial(system_s: f64, own_s: f64) -> Trial {
        let used = Used { system_s, own_s, others_s: 0.0, machine_s: 20.0 };
        Trial { passed: 500_000, refused: 0, lost: 0, lateness: 1.0, used, peak_mb: Some(30.0) }
    }

    fn share(packet: f64, xdp: f64) -> Share {
        let round = vec![
            (Kind::Discard, trial(1.0, 0.0)),
            (Kind::Packet, trial(1.0 + packet, packet / 2.0)),
            (Kind::Xdp, trial(1.0 + xdp, xdp / 2.0)),
        ];
        Share { wanted: 1, rounds: vec![round], highest: Vec::new() }
    }

    #[test]
    fn what_sending_costs_is_taken_off() {
        let share = share(1.0, 0.25);
        assert_eq!(share.system(Kind::Packet).median, 2.0);
        assert_eq!(share.own(Kind::Packet).median, 1.0);
        assert_eq!(share.system_ratio().median, 0.25);
    }

    #[test]
    fn the_goal_is_judged() {
        let text = |share| {
            let (mix, real_time) = (Mix { rate: 50_000, seconds: 10 }, Vec::new());
            Figures { frames: Frames::Driver, mix, runs: 1, shares: vec![share], real_time }.to_string()
        };
        assert!(text(share(1.0, 0.125)).contains(": met"));
        assert!(text(share(1.0, 0.25)).contains(": NOT met"));
    }
}
