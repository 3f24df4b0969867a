//! What a payload type stands for: `a=rtpmap`, `a=fmtp` and the static table of RFC 3551.

use std::borrow::Cow;
use std::fmt;

/// Bytes kept of an encoding name that is not known.
const MAX_NAME: usize = 32;
/// Clock rates of audio.
const RATES: [u32; 8] = [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

/// An RTP payload format by name, as `a=rtpmap` has it, with what `a=fmtp` adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Encoding name as RFC 3551 or its own RFC has it, or else as announced.
    name: Cow<'static, str>,
    /// RTP clock rate in hertz; 0 when nobody said.
    pub clock: u32,
    /// Channels.
    pub channels: u8,
    /// How it is decoded.
    pub kind: CodecKind,
    /// Nobody announced the payload type: the static table says what it should be.
    pub guessed: bool,
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
    /// GSM 06.10, full rate (RFC 3551, 4.5.8).
    Gsm,
    /// G.726 (RFC 3551, 4.5.4).
    G726 {
        /// Bits a sample: 2 to 5, for 16, 24, 32 and 40 kbit/s.
        bits: u8,
        /// The first code stands in the highest bits, as in AAL2 (ITU-T I.366.2, annex E); in RFC 3551's own
        /// packing it stands in the lowest.
        big_endian: bool,
    },
    /// IMA ADPCM with a header of the predictor's state (RFC 3551, 4.5.1).
    Dvi4,
    /// Opus (RFC 6716, RFC 7587).
    Opus {
        /// Samples a second that are decoded: what the receiver says that it plays at most
        /// (`maxplaybackrate`), or else 48,000.
        rate: u32,
    },
    /// Redundant audio (RFC 2198): blocks of other payload types.
    Red,
    /// G.729, with Annex A and with Annex B's silence descriptions (RFC 3551, 4.5.6).
    G729,
    /// G.723.1 (RFC 3551, 4.5.3).
    G7231,
    /// iLBC (RFC 3952).
    Ilbc {
        /// Milliseconds a frame, 20 or 30, as announced; 38 bytes are 20 ms, 50 are 30, whatever was said.
        mode: u8,
    },
    /// AMR (RFC 4867).
    Amr {
        /// `octet-align=1`; otherwise the frames follow each other bit by bit.
        octet_aligned: bool,
    },
    /// AMR-WB (RFC 4867), 16,000 samples a second.
    AmrWb {
        /// As in [`CodecKind::Amr`].
        octet_aligned: bool,
    },
    /// Speex (RFC 5574); narrow, wide or ultra-wide band by its clock rate.
    Speex,
    /// Comfort noise (RFC 3389): the sender is silent.
    ComfortNoise,
    /// Key presses (RFC 4733).
    TelephoneEvent,
    /// Audio or anything else of which no more is known than its name.
    Unsupported,
}

/// Encoding names, which have no case (RFC 4855), and what they stand for before `a=fmtp` is read.
const NAMES: [(&str, CodecKind); 27] = [
    ("PCMU", CodecKind::Pcmu),
    ("PCMA", CodecKind::Pcma),
    ("G722", CodecKind::G722),
    ("L16", CodecKind::L16),
    ("GSM", CodecKind::Gsm),
    ("G726-16", CodecKind::G726 { bits: 2, big_endian: false }),
    ("G726-24", CodecKind::G726 { bits: 3, big_endian: false }),
    ("G726-32", CodecKind::G726 { bits: 4, big_endian: false }),
    ("G726-40", CodecKind::G726 { bits: 5, big_endian: false }),
    ("AAL2-G726-16", CodecKind::G726 { bits: 2, big_endian: true }),
    ("AAL2-G726-24", CodecKind::G726 { bits: 3, big_endian: true }),
    ("AAL2-G726-32", CodecKind::G726 { bits: 4, big_endian: true }),
    ("AAL2-G726-40", CodecKind::G726 { bits: 5, big_endian: true }),
    // G.726 at 32 kbit/s before it had that number.
    ("G721", CodecKind::G726 { bits: 4, big_endian: false }),
    ("DVI4", CodecKind::Dvi4),
    ("opus", CodecKind::Opus { rate: 48_000 }),
    ("red", CodecKind::Red),
    ("G729", CodecKind::G729),
    // Cisco's names; whether there are silence descriptions, each frame tells.
    ("G729a", CodecKind::G729),
    ("G723", CodecKind::G7231),
    ("iLBC", CodecKind::Ilbc { mode: 30 }),
    ("AMR", CodecKind::Amr { octet_aligned: false }),
    ("AMR-WB", CodecKind::AmrWb { octet_aligned: false }),
    ("speex", CodecKind::Speex),
    ("CN", CodecKind::ComfortNoise),
    ("telephone-event", CodecKind::TelephoneEvent),
    ("G7231", CodecKind::G7231),
];

