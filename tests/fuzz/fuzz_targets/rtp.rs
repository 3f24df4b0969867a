//! RTP of one call: each record of the input is a packet, or the passing of time. First byte: direction and
//! payload type; then milliseconds, sequence number, timestamp, SSRC, and how much payload there is.
#![no_main]

mod store;

use libfuzzer_sys::fuzz_target;
use store::{Store, payload_type};

const RECORD: usize = 8;

fuzz_target!(|data: &[u8]| {
    let mut store = Store::new(data.first().is_some_and(|byte| byte & 0x80 != 0));
    store.begin_call(0);
    for record in data.chunks_exact(RECORD).take(2000) {
        let [kind, wait, s0, s1, t0, t1, ssrc, length] = record else { return };
        // Differences rather than numbers, so that most streams make sense.
        let sequence = u16::from_be_bytes([*s0, *s1]);
        let timestamp = u32::from_be_bytes([*t0, *t1, 0, 0]) | u32::from(*t1) << 5;
        store.wait(u64::from(*wait) * 4_000_000);
        store.rtp(
            0,
            kind & 1 != 0,
            payload_type(kind >> 1),
            sequence,
            timestamp,
            u32::from(ssrc % 3),
            *length,
        );
    }
    store.finish();
});
