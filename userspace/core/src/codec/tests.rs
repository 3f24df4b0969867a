//! Decoders against what ffmpeg makes of the same payloads; `vectors/README.md` says how those were made.

use super::{Codec, Decoder};

fn decode(codec: &Codec, payloads: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<i16> {
    let mut decoder = Decoder::new(codec).unwrap();
    let mut samples = Vec::new();
    for payload in payloads {
        decoder.decode(payload.as_ref(), &mut samples);
    }
    samples
}

fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
}

/// Power of the first over that of what the second is off by, in decibels.
fn fidelity(wanted: &[i16], got: &[i16]) -> f64 {
    assert_eq!(wanted.len(), got.len());
    let power = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let signal = power(&mut wanted.iter().map(|&sample| f64::from(sample)));
    let noise = power(&mut wanted.iter().zip(got).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    10.0 * (signal / noise.max(1.0)).log10()
}

#[test]
fn g711_l16_and_g722_are_exact() {
    let l16 = Codec::from_rtpmap("L16", 16_000, 1);
    let vectors: [(Codec, &[u8], &[u8], usize); 4] = [
        (
            Codec::from_static(0),
            include_bytes!("vectors/pcmu.rtp"),
            include_bytes!("vectors/pcmu.s16le"),
            160,
        ),
        (
            Codec::from_static(8),
            include_bytes!("vectors/pcma.rtp"),
            include_bytes!("vectors/pcma.s16le"),
            160,
        ),
        (l16, include_bytes!("vectors/l16.rtp"), include_bytes!("vectors/l16.s16le"), 640),
        (
            Codec::from_static(9),
            include_bytes!("vectors/g722.rtp"),
            include_bytes!("vectors/g722.s16le"),
            160,
        ),
    ];
    for (codec, payloads, wanted, packet) in vectors {
        assert_eq!(decode(&codec, payloads.chunks(packet)), samples(wanted), "{codec}");
    }
}

#[test]
fn gsm_is_exact() {
    let codec = Codec::from_static(3);
    let wanted = samples(include_bytes!("vectors/gsm.s16le"));
    assert_eq!(decode(&codec, include_bytes!("vectors/gsm.rtp").chunks(33)), wanted);
    // Two frames a packet, and one that is none.
    let mut payload = include_bytes!("vectors/gsm.rtp").to_vec();
    payload[66] = 0;
    assert_eq!(decode(&codec, payload.chunks(66)).len(), wanted.len() - 160);
    assert_eq!(decode(&codec, payload.chunks(66))[..320], wanted[..320]);
}

#[test]
fn g726_is_exact() {
    for (rate, little, big, wanted) in [
        (
            16,
            &include_bytes!("vectors/g726-16-le.rtp")[..],
            &include_bytes!("vectors/g726-16-be.rtp")[..],
            &include_bytes!("vectors/g726-16.s16le")[..],
        ),
        (
            24,
            include_bytes!("vectors/g726-24-le.rtp"),
            include_bytes!("vectors/g726-24-be.rtp"),
            include_bytes!("vectors/g726-24.s16le"),
        ),
        (
            32,
            include_bytes!("vectors/g726-32-le.rtp"),
            include_bytes!("vectors/g726-32-be.rtp"),
            include_bytes!("vectors/g726-32.s16le"),
        ),
        (
            40,
            include_bytes!("vectors/g726-40-le.rtp"),
            include_bytes!("vectors/g726-40-be.rtp"),
            include_bytes!("vectors/g726-40.s16le"),
        ),
    ] {
        let octets = rate * 20 / 8;
        for (prefix, payload) in [("", little), ("AAL2-", big)] {
            let codec = Codec::from_rtpmap(&format!("{prefix}G726-{rate}"), 8000, 1);
            let got = decode(&codec, payload.chunks(octets));
            assert!(got == samples(wanted), "{codec}: {} dB", fidelity(&samples(wanted), &got));
        }
    }
}

#[test]
fn dvi4_is_exact() {
    let wanted = samples(include_bytes!("vectors/dvi4.s16le"));
    assert_eq!(decode(&Codec::from_static(5), include_bytes!("vectors/dvi4.rtp").chunks(36)), wanted);
    // Each packet can be decoded by itself, and what is shorter than its header is none.
    assert_eq!(
        decode(&Codec::from_static(5), include_bytes!("vectors/dvi4.rtp").chunks(36).skip(7)),
        wanted[7 * 64..]
    );
    assert_eq!(decode(&Codec::from_static(5), [[0, 0, 0].as_slice(), &[0, 0, 255, 0]]), []);
}

fn opus_packets() -> Vec<&'static [u8]> {
    let mut rest = &include_bytes!("vectors/opus.rtp")[..];
    let mut packets = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (packet, after) = after.split_at(u16::from_be_bytes(*length).into());
        packets.push(packet);
        rest = after;
    }
    packets
}

fn opus(rate: u32) -> Codec {
    Codec::from_rtpmap("opus", 48_000, 2).with_parameters(&format!("maxplaybackrate={rate}"))
}

