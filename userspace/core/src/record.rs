//! What the engine has to say of a call once it knows: the rows of the catalog.
//!
//! Every row names its call by [`Id`], which is derived from Call-ID, tag and start time: the same
//! capture gives the same rows, whoever replays it and when.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::rtp::Slice;
use crate::time::Timestamp;

/// A name derived from what it names: the first 16 bytes of a SHA-256, shown as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// Derives an id from the parts that make its bearer unique. Parts are length-prefixed, so that
    /// `["ab", "c"]` and `["a", "bc"]` differ.
    pub fn derive(parts: &[&[u8]]) -> Id {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Id(id)
    }

    /// Whether it is shown with these hex digits at its beginning.
    pub fn begins_with(&self, digits: &str) -> bool {
        let mut shown = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15].map(u32::from));
        !digits.is_empty() && digits.chars().all(|digit| digit.to_digit(16) == shown.next())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // At once: each row of the catalog has some of them.
        let mut text = [0; 32];
        for (digits, byte) in text.chunks_exact_mut(2).zip(self.0) {
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 0xf)];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who speaks. The caller is the From of the first INVITE and is heard on the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// From of the first INVITE: left channel.
    Caller,
    /// To of the first INVITE: right channel.
    Callee,
}

impl Side {
    /// The other party.
    pub fn other(self) -> Side {
        match self {
            Side::Caller => Side::Callee,
            Side::Callee => Side::Caller,
        }
    }

    /// Channel in an interleaved stereo block.
    pub fn channel(self) -> usize {
        match self {
            Side::Caller => 0,
            Side::Callee => 1,
        }
    }

    /// The word used in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Caller => "caller",
            Side::Callee => "callee",
        }
    }
}

/// One party of a call, as its first message names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// User part of the URI: a number or a name.
    pub user: String,
    /// The whole URI without parameters.
    pub uri: String,
    /// Display name, unquoted.
    pub display: String,
    /// Where its signalling came from.
    pub address: Option<IpAddr>,
    /// User-Agent or Server header.
    pub user_agent: String,
}

/// Why a call, or a recording, came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// BYE was seen.
    Bye,
    /// CANCEL was seen and obeyed.
    Cancelled,
    /// A final answer other than 2xx.
    Rejected,
    /// Somebody answered 481 or 408 within the dialog: there is no dialog any more.
    DialogGone,
    /// BYE was lost: no RTP for the configured time. Ends at the last media.
    RtpTimeout,
    /// No answer and no sign of life for the configured time.
    SignallingTimeout,
    /// The same addresses were taken by another call, so this one must have ended before.
    Superseded,
    /// The capture ended first. Ends at the last media.
    CaptureEnd,
    /// A trigger stopped this recording; the call may have gone on.
    Trigger,
    /// Given up to stay within the configured memory.
    Evicted,
    /// It was imported: its file ends there.
    FileEnd,
    /// The recorder was killed, or lost its power; what had been written until then was kept.
    Interrupted,
}

impl EndReason {
    /// The word used in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Bye => "bye",
            EndReason::Cancelled => "cancelled",
            EndReason::Rejected => "rejected",
            EndReason::DialogGone => "dialog-gone",
            EndReason::RtpTimeout => "rtp-timeout",
            EndReason::SignallingTimeout => "signalling-timeout",
            EndReason::Superseded => "superseded",
            EndReason::CaptureEnd => "capture-end",
            EndReason::Trigger => "trigger",
            EndReason::Evicted => "evicted",
            EndReason::FileEnd => "file-end",
            EndReason::Interrupted => "interrupted",
        }
    }
}

