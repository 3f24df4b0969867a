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

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use spantape_core::codec::Upsampler;
use spantape_core::event::{Part, kept};
use spantape_core::media::TapeId;
use spantape_core::record::{EndReason, Id, RecordingRow, Side};
use spantape_core::rtp::Undecoded;
use spantape_core::time::SECOND;

use crate::error::{Error, Result, io};
use crate::finished::Finished;
use crate::packets::{self, Packets};
use crate::seal;
use crate::utc;
use crate::wav::{self, Format, HEADER_LEN};

/// How a [`Spool`] works.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Files held open; of more tapes the one not written to for longest is closed.
    pub open_files: usize,
    /// Wait for the disk before a recording gets its name.
    pub sync: bool,
    /// Hash each recording.
    pub sha256: bool,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        SpoolOptions { open_files: 512, sync: false, sha256: true }
    }
}

/// A finished recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Path relative to the archive, with `/`.
    pub file: String,
    /// Size of the file.
    pub bytes: u64,
    /// Hash of the file in hex, if the spool was asked for it.
    pub sha256: Option<String>,
    /// Where packets without a decoder are kept, `[caller, callee]`, as in `file`.
    pub rtpdump: [Option<String>; 2],
}

/// The tapes of an archive.
#[derive(Debug)]
pub struct Spool {
    archive: PathBuf,
    options: SpoolOptions,
    tapes: HashMap<TapeId, Tape>,
    packets: BTreeMap<(TapeId, Side), Packets>,
    files: Files,
    /// What the tapes of an earlier process were to become.
    unfinished: BTreeMap<TapeId, Vec<Part>>,
    left: Vec<PathBuf>,
    /// A block of samples as bytes, used again and again.
    bytes: Vec<u8>,
    _lock: Lock,
}

impl Spool {
    /// Opens the spool of an archive, which is created if it is not there.
    pub fn open(archive: &Path) -> Result<Spool> {
        Spool::open_with(archive, SpoolOptions::default())
    }

    /// Opens the spool with other options than the default ones.
    pub fn open_with(archive: &Path, options: SpoolOptions) -> Result<Spool> {
        let lock = lock(archive)?;
        Spool::go_on(archive, options, lock, BTreeMap::new())
    }

