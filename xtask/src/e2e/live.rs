//! A call that is captured gives the same as its capture replayed, whatever the source.
//!
//! Phones call each other behind the switch. Of its two mirror ports one is captured with XDP, the other with
//! `AF_PACKET`, while tcpdump writes down what the switch sends to both; that is then replayed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spantape_sieve::{Class, Wish};

use super::call::{self, Talk};
use super::compare::compare;
use super::model::{Counts, Model};
use crate::lab::archive::Archive;
use crate::lab::capture::Capture;
use crate::lab::live::Tap;
use crate::lab::recorder::{Order, Recorder, Source, ensure_nothing_lost};
use crate::lab::switch::{Lab, MIRROR_PORTS, Mirror};
use crate::lab::{Bench, baresip};
use crate::programs::release_build;
use crate::samples::cases;
use crate::workspace;

/// The number of a call of which nothing but media is there.
const STRAY: u8 = 99;
/// More than a recorder needs that waits, and less than one gets that polls on a busy machine.
const BUSY_S: f64 = 1.0;

pub(super) fn run() -> Result<()> {
    let binary = release_build("spantape")?;
    let bench = Bench::new()?;
    for case in &CASES {
        case.run(&bench, &binary).with_context(|| format!("case {}", case.name))?;
    }
    Ok(())
}

/// Who calls whom, how it is mirrored, and what must come of it at the least: two empty archives are the same.
struct Case {
    name: &'static str,
    calls: Calls,
    mirror: Mirror,
    config: Config,
    options: &'static [&'static str],
    /// What XDP is to say of itself.
    mode: &'static str,
    queues: u32,
    recordings: usize,
    /// Each recording lasts as long.
    seconds: f64,
    triggers: usize,
}

#[derive(Clone, Copy)]
enum Config {
    None,
    OnDemand,
    AnnouncedOnly,
    /// FLAC, with a capture file beside it.
    Flac,
    /// Several engines have the calls between them.
    Engines,
}

