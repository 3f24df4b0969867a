//! Streams that are kept undecoded, as rtptools and Wireshark read and write them.
//!
//! ```text
//! #!rtpplay1.0 192.0.2.10/4002            where they were received, and a line feed
//! offset  size
//!      0     8  start: seconds and microseconds
//!      8     8  sender: IPv4 address (0 of IPv6), port, nothing
//! then for each packet
//!      0     2  length of this record, itself included
//!      2     2  length of the RTP packet; 0 for RTCP
//!      4     4  when it came: milliseconds from the start
//!      8        the packet
//! ```
//!
//! All numbers are in network order. Before the first packet of a payload type stands an RTCP packet of type APP
//! named `SDP ` (RFC 3550 section 6.7) whose text, a session description, says what that type stands for: what
//! is needed to decode the file is in it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use spantape_core::codec::{Codec, CodecKind};
use spantape_core::sdp::{self, Media};
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};

/// Bytes of a file that is read: some hours of any voice codec.
pub const MAX_FILE: u64 = 512 << 20;

/// What stands at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the packets were received.
    pub destination: SocketAddr,
    /// Who sent them; an IPv6 address is not kept.
    pub source: SocketAddr,
    /// The moment that offsets are counted from.
    pub start: Timestamp,
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Milliseconds from the start.
    pub offset: u32,
    /// RTCP, not RTP.
    pub is_rtcp: bool,
    /// The packet.
    pub packet: &'a [u8],
}

/// What an RTCP packet named `SDP ` says of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The stream.
    pub ssrc: u32,
    /// What its payload types stand for, and whether it is encrypted.
    pub media: Media,
}

/// Writes what a file begins with.
pub fn write_header(out: &mut impl Write, header: &Header) -> io::Result<()> {
    writeln!(out, "{MAGIC}{}/{}", header.destination.ip(), header.destination.port())?;
    let micros = header.start.0.div_euclid(1000).max(0);
    let address = match header.source.ip() {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(_) => 0,
    };
    out.write_all(&((micros / 1_000_000) as u32).to_be_bytes())?;
    out.write_all(&((micros % 1_000_000) as u32).to_be_bytes())?;
    out.write_all(&address.to_be_bytes())?;
    out.write_all(&header.source.port().to_be_bytes())?;
    out.write_all(&[0; 2])
}

/// Writes a packet. One that is too long for the format is left out.
pub fn write_record(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let Ok(length) = u16::try_from(record.packet.len() + RECORD) else { return Ok(()) };
    let packet = if record.is_rtcp { 0 } else { length - RECORD as u16 };
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&packet.to_be_bytes())?;
    out.write_all(&record.offset.to_be_bytes())?;
    out.write_all(record.packet)
}

/// The RTCP packet that says what a payload type of a stream stands for.
pub fn describe(
    ssrc: u32,
    payload_type: u8,
    codec: &Codec,
    secure: bool,
    destination: SocketAddr,
) -> Vec<u8> {
    let profile = if secure { "RTP/SAVP" } else { "RTP/AVP" };
    let family = if destination.is_ipv4() { "IP4" } else { "IP6" };
    let (address, port) = (destination.ip(), destination.port());
    let mut text = format!("v=0\r\nc=IN {family} {address}\r\nm=audio {port} {profile} {payload_type}\r\n");
    // Of what nobody has announced not even the name is known.
    if codec.clock != 0 {
        let _ = write!(text, "a=rtpmap:{payload_type} {codec}\r\n");
    }
    if let Some(parameters) = parameters(codec.kind) {
        let _ = write!(text, "a=fmtp:{payload_type} {parameters}\r\n");
    }
    app(ssrc, DESCRIPTION, &text)
}

