//! Bodies of several parts (RFC 2046, 5.1).

use super::message::Headers;
use super::value::{parameter, trim};

/// Boundaries known at a time: parts may be multipart themselves.
const MAX_DEPTH: usize = 4;

/// One part of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part<'a> {
    /// Content-Type with its parameters; empty when there is none.
    pub content_type: &'a [u8],
    /// Content-Disposition with its parameters; empty when there is none, or when the body is the only part.
    pub disposition: &'a [u8],
    /// What follows the part's header.
    pub body: &'a [u8],
}

impl Part<'_> {
    /// Whether the part is of this type, such as `application/sdp`, or of one that begins so.
    pub fn is(&self, content_type: &[u8]) -> bool {
        starts_with(self.content_type, content_type)
    }
}

/// The parts of a body, those of parts that are multipart themselves included. A body that is not multipart,
/// or in which no boundary is found, is the one part.
///
/// The boundary is often misquoted: where the one that Content-Type names does not occur, the first line that
/// could be one counts. The last part ends with the body if nothing else says so.
pub fn parts<'a>(content_type: &'a [u8], body: &'a [u8]) -> Parts<'a> {
    let mut parts = Parts { boundaries: Vec::new(), rest: body, whole: None };
    if !starts_with(content_type, b"multipart/") {
        parts.whole = Some(Part { content_type, body, ..Part::default() });
    } else if let Some(boundary) = boundary(content_type, body) {
        parts.boundaries.push(boundary);
        parts.skip_to_part();
    } else {
        parts.whole = Some(Part { body, ..Part::default() });
    }
    parts
}

/// Iterates over the parts of a body.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    boundaries: Vec<&'a [u8]>,
    /// From the header of the next part on.
    rest: &'a [u8],
    /// The body as the one part.
    whole: Option<Part<'a>>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        if self.boundaries.is_empty() {
            return self.whole.take();
        }
        while !self.rest.is_empty() {
            let (part, body_and_rest) = read_header(self.rest);
            if part.is(b"multipart/")
                && self.boundaries.len() < MAX_DEPTH
                && let Some(boundary) = boundary(part.content_type, body_and_rest)
            {
                self.boundaries.push(boundary);
                self.rest = body_and_rest;
                self.skip_to_part();
                continue;
            }
            return Some(Part { body: self.take_body(body_and_rest), ..part });
        }
        None
    }
}

impl<'a> Parts<'a> {
    /// What stands before the next delimiter; goes on to the part behind it.
    fn take_body(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.rest = bytes;
        let mut length = 0;
        for line in lines(bytes) {
            if self.delimiter(line).is_some() {
                break;
            }
            length += line.len();
        }
        self.rest = &bytes[length..];
        self.skip_to_part();
        let body = &bytes[..length];
        if length == bytes.len() {
            return body;
        }
        // The line end before a delimiter belongs to it.
        let body = body.strip_suffix(b"\n").unwrap_or(body);
        body.strip_suffix(b"\r").unwrap_or(body)
    }

    /// Goes on behind the next delimiter that begins a part.
    fn skip_to_part(&mut self) {
        let mut skipped = 0;
        for line in lines(self.rest) {
            skipped += line.len();
            if self.delimiter(line) == Some(Delimiter::Part) {
                break;
            }
        }
        self.rest = &self.rest[skipped..];
    }

