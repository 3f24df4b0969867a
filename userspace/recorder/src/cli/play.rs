//! `spantape play`: a recording, to be heard.

use std::io::{self, IsTerminal, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use spantape_core::time::SECOND;
use spantape_store::wav::Encoding;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::identity::Identity;
use super::terminal::reader_left;
use super::{PARTLY, access, show, when};
use crate::decode::in_path;
use crate::encode::Sound;

/// Play a recording, or write it as WAV to a pipe
///
/// It is heard by the first of pw-play, paplay, aplay, ffplay and play (of sox) that is installed. Where the standard output is
/// no terminal, a WAV of 16 bits goes there instead, whatever the recording is kept as. Ctrl-C ends it.
///
/// The exit code is 0, or 1 when there is no such recording, or 2 when it cannot be played or several match.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  spantape play --archive tape 0a1b2c3d
  spantape play --archive tape 0a1b2c3d --from 1:30 --side caller
  spantape play tape/recordings/2026/11/22/20261122T061209.123Z_1009_1010_0a1b2c3d.flac
  spantape play --archive tape 0a1b2c3d > call.wav
  ssh recorder spantape play --archive tape 0a1b2c3d --stdout | aplay")]
pub(crate) struct Args {
    /// The recording: its id or the first digits of it, or its file
    #[arg(value_name = "RECORDING")]
    recording: String,
    /// The archive that has it, a directory or s3://BUCKET/PREFIX; not needed with the path of a file that lies in one
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: Option<PathBuf>,
    /// Where to begin: `1:30`, `1:02:03`, `90s`, or plain seconds
    #[arg(long, value_name = "TIME", value_parser = when::position, default_value = "0")]
    from: f64,
    /// Who is heard
    #[arg(long, value_enum, value_name = "SIDE", default_value = "both")]
    side: Side,
    /// Write a WAV to the standard output
    #[arg(long)]
    stdout: bool,
    #[command(flatten)]
    identity: Identity,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The caller, in both ears
    Caller,
    /// The callee, in both ears
    Callee,
    /// The caller in the left ear, the callee in the right one
    Both,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Some((archive, recording)) = show::locate(&args.recording, args.archive.as_deref())? else {
        return Ok(ExitCode::from(PARTLY));
    };
    access::note(&archive, "play", &recording.text("recording_id"));
    let sound = args.identity.sound(&archive, &recording)?;
    let excerpt = Excerpt::of(sound, args.side, args.from)?;
    let is_terminal = io::stdout().is_terminal();
    if args.stdout && is_terminal {
        bail!("the standard output is a terminal: write to a file or a pipe, or leave out `--stdout`");
    }
    end_by_interrupt()?;
    if is_terminal {
        let Some((program, options)) = player() else {
            bail!(
                "there is no player: install pipewire-bin (pw-play), pulseaudio-utils (paplay), alsa-utils (aplay), \
                 ffmpeg (ffplay) or sox (play); or let another play what `--stdout` writes"
            );
        };
        excerpt.play(&program, options)?;
    } else {
        unless_reader_left(excerpt.write(&mut io::stdout().lock()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be heard of a recording.
struct Excerpt {
    sound: Sound,
    /// The only channel that is heard.
    channel: Option<usize>,
    /// Frames that come before what is heard.
    skip: u64,
}

impl Excerpt {
    /// Of a recording from so many seconds on. Fails when there is no such side, or nothing from there on.
    fn of(sound: Sound, side: Side, from: f64) -> Result<Excerpt> {
        let channel = match side {
            Side::Caller => Some(0),
            Side::Callee => Some(1),
            Side::Both => None,
        };
        if channel.is_some() && sound.channels() == 1 {
            bail!("this recording has both sides on one channel: leave out `--side`");
        }
        let rate = f64::from(sound.sample_rate());
        let skip = (from * rate) as u64;
        if let Some(frames) = sound.frames().filter(|&frames| skip > 0 && skip >= frames) {
            let length = when::clock((frames as f64 / rate * SECOND as f64) as i64, 3);
            bail!("there is nothing to hear from there on: the recording is {length} long");
        }
        Ok(Excerpt { sound, channel, skip })
    }

    /// Plays it by a program that reads WAV. Fails when that does; that it is ended is no failure.
    fn play(self, program: &Path, options: &[&str]) -> Result<()> {
        let name = program.display();
        let mut command = Command::new(program);
        let mut child =
            command.args(options).stdin(Stdio::piped()).spawn().with_context(|| format!("run {name}"))?;
        // The pipe is closed before the end is waited for.
        let written = child.stdin.take().map_or(Ok(()), |mut pipe| self.write(&mut pipe));
        let status = child.wait().with_context(|| format!("wait for {name}"))?;
        unless_reader_left(written)?;
        if !status.success() && status.signal() != Some(libc::SIGINT) {
            bail!("{name} has failed ({status}): let another play what `--stdout` writes");
        }
        Ok(())
    }

    /// Writes it as WAV to what cannot be gone back in.
    fn write(mut self, out: &mut impl Write) -> Result<()> {
        let channels = if self.channel.is_some() { 1 } else { self.sound.channels() };
        let frames = self.sound.frames().map(|frames| frames.saturating_sub(self.skip));
        out.write_all(&header(self.sound.sample_rate(), channels, frames))?;
        let (mut samples, mut bytes) = (Vec::new(), Vec::new());
        while self.sound.read(&mut samples)? {
            self.choose(&mut samples);
            Encoding::Pcm16.encode(&samples, &mut bytes);
            out.write_all(&bytes)?;
        }
        out.flush()?;
        Ok(())
    }

    /// Leaves of the next samples what is to be heard.
    fn choose(&mut self, samples: &mut Vec<i16>) {
        let channels = usize::from(self.sound.channels());
        let skipped = self.skip.min((samples.len() / channels) as u64);
        self.skip -= skipped;
        samples.drain(..skipped as usize * channels);
        if let Some(channel) = self.channel {
            *samples = samples.iter().skip(channel).step_by(channels).copied().collect();
        }
    }
}

/// What plays a WAV from its standard input, and what it has to be told; the first that is there is taken.
const PLAYERS: [(&str, &[&str]); 5] = [
    ("pw-play", &["-"]),
    ("paplay", &[]),
    ("aplay", &["-q", "-"]),
    ("ffplay", &["-nodisp", "-autoexit", "-loglevel", "error", "-i", "-"]),
    ("play", &["-q", "-t", "wav", "-"]),
];

fn player() -> Option<(PathBuf, &'static [&'static str])> {
    PLAYERS.into_iter().find_map(|(name, options)| Some((in_path(name)?, options)))
}

/// From now on Ctrl-C, which a player gets as well, ends the program as if all had been heard.
fn end_by_interrupt() -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    let mut interrupt = {
        let _within = runtime.enter();
        signal(SignalKind::interrupt()).context("listen to signals")?
    };
    thread::spawn(move || {
        if runtime.block_on(interrupt.recv()).is_some() {
            process::exit(0);
        }
    });
    Ok(())
}

/// Who does not want to hear more makes no mistake.
fn unless_reader_left(written: Result<()>) -> Result<()> {
    written.or_else(|error| if reader_left(&error) { Ok(()) } else { Err(error) })
}

/// The header of a WAV of 16 bits. A length that is unknown, or past 4 GB, is that of which players take all that comes.
fn header(rate: u32, channels: u16, frames: Option<u64>) -> Vec<u8> {
    let frame = channels.saturating_mul(2);
    let bytes = frames.and_then(|frames| u32::try_from(frames.saturating_mul(frame.into())).ok());
    let bytes = bytes.unwrap_or(u32::MAX);
    let mut out: Vec<u8> = Vec::new();
    out.extend(b"RIFF");
    out.extend(bytes.saturating_add(36).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16u32.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(channels.to_le_bytes());
    out.extend(rate.to_le_bytes());
    out.extend(rate.saturating_mul(frame.into()).to_le_bytes());
    out.extend(frame.to_le_bytes());
    out.extend(16u16.to_le_bytes());
    out.extend(b"data");
    out.extend(bytes.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;

    use super::super::testing;
    use super::*;

    /// Four seconds: the caller is heard in the first and third, the callee in the others.
    fn excerpt(archive: &Path, side: Side, from: f64) -> Result<Excerpt> {
        let (_, recording) = show::locate("ab000001", Some(archive)).unwrap().unwrap();
        Excerpt::of(Sound::open(&archive.join(recording.text("file"))).unwrap(), side, from)
    }

    fn read(wav: &[u8]) -> (hound::WavSpec, Vec<i16>) {
        let reader = hound::WavReader::new(Cursor::new(wav)).unwrap();
        let spec = reader.spec();
        assert_eq!(wav.len(), 44 + reader.len() as usize * 2);
        (spec, reader.into_samples::<i16>().map(Result::unwrap).collect())
    }

    #[test]
    fn what_is_chosen() {
        let dir = testing::archive();
        let written = |side: Side, from: f64| {
            let mut wav = Vec::new();
            excerpt(dir.path(), side, from).unwrap().write(&mut wav).unwrap();
            read(&wav)
        };
        let (spec, both) = written(Side::Both, 0.0);
        assert_eq!((spec.sample_rate, spec.channels, both.len()), (8000, 2, 64_000));
        assert_eq!((both[0], both[2 * 8000 + 1]), (-10_000, 300));
        let (spec, callee) = written(Side::Callee, 0.0);
        assert_eq!((spec.channels, callee.len()), (1, 32_000));
        assert!(callee.iter().zip(both.chunks(2)).all(|(sample, frame)| *sample == frame[1]));
        assert_eq!(written(Side::Caller, 3.5).1, vec![0; 4000]);
        assert_eq!(written(Side::Both, 0.75).1, both[2 * 6000..]);
        let error = excerpt(dir.path(), Side::Both, 4.0).err().unwrap().to_string();
        assert!(error.contains("0:04.000 long"), "{error}");
    }

    #[test]
    fn what_plays_it() {
        let dir = testing::archive();
        let heard = dir.path().join("heard.wav");
        let play = |script: &str| {
            let options = ["-c", script, heard.to_str().unwrap()];
            excerpt(dir.path(), Side::Both, 0.0).unwrap().play(Path::new("/bin/sh"), &options)
        };
        play("cat > $0").unwrap();
        assert_eq!(read(&fs::read(&heard).unwrap()).1.len(), 64_000);
        // Ended by its user, it has not read all.
        play("exit 0").unwrap();
        play("kill -INT $$").unwrap();
        assert!(play("exit 3").unwrap_err().to_string().contains("/bin/sh has failed (exit status: 3)"));
    }

    #[test]
    fn lengths() {
        let length = |frames| {
            let header = header(8000, 2, frames);
            let at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
            (header.len(), at(4), at(40))
        };
        assert_eq!(length(Some(10)), (44, 76, 40));
        for unknown in [None, Some(1 << 30), Some(u64::MAX)] {
            assert_eq!(length(unknown), (44, u32::MAX, u32::MAX), "{unknown:?}");
        }
    }
}
