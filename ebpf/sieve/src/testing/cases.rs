//! One frame of everything that the sieve tells apart.

use std::vec;
use std::vec::Vec;

use super::{
    CONTROL_PORT, HTTP_PORT, alice, alice_v6, as_fragment, bob, bob_v6, ethernet, packet, rtcp, rtp, tagged,
    tcp, tcp_with_options, udp, unwanted, wanted, with_ip_options,
};
use crate::Class;

/// A protocol that nobody asks for.
pub const ICMP: u8 = 1;
/// A tunnel, and what carries ERSPAN.
pub const GRE: u8 = 47;

const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;
const OLD_QINQ: u16 = 0x9100;

const INVITE: &[u8] = b"INVITE sip:bob@example.net SIP/2.0\r\nCall-ID: 1\r\n\r\n";
const OK: &[u8] = b"SIP/2.0 200 OK\r\nCall-ID: 1\r\n\r\n";

/// A frame, and what it is.
#[derive(Clone, Debug)]
pub struct Case {
    /// For messages.
    pub name: &'static str,
    /// What it is.
    pub class: Class,
    /// Its bytes.
    pub frame: Vec<u8>,
}

/// Frames of every class, for a memory that is [`super::Tables::sample`] before the first. Later frames of
/// a connection are what they are because of those before them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for part in [signalling(), links(), networks(), connections(), media(), wishes()] {
        cases.extend(part.into_iter().map(|(name, class, frame)| Case { name, class, frame }));
    }
    cases
}

