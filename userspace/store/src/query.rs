//! Searching the catalog.
//!
//! What is asked is pushed down as far as it goes: days that cannot match are not opened; of a part's row
//! groups those are read whose statistics and bloom filters allow a match; of a row group those pages
//! whose statistics do; and of a page's rows only those that pass have their other columns decoded.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use serde_json::{Map, Value};
use spantape_core::time::Timestamp;

use crate::error::{Error, Result, io, parquet};
use crate::partition;
use crate::place::Place;
use crate::predicate::{Predicate, Test};
#[cfg(feature = "remote")]
use crate::remote::{Ranged, Remote};
use crate::rows;
use crate::scan;
use crate::schema::{TIME_COLUMN, Table};
use crate::spool::EXTENSIONS;
use crate::utc::Day;

/// What to look for. Everything that is set must hold; the default finds every recording.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Where to look.
    pub table: Table,
    /// Who called: the user, exact or with `*` and `?`.
    pub from: Option<String>,
    /// Who was called.
    pub to: Option<String>,
    /// Who took part on either side.
    pub party: Option<String>,
    /// SIP Call-ID, exact or with `*` and `?`, or the call's `call_uid`.
    pub call_id: Option<String>,
    /// What the calls that belong together have in common: the whole id.
    pub conversation: Option<String>,
    /// The `call_uid` is one of these.
    pub calls: Option<Arc<HashSet<String>>>,
    /// The first digits of a recording's id, or its file, with or without directories.
    pub recording: Option<String>,
    /// Leave out what was over before.
    pub since: Option<Timestamp>,
    /// Leave out what began then or later.
    pub until: Option<Timestamp>,
    /// Shortest duration, in seconds.
    pub min_duration: Option<f64>,
    /// What caused the recording, or an event.
    pub trigger: Option<String>,
    /// A codec heard, with or without its clock rate, in any case.
    pub codec: Option<String>,
    /// Not more rows than these, the earliest.
    pub limit: Option<usize>,
}

/// What was read to answer a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Days opened.
    pub partitions: usize,
    /// Files opened.
    pub parts: usize,
    /// Row groups in these files.
    pub row_groups_total: usize,
    /// Row groups of which rows were read.
    pub row_groups_read: usize,
    /// Rows of which at least one column was decoded.
    pub rows_read: usize,
}

/// The rows found, in order of time; one batch a day.
#[derive(Debug)]
pub struct Rows {
    archive: Place,
    table: Table,
    predicates: Arc<[Predicate]>,
    days: std::vec::IntoIter<Day>,
    /// Answers of days that have been read ahead, the next one first.
    ahead: VecDeque<Result<Answer>>,
    left: usize,
    days_ahead: usize,
    threads: usize,
    stats: QueryStats,
}

impl Query {
    /// Starts the search. Files are read as the rows are taken.
    pub fn run(&self, archive: impl Into<Place>) -> Result<Rows> {
        let archive: Place = archive.into();
        partition::check(&archive)?;
        let mut stats = QueryStats::default();
        let mut predicates = self.predicates()?;
        if self.asks_of_calls() && !self.has("from_user") {
            predicates.push(self.calls(&archive, &mut stats)?);
        }
        let (first, last) = self.days();
        let mut days = partition::days(&archive, self.table)?;
        days.retain(|&day| first.is_none_or(|first| first <= day) && last.is_none_or(|last| day <= last));
        Ok(Rows {
            archive,
            table: self.table,
            predicates: predicates.into(),
            days: days.into_iter(),
            ahead: VecDeque::new(),
            left: self.limit.unwrap_or(usize::MAX),
            days_ahead: FIRST_DAYS,
            threads: thread::available_parallelism().map_or(1, usize::from),
            stats,
        })
    }

    /// All that is found, as [`rows::objects`] tells it.
    pub fn objects(&self, archive: impl Into<Place>) -> Result<Vec<Map<String, Value>>> {
        let mut found = Vec::new();
        for batch in self.run(archive)? {
            found.extend(rows::objects(&batch?));
        }
        Ok(found)
    }

