//! What spantape keeps: recordings as WAV, the Parquet catalog, and its queries.
//!
//! ```text
//! <archive>/recordings/YYYY/MM/DD/*.{wav,flac,opus}          finished recordings (spool, wav)
//! <archive>/recordings/YYYY/MM/DD/*.rtpdump                  what of them has no decoder (packets, rtpdump)
//! <archive>/recordings/YYYY/MM/DD/*.pcap                     their signalling and packets, if asked for (trace)
//! <archive>/keys/YYYY/MM/DD/*.key                            what those are encrypted with that end with .age (encrypt)
//! <archive>/manifests/                                       that all this is as it was (seal)
//! <archive>/catalog/<table>/day=YYYY-MM-DD/part-*.parquet    what is known of them (catalog, query)
//! <archive>/journal/                                         who has looked at what, what has gone and why (journal)
//! <archive>/spool/                                           recordings still going on (spool)
//! ```
//!
//! One that is recorded into is a directory. All but the spool can be copied to an object store and be read there (copy,
//! place, remote).

pub mod catalog;
mod columns;
#[cfg(feature = "remote")]
pub mod copy;
pub mod encrypt;
pub mod error;
pub mod finished;
pub mod journal;
mod keeper;
mod log;
mod packets;
mod partition;
mod place;
mod predicate;
pub mod query;
mod records;
mod recovery;
#[cfg(feature = "remote")]
mod remote;
pub mod repack;
pub mod retention;
mod room;
pub mod rows;
pub mod rtpdump;
mod scan;
pub mod schema;
pub mod seal;
pub mod spool;
mod trace;
pub mod utc;
pub mod wav;

#[cfg(test)]
#[path = "../tests/examples/mod.rs"]
mod testing;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use spantape_core::event::{Part, Signal};
use spantape_core::media::TapeId;
use spantape_core::record::{CallRow, EventRow, Id, QualityRow, RecordingRow, Side, StreamRow};
use spantape_core::rtp::Undecoded;

use crate::columns::{CALLS, EVENTS, QUALITY, RECORDINGS, STREAMS};
use crate::log::{Log, OpenTape};
use crate::recovery::{encrypt_logged, find_again, hash_logged, look_again, remove_others};
use crate::room::Room;
use crate::schema::{Written, json_row};

pub use crate::catalog::Catalog;
pub use crate::error::{Error, Result};
pub use crate::finished::Finished;
pub use crate::partition::check as check_archive;
pub use crate::place::Place;
pub use crate::query::{Query, QueryStats, Rows};
#[cfg(feature = "remote")]
pub use crate::remote::Remote;
pub use crate::room::Shortage;
pub use crate::schema::Table;
pub use crate::spool::{Saved, Spool, SpoolOptions};

/// An archive that is recorded into: its tapes and its catalog, and a log of what it is in the middle of.
#[derive(Debug)]
pub struct Archive {
    spool: Spool,
    catalog: Catalog,
    log: Log,
    recovered: Recovered,
    repeatable: bool,
    room: Room,
    /// Tapes for which there was no room.
    refused: HashSet<TapeId>,
    shortage: Shortage,
    /// Recordings that could not be hashed or encrypted yet, and so are in no catalog.
    incomplete: Vec<(RecordingRow, Saved)>,
    /// Files that something has taken the place of, and which could not be removed yet.
    replaced: Vec<String>,
}

/// How an archive is opened.
#[derive(Clone, Debug, Default)]
pub struct ArchiveOptions {
    /// How its tapes are kept.
    pub spool: SpoolOptions,
    /// What is not finished when the process is killed can be had once more, by replaying the same capture: the next
    /// one to open the archive removes it, instead of making an interrupted recording of it. And a disk that is full is
    /// an error: otherwise the recorder goes on, with what there is room for.
    pub repeatable: bool,
    /// Bytes that are to stay free for recordings that have begun: with less room none is begun any more. Rules that
    /// stand further down are refused earlier, the last of them with twice as much. Of no meaning if it is repeatable.
    pub reserve: u64,
}

/// What was found of an earlier process that was killed, or lost its power.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Rows that no part of the catalog had yet.
    pub rows: u64,
    /// Recordings that it was in the middle of.
    pub recordings: Vec<(RecordingRow, Saved)>,
    /// Tapes that were removed, because a replay gives them once more.
    pub removed: u64,
    /// What is to be known of calls that were up, in order of time, to go on with them.
    pub signals: Vec<Signal>,
    /// Entries of its log that cannot be read.
    pub damaged: u64,
}