    /// Opens the spool of an archive in which an earlier process was in the middle of these tapes.
    pub(crate) fn go_on(
        archive: &Path,
        options: SpoolOptions,
        lock: Lock,
        known: BTreeMap<TapeId, Vec<Part>>,
    ) -> Result<Spool> {
        let dir = dir_in(archive);
        let mut tapes = HashMap::new();
        for &id in known.keys() {
            tapes.extend(Tape::found(&path_in(&dir, id))?.map(|tape| (id, tape)));
        }
        // Nobody has asked for what they carry.
        for (id, _) in known.iter().filter(|(_, parts)| parts.is_empty()) {
            for side in SIDES {
                match fs::remove_file(packets_path(&dir, *id, side)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(io("remove", &packets_path(&dir, *id, side))(error));
                    }
                    _ => {}
                }
            }
        }
        let left = put_aside(&dir, &tapes)?;
        let files = Files::new(dir, options.open_files);
        let bytes = Vec::new();
        Ok(Spool {
            archive: archive.to_owned(),
            options,
            tapes,
            packets: BTreeMap::new(),
            files,
            unfinished: known,
            left,
            bytes,
            _lock: lock,
        })
    }

    /// Makes recordings of what was left unfinished, by an earlier process or for want of room. What of it is cut short
    /// is a recording of its own beside the whole one, should that come to be once more. What cannot be finished now
    /// stays for the next time.
    pub(crate) fn finish_unfinished(
        &mut self,
        mut finished: impl FnMut(RecordingRow, Saved) -> Result<()>,
    ) -> Result<()> {
        while let Some((id, parts)) =
            self.unfinished.first_key_value().map(|(id, parts)| (*id, parts.clone()))
        {
            for part in parts {
                if let Some((row, saved)) = self.finish_part(id, part)? {
                    finished(row, saved)?;
                }
                if let Some(parts) = self.unfinished.get_mut(&id) {
                    parts.remove(0);
                }
            }
            self.unfinished.remove(&id);
            self.close(id)?;
        }
        Ok(())
    }

    /// Leaves a recording for [`Spool::finish_unfinished`], until when its tape stays.
    pub(crate) fn postpone(&mut self, id: TapeId, part: Part) {
        self.unfinished.entry(id).or_default().push(part);
    }

    /// Whether recordings of a tape are still to be finished.
    pub(crate) fn is_unfinished(&self, id: TapeId) -> bool {
        self.unfinished.contains_key(&id)
    }

    fn finish_part(&mut self, id: TapeId, part: Part) -> Result<Option<(RecordingRow, Saved)>> {
        let Part { range, left_out, mut row } = part;
        let Some(tape) = self.tapes.get(&id) else {
            // It has its name already, and only its row is missing.
            let target = self.archive.join(file_name(&row));
            let done = target.try_exists().map_err(io("look for", &target))?;
            return if done { Ok(Some((row.clone(), self.saved(file_name(&row))?))) } else { Ok(None) };
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
        let saved = self.cut(id, range, &left_out, &row, false)?;
        Ok(Some((row, saved)))
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
        let format = Format { sample_rate, channels };
        self.tapes.insert(id, Tape { format, frames: 0, on_disk: false });
    }

    /// Appends interleaved samples, in one write.
    pub fn write(&mut self, id: TapeId, samples: &[i16]) -> Result<()> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        wav::to_bytes(samples, &mut self.bytes);
        let file = self.files.get(id, tape)?;
        let written = file.write_all_at(&self.bytes, tape.offset(tape.frames));
        written.map_err(|error| io("write", &self.files.path(id))(error))?;
        tape.frames += samples.len() as u64 / u64::from(tape.format.channels.max(1));
        self.flush_packets(id)
    }

    /// Keeps a packet that has no decoder beside the tape. The addresses are those of its stream.
    pub fn packet(
        &mut self,
        id: TapeId,
        side: Side,
        (source, destination): (SocketAddr, SocketAddr),
        packet: &Undecoded,
    ) -> Result<()> {
        let dir = &self.files.dir;
        let new = || Packets::new(packets_path(dir, id, side), source, destination);
        self.packets.entry((id, side)).or_insert_with(new).push(packet)
    }

    /// Adds samples to one channel of what is on the tape already.
    pub fn overdub(&mut self, id: TapeId, channel: usize, frame: u64, samples: &[i16]) -> Result<()> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let channels = usize::from(tape.format.channels.max(1));
        let count = samples.len().min(usize::try_from(tape.frames.saturating_sub(frame)).unwrap_or(0));
        let offset = tape.offset(frame);
        self.bytes.clear();
        self.bytes.resize(count * channels * 2, 0);
        let read = read_what_is_there(self.files.get(id, tape)?, &mut self.bytes, offset);
        read.map_err(|error| io("read", &self.files.path(id))(error))?;
        let written =
            self.bytes.chunks_exact_mut(channels * 2).map(|frame| &mut frame[channel * 2..channel * 2 + 2]);
        for (written, &sample) in written.zip(samples) {
            let sum = i16::from_le_bytes([written[0], written[1]]).saturating_add(sample);
            written.copy_from_slice(&sum.to_le_bytes());
        }
        let written = self.files.get(id, tape)?.write_all_at(&self.bytes, offset);
        written.map_err(|error| io("write", &self.files.path(id))(error))
    }

    /// Overwrites frames that are on the tape with silence.
    pub fn erase(&mut self, id: TapeId, range: Range<u64>) -> Result<()> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let (from, to) = (tape.offset(range.start), tape.offset(range.end.min(tape.frames)));
        let time = tape.time(&range);
        for side in SIDES {
            self.packets.get_mut(&(id, side)).map_or(Ok(()), |packets| packets.erase(&time))?;
        }
        if !tape.on_disk || from >= to {
            return Ok(());
        }
        let path = self.files.path(id);
        let file = self.files.get(id, tape)?;
        let length = file.metadata().map_err(io("look at", &path))?.len();
        self.bytes.clear();
        self.bytes.resize(ERASED_AT_ONCE, 0);
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

    /// Appends frames of silence, which take no room on the disk.
    pub fn silence(&mut self, id: TapeId, frames: u64) -> Result<()> {
        self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?.frames += frames;
        self.flush_packets(id)
    }

    /// Appends as much silence as there would have been samples. Returns how many frames that are.
    pub(crate) fn silence_for(&mut self, id: TapeId, samples: usize) -> Result<u64> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let frames = samples as u64 / u64::from(tape.format.channels.max(1));
        tape.frames += frames;
        Ok(frames)
    }

    /// Goes on at a higher rate. What is on the tape is brought to it, so that `frames` of the old rate
    /// become `frames * new / old`, and frames are counted in the new rate from here on. A rate that is
    /// not higher, and a tape that is not open, change nothing; after an error the tape is as it was.
    pub fn raise_rate(&mut self, id: TapeId, sample_rate: u32) -> Result<()> {
        let Some(tape) = self.tapes.get_mut(&id) else { return Ok(()) };
        let old = tape.format.sample_rate;
        if sample_rate <= old {
            return Ok(());
        }
        let impossible = || Error::NoRate { tape: id, from: old, to: sample_rate };
        let frames = match tape.frames {
            0 => 0,
            frames => {
                let frames = u128::from(frames) * u128::from(sample_rate);
                let frames = frames.checked_div(old.into()).ok_or_else(impossible)?;
                u64::try_from(frames).unwrap_or(u64::MAX)
            }
        };
        let raised = Tape { format: Format { sample_rate, ..tape.format }, frames, on_disk: tape.on_disk };
        if tape.on_disk {
            let path = self.files.path(id);
            let dir = self.files.dir.clone();
            let upsampler = |_| Upsampler::new(old, sample_rate).ok_or_else(impossible);
            let upsamplers = (0..tape.format.channels).map(upsampler).collect::<Result<Vec<_>>>()?;
            let source = self.files.get(id, tape)?;
            let target = new_file(&dir, "raise-", ".tmp").map_err(io("create a file in", &dir))?;
            convert((source, tape), (target.as_file(), &raised), upsamplers)
                .and_then(|()| finish(target.as_file(), &wav::open_header(raised.format), self.options.sync))
                .map_err(io("bring to a higher rate", &path))?;
            target.persist(&path).map_err(|error| io("rename into place", &path)(error.error))?;
            self.files.forget(id);
        }
        *tape = raised;
        Ok(())
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
        let file = file_name(row);
        let target = self.archive.join(&file);
        if !target.try_exists().map_err(io("look for", &target))? {
            if let Some(dir) = target.parent() {
                fs::create_dir_all(dir).map_err(io("create", dir))?;
            }
            self.cut_packets(id, &range, left_out, row, &target)?;
            if last && range.start == 0 && left_out.is_empty() {
                self.keep_tape(id, range.end, row, &target)?;
            } else {
                let pieces: Vec<_> = kept(range, left_out).collect();
                self.copy(id, &pieces, row, &target)?;
            }
        }
        if last {
            self.close(id)?;
        }
        self.saved(file)
    }

    fn saved(&self, file: String) -> Result<Saved> {
        let target = self.archive.join(&file);
        let bytes = fs::metadata(&target).map_err(io("look at", &target))?.len();
        let sha256 = if self.options.sha256 { Some(seal::hash(&target)?) } else { None };
        let rtpdump =
            SIDES.map(|side| Some(rtpdump_name(&file, side)).filter(|name| self.archive.join(name).exists()));
        Ok(Saved { file, bytes, sha256, rtpdump })
    }

    /// Drops a tape and what is left of its file. One that is gone already is no error.
    pub fn close(&mut self, id: TapeId) -> Result<()> {
        self.files.forget(id);
        for side in SIDES {
            self.packets.remove(&(id, side)).map_or(Ok(()), Packets::remove)?;
        }
        if self.tapes.remove(&id).is_some_and(|tape| tape.on_disk) {
            let path = self.files.path(id);
            fs::remove_file(&path).map_err(io("remove", &path))?;
        }
        Ok(())
    }

    fn flush_packets(&mut self, id: TapeId) -> Result<()> {
        SIDES.iter().filter_map(|&side| self.packets.get_mut(&(id, side)).map(Packets::flush)).collect()
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
        Ok(())
    }

    /// Pieces of the tape become a file of its own.
    fn copy(&mut self, id: TapeId, pieces: &[Range<u64>], row: &RecordingRow, target: &Path) -> Result<()> {
        let tape = self.tapes.get_mut(&id).ok_or(Error::NoTape(id))?;
        let path = self.files.path(id);
        let dir = self.files.dir.clone();
        let mut source = self.files.get(id, tape)?;
        let end = tape.offset(tape.frames.max(pieces.last().map_or(0, |piece| piece.end)));
        // Silence at the end is not in the file until now.
        if source.metadata().map_err(io("look at", &path))?.len() < end {
            source.set_len(end).map_err(io("lengthen", &path))?;
        }
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

/// Where a recording lies, relative to the archive.
pub(crate) fn file_name(row: &RecordingRow) -> String {
    let t = utc::civil(row.start);
    let (year, month, day) = (t.year(), t.month(), t.day());
    let (hour, minute, second, ms) = (t.hour(), t.minute(), t.second(), t.millisecond());
    let (from, to) = (safe(&row.from.user), safe(&row.to.user));
    let id = row.id.to_string();
    format!(
        "recordings/{year:04}/{month:02}/{day:02}/{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{ms:03}Z_{from}_{to}_{}.wav",
        &id[..8]
    )
}

#[derive(Debug)]
struct Tape {
    format: Format,
    /// Length so far, silence at its end included.
    frames: u64,
    on_disk: bool,
}

impl Tape {
    /// What an earlier process has left of a tape.
    fn found(path: &Path) -> Result<Option<Tape>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io("open", path))?,
        };
        let mut header = [0; HEADER_LEN];
        read_what_is_there(&file, &mut header, 0).map_err(io("read", path))?;
        let Some(format) = wav::read_format(&header) else { return Ok(None) };
        let length = file.metadata().map_err(io("look at", path))?.len();
        let frames = length.saturating_sub(HEADER_LEN as u64) / format.frame_bytes();
        Ok(Some(Tape { format, frames, on_disk: true }))
    }

    fn offset(&self, frame: u64) -> u64 {
        HEADER_LEN as u64 + frame.saturating_mul(self.format.frame_bytes())
    }

    /// Frames as nanoseconds.
    fn time(&self, frames: &Range<u64>) -> Range<i64> {
        let rate = i128::from(self.format.sample_rate.max(1));
        let time =
            |frame: u64| i64::try_from(i128::from(frame) * i128::from(SECOND) / rate).unwrap_or(i64::MAX);
        time(frames.start)..time(frames.end)
    }
}

