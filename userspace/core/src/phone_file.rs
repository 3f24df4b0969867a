//! Recordings that Fanvil's and Becke's phones make themselves, on a memory stick or within the phone.
//!
//! ```text
//! offset  size
//!      0    64  codec: "PCMA", "PCMU" or "G722", zeros behind it
//!     64     4  bytes of a unit
//!     68     4  ticks of a unit, 8000 a second
//!     72     4  bytes of all units; 0 when the phone lost its power
//!     76        the units, all of one length: RTP packets, or their payloads
//! ```
//!
//! The files are called `.wav`, and are none. Two things are not known for sure, and are looked at in each
//! file: the numbers are little-endian unless the length of a unit makes sense only the other way round, and
//! the units are packets if most of them begin like one of that codec.

use std::fmt;
use std::iter::Peekable;

use rtp_rs::RtpReader;

use crate::codec::{Codec, CodecKind, Decoder};
use crate::record::Completeness;
use crate::rtp::{Sequence, Verdict};

/// Why some bytes are no such recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are a WAV file like any other.
    Riff,
    /// There is no room for a header.
    Short,
    /// No codec of such a phone is named.
    Codec,
    /// A unit has no length that makes sense.
    Unit,
    /// No unit follows the header.
    Empty,
}

impl Fault {
    /// In words that follow the file's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Riff => {
                "is an ordinary WAV file (RIFF), not one that a Fanvil or Becke phone has recorded"
            }
            Fault::Short => "is too short for a recording of a Fanvil or Becke phone",
            Fault::Codec => {
                "is no recording of a Fanvil or Becke phone: it does not begin with PCMA, PCMU or G722"
            }
            Fault::Unit => {
                "is no recording of a Fanvil or Becke phone: the numbers in its header make no sense"
            }
            Fault::Empty => "holds no audio",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Fault {}

/// What the units of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// RTP packets: what is missing can be told.
    Packets,
    /// Their payloads alone.
    Payloads,
}

/// How the size that the header tells compares with the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// They agree.
    Whole,
    /// None is told: the phone lost its power. All that there is was taken.
    Unfinished,
    /// So many bytes are missing at the end.
    Short(u64),
    /// So many bytes stand behind the end, and were left.
    Long(u64),
}

/// A recording of a phone, or a piece of one.
#[derive(Clone, Debug)]
pub struct PhoneFile<'a> {
    codec: Codec,
    payload_type: u8,
    unit: usize,
    increment: u32,
    layout: Layout,
    extent: Extent,
    units: &'a [u8],
}

impl<'a> PhoneFile<'a> {
    /// Reads the bytes of a file.
    pub fn parse(bytes: &'a [u8]) -> Result<PhoneFile<'a>, Fault> {
        if [b"RIFF", b"RIFX", b"RF64"].iter().any(|magic| bytes.starts_with(*magic)) {
            return Err(Fault::Riff);
        }
        let (header, units) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Fault::Short)?;
        let (codec, payload_type) = codec(&header[..NAME_LEN]).ok_or(Fault::Codec)?;
        let words = header[NAME_LEN..].as_chunks::<4>().0;
        let [unit, increment, size] = [u32::from_le_bytes, u32::from_be_bytes]
            .map(|read| [0, 1, 2].map(|index| words.get(index).copied().map_or(0, read)))
            .into_iter()
            .find(|[unit, ..]| (1..=LONGEST_UNIT).contains(unit))
            .ok_or(Fault::Unit)?;
        let there = units.len() as u64;
        let (extent, end) = match u64::from(size) {
            0 => (Extent::Unfinished, there),
            size if size > there => (Extent::Short(size - there), there),
            size if size < there => (Extent::Long(there - size), size),
            size => (Extent::Whole, size),
        };
        let units = &units[..end as usize];
        if units.is_empty() {
            return Err(Fault::Empty);
        }
        let layout = Layout::Packets;
        let mut file =
            PhoneFile { codec, payload_type, unit: unit as usize, increment, layout, extent, units };
        if file.packets().count() * 2 <= file.units().count() {
            file.layout = Layout::Payloads;
        }
        Ok(file)
    }