impl Codec {
    /// By encoding name, clock rate and number of channels.
    pub fn from_rtpmap(name: &str, clock: u32, channels: u8) -> Codec {
        let known = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let kind = known.map_or(CodecKind::Unsupported, |&(_, kind)| kind);
        let sensible = match kind {
            CodecKind::TelephoneEvent | CodecKind::ComfortNoise | CodecKind::Red => true,
            CodecKind::L16 => RATES.contains(&clock) && (1..=2).contains(&channels),
            // Two channels are announced whatever is sent (RFC 7587 section 7); some say one.
            CodecKind::Opus { .. } => clock == 48_000 && (1..=2).contains(&channels),
            CodecKind::Pcmu | CodecKind::Pcma | CodecKind::G722 => {
                RATES.contains(&clock) && (1..=8).contains(&channels)
            }
            CodecKind::Dvi4 => [8000, 11_025, 16_000, 22_050].contains(&clock) && channels == 1,
            CodecKind::Speex => [8000, 16_000, 32_000].contains(&clock) && channels == 1,
            CodecKind::AmrWb { .. } => clock == 16_000 && channels == 1,
            _ => clock == 8000 && channels == 1,
        };
        let kind = if sensible { kind } else { CodecKind::Unsupported };
        let name = match known {
            Some((name, _)) => Cow::Borrowed(*name),
            None => Cow::Owned(name.chars().take(MAX_NAME).collect()),
        };
        Codec { name, clock, channels, kind, guessed: false }
    }

    /// With what `a=fmtp` says of it: `name=value` pairs between semicolons (RFC 8866 section 6.15). What is not
    /// known, or makes no sense, changes nothing.
    #[must_use]
    pub fn with_parameters(mut self, fmtp: &str) -> Codec {
        let parameter = |wanted: &str| {
            let pairs = fmtp.split(';').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            let mut found = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
            found.next().map(|(_, value)| value.trim())
        };
        let is_set = |wanted: &str| parameter(wanted).is_some_and(|value| value != "0");
        // Each brings the octets into another order or adds some (RFC 4867 section 4.4).
        let odd = || ["crc", "interleaving", "robust-sorting"].into_iter().any(is_set);
        match &mut self.kind {
            CodecKind::Opus { rate } => {
                let most =
                    parameter("maxplaybackrate").and_then(|value| value.parse().ok()).unwrap_or(48_000);
                // Those of Opus's own rates that a tape can have.
                let rates = [8000, 16_000, 24_000].into_iter().find(|&own: &u32| own >= most);
                *rate = rates.unwrap_or(48_000);
            }
            CodecKind::Ilbc { mode } if parameter("mode") == Some("20") => *mode = 20,
            CodecKind::Amr { .. } | CodecKind::AmrWb { .. } if odd() => self.kind = CodecKind::Unsupported,
            CodecKind::Amr { octet_aligned } | CodecKind::AmrWb { octet_aligned } => {
                *octet_aligned = is_set("octet-align");
            }
            _ => {}
        }
        self
    }

    /// By the static payload types of RFC 3551 section 6; 2 and 19 are what they were before (RFC 1890).
    pub fn from_static(payload_type: u8) -> Codec {
        let (name, clock, channels) = match payload_type {
            0 => ("PCMU", 8000, 1),
            2 => ("G726-32", 8000, 1),
            3 => ("GSM", 8000, 1),
            4 => ("G723", 8000, 1),
            5 => ("DVI4", 8000, 1),
            6 => ("DVI4", 16_000, 1),
            7 => ("LPC", 8000, 1),
            8 => ("PCMA", 8000, 1),
            9 => ("G722", 8000, 1),
            10 => ("L16", 44_100, 2),
            11 => ("L16", 44_100, 1),
            12 => ("QCELP", 8000, 1),
            13 | 19 => ("CN", 8000, 1),
            14 => ("MPA", 90_000, 1),
            15 => ("G728", 8000, 1),
            16 => ("DVI4", 11_025, 1),
            17 => ("DVI4", 22_050, 1),
            18 => ("G729", 8000, 1),
            26 => ("JPEG", 90_000, 1),
            31 => ("H261", 90_000, 1),
            32 => ("MPV", 90_000, 1),
            33 => ("MP2T", 90_000, 1),
            34 => ("H263", 90_000, 1),
            _ => {
                let name = Cow::Owned(format!("PT{payload_type}"));
                return Codec { name, clock: 0, channels: 1, kind: CodecKind::Unsupported, guessed: false };
            }
        };
        Codec { name: Cow::Borrowed(name), ..Codec::from_rtpmap(name, clock, channels) }
    }

    /// Encoding name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the payload can be made audible here.
    pub fn is_decodable(&self) -> bool {
        matches!(
            self.kind,
            CodecKind::Pcmu
                | CodecKind::Pcma
                | CodecKind::G722
                | CodecKind::L16
                | CodecKind::Gsm
                | CodecKind::G726 { .. }
                | CodecKind::Dvi4
                | CodecKind::Opus { .. }
        )
    }

