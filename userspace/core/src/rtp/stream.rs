//! One SSRC on one 5-tuple, from its packets to the tape.
//!
//! A packet that comes in order is decoded straight from the frame. Only what must wait is copied: the
//! first packets of a run, whose least delay anchors it, and those that came before one that is missing.

mod figures;
mod keep;
mod play;
mod reports;

use super::burst::Bursts;
use super::dtmf::Dtmf;
use super::packet::{Held, Packet, hold};
use super::quality::Jitter;
use super::red;
use super::seal::Seal;
use super::sequence::{Sequence, Verdict};
use super::slice::{Open, Slice};
use super::span::Span;
use super::timeline::Timeline;
use super::undecoded::Undecoded;
use super::voice::Voice;
use super::{held, likeness};
use crate::codec::{Codec, CodecKind, Decoder};
use crate::fetch::fetch;
use crate::media::{Tape, TapeId};
use crate::record::{Completeness, Side};
use crate::time::{MILLISECOND, SECOND, Timestamp};
use reports::Reports;

/// A recording is not begun for a stream of fewer packets: they may be anybody's.
pub const MIN_PACKETS: u64 = 3;
/// Packets of a new run are held so long to find the one with the least delay.
const PROBATION: i64 = 200 * MILLISECOND;
/// How long packets wait for a missing one before them.
const REORDER_WAIT: i64 = 220 * MILLISECOND;
/// A packet so far from its place means that the sender's timestamps have jumped.
const JUMP: i64 = 300 * MILLISECOND;
/// After a jump the old anchor stays if some packet is this near to it: the others were only late.
const SAME_ANCHOR: i64 = 100 * MILLISECOND;
/// A packet with an old number that is this far from its place belongs to a new run.
const STALE: i64 = 700 * MILLISECOND;
/// Packets held at most.
const MAX_HELD: usize = 256;
/// What is held of a stream that no call has claimed yet.
const MAX_UNCLAIMED: i64 = 5 * SECOND;
/// So many packets missing in a row are an event of their own.
const LOSS_EVENT: u64 = 5;
/// Bytes that a payload type takes, with its decoder.
const FORMAT: usize = 512 + size_of::<Format>();

/// Something worth telling that was found in a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A key was pressed.
    Key(char),
    /// The sender changed its codec.
    Codec {
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// So many packets in a row never came.
    Loss(u64),
    /// Five seconds are over.
    Slice(Box<Slice>),
}

/// Where a stream is heard.
pub struct Playout<'a> {
    /// The tape of its call, if one runs.
    pub tape: Option<&'a mut Tape>,
    /// What has come until this moment is counted, but not recorded.
    pub since: Timestamp,
    /// What comes after this moment is counted, but not recorded.
    pub until: Timestamp,
    /// Who speaks.
    pub side: Side,
    /// What a payload type stands for in this call.
    pub codec: &'a dyn Fn(u8) -> Codec,
    /// Whether packets without a decoder are audio all the same, and are kept.
    pub keeps: &'a dyn Fn() -> bool,
    /// Whether packets that are decoded are kept as well.
    pub keeps_all: bool,
    /// Takes packets that are kept.
    pub undecoded: &'a mut Vec<Undecoded>,
    /// Takes notes.
    pub notes: &'a mut Vec<(Timestamp, Note)>,
    /// Decoded samples on their way; kept for its memory.
    pub scratch: &'a mut Vec<i16>,
}

impl Playout<'_> {
    /// The figures of the tape, for what came at that time.
    fn report_at(&mut self, at: Timestamp) -> Option<&mut Completeness> {
        let side = self.side.channel();
        self.tape.as_deref_mut().filter(|_| at <= self.until).map(|tape| &mut tape.completeness[side])
    }
}

struct Format {
    payload_type: u8,
    codec: Codec,
    decoder: Option<Decoder>,
    packets: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Packets are held until the run can be anchored.
    Probation,
    /// Anchored; packets are heard as they come in order.
    Playing,
}

/// Where the sender's clock stood.
#[derive(Clone, Copy)]
struct Stamp {
    timestamp: u32,
    /// Ticks a second.
    clock: u32,
    /// When the packet came.
    at: Timestamp,
}

