//! What is done with a recording once it has been cut, before the catalog has it: what the core cannot decode is decoded
//! by ffmpeg, if it is there, what is to be kept in another form than WAV is encoded, and it is hashed and encrypted.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use spantape_core::record::{CallRow, Id, RecordingRow, StreamRow};
use spantape_store::encrypt::Recipients;
use spantape_store::wav::{self, HEADER_LEN};
use spantape_store::{Finished, Saved};

use crate::decode::{Ffmpeg, Gained, redecode};
use crate::encode::{self, Form};

/// Recordings that may wait while others are recorded; more of them stay as they are.
const WAITING: usize = 256;
/// Recordings that are finished at a time. A replay hands one back before it begins the next but so many.
const AHEAD: usize = 4;
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
        let job = Job { number: self.next, row, saved };
        if let Some(job) = self.submit(job) {
            self.skipped += u64::from(self.desk.changes(&job.saved));
            self.ready.push_back(Ready::Recording(self.desk.complete(job).complete));
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

    /// Gives the job back when too much waits already.
    fn submit(&mut self, job: Job) -> Option<Job> {
        // However long a job takes, it is handed back before the same one of those that follow.
        while self.waits() && self.next - self.first >= AHEAD as u64 {
            self.collect(true);
        }
        let call = job.row.call;
        let is_room = self.calls.len() < CALLS || self.calls.contains_key(&call);
        if self.next - self.first >= WAITING as u64 || !is_room {
            return Some(job);
        }
        if self.workers.is_none() && self.haste != (Haste::None { helpers: false }) {
            let count = thread::available_parallelism().map_or(1, usize::from).min(AHEAD);
            self.workers = Workers::start(count, &self.desk);
        }
        match &self.workers {
            Some(workers) => {
                if let Err(error) = workers.jobs.try_send(job) {
                    return Some(error.into_inner());
                }
            }
            None => _ = self.answers.insert(job.number, self.desk.finish(job)),
        }
        self.next += 1;
        self.calls.entry(call).or_default().jobs += 1;
        None
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
            // Workers outlive whatever they do, so that there is always one to answer.
            if wait
                && !self.answers.contains_key(&self.first)
                && let Ok(answer) = workers.answers.recv()
            {
                self.answers.insert(answer.number, answer);
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
        let (jobs, work) = bounded::<Job>(WAITING);
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
        let is_undecoded = saved.rtpdump.iter().any(Option::is_some);
        is_undecoded && self.ffmpeg.is_some() || encode::is_wanted(self.form, saved)
    }

    /// All that is to be done. Whatever happens, the recording is there, and what was not decoded beside it.
    fn finish(&self, mut job: Job) -> Answer {
        let mut gained = Vec::new();
        let changed = attempt(|| self.work(&mut job, &mut gained));
        let mut answer = self.complete(job);
        let told = gained.iter().flat_map(|gained| gained.problems.iter().cloned());
        answer.complete.problems.splice(..0, changed.into_iter().chain(told));
        Answer { gained, ..answer }
    }

    /// What is to be done with any recording: for want of time it may stay as it is, but not without a hash or in clear.
    fn complete(&self, job: Job) -> Answer {
        let Job { number, row, mut saved } = job;
        let completed = attempt(|| {
            let without = if self.finished.encrypts() { "it stays in clear" } else { "it has no hash" };
            saved = self.finished.complete(&saved).context(without)?;
            Ok(())
        });
        Answer {
            number,
            complete: Complete { row, saved, problems: completed.into_iter().collect() },
            gained: Vec::new(),
        }
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
    use super::*;

    #[test]
    #[allow(clippy::panic, reason = "that is what is tested")]
    fn a_panic_costs_one_recording_what_was_still_to_be_done() {
        assert_eq!(attempt(|| Ok(())), None);
        assert!(attempt(|| panic!("hostile bytes")).unwrap().contains("defect"));
        assert_eq!(attempt(|| Err(anyhow::anyhow!("no room"))).unwrap(), "no room");
    }
}
