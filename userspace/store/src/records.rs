//! What comes by while a tape runs, kept beside it until it is known which recordings it belongs to.
//!
//! ```text
//! offset  size  of each record, in the machine's byte order
//!      0     1  kind, by whoever keeps it
//!      1     2  length of the body
//!      3    24  when it came, when it is to be heard, how long: nanoseconds, the first two from the tape's start
//!     27        the body
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Take};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use spantape_core::media::LONGEST_PACKET;

use crate::error::{Result, io};
use crate::spool;

/// Bytes that wait in memory at most.
const BUFFERED: usize = 64 << 10;
/// Bytes before each body.
const HEAD: usize = 27;

/// A file of records that grows.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    buffer: Vec<u8>,
    /// Bytes in the file.
    written: u64,
}

/// When something came and is to be heard: nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// When it came, from the tape's start.
    pub(crate) at: i64,
    /// When it is to be heard, likewise.
    pub(crate) place: i64,
    /// How long; 0 when that is not known.
    pub(crate) length: i64,
}

impl Times {
    /// Whether any of it would be heard then. Of unknown length, it may be long.
    pub(crate) fn is_heard_in(&self, time: &Range<i64>) -> bool {
        let length = if self.length == 0 { LONGEST_PACKET } else { self.length };
        self.place < time.end && time.start < self.place.saturating_add(length)
    }
}

impl Records {
    /// In a file that is made when the first of them are written.
    pub(crate) fn new(path: PathBuf) -> Records {
        Records { path, buffer: Vec::new(), written: 0 }
    }

    /// What an earlier process has left of them.
    pub(crate) fn found(path: PathBuf) -> Result<Records> {
        let written = fs::metadata(&path).map_err(io("look at", &path))?.len();
        Ok(Records { path, buffer: Vec::new(), written })
    }

    /// Adds one. What is too long is left out.
    pub(crate) fn push(&mut self, kind: u8, times: Times, body: &[&[u8]]) -> Result<()> {
        let length = body.iter().map(|part| part.len()).sum::<usize>();
        let Ok(length) = u16::try_from(length) else { return Ok(()) };
        self.buffer.push(kind);
        self.buffer.extend(length.to_ne_bytes());
        [times.at, times.place, times.length].iter().for_each(|time| self.buffer.extend(time.to_ne_bytes()));
        body.iter().for_each(|part| self.buffer.extend(*part));
        if self.buffer.len() > BUFFERED { self.flush() } else { Ok(()) }
    }

    /// Writes what waits in memory. What there is no room for is gone: it may not pile up.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.write();
        if written.is_ok() {
            self.written += self.buffer.len() as u64;
        }
        self.buffer.clear();
        written
    }

    fn write(&self) -> Result<()> {
        let file = File::options().create(true).truncate(false).write(true).open(&self.path);
        let file = file.map_err(io("open", &self.path))?;
        file.write_all_at(&self.buffer, self.written).map_err(io("write", &self.path))
    }

    /// Overwrites the bodies of those that would be heard in that time, or in a part of it. `blank` says what is left of
    /// a record, which may not be longer than it was; `None` when it has nothing that must go.
    pub(crate) fn erase(
        &mut self,
        time: &Range<i64>,
        mut blank: impl FnMut(u8, Vec<u8>) -> Option<(u8, Vec<u8>)>,
    ) -> Result<()> {
        let mut rest = &self.buffer[..];
        let (mut blanked, mut at) = (Vec::with_capacity(self.buffer.len()), 0);
        while let Some(entry) = Entry::read(&mut rest).map_err(io("read", &self.path))? {
            let end = self.buffer.len() - rest.len();
            blanked.extend_from_slice(&self.buffer[at..end]);
            if let Some((kind, body)) = entry.blanked(time, &mut blank) {
                blanked[at] = kind;
                blanked[at + HEAD..].copy_from_slice(&body);
            }
            at = end;
        }
        self.buffer = blanked;
        if self.written == 0 {
            return Ok(());
        }
        let file = File::options().read(true).write(true).open(&self.path).map_err(io("open", &self.path))?;
        let mut at = 0;
        let mut reader = BufReader::new(&file).take(self.written);
        while let Some(entry) = Entry::read(&mut reader).map_err(io("read", &self.path))? {
            let length = (HEAD + entry.body.len()) as u64;
            if let Some((kind, body)) = entry.blanked(time, &mut blank) {
                file.write_all_at(&body, at + HEAD as u64)
                    .and_then(|()| file.write_all_at(&[kind], at))
                    .map_err(io("erase what must not be kept in", &self.path))?;
            }
            at += length;
        }
        Ok(())
    }

    /// All of them so far; `None` when there are none.
    pub(crate) fn read(&mut self) -> Result<Option<Take<BufReader<File>>>> {
        self.flush()?;
        if self.written == 0 {
            return Ok(None);
        }
        let file = File::open(&self.path).map_err(io("open", &self.path))?;
        Ok(Some(BufReader::new(file).take(self.written)))
    }

    /// Removes what is left of it.
    pub(crate) fn remove(&self) -> Result<()> {
        spool::remove(&self.path)
    }
}

/// One of them.
pub(crate) struct Entry {
    pub(crate) kind: u8,
    pub(crate) times: Times,
    pub(crate) body: Vec<u8>,
}

impl Entry {
    /// What is left of it, of the same length, if it would be heard in that time.
    fn blanked(
        self,
        time: &Range<i64>,
        blank: &mut impl FnMut(u8, Vec<u8>) -> Option<(u8, Vec<u8>)>,
    ) -> Option<(u8, Vec<u8>)> {
        let length = self.body.len();
        let (kind, mut body) =
            if self.times.is_heard_in(time) { blank(self.kind, self.body)? } else { return None };
        body.resize(length, 0);
        Some((kind, body))
    }

    /// The next one; `None` at the end, also where the last one is cut off.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Entry>> {
        let mut head = [0; HEAD];
        if !fill(from, &mut head)? {
            return Ok(None);
        }
        let time = |at: usize| {
            let bytes: [u8; 8] = std::array::from_fn(|index| head[at + index]);
            i64::from_ne_bytes(bytes)
        };
        let mut body = vec![0; usize::from(u16::from_ne_bytes([head[1], head[2]]))];
        if !fill(from, &mut body)? {
            return Ok(None);
        }
        let times = Times { at: time(3), place: time(11), length: time(19) };
        Ok(Some(Entry { kind: head[0], times, body }))
    }
}

fn fill(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}
