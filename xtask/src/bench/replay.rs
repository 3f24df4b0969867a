//! `cargo xtask bench replay`: the floor program and spantape in turn, on the same file.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::figures::{Figures, Limits, Pair};
use super::load::Load;
use super::machine::Output;
use super::measure::{self, Cost};
use super::{folder, verify};
use crate::programs;

/// What `cargo xtask bench replay` understands.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    load: Load,
    /// The first and the last call begin so many seconds apart [default: 4]: as long as a call, and calls end all the time
    #[arg(long, value_name = "SECONDS")]
    spread: Option<u32>,
    /// Replay with one thread as well, and say how many times as fast it is with more
    #[arg(long)]
    speed_up: bool,
    /// Run the floor once more, and have it hash what it has written as an archive must
    #[arg(long)]
    hashed: bool,
    /// What is kept of the audio
    #[arg(long, value_enum, default_value_t = Keep::Pcm)]
    keep: Keep,
    /// Threads of spantape [default: as many as there are processors]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Runs of each program
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Measure this build of spantape and make none
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder for what the programs write [default: target/bench]; in memory, it leaves the disk out
    #[arg(long)]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    /// Fail when a limit is exceeded
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    limits: Limits,
}

/// What spantape keeps of the audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Keep {
    /// WAV of 16 bits, as it does unless it is told otherwise
    Pcm,
    /// WAV of µ-law, as the phones have sent it
    Ulaw,
    /// Nothing: the catalog alone
    Nothing,
}

impl Keep {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pcm => "WAV of 16 bits",
            Self::Ulaw => "WAV of µ-law",
            Self::Nothing => "no audio",
        }
    }
}

/// Measures, prints, keeps and judges, in this order: a failed check costs no figures.
pub(super) fn run(args: &Args) -> Result<()> {
    let figures = Bench::new(args)?.figures(args.runs)?;
    args.output.publish(&figures)?;
    if args.check { figures.check(args.limits) } else { Ok(()) }
}

struct Bench {
    load: Load,
    spread: Option<u32>,
    speed_up: bool,
    hashed: bool,
    keep: Keep,
    threads: Option<u16>,
    file: PathBuf,
    /// Everything the programs write is below it.
    outputs: PathBuf,
    xtask: PathBuf,
    spantape: PathBuf,
}

impl Bench {
    fn new(args: &Args) -> Result<Self> {
        measure::check_machine()?;
        let xtask = programs::optimised_xtask()?;
        let spantape = match &args.binary {
            Some(binary) => binary.clone(),
            None => programs::release_build("spantape")?,
        };
        let folder = folder()?;
        let file = args.load.in_folder(&folder, args.spread)?;
        let outputs = args.scratch.as_ref().unwrap_or(&folder).join("spantape-bench-outputs");
        Ok(Self {
            load: args.load,
            spread: args.spread,
            speed_up: args.speed_up,
            hashed: args.hashed,
            keep: args.keep,
            threads: args.threads,
            file,
            outputs,
            xtask,
            spantape,
        })
    }

    fn figures(&self, runs: u32) -> Result<Figures> {
        // A run that failed has left its output for a look at it.
        if self.outputs.exists() {
            remove(&self.outputs)?;
        }
        create(&self.outputs)?;
        // Neither program is to pay for the disk because it comes first.
        let mut file = File::open(&self.file).with_context(|| format!("open {}", self.file.display()))?;
        std::io::copy(&mut file, &mut std::io::sink()).context("read the load")?;
        let mut pairs = Vec::new();
        for run in 1..=runs {
            let folder = self.outputs.join(run.to_string());
            create(&folder)?;
            let (floor, spantape) =
                (self.floor(&folder, false)?, self.spantape(&folder, "archive", self.threads)?);
            let alone = self.speed_up.then(|| self.spantape(&folder, "alone", Some(1))).transpose()?;
            let hashed = self.hashed.then(|| self.floor(&folder, true)).transpose()?;
            eprintln!("run {run}: floor {:.2} s, spantape {:.2} s CPU", floor.cpu_s, spantape.cpu_s);
            pairs.push(Pair { floor, spantape, alone, hashed });
        }
        remove(&self.outputs)?;
        Ok(Figures { load: self.load, begun_in: self.spread, keep: self.keep, threads: self.threads, pairs })
    }

    fn floor(&self, folder: &Path, hash: bool) -> Result<Cost> {
        let out = folder.join(if hash { "hashed" } else { "floor" });
        let mut args = vec!["bench".as_ref(), "floor".as_ref(), self.file.as_os_str(), out.as_os_str()];
        args.extend(hash.then(|| OsStr::new("--hash")));
        let (cost, _) = self.measure(&self.xtask, &args)?;
        verify::floor(self.load, &out)?;
        empty(&out)?;
        Ok(cost)
    }

    fn spantape(&self, folder: &Path, name: &str, threads: Option<u16>) -> Result<Cost> {
        let archive = folder.join(name);
        let [replay, option, json] = ["replay", "--archive", "--json"].map(OsStr::new);
        let config = folder.join("config.toml");
        let mut args = vec![replay, self.file.as_os_str(), option, archive.as_os_str(), json];
        match self.keep {
            Keep::Pcm => {}
            Keep::Ulaw => {
                std::fs::write(&config, "[audio]\nformat = \"wav-ulaw\"\n")
                    .context("write a configuration")?;
                args.extend([OsStr::new("--config"), config.as_os_str()]);
            }
            Keep::Nothing => args.push(OsStr::new("--no-audio")),
        }
        let threads = threads.map(|threads| format!("--threads={threads}"));
        args.extend(threads.as_deref().map(OsStr::new));
        let (cost, summary) = self.measure(&self.spantape, &args)?;
        verify::spantape(self.load, self.keep != Keep::Nothing, &summary, &archive)?;
        empty(&archive)?;
        Ok(cost)
    }

    fn measure(&self, program: &Path, args: &[&OsStr]) -> Result<(Cost, Vec<u8>)> {
        measure::run(program, args, &self.outputs.join("cost"))
    }
}

/// Cuts all files to nothing at once after the run, so that they are not written to the disk during the next.
///
/// They are not deleted yet: ext4 avoids inodes that were deleted a short while ago, and searches them one by one
/// for each new file. With thousands of files that search takes more CPU than the recording.
fn empty(folder: &Path) -> Result<()> {
    for (path, _) in verify::files(folder)? {
        File::create(&path).with_context(|| format!("cut {}", path.display()))?;
    }
    Ok(())
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}
