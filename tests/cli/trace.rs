//! Capture files beside recordings.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{sample, spantape, stderr, text};

/// Replays a capture, with a capture file beside each recording.
fn replay(input: &Path, archive: &Path) {
    let config = archive.with_extension("toml");
    fs::write(&config, "[audio]\npcap = true\n").unwrap();
    let arguments = ["replay", text(input), "--archive", text(archive), "--config", text(&config)];
    let output = spantape(&arguments);
    assert!(output.status.success(), "{}: {}", input.display(), stderr(&output));
}

/// The recordings of an archive, in order, and the capture files beside them.
fn recordings(archive: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    let mut open = vec![archive.join("recordings")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().unwrap() == "wav" {
                found.push((path.clone(), path.with_extension("pcap")));
            }
        }
    }
    found.sort();
    found
}

/// The packets of a capture file: their times in nanoseconds and their bytes.
fn packets(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let file = fs::read(path).unwrap();
    let (mut rest, mut found) = (&file[24..], Vec::new());
    while let Some((head, body)) = rest.split_at_checked(16) {
        let number = |at: usize| u64::from(u32::from_le_bytes(head[at..at + 4].try_into().unwrap()));
        let (packet, after) = body.split_at(number(8) as usize);
        found.push((number(0) * 1_000_000_000 + number(4), packet.to_vec()));
        rest = after;
    }
    found
}

#[test]
fn what_is_kept_of_a_call_gives_the_same_recording() {
    let dir = TempDir::new().unwrap();
    for case in [
        "plain-pcmu",
        "sip-tcp",
        "tunnels",
        "fragmented-invite",
        "ipv6",
        "gsm",
        "l16",
        "g722",
        "g726",
        "dtmf",
        "hold-resume",
        "reinvite-codec",
        "websocket",
        "nat",
        "early-media",
    ] {
        let (first, second) = (dir.path().join(case), dir.path().join(format!("{case}-again")));
        replay(&sample(case), &first);
        let found = recordings(&first);
        assert!(!found.is_empty(), "{case}");
        for (wav, pcap) in found {
            let times: Vec<u64> = packets(&pcap).into_iter().map(|(at, _)| at).collect();
            assert!(times.is_sorted(), "{case}");
            replay(&pcap, &second);
            let again = recordings(&second);
            assert_eq!(again.len(), 1, "{case}");
            let samples = |path: &Path| fs::read(path).unwrap().split_off(2048);
            assert!(samples(&wav) == samples(&again[0].0), "{case}");
            fs::remove_dir_all(&second).unwrap();
        }
        let left: Vec<_> =
            fs::read_dir(first.join("spool")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!left.iter().any(|path| path.extension().is_some_and(|end| end == "trace")), "{left:?}");
    }
}

#[test]
fn nothing_of_a_pause_and_no_key() {
    let dir = TempDir::new().unwrap();
    let paused = dir.path().join("paused");
    replay(&sample("audiocodes-pause"), &paused);
    let [(_, pcap)] = &recordings(&paused)[..] else { panic!("one recording") };
    let packets_kept = packets(pcap);
    let is_rtp = |packet: &[u8]| u16::from_be_bytes([packet[20], packet[21]]) >= 11_000;
    let start = packets_kept.iter().find(|(_, packet)| is_rtp(packet)).unwrap().0;
    // The pause is from 4.0 to 9.0 s of the talk (the sample's README).
    let within = |from: u64, to: u64| {
        let times = start + from * 1_000_000..start + to * 1_000_000;
        packets_kept.iter().filter(|(at, packet)| is_rtp(packet) && times.contains(at)).count()
    };
    assert_eq!(within(4_050, 8_950), 0);
    assert!(
        within(0, 3_900) > 380 && within(9_100, 11_900) > 270,
        "{} {}",
        within(0, 3_900),
        within(9_100, 11_900)
    );

    let encrypted = dir.path().join("encrypted");
    replay(&sample("srtp-sdes"), &encrypted);
    let [(_, pcap)] = &recordings(&encrypted)[..] else { panic!("one recording") };
    let file = fs::read(pcap).unwrap();
    let text = String::from_utf8_lossy(&file);
    assert!(
        text.contains("inline:****************************************")
            && text.matches("inline:").count() >= 2
    );
    assert!(!text.split("inline:").skip(1).any(|after| after.as_bytes()[0].is_ascii_alphanumeric()));
}

#[test]
fn an_export_has_it() {
    let dir = TempDir::new().unwrap();
    let (archive, copies) = (dir.path().join("archive"), dir.path().join("copies"));
    replay(&sample("plain-pcmu"), &archive);
    let output = spantape(&["export", "--archive", text(&archive), "--to", text(&copies)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let (wav, pcap) = recordings(&archive).remove(0);
    for path in [wav, pcap] {
        assert_eq!(fs::read(copies.join(path.file_name().unwrap())).unwrap(), fs::read(&path).unwrap());
    }
}
