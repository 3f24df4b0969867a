//! Where an archive lies: in a directory, or on an object store.

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result, io};
#[cfg(feature = "remote")]
use crate::remote::Remote;
use crate::{partition, seal};

/// Where an archive lies. What it has is named relative to that, with `/`.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a directory.
    Local(PathBuf),
    /// On an object store, from which it is only read.
    #[cfg(feature = "remote")]
    Remote(Remote),
}

impl Place {
    /// What a user has named: a directory by its path or as `file:///DIRECTORY`, or `s3://BUCKET/PREFIX`.
    pub fn named(name: &Path) -> Result<Place> {
        match name.to_str().filter(|name| is_url(name)) {
            Some(url) => Place::at(url),
            None => Ok(Place::Local(name.to_owned())),
        }
    }

    /// Opens a file to be read; `None` if it is not there. From an object store it is fetched first. A name that leads out
    /// of the archive is an error.
    pub fn file(&self, name: &str) -> Result<Option<File>> {
        if !is_inside(name) {
            return Err(Error::Outside { name: name.to_owned() });
        }
        match self {
            Place::Local(archive) => {
                let path = archive.join(name);
                unless_missing(File::open(&path)).map_err(io("open", &path))
            }
            #[cfg(feature = "remote")]
            Place::Remote(remote) => remote.fetch(name),
        }
    }

    /// Whether a file is there. A name that leads out of the archive is an error.
    pub fn has(&self, name: &str) -> Result<bool> {
        if !is_inside(name) {
            return Err(Error::Outside { name: name.to_owned() });
        }
        match self {
            Place::Local(archive) => Ok(archive.join(name).exists()),
            #[cfg(feature = "remote")]
            Place::Remote(remote) => remote.has(name),
        }
    }

    /// Where a file lies; of one on an object store, its URL. Without a name, that of the archive.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Place::Local(archive) if name.is_empty() => archive.clone(),
            Place::Local(archive) => archive.join(name),
            #[cfg(feature = "remote")]
            Place::Remote(remote) => remote.path(name),
        }
    }

    /// Names in a directory; none if it is not there.
    pub(crate) fn names(&self, dir: &str) -> Result<Vec<String>> {
        match self {
            Place::Local(archive) => partition::names(&archive.join(dir)),
            #[cfg(feature = "remote")]
            Place::Remote(remote) => remote.names(dir),
        }
    }

    /// All files below directories and their bytes, in order of their names. What is not finished has a name that begins
    /// with a dot and is none of them.
    pub(crate) fn files(&self, dirs: &[&str]) -> Result<Vec<(String, u64)>> {
        let mut found = match self {
            Place::Local(archive) => local_files(archive, dirs)?,
            #[cfg(feature = "remote")]
            Place::Remote(remote) => {
                let dirs: Vec<String> = dirs.iter().map(|dir| (*dir).to_owned()).collect();
                remote.list(&dirs)?.concat()
            }
        };
        found.retain(|(name, _)| !file_name(name).starts_with('.'));
        found.sort();
        Ok(found)
    }

    /// What files say, as a whole; `None` of one that is not there.
    pub(crate) fn read(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        match self {
            Place::Local(archive) => {
                let read = |name: &String| {
                    let path = archive.join(name);
                    unless_missing(fs::read(&path)).map_err(io("read", &path))
                };
                names.iter().map(read).collect()
            }
            #[cfg(feature = "remote")]
            Place::Remote(remote) => remote.read(names),
        }
    }

    /// What a file says, as a whole; `None` if it is not there.
    pub(crate) fn read_one(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.read(&[name.to_owned()])?.pop().flatten())
    }

    /// The SHA-256 of the first bytes of files, in hex. `progress` is told the bytes of each.
    pub(crate) fn hashes(
        &self,
        wanted: &[(&str, u64)],
        mut progress: impl FnMut(u64),
    ) -> Result<Vec<String>> {
        match self {
            Place::Local(archive) => {
                let hash = |&(name, bytes): &(&str, u64)| {
                    let hash = seal::hash_as_far_as(&archive.join(name), bytes)?;
                    progress(bytes);
                    Ok(hash)
                };
                wanted.iter().map(hash).collect()
            }
            #[cfg(feature = "remote")]
            Place::Remote(remote) => remote.hashes(wanted, progress),
        }
    }

    #[cfg(feature = "remote")]
    fn at(url: &str) -> Result<Place> {
        let file = url::Url::parse(url).ok().filter(|url| url.scheme() == "file");
        match file.and_then(|url| url.to_file_path().ok()) {
            Some(path) => Ok(Place::Local(path)),
            None => Remote::open(url).map(Place::Remote),
        }
    }

    #[cfg(not(feature = "remote"))]
    fn at(url: &str) -> Result<Place> {
        let reason = "spantape was built without its feature `remote`".to_owned();
        Err(Error::NoStore { url: url.to_owned(), reason })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path("").display())
    }
}

