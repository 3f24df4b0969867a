//! G.726: adaptive differential PCM at 16, 24, 32 and 40 kbit/s. The blocks are named as in ITU-T G.726, clause 4.
//!
//! In two places the arithmetic is that of ffmpeg rather than the recommendation's, so that what was recorded can be
//! compared with what ffmpeg makes of the same payload, sample by sample: MIX rounds once, and UPB leaks at 40 kbit/s
//! as at the other rates. What that changes is some 40 dB below the speech.

/// What an output code says, by rate: the quantiser's level in the logarithm's domain (tables 7 to 10), what it
/// does to the scale factor (W) and to the speed of adaptation (F).
struct Table {
    levels: &'static [i16],
    scale: &'static [i32],
    speed: &'static [i32],
}

// The second half of each table mirrors the first: it is the negative codes.
static TABLES: [Table; 4] = [
    Table { levels: &[116, 365], scale: &[-704, 14_048], speed: &[0, 0xe00] },
    Table {
        levels: &[-2048, 135, 273, 373],
        scale: &[-128, 960, 4384, 18_624],
        speed: &[0, 0x200, 0x400, 0xe00],
    },
    Table {
        levels: &[-2048, 4, 135, 213, 273, 323, 373, 425],
        scale: &[-384, 576, 1312, 2048, 3584, 6336, 11_360, 35_904],
        speed: &[0, 0, 0, 0x200, 0x200, 0x200, 0x600, 0xe00],
    },
    Table {
        levels: &[-2048, -66, 28, 104, 169, 224, 274, 318, 358, 395, 429, 459, 488, 514, 539, 566],
        scale: &[
            448, 448, 768, 1248, 1280, 1312, 1856, 3200, 4512, 5728, 7008, 8960, 11_456, 14_080, 16_928,
            22_272,
        ],
        speed: &[0, 0, 0, 0, 0, 0x200, 0x200, 0x200, 0x200, 0x200, 0x400, 0x600, 0x800, 0xa00, 0xc00, 0xc00],
    },
];

/// What is remembered from sample to sample: less than a hundred bytes.
pub struct G726 {
    table: &'static Table,
    bits: u32,
    big_endian: bool,
    /// Scale factor, slow and fast.
    slow: i32,
    fast: i32,
    /// Short-term and long-term average of F.
    short_average: i32,
    long_average: i32,
    /// Speed of adaptation.
    speed: i32,
    /// Coefficients of the predictor.
    poles: [i32; 2],
    zeros: [i32; 6],
    /// Signs of the last partial reconstructions: whether they were negative.
    signs: [bool; 2],
    differences: [Float; 6],
    signals: [Float; 2],
    /// A tone was there: a transition is looked for.
    tone: bool,
}

impl G726 {
    /// For codes of 2 to 5 bits, the first in the lowest bits of an octet or in the highest. `None` for others.
    pub(super) fn new(bits: u8, big_endian: bool) -> Option<G726> {
        let table = TABLES.get(usize::from(bits).checked_sub(2)?)?;
        Some(G726 {
            table,
            bits: u32::from(bits),
            big_endian,
            slow: 34_816,
            fast: 544,
            short_average: 0,
            long_average: 0,
            speed: 0,
            poles: [0; 2],
            zeros: [0; 6],
            signs: [false; 2],
            differences: [Float::ZERO; 6],
            signals: [Float::ZERO; 2],
            tone: false,
        })
    }

