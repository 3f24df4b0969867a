//! What comes out of the engine.

use std::net::SocketAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::media::TapeId;
use crate::record::{CallRow, EventRow, Id, QualityRow, RecordingRow, Side, StreamRow};
use crate::rtp::Undecoded;
use crate::time::Timestamp;
use crate::trigger::Verb;
use crate::wire::Endpoint;

/// In the order in which they must be carried out.
#[derive(Debug)]
pub enum Event {
    /// Audio of a call will follow: samples of 16 bits.
    TapeOpened {
        /// Its name.
        tape: TapeId,
        /// Two, of caller and callee; one where all are heard in one stream.
        channels: u16,
        /// Frames a second.
        sample_rate: u32,
        /// Which of the rules it is for, from 0 on, and of how many: the first one matters most.
        rule: (usize, usize),
    },
    /// Samples that follow those before.
    TapeSamples {
        /// Which tape.
        tape: TapeId,
        /// Channel after channel, as many of each: of two, first the caller's.
        samples: Vec<i16>,
    },
    /// So many frames in which nobody was heard.
    TapeSilence {
        /// Which tape.
        tape: TapeId,
        /// How many.
        frames: u64,
    },
    /// Samples of one side to be added to what was written before: they were held up on their way.
    TapeOverdub {
        /// Which tape.
        tape: TapeId,
        /// Where they belong.
        frame: u64,
        /// Whose they are.
        side: Side,
        /// One sample a frame.
        samples: Vec<i16>,
    },
    /// The call has a higher rate from here on: what is on the tape is to be brought to it.
    TapeRate {
        /// Which tape.
        tape: TapeId,
        /// Frames a second from here on.
        sample_rate: u32,
    },
    /// A packet of a stream for which there is no decoder here, in the order in which it would be heard; or any that is
    /// recorded, where [`Config::keeps_packets`](crate::rules::Config::keeps_packets) is set. It is kept beside the tape
    /// as long as the samples of its time are.
    TapePacket {
        /// Which tape.
        tape: TapeId,
        /// Who speaks.
        side: Side,
        /// Sender.
        source: SocketAddr,
        /// Receiver.
        destination: SocketAddr,
        /// The packet and what is known of it.
        packet: Box<Undecoded>,
    },
    /// A part of a tape is a recording. The tape is longer than the part's end, or ends there.
    Recording {
        /// Which tape.
        tape: TapeId,
        /// Its frames.
        range: Range<u64>,
        /// Those of them that are left out, in order: see [`kept`].
        left_out: Vec<Range<u64>>,
        /// Nothing else of the tape will be asked for.
        last: bool,
        /// What is to be known of it.
        row: Box<RecordingRow>,
    },
    /// What of a tape is to be kept, as far as it is known: were there no further event, these would be its
    /// recordings. It holds until it is said anew.
    TapeKept {
        /// Which tape.
        tape: TapeId,
        /// In order.
        parts: Vec<Part>,
    },
    /// The tape is done with: what is not a recording must go.
    TapeClosed {
        /// Which tape.
        tape: TapeId,
    },
    /// A call is over.
    Call(Box<CallRow>),
    /// A stream is over.
    Stream(Box<StreamRow>),
    /// Five seconds of a stream are over.
    Quality(Box<QualityRow>),
    /// Something has happened.
    Happened(Box<EventRow>),
    /// What is on a tape of these frames, or beside it, is made silence, without a trace: it must not be kept.
    TapeErase {
        /// Which.
        tape: TapeId,
        /// Frames, of which some or all have been handed over before.
        range: Range<u64>,
    },
    /// Something has happened to a call that another engine has to know to go on with it. Only where
    /// [`Config::tells_signalling`](crate::rules::Config::tells_signalling) is set.
    Signalled {
        /// Which call.
        call: Id,
        /// For [`Engine::restore`](crate::engine::Engine::restore).
        signal: Signal,
    },
    /// What is wanted of the media from and to an endpoint has changed. Only where
    /// [`Config::announces_media`](crate::rules::Config::announces_media) is set.
    Media {
        /// Where somebody receives, by a session description.
        endpoint: Endpoint,
        /// `None`: no call names it any more. `Some(false)`: only calls that are not recorded do.
        wanted: Option<bool>,
    },
}

/// Something that has happened to a call, as another engine can be told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Signalled,
}

/// What has happened to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signalled {
    /// A SIP message.
    Message {
        /// Who sent it.
        source: SocketAddr,
        /// To whom.
        destination: SocketAddr,
        /// A character for each of its bytes.
        text: String,
    },
    /// A trigger has been obeyed.
    Order {
        /// Of which call.
        call: Id,
        /// The name of the trigger.
        trigger: String,
        /// What it was for.
        verb: Verb,
    },
}

/// A part of a tape that is to be a recording.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Its frames; the end is [`Part::OPEN`] while it goes on.
    pub range: Range<u64>,
    /// Those of them that are left out, in order: see [`kept`].
    pub left_out: Vec<Range<u64>>,
    /// What is known of it: of one that goes on, neither its end nor its figures.
    pub row: RecordingRow,
}

impl Part {
    /// The end of a part that goes on.
    pub const OPEN: u64 = u64::MAX;
}

/// What is kept of a range of frames when others of it are left out, in order.
pub fn kept(range: Range<u64>, left_out: &[Range<u64>]) -> impl Iterator<Item = Range<u64>> {
    let begins = std::iter::once(range.start).chain(left_out.iter().map(|out| out.end));
    let ends = left_out.iter().map(|out| out.start).chain([range.end]);
    begins.zip(ends).map(|(begin, end)| begin..end).filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept() {
        let kept = |left_out: &[Range<u64>]| kept(5..20, left_out).flatten().collect::<Vec<u64>>();
        assert_eq!(kept(&[]), (5..20).collect::<Vec<_>>());
        assert_eq!(kept(&[6..10, 10..12, 15..16]), [5, 12, 13, 14, 16, 17, 18, 19]);
        assert_eq!(kept(&[5..8, 10..20]), [8, 9]);
        assert_eq!(kept(&[5..7, 7..20]), []);
    }
}
