//! What the figures were measured on, and where they are kept.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::workspace;

/// Whatever of a machine and its tools moves the figures. The host's name is not among it.
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
    commit: String,
}

impl Machine {
    pub(super) fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, Into::into);
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: cpu_model(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores,
            kernel: kernel.trim().to_owned(),
            rustc: said_by(&rustc, &["--version"]),
            commit: said_by("git", &["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]),
        }
    }

    /// Part of a folder's name.
    fn name(&self) -> String {
        let words = self.cpu.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
        let words = words.split(|letter: char| !letter.is_ascii_alphanumeric());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        format!("{}-{}c", words.join("-"), self.cores)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "kernel": self.kernel,
            "rustc": self.rustc,
            "commit": self.commit,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "CPU     {}, {} cores", self.cpu, self.cores)?;
        writeln!(f, "kernel  {}", self.kernel)?;
        writeln!(f, "rustc   {}", self.rustc)?;
        writeln!(f, "commit  {}", self.commit)
    }
}

/// What a bench has found, to be kept.
pub(super) trait Findings: fmt::Display {
    /// What was measured and with which parameters, as part of a file's name.
    fn stem(&self) -> String;

    fn json(&self) -> Value;
}

/// What becomes of the figures.
#[derive(clap::Args)]
pub(super) struct Output {
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Keep the figures below tests/bench-runs
    #[arg(long)]
    save: bool,
    /// Name of this machine below tests/bench-runs [default: its CPU model]
    #[arg(long, requires = "save")]
    machine: Option<String>,
}

impl Output {
    /// Prints the figures, and keeps them where that is asked for.
    pub(super) fn publish(&self, figures: &impl Findings) -> Result<()> {
        let machine = Machine::this();
        if self.json {
            println!("{:#}", json!({ "machine": machine.json(), "figures": figures.json() }));
        } else {
            // Some end with a line's end.
            println!("{}", figures.to_string().trim_end());
        }
        if self.save {
            let path = save(figures, &machine, self.machine.as_deref())?;
            eprintln!("kept in {}", path.display());
        }
        Ok(())
    }
}

/// Keeps the figures below `tests/bench-runs/`, beside those of the same day and machine.
fn save(figures: &impl Findings, machine: &Machine, name: Option<&str>) -> Result<PathBuf> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H%M%S").to_string();
    let (day, time) = now.split_once(' ').context("the date and the time")?;
    let name = name.map_or_else(|| machine.name(), str::to_owned);
    let folder = workspace()?.join("tests").join("bench-runs").join(format!("{day}-{name}"));
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let stem = format!("{time}-{}", figures.stem());
    let raw = json!({ "machine": machine.json(), "figures": figures.json() });
    let text = format!("{machine}\n{figures}\n");
    for (extension, content) in [("json", format!("{raw:#}\n")), ("txt", text)] {
        let path = folder.join(format!("{stem}.{extension}"));
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(folder.join(format!("{stem}.txt")))
}

fn cpu_model(info: &str) -> String {
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    // ARM kernels do not name the model.
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// A version that cannot be found out is no reason to throw the figures away.
fn said_by(program: &str, args: &[&str]) -> String {
    let said = workspace().and_then(|at| Ok(Command::new(program).args(args).current_dir(at).output()?));
    match said {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_for_the_cpu() {
        let info = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) CPU @ 2.80GHz\n";
        let machine = Machine { cpu: cpu_model(info), cores: 2, ..Machine::this() };
        assert_eq!(machine.name(), "intel-xeon-cpu-2-80ghz-2c");
    }
}
