//! Live cases: who calls whom with what, and the tcpdump at the mirror port.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Bench;
use super::capture::Capture;
use super::codec::Codec;
use super::media::Clip;
use super::process::Running;
use super::sipp;
use super::switch::{Family, Lab, Mirror};
use super::wire;

/// What the phones' programs and the switch need to settle.
const SETTLE: Duration = Duration::from_millis(500);

/// How SIP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// One phone's part in a call.
pub(crate) struct Party {
    /// A file of `xtask/scenarios/`, without `.xml`.
    pub(crate) scenario: &'static str,
    pub(crate) agent: &'static str,
    /// What the scenario plays as `1.pcap`, `2.pcap`, ...
    pub(crate) clips: Vec<Clip>,
}

/// One call, made by SIPp on both sides.
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) caller: Party,
    pub(crate) callee: Party,
    /// How long the wire is silent before it.
    pub(crate) after: Duration,
}

/// A live case with its calls, one after the other.
pub(crate) struct Live {
    pub(crate) mirror: Mirror,
    pub(crate) family: Family,
    pub(crate) transport: Transport,
    pub(crate) codec: Codec,
    pub(crate) calls: Vec<Call>,
    /// Applied to what was captured, for what the wire alone does not show.
    pub(crate) finish: fn(Capture) -> Result<Capture>,
}

impl Live {
    pub(crate) fn record(&self, bench: &Bench) -> Result<Capture> {
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
pub(crate) struct Tap {
    tcpdump: Running,
    file: PathBuf,
}

impl Tap {
    pub(crate) fn start(bench: &Bench, lab: &Lab) -> Result<Self> {
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

    pub(crate) fn stop(mut self) -> Result<Capture> {
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
