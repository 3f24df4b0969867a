//! Capture files: pcap in its four forms, and pcapng with any number of sections and interfaces.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pcap_parser::pcapng::Block;
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGReader};
use spantape_core::time::{SECOND, Timestamp};
use spantape_core::wire::LinkType;

use super::input::{self, Input};
use super::{Frame, SourceError};

/// First size of the read buffer, and the size beyond which a record is taken for damage.
const BUFFER: usize = 256 * 1024;
const MAX_BUFFER: usize = 32 * 1024 * 1024;

/// A capture file, of which one frame at a time is looked at.
pub(crate) struct CaptureFile {
    name: String,
    reader: Box<dyn PcapReaderIterator + Send>,
    /// What the reader of bytes had to say, which the parser does not pass on.
    error: Arc<Mutex<Option<io::Error>>>,
    interfaces: Vec<Interface>,
    frames: u64,
    at: Timestamp,
    link: LinkType,
    /// Where the frame is in what the reader has, and how much of that is done with once the frame is.
    place: Range<usize>,
    taken: usize,
    /// A link type that cannot be read, of some interface.
    foreign: Option<u32>,
    done: bool,
}

#[derive(Clone, Copy)]
struct Interface {
    link: Option<LinkType>,
    /// Ticks a second.
    resolution: u64,
    /// Seconds to add.
    offset: i64,
}

impl CaptureFile {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path, progress: &Arc<AtomicU64>) -> Result<CaptureFile, SourceError> {
        let name =
            if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
        let Input { head, bytes } =
            input::open(path, progress).map_err(|source| SourceError::Read { name: name.clone(), source })?;
        let error = Arc::new(Mutex::new(None));
        let bytes = Noting { inner: bytes, error: Arc::clone(&error) };
        let reader: Box<dyn PcapReaderIterator + Send> = match head.get(..4) {
            None if head.is_empty() => return Err(SourceError::Empty { name }),
            Some([0x0a, 0x0d, 0x0d, 0x0a]) => match PcapNGReader::new(BUFFER, bytes) {
                Ok(reader) => Box::new(reader),
                Err(_) => return Err(SourceError::NotACapture { name }),
            },
            _ => match LegacyPcapReader::new(BUFFER, bytes) {
                Ok(reader) => Box::new(reader),
                Err(_) => return Err(SourceError::NotACapture { name }),
            },
        };
        let (at, link) = (Timestamp(0), LinkType::Ethernet);
        Ok(CaptureFile {
            name,
            reader,
            error,
            interfaces: Vec::new(),
            frames: 0,
            at,
            link,
            place: 0..0,
            taken: 0,
            foreign: None,
            done: false,
        })
    }

    /// Goes on to the next frame. `false`: there is none.
    pub(crate) fn advance(&mut self) -> Result<bool, SourceError> {
        self.reader.consume(std::mem::take(&mut self.taken));
        while !self.done {
            match self.reader.next() {
                Ok((length, block)) => {
                    let frame: Option<&[u8]> = match block {
                        PcapBlockOwned::LegacyHeader(header) => {
                            let link = u32::try_from(header.network.0).unwrap_or(u32::MAX) & 0x0fff_ffff;
                            let resolution =
                                if header.is_nanosecond_precision() { SECOND as u64 } else { 1_000_000 };
                            self.interfaces = vec![Interface::new(link, resolution, 0)];
                            self.foreign = LinkType::from_number(link).is_none().then_some(link);
                            None
                        }
                        PcapBlockOwned::Legacy(record) => {
                            let ticks = u64::from(record.ts_usec);
                            let interface = self.interfaces.first().copied();
                            let at = interface.map(|interface| {
                                Timestamp(i64::from(record.ts_sec) * SECOND) + interface.nanoseconds(ticks)
                            });
                            (self.at, self.link) = (
                                at.unwrap_or(self.at),
                                interface.and_then(|it| it.link).unwrap_or(self.link),
                            );
                            let is_known = interface.is_some_and(|interface| interface.link.is_some());
                            is_known.then(|| up_to(record.data, record.caplen))
                        }
                        PcapBlockOwned::NG(block) => take_block(
                            &block,
                            &mut self.interfaces,
                            &mut self.foreign,
                            (&mut self.at, &mut self.link),
                        ),
                    };
                    if let Some(frame) = frame {
                        // What has been parsed borrows from the reader: that the frame stays there saves a copy of it.
                        let (begin, size) = (frame.as_ptr().addr(), frame.len());
                        let begin = begin.wrapping_sub(self.reader.data().as_ptr().addr());
                        (self.place, self.taken) = (begin..begin.wrapping_add(size), length);
                        self.frames += 1;
                        return Ok(true);
                    }
                    self.reader.consume(length);
                    if self.interfaces.len() == 1 && self.foreign.is_some() {
                        break;
                    }
                }
                Err(PcapError::Eof) => break,
                Err(PcapError::Incomplete(_)) => {
                    if self.reader.refill().is_err() {
                        return self.fail();
                    }
                }
                Err(PcapError::BufferTooSmall) => {
                    let size = self.reader.data().len().max(BUFFER) * 2;
                    if size > MAX_BUFFER || !self.reader.grow(size) {
                        return self.fail();
                    }
                    if self.reader.refill().is_err() {
                        return self.fail();
                    }
                }
                Err(PcapError::UnexpectedEof) => {
                    self.done = true;
                    return Err(SourceError::Truncated { name: self.name.clone(), frames: self.frames });
                }
                Err(_) => return self.fail(),
            }
        }
        self.done = true;
        match self.foreign.take() {
            Some(number) => Err(SourceError::LinkType { name: self.name.clone(), number }),
            None => Ok(false),
        }
    }

    /// The frame that [`CaptureFile::advance`] went to.
    pub(crate) fn frame(&self) -> Frame<'_> {
        let data = self.reader.data().get(self.place.clone()).unwrap_or_default();
        Frame { at: self.at, link: self.link, data }
    }

    fn fail(&mut self) -> Result<bool, SourceError> {
        self.done = true;
        let name = self.name.clone();
        Err(match lock(&self.error).take() {
            // A compressed file that was cut off.
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                SourceError::Truncated { name, frames: self.frames }
            }
            Some(source) => SourceError::Read { name, source },
            None => SourceError::Damaged { name, frames: self.frames },
        })
    }
}

