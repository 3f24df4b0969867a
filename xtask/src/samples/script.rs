//! What a written case is put together from: messages, streams and connections between hosts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;

use crate::lab::Bench;
use crate::lab::capture::{Capture, Frame};
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::speech::Speech;
use crate::lab::wire::{Datagram, Endpoint};

/// 2026-01-15 09:00:00 UTC: the same start each time, so that the same bytes come out.
const START: Duration = Duration::from_secs(1_768_467_600);
pub(super) const SIP_PORT: u16 = 5060;
const TTL: u8 = 64;

/// A host of 10.20.0.0/24, where it speaks SIP.
pub(super) fn host(last: u8) -> Endpoint {
    Endpoint { mac: [0x02, 0, 10, 20, 0, last], ip: [10, 20, 0, last].into(), port: SIP_PORT }
}

/// The same host in fd00:20::/64.
pub(super) fn host_v6(last: u8) -> Endpoint {
    Endpoint { ip: [0xfd00, 0x20, 0, 0, 0, 0, 0, u16::from(last)].into(), ..host(last) }
}

/// Media ports of caller and callee.
pub(super) const MEDIA: [u16; 2] = [11_000, 12_000];
/// The call that is recorded, in milliseconds: INVITE at 0, then this.
pub(super) const ANSWERED: u64 = 1500;
pub(super) const ENDED: u64 = 13_500;

/// A capture in the making.
pub(super) struct Scene {
    samples: PathBuf,
    capture: Capture,
}

/// A SIP dialog.
pub(super) struct Dialog {
    pub(super) id: &'static str,
    /// Request-URI, and what stands in From and To, without tags.
    pub(super) uri: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) ends: [Endpoint; 2],
    /// What the callee's tag ends with: other branches of a fork have other tags.
    pub(super) branch: &'static str,
}

/// Whose words a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Caller,
    Callee,
}

/// One direction or the other of a TCP connection.
pub(super) struct Connection {
    pub(super) client: Endpoint,
    pub(super) server: Endpoint,
    /// The next sequence numbers of both.
    next: [u32; 2],
}

/// Type and text of a body.
pub(super) type Body<'a> = (&'a str, &'a str);
pub(super) const NOTHING: Body<'static> = ("", "");

impl Dialog {
    /// Between two users of this network.
    pub(super) fn between(id: &'static str, caller: (&str, Endpoint), callee: (&str, Endpoint)) -> Self {
        let uri = |(user, end): (&str, Endpoint)| format!("sip:{user}@{}", in_uri(end.ip));
        Self {
            id,
            uri: uri(callee),
            from: format!("<{}>", uri(caller)),
            to: format!("<{}>", uri(callee)),
            ends: [caller.1, callee.1],
            branch: "",
        }
    }

    /// The call of all these cases: 1009 on phone A and 1010 on phone B.
    pub(super) fn of_phones(id: &'static str) -> Self {
        Self::between(id, ("1009", host(9)), ("1010", host(10)))
    }
}

impl Scene {
    pub(super) fn new(bench: &Bench) -> Self {
        Self { samples: bench.samples.clone(), capture: Capture::default() }
    }

    pub(super) fn finish(mut self) -> Capture {
        self.capture.sort();
        self.capture
    }

    /// A request; the first INVITE has no To tag.
    pub(super) fn request(
        &mut self,
        at_ms: u64,
        dialog: &Dialog,
        by: By,
        (method, cseq): (&str, u32),
        headers: &str,
        body: Body<'_>,
    ) -> Result<()> {
        let is_first = method == "INVITE" && cseq == 1;
        let [caller, callee] = dialog.ends;
        let (from, to) = match by {
            By::Caller => (caller, callee),
            By::Callee => (callee, caller),
        };
        let start = format!("{method} {} SIP/2.0", dialog.uri);
        let text = message(&start, dialog, by, is_first, &format!("{cseq} {method}"), headers, body);
        self.datagram(at_ms, from, to, text.as_bytes())
    }

    /// The answer to a request of the other side.
    pub(super) fn response(
        &mut self,
        at_ms: u64,
        dialog: &Dialog,
        by: By,
        (status, cseq): (&str, &str),
        headers: &str,
        body: Body<'_>,
    ) -> Result<()> {
        let [caller, callee] = dialog.ends;
        let (from, to, asked_by) = match by {
            By::Caller => (caller, callee, By::Callee),
            By::Callee => (callee, caller, By::Caller),
        };
        let text = message(&format!("SIP/2.0 {status}"), dialog, asked_by, false, cseq, headers, body);
        self.datagram(at_ms, from, to, text.as_bytes())
    }