/// The open files of tapes, not more than `limit`.
#[derive(Debug)]
struct Files {
    dir: PathBuf,
    limit: usize,
    open: HashMap<TapeId, (File, u64)>,
    /// Who was used when: the first is the one to close.
    order: BTreeMap<u64, TapeId>,
    uses: u64,
}

impl Files {
    fn new(dir: PathBuf, limit: usize) -> Files {
        Files { dir, limit: limit.max(1), open: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }

    fn path(&self, id: TapeId) -> PathBuf {
        path_in(&self.dir, id)
    }

    fn get(&mut self, id: TapeId, tape: &mut Tape) -> Result<&File> {
        self.uses += 1;
        if let Some((_, used)) = self.open.get(&id) {
            self.order.remove(used);
        } else {
            while self.open.len() >= self.limit {
                let Some((_, oldest)) = self.order.pop_first() else { break };
                self.open.remove(&oldest);
            }
        }
        self.order.insert(self.uses, id);
        let slot = match self.open.entry(id) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(slot) => slot.insert((open_file(&path_in(&self.dir, id), tape)?, 0)),
        };
        slot.1 = self.uses;
        Ok(&slot.0)
    }

    fn forget(&mut self, id: TapeId) {
        if let Some((_, used)) = self.open.remove(&id) {
            self.order.remove(&used);
        }
    }
}

