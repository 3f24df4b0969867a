//! Deleting: first it is said what goes, then it goes.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use spantape_core::time::{SECOND, Timestamp};

use super::kept::{Kept, Watch};
use super::{Retention, hold, rows_of_calls};
use crate::encrypt::{SUFFIX, clear_name};
use crate::error::{Result, io};
use crate::journal::{self, Book};
use crate::query::Query;
use crate::repack::{self, Order};
use crate::rows::text_of;
use crate::schema::Table;
use crate::seal::{Entry, hash};
use crate::{keeper, spool, utc};

/// What is to go.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// What has been kept long enough, at that moment.
    Expired(Retention, Timestamp),
    /// The recordings that a query finds, and with [`Plan::rows`] the calls that it finds.
    Found(Box<Query>),
}

/// A recording that is to go.
#[derive(Clone, Debug)]
pub struct Doomed {
    /// Its row.
    pub row: Map<String, Value>,
    /// Its files that are there, relative to the archive.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

/// What would go, and what stays because it is held.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Recordings, in order of time.
    pub recordings: Vec<Doomed>,
    /// Calls whose rows go from every table.
    pub calls: BTreeSet<String>,
    /// Recordings and calls that stay, and the name of the hold.
    pub held: Vec<(Map<String, Value>, String)>,
}

/// What has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Recordings.
    pub recordings: u64,
    /// Their files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Calls whose rows have gone.
    pub calls: u64,
    /// Recordings that were to go, and stay because they have been held since it was planned.
    pub held: u64,
}

/// Says what would go. With `with_rows` also what the catalog says of calls that have no other recording.
pub fn plan(archive: &Path, wanted: &Wanted, with_rows: bool) -> Result<Plan> {
    let holds = hold::in_force(archive)?;
    let mut plan = Plan::default();
    let recordings = match wanted {
        Wanted::Expired(retention, now) => match retention.least() {
            Some(days) => {
                let until = Some(days_before(*now, days));
                let is_expired = |row: &Map<String, Value>| {
                    let days = retention.of(text_of(row, "rule"));
                    days.zip(time(row, "ended")).is_some_and(|(days, at)| at < days_before(*now, days))
                };
                Query { until, ..Query::default() }.objects(archive)?.into_iter().filter(is_expired).collect()
            }
            None => Vec::new(),
        },
        Wanted::Found(query) => query.objects(archive)?,
    };
    let calls = match wanted {
        Wanted::Expired(Retention { catalog: Some(days), .. }, now) => {
            let until = days_before(*now, *days);
            let mut calls =
                Query { table: Table::Calls, until: Some(until), ..Query::default() }.objects(archive)?;
            calls.retain(|row| time(row, "ended").is_some_and(|at| at < until));
            calls
        }
        Wanted::Found(query) if with_rows && !is_of_recordings(query) => {
            Query { table: Table::Calls, ..*query.clone() }.objects(archive)?
        }
        _ => Vec::new(),
    };
    let uids_of = |rows: &[Map<String, Value>]| -> BTreeSet<String> {
        rows.iter().map(|row| text_of(row, "call_uid").to_owned()).collect()
    };
    let of_any = uids_of(&recordings).into_iter().chain(uids_of(&calls)).collect();
    let kept = Kept::of(archive, holds, &Arc::new(of_any))?;
    let mut going = HashSet::new();
    for row in recordings {
        let files = files(archive, &row);
        if let Some(hold) = kept.recording(&row) {
            plan.held.push((row, hold));
        } else if !files.is_empty() || with_rows {
            let size = |file: &String| fs::metadata(archive.join(file)).map_or(0, |metadata| metadata.len());
            going.insert(text_of(&row, "recording_id").to_owned());
            plan.recordings.push(Doomed { bytes: files.iter().map(size).sum(), row, files });
        }
    }
    let mut uids: BTreeSet<String> = BTreeSet::new();
    for row in calls {
        match kept.call(text_of(&row, "call_uid")) {
            Some(hold) => plan.held.push((row, hold)),
            None => _ = uids.insert(text_of(&row, "call_uid").to_owned()),
        }
    }
    if with_rows {
        uids.extend(plan.recordings.iter().map(|doomed| text_of(&doomed.row, "call_uid").to_owned()));
    }
    // A call that keeps a recording keeps its rows, and so does one of which a recording is held that has gone.
    let mut keep: HashSet<String> = uids.iter().filter(|uid| kept.call(uid).is_some()).cloned().collect();
    if !uids.is_empty() {
        let calls = Some(Arc::new(uids.iter().cloned().collect()));
        let query = Query { calls, ..Query::default() };
        for row in query.objects(archive)? {
            if !going.contains(text_of(&row, "recording_id")) && !files(archive, &row).is_empty() {
                keep.insert(text_of(&row, "call_uid").to_owned());
            }
        }
    }
    keep.extend(plan.held.iter().map(|(row, _)| text_of(row, "call_uid").to_owned()));
    plan.calls = uids.into_iter().filter(|uid| !keep.contains(uid)).collect();
    Ok(plan)
}

