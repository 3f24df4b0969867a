use super::*;
use crate::testing::recording;

fn samples(path: &Path) -> Vec<i16> {
    hound::WavReader::open(path).unwrap().samples::<i16>().map(|s| s.unwrap()).collect()
}

fn spooled(dir: &Path) -> usize {
    fs::read_dir(dir.join("spool")).unwrap().count() - 1 // the lock
}

#[test]
fn what_was_held_up_is_added_where_it_belongs() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path()).unwrap();
    let tape = TapeId(1);
    spool.open_tape(tape, 8000, 2);
    spool.write(tape, &[1, 10, 2, 20, 3, 30]).unwrap();
    spool.silence(tape, 2).unwrap();
    spool.overdub(tape, 1, 2, &[5, i16::MAX, 7, 8]).unwrap();
    let saved = spool.cut(tape, 0..5, &[], &recording(1), true).unwrap();
    let samples = hound::WavReader::open(dir.path().join(saved.file)).unwrap().into_samples::<i16>();
    let samples: Vec<i16> = samples.map(Result::unwrap).collect();
    assert_eq!(samples, [1, 10, 2, 20, 3, 35, 0, i16::MAX, 0, 7]);
}

#[test]
fn the_whole_tape() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path()).unwrap();
    let tape = TapeId(7);
    spool.open_tape(tape, 8000, 2);
    spool.write(tape, &[1, 2, 3, 4]).unwrap();
    spool.silence(tape, 2).unwrap();
    spool.write(tape, &[5, 6, 7, 8]).unwrap();
    let saved = spool.cut(tape, 0..5, &[], &recording(1), true).unwrap();
    assert_eq!(saved.file, "recordings/2023/11/14/20231114T221321.000Z_1009_1010_00000001.wav");
    assert_eq!(saved.bytes, HEADER_LEN as u64 + 20);
    assert_eq!(samples(&dir.path().join(&saved.file)), [1, 2, 3, 4, 0, 0, 0, 0, 5, 6]);
    assert_eq!(spooled(dir.path()), 0);
    assert!(matches!(spool.write(tape, &[1, 2]), Err(Error::NoTape(TapeId(7)))));
    spool.close(tape).unwrap();
}

#[test]
fn ranges_of_a_tape() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path()).unwrap();
    let tape = TapeId(0);
    spool.open_tape(tape, 8000, 2);
    let all: Vec<i16> = (0..200).collect();
    spool.write(tape, &all).unwrap();
    spool.silence(tape, 10).unwrap();
    let first = spool.cut(tape, 0..50, &[], &recording(1), false).unwrap();
    let second = spool.cut(tape, 90..105, &[], &recording(2), false).unwrap();
    // Cutting has not moved the place where the tape goes on.
    spool.write(tape, &[-1, -2]).unwrap();
    let third = spool.cut(tape, 105..120, &[], &recording(3), true).unwrap();
    assert_eq!(samples(&dir.path().join(first.file)), all[..100]);
    let mut expected = all[180..].to_vec();
    expected.extend([0; 10]);
    assert_eq!(samples(&dir.path().join(second.file)), expected);
    let mut expected = vec![0; 10];
    expected.extend([-1, -2]);
    expected.extend([0; 18]);
    assert_eq!(samples(&dir.path().join(third.file)), expected);
    assert_eq!(spooled(dir.path()), 0);
}

#[test]
fn a_tape_of_which_something_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path()).unwrap();
    let tape = TapeId(3);
    spool.open_tape(tape, 8000, 2);
    spool.write(tape, &(0..20).collect::<Vec<i16>>()).unwrap();
    spool.silence(tape, 5).unwrap();
    let row = RecordingRow { frames: 7, ..recording(1) };
    let saved = spool.cut(tape, 0..12, &[1..3, 6..9], &row, true).unwrap();
    assert_eq!(saved.bytes, HEADER_LEN as u64 + 7 * 4);
    let expected = [0, 1, 6, 7, 8, 9, 10, 11, 18, 19, 0, 0, 0, 0];
    assert_eq!(samples(&dir.path().join(saved.file)), expected);
    assert_eq!(spooled(dir.path()), 0);
}

/// So many samples of a sine, from the `from`-th on.
fn tone(hertz: f64, rate: u32, from: usize, count: usize) -> Vec<i16> {
    let angle = |n: usize| n as f64 * hertz * std::f64::consts::TAU / f64::from(rate);
    (from..from + count).map(|n| (10_000.0 * angle(n).sin()) as i16).collect()
}

fn stereo(left: &[i16], right: &[i16]) -> Vec<i16> {
    left.iter().zip(right).flat_map(|(&left, &right)| [left, right]).collect()
}

fn crossings(samples: &[i16]) -> usize {
    samples.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count()
}

fn furthest(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| (i32::from(a) - i32::from(b)).abs()).max().unwrap_or_default()
}