/// Fills `bytes` from the file as far as that goes; what is not there yet is silence.
fn read_what_is_there(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.read_at(bytes, offset) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn path_in(dir: &Path, id: TapeId) -> PathBuf {
    dir.join(format!("{id}.part"))
}

fn open_file(path: &Path, tape: &mut Tape) -> Result<File> {
    let file = File::options().read(true).write(true).create_new(!tape.on_disk).open(path);
    let file = file.map_err(io("open", path))?;
    if !tape.on_disk {
        tape.on_disk = true;
        file.write_all_at(&wav::open_header(tape.format), 0).map_err(io("write", path))?;
    }
    Ok(file)
}

/// Frames that [`convert`] makes at a time.
const CONVERTED: u64 = 1 << 14;
/// More frames than an upsampler remembers.
const REMEMBERED: u64 = 64;

/// Brings the samples of one tape's file to the rate of another, an upsampler a channel. Silence stays a hole.
fn convert(
    (source, from): (&File, &Tape),
    (target, to): (&File, &Tape),
    mut upsamplers: Vec<Upsampler>,
) -> io::Result<()> {
    let channels = upsamplers.len();
    let frame_bytes = from.format.frame_bytes().max(1);
    let (old, new) = (u64::from(from.format.sample_rate), u64::from(to.format.sample_rate));
    let block = (CONVERTED * old / new).max(1);
    // Silence at the end may not be in the file; and the file may be longer than the tape.
    let stored = source.metadata()?.len().saturating_sub(HEADER_LEN as u64) / frame_bytes;
    let stored = stored.min(from.frames);
    let (mut bytes, mut channel, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    // What upsamplers make is late: so much of it stands before the tape's first frame.
    let mut early = upsamplers.first().map_or(0, Upsampler::delay) as usize;
    let (mut read, mut written) = (0, 0);
    // Silence behind the last sample brings out what the upsamplers still remember.
    while read < stored + REMEMBERED && written < to.frames {
        let count = block.min(stored + REMEMBERED - read);
        bytes.clear();
        bytes.resize((count * frame_bytes) as usize, 0);
        let there = count.min(stored.saturating_sub(read)) * frame_bytes;
        source.read_exact_at(&mut bytes[..there as usize], from.offset(read))?;
        read += count;
        samples.clear();
        for (index, upsampler) in upsamplers.iter_mut().enumerate() {
            channel.clear();
            let all = bytes.as_chunks::<2>().0.iter().skip(index).step_by(channels);
            channel.extend(all.map(|&sample| i16::from_le_bytes(sample)));
            upsampler.convert(&mut channel);
            samples.resize(channel.len() * channels, 0);
            let places = samples.iter_mut().skip(index).step_by(channels);
            places.zip(&channel).for_each(|(place, &sample)| *place = sample);
        }
        let frames = samples.len() / channels.max(1);
        let begin = early.min(frames);
        early -= begin;
        let wanted = (frames - begin).min(usize::try_from(to.frames - written).unwrap_or(usize::MAX));
        let wanted_samples = &samples[begin * channels..(begin + wanted) * channels];
        if wanted_samples.iter().any(|&sample| sample != 0) {
            wav::to_bytes(wanted_samples, &mut bytes);
            target.write_all_at(&bytes, to.offset(written))?;
        }
        written += wanted as u64;
    }
    Ok(())
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

/// Locks an archive, which is created if it is not there.
pub(crate) fn lock(archive: &Path) -> Result<Lock> {
    let dir = dir_in(archive);
    fs::create_dir_all(&dir).map_err(io("create", &dir))?;
    let path = dir.join("lock");
    let file = File::create(&path).map_err(io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: archive.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io("lock", &path)(error)),
    }
}

/// Where an archive's tapes lie.
pub(crate) fn dir_in(archive: &Path) -> PathBuf {
    archive.join("spool")
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
            Some("tmp") => fs::remove_file(&path).map_err(io("remove", &path))?,
            _ => {}
        }
    }
    left.sort();
    left.dedup();
    Ok(left)
}

