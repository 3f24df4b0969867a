//! A recorder that is killed again and again while phones talk, and one whose disk is full: what was recorded stays, and
//! nothing is made up.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::call::{Speaking, Talk, Wire};
use crate::bench;
use crate::lab::Bench;
use crate::lab::archive::{Archive, Audio};
use crate::lab::capture::{Capture, Frame};
use crate::lab::recorder::{Order, Recorder, Source};
use crate::lab::switch::{Lab, MIRROR_PORTS};
use crate::programs::release_build;

const PORT: (&str, &str) = MIRROR_PORTS[0];
const PACKET: Duration = Duration::from_millis(20);
/// A call begins so often, in packets, and lasts as long.
const BEGINS: u32 = 20;
const LASTS: u32 = 80;
/// Calls that can be told apart by their hosts; after them the hosts call again.
const HOSTS: u32 = 90;
/// From a start to the kill, in milliseconds.
const LIVES_MS: std::ops::Range<u64> = 100..3000;
/// What is said so long before a kill may be gone, and what is said so long after a start.
const LAST: f64 = 1.0;
const FIRST: f64 = 0.5;
/// How far the parts of a torn call may be off.
const STEP_S: f64 = 0.02;
/// Samples that differ by no more are the same: what was concealed at an edge is not.
const ALIKE: i32 = 64;
/// Of the archive whose disk is full.
const DISK_MB: u64 = 8;

pub(super) fn run(kills: u32) -> Result<()> {
    let (binary, bench) = (release_build("spantape")?, Bench::new()?);
    for source in Source::ALL {
        let scene = Scene { binary: &binary, bench: &bench, source };
        scene.killed(kills).with_context(|| format!("{}: SIGKILL {kills} times", source.name()))?;
    }
    let scene = Scene { binary: &binary, bench: &bench, source: Source::Packet };
    scene.disk_full().context("the disk is full")
}

struct Scene<'a> {
    binary: &'a Path,
    bench: &'a Bench,
    source: Source,
}

/// When nobody recorded, in seconds since 1970.
struct Gap {
    killed: f64,
    started: f64,
}