    /// Appends the samples of `payload` to `out`.
    pub(super) fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) {
        let mask = (1 << self.bits) - 1;
        let (mut word, mut held) = (0u32, 0);
        for &byte in payload {
            if self.big_endian {
                word = word << 8 | u32::from(byte);
            } else {
                word |= u32::from(byte) << held;
            }
            held += 8;
            while held >= self.bits {
                held -= self.bits;
                let code = if self.big_endian { word >> held } else { word } & mask;
                if !self.big_endian {
                    word >>= self.bits;
                }
                out.push(self.sample(code));
            }
        }
    }

    fn sample(&mut self, code: u32) -> i16 {
        let negative = code >> (self.bits - 1) == 1;
        let all = (1 << self.bits) - 1;
        let index = if negative { code ^ all } else { code } as usize;
        let (level, scale, speed) =
            (self.table.levels[index], self.table.scale[index], self.table.speed[index]);

        let zeros: i32 = self.zeros.iter().zip(&self.differences).map(|(&b, &d)| d.times(b >> 2)).sum();
        let poles: i32 = self.poles.iter().zip(&self.signals).map(|(&a, &s)| s.times(a >> 2)).sum();
        // Words of 16 bits, as the recommendation has them.
        let (zeros, estimate) = (i32::from(zeros as i16) >> 1, i32::from((zeros + poles) as i16) >> 1);

        let factor = self.factor();
        let size = size(i32::from(level) + (factor >> 2));
        let difference = if negative { -size } else { size };
        let signal = i32::from((estimate + difference) as i16);
        self.adapt(factor, scale, speed, negative, size, signal, difference + zeros);
        (signal << 2).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
    }

    /// MIX: the scale factor, of the slow and the fast one.
    fn factor(&self) -> i32 {
        if self.speed >= 256 {
            return self.fast;
        }
        (self.slow + (self.fast - (self.slow >> 6)) * (self.speed >> 2)) >> 6
    }

    /// What the next sample is decoded by (FUNCTW to TRIGB).
    #[allow(clippy::too_many_arguments, reason = "each is a signal of the recommendation's block diagram")]
    fn adapt(
        &mut self,
        factor: i32,
        scale: i32,
        speed: i32,
        negative: bool,
        size: i32,
        signal: i32,
        predicted: i32,
    ) {
        let transition = self.tone && size > self.threshold();
        self.fast = (factor + ((scale - factor) >> 5)).clamp(544, 5120);
        self.slow += self.fast + (-self.slow >> 6);

        let sign = predicted < 0;
        let second = if transition { 0 } else { self.second_pole(sign, predicted) };
        if transition {
            (self.poles, self.zeros) = ([0; 2], [0; 6]);
        } else {
            self.poles[1] = second;
            let step = if predicted == 0 { 0 } else { opposite(sign != self.signs[0], 192) };
            let limit = 15_360 - second;
            self.poles[0] = (self.poles[0] - (self.poles[0] >> 8) + step).clamp(-limit, limit);
            for (zero, old) in self.zeros.iter_mut().zip(&self.differences) {
                let step = if size == 0 { 0 } else { opposite(negative != old.negative, 128) };
                *zero += step - (*zero >> 8);
            }
        }
        self.differences.rotate_right(1);
        self.differences[0] = Float::new(negative, size);
        self.signals = [Float::new(signal < 0, signal.abs() & 0x7fff), self.signals[0]];
        self.signs = [sign, self.signs[0]];
        self.tone = !transition && second < -11_776;

        self.short_average += (speed - self.short_average) >> 5;
        self.long_average += ((speed << 2) - self.long_average) >> 7;
        let apart = ((self.short_average << 2) - self.long_average).abs();
        self.speed = if transition {
            256
        } else if factor < 1536 || self.tone || apart >= self.long_average >> 3 {
            self.speed + ((0x200 - self.speed) >> 4)
        } else {
            self.speed + (-self.speed >> 4)
        };
    }

    /// TRANS: a difference beyond this is no tone's any more.
    fn threshold(&self) -> i32 {
        let (whole, part) = (self.slow >> 15, (self.slow >> 10) & 0x1f);
        let threshold = if whole > 9 { 31 << 10 } else { (32 + part) << whole };
        (threshold + (threshold >> 1)) >> 1
    }

    /// UPA2 and LIMC.
    fn second_pole(&self, sign: bool, predicted: i32) -> i32 {
        let mut pole = self.poles[1] - (self.poles[1] >> 7);
        if predicted == 0 {
            return pole;
        }
        let first = if sign != self.signs[0] { self.poles[0] } else { -self.poles[0] };
        pole += match first {
            ..-8191 => -0x100,
            8192.. => 0xff,
            _ => first >> 5,
        };
        (pole + opposite(sign != self.signs[1], 0x80)).clamp(-12_288, 12_288)
    }
}

/// `step`, down when the signs are apart.
fn opposite(apart: bool, step: i32) -> i32 {
    if apart { -step } else { step }
}

/// ANTILOG: from the logarithm's domain.
fn size(level: i32) -> i32 {
    if level < 0 {
        return 0;
    }
    let exponent = (level >> 7) & 15;
    ((128 + (level & 127)) << 7) >> (14 - exponent).max(0)
}

/// A number as the predictor multiplies it: 4 bits of exponent, 6 of mantissa.
#[derive(Clone, Copy)]
struct Float {
    negative: bool,
    exponent: i32,
    mantissa: i32,
}

impl Float {
    const ZERO: Float = Float { negative: false, exponent: 0, mantissa: 32 };

    /// FLOATA, FLOATB: of a size below 2^15.
    fn new(negative: bool, size: i32) -> Float {
        let exponent = bit_length(size);
        let mantissa = if size == 0 { 32 } else { (size << 6) >> exponent };
        Float { negative, exponent, mantissa }
    }

    /// FMULT.
    fn times(self, coefficient: i32) -> i32 {
        let size = coefficient.abs() & 0x1fff;
        let exponent = bit_length(size) - 6;
        let mantissa = match exponent {
            _ if size == 0 => 32,
            0.. => size >> exponent,
            _ => size << -exponent,
        };
        let exponent = exponent + self.exponent - 13;
        let product = (mantissa * self.mantissa + 0x30) >> 4;
        let product = if exponent >= 0 { (product << exponent) & 0x7fff } else { product >> -exponent };
        opposite((coefficient < 0) != self.negative, product)
    }
}

fn bit_length(size: i32) -> i32 {
    32 - size.leading_zeros() as i32
}
