//! Packets without a decoder, kept beside the tape of their call until it is known which recordings they belong to.
//!
//! ```text
//! <archive>/spool/17.caller.packets       of tape 17, what the caller sent
//! <archive>/spool/17.caller.0.packets-left   of a tape that an earlier process could not finish
//!                                         kind 1: RTP; 2: RTCP that says what a payload type stands for; 0: RTP of which
//!                                         the header alone is left
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use spantape_core::codec::Codec;
use spantape_core::rtp::{BARE_HEADER, Undecoded, strip_payload};
use spantape_core::time::Timestamp;

use crate::error::{Result, io};
use crate::records::{Entry, Records, Times};
use crate::rtpdump::{self, Header, Record};
use crate::spool::new_file;

/// A few packets are no stream: a recording is not begun for them either.
const FEWEST: u64 = 3;
/// Payload types of streams that are remembered as described.
const MOST_DESCRIBED: usize = 64;

const BARE: u8 = 0;
const RTP: u8 = 1;
const RTCP: u8 = 2;

/// The packets of one side of a tape.
#[derive(Debug)]
pub(crate) struct Packets {
    source: SocketAddr,
    destination: SocketAddr,
    described: Vec<(u32, u8, Codec, bool)>,
    records: Records,
}

/// A recording, as packets see it: nanoseconds from the tape's start.
pub(crate) struct Part {
    pub(crate) range: Range<i64>,
    /// Of the range, what the recording leaves out.
    pub(crate) left_out: Vec<Range<i64>>,
    /// Moment of the range's start.
    pub(crate) start: Timestamp,
}

impl Packets {
    /// In a file that is made when the first packets are written. The addresses are those of the first stream.
    pub(crate) fn new(path: PathBuf, source: SocketAddr, destination: SocketAddr) -> Packets {
        Packets { source, destination, described: Vec::new(), records: Records::new(path) }
    }

    /// Adds a packet.
    pub(crate) fn push(&mut self, packet: &Undecoded) -> Result<()> {
        let (Some(&second), Some(ssrc)) = (packet.packet.get(1), packet.packet.get(8..12)) else {
            return Ok(());
        };
        let (payload_type, ssrc) =
            (second & 0x7f, ssrc.iter().fold(0, |ssrc, &byte| ssrc << 8 | u32::from(byte)));
        let is_of = |known: &&(u32, u8, Codec, bool)| (known.0, known.1) == (ssrc, payload_type);
        let known = self.described.iter().find(is_of);
        if known.is_none_or(|(.., codec, secure)| (codec, *secure) != (&packet.codec, packet.secure)) {
            self.described.retain(|known| !is_of(&known));
            if self.described.len() >= MOST_DESCRIBED {
                self.described.clear();
            }
            let (codec, secure) = (&packet.codec, packet.secure);
            let text = rtpdump::describe(ssrc, payload_type, codec, secure, self.destination);
            self.record(RTCP, packet, &text)?;
            self.described.push((ssrc, payload_type, codec.clone(), secure));
        }
        let kind = if packet.packet.len() > BARE_HEADER { RTP } else { BARE };
        self.record(kind, packet, &packet.packet)
    }

