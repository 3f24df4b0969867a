//! What is recorded of traffic that no signalling speaks of: nothing, unless orphans are asked for, and then RTP alone.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use spantape_core::record::Side;
use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, EPOCH, SIDES, Sent};
use spantape_tests::frame::{Frame, merge, tcp, udp};
use spantape_tests::runner::{Outcome, run};
use spantape_tests::sip::sdp;
use spantape_tests::truth;

fn with_orphans(frames: &[Frame]) -> Outcome {
    run(Config { orphans: true, ..Config::default() }, frames)
}

fn at(host: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port)
}

/// Datagrams to and fro between two ports, fifty a second each way.
fn talk(payloads: impl IntoIterator<Item = Vec<u8>>) -> Vec<Frame> {
    let both = [at(1, 40_000), at(2, 50_000)];
    let frame = |(index, payload): (usize, Vec<u8>)| {
        let way = index % 2;
        udp(EPOCH + index as i64 * 10 * MILLISECOND, both[way], both[1 - way], &payload)
    };
    payloads.into_iter().enumerate().map(frame).collect()
}

fn nothing(frames: &[Frame]) -> Result<(), TestCaseError> {
    let outcome = with_orphans(frames);
    prop_assert_eq!((outcome.recordings.len(), outcome.calls.len()), (0, 0));
    Ok(())
}

proptest! {
    #![proptest_config(crate::cases(128))]

    /// Two bits make no RTP, nor does a number that counts on in its place.
    #[test]
    fn random_datagrams(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 12..80), 50..150),
        ssrc in prop::option::of(any::<u32>()),
        payload_type in prop::option::of(any::<u8>()),
        counts: bool,
    ) {
        let shape = |(index, mut payload): (usize, Vec<u8>)| {
            payload[0] = 0x80 | payload[0] & 0x3f;
            if let Some(payload_type) = payload_type {
                payload[1] = payload_type;
            }
            if counts {
                payload[2..4].copy_from_slice(&(index as u16 / 2).to_be_bytes());
            }
            if let Some(ssrc) = ssrc {
                payload[8..12].copy_from_slice(&ssrc.to_be_bytes());
            }
            payload
        };
        nothing(&talk(payloads.into_iter().enumerate().map(shape)))?;
    }

    /// Protocols that have the version's bits by chance: the identification of DNS, the calls of IAX2's full frames.
    #[test]
    fn look_alikes(id in 0x8000u16..0xc000, first: u32, kind in 0..5usize) {
        let payload = |index: u32| match kind {
            // DNS: the same questions with the next identification.
            0 => [&(id + index as u16 / 2).to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0], b"\x03www\x00\x00\x01\x00\x01"].concat(),
            // IAX2: both calls, milliseconds, numbers of frames, voice.
            1 => [&id.to_be_bytes()[..], &[0, 9], &(index * 20).to_be_bytes(), &[index as u8, 0, 2, 4], &[0x55; 160]].concat(),
            // UNISTIM counts from some number on.
            2 => [&((u32::from(id) << 16) + index).to_be_bytes()[..], &[2, 1, 0, 0, 0, 0, 0, 0, 0x16, 4]].concat(),
            // Some meter: a number, milliseconds, who it is.
            3 => [&[0x80, 0x60][..], &(index as u16).to_be_bytes(), &(index * 20).to_be_bytes(), &first.to_be_bytes(), &[7; 20]].concat(),
            // RTCP reports of one sender.
            _ => [&[0x80, 200, 0, 6][..], &first.to_be_bytes(), &[0; 20]].concat(),
        };
        nothing(&talk((0..120).map(payload)))?;
    }

    /// A pair of streams is one recording, on whatever other ports the second side sends or is seen.
    #[test]
    fn pairs(indexes in prop::collection::btree_set(0u8..30, 1..5), shift in 0..3usize, one_way: bool) {
        let calls: Vec<Call> = indexes.into_iter().map(|index| Call::plain(index, i64::from(index) * SECOND / 9, 2 * SECOND)).collect();
        let media = |call: &Call| -> Vec<Sent> {
            let keep = |packet: &Sent| !(one_way && packet.side == Side::Callee);
            let mut media = call.media().into_iter().filter(keep).collect::<Vec<_>>();
            for packet in media.iter_mut().filter(|packet| packet.side == Side::Callee) {
                let [from, to] = &mut packet.path;
                match shift {
                    1 => from.set_port(from.port() + 2),
                    2 => to.set_ip(Ipv4Addr::new(10, 77, 0, call.index)),
                    _ => {}
                }
            }
            media
        };
        let frames = merge(calls.iter().map(|call| media(call).iter().map(Sent::frame).collect()));
        let outcome = with_orphans(&frames);
        prop_assert_eq!((outcome.recordings.len(), outcome.calls.len()), (calls.len(), calls.len()));
        for recording in &outcome.recordings {
            prop_assert_eq!(&recording.row.trigger, "orphan");
            let heard: Vec<bool> = SIDES.iter().map(|&side| recording.side(side).any(|sample| sample != 0)).collect();
            prop_assert_eq!(heard.iter().filter(|heard| **heard).count(), if one_way { 1 } else { 2 });
            // Whoever was heard first is the caller here.
            let whole = calls.iter().any(|call| {
                let mut all = media(call);
                let as_it_is = truth::is_placed(recording, &all, &[]).is_ok();
                all.iter_mut().for_each(|packet| packet.side = packet.side.other());
                as_it_is || truth::is_placed(recording, &all, &[]).is_ok()
            });
            prop_assert!(whole, "{}", recording.row.call_id);
        }
        let usual = run(Config::default(), &frames);
        prop_assert_eq!((usual.recordings.len(), usual.calls.len()), (0, 0));
    }
}