#[test]
fn a_higher_rate() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path()).unwrap();
    let tape = TapeId(1);
    spool.open_tape(tape, 8000, 2);
    // In pieces: 5 s of a tone each side.
    let all = stereo(&tone(440.0, 8000, 0, 40_000), &tone(1_000.0, 8000, 0, 40_000));
    for piece in all.chunks(2 * 1_999) {
        spool.write(tape, piece).unwrap();
    }
    spool.raise_rate(tape, 16_000).unwrap();
    assert_eq!(spool.tapes[&tape].frames, 80_000);
    assert_eq!(spooled(dir.path()), 1);
    // Neither of these does anything.
    spool.raise_rate(tape, 16_000).unwrap();
    spool.raise_rate(tape, 8_000).unwrap();
    let more = stereo(&tone(440.0, 16_000, 80_000, 16_000), &tone(1_000.0, 16_000, 80_000, 16_000));
    spool.write(tape, &more).unwrap();
    let first = spool.cut(tape, 80_000..90_000, &[], &recording(1), false).unwrap();
    assert_eq!(samples(&dir.path().join(first.file)), more[..20_000]);
    let whole = dir.path().join(spool.cut(tape, 0..96_000, &[], &recording(2), true).unwrap().file);
    assert_eq!(hound::WavReader::open(&whole).unwrap().spec().sample_rate, 16_000);
    let whole = samples(&whole);
    assert_eq!(whole.len(), 2 * 96_000);
    for (index, hertz) in [(0, 440.0), (1, 1_000.0)] {
        let heard: Vec<i16> = whole.iter().skip(index).step_by(2).copied().collect();
        let expected = tone(hertz, 16_000, 0, 96_000);
        let wanted = crossings(&expected);
        assert!(crossings(&heard).abs_diff(wanted) <= 2, "{} {wanted}", crossings(&heard));
        // In its place, but for the one sample by which an upsampler's delay is rounded.
        let shifts = 99..=101;
        let off = shifts.map(|from| furthest(&heard[from..from + 79_700], &expected[100..])).min().unwrap();
        assert!(off < 50, "{hertz} Hz: {off} off");
        assert_eq!(heard[80_000..], expected[80_000..]);
    }
    assert_eq!(spooled(dir.path()), 0);
}

#[test]
fn silence_at_a_higher_rate() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path()).unwrap();
    let tape = TapeId(1);
    spool.open_tape(tape, 8000, 2);
    spool.write(tape, &[1_000; 2 * 800]).unwrap();
    spool.silence(tape, 2_000_000).unwrap();
    spool.write(tape, &[-1_000; 2 * 800]).unwrap();
    spool.silence(tape, 801).unwrap();
    spool.raise_rate(tape, 44_100).unwrap();
    let frames = 2_002_401 * 44_100 / 8_000;
    assert_eq!(spool.tapes[&tape].frames, frames);
    let on_disk = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(spool.files.path(tape)).unwrap());
    assert!(on_disk * 512 < 1 << 20, "{on_disk} blocks: silence is no hole any more");
    spool.write(tape, &[7, 8]).unwrap();
    let all =
        samples(&dir.path().join(spool.cut(tape, 0..frames + 1, &[], &recording(1), true).unwrap().file));
    assert_eq!(all.len() as u64, 2 * (frames + 1));
    let place = |old: usize| old * 44_100 / 8_000 * 2;
    let near = |sample: i16, wanted: i16| (sample - wanted).abs() < 10;
    assert!(near(all[place(400)], 1_000) && near(all[place(2_001_200)], -1_000));
    assert!(all[place(900)..place(2_000_700)].iter().all(|&sample| sample == 0));
    assert!(all[place(2_001_700)..2 * frames as usize].iter().all(|&sample| sample == 0));
    assert_eq!(all[2 * frames as usize..], [7, 8]);
}

#[test]
fn a_higher_rate_that_cannot_be_had_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path()).unwrap();
    let tape = TapeId(1);
    spool.open_tape(tape, 8000, 1);
    spool.write(tape, &[1_000; 800]).unwrap();
    let (place, away) = (dir.path().join("spool"), dir.path().join("away"));
    fs::rename(&place, &away).unwrap();
    assert!(matches!(spool.raise_rate(tape, 16_000), Err(Error::Io { .. })));
    fs::rename(&away, &place).unwrap();
    assert_eq!((spool.behind(), spool.tapes[&tape].frames), (vec![tape], 1_600));
    // Frames are counted in the new rate, whatever the file's is.
    spool.silence(tape, 100).unwrap();
    spool.erase(tape, 1_001..1_650).unwrap();
    spool.write(tape, &[7, 8]).unwrap();
    assert!(spool.behind().is_empty());
    let all = samples(&dir.path().join(spool.cut(tape, 0..1_702, &[], &recording(1), true).unwrap().file));
    assert_eq!(all.len(), 1_702);
    assert!(all[400..700].iter().all(|&sample| (sample - 1_000).abs() < 10));
    assert!(all[1_250..1_700].iter().all(|&sample| sample == 0));
    assert_eq!(all[1_700..], [7, 8]);
    assert_eq!(spooled(dir.path()), 0);
}

