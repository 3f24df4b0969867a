//! The samples of a recording, whatever it is kept as.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use claxon::FlacReader;
use spantape_store::encrypt::Clear;
use spantape_store::wav::{self, Format, HEADER_LEN};

use super::opus;

/// Frames of WAV that are read at a time.
const BLOCK: usize = 4096;

/// A recording that is being read.
pub(crate) struct Sound {
    source: Source,
    sample_rate: u32,
    channels: u16,
    frames: Option<u64>,
}

enum Source {
    Wav { file: BufReader<Box<dyn Clear>>, format: Format, bytes: Vec<u8> },
    Flac { reader: Box<FlacReader<BufReader<Box<dyn Clear>>>>, buffer: Vec<i32> },
    Opus(Box<opus::Reader>),
}

impl Sound {
    /// Opens a recording of an archive that is not encrypted.
    pub(crate) fn open(path: &Path) -> Result<Sound> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Sound::of(Box::new(file), path)
    }

    /// Of a file in clear, as it is called then.
    pub(crate) fn of(file: Box<dyn Clear>, path: &Path) -> Result<Sound> {
        let cannot = || format!("cannot read {}", path.display());
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("wav") => Sound::of_wav(file).with_context(cannot),
            Some("flac") => Sound::of_flac(file).with_context(cannot),
            Some("opus") => Sound::of_opus(file).with_context(cannot),
            _ => bail!("{} is no recording: it ends neither with .wav nor .flac nor .opus", path.display()),
        }
    }

    fn of_wav(file: Box<dyn Clear>) -> Result<Sound> {
        let mut file = BufReader::new(file);
        let mut header = [0; HEADER_LEN];
        file.read_exact(&mut header)?;
        let format = wav::read_format(&header).context("it is no WAV file of spantape")?;
        let frames = wav::read_frames(&header, format);
        let source = Source::Wav { file, format, bytes: Vec::new() };
        Ok(Sound { source, sample_rate: format.sample_rate, channels: format.channels, frames })
    }

    fn of_flac(file: Box<dyn Clear>) -> Result<Sound> {
        let reader = Box::new(FlacReader::new(BufReader::new(file))?);
        let info = reader.streaminfo();
        if info.bits_per_sample != 16 || !(1..=2).contains(&info.channels) {
            bail!("it is no FLAC file of spantape");
        }
        let source = Source::Flac { reader, buffer: Vec::new() };
        Ok(Sound {
            source,
            sample_rate: info.sample_rate,
            channels: info.channels as u16,
            frames: info.samples,
        })
    }

    fn of_opus(file: Box<dyn Clear>) -> Result<Sound> {
        let reader = Box::new(opus::Reader::open(file)?);
        let (sample_rate, channels, frames) = (reader.sample_rate, reader.channels, Some(reader.frames()));
        Ok(Sound { source: Source::Opus(reader), sample_rate, channels, frames })
    }

    /// Frames a second.
    pub(crate) fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// One or two.
    pub(crate) fn channels(&self) -> u16 {
        self.channels
    }

    /// How many the file says it has; `None` when it does not say.
    pub(crate) fn frames(&self) -> Option<u64> {
        self.frames
    }

    /// Puts the next samples into `samples`, interleaved; `false` when there are no more.
    pub(crate) fn read(&mut self, samples: &mut Vec<i16>) -> Result<bool> {
        samples.clear();
        match &mut self.source {
            Source::Wav { file, format, bytes } => {
                bytes.clear();
                let frame = format.frame_bytes();
                file.take(BLOCK as u64 * frame).read_to_end(bytes)?;
                bytes.truncate(bytes.len() / frame as usize * frame as usize);
                format.encoding.decode(bytes, samples);
                Ok(!bytes.is_empty())
            }
            Source::Flac { reader, buffer } => {
                let Some(block) = reader.blocks().read_next_or_eof(std::mem::take(buffer))? else {
                    return Ok(false);
                };
                for frame in 0..block.duration() {
                    samples.extend((0..block.channels()).map(|channel| block.sample(channel, frame) as i16));
                }
                *buffer = block.into_buffer();
                Ok(true)
            }
            Source::Opus(reader) => reader.read(samples),
        }
    }
}
