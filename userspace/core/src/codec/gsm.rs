//! GSM 06.10, full rate: 260 bits are 20 ms of speech (ETSI EN 300 961), in the arithmetic of 16 bits that the
//! standard prescribes, so that every decoder makes the same samples.

/// Octets a frame, as RTP packs it (RFC 3551, 4.5.8.1).
pub(super) const FRAME: usize = 33;
/// Samples a frame.
pub(super) const SAMPLES: usize = 160;
/// Samples a subframe, of which there are four.
const SUBFRAME: usize = 40;
/// What the long-term predictor looks back at.
const HISTORY: usize = 120;
/// The first half octet of every frame.
const SIGNATURE: u8 = 0xd;

/// Bits of the eight log area ratios.
const LAR_BITS: [u32; 8] = [6, 6, 5, 5, 4, 4, 3, 3];
/// Table 4.1: B, the minimum of the code, and the inverse of A.
const LAR_B: [i16; 8] = [0, 0, 2048, -2560, 94, -1792, -341, -1144];
const LAR_MIN: [i16; 8] = [-32, -32, -16, -16, -8, -8, -4, -4];
const LAR_INVERSE_A: [i16; 8] = [13_107, 13_107, 13_107, 13_107, 19_223, 17_476, 31_454, 29_708];
/// Table 4.3b: gain of the long-term predictor.
const GAINS: [i16; 4] = [3277, 11_469, 21_299, 32_767];
/// Table 4.6: normalised direct mantissa.
const MANTISSAS: [i16; 8] = [18_431, 20_479, 22_527, 24_575, 26_623, 28_671, 30_719, 32_767];
/// Where each interpolation of the log area ratios ends.
const SECTIONS: [usize; 4] = [13, 27, 40, SAMPLES];

/// What is remembered from frame to frame: half a kilobyte.
pub struct Gsm {
    /// Short-term residual: what was, then the present subframe.
    residual: [i16; HISTORY + SUBFRAME],
    /// Lag of the long-term predictor.
    lag: usize,
    /// Log area ratios of the frame before.
    ratios: [i16; 8],
    /// Of the lattice filter.
    lattice: [i16; 9],
    /// Of the de-emphasis.
    deemphasis: i16,
}

impl Default for Gsm {
    fn default() -> Gsm {
        Gsm { residual: [0; HISTORY + SUBFRAME], lag: 40, ratios: [0; 8], lattice: [0; 9], deemphasis: 0 }
    }
}

