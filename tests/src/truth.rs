//! Compares a recording with what was sent.

use spantape_core::record::Side;
use spantape_core::time::{MILLISECOND, SECOND};

use crate::call::{Call, SIDES, Sent, values};
use crate::runner::Recording;

/// How far a sample may stand from where it belongs.
const TOLERANCE: i64 = 20 * MILLISECOND;
/// Arithmetic of one sample, and of rounding.
const SLACK: i64 = MILLISECOND;

/// That all that is heard is of this call, each side on its own channel.
pub fn is_of(recording: &Recording, call: &Call) -> Result<(), String> {
    for side in SIDES {
        let [a, b] = values(call.index, side);
        let strange = recording.side(side).position(|sample| sample != 0 && sample != a && sample != b);
        if let Some(frame) = strange {
            let sample = recording.side(side).nth(frame).unwrap_or_default();
            return Err(format!(
                "{} of {}: {sample} at frame {frame} of {} is not its own, nor {:?}",
                side.as_str(),
                recording.row.call_id,
                recording.row.frames,
                [a, b]
            ));
        }
    }
    Ok(())
}

/// That every sample stands within [`TOLERANCE`] of where it was spoken, and none is missing. `received`:
/// the packets that came, of both sides. What was invented for lost ones is not judged.
pub fn is_placed(recording: &Recording, received: &[Sent], lost: &[Sent]) -> Result<(), String> {
    is_placed_by(recording, received, lost, 1)
}

/// The same, of every `step`th frame.
pub fn is_placed_by(
    recording: &Recording,
    received: &[Sent],
    lost: &[Sent],
    step: usize,
) -> Result<(), String> {
    for side in SIDES {
        let (spoken, gaps) = (Track::new(side, received), Track::new(side, lost));
        let (start, rate) = (recording.row.start.0, i64::from(recording.row.sample_rate));
        for (frame, sample) in recording.side(side).enumerate().step_by(step) {
            let at = start + frame as i64 * SECOND / rate;
            let near = [-TOLERANCE - SLACK, 0, TOLERANCE + SLACK].map(|offset| at + offset);
            if gaps.touches(near[0], near[2]) || spoken.any(near[0], near[2], sample) {
                continue;
            }
            return Err(format!(
                "{} at {} ms of {}: {sample} was heard, {:?} spoken",
                side.as_str(),
                (at - start) / MILLISECOND,
                recording.row.call_id,
                near.map(|at| spoken.value(at)),
            ));
        }
    }
    Ok(())
}

/// Packets of one side in the order in which they were spoken.
struct Track<'a> {
    packets: Vec<&'a Sent>,
}

impl<'a> Track<'a> {
    fn new(side: Side, packets: &'a [Sent]) -> Track<'a> {
        let mut packets: Vec<&Sent> = packets.iter().filter(|packet| packet.side == side).collect();
        packets.sort_by_key(|packet| packet.spoken);
        Track { packets }
    }

    fn find(&self, at: i64) -> Option<&'a Sent> {
        let after = self.packets.partition_point(|packet| packet.spoken <= at);
        let packet = *self.packets.get(after.checked_sub(1)?)?;
        (at < packet.spoken + packet.samples as i64 * SECOND / 8000).then_some(packet)
    }

    fn touches(&self, from: i64, to: i64) -> bool {
        let mut moments = (from..to).step_by(TOLERANCE as usize / 4).chain([to]);
        moments.any(|at| self.find(at).is_some())
    }

    fn value(&self, at: i64) -> i16 {
        self.find(at).map_or(0, Sent::value)
    }

    /// Whether a value was spoken at some moment between two.
    fn any(&self, from: i64, to: i64, value: i16) -> bool {
        let mut moments = (from..to).step_by(TOLERANCE as usize / 4).chain([to]);
        moments.any(|at| self.value(at) == value)
    }
}
