//! From frames to the archive.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use spantape_core::control::{Answer, LiveCalls, Refusal, Request, Target};
use spantape_core::engine::Counters;
use spantape_core::event::Event;
use spantape_core::rules::{Config, Rules};
use spantape_core::share::Glance;
use spantape_core::time::{SECOND, Timestamp};
use spantape_core::wire::Endpoint;
use spantape_store::{ArchiveOptions, Recovered};

use crate::archivist::{Apart, Archivist, CarryOut, Progress, Tally, Tell};
use crate::engines::Engines;
use crate::finish::{Audio, Haste};
use crate::source::buffer::FrameBuffer;
use crate::source::tap::{Lost, Steer};

/// Engines and who carries out what they say.
pub(crate) struct Pipeline<K = Archivist> {
    engines: Engines,
    archivist: K,
    missed: Lost,
    unsteered: u64,
    steer: Option<Box<dyn Steer>>,
}

/// Frames after which it is looked what one engine has to say.
const AT_ONCE: usize = 64;

/// What has been done.
pub(crate) struct Figures<'a> {
    pub(crate) counters: Counters,
    pub(crate) tally: &'a Tally,
    /// Frames that never came here.
    pub(crate) missed: Lost,
    /// Announcements of media for which the sieve had no room.
    pub(crate) unsteered: u64,
}

impl Pipeline {
    /// Opens the archive, which is created if it is not there. So many engines have the calls between them.
    pub(crate) fn new(
        mut config: Config,
        engines: usize,
        audio: &Audio,
        haste: Haste,
        archive: &Path,
        options: ArchiveOptions,
    ) -> Result<Pipeline> {
        config.keeps_packets = audio.pcap;
        config.tells_signalling |= audio.pcap;
        Ok(Pipeline {
            engines: Engines::new(&config, engines)?,
            archivist: Archivist::new(audio, haste, archive, options)?,
            missed: Lost::default(),
            unsteered: 0,
            steer: None,
        })
    }

    /// From now on the archive is kept on a thread of its own, for which so many batches of events may wait, and of several
    /// engines each has its own.
    pub(crate) fn apart(mut self, batches: usize) -> Result<Pipeline<Apart>> {
        self.engines.start_threads()?;
        self.with(|archivist| Apart::start(archivist, batches))
    }

    /// What an earlier process had not finished in the archive.
    pub(crate) fn recovered(&self) -> &Recovered {
        self.archivist.archive.recovered()
    }

    /// Goes on with the calls that were up when an earlier process was killed. Returns how many there are.
    pub(crate) fn go_on(&mut self, at: Timestamp) -> Result<usize> {
        let signals = self.archivist.archive.take_signals();
        let Some(last) = signals.last().map(|signal| signal.at) else { return Ok(0) };
        for signal in &signals {
            self.engines.each().for_each(|engine| engine.restore(signal));
            self.carry_out_restored()?;
        }
        self.engines.each().for_each(|engine| engine.resume(at));
        let seconds = at.since(last) as f64 / SECOND as f64;
        // Frames may have been seen after the last message; that long at most has nobody recorded.
        self.note(
            at,
            "gap",
            &format!("the recorder was started anew; it was last heard of {seconds:.3} s before"),
        )?;
        Ok(self.engines.calls_up())
    }

    /// What the earlier process has kept already is not kept twice.
    fn carry_out_restored(&mut self) -> Result<()> {
        while let Some(event) = self.engines.poll_event() {
            match event {
                Event::Call(row) => self.archivist.archive.call(&row)?,
                Event::Media { endpoint, wanted } => self.steer_media(endpoint, wanted),
                _ => {}
            }
        }
        Ok(())
    }

    /// Who is to be told what has been completed.
    pub(crate) fn tell(&mut self, tell: Tell) {
        self.archivist.tell(tell);
    }

    /// Something has gone wrong: what is with those that finish recordings comes to the catalog all the same. Calls that are
    /// up do not: what is in the archive once is not looked at again.
    pub(crate) fn finish_recordings(&mut self) -> Result<()> {
        self.archivist.finish()
    }

    /// There are no more frames: ends all calls and completes the archive.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.finish_calls()?;
        self.archivist.finish()
    }

    /// The engine's figures and the archive's.
    pub(crate) fn figures(&self) -> Figures<'_> {
        Figures {
            counters: self.engines.counters(),
            tally: &self.archivist.tally,
            missed: self.missed,
            unsteered: self.unsteered,
        }
    }
}

impl Pipeline<Apart> {
    /// Soon after it nothing that has been completed until now is lost when the process is killed.
    pub(crate) fn write_log(&mut self) -> Result<()> {
        self.archivist.write_log()
    }