type Part = Vec<(&'static str, Class, Vec<u8>)>;

fn signalling() -> Part {
    let to = |port, payload| udp(alice(33_000), bob(port), payload);
    vec![
        ("sip to its port", Class::Sip, to(5060, INVITE)),
        ("sip from its port", Class::Sip, udp(bob(5060), alice(33_000), OK)),
        ("a keep-alive on SIP's port", Class::Sip, to(5060, b"\r\n\r\n")),
        ("nothing on SIP's port", Class::Sip, to(5060, b"")),
        ("a request on a strange port", Class::Sip, to(33_001, INVITE)),
        ("a response on a strange port", Class::Sip, to(33_001, OK)),
        ("empty lines before a request", Class::Sip, to(33_001, b"\r\n\r\nBYE sip:b SIP/2.0\r\n")),
        ("a request in lower case", Class::Sip, to(33_001, b"invite sip:b SIP/2.0\r\n")),
        ("a response in lower case", Class::Sip, to(33_001, b"sip/2.0 180 Ringing\r\n")),
        ("OPTIONS of SIP", Class::Sip, to(33_001, b"OPTIONS sip:b SIP/2.0\r\n")),
        ("OPTIONS of a telephone number", Class::Sip, to(33_001, b"OPTIONS tel:+1 SIP/2.0\r\n")),
        ("NOTIFY of SIP", Class::Sip, to(33_001, b"NOTIFY sip:b SIP/2.0\r\n")),
        ("OPTIONS of HTTP", Class::Rest, to(33_001, b"OPTIONS /path HTTP/1.1\r\n")),
        ("OPTIONS of all of HTTP", Class::Rest, to(33_001, b"OPTIONS * HTTP/1.1\r\n")),
        ("OPTIONS through a proxy", Class::Rest, to(33_001, b"OPTIONS http://h/ HTTP/1.1\r\n")),
        ("NOTIFY of SSDP", Class::Rest, to(1900, b"NOTIFY * HTTP/1.1\r\n")),
        ("text", Class::Rest, to(33_001, b"hello, this is nothing in particular")),
        ("too short for a request", Class::Rest, to(33_001, b"INVITE")),
        ("sip at an unwanted endpoint", Class::Sip, udp(alice(33_000), unwanted(), INVITE)),
    ]
}

fn links() -> Part {
    let sip = || udp(alice(33_000), bob(5060), INVITE);
    vec![
        ("802.1Q", Class::Sip, tagged(&[VLAN], sip())),
        ("802.1ad", Class::Sip, tagged(&[SERVICE_VLAN, VLAN], sip())),
        ("two tags of the old kind", Class::Sip, tagged(&[OLD_QINQ, VLAN], sip())),
        ("two tags, IPv6", Class::Sip, tagged(&[VLAN, VLAN], udp(alice_v6(1), bob_v6(5060), INVITE))),
        ("three tags", Class::Encapsulated, tagged(&[SERVICE_VLAN, VLAN, VLAN], sip())),
        ("a tag and media", Class::Rtp, tagged(&[VLAN], udp(alice(30_000), bob(30_002), &rtp()))),
        ("a tag and ARP", Class::Rest, tagged(&[VLAN], ethernet(0x0806, &[0; 28]))),
        ("MPLS", Class::Encapsulated, ethernet(0x8847, &[0, 1, 1, 64])),
        ("multicast MPLS", Class::Encapsulated, ethernet(0x8848, &[0, 1, 1, 64])),
        ("PPPoE", Class::Encapsulated, ethernet(0x8864, &[0x11, 0, 0, 1, 0, 0, 0, 0x21])),
        ("ARP", Class::Rest, ethernet(0x0806, &[0; 46])),
        ("802.3", Class::Rest, ethernet(38, &[0x42; 46])),
        ("a tag and nothing", Class::Malformed, ethernet(VLAN, &[])),
        ("half a tag", Class::Malformed, ethernet(VLAN, &[0, 1, 8])),
        ("IPv4 and nothing", Class::Malformed, ethernet(0x0800, &[])),
        ("IPv6 and nothing", Class::Malformed, ethernet(0x86dd, &[])),
    ]
}

fn networks() -> Part {
    let (a, b, a6, b6) = (alice(0).ip(), bob(0).ip(), alice_v6(0).ip(), bob_v6(0).ip());
    let sip = || udp(alice(33_000), bob(33_001), INVITE);
    let changed = |at: usize, byte: u8| {
        let mut frame = sip();
        frame[at] = byte;
        frame
    };
    let next =
        |protocol| packet(a6, b6, protocol, &[17, 0, 1, 4, 0, 0, 0, 0, 0x13, 0xc4, 0x13, 0xc4, 0, 8, 0, 0]);
    let mut cut = with_ip_options(packet(a, b, ICMP, &[]));
    cut.truncate(14 + 27);
    vec![
        ("IPv4 options behind the end", Class::Malformed, cut),
        ("IPv4 with options", Class::Sip, with_ip_options(sip())),
        ("media behind options", Class::Rtp, with_ip_options(udp(alice(30_000), bob(30_002), &rtp()))),
        ("a first fragment", Class::Fragment, as_fragment(sip(), 0x2000)),
        ("a middle fragment", Class::Fragment, as_fragment(sip(), 0x20b9)),
        ("a last fragment", Class::Fragment, as_fragment(sip(), 0x00b9)),
        ("not to be fragmented", Class::Sip, as_fragment(sip(), 0x4000)),
        ("IPv6", Class::Sip, udp(alice_v6(33_000), bob_v6(33_001), INVITE)),
        ("IPv6 fragment", Class::Fragment, next(44)),
        ("IPv6 hop-by-hop options", Class::Encapsulated, next(0)),
        ("IPv6 routing header", Class::Encapsulated, next(43)),
        ("IPv6 destination options", Class::Encapsulated, next(60)),
        ("IPv6 mobility header", Class::Encapsulated, next(135)),
        ("IPv6 authentication", Class::Encapsulated, next(51)),
        ("ICMPv6", Class::Rest, next(58)),
        ("ICMP", Class::Rest, packet(a, b, ICMP, &[8; 40])),
        ("GRE", Class::Encapsulated, packet(a, b, GRE, &[0, 0, 8, 0, 0x45])),
        ("ERSPAN", Class::Encapsulated, packet(a, b, GRE, &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1])),
        ("IPv4 in IPv4", Class::Encapsulated, packet(a, b, 4, &[0x45; 20])),
        ("IPv6 in IPv4", Class::Encapsulated, packet(a, b, 41, &[0x60; 40])),
        ("IPv4 in IPv6", Class::Encapsulated, packet(a6, b6, 4, &[0x45; 20])),
        ("ESP", Class::Encapsulated, packet(a, b, 50, &[7; 40])),
        ("L2TP over IP", Class::Encapsulated, packet(a, b, 115, &[7; 40])),
        ("SCTP", Class::Encapsulated, packet(a, b, 132, &[7; 40])),
        ("VXLAN", Class::Encapsulated, udp(alice(50_000), bob(4789), &[8; 60])),
        ("Geneve", Class::Encapsulated, udp(alice(50_000), bob(6081), &[8; 60])),
        ("GTP-U", Class::Encapsulated, udp(alice(50_000), bob(2152), &[0x30; 60])),
        ("L2TP, answered", Class::Encapsulated, udp(bob(1701), alice(50_000), &[0x40; 60])),
        ("HEP", Class::Encapsulated, udp(alice(50_000), bob(9060), b"HEP3\x00\x40")),
        ("TZSP", Class::Encapsulated, udp(alice(50_000), bob(37_008), &[1; 60])),
        ("not IPv4", Class::Malformed, changed(14, 0x65)),
        ("a header shorter than one", Class::Malformed, changed(14, 0x44)),
        ("shorter than its own header", Class::Malformed, changed(17, 19)),
        ("a datagram shorter than its header", Class::Malformed, changed(39, 7)),
        ("a datagram without a length", Class::Sip, changed(39, 0)),
    ]
}

