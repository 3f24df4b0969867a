//! Recording from an interface: one thread empties the ring, another runs the engine, a third keeps the archive.
//!
//! ```text
//!  ring ─> reader ── full batches ──> recorder (engine) ── events ──> archivist
//!             ^────── empty batches ──────┘ ^── orders: new rules, something to note, what an operator asks
//! ```
//!
//! The batches are all the queue there is for frames, and their number is fixed. When none is empty the reader leaves frames
//! in the ring, and what finds no room there is counted as lost for the queue's sake. The recorder waits for the archivist
//! where that is far behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use spantape_core::control::{Answer, LiveCalls, Refusal, Request, Target};
use spantape_core::rules::Rules;
use spantape_core::time::{SECOND, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use zeroize::Zeroizing;

use crate::archivist::{Apart, EVENTS_BYTES, Progress};
use crate::pipeline::Pipeline;
use crate::source::clock::{self, Clock};
use crate::source::tap::{BATCH_BYTES, Batch, Lost, Tap, TapError};
use crate::source::xdp::Frames;

/// A capture that goes on.
pub(crate) struct Live {
    stop: Arc<AtomicBool>,
    orders: Sender<Order>,
    figures: Arc<Figures>,
    /// Changes, or is dropped, when either thread has ended.
    ended: watch::Receiver<()>,
    reader: JoinHandle<Result<Option<Frames>, TapError>>,
    recorder: JoinHandle<Result<Pipeline>>,
}

/// What is going on, for those who look from outside.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) frames: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) calls_up: AtomicU64,
    pub(crate) recordings: AtomicU64,
    pub(crate) lost: LostSoFar,
    /// Recordings that were not begun for want of room, and attempts to write that failed.
    pub(crate) refused: AtomicU64,
    pub(crate) unwritten: AtomicU64,
    /// By how many nanoseconds the wall clock has been set.
    pub(crate) clock_step: AtomicI64,
}

/// See [`Lost`].
#[derive(Debug, Default)]
pub(crate) struct LostSoFar {
    pub(crate) interface: AtomicU64,
    pub(crate) ring: AtomicU64,
    pub(crate) queue: AtomicU64,
}

impl LostSoFar {
    /// As it is now.
    pub(crate) fn now(&self) -> Lost {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Lost { interface: now(&self.interface), ring: now(&self.ring), queue: now(&self.queue) }
    }
}

/// What became of it.
pub(crate) struct Ended {
    pub(crate) pipeline: Pipeline,
    /// Where the frames of the memory shared with the kernel were at the end.
    pub(crate) frames: Option<Frames>,
    /// Why it ended, unless it was asked to.
    pub(crate) problem: Option<TapError>,
}

enum Order {
    Note { kind: &'static str, text: String },
    Lost(Lost),
    Asked(Asked),
}

/// Something is wanted from a moment on.
struct Asked {
    /// When, by `CLOCK_MONOTONIC`: it is done when all frames have been seen that were there before.
    at: i64,
    what: Question,
    /// Of an operator.
    turn: Option<OwnedSemaphorePermit>,
}

enum Question {
    Rules(Rules),
    /// Lines of a key log.
    Secrets(Zeroizing<Vec<u8>>),
    Calls {
        target: Option<Target>,
        limit: usize,
        reply: oneshot::Sender<LiveCalls>,
    },
    Control {
        request: Request,
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
}

/// Where an operator asks.
#[derive(Clone)]
pub(crate) struct Operator {
    orders: Sender<Order>,
    turns: Arc<Semaphore>,
}

/// Why an operator has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Too many wait for theirs.
    Busy,
    /// Recording does not keep up. What was asked for is still done.
    Late,
    /// The capture has ended.
    Ended,
}

/// How often the kernel is asked what was lost, and others are told what goes on.
const LOOK: Duration = Duration::from_millis(200);
/// How often the catalog is written.
const FLUSH: Duration = Duration::from_secs(60);
/// Losses are noted no more often than this.
const NOTE: i64 = SECOND;
/// A source that is never found empty is read no longer than this once it is to stop.
const LAST: Duration = Duration::from_secs(1);
/// A recorder with nothing to do is told the time no more often than this.
const TELL: Duration = Duration::from_millis(50);
const FEWEST_BATCHES: usize = 4;
/// Questions of operators that may wait.
const WAITING: usize = 256;
/// How long an operator waits for an answer, which is mostly there in less than [`TELL`].
const PATIENCE: Duration = Duration::from_secs(5);

impl Live {
    /// Begins, with so many bytes of queue for frames, and as many for what is made of them.
    pub(crate) fn start(tap: Box<dyn Tap>, pipeline: Pipeline, queue: usize) -> Result<Live> {
        // As much may wait to be written: while a disk commits its journal it takes nothing for a second.
        let pipeline = pipeline.apart((queue / EVENTS_BYTES).max(FEWEST_BATCHES))?;
        let batches = (queue / BATCH_BYTES).max(FEWEST_BATCHES);
        let (give_back, empty) = bounded(batches);
        let (hand_on, full) = bounded(batches);
        for _ in 0..batches {
            // There is room for exactly so many.
            let _ = give_back.send(Batch::new(tap.link(), pipeline.glance()));
        }
        let (orders, taken) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let figures = Arc::new(Figures::default());
        let (end, ended) = watch::channel(());
        let reader = {
            let (stop, figures, end) = (Arc::clone(&stop), Arc::clone(&figures), end.clone());
            thread::spawn(move || {
                let _end = end;
                Reader { tap, empty, hand_on, stop, figures, known: 0, looked: Instant::now() }.run()
            })
        };
        let recorder = {
            let figures = Arc::clone(&figures);
            thread::spawn(move || {
                let _end = end;
                Recorder { pipeline, full, give_back, orders: taken, asked: VecDeque::new(), figures }.run()
            })
        };
        Ok(Live { stop, orders, figures, ended, reader, recorder })
    }

