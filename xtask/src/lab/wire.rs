//! UDP in Ethernet frames: taking apart and building.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

const TTL: u8 = 64;

/// One end of a datagram, down to its hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) mac: [u8; 6],
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
}

impl Endpoint {
    /// The same host at another port.
    pub(crate) fn at(self, port: u16) -> Self {
        Self { port, ..self }
    }
}

/// A whole UDP datagram of a frame.
pub(crate) struct Datagram<'a> {
    pub(crate) from: Endpoint,
    pub(crate) to: Endpoint,
    pub(crate) payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// `None` for anything but unfragmented UDP over IP.
    pub(crate) fn parse(frame: &'a [u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let (from_ip, to_ip): (IpAddr, IpAddr) = match packet.net.as_ref()? {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Arp(_) => return None,
        };
        let Some(TransportSlice::Udp(udp)) = packet.transport else { return None };
        let from = Endpoint { mac: frame.get(6..12)?.try_into().ok()?, ip: from_ip, port: udp.source_port() };
        let to = Endpoint { mac: frame.get(..6)?.try_into().ok()?, ip: to_ip, port: udp.destination_port() };
        Some(Self { from, to, payload: udp.payload() })
    }

    pub(crate) fn is_rtp(&self) -> bool {
        self.payload.len() >= 12 && self.payload[0] >> 6 == 2
    }

    /// The message's text when the datagram is SIP.
    pub(crate) fn sip(&self) -> Option<&'a str> {
        let text = std::str::from_utf8(self.payload).ok()?;
        text.lines().next()?.contains("SIP/2.0").then_some(text)
    }

    pub(crate) fn build(&self) -> Result<Vec<u8>> {
        let link = PacketBuilder::ethernet2(self.from.mac, self.to.mac);
        let step = match (self.from.ip, self.to.ip) {
            (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), TTL),
            (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), TTL),
            _ => bail!("a datagram from {} to {}", self.from.ip, self.to.ip),
        };
        let builder = step.udp(self.from.port, self.to.port);
        let mut frame = Vec::with_capacity(builder.size(self.payload.len()));
        builder.write(&mut frame, self.payload).context("build a frame")?;
        Ok(frame)
    }
}
