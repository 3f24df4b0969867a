//! That coming frames are looked at beforehand changes nothing but how long they take.

use std::net::{Ipv4Addr, SocketAddrV4};

use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, EPOCH};
use spantape_tests::frame::{Frame, merge, rtp, udp};
use spantape_tests::runner::{run, run_together};

const CALLS: u8 = 30;
/// With those of the calls enough that memory is fetched for them.
const STRAYS: u16 = 1500;

/// RTP of nobody's, from everywhere.
fn strays() -> Vec<Frame> {
    let port = |host, port| SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, host), port);
    let packets = (0..4u16).flat_map(|number| (0..STRAYS).map(move |stray| (number, stray)));
    packets
        .map(|(number, stray)| {
            let at = EPOCH + SECOND + i64::from(number) * 20 * MILLISECOND;
            let payload = rtp(number, u32::from(number) * 160, stray.into(), &[0xff; 160]);
            udp(at, port(1, 20_000 + stray), port(2, 20_000 + stray), &payload)
        })
        .collect()
}

#[test]
fn what_is_foreseen_comes_out_the_same() {
    let calls =
        (0..CALLS).map(|index| Call::plain(index, i64::from(index) * MILLISECOND, 2 * SECOND).frames());
    let mut frames = merge(calls.chain([strays()]));
    // Whatever is no UDP, or no frame.
    for at in (0..frames.len()).step_by(97) {
        let length = frames[at].bytes.len();
        frames[at].bytes.truncate(at % length);
    }
    let plain = run(Config::default(), &frames);
    assert!(plain.counters.rtp_unclaimed > u64::from(STRAYS), "{:?}", plain.counters);
    assert_eq!(run_together(Config::default(), &frames).hash, plain.hash);
}
