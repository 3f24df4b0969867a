//! What passes the mirror port: calls, and whatever else is on a network.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;

use super::super::load::Load;

/// Calls begin within this time: not all at once, and soon enough that the rate is the same throughout.
pub(super) const SPREAD: Duration = Duration::from_millis(500);
/// Each way of a call of G.711.
const PACKETS_PER_CALL: u64 = 100;
/// Downloads at the same time, to tell connections apart.
const DOWNLOADS: u16 = 64;
const HTTPS: u16 = 443;
const TTL: u8 = 64;

/// So many frames a second, of which some belong to calls.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Mix {
    /// Frames a second in all
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    pub(super) rate: u64,
    /// Length of each call's audio
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(super) seconds: u32,
}

impl Mix {
    /// Calls that make up so many percent of it; one at the least.
    pub(super) fn calls(self, wanted: u64) -> Load {
        let calls = (self.rate * wanted / 100 / PACKETS_PER_CALL).max(1);
        Load { calls: u32::try_from(calls).unwrap_or(u32::MAX), seconds: self.seconds }
    }

    /// Frames a second that belong to no call.
    pub(super) fn rest(self, wanted: u64) -> u64 {
        self.rate * (100 - wanted) / 100
    }
}

/// All frames, made beforehand: sending is to cost as little as it can.
pub(super) struct Traffic {
    bytes: Vec<u8>,
    /// When, and where in `bytes`.
    calls: Vec<(Duration, usize, usize)>,
    /// One after the other, and then again.
    rest: Vec<Vec<u8>>,
    /// Frames of the rest a second.
    rate: u64,
}

impl Traffic {
    pub(super) fn new(load: Load, spread: Duration, rate: u64) -> Result<Self> {
        let (mut bytes, mut calls) = (Vec::new(), Vec::new());
        for frame in load.frames(spread) {
            let (at, data) = frame?;
            let begin = bytes.len();
            bytes.extend(data);
            calls.push((at, begin, bytes.len()));
        }
        Ok(Self { bytes, calls, rest: rest()?, rate })
    }

    /// How long it lasts.
    pub(super) fn length(&self) -> Duration {
        self.calls.last().map_or(Duration::ZERO, |(at, ..)| *at)
    }

    /// In the order of their times.
    pub(super) fn frames(&self) -> impl Iterator<Item = (Duration, &[u8])> {
        let mut calls = self.calls.iter().map(|&(at, begin, end)| (at, &self.bytes[begin..end])).peekable();
        let mut rest = self.rest().peekable();
        std::iter::from_fn(move || match (calls.peek(), rest.peek()) {
            (Some(call), Some(other)) if other.0 < call.0 => rest.next(),
            (None, _) => rest.next(),
            _ => calls.next(),
        })
    }

    fn rest(&self) -> impl Iterator<Item = (Duration, &[u8])> {
        let count = self.rate * self.length().as_micros() as u64 / 1_000_000;
        let times = (0..count).map(|index| Duration::from_nanos(index * 1_000_000_000 / self.rate));
        times.zip(self.rest.iter().cycle().map(Vec::as_slice))
    }
}

/// Downloads over HTTPS: of eight frames, four are full segments, two the empty ones that acknowledge them, and two
/// datagrams of QUIC.
fn rest() -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for round in 0..4 {
        for number in 0..DOWNLOADS {
            frames.push(segment(number, round, true)?);
            frames.push(match round % 2 {
                0 => segment(number, round, false)?,
                _ => quic(number)?,
            });
        }
    }
    Ok(frames)
}

fn segment(number: u16, round: u32, is_data: bool) -> Result<Vec<u8>> {
    const DATA: usize = 1460;
    // Application data of TLS, as it was encrypted.
    let data: Vec<u8> =
        [0x17, 3, 3, 0x40, 0].into_iter().chain((5..DATA).map(|at| (at * 151) as u8)).collect();
    let (server, client) = (server(), client(number));
    let port = 50_000 + number;
    let (builder, payload) = if is_data {
        let ip = PacketBuilder::ethernet2(MACS[0], MACS[1]).ipv4(server, client, TTL);
        (ip.tcp(HTTPS, port, round * DATA as u32, 65_535).ack(1), &data[..])
    } else {
        let ip = PacketBuilder::ethernet2(MACS[1], MACS[0]).ipv4(client, server, TTL);
        (ip.tcp(port, HTTPS, 1, 65_535).ack(round * DATA as u32), &[][..])
    };
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).context("build a segment")?;
    Ok(frame)
}

/// With a short header (RFC 9000, 17.3.1).
fn quic(number: u16) -> Result<Vec<u8>> {
    let payload: Vec<u8> = std::iter::once(0x4a).chain((1..1250).map(|at| (at * 151) as u8)).collect();
    let ip = PacketBuilder::ethernet2(MACS[0], MACS[1]).ipv4(server(), client(number), TTL);
    let builder = ip.udp(HTTPS, 51_000 + number);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, &payload).context("build a datagram")?;
    Ok(frame)
}

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

fn server() -> [u8; 4] {
    Ipv4Addr::new(198, 51, 100, 1).octets()
}

fn client(number: u16) -> [u8; 4] {
    Ipv4Addr::new(10, 99, 0, number as u8 + 1).octets()
}

#[cfg(test)]
mod tests {
    use spantape_sieve::testing::Tables;
    use spantape_sieve::{Class, sieve};

    use super::*;

    #[test]
    fn so_many_percent_are_of_calls_and_only_they_are_needed() {
        for (wanted, least, most) in [(100, 1.0, 1.0), (10, 0.08, 0.1), (1, 0.008, 0.011)] {
            let mix = Mix { rate: 10_000, seconds: 4 };
            let traffic = Traffic::new(mix.calls(wanted), SPREAD, mix.rest(wanted)).unwrap();
            let mut memory = Tables::sample();
            let mut counts = [0; 2];
            for (_, frame) in traffic.frames() {
                let class = sieve(frame, &mut memory);
                assert!(matches!(class, Class::Sip | Class::Rtp | Class::Rest), "{class:?}");
                counts[usize::from(class.is_needed())] += 1;
            }
            assert_eq!(counts[1], traffic.calls.len());
            let share = counts[1] as f64 / (counts[0] + counts[1]) as f64;
            assert!((least..=most).contains(&share), "{share}");
        }
    }

    #[test]
    fn frames_are_in_order() {
        let traffic = Traffic::new(Load { calls: 3, seconds: 1 }, SPREAD, 1000).unwrap();
        let times: Vec<Duration> = traffic.frames().map(|(at, _)| at).collect();
        assert!(times.is_sorted() && times.len() > 1000);
    }
}
