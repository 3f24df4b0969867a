//! Codecs: what a payload type stands for, and how its payload becomes samples.

mod conceal;
mod dvi4;
pub mod external;
mod format;
pub mod g711;
mod g722;
mod g726;
mod gsm;
mod opus;
mod resample;

pub use conceal::Concealer;
pub use format::{Codec, CodecKind};
pub use resample::Upsampler;

use g722::G722;
use g726::G726;
use gsm::Gsm;
use opus::Opus;

/// Turns the payloads of one stream, in order, into samples.
pub enum Decoder {
    /// By a table of 256 samples.
    Table(&'static [i16; 256]),
    /// Keeps state from packet to packet.
    G722(Box<G722>),
    /// Channels, which are mixed down.
    L16(u8),
    /// Keeps half a kilobyte from frame to frame.
    Gsm(Box<Gsm>),
    /// Keeps state from packet to packet.
    G726(Box<G726>),
    /// Begins anew with each packet.
    Dvi4,
    /// By a library, with some 200 kB of state.
    Opus(Box<Opus>),
}

impl Decoder {
    /// `None` when there is none for that codec.
    pub fn new(codec: &Codec) -> Option<Decoder> {
        match codec.kind {
            CodecKind::Pcmu => Some(Decoder::Table(&g711::ULAW)),
            CodecKind::Pcma => Some(Decoder::Table(&g711::ALAW)),
            CodecKind::G722 => Some(Decoder::G722(Box::default())),
            CodecKind::L16 => Some(Decoder::L16(codec.channels)),
            CodecKind::Gsm => Some(Decoder::Gsm(Box::default())),
            CodecKind::G726 { bits, big_endian } => {
                G726::new(bits, big_endian).map(|state| Decoder::G726(Box::new(state)))
            }
            CodecKind::Dvi4 => Some(Decoder::Dvi4),
            CodecKind::Opus { rate } => Some(Decoder::Opus(Box::new(Opus::new(rate)))),
            _ => None,
        }
    }

    /// Appends the samples of `payload` to `out`.
    pub fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) {
        match self {
            Decoder::Table(table) => out.extend(payload.iter().map(|&byte| table[usize::from(byte)])),
            Decoder::G722(state) => state.decode(payload, out),
            Decoder::L16(2) => out.extend(payload.chunks_exact(4).map(|frame| {
                let left = i32::from(i16::from_be_bytes([frame[0], frame[1]]));
                let right = i32::from(i16::from_be_bytes([frame[2], frame[3]]));
                ((left + right) / 2) as i16
            })),
            Decoder::L16(_) => {
                out.extend(payload.chunks_exact(2).map(|sample| i16::from_be_bytes([sample[0], sample[1]])));
            }
            Decoder::Gsm(state) => state.decode(payload, out),
            Decoder::G726(state) => state.decode(payload, out),
            Decoder::Dvi4 => dvi4::decode(payload, out),
            Decoder::Opus(state) => state.decode(payload, out),
        }
    }

    /// Appends samples in the place of `lost` ones, if the codec has a way of its own to conceal a loss. Fewer when
    /// the loss is long.
    pub fn conceal(&mut self, lost: usize, out: &mut Vec<i16>) {
        if let Decoder::Opus(state) = self {
            state.conceal(lost, out);
        }
    }

    /// How many samples of what comes right before `packet` that packet carries as well, for the case of its loss.
    pub fn redundancy(&self, packet: &[u8]) -> Option<usize> {
        match self {
            Decoder::Opus(state) => state.redundancy(packet),
            _ => None,
        }
    }

    /// Appends those samples. `packet` itself is to be decoded after them.
    pub fn recover(&mut self, packet: &[u8], out: &mut Vec<i16>) {
        if let Decoder::Opus(state) = self {
            state.recover(packet, out);
        }
    }
}

#[cfg(test)]
mod tests;
