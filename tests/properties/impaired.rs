//! Streams that are not what a stream should be: everything is heard when it was spoken all the same.

use proptest::prelude::*;
use spantape_core::record::Side;
use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, SIDES, Sent};
use spantape_tests::frame::merge;
use spantape_tests::runner::{Outcome, Recording, run};
use spantape_tests::truth;

/// Something a sender does at a certain packet of its stream.
#[derive(Clone, Copy, Debug)]
enum Quirk {
    /// Silence for so long, which the timestamps count (silence suppression).
    Pause(i64),
    /// Silence for so long, which the timestamps do not count (hold).
    Hold(i64),
    /// Timestamps go on elsewhere.
    Jump(u32),
    /// Sequence numbers and timestamps go on elsewhere after silence for so long.
    Restart(i64, u16, u32),
    /// The stream begins later by so much.
    Late(i64),
}

fn quirk() -> impl Strategy<Value = Quirk> {
    prop_oneof![
        (100..3000i64).prop_map(|ms| Quirk::Pause(ms * MILLISECOND)),
        (500..3000i64).prop_map(|ms| Quirk::Hold(ms * MILLISECOND)),
        (8000u32..u32::MAX - 8000).prop_map(Quirk::Jump),
        (1000..3000i64, any::<u16>(), 16_000u32..u32::MAX - 16_000)
            .prop_map(|(ms, sequence, timestamp)| Quirk::Restart(ms * MILLISECOND, sequence, timestamp)),
        (0..2000i64).prop_map(|ms| Quirk::Late(ms * MILLISECOND)),
    ]
}

/// What a side sends when its quirks come up every two seconds.
fn quirky(call: &Call, side: Side, quirks: &[Quirk]) -> Vec<Sent> {
    let mut media = call.media_of(side);
    for (index, quirk) in quirks.iter().enumerate() {
        let from = if matches!(quirk, Quirk::Late(_)) { 0 } else { 100 * (index + 1) };
        for packet in media.iter_mut().skip(from) {
            apply(*quirk, packet);
        }
    }
    media.retain(|packet| packet.spoken < call.end() - 20 * MILLISECOND);
    media
}

fn apply(quirk: Quirk, packet: &mut Sent) {
    let ticks = |time: i64| (time * 8 / MILLISECOND) as u32;
    let (silence, sequence, timestamp) = match quirk {
        Quirk::Pause(silence) => (silence, 0, ticks(silence)),
        Quirk::Hold(silence) => (silence, 0, 0),
        Quirk::Jump(timestamp) => (0, 0, timestamp),
        Quirk::Restart(silence, sequence, timestamp) => (silence, sequence, timestamp),
        Quirk::Late(silence) => (silence, 0, 0),
    };
    packet.spoken += silence;
    packet.at += silence;
    packet.sequence = packet.sequence.wrapping_add(sequence);
    packet.timestamp = packet.timestamp.wrapping_add(timestamp);
}

fn heard(call: &Call, media: &[Sent]) -> Outcome {
    run(Config::default(), &merge([call.signalling(), media.iter().map(Sent::frame).collect()]))
}

/// The one recording of the call, if it is as long as the call was from its first packet on.
fn whole<'a>(outcome: &'a Outcome, call: &Call, media: &[Sent]) -> Result<&'a Recording, TestCaseError> {
    prop_assert_eq!(outcome.recordings.len(), 1);
    let recording = &outcome.recordings[0];
    let first = media.iter().map(|packet| packet.at).min().unwrap_or_default();
    let length = call.end() - first;
    let recorded = recording.row.end.since(recording.row.start);
    prop_assert!((recorded - length).abs() <= 20 * MILLISECOND, "{recorded} ns for {length}");
    Ok(recording)
}

/// Packets delayed by jitter, but none to after the end. Every fourth comes without delay.
fn jittered(mut media: Vec<Sent>, delays: &[i64], end: i64) -> Vec<Sent> {
    for (index, (packet, delay)) in media.iter_mut().zip(delays.iter().cycle()).enumerate() {
        if index % 4 != 0 && packet.at + delay < end {
            packet.at += *delay;
        }
    }
    media
}

