//! A `spantape capture` that is running, and what it says.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::Bench;
use super::archive::Archive;
use super::process::Running;
use super::switch::Lab;

/// A program is loaded, sockets are bound, rings are filled.
const START: Duration = Duration::from_secs(15);
/// What is in flight is finished.
const STOP: Duration = Duration::from_secs(10);

/// Where frames are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Xdp,
    Packet,
}

impl Source {
    pub(crate) const ALL: [Source; 2] = [Source::Xdp, Source::Packet];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Packet => "packet",
        }
    }
}

/// How it is to be called.
pub(crate) struct Order<'a> {
    pub(crate) binary: &'a Path,
    /// Told apart by it from others that run at the same time.
    pub(crate) name: &'a str,
    pub(crate) source: Source,
    pub(crate) interface: &'a str,
    pub(crate) config: Option<&'a Path>,
    pub(crate) options: &'a [&'a str],
}

impl Order<'_> {
    /// What to run at the monitor after `start`, which is `spantape` or leads to it.
    pub(crate) fn arguments(&self, mut start: Command, archive: &Path) -> Command {
        start.args(["capture", "--json", "--interface", self.interface, "--source", self.source.name()]);
        start.arg("--archive").arg(archive);
        if let Some(config) = self.config {
            start.arg("--config").arg(config);
        }
        start.args(self.options);
        start
    }
}

/// It is killed when this goes.
pub(crate) struct Recorder {
    process: Running,
    said: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
    complaints: PathBuf,
    archive: Archive,
    binary: PathBuf,
    name: String,
}

impl Recorder {
    /// Starts one at the monitor, and waits until it captures.
    pub(crate) fn start(bench: &Bench, lab: &Lab, order: &Order<'_>) -> Result<Self> {
        let folder = bench.scratch.folder(&format!("recorder-{}", order.name))?;
        let archive = Archive::new(order.binary, &folder.join("archive"));
        let complaints = folder.join("stderr");
        let start = lab.at_monitor(&order.binary.to_string_lossy());
        let mut command = order.arguments(start, archive.path());
        let stderr = File::create(&complaints).context("create a log")?;
        command.stdout(Stdio::piped()).stderr(stderr);
        let mut process = Running::spawn("spantape", &mut command)?;
        let stdout = process.stdout().context("the output of spantape")?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(stdout).lines();
        let reader = Some(std::thread::spawn({
            let said = Arc::clone(&said);
            move || listen(lines, &said)
        }));
        let (binary, name) = (order.binary.to_owned(), order.name.to_owned());
        let mut recorder = Self { process, said, reader, complaints, archive, binary, name };
        let started = recorder.wait_for("started", START, |_| true)?;
        let (source, interface) = (order.source.name(), order.interface);
        ensure!(
            started["source"] == source && started["interface"] == interface,
            "{} says that it captures otherwise than asked: {started}",
            recorder.name
        );
        Ok(recorder)
    }

    pub(crate) fn archive(&self) -> &Archive {
        &self.archive
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has said under that name so far.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().filter(|event| event["event"] == kind).cloned().collect()
    }

