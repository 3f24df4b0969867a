//! A recorder that is told to stop, is killed, gets other rules, or loses its link.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::call::{Speaking, Talk, Wire};
use super::{frames, program};
use crate::lab::Bench;
use crate::lab::archive::Archive;
use crate::lab::driver::{Driver, Standing, Verdict};
use crate::lab::recorder::{Interface, Order, Recorder, Source, ensure_nothing_lost, set_link};
use crate::lab::switch::{Lab, MIRROR_PORTS};
use crate::programs::release_build;

/// For what is said once a second, or on the next packet.
const SOON: Duration = Duration::from_secs(5);
/// A frame that was sent has been taken up by then, however busy the machine is.
const SEEN: Duration = Duration::from_millis(500);
/// What a tone has at its peaks at the least.
const LOUD: u16 = 4000;
/// Loss is concealed, fading, for a moment; after that there is nothing.
const SILENT: u16 = 50;
/// Frames that are sent at one go, and so many a second at the least.
const FLOOD: usize = 1 << 16;
const A_FLOOD: f64 = 300_000.0;
const HEARD_IN_A_FLOOD: Duration = Duration::from_secs(3);
/// What lies between a moment here and the same moment in a recording.
const ABOUT_S: f64 = 0.5;

pub(super) fn run() -> Result<()> {
    let scene = Scene { binary: release_build("spantape")?, bench: Bench::new()? };
    for source in Source::ALL {
        scene.terminated(source).with_context(|| format!("{}: SIGTERM in mid-call", source.name()))?;
        scene.signalled_twice(source).with_context(|| format!("{}: two signals", source.name()))?;
        scene.flooded(source).with_context(|| format!("{}: SIGTERM in a flood", source.name()))?;
        scene.killed(source).with_context(|| format!("{}: SIGKILL in mid-call", source.name()))?;
        scene.link_lost(source).with_context(|| format!("{}: the link goes down", source.name()))?;
        scene.rules_changed(source).with_context(|| format!("{}: SIGHUP", source.name()))?;
    }
    for source in Source::ALL {
        scene.left_behind(source).with_context(|| format!("{}: a program left behind", source.name()))?;
    }
    Ok(())
}

struct Scene {
    binary: PathBuf,
    bench: Bench,
}

/// One recorder at one mirror port.
struct Set {
    lab: Lab,
    recorder: Recorder,
}

const PORT: (&str, &str) = MIRROR_PORTS[0];

impl Scene {
    fn set(&self, name: &str, source: Source, config: Option<&Path>) -> Result<Set> {
        let lab = Lab::without_phones()?;
        let recorder = self.recorder(&lab, name, source, config)?;
        let interface = Interface::look(&lab, PORT.1)?;
        ensure!(
            interface.has_program == (source == Source::Xdp) && interface.promiscuity > 0,
            "while it captures, {} is {interface:?}",
            PORT.1
        );
        Ok(Set { lab, recorder })
    }

    fn recorder(&self, lab: &Lab, name: &str, source: Source, config: Option<&Path>) -> Result<Recorder> {
        let name = format!("{name}-{}", source.name());
        let order =
            Order { binary: &self.binary, name: &name, source, interface: PORT.1, config, options: &[] };
        Recorder::start(&self.bench, lab, &order)
    }

    fn terminated(&self, source: Source) -> Result<()> {
        let mut set = self.set("terminated", source, None)?;
        let (talk, speaking) = set.call(1)?;
        std::thread::sleep(Duration::from_secs(3));
        let (spoken, told) = (speaking.seconds(), Instant::now());
        let summary = set.recorder.stop()?;
        let took = told.elapsed();
        speaking.stop()?;
        ensure_nothing_lost(&summary)?;
        let seconds = cut_short(set.recorder.archive(), &talk, spoken)?;
        Interface::ensure_clean(&set.lab, PORT.1)?;
        println!(
            "  {:<7} SIGTERM: ended in {} ms, {seconds:.2} s of {spoken:.2} s recorded",
            source.name(),
            took.as_millis()
        );
        Ok(())
    }

