//! Codecs that only ffmpeg decodes: kept when it is not used, heard when it is. Without ffmpeg on the machine nothing of
//! it can be tested, and each test says so.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use spantape_core::codec::Codec;
use spantape_core::codec::external::{External, Frame};
use tempfile::TempDir;

use super::{spantape, stderr, stdout, text};

/// Packets of each stream.
const PACKETS: usize = 150;

/// A codec, how it is announced, and its frames.
struct Kind {
    map: &'static str,
    fmtp: &'static str,
    payload_type: u8,
    /// Of a frame, and frames in each packet.
    ticks: u32,
    frames: usize,
    /// A payload of so many frames, made of these bits.
    payload: fn(&mut Noise, usize) -> Vec<u8>,
    /// What ffmpeg is to be told of a file of such frames, and what the file begins with.
    input: &'static [&'static str],
    magic: &'static [u8],
}

const KINDS: [Kind; 8] = [
    Kind {
        map: "G729/8000",
        fmtp: "annexb=yes",
        payload_type: 18,
        ticks: 80,
        frames: 2,
        payload: |noise, frames| noise.bytes(10 * frames),
        input: &["-f", "g729", "-c:a", "g729"],
        magic: b"",
    },
    Kind {
        map: "G723/8000",
        fmtp: "",
        payload_type: 4,
        ticks: 240,
        frames: 1,
        payload: |noise, frames| (0..frames).flat_map(|_| noise.starting_with(0b11, 0, 24)).collect(),
        input: &["-f", "g723_1", "-c:a", "g723_1"],
        magic: b"",
    },
    Kind {
        map: "iLBC/8000",
        fmtp: "mode=20",
        payload_type: 97,
        ticks: 160,
        frames: 1,
        payload: |noise, frames| noise.bytes(38 * frames),
        input: &["-f", "ilbc", "-c:a", "ilbc"],
        magic: b"#!iLBC20\n",
    },
    Kind {
        map: "iLBC/8000",
        fmtp: "",
        payload_type: 98,
        ticks: 240,
        frames: 2,
        payload: |noise, frames| noise.bytes(50 * frames),
        input: &["-f", "ilbc", "-c:a", "ilbc"],
        magic: b"#!iLBC30\n",
    },
    Kind {
        map: "AMR/8000",
        fmtp: "octet-align=1",
        payload_type: 99,
        ticks: 160,
        frames: 2,
        payload: |noise, frames| aligned(noise, frames, 7, 244),
        input: &["-f", "amr", "-c:a", "amrnb"],
        magic: b"#!AMR\n",
    },
    Kind {
        map: "AMR/8000",
        fmtp: "mode-set=0",
        payload_type: 100,
        ticks: 160,
        frames: 1,
        payload: |noise, _| packed(noise, 0, 95),
        input: &["-f", "amr", "-c:a", "amrnb"],
        magic: b"#!AMR\n",
    },
    Kind {
        map: "AMR-WB/16000",
        fmtp: "octet-align=1",
        payload_type: 101,
        ticks: 320,
        frames: 1,
        payload: |noise, frames| aligned(noise, frames, 8, 477),
        input: &["-f", "amr", "-c:a", "amrwb"],
        magic: b"#!AMR-WB\n",
    },
    Kind {
        map: "AMR-WB/16000",
        fmtp: "",
        payload_type: 102,
        ticks: 320,
        frames: 1,
        payload: |noise, _| packed(noise, 2, 253),
        input: &["-f", "amr", "-c:a", "amrwb"],
        magic: b"#!AMR-WB\n",
    },
];

/// Any bits are speech to these codecs: strange, but for each decoder the same.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    fn starting_with(&mut self, mask: u8, bits: u8, count: usize) -> Vec<u8> {
        let mut bytes = self.bytes(count);
        bytes[0] = bytes[0] & !mask | bits;
        bytes
    }
}