impl Scene<'_> {
    fn recorder(&self, lab: &Lab, name: &str, config: Option<&Path>) -> Result<Recorder> {
        let name = format!("{name}-{}", self.source.name());
        let (binary, source) = (self.binary, self.source);
        let order = Order { binary, name: &name, source, interface: PORT.1, config, options: &[] };
        Recorder::start(self.bench, lab, &order)
    }

    fn killed(&self, kills: u32) -> Result<()> {
        let lab = Lab::without_phones()?;
        // Several engines go on with what several have left.
        let config = self.bench.scratch.path().join("several.toml");
        std::fs::write(&config, "[capture]\nengines = 3\n").context("write a configuration")?;
        let config = (self.source == Source::Xdp).then_some(config.as_path());
        let mut recorder = self.recorder(&lab, "crash", config)?;
        let traffic = Traffic::begin(Wire::open(&lab, PORT.0)?);
        let mut gaps = Vec::new();
        for kill in 0..kills {
            let random = bench::scatter(u64::from(kill) + 1000 * u64::from(self.source == Source::Xdp));
            let lives = LIVES_MS.start + random % (LIVES_MS.end - LIVES_MS.start);
            std::thread::sleep(Duration::from_millis(lives));
            let killed = now();
            recorder.signal("KILL")?;
            recorder.wait(Duration::from_secs(5))?;
            recorder =
                self.recorder(&lab, "crash", config).with_context(|| format!("start after kill {kill}"))?;
            gaps.push(Gap { killed, started: now() });
        }
        std::thread::sleep(Duration::from_secs(3));
        let sent = traffic.stop()?;
        std::thread::sleep(Duration::from_millis(500));
        recorder.stop()?;

        let capture = self.bench.scratch.path().join(format!("crash-{}.pcap", self.source.name()));
        sent.write(&capture)?;
        let path = self.bench.scratch.path().join(format!("crash-{}-replayed", self.source.name()));
        let replayed = Archive::replay(self.binary, &capture, None, &path)?;
        let archive = recorder.archive();
        ensure_whole(self.binary, archive)?;
        let found = Comparison::of(archive, &replayed, &gaps)?;
        println!(
            "  {:<7} SIGKILL {kills} times: {} calls, {} of their recordings whole and {} torn; of {:.0} s said while it ran \
             at least a second longer, none are missing",
            self.source.name(),
            found.calls,
            found.whole,
            found.torn,
            found.seconds
        );
        Ok(())
    }

    /// A disk of a few megabytes that somebody else fills in mid-call, and later clears.
    fn disk_full(&self) -> Result<()> {
        let lab = Lab::without_phones()?;
        let folder = self.bench.scratch.folder(&format!("recorder-full-{}", self.source.name()))?;
        let disk = Disk::mount(folder.join("archive"))?;
        let config = self.bench.scratch.path().join("full.toml");
        std::fs::write(&config, "[archive]\nreserve = \"1MiB\"\n[audio]\npcap = true\n")
            .context("write a configuration")?;
        let mut recorder = self.recorder(&lab, "full", Some(&config))?;
        let mut wire = Wire::open(&lab, PORT.0)?;
        let talk = Talk::new(1, "1009", "1010");
        wire.send_all(&talk.begin()?)?;
        let speaking = Speaking::begin(wire, &talk);
        std::thread::sleep(Duration::from_secs(3));
        let full = (speaking.seconds(), disk.fill()?);
        std::thread::sleep(Duration::from_millis(2500));
        // Of this one nothing may begin.
        short_call(&lab, 2)?;
        std::thread::sleep(Duration::from_millis(500));
        disk.clear()?;
        let clear = speaking.seconds();
        std::thread::sleep(Duration::from_secs(3));
        short_call(&lab, 3)?;
        let end = speaking.seconds();
        let mut wire = speaking.stop()?;
        wire.send_all(&talk.end_by_caller()?)?;
        let id = talk.id();
        recorder.wait_for("call", Duration::from_secs(5), |event| event["call_id"] == id)?;
        recorder.stop()?;
        let alarms = recorder.events("status");
        let alarms =
            alarms.iter().filter(|status| status["unwritten"] != 0 || status["refused"] != 0).count();
        ensure!(alarms > 0, "its status says nothing of it");
        let archive = recorder.archive();
        ensure_whole(self.binary, archive)?;

        let recordings = archive.rows("recordings")?;
        let of = |number: u8| {
            let id = Talk::new(number, "1009", "1010").id();
            recordings.iter().filter(|row| row["call_id"] == id).collect::<Vec<_>>()
        };
        let ([first], [], [third]) = (&of(1)[..], &of(2)[..], &of(3)[..]) else {
            bail!("the calls have {}, {} and {} recordings", of(1).len(), of(2).len(), of(3).len());
        };
        let events = archive.rows("events")?;
        let refused = Talk::new(2, "1009", "1010").id();
        let told = events.iter().any(|row| row["kind"] == "drop" && row["call_id"] == refused);
        ensure!(told, "the catalog does not say that the second call was refused");
        let audio = archive.audio(first)?;
        ensure!(
            (audio.seconds() - end).abs() < 0.6,
            "the first call lasts {:.2} s, not {end:.2}",
            audio.seconds()
        );
        let heard = |from: f64, to: f64| [0, 1].map(|channel| audio.peak(channel, from, to));
        let (before, within) = (heard(0.5, full.0 - 1.0), heard(full.0 + 1.0, clear - 1.2));
        let after = heard(clear + 1.0, end - 0.2);
        ensure!(
            before.iter().chain(&after).all(|&peak| peak > 4000) && within.iter().all(|&peak| peak == 0),
            "peaks before, within and after: {before:?}, {within:?}, {after:?}"
        );
        ensure!(archive.audio(third)?.seconds() > 1.0, "the third call is cut short");
        println!(
            "  {:<7} the disk full for {:.1} s: silence in the call that was up, the next one refused and the one after \
             that recorded; told in {alarms} lines of its status",
            self.source.name(),
            clear - full.0,
        );
        Ok(())
    }
}

