//! Recordings of Fanvil's and Becke's phones: what is imported is what was spoken.

use std::path::{Path, PathBuf};

use audio_codec::{CodecType, create_encoder};
use tempfile::TempDir;

use super::{spantape, stderr, stdout, text};

/// Payload of 20 ms, and ticks as well.
const PAYLOAD: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Packets,
    Payloads,
}

/// A voice of `samples/audio`, as a phone would have recorded it.
struct Voice {
    codec: CodecType,
    layout: Layout,
    rate: u32,
    samples: Vec<i16>,
    units: Vec<Vec<u8>>,
}

impl Voice {
    fn new(name: &str, codec: CodecType, layout: Layout) -> Voice {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/audio").join(name);
        let mut wav = hound::WavReader::open(path).unwrap();
        let rate = wav.spec().sample_rate;
        let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
        let payload = create_encoder(codec).encode(&samples);
        let unit = |(index, payload): (usize, &[u8])| match layout {
            Layout::Payloads => payload.to_vec(),
            Layout::Packets => packet(codec, index as u16, payload),
        };
        let units = payload.as_chunks::<PAYLOAD>().0.iter().map(|unit| &unit[..]).enumerate().map(unit);
        let units = units.collect();
        Voice { codec, layout, rate, samples, units }
    }

    fn pcma(layout: Layout) -> Voice {
        Voice::new("caller-8k.wav", CodecType::PCMA, layout)
    }

    /// The words of the header: length of a unit, ticks of it, size of all.
    fn words(&self, units: &[Vec<u8>]) -> [u32; 3] {
        let unit = PAYLOAD + if self.layout == Layout::Packets { 12 } else { 0 };
        [unit as u32, PAYLOAD as u32, (units.len() * unit) as u32]
    }

    fn file(&self, units: std::ops::Range<usize>) -> Vec<u8> {
        let units = &self.units[units];
        container(self.codec, self.words(units).map(u32::to_le_bytes), units)
    }

    fn whole(&self) -> Vec<u8> {
        self.file(0..self.units.len())
    }
}

fn packet(codec: CodecType, index: u16, payload: &[u8]) -> Vec<u8> {
    // Sequence numbers and timestamps begin anew on the way.
    let (sequence, timestamp) = (65_500u16.wrapping_add(index), u32::MAX - 5000);
    let timestamp = timestamp.wrapping_add(u32::from(index) * PAYLOAD as u32);
    let mut packet = vec![0x80, codec.payload_type()];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend([0xfa, 0x17, 0xb0, 0x05]);
    packet.extend(payload);
    packet
}

fn container(codec: CodecType, words: [[u8; 4]; 3], units: &[Vec<u8>]) -> Vec<u8> {
    let name = match codec {
        CodecType::PCMA => "PCMA",
        CodecType::PCMU => "PCMU",
        _ => "G722",
    };
    let mut file = name.as_bytes().to_vec();
    file.resize(64, 0);
    file.extend(words.concat());
    file.extend(units.concat());
    file
}

/// Files of a phone, and an archive for them.
struct Desk(TempDir);

impl Desk {
    fn new() -> Desk {
        Desk(TempDir::new().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn archive(&self) -> PathBuf {
        self.0.path().join("archive")
    }

    /// Imports files; gives the exit code, what was said in JSON, and on standard error.
    fn import(&self, files: &[&Path], more: &[&str]) -> (i32, serde_json::Value, String) {
        let archive = self.archive();
        let mut arguments = vec!["import", "--json", "--archive", text(&archive)];
        arguments.extend(files.iter().map(|path| text(path)));
        arguments.extend(more);
        let output = spantape(&arguments);
        let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), said, stderr(&output))
    }

