//! SIP in WebSocket frames, one direction of a connection at a time (RFC 6455, RFC 7118; RFC 7692 where the messages
//! are packed).

use flate2::{Decompress, FlushDecompress, Status};

use crate::sip::looks_like_sip;

/// Longer messages are passed over, packed or unpacked.
const MAX_MESSAGE: usize = 256 * 1024;
/// A connection that has shown no SIP in so many bytes of its messages carries something else.
const MAX_FOREIGN: usize = 4096;
/// A frame that is said to be longer is none.
const MAX_FRAME: u64 = 1 << 30;
/// Two bytes, a long length, a mask.
const MAX_HEAD: usize = 14;
/// So much of a message is enough to tell what it is.
const LINE: usize = 512;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// What a connection turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Not known yet.
    Open,
    /// At least one message was SIP.
    Sip,
    /// Something else: more bytes need not be shown.
    Foreign,
}

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A SIP message.
    Sip(&'a [u8]),
    /// One that is too long, or packed by what has not been seen.
    Unread,
}

/// Whether a frame begins here whose message, plain or masked, is SIP: how a connection is told that was up before.
pub fn begins_sip(bytes: &[u8]) -> bool {
    let Some(&first) = bytes.first() else { return false };
    if !matches!(first & 0x7f, TEXT | BINARY) {
        return false;
    }
    let Parsed::Head(head, length) = Head::parse(bytes) else { return false };
    let mut line = [0; LINE];
    let text = &bytes[length..];
    let text = &text[..text.len().min(LINE)];
    for (at, (place, byte)) in line.iter_mut().zip(text).enumerate() {
        *place = byte ^ head.mask[at % 4];
    }
    looks_like_sip(&line[..text.len()])
}

/// Takes the messages out of the frames.
#[derive(Default)]
pub struct Framer {
    /// Bytes of a head that is not complete yet.
    kept: Vec<u8>,
    /// The frame of which bytes are still to come.
    frame: Option<Frame>,
    /// The message of which frames are still to come.
    open: Option<Open>,
    /// Knows what was said before, which later messages may refer to.
    unpack: Option<Box<Decompress>>,
    /// Bytes are missing: it goes on where a frame begins.
    is_lost: bool,
    found: bool,
    foreign: usize,
}

struct Frame {
    head: Head,
    /// Bytes that have come.
    at: u64,
}

#[derive(Default)]
struct Open {
    is_packed: bool,
    is_too_long: bool,
    data: Vec<u8>,
}

/// The beginning of a frame (RFC 6455, 5.2).
#[derive(Clone, Copy)]
struct Head {
    is_last: bool,
    is_packed: bool,
    kind: u8,
    /// Zeros where nothing is masked.
    mask: [u8; 4],
    length: u64,
}

enum Parsed {
    /// With its own length.
    Head(Head, usize),
    Partial,
    Wrong,
}

/// What an unpacker takes, about: its window and tables.
const UNPACKER: usize = 48 << 10;

