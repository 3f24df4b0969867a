//! The highest rate at which nothing is lost.

use std::fmt;

use anyhow::Result;
use serde_json::{Value, json};

use super::receiver::Kind;
use super::traffic::Mix;
use super::trial::{Stage, Trial};

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Highest {
    pub(super) kind: Kind,
    /// Frames a second; none if even the lowest was too much.
    rate: Option<u64>,
    /// Not the receiver has ended it: more could not be sent.
    is_senders: bool,
}

/// From one rate to the next.
const STEP: f64 = 1.4;
const LOWEST: u64 = 5_000;
/// A hiccup of the machine is not the receiver's limit.
const TRIES: u32 = 2;

impl Highest {
    /// Steps up from the rate of `mix`, or down as long as that is too much.
    pub(super) fn find(stage: &Stage, kind: Kind, wanted: u64, mix: Mix) -> Result<Self> {
        let mut found = Self { kind, rate: None, is_senders: false };
        let mut rate = mix.rate;
        loop {
            let trial = best(stage, kind, wanted, Mix { rate, ..mix })?;
            let (whole, sent) = (trial.lost == 0, trial.is_sent());
            eprintln!(
                "  {:<10} {wanted:>3} % of {rate:>7} frames/s: {} lost, {} refused by the wire, {:.2} of the time",
                kind.name(),
                trial.lost,
                trial.refused,
                trial.lateness
            );
            match (whole && sent, found.rate) {
                (true, _) => {
                    let is_first_way_down = found.rate.is_none() && rate < mix.rate;
                    found.rate = Some(rate);
                    if is_first_way_down {
                        return Ok(found);
                    }
                    rate = (rate as f64 * STEP) as u64;
                }
                (false, Some(_)) => return Ok(Self { is_senders: whole, ..found }),
                (false, None) if rate <= LOWEST => return Ok(Self { is_senders: whole, ..found }),
                (false, None) => {
                    found.is_senders = whole;
                    rate = (rate as f64 / STEP) as u64;
                }
            }
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "receiver": self.kind.name(), "frames_per_s": self.rate, "senders_limit": self.is_senders })
    }
}

impl fmt::Display for Highest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rate, self.is_senders) {
            (None, _) => write!(f, "below {LOWEST}"),
            (Some(rate), false) => write!(f, "{rate}"),
            (Some(rate), true) => write!(f, "at least {rate}: the sender's limit"),
        }
    }
}

fn best(stage: &Stage, kind: Kind, wanted: u64, mix: Mix) -> Result<Trial> {
    let once = || stage.trial(kind, mix.calls(wanted), mix.rest(wanted));
    let mut trial = once()?;
    for _ in 1..TRIES {
        if trial.lost == 0 && trial.is_sent() {
            break;
        }
        trial = once()?;
    }
    Ok(trial)
}
