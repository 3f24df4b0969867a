//! A case of `samples/`, and the archive that it gives.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Sets of rules that every case is replayed with: files in `tests/golden/rules`.
const RULES: [&str; 2] = ["default", "on-demand"];
/// Sets of rules for the cases that they are made for.
const MORE_RULES: &[(&str, &str)] =
    &[("audiocodes-pause", "paused-cut"), ("dtls-srtp", "key-log"), ("hep", "hep")];

/// A folder of `samples/` with a capture.
pub(crate) struct Case {
    pub(crate) name: String,
    folder: PathBuf,
}

/// What a replay has made.
pub(crate) struct Archive(TempDir);

impl Case {
    pub(crate) fn all() -> Vec<Case> {
        let samples = root().join("samples");
        let mut cases: Vec<Case> = std::fs::read_dir(samples)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|folder| folder.join("input.pcap").is_file())
            .map(|folder| Case { name: folder.file_name().unwrap().to_string_lossy().into_owned(), folder })
            .collect();
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(cases.len() >= 10, "samples are missing");
        cases
    }

    pub(crate) fn named(name: &str) -> Case {
        Case { name: name.to_owned(), folder: root().join("samples").join(name) }
    }

    /// The sets of rules that it is replayed with.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &'static str> {
        let more = MORE_RULES.iter().filter(|(case, _)| *case == self.name).map(|(_, rules)| *rules);
        RULES.into_iter().chain(more)
    }

    pub(crate) fn expected(&self, rules: &str) -> PathBuf {
        self.folder.join("expected").join(format!("{rules}.jsonl"))
    }

    pub(crate) fn replay(&self, rules: &str) -> Archive {
        let archive = Archive(TempDir::new().unwrap());
        self.replay_into(rules, archive.path());
        archive
    }

    pub(crate) fn replay_into(&self, rules: &str, archive: &Path) {
        replay(&self.capture(), rules, archive, &[]);
    }

    /// By so many threads.
    pub(crate) fn replay_by(&self, rules: &str, threads: u8) -> Archive {
        let archive = Archive(TempDir::new().unwrap());
        replay(&self.capture(), rules, archive.path(), &["--threads", &threads.to_string()]);
        archive
    }

    pub(crate) fn capture(&self) -> PathBuf {
        self.folder.join("input.pcap")
    }
}

fn replay(capture: &Path, rules: &str, archive: &Path, more: &[&str]) {
    let config = root().join("tests/golden/rules").join(format!("{rules}.toml"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_spantape"));
    command.arg("replay").arg(capture).arg("--archive").arg(archive);
    let output = command.arg("--config").arg(config).args(more).output().unwrap();
    assert!(output.status.success(), "{}: {}", capture.display(), String::from_utf8_lossy(&output.stderr));
}

impl Archive {
    /// What the bytes of a capture give.
    pub(crate) fn of(capture: &[u8]) -> Archive {
        let archive = Archive(TempDir::new().unwrap());
        let inputs = TempDir::new().unwrap();
        let path = inputs.path().join("input.pcap");
        std::fs::write(&path, capture).unwrap();
        replay(&path, "default", archive.path(), &[]);
        archive
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// All rows of all tables as JSON lines, and the hash of every recording.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for table in ["calls", "recordings", "streams", "events", "quality"] {
            for line in self.search(table).lines() {
                text.push_str(&format!("{table} {line}\n"));
            }
        }
        for file in self.wavs() {
            let hash = Sha256::digest(std::fs::read(self.path().join(&file)).unwrap());
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("sha256 {hex} {}\n", file.display()));
        }
        text
    }

    fn search(&self, table: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spantape"));
        command.args(["search", "--format", "jsonl", "--table", table, "--archive"]).arg(self.path());
        let output = command.output().unwrap();
        // 1: nothing found.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The recordings, by their start.
    pub(crate) fn wavs(&self) -> Vec<PathBuf> {
        let mut files = self.files();
        files.retain(|file| file.extension().is_some_and(|kind| kind == "wav"));
        files
    }

    /// All files, sorted, relative to the archive, but for the log of who has searched it.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(self.path()).unwrap().to_owned());
                }
            }
        }
        files.retain(|file| !file.starts_with("journal"));
        files.sort();
        files
    }
}

/// The top of the source tree.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}