impl Framer {
    /// Bytes that it keeps in memory, about.
    pub fn memory(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.data.capacity());
        self.kept.capacity() + open + if self.unpack.is_some() { UNPACKER } else { 0 }
    }

    /// Takes the next bytes and hands on what is complete.
    pub fn add(&mut self, bytes: &[u8], mut deliver: impl FnMut(Message<'_>)) -> Framing {
        let mut bytes = bytes;
        if self.is_lost {
            if !begins_sip(bytes) && !is_one_frame(bytes) {
                return self.framing();
            }
            self.is_lost = false;
        }
        while !bytes.is_empty() {
            let used = match self.frame {
                None => self.head(bytes),
                Some(_) => self.data(bytes),
            };
            if self.is_lost {
                self.foreign += bytes.len();
                break;
            }
            if self.frame.as_ref().is_some_and(|frame| frame.at == frame.head.length) {
                self.end_frame(&mut deliver);
            }
            bytes = &bytes[used..];
        }
        self.framing()
    }

    /// Bytes are missing here.
    pub fn gap(&mut self) {
        (self.kept, self.frame, self.open, self.unpack) = (Vec::new(), None, None, None);
        self.is_lost = true;
    }

    /// Whether the next byte is the first of a frame.
    pub fn is_between_frames(&self) -> bool {
        self.kept.is_empty() && self.frame.is_none()
    }

    fn framing(&self) -> Framing {
        match (self.found, self.foreign > MAX_FOREIGN) {
            (true, _) => Framing::Sip,
            (false, false) => Framing::Open,
            (false, true) => Framing::Foreign,
        }
    }

    /// Returns how many bytes are done with, as the other does.
    fn head(&mut self, bytes: &[u8]) -> usize {
        let before = self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(MAX_HEAD - before)]);
        match Head::parse(&self.kept) {
            Parsed::Partial => bytes.len(),
            Parsed::Wrong => {
                self.gap();
                bytes.len()
            }
            Parsed::Head(head, length) => {
                self.kept.clear();
                if matches!(head.kind, TEXT | BINARY) {
                    self.open = Some(Open { is_packed: head.is_packed, ..Open::default() });
                }
                self.frame = Some(Frame { head, at: 0 });
                length - before
            }
        }
    }

    fn data(&mut self, bytes: &[u8]) -> usize {
        let Some(frame) = &mut self.frame else { return bytes.len() };
        let left = frame.head.length - frame.at;
        let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        if !frame.head.is_control()
            && let Some(open) = &mut self.open
        {
            open.is_too_long |= open.data.len() + used > MAX_MESSAGE;
            if !open.is_too_long {
                let phase = (frame.at % 4) as usize;
                let mask = frame.head.mask;
                let plain = bytes[..used].iter().enumerate().map(|(at, byte)| byte ^ mask[(phase + at) % 4]);
                open.data.extend(plain);
            }
        }
        frame.at += used as u64;
        used
    }

    fn end_frame(&mut self, deliver: &mut impl FnMut(Message<'_>)) {
        let Some(frame) = self.frame.take() else { return };
        if frame.head.is_control() || !frame.head.is_last {
            return;
        }
        // Of one that was joined in the middle there is nothing.
        let Some(open) = self.open.take() else { return };
        let length = open.data.len();
        let text = if open.is_too_long {
            self.unpack = None;
            None
        } else if open.is_packed {
            self.unpacked(open.data)
        } else {
            Some(open.data)
        };
        match text {
            Some(text) if looks_like_sip(&text) => {
                self.found = true;
                deliver(Message::Sip(&text));
            }
            // What keeps the connection up (RFC 5626, 3.5.1).
            Some(text) if text.trim_ascii().is_empty() => {}
            Some(text) => self.foreign += text.len(),
            None => {
                self.foreign += length;
                deliver(Message::Unread);
            }
        }
    }

    /// RFC 7692, 7.2.2. Whether a message refers to those before need not be known: one that does not takes no harm.
    fn unpacked(&mut self, mut data: Vec<u8>) -> Option<Vec<u8>> {
        data.extend([0, 0, 0xff, 0xff]);
        let unpack = self.unpack.get_or_insert_with(|| Box::new(Decompress::new(false)));
        let text = inflate(unpack, &data);
        if text.is_none() {
            self.unpack = None;
        }
        text
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> Parsed {
        let &[first, second, ref rest @ ..] = bytes else { return Parsed::Partial };
        let (kind, is_last, is_packed) = (first & 0x0f, first & 0x80 != 0, first & 0x40 != 0);
        let (short, is_masked) = (second & 0x7f, second & 0x80 != 0);
        let is_known = matches!(kind, CONTINUATION..=BINARY | CLOSE..=PONG);
        let is_control = kind >= CLOSE;
        if !is_known
            || first & 0x30 != 0
            || is_packed && !matches!(kind, TEXT | BINARY)
            || is_control && (!is_last || short > 125)
        {
            return Parsed::Wrong;
        }
        let (length, used) = match (short, rest) {
            (126, [high, low, ..]) => (u64::from(u16::from_be_bytes([*high, *low])), 4),
            (127, _) => match rest.first_chunk() {
                Some(long) => (u64::from_be_bytes(*long), 10),
                None => return Parsed::Partial,
            },
            (126, _) => return Parsed::Partial,
            (short, _) => (short.into(), 2),
        };
        // Lengths are as short as can be.
        if used == 4 && length < 126 || used == 10 && length <= u16::MAX.into() || length > MAX_FRAME {
            return Parsed::Wrong;
        }
        let (mask, used) = match bytes.get(used..).and_then(<[u8]>::first_chunk) {
            Some(mask) if is_masked => (*mask, used + 4),
            None if is_masked => return Parsed::Partial,
            _ => ([0; 4], used),
        };
        Parsed::Head(Head { is_last, is_packed, kind, mask, length }, used)
    }

    /// May stand between the frames of a message.
    fn is_control(self) -> bool {
        self.kind >= CLOSE
    }
}

/// As most are sent: a segment each.
fn is_one_frame(bytes: &[u8]) -> bool {
    matches!(Head::parse(bytes), Parsed::Head(head, length) if (bytes.len() - length) as u64 == head.length)
}

/// What is packed, if it is no longer than a message may be.
fn inflate(unpack: &mut Decompress, packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity((packed.len() * 4).min(MAX_MESSAGE));
    let start = unpack.total_in();
    loop {
        let used = (unpack.total_in() - start) as usize;
        let (rest, written) = (packed.get(used..)?, text.len());
        let status = unpack.decompress_vec(rest, &mut text, FlushDecompress::Sync).ok()?;
        let is_stuck = (unpack.total_in() - start) as usize == used && text.len() == written;
        if status == Status::StreamEnd {
            // Whatever comes after a last block begins anew.
            unpack.reset(false);
            return Some(text);
        }
        if text.len() < text.capacity() {
            if is_stuck || (unpack.total_in() - start) as usize == packed.len() {
                return Some(text);
            }
        } else if text.len() >= MAX_MESSAGE {
            return None;
        } else {
            text.reserve_exact(text.len().clamp(1024, MAX_MESSAGE).min(MAX_MESSAGE - text.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [0x12, 0xfe, 0x00, 0x99];
    const PING: u8 = 9;

    fn sip(number: u32) -> Vec<u8> {
        format!("SIP/2.0 200 OK\r\nCall-ID: {number}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    }

    fn frame(first: u8, mask: Option<[u8; 4]>, data: &[u8]) -> Vec<u8> {
        let bit = if mask.is_some() { 0x80 } else { 0 };
        let mut bytes = match data.len() {
            short @ ..126 => vec![first, bit | short as u8],
            long @ ..0x1_0000 => [&[first, bit | 126][..], &(long as u16).to_be_bytes()].concat(),
            longer => [&[first, bit | 127][..], &(longer as u64).to_be_bytes()].concat(),
        };
        bytes.extend(mask.iter().flatten());
        let mask = mask.unwrap_or_default();
        bytes.extend(data.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        bytes
    }

    fn pack(compress: &mut Compress, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len() + 1024);
        compress.compress_vec(data, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
        out.truncate(out.len() - 4);
        out
    }

    fn run(pieces: &[&[u8]]) -> (Vec<Option<Vec<u8>>>, Framing) {
        let (mut framer, mut out, mut framing) = (Framer::default(), Vec::new(), Framing::Open);
        for piece in pieces {
            framing = framer.add(piece, |message| {
                out.push(match message {
                    Message::Sip(text) => Some(text.to_vec()),
                    Message::Unread => None,
                });
            });
        }
        (out, framing)
    }

    /// Masked and not, in one frame and in several, with others between them; lengths of each kind; packed.
    fn stream() -> (Vec<u8>, Vec<Option<Vec<u8>>>) {
        let mut compress = Compress::new(Compression::default(), false);
        let long = [&sip(4)[..], &[b'x'; 70_000]].concat();
        let medium = [&sip(3)[..], &[b'y'; 200]].concat();
        let (whole, packed) = (sip(2), [pack(&mut compress, &sip(5)), pack(&mut compress, &sip(6))]);
        let (half, rest) = packed[1].split_at(7);
        let bytes = [
            frame(0x81, Some(MASK), &sip(1)),
            frame(0x89, Some(MASK), b"are you there"),
            frame(0x02, None, &whole[..9]),
            frame(0x80 | PING, None, b""),
            frame(0x00, Some(MASK), &whole[9..30]),
            frame(0x80, None, &whole[30..]),
            frame(0x81, None, b"\r\n\r\n"),
            frame(0x81, Some(MASK), &medium),
            frame(0x82, None, &long),
            frame(0xc1, Some(MASK), &packed[0]),
            frame(0x41, None, half),
            frame(0x80, None, rest),
            frame(0x88, None, &[0x03, 0xe8]),
        ];
        let expected = [sip(1), whole, medium, long, sip(5), sip(6)].map(Some).to_vec();
        (bytes.concat(), expected)
    }

    #[test]
    fn all_kinds_of_frames() {
        let (bytes, expected) = stream();
        assert_eq!(run(&[&bytes]), (expected, Framing::Sip));
    }

    #[test]
    fn a_connection_that_was_up_is_known_by_its_text() {
        for (mask, size) in [(None, 10), (Some(MASK), 300), (Some(MASK), 70_000)] {
            let text = [&sip(1)[..], &vec![b'x'; size]].concat();
            assert!(begins_sip(&frame(0x81, mask, &text)));
            // Of a message in several frames, cut behind its first line.
            assert!(begins_sip(&frame(0x01, mask, &text)[..40]));
        }
        assert!(!begins_sip(&frame(0x81, Some(MASK), b"{\"method\":\"INVITE\"}")));
        assert!(!begins_sip(&sip(1)) && !begins_sip(b"") && !begins_sip(b"\x81"));
    }

    #[test]
    fn after_a_gap_it_goes_on_with_a_frame() {
        let (mut framer, mut out) = (Framer::default(), Vec::new());
        let mut compress = Compress::new(Compression::default(), false);
        let packed: Vec<_> = (0..3).map(|number| pack(&mut compress, &sip(number))).collect();
        let frames: Vec<_> = packed.iter().map(|packed| frame(0xc1, Some(MASK), packed)).collect();
        let mut add = |framer: &mut Framer, bytes: &[u8]| {
            framer.add(bytes, |message| out.push(matches!(message, Message::Sip(_))));
        };
        add(&mut framer, &frames[0]);
        framer.gap();
        add(&mut framer, b"the rest of something");
        // It refers to what was said before.
        add(&mut framer, &frames[1]);
        add(&mut framer, &frame(0x81, None, &sip(9)));
        assert_eq!(out, [true, false, true]);
    }

    #[test]
    fn what_is_too_long_is_passed_over() {
        let mut compress = Compress::new(Compression::best(), false);
        let bomb = pack(&mut compress, &vec![b'x'; 8 * MAX_MESSAGE]);
        assert!(bomb.len() < MAX_MESSAGE / 10);
        let long = [&sip(1)[..], &vec![b'x'; MAX_MESSAGE]].concat();
        let most = [&sip(2)[..], &vec![b'x'; MAX_MESSAGE - sip(2).len()]].concat();
        let bytes = [
            frame(0xc1, None, &bomb),
            frame(0x81, None, &long),
            frame(0x81, None, &most),
            frame(0x81, None, &sip(3)),
        ];
        assert_eq!(run(&[&bytes.concat()]).0, [None, None, Some(most), Some(sip(3))]);
    }

    #[test]
    fn something_else_is_given_up() {
        let chat = frame(0x81, Some(MASK), &[b'x'; 3000]);
        assert_eq!(run(&[&chat]), (Vec::new(), Framing::Open));
        assert_eq!(run(&[&chat, &chat]), (Vec::new(), Framing::Foreign));
        assert_eq!(run(&[&[0xff; 5000]]), (Vec::new(), Framing::Foreign));
    }

    proptest! {
        #[test]
        fn cut_anywhere_it_is_the_same(cuts in proptest::collection::vec(1_usize..3000, 1..40)) {
            let (bytes, expected) = stream();
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(bytes.len());
                pieces.push(&bytes[at..end]);
                at = end;
                if at == bytes.len() { break }
            }
            prop_assert_eq!(run(&pieces), (expected, Framing::Sip));
        }

        #[test]
        fn whatever_comes_memory_is_bounded(
            pieces in proptest::collection::vec(
                (0_u8..0x92, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60), any::<bool>()), 0..40),
        ) {
            let mut framer = Framer::default();
            for (first, masked, data, raw) in &pieces {
                let bytes = if *raw { data.clone() } else { frame(*first, masked.then_some(MASK), data) };
                framer.add(&bytes, |_| {});
                let open = framer.open.as_ref().map_or(0, |open| open.data.len());
                prop_assert!(framer.kept.len() <= MAX_HEAD && open <= MAX_MESSAGE);
            }
        }
    }
}
