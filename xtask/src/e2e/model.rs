//! The sieve in this program: what the kernel's program is to say of the same frames.

use std::collections::HashMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use spantape_sieve::{CLASSES, Class, Endpoint, Flow, Memory, Path, Ports, Wish, sieve};

/// A sieve with the ports that it has where nothing is configured.
#[derive(Default)]
pub(super) struct Model {
    announced_only: bool,
    flows: HashMap<Flow, Class>,
    wishes: HashMap<Endpoint, Wish>,
    counts: Counts,
}

/// Of requests that are triggers where nothing is configured.
const KNOWN_PATHS: [&str; 2] = ["/URLRecord/record.xml", "/phonerecording.cgi"];

/// Frames by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts([u64; CLASSES]);

impl Model {
    /// One that needs no media but what was announced.
    pub(super) fn announced_only() -> Self {
        Self { announced_only: true, ..Self::default() }
    }

    /// Counts a frame, and says what it is.
    pub(super) fn take(&mut self, frame: &[u8]) -> Class {
        let class = sieve(frame, self);
        self.counts.0[class as usize] += 1;
        class
    }

    /// The recorder has announced an endpoint.
    pub(super) fn announce(&mut self, endpoint: SocketAddr, wish: Wish) {
        self.wishes.insert(Endpoint::new(endpoint.ip(), endpoint.port()), wish);
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }
}

impl Memory for Model {
    fn port(&self, port: u16) -> Ports {
        let of_port = Ports::DEFAULT.iter().filter(|(number, _)| *number == port);
        of_port.fold(Ports::default(), |ports, (_, more)| ports.or(*more))
    }

    fn wish(&self, endpoint: &Endpoint) -> Option<Wish> {
        self.wishes.get(endpoint).copied()
    }

    fn flow(&self, flow: &Flow) -> Option<Class> {
        self.flows.get(flow).copied()
    }

    fn remember(&mut self, flow: &Flow, class: Class) {
        self.flows.insert(*flow, class);
    }

    fn is_trigger(&self, path: &Path) -> bool {
        KNOWN_PATHS.iter().any(|known| path.starts_with(known.as_bytes()))
    }

    fn takes_unknown_media(&self) -> bool {
        !self.announced_only
    }
}

impl Counts {
    /// Of a summary.
    pub(super) fn of(summary: &Value) -> Result<Self> {
        let classes = summary["classes"].as_object().context("the summary has no `classes`")?;
        ensure!(classes.len() == CLASSES, "the summary has other classes: {:?}", summary["classes"]);
        let mut counts = Self::default();
        for class in Class::ALL {
            let count = classes.get(class.as_str()).and_then(Value::as_u64);
            counts.0[class as usize] = count.with_context(|| format!("no count of {}", class.as_str()))?;
        }
        Ok(counts)
    }

    pub(super) fn get(&self, class: Class) -> u64 {
        self.0[class as usize]
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many of them the recorder gets.
    pub(super) fn needed(&self) -> u64 {
        Class::ALL.into_iter().filter(|class| class.is_needed()).map(|class| self.get(class)).sum()
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = Class::ALL.into_iter().filter(|class| self.get(*class) > 0);
        let words: Vec<String> =
            some.map(|class| format!("{} {}", class.as_str(), self.get(class))).collect();
        out.write_str(&words.join(", "))
    }
}
