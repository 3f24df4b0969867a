//! What leaves an archive: whole, verifiable without it, and of use to others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::Value;
use tempfile::TempDir;

use super::{archive, spantape, stderr, stdout, text};

/// An archive that is sealed, and the key beside it.
fn sealed(cases: &[&str]) -> (TempDir, PathBuf) {
    let archive = archive(cases);
    let key = archive.path().join("seal.key");
    ok(&["keygen", "--to", text(&key)]);
    seal(archive.path());
    (archive, key)
}

fn seal(archive: &Path) {
    ok(&["seal", "--archive", text(archive), "--key", text(&archive.join("seal.key"))]);
}

fn ok(arguments: &[&str]) -> String {
    let output = spantape(arguments);
    assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
    stdout(&output)
}

fn export(archive: &Path, to: &Path, more: &[&str]) -> String {
    let start = ["export", "--archive", text(archive), "--to", text(to)];
    ok(&[&start[..], more].concat())
}

/// The exit code and what is said.
fn verify(export: &Path, key: &Path) -> (i32, String) {
    let public = format!("{}.pub", text(key));
    let output = spantape(&["verify", text(export), "--key", &public]);
    (output.status.code().unwrap(), stdout(&output) + &stderr(&output))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Changes a byte, here and there in a file, and has a look each time.
fn flip(path: &Path, places: u64, mut look: impl FnMut()) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let step = (length / places).max(1);
    for at in (0..length).step_by(usize::try_from(step).unwrap()) {
        let mut byte = [0];
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut byte).unwrap();
        let mut put = |byte: u8| {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&[byte]).unwrap();
        };
        put(byte[0] ^ 1);
        look();
        put(byte[0]);
    }
}

#[test]
fn whatever_is_done_to_an_export_is_noticed() {
    let (archive, key) = sealed(&["plain-pcmu", "record-on-off-on"]);
    let dir = TempDir::new().unwrap();
    for format in ["dir", "bagit"] {
        let out = dir.path().join(format);
        export(archive.path(), &out, &["--format", format, "--sign", text(&key)]);
        let (code, said) = verify(&out, &key);
        assert!(code == 0 && said.contains("unsealed   0"), "{said}");
        let payload = out.join(if format == "bagit" { "data" } else { "" });
        assert_eq!(rows(&payload.join("recordings.jsonl")).len(), 2);
        for path in files(&out) {
            let whole = fs::read(&path).unwrap();
            let name = path.strip_prefix(&out).unwrap().display().to_string();
            flip(&path, 8, || {
                let (code, said) = verify(&out, &key);
                assert!(code == 1 || code == 2, "{name}: {said}");
            });
            fs::remove_file(&path).unwrap();
            let (code, said) = verify(&out, &key);
            // Without its signature it is one that was not signed, which is no fault.
            let is_signature =
                name.ends_with("sums.sig") || name.ends_with("SUMS.sig") || name.ends_with("sha256.txt.sig");
            assert!(code != 0 || is_signature, "{name}: {said}");
            fs::write(&path, whole).unwrap();
        }
        fs::write(payload.join("more.wav"), "RIFF").unwrap();
        let (code, said) = verify(&out, &key);
        assert!(code == 1 && said.contains("more.wav: was added since it was exported"), "{said}");
    }
}

