//! Two archives of the same calls, one captured and one replayed: what must be the same in both.

use std::ops::AddAssign;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::lab::archive::{Archive, Audio};

/// Two taps stamp a frame at different moments; this is more than it takes from one to the other.
const NEAR_MS: f64 = 20.0;
/// Audio is placed by these stamps.
const REACH_MS: u32 = 2;
/// Of the samples so many are equal.
const EQUAL: f64 = 0.999;
/// What was said at the loudest: less is no call.
const LOUD: u16 = 2000;

/// What was found equal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Same {
    pub(super) recordings: usize,
    pub(super) streams: usize,
    pub(super) triggers: usize,
    samples: u64,
    equal: u64,
    /// The furthest apart, in milliseconds.
    shift_ms: f64,
}

/// Fails with the first difference.
pub(super) fn compare(live: &Archive, replayed: &Archive) -> Result<Same> {
    same_rows(live, replayed, "calls", &CALLS).context("calls")?;
    let recordings = same_rows(live, replayed, "recordings", &RECORDINGS).context("recordings")?;
    let streams = same_rows(live, replayed, "streams", &STREAMS).context("streams")?;
    let triggers = same_events(live, replayed).context("events")?;
    let mut same = Same { recordings: recordings.len(), streams: streams.len(), triggers, ..Same::default() };
    for (live_row, replayed_row) in &recordings {
        same += same_audio(&live.audio(live_row)?, &replayed.audio(replayed_row)?)
            .with_context(|| format!("recording {} of the capture", live_row["file"]))?;
    }
    Ok(same)
}

/// Columns of a table that are compared.
struct Columns {
    /// With the same value.
    same: &'static [&'static str],
    /// Counts of packets in a part of a stream: one may lie on this or that side of its edge.
    about: &'static [&'static str],
    /// Moments.
    near: &'static [&'static str],
}

const CALLS: Columns = Columns {
    same: &[
        "call_id",
        "from_user",
        "from_uri",
        "from_address",
        "from_user_agent",
        "to_user",
        "to_uri",
        "to_address",
        "to_user_agent",
        "end_reason",
        "status",
        "joined",
        "orphan",
        "rule",
        "action",
        "messages",
        "retransmissions",
        "streams",
        "recordings",
        "undecodable",
        "session",
    ],
    about: &[],
    near: &["start", "answered", "ended"],
};

const RECORDINGS: Columns = Columns {
    same: &[
        "call_id",
        "from_user",
        "to_user",
        "trigger",
        "rule",
        "codecs",
        "end_reason",
        "joined",
        "mixed",
        "sample_rate",
        "caller_lost",
        "caller_dropped",
        "callee_lost",
        "callee_dropped",
        "concealed_ms",
    ],
    about: &[
        "caller_expected",
        "caller_received",
        "caller_duplicate",
        "callee_expected",
        "callee_received",
        "callee_duplicate",
    ],
    near: &["start", "ended"],
};

const STREAMS: Columns = Columns {
    same: &[
        "call_id",
        "side",
        "source_address",
        "source_port",
        "destination_address",
        "destination_port",
        "ssrc",
        "kind",
        "codecs",
        "packets",
        "expected",
        "received",
        "lost",
        "duplicate",
        "dropped",
        "restarts",
        "bound_by",
        "not_decoded",
    ],
    about: &[],
    near: &["start", "ended"],
};

