//! What an archive is in the middle of, so that a crash loses none of it.
//!
//! ```text
//! <archive>/spool/log        a line for each row that no part of the catalog has yet, and for each open tape
//! ```
//!
//! Each line is a JSON object. A row is written here before anybody is told of it, and is gone from here once a part
//! of the catalog has it; what of a tape is to be kept is written here before it counts, and what is to be erased before
//! it goes. The log is begun anew, under another name that then takes its place, whenever the catalog has been written.
//! A line that was not finished is the last one, and counts for nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spantape_core::event::{Part, Signal};
use spantape_core::media::TapeId;
use spantape_core::record::Id;

use crate::error::{Result, io};
use crate::schema::Table;
use crate::spool;

/// Bytes that are collected before they are written, unless somebody must be able to rely on them.
const COLLECTED: usize = 64 << 10;
/// The longest line that is believed.
const LONGEST: u64 = 16 << 20;

/// Signals that are kept of a call, and how many of them are those that have begun it.
const MOST_SIGNALS: usize = 64;
const FIRST_SIGNALS: usize = 16;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// The first line: whether what is not finished can be had once more, by replaying the same capture.
    Run { repeatable: bool },
    /// A tape has been opened. Its file says in which format.
    Tape { id: TapeId },
    /// What is to be kept of a tape.
    Kept { id: TapeId, parts: Vec<Part> },
    /// Frames of a tape are about to be erased, as they must not be kept; and how many of them a second has.
    Erase { id: TapeId, range: Range<u64>, sample_rate: u32 },
    /// What was to be erased of a tape has been.
    Erased { id: TapeId },
    /// A tape is done with.
    Closed { id: TapeId },
    /// What the next process has to know to go on with a call.
    Signal { call: Id, signal: Signal },
    /// A call is over.
    Over { call: Id },
    /// A row of the catalog.
    Row { table: String, row: Map<String, Value> },
}

/// What is to be known of calls that are up, and of which.
pub(crate) type Signals = Vec<(Id, Signal)>;

/// What a log says of a tape that has not been closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenTape {
    /// What is to be kept of it.
    pub(crate) parts: Vec<Part>,
    /// What was to be erased of it and may not have been: frames, and how many of them a second has.
    pub(crate) erasing: Vec<(Range<u64>, u32)>,
}

/// What a log says.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Tapes that have not been closed.
    pub(crate) tapes: BTreeMap<TapeId, OpenTape>,
    /// Rows that no part of the catalog may have.
    pub(crate) rows: Vec<(Table, Map<String, Value>)>,
    /// What is to be known of calls that were up, in order of time.
    pub(crate) signals: Signals,
    over: Vec<Id>,
    /// What was not finished can be had once more, by replaying the same capture.
    pub(crate) repeatable: bool,
    /// Lines that cannot be read, but for one at the end that was not finished.
    pub(crate) damaged: u64,
    /// Bytes of all lines but that one.
    length: u64,
}

/// Adds to a log that was read what has become of recordings since: of what is said twice of one, the last counts.
pub(crate) fn add(spool: &Path, read: &Contents, recordings: &[Map<String, Value>]) -> Result<()> {
    if recordings.is_empty() {
        return Ok(());
    }
    let path = path_in(spool);
    let lines: Vec<u8> = recordings.iter().flat_map(|row| row_line(Table::Recordings, row)).collect();
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(io("open", &path))?;
    file.set_len(read.length)
        .and_then(|()| file.write_all_at(&lines, read.length))
        .and_then(|()| file.sync_data())
        .map_err(io("write", &path))
}

/// Reads a log. None is there before the first run.
pub(crate) fn read(spool: &Path) -> Result<Contents> {
    let path = path_in(spool);
    let mut contents = Contents::default();
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(contents),
        file => file.map_err(io("open", &path))?,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read =
            io::Read::take(&mut reader, LONGEST).read_until(b'\n', &mut line).map_err(io("read", &path))?;
        if read == 0 || line.last() != Some(&b'\n') {
            break;
        }
        contents.length += read as u64;
        match serde_json::from_slice(&line) {
            Ok(entry) => contents.take(entry),
            Err(_) => contents.damaged += 1,
        }
    }
    // Of what has been said twice of one recording, the last counts.
    let mut seen = HashSet::new();
    contents.rows.reverse();
    contents.rows.retain(|(table, row)| seen.insert((*table, row.get(table.id_column()).cloned())));
    contents.rows.reverse();
    let over: HashSet<Id> = contents.over.drain(..).collect();
    contents.signals.retain(|(call, _)| !over.contains(call));
    // Calls are in no order in a log that was begun anew. Signals of one are, and the sort leaves them so.
    contents.signals.sort_by_key(|(call, signal)| (signal.at, *call));
    Ok(contents)
}

