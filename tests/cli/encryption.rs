//! Recordings that are encrypted at rest.

use std::fs;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;

use super::{archive, sample, spantape, stderr, stdout, text};

struct Scene {
    dir: TempDir,
}

impl Scene {
    /// Replays samples into an archive for one recipient, with that much more of a configuration.
    fn new(cases: &[&str], audio: &str) -> Scene {
        let scene = Scene { dir: TempDir::new().unwrap() };
        let identity = age::x25519::Identity::generate();
        fs::write(scene.identity(), format!("# mine\n{}\n", identity.to_string().expose_secret())).unwrap();
        let config = format!("[archive]\nrecipients = \"{}\"\n[audio]\n{audio}\n", identity.to_public());
        fs::write(scene.dir.path().join("config.toml"), config).unwrap();
        scene.replay(cases);
        scene
    }

    fn replay(&self, cases: &[&str]) {
        let inputs: Vec<PathBuf> = cases.iter().map(|case| sample(case)).collect();
        let config = self.dir.path().join("config.toml");
        let mut arguments = vec!["replay", "--config", text(&config)];
        arguments.extend(inputs.iter().map(|path| text(path)));
        let archive = self.archive();
        arguments.extend(["--archive", text(&archive)]);
        let output = spantape(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    fn identity(&self) -> PathBuf {
        self.dir.path().join("identity.txt")
    }

    fn row(&self) -> Value {
        rows(&self.archive()).remove(0)
    }
}

fn rows(archive: &Path) -> Vec<Value> {
    let output = spantape(&["search", "--archive", text(archive), "--format", "json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn files(dir: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn nothing_is_left_in_clear_and_nothing_is_lost() {
    for (format, case) in
        [("wav", "plain-pcmu"), ("flac", "g722"), ("opus", "plain-pcmu"), ("wav", "undecodable")]
    {
        let options = format!("format = \"{format}\"\npcap = true\nffmpeg = \"off\"");
        let scene = Scene::new(&[case], &options);
        let archive = scene.archive();
        let recordings = files(&archive.join("recordings"));
        assert!(
            recordings.len() > 1 && recordings.iter().all(|name| name.ends_with(".age")),
            "{recordings:?}"
        );
        for name in &recordings {
            let bytes = fs::read(archive.join("recordings").join(name)).unwrap();
            assert!(bytes.starts_with(b"age-encryption.org/v1\n"), "{name}");
        }
        assert_eq!(files(&archive.join("keys")).len(), 1);
        let spool = files(&archive.join("spool"));
        assert!(spool.iter().all(|name| matches!(name.as_str(), "lock" | "log")), "{spool:?}");

        // The same as without encryption.
        let plain = scene.dir.path().join("plain");
        fs::write(scene.dir.path().join("plain.toml"), format!("[audio]\n{options}\n")).unwrap();
        let config = scene.dir.path().join("plain.toml");
        let input = sample(case);
        let output =
            spantape(&["replay", text(&input), "--config", text(&config), "--archive", text(&plain)]);
        assert!(output.status.success(), "{}", stderr(&output));
        let (row, expected) = (scene.row(), rows(&plain).remove(0));
        assert_eq!(row["content_sha256"], expected["sha256"]);
        assert_eq!(row["file"], format!("{}.age", expected["file"].as_str().unwrap()));
        let play = |archive: &Path, more: &[&str]| {
            let id = row["recording_id"].as_str().unwrap();
            spantape(&[&["play", id, "--stdout", "--archive", text(archive)][..], more].concat())
        };
        let identity = scene.identity();
        let heard = play(&archive, &["--identity", text(&identity)]);
        assert!(heard.status.success() && heard.stdout == play(&plain, &[]).stdout, "{}", stderr(&heard));
        let refused = play(&archive, &[]);
        assert!(
            refused.status.code() == Some(2) && stderr(&refused).contains("--identity"),
            "{}",
            stderr(&refused)
        );
        let other = scene.dir.path().join("other.txt");
        fs::write(&other, age::x25519::Identity::generate().to_string().expose_secret()).unwrap();
        let refused = play(&archive, &["--identity", text(&other)]);
        assert!(stderr(&refused).contains("encrypted for somebody else"), "{}", stderr(&refused));

        // A replay once more adds nothing.
        let before = files(&archive);
        scene.replay(&[case]);
        assert_eq!(files(&archive), before);

        fs::remove_file(archive.join(row["key"].as_str().unwrap())).unwrap();
        let gone = play(&archive, &["--identity", text(&identity)]);
        assert!(stderr(&gone).contains("its key has been destroyed"), "{}", stderr(&gone));
    }
}

#[test]
fn shown_and_exported_in_clear_or_as_it_is() {
    let scene = Scene::new(&["plain-pcmu", "record-on-off-on"], "");
    let (archive, identity) = (scene.archive(), scene.identity());
    let id = scene.row()["recording_id"].as_str().unwrap().to_owned();
    let show =
        |more: &[&str]| stdout(&spantape(&[&["show", &id, "--archive", text(&archive)][..], more].concat()));
    assert!(show(&[]).contains("no waveform") && show(&["--identity", text(&identity)]).contains("dBFS"));
    let key = scene.dir.path().join("seal.key");
    let ok = |arguments: &[&str]| {
        let output = spantape(arguments);
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    };
    ok(&["keygen", "--to", text(&key)]);
    ok(&["seal", "--archive", text(&archive), "--key", text(&key)]);
    ok(&["verify", "--archive", text(&archive), "--sealed"]);
    let (clear, sealed) = (scene.dir.path().join("clear"), scene.dir.path().join("sealed"));
    let refused = spantape(&["export", "--archive", text(&archive), "--to", text(&clear)]);
    assert!(
        refused.status.code() == Some(2) && stderr(&refused).contains("--identity"),
        "{}",
        stderr(&refused)
    );
    ok(&["export", "--archive", text(&archive), "--to", text(&clear), "--identity", text(&identity)]);
    ok(&["verify", text(&clear)]);
    assert_eq!(files(&clear).iter().filter(|name| name.ends_with(".wav")).count(), 2);
    // A sample that is another is noticed by what was sealed before it was encrypted.
    let wav = clear.join(files(&clear).into_iter().find(|name| name.ends_with(".wav")).unwrap());
    let mut sound = fs::read(&wav).unwrap();
    sound[4000] ^= 1;
    fs::write(&wav, sound).unwrap();
    let said = stdout(&spantape(&["verify", text(&clear)]));
    assert!(said.contains("not the one that its row was written for"), "{said}");
    ok(&["export", "--archive", text(&archive), "--to", text(&sealed), "--encrypted"]);
    ok(&["verify", text(&sealed)]);
    let names = files(&sealed);
    assert_eq!(names.iter().filter(|name| name.ends_with(".age")).count(), 2, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.ends_with(".key")).count(), 2, "{names:?}");
}

#[test]
fn an_identity_in_the_environment_does_not_matter_to_what_stays_encrypted() {
    let scene = Scene::new(&["plain-pcmu"], "");
    let (archive, out) = (scene.archive(), scene.dir.path().join("out"));
    let export = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_spantape"))
            .args(["export", "--archive", text(&archive), "--to", text(&out), "--encrypted"])
            .env("SPANTAPE_IDENTITY", scene.identity())
            .output()
            .unwrap()
    };
    let key = archive.join(scene.row()["key"].as_str().unwrap());
    let hidden = scene.dir.path().join("hidden");
    fs::rename(&key, &hidden).unwrap();
    let missing = export();
    assert!(missing.status.code() == Some(2) && stderr(&missing).contains(".key"), "{}", stderr(&missing));
    fs::rename(&hidden, &key).unwrap();
    let output = export();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(files(&out).iter().any(|name| name.ends_with(".wav.age")), "{:?}", files(&out));
}

#[test]
fn what_is_imported_is_encrypted_too() {
    let scene = Scene::new(&["plain-pcmu"], "");
    let phone = scene.dir.path().join("20261122143005.wav");
    let mut file = b"PCMA".to_vec();
    file.resize(64, 0);
    for word in [160u32, 160, 160 * 50] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0xd5; 160 * 50]);
    fs::write(&phone, file).unwrap();
    let (archive, config) = (scene.archive(), scene.dir.path().join("config.toml"));
    let import = |more: &[&str]| {
        spantape(&[&["import", text(&phone), "--archive", text(&archive)][..], more].concat())
    };
    let refused = import(&[]);
    assert!(
        refused.status.code() == Some(2) && stderr(&refused).contains("--config"),
        "{}",
        stderr(&refused)
    );
    let output = import(&["--config", text(&config)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let rows = rows(&archive);
    assert!(rows.len() == 2 && rows.iter().all(|row| row["key"] != ""), "{rows:?}");
    assert!(files(&archive.join("recordings")).iter().all(|name| name.ends_with(".age")));
}

#[test]
fn an_archive_in_clear_stays_one() {
    let archive = archive(&["plain-pcmu"]);
    let row = rows(archive.path()).remove(0);
    assert_eq!((&row["key"], &row["content_sha256"]), (&"".into(), &Value::Null));
    assert!(!archive.path().join("keys").exists());
}
