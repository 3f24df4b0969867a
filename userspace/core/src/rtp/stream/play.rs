//! From the payload of a packet whose turn has come to the tape, and what becomes of those lost before it.

use super::super::packet::Packet;
use super::super::red;
use super::super::voice::Place;
use super::{Format, Note, Playout, Stream};
use crate::codec::{CodecKind, Decoder};
use crate::few;

/// Lost packets in a row of which copies are looked for.
const MOST_COPIES: u64 = 16;
/// Among so many packets after the loss.
const COPIES_BEHIND: usize = 8;
/// No codec makes up more than these seconds.
const MOST_CONCEALED: i64 = 1;
/// Payload types told apart in one stream.
const MAX_FORMATS: usize = 16;

impl Stream {
    /// The format of a payload type, which becomes the current one.
    pub(super) fn format(&mut self, payload_type: u8, out: &mut Playout<'_>) -> usize {
        if let Some(current) = self.current
            && self.formats[current].payload_type == payload_type
            && (out.tape.is_none() || self.listed == out.tape.as_ref().map(|tape| tape.id))
        {
            return current;
        }
        let known = self.formats.iter().position(|format| format.payload_type == payload_type);
        let index = known.unwrap_or_else(|| self.add_format(payload_type, out));
        let codec = &self.formats[index].codec;
        if codec.is_auxiliary() {
            return index;
        }
        if let Some(before) = self.current.filter(|&before| before != index && before < self.formats.len()) {
            let note = Note::Codec { from: self.formats[before].codec.to_string(), to: codec.to_string() };
            out.notes.push((self.last, note));
        }
        self.current = Some(index);
        if let Some(tape) = &mut out.tape {
            self.listed = Some(tape.id);
            let name = codec.to_string();
            if codec.is_decodable() && !tape.codecs.contains(&name) {
                tape.codecs.push(name);
            }
        }
        index
    }

    fn add_format(&mut self, payload_type: u8, out: &Playout<'_>) -> usize {
        if self.formats.len() == MAX_FORMATS {
            self.formats.pop();
        }
        let codec = (out.codec)(payload_type);
        let decoder = Decoder::new(&codec);
        few::push(&mut self.formats, Format { payload_type, codec, decoder, packets: 0 });
        self.formats.len() - 1
    }

    /// Plays those of the `missing` packets before `timestamp` that `packet`, or one of those that wait behind it,
    /// carries once more.
    pub(super) fn play_copies(
        &mut self,
        missing: u64,
        timestamp: i64,
        packet: &Packet<'_>,
        out: &mut Playout<'_>,
    ) {
        for _ in 0..missing.min(MOST_COPIES) {
            let Some(after) = self.played_to else { return };
            let Some((at, payload_type, payload)) = self.copy_between(after, timestamp, packet) else {
                return;
            };
            let known = self.formats.iter().position(|format| format.payload_type == payload_type);
            let index = known.unwrap_or_else(|| self.add_format(payload_type, out));
            if self.formats[index].decoder.is_none() {
                return;
            }
            self.play(index, at, at > after, &payload, out);
            if self.played_to.is_none_or(|end| end <= after) {
                return;
            }
            self.recovered += 1;
            if let Some(tape) = &mut out.tape {
                tape.completeness[out.side.channel()].recovered += 1;
            }
        }
    }

    /// The earliest copy of what was said between two timestamps.
    fn copy_between(&self, from: i64, to: i64, packet: &Packet<'_>) -> Option<(i64, u8, Vec<u8>)> {
        let first = (packet.timestamp, packet.payload_type, packet.payload);
        let waiting = self.held.iter().take(COPIES_BEHIND).filter(|held| !held.is_sealed);
        let behind = waiting.map(|held| (held.timestamp, held.payload_type, held.payload()));
        let carriers = std::iter::once(first)
            .chain(behind)
            .filter(|(_, payload_type, _)| self.kind(*payload_type) == Some(CodecKind::Red));
        let copies = carriers.flat_map(|(timestamp, _, payload)| {
            let timestamp = self.unwrap(timestamp);
            red::copies(payload).map(move |copy| (timestamp - i64::from(copy.back), copy))
        });
        let lost = copies.filter(|(at, copy)| (from..to).contains(at) && !copy.payload.is_empty());
        let (at, copy) = lost.min_by_key(|(at, _)| *at)?;
        Some((at, copy.payload_type, copy.payload.to_vec()))
    }

    /// Decodes a packet and puts it where it belongs.
    pub(super) fn play(
        &mut self,
        index: usize,
        timestamp: i64,
        after_loss: bool,
        payload: &[u8],
        out: &mut Playout<'_>,
    ) {
        let (Some(tape), Some(timeline)) = (&mut out.tape, &mut self.timeline) else { return };
        let format = &mut self.formats[index];
        let Some(decoder) = &mut format.decoder else { return };
        let (rate, clock) = (i64::from(format.codec.sample_rate()), i64::from(format.codec.clock));
        let samples = &mut *out.scratch;
        samples.clear();
        let mut place = Place { timestamp, after_loss, concealed: 0, side: out.side, rate: rate as u32 };
        if after_loss && let Some(end) = self.played_to {
            let lost = (timestamp - end).clamp(0, MOST_CONCEALED * clock) * rate / clock;
            let own = decoder.redundancy(payload).filter(|&own| own as i64 <= lost).unwrap_or(0);
            decoder.conceal(lost as usize - own, samples);
            place.concealed = samples.len();
            if own > 0 {
                decoder.recover(payload, samples);
                place.timestamp -= own as i64 * clock / rate;
                place.after_loss = lost > own as i64;
                self.voice.play(samples, &place, timeline, tape);
                self.recovered += 1;
                tape.completeness[out.side.channel()].recovered += 1;
                samples.clear();
                place = Place { timestamp, after_loss: false, concealed: 0, ..place };
            }
        }
        decoder.decode(payload, samples);
        if samples.len() > place.concealed {
            let length = (samples.len() - place.concealed) as i64;
            self.voice.play(samples, &place, timeline, tape);
            self.played_to = Some(timestamp + length * clock / rate);
        }
    }
}
