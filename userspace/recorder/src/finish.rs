//! What is done with a recording once it has been cut, before the catalog has it: what the core cannot decode is decoded
//! by ffmpeg, if it is there, what is to be kept in another form than WAV is encoded, and it is hashed and encrypted.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, unbounded};
use spantape_core::record::{CallRow, Id, RecordingRow, StreamRow};
use spantape_store::encrypt::Recipients;
use spantape_store::wav::{self, HEADER_LEN};
use spantape_store::{Finished, Saved};

use crate::decode::{Ffmpeg, Gained, redecode};
use crate::encode::{self, Form};

/// Recordings that may wait while others are recorded; more of them stay what they are, and are only hashed and encrypted.
const WAITING: u64 = 256;
/// So many may wait for that.
const MOST_WAITING: u64 = 1 << 16;
/// Recordings that are finished at a time.
const WORKERS: usize = 4;
/// A replay hands a recording back before it takes the next but so many: enough for what else there is to do at its end to be
/// done meanwhile.
const AHEAD: u64 = 64;
/// Calls of which it is remembered what was decoded, until they end.
const CALLS: usize = 1 << 16;

/// What audio is made of, by the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audio {
    /// By what the codecs are decoded that the core does not know.
    pub(crate) ffmpeg: Choice,
    /// Undecoded packets are kept when they have been decoded, too.
    pub(crate) keep_rtp: bool,
    /// What a recording is kept as.
    pub(crate) form: Form,
    /// A capture file is kept beside it.
    pub(crate) pcap: bool,
    /// For whom it is encrypted; for nobody, it is not.
    pub(crate) recipients: Recipients,
}

/// Which ffmpeg is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The one that a shell would find.
    #[default]
    Auto,
    /// None.
    Off,
    /// The one at a path.
    At(PathBuf),
}

impl Choice {
    /// The program; `None` when there is none.
    pub(crate) fn find(&self) -> Option<Ffmpeg> {
        match self {
            Choice::Auto => Ffmpeg::find(),
            Choice::Off => None,
            Choice::At(path) => Ffmpeg::at(path),
        }
    }
}

/// What to do when more is to be done than can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// Wait: frames can, and what comes out must not depend on the machine. Without helpers there is one thread for all.
    None { helpers: bool },
    /// Leave it as it is: frames do not wait.
    Live,
}

/// A recording that has been cut.
struct Job {
    number: u64,
    row: Box<RecordingRow>,
    saved: Saved,
    /// Others wait: it stays what it is.
    is_late: bool,
    /// The rows of its call wait for it, as it may decode what they say was not.
    may_gain: bool,
}

/// The same, as it stays.
pub(crate) struct Complete {
    pub(crate) row: Box<RecordingRow>,
    pub(crate) saved: Saved,
    /// What could not be done, and why.
    pub(crate) problems: Vec<String>,
}

struct Answer {
    number: u64,
    may_gain: bool,
    complete: Complete,
    gained: Vec<Gained>,
}

/// A row of a call that waits for its recordings: it says what was not decoded.
enum Postponed {
    Stream(Box<StreamRow>),
    Call(Box<CallRow>),
}

/// A row that waits no longer.
pub(crate) enum Ready {
    Recording(Complete),
    Stream(Box<StreamRow>),
    Call(Box<CallRow>),
}

/// Finishes recordings on threads of its own, and hands them back in the order in which they were cut.
pub(crate) struct Finishing {
    desk: Desk,
    haste: Haste,
    workers: Option<Workers>,
    /// Numbers of the first job that is not handed back, and of the next.
    first: u64,
    next: u64,
    answers: BTreeMap<u64, Answer>,
    calls: BTreeMap<Id, Waiting>,
    ready: VecDeque<Ready>,
    /// Recordings left as they were because others took too long.
    pub(crate) skipped: u64,
}

#[derive(Default)]
struct Waiting {
    jobs: usize,
    rows: Vec<Postponed>,
    ssrcs: Vec<u32>,
    codecs: Vec<String>,
}

struct Workers {
    jobs: Sender<Job>,
    answers: Receiver<Answer>,
}

impl Finishing {
    /// Threads are started when there is something for them to do: they have the privileges of then.
    pub(crate) fn new(audio: &Audio, haste: Haste, finished: Finished) -> Finishing {
        Finishing {
            desk: Desk { ffmpeg: audio.ffmpeg.find(), keep_rtp: audio.keep_rtp, form: audio.form, finished },
            haste,
            workers: None,
            first: 0,
            next: 0,
            answers: BTreeMap::new(),
            calls: BTreeMap::new(),
            ready: VecDeque::new(),
            skipped: 0,
        }
    }

