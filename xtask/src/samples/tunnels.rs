//! Frames within frames: what a remote mirror, an access line or a mobile network's core shows.

use anyhow::{Context as _, Result};
use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder};

use crate::lab::capture::{Capture, Frame};

/// From the mirroring switch to the monitor.
const MACS: [[u8; 6]; 2] = [[2, 0, 192, 0, 2, 1], [2, 0, 192, 0, 2, 2]];
const ENDS: [[u8; 4]; 2] = [[192, 0, 2, 1], [192, 0, 2, 2]];
const TTL: u8 = 64;
const ETHERNET: usize = 14;
/// Of IP, to leave room for what stands before it.
const FRAGMENT: usize = 160;

const GRE: u8 = 47;
const IN_IP: u8 = 4;

/// How a frame is wrapped.
type Wrap = fn(&[u8], u32) -> Result<Vec<u8>>;

const WRAPS: [Wrap; 14] = [
    |frame, _| over_ip(GRE, &[&[0, 0, 0x88, 0xbe][..], frame].concat()),
    |frame, number| {
        let sequence = number.to_be_bytes();
        over_ip(GRE, &[&[0x10, 0, 0x88, 0xbe][..], &sequence, &[0x10, 7, 0, 1, 0, 0, 0, 0], frame].concat())
    },
    |frame, number| {
        let sequence = number.to_be_bytes();
        let header = [0x20, 7, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        over_ip(GRE, &[&[0x10, 0, 0x22, 0xeb][..], &sequence, &header, frame].concat())
    },
    |frame, _| over_ip(GRE, &[&[0x20, 0, 0x65, 0x58, 0, 0, 0, 7][..], frame].concat()),
    |frame, _| over_ip(GRE, &[&[0, 0, 8, 0][..], &frame[ETHERNET..]].concat()),
    |frame, _| over_udp(4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], frame].concat()),
    |frame, _| over_udp(6081, &[&[0, 0, 0x65, 0x58, 0, 0, 7, 0][..], frame].concat()),
    |frame, _| over_udp(37_008, &[&[1, 0, 0, 1, 1][..], frame].concat()),
    |frame, number| {
        let packet = &frame[ETHERNET..];
        let length = u16::try_from(packet.len()).context("a long packet")?.to_be_bytes();
        over_udp(2152, &[&[0x30, 255][..], &length, &number.to_be_bytes(), packet].concat())
    },
    |frame, _| {
        let ppp = [&[0xff, 0x03, 0x00, 0x21][..], &frame[ETHERNET..]].concat();
        over_udp(1701, &[&[0, 2, 0, 7, 0, 1][..], &ppp].concat())
    },
    |frame, _| over_ip(IN_IP, &frame[ETHERNET..]),
    |frame, _| {
        let packet = &frame[ETHERNET..];
        let length = u16::try_from(packet.len() + 2).context("a long packet")?.to_be_bytes();
        Ok([&frame[..12], &[0x88, 0x64, 0x11, 0, 0, 7], &length, &[0x00, 0x21], packet].concat())
    },
    |frame, _| Ok([&frame[..12], &[0x88, 0x47, 0, 1, 0x10, 64, 0, 2, 0x11, 64], &frame[ETHERNET..]].concat()),
    // A tunnel in a tunnel, behind a tag.
    |frame, number| {
        let inner = WRAPS[5](frame, number)?;
        let tagged = [&inner[..12], &[0x81, 0, 0, 42], &inner[12..]].concat();
        WRAPS[1](&tagged, number)
    },
];

/// Each frame in another kind of tunnel than the one before; each hundredth one's outer packet in fragments.
pub(super) fn wrap(capture: Capture) -> Result<Capture> {
    let mut wrapped = Capture::default();
    for (frame, number) in capture.frames.into_iter().zip(0_u32..) {
        let data = WRAPS[number as usize % WRAPS.len()](&frame.data, number)?;
        let is_ip = data.get(12..14) == Some(&[8, 0]);
        let pieces = if is_ip && number % 100 == 1 { fragments(&data, number)? } else { vec![data] };
        wrapped.frames.extend(pieces.into_iter().map(|data| Frame { at: frame.at, data }));
    }
    Ok(wrapped)
}

/// A copy of a frame in one of three kinds of tunnel: ERSPAN, VXLAN, GTP-U.
pub(super) fn wrap_copy(frame: &[u8], number: u32) -> Result<Vec<u8>> {
    WRAPS[[1, 5, 8][number as usize % 3]](frame, number)
}

fn over_ip(protocol: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(MACS[0], MACS[1]).ipv4(ENDS[0], ENDS[1], TTL);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, protocol.into(), payload).context("build a frame")?;
    Ok(frame)
}

fn over_udp(port: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(MACS[0], MACS[1]).ipv4(ENDS[0], ENDS[1], TTL).udp(50_000, port);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).context("build a frame")?;
    Ok(frame)
}

/// Of an Ethernet frame with IPv4.
fn fragments(frame: &[u8], number: u32) -> Result<Vec<Vec<u8>>> {
    let (header, payload) = Ipv4Header::from_slice(&frame[ETHERNET..]).context("an IPv4 header")?;
    let mut pieces = Vec::new();
    for (index, piece) in payload.chunks(FRAGMENT).enumerate() {
        let mut header = header.clone();
        header.identification = number as u16;
        header.more_fragments = (index + 1) * FRAGMENT < payload.len();
        header.fragment_offset = IpFragOffset::try_new((index * FRAGMENT / 8) as u16)?;
        header.set_payload_len(piece.len())?;
        header.header_checksum = header.calc_header_checksum();
        let mut data = frame[..ETHERNET].to_vec();
        header.write(&mut data).context("write a header")?;
        data.extend(piece);
        pieces.push(data);
    }
    Ok(pieces)
}
