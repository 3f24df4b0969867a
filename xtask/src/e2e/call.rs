//! Calls that are sent frame by frame from the switch's end of a mirror port: short, and known to the sample.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::switch::{Lab, MIRROR_PORTS};
use crate::lab::wire::{Datagram, Endpoint};

const SIP_PORT: u16 = 5060;
const MEDIA_PORTS: [u16; 2] = [20_000, 30_000];
const PACKET: Duration = Duration::from_millis(20);
const SAMPLES: u32 = 160;
/// A call of its own accord is this long, and rings before.
const PACKETS: u32 = 150;
const RINGING: Duration = Duration::from_millis(500);
/// Of the two voices, which are plain tones.
const HERTZ: [f64; 2] = [440.0, 700.0];
const AMPLITUDE: f64 = 8000.0;

/// The switch's end of a mirror port, for sending.
pub(super) struct Wire(pcap::Capture<pcap::Active>);

impl Wire {
    pub(super) fn open(lab: &Lab, port: &str) -> Result<Self> {
        let open = || Ok(pcap::Capture::from_device(port)?.snaplen(64).open()?);
        lab.within_switch(open).map(Self).with_context(|| format!("open {port}"))
    }

    pub(super) fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.0.sendpacket(frame).with_context(|| format!("send {} bytes", frame.len()))
    }

    pub(super) fn send_all(&mut self, frames: &[Vec<u8>]) -> Result<()> {
        frames.iter().try_for_each(|frame| self.send(frame))
    }
}

/// A call between two phones of its own, told apart by its number.
#[derive(Clone)]
pub(super) struct Talk {
    number: u8,
    users: [String; 2],
    /// How often the same phones have called each other before.
    turn: u32,
}

impl Talk {
    pub(super) fn new(number: u8, caller: &str, callee: &str) -> Self {
        Self { number, users: [caller.to_owned(), callee.to_owned()], turn: 0 }
    }

    /// Another call of the same phones.
    pub(super) fn again(self, turn: u32) -> Self {
        Self { turn, ..self }
    }

    pub(super) fn id(&self) -> String {
        let ip = self.end(0, SIP_PORT).ip;
        match self.turn {
            0 => format!("talk-{}@{ip}", self.number),
            turn => format!("talk-{}-{turn}@{ip}", self.number),
        }
    }

    /// Where caller and callee receive.
    pub(super) fn media(&self) -> [SocketAddr; 2] {
        [0, 1].map(|side| {
            let end = self.end(side, self.media_ports()[side]);
            SocketAddr::new(end.ip, end.port)
        })
    }

    /// Offer, answer and ACK.
    pub(super) fn begin(&self) -> Result<Vec<Vec<u8>>> {
        Ok(vec![
            self.message(0, "INVITE sip:callee@example.net SIP/2.0", "1 INVITE", &self.description(0))?,
            self.message(1, "SIP/2.0 200 OK", "1 INVITE", &self.description(1))?,
            self.message(0, "ACK sip:callee@example.net SIP/2.0", "1 ACK", "")?,
        ])
    }

    /// The caller hangs up.
    pub(super) fn end_by_caller(&self) -> Result<Vec<Vec<u8>>> {
        Ok(vec![
            self.message(0, "BYE sip:callee@example.net SIP/2.0", "2 BYE", "")?,
            self.message(1, "SIP/2.0 200 OK", "2 BYE", "")?,
        ])
    }

    /// Packet `index` of either side's stream.
    pub(super) fn voice(&self, index: u32) -> Result<Vec<Vec<u8>>> {
        let packet = |side: usize| {
            let step = HERTZ[side] * std::f64::consts::TAU / 8000.0;
            let moments = (index * SAMPLES)..((index + 1) * SAMPLES);
            let tone: Vec<i16> =
                moments.map(|at| ((f64::from(at) * step).sin() * AMPLITUDE) as i16).collect();
            let mut packet = vec![0x80, Codec::Pcmu.payload_type()];
            packet.extend((index as u16).to_be_bytes());
            packet.extend((index * SAMPLES).to_be_bytes());
            packet.extend([0xe2, 0xe0, self.number, side as u8]);
            packet.extend(Codec::Pcmu.encode(&tone));
            self.datagram(side, self.media_ports(), &packet)
        };
        Ok(vec![packet(0)?, packet(1)?])
    }

    /// A datagram from a side's port to the other's.
    pub(super) fn datagram(&self, from: usize, ports: [u16; 2], payload: &[u8]) -> Result<Vec<u8>> {
        let to = 1 - from;
        Datagram { from: self.end(from, ports[from]), to: self.end(to, ports[to]), payload }.build()
    }