    /// What is going on.
    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// For those who ask for something by hand.
    pub(crate) fn operator(&self) -> Operator {
        Operator { orders: self.orders.clone(), turns: Arc::new(Semaphore::new(WAITING)) }
    }

    /// What is recorded from now on.
    pub(crate) fn set_rules(&self, rules: Rules) {
        // Frames that came before are judged by the rules before. One that has ended needs no rules.
        let asked = Asked { at: clock::monotonic(), what: Question::Rules(rules), turn: None };
        let _ = self.orders.send(Order::Asked(asked));
    }

    /// Lines of a key log: they are known before the frames that come from now on.
    pub(crate) fn add_secrets(&self, text: Zeroizing<Vec<u8>>) {
        let asked = Asked { at: clock::monotonic(), what: Question::Secrets(text), turn: None };
        let _ = self.orders.send(Order::Asked(asked));
    }

    /// Notes something with all calls that are up.
    pub(crate) fn note(&self, kind: &'static str, text: String) {
        let _ = self.orders.send(Order::Note { kind, text });
    }

    /// Frames have been lost that never came to the ring.
    pub(crate) fn lost(&self, lost: Lost) {
        let _ = self.orders.send(Order::Lost(lost));
    }

    /// What is in the ring is still taken.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Comes back when it has ended. May be dropped before.
    pub(crate) async fn wait(&mut self) {
        while self.ended.changed().await.is_ok() {}
    }

    /// Waits for the end, and for all that was going on to be completed.
    pub(crate) fn finish(self) -> Result<Ended> {
        let died = |what: &str| anyhow!("the {what} has died, which is a defect; its message stands above");
        let reader = self.reader.join().map_err(|_| died("reader"));
        let pipeline = self.recorder.join().map_err(|_| died("recorder"))??;
        Ok(match reader? {
            Ok(frames) => Ended { pipeline, frames, problem: None },
            Err(problem) => Ended { pipeline, frames: None, problem: Some(problem) },
        })
    }
}

impl Operator {
    /// The latest of the calls that are up, or of those that are meant.
    pub(crate) async fn calls(&self, target: Option<Target>, limit: usize) -> Result<LiveCalls, Unanswered> {
        self.ask(|reply| Question::Calls { target, limit, reply }).await
    }

    /// Does what is asked of a call.
    pub(crate) async fn control(&self, request: Request) -> Result<Result<Answer, Refusal>, Unanswered> {
        self.ask(|reply| Question::Control { request, reply }).await
    }

