//! G.711: one table look-up a sample (ITU-T G.711, tables 1a to 2b).

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
    use audio_codec::{CodecType, create_decoder};

    use super::*;

    #[test]
    fn agrees_with_another_implementation() {
        let codes: Vec<u8> = (0..=255).collect();
        assert_eq!(create_decoder(CodecType::PCMU).decode(&codes), ULAW);
        assert_eq!(create_decoder(CodecType::PCMA).decode(&codes), ALAW);
    }
}