    fn predicates(&self) -> Result<Vec<Predicate>> {
        let mut all = Vec::new();
        let mut add =
            |columns: &[&'static str], test| all.push(Predicate { columns: columns.to_vec(), test });
        if let Some(wanted) = &self.recording {
            self.demand("--recording", "recording_id")?;
            match full_name(wanted) {
                Some((_, file)) => add(&["file"], Test::Equals(file)),
                None if wanted.len() == 32 => {
                    add(&["recording_id"], Test::Equals(wanted.to_ascii_lowercase()));
                }
                None => add(&["recording_id"], Test::Prefix(wanted.to_ascii_lowercase())),
            }
        }
        if let Some(wanted) = &self.call_id {
            add(&["call_id", "call_uid"], Test::text(wanted));
        }
        if let Some(wanted) = &self.calls {
            add(&["call_uid"], Test::OneOf(wanted.clone()));
        }
        if self.has("from_user") {
            for (wanted, columns) in [
                (&self.from, &["from_user"][..]),
                (&self.to, &["to_user"][..]),
                (&self.party, &["from_user", "to_user"][..]),
                (&self.conversation, &["conversation_id"][..]),
            ] {
                if let Some(wanted) = wanted {
                    add(columns, Test::text(wanted));
                }
            }
        }
        if let Some(at) = self.until {
            add(&[TIME_COLUMN], Test::Before(at));
        }
        if let Some(at) = self.since {
            let column = if self.has("ended") { "ended" } else { TIME_COLUMN };
            add(&[column], Test::From(at));
        }
        if let Some(wanted) = &self.trigger {
            self.demand("--trigger", "trigger")?;
            add(&["trigger"], Test::text(wanted));
        }
        if let Some(least) = self.min_duration {
            self.demand("--min-duration", "duration_s")?;
            add(&["duration_s"], Test::AtLeast(least));
        }
        if let Some(wanted) = &self.codec {
            self.demand("--codec", "codecs")?;
            add(&["codecs"], Test::Codec(wanted.clone()));
        }
        Ok(all)
    }

    /// Streams and events do not name parties and conversation: they are those of the calls that do.
    fn calls(&self, archive: &Place, stats: &mut QueryStats) -> Result<Predicate> {
        let calls = Query {
            table: Table::Calls,
            from: self.from.clone(),
            to: self.to.clone(),
            party: self.party.clone(),
            call_id: self.call_id.clone(),
            conversation: self.conversation.clone(),
            since: self.since,
            until: self.until,
            ..Query::default()
        };
        let mut found = calls.run(archive)?;
        let mut ids = HashSet::new();
        for batch in &mut found {
            let batch = batch?;
            let column = batch.column_by_name("call_uid").map(rows::texts);
            ids.extend(column.into_iter().flatten());
        }
        *stats = found.stats();
        Ok(Predicate { columns: vec!["call_uid"], test: Test::OneOf(Arc::new(ids)) })
    }

    fn asks_of_calls(&self) -> bool {
        self.conversation.is_some() || self.from.is_some() || self.to.is_some() || self.party.is_some()
    }

    fn has(&self, column: &str) -> bool {
        self.table.schema().index_of(column).is_ok()
    }

    fn demand(&self, option: &'static str, column: &str) -> Result<()> {
        if self.has(column) {
            return Ok(());
        }
        let tables = Table::ALL.into_iter().filter(|table| table.schema().index_of(column).is_ok());
        let tables = tables.map(Table::as_str).collect::<Vec<_>>().join(", ");
        Err(Error::NotInTable { option, table: self.table, tables })
    }

    /// First and last day a match can have begun on.
    fn days(&self) -> (Option<Day>, Option<Day>) {
        if let Some((day, _)) = self.recording.as_deref().and_then(full_name) {
            return (Some(day), Some(day));
        }
        let look_back = if self.has("ended") { LOOK_BACK_DAYS } else { 0 };
        (self.since.map(|at| Day::of(at).before(look_back)), self.until.map(Day::of))
    }
}

impl Rows {
    /// What was read so far.
    pub fn stats(&self) -> QueryStats {
        self.stats
    }