#[test]
fn opus_is_what_libopus_makes_of_it() {
    let wanted = samples(include_bytes!("vectors/opus.s16le"));
    let got = decode(&opus(48_000), opus_packets());
    // What comes before is the encoder's delay, which ffmpeg leaves out.
    let (wanted, got) = (&wanted[960..38_400], &got[960..38_400]);
    let fidelity = fidelity(wanted, got);
    assert!(fidelity > 60.0, "{fidelity} dB");
}

#[test]
fn opus_at_the_rate_that_the_receiver_plays() {
    for rate in [8000, 16_000, 24_000, 48_000] {
        let got = decode(&opus(rate), opus_packets());
        assert_eq!((got.len(), opus(rate).sample_rate()), (opus_packets().len() * rate as usize / 50, rate));
    }
}

/// All packets but each fifth; what is in its place is told by `fill`, from the next packet.
fn opus_with_loss(fill: fn(&mut Decoder, &[u8], &mut Vec<i16>)) -> Vec<i16> {
    let mut decoder = Decoder::new(&opus(16_000)).unwrap();
    let mut samples = Vec::new();
    for (index, packet) in opus_packets().into_iter().enumerate() {
        match index % 5 {
            3 => continue,
            4 => fill(&mut decoder, packet, &mut samples),
            _ => {}
        }
        decoder.decode(packet, &mut samples);
    }
    samples
}

#[test]
fn opus_recovers_what_the_next_packet_carries() {
    let wanted = decode(&opus(16_000), opus_packets());
    let recovered = opus_with_loss(|decoder, next, samples| {
        match decoder.redundancy(next) {
            Some(count) => {
                assert_eq!(count, 320);
                decoder.recover(next, samples);
            }
            // Nothing to speak of was said.
            None => decoder.conceal(320, samples),
        }
    });
    let concealed = opus_with_loss(|decoder, _, samples| decoder.conceal(320, samples));
    let [recovered, concealed] = [recovered, concealed].map(|samples| fidelity(&wanted, &samples));
    assert!(recovered > concealed + 6.0, "{recovered} dB, {concealed} dB");
}

#[test]
fn opus_fades_to_silence() {
    let mut decoder = Decoder::new(&opus(16_000)).unwrap();
    let mut samples = Vec::new();
    for packet in &opus_packets()[..20] {
        decoder.decode(packet, &mut samples);
    }
    samples.clear();
    decoder.conceal(100_000, &mut samples);
    assert_eq!(samples.len(), 960);
    assert!(samples.iter().any(|&sample| sample != 0));
    assert!(samples[940..].iter().all(|sample| sample.abs() < 400));
    samples.clear();
    // Less than Opus can make up.
    decoder.conceal(39, &mut samples);
    assert_eq!(samples, []);
}

#[test]
fn redundancy_is_told_from_the_packet_alone() {
    let decoder = Decoder::new(&opus(48_000)).unwrap();
    for (packet, wanted) in [
        (&[][..], None),
        (&[0x48], None),
        // SILK, 20 ms: voice activity, redundancy.
        (&[0x48, 0x40], Some(960)),
        (&[0x48, 0x80], None),
        // 60 ms: three flags of voice activity before it.
        (&[0x58, 0x10], Some(2880)),
        (&[0x58, 0xe0], None),
        // Stereo: the second channel's.
        (&[0x4c, 0x10], Some(960)),
        // CELT has none.
        (&[0x98, 0x40], None),
        // Two frames, the first of one octet; of none.
        (&[0x4a, 1, 0x40, 9], Some(960)),
        (&[0x4a, 0, 0x40], None),
        (&[0x4a], None),
        // Any number: two of variable length with three octets of padding.
        (&[0x4b, 0xc2, 3, 1, 0x40, 9, 0, 0, 0], Some(960)),
        (&[0x4b, 0xc2, 255, 255], None),
        (&[0x4b, 0x82, 252], None),
    ] {
        assert_eq!(decoder.redundancy(packet), wanted, "{packet:x?}");
    }
}

#[test]
fn nothing_panics() {
    let mut noise = 1u32;
    let mut random = move || {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        noise
    };
    let names = ["PCMU", "G722", "L16", "GSM", "G726-24", "AAL2-G726-40", "DVI4", "opus"];
    for name in names {
        let codec = Codec::from_rtpmap(name, if name == "opus" { 48_000 } else { 8000 }, 1);
        let mut decoder = Decoder::new(&codec).unwrap();
        let mut samples = Vec::new();
        for _ in 0..300 {
            samples.clear();
            let payload: Vec<u8> = (0..random() % 200).map(|_| random() as u8).collect();
            decoder.recover(&payload, &mut samples);
            decoder.decode(&payload, &mut samples);
            decoder.conceal(random() as usize % 4000, &mut samples);
            assert!(samples.len() <= 3 * 5760, "{name}");
        }
    }
}
