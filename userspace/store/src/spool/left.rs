//! What an earlier process has left behind, and what could not be finished for want of room.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use spantape_core::event::{Part, kept};
use spantape_core::media::TapeId;
use spantape_core::record::{EndReason, Id, RecordingRow, Side};
use spantape_core::time::SECOND;

use super::files::{Files, Tape, outward, path_in};
use super::names::{existing, file_name, packets_path, rtpdump_name, trace_path};
use super::{Lock, SIDES, Saved, Spool, SpoolOptions, dir_in, remove};
use crate::error::{Result, io};
use crate::log::OpenTape;
use crate::trace::{Signals, Trace};
use crate::wav::HEADER_LEN;

impl Spool {
    /// Opens the spool of an archive in which an earlier process was in the middle of these tapes.
    pub(crate) fn go_on(
        archive: &Path,
        options: SpoolOptions,
        lock: Lock,
        known: BTreeMap<TapeId, OpenTape>,
    ) -> Result<Spool> {
        let dir = dir_in(archive, options.node.as_deref());
        let mut tapes = HashMap::new();
        for &id in known.keys() {
            tapes.extend(Tape::found(&path_in(&dir, id))?.map(|tape| (id, tape)));
        }
        for (id, tape) in &known {
            for side in SIDES {
                // Also where nobody has asked for what they carry.
                let is_done = tape.parts.iter().all(|part| has_packets(archive, part, side));
                // What must not be kept may be among them.
                if is_done || !tape.erasing.is_empty() {
                    remove(&packets_path(&dir, *id, side))?;
                }
            }
        }
        let left = put_aside(&dir, &tapes)?;
        let mut traces = BTreeMap::new();
        for &id in tapes.keys() {
            let path = trace_path(&dir, id);
            if path.exists() {
                traces.insert(id, Trace::found(path)?);
            }
        }
        let files = Files::new(dir, options.open_files);
        let mut spool = Spool {
            archive: archive.to_owned(),
            options,
            tapes,
            packets: BTreeMap::new(),
            traces,
            signals: Signals::default(),
            files,
            unfinished: BTreeMap::new(),
            left,
            bytes: Vec::new(),
            samples: Vec::new(),
            _lock: lock,
        };
        for (id, OpenTape { parts, erasing }) in known {
            erasing.iter().try_for_each(|(range, sample_rate)| spool.erase_again(id, range, *sample_rate))?;
            spool.unfinished.insert(id, parts);
        }
        Ok(spool)
    }

    /// Erases what an earlier process may not have erased, if there is such a tape.
    fn erase_again(&mut self, id: TapeId, range: &Range<u64>, sample_rate: u32) -> Result<()> {
        let Some(tape) = self.tapes.get(&id) else { return Ok(()) };
        let range = outward(range, sample_rate, tape.format.sample_rate);
        self.erase(id, range)
    }

    /// Tapes of which recordings are still to be made, or that are still to be closed.
    pub(crate) fn unfinished(&self) -> Vec<TapeId> {
        self.unfinished.keys().copied().collect()
    }

    /// Makes recordings of what was left unfinished of a tape, by an earlier process or for want of room. What of it is
    /// cut short is a recording of its own beside the whole one, should that come to be once more. The tape stays until
    /// it is closed: until then this can be done again, and comes to the same.
    pub(crate) fn finish_tape(&mut self, id: TapeId) -> Result<Vec<(RecordingRow, Saved)>> {
        let parts = self.unfinished.get(&id).cloned().unwrap_or_default();
        let finished = parts.into_iter().map(|part| self.finish_part(id, part));
        finished.filter_map(Result::transpose).collect()
    }

    /// Leaves a recording for [`Spool::finish_tape`], until when its tape stays.
    pub(crate) fn postpone(&mut self, id: TapeId, part: Part) {
        if let Some(tape) = self.tapes.get_mut(&id) {
            // It is whole all the same: what lies beyond the tape's end is silence.
            tape.frames = tape.frames.max(part.range.end);
        }
        self.unfinished.entry(id).or_default().push(part);
    }

