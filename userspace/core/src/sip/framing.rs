//! SIP messages in a stream of bytes (RFC 3261, 18.3).

use memchr::memmem;

use super::message::{Message, looks_like_sip, start_of_message};
use super::multipart::Part;

/// Bytes kept of a message that is not complete yet.
const MAX_MESSAGE: usize = 256 * 1024;
/// Bytes of a session description in which another message is looked for.
const LONGEST_DESCRIPTION: usize = 16 * 1024;
/// A stream that has shown no SIP in its first bytes carries something else.
const MAX_FOREIGN: usize = 4096;
/// No start line is longer.
const MAX_LINE: usize = 8192;

/// What a stream turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Not known yet.
    Open,
    /// At least one message was found.
    Sip,
    /// Something else: more bytes need not be shown.
    Foreign,
}

/// Cuts a stream into messages. A stream joined in the middle is followed from the next start line on.
#[derive(Default)]
pub struct Framer {
    /// Bytes of a message that is not complete yet.
    kept: Vec<u8>,
    wants: Wants,
    found: bool,
    foreign: usize,
}

/// What the bytes that are kept wait for: so they are not looked through again with every segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wants {
    /// Whatever comes.
    #[default]
    More,
    /// The empty line that ends the header; so many bytes have been looked through for it.
    HeaderEnd(usize),
    /// So many bytes.
    Length(usize),
    /// So many bytes, or before them a line in the session description, which begins at `body`, that begins another
    /// message; it has been looked for in the first `seen` bytes.
    Description { body: usize, seen: usize, end: usize },
}

