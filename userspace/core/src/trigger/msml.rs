//! MSML in SIP INFO: Genesys' SIP Server tells its media server to record.

use super::Verb;
use crate::xml::{self, Element, Token};

/// The word by which the catalog names this system.
pub const NAME: &str = "msml";

/// Bytes kept of a conference's name.
const MAX_CONFERENCE: usize = 256;

/// What a body asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub verb: Verb,
    /// Which conference is to be recorded: what stands behind `msml=` in a [`RecorderUri`].
    pub conference: Option<String>,
}

/// What a body answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// As in SIP: 200 is good.
    pub code: u16,
}

/// Whether a body of this Content-Type is MSML: `application/msml+xml`, `application/vnd.radisys.msml+xml`…
pub fn is_msml(content_type: &[u8]) -> bool {
    let kind = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    kind.windows(4).any(|word| word.eq_ignore_ascii_case(b"msml"))
}

/// What a body asks of a recorder, if it asks for anything. Of several requests, the first.
pub fn request(body: &[u8]) -> Option<Request> {
    let (mut conference, mut verb) = (None, None);
    xml::read(body, |token| {
        let Token::Open(element) = token else { return };
        if verb.is_some() {
            return;
        }
        let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(element.name()));
        if is(&["createconference", "modifyconference"]) {
            conference = self::conference(&element);
        } else if is(&["recorder", "record"]) {
            verb = element.attribute(&["state"]).and_then(|state| self::verb(&state));
        }
    });
    verb.map(|verb| Request { verb, conference })
}

/// What a body answers, if it is an answer.
pub fn result(body: &[u8]) -> Option<Response> {
    let mut response = None;
    xml::read(body, |token| {
        if let Token::Open(element) = token
            && response.is_none()
            && element.name().eq_ignore_ascii_case("result")
        {
            response = element.attribute(&["response"]).and_then(|code| code.parse().ok());
        }
    });
    response.map(|code| Response { code })
}

/// The words are not documented in public; `suspend` is what CSTA calls a pause.
fn verb(state: &str) -> Option<Verb> {
    let verbs = [
        ("start", Verb::Start),
        ("stop", Verb::Stop),
        ("pause", Verb::Pause),
        ("suspend", Verb::Pause),
        ("resume", Verb::Resume),
    ];
    verbs.into_iter().find(|(name, _)| state.eq_ignore_ascii_case(name)).map(|(_, verb)| verb)
}

/// `conf:NAME` (RFC 5707, 7.1), or the name.
fn conference(element: &Element<'_>) -> Option<String> {
    let id = element.attribute(&["id", "name"])?;
    let name = match id.get(..5) {
        Some(kind) if kind.eq_ignore_ascii_case("conf:") => id[5..].split('/').next().unwrap_or_default(),
        _ => id.as_str(),
    };
    (!name.is_empty() && name.len() <= MAX_CONFERENCE).then(|| name.to_owned())
}

/// The Request-URI by which a media server is asked to record a leg of a call:
/// `sip:msml=CONFERENCE@host;dn=7001;record`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderUri<'a> {
    /// The same for both legs of a call.
    pub conference: &'a [u8],
    /// The directory number that is recorded.
    pub dn: Option<&'a [u8]>,
}