impl Recovered {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self.rows == 0 && self.recordings.is_empty() && self.removed == 0 && self.damaged == 0
    }

    /// In a line for people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "the process that recorded into this archive before did not come to its end: {} recordings completed as \
             interrupted, {} rows brought to the catalog",
            self.recordings.len(),
            self.rows
        );
        if self.removed > 0 {
            text.push_str(&format!(", {} unfinished tapes of a replay removed", self.removed));
        }
        if self.damaged > 0 {
            text.push_str(&format!(", {} entries of its log are damaged", self.damaged));
        }
        text
    }
}

impl Archive {
    /// Opens an archive, which is created if it is not there. Only one process at a time may have it open.
    pub fn create(path: &Path) -> Result<Archive> {
        Archive::create_with(path, ArchiveOptions::default())
    }

    /// Opens an archive with other options than the default ones.
    ///
    /// What an earlier process has not finished is finished first: see [`Archive::recovered`].
    pub fn create_with(path: &Path, options: ArchiveOptions) -> Result<Archive> {
        place::must_be_directory(path)?;
        let node = options.spool.node.clone();
        partition::check_node(path, node.as_deref())?;
        let lock = spool::lock(path, node.as_deref())?;
        let dir = spool::dir_in(path, node.as_deref());
        let mut found = log::read(&dir)?;
        let mut recovered = Recovered { damaged: found.damaged, ..Recovered::default() };
        if found.repeatable {
            // A replay begins anew.
            found.signals.clear();
            found.tapes.values_mut().for_each(|tape| *tape = OpenTape::default());
            recovered.removed = found.tapes.len() as u64;
        }
        recovered.signals = found.signals.iter().map(|(_, signal)| signal.clone()).collect();
        let mut spool = Spool::go_on(path, options.spool, lock, std::mem::take(&mut found.tapes))?;
        found.signals.iter().for_each(|(call, signal)| spool.signal(*call, signal));
        let mut catalog = Catalog::open(path)?.of_node(node);
        let mut replaced = Vec::new();
        let finished = spool.finished();
        let mut rows = std::mem::take(&mut found.rows);
        let mut resolved = Vec::new();
        for (table, row) in &mut rows {
            if *table == Table::Recordings {
                find_again(&finished, row)?;
                remove_others(path, row.get("file").and_then(Value::as_str).unwrap_or_default())?;
                look_again(&finished, row)?;
                hash_logged(&finished, row);
                encrypt_logged(&finished, row, &mut replaced)?;
                resolved.push(row.clone());
            }
            match catalog.logged(*table, row)? {
                true => recovered.rows += 1,
                false => recovered.damaged += 1,
            }
        }
        let unfinished = spool.unfinished();
        for &id in &unfinished {
            for (row, saved) in spool.finish_tape(id)? {
                let id = Value::from(row.id.to_string());
                if resolved.iter().any(|logged| logged.get("recording_id") == Some(&id)) {
                    continue;
                }
                remove_others(path, &saved.file)?;
                let saved = finished.complete(&saved)?;
                replaced.extend(saved.replaces.iter().cloned());
                catalog.recording(&row, &saved)?;
                resolved.push(recording_row(&row, &saved));
                recovered.recordings.push((row, saved));
            }
        }
        // Should this process be killed in turn, the next one must not do once more what the catalog has by then.
        log::add(&dir, &found, &resolved)?;
        catalog.flush()?;
        replaced.iter().try_for_each(|before| spool::remove(&finished.path(before)))?;
        // Until the catalog has them, their tapes are all that the next process could know them by.
        unfinished.into_iter().try_for_each(|id| spool.close(id))?;
        let log = Log::create(&dir, options.repeatable, found.signals)?;
        Ok(Archive {
            spool,
            catalog,
            log,
            recovered,
            repeatable: options.repeatable,
            room: Room::new(path, options.reserve),
            refused: HashSet::new(),
            shortage: Shortage::default(),
            incomplete: Vec::new(),
            replaced: Vec::new(),
        })
    }

