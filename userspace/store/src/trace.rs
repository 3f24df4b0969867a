//! A capture file of each recording: the signalling of its call, and the packets that are heard in it.
//!
//! ```text
//! <archive>/spool/17.trace                while tape 17 goes on: kind 1 is RTP, 0 what must not be kept; the body
//!                                         has the addresses of sender and receiver, then the packet
//! <archive>/recordings/…/….pcap           beside the recording
//! ```
//!
//! It is a pcap file of bare IP packets with times in nanoseconds, in which everything is UDP: whatever encapsulated it,
//! and cut it in fragments or segments, is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use etherparse::PacketBuilder;
use spantape_core::event::{Signal, Signalled};
use spantape_core::rtp::Undecoded;
use spantape_core::time::{SECOND, Timestamp};

use crate::error::{Result, io};
use crate::packets::Part;
use crate::records::{Entry, Records};
use crate::spool::new_file;

/// Packets come here in the order in which they are heard: none is more behind one that came later.
const DISORDER: i64 = 2 * SECOND;
/// Hops that are left, as nobody knows them.
const HOPS: u8 = 64;
/// Bytes of UDP's payload at most, with room for IPv4's header.
const LONGEST: usize = 65_535 - 8 - 20;

const GONE: u8 = 0;
const RTP: u8 = 1;

/// What is kept of one tape.
#[derive(Debug)]
pub(crate) struct Trace {
    records: Records,
}

impl Trace {
    /// In a file that is made when the first packets are written.
    pub(crate) fn new(path: PathBuf) -> Trace {
        Trace { records: Records::new(path) }
    }

    /// What an earlier process has left.
    pub(crate) fn found(path: PathBuf) -> Result<Trace> {
        Ok(Trace { records: Records::found(path)? })
    }

    /// Adds a packet.
    pub(crate) fn push(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        packet: &Undecoded,
    ) -> Result<()> {
        let mut addresses = Vec::new();
        put(&mut addresses, source);
        put(&mut addresses, destination);
        self.records.push(RTP, packet.into(), &[&addresses, &packet.packet])
    }

    /// Writes what waits in memory.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.records.flush()
    }

    /// Overwrites packets that would be heard in that time, or in a part of it.
    pub(crate) fn erase(&mut self, time: &Range<i64>) -> Result<()> {
        self.records.erase(time, |_, _| Some((GONE, Vec::new())))
    }

    /// Removes what is left of it.
    pub(crate) fn remove(self) -> Result<()> {
        self.records.remove()
    }

    /// Writes the packets of a recording, and the signalling of its call, to `target`, which appears whole.
    pub(crate) fn cut(&mut self, part: &Part, signals: &[Signal], dir: &Path, target: &Path) -> Result<()> {
        let Some(mut records) = self.records.read()? else { return Ok(()) };
        let copy = new_file(dir, "trace-", ".tmp").map_err(io("create a file in", dir))?;
        let mut capture = Capture::new(copy.as_file()).map_err(io("write", target))?;
        for signal in signals {
            if let Signalled::Message { source, destination, text } = &signal.what {
                let mut bytes: Vec<u8> = text.chars().map(|c| u32::from(c) as u8).collect();
                hide_keys(&mut bytes);
                capture.add(signal.at, (*source, *destination), &bytes);
            }
        }
        while let Some(entry) = Entry::read(&mut records).map_err(io("read", target))? {
            let is_left_out = part.left_out.iter().any(|out| entry.times.is_heard_in(out));
            if entry.kind != RTP || is_left_out || !entry.times.is_heard_in(&part.range) {
                continue;
            }
            let at = part.start + (entry.times.at - part.range.start);
            if let Some(((source, destination), packet)) = read(&entry.body) {
                capture.add(at, (source, destination), packet);
                capture.write(at - DISORDER).map_err(io("write", target))?;
            }
        }
        capture
            .write(Timestamp::FAR_FUTURE)
            .and_then(|()| capture.out.flush())
            .map_err(io("write", target))?;
        drop(capture);
        copy.persist(target).map_err(|error| io("rename into place", target)(error.error))?;
        Ok(())
    }
}

