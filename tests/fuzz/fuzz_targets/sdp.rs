//! SDP: any body is a description or none. The first line is the content type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spantape_core::sdp;

fuzz_target!(|data: &[u8]| {
    let line = data.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (content_type, body) = data.split_at(line);
    if let Some(found) = sdp::find(content_type, body) {
        assert!(found.len() <= body.len());
    }
    for media in sdp::parse(body) {
        for format in &media.formats {
            assert_eq!(media.codec(format.payload_type).is_some(), true);
            let _ = (format.codec.to_string(), format.codec.sample_rate());
            if format.codec.is_decodable() {
                assert!((8000..=192_000).contains(&format.codec.sample_rate()));
            }
        }
        assert!(media.endpoint.is_none_or(|endpoint| endpoint.port != 0));
    }
});