fn short_call(lab: &Lab, number: u8) -> Result<()> {
    let talk = Talk::new(number, "1009", "1010");
    let mut wire = Wire::open(lab, PORT.0)?;
    wire.send_all(&talk.begin()?)?;
    let speaking = Speaking::begin(wire, &talk);
    std::thread::sleep(Duration::from_millis(1300));
    speaking.stop()?.send_all(&talk.end_by_caller()?)
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Calls one after the other, several at a time, and what was sent of them.
struct Traffic {
    quiet: Arc<AtomicBool>,
    thread: JoinHandle<Result<Capture>>,
}

impl Traffic {
    fn begin(mut wire: Wire) -> Traffic {
        let quiet = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let quiet = Arc::clone(&quiet);
            move || {
                let mut sent = Capture::default();
                let mut send = |frames: Vec<Vec<u8>>| -> Result<()> {
                    for data in frames {
                        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                        wire.send(&data)?;
                        sent.frames.push(Frame { at, data });
                    }
                    Ok(())
                };
                let (since, mut up) = (Instant::now(), Vec::<(Talk, u32)>::new());
                for tick in 0.. {
                    let is_last = quiet.load(Ordering::Relaxed);
                    if tick % BEGINS == 0 && !is_last {
                        let number = tick / BEGINS;
                        let talk =
                            Talk::new((number % HOSTS + 1) as u8, "1009", "1010").again(number / HOSTS);
                        send(talk.begin()?)?;
                        up.push((talk, 0));
                    }
                    for (talk, index) in &mut up {
                        if *index == LASTS || is_last {
                            send(talk.end_by_caller()?)?;
                            *index = u32::MAX;
                        } else {
                            send(talk.voice(*index)?)?;
                            *index += 1;
                        }
                    }
                    up.retain(|(_, index)| *index != u32::MAX);
                    if is_last {
                        break;
                    }
                    std::thread::sleep(
                        (since + PACKET * (tick + 1)).saturating_duration_since(Instant::now()),
                    );
                }
                Ok(sent)
            }
        });
        Traffic { quiet, thread }
    }

    fn stop(self) -> Result<Capture> {
        self.quiet.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the calls have ended by themselves"))?
    }
}

/// That every recording has its row, every row its recording, and each hash is right.
fn ensure_whole(binary: &Path, archive: &Archive) -> Result<()> {
    let out = Command::new(binary)
        .args(["verify", "--archive"])
        .arg(archive.path())
        .output()
        .context("run spantape")?;
    ensure!(out.status.success(), "verify finds: {}", String::from_utf8_lossy(&out.stdout));
    let rows = archive.rows("recordings")?;
    let named: BTreeSet<PathBuf> =
        rows.iter().filter_map(|row| Some(archive.path().join(row["file"].as_str()?))).collect();
    ensure!(named.len() == rows.len(), "{} rows name {} files", rows.len(), named.len());
    let there: BTreeSet<PathBuf> = bench::files(archive.path())?.into_iter().map(|(path, _)| path).collect();
    let wav = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "wav");
    let extra: Vec<_> = there.iter().filter(wav).filter(|path| !named.contains(*path)).collect();
    ensure!(extra.is_empty(), "the catalog does not name {extra:?}");
    let missing: Vec<_> = named.iter().filter(|path| !there.contains(*path)).collect();
    ensure!(missing.is_empty(), "the catalog names {missing:?}");
    Ok(())
}

/// One recording and when it begins, in seconds since 1970.
struct Part {
    begin: f64,
    reason: String,
    audio: Audio,
}

impl Part {
    fn of(archive: &Archive, row: &Value) -> Result<Part> {
        let start: Timestamp = row["start"].as_str().context("a start")?.parse().context("read a time")?;
        let begin = start.as_nanosecond() as f64 / 1e9;
        let reason = row["end_reason"].as_str().unwrap_or_default().to_owned();
        Ok(Part { begin, reason, audio: archive.audio(row)? })
    }

    fn end(&self) -> f64 {
        self.begin + self.audio.seconds()
    }
}

#[derive(Default)]
struct Comparison {
    calls: usize,
    whole: usize,
    torn: usize,
    /// Of calls, that had to be there.
    seconds: f64,
}