#[derive(Clone, Copy)]
enum Calls {
    /// Of a sample.
    Sipp(&'static str),
    /// The frames of a sample, at their times.
    Played(&'static str),
    Baresip,
    /// So many at once, from the switch's end of the mirror ports.
    Sent(u8),
}

const CASES: [Case; 16] = [
    Case { config: Config::AnnouncedOnly, ..sent("announced media only", 2) },
    Case { queues: 4, ..sent("four queues", 8) },
    Case { config: Config::Engines, ..sent("three engines", 8) },
    Case { queues: 4, options: &["--busy-poll"], ..sent("busy polling", 2) },
    Case { mode: "generic", ..whole("XDP behind the driver", Calls::Sipp("plain-pcmu")) },
    Case { mirror: Mirror::Ingress, ..whole("plain, mirrored once", Calls::Sipp("plain-pcmu")) },
    whole("plain", Calls::Sipp("plain-pcmu")),
    whole("early media", Calls::Sipp("early-media")),
    Case { triggers: 2, ..on_demand("record key", Calls::Sipp("yealink-record")) },
    Case { recordings: 0, ..on_demand("record key refused", Calls::Sipp("snom-record-refused")) },
    Case { triggers: 2, ..on_demand("record key over TCP", Calls::Sipp("sip-tcp")) },
    whole("IPv6", Calls::Sipp("ipv6")),
    whole("hold and resume", Calls::Sipp("hold-resume")),
    whole("G.722", Calls::Baresip),
    Case { config: Config::Flac, ..whole("FLAC", Calls::Sipp("plain-pcmu")) },
    Case { seconds: 8.9, ..whole("G.723.1 by ffmpeg", Calls::Played("g723")) },
];

const fn whole(name: &'static str, calls: Calls) -> Case {
    Case {
        name,
        calls,
        mirror: Mirror::Both,
        config: Config::None,
        options: &[],
        mode: "native",
        queues: 1,
        recordings: 1,
        seconds: 10.9,
        triggers: 0,
    }
}

const fn on_demand(name: &'static str, calls: Calls) -> Case {
    Case { config: Config::OnDemand, seconds: 4.9, triggers: 1, ..whole(name, calls) }
}

const fn sent(name: &'static str, calls: u8) -> Case {
    Case { recordings: calls as usize, seconds: 2.9, ..whole(name, Calls::Sent(calls)) }
}

impl Case {
    fn run(&self, bench: &Bench, binary: &Path) -> Result<()> {
        let config = self.config(bench)?;
        let lab = match self.calls {
            Calls::Sipp(_) | Calls::Baresip => Lab::build(self.mirror)?,
            Calls::Sent(_) | Calls::Played(_) => Lab::with_queues(self.queues)?,
        };
        if self.mode == "generic" {
            lab.allow_large_frames()?;
        }
        // What tcpdump sees begins before and ends after what is captured.
        let tap = Tap::at_switch(bench, &lab)?;
        let mut recorders = Vec::new();
        for (source, (_, interface)) in Source::ALL.into_iter().zip(MIRROR_PORTS) {
            let name = format!("{}-{}", self.name.replace(' ', "-"), source.name());
            let (config, options) = (config.as_deref(), self.options);
            let order = Order { binary, name: &name, source, interface, config, options };
            recorders.push((source, Recorder::start(bench, &lab, &order).context(source.name())?));
        }
        match self.calls {
            Calls::Sipp(case) => {
                let calls = cases::calls_of(case).context("there is no such sample")?;
                calls.make_calls(bench, &lab)?;
            }
            Calls::Baresip => baresip::make_call(bench, &lab)?,
            Calls::Played(case) => {
                let capture = Capture::read(&workspace()?.join("samples").join(case).join("input.pcap"))?;
                call::play(&lab, &capture)?;
            }
            Calls::Sent(_) => call::make_calls(&lab, &self.talks(), &[Talk::new(STRAY, "", "")])?,
        }
        let mut summaries = Vec::new();
        for (source, recorder) in &mut recorders {
            if *source == Source::Xdp {
                self.check_xdp(&lab, recorder)?;
            }
            summaries.push(recorder.stop().context(source.name())?);
        }
        let capture = tap.stop()?;
        let replayed = self.replay(bench, binary, &capture, config.as_deref())?;
        for ((source, recorder), summary) in recorders.iter().zip(&summaries) {
            self.check(recorder, summary, &capture, &replayed).context(source.name())?;
        }
        Ok(())
    }

    fn config(&self, bench: &Bench) -> Result<Option<PathBuf>> {
        Ok(match self.config {
            Config::None => None,
            Config::OnDemand => Some(workspace()?.join("tests/golden/rules/on-demand.toml")),
            Config::AnnouncedOnly => {
                let path = bench.scratch.path().join("announced.toml");
                std::fs::write(&path, "[capture]\nrtp = \"announced\"\n").context("write a configuration")?;
                Some(path)
            }
            Config::Engines => {
                let path = bench.scratch.path().join("engines.toml");
                std::fs::write(&path, "[capture]\nengines = 3\n").context("write a configuration")?;
                Some(path)
            }
            Config::Flac => {
                let path = bench.scratch.path().join("flac.toml");
                std::fs::write(&path, "[audio]\nformat = \"flac\"\npcap = true\n")
                    .context("write a configuration")?;
                Some(path)
            }
        })
    }

    /// What is sent from the switch's end.
    fn talks(&self) -> Vec<Talk> {
        let Calls::Sent(count) = self.calls else { return Vec::new() };
        (1..=count).map(|number| Talk::new(number, "1009", "1010")).collect()
    }

    fn replay(&self, bench: &Bench, binary: &Path, capture: &Path, config: Option<&Path>) -> Result<Archive> {
        let path: PathBuf = bench.scratch.path().join(format!("replayed-{}", self.name.replace(' ', "-")));
        Archive::replay(binary, capture, config, &path)
    }

    /// That XDP runs as it is to, and where.
    fn check_xdp(&self, lab: &Lab, recorder: &Recorder) -> Result<()> {
        let started = recorder.events("started").into_iter().next().unwrap_or_default();
        ensure!(
            started["mode"] == self.mode && started["queues"] == self.queues,
            "not {} on {} queues: {started}",
            self.mode,
            self.queues
        );
        if self.queues > 1 {
            let spread = frames_by_queue(lab, MIRROR_PORTS[0].1)?;
            let used = spread.iter().filter(|frames| **frames > 0).count();
            ensure!(spread.len() == self.queues as usize && used > 1, "frames by queue: {spread:?}");
            println!("  {:<22} frames by queue: {spread:?}", self.name);
        }
        if self.options.contains(&"--busy-poll") {
            let cpu = recorder.cpu()?.as_secs_f64();
            ensure!(cpu > BUSY_S, "{cpu:.2} s of a CPU are not busy polling");
            println!("  {:<22} {cpu:.1} s of a CPU", self.name);
        }
        Ok(())
    }

    fn check(&self, recorder: &Recorder, summary: &Value, capture: &Path, replayed: &Archive) -> Result<()> {
        ensure_nothing_lost(summary)?;
        let calls = self.talks().len().max(1);
        ensure!(summary["calls"] == calls, "{} calls were captured", summary["calls"]);
        ensure!(
            summary["recordings"].as_u64() == Some(self.recordings as u64),
            "the summary has {} recordings",
            summary["recordings"]
        );
        let counts = self.classes(summary, capture)?;
        let same = compare(recorder.archive(), replayed)?;
        ensure!(
            same.recordings == self.recordings && same.triggers == self.triggers && same.streams >= 2 * calls,
            "not what the calls were to give: {same}"
        );
        for recording in recorder.archive().rows("recordings")? {
            let seconds = recording["duration_s"].as_f64().context("the recording has no length")?;
            ensure!(seconds >= self.seconds, "a recording lasts {seconds} s, not {}", self.seconds);
            if matches!(self.config, Config::Flac) {
                recorder.archive().ensure_traced(&recording)?;
            }
            if matches!(self.calls, Calls::Played(_)) {
                let codecs = recording["codecs"].as_str().unwrap_or_default();
                ensure!(codecs.contains("G723"), "what ffmpeg decodes was not decoded: {codecs}");
            }
        }
        let source = summary_source(recorder);
        println!("  {:<22} {source:<12} {same}; {counts}", self.name);
        Ok(())
    }

    /// The frames by class, which must be those that tcpdump has seen; none but those that are needed come up.
    fn classes(&self, summary: &Value, capture: &Path) -> Result<Counts> {
        let counts = Counts::of(summary)?;
        let mut model = match self.config {
            Config::AnnouncedOnly => Model::announced_only(),
            Config::None | Config::OnDemand | Config::Flac | Config::Engines => Model::default(),
        };
        let media = self.talks().into_iter().flat_map(|talk| talk.media());
        media.for_each(|endpoint| model.announce(endpoint, Wish::Wanted));
        for frame in Capture::read(capture)?.frames {
            model.take(&frame.data);
        }
        for class in Class::ALL {
            let (counted, seen) = (counts.get(class), model.counts().get(class));
            // Hosts announce themselves by ICMPv6 whenever they like, also before the capture begins.
            let agree = match class {
                Class::Rest | Class::Encapsulated => counted <= seen,
                _ => counted == seen,
            };
            ensure!(agree, "{counted} frames of class {}, but {seen} were sent", class.as_str());
        }
        ensure!(counts.get(Class::Sip) > 0 && counts.get(Class::Rtp) > 0, "no call was seen: {counts}");
        let (frames, needed) = (&summary["frames"], counts.needed());
        ensure!(*frames == needed, "{frames} frames came up, but {needed} are needed");
        Ok(counts)
    }
}

/// Frames that XDP has seen in the driver, by queue.
fn frames_by_queue(lab: &Lab, interface: &str) -> Result<Vec<u64>> {
    let out = lab.at_monitor("ethtool").args(["-S", interface]).output().context("run ethtool")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let counts = text.lines().filter_map(|line| line.trim().split_once("_xdp_packets: "));
    counts.map(|(_, count)| count.parse().context("read what ethtool says")).collect()
}

/// `xdp native`, `packet`: as it says itself.
fn summary_source(recorder: &Recorder) -> String {
    let started = recorder.events("started").into_iter().next().unwrap_or_default();
    let words = ["source", "mode"].map(|key| started[key].as_str().unwrap_or_default().to_owned());
    words.join(" ").trim_end().to_owned()
}
