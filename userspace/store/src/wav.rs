//! The header of a recording: 16-bit PCM or G.711 as Broadcast Wave (EBU Tech 3285), RF64 past 4 GB (EBU Tech 3306).
//!
//! ```text
//! offset  size  chunk
//!      0    12  "RIFF" size "WAVE"          past 4 GB: "RF64" ffffffff "WAVE"
//!     12    36  "JUNK" 28 bytes of nothing  past 4 GB: "ds64" sizes of file and data, frames
//!     48   866  "bext" description, originator, reference, date, time, time reference, coding history
//!    914  1102  "LIST" INFO: INAM parties, IART caller, ICRD start, ICMT ids, ISFT program
//!   2016    24  "fmt "
//!   2040     8  "data" size
//!   2048        the samples, interleaved, little-endian
//! ```
//!
//! That of G.711 has `fmt ` at 2002, with two bytes more, and at 2028 "fact", the number of frames: "LIST" is so much
//! shorter.
//!
//! The header's size never depends on what is in it, so that it can be written over when a recording
//! ends and all is known. Texts too long for their field are cut.

use serde::{Deserialize, Serialize};
use spantape_core::codec::g711::Law;
use spantape_core::record::{Party, RecordingRow};
use spantape_core::time::{SECOND, Timestamp};

use crate::utc;

/// Bytes before the first sample.
pub const HEADER_LEN: usize = 2048;

/// What a sample of a file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Frames a second.
    pub sample_rate: u32,
    /// Samples a frame.
    pub channels: u16,
    /// How a sample is written.
    pub encoding: Encoding,
}

impl Format {
    /// Bytes of one sample of every channel.
    pub fn frame_bytes(self) -> u64 {
        u64::from(self.channels) * u64::from(self.encoding.bytes())
    }
}

/// How a sample is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// 16 bits, little-endian.
    #[default]
    Pcm16,
    /// G.711 µ-law.
    MuLaw,
    /// G.711 A-law.
    ALaw,
}

impl Encoding {
    /// Of a sample.
    pub const fn bytes(self) -> u16 {
        match self {
            Encoding::Pcm16 => 2,
            Encoding::MuLaw | Encoding::ALaw => 1,
        }
    }

    fn law(self) -> Option<Law> {
        match self {
            Encoding::Pcm16 => None,
            Encoding::MuLaw => Some(Law::Mu),
            Encoding::ALaw => Some(Law::A),
        }
    }

    /// The byte of which silence is made.
    pub fn silence(self) -> u8 {
        self.law().map_or(0, |law| law.encode(0))
    }

    /// Turns samples into bytes. `bytes` is used again from block to block.
    pub fn encode(self, samples: &[i16], bytes: &mut Vec<u8>) {
        bytes.resize(samples.len() * usize::from(self.bytes()), 0);
        match self.law() {
            None => {
                let places = bytes.as_chunks_mut::<2>().0;
                places.iter_mut().zip(samples).for_each(|(to, sample)| *to = sample.to_le_bytes());
            }
            Some(law) => {
                bytes.iter_mut().zip(samples).for_each(|(to, &sample)| *to = law.encode(sample));
            }
        }
    }

    /// The same of samples that stand channel after channel, as many of each.
    pub fn encode_channels(self, samples: &[i16], channels: u16, bytes: &mut Vec<u8>) {
        if channels != 2 {
            return self.encode(samples, bytes);
        }
        let (left, right) = samples.split_at(samples.len() / 2);
        let frames = left.iter().zip(right);
        bytes.resize(samples.len() * usize::from(self.bytes()), 0);
        match self.law() {
            None => bytes.as_chunks_mut::<4>().0.iter_mut().zip(frames).for_each(|(to, (left, right))| {
                let ([low, high], [right_low, right_high]) = (left.to_le_bytes(), right.to_le_bytes());
                *to = [low, high, right_low, right_high];
            }),
            Some(law) => {
                bytes.as_chunks_mut::<2>().0.iter_mut().zip(frames).for_each(|(to, (left, right))| {
                    *to = [law.encode(*left), law.encode(*right)];
                })
            }
        }
    }

