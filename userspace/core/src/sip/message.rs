//! One message: its start line, the header fields that matter here, and its body.

use memchr::{memchr, memmem};

use super::value::{Address, CSeq, trim};

/// Methods by which a request is recognised on any port (RFC 3261, 3262, 3265, 3311, 3428, 3515, 3903,
/// 6086).
const METHODS: [&[u8]; 14] = [
    b"INVITE",
    b"ACK",
    b"BYE",
    b"CANCEL",
    b"OPTIONS",
    b"REGISTER",
    b"PRACK",
    b"UPDATE",
    b"INFO",
    b"REFER",
    b"NOTIFY",
    b"SUBSCRIBE",
    b"MESSAGE",
    b"PUBLISH",
];

/// How far in a datagram on a SIP port a message is looked for when there is junk before it.
const MAX_JUNK: usize = 128;

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// Method and Request-URI.
    Request {
        /// `INVITE`…
        method: &'a [u8],
        /// Whatever stood between the method and the version.
        uri: &'a [u8],
    },
    /// Status code and reason phrase.
    Response {
        /// 100 to 699.
        status: u16,
        /// In words.
        reason: &'a [u8],
    },
}

/// A message, borrowed from the datagram or stream it came in. No byte is copied.
///
/// Of fields that stand more than once, the first is kept.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// First line.
    pub start: StartLine<'a>,
    /// From the start line to the end of the body.
    bytes: &'a [u8],
    /// All header lines, for what is asked for rarely.
    headers: &'a [u8],
    /// Call-ID (`i`).
    pub call_id: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    cseq: Option<&'a [u8]>,
    /// Content-Type (`c`).
    pub content_type: Option<&'a [u8]>,
    /// Content-Length (`l`), if it is a number.
    pub content_length: Option<usize>,
    /// What follows the empty line: as long as Content-Length says or, where that is missing or says
    /// more than there is, all of it.
    pub body: &'a [u8],
    /// Bytes from the start line to the end of the body.
    pub length: usize,
}

impl<'a> Message<'a> {
    /// Parses what begins like a SIP message; `None` when it does not. Empty lines in front are skipped.
    pub fn parse(bytes: &'a [u8]) -> Option<Message<'a>> {
        let skipped = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let text = &bytes[skipped..];
        let line_end = memchr(b'\n', text).unwrap_or(text.len());
        let start = start_line(trim(&text[..line_end]))?;
        let rest = text.get(line_end + 1..).unwrap_or_default();
        let mut message = Message {
            start,
            bytes: text,
            headers: rest,
            call_id: None,
            from: None,
            to: None,
            cseq: None,
            content_type: None,
            content_length: None,
            body: &[],
            length: 0,
        };
        let mut lines = Headers { rest };
        for (name, value) in lines.by_ref() {
            message.note(name, value);
        }
        message.headers = &rest[..rest.len() - lines.rest.len()];
        let available = lines.rest;
        let body = message.content_length.unwrap_or(available.len()).min(available.len());
        message.body = &available[..body];
        message.length = bytes.len() - available.len() + body;
        message.bytes = &bytes[skipped..message.length];
        Some(message)
    }

    fn note(&mut self, name: &[u8], value: &'a [u8]) {
        let field = match name.len() {
            1 => match name[0].to_ascii_lowercase() {
                b'i' => &mut self.call_id,
                b'f' => &mut self.from,
                b't' => &mut self.to,
                b'c' => &mut self.content_type,
                b'l' => return self.note_length(value),
                _ => return,
            },
            2 if name.eq_ignore_ascii_case(b"to") => &mut self.to,
            4 if name.eq_ignore_ascii_case(b"from") => &mut self.from,
            4 if name.eq_ignore_ascii_case(b"cseq") => &mut self.cseq,
            7 if name.eq_ignore_ascii_case(b"call-id") => &mut self.call_id,
            12 if name.eq_ignore_ascii_case(b"content-type") => &mut self.content_type,
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.note_length(value),
            _ => return,
        };
        field.get_or_insert(value);
    }

    fn note_length(&mut self, value: &[u8]) {
        let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        self.content_length = self.content_length.or(length);
    }

    /// All of the message.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// From.
    pub fn from(&self) -> Address<'a> {
        Address::parse(self.from.unwrap_or_default())
    }