/// RFC 4867, octet-aligned: every frame begins with a byte.
fn aligned(noise: &mut Noise, frames: usize, kind: u8, bits: usize) -> Vec<u8> {
    let mut payload = vec![0xf0];
    for frame in 1..=frames {
        let follows = u8::from(frame < frames) << 7;
        payload.push(follows | kind << 3 | 4);
    }
    for _ in 0..frames {
        let mut frame = noise.bytes(bits.div_ceil(8));
        if let Some(last) = frame.last_mut().filter(|_| !bits.is_multiple_of(8)) {
            *last &= 0xff << (8 - bits % 8);
        }
        payload.extend(frame);
    }
    payload
}

/// RFC 4867, bandwidth-efficient: one frame after ten bits of header.
fn packed(noise: &mut Noise, kind: u8, bits: usize) -> Vec<u8> {
    let data = noise.bytes(bits.div_ceil(8));
    let head = [1, 1, 1, 1, 0, kind >> 3 & 1, kind >> 2 & 1, kind >> 1 & 1, kind & 1, 1];
    let all: Vec<u8> = head.into_iter().chain((0..bits).map(|at| data[at / 8] >> (7 - at % 8) & 1)).collect();
    all.chunks(8).map(|byte| byte.iter().enumerate().map(|(at, bit)| bit << (7 - at)).sum()).collect()
}

impl Kind {
    fn payloads(&self) -> Vec<Vec<u8>> {
        let mut noise = Noise(u64::from(self.payload_type));
        (0..PACKETS).map(|_| (self.payload)(&mut noise, self.frames)).collect()
    }

    /// The file that ffmpeg reads by itself.
    fn file(&self) -> Vec<u8> {
        let (name, clock) = self.map.split_once('/').unwrap();
        let codec = Codec::from_rtpmap(name, clock.parse().unwrap(), 1).with_parameters(self.fmtp);
        let mut file = self.magic.to_vec();
        for payload in self.payloads() {
            let format = External::of(&codec, &payload).unwrap();
            for frame in format.frames(&codec, &payload).unwrap() {
                let Frame::Speech(bytes) = frame else { panic!("{}: speech is silent", self.map) };
                file.extend(bytes);
            }
        }
        file
    }
}

/// A call in which the caller sends these payloads and the callee, if at all, silence in PCMU.
fn capture(kind: &Kind, payloads: &[Vec<u8>]) -> Vec<u8> {
    capture_with(kind, payloads, &[])
}