    /// Turns bytes into samples. `samples` is used again from block to block.
    pub fn decode(self, bytes: &[u8], samples: &mut Vec<i16>) {
        samples.clear();
        match self.law() {
            None => {
                samples.extend(bytes.as_chunks::<2>().0.iter().map(|&bytes| i16::from_le_bytes(bytes)));
            }
            Some(law) => samples.extend(bytes.iter().map(|&code| law.decode(code))),
        }
    }
}

/// The header of a finished file of so many frames.
pub fn header(format: Format, frames: u64, row: &RecordingRow) -> [u8; HEADER_LEN] {
    let mut out = Layout::new(format.encoding);
    let data = frames.saturating_mul(format.frame_bytes());
    out.riff(Some(data), frames);
    out.broadcast(format, row);
    out.info(row);
    out.format(format, frames);
    out.data(Some(data));
    out.bytes
}

/// The header of a file that is still growing: its length is "unknown", which players take as "to the end".
pub fn open_header(format: Format) -> [u8; HEADER_LEN] {
    let mut out = Layout::new(format.encoding);
    out.riff(None, 0);
    out.chunk(b"JUNK", (out.format_at - out.at - 8) as u32);
    out.at = out.format_at;
    out.format(format, 0);
    out.data(None);
    out.bytes
}

/// What the header of a recording says a sample means; `None` when it is no recording of ours.
pub fn read_format(header: &[u8; HEADER_LEN]) -> Option<Format> {
    let encodings = [Encoding::Pcm16, Encoding::MuLaw, Encoding::ALaw];
    encodings.into_iter().find_map(|encoding| {
        let chunk = &header[format_at(encoding)..];
        let is_ours = matches!(&header[..4], b"RIFF" | b"RF64")
            && chunk.starts_with(b"fmt ")
            && header[HEADER_LEN - 8..].starts_with(b"data");
        let tag = u16::from_le_bytes([chunk[8], chunk[9]]);
        let channels = u16::from_le_bytes([chunk[10], chunk[11]]);
        let sample_rate = u32::from_le_bytes([chunk[12], chunk[13], chunk[14], chunk[15]]);
        let is_ours =
            is_ours && tag == format_tag(encoding) && (1..=2).contains(&channels) && sample_rate > 0;
        is_ours.then_some(Format { sample_rate, channels, encoding })
    })
}

/// Frames by the header of a recording; `None` when it is unknown.
pub fn read_frames(header: &[u8; HEADER_LEN], format: Format) -> Option<u64> {
    let bytes = match &header[..4] {
        b"RF64" => u64::from_le_bytes(header[28..36].try_into().ok()?),
        _ => u32::from_le_bytes(header[HEADER_LEN - 4..].try_into().ok()?).into(),
    };
    (bytes != u64::from(UNKNOWN)).then(|| bytes / format.frame_bytes().max(1))
}

/// "1009 -> 1010".
pub fn parties(row: &RecordingRow) -> String {
    format!("{} -> {}", user(&row.from), user(&row.to))
}

/// `wFormatTag`, as RFC 2361 registers it.
const fn format_tag(encoding: Encoding) -> u16 {
    match encoding {
        Encoding::Pcm16 => 1,
        Encoding::ALaw => 6,
        Encoding::MuLaw => 7,
    }
}

/// Where `fmt ` begins.
const fn format_at(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Pcm16 => HEADER_LEN - 8 - 24,
        Encoding::MuLaw | Encoding::ALaw => HEADER_LEN - 8 - 26 - 12,
    }
}

const HISTORY: usize = 256;
const UNKNOWN: u32 = u32::MAX;
const PROGRAM: &str = "spantape";

struct Layout {
    bytes: [u8; HEADER_LEN],
    at: usize,
    format_at: usize,
}

