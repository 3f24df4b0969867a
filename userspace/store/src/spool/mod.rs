//! Tapes: the audio of calls that are still going on, and the recordings that are cut from them.
//!
//! ```text
//! <archive>/spool/lock                    held by the process that records into the archive
//! <archive>/spool/17.part                 tape 17: a WAV header of unknown length and its samples
//! <archive>/spool/17.0.left               a tape that an earlier process could not finish, and of which nothing is known
//! <archive>/recordings/2026/11/22/20261122T061209.123Z_1009_1010_0a1b2c3d.wav
//! ```
//!
//! A recording appears under its final name by a rename, whole and with its final header. A tape that
//! is silent for a while gets a hole, not zeros. A tape that goes on at a higher rate gets a new file,
//! which takes the old one's place by a rename as well.

mod convert;
mod files;
mod left;
mod names;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use spantape_core::event::{Part, Signal, kept};
use spantape_core::media::TapeId;
use spantape_core::record::{Id, RecordingRow, Side};
use spantape_core::rtp::Undecoded;

use crate::encrypt::{Recipients, SUFFIX};
use crate::error::{Error, Result, io};
use crate::finished::Finished;
use crate::packets::{self, Packets};
use crate::partition;
use crate::trace::{Signals, Trace};
use crate::wav::{self, Encoding, Format, HEADER_LEN};
use files::{Files, Tape, read_what_is_there};
use names::{existing, packets_path, rtpdump_name, rtpdump_path, trace_path};

pub(crate) use names::{
    EXTENSIONS, beside, file_name, key_name, leads_into, siblings, trace_name, with_extension,
};

/// How a [`Spool`] works.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Files held open; of more tapes the one not written to for longest is closed.
    pub open_files: usize,
    /// Wait for the disk before a recording gets its name.
    pub sync: bool,
    /// Hash each recording.
    pub sha256: bool,
    /// How samples are written.
    pub encoding: Encoding,
    /// Keep a capture file beside each recording.
    pub traces: bool,
    /// For whom recordings are encrypted once they are finished; for nobody, they are not.
    pub recipients: Recipients,
    /// Which of several recorders this is that record into the same archive: letters, digits, `.`, `_` and `-`.
    pub node: Option<String>,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        SpoolOptions {
            open_files: 512,
            sync: false,
            sha256: true,
            encoding: Encoding::Pcm16,
            traces: false,
            recipients: Recipients::default(),
            node: None,
        }
    }
}

/// A finished recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Path relative to the archive, with `/`.
    pub file: String,
    /// Size of the file.
    pub bytes: u64,
    /// Hash of the file in hex, if the spool was asked for it.
    pub sha256: Option<String>,
    /// Where packets without a decoder are kept, `[caller, callee]`, as in `file`.
    pub rtpdump: [Option<String>; 2],
    /// Files that it has taken the place of, which are to go once the catalog names this one.
    pub replaces: Vec<String>,
    /// Where the key lies, if it is encrypted.
    pub key: Option<String>,
    /// Hash of what is encrypted, in hex.
    pub content_sha256: Option<String>,
}

/// The tapes of an archive.
#[derive(Debug)]
pub struct Spool {
    archive: PathBuf,
    options: SpoolOptions,
    tapes: HashMap<TapeId, Tape>,
    packets: BTreeMap<(TapeId, Side), Packets>,
    traces: BTreeMap<TapeId, Trace>,
    /// Of calls that are up, if there are traces.
    signals: Signals,
    files: Files,
    /// What the tapes of an earlier process were to become.
    unfinished: BTreeMap<TapeId, Vec<Part>>,
    left: Vec<PathBuf>,
    /// A block of samples as bytes, and as samples; used again and again.
    bytes: Vec<u8>,
    samples: Vec<i16>,
    _lock: Lock,
}

impl Spool {
    /// Opens the spool of an archive, which is created if it is not there.
    pub fn open(archive: &Path) -> Result<Spool> {
        Spool::open_with(archive, SpoolOptions::default())
    }

    /// Opens the spool with other options than the default ones.
    pub fn open_with(archive: &Path, options: SpoolOptions) -> Result<Spool> {
        let lock = lock(archive, options.node.as_deref())?;
        Spool::go_on(archive, options, lock, BTreeMap::new())
    }

    /// Tapes that an earlier process left behind of which nothing is known, oldest name first. They are WAV files.
    pub fn left(&self) -> &[PathBuf] {
        &self.left
    }

    /// The files of recordings that are finished.
    pub fn finished(&self) -> Finished {
        Finished::new(&self.archive, &self.options)
    }

