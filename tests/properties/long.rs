//! Calls of minutes, in which there is silence now and then: one engine and several make the same of them.

use proptest::prelude::*;
use spantape_core::record::Side;
use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, Move, PACKET};
use spantape_tests::frame::{self, Frame, merge};
use spantape_tests::runner::{Outcome, run};

/// RFC 3389.
const COMFORT_NOISE: u8 = 13;
/// Comfort noise is sent so often.
const REFRESH: i64 = 200 * MILLISECOND;

/// A time in which somebody is heard, and the silence after it.
#[derive(Clone, Debug)]
struct Spurt {
    /// Milliseconds.
    length: i64,
    silence: i64,
    /// Who is heard.
    heard: [bool; 2],
    /// Whose stream is another one from now on.
    anew: [bool; 2],
    /// Who tells that there is silence.
    noise: [bool; 2],
}

fn spurt() -> impl Strategy<Value = Spurt> {
    let sides = || prop::array::uniform2(prop::bool::weighted(0.5));
    let rare = prop::array::uniform2(prop::bool::weighted(0.3));
    (200..15_000i64, prop_oneof![0..2000i64, 2000..9000i64], sides(), rare, sides())
        .prop_map(|(length, silence, heard, anew, noise)| Spurt { length, silence, heard, anew, noise })
}

/// The packets of one side.
fn media(call: &Call, side: Side, spurts: &[Spurt]) -> Vec<Frame> {
    let channel = side.channel();
    let first = call.first_packet(side);
    let (mut ssrc, mut sequence) = (call.ssrc[channel], call.sequence[channel]);
    let (from, to) = (call.media[channel], call.media[1 - channel]);
    let (mut at, mut frames) = (first, Vec::new());
    for spurt in spurts {
        let end = at + spurt.length * MILLISECOND;
        let next = end + spurt.silence * MILLISECOND;
        ssrc += 1000 * u32::from(spurt.anew[channel]);
        let times = |from, to, step: i64| (from..to).step_by(step as usize);
        let speech = times(at, end, PACKET).filter(|_| spurt.heard[channel]).map(|at| (at, false));
        let noise = times(end, next, REFRESH).filter(|_| spurt.noise[channel]).map(|at| (at, true));
        for (at, is_noise) in speech.chain(noise).filter(|(at, _)| *at < call.end()) {
            let timestamp = ((at - first) * 8 / MILLISECOND) as u32;
            let payload: &[u8] = if is_noise { &[0x40] } else { &[0x90 + channel as u8; 160] };
            let mut packet = frame::rtp(sequence, timestamp, ssrc, payload);
            if is_noise {
                packet[1] = COMFORT_NOISE;
            }
            sequence = sequence.wrapping_add(1);
            frames.push(frame::udp(at, from, to, &packet));
        }
        at = next;
    }
    frames
}

fn check(calls: &[Vec<Spurt>], again: i64, config: &Config) -> Outcome {
    let frames = calls.iter().zip(0..).map(|(spurts, index)| {
        let talk: i64 = spurts.iter().map(|spurt| spurt.length + spurt.silence).sum();
        let mut call = Call::plain(index, i64::from(index) * 300 * MILLISECOND, talk * MILLISECOND);
        // Its description comes once more.
        call.moves = Some(Move { after: again.min(talk / 1000) * SECOND, to: call.media[0] });
        let media = [Side::Caller, Side::Callee].map(|side| media(&call, side, spurts));
        merge([call.signalling()].into_iter().chain(media))
    });
    run(config.clone(), &merge(frames))
}

/// Of one side alone something else is heard after a silence, and long after that the call is described once more.
#[test]
fn an_announcement_follows_another() {
    for (silence, noise) in [(500, false), (2000, false), (4500, false), (2000, true)] {
        let [heard, anew] = [[true, false]; 2];
        let first = Spurt { length: 10_000, silence, heard, anew, noise: [noise, false] };
        let second = Spurt { length: 110_000, silence: 0, ..first.clone() };
        for orphans in [false, true] {
            let config = Config { orphans, ..Config::default() };
            check(&vec![vec![first.clone(), second.clone()]; 8], 100, &config);
        }
    }
}

/// Comfort noise has gone on with the time as nobody was heard: what follows a silence after it is no other call.
#[test]
fn comfort_noise_keeps_the_time() {
    let (all, none) = ([true; 2], [false; 2]);
    let talk = Spurt { length: 5000, silence: 20_000, heard: all, anew: none, noise: all };
    let quiet = Spurt { length: 6000, silence: 0, heard: none, noise: none, ..talk };
    let spurts = vec![talk.clone(), quiet, talk];
    let outcome = check(&[spurts], 1, &Config::default());
    let [recording] = &outcome.recordings[..] else { panic!("{} recordings", outcome.recordings.len()) };
    assert_eq!(recording.row.end.since(recording.row.start) / SECOND, 55);
}

proptest! {
    #![proptest_config(crate::cases(12))]

    #[test]
    fn several_engines_make_the_same_of_them(
        calls in prop::collection::vec(prop::collection::vec(spurt(), 1..12), 1..6),
        again in 1..120i64,
        orphans: bool,
        max_calls in prop_oneof![3 => Just(1000usize), 1 => 2..5usize],
    ) {
        check(&calls, again, &Config { orphans, max_calls, ..Config::default() });
    }
}