fn connections() -> Part {
    let (client, server) = (|port| alice(port), || bob(7000));
    let up = |port, payload| tcp(client(port), server(), payload);
    let down = |port, payload| tcp(server(), client(port), payload);
    let mut frames = vec![
        ("a handshake", Class::Rest, up(50_001, b"")),
        ("the middle of a message", Class::Rest, up(50_001, b"ength: 0\r\n\r\n")),
        ("sip in a connection", Class::Sip, up(50_001, INVITE)),
        ("of a connection with sip", Class::Sip, up(50_001, b"the rest of it")),
        ("of a connection with sip, answered", Class::Sip, down(50_001, b"")),
        ("of another connection", Class::Rest, down(50_002, b"")),
        ("a response behind options", Class::Sip, tcp_with_options(server(), client(50_003), &[1; 12], OK)),
        ("sip over IPv6", Class::Sip, tcp(alice_v6(50_001), bob_v6(7000), INVITE)),
        ("sip over IPv6, answered", Class::Sip, tcp(bob_v6(7000), alice_v6(50_001), b"..")),
        ("of SIP's port", Class::Sip, tcp(client(50_004), bob(5060), b"")),
        ("an answer before any request", Class::Rest, down(50_005, b"HTTP/1.1 200 OK\r\n\r\n")),
        ("another path", Class::Rest, up(50_005, b"GET /index.html HTTP/1.1\r\n\r\n")),
        ("a trigger's path", Class::Http, up(50_005, b"GET /servlet?command=RecordStart HTTP/1.1\r\n\r\n")),
        ("a trigger's answer", Class::Http, down(50_005, b"HTTP/1.1 200 OK\r\n\r\n")),
        ("a path longer than is looked at", Class::Http, up(50_006, LONG)),
        ("a trigger that is posted", Class::Http, up(50_007, b"POST /api/record HTTP/1.1\r\n\r\n")),
        ("a trigger that is put", Class::Http, up(50_008, b"PUT /api/record HTTP/1.1\r\n\r\n")),
        ("half a trigger's path", Class::Rest, up(50_009, b"GET /api/rec HTTP/1.1\r\n\r\n")),
        ("a trigger's path deleted", Class::Rest, up(50_009, b"DELETE /api/record HTTP/1.1\r\n\r\n")),
        ("of the triggers' port", Class::Http, tcp(client(50_010), bob(HTTP_PORT), b"")),
        ("from the triggers' port", Class::Http, tcp(bob(HTTP_PORT), client(50_010), b"x")),
        ("HTTP's OPTIONS", Class::Rest, up(50_011, b"OPTIONS /api/record HTTP/1.1\r\n\r\n")),
        ("record control", Class::Control, up(50_012, b"cmd=RecordStartRequest&id=1")),
        ("record control, answered", Class::Control, down(50_012, b"ok")),
        ("record control behind a prefix", Class::Control, up(50_013, b"\0\0\0\x1b\0\0\0\x01cmd=RecordStop")),
        ("a prefix too long", Class::Rest, up(50_014, b"123456789cmd=RecordStartRequest")),
        ("another command", Class::Rest, up(50_014, b"cmd=Replay&id=1")),
        ("of the control port", Class::Control, tcp(client(50_015), bob(CONTROL_PORT), b"")),
    ];
    let mut short = up(50_016, b"");
    short[46] = 4 << 4;
    frames.push(("a segment shorter than its header", Class::Malformed, short));
    let mut cut = up(50_016, INVITE);
    cut[46] = 15 << 4;
    cut.truncate(14 + 20 + 59);
    frames.push(("options behind the end", Class::Malformed, cut));
    frames
}

const LONG: &[u8] = b"GET /servlet?command=RecordStart&number=1009&and=so&on HTTP/1.1\r\n\r\n";