    /// Leaves nothing but the closing of a tape for later.
    pub(crate) fn postpone_close(&mut self, id: TapeId) {
        self.unfinished.insert(id, Vec::new());
    }

    /// Whether recordings of a tape are still to be finished, or it is still to be closed.
    pub(crate) fn is_unfinished(&self, id: TapeId) -> bool {
        self.unfinished.contains_key(&id)
    }

    fn finish_part(&mut self, id: TapeId, part: Part) -> Result<Option<(RecordingRow, Saved)>> {
        let Part { range, left_out, mut row } = part;
        let Some(tape) = self.tapes.get(&id) else {
            // It has its name already, and only its row is missing.
            let Some(file) = existing(&self.archive, &row) else { return Ok(None) };
            let saved = self.saved(file)?;
            return Ok(Some((row, saved)));
        };
        // The rate may have been raised when all ended.
        let rate = u64::from(tape.format.sample_rate);
        let scaled = |frame: u64| {
            let frame = u128::from(frame) * u128::from(rate) / u128::from(row.sample_rate.max(1));
            u64::try_from(frame).unwrap_or(Part::OPEN)
        };
        let now = |frame: u64| scaled(frame).min(tape.frames);
        let whole = range.end != Part::OPEN && scaled(range.end) <= tape.frames;
        let range = now(range.start)..now(range.end);
        let left_out: Vec<_> = left_out.iter().map(|out| now(out.start)..now(out.end)).collect();
        row.sample_rate = tape.format.sample_rate;
        row.frames = kept(range.clone(), &left_out).map(|piece| piece.end - piece.start).sum();
        if row.frames == 0 {
            return Ok(None);
        }
        if !whole {
            row.id = Id::derive(&[b"interrupted", &row.id.0]);
            row.end_reason = EndReason::Interrupted;
            let length = u128::from(range.end - range.start) * SECOND as u128 / u128::from(rate.max(1));
            row.end = row.start + i64::try_from(length).unwrap_or_default();
        }
        let saved = self.make(id, range, &left_out, &row, false)?;
        Ok(Some((row, saved)))
    }
}

/// Whether a recording has all that it will have of the undecoded packets of a side: they are cut before its audio is.
fn has_packets(archive: &Path, part: &Part, side: Side) -> bool {
    let rtpdump = archive.join(rtpdump_name(&file_name(&part.row), side));
    part.range.end != Part::OPEN && (rtpdump.exists() || existing(archive, &part.row).is_some())
}

/// Gives the tapes of a process that crashed, but for those that are known, names that no tape of this one will have.
fn put_aside(dir: &Path, known: &HashMap<TapeId, Tape>) -> Result<Vec<PathBuf>> {
    let known: Vec<PathBuf> = known.keys().map(|&id| path_in(dir, id)).collect();
    let mut left = Vec::new();
    for entry in fs::read_dir(dir).map_err(io("read", dir))? {
        let path = entry.map_err(io("read", dir))?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("left") => left.push(path),
            Some("part") if known.contains(&path) => {}
            // Killed before the first sample, or even before the header.
            Some("part") if length(&path)? <= HEADER_LEN as u64 => remove(&path)?,
            Some("part") => {
                let mut free = (0..).map(|n| path.with_extension(format!("{n}.left")));
                let Some(aside) = free.find(|path| !path.exists()) else { continue };
                fs::rename(&path, &aside).map_err(io("rename", &path))?;
                left.push(aside);
            }
            Some("packets") => {
                let mut free = (0..).map(|n| path.with_extension(format!("{n}.packets-left")));
                let Some(aside) = free.find(|path| !path.exists()) else { continue };
                fs::rename(&path, &aside).map_err(io("rename", &path))?;
            }
            Some("trace") if known.contains(&path.with_extension("part")) => {}
            Some("tmp" | "trace") => fs::remove_file(&path).map_err(io("remove", &path))?,
            _ => {}
        }
    }
    left.sort();
    left.dedup();
    Ok(left)
}

fn length(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(io("look at", path))?.len())
}