    /// A recording is finished. It is handed back by [`Finishing::poll`], as all rows are.
    pub(crate) fn recording(&mut self, row: Box<RecordingRow>, saved: Saved) {
        let mut job = Job { number: self.next, row, saved, is_late: false, may_gain: false };
        // However long a job takes, it is handed back before the same one of those that follow.
        while self.waits() && self.next - self.first >= AHEAD {
            self.collect(true);
        }
        let waiting = self.next - self.first;
        let may_gain = self.desk.may_gain(&job.saved);
        let is_room = !may_gain || self.calls.len() < CALLS || self.calls.contains_key(&job.row.call);
        job.is_late = waiting >= WAITING || !is_room;
        job.may_gain = may_gain && !job.is_late;
        if job.is_late && self.desk.changes(&job.saved) {
            self.skipped += 1;
        }
        if job.may_gain {
            self.calls.entry(job.row.call).or_default().jobs += 1;
        }
        self.next += 1;
        if self.workers.is_none() && self.haste != (Haste::None { helpers: false }) {
            let count = thread::available_parallelism().map_or(1, usize::from).min(WORKERS);
            self.workers = Workers::start(count, &self.desk);
        }
        match &self.workers {
            // Workers outlive whatever they do: there is one to take it.
            Some(workers) if waiting < MOST_WAITING => _ = workers.jobs.send(job),
            _ => {
                // Where frames do not wait, they wait for no more than must be.
                job.is_late |= !self.waits();
                self.answers.insert(job.number, self.desk.finish(job));
            }
        }
    }

    /// A stream is over.
    pub(crate) fn stream(&mut self, row: Box<StreamRow>) {
        let call = row.call;
        match self.calls.get_mut(&call) {
            Some(waiting) => waiting.rows.push(Postponed::Stream(row)),
            None => return self.ready.push_back(Ready::Stream(row)),
        }
        self.release(call);
    }

    /// A call is over.
    pub(crate) fn call(&mut self, row: Box<CallRow>) {
        let call = row.id;
        match self.calls.get_mut(&call) {
            Some(waiting) => waiting.rows.push(Postponed::Call(row)),
            None => return self.ready.push_back(Ready::Call(row)),
        }
        self.release(call);
    }

    /// The next row that waits no longer.
    pub(crate) fn poll(&mut self) -> Option<Ready> {
        self.collect(false);
        self.ready.pop_front()
    }

    /// Waits for all that is still to be done.
    pub(crate) fn finish(&mut self) {
        while self.first < self.next {
            self.collect(true);
        }
    }

    /// Whether frames wait for what is done here.
    fn waits(&self) -> bool {
        matches!(self.haste, Haste::None { .. })
    }

    fn collect(&mut self, wait: bool) {
        if self.first == self.next {
            return;
        }
        if let Some(workers) = &self.workers {
            if wait && !self.answers.contains_key(&self.first) {
                match workers.answers.recv() {
                    Ok(answer) => _ = self.answers.insert(answer.number, answer),
                    // Workers outlive whatever they do. Should none have, nothing is to wait for them for ever.
                    Err(_) => self.first += 1,
                }
            }
            self.answers.extend(workers.answers.try_iter().map(|answer| (answer.number, answer)));
        }
        // In a replay nothing may depend on which is done first, nor on when.
        while (wait || !self.waits())
            && let Some(answer) = self.answers.remove(&self.first)
        {
            self.hand_back(answer);
            if self.waits() {
                break;
            }
        }
    }

    fn hand_back(&mut self, answer: Answer) {
        self.first += 1;
        let call = answer.complete.row.call;
        self.ready.push_back(Ready::Recording(answer.complete));
        if !answer.may_gain {
            return;
        }
        if let Some(waiting) = self.calls.get_mut(&call) {
            waiting.jobs -= 1;
            for gained in answer.gained {
                waiting.ssrcs.extend(gained.ssrcs);
                waiting.codecs.extend(gained.codecs);
            }
        }
        self.release(call);
    }

