//! One engine, or several that have the calls between them.

use std::collections::HashMap;
use std::iter;
use std::ops::Range;

use anyhow::{Context, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use spantape_core::control::{Answer, LiveCalls, Refusal, Request, Target};
use spantape_core::engine::{Counters, Engine};
use spantape_core::event::Event;
use spantape_core::record::Id;
use spantape_core::rules::Config;
use spantape_core::share::{Glance, Share};
use spantape_core::time::Timestamp;

use crate::config::LEAST_MEMORY;
use crate::source::buffer::FrameBuffer;

/// Frames for which it is worth while to wake other threads.
const WORTH_WHILE: usize = 64;
/// Each engine but the first may have this part of what is allowed for one.
const MORE_MEMORY: usize = 4;

/// Engines that see the same frames, and of which each records its own calls. All do what they do at the same time, and are
/// waited for; what they have to say is then taken from one after the other. So it is the same whichever was faster.
pub(crate) struct Engines {
    /// Of several.
    glance: Option<Glance>,
    first: Engine,
    others: Vec<Engine>,
    /// As many threads as there are others, once they have been started.
    pool: Option<ThreadPool>,
}

impl Engines {
    /// So many, at least one. As all know of all calls they are allowed more memory together than one is alone.
    pub(crate) fn new(config: &Config, count: usize) -> Result<Engines> {
        let count = count.max(1);
        let further = (config.max_memory / MORE_MEMORY).saturating_mul(count - 1);
        let memory = config.max_memory.saturating_add(further);
        let shares: Vec<Share> = Share::among(count).collect();
        let glance = shares.first().and_then(Share::glance).cloned();
        let mut engines = shares.into_iter().map(|share| {
            Engine::new(Config {
                max_memory: (memory / count).max(LEAST_MEMORY),
                // All know the same of it.
                announces_media: config.announces_media && share.has_rest(),
                share,
                ..config.clone()
            })
        });
        let first = engines.next().context("there is no share")?;
        Ok(Engines { glance, first, others: engines.collect(), pool: None })
    }

    /// By which several want each frame to be looked at before they have it.
    pub(crate) fn glance(&self) -> Option<&Glance> {
        self.glance.as_ref()
    }

    /// Has each do its work on a thread of its own from now on; until then they do it one after the other.
    pub(crate) fn start_threads(&mut self) -> Result<()> {
        if !self.others.is_empty() {
            let name = |index| format!("engine {}", index + 2);
            let pool = ThreadPoolBuilder::new().num_threads(self.others.len()).thread_name(name).build();
            self.pool = Some(pool.context("start threads")?);
        }
        Ok(())
    }

    /// Whether there is more than one.
    pub(crate) fn are_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// One after the other.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = &mut Engine> {
        iter::once(&mut self.first).chain(&mut self.others)
    }

    /// All at the same time, where they have threads.
    fn at_once(&mut self, work: impl Fn(&mut Engine) + Sync) {
        match &self.pool {
            None => self.each().for_each(work),
            Some(pool) => pool.in_place_scope(|scope| {
                for engine in &mut self.others {
                    scope.spawn(|_| work(engine));
                }
                work(&mut self.first);
            }),
        }
    }

    /// Takes some frames of a buffer.
    pub(crate) fn handle_frames(&mut self, frames: &FrameBuffer, range: Range<usize>) {
        let few = range.len() < WORTH_WHILE;
        let take = |engine: &mut Engine| engine.handle_frames(frames.with_glimpses(range.clone()));
        if few { self.each().for_each(take) } else { self.at_once(take) }
    }

    /// See [`Engine::handle_timeout`].
    pub(crate) fn handle_timeout(&mut self, at: Timestamp) {
        self.each().for_each(|engine| engine.handle_timeout(at));
    }

    /// What has happened since.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.each().find_map(Engine::poll_event)
    }

    /// Calls that are up, each as the engine sees it whose own it is.
    pub(crate) fn live_calls(&self, target: Option<&Target>, limit: usize) -> LiveCalls {
        let mut calls = self.first.live_calls(target, limit);
        let places = calls.calls.iter().enumerate().map(|(place, call)| (call.id, place));
        let places: HashMap<Id, usize> = places.collect();
        let seen = self.others.iter().flat_map(|engine| engine.live_calls(target, limit).calls);
        for seen in seen.filter(|seen| seen.is_own) {
            // Where memory is short, one may have given up another's call.
            match places.get(&seen.id).and_then(|&place| calls.calls.get_mut(place)) {
                Some(call) => *call = seen,
                None => calls.calls.push(seen),
            }
        }
        calls
    }

    /// Does what is asked of a call. Whose own it is says what comes of it.
    pub(crate) fn control(&mut self, at: Timestamp, request: &Request) -> Result<Answer, Refusal> {
        let first = self.first.control(at, request);
        let others = self.others.iter_mut().map(|engine| engine.control(at, request));
        // All of them are to do it.
        let is_own =
            |answer: &Result<Answer, Refusal>| answer.as_ref().is_ok_and(|answer| answer.call.is_own);
        others.fold(first, |found, other| if is_own(&other) { other } else { found })
    }

    /// Figures of what they have seen, which is the same, of the memory that they take together, and of the most that any had
    /// no room for.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.first.counters();
        for other in self.others.iter().map(Engine::counters) {
            counters.memory += other.memory;
            counters.memory_peak += other.memory_peak;
            for (most, given_up) in [
                (&mut counters.fragments_evicted, other.fragments_evicted),
                (&mut counters.tcp_evicted, other.tcp_evicted),
                (&mut counters.flows_evicted, other.flows_evicted),
                (&mut counters.streams_evicted, other.streams_evicted),
                (&mut counters.calls_evicted, other.calls_evicted),
                (&mut counters.associations_evicted, other.associations_evicted),
                (&mut counters.rtp_no_room, other.rtp_no_room),
            ] {
                *most = given_up.max(*most);
            }
        }
        counters
    }

    /// How many calls are up.
    pub(crate) fn calls_up(&self) -> usize {
        self.first.calls_up()
    }

    /// See [`Engine::finish_some`].
    pub(crate) fn finish_some(&mut self) -> bool {
        // All of them, whatever the first says.
        self.each().filter_map(|engine| engine.finish_some().then_some(())).count() > 0
    }
}
