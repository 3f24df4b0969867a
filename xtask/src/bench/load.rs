//! The load: a capture of many G.711 calls at the same time.
//!
//! It is written in the order of time and never held in memory, as 20,000 calls of a minute are 28 GB.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::call::{Call, Message, Side};
use super::scatter;
use super::voice::{BLOCK, Voices};
use crate::lab::capture::Writer;
use crate::lab::wire::Datagram;

/// In the file's name, so that a load of an older generator is not taken for one of this.
const GENERATOR: u32 = 1;
const WRITE_BUFFER: usize = 1 << 18;

/// Monday 5 January 2026, 09:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_767_603_600);

/// The first and the last call begin this far apart.
pub(super) const SPREAD: Duration = Duration::from_secs(4);

// All in microseconds.
const PACKET: u64 = 20_000;
/// Less than a packet, so that no stream is out of order.
const JITTER: u64 = 2_000;
const MEDIA_START: [u64; 2] = [420_000, 425_000];

pub(super) const MOST_CALLS: u32 = 100_000;

/// How many calls, and how long each is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Load {
    /// Calls at the same time
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CALLS)))]
    pub(super) calls: u32,
    /// Length of each call's audio
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(super) seconds: u32,
}

impl Load {
    pub(super) fn file_name(self) -> String {
        format!("load{GENERATOR}-{}x{}.pcap", self.calls, self.seconds)
    }

    pub(super) fn rtp_packets(self) -> u64 {
        u64::from(self.calls) * 2 * u64::from(self.packets())
    }

    /// Takes the load that is there already, or writes it. The first and the last call begin so many seconds apart.
    pub(super) fn in_folder(self, folder: &Path, spread: Option<u32>) -> Result<PathBuf> {
        let name = match spread {
            Some(spread) => format!("load{GENERATOR}-{}x{}-in-{spread}.pcap", self.calls, self.seconds),
            None => self.file_name(),
        };
        let path = folder.join(name);
        if !path.is_file() {
            eprintln!("writing {}", path.display());
            let spread = spread.map_or(SPREAD, |seconds| Duration::from_secs(seconds.into()));
            self.write_spread(&path, spread)?;
        }
        Ok(path)
    }

    /// Only a whole load gets the name.
    pub(super) fn write(self, path: &Path) -> Result<()> {
        self.write_spread(path, SPREAD)
    }

    /// The same, but the first and the last call begin so far apart.
    pub(super) fn write_spread(self, path: &Path, spread: Duration) -> Result<()> {
        let partial = path.with_extension("partial");
        let file = File::create(&partial).with_context(|| format!("create {}", partial.display()))?;
        self.generate(file, spread).with_context(|| format!("write {}", partial.display()))?;
        std::fs::rename(&partial, path).with_context(|| format!("rename to {}", path.display()))
    }

    /// Its frames in the order of their times, which count from its beginning; the first and the last call begin
    /// `spread` apart.
    pub(super) fn frames(self, spread: Duration) -> Frames {
        let mut frames = Frames {
            load: self,
            spread: spread.as_micros() as u64,
            voices: Voices::new(),
            queue: BinaryHeap::new(),
        };
        frames.queue = (0..self.calls).flat_map(|call| frames.begin(call)).map(Reverse).collect();
        frames
    }

    fn generate(self, file: File, spread: Duration) -> Result<()> {
        let mut out = Writer::new(BufWriter::with_capacity(WRITE_BUFFER, file))?;
        for frame in self.frames(spread) {
            let (at, data) = frame?;
            out.frame(EPOCH + at, &data)?;
        }
        out.finish()
    }

    /// The call ends when the last packet has been played, so that its recording is as long as its audio.
    fn signalling_time(self, index: u32) -> u64 {
        let hang_up = MEDIA_START[0] + u64::from(self.packets()) * PACKET;
        [0, 2_000, 30_000, 400_000, 410_000, hang_up, hang_up + 5_000][index as usize]
    }