    /// INVITE, 200, ACK, as the call of these cases does it.
    pub(super) fn set_up(
        &mut self,
        at_ms: u64,
        dialog: &Dialog,
        headers: &str,
        media: [u16; 2],
    ) -> Result<()> {
        let [offer, answer] =
            [0, 1].map(|side| description(dialog.ends[side].at(media[side]), Codec::Pcmu, ""));
        self.request(at_ms, dialog, By::Caller, ("INVITE", 1), headers, ("application/sdp", &offer))?;
        self.response(at_ms + 100, dialog, By::Callee, ("180 Ringing", "1 INVITE"), "", NOTHING)?;
        let answered = at_ms + ANSWERED;
        self.response(
            answered,
            dialog,
            By::Callee,
            ("200 OK", "1 INVITE"),
            "",
            ("application/sdp", &answer),
        )?;
        self.request(answered + 10, dialog, By::Caller, ("ACK", 1), "", NOTHING)
    }

    pub(super) fn hang_up(&mut self, at_ms: u64, dialog: &Dialog, by: By, cseq: u32) -> Result<()> {
        let other = if by == By::Caller { By::Callee } else { By::Caller };
        self.request(at_ms, dialog, by, ("BYE", cseq), "", NOTHING)?;
        self.response(at_ms + 5, dialog, other, ("200 OK", &format!("{cseq} BYE")), "", NOTHING)
    }

    /// The call of these cases, both sides talking from the answer to the end.
    pub(super) fn call(&mut self, dialog: &Dialog, headers: &str) -> Result<()> {
        self.set_up(0, dialog, headers, MEDIA)?;
        let [caller, callee] = [0, 1].map(|side| dialog.ends[side].at(MEDIA[side]));
        let length = (ENDED - ANSWERED) as u32;
        self.speak(ANSWERED + 20, caller, callee, Clip::new(Speech::Caller, Codec::Pcmu, length))?;
        self.speak(ANSWERED + 15, callee, caller, Clip::new(Speech::Callee, Codec::Pcmu, length))?;
        self.hang_up(ENDED, dialog, By::Caller, 9)
    }

    pub(super) fn speak(&mut self, at_ms: u64, from: Endpoint, to: Endpoint, clip: Clip) -> Result<()> {
        self.speak_as(at_ms, from, to, clip, |_, packet| Ok(packet.to_vec()))
    }

    /// The same; `wrap` says what each packet, by its number, is sent as.
    pub(super) fn speak_as(
        &mut self,
        at_ms: u64,
        from: Endpoint,
        to: Endpoint,
        clip: Clip,
        wrap: impl Fn(u32, &[u8]) -> Result<Vec<u8>>,
    ) -> Result<()> {
        for (packet, number) in clip.packets(&self.samples)?.into_iter().zip(0..) {
            let data = Datagram { from, to, payload: &wrap(number, &packet.bytes)? }.build()?;
            self.frame(Duration::from_millis(at_ms) + packet.after, data);
        }
        Ok(())
    }

    pub(super) fn datagram(
        &mut self,
        at_ms: u64,
        from: Endpoint,
        to: Endpoint,
        payload: &[u8],
    ) -> Result<()> {
        let data = Datagram { from, to, payload }.build()?;
        self.frame(Duration::from_millis(at_ms), data);
        Ok(())
    }

    fn frame(&mut self, after: Duration, data: Vec<u8>) {
        self.capture.frames.push(Frame { at: START + after, data });
    }
}

impl Connection {
    /// Opens one.
    pub(super) fn open(scene: &mut Scene, at_ms: u64, client: Endpoint, server: Endpoint) -> Result<Self> {
        let mut connection = Self { client, server, next: [1000, 2000] };
        connection.segment(scene, at_ms, 0, Flags { syn: true, ..Flags::default() }, b"")?;
        connection.segment(scene, at_ms, 1, Flags { syn: true, ..Flags::default() }, b"")?;
        connection.segment(scene, at_ms, 0, Flags::default(), b"")?;
        Ok(connection)
    }