/// The RTCP packet named `CUT ` that says which times the recording beside leaves out: nanoseconds from where the
/// offsets are counted from, in order.
pub fn tell_cuts(cuts: impl Iterator<Item = Range<i64>>) -> Vec<u8> {
    let text: Vec<String> = cuts.map(|cut| format!("{}-{}\r\n", cut.start, cut.end)).collect();
    app(0, CUTS, &text.concat())
}

/// Reads an RTCP packet named `CUT `; `None` when it is another.
pub fn cuts(packet: &[u8]) -> Option<Vec<Range<i64>>> {
    let (_, text) = read_app(packet, CUTS)?;
    let cut = |line: &str| {
        let (from, to) = line.split_once('-')?;
        Some(from.parse().ok()?..to.parse().ok()?)
    };
    Some(text.lines().filter_map(cut).collect())
}

/// Reads an RTCP packet named `SDP `; `None` when it is another.
pub fn description(packet: &[u8]) -> Option<Description> {
    let (ssrc, text) = read_app(packet, DESCRIPTION)?;
    Some(Description { ssrc, media: sdp::parse(text.as_bytes()).pop()? })
}

/// Reads what a file begins with, and returns the rest; `None` when it is none of these files.
pub fn read_header(file: &[u8]) -> Option<(Header, &[u8])> {
    let end = file.iter().take(MAX_LINE).position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&file[..end]).ok()?.strip_prefix(MAGIC)?;
    let (address, port) = line.split_once('/')?;
    let destination = SocketAddr::new(address.parse().ok()?, port.trim().parse().ok()?);
    let (head, rest) = file[end + 1..].split_at_checked(16)?;
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let start = i64::from(number(0)) * SECOND + i64::from(number(4)) * 1000;
    let source =
        SocketAddr::new(IpAddr::from(number(8).to_be_bytes()), u16::from_be_bytes([head[12], head[13]]));
    Some((Header { destination, source, start: Timestamp(start) }, rest))
}

/// The packets that follow the header, as far as they are whole.
pub fn records(mut rest: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (head, body) = rest.split_at_checked(RECORD)?;
        let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let (packet, after) = body.split_at_checked(length.checked_sub(RECORD)?)?;
        rest = after;
        let is_rtcp = head[2..4] == [0, 0];
        let offset = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        Some(Record { offset, is_rtcp, packet })
    })
}

/// Nanoseconds as an offset; what came before the start came at it.
pub fn offset(nanoseconds: i64) -> u32 {
    u32::try_from((nanoseconds / MILLISECOND).max(0)).unwrap_or(u32::MAX)
}

const MAGIC: &str = "#!rtpplay1.0 ";
/// Of the first line, and its end.
const MAX_LINE: usize = 128;
/// What stands before each packet.
const RECORD: usize = 8;
/// RTCP packet type (RFC 3550 section 12.1).
const APP: u8 = 204;
const DESCRIPTION: [u8; 4] = *b"SDP ";
const CUTS: [u8; 4] = *b"CUT ";

fn app(ssrc: u32, name: [u8; 4], text: &str) -> Vec<u8> {
    let mut packet = vec![0x80, APP, 0, 0];
    packet.extend(ssrc.to_be_bytes());
    packet.extend(name);
    packet.extend(text.as_bytes());
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = u16::try_from(packet.len() / 4 - 1).unwrap_or(u16::MAX);
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}

fn read_app(packet: &[u8], name: [u8; 4]) -> Option<(u32, &str)> {
    let (head, text) = packet.split_at_checked(12)?;
    if head[1] != APP || head[8..] != name {
        return None;
    }
    let ssrc = u32::from_be_bytes(head[4..8].try_into().ok()?);
    Some((ssrc, std::str::from_utf8(text).ok()?.trim_end_matches('\0')))
}

