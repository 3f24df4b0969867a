//! From frames to the archive: the engine's events, carried out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use spantape_core::control::{Answer, LiveCalls, Refusal, Request, Target};
use spantape_core::engine::{Counters, Engine};
use spantape_core::event::Event;
use spantape_core::record::{CallRow, RecordingRow};
use spantape_core::rules::{Config, Rules};
use spantape_core::time::{SECOND, Timestamp};
use spantape_core::wire::Endpoint;
use spantape_store::{Archive, ArchiveOptions, Recovered, Saved, Shortage};

use crate::finish::{Audio, Complete, Finishing, Haste, Ready};
use crate::source::Frame;
use crate::source::tap::{Lost, Steer};

/// An engine and the archive that it records into.
pub(crate) struct Pipeline {
    engine: Engine,
    archive: Archive,
    finishing: Finishing,
    tally: Tally,
    steer: Option<Box<dyn Steer>>,
    tell: Option<Tell>,
}

/// Is told what has been completed.
pub(crate) type Tell = Box<dyn FnMut(Done<'_>) + Send>;

/// Something has been completed.
pub(crate) enum Done<'a> {
    Call(&'a CallRow),
    Recording(&'a RecordingRow, &'a Saved),
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
    /// Frames that never came here.
    pub(crate) missed: Lost,
    /// Announcements of media for which the sieve had no room.
    pub(crate) unsteered: u64,
    /// Recordings that were left as they were, as others took too long.
    pub(crate) skipped: u64,
    /// What could not be decoded or encoded, the first few.
    pub(crate) undecoded: Vec<String>,
}

/// Problems that are told.
const PROBLEMS: usize = 20;

impl Pipeline {
    /// Opens the archive, which is created if it is not there.
    pub(crate) fn new(
        mut config: Config,
        audio: &Audio,
        haste: Haste,
        archive: &Path,
        mut options: ArchiveOptions,
    ) -> Result<Pipeline> {
        options.spool.encoding = audio.form.encoding();
        options.spool.traces = audio.pcap;
        options.spool.recipients = audio.recipients.clone();
        config.keeps_packets = audio.pcap;
        config.tells_signalling |= audio.pcap;
        let archive = Archive::create_with(archive, options)?;
        Ok(Pipeline {
            engine: Engine::new(config),
            finishing: Finishing::new(audio, haste, archive.finished()),
            archive,
            tally: Tally::default(),
            steer: None,
            tell: None,
        })
    }

    /// What an earlier process had not finished in the archive.
    pub(crate) fn recovered(&self) -> &Recovered {
        self.archive.recovered()
    }

    /// Goes on with the calls that were up when an earlier process was killed. Returns how many there are.
    pub(crate) fn go_on(&mut self, at: Timestamp) -> Result<usize> {
        let signals = self.archive.take_signals();
        let Some(last) = signals.last().map(|signal| signal.at) else { return Ok(0) };
        for signal in &signals {
            self.engine.restore(signal);
            self.carry_out_restored()?;
        }
        self.engine.resume(at);
        let seconds = at.since(last) as f64 / SECOND as f64;
        // Frames may have been seen after the last message; that long at most has nobody recorded.
        self.engine.note(
            at,
            "gap",
            &format!("the recorder was started anew; it was last heard of {seconds:.3} s before"),
        );
        self.carry_out()?;
        Ok(self.engine.calls_up())
    }

    /// What the earlier process has kept already is not kept twice.
    fn carry_out_restored(&mut self) -> Result<()> {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Call(row) => self.archive.call(&row)?,
                Event::Media { endpoint, wanted } => self.steer_media(endpoint, wanted),
                _ => {}
            }
        }
        Ok(())
    }

    /// What could not be kept for want of room.
    pub(crate) fn shortage(&self) -> &Shortage {
        self.archive.shortage()
    }

    /// After it, nothing that has been completed until now is lost when the process is killed.
    pub(crate) fn write_log(&mut self) -> Result<()> {
        Ok(self.archive.write_log()?)
    }

    /// Who is to be told which media is wanted.
    pub(crate) fn steer(&mut self, steer: Box<dyn Steer>) {
        self.steer = Some(steer);
    }

    /// Who is to be told what has been completed.
    pub(crate) fn tell(&mut self, tell: Tell) {
        self.tell = Some(tell);
    }

    /// Takes a frame and carries out what comes of it.
    pub(crate) fn handle_frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.tally.bytes += frame.data.len() as u64;
        self.engine.handle_frame(frame.at, frame.link, frame.data);
        self.carry_out()
    }

    /// Does what is due: no frame that is still to come was there before that time.
    pub(crate) fn handle_timeout(&mut self, at: Timestamp) -> Result<()> {
        self.engine.handle_timeout(at);
        self.carry_out()
    }

    /// What is recorded from now on; calls that are up keep their rules.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.engine.set_rules(rules);
    }

    /// Lines of a key log.
    pub(crate) fn add_secrets(&mut self, text: &[u8]) {
        self.engine.add_secrets(text);
    }

    /// Calls that are up.
    pub(crate) fn live_calls(&self, target: Option<&Target>, limit: usize) -> LiveCalls {
        self.engine.live_calls(target, limit)
    }

    /// Does what an operator asks for, and carries out what comes of it.
    pub(crate) fn control(&mut self, at: Timestamp, request: &Request) -> Result<Result<Answer, Refusal>> {
        let answer = self.engine.control(at, request);
        self.carry_out()?;
        Ok(answer)
    }

    /// Does the first of several that means a call that is up. Returns whether there was one.
    pub(crate) fn control_first(&mut self, at: Timestamp, requests: &[Request]) -> Result<bool> {
        for request in requests {
            if !matches!(self.control(at, request)?, Err(Refusal::NoCall)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Something has happened to all calls that are up.
    pub(crate) fn note(&mut self, at: Timestamp, kind: &'static str, text: &str) -> Result<()> {
        self.engine.note(at, kind, text);
        self.carry_out()
    }

    /// Frames have been lost on their way here.
    pub(crate) fn note_lost(&mut self, at: Timestamp, lost: Lost, text: &str) -> Result<()> {
        self.tally.missed.add(lost);
        self.note(at, "drop", text)
    }

    /// Frames have been lost after all calls had ended.
    pub(crate) fn add_lost(&mut self, lost: Lost) {
        self.tally.missed.add(lost);
    }

    /// How many calls are up.
    pub(crate) fn calls_up(&self) -> u64 {
        self.engine.calls_up() as u64
    }

    /// Writes what is known to the catalog.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.keep_rows()?;
        Ok(self.archive.flush()?)
    }

    /// Something has gone wrong: what is with those that finish recordings comes to the catalog all the same.
    pub(crate) fn finish_recordings(&mut self) -> Result<()> {
        self.finishing.finish();
        self.flush()
    }

    /// There are no more frames: ends all calls and completes the archive.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.engine.finish();
        self.carry_out()?;
        self.finish_recordings()
    }

    /// The engine's figures and our own.
    pub(crate) fn figures(&self) -> (Counters, &Tally) {
        (self.engine.counters(), &self.tally)
    }

    fn carry_out(&mut self) -> Result<()> {
        while let Some(event) = self.engine.poll_event() {
            let archive = &mut self.archive;
            match event {
                Event::TapeOpened { tape, channels, sample_rate, rule } => {
                    archive.open_tape(tape, sample_rate, channels, rule)?;
                }
                Event::TapeSamples { tape, samples } => archive.write(tape, &samples)?,
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
                    let Some(saved) = archive.save(tape, range, &left_out, &row, last)? else { continue };
                    self.finishing.recording(row, saved);
                }
                Event::Call(row) => self.finishing.call(row),
                Event::Stream(row) => self.finishing.stream(row),
                Event::Quality(row) => archive.quality(&row)?,
                Event::Happened(row) => archive.event(&row)?,
                Event::Signalled { call, signal } => archive.signal(call, signal)?,
                Event::Media { endpoint, wanted } => self.steer_media(endpoint, wanted),
            }
            self.keep_rows()?;
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

    fn steer_media(&mut self, endpoint: Endpoint, wanted: Option<bool>) {
        if let Some(steer) = &mut self.steer
            && !steer.steer(endpoint, wanted)
        {
            self.tally.unsteered += 1;
        }
    }
}
