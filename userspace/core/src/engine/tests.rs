//! What carries SIP, and what only looks as if it did.

use etherparse::{PacketBuilder, PacketBuilderStep, icmpv4, icmpv6, ip_number};

use super::*;
use crate::time::{MILLISECOND, SECOND};

const A: [u8; 4] = [192, 0, 2, 1];
const B: [u8; 4] = [192, 0, 2, 2];

fn link() -> PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([1; 6], [2; 6])
}

fn message(start: &str) -> Vec<u8> {
    let cseq = if start.starts_with("ACK") { "1 ACK" } else { "1 INVITE" };
    format!(
        "{start}\r\nVia: SIP/2.0/WS 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\n\
         Call-ID: transport-1\r\nCSeq: {cseq}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn invite() -> Vec<u8> {
    message("INVITE sip:b@x SIP/2.0")
}

fn rtp_packet() -> Vec<u8> {
    [&[0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3][..], &[0xd5; 160]].concat()
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    link().ipv4(A, B, 64).udp(from, to).write(&mut frame, payload).unwrap();
    frame
}

fn over_ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    link().ipv4(A, B, 64).write(&mut frame, protocol.into(), payload).unwrap();
    frame
}

/// Both directions of a connection to a port of B.
struct Tcp {
    port: u16,
    next: [u32; 2],
    frames: Vec<Vec<u8>>,
}

impl Tcp {
    fn to(port: u16) -> Tcp {
        Tcp { port, next: [1000, 2000], frames: Vec::new() }
    }

    fn says(mut self, side: usize, payload: &[u8]) -> Tcp {
        let (mut frame, sequence) = (Vec::new(), self.next[side]);
        let step = match side {
            0 => link().ipv4(A, B, 64).tcp(40_000, self.port, sequence, 1000),
            _ => link().ipv4(B, A, 64).tcp(self.port, 40_000, sequence, 1000),
        };
        step.write(&mut frame, payload).unwrap();
        self.next[side] += payload.len() as u32;
        self.frames.push(frame);
        self
    }

    /// The next bytes are lost.
    fn loses(mut self, side: usize, bytes: u32) -> Tcp {
        self.next[side] += bytes;
        self
    }
}

fn run(config: Config, frames: &[Vec<u8>]) -> Counters {
    let mut engine = Engine::new(config);
    for (frame, second) in frames.iter().zip(0..) {
        engine.handle_frame(Timestamp(second * SECOND), LinkType::Ethernet, frame);
    }
    engine.finish();
    engine.counters()
}

fn collector() -> Config {
    Config { hep_ports: vec![9060], ..Config::default() }
}

#[test]
fn at_the_end_a_few_calls_end_at_a_time_those_that_began_first_before_others() {
    let mut engine = Engine::new(Config::default());
    let invite = String::from_utf8(invite()).unwrap();
    let names: Vec<String> = (0..40).map(|n| format!("call-{n}")).collect();
    for (name, second) in names.iter().zip(0..) {
        let frame = udp(5060, 5060, invite.replace("transport-1", name).as_bytes());
        engine.handle_frame(Timestamp(second * MILLISECOND), LinkType::Ethernet, &frame);
    }
    let (mut ended, mut rounds) = (Vec::new(), Vec::new());
    let mut is_more = true;
    while is_more {
        is_more = engine.finish_some();
        let events = std::iter::from_fn(|| engine.poll_event());
        ended.extend(events.filter_map(|event| match event {
            Event::Call(row) => Some(row.call_id),
            _ => None,
        }));
        rounds.push(ended.len());
    }
    assert_eq!((ended, rounds), (names, vec![16, 32, 40]));
    assert!(!engine.finish_some());
}

#[test]
fn what_an_icmp_error_quotes_has_been_seen_before() {
    let quotes = [udp(5060, 5060, &invite()), udp(11_000, 12_000, &rtp_packet())];
    let mut frames = Vec::new();
    for quote in quotes.iter().map(|frame| &frame[14..]) {
        let mut frame = Vec::new();
        let unreachable = icmpv4::DestUnreachableHeader::Port;
        let kind = etherparse::Icmpv4Type::DestinationUnreachable(unreachable);
        link().ipv4(B, A, 64).icmpv4(kind).write(&mut frame, quote).unwrap();
        frames.push(frame.clone());
        // Also within a tunnel.
        frames.push(over_ip(ip_number::IPV4.0, &frame[14..]));
        let mut frame = Vec::new();
        let kind = etherparse::Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
        link().ipv6([1; 16], [2; 16], 64).icmpv6(kind).write(&mut frame, quote).unwrap();
        frames.push(frame);
    }
    let counters = run(Config::default(), &frames);
    assert_eq!((counters.frames, counters.other), (6, 6));
    assert_eq!((counters.calls, counters.sip_messages, counters.rtp_packets), (0, 0, 0));
}

/// A copy in HEP 3 of what A says to B.
fn copy(kind: u8, payload: &[u8]) -> Vec<u8> {
    let chunk = |kind: u8, value: &[u8]| {
        [&[0, 0, 0, kind][..], &(value.len() as u16 + 6).to_be_bytes(), value].concat()
    };
    let port = 5060_u16.to_be_bytes();
    let chunks = [
        chunk(3, &A),
        chunk(4, &B),
        chunk(7, &port),
        chunk(8, &port),
        chunk(11, &[kind]),
        chunk(15, payload),
    ]
    .concat();
    [&b"HEP3"[..], &(chunks.len() as u16 + 6).to_be_bytes(), &chunks].concat()
}

