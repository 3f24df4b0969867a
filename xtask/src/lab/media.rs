//! RTP streams made from the speech files, and the pcap files SIPp plays them from.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::capture::{Capture, Frame};
use super::codec::Codec;
use super::speech::Speech;
use super::wire::{Datagram, Endpoint};

pub(crate) const PACKET_MS: u32 = 20;
pub(crate) const EVENT_TYPE: u8 = 101;

/// RFC 4733: the last packet of an event is sent three times.
const END_PACKETS: u32 = 3;
const EVENT_PACKETS: u32 = 5;
/// From the start of one digit to the start of the next.
const DIGIT_PACKETS: u32 = 15;
const EVENT_VOLUME: u8 = 10;

/// A part of a speech as one run of RTP packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clip {
    pub(crate) speech: Speech,
    pub(crate) codec: Codec,
    pub(crate) from_ms: u32,
    pub(crate) to_ms: u32,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    /// Telephone events that replace the speech while they last.
    pub(crate) digits: Option<Digits>,
    /// Who is heard with it, each at half the level.
    pub(crate) mixed_with: Option<Speech>,
}

/// Keys pressed in the course of a clip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digits {
    pub(crate) keys: &'static str,
    pub(crate) at_ms: u32,
}

/// One RTP packet, and when it leaves counted from the first of its clip.
pub(crate) struct Packet {
    pub(crate) after: Duration,
    pub(crate) bytes: Vec<u8>,
}

impl Clip {
    pub(crate) fn new(speech: Speech, codec: Codec, to_ms: u32) -> Self {
        // Streams differ in all they can differ in, so that a mix-up of two never goes unseen.
        let (ssrc, sequence, timestamp) = match speech {
            Speech::Caller => (0x0a14_0009, 1000, 160_000),
            Speech::Callee => (0x0a14_0010, 30_000, 3_200_000),
        };
        Self { speech, codec, from_ms: 0, to_ms, ssrc, sequence, timestamp, digits: None, mixed_with: None }
    }

    /// The next part of the same stream after a silence on the wire: the sequence goes on without a gap, the
    /// timestamp counts the time that has passed.
    pub(crate) fn resumed(self, pause_ms: u32, to_ms: u32) -> Self {
        let spoken = self.to_ms - self.from_ms;
        let packets = (spoken / PACKET_MS) as u16;
        let clock = (spoken + pause_ms) * (self.codec.clock() / 1000);
        Self {
            from_ms: self.to_ms,
            to_ms,
            sequence: self.sequence.wrapping_add(packets),
            timestamp: self.timestamp.wrapping_add(clock),
            ..self
        }
    }

    /// What is said in it, before it is encoded.
    pub(crate) fn spoken(&self, samples: &Path) -> Result<Vec<i16>> {
        let rate = self.codec.clock();
        let mut speech = self.speech.read(samples, rate)?;
        if let Some(other) = self.mixed_with {
            let other = other.read(samples, rate)?;
            speech.iter_mut().zip(other).for_each(|(one, other)| *one = *one / 2 + other / 2);
        }
        let whole = (self.from_ms * (rate / 1000)) as usize..(self.to_ms * (rate / 1000)) as usize;
        Ok(speech.get(whole).map(<[i16]>::to_vec).unwrap_or(speech))
    }

    pub(crate) fn packets(&self, samples: &Path) -> Result<Vec<Packet>> {
        let step = self.codec.clock() / 1000 * PACKET_MS;
        let spoken = self.spoken(samples)?;
        let packets = spoken.chunks_exact(step as usize).zip(0_u32..).map(|(block, index)| {
            let bytes = match self.digits.and_then(|digits| digits.event(index)) {
                Some((code, part)) => self.event(index, code, part, step),
                None => self.audio(index, step, block),
            };
            Packet { after: Duration::from_millis(u64::from(index * PACKET_MS)), bytes }
        });
        Ok(packets.collect())
    }

    /// As a capture for SIPp, which replaces addresses and ports but keeps times and RTP as they are.
    pub(crate) fn playable(&self, samples: &Path) -> Result<Capture> {
        let end = |last| Endpoint {
            mac: [2, 0, 0, 0, 0, last],
            ip: Ipv4Addr::new(127, 0, 0, last).into(),
            port: 4000,
        };
        let mut capture = Capture::default();
        for packet in self.packets(samples)? {
            let data = Datagram { from: end(1), to: end(2), payload: &packet.bytes }.build()?;
            // To SIPp a time of zero is no time, and the packet after it would leave at once.
            capture.frames.push(Frame { at: packet.after + Duration::from_secs(1), data });
        }
        Ok(capture)
    }

    fn audio(&self, index: u32, step: u32, block: &[i16]) -> Vec<u8> {
        let timestamp = self.timestamp.wrapping_add(index * step);
        let mut packet = self.header(index, index == 0, self.codec.payload_type(), timestamp);
        packet.extend(self.codec.encode(block));
        packet
    }

    fn event(&self, index: u32, code: u8, part: u32, step: u32) -> Vec<u8> {
        let timestamp = self.timestamp.wrapping_add((index - part) * step);
        let mut packet = self.header(index, part == 0, EVENT_TYPE, timestamp);
        let end = part + 1 >= EVENT_PACKETS;
        let duration = ((part + 1).min(EVENT_PACKETS) * step) as u16;
        packet.extend([code, if end { 0x80 | EVENT_VOLUME } else { EVENT_VOLUME }]);
        packet.extend(duration.to_be_bytes());
        packet
    }

    fn header(&self, index: u32, marker: bool, payload_type: u8, timestamp: u32) -> Vec<u8> {
        let mut header = vec![0x80, u8::from(marker) << 7 | payload_type];
        header.extend(self.sequence.wrapping_add(index as u16).to_be_bytes());
        header.extend(timestamp.to_be_bytes());
        header.extend(self.ssrc.to_be_bytes());
        header
    }
}

impl Digits {
    /// The event code a packet carries and which packet of the event it is.
    fn event(self, index: u32) -> Option<(u8, u32)> {
        let since = index.checked_sub(self.at_ms / PACKET_MS)?;
        let key = self.keys.chars().nth((since / DIGIT_PACKETS) as usize)?;
        let part = since % DIGIT_PACKETS;
        let code = "0123456789*#ABCD".find(key)? as u8;
        (part < EVENT_PACKETS + END_PACKETS - 1).then_some((code, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_is_five_packets_and_two_repeats_of_the_last() {
        let digits = Digits { keys: "1#", at_ms: 100 };
        let events: Vec<_> = (0..30).filter_map(|index| digits.event(index)).collect();
        assert_eq!(events[..7], [0, 1, 2, 3, 4, 5, 6].map(|part| (1, part)));
        assert_eq!(events[7..], [0, 1, 2, 3, 4, 5, 6].map(|part| (11, part)));
        assert_eq!(digits.event(4), None);
    }

    #[test]
    fn a_resumed_stream_has_a_timestamp_gap_and_no_sequence_gap() {
        let first = Clip { sequence: 65_500, timestamp: 0, ..Clip::new(Speech::Caller, Codec::Pcmu, 4000) };
        let second = first.resumed(1000, 5000);
        assert_eq!((second.from_ms, second.to_ms), (4000, 5000));
        assert_eq!((second.sequence, second.timestamp), (164, 40_000));
    }
}
