//! The archive's part of the work: the engine's events, carried out.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spantape_core::event::Event;
use spantape_core::record::{CallRow, RecordingRow};
use spantape_store::{Archive, ArchiveOptions, Saved};

use crate::finish::{Audio, Complete, Finishing, Haste, Ready};

/// Is told what has been completed.
pub(crate) type Tell = Box<dyn FnMut(Done<'_>) + Send>;

/// Something has been completed.
pub(crate) enum Done<'a> {
    Call(&'a CallRow),
    Recording(&'a RecordingRow, &'a Saved),
}

/// What has been kept.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) recordings: u64,
    pub(crate) seconds: f64,
    pub(crate) answered: u64,
    pub(crate) streams: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) duplicate: u64,
    /// Calls that had audio without a decoder, by codec.
    pub(crate) undecodable: BTreeMap<String, u64>,
    /// Recordings that were left as they were, as others took too long.
    pub(crate) skipped: u64,
    /// What could not be decoded or encoded, the first few.
    pub(crate) undecoded: Vec<String>,
}

/// Problems that are told.
const PROBLEMS: usize = 20;

/// Carries out what the engine says.
pub(crate) trait CarryOut {
    /// Carries out what has happened, or sees to it. Which media is wanted is nothing to an archive.
    fn carry_out(&mut self, event: Event) -> Result<()>;
}

/// An archive and what is on its way there.
pub(crate) struct Archivist {
    pub(crate) archive: Archive,
    finishing: Finishing,
    pub(crate) tally: Tally,
    tell: Option<Tell>,
}

impl Archivist {
    /// Opens the archive, which is created if it is not there.
    pub(crate) fn new(
        audio: &Audio,
        haste: Haste,
        archive: &Path,
        mut options: ArchiveOptions,
    ) -> Result<Archivist> {
        options.spool.encoding = audio.form.encoding();
        options.spool.traces = audio.pcap;
        options.spool.recipients = audio.recipients.clone();
        options.spool.open_files = files_of_tapes();
        let archive = Archive::create_with(archive, options)?;
        Ok(Archivist {
            finishing: Finishing::new(audio, haste, archive.finished()),
            archive,
            tally: Tally::default(),
            tell: None,
        })
    }

    /// Who is to be told what has been completed.
    pub(crate) fn tell(&mut self, tell: Tell) {
        self.tell = Some(tell);
    }

    /// After it, nothing that has been completed until now is lost when the process is killed.
    pub(crate) fn write_log(&mut self) -> Result<()> {
        self.keep_rows()?;
        Ok(self.archive.write_log()?)
    }

    /// Writes what is known to the catalog.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.keep_rows()?;
        Ok(self.archive.flush()?)
    }

    /// Waits for what is with those that finish recordings, and brings it to the catalog.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.finishing.finish();
        self.flush()
    }

    /// Adds rows that are complete to the catalog.
    fn keep_rows(&mut self) -> Result<()> {
        while let Some(ready) = self.finishing.poll() {
            match ready {
                Ready::Recording(Complete { row, saved, problems }) => {
                    self.archive.recording(&row, &saved)?;
                    if let Some(tell) = &mut self.tell {
                        tell(Done::Recording(&row, &saved));
                    }
                    self.tally.recordings += 1;
                    self.tally.seconds += row.frames as f64 / f64::from(row.sample_rate);
                    let room = PROBLEMS.saturating_sub(self.tally.undecoded.len());
                    let told = problems.into_iter().map(|problem| format!("{}: {problem}", saved.file));
                    self.tally.undecoded.extend(told.take(room));
                    self.tally.skipped = self.finishing.skipped;
                }
                Ready::Call(row) => {
                    self.tally.answered += u64::from(row.answer.is_some());
                    for codec in &row.undecodable {
                        *self.tally.undecodable.entry(codec.clone()).or_default() += 1;
                    }
                    self.archive.call(&row)?;
                    if let Some(tell) = &mut self.tell {
                        tell(Done::Call(&row));
                    }
                }
                Ready::Stream(row) => {
                    self.tally.streams += 1;
                    self.tally.lost += row.completeness.lost;
                    self.tally.late += row.completeness.late;
                    self.tally.duplicate += row.completeness.duplicate;
                    self.archive.stream(&row)?;
                }
            }
        }
        Ok(())
    }
}