/// One packet in about ten is lost, but neither the first nor the last of a side.
fn lossy(media: Vec<Sent>, chances: &[bool]) -> (Vec<Sent>, Vec<Sent>) {
    let edges: Vec<(Side, i64)> = SIDES
        .iter()
        .flat_map(|&side| {
            let spoken = || media.iter().filter(|packet| packet.side == side).map(|packet| packet.spoken);
            [(side, spoken().min().unwrap_or_default()), (side, spoken().max().unwrap_or_default())]
        })
        .collect();
    let mut chances = chances.iter().cycle();
    media.into_iter().partition(|packet| {
        edges.contains(&(packet.side, packet.spoken)) || !chances.next().copied().unwrap_or_default()
    })
}

/// What one side sends, and what the network makes of it.
#[derive(Clone, Debug)]
struct Line {
    /// Packets of so many milliseconds in the first half, and in the second.
    packet_ms: [i64; 2],
    /// Of a hundred packets: how many losses begin, and how long they are.
    losses: (u32, usize),
    /// Delays, and which packets come twice.
    delays: Vec<i64>,
    copies: Vec<bool>,
    /// A new SSRC from that packet on; its numbers and timestamps go on, or begin elsewhere.
    renewed: Option<(usize, bool)>,
    seed: u64,
}

fn line() -> impl Strategy<Value = Line> {
    let packet_ms = || prop::sample::select(vec![10, 20, 30, 40, 60, 120]);
    let delay = prop_oneof![4 => Just(0), 1 => 0..200 * MILLISECOND];
    (
        (packet_ms(), packet_ms(), any::<bool>()),
        prop_oneof![Just((0, 1)), (1..30u32).prop_map(|losses| (losses, 1)), (1..6u32, 2..6usize)],
        prop::collection::vec(delay, 1..100),
        prop::collection::vec(prop::bool::weighted(0.1), 1..100),
        prop::option::of((20..60usize, any::<bool>())),
        any::<u64>(),
    )
        .prop_map(|((first, second, changes), losses, delays, copies, renewed, seed)| Line {
            packet_ms: [first, if changes { second } else { first }],
            losses,
            delays,
            copies,
            renewed,
            seed,
        })
}

impl Line {
    fn speak(&self, call: &Call, side: Side) -> Vec<Sent> {
        let first = call.media_of(side).swap_remove(0);
        let half = first.spoken + (call.end() - first.spoken) / 2;
        let (mut sent, mut at, mut ticks) = (Vec::new(), first.spoken, 0u32);
        loop {
            let ms = self.packet_ms[usize::from(at >= half)];
            if at + ms * MILLISECOND > call.end() {
                return sent;
            }
            let index = sent.len();
            let mut packet = Sent {
                spoken: at,
                at,
                // From anywhere, so that either may wrap.
                sequence: (self.seed as u16).wrapping_add(index as u16),
                timestamp: ((self.seed >> 32) as u32).wrapping_add(ticks),
                code: spantape_tests::call::code(0, side, ((at - first.spoken) / (20 * MILLISECOND)) as u64),
                samples: ms as usize * 8,
                ..first.clone()
            };
            if let Some((from, elsewhere)) = self.renewed.filter(|(from, _)| index >= *from) {
                packet.ssrc ^= 0xabcd;
                if elsewhere {
                    packet.sequence = packet.sequence.wrapping_add(20_000);
                    packet.timestamp = packet.timestamp.wrapping_add(0x7000_0000 + from as u32);
                }
            }
            sent.push(packet);
            at += ms * MILLISECOND;
            ticks += ms as u32 * 8;
        }
    }

    /// What came, in order of its coming, and what was lost.
    fn carry(&self, call: &Call, sent: Vec<Sent>) -> (Vec<Sent>, Vec<Sent>) {
        let (mut came, mut lost): (Vec<Sent>, Vec<Sent>) = (Vec::new(), Vec::new());
        let (mut random, mut losing) = (self.seed | 1, 0);
        let count = sent.len();
        let ssrc = sent[0].ssrc;
        let renewed = sent.iter().find(|packet| packet.ssrc != ssrc).map(|packet| packet.at);
        for (index, mut packet) in sent.into_iter().enumerate() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if losing == 0 && (random >> 33) % 100 < self.losses.0.into() {
                losing = self.losses.1;
            }
            // What begins is known by its first packets, and placed by the one with the least delay.
            let is_first = Some(packet.at) == renewed;
            let is_edge = index < 12 || index + 2 > count || is_first;
            if losing > 0 && !is_edge {
                losing -= 1;
                lost.push(packet);
                continue;
            }
            let delay = self.delays[index % self.delays.len()];
            // Whoever speaks by a new SSRC is heard at once: stragglers of the old one are not waited for.
            let until = renewed.filter(|_| packet.ssrc == ssrc).unwrap_or(call.end());
            if index % 4 != 0 && !is_first && packet.at + delay < until {
                packet.at += delay;
            }
            came.push(packet);
        }
        came.sort_by_key(|packet| packet.at);
        (came, lost)
    }
}