#[test]
fn who_makes_all_lists_anew_cannot_make_the_proof() {
    let (archive, key) = sealed(&["plain-pcmu"]);
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out");
    export(archive.path(), &out, &[]);
    let lists = |out: &Path| {
        let mut lines = String::new();
        for path in files(out).iter().filter(|path| !path.ends_with("SHA256SUMS")) {
            let name = path.strip_prefix(out).unwrap().display();
            lines.push_str(&format!("{}  {name}\n", sha256(&fs::read(path).unwrap())));
        }
        fs::write(out.join("SHA256SUMS"), lines).unwrap();
    };
    lists(&out);
    assert_eq!(verify(&out, &key).0, 0);
    // Another caller, or other sound, and all hashes made to fit.
    let path = out.join("recordings.jsonl");
    let row = fs::read_to_string(&path).unwrap();
    fs::write(&path, row.replace("\"from_user\":\"1009\"", "\"from_user\":\"1010\"")).unwrap();
    lists(&out);
    let (code, said) = verify(&out, &key);
    assert!(code == 1 && said.contains("its row is not the one that was sealed"), "{said}");
    fs::write(&path, &row).unwrap();
    let wav = files(&out).into_iter().find(|path| path.extension().is_some_and(|end| end == "wav")).unwrap();
    let mut sound = fs::read(&wav).unwrap();
    sound[5000] ^= 1;
    fs::write(&wav, &sound).unwrap();
    lists(&out);
    let (code, said) = verify(&out, &key);
    assert!(code == 1 && said.contains("is not the one that its row was written for"), "{said}");
    let row = row.replace(&sha256(&fs::read(archive_file(archive.path(), "wav")).unwrap()), &sha256(&sound));
    fs::write(&path, row).unwrap();
    lists(&out);
    assert_eq!(verify(&out, &key).0, 1);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn archive_file(archive: &Path, extension: &str) -> PathBuf {
    let found = files(&archive.join("recordings"));
    found.into_iter().find(|path| path.extension().is_some_and(|end| end == extension)).unwrap()
}

#[test]
fn nothing_is_told_of_others() {
    let (archive, key) = sealed(&["plain-pcmu", "snom-record-refused", "feature-codes", "pbx-legs"]);
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out");
    let all = rows_of(archive.path());
    let one = all.iter().find(|row| row["from_user"] == "1009").unwrap();
    let uid = one["call_uid"].as_str().unwrap();
    export(archive.path(), &out, &["--call-id", uid]);
    assert_eq!(verify(&out, &key).0, 0);
    let others = all.iter().filter(|row| row["call_uid"] != uid).flat_map(|row| {
        ["recording_id", "call_uid", "call_id"].map(|column| row[column].as_str().unwrap().to_owned())
    });
    let others: Vec<String> = others.collect();
    assert!(!others.is_empty());
    for path in files(&out) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let told = others.iter().find(|other| text.contains(other.as_str()));
        assert!(told.is_none(), "{}: {told:?}", path.display());
    }
}