    /// Begins a tape. Its file is made when the first sample comes.
    pub fn open_tape(&mut self, id: TapeId, sample_rate: u32, channels: u16) {
        let format = Format { sample_rate, channels, encoding: self.options.encoding };
        self.tapes.insert(id, Tape { format, frames: 0, stored: 0, on_disk: false, behind: None });
    }

    /// Appends interleaved samples, in one write.
    pub fn write(&mut self, id: TapeId, samples: &[i16]) -> Result<()> {
        self.append(id, |format, bytes| format.encoding.encode(samples, bytes))
    }

    /// Appends samples that stand channel after channel, in one write.
    pub fn write_channels(&mut self, id: TapeId, samples: &[i16]) -> Result<()> {
        self.append(id, |format, bytes| format.encoding.encode_channels(samples, format.channels, bytes))
    }

    fn append(&mut self, id: TapeId, encode: impl FnOnce(Format, &mut Vec<u8>)) -> Result<()> {
        self.catch_up(id)?;
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        encode(tape.format, &mut self.bytes);
        let file = self.files.get(id, tape)?;
        let written = tape
            .fill(file, tape.frames)
            .and_then(|()| file.write_all_at(&self.bytes, tape.offset(tape.frames)));
        written.map_err(|error| io("write", &self.files.path(id))(error))?;
        tape.frames += self.bytes.len() as u64 / tape.format.frame_bytes().max(1);
        tape.stored = tape.frames;
        Ok(())
    }

    /// What was said of a call: it stands in the traces of its recordings.
    pub(crate) fn signal(&mut self, call: Id, signal: &Signal) {
        if self.options.traces {
            self.signals.add(call, signal);
        }
    }

    /// A call is over, and all its recordings are cut.
    pub(crate) fn over(&mut self, call: Id) {
        self.signals.remove(&call);
    }

    /// Keeps a packet beside the tape: one that has no decoder, or any if there are traces. The addresses are those of
    /// its stream.
    pub fn packet(
        &mut self,
        id: TapeId,
        side: Side,
        (source, destination): (SocketAddr, SocketAddr),
        packet: &Undecoded,
    ) -> Result<()> {
        let dir = &self.files.dir;
        if self.options.traces {
            let trace = self.traces.entry(id).or_insert_with(|| Trace::new(trace_path(dir, id)));
            trace.push(source, destination, packet)?;
        }
        if packet.is_heard {
            return Ok(());
        }
        let new = || Packets::new(packets_path(dir, id, side), source, destination);
        self.packets.entry((id, side)).or_insert_with(new).push(packet)
    }

    /// Adds samples to one channel of what is on the tape already.
    pub fn overdub(&mut self, id: TapeId, channel: usize, frame: u64, samples: &[i16]) -> Result<()> {
        self.catch_up(id)?;
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let channels = usize::from(tape.format.channels.max(1));
        let count = samples.len().min(usize::try_from(tape.frames.saturating_sub(frame)).unwrap_or(0));
        if count == 0 {
            return Ok(());
        }
        let offset = tape.offset(frame);
        let encoding = tape.format.encoding;
        self.bytes.clear();
        self.bytes.resize(count * channels * usize::from(encoding.bytes()), encoding.silence());
        let read = read_what_is_there(self.files.get(id, tape)?, &mut self.bytes, offset);
        read.map_err(|error| io("read", &self.files.path(id))(error))?;
        encoding.decode(&self.bytes, &mut self.samples);
        let written = self.samples.iter_mut().skip(channel).step_by(channels);
        written.zip(samples).for_each(|(written, &sample)| *written = written.saturating_add(sample));
        encoding.encode(&self.samples, &mut self.bytes);
        let file = self.files.get(id, tape)?;
        let written = tape.fill(file, frame).and_then(|()| file.write_all_at(&self.bytes, offset));
        written.map_err(|error| io("write", &self.files.path(id))(error))?;
        tape.stored = tape.stored.max(frame + count as u64);
        Ok(())
    }

    /// Those of the frames that are on the tape, and how many of them a second has.
    pub(crate) fn on_tape(&self, id: TapeId, frames: &Range<u64>) -> Result<(Range<u64>, u32)> {
        let tape = self.tapes.get(&id).ok_or(Error::NoTape(id))?;
        let frames = frames.start.min(tape.frames)..frames.end.min(tape.frames);
        Ok((frames, tape.format.sample_rate))
    }

