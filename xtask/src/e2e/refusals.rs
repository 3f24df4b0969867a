//! What cannot be captured is refused, with one line that says why and what to do.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::program;
use crate::lab::Bench;
use crate::lab::process::Running;
use crate::lab::recorder::{Interface, Order, Recorder, Source, set_link};
use crate::lab::switch::{Lab, MIRROR_PORTS};
use crate::programs::release_build;

const LIMIT: Duration = Duration::from_secs(10);
const REFUSED: i32 = 2;
/// A name that no interface has.
const UNKNOWN: &str = "nope0";
/// Of an XDP program that is not ours.
const FOREIGN: &str = "elsewhat";

pub(super) fn run() -> Result<()> {
    let scene =
        Scene { binary: release_build("spantape")?, bench: Bench::new()?, lab: Lab::without_phones()? };
    for source in ["auto", "xdp", "packet"] {
        scene
            .unknown_interface(source)
            .with_context(|| format!("{source}: an interface that is not there"))?;
        scene.no_privileges(source).with_context(|| format!("{source}: no privileges"))?;
        scene.link_is_down(source).with_context(|| format!("{source}: the interface is down"))?;
        scene.foreign_program(source).with_context(|| format!("{source}: somebody else's program"))?;
    }
    scene.program_there_already().context("a program is attached already")
}

struct Scene {
    binary: PathBuf,
    bench: Bench,
    lab: Lab,
}

const INTERFACE: &str = MIRROR_PORTS[0].1;

impl Scene {
    fn unknown_interface(&self, source: &str) -> Result<()> {
        let start = self.lab.at_monitor(&self.binary.to_string_lossy());
        let line = self.refusal(self.capture(start, UNKNOWN, source))?;
        ensure_says(&line, UNKNOWN, &["ip link", "eth0", "there are", "doctor"])?;
        println!("  {source:<7} {line}");
        Ok(())
    }

    fn no_privileges(&self, source: &str) -> Result<()> {
        let mut start = self.lab.at_monitor("setpriv");
        start.args(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]).arg(&self.binary);
        let line = self.refusal(self.capture(start, INTERFACE, source))?;
        ensure_says(&line, "", &["root", "sudo", "setcap", "cap_net", "CAP_NET"])?;
        ensure_left_alone(&self.lab)?;
        println!("  {source:<7} {line}");
        Ok(())
    }

    /// It may be refused, or waited for.
    fn link_is_down(&self, source: &str) -> Result<()> {
        set_link(&self.lab, INTERFACE, "down")?;
        let start = self.lab.at_monitor(&self.binary.to_string_lossy());
        let mut attempt = self.start(self.capture(start, INTERFACE, source))?;
        let end = Instant::now() + LIMIT;
        let ended = loop {
            let ended = attempt.process.ended()?;
            if ended.is_some() {
                break ended;
            }
            if attempt.complaints().contains("down") {
                // This may be the last thing that it says.
                std::thread::sleep(Duration::from_secs(1));
                break attempt.process.ended()?;
            }
            ensure!(Instant::now() < end, "it neither refuses nor says so: {}", attempt.complaints());
            std::thread::sleep(Duration::from_millis(50));
        };
        set_link(&self.lab, INTERFACE, "up")?;
        match ended {
            Some(_) => {
                let line = attempt.refused()?;
                ensure_says(&line, INTERFACE, &["ip link set", "up"])?;
                println!("  {source:<7} {line}");
            }
            None => {
                attempt.wait_until_started()?;
                attempt.process.signal("TERM")?;
                let status = attempt.process.wait(LIMIT)?;
                ensure!(status.code() == Some(0), "it ended with {status}: {}", attempt.complaints());
                println!("  {source:<7} waits for {INTERFACE}: {}", attempt.complaints().replace('\n', " "));
            }
        }
        ensure_left_alone(&self.lab)
    }

    fn foreign_program(&self, source: &str) -> Result<()> {
        let foreign = program::attach(&self.lab, INTERFACE, FOREIGN)?;
        let start = self.lab.at_monitor(&self.binary.to_string_lossy());
        let line = self.refusal(self.capture(start, INTERFACE, source))?;
        ensure_says(&line, FOREIGN, &[&format!("bpftool net show dev {INTERFACE}")])?;
        ensure!(Interface::look(&self.lab, INTERFACE)?.has_program, "{FOREIGN} is gone");
        drop(foreign);
        ensure_left_alone(&self.lab)?;
        println!("  {source:<7} {line}");
        Ok(())
    }

    /// Another recorder's program is as foreign as any.
    fn program_there_already(&self) -> Result<()> {
        let order = Order {
            binary: &self.binary,
            name: "first",
            source: Source::Xdp,
            interface: INTERFACE,
            config: None,
            options: &[],
        };
        let mut first = Recorder::start(&self.bench, &self.lab, &order)?;
        let start = self.lab.at_monitor(&self.binary.to_string_lossy());
        let line = self.refusal(self.capture(start, INTERFACE, "xdp"))?;
        ensure_says(&line, INTERFACE, &["ip link", "xdp off", "--source", "detach", "remove", "stop"])?;
        ensure!(Interface::look(&self.lab, INTERFACE)?.has_program, "the first one's program is gone");
        first.stop().context("the first one")?;
        ensure_left_alone(&self.lab)?;
        println!("  xdp     {line}");
        Ok(())
    }

    fn capture(&self, mut start: Command, interface: &str, source: &str) -> Command {
        start.args(["capture", "--json", "--interface", interface, "--source", source, "--archive"]);
        start.arg(self.bench.scratch.path().join("refused"));
        start
    }

    fn start(&self, mut command: Command) -> Result<Attempt> {
        let folder = self.bench.scratch.folder("attempt")?;
        let log = |name: &str| File::create(folder.join(name)).context("create a log");
        command.stdout(Stdio::from(log("stdout")?)).stderr(log("stderr")?);
        Ok(Attempt { process: Running::spawn("spantape", &mut command)?, folder })
    }

    /// The line with which a capture is refused.
    fn refusal(&self, command: Command) -> Result<String> {
        let mut attempt = self.start(command)?;
        attempt.process.wait(LIMIT).with_context(|| format!("it goes on; {}", attempt.complaints()))?;
        attempt.refused()
    }
}

/// A capture that may come to nothing.
struct Attempt {
    process: Running,
    folder: PathBuf,
}

impl Attempt {
    fn wait_until_started(&self) -> Result<()> {
        let end = Instant::now() + LIMIT;
        let said = || std::fs::read_to_string(self.folder.join("stdout")).unwrap_or_default();
        while !said().contains("\"started\"") {
            ensure!(Instant::now() < end, "it does not begin: {}", self.complaints());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn complaints(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default().trim().to_owned()
    }

    fn refused(&mut self) -> Result<String> {
        let complaints = self.complaints();
        let Some(status) = self.process.ended()? else { bail!("it goes on: {complaints}") };
        ensure!(status.code() == Some(REFUSED), "it ended with {status}: {complaints}");
        ensure!(complaints.lines().count() == 1, "not one line: {complaints}");
        Ok(complaints)
    }
}

fn ensure_says(line: &str, what: &str, remedies: &[&str]) -> Result<()> {
    ensure!(line.contains(what), "{what} is not named: {line}");
    ensure!(remedies.iter().any(|remedy| line.contains(remedy)), "no remedy is named: {line}");
    Ok(())
}

fn ensure_left_alone(lab: &Lab) -> Result<()> {
    Interface::ensure_clean(lab, INTERFACE)
}
