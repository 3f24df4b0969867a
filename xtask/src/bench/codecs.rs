//! `cargo xtask bench codecs`: what decoding costs, as a multiple of what it costs by table (G.711), in the same run.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use spantape_core::codec::{Codec, Decoder};

use crate::workspace;

/// Each codec has a turn so long, in each round.
const TURN: Duration = Duration::from_millis(100);
const PACKET_MS: u64 = 20;
/// How each codec of the table begins: what all others are compared with.
const BASE: &str = "PCMU";

/// What `cargo xtask bench codecs` understands.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Rounds, of which the fastest turn of each codec counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

struct Entry {
    codec: Codec,
    packets: Vec<Vec<u8>>,
    decoder: Decoder,
    /// Nanoseconds a second of speech.
    best: f64,
}

/// Prints one line a codec.
pub(super) fn run(args: &Args) -> Result<()> {
    let vectors = workspace()?.join("userspace/core/src/codec/vectors");
    let mut entries = entries(&vectors)?;
    for _ in 0..args.rounds {
        for entry in &mut entries {
            entry.best = entry.best.min(turn(entry));
        }
    }
    let base = entries.iter().find(|entry| entry.codec.name() == BASE).map_or(1.0, |entry| entry.best);
    println!("{:<20} {:>12} {:>14} {:>12}", "codec", "us/s speech", "streams/core", "times PCMU");
    for entry in &entries {
        let streams = 1e9 / entry.best;
        let (name, ratio) = (entry.codec.to_string(), entry.best / base);
        println!("{name:<20} {:>12.2} {streams:>14.0} {ratio:>12.1}", entry.best / 1000.0);
    }
    for external in &EXTERNAL {
        let mut best = f64::MAX;
        for _ in 0..args.rounds.min(3) {
            best = external.turn()?.map_or(best, |turn| best.min(turn));
        }
        if best == f64::MAX {
            println!("{:<20} left out: there is no ffmpeg for it here", external.name);
        } else {
            let name = format!("{} (ffmpeg)", external.name);
            println!("{name:<20} {:>12.2} {:>14.0} {:>12.1}", best / 1000.0, 1e9 / best, best / base);
        }
    }
    Ok(())
}

/// A codec that ffmpeg decodes, as a file of frames: they are noise, which takes as long as speech.
struct External {
    name: &'static str,
    format: &'static str,
    magic: &'static [u8],
    /// What each frame begins with, its length and how long it lasts. Of length 0 are those in a container: ffmpeg makes
    /// the file itself, of a tone.
    head: &'static [u8],
    bytes: usize,
    ms: usize,
}

const EXTERNAL: [External; 6] = [
    External { name: "G729", format: "g729", magic: b"", head: &[], bytes: 10, ms: 10 },
    External { name: "G723", format: "g723_1", magic: b"", head: &[], bytes: 24, ms: 30 },
    External { name: "iLBC", format: "ilbc", magic: b"#!iLBC20\n", head: &[], bytes: 38, ms: 20 },
    // Frame types 7 and 8, of good quality (RFC 4867 section 5.3).
    External { name: "AMR", format: "amr", magic: b"#!AMR\n", head: &[0x3c], bytes: 32, ms: 20 },
    External { name: "AMR-WB", format: "amr", magic: b"#!AMR-WB\n", head: &[0x44], bytes: 61, ms: 20 },
    External { name: "speex", format: "ogg", magic: b"", head: &[], bytes: 0, ms: 20 },
];
/// Seconds of speech that ffmpeg is given, so that its start does not count for much.
const SPEECH: usize = 600;

impl External {
    fn frames(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        for _ in 0..SPEECH * 1000 / self.ms {
            let begin = bytes.len();
            bytes.extend((begin..begin + self.bytes).map(|at| super::scatter(at as u64) as u8));
            bytes[begin..begin + self.head.len()].copy_from_slice(self.head);
            if self.name == "G723" {
                // The two bits that say which kind of frame it is: one of 6.3 kbit/s.
                bytes[begin] &= !3;
            }
        }
        bytes
    }

