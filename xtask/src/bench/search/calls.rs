//! A catalog to search: a year of calls between the subscribers of a PBX.
//!
//! Each call is made of its day and its number alone: days can be written side by side, and what is looked for need not
//! be found first.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use spantape_core::record::{CallRow, Completeness, EndReason, Id, Party, RecordingRow};
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};
use spantape_store::{Catalog, Saved, utc};

use super::super::scatter;

pub(super) const DAYS: u32 = 365;
pub(super) const SUBSCRIBERS: u64 = 200_000;

/// In the catalog's name, so that one of an older generator is not taken for one of this.
const GENERATOR: u32 = 1;
const DAY: i64 = 86_400 * SECOND;
/// Wednesday 1 January 2025, 00:00 UTC.
const EPOCH: Timestamp = Timestamp(1_735_689_600 * SECOND);
/// Rows of a table that wait in memory. A day of ten million calls a year has fewer, and so is one part.
const BUFFERED_ROWS: usize = 1 << 17;
const RECORDED_PERCENT: u64 = 60;
/// Half of the time in which calls begin, in microseconds: what is answered after a while is so on the same day.
const HALF_DAY: u64 = 43_185_000_000;
/// The second leg of a call begins so much later than the first.
const LATER: i64 = 30 * MILLISECOND;
/// A sample of 8 kHz.
const SAMPLE: i64 = SECOND / 8000;
const SAMPLES_A_PACKET: u64 = 160;
const PACKET_MS: u64 = 20;

const USER_AGENTS: [&str; 4] =
    ["Yealink SIP-T46U 108.86.0.90", "snomD785/10.1.184.15", "Fanvil X5U 2.12.4", ""];

/// How many calls it has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Year {
    /// Calls in the catalog, of 365 days
    #[arg(long, default_value_t = 10_000_000,
          value_parser = clap::value_parser!(u64).range(10_000..=1_000_000_000))]
    pub(super) calls: u64,
}

impl Year {
    /// Takes the catalog that is there already, or writes it.
    pub(super) fn in_folder(self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("catalog{GENERATOR}-{}", self.calls));
        if !path.is_dir() {
            eprintln!("writing {}", path.display());
            self.write(&path)?;
        }
        Ok(path)
    }

    /// Some call, by a number as good as random.
    pub(super) fn any(self, random: u64) -> CallRow {
        let day = (random % u64::from(DAYS)) as u32;
        self.call(day, (random >> 32) % self.calls_on(day))
    }

    /// A subscriber with about a hundred calls, if there is one with so few. So have those after it.
    pub(super) fn subscriber(self) -> u64 {
        // By how they are drawn, the n-th has calls / sqrt(n * SUBSCRIBERS).
        ((self.calls / 100).pow(2) / SUBSCRIBERS).min(SUBSCRIBERS / 2)
    }

    /// Only a whole catalog gets the name.
    fn write(self, path: &Path) -> Result<()> {
        let partial = path.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
        }
        self.write_days(&partial)?;
        fs::rename(&partial, path).with_context(|| format!("rename to {}", path.display()))
    }

    /// Days have no part in common, so several are written at the same time.
    fn write_days(self, archive: &Path) -> Result<()> {
        let (begin, next) = (Instant::now(), AtomicU32::new(0));
        let write = || -> Result<()> {
            let mut catalog = Catalog::with_buffer(archive, BUFFERED_ROWS)?;
            loop {
                let day = next.fetch_add(1, Ordering::Relaxed);
                if day >= DAYS {
                    return Ok(());
                }
                self.write_day(day, &mut catalog)?;
                if day % 30 == 29 {
                    eprintln!("  {} of {DAYS} days, {:.0} s", day + 1, begin.elapsed().as_secs_f64());
                }
            }
        };
        thread::scope(|scope| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let writers: Vec<_> = (0..cores).map(|_| scope.spawn(write)).collect();
            for writer in writers {
                match writer.join() {
                    Ok(written) => written?,
                    Err(_) => bail!("a thread that writes the catalog has panicked"),
                }
            }
            Ok(())
        })
    }

    fn write_day(self, day: u32, catalog: &mut Catalog) -> Result<()> {
        for number in 0..self.calls_on(day) {
            let call = self.call(day, number);
            catalog.call(&call)?;
            if let Some((row, saved)) = recording(&call) {
                catalog.recording(&row, &saved)?;
            }
        }
        Ok(catalog.flush()?)
    }

    fn calls_on(self, day: u32) -> u64 {
        self.calls_before(day + 1) - self.calls_before(day)
    }

    fn calls_before(self, day: u32) -> u64 {
        self.calls * u64::from(day) / u64::from(DAYS)
    }

    /// The call with this number on that day. Every fourth is the second leg of the one before, as behind a PBX.
    fn call(self, day: u32, number: u64) -> CallRow {
        let index = self.calls_before(day) + number;
        let is_second = number % 4 == 3;
        let first = index - u64::from(is_second);
        let begin = midnight(day) + time_of_day(first);
        let (first_call_id, conversation) = identity(first, begin);
        let (start, call_id, id) = if is_second {
            let (call_id, id) = identity(index, begin + LATER);
            (begin + LATER, call_id, id)
        } else {
            (begin, first_call_id, conversation)
        };
        let (caller, callee) = subscribers(first);
        let is_recorded = chance(index, Of::Recorded) % 100 < RECORDED_PERCENT;
        let answer = (is_recorded || chance(first, Of::Answered).is_multiple_of(2))
            .then(|| start + milliseconds(2_000 + chance(first, Of::Ringing) % 18_000));
        let end = answer.map_or(start + 20 * SECOND, |answer| {
            answer + milliseconds(5_000 + skewed(chance(first, Of::Length), 900_000))
        });
        CallRow {
            id,
            call_id,
            conversation_id: conversation.to_string(),
            from: party(caller),
            to: party(callee),
            start,
            answer,
            end,
            end_reason: if answer.is_some() { EndReason::Bye } else { EndReason::Cancelled },
            status: if answer.is_some() { 200 } else { 487 },
            joined: false,
            orphan: false,
            rule: if is_recorded { "recorded" } else { "others" }.to_owned(),
            action: if is_recorded { "all" } else { "ignore" },
            messages: 7,
            retransmissions: 0,
            streams: if is_recorded { 2 } else { 0 },
            recordings: u32::from(is_recorded),
            undecodable: Vec::new(),
            session: "",
        }
    }
}

