//! How good a stream was: jitter (RFC 3550) and an opinion score (ITU-T G.107).

use crate::codec::Codec;
use crate::time::{MILLISECOND, Timestamp};

/// A transit time that changes by more than this is a new beginning, not jitter.
const MAX_STEP: i64 = 500 * MILLISECOND;

/// Interarrival jitter of RFC 3550 section 6.4.1, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Jitter {
    transit: Option<i64>,
    pub(super) now: f64,
    pub(super) max: f64,
}

impl Jitter {
    /// The time base is another one.
    pub(super) fn begin_anew(&mut self) {
        self.transit = None;
    }

    /// A packet that should have been heard at `nominal` (on any fixed time base) came at `at`.
    pub(super) fn receive(&mut self, at: Timestamp, nominal: i64) {
        let transit = at.0.wrapping_sub(nominal);
        if let Some(before) = self.transit.replace(transit) {
            let step = transit.wrapping_sub(before).saturating_abs();
            if step < MAX_STEP {
                self.now += (step as f64 - self.now) / 16.0;
                self.max = self.max.max(self.now);
            }
        }
    }
}

/// The E-model's opinion score (ITU-T G.107, annex B) with the default transmission values, for a stream of which a
/// part, from 0 to 1, is lost, in bursts by that ratio (BurstR). The delay of the network cannot be seen from one
/// place: what is counted is a packet and a buffer that holds twice the jitter.
///
/// It is the model for narrow bands, whatever the codec: so all scores stand on one scale, on which a wideband codec
/// that loses nothing is as good as G.711, and not above it as it would be by G.107.1.
pub(super) fn opinion_score(
    codec: &Codec,
    lost: f64,
    burst_ratio: f64,
    packet_ms: f64,
    jitter_ms: f64,
) -> f64 {
    let (impairment, robustness) = equipment(codec);
    let percent = 100.0 * lost.clamp(0.0, 1.0);
    let effective =
        impairment + (95.0 - impairment) * percent / (percent / burst_ratio.max(1.0) + robustness);
    let delay = packet_ms + 2.0 * jitter_ms;
    let late = if delay > 177.3 { 0.11 * (delay - 177.3) } else { 0.0 };
    let r = (93.2 - 0.024 * delay - late - effective).clamp(0.0, 100.0);
    let score = 1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7.0e-6;
    score.clamp(1.0, 4.5)
}

/// Equipment impairment factor Ie and packet-loss robustness Bpl: ITU-T G.113, appendix I, where it has the codec; with
/// concealment of loss. For the others those of the codec there that is most like it.
fn equipment(codec: &Codec) -> (f64, f64) {
    // By name: of what is encrypted no more is known.
    match codec.name().to_ascii_uppercase().trim_start_matches("AAL2-") {
        "PCMU" | "PCMA" | "L16" => (0.0, 25.1),
        "G722" => (0.0, 17.0),
        "OPUS" => (2.0, 25.0),
        "G726-40" => (2.0, 15.0),
        "G726-32" | "G728" => (7.0, 15.0),
        "G726-24" => (25.0, 15.0),
        "G726-16" => (50.0, 15.0),
        "G729" | "G729A" => (11.0, 19.0),
        "G723" | "G7231" => (15.0, 16.1),
        "GSM" => (20.0, 10.0),
        // At its highest rate it is GSM-EFR.
        "AMR" | "GSM-EFR" => (5.0, 10.0),
        "AMR-WB" => (1.0, 13.0),
        "ILBC" => (11.0, 32.0),
        _ => (7.0, 15.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_fall_with_loss() {
        let codec = Codec::from_static(0);
        let clean = opinion_score(&codec, 0.0, 1.0, 20.0, 0.0);
        assert!((4.35..4.45).contains(&clean), "{clean}");
        let lossy = opinion_score(&codec, 0.05, 1.0, 20.0, 5.0);
        assert!((3.3..4.0).contains(&lossy), "{lossy}");
        let bursty = opinion_score(&codec, 0.05, 3.0, 20.0, 5.0);
        assert!(bursty < lossy && bursty > 3.0, "{bursty}");
        assert!(opinion_score(&codec, 1.0, 1.0, 20.0, 300.0) < 1.5);
    }
}