    /// To.
    pub fn to(&self) -> Address<'a> {
        Address::parse(self.to.unwrap_or_default())
    }

    /// CSeq.
    pub fn cseq(&self) -> CSeq<'a> {
        CSeq::parse(self.cseq.unwrap_or_default())
    }

    /// The method of the request, or of the request that a response answers.
    pub fn method(&self) -> &'a [u8] {
        match self.start {
            StartLine::Request { method, .. } => method,
            StartLine::Response { .. } => self.cseq().method,
        }
    }

    /// The first field of that name, in whatever case.
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        Headers { rest: self.headers }
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Goes over header lines up to the empty line. Afterwards `rest` is the body.
pub(super) struct Headers<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        loop {
            let mut end = memchr(b'\n', self.rest).unwrap_or(self.rest.len());
            if trim(&self.rest[..end]).is_empty() {
                self.rest = self.rest.get(end + 1..).unwrap_or_default();
                return None;
            }
            // A line that begins with white space goes on with the field before it (RFC 3261, 7.3.1), but
            // one of nothing but white space ends the header.
            while let Some(b' ' | b'\t') = self.rest.get(end + 1) {
                let line = &self.rest[end + 1..];
                let line_end = memchr(b'\n', line).unwrap_or(line.len());
                if trim(&line[..line_end]).is_empty() {
                    break;
                }
                end += 1 + line_end;
            }
            let line = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if let Some(colon) = memchr(b':', line) {
                return Some((trim(&line[..colon]), trim(&line[colon + 1..])));
            }
        }
    }
}

fn start_line(line: &[u8]) -> Option<StartLine<'_>> {
    if line.len() >= 11 && line[..8].eq_ignore_ascii_case(b"SIP/2.0 ") {
        let digits = trim(&line[8..]);
        let code = digits.get(..3)?;
        let status = code.iter().try_fold(0u16, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u16::from(digit - b'0'))
        })?;
        return (100..700)
            .contains(&status)
            .then(|| StartLine::Response { status, reason: trim(&digits[3..]) });
    }
    let space = memchr(b' ', line)?;
    let method = &line[..space];
    if !METHODS.iter().any(|known| known.eq_ignore_ascii_case(method)) {
        return None;
    }
    let rest = trim(&line[space..]);
    // The version may be misspelt or missing; but HTTP knows OPTIONS too.
    let uri = match memchr::memrchr(b' ', rest) {
        Some(space)
            if rest[space + 1..].len() >= 4 && rest[space + 1..][..4].eq_ignore_ascii_case(b"SIP/") =>
        {
            trim(&rest[..space])
        }
        Some(space) if rest[space + 1..].starts_with(b"HTTP/") || rest[space + 1..].starts_with(b"RTSP/") => {
            return None;
        }
        _ if rest.len() >= 4
            && (rest[..4].eq_ignore_ascii_case(b"sip:") || rest[..4].eq_ignore_ascii_case(b"sips")) =>
        {
            rest
        }
        _ => return None,
    };
    Some(StartLine::Request { method, uri })
}

/// Whether a datagram begins like SIP. Made to say no quickly.
pub fn looks_like_sip(payload: &[u8]) -> bool {
    match payload.first() {
        Some(b'\r' | b'\n') => {
            let skipped = payload.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            skipped < payload.len() && looks_like_sip(&payload[skipped..])
        }
        Some(first) if first.is_ascii_alphabetic() => {
            let line = &payload[..memchr(b'\n', payload).unwrap_or(payload.len())];
            start_line(trim(line)).is_some()
        }
        _ => false,
    }
}

