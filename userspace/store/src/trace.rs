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
use spantape_core::record::Id;
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

/// Bytes of the messages of one call, and of all calls that are up.
const MOST_OF_A_CALL: usize = 256 << 10;
const MOST: usize = 64 << 20;

/// What was said of calls that are up. Of one that says very much the first messages are kept; when there are too many
/// calls, some of them are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    calls: BTreeMap<Id, (usize, Vec<Signal>)>,
    bytes: usize,
}

impl Signals {
    /// Adds what was said of a call.
    pub(crate) fn add(&mut self, call: Id, signal: &Signal) {
        let bytes = size_of::<Signal>()
            + match &signal.what {
                Signalled::Message { text, .. } => text.len(),
                Signalled::Order { .. } => return,
            };
        while self.bytes + bytes > MOST
            && let Some((_, (given_up, _))) = self.calls.pop_first()
        {
            self.bytes -= given_up;
        }
        let (size, signals) = self.calls.entry(call).or_default();
        if *size + bytes <= MOST_OF_A_CALL {
            signals.push(signal.clone());
            *size += bytes;
            self.bytes += bytes;
        }
    }

    /// What was said of a call, in order of time.
    pub(crate) fn of(&self, call: Id) -> &[Signal] {
        self.calls.get(&call).map_or(&[], |(_, signals)| signals)
    }

    /// A call is over.
    pub(crate) fn remove(&mut self, call: &Id) {
        self.bytes -= self.calls.remove(call).map_or(0, |(bytes, _)| bytes);
    }
}

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
    pub(crate) fn remove(&self) -> Result<()> {
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
                hide_digits(&mut bytes);
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

/// Makes stars of keys in a session description (RFC 4568, RFC 4567, and `k=` of RFC 4566): the packets are decrypted.
fn hide_keys(message: &mut [u8]) {
    for line in message.split_mut(|&byte| byte == b'\n') {
        let starts = |line: &[u8], with: &[u8]| {
            line.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        if starts(line, b"a=crypto:") {
            // Tag and suite; then keys, each with its lifetime behind a bar, and session parameters.
            let parameters =
                line.iter().enumerate().filter(|(_, byte)| **byte == b' ').nth(1).map(|(at, _)| at + 1);
            let parameters = parameters.unwrap_or(line.len());
            let end = line[parameters..]
                .iter()
                .position(|&byte| byte == b' ')
                .map_or(line.len(), |end| parameters + end);
            for key in line[parameters..end].split_mut(|&byte| byte == b';') {
                let begin = if starts(key, b"inline:") { b"inline:".len() } else { 0 };
                let key = &mut key[begin..];
                let length = key.iter().position(|&byte| byte == b'|').unwrap_or(key.len());
                hide(&mut key[..length]);
            }
        } else if starts(line, b"k=") {
            hide(&mut line[2..]);
        } else if starts(line, b"a=key-mgmt:") {
            hide(&mut line[b"a=key-mgmt:".len()..]);
        }
    }
}

/// Makes stars of what somebody typed: keys that were pressed, and texts. They may be a secret, and may have been said
/// in a pause.
fn hide_digits(message: &mut [u8]) {
    let end = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    let (head, body) = message.split_at_mut(end);
    let head = head.to_ascii_lowercase();
    let is_typed = |line: &[u8]| {
        let is_kind = line.starts_with(b"content-type") || line.starts_with(b"c:") || line.starts_with(b"c ");
        is_kind
            && [&b"dtmf"[..], b"telephone-event"]
                .iter()
                .any(|kind| memchr::memmem::find(line, kind).is_some())
    };
    if head.starts_with(b"message ") || head.split(|&byte| byte == b'\n').any(is_typed) {
        hide(body);
    }
}

fn hide(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| !byte.is_ascii_whitespace()).for_each(|byte| *byte = b'*');
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
        let hidden = |text: &str| {
            let mut message = text.as_bytes().to_vec();
            hide_keys(&mut message);
            String::from_utf8(message).unwrap()
        };
        let crypto = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 ";
        for (keys, stars) in [
            ("inline:d0RmdmcmVCsp/+c3|2^20|1:4", "inline:****************|2^20|1:4"),
            ("d0Rm", "****"),
            ("inline:d0Rm;inline:eEc3|2^20;QGZi WSH=64", "inline:****;inline:****|2^20;**** WSH=64"),
            ("", ""),
        ] {
            assert_eq!(
                hidden(&format!("v=0\r\n{crypto}{keys}\r\na=sendrecv\r\n")),
                format!("v=0\r\n{crypto}{stars}\r\na=sendrecv\r\n")
            );
        }
        assert_eq!(
            hidden("k=base64:abcd\r\na=key-mgmt:mikey AQ==\r\n"),
            "k=***********\r\na=key-mgmt:***** ****\r\n"
        );
        assert_eq!(hidden("a=crypto:"), "a=crypto:");
    }

    #[test]
    fn what_was_typed_is_hidden() {
        let hidden = |text: &str| {
            let mut message = text.as_bytes().to_vec();
            hide_digits(&mut message);
            String::from_utf8(message).unwrap()
        };
        let info = "INFO sip:1 SIP/2.0\r\nContent-Type: application/dtmf-relay\r\n\r\n";
        assert_eq!(
            hidden(&format!("{info}Signal=5\r\nDuration=160\r\n")),
            format!("{info}********\r\n************\r\n")
        );
        let message = "MESSAGE sip:1 SIP/2.0\r\nContent-Type: text/plain\r\n\r\n";
        assert_eq!(hidden(&format!("{message}4111")), format!("{message}****"));
        let other =
            "INFO sip:1 SIP/2.0\r\nRecord: on\r\nCall-ID: dtmf@host\r\nContent-Type: application/x\r\n\r\n1";
        assert_eq!(hidden(other), other);
    }

    #[test]
    fn of_many_calls_some_are_forgotten() {
        let mut signals = Signals::default();
        let id = |n: u64| Id::derive(&[&n.to_be_bytes()]);
        for n in 0..2_000u64 {
            let text = "x".repeat(60_000);
            let (source, destination) =
                ("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5060".parse().unwrap());
            let what = Signalled::Message { source, destination, text };
            (0..6).for_each(|_| signals.add(id(n), &Signal { at: Timestamp(0), what: what.clone() }));
            assert!(signals.bytes <= MOST && (1..=4).contains(&signals.of(id(n)).len()));
        }
        assert!(signals.calls.len() > 200);
        let left: Vec<Id> = signals.calls.keys().copied().collect();
        left.iter().for_each(|id| signals.remove(id));
        assert_eq!(signals.bytes, 0);
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