impl From<PathBuf> for Place {
    fn from(archive: PathBuf) -> Place {
        Place::Local(archive)
    }
}

impl From<&PathBuf> for Place {
    fn from(archive: &PathBuf) -> Place {
        Place::Local(archive.clone())
    }
}

impl From<&Path> for Place {
    fn from(archive: &Path) -> Place {
        Place::Local(archive.to_owned())
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Place {
        place.clone()
    }
}

/// Fails where a URL was named for what needs a directory: nothing is to be made of it that is called so.
pub(crate) fn must_be_directory(archive: &Path) -> Result<()> {
    match archive.to_str().filter(|name| is_url(name)) {
        Some(url) => {
            let reason = "this needs a directory; `spantape copy` brings what is finished to an object store";
            Err(Error::NoStore { url: url.to_owned(), reason: reason.to_owned() })
        }
        None => Ok(()),
    }
}

/// Whether a text is a URL, and no path.
fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(|c| c.is_ascii_alphanumeric()))
}

/// Whether a name leads to something within the archive.
pub(crate) fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// What of a name comes behind the directories.
pub(crate) fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

fn local_files(archive: &Path, dirs: &[&str]) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut open: Vec<String> = dirs.iter().map(|dir| (*dir).to_owned()).collect();
    while let Some(path) = open.pop() {
        let dir = archive.join(&path);
        let Some(entries) = unless_missing(fs::read_dir(&dir)).map_err(io("read", &dir))? else { continue };
        for entry in entries {
            let entry = entry.map_err(io("read", &dir))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{path}/{name}");
            let kind = entry.file_type().map_err(io("look at", &dir))?;
            if kind.is_dir() {
                open.push(path);
            } else if let Ok(metadata) = entry.metadata() {
                // Else gone since: by retention, or into another part.
                found.push((path, metadata.len()));
            }
        }
    }
    Ok(found)
}

fn unless_missing<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_urls() {
        for path in ["/srv/calls", "tape", "../a b", "c:/x", "://x", "a b://c", ""] {
            assert_eq!(Place::named(Path::new(path)).unwrap().to_string(), path);
        }
        #[cfg(feature = "remote")]
        {
            let place = Place::named(Path::new("file:///srv/the%20calls")).unwrap();
            assert!(matches!(&place, Place::Local(path) if path == Path::new("/srv/the calls")), "{place}");
            let error = Place::named(Path::new("ftp://host/x")).unwrap_err().to_string();
            assert!(error.starts_with("ftp://host/x") && error.contains("s3://BUCKET/PREFIX"), "{error}");
        }
    }

    #[test]
    fn what_needs_a_directory() {
        must_be_directory(Path::new("/srv/calls")).unwrap();
        let url = Path::new("s3://recordings/site-1");
        for error in [must_be_directory(url).unwrap_err(), crate::Archive::create(url).unwrap_err()] {
            assert!(error.to_string().contains("this needs a directory"), "{error}");
        }
    }

    #[test]
    fn nothing_outside_of_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.wav"), "x").unwrap();
        let place = Place::from(dir.path().join("archive"));
        assert!(place.file("recordings/x.wav").unwrap().is_none());
        for file in ["../x.wav", "/etc/passwd", "a/../../b", ""] {
            let error = place.file(file).unwrap_err().to_string();
            assert!(error.contains("outside of the archive"), "{error}");
            assert!(place.has(file).is_err());
        }
    }
}
