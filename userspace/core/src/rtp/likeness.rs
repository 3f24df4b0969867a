//! Whether packets that no signalling speaks of are audio: by what RTP (RFC 3550, 5.1) cannot do without.
//!
//! Two bits and a number that stays make no stream: much else has these too. Here numbers count on, timestamps go on
//! with them and with the time, and where the payload type tells the codec (RFC 3551), no more samples are carried than
//! the timestamps say. So what is encrypted under such a type is not taken for audio: its authentication tag
//! (RFC 3711, 3.1) makes each packet longer.

use crate::time::{SECOND, Timestamp};

/// With fewer packets nothing can be told.
pub(super) const FEWEST: usize = 10;
/// The latest packets, which are looked at.
pub(super) const MOST: usize = 32;

/// RFC 3389: what comes of a stream while nobody speaks does not tell what it is.
const COMFORT_NOISE: u8 = 13;

/// Ticks between two packets: 400 ms of the fastest audio clock.
const LONGEST_STEP: u32 = 48_000 * 2 / 5;
/// Ticks a second.
const CLOCKS: std::ops::RangeInclusive<f64> = 4_000.0..=110_000.0;
/// The same where the clock is 8000.
const CLOCKS_OF_8000: std::ops::RangeInclusive<f64> = 5_000.0..=13_000.0;

/// What is looked at of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: Timestamp,
    /// Without the wrap.
    pub(super) number: u64,
    pub(super) timestamp: u32,
    pub(super) payload_type: u8,
    /// Bytes.
    pub(super) length: usize,
}

/// Whether these packets of one SSRC, in the order of their numbers, are audio.
pub(super) fn is_audio(packets: &[Seen]) -> bool {
    let ([first, ..], [.., last]) = (packets, packets) else { return false };
    let plausible = |packet: &Seen| is_audio_type(packet.payload_type) && packet.length > 0;
    let counts = last.number - first.number < 2 * packets.len() as u64;
    if packets.len() < FEWEST || !counts || !packets.iter().all(plausible) {
        return false;
    }
    // Beside it, key presses and comfort noise.
    let of_type = |kind: u8| packets.iter().filter(move |packet| packet.payload_type == kind);
    let Some(main) =
        packets.iter().map(|packet| packet.payload_type).max_by_key(|&kind| of_type(kind).count())
    else {
        return false;
    };
    if of_type(main).count() < packets.len() / 2 || main == COMFORT_NOISE {
        return false;
    }
    let pairs = || {
        packets.windows(2).filter_map(|pair| {
            let [before, after] = pair else { return None };
            let follows = after.number == before.number + 1;
            (follows && before.payload_type == main && after.payload_type == main)
                .then(|| (after.timestamp.wrapping_sub(before.timestamp), before.length))
        })
    };
    let all = pairs().count();
    let forward = pairs().filter(|(step, _)| (1..=LONGEST_STEP).contains(step)).count();
    let fitting =
        pairs().filter(|&(step, length)| ticks(main, length).is_none_or(|ticks| ticks <= step)).count();
    all >= FEWEST / 2 && 4 * forward >= 3 * all && 2 * fitting >= all && keeps_time(of_type(main), main)
}

/// Whether timestamps go on with the time.
fn keeps_time<'a>(mut packets: impl DoubleEndedIterator<Item = &'a Seen>, kind: u8) -> bool {
    let (Some(first), Some(last)) = (packets.next(), packets.next_back()) else { return false };
    let seconds = last.at.since(first.at) as f64 / SECOND as f64;
    let clock = f64::from(last.timestamp.wrapping_sub(first.timestamp)) / seconds;
    let clocks = if ticks(kind, 0).is_some() { CLOCKS_OF_8000 } else { CLOCKS };
    seconds > 0.0 && clocks.contains(&clock)
}

/// Types of audio: of the static ones those that are assigned, and the dynamic ones (RFC 3551, 6).
fn is_audio_type(payload_type: u8) -> bool {
    matches!(payload_type, 0 | 3..=18 | 96..=127)
}

