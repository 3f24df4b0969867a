//! Live cases: who calls whom with what, and the tcpdump at the mirror port.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Bench;
use super::capture::Capture;
use super::codec::Codec;
use super::lab::{Family, Lab, Mirror};
use super::media::Clip;
use super::process::Running;
use super::sipp;
use super::wire;

/// What the phones' programs and the switch need to settle.
const SETTLE: Duration = Duration::from_millis(500);

/// How SIP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// One phone's part in a call.
pub(super) struct Party {
    /// A file of `xtask/scenarios/`, without `.xml`.
    pub(super) scenario: &'static str,
    pub(super) agent: &'static str,
    /// What the scenario plays as `1.pcap`, `2.pcap`, ...
    pub(super) clips: Vec<Clip>,
}

/// One call, made by SIPp on both sides.
pub(super) struct Call {
    pub(super) id: String,
    pub(super) caller: Party,
    pub(super) callee: Party,
    /// How long the wire is silent before it.
    pub(super) after: Duration,
}

/// A live case with its calls, one after the other.
pub(super) struct Live {
    pub(super) mirror: Mirror,
    pub(super) family: Family,
    pub(super) transport: Transport,
    pub(super) codec: Codec,
    pub(super) calls: Vec<Call>,
    /// Applied to what was captured, for what the wire alone does not show.
    pub(super) finish: fn(Capture) -> Result<Capture>,
}

impl Live {
    pub(super) fn record(&self, bench: &Bench) -> Result<Capture> {
        let lab = Lab::build(self.mirror)?;
        let tap = Tap::start(bench, &lab)?;
        for call in &self.calls {
            std::thread::sleep(call.after);
            sipp::run_call(bench, &lab, self, call).with_context(|| format!("call {}", call.id))?;
        }
        (self.finish)(tap.stop()?)
    }
}

/// The tcpdump at the monitor port.
pub(super) struct Tap {
    tcpdump: Running,
    file: PathBuf,
}

impl Tap {
    pub(super) fn start(bench: &Bench, lab: &Lab) -> Result<Self> {
        let file = bench.scratch.path().join("monitor.pcap");
        let log = bench.scratch.path().join("tcpdump.log");
        let mut command: Command = lab.at_monitor("tcpdump");
        // Without immediate mode the last block of packets is lost when tcpdump is interrupted.
        command.args(["-i", "eth0", "-n", "-U", "--immediate-mode", "-Z", "root", "-B", "8192", "-w"]);
        // Hosts announce themselves with ICMPv6 when their port comes up, and complain with ICMP about media
        // ports that SIPp sends from but never binds; that is the lab, not the case.
        command.arg(&file).arg("(ip and not icmp) or udp or tcp");
        let stderr = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        command.stdout(Stdio::null()).stderr(stderr);
        let tcpdump = Running::spawn("tcpdump", &mut command)?;
        let end = Instant::now() + Duration::from_secs(5);
        while !std::fs::read_to_string(&log).unwrap_or_default().contains("listening on") {
            if Instant::now() > end {
                bail!("tcpdump does not start: {}", std::fs::read_to_string(&log).unwrap_or_default().trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(SETTLE);
        Ok(Self { tcpdump, file })
    }

    pub(super) fn stop(mut self) -> Result<Capture> {
        std::thread::sleep(SETTLE);
        self.tcpdump.interrupt()?;
        let mut capture = Capture::read(&self.file)?;
        if capture.frames.is_empty() {
            bail!("nothing was seen at the mirror port");
        }
        for frame in &mut capture.frames {
            wire::complete_checksum(&mut frame.data)?;
        }
        Ok(capture)
    }
}