    /// Both signals are there before it can look at the first.
    fn signalled_twice(&self, source: Source) -> Result<()> {
        let mut set = self.set("twice", source, None)?;
        let (_, speaking) = set.call(1)?;
        std::thread::sleep(Duration::from_secs(1));
        for signal in ["STOP", "TERM", "INT", "CONT"] {
            set.recorder.signal(signal)?;
        }
        let told = Instant::now();
        let status = set.recorder.wait(Duration::from_secs(1))?;
        let took = told.elapsed();
        speaking.stop()?;
        Interface::ensure_clean(&set.lab, PORT.1)?;
        self.starts_again(&set.lab, "twice", source)?;
        println!("  {:<7} two signals: ended in {} ms with {status}", source.name(), took.as_millis());
        Ok(())
    }

    /// Frames of no use come faster than anybody can look at them: a stop is heard all the same.
    fn flooded(&self, source: Source) -> Result<()> {
        let mut set = self.set("flooded", source, None)?;
        // The driver's frames go to an end with a program; the recorder by AF_XDP has brought its own.
        let standing = (source == Source::Packet)
            .then(|| Standing::far(&set.lab, Verdict::Pass))
            .transpose()
            .context("let frames pass")?;
        let frame = frames::tcp([49_152, 49_153], 1, &[0; 64])?;
        let (calm, lab) = (AtomicBool::new(false), &set.lab);
        let flood = || {
            lab.within_switch(|| {
                let mut driver = Driver::open(PORT.0, std::iter::repeat_n(&frame[..], FLOOD))?;
                let mut sent = 0;
                while !calm.load(Ordering::Relaxed) {
                    driver.send(FLOOD)?;
                    sent += driver.sent()?;
                    driver.rewind()?;
                }
                Ok(sent)
            })
        };
        let (took, sent) = std::thread::scope(|scope| {
            let flood = scope.spawn(flood);
            std::thread::sleep(Duration::from_secs(2));
            let told = Instant::now();
            let ended = set.recorder.signal("TERM").and_then(|()| set.recorder.wait(HEARD_IN_A_FLOOD));
            let took = told.elapsed();
            calm.store(true, Ordering::Relaxed);
            let sent = flood.join().map_err(|_| anyhow!("the flood has ended by itself"))??;
            ended.map(|_| (took, sent))
        })?;
        drop(standing);
        let rate = sent as f64 / (Duration::from_secs(2) + took).as_secs_f64();
        ensure!(rate >= A_FLOOD, "{rate:.0} frames/s are no flood");
        Interface::ensure_clean(&set.lab, PORT.1)?;
        println!(
            "  {:<7} SIGTERM in a flood of {:.1} million frames/s: ended in {} ms",
            source.name(),
            rate / 1e6,
            took.as_millis()
        );
        Ok(())
    }

    /// In mid-call, and started again while the phones go on talking.
    fn killed(&self, source: Source) -> Result<()> {
        let mut set = self.set("killed", source, None)?;
        let (talk, speaking) = set.call(1)?;
        std::thread::sleep(Duration::from_secs(3));
        let killed = speaking.seconds();
        set.recorder.signal("KILL")?;
        set.recorder.wait(Duration::from_secs(1))?;
        Interface::ensure_clean(&set.lab, PORT.1)?;
        set.recorder = self.recorder(&set.lab, "killed", source, None).context("start again")?;
        let again = speaking.seconds();
        std::thread::sleep(Duration::from_secs(3));
        let end = speaking.seconds();
        let wire = speaking.stop()?;
        set.hang_up(wire, &talk)?;
        set.recorder.stop()?;
        Interface::ensure_clean(&set.lab, PORT.1)?;
        let [before, after] = torn(set.recorder.archive(), &talk, killed, again..end)?;
        println!(
            "  {:<7} SIGKILL {killed:.2} s into a call: {before:.2} s kept, and {after:.2} s after the start {again:.2} s in",
            source.name()
        );
        Ok(())
    }

    /// On the same archive.
    fn starts_again(&self, lab: &Lab, name: &str, source: Source) -> Result<()> {
        let mut again = self.recorder(lab, name, source, None).context("start again")?;
        again.stop().context("start again").map(|_| ())
    }

