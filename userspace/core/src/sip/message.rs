//! One message: its start line, the header fields that matter here, and its body.

use memchr::{memchr, memmem};

use super::oddity::{Oddities, Oddity};
use super::value::{Address, CSeq, is_token, trim};

/// Methods by which a request is recognised whatever follows them (RFC 3261, 3262, 3265, 3311, 3428, 3515, 3903,
/// 6086). Others are known by the version at the end of the line.
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

/// CSeq numbers are less than 2^31 (RFC 3261, 8.1.1.5).
const MAX_CSEQ: u32 = i32::MAX as u32;

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
        /// 100 to 699; 0 where what stands there is no such number.
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
    /// With which letters their names begin: most of what is asked for is in no message.
    initials: u32,
    /// Call-ID (`i`).
    pub call_id: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    cseq: Option<&'a [u8]>,
    /// Content-Type (`c`).
    pub content_type: Option<&'a [u8]>,
    /// Content-Length (`l`), if it is a number.
    pub content_length: Option<usize>,
    /// What follows the empty line: as long as Content-Length says or, where that is missing, is wrong, or says
    /// more than there is, all of it, but for another message.
    pub body: &'a [u8],
    /// Bytes from the start line to the end of the body.
    pub length: usize,
    odd: Oddities,
}

impl<'a> Message<'a> {
    /// Parses what begins like a SIP message; `None` when it does not. Empty lines in front are skipped.
    pub fn parse(bytes: &'a [u8]) -> Option<Message<'a>> {
        let skipped = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let text = &bytes[skipped..];
        let line_end = memchr(b'\n', text).unwrap_or(text.len());
        let (start, odd) = start_line(&text[..line_end])?;
        let rest = text.get(line_end + 1..).unwrap_or_default();
        let mut message = Message {
            start,
            bytes: text,
            headers: rest,
            initials: 0,
            call_id: None,
            from: None,
            to: None,
            cseq: None,
            content_type: None,
            content_length: None,
            body: &[],
            length: 0,
            odd,
        };
        let mut lines = Headers { rest };
        for (name, value) in lines.by_ref() {
            message.initials |= initial(name);
            message.note(name, value);
        }
        message.headers = &rest[..rest.len() - lines.rest.len()];
        let available = lines.rest;
        let body = message.body_length(available);
        message.body = &available[..body];
        message.length = bytes.len() - available.len() + body;
        message.bytes = &bytes[skipped..message.length];
        message.judge();
        Some(message)
    }

    /// How much of what follows the header is the body.
    fn body_length(&mut self, available: &[u8]) -> usize {
        let all = available.len();
        match self.content_length {
            Some(length) if length > all => {
                self.odd.insert(Oddity::Body);
                all
            }
            // What rewrites a description on its way may leave its length as it was; but another message, or what
            // pads the datagram, is not of the body.
            Some(length) if length < all && self.content_type.is_some() && goes_on(&available[length..]) => {
                self.odd.insert(Oddity::Body);
                all
            }
            Some(length) => length,
            // Without a type it is no body (RFC 3261, 7.4.1).
            None if self.content_type.is_none() && looks_like_sip(available) => 0,
            None => all,
        }
    }

    /// Looks at what stands there of the fields that matter, and at what does not.
    fn judge(&mut self) {
        let cseq = self.cseq.unwrap_or_default();
        let is_number = cseq.first().is_some_and(u8::is_ascii_digit) && self.cseq().number <= MAX_CSEQ;
        let same_method = match self.start {
            StartLine::Request { method, .. } => self.cseq.is_none() || self.cseq().method == method,
            StartLine::Response { .. } => true,
        };
        self.odd.insert_if(Oddity::CallId, self.call_id.is_none_or(<[u8]>::is_empty));
        self.odd.insert_if(Oddity::From, self.from.is_none_or(|value| !Address::is_well_formed(value)));
        self.odd.insert_if(Oddity::To, self.to.is_none_or(|value| !Address::is_well_formed(value)));
        self.odd.insert_if(Oddity::CSeq, !is_number);
        self.odd.insert_if(Oddity::Method, !same_method);
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
        let is_first = field.is_none();
        let first = *field.get_or_insert(value);
        self.odd.insert_if(Oddity::Repeated, !is_first && first != value);
    }

    fn note_length(&mut self, value: &[u8]) {
        let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let differs = self.content_length.is_some_and(|first| Some(first) != length);
        self.odd.insert_if(Oddity::ContentLength, differs || length.is_none());
        self.content_length = self.content_length.or(length);
    }

    /// What of it is not as RFC 3261 has it.
    pub fn oddities(&self) -> Oddities {
        self.odd
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
        if self.initials & initial(name) == 0 {
            return None;
        }
        Headers { rest: self.headers }
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// A bit for what a name begins with, one and the same for all that are no letters.
fn initial(name: &[u8]) -> u32 {
    let letter = name.first().map(|first| first.to_ascii_lowercase().wrapping_sub(b'a'));
    1 << letter.filter(|&letter| letter < 26).unwrap_or(26)
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

/// What a line says if it is a start line, and what is odd about it.
fn start_line(line: &[u8]) -> Option<(StartLine<'_>, Oddities)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut odd = Oddities::default();
    let ends_in_space = line.last().is_some_and(u8::is_ascii_whitespace);
    let line = trim(line);
    if let Some(rest) = version(line).and_then(|version| line[version..].strip_prefix(b" ")) {
        return Some((status_line(&line[..line.len() - rest.len()], rest, &mut odd)?, odd));
    }
    let space = memchr(b' ', line)?;
    let method = &line[..space];
    let rest = trim(&line[space..]);
    let is_known = METHODS.iter().any(|known| known.eq_ignore_ascii_case(method));
    let last = memchr::memrchr(b' ', rest).map(|space| (trim(&rest[..space]), &rest[space + 1..]));
    // The version may be misspelt or missing; but HTTP knows OPTIONS too.
    let (uri, is_version) = match last {
        Some((uri, last)) if last.eq_ignore_ascii_case(b"SIP/2.0") && (is_known || may_be_method(method)) => {
            (uri, true)
        }
        _ if !is_known => return None,
        Some((uri, last)) if last.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"SIP/")) => {
            (uri, false)
        }
        Some((_, last)) if last.starts_with(b"HTTP/") || last.starts_with(b"RTSP/") => return None,
        _ if rest.get(..4).is_some_and(|scheme| {
            scheme.eq_ignore_ascii_case(b"sip:") || scheme.eq_ignore_ascii_case(b"sips")
        }) =>
        {
            (rest, false)
        }
        _ => return None,
    };
    if !is_known && memchr(b':', uri).is_none() {
        return None;
    }
    odd.insert_if(Oddity::Version, !is_version);
    odd.insert_if(Oddity::StartLine, ends_in_space);
    odd.insert_if(Oddity::StartLine, is_version && line.len() != method.len() + uri.len() + 9);
    // Whatever the grammar lets into a user, it is no angle bracket and no white space.
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"<>".contains(byte);
    let has_headers = uri.get(..3).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sip"))
        && uri.iter().rposition(|&byte| byte == b'?') > uri.iter().rposition(|&byte| byte == b'@');
    odd.insert_if(
        Oddity::RequestUri,
        memchr(b':', uri).is_none() || !uri.iter().all(is_plain) || has_headers,
    );
    Some((StartLine::Request { method, uri }, odd))
}

/// `rest` is what follows the version, which `before` ends with.
fn status_line<'a>(before: &[u8], rest: &'a [u8], odd: &mut Oddities) -> Option<StartLine<'a>> {
    odd.insert_if(Oddity::Version, !before.eq_ignore_ascii_case(b"SIP/2.0 "));
    odd.insert_if(Oddity::StartLine, rest.first().is_some_and(u8::is_ascii_whitespace));
    let rest = trim(rest);
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let reason = trim(&rest[digits..]);
    if digits == 0 {
        return None;
    }
    let code = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
    let status = code.filter(|code| digits == 3 && (100..700).contains(code)).unwrap_or(0);
    odd.insert_if(Oddity::StatusCode, status == 0);
    Some(StartLine::Response { status, reason })
}

