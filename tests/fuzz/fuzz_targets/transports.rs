//! What carries messages: WebSocket frames, HEP, SCTP. The first byte says into what pieces a stream is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spantape_core::reassembly::sctp::Messages;
use spantape_core::time::Timestamp;
use spantape_core::wire::{Endpoint, FlowKey, SctpPacket};
use spantape_core::{hep, websocket};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let size = 1 + usize::from(choice);
    web_socket(size, bytes);
    copies(size, bytes);
    chunks(size, bytes);
});

fn web_socket(size: usize, bytes: &[u8]) {
    let messages = |size: usize| {
        let (mut framer, mut messages) = (websocket::Framer::default(), Vec::new());
        for piece in bytes.chunks(size) {
            framer.add(piece, |message| {
                messages.push(match message {
                    websocket::Message::Sip(text) => text.to_vec(),
                    websocket::Message::Unread => Vec::new(),
                });
            });
        }
        assert!(messages.iter().all(|message| message.len() <= 256 * 1024));
        messages
    };
    // After a wrong frame it goes on where a piece begins with one.
    let _ = (websocket::begins_sip(bytes), messages(size), messages(bytes.len().max(1)));
}

fn copies(size: usize, bytes: &[u8]) {
    let copies = |size: usize| {
        let (mut framer, mut copies) = (hep::Framer::default(), Vec::new());
        for piece in bytes.chunks(size) {
            framer.add(piece, |copy| copies.push(copy.to_vec()));
        }
        copies
    };
    let whole = copies(bytes.len().max(1));
    assert_eq!(whole, copies(size));
    for copy in whole.iter().map(Vec::as_slice).chain([bytes]) {
        assert!(hep::parse(copy).is_none_or(|copied| copied.payload.len() <= copy.len()));
        assert!(hep::is_copy(copy) || hep::parse(copy).is_none());
    }
}

fn chunks(size: usize, bytes: &[u8]) {
    let end = |port| Endpoint { ip: 1, port };
    let flow = FlowKey { source: end(5060), destination: end(5062) };
    let mut messages = Messages::new(4);
    let mut length = 0;
    for (at, chunks) in (0..).zip(bytes.chunks(size)) {
        let found = messages.add(Timestamp(at), &flow, &SctpPacket { tag: 1, chunks });
        length += found.iter().map(|message| message.len()).sum::<usize>();
    }
    assert!(length <= bytes.len() && messages.waiting() <= 4);
}
