//! Speed counts for nothing unless the work was done.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::load::Load;

/// Calls last as long as their audio, to this share.
const TOLERANCE: f64 = 0.01;

/// Every stream has all its samples, 16 bits each.
pub(super) fn floor(load: Load, folder: &Path) -> Result<()> {
    let sizes = sizes(folder, "raw")?;
    let (streams, whole) = (load.calls as usize * 2, u64::from(load.seconds) * 8000 * 2);
    // Of very many streams several share a file.
    let is_whole = |&size: &u64| size == whole || size % whole == 0 && sizes.len() < streams;
    if sizes.is_empty() || !sizes.iter().all(is_whole) || sizes.iter().sum::<u64>() != streams as u64 * whole
    {
        bail!("the floor program did not write {streams} streams of {whole} bytes");
    }
    Ok(())
}

/// The summary says that everything was seen, and recorded if there is to be audio; and the recordings are there.
pub(super) fn spantape(load: Load, has_audio: bool, summary: &[u8], archive: &Path) -> Result<()> {
    let summary: Value = serde_json::from_slice(summary).context("the summary is no JSON")?;
    let calls = u64::from(load.calls);
    let recordings = if has_audio { calls } else { 0 };
    let wanted = [
        ("calls", calls),
        ("calls_answered", calls),
        ("recordings", recordings),
        ("streams", calls * 2),
        ("rtp_packets", load.rtp_packets()),
        ("lost", 0),
    ];
    for (figure, wanted) in wanted {
        if summary[figure].as_u64() != Some(wanted) {
            bail!("the replay gives {figure}: {}, and it should be {wanted}", summary[figure]);
        }
    }
    let (spoken, seconds) = (f64::from(load.calls) * f64::from(load.seconds), &summary["audio_seconds"]);
    let is_whole = |seconds: f64| (seconds / spoken - 1.0).abs() <= TOLERANCE;
    if has_audio && !seconds.as_f64().is_some_and(is_whole) {
        bail!("the replay gives audio_seconds: {seconds}, and it should be {spoken}");
    }
    let files = sizes(archive, "wav")?.len();
    if files as u64 != recordings {
        bail!("there are {files} WAV files, and there should be {recordings}");
    }
    Ok(())
}

fn sizes(folder: &Path, extension: &str) -> Result<Vec<u64>> {
    let files = files(folder)?.into_iter();
    let ours = files.filter(|(path, _)| path.extension().is_some_and(|found| found == extension));
    Ok(ours.map(|(_, size)| size).collect())
}

/// All files in a folder and the folders within, and their sizes.
pub(crate) fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_dir() {
                folders.push(entry.path());
            } else {
                files.push((entry.path(), about.len()));
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { calls: 1, seconds: 2 };

    fn summary(lost: u32, seconds: f64) -> Vec<u8> {
        format!(
            r#"{{"calls":1,"calls_answered":1,"recordings":1,"streams":2,"rtp_packets":200,"lost":{lost},
                "audio_seconds":{seconds}}}"#
        )
        .into_bytes()
    }

    #[test]
    fn only_a_whole_recording_passes() {
        let archive = tempfile::tempdir().unwrap();
        let check = |summary: &[u8]| spantape(LOAD, true, summary, archive.path());
        assert!(check(&summary(0, 2.01)).unwrap_err().to_string().contains("WAV"));
        std::fs::create_dir(archive.path().join("day")).unwrap();
        std::fs::write(archive.path().join("day/call.wav"), "").unwrap();
        assert!(check(&summary(0, 2.01)).is_ok());
        assert!(check(&summary(1, 2.01)).unwrap_err().to_string().contains("lost"));
        assert!(check(&summary(0, 1.9)).unwrap_err().to_string().contains("audio_seconds"));
        assert!(check(b"").is_err());
    }
}
