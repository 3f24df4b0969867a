//! Texts by which recordings are controlled or described: any bytes are one or none. The first byte says into
//! what pieces a stream is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spantape_core::association::{self, KeyLog};
use spantape_core::recording_session::siprec;
use spantape_core::sip::multipart;
use spantape_core::srtp::{MasterKey, Sealed, Session};
use spantape_core::trigger::{genesys_log, msml, record_server};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    record_control(usize::from(choice), text);
    metadata(text);
    log(text);
    let _ = (msml::request(text), msml::result(text), msml::is_msml(text));
    keys(text);
    let _ = msml::recorder_uri(text).map(|uri| assert!(!uri.conference.is_empty()));
});

fn record_control(size: usize, text: &[u8]) {
    let messages = |size: usize| {
        let (mut framer, mut messages) = (record_server::Framer::default(), Vec::new());
        let mut note = |message: record_server::Message<'_>| {
            let typed = (message.direction(), message.succeeded(), message.server(), message.port());
            messages.push((message.kind, message.id().map(|id| id.into_owned()), typed));
        };
        for piece in text.chunks(size) {
            framer.add(piece, &mut note);
        }
        framer.finish(&mut note);
        assert!(framer.skipped() <= text.len() as u64);
        messages
    };
    let whole = messages(text.len().max(1));
    assert_eq!(whole, messages(1 + size));
    assert!(!record_server::looks_like_control(text) || !whole.is_empty() || text.len() > 4096);
}

/// What goes beside media, and what tells keys.
fn keys(text: &[u8]) {
    if let Some(inner) = association::relayed(text) {
        assert!(inner.len() < text.len());
    }
    let _ = (association::Kind::of(text), association::username(text));
    let mut log = KeyLog::default();
    let lines = log.add(text);
    assert!(log.len() <= lines);
    let Ok(words) = std::str::from_utf8(text) else { return };
    for session in MasterKey::from_attribute(words).iter().filter_map(Session::derive) {
        let (header, body) = text.split_at(text.len().min(12));
        let packet = Sealed { header, body, sequence: 1, ssrc: 2 };
        let opened = session.open(&packet, 0..2, &mut Vec::new());
        assert!(opened.is_none() || !session.is_authenticated());
    }
}

/// The first line is the content type.
fn metadata(text: &[u8]) {
    let line = text.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (content_type, body) = text.split_at(line);
    let lengths = multipart::parts(content_type, body).map(|part| part.body.len());
    assert!(lengths.sum::<usize>() <= body.len());
    if let Some(found) = siprec::find(content_type, body) {
        let metadata = siprec::parse(found);
        assert!(metadata.participants.len() <= 64 && metadata.streams.len() <= 64);
        for stream in &metadata.streams {
            let speaker = stream.label.as_deref().and_then(|label| metadata.speaker(label));
            assert!(speaker.is_none_or(|speaker| metadata.participants.contains(speaker)));
        }
    }
    let _ = siprec::parse(text);
}

fn log(text: &[u8]) {
    let mut reader = genesys_log::Reader::default();
    for line in text.split(|&byte| byte == b'\n') {
        if let Some(entry) = reader.line(line) {
            let _ = entry.at.map(|at| at.timestamp(20_000, 0));
        }
    }
    let _ = reader.finish();
}
