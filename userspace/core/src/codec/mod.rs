//! Codecs: what a payload type stands for, and how its payload becomes samples.

mod conceal;
mod g711;
mod resample;

use std::borrow::Cow;
use std::fmt;

use audio_codec::g722::G722Decoder;

pub use conceal::Concealer;
pub use resample::Upsampler;

/// An RTP payload format by name, as `a=rtpmap` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Encoding name as announced, or as RFC 3551 has it.
    name: Cow<'static, str>,
    /// RTP clock rate in hertz; 0 when nobody said.
    pub clock: u32,
    /// Channels.
    pub channels: u8,
    /// How it is decoded.
    pub kind: CodecKind,
}

/// What to do with the payload of a [`Codec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecKind {
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s. Its RTP clock says 8000, its audio has 16,000 samples a second (RFC 3551, 4.5.2).
    G722,
    /// Linear samples of 16 bits in network order (RFC 3551, 4.5.11).
    L16,
    /// Comfort noise (RFC 3389): the sender is silent.
    ComfortNoise,
    /// Key presses (RFC 4733).
    TelephoneEvent,
    /// Audio or anything else without a decoder here.
    Unsupported,
}

impl Codec {
    /// By encoding name, clock rate and number of channels.
    pub fn from_rtpmap(name: &str, clock: u32, channels: u8) -> Codec {
        let kind = match name {
            _ if name.eq_ignore_ascii_case("PCMU") => CodecKind::Pcmu,
            _ if name.eq_ignore_ascii_case("PCMA") => CodecKind::Pcma,
            _ if name.eq_ignore_ascii_case("G722") => CodecKind::G722,
            _ if name.eq_ignore_ascii_case("L16") => CodecKind::L16,
            _ if name.eq_ignore_ascii_case("CN") => CodecKind::ComfortNoise,
            _ if name.eq_ignore_ascii_case("telephone-event") => CodecKind::TelephoneEvent,
            _ => CodecKind::Unsupported,
        };
        const RATES: [u32; 8] = [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
        let sensible = RATES.contains(&clock) && (1..=8).contains(&channels);
        let kind = match kind {
            CodecKind::TelephoneEvent | CodecKind::ComfortNoise => kind,
            CodecKind::L16 if channels > 2 => CodecKind::Unsupported,
            _ if !sensible => CodecKind::Unsupported,
            _ => kind,
        };
        // Whoever writes "pcma" means PCMA; encoding names have no case (RFC 4855).
        let name = match kind {
            CodecKind::Pcmu => Cow::Borrowed("PCMU"),
            CodecKind::Pcma => Cow::Borrowed("PCMA"),
            CodecKind::G722 => Cow::Borrowed("G722"),
            CodecKind::L16 => Cow::Borrowed("L16"),
            CodecKind::ComfortNoise => Cow::Borrowed("CN"),
            CodecKind::TelephoneEvent => Cow::Borrowed("telephone-event"),
            CodecKind::Unsupported => Cow::Owned(name.chars().take(32).collect()),
        };
        Codec { name, clock, channels, kind }
    }

    /// By the static payload types of RFC 3551 section 6; 19 is what comfort noise was before.
    pub fn from_static(payload_type: u8) -> Codec {
        let (name, clock, channels, kind) = match payload_type {
            0 => ("PCMU", 8000, 1, CodecKind::Pcmu),
            3 => ("GSM", 8000, 1, CodecKind::Unsupported),
            4 => ("G723", 8000, 1, CodecKind::Unsupported),
            5 => ("DVI4", 8000, 1, CodecKind::Unsupported),
            6 => ("DVI4", 16_000, 1, CodecKind::Unsupported),
            7 => ("LPC", 8000, 1, CodecKind::Unsupported),
            8 => ("PCMA", 8000, 1, CodecKind::Pcma),
            9 => ("G722", 8000, 1, CodecKind::G722),
            10 => ("L16", 44_100, 2, CodecKind::L16),
            11 => ("L16", 44_100, 1, CodecKind::L16),
            12 => ("QCELP", 8000, 1, CodecKind::Unsupported),
            13 | 19 => ("CN", 8000, 1, CodecKind::ComfortNoise),
            14 => ("MPA", 90_000, 1, CodecKind::Unsupported),
            15 => ("G728", 8000, 1, CodecKind::Unsupported),
            16 => ("DVI4", 11_025, 1, CodecKind::Unsupported),
            17 => ("DVI4", 22_050, 1, CodecKind::Unsupported),
            18 => ("G729", 8000, 1, CodecKind::Unsupported),
            26 => ("JPEG", 90_000, 1, CodecKind::Unsupported),
            31 => ("H261", 90_000, 1, CodecKind::Unsupported),
            32 => ("MPV", 90_000, 1, CodecKind::Unsupported),
            33 => ("MP2T", 90_000, 1, CodecKind::Unsupported),
            34 => ("H263", 90_000, 1, CodecKind::Unsupported),
            _ => {
                let name = Cow::Owned(format!("PT{payload_type}"));
                return Codec { name, clock: 0, channels: 1, kind: CodecKind::Unsupported };
            }
        };
        Codec { name: Cow::Borrowed(name), clock, channels, kind }
    }

    /// Encoding name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the payload can be made audible here.
    pub fn is_decodable(&self) -> bool {
        matches!(self.kind, CodecKind::Pcmu | CodecKind::Pcma | CodecKind::G722 | CodecKind::L16)
    }

    /// Whether this goes along with audio and is none itself.
    pub fn is_auxiliary(&self) -> bool {
        matches!(self.kind, CodecKind::ComfortNoise | CodecKind::TelephoneEvent)
    }

    /// Samples a second of the decoded audio.
    pub fn sample_rate(&self) -> u32 {
        match self.kind {
            CodecKind::G722 => 16_000,
            _ => self.clock,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if self.clock != 0 {
            write!(f, "/{}", self.clock)?;
        }
        if self.channels > 1 {
            write!(f, "/{}", self.channels)?;
        }
        Ok(())
    }
}

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
            CodecKind::ComfortNoise | CodecKind::TelephoneEvent | CodecKind::Unsupported => None,
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