fn media() -> Part {
    let to = |port, payload: &[u8]| udp(alice(30_000), bob(port), payload);
    vec![
        ("rtp", Class::Rtp, to(30_002, &rtp())),
        ("rtp over IPv6", Class::Rtp, udp(alice_v6(30_000), bob_v6(30_002), &rtp())),
        ("rtp with a marker", Class::Rtp, to(30_002, &[0x80, 0x80 | 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2])),
        ("rtp with padding and sources", Class::Rtp, to(30_002, &[0xb1; 40])),
        ("rtp too short", Class::Rest, to(30_002, &rtp()[..11])),
        ("rtcp", Class::Rtcp, to(30_003, &rtcp())),
        ("the shortest rtcp", Class::Rtcp, to(30_003, &[0x81, 203, 0, 1, 0, 0, 0, 1])),
        ("rtcp too short", Class::Rest, to(30_003, &[0x81, 203, 0, 1, 0, 0, 0])),
        ("rtcp of the first type", Class::Rtcp, to(30_003, &[0x81, 192, 0, 1, 0, 0, 0, 1])),
        ("rtcp of the last type", Class::Rtcp, to(30_003, &[0x81, 223, 0, 1, 0, 0, 0, 1])),
        ("rtp version 1", Class::Rest, to(30_002, &[0x40; 172])),
        ("STUN", Class::Rest, to(30_002, &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8])),
        ("DTLS", Class::Rest, to(30_002, &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4])),
        ("nothing", Class::Rest, to(30_002, b"")),
        ("DNS that looks like rtp", Class::Rest, to(53, &[0x80; 40])),
        ("DNS that looks like rtp, answered", Class::Rest, udp(bob(53), alice(30_000), &[0x80; 40])),
        ("NTP that looks like rtp", Class::Rest, udp(alice(123), bob(123), &[0x9c; 48])),
        ("IPsec that looks like rtp", Class::Rest, udp(alice(4500), bob(4500), &[0x80; 90])),
        ("mDNS that looks like rtp", Class::Rest, udp(alice(5353), bob(5353), &[0x80; 90])),
    ]
}

fn wishes() -> Part {
    let above = |mut socket: core::net::SocketAddr| {
        socket.set_port(socket.port() + 1);
        socket
    };
    let (someone, other) = (alice(30_000), bob(30_002));
    let dtls = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4];
    vec![
        ("to a wanted endpoint", Class::Rtp, udp(other, wanted(), &rtp())),
        ("from a wanted endpoint", Class::Rtp, udp(wanted(), other, &rtp())),
        ("no rtp at a wanted endpoint", Class::Media, udp(other, wanted(), &dtls)),
        ("nothing at a wanted endpoint", Class::Media, udp(wanted(), other, b"")),
        ("a service at a wanted endpoint", Class::Rtp, udp(bob(123), wanted(), &rtp())),
        ("to an unwanted endpoint", Class::Unwanted, udp(someone, unwanted(), &rtp())),
        ("from an unwanted endpoint", Class::Unwanted, udp(unwanted(), someone, &rtp())),
        ("no rtp at an unwanted endpoint", Class::Unwanted, udp(someone, unwanted(), &dtls)),
        ("wanted to unwanted", Class::Rtp, udp(wanted(), unwanted(), &rtp())),
        ("unwanted to wanted", Class::Rtp, udp(unwanted(), wanted(), &rtp())),
        ("rtcp at a wanted endpoint", Class::Rtcp, udp(other, wanted(), &rtcp())),
        ("rtcp at an unwanted endpoint", Class::Unwanted, udp(someone, unwanted(), &rtcp())),
        ("rtcp above a wanted endpoint", Class::Rtcp, udp(bob(123), above(wanted()), &rtcp())),
        ("rtcp above an unwanted endpoint", Class::Unwanted, udp(someone, above(unwanted()), &rtcp())),
        ("rtcp from above an unwanted endpoint", Class::Unwanted, udp(above(unwanted()), someone, &rtcp())),
        ("rtcp above both", Class::Rtcp, udp(above(unwanted()), above(wanted()), &rtcp())),
        ("rtcp at one, above the other", Class::Rtcp, udp(unwanted(), above(wanted()), &rtcp())),
        ("rtcp to port 0", Class::Rtcp, udp(alice(0), bob(0), &rtcp())),
        ("rtp above an unwanted endpoint", Class::Rtp, udp(someone, above(unwanted()), &rtp())),
        ("no rtp above a wanted endpoint", Class::Rest, udp(other, above(wanted()), &dtls)),
    ]
}
