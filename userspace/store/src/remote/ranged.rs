//! A part of the catalog on an object store, of which not more is read than is needed.
//!
//! Parquet is read in small pieces, here and there, and each request takes longer than what it brings. So whole blocks are
//! asked for and kept; the ends of parts, where the footers are, those of several parts at once; and where one block after
//! the other is read, several at once.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::Remote;
use crate::error::{self, Error, parquet};

/// Bytes of a block.
const BLOCK: u64 = 256 << 10;
/// Blocks that are asked for where the one before was read.
const AHEAD: u64 = 8;
/// Blocks of a part that are kept.
const KEPT: usize = 512;
/// Bytes at the end of a part in which its footer is expected.
const FOOTER: u64 = 64 << 10;
/// Parts whose ends are asked for at once.
const ENDS: usize = 32;

/// A part, and what of it has been read.
#[derive(Clone, Debug)]
pub(crate) struct Ranged(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    remote: Remote,
    name: String,
    bytes: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: HashMap<u64, Bytes>,
    /// The oldest first.
    order: VecDeque<u64>,
    /// Why it cannot be read any further.
    failed: Option<Error>,
}

impl Ranged {
    pub(super) fn new(remote: &Remote, name: String, bytes: u64) -> Ranged {
        Ranged(Arc::new(Inner { remote: remote.clone(), name, bytes, kept: Mutex::default() }))
    }

    /// Its URL.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.remote.path(&self.0.name)
    }

    /// Whether anything of it has been read.
    pub(crate) fn is_begun(&self) -> bool {
        self.0.bytes == 0 || !self.kept().blocks.is_empty()
    }

    /// Reads the ends of the next of these parts, those that have not been begun.
    pub(crate) fn begin<'a>(parts: impl Iterator<Item = &'a Ranged>) -> error::Result<()> {
        let parts: Vec<&Ranged> = parts.filter(|part| !part.is_begun()).take(ENDS).collect();
        let Some(first) = parts.first() else { return Ok(()) };
        let ends = parts.iter().map(|part| (part.0.name.as_str(), part.span(part.end()..u64::MAX / BLOCK)));
        let found = first.0.remote.ranges(&ends.collect::<Vec<_>>())?;
        for (part, bytes) in parts.iter().zip(&found) {
            part.kept().put(part.end(), bytes);
        }
        Ok(())
    }

    /// What is told of a failure to read it.
    pub(crate) fn failed(&self, error: ParquetError) -> Error {
        let failed = self.kept().failed.take();
        failed.unwrap_or_else(|| parquet("read", &self.path())(error))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block from which on its footer is expected.
    fn end(&self) -> u64 {
        self.0.bytes.saturating_sub(FOOTER) / BLOCK
    }

    /// The bytes of blocks.
    fn span(&self, blocks: Range<u64>) -> Range<u64> {
        blocks.start * BLOCK..(blocks.end * BLOCK).min(self.0.bytes)
    }

    fn range(&self, start: u64, length: u64) -> Result<Bytes> {
        let end = start.checked_add(length).filter(|end| *end <= self.0.bytes).ok_or_else(cut_short)?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let (first, last) = (start / BLOCK, (end - 1) / BLOCK);
        let mut kept = self.kept();
        if let Some(missing) = (first..=last).find(|block| !kept.blocks.contains_key(block)) {
            let goes_on = missing > 0 && kept.blocks.contains_key(&(missing - 1));
            let ahead = missing + if goes_on { AHEAD } else { 1 };
            let wanted = self.span(missing..ahead.max(last + 1));
            match self.0.remote.ranges(&[(self.0.name.as_str(), wanted)]) {
                Ok(found) => found.iter().for_each(|bytes| kept.put(missing, bytes)),
                Err(error) => {
                    kept.failed = Some(error);
                    return Err(cut_short());
                }
            }
        }
        let bytes = kept.get(start..end).ok_or_else(cut_short);
        kept.forget();
        bytes
    }
}

