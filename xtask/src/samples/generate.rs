//! Calls written from nothing, packet by packet.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::lab::Bench;
use crate::lab::capture::{Capture, Frame};
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::sipp::media_port;
use crate::lab::speech::Speech;
use crate::lab::switch::Phone;
use crate::lab::wire::{Datagram, Endpoint};

/// 2026-01-15 09:00:00 UTC: the same start each time, so that the same bytes come out.
const START: Duration = Duration::from_secs(1_768_467_600);
const SIP_PORT: u16 = 5060;

/// L16 at 16 kHz, both ways.
pub(super) fn l16(bench: &Bench) -> Result<Capture> {
    let (caller, callee) = (Phone::A.endpoint(SIP_PORT), Phone::B.endpoint(SIP_PORT));
    let mut script = Script::new(bench, "l16-1@10.20.0.9", Codec::L16, callee);
    let answer = Some((callee, 1010));
    script.caller_says(0, "INVITE", 1, "", true)?;
    script.callee_says(100, "180 Ringing", "1 INVITE", "b1", None)?;
    script.callee_says(1500, "200 OK", "1 INVITE", "b1", answer)?;
    script.caller_says(1510, "ACK", 1, "b1", false)?;
    script.speak(1515, callee, caller, Clip::new(Speech::Callee, Codec::L16, 8000))?;
    script.speak(1520, caller, callee, Clip::new(Speech::Caller, Codec::L16, 8000))?;
    script.caller_says(9530, "BYE", 2, "b1", false)?;
    script.callee_says(9535, "200 OK", "2 BYE", "b1", None)?;
    Ok(script.finish())
}

/// A PBX rings two phones; both send early media; the second one answers. Seen at the caller's port, so that
/// what the PBX says to the two phones is out of sight.
pub(super) fn forked(bench: &Bench) -> Result<Capture> {
    let pbx = host(1, SIP_PORT);
    let (caller, first, second) =
        (Phone::A.endpoint(SIP_PORT), Phone::B.endpoint(SIP_PORT), host(11, SIP_PORT));
    let mut script = Script::new(bench, "forked-1@10.20.0.9", Codec::Pcmu, pbx);
    script.caller_says(0, "INVITE", 1, "", true)?;
    script.callee_says(10, "100 Trying", "1 INVITE", "", None)?;
    script.callee_says(300, "183 Session Progress", "1 INVITE", "b1", Some((first, 1010)))?;
    script.callee_says(800, "183 Session Progress", "1 INVITE", "b2", Some((second, 1011)))?;
    let loser = Clip::new(Speech::Callee, Codec::Pcmu, 11_000);
    script.speak(350, first, caller, Clip { from_ms: 8000, ssrc: 0x0a14_1010, ..loser })?;
    script.speak(850, second, caller, Clip { ssrc: 0x0a14_0011, ..loser })?;
    script.callee_says(3300, "200 OK", "1 INVITE", "b2", Some((second, 1011)))?;
    script.caller_says(3310, "ACK", 1, "b2", false)?;
    script.speak(3325, caller, second, Clip::new(Speech::Caller, Codec::Pcmu, 8500))?;
    script.caller_says(11_860, "BYE", 2, "b2", false)?;
    script.callee_says(11_865, "200 OK", "2 BYE", "b2", None)?;
    Ok(script.finish())
}

fn host(last: u8, port: u16) -> Endpoint {
    Endpoint { mac: [0x02, 0, 10, 20, 0, last], ip: [10, 20, 0, last].into(), port }
}

/// A call in the making: 1009 at phone A talks SIP with `server`.
struct Script {
    samples: PathBuf,
    capture: Capture,
    call_id: &'static str,
    codec: Codec,
    server: Endpoint,
}

impl Script {
    fn new(bench: &Bench, call_id: &'static str, codec: Codec, server: Endpoint) -> Self {
        Self { samples: bench.samples.clone(), capture: Capture::default(), call_id, codec, server }
    }

    fn caller_says(&mut self, at_ms: u64, method: &str, cseq: u32, tag: &str, offers: bool) -> Result<()> {
        let caller = Phone::A.endpoint(SIP_PORT);
        let start = format!("{method} sip:1010@{}:{SIP_PORT} SIP/2.0", self.server.ip);
        let head = self.head(&start, tag, &format!("{cseq} {method}"), "Max-Forwards: 70\r\n", 1009, caller);
        let body = if offers { self.sdp(caller.at(media_port(Phone::A)), 1009) } else { String::new() };
        self.message(at_ms, caller, self.server, head, &body)
    }

    fn callee_says(
        &mut self,
        at_ms: u64,
        status: &str,
        cseq: &str,
        tag: &str,
        answer: Option<(Endpoint, u16)>,
    ) -> Result<()> {
        let (contact, user) = answer.unwrap_or((self.server, 1010));
        let head = self.head(&format!("SIP/2.0 {status}"), tag, cseq, "", user, contact);
        let body = answer.map(|(end, user)| self.sdp(end.at(media_port(Phone::B)), user)).unwrap_or_default();
        self.message(at_ms, self.server, Phone::A.endpoint(SIP_PORT), head, &body)
    }

    /// RTP between the media ports of two hosts.
    fn speak(&mut self, at_ms: u64, from: Endpoint, to: Endpoint, clip: Clip) -> Result<()> {
        let media = |end: Endpoint| {
            let phone = if end == Phone::A.endpoint(SIP_PORT) { Phone::A } else { Phone::B };
            end.at(media_port(phone))
        };
        for packet in clip.packets(&self.samples)? {
            let at = START + Duration::from_millis(at_ms) + packet.after;
            let data = Datagram { from: media(from), to: media(to), payload: &packet.bytes }.build()?;
            self.capture.frames.push(Frame { at, data });
        }
        Ok(())
    }

    fn head(&self, start: &str, tag: &str, cseq: &str, extra: &str, user: u16, contact: Endpoint) -> String {
        let caller = Phone::A.endpoint(SIP_PORT).ip;
        let branch = cseq.replace(' ', "-").to_lowercase();
        let tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
        format!(
            "{start}\r\nVia: SIP/2.0/UDP {caller}:{SIP_PORT};branch=z9hG4bK-{branch}\r\n{extra}\
             From: \"1009\" <sip:1009@{caller}>;tag=a1\r\nTo: <sip:1010@{}>{tag}\r\nCall-ID: {}\r\n\
             CSeq: {cseq}\r\nContact: <sip:{user}@{}:{SIP_PORT}>\r\n",
            self.server.ip, self.call_id, contact.ip
        )
    }

    fn sdp(&self, media: Endpoint, user: u16) -> String {
        let Endpoint { ip, port, .. } = media;
        let (kind, map) = (self.codec.payload_type(), self.codec.rtpmap());
        format!(
            "v=0\r\no={user} {user}001 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {kind}\r\na=rtpmap:{kind} {map}\r\na=ptime:20\r\na=sendrecv\r\n"
        )
    }

    fn message(&mut self, at_ms: u64, from: Endpoint, to: Endpoint, head: String, body: &str) -> Result<()> {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len());
        let data = Datagram { from, to, payload: text.as_bytes() }.build()?;
        self.capture.frames.push(Frame { at: START + Duration::from_millis(at_ms), data });
        Ok(())
    }

    fn finish(mut self) -> Capture {
        self.capture.sort();
        self.capture
    }
}
