//! The encoders that the generator needs.

/// What an RTP stream of a sample carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Pcmu,
    Pcma,
    /// 16 kHz, mono, under a dynamic payload type.
    L16,
}

impl Codec {
    pub(crate) fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::L16 => 97,
        }
    }

    pub(crate) fn rtpmap(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU/8000",
            Self::Pcma => "PCMA/8000",
            Self::L16 => "L16/16000",
        }
    }

    pub(crate) fn clock(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8000,
            Self::L16 => 16000,
        }
    }

    pub(crate) fn encode(self, samples: &[i16]) -> Vec<u8> {
        match self {
            Self::Pcmu => samples.iter().map(|&sample| mu_law(sample)).collect(),
            Self::Pcma => samples.iter().map(|&sample| a_law(sample)).collect(),
            Self::L16 => samples.iter().flat_map(|sample| sample.to_be_bytes()).collect(),
        }
    }
}

/// G.711 µ-law: 14-bit magnitude with a bias of 33, sent inverted.
fn mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (u32::from(sample.unsigned_abs()) >> 2).min(8158) + 33;
    let segment = magnitude.ilog2() - 5;
    let step = (magnitude >> (segment + 1)) & 0x0f;
    !(sign | (segment << 4 | step) as u8)
}

/// G.711 A-law: 13-bit, even bits inverted, negative values one's complement.
fn a_law(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 { (0, !sample as u32 >> 4) } else { (0x80, sample as u32 >> 4) };
    let code = match magnitude.checked_ilog2() {
        Some(top @ 5..) => (top - 3) << 4 | (magnitude >> (top - 4)) & 0x0f,
        _ => magnitude & 0x1f,
    };
    (sign | code as u8) ^ 0x55
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_end_points() {
        assert_eq!([0, -1, 32767, -32768].map(mu_law), [0xff, 0x7f, 0x80, 0x00]);
        assert_eq!([0, -1, 32767, -32768].map(a_law), [0xd5, 0x55, 0xaa, 0x2a]);
    }

    #[test]
    fn l16_is_network_order() {
        assert_eq!(Codec::L16.encode(&[0x0102, -2]), [1, 2, 0xff, 0xfe]);
    }
}
