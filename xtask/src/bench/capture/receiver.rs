//! Whoever listens at the mirror port, in turn.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::lab::Bench;
use crate::lab::driver::Verdict;
use crate::lab::process::Running;
use crate::lab::recorder::{Order, Recorder, Source};
use crate::lab::switch::{Lab, MIRROR_PORTS};

/// What listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not even the kernel: the cost of sending alone.
    Discard,
    /// The kernel, which makes a socket buffer of each frame and has no use for it.
    Nobody,
    Tcpdump,
    /// With a buffer as large as the recorder's.
    TcpdumpLarge,
    Packet,
    Xdp,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Nobody => "nobody",
            Self::Tcpdump => "tcpdump",
            Self::TcpdumpLarge => "tcpdump -B",
            Self::Packet => "packet",
            Self::Xdp => "xdp",
        }
    }

    /// What stands at its end of the wire. A recorder brings its own program.
    pub(super) fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Discard => Some(Verdict::Discard),
            Self::Nobody | Self::Tcpdump | Self::TcpdumpLarge | Self::Packet => Some(Verdict::Pass),
            Self::Xdp => None,
        }
    }
}

/// One that listens.
pub(super) enum Receiver {
    Nobody,
    Tcpdump { process: Running, log: PathBuf },
    Recorder { recorder: Box<Recorder>, source: Source },
}

/// What has come of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// Frames that it should have had and has not.
    pub(super) lost: u64,
    pub(super) recordings: u64,
}

/// In KiB: the recorder's ring unless it is configured.
const LARGE: &str = "65536";
const START: Duration = Duration::from_secs(5);

impl Receiver {
    pub(super) fn start(kind: Kind, bench: &Bench, lab: &Lab, binary: &Path) -> Result<Self> {
        match kind {
            Kind::Discard | Kind::Nobody => Ok(Self::Nobody),
            Kind::Tcpdump => tcpdump(bench, lab, &[]),
            Kind::TcpdumpLarge => tcpdump(bench, lab, &["-B", LARGE]),
            Kind::Packet => recorder(bench, lab, binary, Source::Packet),
            Kind::Xdp => recorder(bench, lab, binary, Source::Xdp),
        }
    }

    pub(super) fn id(&self) -> Option<u32> {
        match self {
            Self::Nobody => None,
            Self::Tcpdump { process, .. } => Some(process.id()),
            Self::Recorder { recorder, .. } => Some(recorder.id()),
        }
    }

    pub(super) fn stop(self) -> Result<Outcome> {
        match self {
            Self::Nobody => Ok(Outcome::default()),
            Self::Tcpdump { mut process, log } => {
                process.interrupt()?;
                let text = std::fs::read_to_string(&log).context("read what tcpdump says")?;
                Ok(Outcome { lost: dropped_by_kernel(&text)?, recordings: 0 })
            }
            Self::Recorder { mut recorder, source } => {
                let summary = recorder.stop()?;
                if source == Source::Xdp {
                    let leaked = &summary["umem"]["leaked"];
                    ensure!(leaked.as_u64() == Some(0), "buffers of the ring were lost: {}", summary["umem"]);
                }
                outcome(&summary)
            }
        }
    }
}

/// Of a summary.
fn outcome(summary: &Value) -> Result<Outcome> {
    let drops = summary["drops"].as_object().context("the summary has no `drops`")?;
    // Those by the interface are not the recorder's.
    let own = drops.iter().filter(|(place, _)| *place != "interface");
    Ok(Outcome {
        lost: own.filter_map(|(_, count)| count.as_u64()).sum(),
        recordings: summary["recordings"].as_u64().context("the summary has no `recordings`")?,
    })
}

fn recorder(bench: &Bench, lab: &Lab, binary: &Path, source: Source) -> Result<Receiver> {
    let [(_, interface), _] = MIRROR_PORTS;
    let order = Order { binary, name: source.name(), source, interface, config: None, options: &[] };
    Ok(Receiver::Recorder { recorder: Box::new(Recorder::start(bench, lab, &order)?), source })
}

fn tcpdump(bench: &Bench, lab: &Lab, more: &[&str]) -> Result<Receiver> {
    let [(_, interface), _] = MIRROR_PORTS;
    let log = bench.scratch.path().join("tcpdump.log");
    let mut command = lab.at_monitor("tcpdump");
    command.args(["-i", interface, "-n", "-Z", "root", "-w", "/dev/null"]).args(more);
    let stderr = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    command.stdout(Stdio::null()).stderr(stderr);
    let process = Running::spawn("tcpdump", &mut command)?;
    let end = Instant::now() + START;
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("listening on") {
        if Instant::now() > end {
            bail!("tcpdump does not start: {}", std::fs::read_to_string(&log).unwrap_or_default().trim());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Receiver::Tcpdump { process, log })
}

fn dropped_by_kernel(text: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_suffix(" packets dropped by kernel"));
    let line = line.or_else(|| text.lines().find_map(|line| line.strip_suffix(" packet dropped by kernel")));
    line.and_then(|count| count.trim().parse().ok()).context("tcpdump does not say what was dropped")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tcpdump_says_what_it_lost() {
        let text = "tcpdump: listening on eth0\n9 packets captured\n9 packets received by filter\n\
                    3 packets dropped by kernel\n";
        assert_eq!(dropped_by_kernel(text).unwrap(), 3);
        assert!(dropped_by_kernel("tcpdump: eth0: no such device").is_err());
    }

    #[test]
    fn what_the_interface_lost_is_not_the_recorders() {
        let drops = json!({ "ring": 1, "queue": 2, "no_socket": 4, "interface": 8 });
        let found = outcome(&json!({ "drops": drops, "recordings": 5 })).unwrap();
        assert_eq!((found.lost, found.recordings), (7, 5));
        assert!(outcome(&json!({})).is_err());
    }
}
