//! Ogg Opus (RFC 7845): caller and callee as two mono streams of one file, so that nothing of one is heard with the other.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, Write};

use anyhow::{Context, Result, anyhow, bail};
use ogg::{PacketReader, PacketWriteEndInfo, PacketWriter};
use opus_rs::multistream::{ChannelMappingTable, MultistreamDecoder};
use opus_rs::{Application, OpusDecoder, OpusEncoder};
use spantape_core::codec::Upsampler;
use spantape_core::record::RecordingRow;
use spantape_store::encrypt::Clear;

use super::sound::Sound;
use super::tags;

/// The clock of Ogg Opus, whatever the rate of its samples.
const CLOCK: u64 = 48_000;
/// By which the encoder is late, in that clock.
const PRE_SKIP: u16 = 312;
/// Of a side: speech at 8 and 16 kHz is hardly told from what went in.
const BITS_A_SECOND: i32 = 32_000;
/// Those that Opus encodes and decodes.
const RATES: [u32; 5] = [8000, 12_000, 16_000, 24_000, 48_000];
/// Frames a second.
const FRAMES: u32 = 50;
/// Bytes of an encoded frame at most (RFC 6716 section 3.2.1).
const LONGEST: usize = 1275 + 1;
/// The longest packet, in milliseconds (RFC 6716 section 3.2.5).
const LONGEST_MS: usize = 120;
/// Two channels, each of a stream of its own: mapping family 1 (RFC 7845 section 5.1.1.2), streams, coupled ones, and which
/// channel each stream is.
const TWO_STREAMS: [u8; 5] = [1, 2, 0, 0, 1];

pub(super) fn encode(sound: &mut Sound, into: &File, row: &RecordingRow) -> Result<()> {
    let mut side = |_| Side::new(sound.sample_rate());
    let mut sides = (0..sound.channels()).map(&mut side).collect::<Result<Vec<_>>>()?;
    let Some(rate) = sides.first().map(|side| side.rate) else { bail!("it has no channels") };
    let serial = u32::from_be_bytes([row.id.0[0], row.id.0[1], row.id.0[2], row.id.0[3]]);
    let mut writer = PacketWriter::new(BufWriter::new(into));
    let mut put = |packet, end, position| writer.write_packet(packet, serial, end, position).context("write");
    put(head(sides.len(), sound.sample_rate()), PacketWriteEndInfo::EndPage, 0)?;
    put([b"OpusTags".as_slice(), &tags::comments(row)].concat(), PacketWriteEndInfo::EndPage, 0)?;
    let each = (rate / FRAMES) as usize;
    let (mut samples, mut frames) = (Vec::new(), 0);
    let (mut position, mut is_over) = (0, false);
    loop {
        while !is_over && sides.iter().all(|side| side.waiting.len() < each) {
            is_over = !sound.read(&mut samples)?;
            frames += samples.len() as u64 / sides.len() as u64;
            let channels = sides.len();
            for (index, side) in sides.iter_mut().enumerate() {
                side.push(samples.iter().skip(index).step_by(channels).copied(), is_over);
            }
        }
        let end = u64::from(PRE_SKIP) + frames * CLOCK / u64::from(sound.sample_rate());
        position += CLOCK / u64::from(FRAMES);
        let is_last = is_over && position >= end;
        let packet = packet(&mut sides, each)?;
        if is_last {
            put(packet, PacketWriteEndInfo::EndStream, end)?;
            break;
        }
        put(packet, PacketWriteEndInfo::NormalPacket, position)?;
    }
    writer.into_inner().flush().context("write")
}

/// One channel on its way.
struct Side {
    encoder: OpusEncoder,
    rate: u32,
    upsampler: Option<Upsampler>,
    /// Samples of the upsampler that stand before the first.
    early: usize,
    last: Vec<i16>,
    waiting: Vec<i16>,
}

impl Side {
    fn new(sample_rate: u32) -> Result<Side> {
        let rate = RATES.into_iter().find(|&rate| rate >= sample_rate);
        let rate = rate.with_context(|| format!("Opus has no rate of {sample_rate} Hz"))?;
        let upsampler = Upsampler::new(sample_rate, rate);
        if upsampler.is_none() && rate != sample_rate {
            bail!("there is no way from {sample_rate} to {rate} Hz");
        }
        let mut encoder =
            OpusEncoder::new(rate as i32, 1, Application::Voip).map_err(|error| anyhow!("{error}"))?;
        encoder.bitrate_bps = BITS_A_SECOND;
        let early = upsampler.as_ref().map_or(0, Upsampler::delay) as usize;
        Ok(Side { encoder, rate, upsampler, early, last: Vec::new(), waiting: Vec::new() })
    }

    fn push(&mut self, samples: impl Iterator<Item = i16>, is_over: bool) {
        let Some(upsampler) = &mut self.upsampler else { return self.waiting.extend(samples) };
        let mut block: Vec<i16> = samples.collect();
        if !block.is_empty() {
            self.last = block.clone();
        }
        upsampler.convert(&mut block);
        if is_over {
            block.extend(upsampler.finish(&self.last));
        }
        let early = self.early.min(block.len());
        self.early -= early;
        self.waiting.extend(&block[early..]);
    }
}

