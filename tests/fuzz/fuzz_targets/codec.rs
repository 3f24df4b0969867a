//! Decoders: any payloads in any order, with losses between them, make a bounded number of samples.
#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use spantape_core::codec::{Codec, Decoder};
use spantape_core::rtp::red;

const NAMES: [(&str, u32); 14] = [
    ("PCMU", 8000),
    ("PCMA", 8000),
    ("G722", 8000),
    ("L16", 16_000),
    ("GSM", 8000),
    ("G726-16", 8000),
    ("G726-24", 8000),
    ("G726-32", 8000),
    ("G726-40", 8000),
    ("AAL2-G726-24", 8000),
    ("AAL2-G726-40", 8000),
    ("DVI4", 22_050),
    ("opus", 48_000),
    ("opus", 48_000),
];

/// The Opus library may panic, which the decoder catches: only what is not caught is found here.
static QUIET: Once = Once::new();

fuzz_target!(|data: &[u8]| {
    QUIET.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
    let Some((&first, mut rest)) = data.split_first() else { return };
    let (name, clock) = NAMES[usize::from(first) % NAMES.len()];
    let parameters = if first & 0x80 == 0 { "" } else { "maxplaybackrate=16000" };
    let codec = Codec::from_rtpmap(name, clock, 1).with_parameters(parameters);
    let mut decoder = Decoder::new(&codec).expect("all of them have one");
    let mut samples = Vec::new();
    // Each payload stands behind its length; an odd length has a loss before it.
    while let Some((&length, after)) = rest.split_first() {
        let (payload, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        samples.clear();
        if length & 1 == 1 {
            decoder.conceal(usize::from(length) * 40, &mut samples);
            let (before, most) = (samples.len(), decoder.redundancy(payload).unwrap_or(0));
            decoder.recover(payload, &mut samples);
            assert!(samples.len() - before <= most);
        }
        decoder.decode(payload, &mut samples);
        assert!(samples.len() <= 3 * 5760 + 4 * payload.len() + 60 * 256);
    }
    let copied: usize = red::copies(data).map(|copy| copy.payload.len()).sum();
    assert!(copied <= data.len());
});