impl CarryOut for Archivist {
    fn carry_out(&mut self, event: Event) -> Result<()> {
        let archive = &mut self.archive;
        match event {
            Event::TapeOpened { tape, channels, sample_rate, rule } => {
                archive.open_tape(tape, sample_rate, channels, rule)?;
            }
            Event::TapeSamples { tape, samples } => archive.write_channels(tape, &samples)?,
            Event::TapeSilence { tape, frames } => archive.silence(tape, frames)?,
            Event::TapeOverdub { tape, frame, side, samples } => {
                archive.overdub(tape, side.channel(), frame, &samples)?;
            }
            Event::TapePacket { tape, side, source, destination, packet } => {
                archive.packet(tape, side, (source, destination), &packet)?;
            }
            Event::TapeErase { tape, range } => archive.erase(tape, range)?,
            Event::TapeRate { tape, sample_rate } => archive.raise_rate(tape, sample_rate)?,
            Event::TapeKept { tape, parts } => archive.keep(tape, parts)?,
            Event::TapeClosed { tape } => archive.close(tape)?,
            Event::Recording { tape, range, left_out, last, row } => {
                if let Some(saved) = archive.save(tape, range, &left_out, &row, last)? {
                    self.finishing.recording(row, saved);
                }
            }
            Event::Call(row) => self.finishing.call(row),
            Event::Stream(row) => self.finishing.stream(row),
            Event::Quality(row) => archive.quality(&row)?,
            Event::Happened(row) => archive.event(&row)?,
            Event::Signalled { call, signal } => archive.signal(call, signal)?,
            Event::Media { .. } => {}
        }
        self.keep_rows()
    }
}

/// How many tapes may have their files open: as many as this process may have at all, but for some. Of more than that, each
/// block of audio would open a file and close another.
fn files_of_tapes() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Programs that cannot bear many are why there are two limits (systemd.exec(5), LimitNOFILE=).
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let most = if raised.is_ok() { limit.maximum } else { limit.current };
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(MOST_FILES);
    most.saturating_sub(OTHER_FILES).clamp(LEAST_FILES, MOST_FILES)
}

const LEAST_FILES: usize = 64;
const MOST_FILES: usize = 1 << 17;
/// Sockets, the catalog, and what finishes recordings.
const OTHER_FILES: usize = 256;

/// An archivist on a thread of its own. It takes what has happened in the same order as it would on this one, so that the
/// archive is the same.
pub(crate) struct Apart {
    events: Sender<Vec<Event>>,
    /// What has been carried out, to be filled again.
    empty: Receiver<Vec<Event>>,
    batch: Vec<Event>,
    thread: Option<JoinHandle<Result<Archivist>>>,
}

/// Events that are handed over together, most of them 8 kB of audio, and how many such batches may wait.
const BATCH: usize = 32;
const BATCHES: usize = 4;

impl Apart {
    /// Takes the archivist to another thread.
    pub(crate) fn start(mut archivist: Archivist) -> Result<Apart> {
        let (events, taken) = bounded::<Vec<Event>>(BATCHES);
        let (give_back, empty) = bounded(BATCHES);
        let keep = move || -> Result<Archivist> {
            for mut batch in taken {
                for event in batch.drain(..) {
                    archivist.carry_out(event)?;
                }
                // One more than fits is made anew.
                let _ = give_back.try_send(batch);
            }
            Ok(archivist)
        };
        let thread = thread::Builder::new().name("keep".to_owned()).spawn(keep).context("start a thread")?;
        Ok(Apart { events, empty, batch: Vec::with_capacity(BATCH), thread: Some(thread) })
    }

    /// Takes the archivist back, once it has carried out all.
    pub(crate) fn end(mut self) -> Result<Archivist> {
        // Who wants no more has failed, and says why.
        let _ = self.events.send(std::mem::take(&mut self.batch));
        let thread = self.thread.take();
        drop(self);
        join(thread)
    }
}

impl CarryOut for Apart {
    fn carry_out(&mut self, event: Event) -> Result<()> {
        self.batch.push(event);
        if self.batch.len() < BATCH {
            return Ok(());
        }
        let next = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        match self.events.send(std::mem::replace(&mut self.batch, next)) {
            Ok(()) => Ok(()),
            Err(_) => join(self.thread.take()).map(drop),
        }
    }
}

fn join(thread: Option<JoinHandle<Result<Archivist>>>) -> Result<Archivist> {
    let kept = thread.context("it has failed before")?.join();
    kept.map_err(|_| anyhow!("the thread that writes has panicked: this is a defect, please report it"))?
}