/// The rows in pairs.
fn same_rows(
    live: &Archive,
    replayed: &Archive,
    table: &str,
    columns: &Columns,
) -> Result<Vec<(Value, Value)>> {
    let (mut live, mut replayed) = (live.rows(table)?, replayed.rows(table)?);
    ensure!(live.len() == replayed.len(), "{} captured, {} replayed", live.len(), replayed.len());
    if table != "calls" {
        // Both sides of a call begin within microseconds, and so may two tracks.
        let key = |row: &Value| ["call_id", "mixed", "ssrc"].map(|column| row[column].to_string());
        live.sort_by_key(key);
        replayed.sort_by_key(key);
    }
    let pairs: Vec<(Value, Value)> = live.into_iter().zip(replayed).collect();
    for (live, replayed) in &pairs {
        let call = &live["call_id"];
        for &column in columns.same {
            let (live, replayed) = (known(live, column)?, known(replayed, column)?);
            ensure!(live == replayed, "{call}: {column} is {live} captured, {replayed} replayed");
        }
        for &column in columns.about {
            let (live, replayed) = (known(live, column)?, known(replayed, column)?);
            let apart = live.as_i64().zip(replayed.as_i64()).map(|(live, replayed)| (live - replayed).abs());
            ensure!(
                apart.is_some_and(|apart| apart <= 1),
                "{call}: {column} is {live} captured, {replayed} replayed"
            );
        }
        for &column in columns.near {
            let (live, replayed) = (known(live, column)?, known(replayed, column)?);
            ensure!(are_near(live, replayed)?, "{call}: {column} is {live} captured, {replayed} replayed");
        }
    }
    Ok(pairs)
}

/// A column that has been renamed must not be compared as null with null.
fn known<'a>(row: &'a Value, column: &str) -> Result<&'a Value> {
    row.get(column).with_context(|| format!("there is no column {column}"))
}

fn are_near(one: &Value, other: &Value) -> Result<bool> {
    Ok(match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) => {
            let moment = |text: &str| text.parse::<jiff::Timestamp>().with_context(|| format!("read {text}"));
            let apart = moment(one)?.duration_since(moment(other)?);
            apart.as_secs_f64().abs() * 1000.0 <= NEAR_MS
        }
        _ => one == other,
    })
}

/// Everything that happened but what depends on stamps, and in which order the triggers came. Tells how many
/// those were.
fn same_events(live: &Archive, replayed: &Archive) -> Result<usize> {
    let happened = |archive: &Archive| -> Result<Vec<String>> {
        let mut texts: Vec<String> = archive.rows("events")?.iter().map(text_of).collect::<Result<_>>()?;
        texts.sort();
        Ok(texts)
    };
    let triggers = |archive: &Archive| -> Result<Vec<String>> {
        archive.rows("events")?.iter().filter(|row| row["kind"] == "trigger").map(text_of).collect()
    };
    for (live, replayed) in [(happened(live)?, happened(replayed)?), (triggers(live)?, triggers(replayed)?)] {
        if let Some(missing) = replayed.iter().find(|event| !live.contains(event)) {
            bail!("not captured: {missing}");
        }
        if let Some(more) = live.iter().find(|event| !replayed.contains(event)) {
            bail!("not replayed: {more}");
        }
        ensure!(live == replayed, "not as often or in another order: {live:?}, {replayed:?}");
    }
    Ok(triggers(live)?.len())
}

fn text_of(event: &Value) -> Result<String> {
    let columns =
        ["call_id", "kind", "trigger", "verb", "outcome", "source_address", "destination_address", "text"];
    let values: Result<Vec<String>> =
        columns.iter().map(|column| known(event, column).map(Value::to_string)).collect();
    Ok(values?.join(" "))
}

fn same_audio(live: &Audio, replayed: &Audio) -> Result<Same> {
    ensure!(live.rate == replayed.rate, "{} Hz captured, {} Hz replayed", live.rate, replayed.rate);
    let apart_ms = (live.seconds() - replayed.seconds()).abs() * 1000.0;
    ensure!(apart_ms <= NEAR_MS, "{:.3} s captured, {:.3} s replayed", live.seconds(), replayed.seconds());
    let reach = (REACH_MS * live.rate / 1000) as usize;
    let mut same = Same::default();
    for channel in 0..live.channels.len() {
        let peak = live.peak(channel, 0.0, f64::INFINITY);
        ensure!(peak >= LOUD, "nothing is to be heard on channel {channel}: the loudest sample is {peak}");
        let found = align(&live.channels[channel], &replayed.channels[channel], reach);
        let part = found.equal as f64 / found.samples.max(1) as f64;
        ensure!(
            part >= EQUAL,
            "channel {channel}: {:.3} % of {} samples are equal",
            part * 100.0,
            found.samples
        );
        same += Same {
            samples: found.samples,
            equal: found.equal,
            shift_ms: found.shift as f64 * 1000.0 / f64::from(live.rate),
            ..Same::default()
        };
    }
    Ok(same)
}

