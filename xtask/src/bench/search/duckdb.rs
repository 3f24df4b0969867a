//! DuckDB, in a Python process of its own: `search.py` has the other end.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};
use spantape_store::Query;

use super::Answer;
use super::look_up::{LookUp, options};
use crate::workspace;

/// One connection, which stays.
pub(super) struct DuckDb {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    pub(super) version: String,
}

impl DuckDb {
    pub(super) fn start(archive: &Path) -> Result<Self> {
        let python = interpreter();
        let script = workspace()?.join("xtask/src/bench/search.py");
        let mut command = Command::new(&python);
        command.arg(script).arg(archive).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("run {}", python.display()))?;
        let requests = child.stdin.take().context("no pipe to python")?;
        let replies = BufReader::new(child.stdout.take().context("no pipe from python")?);
        let mut duckdb = Self { child, requests, replies, version: String::new() };
        let hello = duckdb.reply().with_context(|| {
            format!(
                "{} needs duckdb and pyarrow: install them (pip install duckdb pyarrow), or name another Python with \
                 SPANTAPE_PYTHON",
                python.display()
            )
        })?;
        duckdb.version = hello["duckdb"].as_str().context("DuckDB does not tell its version")?.to_owned();
        Ok(duckdb)
    }

    /// One look-up after the other; the time of each is that of the query alone.
    pub(super) fn ask(&mut self, look_up: LookUp, queries: &[Query]) -> Result<Vec<Answer>> {
        let asked: Vec<Value> = queries.iter().map(|query| object(options(query))).collect();
        let request = json!({ "by_day": look_up.by_day(), "queries": asked });
        writeln!(self.requests, "{request}").context("ask DuckDB")?;
        let reply = self.reply()?;
        let answers = reply["answers"].as_array().context("DuckDB does not answer")?;
        ensure!(answers.len() == queries.len(), "DuckDB answers {} of {}", answers.len(), queries.len());
        let answer =
            |answer: &Value| Some(Answer { ms: answer["ms"].as_f64()?, rows: answer["rows"].as_u64()? });
        answers.iter().map(|found| answer(found).context("an answer of DuckDB is not complete")).collect()
    }

    fn reply(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.replies.read_line(&mut line).context("read what DuckDB answers")?;
        if line.is_empty() {
            bail!("DuckDB has ended");
        }
        serde_json::from_str(&line).context("what DuckDB answers is no JSON")
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn object(options: Vec<(&'static str, String)>) -> Value {
    let members = options.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
    Value::Object(members.collect::<Map<String, Value>>())
}

/// `$SPANTAPE_PYTHON`, or the one that the checks use, or whatever there is.
fn interpreter() -> PathBuf {
    if let Some(named) = std::env::var_os("SPANTAPE_PYTHON") {
        return named.into();
    }
    let home: OsString = std::env::var_os("HOME").unwrap_or_default();
    let of_checks = Path::new(&home).join(".cache/spantape-ci/python/bin/python");
    if of_checks.is_file() { of_checks } else { "python3".into() }
}
