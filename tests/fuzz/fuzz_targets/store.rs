//! An engine with a store behind it that holds the engine to its word.

use std::collections::BTreeMap;

use etherparse::PacketBuilder;
use spantape_core::engine::{Counters, Engine};
use spantape_core::event::Event;
use spantape_core::media::TapeId;
use spantape_core::rules::{Action, Config, Paused, Rule, Rules};
use spantape_core::time::Timestamp;
use spantape_core::trigger::Verb;
use spantape_core::trigger::feature_code::{Code, Effect};
use spantape_core::wire::LinkType;

struct Open {
    rate: u32,
    channels: usize,
    frames: u64,
    done: bool,
}

pub struct Store {
    engine: Engine,
    now: i64,
    frames: u64,
    open: BTreeMap<TapeId, Open>,
    calls: u64,
}

/// Little enough to run out at times.
const MEMORY: usize = 256 << 10;

/// One of the payload types that mean something in [`Store::begin_call`].
#[allow(dead_code, reason = "not every target sends RTP of many kinds")]
pub fn payload_type(choice: u8) -> u8 {
    [0, 0, 0, 8, 9, 11, 13, 18, 96, 101, 10, 0, 0, 97, 120, 9][usize::from(choice % 16)]
}

impl Store {
    pub fn new(on_demand: bool) -> Store {
        let mut config = Config { orphans: !on_demand, max_calls: 4, max_flows: 8, ..Config::default() };
        (config.max_fragments, config.max_tcp_flows, config.max_unclaimed) = (4, 4, 4);
        config.max_memory = MEMORY;
        if on_demand {
            let code = |keys: &str, effect| Code { keys: keys.to_owned(), effect };
            let codes = [
                code("1", Effect::Toggle),
                code("2", Effect::Verb(Verb::Pause)),
                code("3", Effect::Verb(Verb::Resume)),
            ];
            let (feature_codes, paused) = (codes.into(), Paused::Cut);
            let rule = Rule { feature_codes, paused, ..Rule::new("on-demand", Action::OnDemand) };
            (config.rules, config.announces_media) = (Rules::new(vec![rule], Vec::new()), true);
        }
        let now = 1_700_000_000_000_000_000;
        Store { engine: Engine::new(config), now, frames: 0, open: BTreeMap::new(), calls: 0 }
    }

    pub fn wait(&mut self, nanoseconds: u64) {
        self.now += nanoseconds as i64;
    }

    /// Lets timers fire without a frame.
    #[allow(dead_code, reason = "only the engine's target needs it")]
    pub fn tick(&mut self) {
        self.engine.handle_timeout(Timestamp(self.now));
        self.carry_out();
    }

    pub fn frame(&mut self, frame: &[u8]) {
        self.engine.handle_frame(Timestamp(self.now), LinkType::Ethernet, frame);
        self.frames += 1;
        self.carry_out();
    }

