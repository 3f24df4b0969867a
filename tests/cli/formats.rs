//! One call in every form of capture file gives the same recording.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{sample, spantape, stderr, text};

/// A frame with its time in microseconds.
struct Frame<'a> {
    micros: u64,
    bytes: &'a [u8],
}

/// Takes a little-endian pcap with microseconds apart.
fn frames(pcap: &[u8]) -> Vec<Frame<'_>> {
    let word = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 0xa1b2_c3d4);
    let (mut at, mut frames) = (24, Vec::new());
    while at < pcap.len() {
        let length = word(at + 8) as usize;
        let micros = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
        frames.push(Frame { micros, bytes: &pcap[at + 16..at + 16 + length] });
        at += 16 + length;
    }
    frames
}

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn word(self, value: u32) -> [u8; 4] {
        match self {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }

    fn half(self, value: u16) -> [u8; 2] {
        match self {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        }
    }
}

fn pcap(
    frames: &[Frame<'_>],
    order: Order,
    nanoseconds: bool,
    link: u32,
    head: impl Fn(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut out = order.word(magic).to_vec();
    out.extend(order.half(2));
    out.extend(order.half(4));
    for word in [0, 0, 262_144, link] {
        out.extend(order.word(word));
    }
    for frame in frames {
        let bytes = head(frame.bytes);
        let fraction = (frame.micros % 1_000_000) as u32 * if nanoseconds { 1000 } else { 1 };
        for word in [(frame.micros / 1_000_000) as u32, fraction, bytes.len() as u32, bytes.len() as u32] {
            out.extend(order.word(word));
        }
        out.extend(bytes);
    }
    out
}

/// Two interfaces: Ethernet in microseconds and raw IP in nanoseconds, with frames on either in turn.
fn pcapng(frames: &[Frame<'_>], order: Order) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = order.word(body.len() as u32 + 12);
        [&order.word(kind)[..], &length, &body, &length].concat()
    };
    let section = [&order.word(0x1a2b_3c4d)[..], &order.half(1), &order.half(0), &[0xff; 8]].concat();
    let interface = |link: u16, resolution: u8| {
        let option = [&order.half(9)[..], &order.half(1), &[resolution, 0, 0, 0], &[0; 4]].concat();
        [&order.half(link)[..], &[0, 0], &order.word(0), &option].concat()
    };
    let mut out = block(0x0a0d_0d0a, &section);
    out.extend(block(1, &interface(1, 6)));
    out.extend(block(1, &interface(101, 9)));
    for (index, frame) in frames.iter().enumerate() {
        let (id, ticks, bytes) = match index % 2 {
            0 => (0, frame.micros, frame.bytes),
            _ => (1, frame.micros * 1000, &frame.bytes[14..]),
        };
        let mut body = order.word(id).to_vec();
        for word in [(ticks >> 32) as u32, ticks as u32, bytes.len() as u32, bytes.len() as u32] {
            body.extend(order.word(word));
        }
        body.extend(bytes);
        out.extend(block(6, &body));
    }
    out
}

/// A pcap of the frames that do not go to or come from port 5060.
pub(crate) fn without_sip(input: &[u8]) -> Vec<u8> {
    let is_sip =
        |frame: &Frame<'_>| [34, 36].iter().any(|&at| frame.bytes.get(at..at + 2) == Some(&[0x13, 0xc4][..]));
    let kept: Vec<Frame<'_>> = frames(input).into_iter().filter(|frame| !is_sip(frame)).collect();
    pcap(&kept, Order::Little, false, 1, <[u8]>::to_vec)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The recording's id and the samples in its file.
fn recording(archive: &Path) -> (String, Vec<i16>) {
    let output = spantape(&["search", "--format", "json", "--archive", text(archive)]);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.len(), 1);
    let file = archive.join(rows[0]["file"].as_str().unwrap());
    let samples = hound::WavReader::open(file).unwrap().samples::<i16>().map(Result::unwrap).collect();
    (rows[0]["recording_id"].as_str().unwrap().to_owned(), samples)
}

fn replay(files: &[&Path]) -> (String, Vec<i16>) {
    let archive = TempDir::new().unwrap();
    let mut arguments = vec!["replay", "--archive", text(archive.path())];
    arguments.extend(files.iter().map(|path| text(path)));
    let output = spantape(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    recording(archive.path())
}

#[test]
fn every_form_gives_the_same_recording() {
    let input = std::fs::read(sample("plain-pcmu")).unwrap();
    let frames = frames(&input);
    let plain = |bytes: &[u8]| bytes.to_vec();
    let raw = |bytes: &[u8]| bytes[14..].to_vec();
    let cooked = |bytes: &[u8]| [&[0; 14][..], &[0x08, 0], &bytes[14..]].concat();
    let cooked2 = |bytes: &[u8]| [&[0x08, 0][..], &[0; 18], &bytes[14..]].concat();
    let loopback = |bytes: &[u8]| [&[2, 0, 0, 0][..], &bytes[14..]].concat();
    let ppp = |bytes: &[u8]| [&[0xff, 0x03, 0x00, 0x21][..], &bytes[14..]].concat();
    let session = |bytes: &[u8]| [&[0x11, 0, 0, 7, 0, 0, 0x00, 0x21][..], &bytes[14..]].concat();
    let cisco = |bytes: &[u8]| [&[0x0f, 0, 0x08, 0][..], &bytes[14..]].concat();
    // A record with a colour and an extension header, as Endace's cards pad it.
    let erf = |bytes: &[u8]| {
        let mut record = [&[0; 8][..], &[0x80 | 11, 4, 0, 0, 0, 0, 0, 0], &[3; 8], &[0, 0], bytes].concat();
        record.resize(record.len().next_multiple_of(8), 0);
        record
    };
    let pktap = |bytes: &[u8]| [&[12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0][..], bytes].concat();
    let forms: [(&str, Vec<u8>); 18] = [
        ("le-us.pcap", pcap(&frames, Order::Little, false, 1, plain)),
        ("be-us.pcap", pcap(&frames, Order::Big, false, 1, plain)),
        ("le-ns.pcap", pcap(&frames, Order::Little, true, 1, plain)),
        ("be-ns.pcap", pcap(&frames, Order::Big, true, 1, plain)),
        ("sll.pcap", pcap(&frames, Order::Little, false, 113, cooked)),
        ("sll2.pcap", pcap(&frames, Order::Little, false, 276, cooked2)),
        ("raw.pcap", pcap(&frames, Order::Little, false, 101, raw)),
        ("null.pcap", pcap(&frames, Order::Little, false, 0, loopback)),
        ("loop.pcap", pcap(&frames, Order::Big, false, 108, loopback)),
        ("ppp.pcap", pcap(&frames, Order::Little, false, 9, ppp)),
        ("pppoe.pcap", pcap(&frames, Order::Little, false, 51, session)),
        ("cisco.pcap", pcap(&frames, Order::Little, false, 104, cisco)),
        ("erf.pcap", pcap(&frames, Order::Big, true, 197, erf)),
        ("pktap.pcap", pcap(&frames, Order::Little, false, 258, pktap)),
        ("le.pcapng", pcapng(&frames, Order::Little)),
        ("be.pcapng", pcapng(&frames, Order::Big)),
        ("packed.pcap.gz", gzip(&input)),
        ("packed.pcapng.zst", zstd::encode_all(&pcapng(&frames, Order::Little)[..], 1).unwrap()),
    ];
    let expected = replay(&[&sample("plain-pcmu")]);
    let folder = TempDir::new().unwrap();
    for (name, bytes) in forms {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert!(replay(&[&path]) == expected, "{name}");
    }
}

/// The same frame with twelve bytes of IPv4 options, and padding behind the packet.
fn with_options(frame: &[u8]) -> Vec<u8> {
    let (link, packet) = frame.split_at(14);
    let length = u16::from_be_bytes([packet[2], packet[3]]);
    let end = usize::from(length);
    let length = (length + 12).to_be_bytes();
    [link, &[0x48, packet[1]], &length, &packet[4..20], &[1; 12], &packet[20..end], &[0; 6]].concat()
}

/// A UDP datagram over IPv6 in fragments of 256 bytes behind a hop-by-hop header, the last one first and the
/// first one twice.
fn fragmented(frame: &[u8], identification: u32) -> Vec<Vec<u8>> {
    let (header, datagram) = (&frame[14..54], &frame[54..]);
    let pieces: Vec<&[u8]> = datagram.chunks(256).collect();
    let fragment = |(index, piece): (usize, &&[u8])| {
        let more = u16::from(index + 1 < pieces.len());
        let offset = ((index as u16 * 256) | more).to_be_bytes();
        let extensions =
            [&[44, 0, 1, 4, 0, 0, 0, 0, 17, 0][..], &offset, &identification.to_be_bytes()].concat();
        let length = (extensions.len() as u16 + piece.len() as u16).to_be_bytes();
        [&frame[..14], &header[..4], &length, &[0], &header[7..], &extensions, piece].concat()
    };
    let mut fragments: Vec<Vec<u8>> = pieces.iter().enumerate().map(fragment).rev().collect();
    fragments.extend(fragments.last().cloned());
    fragments
}

#[test]
fn ip_options_and_fragments_change_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("options.pcap");
    let input = std::fs::read(sample("plain-pcmu")).unwrap();
    std::fs::write(&path, pcap(&frames(&input), Order::Little, false, 1, with_options)).unwrap();
    assert!(replay(&[&path]) == replay(&[&sample("plain-pcmu")]));

    let input = std::fs::read(sample("ipv6")).unwrap();
    let is_sip = |bytes: &[u8]| bytes[20] == 17 && bytes.len() > 300 && bytes[62].is_ascii_alphabetic();
    let mut all = Vec::new();
    for (index, frame) in frames(&input).iter().enumerate() {
        let parts = if is_sip(frame.bytes) {
            fragmented(frame.bytes, index as u32)
        } else {
            vec![frame.bytes.to_vec()]
        };
        all.extend(parts.into_iter().map(|bytes| (frame.micros, bytes)));
    }
    assert!(all.len() > 1110, "nothing was fragmented");
    let all: Vec<Frame<'_>> = all.iter().map(|(micros, bytes)| Frame { micros: *micros, bytes }).collect();
    std::fs::write(&path, pcap(&all, Order::Little, false, 1, <[u8]>::to_vec)).unwrap();
    assert!(replay(&[&path]) == replay(&[&sample("ipv6")]));
}

#[test]
fn several_files_are_merged_by_time() {
    let input = std::fs::read(sample("plain-pcmu")).unwrap();
    let (mut odd, mut even) = (Vec::new(), Vec::new());
    for (index, frame) in frames(&input).into_iter().enumerate() {
        if index % 2 == 0 { even.push(frame) } else { odd.push(frame) }
    }
    let folder = TempDir::new().unwrap();
    let (first, second) = (folder.path().join("odd.pcap"), folder.path().join("even.pcap.gz"));
    std::fs::write(&first, pcap(&odd, Order::Little, false, 1, <[u8]>::to_vec)).unwrap();
    std::fs::write(&second, gzip(&pcap(&even, Order::Big, true, 1, <[u8]>::to_vec))).unwrap();
    assert!(replay(&[&first, &second]) == replay(&[&sample("plain-pcmu")]));
}

#[test]
fn standard_input() {
    let archive = TempDir::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_spantape"))
        .args(["replay", "-", "--archive", text(archive.path())])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // In small pieces, as a capture in progress comes.
    for piece in std::fs::read(sample("plain-pcmu")).unwrap().chunks(777) {
        pipe.write_all(piece).unwrap();
    }
    drop(pipe);
    assert!(child.wait().unwrap().success());
    assert!(recording(archive.path()) == replay(&[&sample("plain-pcmu")]));
}

#[test]
fn a_file_cut_off_is_recorded_up_to_there() {
    let input = std::fs::read(sample("plain-pcmu")).unwrap();
    let folder = TempDir::new().unwrap();
    for (name, bytes) in [
        ("cut.pcap", input[..input.len() / 2 + 7].to_vec()),
        ("cut.pcap.gz", gzip(&input)[..60_000].to_vec()),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let archive = folder.path().join(format!("archive of {name}"));
        let output = spantape(&["replay", text(&path), "--archive", text(&archive)]);
        assert_eq!(output.status.code(), Some(0));
        let said = stderr(&output);
        assert!(said.contains("warning") && said.contains(name) && said.contains("cut off"), "{said}");
        let (_, samples) = recording(&archive);
        assert!(samples.len() > 8000, "{name}: {}", samples.len());
    }
}

#[test]
fn a_link_type_that_is_not_known_is_named() {
    let input = std::fs::read(sample("plain-pcmu")).unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("wireless.pcap");
    std::fs::write(&path, pcap(&frames(&input), Order::Little, false, 127, <[u8]>::to_vec)).unwrap();
    let output = spantape(&[
        "replay",
        text(&path),
        text(&sample("g722")),
        "--archive",
        text(&folder.path().join("a")),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("wireless.pcap") && said.contains("127") && said.contains("802.11"), "{said}");
    assert!(said.contains("wired network") && said.contains("airdecap-ng"), "{said}");
    assert_eq!(recording(&folder.path().join("a")).1.len() / 32_000, 11);
}