/// The state of one stream.
pub struct Stream {
    /// Synchronisation source.
    pub ssrc: u32,
    /// First packet.
    pub first: Timestamp,
    /// Last packet.
    pub last: Timestamp,
    /// All packets, second copies too.
    pub packets: u64,
    /// Came after their place had been written.
    pub late: u64,
    /// Lost packets that a later one carried once more.
    recovered: u64,
    sequence: Sequence,
    state: State,
    pub(super) held: held::Queue,
    /// A packet with an odd sequence number, which may be the first of a new run.
    stray: Option<Box<(u16, Held)>>,
    /// Number of the packet that comes next.
    next: u64,
    /// Packets that were missing right before `next`.
    missing: u64,
    timeline: Option<Timeline>,
    /// Timestamp of the last packet without the wrap.
    timestamp: i64,
    /// Of the last packet that tells, which key presses do not: theirs is when the key was pressed.
    stamp: Option<Stamp>,
    /// Timestamp at which the last packet on the tape ends.
    played_to: Option<i64>,
    formats: Vec<Format>,
    current: Option<usize>,
    dtmf: Dtmf,
    jitter: Jitter,
    bursts: Bursts,
    slice: Open,
    reports: Reports,
    span: Span,
    voice: Voice,
    /// The tape in whose list the current codec stands.
    listed: Option<TapeId>,
    pub(super) seal: Seal,
    /// The sender has spoken in another stream since the last packet of this one.
    is_back: bool,
}

impl Stream {
    /// Fetches from memory what the next packet will need of it, but for what it decodes with.
    pub(crate) fn fetch(&self) {
        fetch(&self.played_to);
        fetch(&self.jitter);
        fetch(&self.reports);
        fetch(&self.span);
        fetch(&self.voice);
        fetch(&self.voice.concealed);
        fetch(&self.listed);
        fetch(&self.seal);
        fetch(&self.sequence);
        fetch(&self.sequence.unique);
        fetch(&self.timeline);
        fetch(&self.slice.start);
        fetch(&self.slice.received);
        fetch(&self.slice.bursts);
        fetch(&self.held);
        fetch(&self.formats);
        fetch(&self.bursts);
        fetch(&self.last);
        fetch(&self.next);
    }

    /// Fetches what it decodes with, and hides loss. What this reads is to be fetched before.
    pub(crate) fn fetch_decoder(&self) {
        if let Some(format) = self.current.and_then(|current| self.formats.get(current)) {
            fetch(format);
            fetch(&format.decoder);
            fetch(&format.packets);
        }
        self.voice.fetch();
    }

    /// A stream that begins with the packet that comes next.
    pub fn new(ssrc: u32, at: Timestamp) -> Stream {
        Stream {
            ssrc,
            first: at,
            last: at,
            packets: 0,
            late: 0,
            recovered: 0,
            sequence: Sequence::default(),
            state: State::Probation,
            held: held::Queue::default(),
            stray: None,
            next: 0,
            missing: 0,
            timeline: None,
            timestamp: 0,
            stamp: None,
            played_to: None,
            formats: Vec::new(),
            current: None,
            dtmf: Dtmf::default(),
            jitter: Jitter::default(),
            bursts: Bursts::default(),
            slice: Open::default(),
            reports: Reports::default(),
            span: Span::default(),
            voice: Voice::default(),
            listed: None,
            seal: Seal::default(),
            is_back: false,
        }
    }

    /// The next packet is the first after others of the same flow, for so long (nanoseconds) all of another stream.
    pub fn come_back(&mut self, others: i64, at: Timestamp) {
        self.is_back = others.min(at.since(self.last)) >= REORDER_WAIT;
    }

    /// Takes a packet of a stream that belongs to a call.
    pub fn receive(&mut self, packet: &Packet<'_>, out: &mut Playout<'_>) {
        self.note_arrival(packet);
        if std::mem::take(&mut self.is_back)
            && self.sequence.ahead(packet.sequence).is_some_and(|ahead| ahead > 1)
        {
            // What is missing was not lost: the sender has said it in its other stream.
            self.drain(packet.at, true, out);
            self.begin_run();
            let number = self.sequence.restart(packet.sequence);
            return self.accept(number, packet, out);
        }
        let stale = self.lateness(packet).abs() > STALE;
        match self.sequence.receive(packet.sequence, stale) {
            Verdict::New(number) => self.accept(number, packet, out),
            Verdict::Duplicate => {
                self.turn_slice(packet.at, out);
                self.slice.duplicate += 1;
                if let Some(report) = out.report_at(packet.at) {
                    report.duplicate += 1;
                }
            }
            Verdict::Stray => self.stray = Some(Box::new((packet.sequence, hold(0, packet)))),
            Verdict::Restart => {
                self.drain(packet.at, true, out);
                self.begin_run();
                if let Some((number, mut first)) = self.stray.take().map(|stray| *stray) {
                    first.number = self.sequence.restart(number);
                    self.next = first.number;
                    self.held.push_back(first);
                }
                if let Verdict::New(number) = self.sequence.receive(packet.sequence, false) {
                    self.accept(number, packet, out);
                }
            }
        }
    }

