//! G.722 at 64 kbit/s (ITU-T G.722, clause 4 and the blocks of clause 6): two bands of ADPCM and a filter that joins them.

/// Quantizer of the low band: of all six bits of a code, and of the upper four, to which it adapts.
const LOW: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];
const LOW_UPPER: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
const HIGH: [i32; 4] = [-7408, -1616, 7408, 1616];
/// By how much a code moves the logarithm of the scale.
const LOW_STEPS: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
const HIGH_STEPS: [i32; 4] = [798, -214, 798, -214];
/// 2048 times the powers of two between 0 and 1, in steps of 1/32.
const POWERS: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];
/// Every other tap of the filter; the others are the same from behind.
const TAPS: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// One stream's decoder.
pub struct G722 {
    low: Band,
    high: Band,
    /// Sums and differences of both bands, the latest last.
    sums: [i32; 12],
    differences: [i32; 12],
}

impl Default for G722 {
    fn default() -> G722 {
        G722 { low: Band::new(32), high: Band::new(8), sums: [0; 12], differences: [0; 12] }
    }
}

impl G722 {
    /// Appends two samples a byte.
    pub(super) fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) {
        for &code in payload {
            let (low, high) = (usize::from(code & 63), usize::from(code >> 6));
            let heard_low = limit(self.low.estimate + ((self.low.scale * LOW[low]) >> 15));
            let upper = low >> 2;
            self.low.adapt((self.low.scale * LOW_UPPER[upper]) >> 15, LOW_STEPS[upper], 18_432, 8);
            let difference = (self.high.scale * HIGH[high]) >> 15;
            let heard_high = limit(self.high.estimate + difference);
            self.high.adapt(difference, HIGH_STEPS[high], 22_528, 10);
            self.sums.rotate_left(1);
            self.differences.rotate_left(1);
            (self.sums[11], self.differences[11]) = (heard_low + heard_high, heard_low - heard_high);
            let odd: i32 =
                self.differences.iter().zip(TAPS.iter().rev()).map(|(sample, tap)| sample * tap).sum();
            let even: i32 = self.sums.iter().zip(&TAPS).map(|(sample, tap)| sample * tap).sum();
            out.extend([saturate(odd >> 11) as i16, saturate(even >> 11) as i16]);
        }
    }
}

/// The predictor and the scale of one band.
struct Band {
    estimate: i32,
    /// The part of the estimate that comes of the differences alone.
    zeros: i32,
    /// The last two reconstructed samples, and signs of the last two without the poles' part; the latest first.
    samples: [i32; 2],
    signs: [i32; 2],
    poles: [i32; 2],
    /// The last six differences, the latest first, and their weights.
    differences: [i32; 6],
    weights: [i32; 6],
    log_scale: i32,
    scale: i32,
}

impl Band {
    fn new(scale: i32) -> Band {
        Band {
            estimate: 0,
            zeros: 0,
            samples: [0; 2],
            signs: [0; 2],
            poles: [0; 2],
            differences: [0; 6],
            weights: [0; 6],
            log_scale: 0,
            scale,
        }
    }

    /// LOGSCL and SCALEL (LOGSCH and SCALEH), then block 4.
    fn adapt(&mut self, difference: i32, step: i32, most: i32, shift: i32) {
        self.log_scale = (((self.log_scale * 127) >> 7) + step).clamp(0, most);
        let power = POWERS[(self.log_scale >> 6) as usize & 31];
        let shift = shift - (self.log_scale >> 11);
        self.scale = (if shift < 0 { power << -shift } else { power >> shift }) << 2;

        let sample = saturate(self.estimate + difference);
        let sign = saturate(self.zeros + difference) >> 15;
        // UPPOL2, UPPOL1
        let first = saturate(self.poles[0] << 2);
        let first = (if sign == self.signs[0] { -first } else { first }).min(32_767);
        let second =
            (first >> 7) + if sign == self.signs[1] { 128 } else { -128 } + ((self.poles[1] * 32_512) >> 15);
        let second = second.clamp(-12_288, 12_288);
        let most = saturate(15_360 - second);
        let first =
            saturate(if sign == self.signs[0] { 192 } else { -192 } + ((self.poles[0] * 32_640) >> 15));
        self.poles = [first.clamp(-most, most), second];
        // UPZERO
        let gain = if difference == 0 { 0 } else { 128 };
        for (weight, &before) in self.weights.iter_mut().zip(&self.differences) {
            let gain = if before >> 15 == difference >> 15 { gain } else { -gain };
            *weight = saturate(gain + ((*weight * 32_640) >> 15));
        }
        // DELAYA, FILTEP, FILTEZ, PREDIC
        self.differences.rotate_right(1);
        self.differences[0] = difference;
        self.samples = [sample, self.samples[0]];
        self.signs = [sign, self.signs[0]];
        let by = |weight: i32, value: i32| (weight * saturate(value << 1)) >> 15;
        let poles = by(self.poles[0], self.samples[0]) + by(self.poles[1], self.samples[1]);
        let zeros: i32 =
            self.weights.iter().zip(&self.differences).map(|(&weight, &value)| by(weight, value)).sum();
        self.zeros = saturate(zeros);
        self.estimate = saturate(saturate(poles) + self.zeros);
    }
}

fn saturate(value: i32) -> i32 {
    value.clamp(i16::MIN.into(), i16::MAX.into())
}

fn limit(value: i32) -> i32 {
    value.clamp(-16_384, 16_383)
}