    /// Soon after it what is known is in the catalog.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.archivist.flush()
    }

    /// Waits until all that has happened until now is in the archive.
    pub(crate) fn catch_up(&mut self) -> Result<()> {
        self.archivist.catch_up()
    }

    /// What has been kept, and what could not be for want of room.
    pub(crate) fn progress(&self) -> Progress {
        self.archivist.progress()
    }

    /// Answers once what has happened until now is in the archive: nobody is told what is not so yet.
    pub(crate) fn answer(&mut self, answer: impl FnOnce() + Send + 'static) -> Result<()> {
        self.archivist.answer(answer)
    }

    /// Frames that never came here.
    pub(crate) fn missed(&self) -> Lost {
        self.missed
    }

    /// From now on the archive is kept on this thread.
    pub(crate) fn together(self) -> Result<Pipeline> {
        self.with(Apart::end)
    }
}

impl<K: CarryOut> Pipeline<K> {
    /// Who is to be told which media is wanted.
    pub(crate) fn steer(&mut self, steer: Box<dyn Steer>) {
        self.steer = Some(steer);
    }

    /// By which each frame is to be looked at before it comes here, where there are several engines.
    pub(crate) fn glance(&self) -> Option<&Glance> {
        self.engines.glance()
    }

    /// Takes some frames of a buffer and carries out what comes of them.
    pub(crate) fn handle_frames(&mut self, frames: &FrameBuffer, range: Range<usize>) -> Result<()> {
        // What one engine says is carried out while it is in the cache; several are not to wait for each other so often.
        let at_once = if self.engines.are_several() { range.len() } else { AT_ONCE };
        for begin in range.clone().step_by(at_once.max(1)) {
            self.engines.handle_frames(frames, begin..range.end.min(begin.saturating_add(at_once)));
            self.carry_out()?;
        }
        Ok(())
    }

    /// Does what is due: no frame that is still to come was there before that time.
    pub(crate) fn handle_timeout(&mut self, at: Timestamp) -> Result<()> {
        self.engines.handle_timeout(at);
        self.carry_out()
    }

    /// What is recorded from now on; calls that are up keep their rules.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.engines.each().for_each(|engine| engine.set_rules(rules.clone()));
    }

    /// Lines of a key log.
    pub(crate) fn add_secrets(&mut self, text: &[u8]) {
        self.engines.each().for_each(|engine| engine.add_secrets(text));
    }

    /// Calls that are up.
    pub(crate) fn live_calls(&self, target: Option<&Target>, limit: usize) -> LiveCalls {
        self.engines.live_calls(target, limit)
    }

    /// Does what an operator asks for, and carries out what comes of it.
    pub(crate) fn control(&mut self, at: Timestamp, request: &Request) -> Result<Result<Answer, Refusal>> {
        let answer = self.engines.control(at, request);
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
        self.engines.each().for_each(|engine| engine.note(at, kind, text));
        self.carry_out()
    }

    /// Frames have been lost on their way here.
    pub(crate) fn note_lost(&mut self, at: Timestamp, lost: Lost, text: &str) -> Result<()> {
        self.missed.add(lost);
        self.note(at, "drop", text)
    }

    /// Frames have been lost after all calls had ended.
    pub(crate) fn add_lost(&mut self, lost: Lost) {
        self.missed.add(lost);
    }

    /// The engine's figures.
    pub(crate) fn counters(&self) -> Counters {
        self.engines.counters()
    }

    /// How many calls are up.
    pub(crate) fn calls_up(&self) -> u64 {
        self.engines.calls_up() as u64
    }

    /// There are no more frames: ends all calls.
    pub(crate) fn finish_calls(&mut self) -> Result<()> {
        while self.engines.finish_some() {
            self.carry_out()?;
        }
        self.carry_out()
    }

    fn carry_out(&mut self) -> Result<()> {
        while let Some(event) = self.engines.poll_event() {
            match event {
                Event::Media { endpoint, wanted } => self.steer_media(endpoint, wanted),
                event => self.archivist.carry_out(event)?,
            }
        }
        Ok(())
    }

    fn steer_media(&mut self, endpoint: Endpoint, wanted: Option<bool>) {
        if let Some(steer) = &mut self.steer
            && !steer.steer(endpoint, wanted)
        {
            self.unsteered += 1;
        }
    }

    fn with<L>(self, archivist: impl FnOnce(K) -> Result<L>) -> Result<Pipeline<L>> {
        let Pipeline { engines, archivist: before, missed, unsteered, steer } = self;
        Ok(Pipeline { engines, archivist: archivist(before)?, missed, unsteered, steer })
    }
}
