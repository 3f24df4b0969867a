//! Finished recordings in another form than WAV, and back to samples.

mod flac;
mod opus;
mod sound;
mod tags;

use std::fs::File;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;
use spantape_core::record::RecordingRow;
use spantape_store::Saved;
use spantape_store::wav::Encoding;

pub(crate) use sound::Sound;

/// What a recording is kept as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Form {
    /// WAV of 16 bits.
    #[default]
    Wav,
    /// WAV of G.711 µ-law.
    WavUlaw,
    /// WAV of G.711 A-law.
    WavAlaw,
    /// FLAC: the same samples in about half the room.
    Flac,
    /// Ogg Opus: what is heard, in an eighth of the room or less.
    Opus,
}

impl Form {
    /// How the samples of a recording are written while it goes on.
    pub(crate) fn encoding(self) -> Encoding {
        match self {
            Form::Wav | Form::Flac | Form::Opus => Encoding::Pcm16,
            Form::WavUlaw => Encoding::MuLaw,
            Form::WavAlaw => Encoding::ALaw,
        }
    }

    /// What the names of recordings end with.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Form::Wav | Form::WavUlaw | Form::WavAlaw => "wav",
            Form::Flac => "flac",
            Form::Opus => "opus",
        }
    }
}

/// Whether a recording is to be encoded. One beside which packets are kept stays WAV, so that they can be added to it.
pub(crate) fn is_wanted(form: Form, saved: &Saved) -> bool {
    matches!(form, Form::Flac | Form::Opus)
        && saved.file.ends_with(".wav")
        && saved.rtpdump.iter().all(Option::is_none)
}