    /// The rows of the next day that has any.
    fn next_day(&mut self) -> Option<Result<RecordBatch>> {
        while self.left > 0 {
            if self.ahead.is_empty() {
                self.read_ahead();
            }
            match self.ahead.pop_front()? {
                Err(error) => return Some(Err(error)),
                Ok((rows, stats)) => {
                    self.stats.add(stats);
                    let Some(rows) = rows else { continue };
                    let rows = rows.slice(0, rows.num_rows().min(self.left));
                    self.left -= rows.num_rows();
                    // Where something is found, more days ahead would only wait in memory.
                    self.days_ahead = FIRST_DAYS;
                    return Some(Ok(rows));
                }
            }
        }
        None
    }

    /// Reads some days: the more the longer nothing has been found.
    fn read_ahead(&mut self) {
        let days: Vec<Day> = self.days.by_ref().take(self.days_ahead).collect();
        self.days_ahead = MOST_DAYS.min(2 * self.days_ahead);
        self.ahead = match &self.archive {
            Place::Local(archive) => self.local(archive, &days),
            #[cfg(feature = "remote")]
            Place::Remote(remote) => self.remote(remote, &days),
        };
    }

    /// Days in a directory, on all cores: most of the time goes into looking at files that turn out to have nothing.
    fn local(&self, archive: &Path, days: &[Day]) -> VecDeque<Result<Answer>> {
        let threads = self.threads.min(days.len());
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(&day) = days.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((day, self.local_day(archive, day)));
            }
            done
        };
        let mut answers = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut answers = work();
            for other in others {
                match other.join() {
                    Ok(more) => answers.extend(more),
                    // As if this thread had read it: whoever catches that, may.
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            answers
        });
        answers.sort_unstable_by_key(|(day, _)| *day);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// A part that goes while the day is read has gone into another one, which may not have been there yet: the day is
    /// read once more.
    fn local_day(&self, archive: &Path, day: Day) -> Result<Answer> {
        for _ in 0..TRIES {
            if let Some(answer) = self.local_day_once(archive, day)? {
                return Ok(answer);
            }
            thread::sleep(PAUSE);
        }
        Err(Error::Restless { path: archive.join(partition::name(self.table, day)) })
    }

    /// `None` if a part has gone meanwhile.
    fn local_day_once(&self, archive: &Path, day: Day) -> Result<Option<Answer>> {
        let mut stats = QueryStats { partitions: 1, ..QueryStats::default() };
        let mut found = Vec::new();
        for path in partition::all_parts(archive, self.table, day)? {
            let file = match File::open(&path) {
                // Compacted or purged meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                file => file.map_err(io("open", &path))?,
            };
            stats.parts += 1;
            let batches = scan::part(file, &self.predicates, self.left, &mut stats);
            found.push(batches.map_err(parquet("read", &path))?);
        }
        Ok(Some((self.sorted(day, &found)?, stats)))
    }

    /// Days on an object store, whose parts are all asked for at once.
    #[cfg(feature = "remote")]
    fn remote(&self, remote: &Remote, days: &[Day]) -> VecDeque<Result<Answer>> {
        let dirs: Vec<String> = days.iter().map(|&day| partition::name(self.table, day)).collect();
        let parts = remote.parts(&dirs).and_then(|parts| {
            Ranged::begin(parts.iter().flatten())?;
            Ok(parts)
        });
        match parts {
            Ok(parts) => days.iter().zip(&parts).map(|(&day, parts)| self.remote_day(day, parts)).collect(),
            Err(error) => VecDeque::from([Err(error)]),
        }
    }