    /// Of all of it.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// What its units are.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether it is as long as it says.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Whether it is made like another: pieces of one recording are.
    pub fn is_like(&self, other: &PhoneFile<'_>) -> bool {
        let make = |file: &PhoneFile<'_>| (file.payload_type, file.unit, file.increment, file.layout);
        make(self) == make(other)
    }

    /// Whether RTP says that `next` goes on where this one ends: the same source, the next sequence number
    /// (some may be lost while the phone opens a file), and the timestamp that belongs to it. Payloads do not
    /// tell.
    pub fn goes_on_in(&self, next: &PhoneFile<'_>) -> bool {
        if self.layout != Layout::Packets || !self.is_like(next) {
            return false;
        }
        let (Some(last), Some(first)) = (self.packets().next_back(), next.packets().next()) else {
            return false;
        };
        let ahead = u16::from(first.sequence_number()).wrapping_sub(last.sequence_number().into());
        let ticks = u32::from(ahead).wrapping_mul(self.increment);
        (1..=MOST_LOST_BETWEEN).contains(&ahead)
            && first.ssrc() == last.ssrc()
            && first.timestamp().wrapping_sub(last.timestamp()) == ticks
    }

    fn units(&self) -> std::slice::Chunks<'a, u8> {
        self.units.chunks(self.unit)
    }

    /// The units that are packets of its codec.
    fn packets(&self) -> impl DoubleEndedIterator<Item = RtpReader<'a>> {
        let payload_type = self.payload_type;
        self.units().filter_map(move |unit| {
            let packet = RtpReader::new(unit).ok()?;
            (packet.payload_type() == payload_type && !packet.payload().is_empty()).then_some(packet)
        })
    }
}

/// What is heard of a recording, in order.
pub struct Audio<'a> {
    units: Peekable<std::vec::IntoIter<Unit<'a>>>,
    decoder: Option<Decoder>,
    /// Samples that a byte of payload stands for.
    samples_a_byte: u64,
    completeness: Completeness,
}

/// A part of what is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// So many samples are missing before it.
    pub silence: u64,
    /// What follows.
    pub samples: Vec<i16>,
}

impl<'a> Audio<'a> {
    /// Of the pieces of one recording, which are made alike.
    pub fn new(pieces: &[PhoneFile<'a>]) -> Audio<'a> {
        let mut order = Order::default();
        for piece in pieces {
            match piece.layout {
                Layout::Packets => {
                    order.dropped += (piece.units().count() - piece.packets().count()) as u64;
                    for packet in piece.packets() {
                        order.add(packet.sequence_number().into(), packet.payload());
                    }
                }
                Layout::Payloads => piece.units().for_each(|unit| order.append(unit)),
            }
        }
        let rate = pieces.first().map_or(0, |piece| piece.codec.sample_rate());
        let samples_a_byte = u64::from(rate) / BYTES_A_SECOND;
        let decoder = pieces.first().and_then(|piece| Decoder::new(&piece.codec));
        let (units, mut completeness) = order.finish();
        let missing = units.iter().map(|unit| unit.missing).fold(0, u64::saturating_add);
        completeness.silent_ms = missing.saturating_mul(1000) / BYTES_A_SECOND;
        Audio { units: units.into_iter().peekable(), decoder, samples_a_byte, completeness }
    }

    /// What became of its packets. Where there are only payloads, all are there.
    pub fn completeness(&self) -> Completeness {
        self.completeness
    }
}

impl Iterator for Audio<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let (first, decoder) = (self.units.next()?, self.decoder.as_mut()?);
        let mut samples = Vec::new();
        decoder.decode(first.payload, &mut samples);
        while samples.len() < PART
            && let Some(unit) = self.units.next_if(|unit| unit.missing == 0)
        {
            decoder.decode(unit.payload, &mut samples);
        }
        Some(Part { silence: first.missing.saturating_mul(self.samples_a_byte), samples })
    }
}

