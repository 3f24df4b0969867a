//! What spantape keeps: recordings as WAV, the Parquet catalog, and its queries.
//!
//! ```text
//! <archive>/recordings/YYYY/MM/DD/*.wav                      finished recordings (spool, wav)
//! <archive>/recordings/YYYY/MM/DD/*.rtpdump                  what of them has no decoder (packets, rtpdump)
//! <archive>/catalog/<table>/day=YYYY-MM-DD/part-*.parquet    what is known of them (catalog, query)
//! <archive>/spool/                                           recordings still going on (spool)
//! ```

pub mod catalog;
mod columns;
pub mod error;
pub mod finished;
mod packets;
mod partition;
mod predicate;
pub mod query;
pub mod rows;
pub mod rtpdump;
mod scan;
pub mod schema;
pub mod spool;
pub mod utc;
pub mod wav;

#[cfg(test)]
#[path = "../tests/examples/mod.rs"]
mod testing;

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use spantape_core::media::TapeId;
use spantape_core::record::{CallRow, EventRow, RecordingRow, Side, StreamRow};
use spantape_core::rtp::Undecoded;

pub use crate::catalog::Catalog;
pub use crate::error::{Error, Result};
pub use crate::finished::Finished;
pub use crate::query::{Query, QueryStats, Rows};
pub use crate::schema::Table;
pub use crate::spool::{Saved, Spool, SpoolOptions};

/// An archive that is recorded into: its tapes and its catalog.
#[derive(Debug)]
pub struct Archive {
    spool: Spool,
    catalog: Catalog,
}

impl Archive {
    /// Opens an archive, which is created if it is not there. Only one process at a time may have it open.
    pub fn create(path: &Path) -> Result<Archive> {
        Archive::create_with(path, SpoolOptions::default())
    }

    /// Opens an archive with other options than the default ones.
    pub fn create_with(path: &Path, options: SpoolOptions) -> Result<Archive> {
        Ok(Archive { spool: Spool::open_with(path, options)?, catalog: Catalog::open(path)? })
    }

    /// The two halves, for threads of their own.
    pub fn split(self) -> (Spool, Catalog) {
        (self.spool, self.catalog)
    }

    /// See [`Spool::open_tape`].
    pub fn open_tape(&mut self, id: TapeId, sample_rate: u32, channels: u16) {
        self.spool.open_tape(id, sample_rate, channels);
    }

    /// See [`Spool::write`].
    pub fn write(&mut self, id: TapeId, samples: &[i16]) -> Result<()> {
        self.spool.write(id, samples)
    }

    /// See [`Spool::overdub`].
    pub fn overdub(&mut self, id: TapeId, channel: usize, frame: u64, samples: &[i16]) -> Result<()> {
        self.spool.overdub(id, channel, frame, samples)
    }

    /// See [`Spool::silence`].
    pub fn silence(&mut self, id: TapeId, frames: u64) -> Result<()> {
        self.spool.silence(id, frames)
    }

    /// See [`Spool::erase`].
    pub fn erase(&mut self, id: TapeId, range: Range<u64>) -> Result<()> {
        self.spool.erase(id, range)
    }

    /// See [`Spool::raise_rate`].
    pub fn raise_rate(&mut self, id: TapeId, sample_rate: u32) -> Result<()> {
        self.spool.raise_rate(id, sample_rate)
    }

    /// See [`Spool::packet`].
    pub fn packet(
        &mut self,
        id: TapeId,
        side: Side,
        addresses: (SocketAddr, SocketAddr),
        packet: &Undecoded,
    ) -> Result<()> {
        self.spool.packet(id, side, addresses, packet)
    }

    /// See [`Spool::cut`]. The recording is not in the catalog until [`Archive::recording`] has added it.
    pub fn save(
        &mut self,
        id: TapeId,
        range: Range<u64>,
        left_out: &[Range<u64>],
        row: &RecordingRow,
        last: bool,
    ) -> Result<Saved> {
        self.spool.cut(id, range, left_out, row, last)
    }

    /// See [`Catalog::recording`].
    pub fn recording(&mut self, row: &RecordingRow, saved: &Saved) -> Result<()> {
        self.catalog.recording(row, saved)
    }

    /// The files of recordings that are finished.
    pub fn finished(&self) -> Finished {
        self.spool.finished()
    }

    /// Makes a recording of a range of a tape ([`Spool::cut`]) and adds it to the catalog.
    pub fn cut(
        &mut self,
        id: TapeId,
        range: Range<u64>,
        left_out: &[Range<u64>],
        row: &RecordingRow,
        last: bool,
    ) -> Result<Saved> {
        let saved = self.save(id, range, left_out, row, last)?;
        self.recording(row, &saved)?;
        Ok(saved)
    }

    /// See [`Spool::close`].
    pub fn close(&mut self, id: TapeId) -> Result<()> {
        self.spool.close(id)
    }

    /// See [`Catalog::call`].
    pub fn call(&mut self, row: &CallRow) -> Result<()> {
        self.catalog.call(row)
    }

    /// See [`Catalog::stream`].
    pub fn stream(&mut self, row: &StreamRow) -> Result<()> {
        self.catalog.stream(row)
    }

    /// See [`Catalog::event`].
    pub fn event(&mut self, row: &EventRow) -> Result<()> {
        self.catalog.event(row)
    }

    /// See [`Catalog::flush`].
    pub fn flush(&mut self) -> Result<()> {
        self.catalog.flush()
    }
}