    /// A part that goes meanwhile is an error: what takes its place is not known yet.
    #[cfg(feature = "remote")]
    fn remote_day(&self, day: Day, parts: &[Ranged]) -> Result<Answer> {
        let mut stats = QueryStats { partitions: 1, ..QueryStats::default() };
        let mut found = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if !part.is_begun() {
                Ranged::begin(parts[index..].iter())?;
            }
            stats.parts += 1;
            let batches = scan::part(part.clone(), &self.predicates, self.left, &mut stats);
            found.push(batches.map_err(|error| part.failed(error))?);
        }
        Ok((self.sorted(day, &found)?, stats))
    }

    /// What the parts of a day have, in order.
    fn sorted(&self, day: Day, found: &[Vec<RecordBatch>]) -> Result<Option<RecordBatch>> {
        let sources = found.iter().filter(|batches| !batches.is_empty()).count();
        let found = found.concat();
        let Some(schema) = found.first().map(RecordBatch::schema) else { return Ok(None) };
        let all = concat_batches(&schema, &found);
        let all = all.and_then(|all| if sources > 1 { scan::sort(self.table, &all) } else { Ok(all) });
        let dir = self.archive.path(&partition::name(self.table, day));
        all.map(Some).map_err(parquet("read", &dir))
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_day()
    }
}

impl QueryStats {
    fn add(&mut self, other: QueryStats) {
        self.partitions += other.partitions;
        self.parts += other.parts;
        self.row_groups_total += other.row_groups_total;
        self.row_groups_read += other.row_groups_read;
        self.rows_read += other.rows_read;
    }
}

/// The rows of a day, if it has any, and what was read for them.
type Answer = (Option<RecordBatch>, QueryStats);

/// Days that are read at a time before the first of them is handed out: so many at first, and at most.
const FIRST_DAYS: usize = 8;
const MOST_DAYS: usize = 64;

/// How often a day is read whose parts go meanwhile, and how long is waited in between. Compacting changes a day once.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// What began so many days before `since` and was not over by then is still found.
const LOOK_BACK_DAYS: i64 = 7;

/// The day and the path within the archive that the name of a recording's file tells.
fn full_name(file: &str) -> Option<(Day, String)> {
    let name = file.rsplit('/').next()?;
    name.rsplit_once('.').filter(|(_, end)| EXTENSIONS.contains(end))?;
    let (year, month, day) = (name.get(..4)?, name.get(4..6)?, name.get(6..8)?);
    let date = Day::parse(&format!("{year}-{month}-{day}"))?;
    Some((date, format!("recordings/{year}/{month}/{day}/{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_by_any_of_its_names() {
        let name = "20231114T221321.000Z_1009_1010_00000001.wav";
        let full = format!("recordings/2023/11/14/{name}");
        for file in [name.to_owned(), full.clone(), format!("/srv/tape/{full}"), format!("./{name}")] {
            assert_eq!(full_name(&file), Some((Day::parse("2023-11-14").unwrap(), full.clone())));
        }
        assert_eq!(full_name("00000001"), None);
        assert_eq!(full_name("x.wav"), None);
        assert_eq!(full_name(&name.replace("wav", "pcap")), None);
        assert!(full_name(&name.replace("wav", "flac")).is_some());
    }

    #[test]
    fn an_option_that_a_table_lacks() {
        let query = Query { table: Table::Calls, codec: Some("pcmu".into()), ..Query::default() };
        let message = query.predicates().unwrap_err().to_string();
        assert_eq!(
            message,
            "the table `calls` cannot be searched by --codec; tables that can: recordings, streams"
        );
    }

    #[test]
    fn no_archive() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| Query::default().run(path).unwrap_err().to_string();
        assert!(error(&dir.path().join("x")).contains("x is no archive: there is no such directory; name"));
        assert!(error(dir.path()).contains("it has no directory `catalog`"));
    }
}
