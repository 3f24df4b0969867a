//! What the files of recordings, and of what belongs to them, are called.

use std::path::{Component, Path, PathBuf};

use spantape_core::media::TapeId;
use spantape_core::record::{RecordingRow, Side};

use crate::encrypt::SUFFIX;
use crate::utc;

/// What the names of recordings end with, by what has come of them.
pub(crate) const EXTENSIONS: [&str; 3] = ["wav", "flac", "opus"];

/// Where the file of a recording lies that the archive has already, relative to the archive.
pub(crate) fn existing(archive: &Path, row: &RecordingRow) -> Option<String> {
    siblings(&file_name(row)).into_iter().find(|file| archive.join(file).exists())
}

/// A recording's file as it may be called, in clear or encrypted. While it is in clear it counts: what is encrypted may not
/// have been finished.
pub(crate) fn siblings(file: &str) -> [String; 6] {
    let [wav, flac, opus] = EXTENSIONS.map(|extension| with_extension(file, extension));
    let encrypted = |name: &String| format!("{name}{SUFFIX}");
    let [wav_age, flac_age, opus_age] = [&wav, &flac, &opus].map(encrypted);
    [wav, flac, opus, wav_age, flac_age, opus_age]
}

/// What lies beside a recording, in clear: its trace and its undecoded packets.
pub(crate) fn beside(file: &str) -> [String; 3] {
    [trace_name(file), rtpdump_name(file, Side::Caller), rtpdump_name(file, Side::Callee)]
}

/// Where the key of a recording lies that is encrypted.
pub(crate) fn key_name(file: &str) -> String {
    let stem = stem(file);
    format!("keys/{}.key", stem.strip_prefix("recordings/").unwrap_or(stem))
}

/// A recording's file when its name ends otherwise.
pub(crate) fn with_extension(file: &str, extension: &str) -> String {
    format!("{}.{extension}", stem(file))
}

/// Whether a name leads into one of these directories of an archive and nowhere else, whoever may have altered it.
pub(crate) fn leads_into(name: &str, dirs: &[&str]) -> bool {
    let path = Path::new(name);
    dirs.iter().any(|dir| path.starts_with(dir))
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// A recording's capture file.
pub(crate) fn trace_name(file: &str) -> String {
    format!("{}.pcap", stem(file))
}

fn stem(file: &str) -> &str {
    let is_ours = |end: &str| EXTENSIONS.contains(&end);
    let file = file.strip_suffix(SUFFIX).unwrap_or(file);
    file.rsplit_once('.').filter(|(_, end)| is_ours(end)).map_or(file, |(stem, _)| stem)
}

/// Where a recording lies, relative to the archive.
pub(crate) fn file_name(row: &RecordingRow) -> String {
    let t = utc::civil(row.start);
    let (year, month, day) = (t.year(), t.month(), t.day());
    let (hour, minute, second, ms) = (t.hour(), t.minute(), t.second(), t.millisecond());
    let (from, to) = (safe(&row.from.user), safe(&row.to.user));
    let id = row.id.to_string();
    format!(
        "recordings/{year:04}/{month:02}/{day:02}/{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{ms:03}Z_{from}_{to}_{}.wav",
        &id[..8]
    )
}

/// Where the undecoded packets of a tape's side lie.
pub(super) fn packets_path(dir: &Path, id: TapeId, side: Side) -> PathBuf {
    dir.join(format!("{id}.{}.packets", side.as_str()))
}

/// Where a tape's trace lies.
pub(super) fn trace_path(dir: &Path, id: TapeId) -> PathBuf {
    dir.join(format!("{id}.trace"))
}

/// Where the undecoded packets of a recording's side lie.
pub(super) fn rtpdump_path(recording: &Path, side: Side) -> PathBuf {
    recording.with_extension(format!("{}.rtpdump", side.as_str()))
}

pub(super) fn rtpdump_name(file: &str, side: Side) -> String {
    format!("{}.{}.rtpdump", stem(file), side.as_str())
}

fn safe(user: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+._-".contains(c);
    let name: String = user.chars().take(32).map(|c| if allowed(c) { c } else { '_' }).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}
