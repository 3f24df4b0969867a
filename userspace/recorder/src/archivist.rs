//! The archive's part of the work: the engine's events, carried out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use spantape_core::event::Event;
use spantape_core::record::{CallRow, RecordingRow};
use spantape_store::{Archive, ArchiveOptions, Saved, Shortage, Table};

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
        self.keep_rows()?;
        // What waits for no recording, meanwhile. What cannot be written is tried again with the rest.
        let _ = self.archive.flush_tables(&[Table::Events, Table::Quality]);
        self.finishing.finish();
        self.flush()
    }

    /// Does all that comes until nothing will. Whoever hands something over after a failure hears of it at once.
    fn keep(
        &mut self,
        work: Receiver<Work>,
        give_back: &Sender<Vec<Event>>,
        progress: &Mutex<Progress>,
    ) -> Result<()> {
        for Work { mut events, write_log, flush, answers } in work {
            events.drain(..).try_for_each(|event| self.carry_out(event))?;
            // One more than fits is made anew.
            let _ = give_back.try_send(events);
            if write_log {
                self.write_log()?;
                let mut progress = lock(progress);
                progress.recordings = self.tally.recordings;
                progress.shortage.clone_from(self.archive.shortage());
            }
            if flush {
                self.flush()?;
            }
            answers.into_iter().for_each(|answer| answer());
        }
        Ok(())
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
    work: Option<Sender<Work>>,
    /// What is to be handed over next.
    next: Work,
    /// What has been carried out, to be filled again.
    empty: Receiver<Vec<Event>>,
    progress: Arc<Mutex<Progress>>,
    thread: Option<JoinHandle<Result<Archivist>>>,
}

/// What has happened, and what is to be done once it has been carried out.
#[derive(Default)]
struct Work {
    events: Vec<Event>,
    /// See [`Archivist::write_log`].
    write_log: bool,
    /// See [`Archivist::flush`].
    flush: bool,
    /// Of those who wait for it.
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

/// What has come of it until now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) recordings: u64,
    pub(crate) shortage: Shortage,
}

/// Events that are handed over together at most, most of them 8 kB of audio.
const BATCH: usize = 32;
/// Bytes of a batch of blocks of audio at 8 kHz, about.
pub(crate) const EVENTS_BYTES: usize = BATCH * (8 << 10);
/// How often who waits looks whether there is still something to wait for.
const LOOK: Duration = Duration::from_millis(50);

impl Apart {
    /// Takes the archivist to another thread. So many batches may wait for it.
    pub(crate) fn start(mut archivist: Archivist, batches: usize) -> Result<Apart> {
        let (work, taken) = bounded(batches);
        let (give_back, empty) = bounded(batches);
        let progress = Arc::default();
        let keep = {
            let progress = Arc::clone(&progress);
            move || match archivist.keep(taken, &give_back, &progress) {
                Ok(()) => Ok(archivist),
                Err(error) => {
                    // What has been recorded shall be found, whatever has stopped this.
                    let _ = archivist.finish();
                    Err(error)
                }
            }
        };
        let thread = thread::Builder::new().name("keep".to_owned()).spawn(keep).context("start a thread")?;
        let next = Work { events: Vec::with_capacity(BATCH), ..Work::default() };
        Ok(Apart { work: Some(work), next, empty, progress, thread: Some(thread) })
    }

    /// Takes the archivist back, once it has carried out all.
    pub(crate) fn end(mut self) -> Result<Archivist> {
        self.hand_over()?;
        self.work = None;
        join(self.thread.take())
    }

    /// See [`Archivist::write_log`]: soon after. What has to wait is handed over no later than when this is asked for and
    /// nothing waits any more, so it is to be asked for often.
    pub(crate) fn write_log(&mut self) -> Result<()> {
        self.next.write_log = true;
        self.hand_over_unless_late()
    }

    /// See [`Archivist::flush`]: soon after.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.next.flush = true;
        self.hand_over_unless_late()
    }

    /// Answers once all that has happened until now is in the archive and in its log.
    pub(crate) fn answer(&mut self, answer: impl FnOnce() + Send + 'static) -> Result<()> {
        self.next.write_log = true;
        self.next.answers.push(Box::new(answer));
        self.hand_over_unless_late()
    }

    /// Waits until all that has happened until now has been carried out.
    pub(crate) fn catch_up(&mut self) -> Result<()> {
        let (done, is_done) = bounded::<()>(0);
        self.next.write_log = true;
        self.next.answers.push(Box::new(|| drop(done)));
        self.hand_over()?;
        // Nothing comes, but the end of what would say it. Of a failure hears who hands over something next.
        while is_done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) && !self.has_ended() {}
        Ok(())
    }

    /// As it was when the log was written last.
    pub(crate) fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    /// Nothing more will be carried out.
    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Hands over what there is, unless something waits: then more is gathered, as a few events would take the place of many.
    fn hand_over_unless_late(&mut self) -> Result<()> {
        let is_late = self.work.as_ref().is_some_and(|work| !work.is_empty());
        if is_late && !self.has_ended() { Ok(()) } else { self.hand_over() }
    }

    /// Waits where too much is waiting.
    fn hand_over(&mut self) -> Result<()> {
        let events = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        let work = std::mem::replace(&mut self.next, Work { events, ..Work::default() });
        match self.work.as_ref().map(|to| to.send(work)) {
            Some(Ok(())) => Ok(()),
            // Who wants no more has failed, and says why.
            _ => join(self.thread.take()).map(drop),
        }
    }
}