impl Contents {
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Signal { call, signal } => self.signals.push((call, signal)),
            Entry::Run { repeatable } => self.repeatable = repeatable,
            Entry::Tape { id } => _ = self.tapes.entry(id).or_default(),
            Entry::Kept { id, parts } => {
                if let Some(tape) = self.tapes.get_mut(&id) {
                    tape.parts = parts;
                }
            }
            Entry::Erase { id, range, sample_rate } => {
                if let Some(tape) = self.tapes.get_mut(&id) {
                    tape.erasing.push((range, sample_rate));
                }
            }
            Entry::Erased { id } => {
                if let Some(tape) = self.tapes.get_mut(&id) {
                    tape.erasing.clear();
                }
            }
            Entry::Closed { id } => {
                self.tapes.remove(&id);
            }
            Entry::Over { call } => self.over.push(call),
            Entry::Row { table, row } => match table.parse() {
                Ok(table) => self.rows.push((table, row)),
                Err(_) => self.damaged += 1,
            },
        }
    }
}

/// The log of a run.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    file: File,
    /// Bytes of the file that are lines.
    written: u64,
    repeatable: bool,
    collected: Vec<u8>,
    /// The lines that still count of each tape: its own, what is to be kept of it, and what is to be erased.
    tapes: BTreeMap<TapeId, [Vec<u8>; 3]>,
    /// The lines of calls that are up.
    calls: HashMap<Id, Vec<Vec<u8>>>,
    /// The lines of recordings with which something is still done before the catalog has them.
    awaited: BTreeMap<Id, Vec<u8>>,
}

impl Log {
    /// Begins a log in the place of the one before. `repeatable` says that what is not finished can be had once more.
    pub(crate) fn create(spool: &Path, repeatable: bool, signals: Signals) -> Result<Log> {
        let mut calls: HashMap<Id, Vec<Vec<u8>>> = HashMap::new();
        for (call, signal) in signals {
            calls.entry(call).or_default().push(line(&Entry::Signal { call, signal }));
        }
        let lines: Vec<&[u8]> = calls.values().flatten().map(Vec::as_slice).collect();
        let (file, written) = begin(spool, repeatable, &lines)?;
        Ok(Log {
            dir: spool.to_owned(),
            file,
            written,
            repeatable,
            collected: Vec::new(),
            tapes: BTreeMap::new(),
            calls,
            awaited: BTreeMap::new(),
        })
    }

    /// A tape is about to be opened. On return that can be relied on: a file that the log does not know is taken for
    /// one of which nothing is known.
    pub(crate) fn tape(&mut self, id: TapeId) -> Result<()> {
        let line = line(&Entry::Tape { id });
        self.collected.extend(&line);
        self.tapes.entry(id).or_default()[0] = line;
        self.write()
    }

    /// What is to be kept of a tape. On return that can be relied on.
    pub(crate) fn kept(&mut self, id: TapeId, parts: Vec<Part>) -> Result<()> {
        let line = line(&Entry::Kept { id, parts });
        self.collected.extend(&line);
        self.tapes.entry(id).or_default()[1] = line;
        self.write()
    }

    /// What of a tape is about to be erased. On return that can be relied on.
    pub(crate) fn erase(&mut self, id: TapeId, range: Range<u64>, sample_rate: u32) -> Result<()> {
        let line = line(&Entry::Erase { id, range, sample_rate });
        self.collected.extend(&line);
        self.tapes.entry(id).or_default()[2].extend(line);
        self.write()
    }

    /// It has been. Nobody must be able to rely on that: erased once more, it is what it was.
    pub(crate) fn erased(&mut self, id: TapeId) -> Result<()> {
        if let Some(lines) = self.tapes.get_mut(&id) {
            lines[2].clear();
            self.collected.extend(line(&Entry::Erased { id }));
        }
        self.write_some()
    }

    /// A tape is done with.
    pub(crate) fn closed(&mut self, id: TapeId) -> Result<()> {
        if self.tapes.remove(&id).is_some() {
            self.collected.extend(line(&Entry::Closed { id }));
        }
        self.write_some()
    }

