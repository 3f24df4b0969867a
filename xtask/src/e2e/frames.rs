//! Frames of every kind that a mirror port shows.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2)];
const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)];
const TTL: u8 = 64;
/// Where the packet begins in a frame without tags.
const NETWORK: usize = 14;

/// In an order in which those come later that need those before.
pub(super) fn all() -> Result<Vec<Vec<u8>>> {
    let mut frames = signalling()?;
    frames.extend(media()?);
    frames.extend(fragments()?);
    frames.extend(encapsulated()?);
    frames.extend(rest()?);
    Ok(frames)
}

/// Each of `frames` cut off at every length from an Ethernet header's on, up to `limit`.
pub(super) fn cut(frames: &[Vec<u8>], limit: usize) -> Vec<Vec<u8>> {
    let lengths = |frame: &Vec<u8>| NETWORK..frame.len().min(limit);
    frames.iter().flat_map(|frame| lengths(frame).map(|length| frame[..length].to_vec())).collect()
}

/// Frames with bytes changed, and frames of nothing but chance; the same for the same seed.
pub(super) fn garbage(frames: &[Vec<u8>], seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut chance = Chance(seed);
    let mut spoil = |index: usize| {
        if index.is_multiple_of(4) {
            let length = NETWORK + chance.below(1500);
            return (0..length).map(|_| chance.below(256) as u8).collect();
        }
        let mut frame = frames[chance.below(frames.len())].clone();
        for _ in 0..=chance.below(4) {
            // Headers are where it matters.
            let place = 12 + chance.below(frame.len().min(64) - 12);
            frame[place] = chance.below(256) as u8;
        }
        frame
    };
    (0..count).map(&mut spoil).collect()
}

/// Whether a frame has a VLAN tag, but not the type behind it.
pub(super) fn ends_within_tag(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8])) && frame.len() < 20
}

/// No message of these begins a call.
fn signalling() -> Result<Vec<Vec<u8>>> {
    let options = message("OPTIONS sip:1010@198.51.100.2 SIP/2.0", "OPTIONS");
    let register = message("REGISTER sip:198.51.100.2 SIP/2.0", "REGISTER");
    let trigger = b"GET /URLRecord/record.xml HTTP/1.1\r\nHost: recorder\r\n\r\n";
    let control = b"cmd=RecordStartRequest&id=1&device=001565&local_number=1009&codec=PCMU\r\n";
    Ok(vec![
        udp([5060, 5060], options.as_bytes())?,
        udp([5060, 5060], b"\r\n\r\n")?,
        udp([40_001, 5060], b"not SIP at all")?,
        udp([7001, 7002], register.as_bytes())?,
        udp([7001, 7002], b"not SIP at all")?,
        tcp([41_000, 5060], 1, b"")?,
        // What a connection carries is known from the first segment that shows it on.
        tcp([41_001, 8001], 1, b"nothing yet")?,
        tcp([41_001, 8001], 12, register.as_bytes())?,
        tcp([41_001, 8001], 12 + register.len() as u32, b"whatever")?,
        tcp([8001, 41_001], 1, b"the other direction")?,
        tcp([41_002, 8002], 1, control)?,
        tcp([8002, 41_002], 1, b"cmd=RecordStartResponse&id=1&result=success\r\n")?,
        tcp([41_002, 8002], 1 + control.len() as u32, b"the rest of it")?,
        tcp([41_003, 80], 1, trigger)?,
        tcp([80, 41_003], 1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?,
        tcp([41_004, 80], 1, b"GET /index.html HTTP/1.1\r\nHost: example.net\r\n\r\n")?,
    ])
}

/// Which nobody has announced.
fn media() -> Result<Vec<Vec<u8>>> {
    let rtp = rtp();
    let rtcp = [0x80, 201, 0, 1, 1, 2, 3, 4];
    let plain = udp([16_000, 16_002], &rtp)?;
    Ok(vec![
        plain.clone(),
        udp([16_001, 16_003], &rtcp)?,
        udp([16_001, 16_003], &rtcp[..7])?,
        udp([16_000, 16_002], &rtp[..11])?,
        udp([16_000, 16_002], &stun())?,
        // A service that can look like it.
        udp([53, 40_053], &rtp)?,
        udp6([16_000, 16_002], &rtp)?,
        udp6([16_001, 16_003], &rtcp)?,
        tagged(&plain, &[0x8100])?,
        tagged(&plain, &[0x88a8, 0x8100])?,
        tagged(&udp6([16_000, 16_002], &rtp)?, &[0x8100])?,
        tagged(&plain, &[0x88a8, 0x8100, 0x8100])?,
    ])
}

fn fragments() -> Result<Vec<Vec<u8>>> {
    let whole = udp([16_000, 16_002], &rtp())?;
    let fragment = |field: u16| {
        let mut frame = whole.clone();
        frame[NETWORK + 6..NETWORK + 8].copy_from_slice(&field.to_be_bytes());
        frame
    };
    let mut v6 = udp6([16_000, 16_002], &rtp())?;
    v6[NETWORK + 6] = 44;
    // More to come; the last; and "do not fragment", which is none.
    Ok(vec![fragment(0x2000), fragment(0x0014), fragment(0x4000), v6])
}

fn encapsulated() -> Result<Vec<Vec<u8>>> {
    let inner = udp([16_000, 16_002], &rtp())?;
    let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &inner].concat();
    let protocol = |number: u8| -> Result<Vec<u8>> {
        let mut frame = udp([16_000, 16_002], &rtp())?;
        frame[NETWORK + 9] = number;
        Ok(frame)
    };
    let mut hop_by_hop = udp6([16_000, 16_002], &rtp())?;
    hop_by_hop[NETWORK + 6] = 0;
    // VXLAN; GRE, ESP, IP in IP, SCTP; MPLS, PPPoE.
    Ok(vec![
        udp([50_000, 4789], &vxlan)?,
        protocol(47)?,
        protocol(50)?,
        protocol(4)?,
        protocol(132)?,
        hop_by_hop,
        ethernet(0x8847, &inner[NETWORK..]),
        ethernet(0x8864, &inner[NETWORK..]),
    ])
}