/// What `a=fmtp` has to say of a codec for it to be decoded.
fn parameters(kind: CodecKind) -> Option<&'static str> {
    match kind {
        CodecKind::Ilbc { mode: 20 } => Some("mode=20"),
        CodecKind::Ilbc { .. } => Some("mode=30"),
        CodecKind::Amr { octet_aligned: true } | CodecKind::AmrWb { octet_aligned: true } => {
            Some("octet-align=1")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            destination: ([192, 0, 2, 10], 4002).into(),
            source: ([192, 0, 2, 9], 4000).into(),
            start: Timestamp(1_700_000_000 * SECOND + 123_456_000),
        }
    }

    #[test]
    fn as_rtptools_have_it() {
        let mut file = Vec::new();
        write_header(&mut file, &header()).unwrap();
        let packet = [0x80, 18, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, 1, 2, 3];
        write_record(&mut file, &Record { offset: 258, is_rtcp: false, packet: &packet }).unwrap();
        let mut expected = b"#!rtpplay1.0 192.0.2.10/4002\n".to_vec();
        expected.extend([0x65, 0x53, 0xf1, 0x00, 0, 1, 0xe2, 0x40, 192, 0, 2, 9, 0x0f, 0xa0, 0, 0]);
        expected.extend([0, 23, 0, 15, 0, 0, 1, 2]);
        expected.extend(packet);
        assert_eq!(file, expected);
        let (read, rest) = read_header(&file).unwrap();
        assert_eq!(read, header());
        let found: Vec<_> = records(rest).collect();
        assert_eq!(found, [Record { offset: 258, is_rtcp: false, packet: &packet }]);
    }

    #[test]
    fn a_codec_is_what_it_was() {
        for (name, clock, fmtp) in [
            ("G729", 8000, ""),
            ("iLBC", 8000, "mode=20"),
            ("iLBC", 8000, "mode=30"),
            ("AMR", 8000, "octet-align=1"),
            ("AMR-WB", 16_000, ""),
            ("speex", 32_000, ""),
            ("BV32", 16_000, ""),
        ] {
            let codec = Codec::from_rtpmap(name, clock, 1).with_parameters(fmtp);
            let packet = describe(0xdead_beef, 97, &codec, false, header().destination);
            assert!(packet.len().is_multiple_of(4));
            let found = description(&packet).unwrap();
            assert_eq!((found.ssrc, found.media.secure), (0xdead_beef, false));
            assert_eq!(found.media.codec(97), Some(&codec), "{name} {fmtp}");
        }
        let unknown = Codec::from_static(99);
        let packet = describe(1, 99, &unknown, true, ([0x2001, 0, 0, 0, 0, 0, 0, 1], 9).into());
        let found = description(&packet).unwrap();
        assert_eq!((found.media.codec(99), found.media.secure), (Some(&unknown), true));
        let told = [5..70, 100..i64::MAX];
        assert_eq!(cuts(&tell_cuts(told.iter().cloned())).as_deref(), Some(&told[..]));
        assert_eq!((cuts(&packet), description(&tell_cuts(told.into_iter()))), (None, None));
    }

    #[test]
    fn what_is_broken_is_read_as_far_as_it_goes() {
        let mut file = Vec::new();
        write_header(&mut file, &header()).unwrap();
        for packet in [&[1u8, 2][..], &[3]] {
            write_record(&mut file, &Record { offset: 0, is_rtcp: true, packet }).unwrap();
        }
        let (_, rest) = read_header(&file).unwrap();
        assert_eq!(records(&rest[..rest.len() - 1]).count(), 1);
        assert_eq!(records(&[0, 7, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(read_header(b"#!rtpplay1.0 x/1\n0123456789abcdef"), None);
        assert_eq!(read_header(&file[..file.len().min(40)]), None);
        assert_eq!(read_header(&[b'a'; 1000]), None);
        assert_eq!(description(&[0x80, APP, 0, 0]), None);
        let mut too_long = Vec::new();
        write_record(&mut too_long, &Record { offset: 0, is_rtcp: false, packet: &[0; 1 << 16] }).unwrap();
        assert!(too_long.is_empty());
    }
}