    /// Nanoseconds a second of speech, by the clock; `None` without ffmpeg.
    fn turn(&self) -> Result<Option<f64>> {
        let mut file = tempfile::NamedTempFile::new().context("create a file")?;
        if self.bytes > 0 {
            file.write_all(&self.frames()).context("write")?;
        } else {
            let tone = format!("sine=frequency=300:sample_rate=8000:duration={SPEECH}");
            let mut command = Command::new("ffmpeg");
            command.args(["-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", &tone, "-c:a"]);
            command.args([&format!("lib{}", self.name), "-f", self.format]).arg(file.path());
            match command.status() {
                Ok(status) if status.success() => {}
                _ => return Ok(None),
            }
        }
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-loglevel", "error", "-threads", "1", "-f", self.format, "-i"]);
        command.arg(file.path()).args(["-f", "null", "-"]);
        let begin = Instant::now();
        let status = match command.status() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            status => status.context("run ffmpeg")?,
        };
        if !status.success() {
            bail!("ffmpeg does not decode {}", self.name);
        }
        Ok(Some(begin.elapsed().as_nanos() as f64 / SPEECH as f64))
    }
}

/// Decodes what there is of a codec over and over; nanoseconds a second of speech.
fn turn(entry: &mut Entry) -> f64 {
    let mut samples = Vec::with_capacity(48_000);
    let (begin, mut packets) = (Instant::now(), 0);
    while begin.elapsed() < TURN {
        for packet in &entry.packets {
            samples.clear();
            entry.decoder.decode(std::hint::black_box(packet), &mut samples);
            std::hint::black_box(&samples);
        }
        packets += entry.packets.len() as u64;
    }
    begin.elapsed().as_nanos() as f64 * 1000.0 / (packets * PACKET_MS) as f64
}

fn entries(vectors: &Path) -> Result<Vec<Entry>> {
    let read = |name: &str| -> Result<Vec<u8>> {
        let path = vectors.join(name);
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    let noise = |length: usize| -> Vec<u8> { (0..length as u64).map(|i| super::scatter(i) as u8).collect() };
    let mut entries = Vec::new();
    let mut add = |name: &str, clock: u32, packets: Vec<Vec<u8>>| -> Result<()> {
        let codec = Codec::from_rtpmap(name, clock, 1);
        let decoder = Decoder::new(&codec).with_context(|| format!("{name} is not decoded"))?;
        entries.push(Entry { codec, packets, decoder, best: f64::MAX });
        Ok(())
    };
    let cut = |bytes: &[u8], size: usize| bytes.chunks_exact(size).map(<[u8]>::to_vec).collect::<Vec<_>>();
    add("PCMU", 8000, cut(&noise(6400), 160))?;
    add("PCMA", 8000, cut(&noise(6400), 160))?;
    add("G722", 8000, cut(&noise(6400), 160))?;
    add("L16", 16_000, cut(&noise(25_600), 640))?;
    add("GSM", 8000, cut(&read("gsm.rtp")?, 33))?;
    for bits in 2..=5 {
        let name = format!("G726-{}", 8 * bits);
        add(&name, 8000, cut(&read(&format!("g726-{}-le.rtp", 8 * bits))?, 20 * bits))?;
    }
    // Packets of 20 ms, the codes of which are noise.
    let dvi4 = cut(&noise(3200), 80).into_iter().map(|codes| [&[0, 0, 40, 0], &codes[..]].concat());
    add("DVI4", 8000, dvi4.collect())?;
    let (opus, mut packets) = (read("opus.rtp")?, Vec::new());
    let mut rest = &opus[..];
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        packets.push(after.get(..length).context("opus.rtp is cut short")?.to_vec());
        rest = &after[length..];
    }
    add("opus", 48_000, packets)?;
    Ok(entries)
}