    /// The rows of a call whose recordings are all finished. It is remembered until its end what was decoded of it.
    fn release(&mut self, call: Id) {
        let Some(waiting) = self.calls.get_mut(&call).filter(|waiting| waiting.jobs == 0) else { return };
        let mut is_over = waiting.ssrcs.is_empty() && waiting.codecs.is_empty();
        for row in waiting.rows.drain(..) {
            match row {
                Postponed::Stream(mut row) => {
                    if row.not_decoded == NO_DECODER && waiting.ssrcs.contains(&row.ssrc) {
                        row.not_decoded = "";
                    }
                    self.ready.push_back(Ready::Stream(row));
                }
                Postponed::Call(mut row) => {
                    row.undecodable.retain(|codec| !waiting.codecs.contains(codec));
                    self.ready.push_back(Ready::Call(row));
                    is_over = true;
                }
            }
        }
        if is_over {
            self.calls.remove(&call);
        }
    }
}

/// What the core says of a stream whose codec it does not know.
const NO_DECODER: &str = "no decoder";

impl Workers {
    fn start(count: usize, desk: &Desk) -> Option<Workers> {
        let (jobs, work) = unbounded::<Job>();
        let (done, answers) = unbounded();
        let mut started = false;
        for _ in 0..count {
            let (work, done, desk) = (work.clone(), done.clone(), desk.clone());
            let thread = thread::Builder::new().name("finish".to_owned()).spawn(move || {
                for job in work {
                    if done.send(desk.finish(job)).is_err() {
                        break;
                    }
                }
            });
            started |= thread.is_ok();
        }
        started.then_some(Workers { jobs, answers })
    }
}

/// Says what went wrong. What is decoded, anybody may have sent: a panic costs what was still to be done, and no more.
fn attempt(work: impl FnOnce() -> Result<()>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.err().map(|error| format!("{error:#}")),
        Err(_) => Some("it could not be finished: this is a defect, please report it".to_owned()),
    }
}

/// What is done, and by what.
#[derive(Clone)]
struct Desk {
    ffmpeg: Option<Ffmpeg>,
    keep_rtp: bool,
    form: Form,
    finished: Finished,
}

impl Desk {
    /// Whether a recording is to become another one, but for encryption.
    fn changes(&self, saved: &Saved) -> bool {
        self.may_gain(saved) || encode::is_wanted(self.form, saved)
    }

    /// Whether more of it may be heard.
    fn may_gain(&self, saved: &Saved) -> bool {
        self.ffmpeg.is_some() && saved.rtpdump.iter().any(Option::is_some)
    }

    /// All that is to be done. Whatever happens, the recording is there, and what was not decoded beside it; and whatever
    /// else has become of it, it is hashed, and encrypted if it is to be.
    fn finish(&self, mut job: Job) -> Answer {
        let mut gained = Vec::new();
        let changed = if job.is_late { None } else { attempt(|| self.work(&mut job, &mut gained)) };
        let Job { number, row, mut saved, may_gain, .. } = job;
        let completed = attempt(|| {
            let without = if self.finished.encrypts() { "it stays in clear" } else { "it has no hash" };
            saved = self.finished.complete(&saved).context(without)?;
            Ok(())
        });
        let told = gained.iter().flat_map(|gained| gained.problems.iter().cloned());
        let problems = changed.into_iter().chain(told).chain(completed).collect();
        Answer { number, may_gain, complete: Complete { row, saved, problems }, gained }
    }

    fn work(&self, job: &mut Job, gained: &mut Vec<Gained>) -> Result<()> {
        if let Some(ffmpeg) = self.ffmpeg.as_ref().filter(|_| job.saved.rtpdump.iter().any(Option::is_some)) {
            *gained = self.decode(ffmpeg, job)?;
        }
        if encode::is_wanted(self.form, &job.saved) {
            let scratch = self.finished.scratch()?;
            encode::encode(self.form, &self.finished.path(&job.saved.file), scratch.as_file(), &job.row)
                .context("it stays a WAV file")?;
            job.saved = self.finished.replace(&job.saved, scratch, self.form.extension())?;
        }
        Ok(())
    }

