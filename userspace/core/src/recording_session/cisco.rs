//! Cisco's built-in bridge: the phone sends what it hears and what it says to the recorder in two calls, which
//! Unified CM sets up. Their From URIs differ in `x-nearend` and `x-farend`.

use super::{Carries, Recognised, Voice};
use crate::record::Side;
use crate::sip::Message;

/// The word by which the catalog names this system.
pub const NAME: &str = "cisco-bib";

/// One of both calls, if the INVITE begins one.
pub fn recognise(message: &Message<'_>) -> Option<Recognised> {
    let from = message.header(b"from").or_else(|| message.header(b"f"))?;
    let has = |name: &[u8]| parameters(from).any(|(known, _)| known.eq_ignore_ascii_case(name));
    let value = |name: &[u8]| {
        let found = parameters(from).find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).filter(|value| !value.is_empty())
    };
    let (near, far) = (has(b"x-nearend"), has(b"x-farend"));
    if near == far {
        return None;
    }
    let address = |name| value(name).map(super::text).unwrap_or_default();
    let (near_user, far_user) = (address(b"x-nearendaddr"), address(b"x-farendaddr"));
    // Nothing says who has called whom. The phone that records is taken for the caller unless the call is seen.
    let (user, side) =
        if near { (near_user.clone(), Side::Caller) } else { (far_user.clone(), Side::Callee) };
    let voice = Voice { uri: user.clone(), user, name: String::new(), side: Some(side), is_known: true };
    let group = value(b"x-refci").map(|reference| [b"x-refci ", reference].concat().into());
    let users = [near_user, far_user].into_iter().filter(|user| !user.is_empty()).collect();
    Some(Recognised {
        is_pair: group.is_none(),
        groups: vec![group.unwrap_or_else(|| b"x-refci".as_slice().into())],
        voices: vec![voice],
        users,
        ..Recognised::new(NAME, Carries::Parties)
    })
}

/// What stands between semicolons, wherever in the value.
fn parameters(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    value.split(|byte| matches!(byte, b';' | b'<' | b'>')).skip(1).map(|part| {
        let equals = memchr::memchr(b'=', part);
        let (name, value) = part.split_at(equals.unwrap_or(part.len()));
        (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::recognised;
    use super::*;

    #[test]
    fn both_calls_have_one_group() {
        let invite = |end: &str| {
            let from = format!(
                "<sip:7001@10.1.1.1;{end};x-refci=27;x-nearendclusterid=c;x-nearenddevice=SEP1;x-nearendaddr=7001;\
                 x-farendrefci=28;x-farenddevice=SEP2;x-farendaddr=7002>;tag=1"
            );
            recognised(
                &format!("INVITE sip:rec@b SIP/2.0\nFrom: {from}\nTo: <sip:rec@b>\nCall-ID: {end}\n\n"),
                &[],
            )
        };
        let (near, far) = (invite("x-nearend").unwrap(), invite("x-farend").unwrap());
        assert_eq!(near.groups, far.groups);
        assert!(!near.is_pair);
        assert_eq!((near.voices[0].user.as_str(), near.voices[0].side), ("7001", Some(Side::Caller)));
        assert_eq!((far.voices[0].user.as_str(), far.voices[0].side), ("7002", Some(Side::Callee)));
        assert_eq!(near.users, ["7001", "7002"]);
        assert!(invite("x-other").is_none());
    }
}