impl Framer {
    /// Takes the next bytes of the stream and hands each complete message to `deliver`.
    pub fn add(&mut self, bytes: &[u8], mut deliver: impl FnMut(&Message<'_>)) -> Framing {
        if self.kept.is_empty() {
            let used = self.cut(bytes, &mut deliver);
            self.kept.extend_from_slice(&bytes[used..]);
        } else {
            self.kept.extend_from_slice(bytes);
            if self.has_what_it_wants() {
                let mut kept = std::mem::take(&mut self.kept);
                let used = self.cut(&kept, &mut deliver);
                kept.drain(..used);
                self.kept = kept;
            }
        }
        if self.kept.len() > MAX_MESSAGE {
            self.gap();
        }
        match (self.found, self.foreign > MAX_FOREIGN) {
            (true, _) => Framing::Sip,
            (false, false) => Framing::Open,
            (false, true) => Framing::Foreign,
        }
    }

    /// Whether nothing has come yet, or nothing of which it is known what it is.
    pub fn is_fresh(&self) -> bool {
        !self.found && self.kept.is_empty()
    }

    /// Whether no message has begun of which more is to come, as far as is known.
    pub fn is_between_messages(&self) -> bool {
        !self.found || self.kept.is_empty()
    }

    /// Bytes are missing here: what was begun cannot be completed.
    pub fn gap(&mut self) {
        (self.kept, self.wants) = (Vec::new(), Wants::More);
    }

    /// Bytes that it keeps in memory.
    pub fn memory(&self) -> usize {
        self.kept.capacity()
    }

    fn has_what_it_wants(&mut self) -> bool {
        match self.wants {
            Wants::More => true,
            Wants::Length(length) => self.kept.len() >= length,
            Wants::HeaderEnd(seen) => {
                // The empty line may have begun before.
                let fresh = &self.kept[seen.saturating_sub(3).min(self.kept.len())..];
                self.wants = Wants::HeaderEnd(self.kept.len());
                header_end(fresh).is_some()
            }
            Wants::Description { body, seen, end } => {
                let kept = &self.kept;
                // A line of which only the beginning was there.
                let line =
                    memchr::memrchr(b'\n', &kept[body..seen]).map_or(body, |newline| body + newline + 1);
                self.wants = Wants::Description { body, seen: kept.len(), end };
                kept.len() >= end.min(body + LONGEST_DESCRIPTION) || next_message(&kept[line..]).is_some()
            }
        }
    }

    /// Delivers the complete messages at the front of `bytes`; returns how many bytes are done with.
    fn cut(&mut self, bytes: &[u8], deliver: &mut impl FnMut(&Message<'_>)) -> usize {
        let mut at = 0;
        self.wants = Wants::More;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let keepalive = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if keepalive > 0 {
                at += keepalive;
                continue;
            }
            // What a line is can be told only when all of it is there.
            let Some(newline) = memchr::memchr(b'\n', rest) else {
                if rest.len() > MAX_LINE {
                    self.skip(rest.len());
                    return bytes.len();
                }
                return at;
            };
            let line = &rest[..=newline];
            if !begins_message(line) {
                let junk = start_of_message(line).filter(|&start| start > 0).unwrap_or(line.len());
                self.skip(junk);
                at += junk;
                continue;
            }
            match complete(rest) {
                Ok(message) => {
                    self.found = true;
                    self.foreign = 0;
                    deliver(&message);
                    at += message.length;
                }
                Err(wants) => {
                    self.wants = wants;
                    return at;
                }
            }
        }
        at
    }

    /// Bytes that belong to no message.
    fn skip(&mut self, bytes: usize) {
        if !self.found {
            self.foreign += bytes;
        }
    }
}

/// On a stream nothing but the version tells where a message begins.
fn begins_message(bytes: &[u8]) -> bool {
    let line = &bytes[..memchr::memchr(b'\n', bytes).unwrap_or(bytes.len())];
    memmem::find(line, b"SIP/2.0").is_some() && looks_like_sip(bytes)
}

/// The message at the front of `bytes`, if all of it is there.
fn complete(bytes: &[u8]) -> Result<Message<'_>, Wants> {
    let header_end = header_end(bytes).ok_or(Wants::HeaderEnd(bytes.len()))?;
    // What is no message does not become one by what follows.
    let header = Message::parse(&bytes[..header_end]).ok_or(Wants::Length(usize::MAX))?;
    // On a stream Content-Length is mandatory; where it is missing there is no body.
    let end = header_end.checked_add(header.content_length.unwrap_or(0)).ok_or(Wants::Length(usize::MAX))?;
    let is_description = Part { content_type: header.content_type.unwrap_or_default(), ..Part::default() };
    let is_description =
        is_description.is(b"application/sdp") && bytes.len() - header_end < LONGEST_DESCRIPTION;
    if is_description && let Some(length) = next_message(&bytes[header_end..end.min(bytes.len())]) {
        return Message::parse(&bytes[..header_end + length]).ok_or(Wants::Length(usize::MAX));
    }
    // Its length may be less than it says.
    let wants = match is_description {
        true => Wants::Description { body: header_end, seen: bytes.len(), end },
        false => Wants::Length(end),
    };
    Message::parse(bytes.get(..end).ok_or(wants)?).ok_or(Wants::Length(usize::MAX))
}

/// Behind the empty line.
fn header_end(bytes: &[u8]) -> Option<usize> {
    [memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4), memmem::find(bytes, b"\n\n").map(|at| at + 2)]
        .into_iter()
        .flatten()
        .min()
}

