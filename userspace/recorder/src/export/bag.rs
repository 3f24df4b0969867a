//! A bag: a folder with lists of hashes that archives check (BagIt 1.0, RFC 8493).

use anyhow::Result;
use spantape_store::seal::SecretKey;

use super::folder::{Folder, sign};

/// What an institution's archive wants to know of the bag (section 2.2.2).
pub(crate) struct Info {
    /// `YYYY-MM-DD`.
    pub(crate) date: String,
    /// Of the payload.
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// What is in it.
    pub(crate) description: String,
}

const MANIFEST: &str = "manifest-sha256.txt";
const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";

/// Makes a bag of a folder whose payload lies in `data`. Whatever else is in it becomes tag files.
pub(crate) fn bag(
    folder: &Folder,
    mut info: Info,
    key: Option<&SecretKey>,
    mut progress: impl FnMut(u64),
) -> Result<()> {
    folder.write("bagit.txt", b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")?;
    let payload = folder.sums(
        |name| name.starts_with("data/"),
        |bytes| {
            info.bytes += bytes;
            info.files += 1;
            progress(bytes);
        },
    )?;
    folder.write(MANIFEST, payload.as_bytes())?;
    let Info { date, bytes, files, description } = info;
    let software = concat!("spantape ", env!("CARGO_PKG_VERSION"));
    let tags = format!(
        "Bagging-Date: {date}\nPayload-Oxum: {bytes}.{files}\nExternal-Description: {description}\n\
         Bag-Software-Agent: {software}\n"
    );
    folder.write("bag-info.txt", tags.as_bytes())?;
    let is_tag = |name: &str| !name.starts_with("data/") && !name.starts_with("tagmanifest-");
    let tags = folder.sums(is_tag, |_| {})?;
    folder.write(TAG_MANIFEST, tags.as_bytes())?;
    match key {
        Some(key) => folder.write(&format!("{TAG_MANIFEST}.sig"), sign(key, tags.as_bytes()).as_bytes()),
        None => Ok(()),
    }
}
