//! Genesys active recording: SIP Server has both legs of a call recorded by a media server (`msml=…;record` in the
//! Request-URI), and that calls the recorder twice, with one party's voice each.

use super::{Carries, Recognised, Voice};
use crate::sdp::Direction;
use crate::sip::Message;
use crate::trigger::msml;

/// The word by which the catalog names this system.
pub const NAME: &str = "genesys";

/// The header field with the call's id in both the call and what records it.
pub const CALL_UUID: &[u8] = b"x-genesys-calluuid";

/// One of the dialogs, if the INVITE begins one. Calls that are not recorded have the id as well: what tells them
/// apart is the Request-URI, a configured recorder, or that the media server only sends.
pub fn recognise(message: &Message<'_>, uri: &[u8], configured: Option<Carries>) -> Option<Recognised> {
    let uuid = message.header(CALL_UUID).map(<[u8]>::trim_ascii).filter(|uuid| !uuid.is_empty());
    let recorder = msml::recorder_uri(uri);
    let only_sends = || {
        let streams = super::streams(message);
        !streams.is_empty() && streams.iter().all(|media| media.direction == Direction::SendOnly)
    };
    let is_session = recorder.is_some()
        || uuid.is_some()
            && configured != Some(Carries::Mixed)
            && (configured.is_some()
                || message.header(b"x-genesys-gvp-session-id").is_some()
                || only_sends());
    if !is_session {
        return None;
    }
    let conference = recorder.as_ref().map(|recorder| [b"msml ", recorder.conference].concat().into());
    let groups: Vec<Box<[u8]>> =
        uuid.map(|uuid| [b"uuid ", uuid].concat().into()).into_iter().chain(conference).collect();
    let dn = recorder.and_then(|recorder| recorder.dn).map(super::text);
    Some(Recognised {
        groups,
        voices: vec![voice(message, dn)],
        originals: uuid.map(Box::from).into_iter().collect(),
        ..Recognised::new(NAME, Carries::Parties)
    })
}

/// A dialog with a configured recorder that says nothing of its call: it goes with another that begins together with
/// it.
pub(super) fn of_configured(message: &Message<'_>) -> Recognised {
    let group = [b"recorder ", message.to().user()].concat().into();
    Recognised {
        groups: vec![group],
        is_pair: true,
        voices: vec![voice(message, None)],
        ..Recognised::new(NAME, Carries::Parties)
    }
}

fn voice(message: &Message<'_>, dn: Option<String>) -> Voice {
    let from = message.from();
    // Without a DN it may as well be the media server's own.
    let is_known = dn.is_some();
    let user = dn.unwrap_or_else(|| super::text(from.user()));
    Voice { uri: super::text(from.bare_uri()), name: super::text(from.display), user, side: None, is_known }
}

#[cfg(test)]
mod tests {
    use super::super::Recorder;
    use super::super::tests::recognised;
    use super::*;
    use crate::rules::glob;

    fn invite(uri: &str, more: &str, body: &str) -> String {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\n" };
        format!(
            "INVITE {uri} SIP/2.0\nFrom: <sip:7001@a>;tag=1\nTo: <sip:rec@b>\nCall-ID: x\n{more}{kind}\n{body}"
        )
    }

    const UUID: &str = "X-Genesys-CallUUID: 0A1B2C\n";

    #[test]
    fn what_is_a_session() {
        let by_uri = recognised(&invite("sip:msml=c1@mcp;dn=7002;record", UUID, ""), &[]).unwrap();
        assert_eq!(by_uri.groups, [b"uuid 0A1B2C".as_slice().into(), b"msml c1".as_slice().into()]);
        assert_eq!(by_uri.voices[0].user, "7002");
        assert_eq!(by_uri.originals, [b"0A1B2C".as_slice().into()]);
        let only_sends = "v=0\nc=IN IP4 10.0.0.1\nm=audio 4000 RTP/AVP 0\na=sendonly\n";
        assert!(recognised(&invite("sip:rec@b", UUID, only_sends), &[]).is_some());
        assert!(recognised(&invite("sip:rec@b", "", only_sends), &[]).is_none());
        let recorders = [Recorder { uri: glob("rec@*").unwrap(), carries: Carries::Parties }];
        assert!(recognised(&invite("sip:rec@b", UUID, ""), &recorders).is_some_and(|found| !found.is_pair));
    }

    #[test]
    fn an_ordinary_call_has_the_id_too() {
        let both = "v=0\nc=IN IP4 10.0.0.1\nm=audio 4000 RTP/AVP 0\n";
        assert!(recognised(&invite("sip:7002@b", UUID, both), &[]).is_none());
    }
}