    /// What the next process has to know to go on with a call. Of very many that is told of one call those in the
    /// middle are given up: what has begun it counts, and what came last.
    pub(crate) fn signal(&mut self, call: Id, signal: Signal) -> Result<()> {
        let line = line(&Entry::Signal { call, signal });
        self.collected.extend(&line);
        let lines = self.calls.entry(call).or_default();
        if lines.len() >= MOST_SIGNALS {
            lines.remove(FIRST_SIGNALS);
        }
        lines.push(line);
        self.write_some()
    }

    /// A call is over.
    pub(crate) fn over(&mut self, call: Id) -> Result<()> {
        if self.calls.remove(&call).is_some() {
            self.collected.extend(line(&Entry::Over { call }));
        }
        self.write_some()
    }

    /// A row of the catalog, which becomes an object.
    pub(crate) fn row(&mut self, table: Table, row: &impl Serialize) -> Result<()> {
        add_row_line(&mut self.collected, table, row);
        self.write_some()
    }

    /// A recording that is there, and whose row comes later: until then this one counts.
    pub(crate) fn awaited(&mut self, id: Id, row: &impl Serialize) -> Result<()> {
        let line = row_line(Table::Recordings, row);
        self.collected.extend(&line);
        self.awaited.insert(id, line);
        self.write_some()
    }

    /// Its row has come.
    pub(crate) fn arrived(&mut self, id: &Id) {
        self.awaited.remove(id);
    }

    /// Writes what has been collected.
    pub(crate) fn write(&mut self) -> Result<()> {
        if self.collected.is_empty() {
            return Ok(());
        }
        let path = path_in(&self.dir);
        // Over whatever of it an attempt has left that failed in the middle.
        self.file.write_all_at(&self.collected, self.written).map_err(io("write", &path))?;
        self.written += self.collected.len() as u64;
        self.collected.clear();
        Ok(())
    }

    /// Writes what has been collected, so that it is there even if the machine stops.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.write()?;
        self.file.sync_data().map_err(io("write", &path_in(&self.dir)))
    }

    /// Begins anew: the catalog has all rows.
    pub(crate) fn begin_anew(&mut self) -> Result<()> {
        let lines =
            self.tapes.values().flatten().chain(self.calls.values().flatten()).chain(self.awaited.values());
        let lines: Vec<&[u8]> = lines.map(Vec::as_slice).collect();
        (self.file, self.written) = begin(&self.dir, self.repeatable, &lines)?;
        self.collected.clear();
        Ok(())
    }

    fn write_some(&mut self) -> Result<()> {
        if self.collected.len() < COLLECTED { Ok(()) } else { self.write() }
    }
}

fn path_in(spool: &Path) -> PathBuf {
    spool.join("log")
}

/// Returns the log and its length.
fn begin(dir: &Path, repeatable: bool, lines: &[&[u8]]) -> Result<(File, u64)> {
    let path = path_in(dir);
    let mut file = spool::new_file(dir, "log-", ".tmp").map_err(io("create a file in", dir))?;
    let mut text = line(&Entry::Run { repeatable });
    lines.iter().for_each(|line| text.extend_from_slice(line));
    file.write_all(&text).map_err(io("write", &path))?;
    file.as_file().sync_data().map_err(io("write", &path))?;
    let file = file.persist(&path).map_err(|error| io("rename into place", &path)(error.error))?;
    Ok((file, text.len() as u64))
}

/// An [`Entry::Row`] of a row that is no object yet.
fn row_line(table: Table, row: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    add_row_line(&mut line, table, row);
    line
}

fn add_row_line(lines: &mut Vec<u8>, table: Table, row: &impl Serialize) {
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Entry<'a, R> {
        Row { table: &'static str, row: &'a R },
    }
    add_line(lines, &Entry::Row { table: table.as_str(), row });
}

fn line(entry: &Entry) -> Vec<u8> {
    let mut line = Vec::new();
    add_line(&mut line, entry);
    line
}

