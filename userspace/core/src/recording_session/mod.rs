//! Recording sessions: calls by which what is said in another call is sent to a recorder (RFC 7245).
//!
//! Each system that makes them is recognised by the INVITE. What becomes of a session is the call table's.

pub mod cisco;
pub mod genesys;
pub mod siprec;

use regex::Regex;

use crate::record::Side;
use crate::sdp;
use crate::sip::{Address, Message, StartLine};

/// The word by which the catalog names a phone's own conference with a recorder: Snom's *Voice+Recorder* and
/// *Recorder* keys, innovaphone.
pub const RECORDER_LEG: &str = "recorder-leg";

/// What a session carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// One stream in which all are heard.
    Mixed,
    /// A stream for each party.
    Parties,
}

/// A recorder that the configuration names.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Matches `user@host`, or the user alone.
    pub uri: Regex,
    /// What is sent there.
    pub carries: Carries,
}

/// Somebody who is heard in a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voice {
    /// User part of the address of record, or a directory number; empty when it is not known.
    pub user: String,
    /// The address of record.
    pub uri: String,
    /// Display name.
    pub name: String,
    /// On which side, as far as the system tells.
    pub side: Option<Side>,
    /// The user is surely that of whoever is heard, and no other has it.
    pub is_known: bool,
}

/// A session, or one of its dialogs.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// Which system.
    pub system: &'static str,
    /// What it carries.
    pub carries: Carries,
    /// Dialogs that have one of these in common are the same session.
    pub groups: Vec<Box<[u8]>>,
    /// Dialogs are of the same session only if they begin together.
    pub is_pair: bool,
    /// Who is heard in the `m=` sections, in their order; the last one in all that follow.
    pub voices: Vec<Voice>,
    /// By what the call that is recorded may be known.
    pub originals: Vec<Box<[u8]>>,
    /// Users who talk in it, where the voices do not tell.
    pub users: Vec<String>,
    /// What the phone that makes it calls itself.
    pub agent: String,
}

impl Recognised {
    pub(crate) fn new(system: &'static str, carries: Carries) -> Recognised {
        Recognised {
            system,
            carries,
            groups: Vec::new(),
            is_pair: false,
            voices: Vec::new(),
            originals: Vec::new(),
            users: Vec::new(),
            agent: String::new(),
        }
    }
}

/// What an INVITE begins, if that is a recording session.
pub fn recognise(message: &Message<'_>, recorders: &[Recorder]) -> Option<Recognised> {
    let StartLine::Request { method, uri } = message.start else { return None };
    if !method.eq_ignore_ascii_case(b"INVITE") || message.to().tag().is_some() {
        return None;
    }
    if let Some(found) = siprec::recognise(message).or_else(|| cisco::recognise(message)) {
        return Some(found);
    }
    let recorder = recorders.iter().find(|recorder| {
        let called = Address::parse(uri);
        recorder.is(&called) || recorder.is(&message.to())
    });
    let carries = recorder.map(|recorder| recorder.carries);
    if let Some(found) = genesys::recognise(message, uri, carries) {
        return Some(found);
    }
    match carries? {
        Carries::Mixed => {
            let user = text(message.from().user());
            let agent = text(message.header(b"user-agent").unwrap_or_default());
            Some(Recognised { users: vec![user], agent, ..Recognised::new(RECORDER_LEG, Carries::Mixed) })
        }
        Carries::Parties => Some(genesys::of_configured(message)),
    }
}

impl Recorder {
    fn is(&self, address: &Address<'_>) -> bool {
        let uri = text(address.bare_uri());
        let address_only = uri.split_once(':').map_or(uri.as_str(), |(_, rest)| rest);
        self.uri.is_match(address_only) || self.uri.is_match(&text(address.user()))
    }
}

/// The description that a message carries.
fn streams(message: &Message<'_>) -> Vec<sdp::Media> {
    let body = sdp::find(message.content_type.unwrap_or_default(), message.body);
    body.map(sdp::parse).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// User part of an address of record, which may be a bare number.
fn user_of(uri: &str) -> String {
    if !uri.contains([':', '@']) {
        return uri.to_owned();
    }
    text(Address::parse(uri.as_bytes()).user())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::rules::glob;

    /// What an INVITE is taken for.
    pub(crate) fn recognised(invite: &str, recorders: &[Recorder]) -> Option<Recognised> {
        recognise(&Message::parse(invite.replace('\n', "\r\n").as_bytes()).unwrap(), recorders)
    }

    #[test]
    fn a_configured_recorder() {
        let recorders = [
            Recorder { uri: glob("79??@*").unwrap(), carries: Carries::Mixed },
            Recorder { uri: glob("voice").unwrap(), carries: Carries::Parties },
        ];
        let invite =
            |to: &str| format!("INVITE {to} SIP/2.0\nFrom: <sip:1009@a>;tag=1\nTo: <{to}>\nCall-ID: x\n\n");
        let leg = recognised(&invite("sip:7900@10.0.0.1:5060;user=phone"), &recorders).unwrap();
        assert_eq!(
            (leg.system, leg.carries, leg.users),
            (RECORDER_LEG, Carries::Mixed, vec!["1009".to_owned()])
        );
        let parties = recognised(&invite("sip:voice@rec"), &recorders).unwrap();
        assert_eq!((parties.carries, parties.is_pair), (Carries::Parties, true));
        assert!(recognised(&invite("sip:1010@10.0.0.1"), &recorders).is_none());
        let within = invite("sip:7900@a").replace("To: <sip:7900@a>", "To: <sip:7900@a>;tag=2");
        assert!(recognised(&within, &recorders).is_none());
    }
}
