//! Codecs: what a payload type stands for, and how its payload becomes samples.

mod conceal;
pub mod external;
mod format;
mod g711;
mod resample;

use audio_codec::g722::G722Decoder;

pub use conceal::Concealer;
pub use format::{Codec, CodecKind};
pub use resample::Upsampler;

/// Turns the payloads of one stream, in order, into samples.
pub enum Decoder {
    /// By a table of 256 samples.
    Table(&'static [i16; 256]),
    /// Keeps state from packet to packet.
    G722(Box<G722Decoder>),
    /// Channels, which are mixed down.
    L16(u8),
}

impl Decoder {
    /// `None` when there is none for that codec.
    pub fn new(codec: &Codec) -> Option<Decoder> {
        match codec.kind {
            CodecKind::Pcmu => Some(Decoder::Table(&g711::ULAW)),
            CodecKind::Pcma => Some(Decoder::Table(&g711::ALAW)),
            CodecKind::G722 => Some(Decoder::G722(Box::default())),
            CodecKind::L16 => Some(Decoder::L16(codec.channels)),
            _ => None,
        }
    }

    /// Appends the samples of `payload` to `out`.
    pub fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) {
        match self {
            Decoder::Table(table) => out.extend(payload.iter().map(|&byte| table[usize::from(byte)])),
            Decoder::G722(state) => {
                let begin = out.len();
                out.resize(begin + 2 * payload.len(), 0);
                let written = state.decode_frame_into(payload, &mut out[begin..]).unwrap_or(0);
                out.truncate(begin + written);
            }
            Decoder::L16(2) => out.extend(payload.chunks_exact(4).map(|frame| {
                let left = i32::from(i16::from_be_bytes([frame[0], frame[1]]));
                let right = i32::from(i16::from_be_bytes([frame[2], frame[3]]));
                ((left + right) / 2) as i16
            })),
            Decoder::L16(_) => {
                out.extend(payload.chunks_exact(2).map(|sample| i16::from_be_bytes([sample[0], sample[1]])));
            }
        }
    }
}
