//! The real binary, as a person or a script calls it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod audio_format;
mod decode;
mod encryption;
mod export;
mod formats;
mod genesys_log;
mod import;
mod keep;
mod play;
mod trace;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn spantape(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_spantape")).args(arguments).output().unwrap()
}

fn sample(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(case).join("input.pcap")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An archive of some samples.
fn archive(cases: &[&str]) -> TempDir {
    let archive = TempDir::new().unwrap();
    let inputs: Vec<PathBuf> = cases.iter().map(|case| sample(case)).collect();
    let mut arguments = vec!["replay"];
    arguments.extend(inputs.iter().map(|path| text(path)));
    arguments.extend(["--archive", text(archive.path())]);
    let output = spantape(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    archive
}

#[test]
fn a_replay_says_what_it_did() {
    let archive = TempDir::new().unwrap();
    let input = sample("loss-reorder-jitter");
    let output = spantape(&["replay", text(&input), "--archive", text(archive.path())]);
    let said = stdout(&output);
    for part in ["calls        1 (1 answered)", "recordings   1", "audio        11.0 s", "24 lost"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(
        !said.contains('\u{1b}') && output.stderr.is_empty(),
        "no colours, no progress without a terminal"
    );
}

#[test]
fn a_replay_in_json() {
    let archive = TempDir::new().unwrap();
    let output =
        spantape(&["replay", text(&sample("plain-pcmu")), "--archive", text(archive.path()), "--json"]);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["recordings"], 1);
    assert_eq!(summary["rtp_packets"], 1102);
    assert!((summary["audio_seconds"].as_f64().unwrap() - 11.007).abs() < 0.02);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_done() {
    let archive = TempDir::new().unwrap();
    let no_capture = archive.path().join("notes.txt");
    std::fs::write(&no_capture, "this is no capture").unwrap();
    let missing = archive.path().join("missing.pcap");
    let input = sample("plain-pcmu");
    let output = spantape(&[
        "replay",
        text(&no_capture),
        text(&input),
        text(&missing),
        "--archive",
        text(&archive.path().join("archive")),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("notes.txt: is no capture") && said.contains("missing.pcap: cannot be read"),
        "{said}"
    );
    assert!(stdout(&output).contains("recordings   1"));
}

#[test]
fn searches() {
    let archive = archive(&["plain-pcmu", "g722", "early-media", "unanswered-busy"]);
    let search = |more: &[&str]| {
        let mut arguments = vec!["search", "--archive", text(archive.path()), "--format", "json"];
        arguments.extend(more);
        let output = spantape(&arguments);
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), rows)
    };
    let (code, rows) = search(&["--from", "1009"]);
    assert_eq!((code, rows.len()), (Some(0), 3));
    for key in [
        "recording_id",
        "call_id",
        "conversation_id",
        "from_user",
        "to_user",
        "start",
        "duration_s",
        "file",
        "trigger",
        "codecs",
        "sample_rate",
        "lost",
        "concealed_ms",
    ] {
        assert!(!rows[0][key].is_null(), "{key}");
    }
    assert!(archive.path().join(rows[0]["file"].as_str().unwrap()).is_file());
    assert_eq!(search(&["--codec", "G722"]).1.len(), 1);
    assert_eq!(search(&["--call-id", "early-media-1@10.20.0.9"]).1.len(), 1);
    assert_eq!(search(&["--min-duration", "11.5s"]).1.len(), 1);
    assert_eq!(search(&["--table", "calls", "--party", "1010"]).1.len(), 4);
    assert_eq!(search(&["--from", "4711"]), (Some(1), vec![]));
    assert_eq!(search(&["--until", "2001-01-01"]).0, Some(1));
}

#[test]
fn a_search_without_an_archive_says_so() {
    let output = spantape(&["search", "--archive", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/at/all"));
}

#[test]
fn sql_is_done_by_a_program_of_its_own() {
    let own = Path::new(env!("CARGO_BIN_EXE_spantape"));
    let dir = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
    let here = dir.path().join("spantape");
    std::fs::hard_link(own, &here).unwrap();
    let sql = |arguments: &[&str]| {
        Command::new(&here).arg("sql").args(arguments).env("PATH", dir.path()).output().unwrap()
    };
    let output = sql(&["select 1"]);
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(2), 1));
    assert!(stderr(&output).contains("cargo install --path userspace/sql"));
    // Beside the program it is found, and given all that was typed.
    std::os::unix::fs::symlink("/bin/sh", dir.path().join("spantape-sql")).unwrap();
    let output = sql(&["-c", "printf '%s\\n' \"$@\"; exit 1", "sh", "--archive", "a b", "--help"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), "--archive\na b\n--help\n"));
}

#[test]
fn shows_a_recording() {
    let archive = archive(&["yealink-record"]);
    let output = spantape(&["search", "--archive", text(archive.path()), "--format", "json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let id = rows[0]["recording_id"].as_str().unwrap();
    let output = spantape(&["show", &id[..8], "--archive", text(archive.path())]);
    let said = stdout(&output);
    for part in [
        "1009",
        "1010",
        "INVITE",
        "200 OK (INVITE)",
        "sip-info",
        "confirmed",
        "PCMU/8000",
        "expected",
        "caller",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(spantape(&["show", "ffffffffffff", "--archive", text(archive.path())]).status.code(), Some(1));
}

#[test]
fn a_bad_configuration_names_line_key_and_what_is_allowed() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.toml");
    std::fs::write(&file, "[[rule]]\nname = \"x\"\naction = \"record\"\n").unwrap();
    for arguments in [
        vec!["check-config", text(&file)],
        vec!["replay", "x.pcap", "--archive", "y", "--config", text(&file)],
    ] {
        let output = spantape(&arguments);
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        for part in ["rules.toml", "line 3", "action", "`all`, `on-demand`, `ignore`"] {
            assert!(said.contains(part), "{said}");
        }
    }
    std::fs::write(&file, "[[rule]]\nname = \"sales\"\naction = \"on-demand\"\nlookback = \"10s\"\n")
        .unwrap();
    let output = spantape(&["check-config", text(&file)]);
    assert!(
        output.status.success() && stdout(&output).contains("10 s before a trigger"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_configuration_says_when_and_for_whom() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.toml");
    let rule = "[[rule]]\nname = \"agents\"\naction = \"all\"\npaused = \"cut\"\n[rule.match]\ndn = [\"7001\", \"7002\"]\n";
    let typed =
        "record = \"source\"\nhours = [\"8:00-12:00\", \"22:00-06:00\"]\ndays = [\"mon-wed\", \"sun\"]\n";
    std::fs::write(&file, format!("[site]\ntime_zone = \"Europe/Berlin\"\n{rule}{typed}")).unwrap();
    let said = stdout(&spantape(&["check-config", text(&file)]));
    let conditions = "records the whole call, without paused time if the caller is 7001 or 7002 and it begins within 08:00-12:00 or 22:00-06:00 \
                      and the day is mon, tue, wed, sun";
    for part in [conditions, "Hours and days are those of Europe/Berlin"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn orphans_only_when_asked_for() {
    let folder = TempDir::new().unwrap();
    let rtp_only = folder.path().join("rtp.pcap");
    std::fs::write(&rtp_only, formats::without_sip(&std::fs::read(sample("plain-pcmu")).unwrap())).unwrap();
    let count = |more: &[&str]| {
        let archive = TempDir::new().unwrap();
        let mut arguments = vec!["replay", text(&rtp_only), "--json", "--archive", text(archive.path())];
        arguments.extend(more);
        let summary: serde_json::Value = serde_json::from_slice(&spantape(&arguments).stdout).unwrap();
        summary["recordings"].as_u64().unwrap()
    };
    assert_eq!((count(&[]), count(&["--orphans"])), (0, 1));
}

#[test]
fn a_doctor_checks_the_machine() {
    let output = spantape(&["doctor", "--json"]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let kernel = lines.iter().find(|line| line["check"] == "kernel").unwrap();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(kernel["found"].as_str().unwrap().starts_with(release.trim()), "{kernel}");
    for line in &lines {
        assert!(["ok", "warn", "fail"].iter().any(|state| line["state"] == *state), "{line}");
        assert_eq!(line["remedy"].is_null(), line["state"] == "ok", "{line}");
    }
    let failed = lines.iter().any(|line| line["state"] == "fail");
    assert_eq!(output.status.code(), Some(i32::from(failed)));
}

#[test]
fn a_doctor_names_the_interfaces_that_there_are() {
    let output = spantape(&["doctor", "--interface", "nosuch0", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let line = lines.iter().find(|line| line["interface"] == "nosuch0").unwrap();
    assert!(line["state"] == "fail" && line["found"].as_str().unwrap().contains("there are: "), "{line}");
    assert!(line["found"].as_str().unwrap().contains("lo"), "{line}");
    let output = spantape(&["doctor", "--interface", "nosuch0"]);
    let said = stdout(&output);
    assert!(said.contains("\nnosuch0\nfail  interface") && said.contains("there are:"), "{said}");
}
