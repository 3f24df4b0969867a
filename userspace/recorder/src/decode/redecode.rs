//! From packets kept beside a recording to the recording with them in it.
//!
//! Each packet is decoded and then goes the way of every other packet: through a stream of the core, as if it had
//! been sent as plain samples. So loss, jitter, clocks and pauses are dealt with as they are anywhere else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use spantape_core::codec::Codec;
use spantape_core::codec::external::{External, Frame};
use spantape_core::event::kept;
use spantape_core::media::{Figures, Reel, Tape, TapeId};
use spantape_core::record::Side;
use spantape_core::rtp::{Packet, Playout, Stream};
use spantape_core::sdp::Media;
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};
use spantape_store::rtpdump::{self, Header};
use spantape_store::wav::{self, Format, HEADER_LEN};

use super::ffmpeg::{Failure, Ffmpeg};
use super::stream::Builder;

/// Frames of Speex in a packet at most.
const MOST_FRAMES: usize = 16;
/// Samples that are added to the file at a time.
const BLOCK: usize = 1 << 14;

/// What one side of a recording has gained.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Gained {
    /// Codecs that were decoded, by name, in order of appearance.
    pub(crate) codecs: Vec<String>,
    /// Streams that were.
    pub(crate) ssrcs: Vec<u32>,
    /// How long it is heard, and how much of that was filled in for loss, in milliseconds.
    pub(crate) heard_ms: u64,
    pub(crate) concealed_ms: u64,
    /// Nothing is left that was not decoded.
    pub(crate) complete: bool,
    /// What could not be decoded, and why.
    pub(crate) problems: Vec<String>,
}

/// Writes to `into` what `wav` has, and what the packets of both sides have where it is silent.
pub(crate) fn redecode(
    ffmpeg: &Ffmpeg,
    wav: &Path,
    dumps: &[Option<PathBuf>; 2],
    into: &File,
) -> Result<[Option<Gained>; 2]> {
    let mut source = File::open(wav).with_context(|| format!("open {}", wav.display()))?;
    let mut head = [0; HEADER_LEN];
    source.read_exact(&mut head).with_context(|| format!("read {}", wav.display()))?;
    let Some(format) = wav::read_format(&head) else {
        bail!("{}: is no recording of spantape", wav.display())
    };
    into.write_all_at(&head, 0).context("write")?;
    let mut target = into;
    io::Seek::seek(&mut target, io::SeekFrom::Start(HEADER_LEN as u64)).context("write")?;
    let bytes = io::copy(&mut source, &mut target).context("copy the recording")?;
    let frames = bytes / format.frame_bytes().max(1);
    let mut gained = [None, None];
    for ((side, dump), gained) in [Side::Caller, Side::Callee].into_iter().zip(dumps).zip(&mut gained) {
        if let Some(dump) = dump {
            let file = read(dump)?;
            let Some(dump) = Dump::read(&file) else { bail!("{}: is no rtpdump file", dump.display()) };
            let channel = side.channel().min(usize::from(format.channels.max(1)) - 1);
            let cuts = dump.cuts(format.sample_rate);
            let overlay = Overlay { file: into, format, channel, frames, cuts, next: 0 };
            *gained = Some(play(ffmpeg, &dump, side, overlay)?);
        }
    }
    Ok(gained)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let context = || format!("read {}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(context)?;
    file.take(rtpdump::MAX_FILE).read_to_end(&mut bytes).with_context(context)?;
    Ok(bytes)
}

/// A file of packets, read.
struct Dump<'a> {
    header: Header,
    cuts: Vec<Range<i64>>,
    packets: Vec<Kept<'a>>,
}

/// One packet of it.
struct Kept<'a> {
    at: Timestamp,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    payload: &'a [u8],
    /// `None` when it is encrypted, or nobody has said.
    codec: Option<Codec>,
    payload_type: u8,
}