/// What is encrypted under the number of a codec is noise, and no audio.
#[test]
fn srtp_under_a_static_type() {
    let call = Call::plain(0, 0, 3 * SECOND);
    let with_tag = |packet: &Sent| {
        let mut frame = packet.frame();
        let payload = &frame.bytes[42..];
        let payload = [payload, &[0x5a; 10]].concat();
        frame = udp(frame.at.0, packet.path[0], packet.path[1], &payload);
        frame
    };
    let frames = merge([call.media().iter().map(with_tag).collect()]);
    let outcome = with_orphans(&frames);
    assert_eq!((outcome.recordings.len(), outcome.calls.len()), (0, 0));
}

/// What sets up media by another protocol than SIP makes no call of it, whatever it says.
#[test]
fn media_of_other_signalling() {
    let call = Call::plain(0, 0, 2 * SECOND);
    let [phone, other] = call.sip;
    let [offer, answer] = call.media.map(sdp);
    let port = |end: SocketAddrV4, port| SocketAddrV4::new(*end.ip(), port);
    let mgcp = |verb: &str, body: &str| {
        format!("{verb}\r\nC: A3C47F2146789F0\r\nI: FDE234C8\r\n\r\n{body}").into_bytes()
    };
    let crcx = mgcp("CRCX 1204 aaln/1@rgw.example.net MGCP 1.0", &offer);
    let agreed = mgcp("200 1204 OK", &answer);
    let describe = format!(
        "RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{offer}",
        offer.len()
    );
    // Interleaved (RFC 2326, 10.12).
    let sent = call.media_of(Side::Caller);
    let interleaved = sent.iter().take(50).enumerate().map(|(index, packet)| {
        let payload = &packet.frame().bytes[42..];
        let length = (payload.len() as u16).to_be_bytes();
        let bytes = [&[b'$', 0][..], &length, payload].concat();
        let sequence = 1 + (describe.len() + index * bytes.len()) as u32;
        tcp(packet.at, port(phone, 554), port(other, 50_000), sequence, &bytes)
    });
    // SCCP: OpenReceiveChannelAck, with where it is to be sent.
    let mut skinny = [&28u32.to_le_bytes()[..], &[0; 4], &0x22u32.to_le_bytes(), &[0; 4]].concat();
    skinny.extend(call.media[0].ip().octets());
    skinny.extend([u32::from(call.media[0].port()), 1].map(u32::to_le_bytes).concat());
    // UNISTIM: a number, a type, commands.
    let unistim = |index: u32| {
        [&index.to_be_bytes()[..], &[2, 1], &0x1234_5678u32.to_be_bytes(), &[0x16, 4, 0x30, 0]].concat()
    };
    let start = call.start;
    let mut signalling = vec![
        udp(start, phone, port(other, 2427), &crcx),
        udp(start + MILLISECOND, port(other, 2427), phone, &agreed),
        tcp(start, port(phone, 554), port(other, 50_000), 1, describe.as_bytes()),
        tcp(start, port(phone, 50_001), port(other, 2000), 1, &skinny),
        // TPKT and the beginning of a Q.931 setup.
        tcp(start, port(phone, 50_002), port(other, 1720), 1, &[3, 0, 0, 12, 8, 2, 0, 1, 5, 4, 3, 0x80]),
    ];
    signalling.extend((0..20).map(|index| {
        udp(start + i64::from(index) * MILLISECOND, port(phone, 5000), port(other, 5000), &unistim(index))
    }));
    signalling.extend(interleaved);
    let media: Vec<Frame> = call.media().iter().map(Sent::frame).collect();
    // Iu-UP within RTP: two bytes more than its frames, under a dynamic type.
    let iu_up = call.media().into_iter().map(|packet| {
        let mut frame = packet.frame();
        frame.bytes[43] = 96;
        udp(frame.at.0, port(packet.path[0], 40_000), port(packet.path[1], 50_000), &frame.bytes[42..])
    });
    let frames = merge([signalling, media, iu_up.collect()]);
    let usual = run(Config::default(), &frames);
    assert_eq!((usual.recordings.len(), usual.calls.len()), (0, 0));
    // That pair alone is audio.
    let outcome = with_orphans(&frames);
    let orphans: Vec<&str> = outcome.recordings.iter().map(|recording| &*recording.row.trigger).collect();
    assert_eq!(orphans, ["orphan"]);
}
