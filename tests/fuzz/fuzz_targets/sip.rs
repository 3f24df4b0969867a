//! SIP: any bytes are a message or none, and a stream gives the same messages wherever it is cut. The first
//! bytes say where.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spantape_core::sip::{Framer, Message, Oddity, StartLine};

fuzz_target!(|data: &[u8]| {
    let Some((cuts, text)) = data.split_at_checked(4) else { return };
    if let Some(message) = Message::parse(text) {
        assert!(message.length <= text.len());
        assert!(message.body.len() <= message.length);
        assert!(message.length > 0);
        let _ = (message.from().user(), message.to().bare_uri(), message.cseq(), message.header(b"via"));
        let _ = (message.from().user_text(), message.to().display_text());
        let is_known = |oddity| message.oddities().contains(oddity);
        assert_eq!(is_known(Oddity::CallId), message.call_id.is_none_or(<[u8]>::is_empty));
        if let StartLine::Response { status, .. } = message.start {
            assert_eq!(is_known(Oddity::StatusCode), !(100..700).contains(&status));
        }
    }
    let whole = messages(&[text]);
    let mut pieces = Vec::new();
    let mut rest = text;
    for cut in cuts.iter().cycle().take(text.len()) {
        let (piece, after) = rest.split_at(rest.len().min(1 + usize::from(*cut)));
        pieces.push(piece);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    assert_eq!(whole, messages(&pieces));
});

fn messages(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut framer = Framer::default();
    let mut messages = Vec::new();
    for piece in pieces {
        framer.add(piece, |message| messages.push(message.bytes().to_vec()));
    }
    messages
}
