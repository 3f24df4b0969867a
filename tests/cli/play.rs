//! A recording as it is heard, and as it is seen.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{archive, spantape, stderr, stdout, text};

/// The file of the only recording.
fn file(archive: &Path) -> PathBuf {
    let output = spantape(&["search", "--archive", text(archive), "--format", "jsonl"]);
    let row: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    archive.join(row["file"].as_str().unwrap())
}

fn samples<R: Read>(wav: hound::WavReader<R>) -> Vec<i16> {
    wav.into_samples::<i16>().map(Result::unwrap).collect()
}

/// Channels, frames a second and samples of what a command writes.
fn played(file: &Path, more: &[&str]) -> (u16, u32, Vec<i16>) {
    let mut arguments = vec!["play", text(file)];
    arguments.extend(more);
    let output = spantape(&arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    let wav = hound::WavReader::new(Cursor::new(output.stdout)).unwrap();
    (wav.spec().channels, wav.spec().sample_rate, samples(wav))
}

#[test]
fn plays_what_is_in_the_file() {
    let archive = archive(&["plain-pcmu"]);
    let file = file(archive.path());
    let whole = samples(hound::WavReader::open(&file).unwrap());
    let side = |channel: usize| whole.iter().skip(channel).step_by(2).copied().collect::<Vec<i16>>();
    assert!(played(&file, &["--stdout"]) == (2, 8000, whole.clone()));
    // Neither is there a terminal.
    assert!(played(&file, &[]) == (2, 8000, whole.clone()));
    assert!(played(&file, &["--side", "caller"]) == (1, 8000, side(0)));
    assert!(played(&file, &["--side", "callee"]) == (1, 8000, side(1)));
    assert!(played(&file, &["--from", "0:02"]) == (2, 8000, whole[2 * 16_000..].to_vec()));
    assert!(played(&file, &["--from", "2.5s", "--side", "callee"]) == (1, 8000, side(1)[20_000..].to_vec()));
}

#[test]
fn what_cannot_be_played() {
    let archive = archive(&["plain-pcmu"]);
    let file = file(archive.path());
    let play = |arguments: &[&str]| {
        let output = spantape(&[&["play"][..], arguments].concat());
        assert!(output.stdout.is_empty());
        (output.status.code(), stderr(&output))
    };
    let (code, said) = play(&["ffffffffffff", "--archive", text(archive.path())]);
    assert!(code == Some(1) && said.contains("no recording `ffffffffffff`"), "{said}");
    let (code, said) = play(&[text(&file), "--from", "1:00:00"]);
    assert!(code == Some(2) && said.contains("long"), "{said}");
    let (code, said) = play(&[text(&file), "--from", "soon"]);
    assert!(code == Some(2) && said.contains("1:30"), "{said}");
    std::fs::remove_file(&file).unwrap();
    let id = file.file_stem().unwrap().to_str().unwrap().rsplit('_').next().unwrap();
    let (code, said) = play(&[id, "--archive", text(archive.path())]);
    assert!(code == Some(2) && said.contains("it cannot be heard"), "{said}");
}

#[test]
fn whoever_has_heard_enough_makes_no_mistake() {
    let archive = archive(&["plain-pcmu"]);
    let file = file(archive.path());
    for interrupt in [true, false] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spantape"));
        command.args(["play", text(&file), "--stdout"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        // It is writing, and there is more than a pipe has room for.
        output.read_exact(&mut [0; 44]).unwrap();
        if interrupt {
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        } else {
            drop(output);
        }
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.code() == Some(0) && ended.stderr.is_empty(), "{}", stderr(&ended));
    }
}

#[test]
fn a_picture_of_a_recording() {
    let archive = archive(&["yealink-record"]);
    let folder = TempDir::new().unwrap();
    let picture = folder.path().join("call.png");
    let output = spantape(&["show", text(&file(archive.path())), "--png", text(&picture)]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));

    let mut reader = png::Decoder::new(Cursor::new(std::fs::read(&picture).unwrap())).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let (width, height) = (info.width as usize, info.height as usize);
    assert_eq!((width, bytes.len()), (1200, width * height * 3));
    // Title, two bands with an axis, quality of both sides; a ladder of two heads, twelve events and the bounds.
    assert_eq!(height, 32 + (2 * 129 + 21) + 2 * 108 + 8 + 16 * 16 + 8);
    let drawn = |rows: std::ops::Range<usize>| {
        let pixels = bytes.chunks(3).enumerate().filter(|(at, _)| rows.contains(&(at / width)));
        pixels.filter(|(_, pixel)| **pixel != [0xff; 3]).count()
    };
    // Title, caller, callee, axis: speech is more than a line.
    assert!(drawn(8..24) > 100);
    for band in [32..161, 161..290] {
        let count = drawn(band.clone());
        assert!(count > 5000, "{band:?}: {count}");
    }
    assert!(drawn(290..311) > 1080);

    let nowhere = folder.path().join("no/call.png");
    let output = spantape(&["show", text(&file(archive.path())), "--png", text(&nowhere)]);
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("no/call.png"),
        "{}",
        stderr(&output)
    );
}
