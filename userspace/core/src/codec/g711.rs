//! G.711: one table look-up a sample (ITU-T G.711, tables 1a to 2b).

/// One of the two laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// µ-law.
    Mu,
    /// A-law.
    A,
}

impl Law {
    /// The code nearest to a sample. It gives back the code that the sample was decoded from, but for µ-law's second
    /// zero.
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Law::Mu => ULAW_CODES[usize::from(sample as u16 >> 2)],
            Law::A => ALAW_CODES[usize::from(sample as u16 >> 4)],
        }
    }

    /// The sample of a code.
    pub fn decode(self, code: u8) -> i16 {
        match self {
            Law::Mu => ULAW[usize::from(code)],
            Law::A => ALAW[usize::from(code)],
        }
    }
}

/// Codes by the upper 14 bits of a sample, which are all that µ-law looks at.
static ULAW_CODES: [u8; 1 << 14] = {
    let mut table = [0; 1 << 14];
    let mut index = 0;
    while index < table.len() {
        let sample = ((index << 2) as u16).cast_signed() >> 2;
        let magnitude = (if sample < 0 { !sample } else { sample }) + 33;
        let magnitude = if magnitude > 0x1fff { 0x1fff } else { magnitude as u16 };
        let segment = 10 - magnitude.leading_zeros();
        let bits = (segment << 4) as u8 | ((magnitude >> (segment + 1)) & 15) as u8;
        table[index] = !(bits | if sample < 0 { 0x80 } else { 0 });
        index += 1;
    }
    table
};

/// Codes by the upper 12 bits of a sample, which are all that A-law looks at.
static ALAW_CODES: [u8; 1 << 12] = {
    let mut table = [0; 1 << 12];
    let mut index = 0;
    while index < table.len() {
        let sample = ((index << 4) as u16).cast_signed() >> 4;
        let magnitude = (if sample < 0 { !sample } else { sample }) as u16;
        let bits = match magnitude {
            0..32 => magnitude as u8,
            _ => {
                let shift = 11 - magnitude.leading_zeros();
                ((shift + 1) << 4) as u8 | ((magnitude >> shift) & 15) as u8
            }
        };
        table[index] = (bits | if sample < 0 { 0 } else { 0x80 }) ^ 0x55;
        index += 1;
    }
    table
};

/// Samples of the 256 µ-law codes.
pub(super) static ULAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = !(code as u8);
        let (segment, step) = ((bits >> 4) & 7, (bits & 15) as i16);
        let magnitude = (((step << 3) + 0x84) << segment) - 0x84;
        table[code] = if bits & 0x80 != 0 { -magnitude } else { magnitude };
        code += 1;
    }
    table
};

/// Samples of the 256 A-law codes.
pub(super) static ALAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = (code as u8) ^ 0x55;
        let (segment, step) = ((bits >> 4) & 7, (bits & 15) as i16);
        let magnitude = match segment {
            0 => (step << 4) + 8,
            _ => ((step << 4) + 0x108) << (segment - 1),
        };
        table[code] = if bits & 0x80 != 0 { magnitude } else { -magnitude };
        code += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use audio_codec::{CodecType, create_decoder, create_encoder};

    use super::*;

    #[test]
    fn agrees_with_another_implementation() {
        let codes: Vec<u8> = (0..=255).collect();
        assert_eq!(create_decoder(CodecType::PCMU).decode(&codes), ULAW);
        assert_eq!(create_decoder(CodecType::PCMA).decode(&codes), ALAW);
    }

    #[test]
    fn what_was_decoded_gives_the_same_codes() {
        for (law, codec, near) in [(Law::Mu, CodecType::PCMU, 1), (Law::A, CodecType::PCMA, 8)] {
            for code in (0..=255).filter(|&code| (law, code) != (Law::Mu, 0x7f)) {
                assert_eq!(law.encode(law.decode(code)), code, "{law:?}");
            }
            // Of samples next to a decision value each implementation has its own opinion.
            let mut other = create_encoder(codec);
            let mut other = |sample: i16| other.encode(&[sample])[0];
            for sample in i16::MIN..=i16::MAX {
                let near = [sample, sample.saturating_add(near), sample.saturating_sub(near)];
                assert!(near.map(&mut other).contains(&law.encode(sample)), "{law:?} {sample}");
            }
        }
    }
}