/// The first moment of a day of the year, the first of which is 0.
pub(super) fn midnight(day: u32) -> Timestamp {
    EPOCH + i64::from(day) * DAY
}

/// What a subscriber is called by, the first of which is 0.
pub(super) fn phone_number(subscriber: u64) -> String {
    // The factor has none in common with 10^7: no two subscribers have the same number, nor neighbours like ones.
    format!("+4930{:07}", subscriber * 7_368_787 % 10_000_000)
}

/// What of a call is left to chance.
#[derive(Clone, Copy)]
enum Of {
    CallId,
    Tag,
    Morning,
    Afternoon,
    Caller,
    Callee,
    Recorded,
    Answered,
    Ringing,
    Length,
}

/// Never the same for two calls.
fn chance(call: u64, of: Of) -> u64 {
    scatter(scatter(call) ^ of as u64)
}

/// Less than `most`, and the smaller the more often: it is the square of a number that is even.
fn skewed(random: u64, most: u64) -> u64 {
    let root = random >> 32;
    (((root * root) >> 32) * most) >> 32
}

fn milliseconds(count: u64) -> i64 {
    count as i64 * MILLISECOND
}

/// Most begin around noon.
fn time_of_day(call: u64) -> i64 {
    let micros = chance(call, Of::Morning) % HALF_DAY + chance(call, Of::Afternoon) % HALF_DAY;
    micros as i64 * 1000
}

fn subscribers(call: u64) -> (u64, u64) {
    let caller = skewed(chance(call, Of::Caller), SUBSCRIBERS);
    let callee = skewed(chance(call, Of::Callee), SUBSCRIBERS);
    // Nobody calls himself.
    (caller, if callee == caller { (callee + 1) % SUBSCRIBERS } else { callee })
}

/// The Call-ID, and the id made of it.
fn identity(call: u64, start: Timestamp) -> (String, Id) {
    let tag = chance(call, Of::Tag);
    let call_id = format!("{:016x}{:08x}@10.0.0.{}", chance(call, Of::CallId), tag >> 32, call % 4 + 1);
    let tag = format!("{:08x}", tag as u32);
    let id = Id::derive(&[call_id.as_bytes(), tag.as_bytes(), &start.0.to_le_bytes()]);
    (call_id, id)
}

fn party(subscriber: u64) -> Party {
    let user = phone_number(subscriber);
    let [_, second, third, fourth] = (subscriber as u32).to_be_bytes();
    Party {
        uri: format!("sip:{user}@pbx.example"),
        display: format!("Extension {subscriber}"),
        address: Some(Ipv4Addr::new(10, second + 1, third, fourth).into()),
        user_agent: USER_AGENTS[(subscriber % 4) as usize].to_owned(),
        user,
    }
}

