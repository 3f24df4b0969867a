//! Recordings of phones: any bytes are one or none, and what is heard of one is in its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spantape_core::phone_file::{Audio, PhoneFile};

fuzz_target!(|data: &[u8]| {
    // Two files, which may be pieces of one recording.
    let (first, second) = data.split_at(data.len() / 2);
    let files: Vec<PhoneFile<'_>> =
        [data, first, second].into_iter().filter_map(|bytes| PhoneFile::parse(bytes).ok()).collect();
    for file in &files {
        check(std::slice::from_ref(file), data.len());
    }
    if let [.., first, second] = &files[..] {
        if first.goes_on_in(second) {
            assert!(first.is_like(second));
            check(&[first.clone(), second.clone()], data.len());
        }
    }
});

fn check(pieces: &[PhoneFile<'_>], bytes: usize) {
    let audio = Audio::new(pieces);
    let found = audio.completeness();
    assert_eq!(found.expected, found.received + found.lost);
    assert!(found.received > 0);
    let (mut samples, mut silence) = (0, 0);
    for part in audio {
        assert!(!part.samples.is_empty());
        samples += part.samples.len();
        silence += part.silence;
    }
    assert!(samples > 0 && samples <= 2 * bytes);
    // A gap in the sequence numbers is at most 3000 packets of the longest payload.
    assert!(silence <= 2 * 4096 * 3000 * samples as u64);
}
