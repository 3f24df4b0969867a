//! The floor program: the least that a recorder of G.711 calls has to do, and nothing else.
//!
//! It reads the file, takes Ethernet, IPv4, UDP and RTP apart, looks the stream up, decodes and writes. It knows no
//! SIP, no order, no loss and no WAV. What a real recorder needs beyond its CPU seconds is the price of being one; a part of
//! that no recorder can save is to hash what it has written, which the floor does, too, where it is asked to.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::verify;

const READ_BUFFER: usize = 256 << 10;
const WRITE_BLOCK: usize = 16 << 10;
const MOST_FILES: usize = 16_000;
const LARGEST_FRAME: usize = 1 << 18;
const MAGIC: [u8; 4] = 0xa1b2_c3d4_u32.to_le_bytes();

/// Writes each stream's samples, 16 bits each, to a raw file of its own below `folder`, as far as there may be so many. Then reads
/// and hashes them, if `hash` says so.
pub(super) fn run(file: &Path, folder: &Path, hash: bool) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let source = File::open(file).with_context(|| format!("open {}", file.display()))?;
    let mut source = BufReader::with_capacity(READ_BUFFER, source);
    let mut streams = Streams::new(folder.to_owned());
    let mut frame = Vec::new();
    check_header(&mut source).with_context(|| format!("read {}", file.display()))?;
    while next_frame(&mut source, &mut frame).with_context(|| format!("read {}", file.display()))? {
        if let Some((tuple, payload)) = take_apart(&frame) {
            streams.append(tuple, payload)?;
        }
    }
    streams.finish()?;
    if hash { hash_all(folder) } else { Ok(()) }
}

fn hash_all(folder: &Path) -> Result<()> {
    let mut block = vec![0; READ_BUFFER];
    for (path, _) in verify::files(folder)? {
        let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let mut hash = Sha256::new();
        loop {
            let count = file.read(&mut block).with_context(|| format!("read {}", path.display()))?;
            if count == 0 {
                break;
            }
            hash.update(&block[..count]);
        }
        std::hint::black_box(hash.finalize());
    }
    Ok(())
}

fn check_header(source: &mut impl Read) -> Result<()> {
    let mut header = [0; 24];
    source.read_exact(&mut header)?;
    if header[..4] != MAGIC || header[20..] != [1, 0, 0, 0] {
        bail!("not a little-endian Ethernet capture with microseconds");
    }
    Ok(())
}

fn next_frame(source: &mut impl Read, frame: &mut Vec<u8>) -> Result<bool> {
    let mut header = [0; 16];
    match source.read_exact(&mut header) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
        other => other?,
    }
    let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if length > LARGEST_FRAME {
        bail!("a frame of {length} bytes");
    }
    frame.resize(length, 0);
    source.read_exact(frame)?;
    Ok(true)
}

/// Protocol, addresses and ports, in one integer as that is hashed fastest.
type Tuple = u128;

/// Where the packet goes from and to, and its µ-law.
fn take_apart(frame: &[u8]) -> Option<(Tuple, &[u8])> {
    let (ethernet, ip) = frame.split_first_chunk::<14>()?;
    let header = ip.first_chunk::<20>()?;
    let &[.., 0x08, 0x00] = ethernet else { return None };
    let &[first, _, high, low, .., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let protocol = header[9];
    if first >> 4 != 4 || protocol != 17 {
        return None;
    }
    let udp = ip.get(usize::from(first & 0x0f) * 4..usize::from(u16::from_be_bytes([high, low])))?;
    let (&[p0, p1, q0, q1, ..], rtp) = udp.split_first_chunk::<8>()?;
    let tuple = u128::from_be_bytes([0, 0, 0, protocol, s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, q0, q1]);
    Some((tuple, mu_law_of(rtp)?))
}

fn mu_law_of(rtp: &[u8]) -> Option<&[u8]> {
    let &[flags, kind, ..] = rtp.first_chunk::<12>()?;
    if flags >> 6 != 2 || kind & 0x7f != 0 {
        return None;
    }
    let mut start = 12 + usize::from(flags & 0x0f) * 4;
    if flags & 0x10 != 0 {
        let words = rtp.get(start + 2..start + 4)?;
        start += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
    }
    let padding = if flags & 0x20 != 0 { usize::from(*rtp.last()?) } else { 0 };
    rtp.get(start..rtp.len().checked_sub(padding)?)
}

struct Streams {
    folder: PathBuf,
    /// As fast a hash as the recorder's own: a slow one here would flatter it.
    places: HashMap<Tuple, usize, foldhash::fast::FixedState>,
    streams: Vec<Stream>,
    /// Of more streams than these several share a file, as a process may not open more.
    files: Vec<Arc<File>>,
    table: [[u8; 2]; 256],
}

struct Stream {
    file: Arc<File>,
    pending: Vec<u8>,
}

impl Streams {
    fn new(folder: PathBuf) -> Self {
        let table = std::array::from_fn(|code| decode(code as u8).to_le_bytes());
        Self { folder, places: HashMap::default(), streams: Vec::new(), files: Vec::new(), table }
    }

    fn append(&mut self, tuple: Tuple, payload: &[u8]) -> Result<()> {
        let place = match self.places.get(&tuple) {
            Some(&place) => place,
            None => self.open(tuple)?,
        };
        let stream = &mut self.streams[place];
        stream.pending.extend(payload.iter().flat_map(|&code| self.table[usize::from(code)]));
        if stream.pending.len() >= WRITE_BLOCK {
            (&*stream.file).write_all(&stream.pending[..WRITE_BLOCK])?;
            stream.pending.drain(..WRITE_BLOCK);
        }
        Ok(())
    }

    fn open(&mut self, tuple: Tuple) -> Result<usize> {
        let place = self.streams.len();
        let file = match self.files.get(place % MOST_FILES) {
            Some(file) => Arc::clone(file),
            None => {
                let path = self.folder.join(format!("{place}.raw"));
                let file = File::create(&path)
                    .with_context(|| format!("create {} (ulimit -n is too small)", path.display()))?;
                self.files.push(Arc::new(file));
                Arc::clone(&self.files[place])
            }
        };
        self.streams.push(Stream { file, pending: Vec::with_capacity(2 * WRITE_BLOCK) });
        self.places.insert(tuple, place);
        Ok(place)
    }

    fn finish(&mut self) -> Result<()> {
        for stream in &mut self.streams {
            (&*stream.file).write_all(&stream.pending)?;
        }
        Ok(())
    }
}

/// G.711 µ-law to 16 bits.
fn decode(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((i16::from(code & 0x0f) << 3) + 0x84) << (code >> 4 & 0x07);
    if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

#[cfg(test)]
mod tests {
    use super::super::load::Load;
    use super::*;
    use crate::lab::codec::Codec;

    #[test]
    fn every_code_survives_decoding_and_encoding() {
        // There are two codes for zero.
        for code in (0..=255).filter(|&code| code != 0x7f) {
            assert_eq!(Codec::Pcmu.encode(&[decode(code)]), [code]);
        }
    }

    #[test]
    fn each_stream_of_a_load_gets_all_its_samples() {
        let folder = tempfile::tempdir().unwrap();
        let (file, out) = (folder.path().join("load"), folder.path().join("out"));
        Load { calls: 3, seconds: 2 }.write(&file).unwrap();
        run(&file, &out, true).unwrap();
        let sizes: Vec<u64> =
            std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes, [32_000; 6]);
    }
}
