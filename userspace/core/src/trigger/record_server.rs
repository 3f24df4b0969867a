//! The RecordServer of Fanvil's and Becke's phones: `cmd=RecordStartRequest&…` on a TCP connection.
//!
//! How messages are told apart and how values are escaped is not documented. So a message reaches from
//! `cmd=Record` to the end of its line, a NUL, the next `cmd=Record`, or until nothing more comes; and only
//! what is a valid percent escape is taken for one.

use std::borrow::Cow;
use std::net::IpAddr;

use memchr::{memchr, memchr3, memmem};
use percent_encoding::percent_decode;

use crate::codec::Codec;

/// The word by which the catalog names this system.
pub const NAME: &str = "record-server";

/// How a message begins.
const MARKER: &[u8] = b"cmd=Record";
/// No message is longer.
const MAX_MESSAGE: usize = 4096;
/// A stream that has shown no message in its first bytes carries something else.
const MAX_FOREIGN: u64 = 4096;

/// What a stream turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Not known yet.
    Open,
    /// At least one message was found.
    Control,
    /// Something else: more bytes need not be shown.
    Foreign,
}

/// Cuts one direction of a connection into messages.
#[derive(Debug, Default)]
pub struct Framer {
    /// A message, or the beginning of its marker, that is not complete yet.
    kept: Vec<u8>,
    found: bool,
    skipped: u64,
}

impl Framer {
    /// Takes the next bytes of the stream and hands each complete message to `deliver`.
    pub fn add(&mut self, bytes: &[u8], mut deliver: impl FnMut(Message<'_>)) -> Framing {
        if self.kept.is_empty() {
            let used = self.cut(bytes, &mut deliver);
            self.kept.extend_from_slice(&bytes[used..]);
        } else {
            let mut kept = std::mem::take(&mut self.kept);
            kept.extend_from_slice(bytes);
            let used = self.cut(&kept, &mut deliver);
            kept.drain(..used);
            self.kept = kept;
        }
        self.framing()
    }

    /// Nothing more comes, or nothing has come for a while: what was begun is all of it.
    pub fn finish(&mut self, mut deliver: impl FnMut(Message<'_>)) -> Framing {
        let kept = std::mem::take(&mut self.kept);
        self.take(&kept, &mut deliver);
        self.framing()
    }

    /// Whether a message has begun that nothing has ended.
    pub fn is_unfinished(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Bytes are missing here: what was begun cannot be completed.
    pub fn gap(&mut self) {
        self.skipped += self.kept.len() as u64;
        self.kept = Vec::new();
    }

    /// Bytes that it keeps in memory.
    pub fn memory(&self) -> usize {
        self.kept.capacity()
    }

    /// Bytes that belonged to no message.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn framing(&self) -> Framing {
        match (self.found, self.skipped > MAX_FOREIGN) {
            (true, _) => Framing::Control,
            (false, false) => Framing::Open,
            (false, true) => Framing::Foreign,
        }
    }

    /// Delivers the complete messages in `bytes`; returns how many bytes are done with.
    fn cut(&mut self, bytes: &[u8], deliver: &mut impl FnMut(Message<'_>)) -> usize {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let Some(start) = memmem::find(rest, MARKER) else {
                let junk = rest.len() - begun_marker(rest);
                self.skip(&rest[..junk]);
                return at + junk;
            };
            self.skip(&rest[..start]);
            at += start;
            let rest = &bytes[at..];
            let limited = &rest[..rest.len().min(MAX_MESSAGE)];
            let used = match end_of_message(limited) {
                Some(end) => end,
                None if limited.len() < MAX_MESSAGE => return at,
                // Its beginning only, so that a message is still found within what is no message.
                None => MARKER.len(),
            };
            self.take(&rest[..used], deliver);
            at += used;
        }
    }

    /// Delivers all of `bytes` as one message, if it is one.
    fn take(&mut self, bytes: &[u8], deliver: &mut impl FnMut(Message<'_>)) {
        match Message::parse(bytes) {
            Some(message) => {
                self.found = true;
                deliver(message);
            }
            None => self.skip(bytes),
        }
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.skipped += bytes.iter().filter(|byte| !is_end(**byte)).count() as u64;
    }
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// Where the message at the front of `bytes` ends, if that can be seen.
fn end_of_message(bytes: &[u8]) -> Option<usize> {
    let behind = bytes.get(MARKER.len()..)?;
    let end = memchr3(b'\r', b'\n', 0, behind);
    let next = memmem::find(&behind[..end.unwrap_or(behind.len())], MARKER);
    Some(MARKER.len() + next.or(end)?)
}

/// How many bytes at the end of `bytes` may be the beginning of a marker.
fn begun_marker(bytes: &[u8]) -> usize {
    (1..MARKER.len()).rev().find(|&length| bytes.ends_with(&MARKER[..length])).unwrap_or(0)
}

/// Whether a stream that begins like this may carry messages: its first segment can end within the marker.
pub fn may_begin(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    !text.is_empty() && (text.starts_with(MARKER) || MARKER.starts_with(text))
}

/// Whether a payload begins with a message.
pub fn looks_like_control(payload: &[u8]) -> bool {
    let text = payload.trim_ascii_start();
    let end = end_of_message(text).unwrap_or(text.len());
    Message::parse(&text[..end]).is_some()
}

/// The four messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The phone asks for a recording.
    StartRequest,
    /// The server's answer.
    StartResponse,
    /// The phone ends it.
    StopRequest,
    /// The server's answer.
    StopResponse,
}

/// Which way the call goes, as the phone sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The phone was called.
    In,
    /// The phone has called.
    Out,
}

/// A message, borrowed from the stream it came in. Of fields that stand more than once, the first counts.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Which of the four.
    pub kind: Kind,
    text: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads one message; `None` when it is none of the four.
    fn parse(text: &'a [u8]) -> Option<Message<'a>> {
        let rest = text.strip_prefix(MARKER)?;
        let command = rest[..memchr(b'&', rest).unwrap_or(rest.len())].trim_ascii();
        let kinds = [
            (&b"StartRequest"[..], Kind::StartRequest),
            (b"StartResponse", Kind::StartResponse),
            (b"StopRequest", Kind::StopRequest),
            (b"StopResponse", Kind::StopResponse),
        ];
        let (_, kind) = kinds.into_iter().find(|(name, _)| command.eq_ignore_ascii_case(name))?;
        Some(Message { kind, text })
    }

    /// The value of a field, unescaped; `None` also when it is empty.
    pub fn field(&self, name: &str) -> Option<Cow<'a, str>> {
        let value = self.text.split(|&byte| byte == b'&').find_map(|field| {
            let equals = memchr(b'=', field)?;
            let found = field[..equals].trim_ascii().eq_ignore_ascii_case(name.as_bytes());
            found.then(|| field[equals + 1..].trim_ascii())
        })?;
        (!value.is_empty()).then(|| percent_decode(value).decode_utf8_lossy())
    }