/// How far two runs of samples are the same.
#[derive(Debug, PartialEq, Eq)]
struct Alignment {
    samples: u64,
    equal: u64,
    /// The furthest from each other that they are.
    shift: usize,
}

/// Compares block by block, each where it fits best within `reach`. Where the blocks before lay goes first: a
/// stream is placed as a whole, and moves by single samples as its sender's clock does.
fn align(one: &[i16], other: &[i16], reach: usize) -> Alignment {
    const BLOCK: usize = 80;
    let reach = reach as isize;
    let mut alignment = Alignment { samples: 0, equal: 0, shift: 0 };
    let mut shift = best(one, other, reach, 0).0;
    for (index, block) in one.chunks(BLOCK).enumerate() {
        let from = (index * BLOCK) as isize;
        // Behind the other's end there is nothing to compare with; lengths are compared elsewhere.
        if from + reach + BLOCK as isize > other.len() as isize {
            break;
        }
        let here = equals(block, other, from + shift);
        if here < block.len() {
            let (moved, count) = best(block, other, reach, from);
            if count > here {
                shift = moved;
            }
        }
        alignment.samples += block.len() as u64;
        alignment.equal += equals(block, other, from + shift) as u64;
        alignment.shift = alignment.shift.max(shift.unsigned_abs());
    }
    alignment
}

/// The shift from `place` with the most equal samples, the smallest of several, and how many these are.
fn best(one: &[i16], other: &[i16], reach: isize, place: isize) -> (isize, usize) {
    let shifts = (0..=reach).flat_map(|far| [far, -far]);
    shifts
        .map(|shift| (shift, equals(one, other, place + shift)))
        .fold((0, 0), |best, found| if found.1 > best.1 { found } else { best })
}

fn equals(one: &[i16], other: &[i16], place: isize) -> usize {
    let skipped = (-place).max(0) as usize;
    let other = other.get(place.max(0) as usize..).unwrap_or_default();
    one.iter().skip(skipped).zip(other).filter(|(one, other)| one == other).count()
}

impl AddAssign for Same {
    fn add_assign(&mut self, more: Same) {
        self.recordings += more.recordings;
        self.streams += more.streams;
        self.triggers += more.triggers;
        self.samples += more.samples;
        self.equal += more.equal;
        self.shift_ms = self.shift_ms.max(more.shift_ms);
    }
}

impl std::fmt::Display for Same {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Same { recordings, streams, triggers, samples, equal, shift_ms } = self;
        write!(out, "{recordings} recordings, {streams} streams, {triggers} triggers")?;
        if *samples > 0 {
            let part = *equal as f64 * 100.0 / *samples as f64;
            write!(out, ", {part:.3} % of {samples} samples, at most {shift_ms:.2} ms apart")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never the same twice within the reach.
    fn speech(count: usize) -> Vec<i16> {
        (0..count as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 16) as i16).collect()
    }

    #[test]
    fn a_shift_is_found_and_a_step_within() {
        let speech = speech(8000);
        let whole = Alignment { samples: 7920, equal: 7920, shift: 0 };
        assert_eq!(align(&speech, &speech, 16), whole);
        let late = [&[0; 5], &speech[..]].concat();
        assert_eq!(align(&speech, &late, 16).shift, 5);
        let stepped = [&speech[..4000], &[7], &speech[4000..]].concat();
        let found = align(&speech, &stepped, 16);
        assert!(found.equal >= found.samples - 80 && found.shift == 1, "{found:?}");
    }

    #[test]
    fn beyond_the_reach_and_damage_are_no_equals() {
        let speech = speech(8000);
        let late = [&[0; 17], &speech[..]].concat();
        assert!(align(&speech, &late, 16).equal < 100);
        let mut damaged = speech.clone();
        damaged.iter_mut().step_by(100).for_each(|sample| *sample ^= 1);
        assert_eq!(align(&speech, &damaged, 16).equal, 7920 - 80);
    }
}
