//! `cargo xtask bench search`: look-ups in a catalog of ten million calls, in turn with DuckDB on the same files.
//!
//! Each look-up is made in three ways: by the library, as a whole process (`spantape search`), and by DuckDB. They
//! have the same keys and must find as many rows. Blocks of a few keys take turns, so that what disturbs the machine
//! disturbs all three.

mod calls;
mod duckdb;
mod figures;
mod look_up;

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spantape_store::{Query, rows};

use self::calls::Year;
use self::duckdb::DuckDb;
use self::figures::{Figures, Measured};
use self::look_up::{LookUp, options};
use super::machine::Output;
use super::{folder, verify};
use crate::programs;

/// Keys that one way looks up before the next has its turn.
const BLOCK: u64 = 5;

/// What `cargo xtask bench search` understands.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    year: Year,
    /// Keys of each look-up, all different
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(20..=1000))]
    keys: u64,
    /// Folder in which the catalog is kept, and found again by the next run [default: target/bench]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Measure this build of spantape and make none
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Measures, prints, keeps and judges, in this order: a failed check costs no figures.
pub(super) fn run(args: &Args) -> Result<()> {
    let figures = Bench::new(args)?.figures(args.keys)?;
    args.output.publish(&figures)?;
    figures.check()
}

/// How it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Library,
    Process,
    DuckDb,
}

impl Way {
    const ALL: [Self; 3] = [Self::Library, Self::Process, Self::DuckDb];

    fn name(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Process => "process",
            Self::DuckDb => "duckdb",
        }
    }
}

/// How long it took, and how many rows or days were found.
#[derive(Clone, Copy, Debug)]
struct Answer {
    ms: f64,
    rows: u64,
}

struct Bench {
    year: Year,
    archive: PathBuf,
    spantape: PathBuf,
    duckdb: DuckDb,
}

impl Bench {
    fn new(args: &Args) -> Result<Self> {
        let spantape = match &args.binary {
            Some(binary) => binary.clone(),
            None => programs::release_build("spantape")?,
        };
        let folder = match &args.keep {
            Some(folder) => folder.clone(),
            None => folder()?,
        };
        let archive = args.year.in_folder(&folder)?;
        let duckdb = DuckDb::start(&archive)?;
        Ok(Self { year: args.year, archive, spantape, duckdb })
    }

    fn figures(mut self, keys: u64) -> Result<Figures> {
        self.warm_up(keys)?;
        let mut measured: Vec<Measured> = LookUp::ALL.into_iter().map(Measured::new).collect();
        for begin in (0..keys).step_by(BLOCK as usize) {
            let block = begin..keys.min(begin + BLOCK);
            for found in &mut measured {
                let answers = self.block(found.look_up, block.clone())?;
                found.answers.iter_mut().zip(answers).for_each(|(all, more)| all.extend(more));
            }
            eprintln!("{} of {keys} keys", block.end);
        }
        Ok(Figures { year: self.year, duckdb: self.duckdb.version.clone(), measured })
    }

    /// Nobody is to pay for the disk, or for what DuckDB remembers of the files, because it comes first.
    fn warm_up(&mut self, keys: u64) -> Result<()> {
        eprintln!("reading {}", self.archive.display());
        for (path, _) in verify::files(&self.archive)? {
            let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            std::io::copy(&mut file, &mut std::io::sink())
                .with_context(|| format!("read {}", path.display()))?;
        }
        // Not with the keys that are measured.
        LookUp::ALL.into_iter().try_for_each(|look_up| self.block(look_up, keys..keys + BLOCK).map(drop))
    }

    /// What each way finds, and how long it takes for that. Every block begins with another one.
    fn block(&mut self, look_up: LookUp, keys: Range<u64>) -> Result<[Vec<Answer>; 3]> {
        let mut turns = Way::ALL;
        turns.rotate_left((keys.start / BLOCK) as usize % Way::ALL.len());
        let queries: Vec<Query> = keys.map(|key| look_up.query(self.year, key)).collect();
        let mut answers: [Vec<Answer>; 3] = Default::default();
        for way in turns {
            answers[way as usize] = match way {
                Way::Library => {
                    queries.iter().map(|query| self.library(look_up, query)).collect::<Result<_>>()?
                }
                Way::Process => {
                    queries.iter().map(|query| self.process(look_up, query)).collect::<Result<_>>()?
                }
                Way::DuckDb => self.duckdb.ask(look_up, &queries)?,
            };
        }
        let [library, process, theirs] = &answers;
        for (at, query) in queries.iter().enumerate() {
            let [ours, printed, theirs] = [library, process, theirs].map(|answers| answers[at].rows);
            ensure!(
                ours == printed && ours == theirs,
                "{}: the library finds {ours}, the process {printed}, DuckDB {theirs}: {query:?}",
                look_up.name()
            );
        }
        Ok(answers)
    }

    fn library(&self, look_up: LookUp, query: &Query) -> Result<Answer> {
        let begin = Instant::now();
        let rows = search(&self.archive, query, look_up.by_day())?;
        Ok(Answer { ms: milliseconds(begin), rows })
    }

    /// From its start to its end.
    fn process(&self, look_up: LookUp, query: &Query) -> Result<Answer> {
        let mut command = Command::new(&self.spantape);
        command.args(["search", "--format", "json", "--archive"]).arg(&self.archive);
        for (name, value) in options(query) {
            command.arg(format!("--{name}")).arg(value);
        }
        let begin = Instant::now();
        let out = command.output().with_context(|| format!("run {}", self.spantape.display()))?;
        let ms = milliseconds(begin);
        // It ends with 1 when there is nothing.
        let is_done = matches!(out.status.code(), Some(0 | 1));
        ensure!(is_done, "{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
        let rows: Vec<Value> = serde_json::from_slice(&out.stdout).context("what it prints is no JSON")?;
        let starts = rows.iter().filter_map(|row| row["start"].as_str());
        let rows = if look_up.by_day() { days(starts) } else { rows.len() as u64 };
        Ok(Answer { ms, rows })
    }
}

/// How many rows there are, or on how many days.
fn search(archive: &Path, query: &Query, by_day: bool) -> Result<u64> {
    let mut found = 0;
    for batch in query.run(archive)? {
        let batch = batch?;
        found += if by_day {
            let starts: Vec<String> = rows::cells(&batch, &["start"]).flatten().collect();
            // All rows of a day are in one batch.
            days(starts.iter().map(String::as_str))
        } else {
            batch.num_rows() as u64
        };
    }
    Ok(found)
}

/// How many days there are in moments as RFC 3339 has them.
fn days<'a>(moments: impl Iterator<Item = &'a str>) -> u64 {
    moments.filter_map(|moment| moment.get(..10)).collect::<BTreeSet<_>>().len() as u64
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_once() {
        let moments = ["2025-01-01T23:59:59.000Z", "2025-01-02T00:00:00.000Z", "2025-01-02T00:00:00.001Z"];
        assert_eq!(days(moments.into_iter()), 2);
    }
}