impl Layout {
    fn new(encoding: Encoding) -> Layout {
        Layout { bytes: [0; HEADER_LEN], at: 0, format_at: format_at(encoding) }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn chunk(&mut self, name: &[u8; 4], size: u32) {
        self.put(name);
        self.put(&size.to_le_bytes());
    }

    /// A text in a field of fixed width, cut between characters, padded with zeros.
    fn text(&mut self, text: &str, width: usize) {
        self.put(&text.as_bytes()[..text.floor_char_boundary(width)]);
        self.at += width - text.floor_char_boundary(width);
    }

    /// An INFO text always keeps a zero at its end.
    fn info_text(&mut self, name: &[u8; 4], text: &str, width: usize) {
        self.chunk(name, width as u32);
        self.text(&text[..text.floor_char_boundary(width - 1)], width);
    }

    fn riff(&mut self, data: Option<u64>, frames: u64) {
        let file = data.map(|data| data.saturating_add(HEADER_LEN as u64 - 8));
        match file.map(u32::try_from) {
            // The last value means "see ds64" to a reader of RF64.
            Some(Ok(size)) if size != UNKNOWN => {
                self.chunk(b"RIFF", size);
                self.put(b"WAVE");
                self.chunk(b"JUNK", 28);
                self.at += 28;
            }
            Some(_) => {
                self.chunk(b"RF64", UNKNOWN);
                self.put(b"WAVE");
                self.chunk(b"ds64", 28);
                self.put(&file.unwrap_or_default().to_le_bytes());
                self.put(&data.unwrap_or_default().to_le_bytes());
                self.put(&frames.to_le_bytes());
                self.put(&0u32.to_le_bytes());
            }
            None => {
                self.chunk(b"RIFF", UNKNOWN);
                self.put(b"WAVE");
            }
        }
    }

    fn broadcast(&mut self, format: Format, row: &RecordingRow) {
        let start = utc::civil(row.start);
        self.chunk(b"bext", 602 + HISTORY as u32);
        let description = format!("{}, recording {}, Call-ID {}", parties(row), row.id, row.call_id);
        self.text(&ascii(&description), 256);
        self.text(PROGRAM, 32);
        self.text(&row.id.to_string(), 32);
        self.text(&start.date().to_string(), 10);
        self.text(&format!("{:02}:{:02}:{:02}", start.hour(), start.minute(), start.second()), 8);
        self.put(&time_reference(row.start, format.sample_rate).to_le_bytes());
        self.put(&1u16.to_le_bytes());
        self.at += 64 + 190; // UMID, reserved
        let mode = match format.channels {
            1 => "mono",
            2 => "stereo",
            _ => "multi",
        };
        // A comma would end the field T of EBU R98.
        let codecs = row.codecs.join(" ").replace(',', " ");
        let rate = format.sample_rate;
        let (algorithm, width) = match format.encoding {
            Encoding::Pcm16 => ("PCM", 16),
            Encoding::MuLaw => ("G711u", 8),
            Encoding::ALaw => ("G711a", 8),
        };
        let mut history = ascii(&format!("A={algorithm},F={rate},W={width},M={mode},T={PROGRAM} {codecs}"));
        history.truncate(HISTORY - 3);
        self.text(&(history + "\r\n"), HISTORY);
    }

    fn info(&mut self, row: &RecordingRow) {
        let end = self.format_at;
        self.chunk(b"LIST", (end - self.at - 8) as u32);
        self.put(b"INFO");
        self.info_text(b"INAM", &parties(row), 256);
        self.info_text(b"IART", user(&row.from), 256);
        self.info_text(b"ICRD", &utc::rfc3339(row.start), 32);
        let comment = end - self.at - 2 * 8 - 32;
        self.info_text(b"ICMT", &format!("recording {}, Call-ID {}", row.id, row.call_id), comment);
        self.info_text(b"ISFT", PROGRAM, 32);
    }

    fn format(&mut self, format: Format, frames: u64) {
        debug_assert_eq!(self.at, self.format_at);
        let (is_pcm, bytes) = (format.encoding == Encoding::Pcm16, format.encoding.bytes());
        let frame = format.channels.saturating_mul(bytes);
        self.chunk(b"fmt ", if is_pcm { 16 } else { 18 });
        self.put(&format_tag(format.encoding).to_le_bytes());
        self.put(&format.channels.to_le_bytes());
        self.put(&format.sample_rate.to_le_bytes());
        self.put(&format.sample_rate.saturating_mul(frame.into()).to_le_bytes());
        self.put(&frame.to_le_bytes());
        self.put(&(bytes * 8).to_le_bytes());
        if !is_pcm {
            // No extension; and how long what is encoded lasts.
            self.put(&0u16.to_le_bytes());
            self.chunk(b"fact", 4);
            self.put(&u32::try_from(frames).unwrap_or(UNKNOWN).to_le_bytes());
        }
    }

    fn data(&mut self, bytes: Option<u64>) {
        // Once the file is RF64 its data has its size in ds64, whether it would fit here or not.
        let fits = bytes.filter(|bytes| bytes + (HEADER_LEN as u64 - 8) < u64::from(UNKNOWN));
        self.chunk(b"data", fits.map_or(UNKNOWN, |bytes| bytes as u32));
        debug_assert_eq!(self.at, HEADER_LEN);
    }
}

/// Samples from midnight to the first one.
fn time_reference(start: Timestamp, rate: u32) -> u64 {
    let samples =
        u128::from(utc::since_midnight(start)) * u128::from(rate) / u128::from(SECOND.unsigned_abs());
    samples as u64
}

fn user(party: &Party) -> &str {
    if party.user.is_empty() { "unknown" } else { &party.user }
}

/// EBU Tech 3285 knows ASCII only.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::testing::recording;

