//! The speech that the phones play: `samples/audio/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Bench;
use super::process::{Running, run};

/// Long enough for every call of the samples.
const SECONDS: u32 = 14;

/// Who is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Caller,
    Callee,
}

struct Voice {
    speech: Speech,
    voice: &'static str,
    pitch: &'static str,
    text: &'static str,
}

const VOICES: [Voice; 2] = [
    Voice {
        speech: Speech::Caller,
        voice: "en-us+m3",
        pitch: "38",
        text: "Good morning, this is extension one thousand and nine. I am calling about the order we placed \
               on Monday. The reference is four, seven, one, one. We need twelve boxes, not ten, and they \
               should come to the north gate before noon. Please tell me the new total.",
    },
    Voice {
        speech: Speech::Callee,
        voice: "en-gb+f3",
        pitch: "62",
        text: "Hello, extension ten ten speaking. How may I help you? Let me look for it, one moment. Yes, I \
               can see it on my screen. The total is eight hundred and thirty dollars, and the driver \
               leaves the warehouse at half past seven. Is there anything else?",
    },
];

impl Speech {
    /// The file of this speech at 8000 or 16000 Hz.
    pub(crate) fn file(self, samples: &Path, rate: u32) -> PathBuf {
        let who = match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
        };
        samples.join("audio").join(format!("{who}-{}k.wav", rate / 1000))
    }

    pub(crate) fn read(self, samples: &Path, rate: u32) -> Result<Vec<i16>> {
        let path = self.file(samples, rate);
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        pcm_of(&bytes, rate).with_context(|| format!("read {}", path.display()))
    }
}

/// Speaks, then brings each voice to the two rates in use.
pub(crate) fn make_all(bench: &Bench) -> Result<()> {
    let spoken = bench.scratch.path().join("spoken.wav");
    for voice in &VOICES {
        let mut command = Command::new("espeak-ng");
        command.args(["-v", voice.voice, "-s", "175", "-p", voice.pitch, "-w"]).arg(&spoken).arg(voice.text);
        let status = Running::spawn("espeak-ng", &mut command)?.wait(std::time::Duration::from_secs(30))?;
        if !status.success() {
            bail!("espeak-ng failed: {status}");
        }
        for rate in [8000, 16000] {
            let file = voice.speech.file(&bench.samples, rate);
            run(&format!(
                "sox -R {} -r {rate} -c 1 -b 16 {} highpass 80 pad 0.2 {SECONDS} trim 0 {SECONDS} norm -3",
                spoken.display(),
                file.display()
            ))?;
            println!("{}", file.display());
        }
    }
    Ok(())
}

/// The samples of a 16-bit mono WAV file, as sox writes it.
fn pcm_of(wav: &[u8], rate: u32) -> Result<Vec<i16>> {
    let mut rest = wav.get(12..).context("no RIFF header")?;
    while let (Some(id), Some(length)) = (rest.get(..4), rest.get(4..8)) {
        let length = u32::from_le_bytes(length.try_into()?) as usize;
        let body = rest.get(8..8 + length).context("a chunk is cut short")?;
        match id {
            b"fmt " if body.get(..8) != Some(&format_of(rate)) => bail!("not {rate} Hz mono PCM"),
            b"data" => {
                return Ok(body.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect());
            }
            _ => {}
        }
        rest = rest.get(8 + length + length % 2..).unwrap_or_default();
    }
    bail!("no data chunk")
}

fn format_of(rate: u32) -> [u8; 8] {
    let [a, b, c, d] = rate.to_le_bytes();
    [1, 0, 1, 0, a, b, c, d]
}