    /// Takes a packet of a stream that no call has claimed yet: the last few seconds are kept.
    pub fn receive_unclaimed(&mut self, packet: &Packet<'_>, keep: bool) {
        self.note_arrival(packet);
        self.is_back = false;
        match self.sequence.receive(packet.sequence, false) {
            Verdict::New(number) if keep => self.keep(number, packet),
            Verdict::New(_) | Verdict::Duplicate | Verdict::Stray => {}
            Verdict::Restart => {
                self.held.clear();
                self.sequence.restart(packet.sequence);
            }
        }
        if !keep && !self.held.is_empty() {
            // What is not followed by the rest is of no use.
            self.held.clear();
        }
    }

    /// Takes a packet of a stream that another engine records ([`crate::share`]): no more than tells whether a later one goes
    /// on with it. Returns whether it is audio, as far as the payload type tells.
    pub fn overhear(&mut self, packet: &Packet<'_>, codec: &dyn Fn(u8) -> Codec) -> bool {
        self.receive_unclaimed(packet, false);
        let Codec { kind, clock, .. } = codec(packet.payload_type);
        if kind == CodecKind::TelephoneEvent {
            return false;
        }
        self.note_stamp(packet, clock);
        if kind == CodecKind::ComfortNoise {
            return false;
        }
        self.timestamp = self.unwrap(packet.timestamp);
        self.span.add(self.timestamp, packet.sequence);
        true
    }

    /// Others like these have come, the last one with that number and that timestamp at that time.
    pub fn catch_up(&mut self, sequence: u16, timestamp: u32, at: Timestamp) {
        self.last = self.last.max(at);
        self.sequence.catch_up(sequence);
        self.timestamp = self.unwrap(timestamp);
        if let Some(stamp) = &mut self.stamp {
            (stamp.timestamp, stamp.at) = (timestamp, at);
        }
    }

    /// Whether what has been kept of a stream that no call has claimed is audio, as far as that can be told.
    pub fn looks_like_audio(&self) -> bool {
        let latest = self.held.iter().skip(self.held.len().saturating_sub(likeness::MOST));
        let seen = latest.map(|held| likeness::Seen {
            at: held.at,
            number: held.number,
            timestamp: held.timestamp,
            payload_type: held.payload_type,
            length: held.length,
        });
        likeness::is_audio(&seen.collect::<Vec<_>>())
    }

    /// Bytes that it takes, about.
    pub fn memory(&self) -> usize {
        size_of::<Stream>() + self.held.memory() + self.formats.len() * FORMAT
    }

    /// A call has claimed the stream. What came before `not_before` is not of that call. Returns how many
    /// packets are its own.
    pub fn claim(&mut self, not_before: Timestamp) -> u64 {
        self.held.retain(|held| held.at >= not_before);
        self.state = State::Probation;
        self.timeline = None;
        self.interrupt();
        self.stray = None;
        self.held.len() as u64
    }

    /// Arrival of the oldest packet that waits to be heard.
    pub fn oldest_held(&self) -> Option<Timestamp> {
        self.held.iter().map(|held| held.at).min()
    }

    /// Arrival, payload type and payload of the packet that will be heard first.
    pub fn first_held(&self) -> Option<(Timestamp, u8, &[u8])> {
        self.held.front().map(|held| (held.at, held.payload_type, held.payload()))
    }

    /// Whether packets wait to be heard.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Forgets what a payload type stood for: another description holds from now on.
    pub fn renegotiate(&mut self, codec: &dyn Fn(u8) -> Codec) {
        for format in &mut self.formats {
            let now = codec(format.payload_type);
            if !now.is_decoded_as(&format.codec) {
                format.decoder = Decoder::new(&now);
            }
            if now != format.codec {
                format.codec = now;
            }
        }
        self.listed = None;
    }