    /// A program of ours that nobody stands behind any more is in nobody's way.
    fn left_behind(&self, source: Source) -> Result<()> {
        let lab = Lab::without_phones()?;
        program::leave_behind(&lab, PORT.1)?;
        ensure!(Interface::look(&lab, PORT.1)?.has_program, "no program was left behind");
        let recorder = self.recorder(&lab, "left-behind", source, None)?;
        let mut set = Set { lab, recorder };
        set.short_call(1)?;
        let summary = set.recorder.stop()?;
        ensure_nothing_lost(&summary)?;
        let recording = set.recorder.archive().row("recordings")?;
        let seconds = set.recorder.archive().audio(&recording)?.seconds();
        Interface::ensure_clean(&set.lab, PORT.1)?;
        println!(
            "  {:<7} a program left behind: taken off, {seconds:.2} s of a call recorded",
            source.name()
        );
        Ok(())
    }

    fn link_lost(&self, source: Source) -> Result<()> {
        let mut set = self.set("link", source, None)?;
        let (talk, speaking) = set.call(1)?;
        std::thread::sleep(Duration::from_secs(2));
        let down = speaking.seconds();
        set_link(&set.lab, PORT.1, "down")?;
        set.recorder.wait_for("link", SOON, |event| event["state"] == "down")?;
        std::thread::sleep(Duration::from_millis(1500));
        set_link(&set.lab, PORT.1, "up")?;
        let up = speaking.seconds();
        set.recorder.wait_for("link", SOON, |event| event["state"] == "up")?;
        std::thread::sleep(Duration::from_secs(3));
        let end = speaking.seconds();
        let wire = speaking.stop()?;
        set.hang_up(wire, &talk)?;
        set.recorder.stop()?;

        let archive = set.recorder.archive();
        let gaps = archive.rows("events")?;
        let gaps = gaps.iter().filter(|row| row["kind"] == "gap" && row["call_id"] == talk.id());
        let gaps = gaps.count();
        ensure!(gaps > 0, "the catalog has no gap of the call");
        let call = archive.row("calls")?;
        ensure!(call["end_reason"] == "bye", "the call ended by {}", call["end_reason"]);
        let recording = archive.row("recordings")?;
        let audio = archive.audio(&recording)?;
        ensure_about(audio.seconds(), end, "the recording lasts")?;
        for channel in 0..2 {
            let heard = |from: f64, to: f64| audio.peak(channel, from, to);
            let (before, within, after) =
                (heard(0.5, down - 0.2), heard(down + 0.5, up - 0.2), heard(end - 1.0, end - 0.1));
            ensure!(
                before >= LOUD && within <= SILENT && after >= LOUD,
                "peaks before, within and after the gap: {before}, {within}, {after}"
            );
        }
        Interface::ensure_clean(&set.lab, PORT.1)?;
        println!(
            "  {:<7} link down for {:.1} s: heard before and after, {gaps} gaps in the catalog",
            source.name(),
            up - down
        );
        Ok(())
    }

    fn rules_changed(&self, source: Source) -> Result<()> {
        let config = self.bench.scratch.path().join(format!("rules-{}.toml", source.name()));
        let write = |text: &str| std::fs::write(&config, text).context("write the rules");
        write("[[rule]]\nname = \"old\"\naction = \"all\"\n")?;
        let mut set = self.set("rules", source, Some(&config))?;
        set.short_call(1)?;
        // A call keeps the rules that it began under.
        let (talk, speaking) = set.call(2)?;
        std::thread::sleep(SEEN);
        write("[[rule]]\nname = \"new\"\naction = \"ignore\"\n")?;
        set.recorder.signal("HUP")?;
        set.recorder.wait_for("rules", SOON, |_| true)?;
        std::thread::sleep(Duration::from_secs(1));
        let wire = speaking.stop()?;
        set.hang_up(wire, &talk)?;
        set.short_call(3)?;
        write("[[rule]\naction = ")?;
        let complaints = set.recorder.complaints().len();
        set.recorder.signal("HUP")?;
        set.complaint(complaints, &config)?;
        set.short_call(4)?;
        set.recorder.stop()?;

        let archive = set.recorder.archive();
        let calls = archive.rows("calls")?;
        let rules: Vec<&str> = calls.iter().filter_map(|call| call["rule"].as_str()).collect();
        ensure!(rules == ["old", "old", "new", "new"], "the calls were decided by {rules:?}");
        let recordings = archive.rows("recordings")?.len();
        ensure!(recordings == 2, "{recordings} recordings were made of two calls");
        println!("  {:<7} SIGHUP: new rules for new calls; broken ones are refused", source.name());
        Ok(())
    }
}