fn rows_of(archive: &Path) -> Vec<Value> {
    let output = spantape(&["search", "--archive", text(archive), "--format", "json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_was_begun_goes_on() {
    let (archive, key) = sealed(&["plain-pcmu", "g722", "early-media"]);
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out");
    let last = rows_of(archive.path()).pop().unwrap()["file"].as_str().unwrap().to_owned();
    let (last, hidden) = (archive.path().join(last), archive.path().join("hidden"));
    fs::rename(&last, &hidden).unwrap();
    let output = spantape(&["export", "--archive", text(archive.path()), "--to", text(&out)]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let inodes = |out: &Path| -> BTreeMap<PathBuf, u64> {
        let wavs = files(out).into_iter().filter(|path| path.extension().is_some_and(|end| end == "wav"));
        wavs.map(|path| (path.clone(), fs::metadata(path).unwrap().ino())).collect()
    };
    let before = inodes(&out);
    assert_eq!(before.len(), 2);
    // Something else is not put among it, and what is not finished is no export.
    let other =
        spantape(&["export", "--archive", text(archive.path()), "--to", text(&out), "--from", "1009"]);
    assert!(other.status.code() == Some(2) && stderr(&other).contains("another export was begun"));
    assert_ne!(verify(&out, &key).0, 0);
    fs::rename(&hidden, &last).unwrap();
    export(archive.path(), &out, &[]);
    let after = inodes(&out);
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|(path, inode)| after[path] == *inode), "{before:?} {after:?}");
    assert_eq!(verify(&out, &key).0, 0);
}

#[test]
fn a_zip_file_plays() {
    let (archive, key) = sealed(&["plain-pcmu"]);
    let dir = TempDir::new().unwrap();
    let (zip, again) = (dir.path().join("a.zip"), dir.path().join("out"));
    export(archive.path(), &zip, &["--format", "zip"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let mut packed = zip::ZipArchive::new(File::open(&zip).unwrap()).unwrap();
    packed.extract(&again).unwrap();
    assert_eq!(verify(&again, &key).0, 0);
    let page = fs::read_to_string(again.join("index.html")).unwrap();
    let wav =
        files(&again).into_iter().find(|path| path.extension().is_some_and(|end| end == "wav")).unwrap();
    let name = wav.file_name().unwrap().to_str().unwrap();
    let linked = page.split("src=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(percent_encoding::percent_decode_str(linked).decode_utf8().unwrap(), name);
    let refused =
        spantape(&["export", "--archive", text(archive.path()), "--to", text(&zip), "--format", "zip"]);
    assert!(refused.status.code() == Some(2) && stderr(&refused).contains("there already"));
}

#[test]
fn vcons() {
    let (archive, key) = sealed(&["record-on-off-on"]);
    let dir = TempDir::new().unwrap();
    let read = |out: &Path| -> Value {
        let found: Vec<PathBuf> =
            files(out).into_iter().filter(|path| text(path).ends_with(".vcon.json")).collect();
        assert_eq!(found.len(), 1);
        serde_json::from_slice(&fs::read(&found[0]).unwrap()).unwrap()
    };
    let inline = dir.path().join("inline");
    export(archive.path(), &inline, &["--format", "vcon"]);
    let vcon = read(&inline);
    assert_eq!(vcon["dialog"].as_array().unwrap().len(), 1);
    for (dialog, row) in vcon["dialog"].as_array().unwrap().iter().zip(rows_of(archive.path())) {
        let sound = fs::read(archive.path().join(row["file"].as_str().unwrap())).unwrap();
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(dialog["body"].as_str().unwrap()).unwrap(), sound);
        assert_eq!(dialog["start"], row["start"]);
    }
    let outside = dir.path().join("outside");
    let url = ["--format", "vcon", "--base-url", "https://example.com/calls/"];
    export(archive.path(), &outside, &url);
    let vcon = read(&outside);
    assert_eq!(files(&outside).len(), 2);
    assert!(vcon["dialog"][0]["url"].as_str().unwrap().starts_with("https://example.com/calls/2"));
    let signed = dir.path().join("signed");
    export(archive.path(), &signed, &["--format", "vcon", "--sign", text(&key)]);
    assert_eq!(read(&signed)["signatures"].as_array().unwrap().len(), 1);
}

#[test]
fn what_was_begun_goes_on_with_the_moments_it_had() {
    let (archive, _) = sealed(&["plain-pcmu", "g722"]);
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out");
    let last = archive.path().join(rows_of(archive.path()).pop().unwrap()["file"].as_str().unwrap());
    let hidden = archive.path().join("hidden");
    fs::rename(&last, &hidden).unwrap();
    let arguments =
        ["export", "--archive", text(archive.path()), "--to", text(&out), "--since", "50 years ago"];
    assert_eq!(spantape(&arguments).status.code(), Some(2));
    fs::write(out.join("left.wav"), "of another attempt").unwrap();
    fs::write(out.join(".export-left"), "half of a file").unwrap();
    fs::rename(&hidden, &last).unwrap();
    ok(&arguments);
    assert!(!out.join("left.wav").exists() && !out.join(".export-left").exists());
    assert!(out.join("quality.jsonl").exists());
}

#[test]
fn what_has_been_purged_ends_no_export() {
    let (archive, _) = sealed(&["plain-pcmu", "g722"]);
    let dir = TempDir::new().unwrap();
    let gone = rows_of(archive.path()).remove(0);
    let uid = gone["call_uid"].as_str().unwrap();
    ok(&["purge", "--archive", text(archive.path()), "--call-id", uid, "--reason", "case 12", "--yes"]);
    for format in ["dir", "bagit", "vcon"] {
        let out = dir.path().join(format);
        let to = ["export", "--archive", text(archive.path()), "--to", text(&out), "--format", format];
        let output = spantape(&to);
        let said = stderr(&output);
        assert!(output.status.code() == Some(1) && said.contains("has been purged"), "{said}");
        assert!(stdout(&output).starts_with("1 recordings in"), "{}", stdout(&output));
        if format == "dir" {
            let rows = rows(&out.join("recordings.jsonl"));
            let row = rows.iter().find(|row| row["recording_id"] == gone["recording_id"]).unwrap();
            assert_eq!(row["exported"], serde_json::json!({ "file": "", "how": "purged" }));
        }
    }
}

#[test]
fn what_was_altered_is_not_handed_over() {
    let (archive, _) = sealed(&["plain-pcmu"]);
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out");
    let wav = archive_file(archive.path(), "wav");
    let mut sound = fs::read(&wav).unwrap();
    sound[5000] ^= 1;
    fs::write(&wav, sound).unwrap();
    let output = spantape(&["export", "--archive", text(archive.path()), "--to", text(&out)]);
    let said = stderr(&output);
    let name = wav.file_name().unwrap().to_str().unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(name) && said.contains("not the one that its row was written for"), "{said}");
    assert!(!out.join(name).exists());
}

/// An archive with a capture file beside each recording.
fn with_captures(case: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("config.toml");
    fs::write(&config, "[audio]\npcap = true\n").unwrap();
    let (input, archive) = (super::sample(case), dir.path().join("archive"));
    ok(&["replay", text(&input), "--config", text(&config), "--archive", text(&archive)]);
    dir
}

#[test]
fn capture_files_are_left_out_where_they_would_tell_keys() {
    let dir = with_captures("dtmf");
    let archive = dir.path().join("archive");
    let captures = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        export(&archive, &out, more);
        files(&out).into_iter().filter(|path| path.extension().is_some_and(|end| end == "pcap")).count()
    };
    assert!(captures("told", &[]) > 0);
    assert_eq!(captures("hidden", &["--redact-digits"]), 0);
    assert_eq!(captures("vcons", &["--format", "vcon"]), 0);
    let both = ["export", "--archive", text(&archive), "--to", "x", "--redact-digits", "--encrypted"];
    assert_eq!(spantape(&both).status.code(), Some(2));
}

#[test]
fn beside_vcons_lies_nothing() {
    let dir = with_captures("undecodable");
    let archive = dir.path().join("archive");
    let out = dir.path().join("out");
    export(&archive, &out, &["--format", "vcon"]);
    assert!(files(&out).iter().all(|path| text(path).ends_with(".vcon.json")), "{:?}", files(&out));
    let refused = dir.path().join("refused");
    for more in [&["--base-url", "http://example.com"][..], &["--encrypted"]] {
        let start = ["export", "--archive", text(&archive), "--to", text(&refused), "--format", "vcon"];
        assert_eq!(spantape(&[&start[..], more].concat()).status.code(), Some(2), "{more:?}");
        assert!(!refused.exists());
    }
}

#[test]
fn keys_that_were_pressed_are_not_told() {
    let (archive, _) = sealed(&["dtmf"]);
    let dir = TempDir::new().unwrap();
    let digits = |more: &[&str], name: &str| -> Vec<String> {
        let out = dir.path().join(name);
        export(archive.path(), &out, more);
        let rows = rows(&out.join("events.jsonl"));
        let keys = rows.iter().filter(|row| row["kind"] == "dtmf");
        keys.map(|row| row["text"].as_str().unwrap().to_owned()).collect()
    };
    let told = digits(&[], "told");
    assert!(!told.is_empty() && told.iter().all(|text| !text.starts_with("* (")), "{told:?}");
    let hidden = digits(&["--redact-digits"], "hidden");
    assert_eq!(hidden.len(), told.len());
    assert!(hidden.iter().all(|text| text.starts_with("* (")), "{hidden:?}");
}

#[test]
fn what_nothing_proves_is_told() {
    let (archive, key) = sealed(&["plain-pcmu"]);
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out");
    export(archive.path(), &out, &[]);
    let (code, said) = verify(&out, &key);
    assert!(code == 0 && said.contains("nothing contradicts what was sealed; "), "{said}");
    let public = format!("{}.pub", text(&key));
    let output = spantape(&["verify", text(&out), "--key", &public, "--sealed"]);
    assert!(output.status.code() == Some(1) && stdout(&output).contains("calls.jsonl: nothing proves it"));
    // Whoever exports may have another key than whoever seals.
    let (other, again) = (dir.path().join("other.key"), dir.path().join("again"));
    ok(&["keygen", "--to", text(&other)]);
    export(archive.path(), &again, &["--sign", text(&other)]);
    assert_eq!(verify(&again, &key).0, 1);
    let signer = format!("{}.pub", text(&other));
    let all = ["verify", text(&again), "--key", &public, "--signer", &signer, "--sealed"];
    assert!(ok(&all).contains("all is as it was"));
    // The hash may have been noted in short, and in capitals.
    let report: Value = serde_json::from_str(&ok(&[&all[..], &["--json"]].concat())).unwrap();
    let last = report["last"].as_str().unwrap().to_uppercase();
    ok(&[&all[..], &["--last", &last[..16]]].concat());
    assert_eq!(spantape(&[&all[..], &["--last", &last[..15]]].concat()).status.code(), Some(2));
}
