//! Capture files in memory: small enough here to hold whole.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use pcap_parser::traits::PcapReaderIterator as _;
use pcap_parser::{LegacyPcapReader, Linktype, PcapBlockOwned, PcapError};

const READ_BUFFER: usize = 1 << 18;
const SNAPLEN: u32 = 262_144;

/// One Ethernet frame and when it was seen, since the epoch.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) at: Duration,
    pub(crate) data: Vec<u8>,
}

/// The frames of a classic pcap file with microseconds.
#[derive(Clone, Default)]
pub(crate) struct Capture {
    pub(crate) frames: Vec<Frame>,
}

impl Capture {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Self::parse(file).with_context(|| format!("read {}", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        self.format(BufWriter::new(file)).with_context(|| format!("write {}", path.display()))
    }

    /// Puts the frames in the order of their times; frames with the same time stay as they were.
    pub(crate) fn sort(&mut self) {
        self.frames.sort_by_key(|frame| frame.at);
    }

    pub(crate) fn seconds(&self) -> f64 {
        match (self.frames.first(), self.frames.last()) {
            (Some(first), Some(last)) => last.at.saturating_sub(first.at).as_secs_f64(),
            _ => 0.0,
        }
    }

    fn parse(file: File) -> Result<Self> {
        let mut reader = LegacyPcapReader::new(READ_BUFFER, BufReader::new(file))
            .map_err(|error| anyhow!("not a pcap file: {error:?}"))?;
        let mut frames = Vec::new();
        loop {
            let used = match reader.next() {
                Ok((used, PcapBlockOwned::LegacyHeader(header))) => {
                    if header.network != Linktype::ETHERNET || header.is_nanosecond_precision() {
                        bail!("not an Ethernet capture with microseconds");
                    }
                    used
                }
                Ok((used, PcapBlockOwned::Legacy(block))) => {
                    let at = Duration::new(block.ts_sec.into(), block.ts_usec * 1000);
                    frames.push(Frame { at, data: block.data.to_vec() });
                    used
                }
                Ok((used, _)) => used,
                Err(PcapError::Eof) => break,
                Err(PcapError::Incomplete(_)) => {
                    reader.refill().map_err(|error| anyhow!("{error:?}"))?;
                    continue;
                }
                Err(error) => bail!("{error:?}"),
            };
            reader.consume(used);
        }
        Ok(Self { frames })
    }

    fn format(&self, out: BufWriter<File>) -> Result<()> {
        let mut writer = Writer::new(out)?;
        for frame in &self.frames {
            writer.frame(frame.at, &frame.data)?;
        }
        writer.finish()
    }
}

/// Writes a classic pcap file of Ethernet frames with microseconds, frame by frame.
pub(crate) struct Writer(BufWriter<File>);

impl Writer {
    pub(crate) fn new(mut out: BufWriter<File>) -> Result<Self> {
        out.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
        out.write_all(&[2, 0, 4, 0])?;
        out.write_all(&[0; 8])?;
        out.write_all(&SNAPLEN.to_le_bytes())?;
        out.write_all(&1_u32.to_le_bytes())?;
        Ok(Self(out))
    }

    pub(crate) fn frame(&mut self, at: Duration, data: &[u8]) -> Result<()> {
        let length = u32::try_from(data.len())?;
        self.0.write_all(&u32::try_from(at.as_secs())?.to_le_bytes())?;
        self.0.write_all(&at.subsec_micros().to_le_bytes())?;
        self.0.write_all(&length.to_le_bytes())?;
        self.0.write_all(&length.to_le_bytes())?;
        Ok(self.0.write_all(data)?)
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        Ok(self.0.flush()?)
    }
}