impl<'a> Dump<'a> {
    fn read(file: &'a [u8]) -> Option<Dump<'a>> {
        let (header, rest) = rtpdump::read_header(file)?;
        let mut described: BTreeMap<(u32, u8), Media> = BTreeMap::new();
        let (mut cuts, mut packets) = (Vec::new(), Vec::new());
        for record in rtpdump::records(rest) {
            if record.is_rtcp {
                if let Some(found) = rtpdump::description(record.packet) {
                    for format in &found.media.formats {
                        described.insert((found.ssrc, format.payload_type), found.media.clone());
                    }
                } else if let Some(found) = rtpdump::cuts(record.packet) {
                    cuts = found;
                }
                continue;
            }
            let Ok(reader) = rtp_rs::RtpReader::new(record.packet) else { continue };
            let (ssrc, payload_type) = (reader.ssrc(), reader.payload_type());
            let media = described.get(&(ssrc, payload_type)).filter(|media| !media.secure);
            packets.push(Kept {
                at: header.start + i64::from(record.offset) * MILLISECOND,
                ssrc,
                sequence: reader.sequence_number().into(),
                timestamp: reader.timestamp(),
                payload: reader.payload(),
                codec: media.and_then(|media| media.codec(payload_type)).cloned(),
                payload_type,
            });
        }
        Some(Dump { header, cuts, packets })
    }

    /// The frames that the recording leaves out.
    fn cuts(&self, rate: u32) -> Vec<Range<u64>> {
        let frame = |time: i64| {
            let frame = i128::from(time.max(0)) * i128::from(rate) / i128::from(SECOND);
            u64::try_from(frame).unwrap_or(u64::MAX)
        };
        self.cuts.iter().map(|cut| frame(cut.start)..frame(cut.end)).filter(|cut| !cut.is_empty()).collect()
    }
}

/// A packet's samples.
struct Piece {
    /// Of each frame.
    each: usize,
    /// Where each frame begins in what was decoded of its stream; `None`: it is silent.
    frames: Vec<Option<usize>>,
}

impl Piece {
    /// As network order has them; `None` when they were not decoded.
    fn samples(&self, decoded: &[i16]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.frames.len() * self.each * 2);
        for frame in &self.frames {
            match frame {
                Some(begin) => {
                    let samples = decoded.get(*begin..*begin + self.each)?;
                    bytes.extend(samples.iter().flat_map(|sample| sample.to_be_bytes()));
                }
                None => bytes.resize(bytes.len() + self.each * 2, 0),
            }
        }
        Some(bytes)
    }
}

/// What is decoded by one run of the decoder: the frames of one format in one stream.
struct Run {
    builder: Builder,
    /// Samples that are to come.
    samples: usize,
    /// Frames of the codec in a packet.
    per_packet: usize,
    codec: String,
    decoded: Vec<i16>,
}