impl CarryOut for Apart {
    fn carry_out(&mut self, event: Event) -> Result<()> {
        self.next.events.push(event);
        if self.next.events.len() < BATCH { Ok(()) } else { self.hand_over() }
    }
}

/// What has been handed over is kept, whatever has become of those who did.
impl Drop for Apart {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.hand_over();
            self.work = None;
            let _ = join(self.thread.take()).and_then(|mut archivist| archivist.finish());
        }
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    // Figures that a thread has left as it panicked are as good as any.
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

fn join(thread: Option<JoinHandle<Result<Archivist>>>) -> Result<Archivist> {
    let kept = thread.context("it has failed before")?.join();
    kept.map_err(|_| anyhow!("the thread that writes has panicked: this is a defect, please report it"))?
}

#[cfg(test)]
mod tests {
    use spantape_core::media::TapeId;
    use spantape_core::record::{EventRow, Id};
    use spantape_core::time::Timestamp;
    use spantape_store::Query;
    use tempfile::TempDir;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn begin(batches: usize) -> (TempDir, Apart) {
        let archive = TempDir::new().unwrap();
        let archivist =
            Archivist::new(&Audio::default(), Haste::Live, archive.path(), ArchiveOptions::default());
        let apart = Apart::start(archivist.unwrap(), batches).unwrap();
        (archive, apart)
    }

    fn happened(n: i64) -> Event {
        Event::Happened(Box::new(EventRow {
            call: Id([7; 16]),
            call_id: "a@b".to_owned(),
            at: Timestamp(n),
            kind: "drop",
            trigger: "",
            verb: "",
            outcome: "",
            source: None,
            destination: None,
            text: String::new(),
        }))
    }

    fn events_in(archive: &Path) -> usize {
        let rows = Query { table: Table::Events, ..Query::default() }.run(archive).unwrap();
        rows.map(|batch| batch.unwrap().num_rows()).sum()
    }

    #[test]
    fn a_disk_that_is_slow_for_a_moment_holds_nothing_up() {
        let (archive, mut apart) = begin(4);
        let (gate, closed) = bounded::<()>(0);
        apart.answer(move || closed.recv().unwrap_or_default()).unwrap();
        let (done, is_done) = bounded(1);
        let engine = thread::spawn(move || {
            // More than there is room for, if each had a place of its own.
            for n in 0..100 {
                apart.carry_out(happened(n)).unwrap();
                apart.write_log().unwrap();
            }
            done.send(()).unwrap();
            apart
        });
        assert_eq!(is_done.recv_timeout(MINUTE), Ok(()), "it waits");
        drop(gate);
        let mut apart = engine.join().unwrap();
        apart.catch_up().unwrap();
        apart.end().unwrap().finish().unwrap();
        assert_eq!(events_in(archive.path()), 100);
    }

    #[test]
    fn who_asks_is_answered_when_it_is_done() {
        let (_archive, mut apart) = begin(4);
        let (gate, closed) = bounded::<()>(0);
        apart.answer(move || closed.recv().unwrap_or_default()).unwrap();
        let (reply, answer) = bounded(1);
        apart.answer(move || reply.send(()).unwrap()).unwrap();
        assert!(answer.try_recv().is_err(), "nothing has been done");
        drop(gate);
        apart.catch_up().unwrap();
        assert_eq!(answer.try_recv(), Ok(()));
        apart.end().unwrap();
    }

    #[test]
    fn a_failure_is_told_and_what_came_before_it_is_kept() {
        let (archive, mut apart) = begin(4);
        apart.carry_out(happened(1)).unwrap();
        apart.carry_out(Event::TapeSilence { tape: TapeId(9), frames: 1 }).unwrap();
        let (reply, answer) = bounded::<()>(1);
        apart.answer(move || reply.send(()).unwrap()).unwrap();
        let error = apart.end().err().unwrap();
        assert!(error.to_string().contains('9'), "{error}");
        assert!(answer.recv_timeout(MINUTE).is_err(), "answered, and was not done");
        assert_eq!(events_in(archive.path()), 1);
    }

    #[test]
    fn nobody_waits_for_what_has_failed() {
        let (_archive, mut apart) = begin(4);
        let (gate, closed) = bounded::<()>(0);
        apart.answer(move || closed.recv().unwrap_or_default()).unwrap();
        for _ in 0..BATCH {
            apart.carry_out(Event::TapeSilence { tape: TapeId(9), frames: 1 }).unwrap();
        }
        let (done, is_done) = bounded(1);
        thread::spawn(move || {
            let ended = apart.catch_up().and_then(|()| apart.end().map(drop));
            done.send(ended.is_err()).unwrap();
        });
        drop(gate);
        assert_eq!(is_done.recv_timeout(MINUTE), Ok(true));
    }

    #[test]
    fn what_was_handed_over_is_kept_whatever_becomes_of_who_did() {
        let (archive, mut apart) = begin(4);
        apart.carry_out(happened(1)).unwrap();
        apart.write_log().unwrap();
        apart.carry_out(happened(2)).unwrap();
        drop(apart);
        assert_eq!(events_in(archive.path()), 2);
    }
}
