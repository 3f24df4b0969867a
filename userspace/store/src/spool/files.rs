//! Tapes as files, of which so many are open at a time.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use spantape_core::media::TapeId;
use spantape_core::time::SECOND;

use crate::error::{Error, Result, io};
use crate::wav::{self, Format, HEADER_LEN};

#[derive(Clone, Debug)]
pub(super) struct Tape {
    pub(super) format: Format,
    /// Length so far, silence at its end included.
    pub(super) frames: u64,
    /// Frames in its file: the others are silence at the end.
    pub(super) stored: u64,
    pub(super) on_disk: bool,
    /// What its file still is, where that could not be brought to the tape's rate.
    pub(super) behind: Option<Box<Tape>>,
}

impl Tape {
    /// What an earlier process has left of a tape.
    pub(super) fn found(path: &Path) -> Result<Option<Tape>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io("open", path))?,
        };
        let mut header = [0; HEADER_LEN];
        read_what_is_there(&file, &mut header, 0).map_err(io("read", path))?;
        let Some(format) = wav::read_format(&header) else { return Ok(None) };
        let length = file.metadata().map_err(io("look at", path))?.len();
        let frames = length.saturating_sub(HEADER_LEN as u64) / format.frame_bytes();
        Ok(Some(Tape { format, frames, stored: frames, on_disk: true, behind: None }))
    }

    pub(super) fn offset(&self, frame: u64) -> u64 {
        HEADER_LEN as u64 + frame.saturating_mul(self.format.frame_bytes())
    }

    /// The bytes of its file in which these frames lie, whatever the file's rate.
    pub(super) fn place(&self, frames: &Range<u64>) -> Range<u64> {
        let file = self.behind.as_deref().unwrap_or(self);
        let frames = outward(frames, self.format.sample_rate, file.format.sample_rate);
        file.offset(frames.start)..file.offset(frames.end)
    }

    /// Writes silence behind what is stored, as far as `end`: in PCM a hole is silence, in G.711 it is not.
    pub(super) fn fill(&mut self, file: &File, end: u64) -> io::Result<()> {
        let silence = self.format.encoding.silence();
        if silence != 0 {
            let block = [silence; 1 << 12];
            let (mut at, end) = (self.offset(self.stored), self.offset(end));
            while at < end {
                let count = usize::try_from(end - at).unwrap_or(block.len()).min(block.len());
                file.write_all_at(&block[..count], at)?;
                at += count as u64;
            }
        }
        self.stored = self.stored.max(end);
        Ok(())
    }

    /// Frames as nanoseconds.
    pub(super) fn time(&self, frames: &Range<u64>) -> Range<i64> {
        let rate = i128::from(self.format.sample_rate.max(1));
        let time =
            |frame: u64| i64::try_from(i128::from(frame) * i128::from(SECOND) / rate).unwrap_or(i64::MAX);
        time(frames.start)..time(frames.end)
    }
}

/// The open files of tapes, not more than `limit`.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) dir: PathBuf,
    limit: usize,
    pub(super) open: HashMap<TapeId, (File, u64)>,
    /// Who was used when: the first is the one to close.
    pub(super) order: BTreeMap<u64, TapeId>,
    uses: u64,
}

impl Files {
    pub(super) fn new(dir: PathBuf, limit: usize) -> Files {
        Files { dir, limit: limit.max(1), open: HashMap::new(), order: BTreeMap::new(), uses: 0 }
    }

    pub(super) fn path(&self, id: TapeId) -> PathBuf {
        path_in(&self.dir, id)
    }

    pub(super) fn get(&mut self, id: TapeId, tape: &mut Tape) -> Result<&File> {
        self.uses += 1;
        let file = match self.open.remove(&id) {
            Some((file, used)) => {
                self.order.remove(&used);
                file
            }
            None => self.open(id, tape)?,
        };
        self.order.insert(self.uses, id);
        Ok(&self.open.entry(id).insert_entry((file, self.uses)).into_mut().0)
    }

    fn open(&mut self, id: TapeId, tape: &mut Tape) -> Result<File> {
        while self.open.len() >= self.limit && self.close_oldest() {}
        loop {
            match open_file(&self.path(id), tape) {
                // The process has more other files open than was thought.
                Err(Error::Io { source, .. }) if is_full(&source) && self.close_oldest() => {
                    self.limit = self.open.len().max(1);
                }
                opened => return opened,
            }
        }
    }

    /// Returns whether there was one.
    fn close_oldest(&mut self) -> bool {
        let oldest = self.order.pop_first();
        oldest.is_some_and(|(_, oldest)| self.open.remove(&oldest).is_some())
    }

    pub(super) fn forget(&mut self, id: TapeId) {
        if let Some((_, used)) = self.open.remove(&id) {
            self.order.remove(&used);
        }
    }
}

/// Frames of one rate as those of another that have all of them.
pub(super) fn outward(frames: &Range<u64>, from: u32, to: u32) -> Range<u64> {
    let (from, to) = (u128::from(from.max(1)), u128::from(to.max(1)));
    let frame = |frame: u128| u64::try_from(frame).unwrap_or(u64::MAX);
    let (start, end) = (u128::from(frames.start) * to, u128::from(frames.end) * to);
    frame(start / from)..frame(end.div_ceil(from))
}

/// Whether no more files may be open.
fn is_full(error: &io::Error) -> bool {
    let full = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|error| full.contains(&error))
}

/// Fills `bytes` from the file as far as that goes; the rest stays as it is.
pub(super) fn read_what_is_there(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
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

pub(super) fn path_in(dir: &Path, id: TapeId) -> PathBuf {
    dir.join(format!("{id}.part"))
}

/// A tape is on the disk once its header is: what an attempt has left that got no further is begun anew.
fn open_file(path: &Path, tape: &mut Tape) -> Result<File> {
    let is_new = !tape.on_disk;
    let file = File::options().read(true).write(true).create(is_new).truncate(is_new).open(path);
    let file = file.map_err(io("open", path))?;
    if is_new {
        file.write_all_at(&wav::open_header(tape.format), 0).map_err(io("write", path))?;
        tape.on_disk = true;
    }
    Ok(file)
}
