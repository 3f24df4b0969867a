//! The bytes of a capture: from a file or standard input, unpacked where they are packed.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::read::MultiGzDecoder;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Enough to tell what a file is, and for the section header of a pcapng file.
const HEAD: usize = 4096;
/// Unpacked bytes go from thread to thread in pieces of this size…
const PIECE: usize = 256 * 1024;
/// …of which so many may wait.
const PIECES: usize = 4;

/// An open capture.
pub(super) struct Input {
    /// Its first bytes, for the look of it.
    pub(super) head: Vec<u8>,
    /// All of its bytes, the first ones too.
    pub(super) bytes: Box<dyn Read + Send>,
}

/// Opens `path` (`-`: standard input). `progress` counts the bytes read of it, packed as they are.
pub(super) fn open(path: &Path, progress: &Arc<AtomicU64>) -> io::Result<Input> {
    let raw: Box<dyn Read + Send> =
        if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let counted = Counted { inner: raw, count: Arc::clone(progress) };
    let Input { head, bytes } = with_head(Box::new(counted))?;
    if head.starts_with(&GZIP) {
        with_head(unpack_aside(MultiGzDecoder::new(bytes)))
    } else if head.starts_with(&ZSTD) {
        with_head(unpack_aside(zstd::Decoder::new(bytes)?))
    } else {
        Ok(Input { head, bytes })
    }
}

fn with_head(mut bytes: Box<dyn Read + Send>) -> io::Result<Input> {
    let mut head = Vec::new();
    bytes.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let again = Cursor::new(head.clone());
    Ok(Input { head, bytes: Box::new(again.chain(bytes)) })
}

struct Counted {
    inner: Box<dyn Read + Send>,
    count: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Unpacks on a thread of its own: that takes longer than all that is done with the frames.
fn unpack_aside(packed: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    let (sender, receiver) = sync_channel(PIECES);
    thread::spawn(move || unpack(packed, &sender));
    Box::new(Unpacked { receiver, piece: Cursor::new(Vec::new()) })
}

fn unpack(mut packed: impl Read, sender: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let result = packed.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        // What was unpacked before an error is good.
        if !piece.is_empty() && sender.send(Ok(piece)).is_err() {
            return;
        }
        match result {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                // Nobody may be listening any more.
                let _ = sender.send(Err(error));
                return;
            }
        }
    }
}

struct Unpacked {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: Cursor<Vec<u8>>,
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            match self.receiver.recv() {
                Ok(piece) => self.piece = Cursor::new(piece?),
                Err(_) => return Ok(0),
            }
        }
    }
}
