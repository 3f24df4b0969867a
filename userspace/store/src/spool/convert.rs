//! Bringing what is on a tape to a higher rate.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use spantape_core::codec::Upsampler;
use spantape_core::media::TapeId;

use super::files::Tape;
use super::{Spool, finish, new_file};
use crate::error::{Error, Result, io};
use crate::wav::{self, Format, HEADER_LEN};

impl Spool {
    /// Goes on at a higher rate. What is on the tape is brought to it, so that `frames` of the old rate
    /// become `frames * new / old`, and frames are counted in the new rate from here on. A rate that is
    /// not higher, and a tape that is not open, change nothing. After an error the tape's file is as it was,
    /// and is brought to the new rate before anything is added to it.
    pub fn raise_rate(&mut self, id: TapeId, sample_rate: u32) -> Result<()> {
        let Some(tape) = self.tapes.get_mut(&id) else { return Ok(()) };
        let old = tape.format.sample_rate;
        if sample_rate <= old {
            return Ok(());
        }
        let impossible = || Error::NoRate { tape: id, from: old, to: sample_rate };
        let frames = brought(tape.frames, old, sample_rate).ok_or_else(impossible)?;
        let format = Format { sample_rate, ..tape.format };
        let raised = Tape { format, frames, stored: 0, on_disk: tape.on_disk, behind: None };
        let mut before = std::mem::replace(tape, raised);
        if before.on_disk {
            // It may be behind already.
            let behind = before.behind.take();
            tape.behind = behind.or_else(|| Some(Box::new(before)));
        }
        self.catch_up(id)
    }

    /// Whether a tape's file could not be brought to the tape's rate.
    pub(crate) fn is_behind(&self, id: TapeId) -> bool {
        self.tapes.get(&id).is_some_and(|tape| tape.behind.is_some())
    }

    /// All tapes of which that is so.
    pub(crate) fn behind(&self) -> Vec<TapeId> {
        self.tapes.keys().copied().filter(|&id| self.is_behind(id)).collect()
    }

    /// Brings a tape's file to the tape's rate, where that could not be done before.
    pub(crate) fn catch_up(&mut self, id: TapeId) -> Result<()> {
        let Some(tape) = self.tapes.get_mut(&id) else { return Ok(()) };
        let Some(before) = tape.behind.as_deref().cloned() else { return Ok(()) };
        let (old, new) = (before.format.sample_rate, tape.format.sample_rate);
        let impossible = || Error::NoRate { tape: id, from: old, to: new };
        let frames = brought(before.frames, old, new).ok_or_else(impossible)?;
        let upsampler = |_| Upsampler::new(old, new).ok_or_else(impossible);
        let upsamplers = (0..before.format.channels).map(upsampler).collect::<Result<Vec<_>>>()?;
        let mut raised = Tape { format: tape.format, frames, stored: 0, on_disk: true, behind: None };
        let (path, dir) = (self.files.path(id), self.files.dir.clone());
        let source = self.files.get(id, tape)?;
        let target = new_file(&dir, "raise-", ".tmp").map_err(io("create a file in", &dir))?;
        convert((source, &before), (target.as_file(), &mut raised), upsamplers)
            .and_then(|()| finish(target.as_file(), &wav::open_header(raised.format), self.options.sync))
            .map_err(io("bring to a higher rate", &path))?;
        target.persist(&path).map_err(|error| io("rename into place", &path)(error.error))?;
        self.files.forget(id);
        // Of what it has been longer since then, all is silence.
        (tape.stored, tape.behind) = (raised.stored, None);
        Ok(())
    }
}

/// Frames at another rate; `None` when there is no way to it.
fn brought(frames: u64, from: u32, to: u32) -> Option<u64> {
    let frames = match frames {
        0 => 0,
        frames => (u128::from(frames) * u128::from(to)).checked_div(from.into())?,
    };
    Some(u64::try_from(frames).unwrap_or(u64::MAX))
}

/// Frames that [`convert`] makes at a time.
const CONVERTED: u64 = 1 << 14;
/// More frames than an upsampler remembers.
const REMEMBERED: u64 = 64;

/// Brings the samples of one tape's file to the rate of another, an upsampler a channel. In PCM silence stays a hole.
fn convert(
    (source, from): (&File, &Tape),
    (target, to): (&File, &mut Tape),
    mut upsamplers: Vec<Upsampler>,
) -> io::Result<()> {
    let channels = upsamplers.len();
    let frame_bytes = from.format.frame_bytes().max(1);
    let (old, new) = (u64::from(from.format.sample_rate), u64::from(to.format.sample_rate));
    let block = (CONVERTED * old / new).max(1);
    // Silence at the end may not be in the file; and the file may be longer than the tape.
    let stored = source.metadata()?.len().saturating_sub(HEADER_LEN as u64) / frame_bytes;
    let stored = stored.min(from.frames);
    let (mut bytes, mut before, mut channel, mut samples) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let has_no_holes = to.format.encoding.silence() != 0;
    // What upsamplers make is late: so much of it stands before the tape's first frame.
    let mut early = upsamplers.first().map_or(0, Upsampler::delay) as usize;
    let (mut read, mut written) = (0, 0);
    // Silence behind the last sample brings out what the upsamplers still remember.
    while read < stored + REMEMBERED && written < to.frames {
        let count = block.min(stored + REMEMBERED - read);
        bytes.clear();
        bytes.resize((count * frame_bytes) as usize, from.format.encoding.silence());
        let there = count.min(stored.saturating_sub(read)) * frame_bytes;
        source.read_exact_at(&mut bytes[..there as usize], from.offset(read))?;
        read += count;
        from.format.encoding.decode(&bytes, &mut before);
        samples.clear();
        for (index, upsampler) in upsamplers.iter_mut().enumerate() {
            channel.clear();
            channel.extend(before.iter().skip(index).step_by(channels));
            upsampler.convert(&mut channel);
            samples.resize(channel.len() * channels, 0);
            let places = samples.iter_mut().skip(index).step_by(channels);
            places.zip(&channel).for_each(|(place, &sample)| *place = sample);
        }
        let frames = samples.len() / channels.max(1);
        let begin = early.min(frames);
        early -= begin;
        let wanted = (frames - begin).min(usize::try_from(to.frames - written).unwrap_or(usize::MAX));
        let wanted_samples = &samples[begin * channels..(begin + wanted) * channels];
        if has_no_holes || wanted_samples.iter().any(|&sample| sample != 0) {
            to.format.encoding.encode(wanted_samples, &mut bytes);
            target.write_all_at(&bytes, to.offset(written))?;
        }
        written += wanted as u64;
    }
    to.stored = written;
    to.fill(target, to.frames)
}
