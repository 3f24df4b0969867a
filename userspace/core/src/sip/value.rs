//! Values of header fields.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use percent_encoding::percent_decode;

/// White space, line ends of folded fields included.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// CSeq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Sequence number; 0 when there is none, the greatest there is when it is greater.
    pub number: u32,
    /// Method.
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    pub(super) fn parse(value: &'a [u8]) -> CSeq<'a> {
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = value[..digits]
            .iter()
            .fold(0u32, |sum, digit| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
        CSeq { number, method: trim(&value[digits..]) }
    }
}

/// The value of From, To, Contact or Refer-To: a name-addr or addr-spec with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// Display name without its quotes; escapes are left as they are.
    pub display: &'a [u8],
    /// URI with its own parameters.
    pub uri: &'a [u8],
    /// What follows the URI.
    parameters: &'a [u8],
}

impl<'a> Address<'a> {
    /// Takes the value apart; whatever it is, some address comes out.
    pub fn parse(value: &'a [u8]) -> Address<'a> {
        let value = trim(value);
        let (display, rest) = match value.first() {
            Some(b'"') => match closing_quote(value) {
                Some(end) => (&value[1..end], &value[end + 1..]),
                // Whoever forgot the quote meant the name to end before the URI.
                None => {
                    let end = memchr(b'<', value).unwrap_or(value.len());
                    (trim(&value[1..end]), &value[end..])
                }
            },
            _ => match memchr(b'<', value) {
                Some(open) => (trim(&value[..open]), &value[open..]),
                None => (&value[..0], value),
            },
        };
        let (uri, parameters) = match memchr(b'<', rest) {
            Some(open) => {
                let inner = &rest[open + 1..];
                let close = memchr(b'>', inner).unwrap_or(inner.len());
                (&inner[..close], inner.get(close + 1..).unwrap_or_default())
            }
            // Without brackets, parameters belong to the header field (RFC 3261, 20.10); but a user may have
            // semicolons in it.
            None => {
                let at = memchr(b'@', rest).unwrap_or(0);
                rest.split_at(memchr(b';', &rest[at..]).map_or(rest.len(), |end| at + end))
            }
        };
        Address { display, uri: trim(uri), parameters }
    }

    /// Whether a value is one by the grammar (RFC 3261, 25.1), as far as it is taken apart here.
    pub(super) fn is_well_formed(value: &[u8]) -> bool {
        let value = trim(value);
        let rest = match value.first() {
            Some(b'"') => match closing_quote(value) {
                Some(end) if trim(&value[end + 1..]).first() == Some(&b'<') => &value[end + 1..],
                _ => return false,
            },
            _ => value,
        };
        match memchr(b'<', rest) {
            Some(open) => {
                let is_name = |byte: &u8| byte.is_ascii_whitespace() || is_token(byte);
                let Some(close) = memchr(b'>', &rest[open..]) else { return false };
                rest[..open].iter().all(is_name) && is_uri(&rest[open + 1..open + close])
            }
            None => is_uri(Address::parse(rest).uri),
        }
    }

    /// The display name for people: without escapes.
    pub fn display_text(&self) -> Cow<'a, str> {
        if memchr(b'\\', self.display).is_none() {
            return text(self.display);
        }
        let mut plain = Vec::with_capacity(self.display.len());
        let mut bytes = self.display.iter();
        while let Some(&byte) = bytes.next() {
            // A quoted pair (RFC 3261, 25.1).
            let byte = if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte };
            plain.push(byte);
        }
        Cow::Owned(text(&plain).into_owned())
    }

    /// [`Address::user`] for people: without escapes (RFC 3261, 19.1.2).
    pub fn user_text(&self) -> Cow<'a, str> {
        let user = self.user();
        match Cow::from(percent_decode(user)) {
            Cow::Borrowed(_) => text(user),
            Cow::Owned(user) => Cow::Owned(text(&user).into_owned()),
        }
    }

    /// The tag parameter.
    pub fn tag(&self) -> Option<&'a [u8]> {
        parameter(self.parameters, b"tag")
    }

    /// Whether a parameter stands after the URI, with a value or without.
    pub fn has_parameter(&self, name: &[u8]) -> bool {
        let mut names = self.parameters.split(|&byte| byte == b';');
        names.any(|part| {
            let end = memchr(b'=', part).unwrap_or(part.len());
            trim(&part[..end]).eq_ignore_ascii_case(name)
        })
    }

    /// A parameter of the URI itself.
    pub fn uri_parameter(&self, name: &[u8]) -> Option<&'a [u8]> {
        parameter(&self.uri[self.bare_uri().len()..], name)
    }

    /// The user part of the URI; the host where there is none, so that a party always has a name.
    pub fn user(&self) -> &'a [u8] {
        let (user, host) = self.user_and_host();
        if user.is_empty() { host } else { user }
    }

    /// The URI without parameters and headers.
    pub fn bare_uri(&self) -> &'a [u8] {
        let at = memchr(b'@', self.uri).unwrap_or(0);
        let end = memchr2(b';', b'?', &self.uri[at..]).map_or(self.uri.len(), |end| at + end);
        &self.uri[..end]
    }

    fn user_and_host(&self) -> (&'a [u8], &'a [u8]) {
        let uri = self.uri;
        let rest = match memchr(b':', uri) {
            Some(colon) if uri[..colon].iter().all(u8::is_ascii_alphabetic) => &uri[colon + 1..],
            _ => uri,
        };
        match memchr(b'@', rest) {
            Some(at) => {
                let user = &rest[..at];
                // A password, or the parameters of a telephone number (`+49;phone-context=…`).
                let end = memchr2(b':', b';', user).unwrap_or(user.len());
                (&user[..end], &rest[at + 1..])
            }
            None => {
                let end = rest.iter().position(|byte| b";?>:".contains(byte)).unwrap_or(rest.len());
                // tel:+4930123 has no host.
                if uri.len() >= 4 && uri[..4].eq_ignore_ascii_case(b"tel:") {
                    (&rest[..end], b"")
                } else {
                    (b"", &rest[..end])
                }
            }
        }
    }
}