/// Takes a recorder's URI apart; `None` for any other, that of an announcement included. It has `record` or
/// `media-service=record`.
pub fn recorder_uri(uri: &[u8]) -> Option<RecorderUri<'_>> {
    let colon = memchr::memchr(b':', uri)?;
    let (mut conference, mut dn, mut records) = (None, None, false);
    for part in uri[colon + 1..].split(|byte| b";@?&".contains(byte)) {
        let equals = memchr::memchr(b'=', part);
        let (name, value) = part.split_at(equals.unwrap_or(part.len()));
        let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
        let is = |wanted: &[u8]| name.trim_ascii().eq_ignore_ascii_case(wanted);
        if is(b"msml") {
            conference = conference.or(Some(value));
        } else if is(b"dn") {
            dn = dn.or(Some(value).filter(|dn| !dn.is_empty()));
        } else if is(b"record") || (is(b"media-service") && value.eq_ignore_ascii_case(b"record")) {
            records = true;
        }
    }
    let conference = conference.filter(|conference| records && !conference.is_empty())?;
    Some(RecorderUri { conference, dn })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(body: &str) -> Option<(Verb, Option<String>)> {
        request(body.as_bytes()).map(|request| (request.verb, request.conference))
    }

    #[test]
    fn requests() {
        let body = "<?xml version=\"1.0\"?>\n<msml version=\"1.1\" xmlns:gvp=\"http://x\">\n\
            <modifyconference id=\"conf:0a1B\"><gvp:recorder state=\"Pause\"/></modifyconference></msml>";
        assert_eq!(asked(body), Some((Verb::Pause, Some("0a1B".into()))));
        let body = "<msml><CreateConference name='c'><x><recorder STATE='start'>&</x></createconference>";
        assert_eq!(asked(body), Some((Verb::Start, Some("c".into()))));
        let body =
            "<msml><modifyconference id='CONF:c/dialog:d'><record state='suspend'/><record state='stop'/>";
        assert_eq!(asked(body), Some((Verb::Pause, Some("c".into()))));
        assert_eq!(asked("<msml><record/><gvp:record state='resume'/>"), Some((Verb::Resume, None)));
        assert_eq!(asked("<m:msml><m:recorder state='stop'/></m:msml>"), Some((Verb::Stop, None)));
        assert_eq!(
            asked("<msml><modifyconference id='c'><recorder state='ready'/></modifyconference>"),
            None
        );
        assert_eq!(asked("<msml><dialogstart state='stop'/></msml>"), None);
    }

    #[test]
    fn results() {
        let code = |body: &str| result(body.as_bytes()).map(|response| response.code);
        assert_eq!(code("<msml><result response=\"200\"><confid>c</confid></result></msml>"), Some(200));
        assert_eq!(code("<a:result mark='1' response=' 431 '/>"), Some(431));
        assert_eq!(code("<result/>"), None);
        assert_eq!(code("<msml><record state='start' response='200'/></msml>"), None);
    }

    #[test]
    fn content_types() {
        assert!(is_msml(b"application/msml+xml"));
        assert!(is_msml(b"Application/vnd.radisys.MSML+xml; charset=utf-8"));
        assert!(!is_msml(b"application/xml; profile=msml"));
        assert!(!is_msml(b""));
    }

    #[test]
    fn uris() {
        let uri = |text: &'static str| {
            recorder_uri(text.as_bytes()).map(|uri| {
                let text = |bytes| std::str::from_utf8(bytes).unwrap();
                (text(uri.conference), uri.dn.map(text))
            })
        };
        assert_eq!(uri("sip:msml=0a1B-c@10.0.0.1:5060;dn=7001;record"), Some(("0a1B-c", Some("7001"))));
        let text = "SIP:MSML=c@h;transport=tcp;Media-Service=Record;tenant-dbid=1;DN=7001";
        assert_eq!(uri(text), Some(("c", Some("7001"))));
        assert_eq!(uri("sips:msml=c;dn=@h;record=1"), Some(("c", None)));
        assert_eq!(uri("sip:msml=c@h;media-service=treatment"), None);
        assert_eq!(uri("sip:msml=@h;record"), None);
        assert_eq!(uri("sip:7001@h;record"), None);
        assert_eq!(uri("msml=c"), None);
    }

    proptest! {
        #[test]
        fn never_panics(
            bytes: Vec<u8>,
            text in "(<(create|modify)conference id='.{0,9}'>|<record state='[a-z]*'/>){0,9}",
        ) {
            for body in [&bytes[..], text.as_bytes()] {
                let _ = (request(body), result(body), is_msml(body), recorder_uri(body));
            }
        }
    }
}
