//! A folder as one zip file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::folder::{Folder, files};

/// Packs what is in a folder; files are stored as they are, since sound does not get smaller. `progress` is told of bytes.
pub(crate) fn pack(folder: &Folder, to: &Path, mut progress: impl FnMut(u64)) -> Result<()> {
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new()
        .prefix(".export-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(dir)
        .with_context(|| format!("create a file in {}", dir.display()))?;
    let mut writer = ZipWriter::new(BufWriter::new(scratch.as_file()));
    let mut names = files(folder.root())?;
    names.sort();
    for name in names {
        let path = folder.root().join(&name);
        let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        // Of the same recordings the same file: no time of today is in it.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .large_file(bytes >= u64::from(u32::MAX));
        writer.start_file(name, options).and_then(|()| Ok(std::io::copy(&mut file, &mut writer)?))?;
        progress(bytes);
    }
    writer.finish()?.flush().with_context(|| format!("write {}", to.display()))?;
    scratch.persist(to).map_err(|error| error.error).with_context(|| format!("write {}", to.display()))?;
    Ok(())
}
