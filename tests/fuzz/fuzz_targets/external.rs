//! Payloads of codecs that a program outside decodes. First byte: the codec; then the payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spantape_core::codec::Codec;
use spantape_core::codec::external::{External, Frame};

const CODECS: [(&str, u32, &str); 9] = [
    ("G729", 8000, ""),
    ("G723", 8000, ""),
    ("iLBC", 8000, "mode=20"),
    ("iLBC", 8000, "mode=30"),
    ("AMR", 8000, ""),
    ("AMR", 8000, "octet-align=1"),
    ("AMR-WB", 16_000, ""),
    ("AMR-WB", 16_000, "octet-align=1"),
    ("speex", 32_000, ""),
];

fuzz_target!(|data: &[u8]| {
    let Some((first, payload)) = data.split_first() else { return };
    let (name, clock, fmtp) = CODECS[usize::from(*first) % CODECS.len()];
    let codec = Codec::from_rtpmap(name, clock, 1).with_parameters(fmtp);
    let format = External::of(&codec, payload).expect("a codec that is decoded outside");
    let Ok(frames) = format.frames(&codec, payload) else { return };
    assert!(!frames.is_empty());
    for frame in frames {
        if let Frame::Speech(bytes) = frame {
            assert!(!bytes.is_empty() && bytes.len() <= payload.len() + 1);
        }
    }
});