/// Makes stars of the keys of SRTP in a session description (RFC 4568): the packets are decrypted.
fn hide_keys(message: &mut [u8]) {
    const KEY: &[u8] = b"inline:";
    let mut at = 0;
    while let Some(found) = message[at..].windows(KEY.len()).position(|bytes| bytes.eq_ignore_ascii_case(KEY))
    {
        at += found + KEY.len();
        let is_of_key = |byte: &&mut u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
        message[at..].iter_mut().take_while(is_of_key).for_each(|byte| *byte = b'*');
    }
}

fn put(body: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            body.push(4);
            body.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            body.push(16);
            body.extend(ip.octets());
        }
    }
    body.extend(address.port().to_be_bytes());
}

fn take(body: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (&length, rest) = body.split_first()?;
    let (ip, rest) = rest.split_at_checked(length.into())?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

/// Addresses of sender and receiver, and the packet.
fn read(body: &[u8]) -> Option<((SocketAddr, SocketAddr), &[u8])> {
    let (source, rest) = take(body)?;
    let (destination, packet) = take(rest)?;
    Some(((source, destination), packet))
}

/// A capture file on its way, with the packets that are not in it yet.
struct Capture<'a> {
    out: BufWriter<&'a File>,
    waiting: BTreeMap<(Timestamp, u64), Vec<u8>>,
    count: u64,
}

impl<'a> Capture<'a> {
    fn new(file: &'a File) -> io::Result<Capture<'a>> {
        let mut out = BufWriter::new(file);
        // Magic number of nanoseconds, version 2.4, no correction, no limit of length, bare IP (LINKTYPE_RAW).
        for number in [0xa1b2_3c4d, 0x0004_0002, 0, 0, 0x0004_0000, 101u32] {
            out.write_all(&number.to_le_bytes())?;
        }
        Ok(Capture { out, waiting: BTreeMap::new(), count: 0 })
    }

    /// What no UDP packet can carry is left out.
    fn add(&mut self, at: Timestamp, (source, destination): (SocketAddr, SocketAddr), payload: &[u8]) {
        let builder = match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOPS),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOPS),
            _ => return,
        };
        let builder = builder.udp(source.port(), destination.port());
        let mut packet = Vec::with_capacity(builder.size(payload.len()));
        if payload.len() <= LONGEST && builder.write(&mut packet, payload).is_ok() {
            self.waiting.insert((at, self.count), packet);
            self.count += 1;
        }
    }

    /// Writes what came until then, in order.
    fn write(&mut self, until: Timestamp) -> io::Result<()> {
        while let Some(next) = self.waiting.first_entry().filter(|next| next.key().0 <= until) {
            let ((at, _), packet) = next.remove_entry();
            let at = at.0.max(0);
            for number in [at / SECOND, at % SECOND, packet.len() as i64, packet.len() as i64] {
                self.out.write_all(&(number as u32).to_le_bytes())?;
            }
            self.out.write_all(&packet)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hidden() {
        let mut message =
            b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20\r\n"
                .to_vec();
        let length = message.len();
        hide_keys(&mut message);
        let stars = "*".repeat(40);
        let expected = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{stars}|2^20\r\n");
        assert_eq!((String::from_utf8(message.clone()).unwrap(), message.len()), (expected, length));
        let mut short = b"inline:".to_vec();
        hide_keys(&mut short);
        assert_eq!(short, b"inline:");
    }

    #[test]
    fn addresses_are_read_again() {
        let pairs: [[SocketAddr; 2]; 2] =
            [["192.0.2.1:4000", "192.0.2.2:4002"], ["[2001:db8::1]:4000", "[2001:db8::2]:65535"]]
                .map(|pair| pair.map(|text| text.parse().unwrap()));
        for [source, destination] in pairs {
            let mut body = Vec::new();
            put(&mut body, source);
            put(&mut body, destination);
            body.extend(b"packet");
            assert_eq!(read(&body), Some(((source, destination), &b"packet"[..])));
            for end in 0..body.len() - b"packet".len() {
                assert_eq!(read(&body[..end]), None);
            }
        }
    }
}