impl Comparison {
    /// Holds what was recorded between kills against what is in the capture.
    fn of(archive: &Archive, replayed: &Archive, gaps: &[Gap]) -> Result<Comparison> {
        let (recordings, expected) = (archive.rows("recordings")?, replayed.rows("recordings")?);
        let mut found = Comparison::default();
        for row in &expected {
            let id = &row["call_id"];
            let whole = Part::of(replayed, row)?;
            // Whose signalling nobody saw has no recording.
            if gaps.iter().any(|gap| whole.begin > gap.killed - 0.2 && whole.begin < gap.started + 0.2) {
                continue;
            }
            found.calls += 1;
            let parts: Result<Vec<Part>> = recordings
                .iter()
                .filter(|row| row["call_id"] == *id)
                .map(|row| Part::of(archive, row))
                .collect();
            let parts = parts?;
            for part in &parts {
                let is_alone = parts.len() == 1 && part.reason != "interrupted";
                ensure_same(part, &whole)
                    .with_context(|| format!("a recording of {id} that ended by {}", part.reason))?;
                found.whole += usize::from(is_alone);
                found.torn += usize::from(!is_alone);
            }
            let mut at = whole.begin + 0.05;
            while at < whole.end() - 0.05 {
                let may_be_gone = gaps.iter().any(|gap| at > gap.killed - LAST && at < gap.started + FIRST);
                if !may_be_gone {
                    let is_there =
                        parts.iter().any(|part| part.begin <= at + STEP_S && at - STEP_S <= part.end());
                    ensure!(is_there, "{}", lost(id, at, &whole, &parts, gaps));
                    found.seconds += 0.05;
                }
                at += 0.05;
            }
        }
        let known: BTreeSet<String> = expected.iter().map(|row| row["call_id"].to_string()).collect();
        let strange = recordings.iter().find(|row| !known.contains(&row["call_id"].to_string()));
        ensure!(strange.is_none(), "a recording of no call: {strange:?}");
        ensure!(found.whole + found.torn > 0, "nothing was compared");
        Ok(found)
    }
}

/// What is missing, in seconds from the call's first sample.
fn lost(id: &Value, at: f64, whole: &Part, parts: &[Part], gaps: &[Gap]) -> String {
    let since = |moment: f64| moment - whole.begin;
    let parts: Vec<String> = parts
        .iter()
        .map(|part| format!("{:.2} to {:.2} ({})", since(part.begin), since(part.end()), part.reason))
        .collect();
    let near = gaps.iter().filter(|gap| gap.started > whole.begin - 5.0 && gap.killed < whole.end() + 5.0);
    let gaps: Vec<String> = near
        .map(|gap| format!("killed {:.2}, started {:.2}", since(gap.killed), since(gap.started)))
        .collect();
    format!(
        "{:.2} s into call {id} nothing was recorded: of {:.2} s there are {parts:?}; {gaps:?}",
        since(at),
        since(whole.end())
    )
}

/// That a part has what the whole has at its time.
fn ensure_same(part: &Part, whole: &Part) -> Result<()> {
    let rate = f64::from(part.audio.rate);
    let about = ((part.begin - whole.begin) * rate).round() as i64;
    for channel in 0..2 {
        let (own, other) = (&part.audio.channels[channel], &whole.audio.channels[channel]);
        // Around an edge something may have been concealed.
        let edge = (0.1 * rate) as usize;
        let Some(own) = own.get(edge..own.len().saturating_sub(edge)).filter(|own| !own.is_empty()) else {
            continue;
        };
        // What was cut off may end in silence after the call.
        let differs = |lag: i64| {
            let said = |index: usize| {
                let at = usize::try_from(index as i64 + edge as i64 + about + lag).ok();
                at.and_then(|at| other.get(at)).copied().unwrap_or_default()
            };
            let off = |(index, sample): &(usize, &i16)| {
                (i32::from(**sample) - i32::from(said(*index))).abs() > ALIKE
            };
            own.iter().enumerate().filter(off).count()
        };
        let step = (STEP_S * rate) as i64;
        let least = (-step..=step).map(differs).min().unwrap_or_default();
        ensure!(
            least <= own.len() / 10,
            "{least} of {} samples of channel {channel} are not what was said {:.2} s into the call",
            own.len(),
            part.begin - whole.begin
        );
    }
    Ok(())
}

/// A disk in memory, gone when it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Result<Disk> {
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={DISK_MB}m"), "tmpfs"]).arg(&path);
        ensure!(command.status().context("run mount")?.success(), "{} cannot be mounted", path.display());
        Ok(Disk(path))
    }

    /// Takes all the room that is left. Returns how many bytes that were.
    fn fill(&self) -> Result<u64> {
        let mut file = std::fs::File::create(self.0.join("filler")).context("create a file")?;
        let mut written = 0;
        loop {
            match std::io::Write::write(&mut file, &[1; 4096]) {
                Ok(bytes) => written += bytes as u64,
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(written),
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
    }

    fn clear(&self) -> Result<()> {
        std::fs::remove_file(self.0.join("filler")).context("clear the disk")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