const NAME_LEN: usize = 64;
const HEADER_LEN: usize = 76;
/// A unit has 20 ms or so. No number up to this one is another up to this one in the other byte order.
const LONGEST_UNIT: u32 = 4096;
/// Packets that may be lost between two pieces of one recording: two seconds.
const MOST_LOST_BETWEEN: u16 = 100;
/// Payload of each of the three codecs.
const BYTES_A_SECOND: u64 = 8000;
/// Samples after which a part ends.
const PART: usize = 16_000;

/// A payload and how many bytes of payload are missing before it.
struct Unit<'a> {
    missing: u64,
    payload: &'a [u8],
}

/// Puts packets in their order.
#[derive(Default)]
struct Order<'a> {
    sequence: Sequence,
    /// Each beginning of the sequence numbers is a run.
    run: u32,
    /// By run, then number.
    placed: Vec<((u32, u64), &'a [u8])>,
    /// Has an odd number, and may be the first of a new run.
    stray: Option<&'a [u8]>,
    dropped: u64,
}

impl<'a> Order<'a> {
    fn add(&mut self, number: u16, payload: &'a [u8]) {
        match self.sequence.receive(number, false) {
            Verdict::New(number) => self.placed.push(((self.run, number), payload)),
            Verdict::Duplicate => {}
            Verdict::Stray => self.dropped += u64::from(self.stray.replace(payload).is_some()),
            Verdict::Restart => {
                self.run += 1;
                let before = self.sequence.restart(number.wrapping_sub(1));
                if let Some(stray) = self.stray.take() {
                    self.placed.push(((self.run, before), stray));
                }
                if let Verdict::New(number) = self.sequence.receive(number, false) {
                    self.placed.push(((self.run, number), payload));
                }
            }
        }
    }

    /// A payload that follows those before.
    fn append(&mut self, payload: &'a [u8]) {
        let number = self.placed.len() as u64;
        self.sequence.unique += 1;
        self.placed.push(((self.run, number), payload));
    }

    fn finish(mut self) -> (Vec<Unit<'a>>, Completeness) {
        self.dropped += u64::from(self.stray.is_some());
        self.placed.sort_by_key(|(place, _)| *place);
        let mut before: Option<((u32, u64), u64)> = None;
        let units = self.placed.iter().map(|&((run, number), payload)| {
            let missing = match before {
                Some(((last_run, last), bytes)) if last_run == run => (number - last - 1) * bytes,
                _ => 0,
            };
            before = Some(((run, number), payload.len() as u64));
            Unit { missing, payload }
        });
        let units = units.collect();
        let completeness = Completeness {
            expected: self.sequence.unique + self.sequence.lost(),
            received: self.sequence.unique,
            lost: self.sequence.lost(),
            duplicate: self.sequence.duplicate,
            dropped: self.dropped,
            ..Completeness::default()
        };
        (units, completeness)
    }
}