    /// What it says, or has said already, under that name and is `accepted`.
    pub(crate) fn wait_for(
        &mut self,
        kind: &str,
        limit: Duration,
        accepted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let end = Instant::now() + limit;
        loop {
            // Asked before: what is said last is still read.
            let ended = self.process.ended()?;
            if ended.is_some() {
                self.reader.take().map(JoinHandle::join);
            }
            if let Some(event) = self.events(kind).into_iter().find(|event| accepted(event)) {
                return Ok(event);
            }
            if let Some(status) = ended {
                bail!("{} ended with {status} before it said `{kind}`: {}", self.name, self.complaints());
            }
            if Instant::now() > end {
                let last = self.said.lock().unwrap_or_else(PoisonError::into_inner).last().cloned();
                bail!(
                    "{} does not say `{kind}` within {} s; last it said {}; it complains: {}",
                    self.name,
                    limit.as_secs(),
                    last.unwrap_or_default(),
                    self.complaints()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What `spantape ctl` prints when it tells the recorder something; with that exit code it must end.
    pub(crate) fn ctl(&self, code: i32, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        command.arg("ctl").args(arguments).arg("--json").arg("--archive").arg(self.archive.path());
        let out = command.output().context("run spantape ctl")?;
        ensure!(
            out.status.code() == Some(code),
            "spantape ctl {} ends with {}: {}",
            arguments.join(" "),
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
        if code != 0 {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&out.stdout).context("read what spantape ctl says")
    }

    /// For how long its threads have run.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let threads = format!("/proc/{}/task", self.process.id());
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(&threads).with_context(|| format!("read {threads}"))? {
            // One may end in this moment.
            let figures = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += figures.split(' ').next().and_then(|ran| ran.parse().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// All of standard error.
    pub(crate) fn complaints(&self) -> String {
        std::fs::read_to_string(&self.complaints).unwrap_or_default().trim().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// Waits for its end, and for all that it has said.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = self.process.wait(limit)?;
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| anyhow!("what {} says could not be read", self.name))?;
        }
        Ok(status)
    }

    /// Ends it as a service manager does, and returns its summary.
    pub(crate) fn stop(&mut self) -> Result<Value> {
        self.signal("TERM")?;
        let status = self.wait(STOP)?;
        ensure!(status.code() == Some(0), "{} ended with {status}: {}", self.name, self.complaints());
        let unreadable = self.events(NO_JSON);
        ensure!(unreadable.is_empty(), "{} prints what is no JSON: {}", self.name, unreadable[0]["line"]);
        let [summary] = &self.events("summary")[..] else {
            bail!("{} says {} summaries at its end", self.name, self.events("summary").len());
        };
        Ok(summary.clone())
    }
}

/// The name under which a line is kept that is no JSON.
const NO_JSON: &str = "(no JSON)";

fn listen(lines: impl Iterator<Item = std::io::Result<String>>, said: &Mutex<Vec<Value>>) {
    for line in lines.map_while(Result::ok) {
        let no_json = || serde_json::json!({ "event": NO_JSON, "line": line });
        let event = serde_json::from_str(&line).unwrap_or_else(|_| no_json());
        said.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Of a summary: that nothing was lost on the way, and that every buffer came back.
pub(crate) fn ensure_nothing_lost(summary: &Value) -> Result<()> {
    let drops = summary["drops"].as_object().context("the summary has no `drops`")?;
    ensure!(!drops.is_empty(), "the summary counts no drops at all");
    for (place, count) in drops {
        ensure!(count.as_u64() == Some(0), "{count} frames were lost: {place}");
    }
    match &summary["umem"] {
        Value::Null => {}
        umem => ensure!(umem["leaked"].as_u64() == Some(0), "buffers were lost: {umem}"),
    }
    Ok(())
}

/// What an interface of the monitor is like, for whoever looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) has_program: bool,
    pub(crate) promiscuity: u64,
}

impl Interface {
    pub(crate) fn look(lab: &Lab, interface: &str) -> Result<Self> {
        let out = lab.at_monitor("ip").args(["-json", "-details", "link", "show", interface]).output();
        let out = out.context("run ip")?;
        let links: Value = serde_json::from_slice(&out.stdout).context("read what ip says")?;
        let link = &links[0];
        Ok(Self {
            has_program: !link["xdp"].is_null(),
            promiscuity: link["promiscuity"].as_u64().context("ip does not tell the promiscuity")?,
        })
    }

    /// As it was before anything captured. The kernel tidies up after a killed program in its own time.
    pub(crate) fn ensure_clean(lab: &Lab, interface: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            let now = Self::look(lab, interface)?;
            if now == (Self { has_program: false, promiscuity: 0 }) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{interface} is not left as it was: {now:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Takes the monitor's end of a mirror port down or up.
pub(crate) fn set_link(lab: &Lab, interface: &str, state: &str) -> Result<()> {
    let out = lab.at_monitor("ip").args(["link", "set", interface, state]).output().context("run ip")?;
    ensure!(
        out.status.success(),
        "ip link set {interface} {state}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}
