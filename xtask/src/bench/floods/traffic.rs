//! What floods are made of: one datagram or segment each, as good as random, and the same for the same number.

use std::net::Ipv4Addr;

use anyhow::Result;
use etherparse::PacketBuilder;

use super::super::scatter;

/// A kind of flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::bench) enum Flood {
    /// INVITEs that nobody answers, from spoofed sources.
    Invite,
    /// INVITEs whose descriptions all name where the victim receives.
    Claim,
    /// 200s with descriptions, to no INVITE.
    Answer,
    /// REGISTERs and OPTIONS.
    Register,
    /// SIP of which bytes are changed or missing.
    Malformed,
    /// First fragments, and last ones, of packets that never become whole.
    Fragment,
    /// TCP connections with the beginning of a message that never ends.
    Tcp,
    /// The same, in segments that all wait for one that is missing.
    TcpGap,
    /// RTP on one pair of ports, each packet of another SSRC.
    Ssrc,
    /// RTP on as many ports as there are.
    Ports,
    /// RTP from anywhere to where the victim receives.
    Victim,
    /// INFOs with the record key, each of another call.
    Info,
    /// Requests of record servers and URLs, each on a connection of its own.
    Order,
}

/// Where the victim's caller receives.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) ip: Ipv4Addr,
    pub(super) port: u16,
}

impl Flood {
    /// Its frame with that number.
    pub(super) fn frame(self, number: u64, target: Target) -> Result<Vec<u8>> {
        let random = scatter(number ^ ((self as u64) << 56));
        let from = (spoofed(random), port(random));
        let to = (Ipv4Addr::new(10, 200, 0, 1), 5060);
        let media = (target.ip, target.port);
        match self {
            Flood::Invite => udp(from, to, &invite(number, random, from)),
            Flood::Claim => udp(from, to, &invite(number, random, media)),
            Flood::Answer => udp(from, to, &answer(number, random, from)),
            Flood::Register => udp(from, to, &register(number, random)),
            Flood::Malformed => udp(from, to, &malformed(number, random, from)),
            Flood::Fragment => fragment(random),
            Flood::Tcp => tcp(from, to, 1, &unfinished(number, random)),
            Flood::TcpGap => {
                // Forty segments a connection: the first, then every second of the rest.
                let (connection, index) = (scatter(number / 40), (number % 40) as u32);
                let from = (spoofed(connection), port(connection));
                tcp(from, to, 1 + index.saturating_sub(1) * 2800 + index.min(1) * 1400, &[b'x'; 1400])
            }
            Flood::Ssrc => {
                let from = (Ipv4Addr::new(10, 201, 0, 1), 6000);
                udp(from, (to.0, 6002), &rtp(number, random as u32))
            }
            Flood::Ports => udp(from, (spoofed(scatter(random)), 4000), &rtp(number, random as u32)),
            Flood::Victim => udp(from, media, &rtp(number, random as u32)),
            Flood::Info => udp(from, to, &info(number, random)),
            Flood::Order => {
                let text = match number % 2 {
                    0 => format!("cmd=RecordStartRequest&id={number}&local_number={random}&codec=pcmu\r\n"),
                    _ => format!("GET /record?action=start&ext={random} HTTP/1.1\r\nHost: a\r\n\r\n"),
                };
                tcp(from, (to.0, 8000), 1, text.as_bytes())
            }
        }
    }
}

fn spoofed(random: u64) -> Ipv4Addr {
    let [a, b, c, ..] = random.to_be_bytes();
    Ipv4Addr::new(100, a, b, c)
}

fn port(random: u64) -> u16 {
    1024 + (random % 60_000) as u16
}

fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Result<Vec<u8>> {
    let builder =
        PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.0.octets(), to.0.octets(), 64).udp(from.1, to.1);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload)?;
    Ok(frame)
}

fn tcp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), sequence: u32, payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(from.0.octets(), to.0.octets(), 64)
        .tcp(from.1, to.1, sequence, 64_000);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload)?;
    Ok(frame)
}