impl Gsm {
    /// Appends the samples of all whole frames of `payload`; one without the signature is passed over.
    pub(super) fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) {
        for frame in payload.chunks_exact(FRAME).filter(|frame| frame[0] >> 4 == SIGNATURE) {
            self.frame(frame, out);
        }
    }

    fn frame(&mut self, frame: &[u8], out: &mut Vec<i16>) {
        let mut bits = Bits { bytes: frame, place: 4 };
        let ratios: [i16; 8] = std::array::from_fn(|i| {
            let code = (bits.take(LAR_BITS[i]) + LAR_MIN[i]) << 10;
            let ratio = multiply(LAR_INVERSE_A[i], code.saturating_sub(LAR_B[i] << 1));
            ratio.saturating_add(ratio)
        });
        let mut excitation = [0; SAMPLES];
        for subframe in excitation.chunks_exact_mut(SUBFRAME) {
            self.subframe(&mut bits, subframe);
        }
        self.synthesise(&ratios, &mut excitation);
        self.ratios = ratios;
        out.extend(excitation.iter().map(|&sample| {
            self.deemphasis = sample.saturating_add(multiply(self.deemphasis, 28_180));
            self.deemphasis.saturating_add(self.deemphasis) & !7
        }));
    }

    /// Regular pulse excitation and long-term prediction (5.3.1, 5.3.2).
    fn subframe(&mut self, bits: &mut Bits<'_>, out: &mut [i16]) {
        let lag = bits.take(7) as usize;
        // A lag that cannot be is that of the subframe before.
        if (SUBFRAME..=HISTORY).contains(&lag) {
            self.lag = lag;
        }
        let gain = GAINS[bits.take(2) as usize];
        let grid = bits.take(2) as usize;
        let mut pulses = [0; SUBFRAME];
        let (exponent, mantissa) = exponent_and_mantissa(bits.take(6));
        let shift = 6 - exponent;
        let half = if shift > 0 { 1 << (shift - 1) } else { 0 };
        for i in 0..13 {
            let code = ((bits.take(3) << 1) - 7) << 12;
            pulses[grid + 3 * i] = multiply(MANTISSAS[mantissa], code).saturating_add(half) >> shift;
        }
        for (i, &pulse) in pulses.iter().enumerate() {
            let predicted = multiply(gain, self.residual[HISTORY + i - self.lag]);
            self.residual[HISTORY + i] = pulse.saturating_add(predicted);
        }
        out.copy_from_slice(&self.residual[HISTORY..]);
        self.residual.copy_within(SUBFRAME.., 0);
    }

    /// Short-term synthesis (5.3.4), with ratios that go over from those of the frame before (5.2.9).
    fn synthesise(&mut self, ratios: &[i16; 8], samples: &mut [i16; SAMPLES]) {
        let mut begin = 0;
        for (section, end) in SECTIONS.into_iter().enumerate() {
            let coefficients: [i16; 8] = std::array::from_fn(|i| {
                let (old, new) = (self.ratios[i], ratios[i]);
                reflection(match section {
                    0 => (old >> 2).saturating_add(new >> 2).saturating_add(old >> 1),
                    1 => (old >> 1).saturating_add(new >> 1),
                    2 => (old >> 2).saturating_add(new >> 2).saturating_add(new >> 1),
                    _ => new,
                })
            });
            for sample in &mut samples[begin..end] {
                for i in (0..8).rev() {
                    let stage = self.lattice[i];
                    *sample = sample.saturating_sub(multiply(coefficients[i], stage));
                    self.lattice[i + 1] = stage.saturating_add(multiply(coefficients[i], *sample));
                }
                self.lattice[0] = *sample;
            }
            begin = end;
        }
    }
}

/// Product of two fractions, rounded.
fn multiply(a: i16, b: i16) -> i16 {
    let product = (i32::from(a) * i32::from(b) + 0x4000) >> 15;
    product.min(i32::from(i16::MAX)) as i16
}

/// From a log area ratio to a reflection coefficient (5.2.9.2).
fn reflection(ratio: i16) -> i16 {
    let size = ratio.checked_abs().unwrap_or(i16::MAX);
    let size = match size {
        ..11_059 => size << 1,
        11_059..20_070 => size + 11_059,
        _ => (size >> 2).saturating_add(26_112),
    };
    if ratio < 0 { -size } else { size }
}

/// Of the maximum of a subframe (5.3.1, APCM).
fn exponent_and_mantissa(code: i16) -> (i16, usize) {
    let mut exponent = if code > 15 { (code >> 3) - 1 } else { 0 };
    let mut mantissa = code - (exponent << 3);
    if mantissa == 0 {
        return (-4, 7);
    }
    while mantissa <= 7 {
        mantissa = mantissa << 1 | 1;
        exponent -= 1;
    }
    (exponent, usize::from(mantissa as u16 & 7))
}

/// Reads from the highest bit on.
struct Bits<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl Bits<'_> {
    /// The next up to 8 bits; zeros behind the end.
    fn take(&mut self, count: u32) -> i16 {
        let byte = |index: usize| u16::from(self.bytes.get(index).copied().unwrap_or(0));
        let word = byte(self.place / 8) << 8 | byte(self.place / 8 + 1);
        let value = word << (self.place % 8) >> (16 - count);
        self.place += count as usize;
        value as i16
    }
}