    /// What ties the messages of a recording together, on one connection.
    pub fn id(&self) -> Option<Cow<'a, str>> {
        self.field("id")
    }

    /// The phone's MAC address, as it writes it.
    pub fn device(&self) -> Option<Cow<'a, str>> {
        self.field("device")
    }

    /// The other party's number.
    pub fn remote_number(&self) -> Option<Cow<'a, str>> {
        self.field("remote_number")
    }

    /// The other party's name.
    pub fn remote_name(&self) -> Option<Cow<'a, str>> {
        self.field("remote_name")
    }

    /// The phone's own number.
    pub fn local_number(&self) -> Option<Cow<'a, str>> {
        self.field("local_number")
    }

    /// The phone's own name.
    pub fn local_name(&self) -> Option<Cow<'a, str>> {
        self.field("local_name")
    }

    /// Which way the call goes.
    pub fn direction(&self) -> Option<Direction> {
        let value = self.field("dir")?;
        let directions = [("in", Direction::In), ("out", Direction::Out)];
        directions.into_iter().find(|(name, _)| value.eq_ignore_ascii_case(name)).map(|(_, found)| found)
    }

    /// In what the phone sends the call to the server.
    pub fn codec(&self) -> Option<Codec> {
        Some(Codec::from_rtpmap(&self.field("codec")?, 8000, 1))
    }

    /// Whether a response grants what was asked for. `None` when it does not say so in a word that is known.
    pub fn succeeded(&self) -> Option<bool> {
        let value = self.field("result")?;
        let results = [("success", true), ("failed", false), ("fail", false), ("failure", false)];
        results.into_iter().find(|(name, _)| value.eq_ignore_ascii_case(name)).map(|(_, found)| found)
    }

    /// Why a recording ends, or does not begin.
    pub fn reason(&self) -> Option<Cow<'a, str>> {
        self.field("reason")
    }

    /// Where the phone is to send the call. Without it, it sends to the one it is connected with.
    pub fn server(&self) -> Option<IpAddr> {
        self.field("server")?.trim_matches(['[', ']']).parse().ok()
    }

    /// The UDP port where the server waits for the call.
    pub fn port(&self) -> Option<u16> {
        self.field("port")?.parse().ok().filter(|&port| port != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] = b"oo&dir=in\r\n\0cmd=RecordStartRequest&id=1\r\n\r\n\
        cmd=RecordStartResponse&id=1&result=success\
        cmd=RecordStopRequest&id=2&reason=\0cmd=Recordings&id=9\ncmd=keepalive\r\ncmd=RecordStopResponse&id=2";

    fn messages(chunks: &[&[u8]]) -> Vec<(Kind, String)> {
        let (mut framer, mut found) = (Framer::default(), Vec::new());
        let mut note = |message: Message<'_>| {
            found.push((message.kind, message.id().unwrap_or_default().into_owned()));
        };
        for chunk in chunks {
            framer.add(chunk, &mut note);
        }
        framer.finish(&mut note);
        found
    }

    #[test]
    fn messages_end_in_many_ways() {
        let found = messages(&[STREAM]);
        let expected = [
            (Kind::StartRequest, "1".to_owned()),
            (Kind::StartResponse, "1".to_owned()),
            (Kind::StopRequest, "2".to_owned()),
            (Kind::StopResponse, "2".to_owned()),
        ];
        assert_eq!(found, expected);
        let mut framer = Framer::default();
        assert_eq!(framer.add(STREAM, |_| ()), Framing::Control);
        assert_eq!(framer.skipped() as usize, "oo&dir=in".len() + "cmd=Recordings&id=9cmd=keepalive".len());
    }

    #[test]
    fn what_is_cut_off_by_a_gap_is_no_message() {
        let mut framer = Framer::default();
        framer.add(b"cmd=RecordStartRequest&id=1", |_| unreachable!());
        framer.gap();
        let mut ids = Vec::new();
        framer.add(b"23\r\ncmd=RecordStopRequest&id=4\n", |message| {
            ids.extend(message.id().map(Cow::into_owned))
        });
        framer.finish(|_| unreachable!());
        assert_eq!(ids, ["4"]);
    }

    #[test]
    fn no_message_is_longer_than_the_limit() {
        let endless = [b"cmd=RecordStartRequest&id=1&x=", &[b'x'; 2 * MAX_MESSAGE][..]].concat();
        let text = [&endless[..], b"cmd=RecordStopRequest&id=2\n"].concat();
        let expected = [(Kind::StopRequest, "2".to_owned())];
        assert_eq!(messages(&[&text]), expected);
        let bytes: Vec<_> = text.chunks(7).collect();
        assert_eq!(messages(&bytes), expected);
        let mut framer = Framer::default();
        for chunk in bytes {
            framer.add(chunk, |_| ());
            assert!(framer.kept.len() <= MAX_MESSAGE + 7);
        }
    }

    #[test]
    fn something_else_is_given_up() {
        let mut framer = Framer::default();
        assert_eq!(framer.add(&[b'x'; 3000], |_| ()), Framing::Open);
        assert_eq!(framer.add(&[b'x'; 3000], |_| ()), Framing::Foreign);
    }

    #[test]
    fn fields() {
        let request = Message::parse(
            b"cmd=recordstartrequest&id=a%2F1&Device=0c383e010203&remote_number=+49%33&remote_name=M%C3%BCller\
              &local_number=1009&local_name=100%&dir=OUT&codec=G722&odd&=x&id=2",
        );
        assert!(request.is_none(), "the command's first word is literal");
        let request = Message::parse(
            b"cmd=Recordstartrequest &id=a%2F1&Device=0c383e010203&remote_number=+49%33\
              &remote_name=M%C3%BCller%FF&local_number=1009&local_name=100%&dir=OUT&codec=g722&odd&=x&id=2\
              &reason=",
        )
        .unwrap();
        assert_eq!(request.id().unwrap(), "a/1");
        assert_eq!(request.device().unwrap(), "0c383e010203");
        assert_eq!(request.remote_number().unwrap(), "+493");
        assert_eq!(request.remote_name().unwrap(), "Müller\u{fffd}");
        assert_eq!(
            (request.local_number().unwrap(), request.local_name().unwrap()),
            ("1009".into(), "100%".into())
        );
        assert_eq!(request.direction(), Some(Direction::Out));
        assert_eq!(request.codec(), Some(Codec::from_rtpmap("G722", 8000, 1)));
        assert_eq!((request.reason(), request.succeeded(), request.server()), (None, None, None));

        let text = b"cmd=RecordStartResponse&id=1&result=Success&server=10.1.2.3&port=4000";
        let response = Message::parse(text).unwrap();
        assert_eq!(response.succeeded(), Some(true));
        assert_eq!(response.server(), Some([10, 1, 2, 3].into()));
        assert_eq!(response.port(), Some(4000));
        let text = b"cmd=RecordStartResponse&result=failed&reason=full&server=[fd00::1]&port=0";
        let response = Message::parse(text).unwrap();
        assert_eq!((response.succeeded(), response.port()), (Some(false), None));
        assert_eq!(response.server().unwrap().to_string(), "fd00::1");
        assert_eq!(response.reason().unwrap(), "full");
    }

    #[test]
    fn control_or_not() {
        assert!(looks_like_control(b"\r\n cmd=RecordStopRequest&id=1"));
        assert!(looks_like_control(b"cmd=RecordStopResponse\r\nmore"));
        for text in [&b"cmd=Record"[..], b"cmd=RecordStop&id=1", b"x cmd=RecordStopRequest", b""] {
            assert!(!looks_like_control(text));
        }
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
        fn never_panics(chunks: Vec<Vec<u8>>, fields: Vec<u8>) {
            let text = [b"cmd=RecordStartRequest&id=", &fields[..], b"&port=", &fields[..]].concat();
            let mut framer = Framer::default();
            let mut read = |message: Message<'_>| {
                let _ = (message.id(), message.port(), message.server(), message.codec(), message.direction());
            };
            for chunk in chunks.iter().chain([&text]) {
                framer.add(chunk, &mut read);
                let _ = looks_like_control(chunk);
            }
            framer.finish(&mut read);
        }
    }
}