/// Where the next message begins in a description: its length was said to be more than it is. No line of one is a
/// start line.
fn next_message(body: &[u8]) -> Option<usize> {
    let mut found = memmem::find_iter(body, b"SIP/2.0");
    found.find_map(|version| {
        let start = memchr::memrchr(b'\n', &body[..version]).map_or(0, |newline| newline + 1);
        // What a line is can be told only when all of it is there.
        let end = start + memchr::memchr(b'\n', &body[start..])?;
        begins_message(&body[start..=end]).then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] = b"ength: 3\r\n\r\nabc\
        INVITE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 5\r\n\r\nv=0\r\n\
        \r\n\r\nSIP/2.0 200 OK\r\nCall-ID: 2\r\nl: 0\r\n\r\n\
        BYE sip:a@b SIP/2.0\r\nCall-ID: 3\r\n\r\n";

    fn messages(chunks: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut framer, mut found) = (Framer::default(), Vec::new());
        for chunk in chunks {
            framer.add(chunk, |message| {
                found.push((message.call_id.unwrap_or_default().to_vec(), message.body.to_vec()));
            });
        }
        found
    }

    #[test]
    fn joined_in_the_middle() {
        let found = messages(&[STREAM]);
        let ids: Vec<_> = found.iter().map(|(id, _)| id.as_slice()).collect();
        assert_eq!(ids, [b"1", b"2", b"3"]);
        assert_eq!(found[0].1, b"v=0\r\n");
    }

    #[test]
    fn a_request_without_a_version_is_none_wherever_the_stream_is_cut() {
        let text =
            b"zz\r\nINVITE sip:b@example.net SIPall-ID: 9\r\n\r\nBYE sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n";
        let whole = messages(&[text]);
        assert_eq!(whole.len(), 1);
        for cut in 0..text.len() {
            assert_eq!(messages(&[&text[..cut], &text[cut..]]), whole, "{cut}");
        }
    }

    #[test]
    fn a_length_that_is_too_great_does_not_swallow_what_follows() {
        let text = b"INVITE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nc: application/sdp\r\nl: 900\r\n\r\nv=0\r\ns=SIP/2.0\r\n\
            ACK sip:a@b SIP/2.0\r\nCall-ID: 2\r\nl: 0\r\n\r\nBYE sip:a@b SIP/2.0\r\nCall-ID: 3\r\nl: 0\r\n\r\n";
        let expected = [("1", "v=0\r\ns=SIP/2.0\r\n"), ("2", ""), ("3", "")];
        let expected = expected.map(|(id, body)| (id.as_bytes().to_vec(), body.as_bytes().to_vec()));
        for cut in 0..text.len() {
            assert_eq!(messages(&[&text[..cut], &text[cut..]]), expected, "{cut}");
        }
    }

    #[test]
    fn the_status_line_that_a_transfer_reports_is_no_message() {
        let text =
            b"NOTIFY sip:a@b SIP/2.0\r\nCall-ID: 1\r\nc: message/sipfrag\r\nl: 16\r\n\r\nSIP/2.0 200 OK\r\n";
        assert_eq!(messages(&[text]), [(b"1".to_vec(), b"SIP/2.0 200 OK\r\n".to_vec())]);
    }

    #[test]
    fn a_length_that_is_too_small_or_missing_costs_nothing_more() {
        let text =
            b"INVITE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nc: application/sdp\r\nl: 5\r\n\r\nv=0\r\nm=audio 1\r\n\
            ACK sip:a@b SIP/2.0\r\nCall-ID: 2\r\n\r\nBYE sip:a@b SIP/2.0\r\nCall-ID: 3\r\n\r\n";
        let ids: Vec<_> = messages(&[text]).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [b"1", b"2", b"3"]);
    }

    #[test]
    fn something_else_is_given_up() {
        let mut framer = Framer::default();
        assert_eq!(framer.add(&[b'x'; 3000], |_| ()), Framing::Open);
        framer.add(&[b'x'; 3000], |_| ());
        assert_eq!(framer.add(&[b'x'; 3000], |_| ()), Framing::Foreign);
    }

    #[test]
    fn a_message_in_single_bytes_is_not_looked_through_each_time() {
        let mut framer = Framer::default();
        framer.add(b"INVITE sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 9\r\n\r", |_| unreachable!());
        assert!(matches!(framer.wants, Wants::HeaderEnd(_)));
        framer.add(b"\n", |_| unreachable!());
        let wanted = framer.kept.len() + 9;
        for _ in 0..8 {
            framer.add(b"x", |_| unreachable!());
            assert_eq!(framer.wants, Wants::Length(wanted));
        }
        let mut found = 0;
        framer.add(b"x", |_| found += 1);
        assert_eq!((found, framer.kept.len(), framer.wants), (1, 0, Wants::More));
    }

    proptest! {
        #[test]
        fn cut_anywhere_gives_the_same(cuts in proptest::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut at = 0;
            for cut in cuts {
                chunks.push(&STREAM[at..cut]);
                at = cut;
            }
            chunks.push(&STREAM[at..]);
            prop_assert_eq!(messages(&chunks), messages(&[STREAM]));
        }

        #[test]
        fn never_panics(chunks: Vec<Vec<u8>>) {
            let mut framer = Framer::default();
            for chunk in &chunks {
                framer.add(chunk, |_| ());
            }
        }
    }
}