/// The length of `SIP/2.0`, or of another such version, at the front.
fn version(line: &[u8]) -> Option<usize> {
    let number = line.get(4..7)?;
    let is_version = line[..4].eq_ignore_ascii_case(b"SIP/")
        && number[0].is_ascii_digit()
        && number[1] == b'.'
        && number[2].is_ascii_digit();
    is_version.then_some(7)
}

/// Whether a word may be the name of a method nobody has heard of (RFC 3261, 7.1: any token), and not one that is
/// known with junk before it.
fn may_be_method(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(is_token) && !METHODS.iter().any(|known| word.ends_with(known))
}

/// Whether what stands behind the end that Content-Length names is still of the body.
fn goes_on(rest: &[u8]) -> bool {
    rest.iter().any(|byte| !matches!(byte, b'\r' | b'\n' | b' ' | b'\t' | 0)) && !looks_like_sip(rest)
}

/// Whether a datagram begins like SIP. Made to say no quickly.
pub fn looks_like_sip(payload: &[u8]) -> bool {
    match payload.first() {
        Some(b'\r' | b'\n') => {
            let skipped = payload.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            skipped < payload.len() && looks_like_sip(&payload[skipped..])
        }
        Some(first) if is_token(first) => {
            let line = &payload[..memchr(b'\n', payload).unwrap_or(payload.len())];
            start_line(line).is_some()
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
        Content-Length: 4\r\n\r\nv=0\nBYE sip:bob@biloxi.example.com SIP/2.0\r\n";

    #[test]
    fn compact_folded_and_oddly_spaced() {
        let message = Message::parse(INVITE).unwrap();
        assert_eq!(message.call_id, Some(&b"3848276298220188511@atlanta.example.com"[..]));
        assert_eq!(message.from().tag(), Some(&b"9fxced76sl"[..]));
        assert_eq!(message.to().user(), b"bob");
        assert_eq!((message.cseq().number, message.cseq().method), (2, &b"INVITE"[..]));
        assert_eq!(message.body, b"v=0\n");
        assert!(INVITE[message.length..].starts_with(b"BYE "));
        assert!(message.oddities().is_empty());
        assert_eq!(message.header(b"VIA").map(|via| &via[..7]), Some(&b"SIP/2.0"[..]));
    }

    #[test]
    fn line_feeds_only_and_no_content_length() {
        let message = Message::parse(b"\r\n\nSIP/2.0 200 OK\nCall-ID: a\nCSeq: 1 BYE\n\nbody").unwrap();
        assert_eq!(message.start, StartLine::Response { status: 200, reason: b"OK" });
        assert_eq!((message.call_id, message.body), (Some(&b"a"[..]), &b"body"[..]));
    }

    #[test]
    fn how_long_a_body_is() {
        let parse = |headers: &str, after: &str| -> (String, Vec<Oddity>) {
            let text = format!(
                "MESSAGE sip:a@b SIP/2.0\r\nf: <sip:a@b>\r\nt: <sip:b@b>\r\ni: 1\r\nCSeq: 1 MESSAGE\r\n\
                {headers}\r\n{after}"
            );
            let message = Message::parse(text.as_bytes()).unwrap();
            assert_eq!(message.bytes().len(), message.length);
            (String::from_utf8(message.body.to_vec()).unwrap(), message.oddities().iter().collect())
        };
        let (sdp, next) = ("v=0\r\ns=-\r\n", "BYE sip:a@b SIP/2.0\r\n");
        let typed = |length: &str| format!("c: application/sdp\r\nl: {length}\r\n");
        assert_eq!(parse(&typed("10"), sdp), (sdp.into(), vec![]));
        assert_eq!(parse(&typed("10"), &format!("{sdp}{next}")), (sdp.into(), vec![]));
        // Padding is none of it.
        assert_eq!(parse(&typed("10"), &format!("{sdp}\r\n\0 \0")), (sdp.into(), vec![]));
        // What has rewritten an address on its way has not counted again.
        assert_eq!(parse(&typed("5"), sdp), (sdp.into(), vec![Oddity::Body]));
        assert_eq!(parse(&typed("80"), sdp), (sdp.into(), vec![Oddity::Body]));
        assert_eq!(parse(&typed("-1"), sdp), (sdp.into(), vec![Oddity::ContentLength]));
        assert_eq!(parse(&typed("99999999999999999999999"), sdp), (sdp.into(), vec![Oddity::ContentLength]));
        assert_eq!(parse("l: 10\r\nContent-Length: 10\r\nc: application/sdp\r\n", sdp).1, []);
        assert_eq!(parse("c: application/sdp\r\n", sdp), (sdp.into(), vec![]));
        // Several messages, none of which says where it ends.
        assert_eq!(parse("", next), (String::new(), vec![]));
        assert_eq!(
            parse("c: message/sipfrag\r\n", "SIP/2.0 200 OK\r\n"),
            ("SIP/2.0 200 OK\r\n".into(), vec![])
        );
    }

    #[test]
    fn methods_of_any_name() {
        for line in [
            "PING sip:a@b SIP/2.0\r\n",
            "x-!%_ tel:+1 sip/2.0\n",
            "INVITE sip:a@b\r\n",
            "ack sip:a@b SIP/3.0\r\n",
        ] {
            assert!(looks_like_sip(line.as_bytes()), "{line}");
        }
        for line in [
            "PING sip:a@b\r\n",
            "PING sip:a@b SIP/3.0\r\n",
            "GET / SIP/2.0\r\n",
            "Via: SIP/2.0/UDP a: SIP/2.0\r\n",
            " SIP/2.0\r\n",
        ] {
            assert!(!looks_like_sip(line.as_bytes()), "{line}");
        }
        // Junk is not of the method's name.
        assert_eq!(start_of_message(b"xxINVITE sip:a@b SIP/2.0\r\n"), Some(2));
        assert!(!looks_like_sip(b"xxINVITE sip:a@b SIP/2.0\r\n"));
    }

    #[test]
    fn a_status_that_is_none_is_known_as_that() {
        for (line, expected) in [
            ("SIP/2.0 200 OK", Some(200)),
            ("sip/2.0 100", Some(100)),
            ("SIP/2.0 2000 OK", Some(0)),
            ("SIP/2.0 099", Some(0)),
            ("SIP/2.0 700", Some(0)),
            ("SIP/2.0 OK", None),
            ("SIP/2.0200 OK", None),
        ] {
            let status = Message::parse(line.as_bytes()).map(|message| {
                let StartLine::Response { status, .. } = message.start else { panic!("{line}") };
                assert_eq!(message.oddities().contains(Oddity::StatusCode), status == 0, "{line}");
                status
            });
            assert_eq!(status, expected, "{line}");
        }
    }

    #[test]
    fn hundreds_of_via_and_route_fields() {
        let vias = "Via: SIP/2.0/UDP host.example.com;branch=z9hG4bK1\r\nRoute: <sip:p1.example.com;lr>\r\n"
            .repeat(700);
        let text = format!(
            "INVITE sip:a@b SIP/2.0\r\n{vias}f: <sip:a@b>;tag=1\r\nt: sip:b@b\r\ni: x\r\n\
            CSeq: 1 INVITE\r\nl: 3\r\n\r\nv=0"
        );
        let message = Message::parse(text.as_bytes()).unwrap();
        assert_eq!((message.call_id, message.from().tag()), (Some(&b"x"[..]), Some(&b"1"[..])));
        assert!(message.oddities().is_empty() && message.body == b"v=0");
    }

    #[test]
    fn not_sip() {
        for text in [
            &b"OPTIONS * HTTP/1.1\r\n\r\n"[..],
            b"OPTIONS rtsp://x RTSP/1.0\r\n",
            b"\x80\x00",
            b"hello",
            b"",
            b"\r\n\r\n",
        ] {
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
