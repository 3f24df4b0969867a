//! What a recorder does with its archive, step by step.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use spantape_core::codec::Codec;
use spantape_core::event::{Part, Signal, Signalled, kept};
use spantape_core::media::TapeId;
use spantape_core::record::{RecordingRow, Side};
use spantape_core::rtp::Undecoded;
use spantape_core::time::MILLISECOND;
use spantape_store::{Archive, ArchiveOptions, Error, Result, SpoolOptions};

use crate::examples::{at, call, event, id, quality, recording, stream};

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A process begins. The one before has ended without a word.
    Start,
    /// A call that is up has said something.
    Message(u64),
    Open(TapeId),
    /// Eight packets of 5 ms, which have been decoded or not.
    Packets(TapeId, bool),
    Write(TapeId, Vec<i16>),
    Silence(TapeId, u64),
    Overdub(TapeId, u64, Vec<i16>),
    Erase(TapeId, Range<u64>),
    Raise(TapeId, u32),
    Keep(TapeId, Vec<Part>),
    /// The part is a recording; whether it is the last one.
    Cut(TapeId, Box<Part>, bool),
    Close(TapeId),
    Call(u64),
    Stream(u64),
    Event(u64, &'static str),
    Quality(u64),
    WriteLog,
    Flush,
}

impl Step {
    fn carry_out(&self, archive: &mut Archive) -> Result<()> {
        match self {
            Step::Start => Ok(()),
            Step::Message(n) => archive.signal(id(*n), message(*n)),
            Step::Open(tape) => archive.open_tape(*tape, 8000, 2, (0, 1)),
            Step::Packets(tape, are_heard) => packets(*are_heard)
                .iter()
                .try_for_each(|packet| archive.packet(*tape, Side::Callee, addresses(4000), packet)),
            Step::Write(tape, samples) => archive.write(*tape, samples),
            Step::Silence(tape, frames) => archive.silence(*tape, *frames),
            Step::Overdub(tape, frame, samples) => archive.overdub(*tape, 1, *frame, samples),
            Step::Erase(tape, range) => archive.erase(*tape, range.clone()),
            Step::Raise(tape, rate) => archive.raise_rate(*tape, *rate),
            Step::Keep(tape, parts) => archive.keep(*tape, parts.clone()),
            Step::Cut(tape, part, last) => {
                archive.cut(*tape, part.range.clone(), &part.left_out, &part.row, *last).map(drop)
            }
            Step::Close(tape) => archive.close(*tape),
            Step::Call(n) => archive.call(&call(*n)),
            Step::Stream(n) => archive.stream(&stream(*n)),
            &Step::Event(n, kind) => archive.event(&event(n, kind)),
            Step::Quality(n) => archive.quality(&quality(*n, 0)),
            Step::WriteLog => archive.write_log(),
            Step::Flush => archive.flush(),
        }
    }

    /// What it comes to when its samples cannot be written.
    pub(crate) fn without_samples(&self) -> Step {
        match self {
            Step::Write(tape, samples) => Step::Silence(*tape, samples.len() as u64 / 2),
            Step::Overdub(tape, ..) => Step::Silence(*tape, 0),
            step => step.clone(),
        }
    }

    /// Whether a disk that fails in it may end a live recorder: without an archive there is none, and what must not be
    /// kept may not stay.
    pub(crate) fn may_fail(&self) -> bool {
        matches!(self, Step::Start | Step::Erase(..))
    }

    /// What it is called.
    pub(crate) fn name(&self) -> String {
        format!("{self:?}").split('(').next().unwrap_or_default().to_owned()
    }
}

/// The steps of one kind of recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// It cannot have what it hears once more.
    Live,
    /// It can be repeated.
    Replay,
}

impl Script {
    pub(crate) fn steps(self) -> Vec<Step> {
        let common = [vec![Step::Start], cut_in_two(), kept_whole(), thrown_away()].concat();
        match self {
            Script::Live => [common, interrupted_twice()].concat(),
            Script::Replay => common,
        }
    }

    /// The test that carries it out.
    pub(crate) fn child(self) -> &'static str {
        match self {
            Script::Live => "live_child",
            Script::Replay => "replay_child",
        }
    }
}

/// A tape with all that can happen to one, in two recordings of which one leaves something out.
fn cut_in_two() -> Vec<Step> {
    let tape = TapeId(1);
    let (first, second) = (part(1, 0..320, &[], 16_000), part(2, 320..1520, &[400..440, 1000..1010], 16_000));
    vec![
        Step::Message(1),
        Step::Open(tape),
        Step::WriteLog,
        Step::Packets(tape, false),
        Step::Write(tape, block(1, 160)),
        Step::Keep(tape, vec![goes_on(1, 0, 8000)]),
        Step::Write(tape, block(2, 160)),
        Step::Silence(tape, 80),
        Step::Write(tape, block(3, 160)),
        Step::Overdub(tape, 20, vec![7; 40]),
        Step::Erase(tape, 120..140),
        Step::Raise(tape, 16_000),
        Step::Keep(tape, vec![goes_on(1, 0, 16_000)]),
        Step::Write(tape, block(4, 320)),
        Step::Event(1, "trigger"),
        Step::Quality(1),
        Step::Silence(tape, 80),
        Step::Keep(tape, vec![first.clone(), second.clone()]),
        Step::Cut(tape, Box::new(first), false),
        Step::Cut(tape, Box::new(second), true),
        Step::Close(tape),
        Step::Stream(1),
        Step::Call(1),
        Step::WriteLog,
        Step::Flush,
    ]
}