proptest! {
    #![proptest_config(crate::cases(64))]

    #[test]
    fn whatever_the_network_does(lines in [line(), line()], is_one_sided in prop::bool::weighted(0.2)) {
        let call = Call::plain(0, 0, 12 * SECOND);
        let (mut came, mut lost) = (Vec::new(), Vec::new());
        for (line, &side) in lines.iter().zip(&SIDES).take(if is_one_sided { 1 } else { 2 }) {
            let (arrived, gone) = line.carry(&call, line.speak(&call, side));
            came.push(arrived);
            lost.extend(gone);
        }
        // The second copy right behind the first, as a mirror of both directions has it.
        let mut seen = Vec::new();
        for (line, packets) in lines.iter().zip(&came) {
            for (index, packet) in packets.iter().enumerate() {
                let copies = 1 + usize::from(line.copies[index % line.copies.len()]);
                seen.extend(std::iter::repeat_n(packet.clone(), copies));
            }
        }
        let came = came.concat();
        let outcome = heard(&call, &seen);
        let recording = whole(&outcome, &call, &came)?;
        truth::is_placed(recording, &came, &lost).map_err(TestCaseError::fail)?;
        for side in SIDES {
            let count = |of: &[Sent]| of.iter().filter(|packet| packet.side == side).count() as u64;
            let report = recording.row.completeness[side.channel()];
            prop_assert_eq!((report.received, report.late), (count(&came), 0));
            // What is lost between two streams is missed by neither.
            prop_assert!(report.lost <= count(&lost), "{report:?}");
            if lines[side.channel()].renewed.is_none() {
                prop_assert_eq!(report.lost, count(&lost));
            }
        }
    }

    #[test]
    fn senders_with_quirks(a in prop::collection::vec(quirk(), 0..4), b in prop::collection::vec(quirk(), 0..4)) {
        let call = Call::plain(0, 0, 20 * SECOND);
        let media = [quirky(&call, Side::Caller, &a), quirky(&call, Side::Callee, &b)].concat();
        let outcome = heard(&call, &media);
        let recording = whole(&outcome, &call, &media)?;
        truth::is_placed(recording, &media, &[]).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn jitter(delays in prop::collection::vec(0..60 * MILLISECOND, 1..200)) {
        let call = Call::plain(0, 0, 6 * SECOND);
        let media = jittered(call.media(), &delays, call.end());
        let outcome = heard(&call, &media);
        let recording = whole(&outcome, &call, &media)?;
        truth::is_placed(recording, &media, &[]).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn loss(chances in prop::collection::vec(prop::bool::weighted(0.1), 50..600)) {
        let call = Call::plain(0, 0, 6 * SECOND);
        let (came, lost) = lossy(call.media(), &chances);
        let outcome = heard(&call, &came);
        let recording = whole(&outcome, &call, &came)?;
        truth::is_placed(recording, &came, &lost).map_err(TestCaseError::fail)?;
        for side in SIDES {
            let count = |of: &[Sent]| of.iter().filter(|packet| packet.side == side).count() as u64;
            let report = recording.row.completeness[side.channel()];
            prop_assert_eq!((report.received, report.lost, report.late), (count(&came), count(&lost), 0));
            prop_assert_eq!(report.expected, count(&came) + count(&lost));
        }
    }
}

/// A sender that announces a queue, or plays music, by another SSRC and then goes on where it stopped: its numbers and
/// timestamps count through all of it.
#[test]
fn back_to_an_earlier_ssrc() {
    let call = Call::plain(0, 0, 6 * SECOND);
    for (from, to) in [(50, 100), (50, 75), (100, 112)] {
        let mut media = call.media_of(Side::Callee);
        let sent = media.len() as u64;
        media[from..to].iter_mut().for_each(|packet| packet.ssrc ^= 0x0f0f);
        let media = [call.media_of(Side::Caller), media].concat();
        let outcome = heard(&call, &media);
        let [recording] = &outcome.recordings[..] else { panic!("{} recordings", outcome.recordings.len()) };
        truth::is_placed(recording, &media, &[]).expect("all is heard in its place");
        let report = recording.row.completeness[1];
        assert_eq!((report.lost, report.received, report.concealed_ms), (0, sent, 0), "{from}..{to}");
    }
}

/// A packet of the old SSRC that comes in the middle of the new one costs itself, and nothing else.
#[test]
fn a_straggler_does_not_silence_its_successor() {
    let call = Call::plain(0, 0, 6 * SECOND);
    let mut media = call.media_of(Side::Callee);
    media[40..].iter_mut().for_each(|packet| packet.ssrc ^= 0x0f0f);
    media[38].at += 120 * MILLISECOND;
    let straggler = vec![media[38].clone()];
    let media = [call.media_of(Side::Caller), media].concat();
    let outcome = heard(&call, &media);
    truth::is_placed(&outcome.recordings[0], &media, &straggler)
        .expect("all others are heard in their place");
}

/// What is said in a call in which the callee's clock is off by so much, in packets of 100 ms.
fn drifting(call: &Call, ppm: i64) -> Vec<Sent> {
    const STEP: i64 = 100 * MILLISECOND;
    let mut media = Vec::new();
    for side in SIDES {
        let first = call.media_of(side).swap_remove(0);
        let off = if side == Side::Callee { ppm } else { 0 };
        for packet in 0..35_990i64 {
            let spoken = first.spoken + packet * (STEP - STEP / 1_000_000 * off);
            media.push(Sent {
                spoken,
                at: spoken,
                sequence: first.sequence.wrapping_add(packet as u16),
                timestamp: first.timestamp.wrapping_add(packet as u32 * 800),
                code: spantape_tests::call::code(0, side, packet as u64 * 5),
                samples: 800,
                ..first.clone()
            });
        }
    }
    media.retain(|packet| packet.at < call.end());
    media
}

fn an_hour_of_drift(ppm: i64) {
    let call = Call::plain(0, 0, 3600 * SECOND);
    let media = drifting(&call, ppm);
    let outcome = heard(&call, &media);
    let recording = &outcome.recordings[0];
    let length = call.end() - call.first_packet(Side::Callee);
    assert!((recording.row.end.since(recording.row.start) - length).abs() <= 20 * MILLISECOND);
    truth::is_placed_by(recording, &media, &[], 37).expect("both sides stay in step");
    for (side, report) in recording.row.completeness.iter().enumerate() {
        let sent = media.iter().filter(|packet| packet.side.channel() == side).count() as u64;
        assert_eq!((report.received, report.lost, report.late), (sent, 0, 0));
        let silent = recording.samples.iter().skip(side).step_by(2).filter(|sample| **sample == 0).count();
        assert!(silent < 8000 * 3, "{silent} samples of side {side} are missing");
    }
}

#[test]
fn a_fast_clock() {
    an_hour_of_drift(200);
}

#[test]
fn a_slow_clock() {
    an_hour_of_drift(-200);
}

/// A clock that runs fast is no jitter, nor does it jump, whether anybody listens or not.
#[test]
fn drift_is_no_jitter() {
    let call = Call::plain(0, 0, 3600 * SECOND);
    let media = drifting(&call, 200);
    let frames = merge([call.signalling(), media.iter().map(Sent::frame).collect()]);
    for audio in [true, false] {
        let outcome = run(Config { audio, ..Config::default() }, &frames);
        assert_eq!((outcome.recordings.len(), outcome.streams.len()), (usize::from(audio), 2));
        for stream in &outcome.streams {
            // The step of a packet of 100 ms by 200 ppm.
            assert!(stream.max_jitter_ms < 0.03, "{audio}: {} ms", stream.max_jitter_ms);
        }
    }
}

/// Where a stream that has drifted begins anew, its jitter does not.
#[test]
fn a_new_beginning_after_drift_is_no_jitter() {
    let call = Call::plain(0, 0, 3600 * SECOND);
    let mut media = drifting(&call, 200);
    for packet in media.iter_mut().filter(|packet| packet.at > call.start + 1500 * SECOND) {
        packet.timestamp = packet.timestamp.wrapping_add(1 << 30);
    }
    let outcome = heard(&call, &media);
    assert_eq!(outcome.streams.len(), 2);
    for stream in &outcome.streams {
        assert!(stream.max_jitter_ms < 0.03, "{} ms", stream.max_jitter_ms);
    }
}