/// Decodes the packets and hears them.
fn play(ffmpeg: &Ffmpeg, dump: &Dump<'_>, side: Side, mut overlay: Overlay<'_>) -> Result<Gained> {
    let (pieces, mut runs) = take_apart(dump)?;
    let mut gained = Gained { complete: true, ..Gained::default() };
    for ((ssrc, format), run) in &mut runs {
        let builder = std::mem::replace(&mut run.builder, Builder::new(*format));
        let stream = builder.finish(run.per_packet)?;
        if run.samples == 0 {
            continue;
        }
        match ffmpeg.decode(*format, &stream, run.samples) {
            Ok(samples) => run.decoded = samples,
            Err(failure @ Failure::Run(_)) => return Err(failure).context("decode"),
            Err(failure) => {
                gained.problems.push(format!("{} of stream {ssrc:08x}: {failure}", run.codec));
                gained.complete = false;
            }
        }
    }
    let rate = overlay.format.sample_rate;
    let mut tape = Tape::new(TapeId(0), dump.header.start, rate);
    let mut streams: BTreeMap<u32, Stream> = BTreeMap::new();
    let mut failed = Ok(());
    let mut deliver = |reel| {
        if failed.is_ok() {
            failed = overlay.add(side, reel);
        }
    };
    let mut now = dump.header.start;
    for (packet, piece) in dump.packets.iter().zip(pieces) {
        let Some((format, piece)) = piece else {
            gained.complete = false;
            continue;
        };
        let Some(run) = runs.get(&(packet.ssrc, format)) else { continue };
        let Some(samples) = piece.samples(&run.decoded) else { continue };
        if !gained.codecs.contains(&run.codec) {
            gained.codecs.push(run.codec.clone());
        }
        if !gained.ssrcs.contains(&packet.ssrc) {
            gained.ssrcs.push(packet.ssrc);
        }
        now = now.max(packet.at);
        let plain = Packet {
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            // A payload type a rate: that is all that is left to tell.
            payload_type: (format.rate() / 8000) as u8,
            payload: &samples,
            ..Packet::bare(packet.at)
        };
        let stream = streams.entry(packet.ssrc).or_insert_with(|| Stream::new(packet.ssrc, packet.at));
        hear(side, &mut tape, |out| stream.receive(&plain, out));
        for stream in streams.values_mut().filter(|stream| stream.is_holding()) {
            hear(side, &mut tape, |out| stream.drain(now, false, out));
        }
        tape.overdub(&mut deliver);
        tape.advance(now, &mut deliver);
    }
    for stream in streams.values_mut() {
        hear(side, &mut tape, |out| stream.drain(now, true, out));
    }
    tape.overdub(&mut deliver);
    tape.finish(tape.extent(), &mut deliver);
    failed.context("write what was decoded")?;
    let frames = tape.extent();
    let report = tape.report(frames, &Figures::default(), &tape.figures(now));
    let heard = &report[side.channel()];
    gained.heard_ms = (frames * 1000 / u64::from(rate.max(1))).saturating_sub(heard.silent_ms);
    gained.concealed_ms = heard.concealed_ms;
    Ok(gained)
}

type Runs = BTreeMap<(u32, External), Run>;
/// `None` for one that cannot be read.
type Pieces = Vec<Option<(External, Piece)>>;

/// What is to be decoded, and where each packet's part of it will be.
fn take_apart(dump: &Dump<'_>) -> Result<(Pieces, Runs)> {
    let mut runs = Runs::new();
    let mut pieces = Vec::with_capacity(dump.packets.len());
    for packet in &dump.packets {
        let read = packet.codec.as_ref().and_then(|codec| {
            let format = External::of(codec, packet.payload)?;
            let frames = match packet.payload {
                // In a pause: it was not lost.
                [] => Vec::new(),
                payload => format.frames(codec, payload).ok()?,
            };
            Some((format, codec, frames))
        });
        let Some((format, codec, frames)) = read else {
            pieces.push(None);
            continue;
        };
        let run = runs.entry((packet.ssrc, format)).or_insert_with(|| Run {
            builder: Builder::new(format),
            samples: 0,
            per_packet: frames_per_packet(dump, packet.ssrc, packet.payload_type, format),
            codec: codec.to_string(),
            decoded: Vec::new(),
        });
        let each = format.frame_samples() * run.per_packet;
        let mut place = |frame| match frame {
            Frame::Silence => None,
            Frame::Speech(frame) => {
                run.builder.push(frame);
                run.samples += each;
                Some(run.samples - each)
            }
        };
        let frames = frames.into_iter().map(&mut place).collect();
        pieces.push(Some((format, Piece { each, frames })));
    }
    Ok((pieces, runs))
}

/// Of Speex, how many frames a packet has: as many as most packets are apart. Of others, their frames are told apart.
fn frames_per_packet(dump: &Dump<'_>, ssrc: u32, payload_type: u8, format: External) -> usize {
    if !matches!(format, External::Speex { .. }) {
        return 1;
    }
    let mut counts = [0usize; MOST_FRAMES + 1];
    let of_stream = |packet: &&Kept<'_>| packet.ssrc == ssrc && packet.payload_type == payload_type;
    let mut before: Option<&Kept<'_>> = None;
    for packet in dump.packets.iter().filter(of_stream) {
        if let Some(before) = before.filter(|before| packet.sequence == before.sequence.wrapping_add(1)) {
            let ticks = packet.timestamp.wrapping_sub(before.timestamp) as usize;
            if let Some(count) = counts.get_mut(ticks / format.frame_samples()) {
                *count += usize::from(ticks.is_multiple_of(format.frame_samples()));
            }
        }
        before = Some(packet);
    }
    let most = (1..counts.len()).rev().max_by_key(|&frames| counts[frames]).unwrap_or(1);
    if counts[most] == 0 { 1 } else { most }
}