#[test]
fn copies_in_hep_are_calls_only_on_request() {
    let first = [&[1, 16, 2, 17, 0x13, 0xc4, 0x13, 0xc4][..], &A, &B, &invite()].concat();
    let copies = [first, copy(1, &invite()), copy(4, &rtp_packet()), copy(5, b"{}")];
    // To the port on which junk before a message is tolerated, too.
    for port in [9060, 5060] {
        let frames = copies.clone().map(|copy| udp(50_000, port, &copy));
        let counters = run(Config::default(), &frames);
        assert_eq!((counters.calls, counters.rtp_packets, counters.hep_left_out), (0, 0, 4), "{port}");
        let counters = run(collector(), &frames);
        let expected = if port == 9060 { (1, 2, 1, 1) } else { (0, 0, 0, 4) };
        let found = (counters.calls, counters.sip_messages, counters.rtp_packets, counters.hep_left_out);
        assert_eq!(found, expected, "{port}");
    }
}

#[test]
fn copies_in_hep_over_tcp() {
    let stream = [copy(1, &invite()), copy(4, &rtp_packet())].concat();
    let (early, late) = stream.split_at(100);
    for frames in [
        Tcp::to(9060).says(0, early).says(0, late).frames,
        // Joined in the middle.
        Tcp::to(9060).says(0, b"-Length: 0\r\n\r\n").says(0, &stream).frames,
    ] {
        let counters = run(Config::default(), &frames);
        assert_eq!((counters.calls, counters.sip_messages, counters.hep_left_out), (0, 0, 2));
        let counters = run(collector(), &frames);
        assert_eq!((counters.calls, counters.rtp_packets, counters.hep_left_out), (1, 1, 0));
    }
}

fn masked(text: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [9, 8, 7, 6];
    let head = [&[0x81, 0xfe][..], &(text.len() as u16).to_be_bytes(), &MASK].concat();
    head.into_iter().chain(text.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4])).collect()
}

fn plain(text: &[u8]) -> Vec<u8> {
    [&[0x81, 126][..], &(text.len() as u16).to_be_bytes(), text].concat()
}

const ASKED: &[u8] = b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
const AGREED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn sip_in_a_web_socket() {
    let busy = message("SIP/2.0 486 Busy Here");
    let ack = message("ACK sip:b@x SIP/2.0");
    let invite = masked(&invite());
    let (early, late) = invite.split_at(50);
    let asked = Tcp::to(8080).says(0, ASKED).says(1, AGREED);
    let up_before = Tcp::to(8080).says(0, &[0x7f; 90]).says(1, b"\x02\x01");
    // What follows the handshake at once, in the same segment.
    let together = Tcp::to(8080).says(0, &[ASKED, early].concat()).says(0, late).says(1, AGREED);
    for begun in [asked.says(0, early).says(0, late), up_before.says(0, &invite), together] {
        let frames = begun.says(1, &plain(&busy)).says(0, &masked(&ack)).frames;
        let counters = run(Config::default(), &frames);
        assert_eq!((counters.calls, counters.sip_messages, counters.websocket_unread), (1, 3, 0));
    }
}

#[test]
fn a_web_socket_goes_on_after_a_gap() {
    let tcp = Tcp::to(8080).says(0, ASKED).says(0, &masked(&invite())).loses(0, 700);
    let mut tcp = tcp.says(0, &[0x55; 60]);
    // Bytes that are missing are waited for.
    for _ in 0..5 {
        tcp = tcp.says(0, &masked(&message("ACK sip:b@x SIP/2.0")));
    }
    let counters = run(Config::default(), &tcp.frames);
    assert_eq!((counters.tcp_gaps, counters.sip_messages), (1, 6));
}

#[test]
fn a_web_socket_that_is_refused() {
    let again = [ASKED, &masked(&invite())].concat();
    let tcp = Tcp::to(8080).says(0, ASKED).says(1, b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    let counters = run(Config::default(), &tcp.says(0, &again).says(1, AGREED).frames);
    assert_eq!((counters.calls, counters.sip_messages), (1, 1));
}

#[test]
fn sip_in_chunks_of_sctp() {
    let invite = invite();
    let chunk = |flags: u8, tsn: u8, piece: &[u8]| {
        let length = (16 + piece.len()) as u16;
        let head = [&[0, flags][..], &length.to_be_bytes(), &[0, 0, 0, tsn], &[0; 8]].concat();
        let mut chunk = [&head[..], piece].concat();
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    };
    let packet = |chunks: &[u8]| {
        over_ip(132, &[&[0x13, 0xc4, 0x13, 0xc4, 0, 0, 0, 7, 0, 0, 0, 0][..], chunks].concat())
    };
    let (early, late) = invite.split_at(50);
    let ringing = chunk(3, 3, &message("SIP/2.0 180 Ringing"));
    let frames = [
        packet(&chunk(1, 2, late)),
        packet(&[chunk(2, 1, early), ringing].concat()),
        packet(b""),
        over_ip(132, &[0; 11]),
    ];
    let counters = run(Config::default(), &frames);
    assert_eq!((counters.sctp_packets, counters.sip_messages, counters.calls), (3, 2, 1));
    assert_eq!((counters.sctp_abandoned, counters.malformed[Malformed::Sctp as usize]), (0, 1));
}