    fn packets(self) -> u32 {
        self.seconds * 50
    }
}

/// The frames of a load, made one by one.
pub(super) struct Frames {
    load: Load,
    spread: u64,
    voices: Voices,
    queue: BinaryHeap<Reverse<Due>>,
}

impl Iterator for Frames {
    type Item = Result<(Duration, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(due) = self.queue.pop()?;
        self.queue.extend(self.after(&due).map(Reverse));
        Some(due.frame(&self.voices).map(|data| (Duration::from_micros(due.at), data)))
    }
}

impl Frames {
    /// The first message of a call and the first packet of either side.
    fn begin(&self, call: u32) -> impl Iterator<Item = Due> + use<> {
        [Part::Signalling, Part::Media(Side::Caller), Part::Media(Side::Callee)]
            .map(|part| self.due(call, part, 0))
            .into_iter()
            .flatten()
    }

    fn after(&self, due: &Due) -> Option<Due> {
        self.due(due.call, due.part, due.index + 1)
    }

    /// A message or packet, if there are so many.
    fn due(&self, call: u32, part: Part, index: u32) -> Option<Due> {
        let end = match part {
            Part::Signalling => Message::ALL.len() as u32,
            Part::Media(_) => self.load.packets(),
        };
        (index < end).then(|| Due { at: self.time(call, part, index), call, part, index })
    }

    fn time(&self, call: u32, part: Part, index: u32) -> u64 {
        let within = match part {
            Part::Signalling => self.load.signalling_time(index),
            Part::Media(side) => {
                let seed = u64::from(Call(call).stream(side)) << 32 | u64::from(index);
                MEDIA_START[side as usize] + u64::from(index) * PACKET + scatter(seed) % JITTER
            }
        };
        // Phones do not send in step.
        let phase = scatter(u64::from(call)) % PACKET;
        u64::from(call) * self.spread / u64::from(self.load.calls) + phase + within
    }
}

/// A frame to be sent. The field it is ordered by comes first, and the others keep equal times apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: u64,
    call: u32,
    part: Part,
    index: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Signalling,
    Media(Side),
}

impl Due {
    fn frame(&self, voices: &Voices) -> Result<Vec<u8>> {
        let call = Call(self.call);
        match self.part {
            Part::Signalling => {
                let message = Message::ALL[self.index as usize];
                let (from, to) = (message.from(), message.from().other());
                let text = call.text(message);
                Datagram { from: call.phone(from), to: call.phone(to), payload: text.as_bytes() }.build()
            }
            Part::Media(side) => {
                let mut packet = [0; 12 + BLOCK];
                packet[..12].copy_from_slice(&call.rtp_header(side, self.index, BLOCK as u32));
                let voice = voices.block(call.stream(side) as usize, self.index as usize);
                packet[12..].copy_from_slice(voice);
                Datagram { from: call.media(side), to: call.media(side.other()), payload: &packet }.build()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::capture::Capture;

    #[test]
    fn a_load_is_in_order_complete_and_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let load = Load { calls: 3, seconds: 2 };
        let [first, second] = ["a", "b"].map(|name| folder.path().join(name));
        load.write(&first).unwrap();
        load.write(&second).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        let frames = Capture::read(&first).unwrap().frames;
        assert!(frames.is_sorted_by_key(|frame| frame.at));
        let (rtp, sip): (Vec<_>, Vec<_>) =
            frames.iter().filter_map(|frame| Datagram::parse(&frame.data)).partition(Datagram::is_rtp);
        assert_eq!((rtp.len() as u64, sip.len()), (load.rtp_packets(), 21));
    }

    #[test]
    fn the_epoch_is_a_monday_morning() {
        let start = jiff::Timestamp::from_second(EPOCH.as_secs() as i64).unwrap();
        assert_eq!(start.to_string(), "2026-01-05T09:00:00Z");
    }
}