    /// Lets go what has waited long enough at `now`, or all of it.
    pub fn drain(&mut self, now: Timestamp, all: bool, out: &mut Playout<'_>) {
        if self.seal.is_awaited() && !all {
            return;
        }
        while let Some(front) = self.held.front() {
            match self.state {
                State::Probation => {
                    // Nothing is recorded of fewer packets: until there are more, long ones wait longer.
                    let is_few = out.tape.is_none() && self.sequence.unique < MIN_PACKETS;
                    let waited =
                        !is_few && self.oldest_held().is_some_and(|oldest| now.since(oldest) >= PROBATION);
                    if !(all || waited || self.held.len() >= MAX_HELD) {
                        return;
                    }
                    self.anchor(out);
                }
                State::Playing => {
                    let waited = now.since(front.at) >= REORDER_WAIT;
                    if front.number > self.next && !(all || waited || self.held.len() >= MAX_HELD) {
                        return;
                    }
                    let Some(held) = self.held.pop_front() else { return };
                    self.step_to(held.number, held.at, now, out);
                    self.hear(&held.packet(), out);
                }
            }
        }
        if self.held.is_empty() {
            // Most streams have nothing that waits for the rest of their time.
            self.held.clear();
        }
    }

    /// The payload type of the packets heard last.
    pub fn current_type(&self) -> Option<u8> {
        Some(self.formats.get(self.current?)?.payload_type)
    }

    /// The audio rate of the packets heard last.
    pub fn current_rate(&self) -> Option<u32> {
        let codec = &self.formats.get(self.current?)?.codec;
        Some(codec.recorded_rate()).filter(|&rate| rate != 0)
    }

    /// Whether a packet that comes after a long silence goes on where the stream had stopped: its number
    /// follows, and its timestamp has either gone on with the time or not at all.
    pub fn continues(&self, packet: &Packet<'_>) -> bool {
        let Some(ahead) = self.sequence.ahead(packet.sequence) else { return false };
        // Of so few that nothing may have been heard yet, nothing tells.
        let few = self.sequence.unique < MIN_PACKETS;
        let Some(Stamp { timestamp, clock, at }) = self.stamp.filter(|_| !few) else { return true };
        let ticks = i64::from(packet.timestamp.wrapping_sub(timestamp).cast_signed());
        let elapsed = packet.at.since(at) / MILLISECOND * i64::from(clock) / 1000;
        let with_time = (ticks - elapsed).abs() < elapsed / 4;
        with_time || ticks == i64::from(ahead) * self.span.packet()
    }

    /// Whether a packet with that sequence number is behind one that has come already.
    pub fn has_passed(&self, sequence: u16) -> bool {
        self.sequence.has_passed(sequence)
    }

    /// The audio rate of the next packet to be heard, if it can be. `codec` tells by payload type and payload what
    /// is inside.
    pub fn upcoming_rate(&self, codec: &dyn Fn(u8, &[u8]) -> Codec) -> Option<u32> {
        let clear = self.held.iter().filter(|held| !held.is_sealed);
        let rates = clear.map(|held| codec(held.payload_type, held.payload()).recorded_rate());
        rates.filter(|&rate| rate != 0).max()
    }

    fn note_arrival(&mut self, packet: &Packet<'_>) {
        self.packets += 1;
        self.last = self.last.max(packet.at);
    }

    fn note_stamp(&mut self, packet: &Packet<'_>, clock: u32) {
        if clock > 0 {
            self.stamp = Some(Stamp { timestamp: packet.timestamp, clock, at: packet.at });
        }
    }

    fn lateness(&self, packet: &Packet<'_>) -> i64 {
        let inner = match self.kind(packet.payload_type) {
            Some(CodecKind::Red) if !packet.is_sealed => red::primary(packet.payload).map(|(inner, _)| inner),
            _ => None,
        };
        let payload_type = inner.unwrap_or(packet.payload_type);
        let mut formats = self.formats.iter().filter(|format| format.payload_type == payload_type);
        if formats.any(|format| format.codec.kind == CodecKind::TelephoneEvent) {
            // All packets of a key press carry the time of its beginning.
            return 0;
        }
        match &self.timeline {
            Some(timeline) => timeline.lateness(self.unwrap(packet.timestamp), packet.at),
            None => 0,
        }
    }

    /// What a payload type stands for, if it has been heard.
    fn kind(&self, payload_type: u8) -> Option<CodecKind> {
        let format = self.formats.iter().find(|format| format.payload_type == payload_type);
        format.map(|format| format.codec.kind)
    }

