//! One call between two SIPp processes.
//!
//! SIPp plays RTP from capture files that we make from the speech. Its own `rtp_stream` leaves SSRC, sequence
//! and timestamps to SIPp and cannot change ports within a call; so played, every packet is known beforehand.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Bench;
use super::live::{Call, Live, Party, Transport};
use super::process::Running;
use super::switch::{Lab, Phone};

pub(crate) const SIP_PORT: u16 = 5060;
const CALL_LIMIT: Duration = Duration::from_secs(60);
const LISTEN: Duration = Duration::from_millis(700);

/// Where each phone takes its RTP.
pub(crate) fn media_port(phone: Phone) -> u16 {
    match phone {
        Phone::A => 11_000,
        Phone::B => 12_000,
        Phone::Server => 31_000,
    }
}

/// Lets the caller call the callee, and waits until both are through with their scenarios.
pub(crate) fn run_call(bench: &Bench, lab: &Lab, live: &Live, call: &Call) -> Result<()> {
    let mut callee = start(bench, lab, live, call, "callee", [&call.callee, &call.caller])?;
    std::thread::sleep(LISTEN);
    let mut caller = start(bench, lab, live, call, "caller", [&call.caller, &call.callee])?;
    caller.finish()?;
    callee.finish()
}

struct Sipp {
    process: Running,
    errors: std::path::PathBuf,
}

impl Sipp {
    fn finish(&mut self) -> Result<()> {
        let status = self.process.wait(CALL_LIMIT)?;
        if status.success() {
            return Ok(());
        }
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        bail!("SIPp ended with {status}: {}", errors.trim())
    }
}

fn start(
    bench: &Bench,
    lab: &Lab,
    live: &Live,
    call: &Call,
    name: &str,
    [party, peer]: [&Party; 2],
) -> Result<Sipp> {
    let folder = bench.scratch.folder(&format!("{name}-{}", call.id))?;
    write_clips(bench, party, &folder)?;
    let errors = folder.join("errors.log");
    let mut command = lab.at_phone(party.at, "sipp", &folder);
    if name == "caller" {
        command.arg(format!("{}:{}", host(peer.at.ip(live.family)), peer.sip_port));
        command.args(["-s", peer.user, "-cid_str", &call.id]);
    }
    command.arg("-sf").arg(bench.scenarios.join(party.scenario).with_extension("xml"));
    common_args(&mut command, live, party, peer);
    command.args(["-d", &call.pause.as_millis().to_string()]);
    // SIPp looks for its screen's terminal even when it draws nothing.
    command.env("TERM", "xterm").arg("-trace_err").arg("-error_file").arg(&errors);
    command.stdout(Stdio::null()).stderr(File::create(folder.join("stderr.log")).context("create a log")?);
    Ok(Sipp { process: Running::spawn(name, &mut command)?, errors })
}

fn common_args(command: &mut Command, live: &Live, party: &Party, peer: &Party) {
    let ip = party.at.ip(live.family).to_string();
    let transport = match live.transport {
        Transport::Udp => "u1",
        Transport::Tcp => "t1",
    };
    command.args(["-i", &ip, "-p", &party.sip_port.to_string(), "-t", transport]);
    command.args(["-mi", &ip, "-mp", &party.media_port.to_string()]);
    command.args(["-m", "1", "-nostdin", "-timeout", "50s", "-timeout_error"]);
    // A SIPp that is called knows its caller's address only in the headers it has received.
    command.args(["-key", "peer", &host(peer.at.ip(live.family))]);
    command.args(["-key", "codec_type", &live.codec.payload_type().to_string()]);
    command.args(["-key", "codec_map", live.codec.rtpmap(), "-key", "agent", party.agent]);
    let [first, second] = live.asks;
    command.args(["-key", "first", first, "-key", "second", second]);
}

fn write_clips(bench: &Bench, party: &Party, folder: &Path) -> Result<()> {
    for (clip, number) in party.clips.iter().zip(1..) {
        clip.playable(&bench.samples)?.write(&folder.join(format!("{number}.pcap")))?;
    }
    Ok(())
}

fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