/// A tape that becomes a recording as it is.
fn kept_whole() -> Vec<Step> {
    let tape = TapeId(2);
    let whole = part(3, 0..240, &[], 8000);
    vec![
        Step::Open(tape),
        Step::WriteLog,
        Step::Packets(tape, true),
        Step::Write(tape, block(5, 160)),
        Step::Keep(tape, vec![goes_on(3, 0, 8000)]),
        Step::Silence(tape, 80),
        Step::Keep(tape, vec![whole.clone()]),
        Step::Cut(tape, Box::new(whole), true),
        Step::Close(tape),
        Step::Event(3, "end"),
    ]
}

/// A tape that nobody asks for. Its samples come before anybody has the log written.
fn thrown_away() -> Vec<Step> {
    let tape = TapeId(3);
    vec![Step::Open(tape), Step::Write(tape, block(6, 160)), Step::WriteLog, Step::Close(tape), Step::Flush]
}

/// Two tapes that go on when their process ends. The second one has the name that a tape of the first process had.
fn interrupted_twice() -> Vec<Step> {
    let (first, second) = (TapeId(4), TapeId(1));
    vec![
        Step::Message(4),
        Step::Open(first),
        Step::WriteLog,
        Step::Write(first, block(7, 160)),
        Step::Keep(first, vec![goes_on(4, 40, 8000)]),
        Step::Write(first, block(8, 160)),
        Step::Event(4, "trigger"),
        Step::WriteLog,
        // What could not be written the first time is the second time.
        Step::WriteLog,
        Step::Start,
        Step::Open(second),
        Step::WriteLog,
        Step::Write(second, block(9, 160)),
        Step::Keep(second, vec![goes_on(5, 0, 8000)]),
        Step::Write(second, block(10, 160)),
        Step::Event(5, "trigger"),
        Step::WriteLog,
        Step::WriteLog,
    ]
}

/// So many frames of two channels, others for each number.
pub(crate) fn block(number: i16, frames: i16) -> Vec<i16> {
    (0..2 * frames).map(|sample| number * 1000 + sample).collect()
}

fn part(n: u64, range: Range<u64>, left_out: &[Range<u64>], sample_rate: u32) -> Part {
    let frames = kept(range.clone(), left_out).map(|piece| piece.end - piece.start).sum();
    Part { range, left_out: left_out.to_vec(), row: RecordingRow { frames, sample_rate, ..recording(n) } }
}

fn goes_on(n: u64, start: u64, sample_rate: u32) -> Part {
    let row = RecordingRow { frames: 0, sample_rate, ..recording(n) };
    Part { range: start..Part::OPEN, left_out: Vec::new(), row }
}

fn addresses(port: u16) -> (SocketAddr, SocketAddr) {
    (([192, 0, 2, 9], port).into(), ([192, 0, 2, 10], port).into())
}

fn message(n: u64) -> Signal {
    let (source, destination) = addresses(5060);
    Signal { at: at(n), what: Signalled::Message { source, destination, text: format!("INVITE {n}") } }
}

fn packets(are_heard: bool) -> Vec<Undecoded> {
    let packet = |number: u8| {
        let place = i64::from(number) * 5 * MILLISECOND;
        Undecoded {
            is_heard: are_heard,
            codec: Codec::from_static(18),
            secure: false,
            at: place,
            place,
            length: 5 * MILLISECOND,
            packet: vec![0x80, 18, 0, number, 0, 0, 0, 0, 0, 0, 0, 1, number, number],
        }
    };
    (0..8).map(packet).collect()
}

/// Carries out a script, as far as it goes.
pub(crate) struct Recorder {
    script: Script,
    path: PathBuf,
    archive: Option<Archive>,
}

impl Recorder {
    pub(crate) fn new(script: Script, path: &Path) -> Recorder {
        Recorder { script, path: path.to_owned(), archive: None }
    }

    /// Returns how many frames could not be written.
    pub(crate) fn carry_out(&mut self, step: &Step) -> Result<u64> {
        if matches!(step, Step::Start) {
            // One at a time has it open.
            self.archive = None;
            self.archive = Some(open(self.script, &self.path)?);
        }
        let archive = self.archive.as_mut().unwrap();
        let before = archive.shortage().frames;
        step.carry_out(archive)?;
        Ok(archive.shortage().frames - before)
    }
}

/// Opens an archive as a recorder does that keeps traces.
pub(crate) fn open(script: Script, path: &Path) -> Result<Archive> {
    let spool = SpoolOptions { traces: true, ..SpoolOptions::default() };
    let repeatable = script == Script::Replay;
    let options = ArchiveOptions { spool, repeatable, ..ArchiveOptions::default() };
    // A process that another thread is only just starting holds the lock, too, until it is another program.
    for _ in 0..200 {
        match Archive::create_with(path, options.clone()) {
            Err(Error::Busy { .. }) => thread::sleep(Duration::from_millis(10)),
            opened => return opened,
        }
    }
    Archive::create_with(path, options)
}
