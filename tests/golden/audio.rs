//! What is heard is what was said: recordings against the files that the phones played.

use std::path::Path;

use crate::case::{Archive, Case, root};

/// Pieces that are compared, in seconds from the start of the recording.
const PIECE: f64 = 0.5;
/// An offset is looked for so far around where it should be.
const SEARCH_MS: f64 = 25.0;

/// One side of one recording of a case.
struct Side {
    case: &'static str,
    /// By start.
    recording: usize,
    channel: usize,
    source: &'static str,
    /// Moments of the recording, and where the source is then, in seconds.
    at: &'static [(f64, f64)],
}

const CALLER: &str = "caller-8k.wav";
const CALLEE: &str = "callee-8k.wav";

const WHOLE: &[(f64, f64)] = &[(1.0, 1.0), (3.5, 3.5), (6.0, 6.0)];

const BOTH: &str = "caller-8k.wav+callee-8k.wav";

const SIDES: &[Side] = &[
    Side { case: "tunnel-copies", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "tunnel-copies", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "websocket", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "websocket", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "sctp", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "sctp", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "srtp-sdes", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "srtp-sdes", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "srtp-gcm", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "srtp-gcm", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "ice", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "ice", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "zrtp", recording: 0, channel: 0, source: CALLER, at: &[(1.0, 1.0), (3.5, 3.5)] },
    Side { case: "zrtp", recording: 0, channel: 1, source: CALLEE, at: &[(1.0, 1.0), (3.5, 3.5)] },
    Side {
        case: "comfort-noise",
        recording: 0,
        channel: 0,
        source: CALLER,
        at: &[(1.0, 1.0), (31.0, 5.0), (33.0, 7.0)],
    },
    Side {
        case: "comfort-noise",
        recording: 0,
        channel: 1,
        source: CALLEE,
        at: &[(1.0, 1.0), (31.0, 5.0), (33.0, 7.0)],
    },
    // What the caller says has no decoder, or needs one that is left out here.
    Side { case: "undecodable", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "g723", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    // Who is heard where, when a call is transferred.
    Side { case: "transfer-blind", recording: 0, channel: 0, source: CALLER, at: &[(1.0, 1.0), (3.5, 3.5)] },
    Side { case: "transfer-blind", recording: 0, channel: 1, source: CALLEE, at: &[(1.0, 1.0), (3.5, 3.5)] },
    Side { case: "transfer-blind", recording: 1, channel: 0, source: CALLER, at: &[(1.0, 6.5), (3.5, 9.0)] },
    Side { case: "transfer-blind", recording: 1, channel: 1, source: CALLEE, at: &[(1.0, 7.0), (3.5, 9.5)] },
    Side {
        case: "transfer-attended",
        recording: 0,
        channel: 0,
        source: CALLER,
        at: &[(0.5, 0.5), (1.5, 1.5)],
    },
    Side {
        case: "transfer-attended",
        recording: 0,
        channel: 1,
        source: CALLEE,
        at: &[(0.5, 0.5), (1.5, 1.5)],
    },
    Side {
        case: "transfer-attended",
        recording: 1,
        channel: 0,
        source: CALLER,
        at: &[(0.5, 8.5), (1.5, 9.5)],
    },
    Side {
        case: "transfer-attended",
        recording: 1,
        channel: 1,
        source: CALLEE,
        at: &[(0.5, 6.5), (1.5, 7.5)],
    },
    Side {
        case: "transfer-attended",
        recording: 2,
        channel: 0,
        source: CALLER,
        at: &[(1.0, 3.6), (3.5, 6.1)],
    },
    Side {
        case: "transfer-attended",
        recording: 2,
        channel: 1,
        source: CALLEE,
        at: &[(1.0, 9.6), (3.5, 12.1)],
    },
    // Before and behind a relay.
    Side { case: "relay-hops", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "relay-hops", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side {
        case: "conference-focus",
        recording: 0,
        channel: 0,
        source: CALLER,
        at: &[(1.0, 1.0), (5.5, 5.5)],
    },
    Side {
        case: "conference-focus",
        recording: 0,
        channel: 1,
        source: CALLEE,
        at: &[(1.0, 5.0), (2.0, 6.0)],
    },
    Side { case: "pbx-legs", recording: 0, channel: 0, source: CALLER, at: &[(1.0, 5.0), (4.0, 8.0)] },
    Side { case: "pbx-legs", recording: 1, channel: 1, source: CALLEE, at: &[(1.0, 0.99), (4.0, 3.99)] },
    Side { case: "tunnels", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "tunnels", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    // What is sent to recorders: of the session, and the copy that a phone has mixed.
    Side { case: "siprec", recording: 1, channel: 0, source: CALLER, at: &[(1.0, 1.14), (8.0, 8.14)] },
    Side { case: "siprec", recording: 1, channel: 1, source: CALLEE, at: &[(1.0, 1.14), (8.0, 8.14)] },
    Side { case: "siprec-paused", recording: 0, channel: 0, source: CALLEE, at: &[(1.0, 1.14), (7.0, 7.14)] },
    Side { case: "siprec-paused", recording: 0, channel: 1, source: CALLER, at: &[(1.0, 1.14), (7.0, 7.14)] },
    Side { case: "cisco-bib", recording: 1, channel: 0, source: CALLER, at: &[(1.0, 1.2), (8.0, 8.2)] },
    Side { case: "cisco-bib", recording: 1, channel: 1, source: CALLEE, at: &[(1.0, 1.2), (8.0, 8.2)] },
    Side { case: "genesys", recording: 1, channel: 0, source: CALLER, at: &[(1.0, 1.2), (7.0, 7.2)] },
    Side { case: "genesys", recording: 1, channel: 1, source: CALLEE, at: &[(1.0, 1.2), (7.0, 7.2)] },
    Side { case: "recorder-leg", recording: 1, channel: 0, source: BOTH, at: &[(1.0, 3.82), (3.5, 6.32)] },
    Side { case: "record-server", recording: 0, channel: 0, source: BOTH, at: &[(1.0, 1.54), (3.0, 3.54)] },
    Side { case: "record-server", recording: 1, channel: 0, source: BOTH, at: &[(1.0, 6.54), (3.0, 8.54)] },
    Side { case: "plain-pcmu", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "plain-pcmu", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "span-duplicates", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "span-duplicates", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "sip-tcp", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "ipv6", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "qinq", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "fragmented-invite", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "late-offer", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "nat", recording: 0, channel: 0, source: CALLER, at: WHOLE },
    Side { case: "nat", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "g722", recording: 0, channel: 0, source: "caller-16k.wav", at: WHOLE },
    Side { case: "g722", recording: 0, channel: 1, source: "callee-16k.wav", at: WHOLE },
    Side { case: "l16", recording: 0, channel: 0, source: "caller-16k.wav", at: WHOLE },
    Side { case: "l16", recording: 0, channel: 1, source: "callee-16k.wav", at: WHOLE },
    Side { case: "loss-reorder-jitter", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    Side { case: "early-media", recording: 0, channel: 0, source: CALLER, at: &[(4.0, 1.0), (6.5, 3.5)] },
    Side { case: "early-media", recording: 0, channel: 1, source: CALLEE, at: WHOLE },
    // The voices are swapped in the second call, which took the ports of the first.
    Side { case: "bye-lost-port-reuse", recording: 1, channel: 0, source: CALLEE, at: WHOLE },
    Side { case: "bye-lost-port-reuse", recording: 1, channel: 1, source: CALLER, at: WHOLE },
    // What was said goes on after the hold where it had stopped.
    Side { case: "hold-resume", recording: 0, channel: 0, source: CALLER, at: &[(1.0, 1.0), (8.5, 4.5)] },
    // What was said before and after a pause.
    Side {
        case: "audiocodes-pause",
        recording: 0,
        channel: 0,
        source: CALLER,
        at: &[(3.0, 3.0), (9.5, 9.5)],
    },
    Side {
        case: "audiocodes-pause",
        recording: 0,
        channel: 1,
        source: CALLEE,
        at: &[(3.0, 3.0), (9.5, 9.5)],
    },
    Side {
        case: "audiocodes-refused",
        recording: 0,
        channel: 0,
        source: CALLER,
        at: &[(3.0, 3.0), (6.0, 6.0)],
    },
];

/// A case, its rules, which of its recordings, and the time in it in which it is paused, in seconds.
const PAUSES: [(&str, &str, usize, f64, f64); 8] = [
    ("audiocodes-pause", "default", 0, 4.005, 9.005),
    ("feature-codes", "on-demand", 0, 3.001, 5.099),
    ("url-template", "on-demand", 0, 3.0, 5.0),
    ("siprec-paused", "default", 0, 3.36, 6.36),
    // The call, and the copy of it that is sent to a recorder, whichever of them was asked.
    ("genesys", "default", 0, 3.485, 6.485),
    ("genesys", "default", 1, 3.3, 6.3),
    ("recorder-leg-paused", "default", 0, 4.485, 5.985),
    ("recorder-leg-paused", "default", 1, 1.68, 3.18),
];

#[test]
fn nothing_is_heard_of_a_pause() {
    for (case, rules, recording, from, to) in PAUSES {
        let archive = Case::named(case).replay(rules);
        let wav = archive.wavs().remove(recording);
        let channels = hound::WavReader::open(archive.path().join(&wav)).unwrap().spec().channels;
        for channel in 0..usize::from(channels) {
            let (recorded, rate) = read(&archive.path().join(&wav), channel);
            let place = |seconds: f64| (seconds * f64::from(rate)) as usize;
            let paused = &recorded[place(from)..place(to)];
            assert!(paused.iter().all(|sample| *sample == 0.0), "{case} channel {channel}");
            let around = [&recorded[place(from - 0.5)..place(from - 0.02)], &recorded[place(to + 0.02)..]];
            let heard = around.map(|audio| audio.iter().any(|sample| sample.abs() > 500.0));
            assert_eq!(heard, [true; 2], "{case} channel {channel}");
        }
    }
}

/// What was said before a pause and what was said after it stand side by side.
#[test]
fn a_pause_that_is_cut() {
    const PAUSE: f64 = 5.003;
    let archive = Case::named("audiocodes-pause").replay("paused-cut");
    let wav = archive.wavs().remove(0);
    for (channel, source) in [(0, CALLER), (1, CALLEE)] {
        let (recorded, rate) = read(&archive.path().join(&wav), channel);
        assert!(
            (recorded.len() as f64 / f64::from(rate) - (12.012 - PAUSE)).abs() < 0.002,
            "{}",
            recorded.len()
        );
        let (source, _) = read(&root().join("samples/audio").join(source), 0);
        for (moment, place) in [(3.0, 3.0), (3.45, 3.45), (4.05, 4.05 + PAUSE), (4.5, 4.5 + PAUSE)] {
            let (likeness, offset_ms) = compare(&recorded, &source, rate, moment, place);
            let what = format!("channel {channel} at {moment} s: {likeness:.4}, {offset_ms:.1} ms");
            assert!(likeness >= 0.99 && offset_ms.abs() <= 20.0, "{what}");
        }
    }
}

#[test]
fn recordings_hold_what_was_said_on_the_right_side_at_the_right_time() {
    let mut archives = std::collections::BTreeMap::new();
    for side in SIDES {
        let archive = archives.entry(side.case).or_insert_with(|| Case::named(side.case).replay("default"));
        let wavs = archive.wavs();
        let (recorded, rate) = read(&archive.path().join(&wavs[side.recording]), side.channel);
        let (source, source_rate) = spoken(side.source);
        assert_eq!(rate, source_rate, "{}", side.case);
        for &(moment, place) in side.at {
            let (likeness, offset_ms) = compare(&recorded, &source, rate, moment, place);
            let what = format!(
                "{} channel {} at {moment} s: {likeness:.4}, {offset_ms:.1} ms",
                side.case, side.channel
            );
            assert!(likeness >= 0.99 && offset_ms.abs() <= 20.0, "{what}");
        }
    }
}

/// A call that goes from PCMU to G.722 is at 16 kHz as a whole, and what was said before is where it was.
/// Codecs that do not keep the wave keep what is heard of it, and lost packets that others carry are heard as well.
/// How alike the spectra must be; of the wave only the place is asked.
const CODED: [(&str, usize, &str, f64); 8] = [
    ("gsm", 0, CALLER, 0.98),
    ("gsm", 1, CALLEE, 0.98),
    ("g726", 0, CALLER, 0.99),
    ("g726", 1, CALLEE, 0.98),
    ("opus", 0, "caller-16k.wav", 0.98),
    ("opus", 1, "callee-16k.wav", 0.98),
    ("red", 0, CALLER, 0.999),
    ("red", 1, CALLEE, 0.999),
];

#[test]
fn codecs_keep_what_is_heard() {
    for (case, channel, source, wanted) in CODED {
        let archive = Case::named(case).replay("default");
        let (recorded, rate) = read(&archive.path().join(&archive.wavs()[0]), channel);
        let (source, source_rate) = spoken(source);
        assert_eq!(rate, source_rate, "{case}");
        let (_, offset_ms) = compare(&recorded, &source, rate, 3.5, 3.5);
        assert!(offset_ms.abs() <= 20.0, "{case} channel {channel}: {offset_ms:.1} ms");
        let late = (offset_ms * f64::from(rate) / 1000.0) as i64;
        let (from, count) = (rate as usize / 2, rate as usize * 7);
        let likeness =
            alike(&recorded[from..from + count], &source[(from as i64 - late) as usize..][..count], rate);
        assert!(likeness >= wanted, "{case} channel {channel}: {likeness:.4}");
    }
}

/// Correlation of the loudness in bands of 250 Hz and times of 16 ms.
fn alike(one: &[f64], other: &[f64], rate: u32) -> f64 {
    const BAND: f64 = 250.0;
    let step = rate as usize * 16 / 1000;
    let bands = |samples: &[f64]| -> Vec<f64> {
        let window: Vec<f64> =
            (0..2 * step).map(|i| (std::f64::consts::PI * i as f64 / (2 * step) as f64).sin()).collect();
        let mut levels = Vec::new();
        for begin in (0..samples.len() - 2 * step).step_by(step) {
            let piece: Vec<f64> = samples[begin..].iter().zip(&window).map(|(a, b)| a * b).collect();
            // Speech of a telephone, at the middle and the edges of each band.
            for band in 1..14 {
                let power: f64 = [0.0, 0.25, 0.5, 0.75]
                    .map(|part| power_at(&piece, (f64::from(band) + part) * BAND / f64::from(rate)))
                    .iter()
                    .sum();
                levels.push(power.sqrt());
            }
        }
        levels
    };
    let (one, other) = (bands(one), bands(other));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    product(&one, &other) / (product(&one, &one) * product(&other, &other)).sqrt()
}

/// Power at a frequency, in periods a sample (Goertzel).
fn power_at(samples: &[f64], frequency: f64) -> f64 {
    let turn = 2.0 * (std::f64::consts::TAU * frequency).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (sample + turn * last - before, last);
    }
    last * last + before * before - turn * last * before
}

#[test]
fn a_codec_with_a_higher_rate_in_the_middle() {
    let mut capture = std::fs::read(Case::named("reinvite-codec").capture()).unwrap();
    // The second codec is made another by name and number; what it sounds like then does not matter.
    for (pcma, g722) in [("RTP/AVP 8", "RTP/AVP 9"), ("rtpmap:8 PCMA", "rtpmap:9 G722")] {
        replace(&mut capture, pcma.as_bytes(), g722.as_bytes());
    }
    // From either port: the rest of the UDP header, then RTP version 2 and the payload type.
    for port in [11_020u16, 12_020].map(u16::to_be_bytes) {
        for at in 0..capture.len() - 10 {
            if capture[at..at + 2] == port && capture[at + 8] == 0x80 && capture[at + 9] & 0x7f == 8 {
                capture[at + 9] += 1;
            }
        }
    }
    let archive = Archive::of(&capture);
    let wav = archive.wavs().remove(0);
    for (channel, source) in [(0, CALLER), (1, CALLEE)] {
        let (recorded, rate) = read(&archive.path().join(&wav), channel);
        assert_eq!(rate, 16_000);
        assert!((recorded.len() as f64 / 16_000.0 - 11.019).abs() < 0.02);
        let halved: Vec<f64> = recorded.iter().copied().step_by(2).collect();
        let (source, _) = read(&root().join("samples/audio").join(source), 0);
        for moment in [1.0, 3.5] {
            let (likeness, offset_ms) = compare(&halved, &source, 8000, moment, moment);
            assert!(
                likeness >= 0.98 && offset_ms.abs() <= 20.0,
                "{channel} at {moment}: {likeness}, {offset_ms}"
            );
        }
        assert!(
            recorded[6 * 16_000..].iter().any(|sample| sample.abs() > 500.0),
            "nothing is heard of the second codec"
        );
    }
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let found: Vec<usize> =
        (0..=bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    found.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
}

/// The highest normalised correlation of a piece of the recording with the source around `place`, and how
/// far from there it is.
fn compare(recorded: &[f64], source: &[f64], rate: u32, moment: f64, place: f64) -> (f64, f64) {
    let rate = f64::from(rate);
    let count = (PIECE * rate) as usize;
    let begin = (moment * rate) as usize;
    let piece = &recorded[begin..begin + count];
    let energy = |samples: &[f64]| samples.iter().map(|sample| sample * sample).sum::<f64>().sqrt();
    let reach = (SEARCH_MS * rate / 1000.0) as i64;
    (-reach..=reach)
        .map(|offset| {
            let at = ((place * rate) as i64 - offset) as usize;
            let other = &source[at..at + count];
            let product: f64 = piece.iter().zip(other).map(|(a, b)| a * b).sum();
            (product / (energy(piece) * energy(other) + 1.0), offset as f64 * 1000.0 / rate)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap()
}

/// A file of what was spoken; or two of them, mixed.
fn spoken(names: &str) -> (Vec<f64>, u32) {
    let voices = names.split('+').map(|name| read(&root().join("samples/audio").join(name), 0));
    let mix = |(one, rate): (Vec<f64>, u32), (other, _): (Vec<f64>, u32)| {
        (one.iter().zip(other).map(|(one, other)| one / 2.0 + other / 2.0).collect(), rate)
    };
    voices.reduce(mix).unwrap()
}

fn read(path: &Path, channel: usize) -> (Vec<f64>, u32) {
    let mut wav = hound::WavReader::open(path).unwrap();
    let (rate, channels) = (wav.spec().sample_rate, usize::from(wav.spec().channels));
    let samples: Vec<f64> = wav.samples::<i16>().map(|sample| f64::from(sample.unwrap())).collect();
    (samples.into_iter().skip(channel).step_by(channels).collect(), rate)
}
