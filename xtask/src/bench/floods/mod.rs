//! `cargo xtask bench floods`: hostile traffic around a call that is being recorded.
//!
//! Of each flood a capture is made: a call, and around it as many hostile frames as are asked for. It is replayed with a
//! limit on memory. The call's recording must be the same, bit for bit, as without the flood; the process must not have
//! had more memory resident than the limit and what it takes without a flood; and what a hostile frame costs is set
//! against what an RTP packet of a plain load costs.

mod traffic;

use std::ffi::OsStr;
use std::fs::File;
use std::io::BufWriter;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::call::{Call, Side};
use super::load::Load;
use super::measure::{self, Cost};
use super::verify;
use crate::lab::capture::Writer;
use crate::programs;
use traffic::{Flood, Target};

/// Beside the limit on the engine's state, and what the process takes without a flood: the catalog's rows that wait to
/// be written, and what the allocator keeps.
const ALLOWANCE_MB: f64 = 160.0;
/// A call of this length, and floods within it.
const VICTIM: Load = Load { calls: 1, seconds: 30 };
/// What a plain RTP packet costs is measured with this.
const PLAIN: Load = Load { calls: 100, seconds: 60 };
const EPOCH: Duration = Duration::from_secs(1_767_603_600);
/// The flood begins when the call is up, and ends before it does.
const FLOOD: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(28)];

