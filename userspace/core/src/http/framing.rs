//! Messages in one direction of a connection.

use httparse::{EMPTY_HEADER, Status};

/// A head is no longer.
const MAX_HEAD: usize = 64 * 1024;
/// So much of a body is kept; of longer ones the rest is passed over.
const MAX_BODY: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;
/// A line with the size of a chunk, or a trailer, is no longer.
const MAX_LINE: usize = 1024;
/// A stream that has shown no HTTP in its first bytes carries something else.
const MAX_FOREIGN: usize = 4096;

/// What a stream turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Not known yet.
    Open,
    /// At least one message was found.
    Http,
    /// Something else: more bytes need not be shown.
    Foreign,
}

/// Start line and header fields of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// A request.
    Request {
        /// `GET`…
        method: &'a str,
        /// As it stands in the request line.
        target: &'a str,
        /// User-Agent, or nothing.
        user_agent: &'a [u8],
    },
    /// A response.
    Response {
        /// Three digits.
        status: u16,
    },
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// Its head has been read.
    Head(Head<'a>),
    /// It is complete; this is its body, or the beginning of a long one.
    End(&'a [u8]),
    /// Bytes of a WebSocket, which is what follows a message that asks for one or agrees to it (RFC 6455, 4).
    WebSocket(&'a [u8]),
}

/// How much of a body is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// The head has not been read yet.
    NoHead,
    Length(u64),
    /// The next line has the size of a chunk.
    ChunkSize,
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailers,
    UntilClose,
    /// Not HTTP any more.
    WebSocket,
}

/// Cuts a direction into messages. One joined in the middle is followed from the next start line on.
pub struct Framer {
    /// Bytes of a head or a line that is not complete yet.
    kept: Vec<u8>,
    body: Body,
    /// What has come of the body.
    content: Vec<u8>,
    found: bool,
    foreign: usize,
}

impl Default for Framer {
    fn default() -> Framer {
        Framer { kept: Vec::new(), body: Body::NoHead, content: Vec::new(), found: false, foreign: 0 }
    }
}

impl Framer {
    /// Takes the next bytes and hands on what is complete. `has_body` says of a response that has come whether it has
    /// a body at all: those to HEAD have none, whatever they say.
    pub fn add(
        &mut self,
        bytes: &[u8],
        mut has_body: impl FnMut() -> bool,
        mut deliver: impl FnMut(Message<'_>),
    ) -> Framing {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let used = match self.body {
                Body::NoHead => self.head(bytes, &mut has_body, &mut deliver),
                Body::Length(left) => self.data(bytes, left, Body::Length, &mut deliver),
                Body::Chunk(left) => self.data(bytes, left, Body::Chunk, &mut deliver),
                Body::ChunkSize | Body::ChunkEnd | Body::Trailers => self.line(bytes, &mut deliver),
                Body::UntilClose => {
                    self.keep_content(bytes);
                    bytes.len()
                }
                Body::WebSocket => {
                    deliver(Message::WebSocket(bytes));
                    bytes.len()
                }
            };
            bytes = &bytes[used..];
        }
        match (self.found, self.foreign > MAX_FOREIGN) {
            (true, _) => Framing::Http,
            (false, false) => Framing::Open,
            (false, true) => Framing::Foreign,
        }
    }

    /// Whether what comes next is a WebSocket, if the other side agrees.
    pub fn is_switched(&self) -> bool {
        self.body == Body::WebSocket
    }

    /// Bytes are missing here. What was begun is given up.
    pub fn gap(&mut self) {
        (self.kept, self.content) = (Vec::new(), Vec::new());
        if self.body != Body::WebSocket {
            self.body = Body::NoHead;
        }
    }

    /// Bytes that it keeps in memory.
    pub fn memory(&self) -> usize {
        self.kept.capacity() + self.content.capacity()
    }

    /// There will be no more bytes: a body without a length is complete.
    pub fn close(&mut self, mut deliver: impl FnMut(Message<'_>)) {
        if self.body == Body::UntilClose {
            self.end(&mut deliver);
        }
    }

    /// Returns how many bytes are done with, as the others do.
    fn head(
        &mut self,
        bytes: &[u8],
        has_body: &mut impl FnMut() -> bool,
        deliver: &mut impl FnMut(Message<'_>),
    ) -> usize {
        let before = self.kept.len();
        let fresh = &bytes[..bytes.len().min(MAX_HEAD + 1 - before.min(MAX_HEAD))];
        self.kept.extend_from_slice(fresh);
        if before > 0 && self.kept.len() <= MAX_HEAD && memchr::memchr(b'\n', fresh).is_none() {
            // Only the end of a line can complete it: it is not read again for every byte.
            return bytes.len();
        }
        let kept = std::mem::take(&mut self.kept);
        // Between messages there may be empty lines (RFC 9112, 2.2).
        let empty = kept.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let parsed = if kept[empty..].starts_with(b"HTTP/") {
            response(&kept[empty..], has_body)
        } else {
            request(&kept[empty..])
        };
        match parsed {
            Parsed::Head { length, head, body } => {
                (self.found, self.foreign) = (true, 0);
                self.content.clear();
                deliver(Message::Head(head));
                self.body = body;
                if self.body == Body::Length(0) {
                    self.end(deliver);
                }
                (empty + length).saturating_sub(before)
            }
            Parsed::Partial if kept.len() <= MAX_HEAD => {
                self.kept = kept;
                bytes.len()
            }
            Parsed::Partial | Parsed::Junk => {
                // On with the next line.
                let line = memchr::memchr(b'\n', &kept[empty..]).map_or(kept.len(), |end| empty + end + 1);
                if !self.found {
                    self.foreign += line;
                }
                if line > before {
                    return line - before;
                }
                // All of this was known before these bytes came.
                self.kept = kept[line..before].to_vec();
                0
            }
        }
    }

    fn data(
        &mut self,
        bytes: &[u8],
        left: u64,
        then: impl Fn(u64) -> Body,
        deliver: &mut impl FnMut(Message<'_>),
    ) -> usize {
        let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.keep_content(&bytes[..used]);
        self.body = then(left - used as u64);
        match self.body {
            Body::Length(0) => self.end(deliver),
            Body::Chunk(0) => self.body = Body::ChunkEnd,
            _ => {}
        }
        used
    }

    /// A line of a chunked body (RFC 9112, 7.1).
    fn line(&mut self, bytes: &[u8], deliver: &mut impl FnMut(Message<'_>)) -> usize {
        let end = memchr::memchr(b'\n', bytes);
        let used = end.map_or(bytes.len(), |end| end + 1);
        self.kept.extend_from_slice(&bytes[..used.min(MAX_LINE)]);
        if self.kept.len() > MAX_LINE {
            self.gap();
            return used;
        }
        if end.is_none() {
            return used;
        }
        let kept = std::mem::take(&mut self.kept);
        let line = kept.trim_ascii();
        match self.body {
            Body::ChunkEnd => self.body = Body::ChunkSize,
            Body::Trailers if line.is_empty() => self.end(deliver),
            Body::Trailers => {}
            _ => match chunk_size(line) {
                Some(0) => self.body = Body::Trailers,
                Some(size) => self.body = Body::Chunk(size),
                None => self.gap(),
            },
        }
        used
    }

    fn keep_content(&mut self, bytes: &[u8]) {
        let room = MAX_BODY.saturating_sub(self.content.len());
        self.content.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end(&mut self, deliver: &mut impl FnMut(Message<'_>)) {
        deliver(Message::End(&self.content));
        self.body = Body::NoHead;
        self.content = Vec::new();
    }
}

enum Parsed<'a> {
    Head { length: usize, head: Head<'a>, body: Body },
    Partial,
    Junk,
}

fn request(bytes: &[u8]) -> Parsed<'_> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Junk,
    };
    let (Some(method), Some(target)) = (request.method, request.path) else { return Parsed::Junk };
    // Without a length there is no body (RFC 9112, 6.3).
    let Some(mut body) = body(request.headers, Body::Length(0)) else { return Parsed::Junk };
    if body == Body::Length(0) && is_web_socket(request.headers) {
        body = Body::WebSocket;
    }
    let user_agent = header(request.headers, "user-agent").unwrap_or_default();
    Parsed::Head { length, head: Head::Request { method, target, user_agent }, body }
}

fn response<'a>(bytes: &'a [u8], has_body: &mut impl FnMut() -> bool) -> Parsed<'a> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Junk,
    };
    let Some(status) = response.code else { return Parsed::Junk };
    let is_empty = matches!(status, 100..=199 | 204 | 304);
    let body = if is_empty { Some(Body::Length(0)) } else { body(response.headers, Body::UntilClose) };
    let Some(body) = body else { return Parsed::Junk };
    // Asked last, and only of answers to a request.
    let body = if is_empty || has_body() { body } else { Body::Length(0) };
    let body = if status == 101 && is_web_socket(response.headers) { Body::WebSocket } else { body };
    Parsed::Head { length, head: Head::Response { status }, body }
}

fn is_web_socket(headers: &[httparse::Header<'_>]) -> bool {
    header(headers, "upgrade")
        .is_some_and(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

/// How long the body is; `None` when that makes no sense.
fn body(headers: &[httparse::Header<'_>], otherwise: Body) -> Option<Body> {
    if let Some(coding) = header(headers, "transfer-encoding") {
        let last = coding.rsplit(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
        return Some(if last.eq_ignore_ascii_case(b"chunked") { Body::ChunkSize } else { otherwise });
    }
    match header(headers, "content-length") {
        Some(length) => std::str::from_utf8(length).ok()?.trim().parse().ok().map(Body::Length),
        None => Some(otherwise),
    }
}

fn header<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out, in words.
    fn run(pieces: &[&[u8]]) -> (Vec<String>, Framing) {
        let (mut framer, mut out, mut framing) = (Framer::default(), Vec::new(), Framing::Open);
        let mut note = |message: Message<'_>| {
            out.push(match message {
                Message::Head(Head::Request { method, target, user_agent }) => {
                    format!("{method} {target} {}", String::from_utf8_lossy(user_agent))
                }
                Message::Head(Head::Response { status }) => status.to_string(),
                Message::End(body) => format!("[{}]", String::from_utf8_lossy(body)),
                Message::WebSocket(bytes) => format!("{bytes:?}"),
            });
        };
        for piece in pieces {
            framing = framer.add(piece, || true, &mut note);
        }
        framer.close(&mut note);
        (out, framing)
    }

    const REQUESTS: &[u8] =
        b"GET /URLRecord/record.xml HTTP/1.1\r\nHost: pbx\r\nUser-Agent: Yealink SIP-T46G\r\n\r\n\
          \r\nPOST /record HTTP/1.1\r\nContent-Length: 3\r\n\r\na=1GET /again HTTP/1.0\r\n\r\n";
    const RESPONSES: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno\
          HTTP/1.0 200 OK\r\n\r\nuntil the end";

    #[test]
    fn several_messages_on_a_connection() {
        let (out, framing) = run(&[REQUESTS]);
        let expected = [
            "GET /URLRecord/record.xml Yealink SIP-T46G",
            "[]",
            "POST /record ",
            "[a=1]",
            "GET /again ",
            "[]",
        ];
        assert_eq!(out, expected);
        assert_eq!(framing, Framing::Http);
        let (out, _) = run(&[RESPONSES]);
        assert_eq!(out, ["100", "[]", "200", "[hello world]", "404", "[no]", "200", "[until the end]"]);
    }

    #[test]
    fn what_follows_a_switch_is_no_http() {
        const REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
        const RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
        for head in [REQUEST, RESPONSE] {
            let (mut out, _) = run(&[head, &[0x81, 1], b"GET /"]);
            assert_eq!(out.split_off(1), ["[129, 1]", "[71, 69, 84, 32, 47]"]);
            let whole = [head, &[0x81, 1]].concat();
            assert_eq!(run(&[&whole]).0[1], "[129, 1]");
        }
        // Another protocol is nobody's.
        let (out, _) = run(&[b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"]);
        assert_eq!(out, ["GET / ", "[]", "GET /2 ", "[]"]);
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let (mut framer, mut count) = (Framer::default(), 0);
        let text =
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        framer.add(text, || false, |message| count += usize::from(matches!(message, Message::End(_))));
        assert_eq!(count, 2);
    }

    #[test]
    fn joined_in_the_middle_or_not_http_at_all() {
        let (out, _) = run(&[b"-agent: x\r\n\r\nGET /r HTTP/1.1\r\n\r\n"]);
        assert_eq!(out, ["GET /r ", "[]"]);
        let (out, framing) = run(&[&[0xfe; 5000]]);
        assert!(out.is_empty());
        assert_eq!(framing, Framing::Foreign);
    }

    #[test]
    fn a_long_body_is_passed_over() {
        let mut text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 3 * MAX_BODY).into_bytes();
        text.extend(vec![b'x'; 3 * MAX_BODY]);
        text.extend(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n");
        let (out, _) = run(&[&text]);
        assert_eq!(out.len(), 4);
        assert_eq!(out[1].len(), MAX_BODY + 2);
        assert_eq!(out[2], "404");
    }

    proptest! {
        #[test]
        fn cut_anywhere_it_is_the_same(cuts in proptest::collection::vec(1usize..60, 1..40), requests: bool) {
            let text = if requests { REQUESTS } else { RESPONSES };
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(text.len());
                pieces.push(&text[at..end]);
                at = end;
                if at == text.len() { break }
            }
            prop_assert_eq!(run(&pieces), run(&[text]));
        }

        #[test]
        fn whatever_comes_memory_is_bounded(
            pieces in proptest::collection::vec("[ -~\r\n]{0,200}|HTTP/1.1 200 OK\r\n|GET / HTTP/1.1\r\n|\r\n|ffff\r\n", 0..60),
        ) {
            let mut framer = Framer::default();
            for piece in &pieces {
                framer.add(piece.as_bytes(), || true, |_| {});
                prop_assert!(framer.kept.len() <= MAX_HEAD + 1 && framer.content.len() <= MAX_BODY);
            }
        }
    }
}