    /// A datagram from or to the caller of call `call`; ports are shared by every fourth call.
    pub fn udp(&mut self, call: u8, to_caller: bool, port: u16, payload: &[u8]) {
        let (a, b) = ([10, 0, 0, 1 + call % 4], [10, 0, 1, 1 + call % 2]);
        let (from, to) = if to_caller { (b, a) } else { (a, b) };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from, to, 64)
            .udp(port, port)
            .write(&mut frame, payload)
            .expect("a small datagram");
        self.frame(&frame);
    }

    pub fn rtp(
        &mut self,
        call: u8,
        to_caller: bool,
        payload_type: u8,
        sequence: u16,
        timestamp: u32,
        ssrc: u32,
        length: u8,
    ) {
        let mut packet = vec![0x80, payload_type];
        packet.extend(sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.resize(packet.len() + usize::from(length), length);
        self.udp(call, to_caller, 4000, &packet);
    }

    /// INVITE and 200, both with a description of many codecs.
    #[allow(dead_code, reason = "not every target makes calls this way")]
    pub fn begin_call(&mut self, call: u8) {
        for (to_caller, line) in [(false, "INVITE sip:b@example.net SIP/2.0"), (true, "SIP/2.0 200 OK")] {
            let body = description(call, to_caller);
            let message = format!(
                "{line}\r\nFrom: <sip:a@example.net>;tag=a\r\nTo: <sip:b@example.net>{}\r\nCall-ID: {call}\r\n\
                 CSeq: 1 INVITE\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
                if to_caller { ";tag=b" } else { "" },
                body.len()
            );
            self.udp(call, to_caller, 5060, message.as_bytes());
        }
    }

    /// There is no more. Whatever came, the books must balance.
    pub fn finish(mut self) {
        self.engine.finish();
        self.carry_out();
        assert!(self.open.is_empty(), "tapes left open");
        let counters = self.engine.counters();
        assert_eq!(counters.frames, self.frames);
        assert!(counted(&counters) >= counters.frames, "frames not accounted for: {counters:?}");
        assert_eq!(self.calls, counters.calls, "calls without a row");
        assert!(
            counters.rtp_unclaimed + counters.rtp_after_end + counters.rtp_no_room + counters.rtp_unwanted
                <= counters.rtp_packets
        );
        assert!(counters.sip_without_call_id <= counters.sip_messages);
        assert!(counters.memory_peak <= MEMORY, "{} bytes", counters.memory_peak);
    }

    fn carry_out(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::TapeOpened { tape, channels, sample_rate, .. } => {
                assert!((8000..=48_000).contains(&sample_rate));
                assert!((1..=2).contains(&channels));
                let open = Open { rate: sample_rate, channels: channels.into(), frames: 0, done: false };
                assert!(self.open.insert(tape, open).is_none(), "opened twice");
            }
            Event::TapeSamples { tape, samples } => {
                let tape = self.tape(tape);
                assert!(!samples.is_empty() && samples.len() % tape.channels == 0);
                tape.frames += (samples.len() / tape.channels) as u64;
            }
            Event::TapeSilence { tape, frames } => self.tape(tape).frames += frames,
            Event::TapeOverdub { tape, frame, samples, .. } => {
                assert!(frame + samples.len() as u64 <= self.tape(tape).frames, "an overdub past the end");
            }
            Event::TapeRate { tape, sample_rate } => {
                let open = self.tape(tape);
                assert!(sample_rate > open.rate);
                open.frames = open.frames * u64::from(sample_rate) / u64::from(open.rate);
                open.rate = sample_rate;
            }
            Event::Recording { tape, range, left_out, last, row } => {
                let open = self.tape(tape);
                assert!(!open.done, "a recording after the last");
                open.done = last;
                assert!(range.start < range.end && range.end <= open.frames, "{range:?} of {}", open.frames);
                let mut at = range.start;
                for out in &left_out {
                    assert!(at <= out.start && out.start < out.end && out.end <= range.end, "{left_out:?}");
                    at = out.end;
                }
                let out: u64 = left_out.iter().map(|out| out.end - out.start).sum();
                assert_eq!((row.frames, row.sample_rate), (range.end - range.start - out, open.rate));
                assert!(row.frames > 0);
                for report in row.completeness {
                    assert_eq!(report.expected, report.received + report.lost);
                }
            }
            Event::TapeClosed { tape } => {
                assert!(self.open.remove(&tape).is_some(), "closed twice");
            }
            Event::Call(row) => {
                assert!(row.end >= row.start, "a call that ends before it begins: {row:?}");
                self.calls += 1;
            }
            Event::Stream(row) => {
                let figures = row.completeness;
                assert!(row.end >= row.start && figures.received <= row.packets);
                assert_eq!(figures.expected, figures.received + figures.lost);
            }
            Event::TapeKept { tape, parts } => {
                let rate = self.tape(tape).rate;
                assert!(
                    parts
                        .iter()
                        .all(|part| part.range.start <= part.range.end && part.row.sample_rate == rate)
                );
            }
            Event::Quality(row) => {
                let slice = row.slice;
                assert!(
                    slice.end >= slice.start
                        && slice.received + slice.lost + slice.late + slice.duplicate > 0
                );
                assert!((0.0..=1.0).contains(&slice.pattern.burst_loss));
                assert!((0.0..=1.0).contains(&slice.pattern.gap_loss));
            }
            Event::Happened(_) | Event::Media { .. } | Event::TapePacket { .. } | Event::Signalled { .. } => {
            }
            Event::TapeErase { tape, range } => {
                self.tape(tape);
                assert!(range.start < range.end, "{range:?}");
            }
        }
    }

    fn tape(&mut self, tape: TapeId) -> &mut Open {
        self.open.get_mut(&tape).expect("a tape that is open")
    }
}

pub fn description(call: u8, of_callee: bool) -> String {
    let ip = if of_callee { format!("10.0.1.{}", 1 + call % 2) } else { format!("10.0.0.{}", 1 + call % 4) };
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP 0 8 9 10 11 13 18 96 97 101\r\na=rtpmap:96 L16/16000\r\n\
         a=rtpmap:97 L16/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n"
    )
}

fn counted(counters: &Counters) -> u64 {
    counters.malformed.iter().sum::<u64>()
        + counters.other
        + counters.fragments
        + counters.tcp_segments
        + counters.sip_messages
        + counters.rtp_packets
        + counters.rtcp_packets
        + counters.stun_messages
        + counters.key_agreement
        + counters.udp_other
}