    /// Overwrites frames that are on the tape with silence.
    pub fn erase(&mut self, id: TapeId, range: Range<u64>) -> Result<()> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let Range { start: from, end: to } = tape.place(&(range.start..range.end.min(tape.frames)));
        let time = tape.time(&range);
        for side in SIDES {
            self.packets.get_mut(&(id, side)).map_or(Ok(()), |packets| packets.erase(&time))?;
        }
        self.traces.get_mut(&id).map_or(Ok(()), |trace| trace.erase(&time))?;
        if !tape.on_disk || from >= to {
            return Ok(());
        }
        let path = self.files.path(id);
        let file = self.files.get(id, tape)?;
        let length = file.metadata().map_err(io("look at", &path))?.len();
        self.bytes.clear();
        self.bytes.resize(ERASED_AT_ONCE, tape.format.encoding.silence());
        let mut at = from;
        // Behind the file's end there is nothing but silence.
        while at < to.min(length) {
            let count = (to.min(length) - at).min(ERASED_AT_ONCE as u64);
            let written = file.write_all_at(&self.bytes[..count as usize], at);
            written.map_err(io("erase what must not be kept in", &path))?;
            at += count;
        }
        Ok(())
    }

    /// Appends frames of silence, which take no room on the disk but for G.711.
    pub fn silence(&mut self, id: TapeId, frames: u64) -> Result<()> {
        self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?.frames += frames;
        Ok(())
    }

    /// Appends as much silence as there would have been samples. Returns how many frames that are.
    pub(crate) fn silence_for(&mut self, id: TapeId, samples: usize) -> Result<u64> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let frames = samples as u64 / u64::from(tape.format.channels.max(1));
        tape.frames += frames;
        Ok(frames)
    }

    /// Makes a recording of the tape's frames in `range` but those that are left out, which are in order; what
    /// lies beyond the tape's end is silence. `last` says that nothing more will be cut from this tape, and closes it.
    /// Packets without a decoder that belong to those frames become files beside the recording.
    ///
    /// A recording that the archive has already is left as it is.
    pub fn cut(
        &mut self,
        id: TapeId,
        range: Range<u64>,
        left_out: &[Range<u64>],
        row: &RecordingRow,
        last: bool,
    ) -> Result<Saved> {
        let saved = self.make(id, range, left_out, row, last)?;
        if last {
            self.close(id)?;
        }
        Ok(saved)
    }

    /// Makes a recording as [`Spool::cut`] does, but what is left of the tape stays until it is closed.
    pub(crate) fn make(
        &mut self,
        id: TapeId,
        range: Range<u64>,
        left_out: &[Range<u64>],
        row: &RecordingRow,
        last: bool,
    ) -> Result<Saved> {
        let file = existing(&self.archive, row).unwrap_or_else(|| file_name(row));
        let target = self.archive.join(&file);
        if !target.try_exists().map_err(io("look for", &target))? {
            if let Some(dir) = target.parent() {
                fs::create_dir_all(dir).map_err(io("create", dir))?;
            }
            self.catch_up(id)?;
            self.lengthen(id, range.end)?;
            self.cut_packets(id, &range, left_out, row, &target)?;
            if last && range.start == 0 && left_out.is_empty() {
                self.keep_tape(id, range.end, row, &target)?;
            } else {
                let pieces: Vec<_> = kept(range, left_out).collect();
                self.copy(id, &pieces, row, &target)?;
            }
        }
        self.saved(file)
    }

    fn saved(&self, file: String) -> Result<Saved> {
        let target = self.archive.join(&file);
        let bytes = fs::metadata(&target).map_err(io("look at", &target))?.len();
        let there = |name: &String| self.archive.join(name).exists();
        let rtpdump = SIDES.map(|side| {
            let name = rtpdump_name(&file, side);
            [format!("{name}{SUFFIX}"), name].into_iter().find(there)
        });
        let key = Some(key_name(&file)).filter(|key| file.ends_with(SUFFIX) && there(key));
        Ok(Saved { file, bytes, rtpdump, key, ..Saved::default() })
    }

    /// Whether there is such a tape.
    pub(crate) fn is_open(&self, id: TapeId) -> bool {
        self.tapes.contains_key(&id)
    }

    /// Drops a tape and what is left of its files. One that is gone already is no error. What could not be removed can be
    /// closed once more.
    pub fn close(&mut self, id: TapeId) -> Result<()> {
        self.files.forget(id);
        for side in SIDES {
            self.packets.get(&(id, side)).map_or(Ok(()), Packets::remove)?;
            self.packets.remove(&(id, side));
        }
        self.traces.get(&id).map_or(Ok(()), Trace::remove)?;
        self.traces.remove(&id);
        if self.tapes.contains_key(&id) {
            // Also what has no header yet.
            remove(&self.files.path(id))?;
        }
        self.tapes.remove(&id);
        self.unfinished.remove(&id);
        Ok(())
    }

    /// Writes the packets that wait in memory: with each block of the tape, so that they are there after a crash.
    pub(crate) fn flush_packets(&mut self, id: TapeId) -> Result<()> {
        self.traces.get_mut(&id).map_or(Ok(()), Trace::flush)?;
        SIDES.iter().filter_map(|&side| self.packets.get_mut(&(id, side)).map(Packets::flush)).collect()
    }

    /// Brings silence at the tape's end into its file, as far as there is to be any. From then on the next process knows
    /// that the recording is whole, and gives it the same name: what is beside it already is.
    fn lengthen(&mut self, id: TapeId, end: u64) -> Result<()> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let path = self.files.path(id);
        let end = end.max(tape.frames);
        let file = self.files.get(id, tape)?;
        tape.fill(file, end).map_err(io("write", &path))?;
        let end = tape.offset(end);
        if file.metadata().map_err(io("look at", &path))?.len() < end {
            file.set_len(end).map_err(io("lengthen", &path))?;
        }
        Ok(())
    }

    fn cut_packets(
        &mut self,
        id: TapeId,
        range: &Range<u64>,
        left_out: &[Range<u64>],
        row: &RecordingRow,
        target: &Path,
    ) -> Result<()> {
        let tape = self.tapes.get(&id).ok_or(Error::NoTape(id))?;
        let left_out = left_out.iter().map(|out| tape.time(out)).collect();
        let part = packets::Part { range: tape.time(range), left_out, start: row.start };
        for side in SIDES {
            if let Some(packets) = self.packets.get_mut(&(id, side)) {
                packets.cut(&part, &self.files.dir, &rtpdump_path(target, side))?;
            }
        }
        if let Some(trace) = self.traces.get_mut(&id) {
            trace.cut(&part, self.signals.of(row.call), &self.files.dir, &target.with_extension("pcap"))?;
        }
        Ok(())
    }

    /// The tape's own file, cut off at `end`, becomes the recording.
    fn keep_tape(&mut self, id: TapeId, end: u64, row: &RecordingRow, target: &Path) -> Result<()> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let path = self.files.path(id);
        let file = self.files.get(id, tape)?;
        file.set_len(tape.offset(end)).map_err(io("cut off", &path))?;
        finish(file, &wav::header(tape.format, end, row), self.options.sync).map_err(io("finish", &path))?;
        fs::rename(&path, target).map_err(io("rename into place", target))?;
        tape.on_disk = false;
        self.files.forget(id);
        Ok(())
    }

    /// Pieces of the tape become a file of its own.
    fn copy(&mut self, id: TapeId, pieces: &[Range<u64>], row: &RecordingRow, target: &Path) -> Result<()> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let path = self.files.path(id);
        let dir = self.files.dir.clone();
        let mut source = self.files.get(id, tape)?;
        let mut copy = new_file(&dir, "cut-", ".tmp").map_err(io("create a file in", &dir))?;
        copy.as_file_mut().seek(SeekFrom::Start(HEADER_LEN as u64)).map_err(io("write", target))?;
        let mut frames = 0;
        for piece in pieces {
            source.seek(SeekFrom::Start(tape.offset(piece.start))).map_err(io("read", &path))?;
            let count = piece.end.saturating_sub(piece.start);
            let bytes = count * tape.format.frame_bytes();
            io::copy(&mut source.take(bytes), copy.as_file_mut()).map_err(io("copy to", target))?;
            frames += count;
        }
        finish(copy.as_file(), &wav::header(tape.format, frames, row), self.options.sync)
            .map_err(io("finish", target))?;
        copy.persist(target).map_err(|error| io("rename into place", target)(error.error))?;
        Ok(())
    }
}

