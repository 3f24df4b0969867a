//! From frames to the archive: the engine's events, carried out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use spantape_core::engine::Engine;
use spantape_core::event::Event;
use spantape_core::rules::Config;
use spantape_store::Archive;

use crate::source::Frame;

/// Both sides of a call.
const CHANNELS: u16 = 2;

/// An engine and the archive that it records into.
pub(crate) struct Pipeline {
    engine: Engine,
    archive: Archive,
    tally: Tally,
}

/// What has been done, beside the engine's own counters.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) bytes: u64,
    pub(crate) recordings: u64,
    pub(crate) seconds: f64,
    pub(crate) answered: u64,
    pub(crate) streams: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) duplicate: u64,
    /// Calls that had audio without a decoder, by codec.
    pub(crate) undecodable: BTreeMap<String, u64>,
}

impl Pipeline {
    /// Opens the archive, which is created if it is not there.
    pub(crate) fn new(config: Config, archive: &Path) -> Result<Pipeline> {
        Ok(Pipeline {
            engine: Engine::new(config),
            archive: Archive::create(archive)?,
            tally: Tally::default(),
        })
    }

    /// Takes a frame and carries out what comes of it.
    pub(crate) fn handle_frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.tally.bytes += frame.data.len() as u64;
        self.engine.handle_frame(frame.at, frame.link, frame.data);
        self.carry_out()
    }

    /// There are no more frames: ends all calls and completes the archive.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.engine.finish();
        self.carry_out()?;
        Ok(self.archive.flush()?)
    }

    /// The engine's figures and our own.
    pub(crate) fn figures(&self) -> (spantape_core::engine::Counters, &Tally) {
        (self.engine.counters(), &self.tally)
    }

    fn carry_out(&mut self) -> Result<()> {
        while let Some(event) = self.engine.poll_event() {
            let archive = &mut self.archive;
            match event {
                Event::TapeOpened { tape, sample_rate } => archive.open_tape(tape, sample_rate, CHANNELS),
                Event::TapeSamples { tape, samples } => archive.write(tape, &samples)?,
                Event::TapeSilence { tape, frames } => archive.silence(tape, frames)?,
                Event::TapeOverdub { tape, frame, side, samples } => {
                    archive.overdub(tape, side.channel(), frame, &samples)?;
                }
                Event::TapeRate { tape, sample_rate } => archive.raise_rate(tape, sample_rate)?,
                Event::TapeClosed { tape } => archive.close(tape)?,
                Event::Recording { tape, range, last, row } => {
                    archive.cut(tape, range, &row, last)?;
                    self.tally.recordings += 1;
                    self.tally.seconds += row.frames as f64 / f64::from(row.sample_rate);
                }
                Event::Call(row) => {
                    self.tally.answered += u64::from(row.answer.is_some());
                    for codec in &row.undecodable {
                        *self.tally.undecodable.entry(codec.clone()).or_default() += 1;
                    }
                    archive.call(&row)?;
                }
                Event::Stream(row) => {
                    self.tally.streams += 1;
                    self.tally.lost += row.completeness.lost;
                    self.tally.late += row.completeness.late;
                    self.tally.duplicate += row.completeness.duplicate;
                    archive.stream(&row)?;
                }
                Event::Happened(row) => archive.event(&row)?,
                Event::Media { .. } => {}
            }
        }
        Ok(())
    }
}