    /// Writes what waits in memory.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.records.flush()
    }

    /// Overwrites the payload of packets that would be heard in that time, or in a part of it.
    pub(crate) fn erase(&mut self, time: &Range<i64>) -> Result<()> {
        self.records.erase(time, |kind, mut packet| {
            (kind == RTP).then(|| {
                strip_payload(&mut packet);
                (BARE, packet)
            })
        })
    }

    /// Writes the packets of a recording to `target`, which appears whole. Returns whether there were enough.
    pub(crate) fn cut(&mut self, part: &Part, dir: &Path, target: &Path) -> Result<bool> {
        let Some(records) = self.records.read()? else { return Ok(false) };
        let copy = new_file(dir, "packets-", ".tmp").map_err(io("create a file in", dir))?;
        let count = self.copy(part, records, copy.as_file()).map_err(io("write", target))?;
        if count < FEWEST {
            return Ok(false);
        }
        copy.persist(target).map_err(|error| io("rename into place", target)(error.error))?;
        Ok(true)
    }

    /// Removes what is left of it.
    pub(crate) fn remove(&self) -> Result<()> {
        self.records.remove()
    }

    fn record(&mut self, kind: u8, of: &Undecoded, packet: &[u8]) -> Result<()> {
        self.records.push(kind, of.into(), &[packet])
    }

    fn copy(&self, part: &Part, mut from: impl Read, to: &File) -> io::Result<u64> {
        let mut out = BufWriter::new(to);
        let (source, destination) = (self.source, self.destination);
        rtpdump::write_header(&mut out, &Header { destination, source, start: part.start })?;
        if !part.left_out.is_empty() {
            let from_start = |out: &Range<i64>| out.start - part.range.start..out.end - part.range.start;
            let cuts = rtpdump::tell_cuts(part.left_out.iter().map(from_start));
            rtpdump::write_record(&mut out, &Record { offset: 0, is_rtcp: true, packet: &cuts })?;
        }
        let mut count = 0;
        while let Some(entry) = Entry::read(&mut from)? {
            let offset = rtpdump::offset(entry.times.at - part.range.start);
            let is_of_part = || {
                entry.times.is_heard_in(&part.range)
                    && !part.left_out.iter().any(|out| entry.times.is_heard_in(out))
            };
            let (is_rtcp, packet) = match entry.kind {
                RTCP => (true, Some(&entry.body[..])),
                RTP if is_of_part() => {
                    count += 1;
                    (false, Some(&entry.body[..]))
                }
                BARE if entry.times.is_heard_in(&part.range) => (false, entry.body.get(..BARE_HEADER)),
                _ => (false, None),
            };
            if let Some(packet) = packet {
                rtpdump::write_record(&mut out, &Record { offset, is_rtcp, packet })?;
            }
        }
        out.flush()?;
        Ok(count)
    }
}