/// Nothing but what may stand in a URI, behind a scheme.
fn is_uri(uri: &[u8]) -> bool {
    memchr(b':', uri).is_some() && uri.iter().all(|byte| byte.is_ascii_graphic() && !b"<>".contains(byte))
}

/// RFC 3261, 25.1.
pub(super) fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(byte)
}

/// Text as it was meant: UTF-8, or else ISO 8859-1, which is what phones send that send no UTF-8, and in which any
/// bytes are text. So whatever stands there can be told from what else may stand there.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

fn closing_quote(value: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < value.len() {
        match value[at] {
            b'\\' => at += 2,
            b'"' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// The value of `;name=value` in a list of parameters.
pub fn parameter<'a>(parameters: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    parameters.split(|&byte| byte == b';').find_map(|part| {
        let equals = memchr(b'=', part)?;
        let value = trim(&part[equals + 1..]);
        trim(&part[..equals]).eq_ignore_ascii_case(name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_after_the_uri_and_in_it() {
        let contact = Address::parse(b"<sip:pc@192.0.2.1;conf-id=mT;transport=udp>;+a=\"x\";IsFocus");
        assert!(contact.has_parameter(b"isfocus") && contact.has_parameter(b"+a"));
        assert!(!contact.has_parameter(b"conf-id") && !contact.has_parameter(b"focus"));
        assert_eq!(contact.uri_parameter(b"conf-id"), Some(&b"mT"[..]));
        assert_eq!(contact.uri_parameter(b"isfocus"), None);
        assert!(!Address::parse(b"").has_parameter(b"isfocus"));
    }

    #[test]
    fn addresses() {
        let cases: [(&str, &str, &str, Option<&str>); 8] = [
            ("\"A \\\"<b>\" <sip:1009@pbx:5060;user=phone>;tag=x", "A \\\"<b>", "1009", Some("x")),
            ("<sip:1009@pbx>", "", "1009", None),
            ("sip:1009@pbx;tag=y", "", "1009", Some("y")),
            ("Bob<sips:bob:pw@h> ; TAG = z", "Bob", "bob", Some("z")),
            ("<tel:+4930123;phone-context=x>;tag=1", "", "+4930123", Some("1")),
            ("<sip:host.example>", "", "host.example", None),
            ("<sip:+1;npdi@host>;tag=", "", "+1", Some("")),
            ("", "", "", None),
        ];
        for (text, display, user, tag) in cases {
            let address = Address::parse(text.as_bytes());
            assert_eq!(address.display, display.as_bytes(), "{text}");
            assert_eq!(address.user(), user.as_bytes(), "{text}");
            assert_eq!(address.tag(), tag.map(str::as_bytes), "{text}");
        }
        assert_eq!(Address::parse(b"<sip:a@b:5060;lr?x=y>").bare_uri(), b"sip:a@b:5060");
    }

    #[test]
    fn semicolons_in_a_user_and_a_forgotten_quote() {
        let address = Address::parse(b"sip:user;par=u%40example.net@example.com;tag=x");
        assert_eq!((address.user(), address.tag()), (&b"user"[..], Some(&b"x"[..])));
        assert_eq!(address.bare_uri(), b"sip:user;par=u%40example.net@example.com");
        let address = Address::parse(b"\"Mr. J. User <sip:j.user@example.com>;tag=1");
        assert_eq!((address.display, address.user()), (&b"Mr. J. User"[..], &b"j.user"[..]));
        assert_eq!(address.tag(), Some(&b"1"[..]));
    }

    #[test]
    fn names_for_people() {
        let cases: [(&[u8], &str, &str); 6] = [
            (b"\"A \\\"B\\\\\" <sip:%61lice@h>", "A \"B\\", "alice"),
            (b"\"J\xfcrgen\" <sip:j%FCrgen@h>", "J\u{fc}rgen", "j\u{fc}rgen"),
            ("\"J\u{fc}rgen\" <sip:j%C3%BCrgen@h>".as_bytes(), "J\u{fc}rgen", "j\u{fc}rgen"),
            (b"\"\xff\xfe\" <sip:*97%23@h>", "\u{ff}\u{fe}", "*97#"),
            (b"100% <sip:100%25%@h>", "100%", "100%%"),
            (b"\"x\\\" <sip:y@h>", "x\"", "y"),
        ];
        for (value, display, user) in cases {
            let address = Address::parse(value);
            assert_eq!((&*address.display_text(), &*address.user_text()), (display, user));
        }
    }

    #[test]
    fn well_formed_or_not() {
        for good in
            ["<sip:a@b>;tag=1", "sip:a@b;tag=1", "\"a, b\"<tel:+1>", "A. B <sip:a>", "a\r\n <sip:b@c>"]
        {
            assert!(Address::is_well_formed(good.as_bytes()), "{good}");
        }
        for bad in
            ["", "\"a <sip:b@c>", "\"a\" sip:b@c", "a, b <sip:c@d>", "< sip:a@b >", "<sip:a@b", "alice"]
        {
            assert!(!Address::is_well_formed(bad.as_bytes()), "{bad}");
        }
    }
}
