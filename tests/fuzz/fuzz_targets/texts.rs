//! Texts by which recordings are controlled or described: any bytes are one or none. The first byte says
//! which, and where a stream is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spantape_core::trigger::record_server;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, text)) = data.split_first() else { return };
    record_control(usize::from(choice), text);
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