    pub(super) fn client_says(&mut self, scene: &mut Scene, at_ms: u64, bytes: &[u8]) -> Result<()> {
        self.segment(scene, at_ms, 0, Flags::default(), bytes)
    }

    pub(super) fn server_says(&mut self, scene: &mut Scene, at_ms: u64, bytes: &[u8]) -> Result<()> {
        self.segment(scene, at_ms, 1, Flags::default(), bytes)
    }

    /// The client ends it, in order or not.
    pub(super) fn close(mut self, scene: &mut Scene, at_ms: u64, is_reset: bool) -> Result<()> {
        let flags = Flags { fin: !is_reset, rst: is_reset, ..Flags::default() };
        self.segment(scene, at_ms, 0, flags, b"")
    }

    fn segment(
        &mut self,
        scene: &mut Scene,
        at_ms: u64,
        side: usize,
        flags: Flags,
        payload: &[u8],
    ) -> Result<()> {
        let ends = [self.client, self.server];
        let (from, to) = (ends[side], ends[1 - side]);
        let (IpAddr::V4(from_ip), IpAddr::V4(to_ip)) = (from.ip, to.ip) else {
            anyhow::bail!("a connection over IPv6");
        };
        let mut builder = PacketBuilder::ethernet2(from.mac, to.mac)
            .ipv4(from_ip.octets(), to_ip.octets(), TTL)
            .tcp(from.port, to.port, self.next[side], 65_535);
        if !(flags.syn && side == 0) {
            builder = builder.ack(self.next[1 - side]);
        }
        builder = if flags.syn { builder.syn() } else { builder };
        builder = if flags.fin { builder.fin() } else { builder };
        builder = if flags.rst { builder.rst() } else { builder };
        builder = if payload.is_empty() { builder } else { builder.psh() };
        let mut data = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut data, payload).context("build a segment")?;
        scene.frame(Duration::from_millis(at_ms), data);
        let length = payload.len() as u32 + u32::from(flags.syn || flags.fin);
        self.next[side] = self.next[side].wrapping_add(length);
        Ok(())
    }
}

#[derive(Clone, Copy, Default)]
struct Flags {
    syn: bool,
    fin: bool,
    rst: bool,
}

/// A session description of one stream; `more` are further lines of it.
pub(super) fn description(media: Endpoint, codec: Codec, more: &str) -> String {
    let address = match media.ip {
        IpAddr::V4(ip) => format!("IN IP4 {ip}"),
        IpAddr::V6(ip) => format!("IN IP6 {ip}"),
    };
    let stream = stream(media, codec, more);
    format!("v=0\r\no=- 1 1 {address}\r\ns=-\r\nc={address}\r\nt=0 0\r\n{stream}")
}

/// One stream of a session description.
pub(super) fn stream(media: Endpoint, codec: Codec, more: &str) -> String {
    let (kind, map) = (codec.payload_type(), codec.rtpmap());
    format!("m=audio {} RTP/AVP {kind}\r\na=rtpmap:{kind} {map}\r\na=ptime:20\r\n{more}", media.port)
}

/// An address as URIs have it (RFC 3261, 25.1).
fn in_uri(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn message(
    start: &str,
    dialog: &Dialog,
    asked_by: By,
    is_first: bool,
    cseq: &str,
    headers: &str,
    (kind, body): Body<'_>,
) -> String {
    let [caller, callee] = dialog.ends;
    let caller_name = format!("{};tag=a-{}", dialog.from, dialog.id);
    let to_tag = if is_first { String::new() } else { format!(";tag=b-{}{}", dialog.id, dialog.branch) };
    let callee_name = format!("{}{to_tag}", dialog.to);
    let (from, to, sender) = match asked_by {
        By::Caller => (caller_name, callee_name, caller),
        By::Callee => (callee_name, caller_name, callee),
    };
    let branch = cseq.replace(' ', "-").to_lowercase();
    let kind = if body.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
    format!(
        "{start}\r\nVia: SIP/2.0/UDP {}:{SIP_PORT};branch=z9hG4bK-{}-{branch}\r\nMax-Forwards: 70\r\nFrom: {from}\r\n\
         To: {to}\r\nCall-ID: {}@10.20.0.9\r\nCSeq: {cseq}\r\n{headers}{kind}Content-Length: {}\r\n\r\n{body}",
        in_uri(sender.ip),
        dialog.id,
        dialog.id,
        body.len()
    )
}