    /// Others each time: of a recorder that has missed a BYE and the next INVITE nobody can expect to tell two calls apart.
    fn media_ports(&self) -> [u16; 2] {
        MEDIA_PORTS.map(|port| port + 2 * self.turn as u16)
    }

    fn end(&self, side: usize, port: u16) -> Endpoint {
        let host = side as u8 + 1;
        let ip = IpAddr::from([10, 30, self.number, host]);
        Endpoint { mac: [2, 0, 10, 30, self.number, host], ip, port }
    }

    fn message(&self, author: usize, start: &str, cseq: &str, body: &str) -> Result<Vec<u8>> {
        let [caller, callee] = &self.users;
        let id = self.id();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let tag = if start.starts_with("INVITE") { "" } else { ";tag=callee" };
        let text = format!(
            "{start}\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{}{}\r\nMax-Forwards: 70\r\n\
             From: <sip:{caller}@example.net>;tag=caller\r\nTo: <sip:{callee}@example.net>{tag}\r\n\
             Call-ID: {id}\r\nCSeq: {cseq}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            self.end(0, SIP_PORT).ip,
            self.number,
            cseq.replace(' ', ""),
            body.len()
        );
        self.datagram(author, [SIP_PORT; 2], text.as_bytes())
    }

    fn description(&self, side: usize) -> String {
        let Endpoint { ip, port, .. } = self.end(side, self.media_ports()[side]);
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
             a=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
        )
    }
}

/// Makes calls, all at once, at both mirror ports. Of the strays nothing but media is there.
pub(super) fn make_calls(lab: &Lab, talks: &[Talk], strays: &[Talk]) -> Result<()> {
    let wires: Result<Vec<Wire>> = MIRROR_PORTS.iter().map(|(port, _)| Wire::open(lab, port)).collect();
    let mut wires = wires?;
    let mut send =
        |frames: &[Vec<u8>]| -> Result<()> { wires.iter_mut().try_for_each(|wire| wire.send_all(frames)) };
    for talk in talks {
        send(&talk.begin()?[..1])?;
    }
    std::thread::sleep(RINGING);
    for talk in talks {
        send(&talk.begin()?[1..])?;
    }
    let since = Instant::now();
    for index in 0..PACKETS {
        for talk in talks.iter().chain(strays) {
            send(&talk.voice(index)?)?;
        }
        std::thread::sleep((since + PACKET * (index + 1)).saturating_duration_since(Instant::now()));
    }
    talks.iter().try_for_each(|talk| send(&talk.end_by_caller()?))
}

/// Sends what was captured, at its times, at both mirror ports.
pub(super) fn play(lab: &Lab, capture: &Capture) -> Result<()> {
    let wires: Result<Vec<Wire>> = MIRROR_PORTS.iter().map(|(port, _)| Wire::open(lab, port)).collect();
    let (mut wires, since) = (wires?, Instant::now());
    let begin = capture.frames.first().map_or(Duration::ZERO, |frame| frame.at);
    for frame in &capture.frames {
        std::thread::sleep((since + (frame.at - begin)).saturating_duration_since(Instant::now()));
        wires.iter_mut().try_for_each(|wire| wire.send(&frame.data))?;
    }
    Ok(())
}

/// Both sides of a call talk until they are told to stop.
pub(super) struct Speaking {
    quiet: Arc<AtomicBool>,
    thread: JoinHandle<Result<Wire>>,
    since: Instant,
}

impl Speaking {
    /// What the wire does not take is lost, as it is while the link is down.
    pub(super) fn begin(mut wire: Wire, talk: &Talk) -> Self {
        let (quiet, talk) = (Arc::new(AtomicBool::new(false)), talk.clone());
        let since = Instant::now();
        let thread = std::thread::spawn({
            let quiet = Arc::clone(&quiet);
            move || {
                let mut index = 0;
                while !quiet.load(Ordering::Relaxed) {
                    for frame in talk.voice(index)? {
                        let _ = wire.send(&frame);
                    }
                    index += 1;
                    std::thread::sleep((since + PACKET * index).saturating_duration_since(Instant::now()));
                }
                Ok(wire)
            }
        });
        Self { quiet, thread, since }
    }

    /// For how long, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    pub(super) fn stop(self) -> Result<Wire> {
        self.quiet.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the phones have stopped talking by themselves"))?
    }
}
