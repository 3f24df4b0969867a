//! What carries SIP beside UDP: WebSockets, SCTP, and copies in HEP; and frames of which a tunnel shows copies.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use etherparse::PacketBuilder;
use flate2::{Compress, Compression, FlushCompress};

use super::script::host;
use super::tunnels;
use crate::lab::capture::{Capture, Frame};
use crate::lab::wire::{Datagram, Endpoint};

const TTL: u8 = 64;
const SCTP: u8 = 132;

/// Ports of the WebSocket's client and server.
const CLIENT_PORT: u16 = 40_000;
const SERVER_PORT: u16 = 8080;
/// Any will do, as long as the same bytes come out.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x00, 0x7e];

/// The phones' SIP in a WebSocket that the caller opens: masked and in several frames from there, packed the other way.
pub(super) fn web_socket(capture: Capture) -> Result<Capture> {
    let mut socket = None;
    let mut rewritten = Capture::default();
    for frame in capture.frames {
        let Some((datagram, text)) = message(&frame.data) else {
            rewritten.frames.push(frame);
            continue;
        };
        let text = text.replace("SIP/2.0/UDP", "SIP/2.0/WS").into_bytes();
        let (from, to, at) = (datagram.from, datagram.to, frame.at);
        let socket = match &mut socket {
            Some(socket) => socket,
            none => none.insert(Socket::open(&mut rewritten, at, from, to)?),
        };
        let is_client = from.ip == socket.ends[0].ip;
        let frames = if is_client { in_pieces(&text) } else { socket.pack(&text)? };
        rewritten.frames.push(socket.segment(at, usize::from(!is_client), "", &frames)?);
    }
    Ok(rewritten)
}

/// The phones' SIP over SCTP: the INVITE in three chunks, of which the last comes twice and before the second; the
/// answer in two chunks of I-DATA; two messages in one packet at the end.
pub(super) fn sctp(capture: Capture) -> Result<Capture> {
    let mut rewritten = Capture::default();
    let mut waiting: Option<Vec<u8>> = None;
    for (frame, number) in capture.frames.into_iter().zip(0_u32..) {
        let Some((datagram, text)) = message(&frame.data) else {
            rewritten.frames.push(frame);
            continue;
        };
        let is_answer = text.starts_with("SIP/2.0 200") && text.contains(" INVITE\r\n");
        let text = text.replace("SIP/2.0/UDP", "SIP/2.0/SCTP").into_bytes();
        let tsn = number * 4;
        let packets = if text.starts_with(b"INVITE") {
            let third = text.len() / 3;
            let chunk = |flags, index: usize, piece: &[u8]| data(flags, tsn + index as u32, piece);
            let last = chunk(1, 2, &text[2 * third..]);
            vec![chunk(2, 0, &text[..third]), last.clone(), chunk(0, 1, &text[third..2 * third]), last]
        } else if is_answer {
            let (first, second) = text.split_at(text.len() / 2);
            // A SACK before them.
            let sack = [&[3, 0, 0, 16][..], &[0; 12]].concat();
            vec![[sack, i_data(2, tsn, 0, first), i_data(1, tsn + 1, 1, second)].concat()]
        } else {
            vec![data(3, tsn, &text)]
        };
        // The ACK goes together with the BYE that follows, as if the mirror had been slow.
        if text.starts_with(b"ACK") {
            waiting = Some(packets.concat());
            continue;
        }
        let ahead = if text.starts_with(b"BYE") { waiting.take().unwrap_or_default() } else { Vec::new() };
        for chunks in packets {
            let head = [
                &datagram.from.port.to_be_bytes()[..],
                &datagram.to.port.to_be_bytes(),
                &[0, 0, 0, 7, 0, 0, 0, 0],
                &ahead,
                &chunks,
            ];
            let data = over_ip(datagram.from, datagram.to, SCTP, &head.concat())?;
            rewritten.frames.push(Frame { at: frame.at, data });
        }
    }
    Ok(rewritten)
}

/// The phones' SIP is not to be seen, but a server copies it to a collector: in HEP 3, 2 and 1 in turn.
pub(super) fn hep(capture: Capture) -> Result<Capture> {
    let (agent, collector) = (host(1).at(50_000), host(50).at(9060));
    let mut rewritten = Capture::default();
    let mut number = 0;
    for frame in capture.frames {
        let Some((datagram, text)) = message(&frame.data) else {
            rewritten.frames.push(frame);
            continue;
        };
        let payload = copy(3 - number % 3, &datagram, text.as_bytes())?;
        number += 1;
        let data = Datagram { from: agent, to: collector, payload: &payload }.build()?;
        rewritten.frames.push(Frame { at: frame.at, data });
    }
    Ok(rewritten)
}

/// Each frame as it is and once more in a tunnel, of three kinds in turn; now this is seen first and now that.
pub(super) fn copies(capture: Capture) -> Result<Capture> {
    let mut doubled = Capture::default();
    for (frame, number) in capture.frames.into_iter().zip(0_u32..) {
        let copy = Frame { at: frame.at, data: tunnels::wrap_copy(&frame.data, number)? };
        doubled.frames.extend(if number % 2 == 0 { [frame, copy] } else { [copy, frame] });
    }
    Ok(doubled)
}

/// A frame's datagram and its text, if it is SIP.
fn message(frame: &[u8]) -> Option<(Datagram<'_>, &str)> {
    let datagram = Datagram::parse(frame)?;
    let text = datagram.sip()?;
    Some((datagram, text))
}

/// A TCP connection that has become a WebSocket.
struct Socket {
    /// Client and server.
    ends: [Endpoint; 2],
    /// Their next sequence numbers.
    next: [u32; 2],
    compress: Compress,
}