/// One call: a row of the table `calls`.
#[derive(Clone, Debug)]
pub struct CallRow {
    /// The call, in every table.
    pub id: Id,
    /// SIP Call-ID as seen on the wire.
    pub call_id: String,
    /// The same for all calls that belong together.
    pub conversation_id: String,
    /// From of the first INVITE.
    pub from: Party,
    /// To of the first INVITE.
    pub to: Party,
    /// First message of the call.
    pub start: Timestamp,
    /// First 2xx to the INVITE.
    pub answer: Option<Timestamp>,
    /// When it was over.
    pub end: Timestamp,
    /// Why it was over.
    pub end_reason: EndReason,
    /// Last final status of the INVITE; 0 when none was seen.
    pub status: u16,
    /// The call was already up when the capture began.
    pub joined: bool,
    /// No SIP was seen: the call was made of RTP alone.
    pub orphan: bool,
    /// Name of the rule that decided what is recorded.
    pub rule: String,
    /// `all`, `on-demand` or `ignore`.
    pub action: &'static str,
    /// SIP messages seen, retransmissions left out.
    pub messages: u32,
    /// SIP retransmissions and second copies.
    pub retransmissions: u32,
    /// RTP streams bound to the call.
    pub streams: u32,
    /// Recordings made.
    pub recordings: u32,
    /// Audio of the call that cannot be decoded here: names of codecs without a decoder, `encrypted (SDES)` and the like.
    pub undecodable: Vec<String>,
    /// Which system's recording session it is: it carries what is said in another call. Empty for a call in which
    /// people talk.
    pub session: &'static str,
}

/// What became of the packets of one recording or stream. Every figure is a count of packets but the
/// last two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completeness {
    /// By sequence number, from the first to the last.
    pub expected: u64,
    /// Different packets that came.
    pub received: u64,
    /// Never seen: lost before the mirror port.
    pub lost: u64,
    /// Of those lost, how many a later packet carried once more: by redundancy (RFC 2198) or by the codec (Opus).
    pub recovered: u64,
    /// Came, but after their place in the recording had been written.
    pub late: u64,
    /// Second copies.
    pub duplicate: u64,
    /// Given up by this program.
    pub dropped: u64,
    /// Audio filled in for loss, in milliseconds.
    pub concealed_ms: u64,
    /// Time for which this side had no audio at all, in milliseconds.
    pub silent_ms: u64,
}

/// One recording: a row of the table `recordings`, and the texts of its file's header.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordingRow {
    /// Derived from call and start.
    pub id: Id,
    /// Its call.
    pub call: Id,
    /// SIP Call-ID.
    pub call_id: String,
    /// The same for all calls that belong together.
    pub conversation_id: String,
    /// Left channel.
    pub from: Party,
    /// Right channel.
    pub to: Party,
    /// Moment of the first sample.
    pub start: Timestamp,
    /// Moment after the last sample.
    pub end: Timestamp,
    /// Samples a second and channel.
    pub sample_rate: u32,
    /// Samples a channel.
    pub frames: u64,
    /// What caused it: `rule`, `sip-info`, `orphan`, `import`…
    pub trigger: Cow<'static, str>,
    /// Name of the rule that allowed it.
    pub rule: String,
    /// Codecs heard in it, in order of appearance.
    pub codecs: Vec<String>,
    /// Why it ended.
    pub end_reason: EndReason,
    /// The call was already up when the capture began.
    pub joined: bool,
    /// One channel in which all are heard, as a phone has mixed them. The first of the reports is its.
    pub mixed: bool,
    /// Report of both channels, `[caller, callee]`.
    pub completeness: [Completeness; 2],
}