    /// Whether it is audio, as far as its name tells, that has no decoder in this program.
    pub fn is_undecoded_audio(&self) -> bool {
        const NO_AUDIO: [&str; 5] = ["JPEG", "H261", "MPV", "MP2T", "H263"];
        !self.is_decodable() && !self.is_auxiliary() && !NO_AUDIO.contains(&self.name())
    }

    /// Whether a program outside can decode it.
    pub fn is_external(&self) -> bool {
        matches!(
            self.kind,
            CodecKind::G729
                | CodecKind::G7231
                | CodecKind::Ilbc { .. }
                | CodecKind::Amr { .. }
                | CodecKind::AmrWb { .. }
                | CodecKind::Speex
        )
    }

    /// Samples a second that a recording of it should have; 0 when it does not matter.
    pub fn recorded_rate(&self) -> u32 {
        if self.is_decodable() || self.is_external() { self.sample_rate() } else { 0 }
    }

    /// Whether this goes along with audio, or around it, and is none itself.
    pub fn is_auxiliary(&self) -> bool {
        matches!(self.kind, CodecKind::ComfortNoise | CodecKind::TelephoneEvent | CodecKind::Red)
    }

    /// By the static table, although nobody announced it.
    pub fn guess(payload_type: u8) -> Codec {
        let codec = Codec::from_static(payload_type);
        Codec { guessed: codec.clock != 0, ..codec }
    }

    /// Whether both are decoded in the same way.
    pub fn is_decoded_as(&self, other: &Codec) -> bool {
        (self.kind, self.clock, self.channels) == (other.kind, other.clock, other.channels)
    }

    /// Samples a second of the decoded audio; 0 when the clock rate is not known.
    pub fn sample_rate(&self) -> u32 {
        match self.kind {
            CodecKind::G722 => 16_000,
            CodecKind::Opus { rate } => rate,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case() {
        for (name, kind) in [
            ("gsm", CodecKind::Gsm),
            ("aal2-g726-24", CodecKind::G726 { bits: 3, big_endian: true }),
            ("g726-40", CodecKind::G726 { bits: 5, big_endian: false }),
            ("ILBC", CodecKind::Ilbc { mode: 30 }),
            ("evs", CodecKind::Unsupported),
        ] {
            assert_eq!(Codec::from_rtpmap(name, 8000, 1).kind, kind, "{name}");
        }
        assert_eq!(Codec::from_rtpmap("OPUS", 48_000, 2).to_string(), "opus/48000/2");
        assert_eq!(Codec::from_rtpmap("OPUS", 44_100, 2).kind, CodecKind::Unsupported);
        assert_eq!(Codec::from_rtpmap("GSM", 16_000, 1).kind, CodecKind::Unsupported);
    }

    #[test]
    fn parameters_that_matter() {
        let kind =
            |name: &str, clock, fmtp: &str| Codec::from_rtpmap(name, clock, 1).with_parameters(fmtp).kind;
        for (fmtp, rate) in [
            ("useinbandfec=1;minptime=10", 48_000),
            ("maxplaybackrate=16000; sprop-maxcapturerate=8000", 16_000),
            ("minptime=10; MaxPlaybackRate=12000", 16_000),
            ("maxplaybackrate=0", 8000),
            ("maxplaybackrate=x;maxplaybackrate", 48_000),
            ("maxplaybackrate=4294967295", 48_000),
        ] {
            assert_eq!(kind("opus", 48_000, fmtp), CodecKind::Opus { rate }, "{fmtp}");
        }
        assert_eq!(kind("iLBC", 8000, "mode=20"), CodecKind::Ilbc { mode: 20 });
        assert_eq!(kind("AMR", 8000, "octet-align=1;mode-set=7"), CodecKind::Amr { octet_aligned: true });
        assert_eq!(kind("AMR", 8000, "octet-align=0"), CodecKind::Amr { octet_aligned: false });
        assert_eq!(kind("AMR-WB", 16_000, "octet-align=1; crc=1"), CodecKind::Unsupported);
        assert_eq!(kind("AMR-WB", 16_000, ""), CodecKind::AmrWb { octet_aligned: false });
    }

    #[test]
    fn static_types_are_known() {
        for (payload_type, shown, kind) in [
            (3, "GSM/8000", CodecKind::Gsm),
            (4, "G723/8000", CodecKind::G7231),
            (6, "DVI4/16000", CodecKind::Dvi4),
            (18, "G729/8000", CodecKind::G729),
            (96, "PT96", CodecKind::Unsupported),
        ] {
            let codec = Codec::from_static(payload_type);
            assert_eq!((codec.to_string().as_str(), codec.kind), (shown, kind));
        }
    }
}