    /// An RTP timestamp without the wrap: near that of the packet before.
    fn unwrap(&self, timestamp: u32) -> i64 {
        self.timestamp + i64::from(timestamp.wrapping_sub(self.timestamp as u32) as i32)
    }

    fn accept(&mut self, number: u64, packet: &Packet<'_>, out: &mut Playout<'_>) {
        self.stray = None;
        if self.seal.is_awaited() {
            return self.keep(number, packet);
        }
        if self.state == State::Playing && self.held.is_empty() && number == self.next {
            self.next = number + 1;
            return self.hear(packet, out);
        }
        if self.state == State::Playing && number < self.next {
            self.note_late(packet.at, out);
            return;
        }
        self.insert(hold(number, packet));
        self.drain(packet.at, false, out);
    }

    /// Holds a packet of which it is not known yet whose it is, or with which key it is decrypted.
    fn keep(&mut self, number: u64, packet: &Packet<'_>) {
        self.insert(hold(number, packet));
        while self
            .held
            .front()
            .is_some_and(|held| packet.at.since(held.at) > MAX_UNCLAIMED || self.held.len() > MAX_HELD)
        {
            self.held.pop_front();
        }
    }

    fn note_late(&mut self, at: Timestamp, out: &mut Playout<'_>) {
        self.late += 1;
        self.turn_slice(at, out);
        self.slice.receive_late();
        if let Some(report) = out.report_at(at) {
            // It was counted as lost when its place was filled.
            report.late += 1;
            report.received += 1;
            report.lost = report.lost.saturating_sub(1);
        }
    }

    fn insert(&mut self, held: Held) {
        let place =
            self.held.iter().rposition(|other| other.number < held.number).map_or(0, |place| place + 1);
        self.held.insert(place, held);
    }

    /// Goes on to the packet with that number; those before it that have not come are lost.
    fn step_to(&mut self, number: u64, at: Timestamp, now: Timestamp, out: &mut Playout<'_>) {
        let missing = number.saturating_sub(self.next);
        self.next = number + 1;
        self.missing = missing;
        if missing == 0 {
            return;
        }
        if let Some(tape) = &mut out.tape {
            tape.completeness[out.side.channel()].lost += missing;
        }
        self.turn_slice(at, out);
        self.slice.lose(missing);
        self.bursts.lose(missing);
        if missing >= LOSS_EVENT {
            out.notes.push((now, Note::Loss(missing)));
        }
    }

    fn begin_run(&mut self) {
        self.state = State::Probation;
        self.timeline = None;
        self.missing = 0;
        self.span.close();
    }

    /// Anchors the run that the held packets begin.
    fn anchor(&mut self, out: &mut Playout<'_>) {
        self.state = State::Playing;
        let Some(front) = self.held.front() else { return };
        self.next = self.next.max(front.number);
        if self.missing == 0 && self.timeline.is_none() {
            self.next = front.number;
        }
        let clock = (out.codec)(front.payload_type).clock;
        if clock == 0 {
            self.timeline = None;
            return;
        }
        let at = self.unwrap(front.timestamp);
        let probe = Timeline::new(clock, at, front.at);
        let lateness = |timeline: &Timeline| {
            let delays = self.held.iter().map(|held| timeline.lateness(self.unwrap(held.timestamp), held.at));
            delays.filter(|delay| delay.abs() < JUMP).min_by_key(|delay| *delay)
        };
        if let Some(old) = self.timeline.as_ref().filter(|old| old.clock() == clock)
            && lateness(old).is_some_and(|least| least.abs() <= SAME_ANCHOR)
        {
            return;
        }
        let least = lateness(&probe).unwrap_or(0);
        let mut anchor = front.at + least;
        let leaps = |old: &Timeline| at < self.timestamp || old.lateness(at, front.at) < -JUMP;
        let anew = self.timeline.as_ref().is_some_and(leaps);
        if let Some(tape) = &out.tape
            && front.at >= tape.start
        {
            anchor = anchor.max(tape.start);
        }
        if anew {
            // The sender's timestamps begin anew; those of one that was merely held up go on.
            self.span.close();
        }
        self.timestamp = at;
        self.timeline = Some(Timeline::new(clock, at, anchor));
        self.jitter.begin_anew();
        self.interrupt();
    }

    /// What comes next does not follow what came before.
    fn interrupt(&mut self) {
        self.played_to = None;
        self.voice.interrupt();
    }