    fn delimiter(&self, line: &[u8]) -> Option<Delimiter> {
        self.boundaries.iter().find_map(|boundary| delimiter(line, boundary))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Delimiter {
    /// `--boundary`
    Part,
    /// `--boundary--`
    End,
}

fn delimiter(line: &[u8], boundary: &[u8]) -> Option<Delimiter> {
    match trim(line.strip_prefix(b"--")?.strip_prefix(boundary)?) {
        b"" => Some(Delimiter::Part),
        b"--" => Some(Delimiter::End),
        _ => None,
    }
}

/// The boundary that Content-Type names, if it occurs, or what looks like one.
fn boundary<'a>(content_type: &'a [u8], body: &'a [u8]) -> Option<&'a [u8]> {
    let named = parameter(content_type, b"boundary").map(|value| {
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        value.strip_suffix(b"\"").unwrap_or(value)
    });
    let occurs = |named: &&[u8]| lines(body).any(|line| delimiter(line, named).is_some());
    named.filter(|named| !named.is_empty()).filter(occurs).or_else(|| {
        lines(body).find_map(|line| line.strip_prefix(b"--").map(trim).filter(|rest| !rest.is_empty()))
    })
}

/// The header of the part at the front of `bytes`, and what follows it. The empty line between both may be
/// missing.
fn read_header(bytes: &[u8]) -> (Part<'_>, &[u8]) {
    let mut part = Part::default();
    let mut headers = Headers { rest: bytes };
    while begins_with_field(headers.rest) {
        match headers.next() {
            Some((name, value))
                if name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c") =>
            {
                part.content_type = value;
            }
            Some((name, value)) if name.eq_ignore_ascii_case(b"content-disposition") => {
                part.disposition = value
            }
            Some(_) => {}
            None => break,
        }
    }
    let empty_line = lines(headers.rest).next().filter(|line| trim(line).is_empty()).map_or(0, <[u8]>::len);
    (part, &headers.rest[empty_line..])
}

fn begins_with_field(bytes: &[u8]) -> bool {
    let name = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    name > 0 && bytes[name..].trim_ascii_start().first() == Some(&b':')
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n')
}

fn starts_with(value: &[u8], prefix: &[u8]) -> bool {
    value.get(..prefix.len()).is_some_and(|front| front.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<'a>(content_type: &'a str, body: &'a str) -> Vec<(&'a str, &'a str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        parts(content_type.as_bytes(), body.as_bytes())
            .map(|part| (text(part.content_type), text(part.body)))
            .collect()
    }

    #[test]
    fn two_parts_with_a_preamble_and_an_epilogue() {
        let body = "not this\r\n--a b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\nm=x\r\n\r\n--a b \r\n\
            content-disposition: recording-session\r\nc: application/rs-metadata+xml;\r\n charset=utf-8\r\n\r\n\
            <x/>\r\n--a b--\r\nnor this\r\n";
        let found: Vec<_> = parts(b"Multipart/Mixed; boundary=\"a b\"", body.as_bytes()).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].content_type, found[0].body), (&b"application/sdp"[..], &b"v=0\r\nm=x\r\n"[..]));
        assert_eq!(found[1].content_type, b"application/rs-metadata+xml;\r\n charset=utf-8");
        assert!(found[1].is(b"Application/RS-metadata"));
        assert_eq!((found[1].disposition, found[1].body), (&b"recording-session"[..], &b"<x/>"[..]));
    }

    #[test]
    fn bare_newlines_and_no_last_boundary() {
        let body = "--b\nContent-Type: text/a\n\n1\n--bc\n--b\n\n2\n";
        assert_eq!(read("multipart/mixed;boundary=b", body), [("text/a", "1\n--bc"), ("", "2\n")]);
    }

    #[test]
    fn a_misquoted_boundary_and_no_empty_line() {
        let body = "--b\r\nContent-Type: application/sdp\r\nv=0\r\n--b\r\n\r\n<a b:c='d'/>\r\n--b--";
        let expected = [("application/sdp", "v=0"), ("", "<a b:c='d'/>")];
        for boundary in ["; boundary=other", "", ";boundary=", "; boundary=\""] {
            assert_eq!(read(&format!("multipart/mixed{boundary}").leak()[..], body), expected, "{boundary}");
        }
    }

    #[test]
    fn parts_of_parts() {
        let body = "--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n\
            --i\r\n\r\n1\r\n--i\r\n\r\n2\r\n--i--\r\n\r\n--o\r\n\r\n3\r\n--o--\r\n";
        assert_eq!(read("multipart/mixed;boundary=o", body), [("", "1"), ("", "2"), ("", "3")]);
    }

    #[test]
    fn not_multipart() {
        assert_eq!(read("application/sdp", "--v\r\n"), [("application/sdp", "--v\r\n")]);
        assert_eq!(read("multipart/mixed", "v=0\r\n"), [("", "v=0\r\n")]);
        assert_eq!(read("", ""), [("", "")]);
    }

    proptest! {
        #[test]
        fn never_panics(
            body: Vec<u8>,
            text in "(--b(--)?\r?\n|--c\n|Content-Type: multipart/x; ?boundary=[bc]\r?\n|\r?\n|[ -~]*\n){0,30}",
        ) {
            for body in [&body[..], text.as_bytes()] {
                let all: usize = parts(b"multipart/mixed;boundary=b", body).map(|part| part.body.len()).sum();
                prop_assert!(all <= body.len());
            }
        }
    }
}