    fn decode(&self, ffmpeg: &Ffmpeg, job: &mut Job) -> Result<Vec<Gained>> {
        let scratch = self.finished.scratch()?;
        let dumps = job.saved.rtpdump.clone().map(|file| file.map(|file| self.finished.path(&file)));
        let gained = redecode(ffmpeg, &self.finished.path(&job.saved.file), &dumps, scratch.as_file())?;
        let row = &mut job.row;
        for (gained, report) in gained.iter().zip(&mut row.completeness) {
            let Some(gained) = gained else { continue };
            for codec in &gained.codecs {
                if !row.codecs.contains(codec) {
                    row.codecs.push(codec.clone());
                }
            }
            report.concealed_ms += gained.concealed_ms;
            report.silent_ms = report.silent_ms.saturating_sub(gained.heard_ms);
        }
        let all: Vec<Gained> = gained.iter().flatten().cloned().collect();
        if all.iter().all(|gained| gained.codecs.is_empty()) {
            return Ok(all);
        }
        let mut header = [0; HEADER_LEN];
        scratch.as_file().read_exact_at(&mut header, 0)?;
        let format = wav::read_format(&header).context("it is no WAV file of spantape")?;
        scratch.as_file().write_all_at(&wav::header(format, row.frames, row), 0)?;
        job.saved = self.finished.replace(&job.saved, scratch, "wav")?;
        for (side, gained) in gained.iter().enumerate() {
            if gained.as_ref().is_some_and(|gained| gained.complete) && !self.keep_rtp {
                self.finished.remove_rtpdump(&mut job.saved, side)?;
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use spantape_core::media::TapeId;
    use spantape_store::{Archive, ArchiveOptions};

    use super::*;
    use crate::cli::testing;

    /// More than may wait.
    const RECORDINGS: u64 = WAITING + 50;

    #[test]
    #[allow(clippy::panic, reason = "that is what is tested")]
    fn a_panic_costs_one_recording_what_was_still_to_be_done() {
        assert_eq!(attempt(|| Ok(())), None);
        assert!(attempt(|| panic!("hostile bytes")).unwrap().contains("defect"));
        assert_eq!(attempt(|| Err(anyhow::anyhow!("no room"))).unwrap(), "no room");
    }

    #[test]
    fn all_come_back_in_order_and_hashed_whoever_has_finished_them() {
        for haste in [Haste::Live, Haste::None { helpers: true }, Haste::None { helpers: false }] {
            let dir = tempfile::tempdir().unwrap();
            let mut archive = Archive::create_with(dir.path(), ArchiveOptions::default()).unwrap();
            let mut finishing = Finishing::new(&Audio::default(), haste, archive.finished());
            let mut handed_over = Vec::new();
            for number in 0..RECORDINGS {
                let id = Id::derive(&[&number.to_le_bytes()]);
                let row = Box::new(RecordingRow { id, frames: 4, ..testing::recording() });
                archive.open_tape(TapeId(number), 8000, 2, (0, 1)).unwrap();
                archive.write(TapeId(number), &[number as i16; 8]).unwrap();
                let saved = archive.save(TapeId(number), 0..4, &[], &row, true).unwrap().unwrap();
                assert_eq!(saved.sha256, None);
                finishing.recording(row, saved);
                handed_over.push(id);
            }
            finishing.finish();
            let ready = std::iter::from_fn(|| finishing.poll());
            let ids: Vec<Id> = ready
                .map(|ready| match ready {
                    Ready::Recording(Complete { row, saved, problems }) => {
                        assert!(problems.is_empty(), "{problems:?}");
                        assert_eq!(saved.sha256.map(|hash| hash.len()), Some(64));
                        row.id
                    }
                    Ready::Stream(_) | Ready::Call(_) => unreachable!("none was handed over"),
                })
                .collect();
            assert_eq!(ids, handed_over);
            assert_eq!(finishing.skipped, 0);
        }
    }

    #[test]
    fn a_call_does_not_wait_for_a_hash() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::create_with(dir.path(), ArchiveOptions::default()).unwrap();
        let haste = Haste::None { helpers: true };
        let mut finishing = Finishing::new(&Audio::default(), haste, archive.finished());
        let row = Box::new(RecordingRow { frames: 4, ..testing::recording() });
        archive.open_tape(TapeId(1), 8000, 2, (0, 1)).unwrap();
        archive.write(TapeId(1), &[7; 8]).unwrap();
        let saved = archive.save(TapeId(1), 0..4, &[], &row, true).unwrap().unwrap();
        let call = Box::new(CallRow { id: row.call, ..testing::call() });
        finishing.recording(row, saved);
        finishing.call(call);
        assert!(matches!(finishing.poll(), Some(Ready::Call(_))));
        finishing.finish();
        assert!(matches!(finishing.poll(), Some(Ready::Recording(_))));
    }
}