impl Socket {
    /// The handshakes, in the 40 ms before `at`.
    fn open(capture: &mut Capture, at: Duration, client: Endpoint, server: Endpoint) -> Result<Self> {
        let ends = [client.at(CLIENT_PORT), server.at(SERVER_PORT)];
        let mut socket =
            Self { ends, next: [1000, 2000], compress: Compress::new(Compression::default(), false) };
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {}:{SERVER_PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            server.ip
        );
        let response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sip\r\n\
                        Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        let steps = [(0, "s", ""), (1, "s", ""), (0, "", ""), (0, "", request.as_str()), (1, "", response)];
        for ((side, flags, text), early) in steps.into_iter().zip([40_u64, 38, 36, 34, 20]) {
            let at = at - Duration::from_millis(early);
            capture.frames.push(socket.segment(at, side, flags, text.as_bytes())?);
        }
        Ok(socket)
    }

    /// `flags`: `s` for SYN.
    fn segment(&mut self, at: Duration, side: usize, flags: &str, payload: &[u8]) -> Result<Frame> {
        let (from, to) = (self.ends[side], self.ends[1 - side]);
        let [from_ip, to_ip] = v4(from, to)?;
        let is_syn = flags == "s";
        let mut builder = PacketBuilder::ethernet2(from.mac, to.mac).ipv4(from_ip, to_ip, TTL).tcp(
            from.port,
            to.port,
            self.next[side],
            65_535,
        );
        if is_syn {
            builder = builder.syn();
        }
        if !is_syn || side == 1 {
            builder = builder.ack(self.next[1 - side]);
        }
        let mut data = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut data, payload).context("build a segment")?;
        self.next[side] += payload.len() as u32 + u32::from(is_syn);
        Ok(Frame { at, data })
    }

    /// A frame whose message refers to those before it (RFC 7692).
    fn pack(&mut self, text: &[u8]) -> Result<Vec<u8>> {
        let mut packed = Vec::with_capacity(text.len() + 1024);
        self.compress.compress_vec(text, &mut packed, FlushCompress::Sync).context("pack a message")?;
        packed.truncate(packed.len() - 4);
        Ok(web_socket_frame(0xc1, None, &packed))
    }
}

/// A message in two masked frames with a ping between them.
fn in_pieces(text: &[u8]) -> Vec<u8> {
    let (first, second) = text.split_at(text.len() / 3);
    let frames = [(0x01, first), (0x89, b"ping"), (0x80, second)];
    frames.into_iter().flat_map(|(kind, data)| web_socket_frame(kind, Some(MASK), data)).collect()
}

fn web_socket_frame(first: u8, mask: Option<[u8; 4]>, data: &[u8]) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = match data.len() {
        short @ ..126 => vec![first, bit | short as u8],
        long => [&[first, bit | 126][..], &(long as u16).to_be_bytes()].concat(),
    };
    frame.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    frame.extend(data.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A chunk of stream 0, without order.
fn data(flags: u8, tsn: u32, piece: &[u8]) -> Vec<u8> {
    const UNORDERED: u8 = 4;
    chunk(0, flags | UNORDERED, &[&tsn.to_be_bytes()[..], &[0; 8]].concat(), piece)
}

fn i_data(flags: u8, tsn: u32, index: u32, piece: &[u8]) -> Vec<u8> {
    chunk(64, flags, &[&tsn.to_be_bytes()[..], &[0; 8], &index.to_be_bytes()].concat(), piece)
}

fn chunk(kind: u8, flags: u8, head: &[u8], piece: &[u8]) -> Vec<u8> {
    let length = (4 + head.len() + piece.len()) as u16;
    let mut chunk = [&[kind, flags][..], &length.to_be_bytes(), head, piece].concat();
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

fn over_ip(from: Endpoint, to: Endpoint, protocol: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let [from_ip, to_ip] = v4(from, to)?;
    let builder = PacketBuilder::ethernet2(from.mac, to.mac).ipv4(from_ip, to_ip, TTL);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, protocol.into(), payload).context("build a frame")?;
    Ok(frame)
}

/// A copy in HEP.
fn copy(version: u8, datagram: &Datagram<'_>, text: &[u8]) -> Result<Vec<u8>> {
    let (from, to) = (datagram.from, datagram.to);
    let [from_ip, to_ip] = v4(from, to)?;
    let ports = [from.port.to_be_bytes(), to.port.to_be_bytes()].concat();
    if version < 3 {
        let header = [&[version, 16, 2, 17][..], &ports, &from_ip, &to_ip].concat();
        let time: &[u8] = if version == 2 { &[0; 12] } else { &[] };
        return Ok([&header, time, text].concat());
    }
    let chunk = |kind: u16, value: &[u8]| {
        [&[0, 0][..], &kind.to_be_bytes(), &(value.len() as u16 + 6).to_be_bytes(), value].concat()
    };
    let chunks = [
        chunk(1, &[2]),
        chunk(2, &[17]),
        chunk(3, &from_ip),
        chunk(4, &to_ip),
        chunk(7, &ports[..2]),
        chunk(8, &ports[2..]),
        // Seconds and microseconds of an agent whose clock is wrong.
        chunk(9, &[0; 4]),
        chunk(10, &[0; 4]),
        chunk(11, &[1]),
        chunk(12, &[0, 0, 0x07, 0xd1]),
        chunk(15, text),
    ]
    .concat();
    Ok([&b"HEP3"[..], &(chunks.len() as u16 + 6).to_be_bytes(), &chunks].concat())
}

fn v4(from: Endpoint, to: Endpoint) -> Result<[[u8; 4]; 2]> {
    match (from.ip, to.ip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok([from.octets(), to.octets()]),
        _ => bail!("{} and {} are not both IPv4", from.ip, to.ip),
    }
}