    async fn ask<T>(&self, what: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Unanswered> {
        let turn = Arc::clone(&self.turns).try_acquire_owned().map_err(|_| Unanswered::Busy)?;
        let (reply, answer) = oneshot::channel();
        let asked = Asked { at: clock::monotonic(), what: what(reply), turn: Some(turn) };
        self.orders.send(Order::Asked(asked)).map_err(|_| Unanswered::Ended)?;
        let answer = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| Unanswered::Late)?;
        answer.map_err(|_| Unanswered::Ended)
    }
}

struct Reader {
    tap: Box<dyn Tap>,
    empty: Receiver<Batch>,
    hand_on: Sender<Batch>,
    stop: Arc<AtomicBool>,
    figures: Arc<Figures>,
    /// Lost frames that are accounted for.
    known: u64,
    looked: Instant,
}

impl Reader {
    fn run(mut self) -> Result<Option<Frames>, TapError> {
        let mut stopped = None;
        loop {
            let (mut batch, mut lost) = match self.empty.try_recv() {
                Ok(batch) => (batch, Lost { ring: self.lost_since(false), ..Lost::default() }),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let ring = self.lost_since(true);
                    let Ok(batch) = self.empty.recv() else { break };
                    (batch, Lost { ring, queue: self.lost_since(true), ..Lost::default() })
                }
            };
            if stopped.is_none() && self.stop.load(Ordering::Relaxed) {
                self.tap.detach();
                stopped = Some((self.tap.clock().now(), Instant::now()));
            }
            let read = self.fill(&mut batch);
            // All that had come when it was to stop has been seen, or it comes faster than it can be read.
            let last = stopped.is_some_and(|(now, since)| {
                batch.seen_until.is_some_and(|seen| seen >= now) || since.elapsed() > LAST
            });
            if last {
                lost.ring += self.lost_since(true);
            }
            batch.lost = lost;
            batch.clock = *self.tap.clock();
            if self.hand_on.send(batch).is_err() {
                break;
            }
            read?;
            if last {
                break;
            }
        }
        Ok(self.tap.frames())
    }

    /// Fills a batch for as long as the recorder has others to work on, so that no batch is spent on a few frames.
    fn fill(&mut self, batch: &mut Batch) -> Result<(), TapError> {
        let begun = Instant::now();
        loop {
            let before = batch.len();
            self.tap.read(batch)?;
            let stop = self.stop.load(Ordering::Relaxed);
            let idle = self.hand_on.is_empty();
            // With nothing in it, it only tells the time.
            let wait = if batch.is_empty() { begun.elapsed() < TELL } else { !idle && batch.len() > before };
            if batch.is_full() || stop || !wait {
                return Ok(());
            }
        }
    }

    /// Frames lost since the last look, if it is time for one.
    fn lost_since(&mut self, at_once: bool) -> u64 {
        if !at_once && self.looked.elapsed() < LOOK {
            return 0;
        }
        self.looked = Instant::now();
        let clock = self.tap.clock();
        if clock.step() > 0 && self.figures.calls_up.load(Ordering::Relaxed) == 0 {
            clock.follow();
        }
        self.figures.clock_step.store(clock.step(), Ordering::Relaxed);
        let lost = self.tap.lost();
        let since = lost.saturating_sub(self.known);
        self.known = lost;
        since
    }
}

struct Recorder {
    pipeline: Pipeline<Apart>,
    full: Receiver<Batch>,
    give_back: Sender<Batch>,
    orders: Receiver<Order>,
    /// What is wanted from a moment on that frames have not come to yet.
    asked: VecDeque<Asked>,
    figures: Arc<Figures>,
}

impl Recorder {
    fn run(mut self) -> Result<Pipeline> {
        self.record()?;
        self.pipeline.finish_calls()?;
        let mut pipeline = self.pipeline.together()?;
        pipeline.finish()?;
        Ok(pipeline)
    }