impl Interface {
    fn new(link: u32, resolution: u64, offset: i64) -> Interface {
        Interface { link: LinkType::from_number(link), resolution: resolution.max(1), offset }
    }

    fn nanoseconds(&self, ticks: u64) -> i64 {
        let (seconds, rest) = (ticks / self.resolution, ticks % self.resolution);
        // Nearly always there is no need for the wider division, which is slow.
        let rest = match rest.checked_mul(SECOND as u64) {
            Some(rest) => rest / self.resolution,
            None => (u128::from(rest) * SECOND as u128 / u128::from(self.resolution)) as u64,
        };
        i64::try_from(seconds)
            .unwrap_or(i64::MAX)
            .saturating_add(self.offset)
            .saturating_mul(SECOND)
            .saturating_add(rest as i64)
    }
}

/// Takes a block of a pcapng file. Returns the frame in it, if there is one that can be read.
fn take_block<'a>(
    block: &Block<'a>,
    interfaces: &mut Vec<Interface>,
    foreign: &mut Option<u32>,
    (at, link): (&mut Timestamp, &mut LinkType),
) -> Option<&'a [u8]> {
    match block {
        Block::SectionHeader(_) => {
            interfaces.clear();
            None
        }
        Block::InterfaceDescription(description) => {
            let number = u32::try_from(description.linktype.0).unwrap_or(u32::MAX);
            let resolution = description.ts_resolution().unwrap_or(1_000_000);
            interfaces.push(Interface::new(number, resolution, description.ts_offset()));
            if LinkType::from_number(number).is_none() {
                foreign.get_or_insert(number);
            }
            None
        }
        Block::EnhancedPacket(packet) => {
            let interface = interfaces.get(packet.if_id as usize)?;
            let known = interface.link?;
            let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            (*at, *link) = (Timestamp(interface.nanoseconds(ticks)), known);
            Some(up_to(packet.data, packet.caplen))
        }
        Block::SimplePacket(packet) => {
            // It has no time of its own and belongs to the first interface.
            *link = interfaces.first().and_then(|interface| interface.link)?;
            Some(up_to(packet.data, packet.origlen))
        }
        _ => None,
    }
}

/// So many bytes, or as many as there are.
fn up_to(bytes: &[u8], length: u32) -> &[u8] {
    bytes.get(..length as usize).unwrap_or(bytes)
}

fn lock(error: &Mutex<Option<io::Error>>) -> MutexGuard<'_, Option<io::Error>> {
    error.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the error that the parser swallows.
struct Noting {
    inner: Box<dyn Read + Send>,
    error: Arc<Mutex<Option<io::Error>>>,
}

impl Read for Noting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            *lock(&self.error) = Some(error);
            kind.into()
        })
    }
}