/// One of 1400 bytes at the beginning of a packet, or eight bytes near the end of the longest.
fn fragment(random: u64) -> Result<Vec<u8>> {
    let (from, to) = (spoofed(random).octets(), Ipv4Addr::new(10, 200, 0, 1).octets());
    let (offset, more, payload) =
        if random.is_multiple_of(2) { (0, true, vec![0; 1400]) } else { (8180, false, vec![0; 8]) };
    let mut header =
        etherparse::Ipv4Header::new(payload.len() as u16, 64, etherparse::IpNumber::UDP, from, to)?;
    header.identification = (random >> 8) as u16;
    (header.dont_fragment, header.more_fragments) = (false, more);
    header.fragment_offset = etherparse::IpFragOffset::try_new(offset)?;
    let mut frame = [&[4; 6][..], &[2; 6], &[8, 0]].concat();
    header.header_checksum = header.calc_header_checksum();
    header.write(&mut frame)?;
    frame.extend(payload);
    Ok(frame)
}

fn rtp(number: u64, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend((number as u16).to_be_bytes());
    packet.extend((number as u32).wrapping_mul(160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.resize(12 + 160, 0x55);
    packet
}

fn sdp((ip, port): (Ipv4Addr, u16)) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n\
         a=rtpmap:101 telephone-event/8000\r\n"
    )
}

fn message(line: &str, method: &str, number: u64, random: u64, tag: &str, more: &str, body: &str) -> Vec<u8> {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{line}\r\nVia: SIP/2.0/UDP 100.0.0.1;branch=z9hG4bK{random:x}\r\nFrom: <sip:{random}@flood>;tag={random:x}\r\n\
         To: <sip:{number}@flood>{tag}\r\nCall-ID: flood-{random:x}-{number}\r\nCSeq: 1 {method}\r\n{more}{kind}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn invite(number: u64, random: u64, media: (Ipv4Addr, u16)) -> Vec<u8> {
    message(&format!("INVITE sip:{number}@flood SIP/2.0"), "INVITE", number, random, "", "", &sdp(media))
}

fn answer(number: u64, random: u64, media: (Ipv4Addr, u16)) -> Vec<u8> {
    message("SIP/2.0 200 OK", "INVITE", number, random, ";tag=x", "", &sdp(media))
}

fn register(number: u64, random: u64) -> Vec<u8> {
    let method = if number.is_multiple_of(2) { "REGISTER" } else { "OPTIONS" };
    message(&format!("{method} sip:flood SIP/2.0"), method, number, random, "", "Expires: 60\r\n", "")
}

fn info(number: u64, random: u64) -> Vec<u8> {
    message(
        &format!("INFO sip:{number}@flood SIP/2.0"),
        "INFO",
        number,
        random,
        ";tag=x",
        "Record: on\r\n",
        "",
    )
}

fn malformed(number: u64, random: u64, media: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut text = invite(number, random, media);
    for change in 0..4 {
        let random = scatter(random + change);
        let at = (random >> 8) as usize % text.len();
        text[at] = random as u8;
    }
    text.truncate(text.len() - (random >> 32) as usize % 64);
    text
}

/// A message whose body never comes.
fn unfinished(number: u64, random: u64) -> Vec<u8> {
    let text = message(&format!("INVITE sip:{number}@flood SIP/2.0"), "INVITE", number, random, "", "", "");
    let mut text =
        String::from_utf8_lossy(&text).replace("Content-Length: 0", "Content-Length: 200000").into_bytes();
    text.resize(1400, b'x');
    text
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn frames_are_the_same_for_the_same_number_and_others_for_another() {
        let target = Target { ip: Ipv4Addr::new(10, 32, 0, 1), port: 10_000 };
        for flood in Flood::value_variants() {
            let frame = |number| flood.frame(number, target).unwrap();
            assert_eq!(frame(7), frame(7), "{flood:?}");
            assert_ne!(frame(7), frame(8), "{flood:?}");
        }
    }
}