/// The next frame of each side; silence after its end.
fn packet(sides: &mut [Side], each: usize) -> Result<Vec<u8>> {
    let mut packet = Vec::new();
    let count = sides.len();
    for (index, side) in sides.iter_mut().enumerate() {
        let mut frame: Vec<i16> = side.waiting.drain(..each.min(side.waiting.len())).collect();
        frame.resize(each, 0);
        let mut bytes = [0; LONGEST];
        let length = side.encoder.encode_i16(&frame, each, &mut bytes).map_err(|error| anyhow!("{error}"))?;
        let Some((&toc, data)) = bytes.get(..length).and_then(<[u8]>::split_first) else {
            bail!("the encoder gave nothing");
        };
        packet.push(toc);
        if index + 1 < count {
            // All but the last stream tell their length (RFC 6716 appendix B).
            if toc & 3 != 0 {
                bail!("the encoder gave more than one frame");
            }
            match data.len() {
                short @ 0..252 => packet.push(short as u8),
                long => packet.extend([252 + (long & 3) as u8, ((long - 252 - (long & 3)) / 4) as u8]),
            }
        }
        packet.extend(data);
    }
    Ok(packet)
}

/// RFC 7845 section 5.1.
fn head(channels: usize, sample_rate: u32) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels as u8);
    head.extend(PRE_SKIP.to_le_bytes());
    head.extend(sample_rate.to_le_bytes());
    head.extend(0u16.to_le_bytes());
    head.extend(if channels == 1 { &[0][..] } else { &TWO_STREAMS });
    head
}

/// Reads what [`encode`] has written.
pub(super) struct Reader {
    packets: PacketReader<BufReader<Box<dyn Clear>>>,
    decoder: Decoder,
    pub(super) sample_rate: u32,
    pub(super) channels: u16,
    /// Frames that are not heard, at the rate.
    skip: u64,
    /// Frames that are still to come.
    left: u64,
}

enum Decoder {
    Mono(Box<OpusDecoder>),
    Two(Box<MultistreamDecoder>),
}

impl Reader {
    pub(super) fn open(file: Box<dyn Clear>) -> Result<Reader> {
        let (frames, file) = frames(file)?;
        let mut packets = PacketReader::new(file);
        let head = packets.read_packet_expected()?.data;
        let text = head.strip_prefix(b"OpusHead\x01").context("it is no Ogg Opus")?;
        let (Some(&channels @ 1..=2), Some(rate), Some(&family), Some(mapping)) =
            (text.first(), text.get(3..7).and_then(<[u8]>::first_chunk::<4>), text.get(9), text.get(10..))
        else {
            bail!("it is no Ogg Opus of spantape");
        };
        let sample_rate = u32::from_le_bytes(*rate);
        let rate =
            RATES.into_iter().find(|&rate| rate >= sample_rate).context("it is no Ogg Opus of spantape")?;
        let decoder = match ChannelMappingTable::parse(family, channels, mapping) {
            Some(table) => {
                MultistreamDecoder::new(rate as i32, table).map(|decoder| Decoder::Two(Box::new(decoder)))
            }
            None => OpusDecoder::new(rate as i32, 1).map(|decoder| Decoder::Mono(Box::new(decoder))),
        };
        let decoder = decoder.map_err(|error| anyhow!("{error}"))?;
        packets.read_packet_expected()?;
        let at_rate = |position: u64| (u128::from(position) * u128::from(rate) / u128::from(CLOCK)) as u64;
        let skip = at_rate(PRE_SKIP.into());
        Ok(Reader {
            packets,
            decoder,
            sample_rate: rate,
            channels: channels.into(),
            skip,
            left: at_rate(frames),
        })
    }

    pub(super) fn frames(&self) -> u64 {
        self.left
    }

    /// Appends samples; `false` when there are no more.
    pub(super) fn read(&mut self, samples: &mut Vec<i16>) -> Result<bool> {
        let Some(packet) = self.packets.read_packet()? else { return Ok(false) };
        let most = self.sample_rate as usize * LONGEST_MS / 1000;
        let channels = usize::from(self.channels);
        let mut decoded = vec![0.0; most * channels];
        let count = match &mut self.decoder {
            Decoder::Mono(decoder) => decoder.decode(&packet.data, most, &mut decoded),
            Decoder::Two(decoder) => decoder.decode(&packet.data, most, &mut decoded),
        };
        let count = count.map_err(|error| anyhow!("{error}"))?.min(most) as u64;
        let skip = self.skip.min(count);
        self.skip -= skip;
        let heard = (count - skip).min(self.left);
        self.left -= heard;
        let decoded = &decoded[skip as usize * channels..(skip + heard) as usize * channels];
        samples.extend(decoded.iter().map(|sample| (sample * 32_768.0).round() as i16));
        Ok(true)
    }
}

/// By the last page, in the clock of Ogg Opus.
fn frames(file: Box<dyn Clear>) -> Result<(u64, BufReader<Box<dyn Clear>>)> {
    let mut packets = PacketReader::new(BufReader::new(file));
    let mut last = 0;
    // One that is cut short is as long as what there is of it.
    while let Ok(Some(packet)) = packets.read_packet() {
        last = packet.absgp_page();
    }
    let mut file = packets.into_inner();
    file.rewind()?;
    Ok((last.saturating_sub(PRE_SKIP.into()), file))
}
