//! ffmpeg as a decoder: bytes in by one pipe, samples out by another, within the [sandbox](super::sandbox).

use std::env;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use spantape_core::codec::external::External;

/// The command that enters the sandbox.
pub(crate) const SANDBOX: &str = "decode-sandbox";

/// Decoding goes hundreds of times as fast as speech; on a machine that is busy with something else, less.
const SLOWEST: u64 = 10;
/// For the start of the program.
const START: u64 = 30;
/// Seconds of audio decoded at most in one go: more than a day.
const MOST_AUDIO: usize = 100_000;

/// A program that decodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ffmpeg {
    program: PathBuf,
}

/// Why nothing was decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("it could not be run: {0}")]
    Run(#[from] std::io::Error),
    #[error("it took too long")]
    Time,
    #[error("{samples} samples came of {expected}{}", said(.text))]
    Samples { samples: usize, expected: usize, text: String },
    #[error("it is too long")]
    TooLong,
}

fn said(text: &str) -> String {
    text.trim().lines().next().map_or_else(String::new, |line| format!(": {line}"))
}

impl Ffmpeg {
    /// The one that is found first, as a shell finds it.
    pub(crate) fn find() -> Option<Ffmpeg> {
        in_path("ffmpeg").map(|program| Ffmpeg { program })
    }

    /// The one at a path.
    pub(crate) fn at(path: &Path) -> Option<Ffmpeg> {
        is_program(path).then(|| Ffmpeg { program: path.to_owned() })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.program
    }

    /// The codecs that it decodes, of those that it is used for.
    pub(crate) fn decoders(&self) -> Result<Vec<&'static str>, Failure> {
        let listed =
            self.run(&["-hide_banner", "-loglevel", "error", "-decoders"].map(OsStr::new), &[], 1 << 20, 10)?;
        let text = String::from_utf8_lossy(&listed.bytes);
        let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        let wanted = [
            ("G.729", &["g729"][..]),
            ("G.723.1", &["g723_1"]),
            ("iLBC", &["ilbc", "libilbc"]),
            ("AMR", &["amrnb", "libopencore_amrnb"]),
            ("AMR-WB", &["amrwb", "libopencore_amrwb"]),
            ("Speex", &["speex", "libspeex"]),
        ];
        let has = |of: &[&str]| of.iter().any(|name| names.contains(name));
        Ok(wanted.into_iter().filter(|(_, of)| has(of)).map(|(name, _)| name).collect())
    }

    /// Decodes a stream of frames of which so many samples must come.
    pub(crate) fn decode(
        &self,
        format: External,
        stream: &[u8],
        expected: usize,
    ) -> Result<Vec<i16>, Failure> {
        let seconds = expected / format.rate() as usize + 1;
        if seconds > MOST_AUDIO {
            return Err(Failure::TooLong);
        }
        let (demuxer, decoder) = match format {
            External::G729 => ("g729", "g729"),
            External::G7231 => ("g723_1", "g723_1"),
            External::Ilbc { .. } => ("ilbc", "ilbc"),
            External::Amr => ("amr", "amrnb"),
            External::AmrWb => ("amr", "amrwb"),
            // By which of two libraries, differs from build to build; that it is Speex, our own header says.
            External::Speex { .. } => ("ogg", ""),
        };
        let rate = format.rate().to_string();
        let mut args = vec!["-hide_banner", "-loglevel", "error", "-nostdin", "-protocol_whitelist", "pipe"];
        args.extend(["-threads", "1", "-f", demuxer]);
        if !decoder.is_empty() {
            args.extend(["-c:a", decoder]);
        }
        args.extend(["-i", "pipe:0", "-map", "0:a:0", "-ac", "1", "-ar", &rate]);
        args.extend(["-c:a", "pcm_s16le", "-f", "s16le", "pipe:1"]);
        let args: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
        let most = (expected + format.rate() as usize) * 2;
        let output = self.run(&args, stream, most, START + seconds as u64 / SLOWEST)?;
        let samples: Vec<i16> =
            output.bytes.as_chunks::<2>().0.iter().map(|&bytes| i16::from_le_bytes(bytes)).collect();
        if samples.len() != expected {
            return Err(Failure::Samples { samples: samples.len(), expected, text: output.errors });
        }
        Ok(samples)
    }

    /// Runs it in the sandbox, on `input`, for so many seconds at most.
    fn run(&self, args: &[&OsStr], input: &[u8], most: usize, seconds: u64) -> Result<Output, Failure> {
        // The same program as this one, even if another has been installed meanwhile.
        let mut child = Command::new("/proc/self/exe")
            .arg(SANDBOX)
            .args(["--cpu-seconds", &seconds.to_string(), "--"])
            .arg(&self.program)
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let output = exchange(&mut child, input, most, deadline);
        let _ = child.kill();
        child.wait()?;
        output
    }
}

struct Output {
    bytes: Vec<u8>,
    errors: String,
}

/// Bytes of complaints that are kept.
const ERRORS: u64 = 2000;

fn exchange(child: &mut Child, input: &[u8], most: usize, deadline: Instant) -> Result<Output, Failure> {
    let (Some(mut stdin), Some(mut stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Failure::Time);
    };
    thread::scope(|scope| {
        // A program that stops reading shows by what comes out.
        scope.spawn(move || stdin.write_all(input));
        let errors = scope.spawn(move || {
            let mut text = Vec::new();
            let mut stderr = stderr;
            let _ = (&mut stderr).take(ERRORS).read_to_end(&mut text);
            // The rest must go somewhere.
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut bytes = Vec::new();
        let read = read_until(&mut stdout, &mut bytes, most, deadline);
        // Threads that wait for it end with it.
        let _ = child.kill();
        let errors = errors.join().unwrap_or_default();
        read.map(|()| Output { bytes, errors })
    })
}

fn read_until(
    from: &mut (impl Read + AsFd),
    to: &mut Vec<u8>,
    most: usize,
    deadline: Instant,
) -> Result<(), Failure> {
    let mut block = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Time);
        }
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(Failure::Time),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Failure::Run(error.into())),
        }
        match from.read(&mut block)? {
            0 => return Ok(()),
            count if to.len() + count > most => return Err(Failure::TooLong),
            count => to.extend_from_slice(&block[..count]),
        }
    }
}

/// Where the program of that name is, as a shell finds it.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths).map(|dir| dir.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}