/// A codec by the name in the header, and its payload type.
fn codec(name: &[u8]) -> Option<(Codec, u8)> {
    let name = name.split(|&byte| byte == 0 || byte == b'/').next()?.trim_ascii();
    let codec = Codec::from_rtpmap(std::str::from_utf8(name).ok()?, 8000, 1);
    let payload_type = match codec.kind {
        CodecKind::Pcmu => 0,
        CodecKind::Pcma => 8,
        CodecKind::G722 => 9,
        _ => return None,
    };
    Some((codec, payload_type))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNIT: usize = 20;

    fn header(codec: &str, unit: usize, size: usize) -> Vec<u8> {
        let mut bytes = codec.as_bytes().to_vec();
        bytes.resize(NAME_LEN, 0);
        for word in [unit as u32, UNIT as u32, size as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    /// A packet of PCMU that says its number.
    fn packet(number: u16) -> Vec<u8> {
        let mut bytes = vec![0x80, 0];
        bytes.extend(number.to_be_bytes());
        bytes.extend((u32::from(number) * UNIT as u32).to_be_bytes());
        bytes.extend([1, 2, 3, 4]);
        bytes.extend([number as u8; UNIT]);
        bytes
    }

    fn file(units: &[Vec<u8>]) -> Vec<u8> {
        let units_len = units.concat().len();
        [header("PCMU", units[0].len(), units_len), units.concat()].concat()
    }

    fn parse(bytes: &[u8]) -> PhoneFile<'_> {
        PhoneFile::parse(bytes).unwrap()
    }

    /// Silence as `None`, and what was decoded, by its µ-law code. Of the two codes of zero it is 127.
    fn heard(bytes: &[u8]) -> Vec<Option<u8>> {
        let codes: Vec<i16> = {
            let mut codes = Vec::new();
            Decoder::new(&Codec::from_static(0)).unwrap().decode(&(0..=255).collect::<Vec<_>>(), &mut codes);
            codes
        };
        let mut heard = Vec::new();
        for part in Audio::new(&[parse(bytes)]) {
            heard.extend(vec![None; part.silence as usize]);
            let code = |sample| codes.iter().position(|code| *code == sample).map(|code| code as u8);
            heard.extend(part.samples.into_iter().map(code));
        }
        heard.into_iter().step_by(UNIT).collect()
    }

    #[test]
    fn both_layouts() {
        let packets = file(&(1..9).map(packet).collect::<Vec<_>>());
        assert_eq!(parse(&packets).layout(), Layout::Packets);
        assert_eq!(heard(&packets), (1..9).map(Some).collect::<Vec<_>>());
        let payloads = file(&(1..9).map(|number| vec![number; UNIT]).collect::<Vec<_>>());
        assert_eq!(parse(&payloads).layout(), Layout::Payloads);
        assert_eq!(heard(&payloads), heard(&packets));
        // A payload that looks like a packet by chance does not make packets of the others.
        let mut units: Vec<Vec<u8>> = (1..9).map(|number| vec![number; UNIT + 12]).collect();
        units[0][..2].copy_from_slice(&[0x80, 0]);
        assert_eq!(parse(&file(&units)).layout(), Layout::Payloads);
    }

    #[test]
    fn what_is_missing_is_silent_and_what_came_late_stands_where_it_belongs() {
        let numbers = [65_534u16, 65_535, 2, 0, 0, 3, 5];
        let bytes = file(&numbers.map(packet));
        let expected = [Some(254), Some(127), Some(0), None, Some(2), Some(3), None, Some(5)];
        assert_eq!(heard(&bytes), expected);
        let found = Audio::new(&[parse(&bytes)]).completeness();
        assert_eq!((found.expected, found.received, found.lost, found.duplicate), (8, 6, 2, 1));
        assert_eq!(found.silent_ms, 2 * UNIT as u64 / 8);
    }

    #[test]
    fn a_new_beginning_and_what_makes_no_sense() {
        let mut units: Vec<Vec<u8>> = [1, 2, 40_000, 40_001, 40_002, 9].map(packet).into();
        units.push(vec![0xff; UNIT + 12]);
        let bytes = file(&units);
        assert_eq!(heard(&bytes), [1, 2, 64, 65, 66].map(Some));
        assert_eq!(Audio::new(&[parse(&bytes)]).completeness().dropped, 2);
    }

    #[test]
    fn sizes_that_are_not_the_files() {
        let units = (1..9).map(packet).collect::<Vec<_>>().concat();
        let extent = |size: usize| {
            let bytes = [header("pcmu/8000", UNIT + 12, size), units.clone()].concat();
            (parse(&bytes).extent(), heard(&bytes).len())
        };
        assert_eq!(extent(units.len()), (Extent::Whole, 8));
        assert_eq!(extent(0), (Extent::Unfinished, 8));
        assert_eq!(extent(units.len() + 5), (Extent::Short(5), 8));
        assert_eq!(extent(units.len() - 32), (Extent::Long(32), 7));
        // The last packet was being written.
        let bytes = [header("PCMU", UNIT + 12, 0), units[..units.len() - 5].to_vec()].concat();
        assert_eq!(Audio::new(&[parse(&bytes)]).next().unwrap().samples.len(), 155);
    }

    #[test]
    fn the_other_byte_order() {
        let mut bytes = file(&(1..9).map(packet).collect::<Vec<_>>());
        let expected = heard(&bytes);
        bytes[NAME_LEN..HEADER_LEN].as_chunks_mut::<4>().0.iter_mut().for_each(|word| word.reverse());
        assert_eq!(parse(&bytes).extent(), Extent::Whole);
        assert_eq!(heard(&bytes), expected);
    }

    #[test]
    fn pieces_of_one_recording() {
        let bytes = |numbers: std::ops::Range<u16>| file(&numbers.map(packet).collect::<Vec<_>>());
        let (first, second, later) = (bytes(1..9), bytes(9..12), bytes(200..212));
        assert!(parse(&first).goes_on_in(&parse(&second)));
        assert!(!parse(&second).goes_on_in(&parse(&first)));
        assert!(!parse(&first).goes_on_in(&parse(&later)), "too much is missing");
        for (at, what) in [(HEADER_LEN + 11, "SSRC"), (HEADER_LEN + 7, "timestamp"), (68, "increment")] {
            let mut other = second.clone();
            other[at] ^= 1;
            assert!(!parse(&first).goes_on_in(&parse(&other)), "{what}");
        }
        let payloads = file(&[vec![7; UNIT], vec![8; UNIT]]);
        assert!(!parse(&payloads).goes_on_in(&parse(&payloads)), "payloads do not tell");
        let both: Vec<Part> = Audio::new(&[parse(&first), parse(&second)]).collect();
        assert_eq!(both.iter().map(|part| part.samples.len()).sum::<usize>(), 11 * UNIT);
    }

    #[test]
    fn what_is_none() {
        let fault = |bytes: &[u8]| PhoneFile::parse(bytes).unwrap_err();
        assert_eq!(fault(b"RIFF\x24\0\0\0WAVEfmt "), Fault::Riff);
        assert_eq!(fault(b"PCMU"), Fault::Short);
        assert_eq!(fault(&header("G729", 20, 0)), Fault::Codec);
        assert_eq!(fault(&header("PCMU", 0, 0)), Fault::Unit);
        assert_eq!(fault(&header("PCMU", 100_000, 0)), Fault::Unit);
        assert_eq!(fault(&header("PCMU", 160, 0)), Fault::Empty);
    }

    proptest! {
        #[test]
        fn any_bytes(name in "(PCMU|PCMA|G722)", mut rest in prop::collection::vec(any::<u8>(), 0..2000), sane: bool) {
            let mut bytes = header(&name, 0, 0);
            bytes.truncate(NAME_LEN);
            if sane && rest.len() > 12 {
                rest[1..4].fill(0);
            }
            bytes.extend(&rest);
            if let Ok(file) = PhoneFile::parse(&bytes) {
                let audio = Audio::new(std::slice::from_ref(&file));
                let found = audio.completeness();
                prop_assert_eq!(found.expected, found.received + found.lost);
                let samples: usize = audio.map(|part| part.samples.len()).sum();
                prop_assert!(samples > 0 && samples <= 2 * rest.len());
            }
        }

        /// Packets in any order are heard in the order of their numbers, and each once.
        #[test]
        fn as_a_sort_by_number_says(
            start: u16,
            numbers in prop::collection::vec(0..40u16, 1..80),
        ) {
            let numbers: Vec<u16> = numbers.into_iter().map(|number| start.wrapping_add(number)).collect();
            let mut sorted: Vec<u16> = numbers.iter().map(|number| number.wrapping_sub(start)).collect();
            sorted.sort_unstable();
            sorted.dedup();
            let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
            let there = |number: &u16| sorted.contains(number);
            let code = |number: u16| match start.wrapping_add(number) as u8 {
                255 => 127,
                code => code,
            };
            let expected: Vec<Option<u8>> =
                (first..=last).map(|number| there(&number).then(|| code(number))).collect();
            let found = heard(&file(&numbers.iter().map(|&number| packet(number)).collect::<Vec<_>>()));
            prop_assert_eq!(found, expected);
        }
    }
}