/// What `cargo xtask bench floods` understands.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Hostile frames of each flood
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    frames: u64,
    /// Limit on the engine's memory, in MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    memory: u32,
    /// Only these floods
    #[arg(long)]
    only: Vec<Flood>,
    /// Measure this build of spantape and make none
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder for captures and archives [default: the system's temporary one]
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the floods one after the other; fails when any of them got through, after all have been tried.
pub(super) fn run(args: &Args) -> Result<()> {
    measure::check_machine()?;
    let bench = Bench::new(args)?;
    let floods = if args.only.is_empty() { Flood::value_variants() } else { &args.only };
    let mut findings = Vec::new();
    for &flood in floods {
        findings.push(bench.flood(flood, args.frames)?);
        if !args.json {
            print!("{}", bench.line(findings.last().context("a flood")?));
        }
    }
    if args.json {
        println!("{:#}", Value::Array(findings.iter().map(|found| bench.json(found)).collect()));
    }
    let failed: Vec<String> = findings.iter().filter_map(|found| bench.failure(found)).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

struct Bench {
    spantape: PathBuf,
    scratch: tempfile::TempDir,
    memory_mib: u32,
    /// Without a flood.
    quiet: Cost,
    recording: Vec<u8>,
    /// Seconds of CPU for an RTP packet.
    packet_s: f64,
}

/// What became of a flood.
struct Found {
    flood: Flood,
    frames: u64,
    cost: Cost,
    same: bool,
    /// By the engine's own reckoning, in 10^6 bytes.
    engine_mb: f64,
    dropped: Vec<(String, u64)>,
}

impl Bench {
    fn new(args: &Args) -> Result<Self> {
        let spantape = match &args.binary {
            Some(binary) => binary.canonicalize().with_context(|| format!("find {}", binary.display()))?,
            None => programs::release_build("spantape")?,
        };
        let scratch = match &args.scratch {
            Some(folder) => tempfile::tempdir_in(folder),
            None => tempfile::tempdir(),
        };
        let scratch = scratch.context("make a folder for captures")?;
        let none = Cost { cpu_s: 0.0, wall_s: 0.0, peak_mb: 0.0 };
        let (memory_mib, recording) = (args.memory, Vec::new());
        let mut bench = Self { spantape, scratch, memory_mib, quiet: none, recording, packet_s: 0.0 };
        let config = format!("[limits]\nmemory = \"{memory_mib}MiB\"\n");
        std::fs::write(bench.path("config.toml"), config).context("write the configuration")?;
        bench.write(None, 0)?;
        (bench.quiet, _, bench.recording) = bench.replay()?;
        ensure!(!bench.recording.is_empty(), "there is no recording without a flood");
        PLAIN.write(&bench.path("flood.pcap"))?;
        let (plain, _, _) = bench.replay()?;
        bench.packet_s = (plain.cpu_s - bench.quiet.cpu_s).max(0.0) / PLAIN.rtp_packets() as f64;
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn flood(&self, flood: Flood, frames: u64) -> Result<Found> {
        self.write(Some(flood), frames)?;
        let (cost, summary, recording) = self.replay().with_context(|| format!("{flood:?}"))?;
        let dropped = summary["dropped"].as_object().into_iter().flatten();
        let dropped =
            dropped.filter(|(what, _)| what.ends_with("for want of room") || what.contains("missing"));
        let dropped = dropped.filter_map(|(what, count)| Some((what.clone(), count.as_u64()?))).collect();
        let same = recording == self.recording;
        let engine_mb = summary["memory_peak"].as_f64().context("no `memory_peak`")? / 1e6;
        Ok(Found { flood, frames, cost, same, engine_mb, dropped })
    }

    /// The call, and the flood evenly spread over the time in which it is up.
    fn write(&self, flood: Option<Flood>, frames: u64) -> Result<()> {
        let IpAddr::V4(ip) = Call(0).media(Side::Caller).ip else { bail!("the victim has no IPv4 address") };
        let target = Target { ip, port: Call(0).media(Side::Caller).port };
        let path = self.path("flood.pcap");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let mut out = Writer::new(BufWriter::with_capacity(1 << 18, file))?;
        let [begin, end] = FLOOD;
        let moment = |number: u64| begin + (end - begin).mul_f64(number as f64 / frames as f64);
        let mut next = 0;
        for frame in VICTIM.frames(Duration::ZERO) {
            let (at, data) = frame?;
            while let Some(flood) = flood.filter(|_| next < frames && moment(next) <= at) {
                out.frame(EPOCH + moment(next), &flood.frame(next, target)?)?;
                next += 1;
            }
            out.frame(EPOCH + at, &data)?;
        }
        out.finish()
    }

    /// The cost, the summary, and the victim's recording.
    fn replay(&self) -> Result<(Cost, Value, Vec<u8>)> {
        let archive = self.path("archive");
        if archive.exists() {
            std::fs::remove_dir_all(&archive).context("remove the archive before")?;
        }
        let (capture, config) = (self.path("flood.pcap"), self.path("config.toml"));
        let [replay, json, option, configuration] =
            ["replay", "--json", "--archive", "--config"].map(OsStr::new);
        let args = [
            replay,
            capture.as_os_str(),
            option,
            archive.as_os_str(),
            configuration,
            config.as_os_str(),
            json,
        ];
        let (cost, summary) = measure::run(&self.spantape, &args, &self.path("cost"))?;
        let summary = serde_json::from_slice(&summary).context("the summary is no JSON")?;
        Ok((cost, summary, self.victim(&archive)?))
    }

    /// Of all recordings the victim's, which is the only one from its host, by its length the greatest.
    fn victim(&self, archive: &Path) -> Result<Vec<u8>> {
        let files = verify::files(archive)?.into_iter();
        let wav = files.filter(|(path, _)| path.extension().is_some_and(|found| found == "wav"));
        let Some((path, _)) = wav.max_by_key(|(_, size)| *size) else { return Ok(Vec::new()) };
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    fn limit_mb(&self) -> f64 {
        f64::from(self.memory_mib) * 1.048_576
    }

    fn failure(&self, found: &Found) -> Option<String> {
        let most = self.quiet.peak_mb + self.limit_mb() + ALLOWANCE_MB;
        let flood = found.flood;
        if !found.same {
            return Some(format!("{flood:?}: the call's recording is not what it is without the flood"));
        }
        if found.engine_mb > self.limit_mb() {
            return Some(format!(
                "{flood:?}: {:.0} MB of state, and {:.0} are allowed",
                found.engine_mb,
                self.limit_mb()
            ));
        }
        let peak = found.cost.peak_mb;
        (peak > most).then(|| format!("{flood:?}: {peak:.0} MB resident, and {most:.0} are allowed"))
    }

    /// Of an RTP packet's cost.
    fn ratio(&self, found: &Found) -> f64 {
        (found.cost.cpu_s - self.quiet.cpu_s).max(0.0) / found.frames as f64 / self.packet_s
    }

    fn line(&self, found: &Found) -> String {
        let rate = found.frames as f64 / found.cost.wall_s;
        let dropped: Vec<String> =
            found.dropped.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let verdict = if found.same { "same" } else { "DIFFERS" };
        let (peak, engine, ratio) = (found.cost.peak_mb, found.engine_mb, self.ratio(found));
        format!(
            "{:<10} {rate:>9.0} frames/s  {ratio:>6.1} RTP packets' CPU  {peak:>5.0} MB resident  {engine:>5.1} MB state  \
             recording {verdict}  {}\n",
            format!("{:?}", found.flood).to_lowercase(),
            dropped.join(", ")
        )
    }

    fn json(&self, found: &Found) -> Value {
        json!({
            "flood": format!("{:?}", found.flood).to_lowercase(),
            "frames": found.frames,
            "cpu_s": found.cost.cpu_s,
            "wall_s": found.cost.wall_s,
            "rtp_packets_cpu": self.ratio(found),
            "resident_mb": found.cost.peak_mb,
            "resident_quiet_mb": self.quiet.peak_mb,
            "state_mb": found.engine_mb,
            "limit_mb": self.limit_mb(),
            "same": found.same,
            "given_up": found.dropped.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        })
    }
}