/// Where a message begins in bytes that begin with something else: a line that is a start line.
pub fn start_of_message(bytes: &[u8]) -> Option<usize> {
    let mut searched = 0;
    while let Some(found) = memmem::find(&bytes[searched..], b"SIP/2.0") {
        let version = searched + found;
        let line_start = memchr::memrchr(b'\n', &bytes[..version]).map_or(0, |newline| newline + 1);
        if looks_like_sip(&bytes[line_start..]) {
            return Some(line_start);
        }
        // Junk on the same line: a status line begins at the version, a request with its method.
        if looks_like_sip(&bytes[version..]) {
            return Some(version);
        }
        let junk = &bytes[line_start..version.min(line_start + MAX_JUNK)];
        for method in METHODS {
            for at in memmem::find_iter(junk, method) {
                if looks_like_sip(&bytes[line_start + at..]) {
                    return Some(line_start + at);
                }
            }
        }
        // Once a line: a hostile one is full of versions.
        searched = memchr(b'\n', &bytes[version..]).map_or(bytes.len(), |newline| version + newline);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INVITE: &[u8] = b"INVITE sip:bob@biloxi.example.com SIP/2.0\r\n\
        Via: SIP/2.0/TCP client.atlanta.example.com:5060;branch=z9hG4bK74bf9\r\n\
        f: \"Alice\" <sip:alice@atlanta.example.com>;tag=9fxced76sl\r\n\
        TO : Bob\r\n  <sip:bob@biloxi.example.com>\r\n\
        call-ID:3848276298220188511@atlanta.example.com\r\n\
        CSeq: 2 INVITE\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: 4\r\n\r\nv=0\nrest";

    #[test]
    fn compact_folded_and_oddly_spaced() {
        let message = Message::parse(INVITE).unwrap();
        assert_eq!(message.call_id, Some(&b"3848276298220188511@atlanta.example.com"[..]));
        assert_eq!(message.from().tag(), Some(&b"9fxced76sl"[..]));
        assert_eq!(message.to().user(), b"bob");
        assert_eq!((message.cseq().number, message.cseq().method), (2, &b"INVITE"[..]));
        assert_eq!(message.body, b"v=0\n");
        assert_eq!(message.length, INVITE.len() - 4);
        assert_eq!(message.header(b"VIA").map(|via| &via[..7]), Some(&b"SIP/2.0"[..]));
    }

    #[test]
    fn line_feeds_only_and_no_content_length() {
        let message = Message::parse(b"\r\n\nSIP/2.0 200 OK\nCall-ID: a\nCSeq: 1 BYE\n\nbody").unwrap();
        assert_eq!(message.start, StartLine::Response { status: 200, reason: b"OK" });
        assert_eq!((message.call_id, message.body), (Some(&b"a"[..]), &b"body"[..]));
    }

    #[test]
    fn not_sip() {
        for text in
            [&b"OPTIONS * HTTP/1.1\r\n\r\n"[..], b"OPTIONS rtsp://x RTSP/1.0\r\n", b"\x80\x00", b"hello", b""]
        {
            assert!(!looks_like_sip(text));
            assert!(Message::parse(text).is_none());
        }
    }

    #[test]
    fn found_behind_junk() {
        assert_eq!(start_of_message(b"\x00\x01xxBYE sip:a@b SIP/2.0\r\n"), Some(4));
        assert_eq!(start_of_message(b"Via: SIP/2.0/UDP a\r\n\r\nSIP/2.0 200 OK\r\n"), Some(22));
        assert_eq!(start_of_message(b"Via: SIP/2.0/UDP a\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = start_of_message(&bytes);
            let text = [b"INVITE sip:a@b SIP/2.0\r\n", &bytes[..]].concat();
            let message = Message::parse(&text).unwrap();
            let _ = (message.from().tag(), message.to().user(), message.cseq(), message.header(b"x"));
        }

        #[test]
        fn a_call_id_survives_any_other_header(before in "[ -~]{0,40}", after in "[ -~]{0,40}") {
            prop_assume!(!before.trim().is_empty() && !before.to_lowercase().trim().starts_with("call-id"));
            prop_assume!(!before.trim().to_lowercase().starts_with("i"));
            prop_assume!(!after.starts_with(' '));
            let text = format!("BYE sip:a@b SIP/2.0\r\n{before}\r\nCall-ID: x@y\r\n{after}\r\n\r\n");
            let message = Message::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(message.call_id, Some(&b"x@y"[..]));
        }
    }
}