/// The recording of a call that has one.
fn recording(call: &CallRow) -> Option<(RecordingRow, Saved)> {
    let start = call.answer.filter(|_| call.recordings > 0)?;
    let trigger = "rule";
    let id = Id::derive(&[&call.id.0, &start.0.to_le_bytes(), trigger.as_bytes()]);
    let frames = (call.end.since(start) / SAMPLE).unsigned_abs();
    let (packets, lost) = (frames / SAMPLES_A_PACKET, (frames % 64).saturating_sub(60));
    let side = Completeness {
        expected: packets,
        received: packets - lost,
        lost,
        concealed_ms: lost * PACKET_MS,
        ..Completeness::default()
    };
    let row = RecordingRow {
        id,
        call: call.id,
        call_id: call.call_id.clone(),
        conversation_id: call.conversation_id.clone(),
        from: call.from.clone(),
        to: call.to.clone(),
        start,
        end: call.end,
        sample_rate: 8000,
        frames,
        trigger: trigger.into(),
        rule: call.rule.clone(),
        codecs: vec![if frames % 8 == 7 { "G722" } else { "PCMA" }.to_owned()],
        end_reason: call.end_reason,
        joined: false,
        mixed: false,
        completeness: [side, side],
    };
    let saved = Saved {
        file: file_name(&row),
        bytes: 4 * frames + 1024,
        // As long as a hash, and no easier to compress.
        sha256: Some(format!("{id}{}", call.id)),
        ..Saved::default()
    };
    Some((row, saved))
}

/// As the archive names it.
fn file_name(row: &RecordingRow) -> String {
    let at = utc::rfc3339(row.start);
    let (date, time, ms) = (&at[..10], at[..19].replace(['-', ':'], ""), &at[20..23]);
    let (folder, id) = (date.replace('-', "/"), row.id.to_string());
    let (from, to) = (&row.from.user, &row.to.user);
    format!("recordings/{folder}/{time}.{ms}Z_{from}_{to}_{}.wav", &id[..8])
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use spantape_store::{Query, Table};

    use super::*;

    const YEAR: Year = Year { calls: 200_000 };

    fn calls() -> impl Iterator<Item = CallRow> {
        (0..DAYS).flat_map(|day| (0..YEAR.calls_on(day)).map(move |number| YEAR.call(day, number)))
    }

    #[test]
    fn calls_are_of_their_day_and_differ() {
        let (mut ids, mut call_ids, mut conversations) = (HashSet::new(), HashSet::new(), HashSet::new());
        for day in [0, 1, 364] {
            for number in 0..YEAR.calls_on(day) {
                let call = YEAR.call(day, number);
                let recorded_at = recording(&call).map_or(call.start, |(row, _)| row.start);
                for at in [call.start, recorded_at] {
                    assert!(midnight(day) <= at && at < midnight(day + 1));
                }
                assert!(ids.insert(call.id) && call_ids.insert(call.call_id));
                conversations.insert(call.conversation_id);
            }
        }
        assert!(conversations.len() < ids.len() * 4 / 5 && conversations.len() > ids.len() * 7 / 10);
    }

    #[test]
    fn most_are_recorded_and_some_subscribers_have_a_hundred() {
        let (mut recorded, mut by_number) = (0, HashMap::<String, u64>::new());
        for call in calls() {
            recorded += u64::from(call.recordings);
            for party in [call.from, call.to] {
                *by_number.entry(party.user).or_default() += 1;
            }
        }
        assert!((118_000..122_000).contains(&recorded), "{recorded}");
        let first = YEAR.subscriber();
        let some: u64 = (first..first + 4).map(|n| by_number[&phone_number(n)]).sum();
        assert!((280..520).contains(&some), "{some}");
    }

    #[test]
    fn a_day_is_one_part_of_each_table_and_found_again() {
        let archive = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::with_buffer(archive.path(), BUFFERED_ROWS).unwrap();
        YEAR.write_day(7, &mut catalog).unwrap();
        let count = |query: Query| {
            let mut rows = query.run(archive.path()).unwrap();
            let count: usize = rows.by_ref().map(|batch| batch.unwrap().num_rows()).sum();
            assert_eq!(rows.stats().parts, 1);
            count as u64
        };
        let calls = Query { table: Table::Calls, ..Query::default() };
        assert_eq!(count(calls.clone()), YEAR.calls_on(7));
        let call = YEAR.call(7, 3);
        assert_eq!(count(Query { call_id: Some(call.call_id), ..calls.clone() }), 1);
        assert_eq!(count(Query { conversation: Some(call.conversation_id), ..calls }), 2);
        let recorded = (0..YEAR.calls_on(7)).filter(|&number| YEAR.call(7, number).recordings > 0).count();
        assert_eq!(count(Query::default()), recorded as u64);
    }

    #[test]
    fn a_recording_is_named_as_in_an_archive() {
        let call = (0..).map(|number| YEAR.call(0, number)).find(|call| call.recordings > 0).unwrap();
        let (row, saved) = recording(&call).unwrap();
        let id = row.id.to_string();
        assert!(saved.file.starts_with("recordings/2025/01/01/20250101T"), "{}", saved.file);
        assert!(saved.file.ends_with(&format!("_{}_{}_{}.wav", row.from.user, row.to.user, &id[..8])));
    }
}