impl From<&Undecoded> for Times {
    fn from(packet: &Undecoded) -> Times {
        Times { at: packet.at, place: packet.place, length: packet.length }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use spantape_core::event::kept;
    use spantape_core::media::TapeId;
    use spantape_core::record::{RecordingRow, Side};
    use spantape_core::time::MILLISECOND;

    use super::*;
    use crate::spool::{Saved, Spool};
    use crate::testing::recording;

    const TAPE: TapeId = TapeId(7);

    /// The `number`-th packet of 20 ms, which came 5 ms late.
    fn packet(number: u8) -> Undecoded {
        let place = i64::from(number) * 20 * MILLISECOND;
        Undecoded {
            is_heard: false,
            codec: Codec::from_static(18),
            secure: false,
            at: place + 5 * MILLISECOND,
            place,
            length: 20 * MILLISECOND,
            packet: vec![0x80, 18, 0, number, 0, 0, 0, 0, 0, 0, 0, 1, number, number],
        }
    }

    fn spool(dir: &Path, packets: u8) -> Spool {
        let mut spool = Spool::open(dir).unwrap();
        spool.open_tape(TAPE, 8000, 2);
        for number in 0..packets {
            let addresses = (([192, 0, 2, 9], 4000).into(), ([192, 0, 2, 10], 4002).into());
            spool.packet(TAPE, Side::Callee, addresses, &packet(number)).unwrap();
            if number % 10 == 9 {
                spool.silence(TAPE, 1600).unwrap();
                spool.flush_packets(TAPE).unwrap();
            }
        }
        spool
    }

    /// Offsets and numbers of the packets of a recording.
    fn kept_packets(dir: &Path, saved: &Saved) -> Vec<(u32, u8)> {
        let [None, Some(file)] = &saved.rtpdump else { panic!("{saved:?}") };
        let file = fs::read(dir.join(file)).unwrap();
        let (_, rest) = rtpdump::read_header(&file).unwrap();
        let rtp =
            rtpdump::records(rest).filter(|record| !record.is_rtcp && record.packet.len() > BARE_HEADER);
        rtp.map(|record| (record.offset, record.packet[12])).collect()
    }

    fn spooled(dir: &Path) -> usize {
        fs::read_dir(dir.join("spool")).unwrap().count() - 1 // the lock
    }

    #[test]
    fn of_each_recording_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = spool(dir.path(), 50);
        // From 100 ms to 300 ms, in frames.
        let saved = spool.cut(TAPE, 800..2400, &[], &recording(1), false).unwrap();
        let expected: Vec<(u32, u8)> = (5..15).map(|n: u8| (u32::from(n) * 20 + 5 - 100, n)).collect();
        assert_eq!(kept_packets(dir.path(), &saved), expected);
        assert!(saved.rtpdump[1].as_ref().unwrap().ends_with("_1009_1010_00000001.callee.rtpdump"));
        let file = fs::read(dir.path().join(saved.rtpdump[1].as_ref().unwrap())).unwrap();
        let (header, rest) = rtpdump::read_header(&file).unwrap();
        assert_eq!((header.start, header.source), (recording(1).start, ([192, 0, 2, 9], 4000).into()));
        let described = rtpdump::description(rtpdump::records(rest).next().unwrap().packet).unwrap();
        assert_eq!(described.media.codec(18), Some(&Codec::from_static(18)));
        // Two packets are no stream.
        let saved = spool.cut(TAPE, 0..320, &[], &recording(2), false).unwrap();
        assert_eq!(saved.rtpdump, [None, None]);
        let saved = spool.cut(TAPE, 0..8000, &[], &recording(3), true).unwrap();
        assert_eq!(kept_packets(dir.path(), &saved).len(), 50);
        assert_eq!(spooled(dir.path()), 0);
    }

    #[test]
    fn nothing_of_what_must_not_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = spool(dir.path(), 50);
        // From 210 ms on: a packet that begins before it is heard in it as well.
        spool.erase(TAPE, 1680..3200).unwrap();
        let raw = fs::read(dir.path().join("spool/7.callee.packets")).unwrap();
        assert!(!raw.windows(2).any(|pair| pair == [15, 15]) && raw.windows(2).any(|pair| pair == [25, 25]));
        let left_out = std::slice::from_ref(&(5600..6400));
        let row = RecordingRow {
            frames: kept(0..8000, left_out).map(|piece| piece.end - piece.start).sum(),
            ..recording(1)
        };
        let saved = spool.cut(TAPE, 0..8000, left_out, &row, true).unwrap();
        let numbers: Vec<u8> =
            kept_packets(dir.path(), &saved).into_iter().map(|(_, number)| number).collect();
        let expected: Vec<u8> = (0..50).filter(|n| !(10..20).contains(n) && !(35..40).contains(n)).collect();
        assert_eq!(numbers, expected);
        let file = fs::read(dir.path().join(saved.rtpdump[1].as_ref().unwrap())).unwrap();
        let (_, rest) = rtpdump::read_header(&file).unwrap();
        // They were not lost: their bare headers are there.
        let bare = rtpdump::records(rest).filter(|record| record.packet.len() == BARE_HEADER);
        assert_eq!(bare.map(|record| record.packet[3]).collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
        let told = rtpdump::records(rest).find_map(|record| rtpdump::cuts(record.packet)).unwrap();
        assert_eq!(told, std::slice::from_ref(&(700 * MILLISECOND..800 * MILLISECOND)));
    }

    #[test]
    fn what_a_crash_leaves_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        drop(spool(dir.path(), 50));
        drop(Spool::open(dir.path()).unwrap());
        assert!(dir.path().join("spool/7.callee.0.packets-left").is_file());
        assert!(!dir.path().join("spool/7.callee.packets").exists());
    }
}