/// The same, with INFO requests of AudioCodes' at some microseconds.
fn capture_with(kind: &Kind, payloads: &[Vec<u8>], actions: &[(u64, &str)]) -> Vec<u8> {
    let mut capture = Pcap::default();
    let message = |start: &str, cseq: &str, port: u16, map: &str, payload_type: u8, fmtp: &str| {
        let fmtp = if fmtp.is_empty() { String::new() } else { format!("a=fmtp:{payload_type} {fmtp}\r\n") };
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.{}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} {map}\r\n{fmtp}",
            port / 1000
        );
        format!(
            "{start}\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:1@10.0.0.1>;tag=a\r\n\
             To: <sip:2@10.0.0.2>{}\r\nCall-ID: decode@10.0.0.1\r\nCSeq: {cseq}\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            if start.starts_with("INVITE") { "" } else { ";tag=b" },
            body.len()
        )
    };
    let (map, number, fmtp) = (kind.map, kind.payload_type, kind.fmtp);
    let invite = message("INVITE sip:2@10.0.0.2 SIP/2.0", "1 INVITE", 1000, map, number, fmtp);
    capture.push(0, (1, 5060), (2, 5060), invite.as_bytes());
    let answer = message("SIP/2.0 200 OK", "1 INVITE", 2000, map, number, fmtp);
    capture.push(100_000, (2, 5060), (1, 5060), answer.as_bytes());
    let clock: u64 = map.split('/').nth(1).unwrap().parse().unwrap();
    let ticks = u64::from(kind.ticks) * kind.frames as u64;
    for (payload, number) in payloads.iter().zip(0u64..) {
        let mut packet = vec![0x80, kind.payload_type];
        packet.extend((number as u16).to_be_bytes());
        packet.extend(((number * ticks) as u32).to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        packet.extend(payload);
        capture.push(200_000 + number * ticks * 1_000_000 / clock, (1, 1000), (2, 2000), &packet);
    }
    for (at_us, action) in actions {
        let request = format!(
            "INFO sip:2@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK{at_us}\r\n\
             From: <sip:1@10.0.0.1>;tag=a\r\nTo: <sip:2@10.0.0.2>;tag=b\r\nCall-ID: decode@10.0.0.1\r\n\
             CSeq: {at_us} INFO\r\nX-AC-Action: {action}\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = request.replace("INFO sip:2@10.0.0.2 SIP/2.0", "SIP/2.0 200 OK");
        capture.push(*at_us, (1, 5060), (2, 5060), request.as_bytes());
        capture.push(*at_us, (2, 5060), (1, 5060), answer.as_bytes());
    }
    let bye = "BYE sip:2@10.0.0.2 SIP/2.0\r\nFrom: <sip:1@10.0.0.1>;tag=a\r\nTo: <sip:2@10.0.0.2>;tag=b\r\n\
               Call-ID: decode@10.0.0.1\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n";
    capture.push(
        220_000 + payloads.len() as u64 * ticks * 1_000_000 / clock,
        (1, 5060),
        (2, 5060),
        bye.as_bytes(),
    );
    capture.finish()
}

/// UDP over IPv4, without Ethernet.
#[derive(Default)]
struct Pcap(Vec<(u64, Vec<u8>)>);

impl Pcap {
    fn push(&mut self, at_us: u64, from: (u8, u16), to: (u8, u16), payload: &[u8]) {
        let length = (28 + payload.len()) as u16;
        let mut frame = vec![0x45, 0];
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from.0, 10, 0, 0, to.0]);
        frame.extend(from.1.to_be_bytes());
        frame.extend(to.1.to_be_bytes());
        frame.extend((length - 20).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        self.0.push((at_us, frame));
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.sort_by_key(|(at_us, _)| *at_us);
        let head = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 101];
        let mut file: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
        for (at_us, frame) in self.0 {
            let (seconds, us) = (1_700_000_000 + at_us / 1_000_000, at_us % 1_000_000);
            for word in [seconds as u32, us as u32, frame.len() as u32, frame.len() as u32] {
                file.extend(word.to_le_bytes());
            }
            file.extend(frame);
        }
        file
    }
}

fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: ffmpeg is not installed, so nothing that it decodes can be tested");
    }
    found
}

/// What ffmpeg makes of a file.
fn decoded(dir: &Path, input: &[&str], file: &[u8]) -> Vec<i16> {
    let path = dir.join("frames");
    fs::write(&path, file).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error"]).args(input).arg("-i").arg(&path);
    let output = command.args(["-f", "s16le", "-c:a", "pcm_s16le", "-"]).output().unwrap();
    output.stdout.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])).collect()
}