    const STEREO: Format = Format { sample_rate: 8000, channels: 2, encoding: Encoding::Pcm16 };

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// Chunks by name and place, found the way a reader finds them.
    fn chunks(bytes: &[u8]) -> Vec<(String, usize)> {
        let (mut at, mut found) = (12, Vec::new());
        while at + 8 <= bytes.len() {
            found.push((String::from_utf8_lossy(&bytes[at..at + 4]).into_owned(), at));
            at = at.saturating_add(8 + u32_at(bytes, at + 4) as usize);
        }
        found
    }

    #[test]
    fn channel_after_channel_is_the_same_as_in_turn() {
        for encoding in [Encoding::Pcm16, Encoding::MuLaw, Encoding::ALaw] {
            let (mut after, mut in_turn) = (Vec::new(), vec![9; 99]);
            encoding.encode_channels(&[1000, -2000, 3000, 7, 8, -9000], 2, &mut after);
            encoding.encode(&[1000, 7, -2000, 8, 3000, -9000], &mut in_turn);
            assert_eq!(after, in_turn);
            encoding.encode_channels(&[1, 2, 3], 1, &mut after);
            encoding.encode(&[1, 2, 3], &mut in_turn);
            assert_eq!(after, in_turn);
        }
    }

    #[test]
    fn chunks_are_where_the_table_says() {
        let mut row = recording(1);
        let places = ["JUNK", "bext", "LIST", "fmt ", "data"]
            .map(String::from)
            .into_iter()
            .zip([12, 48, 914, 2016, 2040]);
        assert_eq!(chunks(&header(STEREO, 10, &row)), places.collect::<Vec<_>>());
        row.call_id = "é".repeat(3000);
        row.from.user = "ü".repeat(500);
        row.to.user = String::new();
        row.codecs = vec!["a-very-long-codec-name".into(); 100];
        let long = header(STEREO, 10, &row);
        assert_eq!(chunks(&long).last().unwrap(), &("data".into(), 2040));
        // LIST is made of whole sub-chunks.
        let (mut at, mut names) = (926, Vec::new());
        while at < 2016 {
            names.push(String::from_utf8(long[at..at + 4].to_vec()).unwrap());
            let size = u32_at(&long, at + 4) as usize;
            let text = &long[at + 8..at + 8 + size];
            assert_eq!(text.last(), Some(&0));
            std::str::from_utf8(text).unwrap();
            at += 8 + size;
        }
        assert_eq!((at, names.join(" ").as_str()), (2016, "INAM IART ICRD ICMT ISFT"));
    }