    /// A packet's turn has come.
    fn hear(&mut self, packet: &Packet<'_>, out: &mut Playout<'_>) {
        if packet.at > out.until || packet.at <= out.since {
            let tape = out.tape.take();
            self.hear_in_time(packet, out);
            out.tape = tape;
        } else {
            self.hear_in_time(packet, out);
        }
    }

    fn hear_in_time(&mut self, packet: &Packet<'_>, out: &mut Playout<'_>) {
        let missing = std::mem::take(&mut self.missing);
        let mut index = self.format(packet.payload_type, out);
        let outer = packet;
        let mut packet = *packet;
        if self.formats[index].codec.kind == CodecKind::Red
            && !packet.is_sealed
            && let Some((payload_type, payload)) = red::primary(packet.payload)
        {
            packet = Packet { payload_type, payload, ..packet };
            index = self.format(payload_type, out);
        }
        let kind = self.formats[index].codec.kind;
        self.formats[index].packets += 1;
        if let Some(tape) = &mut out.tape {
            tape.completeness[out.side.channel()].received += 1;
        }
        match kind {
            CodecKind::TelephoneEvent if packet.is_sealed => return,
            CodecKind::TelephoneEvent => {
                self.keep_heard(index, &packet, packet.at, 0, out);
                if let Some(key) = self.dtmf.receive(packet.timestamp, packet.payload) {
                    out.notes.push((packet.at, Note::Key(key)));
                }
                return self.count(packet.at, out);
            }
            // One within another is none that anybody sends.
            CodecKind::ComfortNoise | CodecKind::Red => {
                self.note_stamp(&packet, self.formats[index].codec.clock);
                self.keep_heard(index, &packet, packet.at, 0, out);
                return self.count(packet.at, out);
            }
            _ => {}
        }
        let clock = self.formats[index].codec.clock;
        if clock == 0 {
            self.count(packet.at, out);
            self.keep_undecoded(index, &packet, packet.at, out);
            return;
        }
        if self.timeline.as_ref().is_none_or(|timeline| timeline.clock() != clock) {
            self.timestamp = i64::from(packet.timestamp);
            self.timeline = Some(Timeline::new(clock, self.timestamp, packet.at));
            self.jitter.begin_anew();
            self.interrupt();
            self.span.close();
        }
        let timestamp = self.unwrap(packet.timestamp);
        let Some(timeline) = &mut self.timeline else { return };
        let off = timeline.lateness(timestamp, packet.at).abs() > JUMP;
        if off && !self.span.is_new() {
            // Either this packet is late or the sender's clock has jumped: those that follow will tell.
            self.state = State::Probation;
            self.missing = missing;
            self.next -= 1;
            self.formats[index].packets -= 1;
            if let Some(tape) = &mut out.tape {
                tape.completeness[out.side.channel()].received -= 1;
            }
            let number = self.next;
            self.span.renew();
            self.held.push_front(hold(number, outer));
            return;
        }
        if off {
            // Those that came after it are in their places: this one belongs nowhere.
            self.late += 1;
            self.count(packet.at, out);
            self.slice.late += 1;
            if let Some(report) = out.report_at(packet.at) {
                report.late += 1;
            }
            return;
        }
        timeline.observe(timestamp, packet.at);
        self.jitter.receive(packet.at, timeline.nominal(timestamp));
        self.timestamp = timestamp;
        self.span.add(timestamp, packet.sequence);
        let place = timeline.place(timestamp);
        self.note_stamp(&packet, clock);
        self.count(packet.at, out);
        if out.tape.is_some() && self.formats[index].decoder.is_some() && !packet.is_sealed {
            if missing > 0 {
                self.play_copies(missing, timestamp, outer, out);
            }
            self.play(index, timestamp, missing > 0, packet.payload, out);
            if out.keeps_all {
                let ticks = self.played_to.map_or(0, |end| (end - timestamp).max(0));
                let length = ticks.saturating_mul(SECOND) / i64::from(self.formats[index].codec.clock.max(1));
                self.keep_heard(index, &packet, place, length, out);
            }
        } else {
            self.keep_undecoded(index, &packet, place, out);
            if out.tape.is_none()
                && let Some(timeline) = &mut self.timeline
            {
                // As where it is heard, by single samples: or its clock would be taken for one that jumps, sooner or later.
                timeline.follow(SECOND / i64::from(clock), false);
            }
        }
    }
}
