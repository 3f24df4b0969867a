//! Logs of a Genesys SIP Server, in which stands what was asked for by T-Lib: its encoding on the wire is not public.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use spantape_core::control::{Request, Target};
use spantape_core::schedule::Zone;
use spantape_core::time::{SECOND, Timestamp};
use spantape_core::trigger::genesys_log::{Entry, NAME, Reader};

/// What all logs ask for, in the order of time.
pub(crate) struct GenesysLogs {
    entries: Vec<Entry>,
    /// The time of the place, where a log does not say by which clock it was written.
    zone: Zone,
    /// When each was asked for, the latest first: known once the capture has told which day it is.
    waiting: Option<Vec<(Timestamp, Entry)>>,
    unheard: u64,
}

/// A line that is longer is cut.
const LONGEST_LINE: u64 = 64 * 1024;
const DAY: i64 = 24 * 3600 * SECOND;

impl GenesysLogs {
    pub(crate) fn read(files: &[PathBuf], zone: Zone) -> Result<GenesysLogs> {
        let mut entries = Vec::new();
        for file in files {
            read(file, &mut entries).with_context(|| format!("read {}", file.display()))?;
        }
        Ok(GenesysLogs { entries, zone, waiting: None, unheard: 0 })
    }

    /// Nothing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.waiting.as_ref().is_none_or(Vec::is_empty)
    }

    /// What was asked for next, if that was not after `at`, in the order in which its call is to be looked for.
    pub(crate) fn next_until(&mut self, at: Timestamp) -> Option<(Timestamp, Vec<Request>)> {
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            None => {
                let entries = std::mem::take(&mut self.entries);
                self.waiting.insert(in_order(entries, &self.zone, at))
            }
        };
        let (asked, entry) = waiting.pop_if(|(asked, _)| *asked <= at)?;
        Some((asked, requests(entry)))
    }

    /// Whether a call was found for what was asked.
    pub(crate) fn count(&mut self, found: bool) {
        self.unheard += u64::from(!found);
    }

    /// What is to be told of requests that came to nothing.
    pub(crate) fn unheard(&self) -> Option<String> {
        let late = self.waiting.as_ref().map_or(self.entries.len(), Vec::len) as u64;
        (self.unheard + late > 0).then(|| {
            format!(
                "of the requests in the logs, {} mean no call that was up, and {late} are of later than the capture",
                self.unheard
            )
        })
    }
}

fn read(path: &Path, entries: &mut Vec<Entry>) -> Result<()> {
    let (mut input, mut reader) = (BufReader::new(File::open(path)?), Reader::default());
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        entries.extend(reader.line(&line));
    }
    entries.extend(reader.finish());
    Ok(())
}

/// The latest first. Of what has no time at all nobody knows when it was.
fn in_order(entries: Vec<Entry>, zone: &Zone, first: Timestamp) -> Vec<(Timestamp, Entry)> {
    let offset = zone.ahead(first) * SECOND;
    let day = (first.0 + offset).div_euclid(DAY);
    let timed = entries.into_iter().filter_map(|entry| Some((entry.at?.timestamp(day, offset), entry)));
    let mut waiting: Vec<(Timestamp, Entry)> = timed.collect();
    waiting.sort_by_key(|(at, _)| *at);
    // A server may log what came over two connections twice.
    waiting.dedup();
    waiting.reverse();
    waiting
}

/// By the call's id, else by the number.
fn requests(entry: Entry) -> Vec<Request> {
    let targets = [entry.call_uuid.map(Target::Token), entry.this_dn.map(Target::Dn)];
    let remark = entry.conn_id.map(|id| format!("ConnID {id}")).unwrap_or_default();
    let request = |target| Request {
        source: NAME,
        target,
        verb: Some(entry.verb),
        note: None,
        from: None,
        remark: remark.clone(),
    };
    targets.into_iter().flatten().map(request).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-15 00:30:00 in Berlin, which is the day before in UTC.
    const FIRST: Timestamp = Timestamp(1_768_433_400 * SECOND);

    fn logs(text: &str) -> GenesysLogs {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.log");
        std::fs::write(&file, text).unwrap();
        GenesysLogs::read(&[file], Zone::new("Europe/Berlin", 3600, Vec::new())).unwrap()
    }

    fn entry(time: &str, id: u16, dn: &str) -> String {
        format!(
            "{time} Trc 04541 RequestPrivateService\n\tAttributePrivateMsgID {id}\n\tAttributeThisDN '{dn}'\n"
        )
    }

    #[test]
    fn by_the_clock_of_the_place_and_the_day_of_the_capture() {
        let text = entry("00:30:02.500", 3015, "7001") + &entry("00:30:01.000", 3013, "7002");
        let mut logs = logs(&(text.clone() + &text));
        assert!(logs.next_until(FIRST).is_none());
        let found = |next: Option<(Timestamp, Vec<Request>)>| {
            let (at, requests) = next?;
            Some((at.since(FIRST), requests[0].target.clone()))
        };
        let later = FIRST + 10 * SECOND;
        assert_eq!(found(logs.next_until(later)), Some((SECOND, Target::Dn("7002".to_owned()))));
        let second = Some((5 * SECOND / 2, Target::Dn("7001".to_owned())));
        assert_eq!(found(logs.next_until(later)), second);
        assert!(logs.next_until(later).is_none(), "one that was logged twice");
        assert!(logs.unheard().is_none());
    }

    #[test]
    fn what_came_to_nothing_is_told() {
        let mut logs = logs(&(entry("00:30:01", 3013, "1") + &entry("23:00:00", 3014, "1")));
        assert!(logs.next_until(FIRST + 2 * SECOND).is_some());
        logs.count(false);
        assert!(logs.unheard().unwrap().contains(", 1 mean no call that was up, and 1 are of later"));
    }
}
