//! A key log that a TLS library or a browser writes, and goes on writing.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use zeroize::Zeroizing;

/// Read at once at most; what is beyond comes the next time.
const PIECE: u64 = 16 << 20;

/// The file, and how far it has been read. It stays open: privileges to open it again may be gone.
pub(crate) struct KeyLogFile {
    path: PathBuf,
    file: File,
    read: u64,
}

impl KeyLogFile {
    pub(crate) fn open(path: &Path) -> Result<KeyLogFile> {
        let file = File::open(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        Ok(KeyLogFile { path: path.to_owned(), file, read: 0 })
    }

    /// All lines of a file.
    pub(crate) fn all(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
        let text = std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        Ok(Zeroizing::new(text))
    }

    /// The whole lines that have been added since; none when there are none. A file that is shorter than before has been
    /// begun anew.
    pub(crate) fn added(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        let context = || format!("{}: cannot be read", self.path.display());
        let length = self.file.metadata().with_context(context)?.len();
        if length < self.read {
            self.read = 0;
        }
        let mut text = Zeroizing::new(Vec::new());
        if length > self.read {
            self.file.seek(SeekFrom::Start(self.read)).with_context(context)?;
            (&mut self.file).take(PIECE).read_to_end(&mut text).with_context(context)?;
        }
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        self.read += whole as u64;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn whole_lines_as_they_come() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut log = KeyLogFile::open(file.path()).unwrap();
        assert!(log.added().unwrap().is_empty());
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(log.added().unwrap()[..], b"one\n"[..]);
        assert!(log.added().unwrap().is_empty());
        file.write_all(b"o\n").unwrap();
        assert_eq!(log.added().unwrap()[..], b"two\n"[..]);
        file.as_file().set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(log.added().unwrap()[..], b"new\n"[..]);
    }
}