    fn record(&mut self) -> Result<()> {
        let (mut flushed, mut shown) = (Instant::now(), Instant::now());
        let (mut lost, mut noted) = (Lost::default(), Timestamp(i64::MIN));
        let (mut now, mut unwritten) = (Timestamp(i64::MIN), 0);
        while let Ok(mut batch) = self.full.recv() {
            lost.add(batch.take_lost());
            if lost.total() > 0 && now.since(noted) >= NOTE {
                self.pipeline.note_lost(now, lost, &text_of(lost))?;
                (lost, noted) = (Lost::default(), now);
            }
            for order in self.orders.try_iter() {
                match order {
                    Order::Note { kind, text } => self.pipeline.note(now, kind, &text)?,
                    Order::Lost(more) => lost.add(more),
                    Order::Asked(asked) => self.asked.push_back(asked),
                }
            }
            let (frames, mut begin) = (batch.frames(), 0);
            for (index, frame) in frames.frames(0..batch.len()).enumerate() {
                if self.is_asked(batch.clock, frame.at) {
                    self.pipeline.handle_frames(frames, std::mem::replace(&mut begin, index)..index)?;
                    self.answer(batch.clock, frame.at)?;
                }
                now = now.max(frame.at);
            }
            self.pipeline.handle_frames(frames, begin..batch.len())?;
            if let Some(at) = batch.seen_until {
                self.pipeline.handle_timeout(at)?;
                now = now.max(at);
            }
            self.answer(batch.clock, now)?;
            batch.clear();
            // A reader that has ended wants none back.
            let _ = self.give_back.send(batch);
            if flushed.elapsed() >= FLUSH {
                self.pipeline.flush()?;
                flushed = Instant::now();
            }
            self.pipeline.write_log()?;
            if shown.elapsed() >= LOOK {
                self.look(now, &mut unwritten)?;
                shown = Instant::now();
            }
        }
        // What could not be written of the last is known only now.
        self.pipeline.catch_up()?;
        self.look(now, &mut unwritten)?;
        if lost.total() > 0 {
            self.pipeline.note_lost(now, lost, &text_of(lost))?;
        }
        Ok(())
    }

    /// Whether operators have asked for something until then.
    fn is_asked(&self, clock: Clock, until: Timestamp) -> bool {
        self.asked.front().is_some_and(|asked| clock.at_monotonic(asked.at) <= until)
    }

    /// Does what operators have asked for until a moment before which no frame is still to come.
    fn answer(&mut self, clock: Clock, until: Timestamp) -> Result<()> {
        while let Some(asked) = self.asked.pop_front_if(|asked| clock.at_monotonic(asked.at) <= until) {
            // Whoever waits no longer for the answer wants it done all the same.
            let Asked { at, what, turn } = asked;
            match what {
                Question::Rules(rules) => self.pipeline.set_rules(rules),
                Question::Secrets(text) => self.pipeline.add_secrets(&text),
                Question::Calls { target, limit, reply } => {
                    let calls = self.pipeline.live_calls(target.as_ref(), limit);
                    self.pipeline.answer(move || drop((reply.send(calls), turn)))?;
                }
                Question::Control { request, reply } => {
                    let answer = self.pipeline.control(clock.at_monotonic(at), &request)?;
                    self.pipeline.answer(move || drop((reply.send(answer), turn)))?;
                }
            }
        }
        Ok(())
    }

    /// Tells others what goes on, and the calls what could not be written of them.
    fn look(&mut self, now: Timestamp, unwritten: &mut u64) -> Result<()> {
        let progress = self.pipeline.progress();
        if progress.shortage.frames > std::mem::replace(unwritten, progress.shortage.frames) {
            let text = format!("audio could not be written: {}", progress.shortage.said);
            self.pipeline.note(now, "drop", &text)?;
        }
        self.show(&progress);
        Ok(())
    }

    fn show(&self, progress: &Progress) {
        let (counters, missed) = (self.pipeline.counters(), self.pipeline.missed());
        let set = |figure: &AtomicU64, value: u64| figure.store(value, Ordering::Relaxed);
        set(&self.figures.frames, counters.frames);
        set(&self.figures.calls, counters.calls);
        set(&self.figures.calls_up, self.pipeline.calls_up());
        set(&self.figures.recordings, progress.recordings);
        set(&self.figures.refused, progress.shortage.refused);
        set(&self.figures.unwritten, progress.shortage.failures);
        set(&self.figures.lost.interface, missed.interface);
        set(&self.figures.lost.ring, missed.ring);
        set(&self.figures.lost.queue, missed.queue);
    }
}

fn text_of(lost: Lost) -> String {
    let causes = [
        (lost.interface, "the interface had no room"),
        (lost.ring, "the ring was full"),
        (lost.queue, "recording did not keep up"),
    ];
    let causes = causes.iter().filter(|(count, _)| *count > 0);
    causes.map(|(count, why)| format!("{count} frames: {why}")).collect::<Vec<_>>().join("; ")
}
