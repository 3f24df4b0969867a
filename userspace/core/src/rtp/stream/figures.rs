//! What there is to say of a stream.

use super::{Format, Stream};
use crate::codec::CodecKind;
use crate::record::Completeness;
use crate::time::MILLISECOND;

impl Stream {
    /// Figures over the stream's life.
    pub fn completeness(&self) -> Completeness {
        Completeness {
            expected: self.sequence.expected(),
            received: self.sequence.unique,
            lost: self.sequence.lost(),
            recovered: self.recovered,
            late: self.late,
            duplicate: self.sequence.duplicate,
            dropped: 0,
            concealed_ms: self.voice.concealed / MILLISECOND as u64,
            silent_ms: 0,
        }
    }

    /// First arrivals below the highest number.
    pub fn reordered(&self) -> u64 {
        self.sequence.reordered
    }

    /// Different packets.
    pub fn unique(&self) -> u64 {
        self.sequence.unique
    }

    /// How often the numbers began anew.
    pub fn restarts(&self) -> u32 {
        self.sequence.restarts
    }

    /// Jitter at the end and its maximum, in milliseconds.
    pub fn jitter_ms(&self) -> (f64, f64) {
        (self.jitter.now / MILLISECOND as f64, self.jitter.max / MILLISECOND as f64)
    }

    /// Span of the media by its timestamps, in seconds.
    pub fn media_seconds(&self) -> f64 {
        self.main_format()
            .filter(|format| format.codec.clock != 0)
            .map_or(0.0, |format| self.span.ticks() as f64 / f64::from(format.codec.clock))
    }

    /// Opinion score; 0 for what is not audio.
    pub fn opinion_score(&self) -> f64 {
        let expected = self.sequence.expected().max(1) as f64;
        let useless = (self.sequence.lost() + self.late).saturating_sub(self.recovered);
        self.score(useless as f64 / expected, &self.bursts, self.jitter_ms().0)
    }

    /// Codecs by name, in order of appearance.
    pub fn codecs(&self) -> Vec<String> {
        self.formats.iter().map(|format| format.codec.to_string()).collect()
    }

    /// Whether some codecs are only what their payload types usually stand for.
    pub fn is_guessed(&self) -> bool {
        self.formats.iter().any(|format| format.codec.guessed)
    }

    /// Names of the codecs that carry media here and have no decoder.
    pub fn undecodable(&self) -> impl Iterator<Item = String> + '_ {
        self.formats
            .iter()
            .filter(|format| !format.codec.is_decodable() && !format.codec.is_auxiliary())
            .map(|format| format.codec.to_string())
    }

    /// Whether only key presses were seen.
    pub fn is_event_only(&self) -> bool {
        !self.formats.is_empty()
            && self.formats.iter().all(|format| format.codec.kind == CodecKind::TelephoneEvent)
    }

    /// Whether anything of it came to be on a tape.
    pub fn is_heard(&self) -> bool {
        self.voice.is_heard()
    }

    pub(super) fn main_format(&self) -> Option<&Format> {
        self.formats
            .iter()
            .filter(|format| !format.codec.is_auxiliary())
            .max_by_key(|format| format.packets)
            .or(self.formats.first())
    }
}
