//! The frames of one stream, as ffmpeg reads them.

use std::io::{self, Write};

use ogg::{PacketWriteEndInfo, PacketWriter};
use spantape_core::codec::external::External;

/// Serial number of the Ogg stream: there is only one.
const SERIAL: u32 = 1;

/// Builds the stream of one format.
pub(super) struct Builder {
    format: External,
    frames: Vec<Vec<u8>>,
}

impl Builder {
    pub(super) fn new(format: External) -> Builder {
        Builder { format, frames: Vec::new() }
    }

    pub(super) fn push(&mut self, frame: Vec<u8>) {
        self.frames.push(frame);
    }

    /// The stream. Each frame of Speex has so many of the codec's own in it.
    pub(super) fn finish(self, frames_per_packet: usize) -> io::Result<Vec<u8>> {
        let magic: &[u8] = match self.format {
            External::G729 | External::G7231 => b"",
            External::Ilbc { mode: 20 } => b"#!iLBC20\n",
            External::Ilbc { .. } => b"#!iLBC30\n",
            External::Amr => b"#!AMR\n",
            External::AmrWb => b"#!AMR-WB\n",
            External::Speex { rate } => return speex(rate, frames_per_packet, self.frames),
        };
        Ok([magic, &self.frames.concat()].concat())
    }
}

/// Ogg Speex, as the Speex manual has it in its section on Ogg: a header, a comment, packets.
fn speex(rate: u32, frames_per_packet: usize, packets: Vec<Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut writer = PacketWriter::new(&mut file);
    let mode: u32 = match rate {
        8000 => 0,
        16_000 => 1,
        _ => 2,
    };
    let (frame, per_packet) = (rate / 50, frames_per_packet as u32);
    let mut header = Vec::with_capacity(80);
    header.write_all(b"Speex   ")?;
    header.write_all(b"spantape\0\0\0\0\0\0\0\0\0\0\0\0")?;
    // Version, length, rate, mode, version of its bit stream, channels, bit rate, frame size, variable rate,
    // frames a packet, further headers, and two that are reserved.
    for value in [1, 80, rate, mode, 4, 1, u32::MAX, frame, 0, per_packet, 0, 0, 0] {
        header.extend(value.to_le_bytes());
    }
    writer.write_packet(header, SERIAL, PacketWriteEndInfo::EndPage, 0)?;
    // A vendor without a name, and no comments.
    writer.write_packet(vec![0; 8], SERIAL, PacketWriteEndInfo::EndPage, 0)?;
    let samples = u64::from(frame) * u64::from(per_packet);
    let count = packets.len();
    for (packet, number) in packets.into_iter().zip(1..) {
        let end =
            if number == count { PacketWriteEndInfo::EndStream } else { PacketWriteEndInfo::NormalPacket };
        writer.write_packet(packet, SERIAL, end, number as u64 * samples)?;
    }
    drop(writer);
    Ok(file)
}