/// One RTP stream (one SSRC on one 5-tuple) of a call: a row of the table `streams`.
#[derive(Clone, Debug)]
pub struct StreamRow {
    /// Its call.
    pub call: Id,
    /// SIP Call-ID.
    pub call_id: String,
    /// Who speaks.
    pub side: Side,
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// RTP synchronisation source.
    pub ssrc: u32,
    /// `audio`, `video`, `event` (telephone-event only) or `unknown`.
    pub kind: &'static str,
    /// `name/clock` of each payload type in order of appearance.
    pub codecs: Vec<String>,
    /// Some of them were not announced: the static table of RFC 3551 says what they should be.
    pub guessed: bool,
    /// First packet.
    pub start: Timestamp,
    /// Last packet.
    pub end: Timestamp,
    /// All packets, second copies too.
    pub packets: u64,
    /// What became of them.
    pub completeness: Completeness,
    /// First arrivals below the highest sequence number.
    pub reordered: u64,
    /// The same SSRC began its sequence numbers anew.
    pub restarts: u32,
    /// Span of the media by RTP timestamps and one packet, in seconds; 0 when the clock is not known.
    pub media_seconds: f64,
    /// Interarrival jitter of RFC 3550 section 6.4.1 at the end, in milliseconds.
    pub jitter_ms: f64,
    /// Its maximum.
    pub max_jitter_ms: f64,
    /// Mean opinion score estimated by the E-model (G.107); 0 for what is not audio.
    pub mos: f64,
    /// Bursts and gaps of loss.
    pub pattern: LossPattern,
    /// What the sender calls itself (CNAME of RTCP); empty if it does not say.
    pub cname: String,
    /// What the receiver says of the stream by RTCP.
    pub reported: Reported,
    /// How the stream was bound to the call.
    pub bound_by: &'static str,
    /// Why it is not heard in a recording; empty when it is.
    pub not_decoded: &'static str,
}

/// How loss is spread: bursts and gaps by RFC 3611 section 4.7.2, with Gmin 16. Packets that came too late to be heard
/// count as lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossPattern {
    /// Bursts of loss.
    pub bursts: u64,
    /// Part of the packets in bursts that is lost, from 0 to 1.
    pub burst_loss: f64,
    /// Mean length of a burst in milliseconds.
    pub burst_ms: f64,
    /// Part of the packets outside of bursts that is lost, from 0 to 1.
    pub gap_loss: f64,
    /// Mean length of a gap in milliseconds.
    pub gap_ms: f64,
}

/// What the receiver of a stream said of it last, by RTCP (RFC 3550 section 6.4, RFC 3611 section 4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reported {
    /// Part of the packets lost since the report before, from 0 to 1.
    pub loss: Option<f64>,
    /// Packets lost since the stream began, less second copies.
    pub lost: Option<i64>,
    /// Interarrival jitter in milliseconds.
    pub jitter_ms: Option<f64>,
    /// From here to the receiver and back in milliseconds, by when its answer to a sender's report came; or from
    /// end to end, if the receiver says so itself.
    pub round_trip_ms: Option<f64>,
    /// Opinion score for listening, or for conversation where that alone is told.
    pub mos: Option<f64>,
}

impl Reported {
    /// Takes over what a later report says.
    pub fn update(&mut self, later: &Reported) {
        self.loss = later.loss.or(self.loss);
        self.lost = later.lost.or(self.lost);
        self.jitter_ms = later.jitter_ms.or(self.jitter_ms);
        self.round_trip_ms = later.round_trip_ms.or(self.round_trip_ms);
        self.mos = later.mos.or(self.mos);
    }
}

/// Five seconds of a stream: a row of the table `quality`.
#[derive(Clone, Debug)]
pub struct QualityRow {
    /// Its call.
    pub call: Id,
    /// SIP Call-ID.
    pub call_id: String,
    /// Who speaks.
    pub side: Side,
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// What it was like.
    pub slice: Slice,
}

/// Something that happened in a call: a row of the table `events`.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// Its call.
    pub call: Id,
    /// SIP Call-ID.
    pub call_id: String,
    /// When.
    pub at: Timestamp,
    /// `message`, `trigger`, `note`, `hold`, `resume`, `transfer`, `conference`, `codec`, `dtmf`, `loss`, `gap`, `drop`, `cut`, `import`, `end`…
    pub kind: &'static str,
    /// For a trigger its source (`sip-info`…); else empty.
    pub trigger: &'static str,
    /// For a trigger `start`, `stop`, `pause` or `resume`; else empty.
    pub verb: &'static str,
    /// For a trigger `requested`, `confirmed`, `refused` or `unconfirmed`; for what came of a transfer `confirmed` or
    /// `refused`; else empty.
    pub outcome: &'static str,
    /// Who sent it.
    pub source: Option<SocketAddr>,
    /// Who it was sent to.
    pub destination: Option<SocketAddr>,
    /// In words.
    pub text: String,
}
