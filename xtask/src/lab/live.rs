//! Live cases: who calls whom with what, and the tcpdump at a mirror port.

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
use super::switch::{Family, Lab, MIRROR_PORTS, Mirror, Phone};

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
    pub(crate) at: Phone,
    pub(crate) user: &'static str,
    pub(crate) sip_port: u16,
    pub(crate) media_port: u16,
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
    /// What scenarios wait that do not say for how long.
    pub(crate) pause: Duration,
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
    /// Header lines by which scenarios ask for recordings, the first and the second time.
    pub(crate) asks: [&'static str; 2],
    /// Applied to what was captured, for what the wire alone does not show.
    pub(crate) finish: fn(Capture) -> Result<Capture>,
}

impl Live {
    pub(crate) fn record(&self, bench: &Bench) -> Result<Capture> {
        let lab = Lab::build(self.mirror)?;
        let tap = Tap::at_monitor(bench, &lab)?;
        self.make_calls(bench, &lab)?;
        (self.finish)(tap.capture()?)
    }

    /// All calls, one after the other.
    pub(crate) fn make_calls(&self, bench: &Bench, lab: &Lab) -> Result<()> {
        for call in &self.calls {
            std::thread::sleep(call.after);
            sipp::run_call(bench, lab, self, call).with_context(|| format!("call {}", call.id))?;
        }
        Ok(())
    }
}

/// A tcpdump.
pub(crate) struct Tap {
    tcpdump: Running,
    file: PathBuf,
}

impl Tap {
    /// Where the mirror port ends.
    pub(crate) fn at_monitor(bench: &Bench, lab: &Lab) -> Result<Self> {
        let [(_, port), _] = MIRROR_PORTS;
        // Hosts announce themselves with ICMPv6 when their port comes up, and complain with ICMP about media
        // ports that SIPp sends from but never binds; that is the lab, not the case.
        Self::start(bench, lab.at_monitor("tcpdump"), port, "(ip and not icmp) or udp or tcp")
    }

    /// Where the mirror port begins: everything, also what XDP takes away at its other end.
    pub(crate) fn at_switch(bench: &Bench, lab: &Lab) -> Result<Self> {
        let [(port, _), _] = MIRROR_PORTS;
        Self::start(bench, lab.at_switch("tcpdump"), port, "")
    }

    /// The file with what was seen.
    pub(crate) fn stop(mut self) -> Result<PathBuf> {
        std::thread::sleep(SETTLE);
        self.tcpdump.interrupt()?;
        Ok(self.file)
    }

    pub(crate) fn capture(self) -> Result<Capture> {
        let capture = Capture::read(&self.stop()?)?;
        if capture.frames.is_empty() {
            bail!("nothing was seen at the mirror port");
        }
        Ok(capture)
    }

    fn start(bench: &Bench, mut command: Command, port: &str, filter: &str) -> Result<Self> {
        let file = bench.scratch.path().join("monitor.pcap");
        let log = bench.scratch.path().join("tcpdump.log");
        // Without immediate mode the last block of packets is lost when tcpdump is interrupted.
        command.args(["-i", port, "-n", "-U", "--immediate-mode", "-Z", "root", "-B", "8192", "-w"]);
        command.arg(&file).args((!filter.is_empty()).then_some(filter));
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
}
