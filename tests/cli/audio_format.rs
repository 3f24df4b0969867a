//! What recordings are kept as.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{sample, spantape, stderr, stdout, text};

/// Every file of an archive but those of the spool, by its name.
fn files(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    fn collect(dir: &Path, root: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, root, files);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut files_found = BTreeMap::new();
    collect(archive, archive, &mut files_found);
    files_found.retain(|name, _| !name.starts_with("spool/"));
    files_found
}

/// Replays samples into an archive whose recordings have that format. Nothing is decoded by ffmpeg.
fn replay(format: &str, cases: &[&str], archive: &Path) -> Value {
    let config = archive.with_extension("toml");
    fs::write(&config, format!("[audio]\nformat = '{format}'\nffmpeg = 'off'\n")).unwrap();
    let inputs: Vec<_> = cases.iter().map(|case| sample(case)).collect();
    let mut arguments = vec!["replay"];
    arguments.extend(inputs.iter().map(|input| text(input)));
    arguments.extend(["--archive", text(archive), "--config", text(&config), "--json"]);
    let output = spantape(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The file of the recording from a user.
fn file_of(archive: &Path, from: &str) -> String {
    let output = spantape(&["search", "--archive", text(archive), "--from", from, "--format", "jsonl"]);
    let row: Value = serde_json::from_str(stdout(&output).lines().next().unwrap()).unwrap();
    row["file"].as_str().unwrap().to_owned()
}

/// As another decoder hears it; `None` where it is not installed.
fn heard(path: &Path) -> Option<Vec<u8>> {
    let mut command = Command::new("ffmpeg");
    let output = command.args(["-v", "error", "-i"]).arg(path).args(["-f", "s16le", "-"]).output().ok()?;
    assert!(output.status.success(), "{}", stderr(&output));
    Some(output.stdout)
}

#[test]
fn each_format() {
    let dir = TempDir::new().unwrap();
    let plain = dir.path().join("plain");
    replay("wav", &["plain-pcmu"], &plain);
    let pcm = fs::read(plain.join(file_of(&plain, "1009"))).unwrap();
    for (format, extension, most) in
        [("wav-ulaw", "wav", 51), ("wav-alaw", "wav", 51), ("flac", "flac", 70), ("opus", "opus", 30)]
    {
        let (first, second) =
            (dir.path().join(format!("{format}-1")), dir.path().join(format!("{format}-2")));
        replay(format, &["plain-pcmu"], &first);
        replay(format, &["plain-pcmu"], &second);
        let all = files(&first);
        assert_eq!(all, files(&second), "{format}: a replay gives the same bytes");
        replay(format, &["plain-pcmu"], &first);
        assert_eq!(all, files(&first), "{format}: replayed once more, it is left as it is");

        let recordings: Vec<&String> = all.keys().filter(|name| name.starts_with("recordings/")).collect();
        assert_eq!(recordings.len(), 1, "{format}: {recordings:?}");
        let file = file_of(&first, "1009");
        assert_eq!(*recordings[0], file);
        assert!(file.ends_with(&format!(".{extension}")), "{file}");
        let bytes = &all[&file];
        assert!(bytes.len() * 100 < pcm.len() * most, "{format}: {} of {} bytes", bytes.len(), pcm.len());

        let output = spantape(&["show", text(&first.join(&file))]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(
            stdout(&output).contains("dBFS") && !stdout(&output).contains("cut short"),
            "{}",
            stdout(&output)
        );
        // What was sent by µ-law is the same in µ-law and in FLAC.
        if let (Some(heard), "wav-ulaw" | "flac") = (heard(&first.join(&file)), format) {
            assert!(heard == pcm[2048..], "{format}");
        }
    }
}

#[test]
fn what_is_undecoded_can_be_added_later() {
    let dir = TempDir::new().unwrap();
    for format in ["flac", "wav-alaw"] {
        let archive = dir.path().join(format);
        replay(format, &["g723"], &archive);
        let all = files(&archive);
        let packets = all.keys().filter(|name| name.ends_with(".rtpdump")).count();
        let wav = all.keys().filter(|name| name.ends_with(".wav")).count();
        assert_eq!((packets, wav), (1, 1), "{format}: {:?}", all.keys());
        let copies = dir.path().join(format!("{format}-copies"));
        let arguments = ["export", "--archive", text(&archive), "--to", text(&copies), "--redecode"];
        let output = spantape(&arguments);
        if output.status.code() == Some(2) {
            assert!(stderr(&output).contains("there is no ffmpeg"), "{}", stderr(&output));
            continue;
        }
        assert!(output.status.success(), "{}", stderr(&output));
        let copy = files(&copies).into_iter().find(|(name, _)| name.ends_with(".wav")).unwrap();
        let silence = if format == "flac" { 0 } else { 0xd5 };
        let sound = copy.1[2048..].iter().filter(|&&byte| byte != silence).count();
        assert!(sound > copy.1.len() / 10, "{format}: {sound} of {}", copy.1.len());
    }
}

/// What a table says of each call, but for what only who listens knows.
fn rows(archive: &Path, table: &str) -> Vec<Value> {
    let arguments = ["search", "--archive", text(archive), "--table", table, "--format", "jsonl"];
    let lines = stdout(&spantape(&arguments));
    let mut rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        for heard in ["recordings", "not_decoded", "concealed_ms", "silent_ms", "recovered"] {
            row.remove(heard);
        }
    }
    rows
}

/// Replays a sample with audio and without, and compares what the catalog has of it.
fn compare(case: &str, rules: &str, is_recorded: bool) {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("rules.toml");
    fs::write(&config, rules).unwrap();
    let (heard, unheard) = (dir.path().join("heard"), dir.path().join("unheard"));
    for (archive, option) in [(&heard, "--threads=2"), (&unheard, "--no-audio")] {
        let input = sample(case);
        let arguments =
            ["replay", text(&input), "--archive", text(archive), "--config", text(&config), option];
        let output = spantape(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    for table in ["calls", "streams", "quality", "events"] {
        assert_eq!(rows(&unheard, table), rows(&heard, table), "{case}: {table}");
    }
    assert!(!rows(&heard, "calls").is_empty(), "{case}");
    assert_eq!(!rows(&heard, "recordings").is_empty(), is_recorded, "{case}");
    assert!(rows(&unheard, "recordings").is_empty() && !unheard.join("recordings").exists(), "{case}");
}

#[test]
fn without_audio_the_same_is_known_of_calls_and_streams() {
    let cases =
        ["plain-pcmu", "loss-reorder-jitter", "genesys", "hold-resume", "g722", "pbx-legs", "transfer-blind"];
    for case in cases {
        compare(case, "", true);
    }
}

#[test]
fn without_audio_rules_and_triggers_are_obeyed_all_the_same() {
    for case in ["plain-pcmu", "pbx-legs"] {
        compare(case, "[[rule]]\nname = 'nobody'\naction = 'ignore'\n", false);
    }
    let asked = "[[rule]]\nname = 'asked'\naction = 'on-demand'\n\
                 feature_codes = { toggle = '*1', pause = '*8', resume = '*9' }\n";
    for case in ["feature-codes", "record-on-off-on"] {
        compare(case, asked, true);
    }
    compare("audiocodes-pause", "", true);
}

#[test]
fn an_archive_does_not_tell_how_many_threads_have_written_it() {
    let dir = TempDir::new().unwrap();
    let cases = ["plain-pcmu", "record-on-off-on", "siprec-paused", "reinvite-codec", "loss-reorder-jitter"];
    let archives = ["1", "2"].map(|threads| {
        let archive = dir.path().join(threads);
        let inputs: Vec<_> = cases.iter().map(|case| sample(case)).collect();
        let mut arguments = vec!["replay", "--archive", text(&archive), "--threads", threads];
        arguments.extend(inputs.iter().map(|input| text(input)));
        let output = spantape(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        files(&archive)
    });
    assert!(archives[0].keys().filter(|name| name.ends_with(".wav")).count() >= 4);
    assert!(archives[0] == archives[1], "{:?} and {:?}", archives[0].keys(), archives[1].keys());
}