/// Where the undecoded packets of a tape's side lie.
fn packets_path(dir: &Path, id: TapeId, side: Side) -> PathBuf {
    dir.join(format!("{id}.{}.packets", side.as_str()))
}

/// Where the undecoded packets of a recording's side lie.
fn rtpdump_path(recording: &Path, side: Side) -> PathBuf {
    recording.with_extension(format!("{}.rtpdump", side.as_str()))
}

fn rtpdump_name(file: &str, side: Side) -> String {
    format!("{}.{}.rtpdump", file.trim_end_matches(".wav"), side.as_str())
}

fn safe(user: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+._-".contains(c);
    let name: String = user.chars().take(32).map(|c| if allowed(c) { c } else { '_' }).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::recording;

    fn samples(path: &Path) -> Vec<i16> {
        hound::WavReader::open(path).unwrap().samples::<i16>().map(|s| s.unwrap()).collect()
    }

    fn spooled(dir: &Path) -> usize {
        fs::read_dir(dir.join("spool")).unwrap().count() - 1 // the lock
    }

    #[test]
    fn what_was_held_up_is_added_where_it_belongs() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        let tape = TapeId(1);
        spool.open_tape(tape, 8000, 2);
        spool.write(tape, &[1, 10, 2, 20, 3, 30]).unwrap();
        spool.silence(tape, 2).unwrap();
        spool.overdub(tape, 1, 2, &[5, i16::MAX, 7, 8]).unwrap();
        let saved = spool.cut(tape, 0..5, &[], &recording(1), true).unwrap();
        let samples = hound::WavReader::open(dir.path().join(saved.file)).unwrap().into_samples::<i16>();
        let samples: Vec<i16> = samples.map(Result::unwrap).collect();
        assert_eq!(samples, [1, 10, 2, 20, 3, 35, 0, i16::MAX, 0, 7]);
    }

    #[test]
    fn the_whole_tape() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        let tape = TapeId(7);
        spool.open_tape(tape, 8000, 2);
        spool.write(tape, &[1, 2, 3, 4]).unwrap();
        spool.silence(tape, 2).unwrap();
        spool.write(tape, &[5, 6, 7, 8]).unwrap();
        let saved = spool.cut(tape, 0..5, &[], &recording(1), true).unwrap();
        assert_eq!(saved.file, "recordings/2023/11/14/20231114T221321.000Z_1009_1010_00000001.wav");
        assert_eq!(saved.bytes, HEADER_LEN as u64 + 20);
        assert_eq!(samples(&dir.path().join(&saved.file)), [1, 2, 3, 4, 0, 0, 0, 0, 5, 6]);
        assert_eq!(spooled(dir.path()), 0);
        assert!(matches!(spool.write(tape, &[1, 2]), Err(Error::NoTape(TapeId(7)))));
        spool.close(tape).unwrap();
    }

    #[test]
    fn ranges_of_a_tape() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        let tape = TapeId(0);
        spool.open_tape(tape, 8000, 2);
        let all: Vec<i16> = (0..200).collect();
        spool.write(tape, &all).unwrap();
        spool.silence(tape, 10).unwrap();
        let first = spool.cut(tape, 0..50, &[], &recording(1), false).unwrap();
        let second = spool.cut(tape, 90..105, &[], &recording(2), false).unwrap();
        // Cutting has not moved the place where the tape goes on.
        spool.write(tape, &[-1, -2]).unwrap();
        let third = spool.cut(tape, 105..120, &[], &recording(3), true).unwrap();
        assert_eq!(samples(&dir.path().join(first.file)), all[..100]);
        let mut expected = all[180..].to_vec();
        expected.extend([0; 10]);
        assert_eq!(samples(&dir.path().join(second.file)), expected);
        let mut expected = vec![0; 10];
        expected.extend([-1, -2]);
        expected.extend([0; 18]);
        assert_eq!(samples(&dir.path().join(third.file)), expected);
        assert_eq!(spooled(dir.path()), 0);
    }

    #[test]
    fn a_tape_of_which_something_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        let tape = TapeId(3);
        spool.open_tape(tape, 8000, 2);
        spool.write(tape, &(0..20).collect::<Vec<i16>>()).unwrap();
        spool.silence(tape, 5).unwrap();
        let row = RecordingRow { frames: 7, ..recording(1) };
        let saved = spool.cut(tape, 0..12, &[1..3, 6..9], &row, true).unwrap();
        assert_eq!(saved.bytes, HEADER_LEN as u64 + 7 * 4);
        let expected = [0, 1, 6, 7, 8, 9, 10, 11, 18, 19, 0, 0, 0, 0];
        assert_eq!(samples(&dir.path().join(saved.file)), expected);
        assert_eq!(spooled(dir.path()), 0);
    }

    /// So many samples of a sine, from the `from`-th on.
    fn tone(hertz: f64, rate: u32, from: usize, count: usize) -> Vec<i16> {
        let angle = |n: usize| n as f64 * hertz * std::f64::consts::TAU / f64::from(rate);
        (from..from + count).map(|n| (10_000.0 * angle(n).sin()) as i16).collect()
    }

    fn stereo(left: &[i16], right: &[i16]) -> Vec<i16> {
        left.iter().zip(right).flat_map(|(&left, &right)| [left, right]).collect()
    }

    fn crossings(samples: &[i16]) -> usize {
        samples.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count()
    }

    fn furthest(a: &[i16], b: &[i16]) -> i32 {
        a.iter().zip(b).map(|(&a, &b)| (i32::from(a) - i32::from(b)).abs()).max().unwrap_or_default()
    }

    #[test]
    fn a_higher_rate() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        let tape = TapeId(1);
        spool.open_tape(tape, 8000, 2);
        // In pieces: 5 s of a tone each side.
        let all = stereo(&tone(440.0, 8000, 0, 40_000), &tone(1_000.0, 8000, 0, 40_000));
        for piece in all.chunks(2 * 1_999) {
            spool.write(tape, piece).unwrap();
        }
        spool.raise_rate(tape, 16_000).unwrap();
        assert_eq!(spool.tapes[&tape].frames, 80_000);
        assert_eq!(spooled(dir.path()), 1);
        // Neither of these does anything.
        spool.raise_rate(tape, 16_000).unwrap();
        spool.raise_rate(tape, 8_000).unwrap();
        let more = stereo(&tone(440.0, 16_000, 80_000, 16_000), &tone(1_000.0, 16_000, 80_000, 16_000));
        spool.write(tape, &more).unwrap();
        let first = spool.cut(tape, 80_000..90_000, &[], &recording(1), false).unwrap();
        assert_eq!(samples(&dir.path().join(first.file)), more[..20_000]);
        let whole = dir.path().join(spool.cut(tape, 0..96_000, &[], &recording(2), true).unwrap().file);
        assert_eq!(hound::WavReader::open(&whole).unwrap().spec().sample_rate, 16_000);
        let whole = samples(&whole);
        assert_eq!(whole.len(), 2 * 96_000);
        for (index, hertz) in [(0, 440.0), (1, 1_000.0)] {
            let heard: Vec<i16> = whole.iter().skip(index).step_by(2).copied().collect();
            let expected = tone(hertz, 16_000, 0, 96_000);
            let wanted = crossings(&expected);
            assert!(crossings(&heard).abs_diff(wanted) <= 2, "{} {wanted}", crossings(&heard));
            // In its place, but for the one sample by which an upsampler's delay is rounded.
            let shifts = 99..=101;
            let off =
                shifts.map(|from| furthest(&heard[from..from + 79_700], &expected[100..])).min().unwrap();
            assert!(off < 50, "{hertz} Hz: {off} off");
            assert_eq!(heard[80_000..], expected[80_000..]);
        }
        assert_eq!(spooled(dir.path()), 0);
    }

    #[test]
    fn silence_at_a_higher_rate() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        let tape = TapeId(1);
        spool.open_tape(tape, 8000, 2);
        spool.write(tape, &[1_000; 2 * 800]).unwrap();
        spool.silence(tape, 2_000_000).unwrap();
        spool.write(tape, &[-1_000; 2 * 800]).unwrap();
        spool.silence(tape, 801).unwrap();
        spool.raise_rate(tape, 44_100).unwrap();
        let frames = 2_002_401 * 44_100 / 8_000;
        assert_eq!(spool.tapes[&tape].frames, frames);
        let on_disk = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(spool.files.path(tape)).unwrap());
        assert!(on_disk * 512 < 1 << 20, "{on_disk} blocks: silence is no hole any more");
        spool.write(tape, &[7, 8]).unwrap();
        let all =
            samples(&dir.path().join(spool.cut(tape, 0..frames + 1, &[], &recording(1), true).unwrap().file));
        assert_eq!(all.len() as u64, 2 * (frames + 1));
        let place = |old: usize| old * 44_100 / 8_000 * 2;
        let near = |sample: i16, wanted: i16| (sample - wanted).abs() < 10;
        assert!(near(all[place(400)], 1_000) && near(all[place(2_001_200)], -1_000));
        assert!(all[place(900)..place(2_000_700)].iter().all(|&sample| sample == 0));
        assert!(all[place(2_001_700)..2 * frames as usize].iter().all(|&sample| sample == 0));
        assert_eq!(all[2 * frames as usize..], [7, 8]);
    }

    #[test]
    fn a_higher_rate_of_tapes_without_samples() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap();
        let [empty, silent, unknown, broken] = [1, 2, 3, 4].map(TapeId);
        spool.open_tape(empty, 8000, 1);
        spool.open_tape(silent, 8000, 1);
        spool.open_tape(broken, 0, 1);
        spool.silence(silent, 10).unwrap();
        spool.write(broken, &[1]).unwrap();
        for tape in [empty, silent, unknown] {
            spool.raise_rate(tape, 48_000).unwrap();
        }
        assert!(matches!(spool.raise_rate(broken, 8000), Err(Error::NoRate { from: 0, to: 8000, .. })));
        assert_eq!(spool.tapes[&broken].frames, 1);
        spool.close(broken).unwrap();
        assert!(matches!(spool.write(unknown, &[1]), Err(Error::NoTape(_))));
        for (tape, range, expected) in [(empty, 0..3, vec![5, 6, 0]), (silent, 59..62, vec![0, 5, 6])] {
            spool.write(tape, &[5, 6]).unwrap();
            let file = dir.path().join(spool.cut(tape, range, &[], &recording(tape.0), true).unwrap().file);
            assert_eq!(hound::WavReader::open(&file).unwrap().spec().sample_rate, 48_000);
            assert_eq!(samples(&file), expected);
        }
        assert_eq!(spooled(dir.path()), 0);
    }

    #[test]
    fn a_recording_that_is_there_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool =
            Spool::open_with(dir.path(), SpoolOptions { sha256: true, ..Default::default() }).unwrap();
        let mut make = |tape, sample, last| {
            spool.open_tape(tape, 8000, 1);
            spool.write(tape, &[sample; 10]).unwrap();
            spool.cut(tape, 0..10, &[], &recording(1), last).unwrap()
        };
        let first = make(TapeId(1), 1, true);
        assert_eq!(make(TapeId(2), 2, true), first);
        assert_eq!(make(TapeId(3), 3, false), first);
        assert_eq!(samples(&dir.path().join(&first.file)), [1; 10]);
        assert_eq!(first.sha256.unwrap().len(), 64);
        assert_eq!(spooled(dir.path()), 1);
        spool.close(TapeId(3)).unwrap();
        assert_eq!(spooled(dir.path()), 0);
    }

    #[test]
    fn more_tapes_than_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool =
            Spool::open_with(dir.path(), SpoolOptions { open_files: 3, ..Default::default() }).unwrap();
        for tape in 0..10 {
            spool.open_tape(TapeId(tape), 8000, 1);
        }
        for block in 0..5i16 {
            for tape in 0..10 {
                spool.write(TapeId(tape), &[tape as i16, block]).unwrap();
                assert!(spool.files.open.len() <= 3 && spool.files.order.len() == spool.files.open.len());
            }
        }
        for tape in 0..10 {
            let saved = spool.cut(TapeId(tape), 0..10, &[], &recording(tape), true).unwrap();
            let expected: Vec<i16> = (0..5).flat_map(|block| [tape as i16, block]).collect();
            assert_eq!(samples(&dir.path().join(saved.file)), expected);
        }
        assert_eq!(spooled(dir.path()), 0);
    }

    #[test]
    fn one_process_a_time_and_what_a_crash_leaves() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut spool = Spool::open(dir.path()).unwrap();
            assert!(matches!(Spool::open(dir.path()), Err(Error::Busy { .. })));
            spool.open_tape(TapeId(4), 8000, 1);
            spool.write(TapeId(4), &[1, 2, 3]).unwrap();
        }
        let spool = Spool::open(dir.path()).unwrap();
        let names: Vec<_> = spool.left().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["4.0.left", "4.1.left"]);
        // Playable, although its length was never written.
        let body = fs::read(&spool.left()[0]).unwrap();
        assert_eq!((&body[..4], body.len()), (&b"RIFF"[..], HEADER_LEN + 6));
    }

    #[test]
    fn names_are_safe() {
        let mut row = recording(1);
        row.from.user = "../Zoë /".into();
        row.to.user = String::new();
        assert_eq!(
            file_name(&row),
            "recordings/2023/11/14/20231114T221321.000Z_.._Zo____unknown_00000001.wav"
        );
        row.to.user = "x".repeat(100);
        assert!(file_name(&row).len() < 120);
    }
}