fn replay(capture: &[u8], config: &str) -> TempDir {
    let archive = TempDir::new().unwrap();
    let (input, file) = (archive.path().join("in.pcap"), archive.path().join("in.toml"));
    fs::write(&input, capture).unwrap();
    fs::write(&file, config).unwrap();
    let output =
        spantape(&["replay", text(&input), "--archive", text(archive.path()), "--config", text(&file)]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    archive
}

fn row(archive: &Path, table: &str) -> Value {
    let output = spantape(&["search", "--archive", text(archive), "--table", table, "--format", "jsonl"]);
    let said = stdout(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    serde_json::from_str(said.trim()).unwrap()
}

fn left(wav: &Path) -> (u32, Vec<i16>) {
    let reader = hound::WavReader::open(wav).unwrap();
    let rate = reader.spec().sample_rate;
    (rate, reader.into_samples::<i16>().step_by(2).map(Result::unwrap).collect())
}

#[test]
fn what_is_heard_is_what_ffmpeg_makes_of_the_frames() {
    if !has_ffmpeg() {
        return;
    }
    for kind in &KINDS {
        let archive = replay(&capture(kind, &kind.payloads()), "");
        let found = row(archive.path(), "recordings");
        let (_, samples) = left(&archive.path().join(found["file"].as_str().unwrap()));
        let expected = decoded(archive.path(), kind.input, &kind.file());
        let length = kind.ticks as usize * kind.frames * PACKETS;
        assert_eq!(expected.len(), length, "{}", kind.map);
        let same = samples.iter().zip(&expected).filter(|(a, b)| a == b).count();
        assert_eq!(same, length, "{} {}: {} samples heard", kind.map, kind.fmtp, samples.len());
        assert!(expected.iter().filter(|sample| **sample != 0).count() > length / 2, "{}", kind.map);
        assert_eq!((&found["codecs"], &found["caller_rtpdump"]), (&kind.map.into(), &"".into()));
        let silent = found["caller_silent_ms"].as_i64().unwrap();
        assert!(silent <= 60, "{}: {silent} ms silent", kind.map);
        assert_eq!(row(archive.path(), "streams")["not_decoded"], "", "{}", kind.map);
        assert_eq!(row(archive.path(), "calls")["undecodable"], "", "{}", kind.map);
    }
}

#[test]
fn without_ffmpeg_packets_are_kept_and_decoded_later() {
    let kind = &KINDS[4];
    let payloads = kind.payloads();
    let archive = replay(&capture(kind, &payloads), "[audio]\nffmpeg = 'off'\n");
    let found = row(archive.path(), "recordings");
    let (_, samples) = left(&archive.path().join(found["file"].as_str().unwrap()));
    assert!(samples.len() >= 48_000 && samples.iter().all(|&sample| sample == 0), "{}", samples.len());
    let packets = archive.path().join(found["caller_rtpdump"].as_str().unwrap());
    let dump = fs::read(&packets).unwrap();
    assert!(dump.starts_with(b"#!rtpplay1.0 10.0.0.2/2000\n"));
    for payload in &payloads {
        assert!(dump.windows(payload.len()).any(|window| window == payload));
    }
    assert_eq!((&found["codecs"], &found["callee_rtpdump"]), (&"".into(), &"".into()));
    assert_eq!(row(archive.path(), "streams")["not_decoded"], "no decoder");
    assert_eq!(row(archive.path(), "calls")["undecodable"], "AMR/8000");

    let export = |name: &str, more: &[&str]| {
        let out = archive.path().join(name);
        let mut arguments = vec!["export", "--archive", text(archive.path()), "--to", text(&out)];
        arguments.extend(more);
        let output = spantape(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        let row = fs::read_to_string(out.join("recordings.jsonl")).unwrap();
        (serde_json::from_str::<Value>(row.trim()).unwrap()["exported"].clone(), out)
    };
    let (plain, out) = export("plain", &[]);
    assert_eq!(plain["how"], "archived");
    let packets = found["caller_rtpdump"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert_eq!(fs::read(out.join(&packets)).unwrap(), dump);
    if !has_ffmpeg() {
        return;
    }
    let (audible, out) = export("audible", &["--redecode"]);
    assert_eq!((&audible["how"], &audible["codecs"]), (&"decoded".into(), &"AMR/8000".into()));
    assert!(!out.join(&packets).exists());
    let (_, samples) = left(&out.join(audible["file"].as_str().unwrap()));
    let expected = decoded(archive.path(), kind.input, &kind.file());
    assert_eq!(samples[..expected.len()], expected);
}

#[test]
fn no_codec_that_is_known_is_kept_too() {
    let kind = Kind { map: "EVS/16000", fmtp: "", payload_type: 110, ticks: 320, frames: 1, ..KINDS[0] };
    let archive = replay(&capture(&kind, &kind.payloads()), "");
    let found = row(archive.path(), "recordings");
    assert!(archive.path().join(found["caller_rtpdump"].as_str().unwrap()).is_file());
    assert_eq!(row(archive.path(), "calls")["undecodable"], "EVS/16000");
}

#[test]
fn nothing_is_kept_of_a_pause() {
    // Packets of 40 ms from 200 ms on: those of the second from the 20th to the 45th.
    let (kind, pause) = (&KINDS[4], [(1_010_000, "pause-siprec"), (2_010_000, "resume-siprec")]);
    let payloads = kind.payloads();
    let rule = "[[rule]]\nname = 'all'\naction = 'all'\npaused = ";
    for paused in ["silence", "cut"] {
        let capture = capture_with(kind, &payloads, &pause);
        let archive = replay(&capture, &format!("audio.keep_rtp = true\n{rule}'{paused}'\n"));
        let found = row(archive.path(), "recordings");
        let dump = fs::read(archive.path().join(found["caller_rtpdump"].as_str().unwrap())).unwrap();
        let is_there = |payload: &[u8]| dump.windows(payload.len()).any(|window| window == payload);
        for (payload, number) in payloads.iter().zip(0..) {
            let is_paused = (20..46).contains(&number);
            assert_eq!(is_there(payload), !is_paused, "{paused}: packet {number}");
        }
        if !has_ffmpeg() {
            continue;
        }
        // The decoder has not heard the pause either, so what follows it differs from the whole for a moment.
        let (_, samples) = left(&archive.path().join(found["file"].as_str().unwrap()));
        let whole = decoded(archive.path(), kind.input, &kind.file());
        assert_eq!(samples[..20 * 320], whole[..20 * 320], "{paused}");
        let quiet = samples[21 * 320..45 * 320].iter().filter(|sample| **sample != 0).count();
        let expected = if paused == "cut" {
            (whole.len() - 8000)..(whole.len() + 1000)
        } else {
            whole.len()..whole.len() + 1000
        };
        assert!(expected.contains(&samples.len()), "{paused}: {} samples", samples.len());
        assert_eq!(quiet == 0, paused == "silence", "{paused}: {quiet}");
    }
}

#[test]
fn noise_and_loss_are_silent_and_in_their_places() {
    if !has_ffmpeg() {
        return;
    }
    let kind = &KINDS[0];
    let mut payloads = kind.payloads();
    // A pause that is described as noise.
    payloads[70..80].iter_mut().for_each(|payload| payload.truncate(2));
    let archive = replay(&capture(kind, &payloads), "");
    let found = row(archive.path(), "recordings");
    let (_, samples) = left(&archive.path().join(found["file"].as_str().unwrap()));
    let quiet = |range: std::ops::Range<usize>| samples[range].iter().filter(|sample| **sample != 0).count();
    assert_eq!(quiet(70 * 160..80 * 160), 0);
    assert!(quiet(60 * 160..70 * 160) > 800 && quiet(80 * 160..90 * 160) > 800);
}

/// How loud it is, in pieces of 40 ms.
fn loudness(samples: &[i16]) -> Vec<f64> {
    let energy = |piece: &[i16]| piece.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>();
    samples.chunks_exact(320).map(|piece| (energy(piece) / 320.0).sqrt()).collect()
}

/// Pearson's coefficient.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |x: &dyn Fn(usize) -> f64, y: &dyn Fn(usize) -> f64| {
        (0..a.len().min(b.len())).map(|at| x(at) * y(at)).sum::<f64>()
    };
    let (off_a, off_b) = (|at: usize| a[at] - mean_a, |at: usize| b[at] - mean_b);
    product(&off_a, &off_b) / (product(&off_a, &off_a) * product(&off_b, &off_b)).sqrt()
}

#[test]
fn speech_is_heard_as_it_was_spoken() {
    if !has_ffmpeg() {
        return;
    }
    let archive = super::archive(&["g723"]);
    let found = row(archive.path(), "recordings");
    assert_eq!(found["codecs"], "PCMU/8000,G723/8000");
    let (_, samples) = left(&archive.path().join(found["file"].as_str().unwrap()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/audio/caller-8k.wav");
    let source: Vec<i16> =
        hound::WavReader::open(path).unwrap().into_samples::<i16>().map(Result::unwrap).collect();
    // The caller begins 5 ms after the callee, and the encoder looks 7.5 ms ahead.
    let begin = 40 + 60;
    let (heard, said) = (loudness(&samples[begin..72_000]), loudness(&source[..72_000 - begin]));
    let alike = correlation(&heard, &said);
    assert!(alike > 0.98, "{alike}");
}

#[test]
fn speex_of_any_band_and_several_frames_a_packet() {
    if !has_ffmpeg() {
        return;
    }
    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/audio/caller-16k.wav");
    for (map, rate, frames) in
        [("speex/8000", 8000, 1), ("speex/16000", 16_000, 2), ("speex/32000", 32_000, 1)]
    {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("speech.ogg");
        let mut encoder = Command::new("ffmpeg");
        encoder.args(["-nostdin", "-loglevel", "error", "-t", "4", "-i"]).arg(&speech);
        encoder.args([
            "-ar",
            &rate.to_string(),
            "-c:a",
            "libspeex",
            "-frames_per_packet",
            &frames.to_string(),
        ]);
        if !encoder.arg(&file).status().unwrap().success() {
            eprintln!("SKIPPED: this ffmpeg encodes no Speex");
            return;
        }
        let mut packets = ogg::PacketReader::new(fs::File::open(&file).unwrap());
        let mut payloads = Vec::new();
        while let Some(packet) = packets.read_packet().unwrap() {
            payloads.push(packet.data);
        }
        // Header and comment.
        payloads.drain(..2);
        let kind = Kind { map, fmtp: "", payload_type: 111, ticks: rate / 50, frames, ..KINDS[0] };
        let archive = replay(&capture(&kind, &payloads), "");
        let found = row(archive.path(), "recordings");
        assert_eq!((&found["codecs"], &found["sample_rate"]), (&map.into(), &rate.into()));
        let (_, samples) = left(&archive.path().join(found["file"].as_str().unwrap()));
        let expected = decoded(dir.path(), &[], &fs::read(&file).unwrap());
        let same = samples.iter().zip(&expected).filter(|(a, b)| a == b).count();
        assert!(same + rate as usize / 50 >= expected.len(), "{map}: {same} of {}", expected.len());
        assert!(expected.len() >= 4 * rate as usize - 2 * rate as usize / 50, "{map}: {}", expected.len());
    }
}

#[test]
fn hostile_bytes_harm_nobody() {
    if !has_ffmpeg() {
        return;
    }
    for kind in &KINDS {
        let mut noise = Noise(99);
        let payloads: Vec<Vec<u8>> = (0..PACKETS).map(|number| noise.bytes(number * 3 % 200)).collect();
        let archive = TempDir::new().unwrap();
        let input = archive.path().join("in.pcap");
        fs::write(&input, capture(kind, &payloads)).unwrap();
        let output = spantape(&["replay", text(&input), "--archive", text(archive.path())]);
        assert!(output.status.success(), "{}: {}", kind.map, stderr(&output));
        assert_eq!(row(archive.path(), "recordings")["end_reason"], "bye");
    }
}

/// A program in the place of the decoder, with something to read.
fn in_sandbox(program: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spantape"));
    command.args(["decode-sandbox", "--", program]).args(arguments);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap();
    let _ = child.stdin.take().unwrap().write_all(b"what came in");
    let output = child.wait_with_output().unwrap();
    (output.status.success(), stdout(&output))
}

#[test]
fn a_decoder_gets_at_nothing_but_its_pipes() {
    let dir = TempDir::new().unwrap();
    let (secret, new): (PathBuf, PathBuf) = (dir.path().join("secret"), dir.path().join("new"));
    fs::write(&secret, "hidden").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect =
        format!("exec 3<>/dev/tcp/127.0.0.1/{} && echo there", listener.local_addr().unwrap().port());
    // What it may do.
    assert_eq!(in_sandbox("/usr/bin/cat", &[]), (true, "what came in".to_owned()));
    // What the same programs could do without it, and cannot.
    let forbidden: [(&str, &[&str]); 6] = [
        ("/usr/bin/cat", &[text(&secret)]),
        ("/usr/bin/touch", &[text(&new)]),
        ("/usr/bin/bash", &["-c", &connect]),
        ("/usr/bin/bash", &["-c", "(echo there) && echo there"]),
        ("/usr/bin/bash", &["-c", "exec /usr/bin/cat"]),
        ("/usr/bin/bash", &["-c", "kill -0 1 && echo there"]),
    ];
    for (program, arguments) in forbidden {
        let (succeeded, said) = in_sandbox(program, arguments);
        assert!(!succeeded && said.is_empty(), "{program} {arguments:?}: {said}");
    }
    assert!(!new.exists());
    for (program, arguments) in &forbidden[..5] {
        let free = Command::new(program).args(*arguments).stdin(Stdio::null()).output().unwrap();
        assert!(free.status.success(), "{program} {arguments:?} does not work outside either");
    }
}