/// Gives a stream all it needs to be heard.
fn hear(side: Side, tape: &mut Tape, run: impl FnOnce(&mut Playout<'_>)) {
    let codec = |rate: u8| Codec::from_rtpmap("L16", u32::from(rate) * 8000, 1);
    run(&mut Playout {
        tape: Some(tape),
        since: Timestamp(i64::MIN),
        until: Timestamp::FAR_FUTURE,
        side,
        codec: &codec,
        keeps: &|| false,
        keeps_all: false,
        undecoded: &mut Vec::new(),
        notes: &mut Vec::new(),
        scratch: &mut Vec::new(),
    });
}

/// Puts samples into one channel of a recording, wherever that is silent: what is there is there already.
struct Overlay<'a> {
    file: &'a File,
    format: Format,
    channel: usize,
    /// Of the recording.
    frames: u64,
    cuts: Vec<Range<u64>>,
    /// Where the next samples of the tape belong, as if nothing were left out.
    next: u64,
}

impl Overlay<'_> {
    fn add(&mut self, side: Side, reel: Reel) -> io::Result<()> {
        match reel {
            Reel::Samples(samples) => {
                let frames = samples.len() / 2;
                let at = self.next;
                self.next += frames as u64;
                self.put(at, &samples[side.channel() * frames..][..frames])
            }
            Reel::Silence(frames) => {
                self.next += frames;
                Ok(())
            }
            Reel::Overdub { frame, samples, .. } => self.put(frame, &samples),
            Reel::Erase(_) => Ok(()),
        }
    }

    fn put(&self, at: u64, samples: &[i16]) -> io::Result<()> {
        for piece in kept(0..u64::MAX, &self.cuts) {
            let (from, to) = (piece.start.max(at), piece.end.min(at + samples.len() as u64));
            if from < to {
                let before: u64 = self
                    .cuts
                    .iter()
                    .filter(|cut| cut.end <= piece.start)
                    .map(|cut| cut.end - cut.start)
                    .sum();
                self.put_kept(from - before, &samples[(from - at) as usize..(to - at) as usize])?;
            }
        }
        Ok(())
    }

    fn put_kept(&self, mut at: u64, samples: &[i16]) -> io::Result<()> {
        let Format { channels, encoding, .. } = self.format;
        let frame_bytes = self.format.frame_bytes();
        let count = usize::try_from(self.frames.saturating_sub(at)).unwrap_or(usize::MAX).min(samples.len());
        // A-law has no code for silence itself.
        let (mut bytes, mut there) = (vec![encoding.silence(); usize::from(encoding.bytes())], Vec::new());
        encoding.decode(&bytes, &mut there);
        let silence = there.first().copied().unwrap_or_default();
        for block in samples[..count].chunks(BLOCK) {
            if block.iter().any(|&sample| sample != 0) {
                let place = HEADER_LEN as u64 + at * frame_bytes;
                bytes.resize(block.len() * frame_bytes as usize, 0);
                self.file.read_exact_at(&mut bytes, place)?;
                encoding.decode(&bytes, &mut there);
                let own = there.iter_mut().skip(self.channel).step_by(channels.into());
                for (own, &sample) in own.zip(block).filter(|(own, _)| **own == silence) {
                    *own = sample;
                }
                encoding.encode(&there, &mut bytes);
                self.file.write_all_at(&bytes, place)?;
            }
            at += block.len() as u64;
        }
        Ok(())
    }
}
