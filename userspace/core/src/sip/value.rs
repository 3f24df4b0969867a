//! Values of header fields.

use memchr::{memchr, memchr2};

/// White space, line ends of folded fields included.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

/// CSeq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Sequence number; 0 when there is none.
    pub number: u32,
    /// Method.
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    pub(super) fn parse(value: &'a [u8]) -> CSeq<'a> {
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = value[..digits]
            .iter()
            .fold(0u32, |sum, digit| sum.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
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
            Some(b'"') => {
                let end = closing_quote(value).unwrap_or(value.len());
                (&value[1..end], value.get(end + 1..).unwrap_or_default())
            }
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
            // Without brackets, parameters belong to the header field (RFC 3261, 20.10).
            None => rest.split_at(memchr(b';', rest).unwrap_or(rest.len())),
        };
        Address { display, uri: trim(uri), parameters }
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
}
