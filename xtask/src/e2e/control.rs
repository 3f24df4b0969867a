//! A recorder at work that is told what to do by `spantape ctl`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::call::{Speaking, Talk, Wire};
use crate::lab::Bench;
use crate::lab::recorder::{Order, Recorder, Source, ensure_nothing_lost};
use crate::lab::switch::{Lab, MIRROR_PORTS};
use crate::programs::release_build;

const PORT: (&str, &str) = MIRROR_PORTS[0];
const SOON: Duration = Duration::from_secs(5);
/// What a tone has at its peaks at the least.
const LOUD: u16 = 4000;
/// From a command to its effect: a program starts, and asks.
const COMMAND_S: f64 = 0.4;

const RULES: &str = r#"
[capture]
engines = 3
[[rule]]
name = "by hand"
action = "on-demand"
match = { party = "1009" }
[[rule]]
name = "board"
action = "ignore"
match = { party = "1001" }
"#;

pub(super) fn run() -> Result<()> {
    let scene = Scene { binary: release_build("spantape")?, bench: Bench::new()? };
    for source in Source::ALL {
        scene.paused(source).with_context(|| format!("{}: pause and resume", source.name()))?;
        scene.by_hand(source).with_context(|| format!("{}: start, stop and refusals", source.name()))?;
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

impl Scene {
    fn set(&self, name: &str, source: Source) -> Result<Set> {
        let lab = Lab::without_phones()?;
        let config = self.bench.scratch.path().join("by-hand.toml");
        std::fs::write(&config, RULES).context("write the rules")?;
        let name = format!("control-{name}-{}", source.name());
        let config = Some(config.as_path());
        let order =
            Order { binary: &self.binary, name: &name, source, interface: PORT.1, config, options: &[] };
        let recorder = Recorder::start(&self.bench, &lab, &order)?;
        Ok(Set { lab, recorder })
    }

    /// A call that is recorded by rule: of the pause nothing is kept, all the rest is.
    fn paused(&self, source: Source) -> Result<()> {
        let mut set = self.set("paused", source)?;
        let socket = set.recorder.archive().path().join("control.sock");
        let mode = std::fs::metadata(&socket).context("the control socket")?.permissions().mode() & 0o777;
        ensure!(mode == 0o660, "the control socket has mode {mode:o}");
        let (talk, speaking) = set.call(1, "1011")?;
        std::thread::sleep(Duration::from_secs(2));
        let pause = speaking.seconds();
        set.recorder.ctl(0, &["pause", "--dn", "1011"])?;
        let paused = speaking.seconds();
        std::thread::sleep(Duration::from_millis(1500));
        let resume = speaking.seconds();
        let answer = set.recorder.ctl(0, &["resume", "--call-id", &talk.id()])?;
        ensure!(answer["call"]["paused"] == false, "after it was resumed: {answer}");
        std::thread::sleep(Duration::from_millis(1500));
        set.hang_up(speaking.stop()?, &talk)?;
        let summary = set.recorder.stop()?;
        ensure_nothing_lost(&summary)?;
        ensure!(!socket.exists(), "the control socket is left behind");

        let archive = set.recorder.archive();
        let audio = archive.audio(&archive.row("recordings")?)?;
        for channel in 0..2 {
            let heard = |from, to| audio.peak(channel, from, to);
            let (before, within, after) = (
                heard(0.5, pause),
                heard(paused + 0.05, resume - 0.05),
                heard(resume + COMMAND_S, resume + 1.0),
            );
            ensure!(
                before >= LOUD && within == 0 && after >= LOUD,
                "peaks before, within and after the pause: {before}, {within}, {after}"
            );
        }
        let verbs = set.triggers()?;
        ensure!(verbs == [("pause", "confirmed"), ("resume", "confirmed")].map(owned), "events: {verbs:?}");
        println!("  {:<7} paused for {:.1} s: nothing of it is there", source.name(), resume - paused);
        Ok(())
    }

    /// One call on demand, one that is ignored.
    fn by_hand(&self, source: Source) -> Result<()> {
        let mut set = self.set("by-hand", source)?;
        let (talk, speaking) = set.call(1, "1009")?;
        let (board, talking) = set.call(2, "1001")?;
        std::thread::sleep(Duration::from_secs(1));
        let list = set.recorder.ctl(0, &["list"])?;
        ensure!(list["matched"] == 2 && list["calls"][0]["call_id"] == board.id(), "the calls: {list}");
        let start = speaking.seconds();
        set.recorder.ctl(0, &["start", "--dn", "1009", "--note", "complaint"])?;
        std::thread::sleep(Duration::from_secs(2));
        let list = set.recorder.ctl(0, &["list", "--dn", "1009"])?;
        let id = list["calls"][0]["id"].as_str().context("an id")?.to_owned();
        ensure!(list["calls"][0]["trigger"] == "operator", "while it is recorded: {list}");
        let stop = speaking.seconds();
        set.recorder.ctl(0, &["stop", "--id", &id[..8]])?;
        set.recorder.ctl(1, &["start", "--dn", "1001"])?;
        set.recorder.ctl(1, &["start", "--dn", "4711"])?;
        set.hang_up(talking.stop()?, &board)?;
        set.hang_up(speaking.stop()?, &talk)?;
        set.recorder.stop()?;

        let archive = set.recorder.archive();
        let recording = archive.row("recordings")?;
        let seconds = archive.audio(&recording)?.seconds();
        let about = (seconds - (stop - start)).abs() < COMMAND_S;
        ensure!(about, "{seconds:.2} s are recorded, {:.2} s were asked for", stop - start);
        ensure!(recording["trigger"] == "operator", "the recording was caused by {}", recording["trigger"]);
        let verbs = set.triggers()?;
        let wanted = [("start", "confirmed"), ("stop", "confirmed"), ("start", "refused")].map(owned);
        ensure!(verbs == wanted, "events: {verbs:?}");
        let notes = archive.rows("events")?;
        let notes = notes.iter().filter(|row| row["kind"] == "note" && row["text"] == "complaint").count();
        ensure!(notes == 1, "{notes} notes are in the catalog");
        println!("  {:<7} started and stopped by hand: {seconds:.2} s recorded; two refusals", source.name());
        Ok(())
    }
}

fn owned((verb, outcome): (&str, &str)) -> (String, String) {
    (verb.to_owned(), outcome.to_owned())
}

impl Set {
    /// A call that goes on, and whose phones talk.
    fn call(&self, number: u8, caller: &str) -> Result<(Talk, Speaking)> {
        let talk = Talk::new(number, caller, "1010");
        let mut wire = Wire::open(&self.lab, PORT.0)?;
        wire.send_all(&talk.begin()?)?;
        Ok((talk.clone(), Speaking::begin(wire, &talk)))
    }

    /// And waits until that is known.
    fn hang_up(&mut self, mut wire: Wire, talk: &Talk) -> Result<()> {
        wire.send_all(&talk.end_by_caller()?)?;
        let id = talk.id();
        self.recorder.wait_for("call", SOON, |event| event["call_id"] == id).map(|_| ())
    }

    /// Verb and outcome of what was asked for by hand, in order.
    fn triggers(&self) -> Result<Vec<(String, String)>> {
        let mut rows = self.recorder.archive().rows("events")?;
        rows.retain(|row| row["trigger"] == "operator");
        rows.sort_by_key(|row| row["start"].to_string());
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        Ok(rows.iter().map(|row| (text(row, "verb"), text(row, "outcome"))).collect())
    }
}