/// Writes a recording to `into`, which is empty.
pub(crate) fn encode(form: Form, recording: &Path, into: &File, row: &RecordingRow) -> Result<()> {
    let mut sound = Sound::open(recording)?;
    match form {
        Form::Flac => flac::encode(&mut sound, into, row),
        Form::Opus => opus::encode(&mut sound, into, row),
        Form::Wav | Form::WavUlaw | Form::WavAlaw => bail!("{} is WAV already", recording.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;
    use std::process::Command;

    use spantape_core::time::SECOND;
    use spantape_store::wav::{self, Format};

    use super::*;
    use crate::cli::testing;

    /// Speech of both sides, in a file as the archive has it.
    fn recording(dir: &Path, rate: u32, encoding: Encoding) -> (PathBuf, Vec<i16>, RecordingRow) {
        let speech = |who: &str, kilohertz: u32| {
            let name = format!("../../samples/audio/{who}-{kilohertz}k.wav");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            let reader = hound::WavReader::open(path).unwrap();
            reader.into_samples::<i16>().map(Result::unwrap).collect::<Vec<_>>()
        };
        let kilohertz = if rate == 8000 { 8 } else { 16 };
        let both = speech("caller", kilohertz).into_iter().zip(speech("callee", kilohertz));
        // Not a whole number of any encoder's frames.
        let samples: Vec<i16> = both.flat_map(|(caller, callee)| [caller, callee]).take(2 * 99_991).collect();
        let frames = samples.len() as u64 / 2;
        let mut row = testing::recording();
        (row.sample_rate, row.frames) = (rate, frames);
        row.end = row.start + (frames as i64 * SECOND / i64::from(rate));
        let format = Format { sample_rate: rate, channels: 2, encoding };
        let mut bytes = Vec::new();
        encoding.encode(&samples, &mut bytes);
        let path = dir.join("recording.wav");
        let mut file = File::create(&path).unwrap();
        file.write_all(&wav::header(format, frames, &row)).unwrap();
        file.write_all(&bytes).unwrap();
        let mut kept = Vec::new();
        encoding.decode(&bytes, &mut kept);
        (path, kept, row)
    }

    fn read(path: &Path) -> (u32, u16, Vec<i16>) {
        let mut sound = Sound::open(path).unwrap();
        let (mut samples, mut block) = (Vec::new(), Vec::new());
        while sound.read(&mut block).unwrap() {
            samples.extend(&block);
        }
        assert_eq!(sound.frames(), Some(samples.len() as u64 / u64::from(sound.channels())));
        (sound.sample_rate(), sound.channels(), samples)
    }

    /// As another decoder hears it, if there is one.
    fn ffmpeg(path: &Path, rate: u32) -> Option<Vec<i16>> {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-i"]).arg(path);
        let output = command.args(["-ar", &rate.to_string(), "-f", "s16le", "-"]).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(output.stdout.as_chunks::<2>().0.iter().map(|&bytes| i16::from_le_bytes(bytes)).collect())
    }

    fn encoded(form: Form, rate: u32, encoding: Encoding) -> (tempfile::TempDir, PathBuf, Vec<i16>) {
        let dir = tempfile::tempdir().unwrap();
        let (path, samples, row) = recording(dir.path(), rate, encoding);
        let target = dir.path().join(format!("recording.{}", form.extension()));
        encode(form, &path, &File::create(&target).unwrap(), &row).unwrap();
        (dir, target, samples)
    }

    fn channel(samples: &[i16], channel: usize) -> Vec<f64> {
        samples.iter().skip(channel).step_by(2).map(|&sample| f64::from(sample)).collect()
    }

    fn correlation(a: &[f64], b: &[f64]) -> f64 {
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        product(a, b) / (product(a, a) * product(b, b)).sqrt()
    }

    #[test]
    fn wav_of_each_encoding() {
        for encoding in [Encoding::Pcm16, Encoding::MuLaw, Encoding::ALaw] {
            let dir = tempfile::tempdir().unwrap();
            let (path, samples, _) = recording(dir.path(), 8000, encoding);
            assert_eq!(read(&path), (8000, 2, samples.clone()));
            if let Some(heard) = ffmpeg(&path, 8000) {
                assert!(heard == samples, "{encoding:?}");
            }
        }
    }

    #[test]
    fn flac_has_the_same_samples() {
        for (rate, encoding) in [(8000, Encoding::Pcm16), (16_000, Encoding::Pcm16), (8000, Encoding::ALaw)] {
            let (_dir, path, samples) = encoded(Form::Flac, rate, encoding);
            assert!(path.metadata().unwrap().len() < samples.len() as u64 * 3 / 2);
            let (sample_rate, channels, heard) = read(&path);
            assert_eq!((sample_rate, channels), (rate, 2));
            assert!(heard == samples, "{rate} {encoding:?}");
            if let Some(heard) = ffmpeg(&path, rate) {
                assert!(heard == samples, "{rate} {encoding:?}");
            }
        }
    }

    #[test]
    fn opus_is_heard_alike_each_side_in_its_ear() {
        for rate in [8000, 16_000] {
            let (_dir, path, samples) = encoded(Form::Opus, rate, Encoding::Pcm16);
            assert!(path.metadata().unwrap().len() < samples.len() as u64 / 2);
            let (sample_rate, channels, heard) = read(&path);
            assert_eq!((sample_rate, channels, heard.len()), (rate, 2, samples.len()));
            let mut all = vec![heard];
            all.extend(ffmpeg(&path, rate));
            for heard in all {
                assert!(heard.len().abs_diff(samples.len()) <= 2, "{} {}", heard.len(), samples.len());
                for side in [0, 1] {
                    let (own, other) = (channel(&samples, side), channel(&samples, 1 - side));
                    let heard = channel(&heard, side);
                    // Another's resampler may be late by a sample or two.
                    let alike = (0..3).map(|late| correlation(&own, &heard[late..])).fold(0.0, f64::max);
                    assert!(alike > 0.95, "{rate} {side}: {alike}");
                    let crosstalk = correlation(&other, &heard) - correlation(&other, &own);
                    assert!(crosstalk.abs() < 0.02, "{rate} {side}: {crosstalk}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_recording() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("a.wav", &b"RIFF"[..]), ("a.flac", b"fLaC\0\0"), ("a.opus", b"OggS"), ("a.txt", b"")]
        {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert!(Sound::open(&path).is_err(), "{name}");
        }
    }
}