/// No step is as long: a payload of such a length is none of that type.
const NONE: u32 = u32::MAX;

/// For how many ticks a payload of so many bytes lasts, where the type tells.
fn ticks(payload_type: u8, length: usize) -> Option<u32> {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    match payload_type {
        // PCMU, PCMA; G.722, whose clock counts every second sample.
        0 | 8 | 9 => Some(length),
        // GSM
        3 => Some(length / 33 * 160).filter(|_| length.is_multiple_of(33)).or(Some(NONE)),
        // G.723.1: 6.3 and 5.3 kbit/s, and silence.
        4 if length == 4 => Some(240),
        4 => [24, 20]
            .into_iter()
            .find(|frame| length.is_multiple_of(*frame))
            .map(|frame| length / frame * 240)
            .or(Some(NONE)),
        // G.729, whose last frame may be silence of two bytes.
        18 if length % 10 == 2 => Some(length / 10 * 80 + 80),
        18 => Some(length / 10 * 80).filter(|_| length.is_multiple_of(10)).or(Some(NONE)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MILLISECOND;

    fn stream(change: impl Fn(&mut Seen)) -> Vec<Seen> {
        let packet = |number: u64| {
            let at = Timestamp(number as i64 * 20 * MILLISECOND);
            let timestamp = (number as u32).wrapping_mul(160).wrapping_sub(800);
            let mut packet = Seen { at, number, timestamp, payload_type: 0, length: 160 };
            change(&mut packet);
            packet
        };
        (0..16).map(packet).collect()
    }

    #[test]
    fn audio_is() {
        assert!(is_audio(&stream(|_| ())));
        // A key is pressed meanwhile.
        let keys = stream(|packet| {
            if (4..9).contains(&packet.number) {
                (packet.payload_type, packet.length, packet.timestamp) = (101, 4, 0);
            }
        });
        assert!(is_audio(&keys));
        let silence = stream(|packet| {
            if packet.number > 7 {
                packet.timestamp += 1600;
                packet.at = packet.at + 200 * MILLISECOND;
            }
        });
        assert!(is_audio(&silence));
        let g729 = stream(|packet| (packet.payload_type, packet.length) = (18, 20));
        assert!(is_audio(&g729));
        let opus = stream(|packet| {
            (packet.payload_type, packet.timestamp) = (111, packet.timestamp.wrapping_mul(6))
        });
        assert!(is_audio(&opus));
        let mut lossy = stream(|_| ());
        lossy.retain(|packet| packet.number % 4 != 1);
        assert!(is_audio(&lossy));
    }

    #[test]
    fn what_only_begins_like_it_is_not() {
        let no = |change: fn(&mut Seen)| !is_audio(&stream(change));
        // With the tag of SRTP.
        assert!(no(|packet| packet.length = 170));
        assert!(no(|packet| (packet.payload_type, packet.length) = (13, 19)));
        assert!(no(|packet| (packet.payload_type, packet.length) = (18, 33)));
        assert!(no(|packet| packet.payload_type = 77));
        assert!(no(|packet| packet.length = 0));
        // Timestamps that stand still, or are as good as random, or milliseconds, or much faster than time.
        assert!(no(|packet| packet.timestamp = 7));
        assert!(no(|packet| (packet.payload_type, packet.timestamp) =
            (96, packet.timestamp.wrapping_mul(0x9e37_79b9))));
        assert!(no(|packet| (packet.payload_type, packet.timestamp) = (96, packet.number as u32 * 20)));
        assert!(no(|packet| packet.at = Timestamp(packet.number as i64)));
        // Several packets a frame: video.
        assert!(no(|packet| (packet.payload_type, packet.timestamp) = (96, packet.number as u32 / 4 * 3000)));
        // Numbers with great gaps.
        assert!(no(|packet| packet.number *= 3));
        assert!(!is_audio(&stream(|_| ())[..FEWEST - 1]));
        assert!(!is_audio(&[]));
    }
}