fn add_line(lines: &mut Vec<u8>, entry: &impl Serialize) {
    let begin = lines.len();
    // Nothing in it has keys that are no texts, which is all that could go wrong.
    if serde_json::to_writer(&mut *lines, entry).is_err() {
        lines.truncate(begin);
    }
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::recording;

    fn part(n: u64) -> Part {
        Part { range: 5..Part::OPEN, left_out: vec![7..9, 11..12], row: recording(n) }
    }

    fn row(n: u64) -> Map<String, Value> {
        [("call_uid".to_owned(), Value::from(n))].into_iter().collect()
    }

    fn write_all(dir: &Path) -> Log {
        let mut log = Log::create(dir, false, Vec::new()).unwrap();
        log.tape(TapeId(1)).unwrap();
        log.tape(TapeId(2)).unwrap();
        log.row(Table::Calls, &row(1)).unwrap();
        log.kept(TapeId(2), vec![part(2)]).unwrap();
        log.closed(TapeId(1)).unwrap();
        log.row(Table::Events, &row(2)).unwrap();
        log.write().unwrap();
        log
    }

    fn check_tape(contents: &Contents) {
        let [(TapeId(2), tape)] = contents.tapes.iter().collect::<Vec<_>>()[..] else {
            panic!("{contents:?}")
        };
        let [kept] = &tape.parts[..] else { panic!("{tape:?}") };
        assert_eq!((kept.range.clone(), &kept.left_out[..]), (5..Part::OPEN, &[7..9, 11..12][..]));
        assert_eq!(format!("{:?}", kept.row), format!("{:?}", recording(2)));
    }

    #[test]
    fn what_was_said_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().rows.is_empty());
        let _log = write_all(dir.path());
        let contents = read(dir.path()).unwrap();
        check_tape(&contents);
        assert_eq!(contents.rows, [(Table::Calls, row(1)), (Table::Events, row(2))]);
        assert_eq!(contents.damaged, 0);
    }

    #[test]
    fn cut_off_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let _log = write_all(dir.path());
        let path = path_in(dir.path());
        let whole = fs::read(&path).unwrap();
        let mut rows = 2;
        for end in (0..whole.len()).rev() {
            fs::write(&path, &whole[..end]).unwrap();
            let contents = read(dir.path()).unwrap();
            assert_eq!(contents.damaged, 0, "{end}");
            assert!(contents.rows.len() <= rows, "{end}");
            rows = contents.rows.len();
        }
        assert_eq!(rows, 0);
    }

    #[test]
    fn lines_that_are_damaged_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let _log = write_all(dir.path());
        let path = path_in(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        let place = bytes.windows(8).position(|text| text == b"call_uid").unwrap() - 3;
        bytes[place..place + 2].fill(b'}');
        fs::write(&path, bytes).unwrap();
        let contents = read(dir.path()).unwrap();
        check_tape(&contents);
        assert_eq!((contents.damaged, contents.rows.len()), (1, 1));
    }

    #[test]
    fn what_was_written_in_part_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = write_all(dir.path());
        log.row(Table::Calls, &row(3)).unwrap();
        log.row(Table::Calls, &row(4)).unwrap();
        // The disk was full in the middle of the second line.
        let torn = log.collected.len() * 3 / 4;
        let mut file = File::options().append(true).open(path_in(dir.path())).unwrap();
        file.write_all(&log.collected[..torn]).unwrap();
        log.row(Table::Calls, &row(5)).unwrap();
        log.write().unwrap();
        let contents = read(dir.path()).unwrap();
        assert_eq!(contents.damaged, 0);
        assert_eq!(contents.rows[2..], [3, 4, 5].map(|n| (Table::Calls, row(n))));
    }

    #[test]
    fn what_is_to_be_erased_is_known_until_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = write_all(dir.path());
        let erasing = || read(dir.path()).unwrap().tapes[&TapeId(2)].erasing.clone();
        log.erase(TapeId(2), 3..5, 8000).unwrap();
        assert_eq!(erasing(), [(3..5, 8000)]);
        log.begin_anew().unwrap();
        assert_eq!(erasing(), [(3..5, 8000)]);
        log.erased(TapeId(2)).unwrap();
        log.write().unwrap();
        assert!(erasing().is_empty());
        log.begin_anew().unwrap();
        assert!(erasing().is_empty());
    }

    #[test]
    fn begun_anew_it_has_the_open_tapes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = write_all(dir.path());
        log.begin_anew().unwrap();
        log.row(Table::Calls, &row(3)).unwrap();
        log.write().unwrap();
        let contents = read(dir.path()).unwrap();
        check_tape(&contents);
        assert_eq!(contents.rows, [(Table::Calls, row(3))]);
    }
}
