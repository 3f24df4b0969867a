//! An archive, as anybody reads it: the catalog through `spantape search`, the audio as WAV files.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A folder that `spantape` has written.
pub(crate) struct Archive {
    binary: PathBuf,
    path: PathBuf,
}

/// A recording's samples, caller and callee; where they were mixed, both in one channel.
pub(crate) struct Audio {
    pub(crate) rate: u32,
    pub(crate) channels: Vec<Vec<i16>>,
}

impl Archive {
    pub(crate) fn new(binary: &Path, path: &Path) -> Self {
        Self { binary: binary.to_owned(), path: path.to_owned() }
    }

    /// What a capture file gives.
    pub(crate) fn replay(binary: &Path, capture: &Path, config: Option<&Path>, path: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("replay").arg(capture).arg("--archive").arg(path);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let out = command.output().context("run spantape")?;
        ensure!(out.status.success(), "the replay fails: {}", String::from_utf8_lossy(&out.stderr).trim());
        Ok(Self::new(binary, path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The rows of a table, sorted by call and start.
    pub(crate) fn rows(&self, table: &str) -> Result<Vec<Value>> {
        let mut command = Command::new(&self.binary);
        command.args(["search", "--format", "jsonl", "--table", table, "--archive"]).arg(&self.path);
        let out = command.output().context("run spantape")?;
        // 1: nothing found.
        ensure!(
            matches!(out.status.code(), Some(0 | 1)),
            "the table {table} cannot be read: {}",
            String::from_utf8_lossy(&out.stderr).trim()
        );
        let text = String::from_utf8(out.stdout).context("read the rows")?;
        let rows: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        let mut rows = rows.with_context(|| format!("read the rows of {table}"))?;
        rows.sort_by_key(|row| (row["call_id"].to_string(), row["start"].to_string()));
        Ok(rows)
    }

    /// The only row of a table.
    pub(crate) fn row(&self, table: &str) -> Result<Value> {
        let mut rows = self.rows(table)?;
        ensure!(rows.len() == 1, "{} rows are in the table {table}", rows.len());
        rows.pop().context("a row")
    }

    /// That a capture file lies beside a recording, with signalling and media in it.
    pub(crate) fn ensure_traced(&self, recording: &Value) -> Result<()> {
        let file = recording["file"].as_str().context("the recording has no file")?;
        let path = self.path.join(file).with_extension("pcap");
        let mut capture =
            pcap::Capture::from_file(&path).with_context(|| format!("open {}", path.display()))?;
        let (mut sip, mut rtp) = (0, 0);
        while let Ok(packet) = capture.next_packet() {
            match packet.data.get(20..24) {
                Some(ports) if ports.windows(2).any(|port| port == [0x13, 0xc4]) => sip += 1,
                _ => rtp += 1,
            }
        }
        ensure!(sip >= 5 && rtp >= 500, "{}: {sip} SIP messages, {rtp} RTP packets", path.display());
        Ok(())
    }

    pub(crate) fn audio(&self, recording: &Value) -> Result<Audio> {
        let file = recording["file"].as_str().context("the recording has no file")?;
        let path = self.path.join(file);
        let read = || -> Result<Audio> {
            let mut wav = hound::WavReader::new(Cursor::new(wav(&path)?))?;
            let spec = wav.spec();
            let channels = if recording["mixed"] == true { 1 } else { 2 };
            let as_expected = usize::from(spec.channels) == channels && spec.bits_per_sample == 16;
            ensure!(as_expected, "an unexpected format: {spec:?}");
            let samples: Vec<i16> = wav.samples::<i16>().collect::<Result<_, _>>()?;
            let channel = |index| samples.iter().skip(index).step_by(channels).copied().collect();
            Ok(Audio { rate: spec.sample_rate, channels: (0..channels).map(channel).collect() })
        };
        let audio = read().with_context(|| format!("{}: cannot be played", path.display()))?;
        let frames = recording["frames"].as_u64().context("the recording has no length")?;
        ensure!(
            audio.channels[0].len() as u64 == frames && recording["sample_rate"] == audio.rate,
            "{}: the catalog has another length than the file",
            path.display()
        );
        Ok(audio)
    }
}

/// A recording as WAV, whatever it is kept as.
fn wav(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "wav") {
        return std::fs::read(path).context("read");
    }
    let mut command = Command::new("ffmpeg");
    let output = command
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "wav", "-"])
        .output()
        .context("run ffmpeg")?;
    ensure!(output.status.success(), "ffmpeg cannot play it: {}", String::from_utf8_lossy(&output.stderr));
    // What goes to a pipe has no length in its header: it is as long as there is something to read.
    let mut bytes = output.stdout;
    let data = bytes.windows(4).position(|name| name == b"data").context("ffmpeg made no WAV")?;
    let length = (bytes.len() - data - 8) as u32;
    bytes[data + 4..data + 8].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

impl Audio {
    pub(crate) fn seconds(&self) -> f64 {
        self.channels[0].len() as f64 / f64::from(self.rate)
    }

    /// The loudest sample of a side between two moments, in seconds.
    pub(crate) fn peak(&self, channel: usize, from: f64, to: f64) -> u16 {
        let at = |moment: f64| (moment.max(0.0) * f64::from(self.rate)) as usize;
        let samples = self.channels[channel].get(at(from)..).unwrap_or_default();
        let samples = &samples[..samples.len().min(at(to).saturating_sub(at(from)))];
        samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or_default()
    }
}
