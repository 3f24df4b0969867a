//! One receiver, one load: what it cost and what was lost where.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::PathBuf;
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::figures::rounded;
use super::super::load::Load;
use super::clocks::{self, Clocks, Used};
use super::receiver::{Kind, Receiver};
use super::send::{self, Frames};
use super::traffic::SPREAD;
use crate::lab::Bench;
use crate::lab::driver::Standing;
use crate::lab::process::Running;
use crate::lab::switch::{Lab, MIRROR_PORTS};

/// Where trials are made.
pub(super) struct Stage {
    pub(super) bench: Bench,
    pub(super) spantape: PathBuf,
    pub(super) xtask: PathBuf,
    pub(super) frames: Frames,
}

/// What has come of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// Frames that have gone through the wire.
    pub(super) passed: u64,
    /// Frames that it had no room for: the sender's loss, not the receiver's.
    pub(super) refused: u64,
    /// Frames that the receiver should have had and has not.
    pub(super) lost: u64,
    /// What sending took, for one second of what was to be sent.
    pub(super) lateness: f64,
    pub(super) used: Used,
    pub(super) peak_mb: Option<f64>,
}

/// For the receiver to take what is on its way.
const SETTLE: Duration = Duration::from_millis(500);
/// More than this is no sending at the rate that was asked for.
const LATE: f64 = 1.03;
const REFUSED: f64 = 0.001;

impl Stage {
    /// Sends a load, and so many other frames a second, past a receiver.
    pub(super) fn trial(&self, kind: Kind, load: Load, rest: u64) -> Result<Trial> {
        let trial = || {
            let lab = Lab::without_phones()?;
            let receiver = Receiver::start(kind, &self.bench, &lab, &self.spantape)?;
            // Not before: the recorder takes no interface where there is a program of others.
            let verdict = kind.verdict().filter(|_| self.frames == Frames::Driver);
            let _standing = verdict.map(|verdict| Standing::far(&lab, verdict)).transpose()?;
            let mut sender = Sender::start(self, &lab, load, SPREAD, rest, self.frames)?;
            let ours = [Some(std::process::id()), Some(sender.process.id()), receiver.id()];
            let ours: Vec<u32> = ours.into_iter().flatten().collect();
            let before = Clocks::read()?;
            let lateness = sender.finish()?;
            std::thread::sleep(SETTLE);
            let used = Clocks::read()?.since(&before, &ours, receiver.id());
            let peak_mb = receiver.id().map(clocks::peak_mb).transpose()?;
            let (passed, refused) = wire(&lab)?;
            let outcome = receiver.stop()?;
            let trial = Trial { passed, refused, lost: outcome.lost, lateness, used, peak_mb };
            // Speed counts for nothing unless the work was done.
            if matches!(kind, Kind::Packet | Kind::Xdp) && outcome.lost == 0 && refused == 0 {
                ensure!(
                    outcome.recordings == u64::from(load.calls),
                    "{} recordings of {} calls, and nothing is said to be lost",
                    outcome.recordings,
                    load.calls
                );
            }
            Ok(trial)
        };
        let done = trial().with_context(|| kind.name());
        self.forget()?;
        done
    }

    /// Removes what was recorded.
    pub(super) fn forget(&self) -> Result<()> {
        let folder = self.bench.scratch.path();
        for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

impl Trial {
    /// Of each 10^6 frames, with what sending costs.
    pub(super) fn system_per_million(&self) -> f64 {
        self.per_million(self.used.system_s)
    }

    /// Of each 10^6 frames, in the receiver's own account.
    pub(super) fn own_per_million(&self) -> f64 {
        self.per_million(self.used.own_s)
    }

    /// Whether what was asked for has been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.lateness <= LATE && self.refused as f64 <= self.passed as f64 * REFUSED
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "passed": self.passed,
            "refused_by_wire": self.refused,
            "lost": self.lost,
            "lateness": rounded(self.lateness),
            "system_s": rounded(self.used.system_s),
            "own_s": rounded(self.used.own_s),
            "others_s": rounded(self.used.others_s),
            "peak_mb": self.peak_mb.map(rounded),
        })
    }

    fn per_million(&self, seconds: f64) -> f64 {
        seconds / self.passed as f64 * 1e6
    }
}

/// The process that sends.
pub(super) struct Sender {
    process: Running,
    said: Lines<BufReader<ChildStdout>>,
}

impl Sender {
    /// Starts one at the switch, and waits until it has made its frames.
    pub(super) fn start(
        stage: &Stage,
        lab: &Lab,
        load: Load,
        spread: Duration,
        rest: u64,
        frames: Frames,
    ) -> Result<Self> {
        let [(interface, _), _] = MIRROR_PORTS;
        let mut command = lab.at_switch(&stage.xtask.to_string_lossy());
        command.args(send::Args::words(interface, load, spread, rest, frames)).stdout(Stdio::piped());
        let mut process = Running::spawn("the sender", &mut command)?;
        let said = BufReader::new(process.stdout().context("the output of the sender")?).lines();
        let mut sender = Self { process, said };
        sender.hear("ready")?;
        Ok(sender)
    }

    /// Waits until all is sent; says how long it took, for one second of what was to be sent.
    pub(super) fn finish(&mut self) -> Result<f64> {
        let sent = self.hear("sent")?;
        let of = |key: &str| sent[key].as_f64().with_context(|| format!("the sender does not say {key}"));
        Ok(of("seconds")? / of("planned_s")?)
    }

    fn hear(&mut self, event: &str) -> Result<Value> {
        let line = self.said.next().context("the sender has ended")?.context("read what the sender says")?;
        let said: Value = serde_json::from_str(&line).context("read what the sender says")?;
        ensure!(said["event"] == event, "the sender says {line} in place of {event}");
        Ok(said)
    }
}

/// Frames that passed the switch's end of the mirror port, and that were dropped there.
pub(super) fn wire(lab: &Lab) -> Result<(u64, u64)> {
    let [(interface, _), _] = MIRROR_PORTS;
    let out = lab.at_switch("ip").args(["-s", "-json", "link", "show", interface]).output();
    let links: Value = serde_json::from_slice(&out.context("run ip")?.stdout).context("read what ip says")?;
    let of = |key: &str| {
        links[0]["stats64"]["tx"][key].as_u64().with_context(|| format!("ip says nothing of tx {key}"))
    };
    Ok((of("packets")?, of("dropped")?))
}