#[test]
fn a_higher_rate_of_tapes_without_samples() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(dir.path()).unwrap();
    let [empty, silent, unknown, broken] = [1, 2, 3, 4].map(TapeId);
    spool.open_tape(empty, 8000, 1);
    spool.open_tape(silent, 8000, 1);
    spool.open_tape(broken, 0, 1);
    spool.silence(silent, 10).unwrap();
    spool.write(broken, &[1]).unwrap();
    for tape in [empty, silent, unknown] {
        spool.raise_rate(tape, 48_000).unwrap();
    }
    assert!(matches!(spool.raise_rate(broken, 8000), Err(Error::NoRate { from: 0, to: 8000, .. })));
    assert_eq!(spool.tapes[&broken].frames, 1);
    spool.close(broken).unwrap();
    assert!(matches!(spool.write(unknown, &[1]), Err(Error::NoTape(_))));
    for (tape, range, expected) in [(empty, 0..3, vec![5, 6, 0]), (silent, 59..62, vec![0, 5, 6])] {
        spool.write(tape, &[5, 6]).unwrap();
        let file = dir.path().join(spool.cut(tape, range, &[], &recording(tape.0), true).unwrap().file);
        assert_eq!(hound::WavReader::open(&file).unwrap().spec().sample_rate, 48_000);
        assert_eq!(samples(&file), expected);
    }
    assert_eq!(spooled(dir.path()), 0);
}

#[test]
fn a_recording_that_is_there_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool =
        Spool::open_with(dir.path(), SpoolOptions { sha256: true, ..Default::default() }).unwrap();
    let mut make = |tape, sample, last| {
        spool.open_tape(tape, 8000, 1);
        spool.write(tape, &[sample; 10]).unwrap();
        spool.cut(tape, 0..10, &[], &recording(1), last).unwrap()
    };
    let first = make(TapeId(1), 1, true);
    assert_eq!(make(TapeId(2), 2, true), first);
    assert_eq!(make(TapeId(3), 3, false), first);
    assert_eq!(samples(&dir.path().join(&first.file)), [1; 10]);
    assert_eq!(spool.finished().complete(&first).unwrap().sha256.unwrap().len(), 64);
    assert_eq!(spooled(dir.path()), 1);
    spool.close(TapeId(3)).unwrap();
    assert_eq!(spooled(dir.path()), 0);
}

#[test]
fn more_tapes_than_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool =
        Spool::open_with(dir.path(), SpoolOptions { open_files: 3, ..Default::default() }).unwrap();
    for tape in 0..10 {
        spool.open_tape(TapeId(tape), 8000, 1);
    }
    for block in 0..5i16 {
        for tape in 0..10 {
            spool.write(TapeId(tape), &[tape as i16, block]).unwrap();
            assert!(spool.files.open.len() <= 3 && spool.files.order.len() == spool.files.open.len());
        }
    }
    for tape in 0..10 {
        let saved = spool.cut(TapeId(tape), 0..10, &[], &recording(tape), true).unwrap();
        let expected: Vec<i16> = (0..5).flat_map(|block| [tape as i16, block]).collect();
        assert_eq!(samples(&dir.path().join(saved.file)), expected);
    }
    assert_eq!(spooled(dir.path()), 0);
}

#[test]
fn one_process_a_time_and_what_a_crash_leaves() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut spool = Spool::open(dir.path()).unwrap();
        assert!(matches!(Spool::open(dir.path()), Err(Error::Busy { .. })));
        spool.open_tape(TapeId(4), 8000, 1);
        spool.write(TapeId(4), &[1, 2, 3]).unwrap();
    }
    let spool = Spool::open(dir.path()).unwrap();
    let names: Vec<_> = spool.left().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["4.0.left", "4.1.left"]);
    // Playable, although its length was never written.
    let body = fs::read(&spool.left()[0]).unwrap();
    assert_eq!((&body[..4], body.len()), (&b"RIFF"[..], HEADER_LEN + 6));
}

#[test]
fn a_tape_on_which_nothing_is_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(Spool::open(dir.path()).unwrap());
    for (tape, length) in [(1, 0), (2, HEADER_LEN - 1), (3, HEADER_LEN)] {
        fs::write(dir.path().join(format!("spool/{tape}.part")), vec![0u8; length]).unwrap();
    }
    let spool = Spool::open(dir.path()).unwrap();
    assert!(spool.left().is_empty(), "{:?}", spool.left());
    assert_eq!(spooled(dir.path()), 0);
}

#[test]
fn names_are_safe() {
    let mut row = recording(1);
    row.from.user = "../Zoë /".into();
    row.to.user = String::new();
    assert_eq!(file_name(&row), "recordings/2023/11/14/20231114T221321.000Z_.._Zo____unknown_00000001.wav");
    row.to.user = "x".repeat(100);
    assert!(file_name(&row).len() < 120);
}