impl Set {
    /// A call that goes on, and whose phones talk.
    fn call(&self, number: u8) -> Result<(Talk, Speaking)> {
        let talk = Talk::new(number, "1009", "1010");
        let mut wire = Wire::open(&self.lab, PORT.0)?;
        wire.send_all(&talk.begin()?)?;
        Ok((talk.clone(), Speaking::begin(wire, &talk)))
    }

    fn short_call(&mut self, number: u8) -> Result<()> {
        let (talk, speaking) = self.call(number)?;
        std::thread::sleep(Duration::from_millis(1200));
        let wire = speaking.stop()?;
        self.hang_up(wire, &talk)
    }

    /// And waits until that is known.
    fn hang_up(&mut self, mut wire: Wire, talk: &Talk) -> Result<()> {
        wire.send_all(&talk.end_by_caller()?)?;
        let id = talk.id();
        self.recorder.wait_for("call", SOON, |event| event["call_id"] == id).map(|_| ())
    }

    /// Waits until standard error names a file, behind what it said before.
    fn complaint(&self, before: usize, file: &Path) -> Result<()> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let end = Instant::now() + SOON;
        while !self.recorder.complaints().get(before..).unwrap_or_default().contains(&name) {
            if Instant::now() > end {
                bail!("broken rules are not complained of: {}", self.recorder.complaints());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Of a call in the middle of which the recorder was stopped: what was said until then is there. Tells its length.
fn cut_short(archive: &Archive, talk: &Talk, spoken: f64) -> Result<f64> {
    let (call, recording) = (archive.row("calls")?, archive.row("recordings")?);
    let reason = |row: &Value| row["end_reason"].as_str().unwrap_or_default().to_owned();
    ensure!(call["call_id"] == talk.id(), "another call is in the catalog: {}", call["call_id"]);
    ensure!(
        reason(&call) == "capture-end" && !reason(&recording).is_empty(),
        "the call ended by `{}`, the recording by `{}`",
        reason(&call),
        reason(&recording)
    );
    let audio = archive.audio(&recording)?;
    ensure_about(audio.seconds(), spoken, "the recording lasts")?;
    for channel in 0..2 {
        let peak = audio.peak(channel, audio.seconds() - 0.5, audio.seconds());
        ensure!(peak >= LOUD, "the end of channel {channel} is not there: its loudest sample is {peak}");
    }
    Ok(audio.seconds())
}

/// Of a call in the middle of which the recorder was killed and started again: what was said until a second before is
/// there, and what was said since. Tells the lengths.
fn torn(archive: &Archive, talk: &Talk, killed: f64, since: Range<f64>) -> Result<[f64; 2]> {
    let (call, recordings) = (archive.row("calls")?, archive.rows("recordings")?);
    ensure!(call["call_id"] == talk.id() && call["end_reason"] == "bye", "the call is {call}");
    let [before, after] = &recordings[..] else {
        bail!("{} recordings of a call torn once", recordings.len())
    };
    ensure!(
        before["call_uid"] == call["call_uid"] && after["call_uid"] == call["call_uid"],
        "what is left are recordings of several calls"
    );
    ensure!(
        before["end_reason"] == "interrupted" && after["end_reason"] == "bye",
        "they ended by {} and {}",
        before["end_reason"],
        after["end_reason"]
    );
    let events = archive.rows("events")?;
    ensure!(events.iter().any(|row| row["kind"] == "gap"), "the catalog has no gap of the call");
    let audio = [archive.audio(before)?, archive.audio(after)?];
    let [kept, rest] = [audio[0].seconds(), audio[1].seconds()];
    ensure!(kept >= killed - 1.0 && kept <= killed + 0.2, "{kept:.2} s are left of {killed:.2} s");
    ensure_about(rest, since.end - since.start, "the recording after it lasts")?;
    for (part, audio) in audio.iter().enumerate() {
        for channel in 0..2 {
            let peak = audio.peak(channel, audio.seconds() - 0.5, audio.seconds());
            ensure!(
                peak >= LOUD,
                "part {part} ends silent in channel {channel}: its loudest sample is {peak}"
            );
        }
    }
    Ok([kept, rest])
}

fn ensure_about(found: f64, expected: f64, what: &str) -> Result<()> {
    ensure!((found - expected).abs() <= ABOUT_S, "{what} {found:.2} s, not about {expected:.2} s");
    Ok(())
}