    #[test]
    fn texts() {
        let row = recording(1);
        let bytes = header(STEREO, 10, &row);
        let text = |at: usize, width: usize| {
            String::from_utf8(bytes[at..at + width].to_vec()).unwrap().trim_end_matches('\0').to_owned()
        };
        assert!(text(56, 256).starts_with("1009 -> 1010, recording "), "{}", text(56, 256));
        assert_eq!(text(312, 32), "spantape");
        assert_eq!(text(344, 32), row.id.to_string());
        assert_eq!((text(376, 10), text(386, 8)), ("2023-11-14".into(), "22:13:21".into()));
        let midnight_to_start = (22 * 3600 + 13 * 60 + 21) * 8000;
        assert_eq!(u64_at(&bytes, 394), midnight_to_start);
        assert_eq!(text(658, 256), "A=PCM,F=8000,W=16,M=stereo,T=spantape PCMU\r\n");
        assert_eq!(text(934, 256), "1009 -> 1010");
    }

    #[test]
    fn the_format_is_read_again() {
        let mut bytes = header(STEREO, 10, &recording(1));
        assert_eq!(read_format(&bytes), Some(STEREO));
        assert_eq!(read_format(&open_header(STEREO)), Some(STEREO));
        bytes[format_at(Encoding::Pcm16) + 10] = 3;
        assert_eq!(read_format(&bytes), None);
        for encoding in [Encoding::MuLaw, Encoding::ALaw] {
            let format = Format { encoding, ..STEREO };
            for frames in [10, 3_000_000_000] {
                let header = header(format, frames, &recording(1));
                assert_eq!(read_format(&header), Some(format));
                assert_eq!(read_frames(&header, format), Some(frames));
            }
            assert_eq!(read_frames(&open_header(format), format), None);
            assert_eq!(read_format(&open_header(format)), Some(format));
        }
    }

    #[test]
    fn becomes_rf64_past_4_gb() {
        let row = recording(1);
        let last = (u64::from(u32::MAX) - 1 - (HEADER_LEN as u64 - 8)) / 4;
        let small = header(STEREO, last, &row);
        assert_eq!(&small[..4], b"RIFF");
        assert_eq!(u64::from(u32_at(&small, 4)), last * 4 + 2040);
        assert_eq!(u64::from(u32_at(&small, 2044)), last * 4);
        for frames in [last + 1, 2_000_000_000] {
            let big = header(STEREO, frames, &row);
            assert_eq!((&big[..4], &big[12..16]), (&b"RF64"[..], &b"ds64"[..]));
            assert_eq!((u32_at(&big, 4), u32_at(&big, 2044)), (u32::MAX, u32::MAX));
            assert_eq!(u64_at(&big, 20), frames * 4 + 2040);
            assert_eq!(u64_at(&big, 28), frames * 4);
            assert_eq!(u64_at(&big, 36), frames);
        }
    }

    #[test]
    fn g711_says_so() {
        let format = Format { encoding: Encoding::ALaw, ..STEREO };
        let bytes = header(format, 10, &recording(1));
        let names: Vec<_> = chunks(&bytes);
        let places =
            [("JUNK", 12), ("bext", 48), ("LIST", 914), ("fmt ", 2002), ("fact", 2028), ("data", 2040)];
        assert_eq!(names, places.map(|(name, at)| (name.to_owned(), at)));
        assert_eq!((u32_at(&bytes, 2036), u32_at(&bytes, 2044)), (10, 20));
        assert_eq!((bytes[2010], u32_at(&bytes, 2018), bytes[2022], bytes[2024]), (6, 16_000, 2, 8));
    }

    #[test]
    fn hound_reads_it() {
        let samples: Vec<i16> = (0..2000).map(|n| (n * 37 % 4001 - 2000) as i16).collect();
        let mut body = Vec::new();
        Encoding::Pcm16.encode(&samples, &mut body);
        let mut file = header(STEREO, 1000, &recording(1)).to_vec();
        file.extend(&body);
        let mut reader = hound::WavReader::new(Cursor::new(file)).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.spec().channels, reader.duration()), (8000, 2, 1000));
        assert_eq!(reader.samples::<i16>().map(|s| s.unwrap()).collect::<Vec<_>>(), samples);
    }

    #[test]
    fn a_growing_file_has_its_data_at_the_same_place() {
        assert_eq!(chunks(&open_header(STEREO)).last().unwrap(), &("data".into(), 2040));
    }
}
