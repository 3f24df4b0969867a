//! The load of the replay bench, live: with somebody who watches.

use std::fmt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::super::figures::rounded;
use super::super::load::{Load, SPREAD};
use super::clocks::{self, Clocks};
use super::send::Frames;
use super::trial::{Sender, Stage, wire};
use crate::lab::process::{Running, run};
use crate::lab::recorder::Source;
use crate::lab::switch::{Lab, MIRROR_PORTS};

/// What has come of it.
pub(super) struct RealTime {
    source: Source,
    pub(super) load: Load,
    recordings: u64,
    refused: u64,
    own_s: f64,
    seconds: f64,
    peak_mb: f64,
}

const START: Duration = Duration::from_secs(15);
const STOP: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(1);

impl RealTime {
    /// Captures on a terminal, so that the status line is drawn. It is an error if anything is lost.
    pub(super) fn run(stage: &Stage, source: Source, load: Load) -> Result<Self> {
        let done = Self::watched(stage, source, load).with_context(|| source.name());
        stage.forget()?;
        done
    }

    fn watched(stage: &Stage, source: Source, load: Load) -> Result<Self> {
        let lab = Lab::without_phones()?;
        let [(_, interface), _] = MIRROR_PORTS;
        let folder = stage.bench.scratch.folder("watched")?;
        let [archive, screen, summary] = ["archive", "screen", "summary"].map(|name| folder.join(name));
        // The shell is replaced by the recorder, whose standard error alone is the terminal.
        let command = format!(
            "exec {} capture --interface {interface} --archive {} --source {} >{}",
            stage.spantape.display(),
            archive.display(),
            source.name(),
            summary.display()
        );
        let mut script = lab.at_monitor("script");
        script.args(["-q", "-e", "-f", "-c", &command]).arg(&screen);
        script.stdout(Stdio::null()).stderr(Stdio::null());
        let mut script = Running::spawn("script", &mut script)?;
        let read = |path| std::fs::read(path).map_or_else(|_| String::new(), |text| lossy(&text));
        wait_until(START, || read(&screen).contains("listening to"))
            .with_context(|| format!("the recorder says: {}", read(&screen)))?;
        let recorder = clocks::child_of(script.id()).context("the recorder below script")?;

        let mut sender = Sender::start(stage, &lab, load, SPREAD, 0, Frames::Socket)?;
        let (before, begun) = (Clocks::read()?, Instant::now());
        sender.finish()?;
        std::thread::sleep(SETTLE);
        let own_s = Clocks::read()?.since(&before, &[], Some(recorder)).own_s;
        let (seconds, peak_mb) = (begun.elapsed().as_secs_f64(), clocks::peak_mb(recorder)?);
        let (_, refused) = wire(&lab)?;
        run(&format!("kill -TERM {recorder}"))?;
        let status = script.wait(STOP)?;
        let (screen, summary) = (read(&screen), read(&summary));
        ensure!(status.success(), "the recorder ended with {status}: {screen}");
        ensure!(screen.contains("calls up"), "there was no status line: {screen:?}");
        let recordings = figure(&summary, "recordings").with_context(|| format!("no summary: {summary}"))?;
        let dropped = summary.lines().find(|line| line.starts_with("dropped"));
        if let Some(dropped) = dropped.filter(|_| refused == 0) {
            bail!("something was lost: {dropped}");
        }
        ensure!(recordings == u64::from(load.calls), "{recordings} recordings of {} calls", load.calls);
        Ok(Self { source, load, recordings, refused, own_s, seconds, peak_mb })
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "receiver": self.source.name(),
            "calls": self.load.calls,
            "seconds": self.load.seconds,
            "recordings": self.recordings,
            "refused_by_wire": self.refused,
            "own_s": rounded(self.own_s),
            "wall_s": rounded(self.seconds),
            "peak_mb": rounded(self.peak_mb),
        })
    }
}

impl fmt::Display for RealTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, recordings, refused, own_s, seconds, peak_mb, .. } = self;
        write!(
            f,
            "{:<10} {recordings} recordings, nothing lost, {refused} refused by the wire; {own_s:.2} s CPU in \
             {seconds:.1} s, {peak_mb:.1} MB",
            source.name()
        )
    }
}

/// A line of the summary begins with the name.
fn figure(summary: &str, name: &str) -> Option<u64> {
    let line = summary.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn wait_until(limit: Duration, done: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !done() {
        ensure!(Instant::now() < end, "nothing within {} s", limit.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_summary() {
        let summary = "frames       12\nrecordings   7\n";
        assert_eq!(figure(summary, "recordings"), Some(7));
        assert_eq!(figure(summary, "calls"), None);
    }
}
