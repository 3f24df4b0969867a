//! `X-AC-Action` in SIP INFO: AudioCodes' gateways and session border controllers.

use super::Verb;
use crate::sip::Message;

/// The word by which the catalog names this system.
pub const NAME: &str = "audiocodes";

/// What an INFO asks for, if it asks for anything.
pub fn verb(message: &Message<'_>) -> Option<Verb> {
    // Parameters may follow: `start-siprec;recorded-side=both`.
    let action = message.header(b"x-ac-action")?.split(|&byte| byte == b';').next()?.trim_ascii();
    let verbs = [
        (&b"start-siprec"[..], Verb::Start),
        (b"stop-siprec", Verb::Stop),
        (b"pause-siprec", Verb::Pause),
        (b"resume-siprec", Verb::Resume),
    ];
    verbs.into_iter().find(|(name, _)| action.eq_ignore_ascii_case(name)).map(|(_, verb)| verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_actions_in_any_case() {
        let verb = |action: &str| {
            let text = format!("INFO sip:a@b SIP/2.0\r\nX-AC-Action: {action}\r\n\r\n");
            verb(&Message::parse(text.as_bytes()).unwrap())
        };
        assert_eq!(verb("start-siprec"), Some(Verb::Start));
        assert_eq!(verb("Stop-SIPRec ;recorded-side=both"), Some(Verb::Stop));
        assert_eq!(verb("pause-siprec"), Some(Verb::Pause));
        assert_eq!(verb("resume-siprec"), Some(Verb::Resume));
        assert_eq!(verb("reset-siprec"), None);
    }
}