impl Kept {
    /// Keeps blocks from one on.
    fn put(&mut self, first: u64, bytes: &Bytes) {
        for (block, at) in (first..).zip((0..bytes.len()).step_by(BLOCK as usize)) {
            let bytes = bytes.slice(at..bytes.len().min(at + BLOCK as usize));
            if self.blocks.insert(block, bytes).is_none() {
                self.order.push_back(block);
            }
        }
    }

    /// A range, if all of its blocks are there.
    fn get(&self, range: Range<u64>) -> Option<Bytes> {
        let (first, last) = (range.start / BLOCK, (range.end - 1) / BLOCK);
        let within = |block: u64| {
            let from = range.start.saturating_sub(block * BLOCK);
            let to = (range.end - block * BLOCK).min(BLOCK);
            Some((self.blocks.get(&block)?, from as usize..to as usize))
        };
        if first == last {
            let (bytes, within) = within(first)?;
            return (within.end <= bytes.len()).then(|| bytes.slice(within));
        }
        let mut all = Vec::with_capacity((range.end - range.start) as usize);
        for block in first..=last {
            let (bytes, within) = within(block)?;
            all.extend_from_slice(bytes.get(within)?);
        }
        Some(all.into())
    }

    fn forget(&mut self) {
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.blocks.remove(&oldest);
            }
        }
    }
}

impl Length for Ranged {
    fn len(&self) -> u64 {
        self.0.bytes
    }
}

impl ChunkReader for Ranged {
    type T = Reader;

    fn get_read(&self, start: u64) -> Result<Reader> {
        Ok(Reader { part: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.range(start, length as u64)
    }
}

/// Reads on from one place.
pub(crate) struct Reader {
    part: Ranged,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.part.0.bytes.saturating_sub(self.at);
        let bytes = self.part.range(self.at, left.min(buffer.len() as u64))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

fn cut_short() -> ParquetError {
    ParquetError::EOF("less can be read than there should be".to_owned())
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    fn part(bytes: &[u8]) -> Ranged {
        let store = Arc::new(InMemory::new());
        let remote = Remote::over(store.clone(), "memory://calls").unwrap();
        let key = Path::from("part");
        remote.0.runtime.block_on(store.put(&key, bytes.to_vec().into())).unwrap();
        Ranged::new(&remote, "part".to_owned(), bytes.len() as u64)
    }

    #[test]
    fn whatever_is_asked_for() {
        let block = BLOCK as usize;
        for length in [1, FOOTER as usize, block, block + 1, 12 * block - 7] {
            let bytes: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
            let part = part(&bytes);
            assert!(!part.is_begun());
            Ranged::begin([&part].into_iter()).unwrap();
            assert!(part.is_begun());
            let places = [0, 1, 5 * block - 3, block, length / 2, length.saturating_sub(8), length];
            for at in places.map(|at| at.min(length)) {
                for wanted in [0, 1, 8, block, 3 * block + 1, length] {
                    let wanted = wanted.min(length - at);
                    let found = part.get_bytes(at as u64, wanted).unwrap();
                    assert!(found == bytes[at..at + wanted], "{wanted} of {length} from {at}");
                }
            }
            let mut all = Vec::new();
            part.get_read(0).unwrap().read_to_end(&mut all).unwrap();
            assert!(all == bytes, "{length}");
            assert!(part.get_bytes(length as u64, 1).is_err() && part.get_bytes(u64::MAX, 1).is_err());
        }
    }

    #[test]
    fn what_has_gone() {
        let remote = Remote::over(Arc::new(InMemory::new()), "memory://calls").unwrap();
        let part = Ranged::new(&remote, "catalog/part".to_owned(), 100);
        let error = part.get_bytes(0, 1).unwrap_err();
        let error = part.failed(error).to_string();
        assert_eq!(error, "cannot read memory://calls/catalog/part");
        let damaged = part.failed(cut_short()).to_string();
        assert!(damaged.contains("it is damaged"), "{damaged}");
    }
}