    fn rows(&self, table: &str) -> Vec<serde_json::Value> {
        let output =
            spantape(&["search", "--archive", text(&self.archive()), "--table", table, "--format", "json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The samples of the one recording that the archive holds.
    fn heard(&self) -> (Vec<i16>, u32) {
        let rows = self.rows("recordings");
        assert_eq!(rows.len(), 1, "{rows:?}");
        let path = self.archive().join(rows[0]["file"].as_str().unwrap());
        let mut wav = hound::WavReader::open(path).unwrap();
        assert_eq!(wav.spec().channels, 1);
        assert_eq!(u64::from(wav.duration()), rows[0]["frames"].as_u64().unwrap());
        (wav.samples().map(Result::unwrap).collect(), wav.spec().sample_rate)
    }
}

/// The highest normalised correlation of two sounds, the first up to 40 samples late.
fn likeness(heard: &[i16], spoken: &[i16]) -> f64 {
    let energy =
        |samples: &[i16]| samples.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>().sqrt();
    let of = |late: usize| {
        let heard = &heard[late..];
        let product: f64 = heard.iter().zip(spoken).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        product / (energy(heard) * energy(&spoken[..heard.len().min(spoken.len())]) + 1.0)
    };
    (0..40).map(of).fold(0.0, f64::max)
}

#[test]
fn every_codec_in_both_layouts() {
    for (codec, name) in [
        (CodecType::PCMA, "caller-8k.wav"),
        (CodecType::PCMU, "callee-8k.wav"),
        (CodecType::G722, "caller-16k.wav"),
    ] {
        for layout in [Layout::Packets, Layout::Payloads] {
            let (desk, voice) = (Desk::new(), Voice::new(name, codec, layout));
            let file = desk.put("20261122143005.wav", &voice.whole());
            let (code, said, problems) = desk.import(&[&file], &["--from", "1009", "--to", "0301234"]);
            assert_eq!((code, problems.as_str()), (0, ""));
            assert_eq!(said["recordings"][0]["remarks"], serde_json::json!([]), "{said}");
            let (heard, rate) = desk.heard();
            assert_eq!((rate, heard.len()), (voice.rate, voice.units.len() * voice.rate as usize / 50));
            let likeness = likeness(&heard, &voice.samples);
            assert!(likeness > 0.98, "{codec:?} {layout:?}: {likeness}");
            let row = &desk.rows("recordings")[0];
            assert_eq!((&row["from_user"], &row["to_user"]), (&"1009".into(), &"0301234".into()));
            assert_eq!((&row["trigger"], &row["end_reason"]), (&"import".into(), &"file-end".into()));
            assert_eq!(row["caller_received"].as_u64(), Some(voice.units.len() as u64));
            assert_eq!(desk.rows("calls")[0]["orphan"], true);
            let output = spantape(&[
                "show",
                row["recording_id"].as_str().unwrap(),
                "--archive",
                text(&desk.archive()),
            ]);
            assert!(stdout(&output).contains("20261122143005.wav (RTP pa"), "{}", stdout(&output));
        }
    }
}

#[test]
fn the_same_file_again_adds_nothing() {
    let (desk, voice) = (Desk::new(), Voice::pcma(Layout::Payloads));
    let first = desk.put("rec001.wav", &voice.file(0..100));
    assert_eq!(desk.import(&[&first], &[]).1["recordings"][0]["added"], true);
    // Under another name, with another time, and twice at once.
    let copy = desk.put("20240101000000.wav", &voice.file(0..100));
    let (code, said, _) = desk.import(&[&copy, &first], &[]);
    assert_eq!((code, &said["recordings"][0]["added"]), (0, &false.into()));
    assert_eq!(said["recordings"][1]["added"], false);
    assert_eq!((desk.rows("recordings").len(), desk.rows("calls").len()), (1, 1));
    let output = spantape(&["import", text(&first), "--archive", text(&desk.archive())]);
    assert!(stdout(&output).contains("in the archive already"), "{}", stdout(&output));
}

#[test]
fn what_a_phone_has_spread_over_files() {
    let (desk, voice) = (Desk::new(), Voice::pcma(Layout::Packets));
    // Two packets were lost while the phone opened the third file.
    let pieces = [0..200, 200..400, 402..600].map(|units| voice.file(units));
    let paths = [1, 2, 3].map(|n| desk.put(&format!("rec{n}.wav"), &pieces[n - 1]));
    let (code, said, _) = desk.import(&[&paths[0], &paths[1], &paths[2]], &[]);
    assert_eq!((code, said["recordings"].as_array().unwrap().len()), (0, 1), "{said}");
    let (heard, _) = desk.heard();
    assert_eq!(heard.len(), 600 * PAYLOAD);
    assert!(heard[400 * PAYLOAD..402 * PAYLOAD].iter().all(|sample| *sample == 0));
    assert!(likeness(&heard, &voice.samples) > 0.98);
    let row = &desk.rows("recordings")[0];
    assert_eq!((row["lost"].as_u64(), row["caller_silent_ms"].as_u64()), (Some(2), Some(40)));
}

#[test]
fn what_is_not_the_same_recording_is_not_joined() {
    let (desk, voice) = (Desk::new(), Voice::pcma(Layout::Packets));
    let first = desk.put("rec1.wav", &voice.file(0..100));
    // The same source, but two seconds and more later.
    let later = desk.put("rec2.wav", &voice.file(300..400));
    let mut other = voice.file(100..200);
    for unit in other[76..].chunks_mut(12 + PAYLOAD) {
        unit[11] ^= 1; // another source
    }
    let other = desk.put("rec3.wav", &other);
    let (code, said, _) = desk.import(&[&first, &later, &first, &other], &[]);
    assert_eq!((code, said["recordings"].as_array().unwrap().len()), (0, 4));
    assert_eq!(desk.rows("recordings").len(), 3);
}

#[test]
fn payloads_are_joined_when_asked_for() {
    let (desk, voice) = (Desk::new(), Voice::pcma(Layout::Payloads));
    let pieces = [0..200, 200..400].map(|units| voice.file(units));
    let paths = [1, 2].map(|n| desk.put(&format!("rec{n}.wav"), &pieces[n - 1]));
    let separate = Desk::new();
    let (_, said, _) = separate.import(&[&paths[0], &paths[1]], &[]);
    assert_eq!(said["recordings"].as_array().unwrap().len(), 2);
    desk.import(&[&paths[0], &paths[1]], &["--join"]);
    let (heard, _) = desk.heard();
    assert!(heard.len() == 400 * PAYLOAD && likeness(&heard, &voice.samples) > 0.98);
    let wideband = Voice::new("caller-16k.wav", CodecType::G722, Layout::Payloads);
    let wideband = desk.put("wideband.wav", &wideband.file(0..10));
    let (code, _, problem) = desk.import(&[&paths[0], &wideband], &["--join"]);
    assert!(code == 2 && problem.contains("wideband.wav is no part of the same recording"), "{problem}");
    let (code, _, problem) = desk.import(&[&paths[0], &paths[1]], &["--start", "2026-11-22"]);
    assert!(code == 2 && problem.contains("--start"), "{problem}");
}

#[test]
fn headers_that_are_not_as_they_should_be() {
    let voice = Voice::pcma(Layout::Packets);
    let words = voice.words(&voice.units);
    let with = |words: [[u8; 4]; 3]| container(CodecType::PCMA, words, &voice.units);
    let size = |size: u32| with([words[0], words[1], size].map(u32::to_le_bytes));
    for (bytes, remark) in [
        (size(0), Some("was never finished")),
        (size(words[2] + 1000), Some("is truncated: 1000 bytes are missing")),
        (with(words.map(u32::to_be_bytes)), None),
    ] {
        let desk = Desk::new();
        let (code, said, _) = desk.import(&[&desk.put("rec.wav", &bytes)], &[]);
        let remarks = said["recordings"][0]["remarks"].as_array().unwrap();
        assert_eq!((code, remarks.len()), (0, usize::from(remark.is_some())), "{said}");
        assert!(remark.is_none_or(|remark| remarks[0].as_str().unwrap().contains(remark)), "{said}");
        let (heard, _) = desk.heard();
        assert_eq!(heard.len(), voice.units.len() * PAYLOAD);
        assert!(likeness(&heard, &voice.samples) > 0.98);
    }
}

#[test]
fn when_it_began() {
    let voice = Voice::pcma(Layout::Payloads);
    let start = |name: &str, more: &[&str]| {
        let desk = Desk::new();
        let path = desk.put(name, &voice.file(0..100));
        let changed = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(changed).unwrap();
        desk.import(&[&path], more);
        desk.rows("recordings")[0]["start"].as_str().unwrap().to_owned()
    };
    // 22:13:20 less the two seconds that it takes.
    assert_eq!(start("rec.wav", &[]), "2023-11-14T22:13:18.000Z");
    assert_eq!(start("rec.wav", &["--start", "2026-11-22T14:30:05+01:00"]), "2026-11-22T13:30:05.000Z");
    // In whatever zone this machine is, that is within a day.
    let named = start("rec_20261122143005.wav", &[]);
    assert!(named.starts_with("2026-11-2") && named.ends_with(":05.000Z"), "{named}");
}

#[test]
fn what_is_no_recording_of_a_phone_is_named() {
    let (desk, voice) = (Desk::new(), Voice::pcma(Layout::Packets));
    let riff = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/audio/caller-8k.wav");
    let junk = desk.put("junk.wav", &[7; 500]);
    let good = desk.put("rec.wav", &voice.whole());
    let (code, said, problems) = desk.import(&[&riff, &junk, &good, Path::new("missing.wav")], &[]);
    assert_eq!((code, said["problems"].as_array().unwrap().len()), (1, 3));
    for part in [
        "caller-8k.wav: is an ordinary WAV file (RIFF)",
        "junk.wav: is no recording of a Fanvil or Becke phone",
        "missing.wav: cannot be read",
    ] {
        assert!(problems.contains(part), "{problems}");
    }
    assert_eq!(desk.rows("recordings").len(), 1);
}
