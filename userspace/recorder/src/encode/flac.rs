//! FLAC (RFC 9639), a block at a time: however long a recording, one block of it is in memory.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use anyhow::{Context, Result, anyhow};
use flacenc::bitsink::ByteSink;
use flacenc::component::{BitRepr, MetadataBlockData, Stream, StreamInfo};
use flacenc::config;
use flacenc::encode_fixed_size_frame;
use flacenc::error::Verify;
use flacenc::source::{Context as Digest, Fill, FrameBuf};
use spantape_core::record::RecordingRow;

use super::sound::Sound;
use super::tags;

/// Frames a block.
const BLOCK: usize = 4096;
const BITS: usize = 16;
/// Type of the metadata block for comments.
const VORBIS_COMMENT: u8 = 4;

pub(super) fn encode(sound: &mut Sound, into: &File, row: &RecordingRow) -> Result<()> {
    let channels = usize::from(sound.channels());
    let mut info =
        StreamInfo::new(sound.sample_rate() as usize, channels, BITS).map_err(|error| anyhow!("{error}"))?;
    info.set_block_sizes(BLOCK, BLOCK).map_err(|error| anyhow!("{error}"))?;
    let config = config::Encoder::default().into_verified().map_err(|(_, error)| anyhow!("{error}"))?;
    let mut block = FrameBuf::with_size(channels, BLOCK).map_err(|error| anyhow!("{error}"))?;
    let mut digest = Digest::new(BITS, channels);
    let mut out = BufWriter::new(into);
    // Its length does not depend on what it says: it is written over once all is known.
    out.write_all(&head(info.clone(), row)?).context("write")?;
    let (mut waiting, mut samples) = (Vec::new(), Vec::new());
    let mut sink = ByteSink::new();
    for number in 0.. {
        while waiting.len() < BLOCK * channels && sound.read(&mut samples)? {
            waiting.extend(samples.iter().map(|&sample| i32::from(sample)));
        }
        if waiting.is_empty() {
            break;
        }
        let count = waiting.len().min(BLOCK * channels);
        block.fill_interleaved(&waiting[..count]).map_err(|error| anyhow!("{error}"))?;
        digest.fill_interleaved(&waiting[..count]).map_err(|error| anyhow!("{error}"))?;
        waiting.drain(..count);
        let frame =
            encode_fixed_size_frame(&config, &block, number, &info).map_err(|error| anyhow!("{error}"))?;
        info.update_frame_info(&frame);
        sink.clear();
        frame.write(&mut sink).map_err(|error| anyhow!("{error}"))?;
        out.write_all(sink.as_slice()).context("write")?;
    }
    info.set_block_sizes(BLOCK, BLOCK).map_err(|error| anyhow!("{error}"))?;
    info.set_total_samples(digest.total_samples());
    info.set_md5_digest(&digest.md5_digest());
    out.seek(SeekFrom::Start(0)).context("write")?;
    out.write_all(&head(info, row)?).and_then(|()| out.flush()).context("write")
}

/// All before the first frame.
fn head(info: StreamInfo, row: &RecordingRow) -> Result<Vec<u8>> {
    let mut stream = Stream::with_stream_info(info);
    let comments = MetadataBlockData::new_unknown(VORBIS_COMMENT, &tags::comments(row));
    stream.add_metadata_block(comments.map_err(|error| anyhow!("{error}"))?);
    let mut sink = ByteSink::new();
    stream.write(&mut sink).map_err(|error| anyhow!("{error}"))?;
    Ok(sink.as_slice().to_vec())
}