/// Carries a plan out, but for what has been held since. A tombstone is written before anything goes, so that whatever
/// happens it is told; recordings that were not finished are found again by the next plan, and rows of calls by the next
/// one who looks after the archive. `progress` is told of each recording.
pub fn purge(archive: &Path, plan: &Plan, order: &Order, mut progress: impl FnMut()) -> Result<Purged> {
    let _lock = keeper::lock(archive)?;
    repack::recover(archive)?;
    let mut purged = Purged::default();
    let of_recordings = plan.recordings.iter().map(|doomed| text_of(&doomed.row, "call_uid").to_owned());
    let mut watch = Watch::new(archive, of_recordings.chain(plan.calls.iter().cloned()).collect());
    for Doomed { row, .. } in &plan.recordings {
        // Who places a hold waits until this recording has gone, or is kept.
        let _holds = hold::lock(archive)?;
        if watch.kept()?.recording(row).is_some() {
            purged.held += 1;
            progress();
            continue;
        }
        // It may be called otherwise since it was planned.
        let files = files(archive, row);
        let entries = files.iter().map(|file| entry(archive, row, file)).collect::<Result<Vec<_>>>()?;
        purged.bytes += entries.iter().map(|entry| entry.bytes).sum::<u64>();
        if !entries.is_empty() {
            let id = text_of(row, "recording_id").to_owned();
            journal::append(archive, &Book::Deletions, &order.tombstone(Some(id), entries))?;
        }
        // The key first: without it the rest is nothing.
        for file in files.iter().rev() {
            spool::remove(&archive.join(file))?;
            purged.files += 1;
        }
        purged.recordings += 1;
        progress();
    }
    purged.calls = rows_of_calls::remove(archive, &plan.calls, &mut watch, order)?;
    Ok(purged)
}

/// Whether it is said what recordings must be like, or how many of them there may be: no other calls are meant than theirs.
fn is_of_recordings(query: &Query) -> bool {
    let Query { recording, trigger, codec, min_duration, limit, .. } = query;
    recording.is_some() || trigger.is_some() || codec.is_some() || min_duration.is_some() || limit.is_some()
}

/// The files of a recording that are there in any of the forms that it may have, its key last. Of one that was killed while
/// it was encoded or encrypted, several are. A row that names one outside of the archive has none.
pub(super) fn files(archive: &Path, row: &Map<String, Value>) -> Vec<String> {
    let file = text_of(row, "file");
    let named =
        ["caller_rtpdump", "callee_rtpdump"].map(|column| clear_name(text_of(row, column)).to_owned());
    let beside = named.into_iter().chain(spool::beside(file));
    let beside = beside.flat_map(|name| [format!("{name}{SUFFIX}"), name]);
    let all = [file.to_owned()].into_iter().chain(spool::siblings(file)).chain(beside);
    there(archive, all.chain([spool::key_name(file), text_of(row, "key").to_owned()]))
}

/// The files of a recording that are there as its row names them, its key last.
#[cfg(feature = "remote")]
pub(crate) fn named(archive: &Path, row: &Map<String, Value>) -> Vec<String> {
    let file = text_of(row, "file");
    let trace = spool::trace_name(file);
    let names = ["caller_rtpdump", "callee_rtpdump"].map(|column| text_of(row, column).to_owned());
    let all = [file.to_owned()].into_iter().chain(names).chain([format!("{trace}{SUFFIX}"), trace]);
    there(archive, all.chain([text_of(row, "key").to_owned()]))
}

/// Those of these files that are there and ours, each once.
fn there(archive: &Path, names: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in
        names.filter(|name| spool::leads_into(name, &["recordings", "keys"]) && archive.join(name).is_file())
    {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn entry(archive: &Path, row: &Map<String, Value>, file: &str) -> Result<Entry> {
    let path = archive.join(file);
    let bytes = fs::metadata(&path).map_err(io("look at", &path))?.len();
    let known =
        Some(text_of(row, "sha256")).filter(|sha256| file == text_of(row, "file") && !sha256.is_empty());
    let sha256 = known.map_or_else(|| hash(&path), |sha256| Ok(sha256.to_owned()))?;
    Ok(Entry { path: file.to_owned(), bytes, sha256 })
}

fn days_before(now: Timestamp, days: u32) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::from(days).saturating_mul(86_400 * SECOND)))
}

pub(super) fn time(row: &Map<String, Value>, column: &str) -> Option<Timestamp> {
    utc::parse(text_of(row, column))
}