fn rest() -> Result<Vec<Vec<u8>>> {
    let mut icmp = udp([16_000, 16_002], &rtp())?;
    icmp[NETWORK + 9] = 1;
    // ARP, LLDP, a bridge's hello with its length in place of a type, ICMP, DNS, HTTPS.
    Ok(vec![
        ethernet(0x0806, &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 198, 51, 100, 1, 0, 0, 0, 0, 0, 0]),
        ethernet(0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0, 1]),
        ethernet(38, &[0x42, 0x42, 3, 0, 0, 0, 0]),
        icmp,
        udp([40_000, 53], &[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1])?,
        tcp([41_005, 443], 1, &[0x16, 3, 1, 0, 4, 1, 0, 0, 0])?,
    ])
}

fn message(start: &str, method: &str) -> String {
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK{method}\r\nFrom: <sip:1009@198.51.100.1>;tag=1\r\n\
         To: <sip:1010@198.51.100.2>\r\nCall-ID: {method}@198.51.100.1\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn rtp() -> Vec<u8> {
    [&[0x80, 0, 0, 1, 0, 0, 0, 160, 0xe2, 0xe0, 0, 0][..], &[0xff; 160]].concat()
}

/// A binding request (RFC 8489).
pub(super) fn stun() -> Vec<u8> {
    [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat()
}

fn udp(ports: [u16; 2], payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(MACS[0], MACS[1])
        .ipv4(V4[0].octets(), V4[1].octets(), TTL)
        .udp(ports[0], ports[1]);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).context("build a frame")?;
    Ok(frame)
}

fn udp6(ports: [u16; 2], payload: &[u8]) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(MACS[0], MACS[1])
        .ipv6(V6[0].octets(), V6[1].octets(), TTL)
        .udp(ports[0], ports[1]);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).context("build a frame")?;
    Ok(frame)
}

/// From the lower address, when its port is the higher one, so that answers come from the other.
pub(super) fn tcp(ports: [u16; 2], sequence: u32, payload: &[u8]) -> Result<Vec<u8>> {
    let (from, to) = if ports[0] > ports[1] { (0, 1) } else { (1, 0) };
    let builder = PacketBuilder::ethernet2(MACS[from], MACS[to])
        .ipv4(V4[from].octets(), V4[to].octets(), TTL)
        .tcp(ports[0], ports[1], sequence, 65_535);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).context("build a frame")?;
    Ok(frame)
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&MACS[1][..], &MACS[0], &ethertype.to_be_bytes(), payload].concat()
}

/// With tags between the addresses and the type.
fn tagged(frame: &[u8], types: &[u16]) -> Result<Vec<u8>> {
    let (addresses, rest) = frame.split_at_checked(12).context("a short frame")?;
    let tags: Vec<u8> = types.iter().flat_map(|kind| [(kind >> 8) as u8, *kind as u8, 0, 100]).collect();
    Ok([addresses, &tags, rest].concat())
}

/// Xorshift: enough to come into every corner, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use spantape_sieve::Class;

    use super::super::model::Model;
    use super::*;

    #[test]
    fn they_are_of_every_class_that_needs_no_call() {
        let frames = all().unwrap();
        let mut model = Model::default();
        let mut found: BTreeSet<Class> = frames.iter().map(|frame| model.take(frame)).collect();
        found.extend(cut(&frames, 60).iter().map(|frame| model.take(frame)));
        // Those are of announced media.
        let others = [Class::Media, Class::Unwanted];
        for class in Class::ALL {
            assert_eq!(found.contains(&class), !others.contains(&class), "{class:?}");
        }
    }

    #[test]
    fn garbage_is_reproducible_and_fits_the_wire() {
        let frames = all().unwrap();
        let garbage = garbage(&frames, 1, 400);
        assert_eq!(garbage, super::garbage(&frames, 1, 400));
        assert!(garbage.iter().all(|frame| (14..=1514).contains(&frame.len())));
    }
}