const SIDES: [Side; 2] = [Side::Caller, Side::Callee];
/// Bytes.
const ERASED_AT_ONCE: usize = 64 << 10;

/// A file that other users may read as far as the process's umask lets them.
pub(crate) fn new_file(dir: &Path, prefix: &str, suffix: &str) -> io::Result<tempfile::NamedTempFile> {
    let mode = fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(prefix).suffix(suffix).permissions(mode).tempfile_in(dir)
}

/// Removes a file. One that is gone already is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn finish(file: &File, header: &[u8], sync: bool) -> io::Result<()> {
    file.write_all_at(header, 0)?;
    if sync { file.sync_data() } else { Ok(()) }
}

/// While it is held, no other process records into the archive.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Locks an archive, which is created if it is not there. Recorders with other names have other locks.
pub(crate) fn lock(archive: &Path, node: Option<&str>) -> Result<Lock> {
    let dir = dir_in(archive, node);
    fs::create_dir_all(&dir).map_err(io("create", &dir))?;
    let path = dir.join("lock");
    let file = File::create(&path).map_err(io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: archive.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
    }
}

/// Where a recorder's tapes lie.
pub(crate) fn dir_in(archive: &Path, node: Option<&str>) -> PathBuf {
    let spool = archive.join("spool");
    node.map_or(spool.clone(), |node| spool.join(partition::node_directory(node)))
}

#[cfg(test)]
mod tests;
