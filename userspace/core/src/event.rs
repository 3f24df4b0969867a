//! What comes out of the engine.

use std::ops::Range;

use crate::media::TapeId;
use crate::record::{CallRow, EventRow, RecordingRow, Side, StreamRow};
use crate::wire::Endpoint;

/// In the order in which they must be carried out.
#[derive(Debug)]
pub enum Event {
    /// Audio of a call will follow: interleaved samples of 16 bits.
    TapeOpened {
        /// Its name.
        tape: TapeId,
        /// Two, of caller and callee; one where all are heard in one stream.
        channels: u16,
        /// Frames a second.
        sample_rate: u32,
    },
    /// Interleaved samples that follow those before.
    TapeSamples {
        /// Which tape.
        tape: TapeId,
        /// A sample a channel in each frame.
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
    /// A part of a tape is a recording. The tape is longer than the part's end, or ends there.
    Recording {
        /// Which tape.
        tape: TapeId,
        /// Its frames.
        range: Range<u64>,
        /// Nothing else of the tape will be asked for.
        last: bool,
        /// What is to be known of it.
        row: Box<RecordingRow>,
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
    /// Something has happened.
    Happened(Box<EventRow>),
    /// What is on a tape of these frames is made silence, without a trace: it must not be kept.
    TapeErase {
        /// Which.
        tape: TapeId,
        /// Frames that have been handed over before.
        range: Range<u64>,
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
