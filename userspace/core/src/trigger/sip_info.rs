//! `Record: on|off` in SIP INFO: Yealink, Snom F_RECORD, Fanvil and Becke.

use super::Verb;
use crate::sip::Message;

/// The word by which the catalog names this system.
pub const NAME: &str = "sip-info";

/// What an INFO asks for, if it asks for anything. As in FreeSWITCH, whatever is not `on` means off.
pub fn verb(message: &Message<'_>, headers: &[String]) -> Option<Verb> {
    let value = headers.iter().find_map(|name| message.header(name.as_bytes()))?;
    Some(if value.eq_ignore_ascii_case(b"on") { Verb::Start } else { Verb::Stop })
}

/// The keys of an INFO with `application/dtmf-relay` (`Signal=5`) or `application/dtmf` (`5`).
pub fn key(message: &Message<'_>) -> Option<char> {
    let content_type = message.content_type?;
    let kind = content_type.split(|&byte| byte == b';').next()?.trim_ascii();
    let value = if kind.eq_ignore_ascii_case(b"application/dtmf-relay") {
        message.body.split(|&byte| byte == b'\n').find_map(|line| {
            let equals = memchr::memchr(b'=', line)?;
            line[..equals]
                .trim_ascii()
                .eq_ignore_ascii_case(b"signal")
                .then(|| line[equals + 1..].trim_ascii())
        })?
    } else if kind.eq_ignore_ascii_case(b"application/dtmf") {
        message.body.trim_ascii()
    } else {
        return None;
    };
    match value {
        [key] => Some(char::from(*key)).filter(|key| "0123456789*#ABCDabcd".contains(*key)),
        // Some phones send the event's number.
        b"10" => Some('*'),
        b"11" => Some('#'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(rest: &str) -> String {
        format!("INFO sip:a@b SIP/2.0\r\n{rest}")
    }

    #[test]
    fn on_in_any_case_and_off_for_the_rest() {
        let headers = ["Record".to_owned(), "X-Record".to_owned()];
        let verb = |text: &str| verb(&Message::parse(info(text).as_bytes()).unwrap(), &headers);
        assert_eq!(verb("record: On\r\n\r\n"), Some(Verb::Start));
        assert_eq!(verb("X-record:off\r\n\r\n"), Some(Verb::Stop));
        assert_eq!(verb("Records: on\r\n\r\n"), None);
    }

    #[test]
    fn keys() {
        let key = |text: &str| key(&Message::parse(info(text).as_bytes()).unwrap());
        assert_eq!(
            key("Content-Type: application/dtmf-relay\r\n\r\nSignal= 5\r\nDuration=160\r\n"),
            Some('5')
        );
        assert_eq!(key("Content-Type: application/dtmf\r\n\r\n11"), Some('#'));
        assert_eq!(key("Content-Type: application/sdp\r\n\r\n5"), None);
    }
}
