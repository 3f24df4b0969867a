//! What the next process finds in an archive.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use spantape_store::{Query, Result, Table, rows, seal};

use crate::script::{Script, open};

/// Rows, and signals of calls that are up, by table and id.
pub(crate) type Rows = BTreeMap<String, String>;

/// What is found, and what of it is wrong.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: Rows,
    /// Recordings, and what lies beside them.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) wrong: Vec<String>,
    /// Names of recordings, without what they end with.
    stems: Vec<String>,
}

impl Found {
    /// Opens an archive as the next live recorder does, and looks at all that is in it.
    pub(crate) fn in_archive(path: &Path) -> Found {
        let mut found = Found::default();
        let read = found.recover(path).and_then(|()| found.read(path));
        if let Err(error) = read {
            found.wrong.push(error.to_string().replace(&path.display().to_string(), ""));
        }
        found
    }

    pub(crate) fn ensure(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.wrong.push(otherwise.to_owned());
        }
    }

    fn recover(&mut self, path: &Path) -> Result<()> {
        let mut next = open(Script::Live, path)?;
        for signal in next.take_signals() {
            self.rows.insert(format!("signal {}", signal.at.0), format!("{signal:?}"));
        }
        self.ensure(next.recovered().damaged == 0, "the log is damaged");
        drop(next);
        let again = open(Script::Live, path)?;
        self.ensure(again.recovered().is_empty(), "opened once more, there is still something to do");
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        for finding in seal::verify(path, None, |_| {})?.findings {
            self.wrong.push(format!("verify finds: {finding}"));
        }
        for table in Table::ALL {
            let batches = Query { table, ..Query::default() }.run(path)?;
            for batch in batches {
                let batch = batch?;
                rows::objects(&batch).for_each(|row| self.take_row(path, table, row));
            }
        }
        let there = ["catalog", "recordings", "spool"].into_iter().flat_map(|dir| files(path, dir));
        let there: Vec<String> = there.collect();
        // It is the last recording of the only tape that has any.
        let are_kept = there.iter().any(|file| file.ends_with("_00000002.callee.rtpdump"));
        let are_aside = there.iter().any(|file| file.ends_with(".packets-left"));
        self.ensure(!(are_kept && are_aside), "packets are put aside that a recording has");
        there.into_iter().for_each(|file| self.take_file(path, file));
        Ok(())
    }

    fn take_row(&mut self, path: &Path, table: Table, mut row: Map<String, Value>) {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = format!("{table} {}", text(row.get(table.id_column())));
        if table == Table::Recordings {
            self.stems.push(text(row.get("file")).trim_end_matches("wav").to_owned());
        }
        // Packets may be lost, but then they are not named.
        for column in ["caller_rtpdump", "callee_rtpdump"] {
            let packets = text(row.remove(column).as_ref());
            self.ensure(path.join(packets).exists(), "a row names packets that are not there");
        }
        let before = self.rows.insert(name.clone(), Value::Object(row).to_string());
        self.ensure(before.is_none(), &format!("{name} is there twice"));
    }

    /// Whatever is there has a reason.
    fn take_file(&mut self, path: &Path, file: String) {
        let name = file.rsplit('/').next().unwrap_or_default();
        let is_recording = file.starts_with("recordings/");
        let is_right = if file.starts_with("catalog/") {
            name.starts_with("part-")
        } else if is_recording {
            self.stems.iter().any(|stem| file.starts_with(stem.as_str()))
        } else {
            // Packets of a tape that was not closed are put aside.
            ["lock", "log"].contains(&name) || name.ends_with(".packets-left")
        };
        let what = if name.starts_with('.') { "a temporary file of the catalog" } else { file.as_str() };
        self.ensure(is_right, &format!("{what} is left over"));
        if is_recording {
            let bytes = fs::read(path.join(&file)).unwrap();
            self.files.insert(file, bytes);
        }
    }
}

/// The files in a directory of an archive, by their paths in the archive.
fn files(archive: &Path, dir: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(archive.join(dir)) else { return Vec::new() };
    let found = entries.flat_map(|entry| {
        let entry = entry.unwrap();
        let path = format!("{dir}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() { files(archive, &path) } else { vec![path] }
    });
    found.collect()
}
