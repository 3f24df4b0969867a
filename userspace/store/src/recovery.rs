//! What became of recordings in a process that was killed: which of their files count, and what its log should say of them.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::encrypt::SUFFIX;
use crate::error::{Result, io};
use crate::finished::Finished;
use crate::rows::text_of;
use crate::seal;
use crate::spool::{self, Saved};

/// A recording may have become another file that the log was not told of, as where the disk was full.
pub(crate) fn find_again(finished: &Finished, row: &mut Map<String, Value>) -> Result<()> {
    let file = text_of(row, "file").to_owned();
    if finished.path(&file).exists() {
        return Ok(());
    }
    let Some(there) = spool::siblings(&file).into_iter().find(|name| finished.path(name).exists()) else {
        return Ok(());
    };
    if there.ends_with(SUFFIX) {
        row.insert("key".to_owned(), spool::key_name(&there).into());
        // The log knows it only if it was told that the file was hashed.
        let content = row.get("sha256").cloned().unwrap_or_default();
        row.insert("content_sha256".to_owned(), content);
    }
    measure(row, &finished.path(&there))?;
    row.insert("file".to_owned(), there.into());
    Ok(())
}

/// Makes a row one of the file as it is, but for its hash.
fn measure(row: &mut Map<String, Value>, file: &Path) -> Result<()> {
    let bytes = fs::metadata(file).map_err(io("look at", file))?.len();
    row.insert("bytes".to_owned(), bytes.into());
    row.insert("sha256".to_owned(), Value::Null);
    Ok(())
}

/// A recording that the log names was waiting to be hashed. One that cannot be read has no hash: it keeps nobody from
/// recording others.
pub(crate) fn hash_logged(finished: &Finished, row: &mut Map<String, Value>) {
    let file = finished.path(text_of(row, "file"));
    if finished.hashes()
        && text_of(row, "sha256").is_empty()
        && let Ok(hash) = seal::hash(&file)
    {
        row.insert("sha256".to_owned(), hash.into());
    }
}

/// A recording beside which packets were kept may have been decoded since the log was told of it.
pub(crate) fn look_again(finished: &Finished, row: &mut Map<String, Value>) -> Result<()> {
    let packets =
        ["caller_rtpdump", "callee_rtpdump"].map(|column| (column, text_of(row, column).to_owned()));
    let path = finished.path(text_of(row, "file"));
    if packets.iter().all(|(_, file)| file.is_empty()) || !path.exists() {
        return Ok(());
    }
    for (column, file) in packets {
        if !file.is_empty() && !finished.path(&file).exists() {
            row.insert(column.to_owned(), "".into());
        }
    }
    measure(row, &path)
}

/// A recording that the log names in clear was waiting to be encrypted.
pub(crate) fn encrypt_logged(
    finished: &Finished,
    row: &mut Map<String, Value>,
    replaced: &mut Vec<String>,
) -> Result<()> {
    let text = |row: &Map<String, Value>, column: &str| {
        row.get(column).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let Some(file) = text(row, "file").filter(|file| finished.encrypts() && finished.path(file).exists())
    else {
        return Ok(());
    };
    let rtpdump = ["caller_rtpdump", "callee_rtpdump"].map(|column| text(row, column));
    let saved = Saved { file, sha256: text(row, "sha256"), rtpdump, ..Saved::default() };
    let encrypted = finished.encrypt(&saved)?;
    if encrypted.file != saved.file {
        let [caller, callee] = encrypted.rtpdump.map(Option::unwrap_or_default);
        row.insert("file".to_owned(), encrypted.file.into());
        row.insert("bytes".to_owned(), encrypted.bytes.into());
        row.insert("sha256".to_owned(), encrypted.sha256.into());
        row.insert("key".to_owned(), encrypted.key.into());
        row.insert("content_sha256".to_owned(), encrypted.content_sha256.into());
        row.insert("caller_rtpdump".to_owned(), caller.into());
        row.insert("callee_rtpdump".to_owned(), callee.into());
        replaced.extend(encrypted.replaces);
    }
    Ok(())
}

/// Removes what a recording was before it became the one that the log names, or what it was about to become and of which
/// the log says nothing.
pub(crate) fn remove_others(archive: &Path, file: &str) -> Result<()> {
    if !spool::leads_into(file, &["recordings"]) || !archive.join(file).exists() {
        return Ok(());
    }
    let others = spool::siblings(file).into_iter().filter(|other| other != file);
    let in_clear =
        spool::beside(file).into_iter().filter(|name| archive.join(format!("{name}{SUFFIX}")).exists());
    let in_clear = in_clear.filter(|_| file.ends_with(SUFFIX));
    others.chain(in_clear).map(|other| archive.join(other)).try_for_each(|other| spool::remove(&other))
}