    /// What an earlier process had not finished.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Takes what is to be known of calls that were up when an earlier process ended.
    pub fn take_signals(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.recovered.signals)
    }

    /// What the next process has to know to go on with a call, should this one be killed.
    pub fn signal(&mut self, call: Id, signal: Signal) -> Result<()> {
        self.spool.signal(call, &signal);
        if self.repeatable {
            return Ok(());
        }
        let logged = self.log.signal(call, signal);
        self.tolerate(logged).map(drop)
    }

    /// See [`Spool::left`].
    pub fn left(&self) -> &[PathBuf] {
        self.spool.left()
    }

    /// What could not be kept for want of room.
    pub fn shortage(&self) -> &Shortage {
        &self.shortage
    }

    /// See [`Spool::open_tape`]. `rank` says which of how many rules it is for. Where there is no room for one of its
    /// rank, all that is said of the tape after that has no effect.
    pub fn open_tape(
        &mut self,
        id: TapeId,
        sample_rate: u32,
        channels: u16,
        (rank, of): (usize, usize),
    ) -> Result<()> {
        if !self.repeatable && !self.room.admits(rank, of) {
            self.refused.insert(id);
            self.shortage.refused += 1;
            return Ok(());
        }
        let logged = self.log.tape(id);
        self.spool.open_tape(id, sample_rate, channels);
        self.tolerate(logged).map(drop)
    }

    /// What of a tape is to be kept, should it not come to an end.
    pub fn keep(&mut self, id: TapeId, parts: Vec<Part>) -> Result<()> {
        if self.refused.contains(&id) {
            return Ok(());
        }
        let logged = self.log.kept(id, parts);
        self.tolerate(logged).map(drop)
    }

    /// See [`Spool::write`]. What there is no room for is silence.
    pub fn write(&mut self, id: TapeId, samples: &[i16]) -> Result<()> {
        self.append(id, samples.len(), |spool| spool.write(id, samples))
    }

    /// See [`Spool::write_channels`].
    pub fn write_channels(&mut self, id: TapeId, samples: &[i16]) -> Result<()> {
        self.append(id, samples.len(), |spool| spool.write_channels(id, samples))
    }

    fn append(
        &mut self,
        id: TapeId,
        samples: usize,
        write: impl FnOnce(&mut Spool) -> Result<()>,
    ) -> Result<()> {
        if self.refused.contains(&id) {
            return Ok(());
        }
        if !self.add_to(id, write)? {
            let frames = self.spool.silence_for(id, samples)?;
            self.shortage.frames += frames;
        }
        let flushed = self.spool.flush_packets(id);
        self.tolerate(flushed).map(drop)
    }

    /// See [`Spool::overdub`].
    pub fn overdub(&mut self, id: TapeId, channel: usize, frame: u64, samples: &[i16]) -> Result<()> {
        if self.refused.contains(&id) {
            return Ok(());
        }
        if !self.add_to(id, |spool| spool.overdub(id, channel, frame, samples))? {
            self.shortage.frames += samples.len() as u64;
        }
        Ok(())
    }

    /// See [`Spool::silence`].
    pub fn silence(&mut self, id: TapeId, frames: u64) -> Result<()> {
        if self.refused.contains(&id) {
            return Ok(());
        }
        self.spool.silence(id, frames)?;
        let flushed = self.spool.flush_packets(id);
        self.tolerate(flushed).map(drop)
    }

    /// See [`Spool::erase`]. What must not be kept and cannot be erased is an error, whatever the reason. Then, and when
    /// this process is killed in the middle of it, it is for the next one to erase it.
    pub fn erase(&mut self, id: TapeId, range: Range<u64>) -> Result<()> {
        if self.refused.contains(&id) {
            return Ok(());
        }
        // What comes behind these frames from now on may be kept.
        let (frames, sample_rate) = self.spool.on_tape(id, &range)?;
        let logged = self.log.erase(id, frames, sample_rate);
        self.tolerate(logged)?;
        self.spool.erase(id, range)?;
        let logged = self.log.erased(id);
        self.tolerate(logged).map(drop)
    }

    /// See [`Spool::raise_rate`]. Where there is no room for it, what follows is silence until an [`Archive::flush`] for
    /// which there is.
    pub fn raise_rate(&mut self, id: TapeId, sample_rate: u32) -> Result<()> {
        if self.refused.contains(&id) {
            return Ok(());
        }
        let raised = self.spool.raise_rate(id, sample_rate);
        self.tolerate(raised).map(drop)
    }

    /// See [`Spool::packet`].
    pub fn packet(
        &mut self,
        id: TapeId,
        side: Side,
        addresses: (SocketAddr, SocketAddr),
        packet: &Undecoded,
    ) -> Result<()> {
        if self.refused.contains(&id) {
            return Ok(());
        }
        let written = self.spool.packet(id, side, addresses, packet);
        self.tolerate(written).map(drop)
    }

    /// The files of recordings that are finished.
    pub fn finished(&self) -> Finished {
        self.spool.finished()
    }

    /// Makes a recording of a range of a tape ([`Spool::cut`]). It is not in the catalog until [`Archive::recording`] has
    /// added it. There is none where there was no room for its tape; and one that cannot be finished now will be with the
    /// next [`Archive::flush`] for which there is room.
    pub fn save(
        &mut self,
        id: TapeId,
        range: Range<u64>,
        left_out: &[Range<u64>],
        row: &RecordingRow,
        last: bool,
    ) -> Result<Option<Saved>> {
        if self.refused.contains(&id) {
            self.event(&EventRow {
                call: row.call,
                call_id: row.call_id.clone(),
                at: row.start,
                kind: "drop",
                trigger: "",
                verb: "",
                outcome: "",
                source: None,
                destination: None,
                text: "not recorded: too little room was left on the disk".to_owned(),
            })?;
            return Ok(None);
        }
        // From here on the tape may have become the recording.
        let logged = self.log.write();
        self.tolerate(logged)?;
        let saved = if self.spool.is_unfinished(id) {
            None
        } else {
            match self.spool.make(id, range.clone(), left_out, row, last) {
                Ok(saved) => Some(saved),
                Err(error) => {
                    self.tolerate(Err(error))?;
                    None
                }
            }
        };
        let Some(saved) = saved else {
            let (left_out, row) = (left_out.to_vec(), row.clone());
            self.spool.postpone(id, Part { range, left_out, row });
            return Ok(None);
        };
        let logged = self.log.awaited(row.id, &recording_row(row, &saved));
        self.tolerate(logged)?;
        if last {
            self.close(id)?;
        }
        Ok(Some(saved))
    }

    /// See [`Catalog::recording`]. What it replaces is removed. One that could not be hashed or encrypted
    /// ([`Finished::complete`]) waits for that: the next [`Archive::flush`] tries again, or the next process.
    pub fn recording(&mut self, row: &RecordingRow, saved: &Saved) -> Result<()> {
        if !self.spool.finished().is_complete(saved) {
            let logged = self.log.awaited(row.id, &recording_row(row, saved));
            self.tolerate(logged)?;
            self.incomplete.push((row.clone(), saved.clone()));
            return Ok(());
        }
        self.log.arrived(&row.id);
        let mut logged = self.log.row(Table::Recordings, &recording_row(row, saved));
        if !saved.replaces.is_empty() {
            // From here on the next process knows which of the two counts. A replay makes both once more.
            let written = if self.repeatable { Log::write } else { Log::sync };
            logged = logged.and_then(|()| written(&mut self.log));
        }
        let is_known = self.tolerate(logged)?;
        self.add_logged(Ok(()), |catalog| catalog.recording(row, saved))?;
        self.replaced.extend(saved.replaces.iter().cloned());
        if is_known { self.remove_replaced() } else { Ok(()) }
    }

    /// Removes what something has taken the place of; what cannot be removed now is the next time.
    fn remove_replaced(&mut self) -> Result<()> {
        let finished = self.spool.finished();
        for before in std::mem::take(&mut self.replaced) {
            let removed = spool::remove(&finished.path(&before));
            if !self.tolerate(removed)? {
                self.replaced.push(before);
            }
        }
        Ok(())
    }

    /// Makes a recording of a range of a tape ([`Archive::save`]) and adds it to the catalog.
    pub fn cut(
        &mut self,
        id: TapeId,
        range: Range<u64>,
        left_out: &[Range<u64>],
        row: &RecordingRow,
        last: bool,
    ) -> Result<Option<Saved>> {
        let saved = self.save(id, range, left_out, row, last)?;
        let Some(saved) = saved else { return Ok(None) };
        let saved = self.complete(saved)?;
        self.recording(row, &saved)?;
        Ok(Some(saved))
    }

    /// See [`Spool::close`]. What cannot be removed now will be with the next [`Archive::flush`], or by the next process.
    pub fn close(&mut self, id: TapeId) -> Result<()> {
        if self.refused.remove(&id) || self.spool.is_unfinished(id) || !self.spool.is_open(id) {
            return Ok(());
        }
        self.remove_tape(id)
    }

    /// See [`Catalog::call`].
    pub fn call(&mut self, row: &CallRow) -> Result<()> {
        self.spool.over(row.id);
        let logged = self.log.row(Table::Calls, &Written(CALLS, row)).and_then(|()| self.log.over(row.id));
        self.add_logged(logged, |catalog| catalog.call(row))
    }

    /// See [`Catalog::stream`].
    pub fn stream(&mut self, row: &StreamRow) -> Result<()> {
        let logged = self.log.row(Table::Streams, &Written(STREAMS, row));
        self.add_logged(logged, |catalog| catalog.stream(row))
    }

    /// See [`Catalog::event`].
    pub fn event(&mut self, row: &EventRow) -> Result<()> {
        let row = (row.clone(), columns::event_id(row));
        let logged = self.log.row(Table::Events, &Written(EVENTS, &row));
        self.add_logged(logged, |catalog| catalog.identified_event(&row))
    }

    /// See [`Catalog::quality`].
    pub fn quality(&mut self, row: &QualityRow) -> Result<()> {
        let logged = self.log.row(Table::Quality, &Written(QUALITY, row));
        self.add_logged(logged, |catalog| catalog.quality(row))
    }

    /// Writes what can wait no longer: after it, nothing that has been told here is lost when the process is killed.
    pub fn write_log(&mut self) -> Result<()> {
        let logged = self.log.write();
        self.tolerate(logged).map(drop)
    }

    /// Finishes what can be finished and writes the catalog ([`Catalog::flush`]).
    pub fn flush(&mut self) -> Result<()> {
        for id in self.spool.behind() {
            let raised = self.spool.catch_up(id);
            self.tolerate(raised)?;
        }
        self.finish_postponed()?;
        for (row, saved) in std::mem::take(&mut self.incomplete) {
            let saved = self.complete(saved)?;
            self.recording(&row, &saved)?;
        }
        // So that the next process knows in which parts of the catalog this one was, should it be killed there.
        self.write_log()?;
        let flushed = self.catalog.flush();
        if self.tolerate(flushed)? {
            let begun = self.log.begin_anew();
            if self.tolerate(begun)? {
                self.remove_replaced()?;
            }
        }
        Ok(())
    }

    /// Writes the rows that there are of some tables to the catalog, before it is flushed.
    pub fn flush_tables(&mut self, tables: &[Table]) -> Result<()> {
        self.write_log()?;
        tables.iter().try_for_each(|&table| {
            let flushed = self.catalog.flush_table(table);
            self.tolerate(flushed).map(drop)
        })
    }

    /// Adds to what is on a tape. A file that has to be brought to a higher rate first is copied: that may take long, and
    /// is not tried again each time.
    fn add_to(&mut self, id: TapeId, add: impl FnOnce(&mut Spool) -> Result<()>) -> Result<bool> {
        if self.spool.is_behind(id) {
            return Ok(false);
        }
        let added = add(&mut self.spool);
        self.tolerate(added)
    }

    /// Adds to the catalog a row that has been logged. Each failure stands alone: a row that could not be logged may
    /// still find its way into the catalog.
    fn add_logged(&mut self, logged: Result<()>, add: impl FnOnce(&mut Catalog) -> Result<()>) -> Result<()> {
        self.tolerate(logged)?;
        let kept = add(&mut self.catalog);
        self.tolerate(kept).map(drop)
    }

    /// What cannot be finished yet holds nothing else up.
    fn finish_postponed(&mut self) -> Result<()> {
        for id in self.spool.unfinished() {
            match self.spool.finish_tape(id) {
                Ok(finished) => {
                    for (row, saved) in finished {
                        let saved = self.complete(saved)?;
                        self.recording(&row, &saved)?;
                    }
                    self.remove_tape(id)?;
                }
                Err(error) => _ = self.tolerate(Err(error))?,
            }
        }
        Ok(())
    }

    /// One that cannot be hashed or encrypted now stays as it is until it can.
    fn complete(&mut self, saved: Saved) -> Result<Saved> {
        match self.spool.finished().complete(&saved) {
            Ok(complete) => Ok(complete),
            Err(error) => self.tolerate(Err(error)).map(|_| saved),
        }
    }

    fn remove_tape(&mut self, id: TapeId) -> Result<()> {
        // First what came of it, and that nothing more of it is to be kept: whatever happens, it is removed.
        let logged = self.log.kept(id, Vec::new());
        self.tolerate(logged)?;
        let closed = self.spool.close(id);
        if !self.tolerate(closed)? {
            self.spool.postpone_close(id);
            return Ok(());
        }
        let logged = self.log.closed(id);
        self.tolerate(logged).map(drop)
    }

    /// A disk that is full, or that fails, does not end a recorder that cannot have what it hears once more: whatever
    /// there is room for is kept. Returns whether all went well.
    fn tolerate(&mut self, result: Result<()>) -> Result<bool> {
        if self.repeatable { result.map(|()| true) } else { self.shortage.note(result) }
    }
}

fn recording_row(row: &RecordingRow, saved: &Saved) -> Map<String, Value> {
    json_row(RECORDINGS, &(row.clone(), saved.clone()))
}
