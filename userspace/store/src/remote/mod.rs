//! An archive on an object store: its objects are named as the files of one in a directory are.
//!
//! Whoever calls waits: requests are made by a runtime of the store's own, on the thread of the one who calls, and where
//! many are needed several at a time.

mod ranged;
mod send;

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Seek, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Attribute, ClientConfigKey, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme,
    RetryConfig,
};
use sha2::{Digest, Sha256};
use tokio::runtime::{self, Runtime};
use url::Url;

use crate::error::{Error, Result, io};
use crate::partition;
use crate::place::file_name;
use crate::seal::hex;

pub(crate) use ranged::Ranged;
pub(crate) use send::Outgoing;

/// An archive on an object store.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    /// What comes before each name.
    base: Key,
    url: String,
    /// Whether an object can have a header that tells its hash.
    headers: bool,
    runtime: Runtime,
}

/// The header of an object (`x-amz-meta-…`) that tells the SHA-256 of what it is a copy of, in hex.
const HASH: &str = "sha256";
/// Requests that are made at a time.
const TOGETHER: usize = 8;
/// Bytes of a large object that are asked for, or sent, at a time.
const PIECE: u64 = 8 << 20;
/// Pieces of one object that are asked for at a time.
const PIECES: usize = 2;
/// How often what has failed is tried once more.
const RETRIES: usize = 4;
/// How long a request may take, if the user does not say so: a piece over a slow line.
const PATIENCE: &str = "120s";

impl Remote {
    /// Opens `s3://BUCKET/PREFIX`, as the environment says how (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`…), or
    /// `file:///DIRECTORY`. What is not there yet is made by copying to it.
    pub fn open(url: &str) -> Result<Remote> {
        let no_store = |reason: String| Error::NoStore { url: url.to_owned(), reason };
        let others = || no_store("it is neither s3://BUCKET/PREFIX nor file:///DIRECTORY".to_owned());
        let parsed = Url::parse(url).map_err(|error| no_store(error.to_string()))?;
        let (scheme, base) = ObjectStoreScheme::parse(&parsed).map_err(|_| others())?;
        let headers = scheme != ObjectStoreScheme::Local;
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new()),
            ObjectStoreScheme::AmazonS3 if parsed.host_str().is_some_and(|bucket| !bucket.is_empty()) => {
                let store = s3(url).build().map_err(|error| no_store(reason(&error).to_string()))?;
                Arc::new(store)
            }
            _ => return Err(others()),
        };
        Remote::new(store, base, url, headers)
    }

    /// All of a store that was opened otherwise. The URL is what it is called.
    pub fn over(store: Arc<dyn ObjectStore>, url: &str) -> Result<Remote> {
        Remote::new(store, Key::default(), url, true)
    }

    fn new(store: Arc<dyn ObjectStore>, base: Key, url: &str, headers: bool) -> Result<Remote> {
        let url = url.trim_end_matches('/').to_owned();
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(io("reach", &PathBuf::from(&url)))?;
        Ok(Remote(Arc::new(Inner { store, base, url, headers, runtime })))
    }

    /// Its URL, or that of an object.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match name {
            "" => PathBuf::from(&self.0.url),
            name => PathBuf::from(format!("{}/{name}", self.0.url)),
        }
    }

    /// Names in a directory; none if it is not there.
    pub(crate) fn names(&self, dir: &str) -> Result<Vec<String>> {
        let key = self.key(dir)?;
        let listed = self.0.runtime.block_on(self.0.store.list_with_delimiter(Some(&key)));
        let listed = listed.map_err(|error| self.failed("read", dir, &error))?;
        let objects = listed.objects.into_iter().map(|object| object.location);
        let all = listed.common_prefixes.into_iter().chain(objects);
        Ok(all.filter_map(|key| key.filename().map(str::to_owned)).collect())
    }

    /// The objects below each of some directories, and their bytes.
    pub(crate) fn list(&self, dirs: &[String]) -> Result<Vec<Vec<(String, u64)>>> {
        let listed = dirs.iter().map(|dir| async move {
            let key = self.key(dir)?;
            let found = self.0.store.list(Some(&key)).try_collect::<Vec<ObjectMeta>>().await;
            let found = found.map_err(|error| self.failed("read", dir, &error))?;
            let named = found.iter().filter_map(|object| Some((self.name(&object.location)?, object.size)));
            Ok::<_, Error>(named.collect::<Vec<_>>())
        });
        self.0.runtime.block_on(stream::iter(listed).buffered(TOGETHER).try_collect())
    }

    /// The parts of the catalog below each of some directories, in order of their names.
    pub(crate) fn parts(&self, dirs: &[String]) -> Result<Vec<Vec<Ranged>>> {
        let ranged = |mut objects: Vec<(String, u64)>| -> Vec<Ranged> {
            objects.retain(|(name, _)| partition::is_part(file_name(name)));
            objects.sort();
            objects.into_iter().map(|(name, bytes)| Ranged::new(self, name, bytes)).collect()
        };
        Ok(self.list(dirs)?.into_iter().map(ranged).collect())
    }

    /// What objects say, as a whole; `None` of one that is not there.
    pub(crate) fn read(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let read = names.iter().map(|name| async move {
            let key = self.key(name)?;
            let got = match self.0.store.get(&key).await {
                Ok(got) => got.bytes().await,
                Err(error) => Err(error),
            };
            match got {
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                bytes => {
                    let bytes = bytes.map_err(|error| self.failed("read", name, &error))?;
                    Ok::<_, Error>(Some(Vec::<u8>::from(bytes)))
                }
            }
        });
        self.0.runtime.block_on(stream::iter(read).buffered(TOGETHER).try_collect())
    }

    /// Ranges of objects.
    fn ranges(&self, wanted: &[(&str, Range<u64>)]) -> Result<Vec<Bytes>> {
        let read = wanted.iter().map(|(name, range)| async move {
            let key = self.key(name)?;
            let range = self.0.store.get_range(&key, range.clone()).await;
            range.map_err(|error| self.failed("read", name, &error))
        });
        self.0.runtime.block_on(stream::iter(read).buffered(TOGETHER).try_collect())
    }

    /// Whether an object is there.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        Ok(self.0.runtime.block_on(self.look(name))?.is_some())
    }

    /// A copy of an object, in a file without a name; `None` if it is not there.
    pub(crate) fn fetch(&self, name: &str) -> Result<Option<File>> {
        let dir = std::env::temp_dir();
        self.0.runtime.block_on(async {
            let Some((bytes, _)) = self.look(name).await? else { return Ok(None) };
            let mut file = tempfile::tempfile().map_err(io("create a file in", &dir))?;
            self.pieces(name, bytes, |piece| file.write_all(piece)).await?;
            file.rewind().map_err(io("write a file in", &dir))?;
            Ok::<_, Error>(Some(file))
        })
    }

    /// The SHA-256 of the first bytes of objects, in hex. `progress` is told the bytes of each.
    pub(crate) fn hashes(
        &self,
        wanted: &[(&str, u64)],
        mut progress: impl FnMut(u64),
    ) -> Result<Vec<String>> {
        let hashes = wanted.iter().map(|&(name, bytes)| async move {
            let mut hash = Sha256::new();
            let take = |piece: &[u8]| {
                hash.update(piece);
                Ok(())
            };
            self.pieces(name, bytes, take).await?;
            Ok::<_, Error>((hex(&hash.finalize()), bytes))
        });
        self.0.runtime.block_on(async {
            let mut hashes = pin!(stream::iter(hashes).buffered(TOGETHER));
            let mut found = Vec::with_capacity(wanted.len());
            while let Some((hash, bytes)) = hashes.try_next().await? {
                progress(bytes);
                found.push(hash);
            }
            Ok::<_, Error>(found)
        })
    }

    /// The SHA-256 of an object of so many bytes, in hex: by its header, if it has one.
    pub(crate) fn hash(&self, name: &str, bytes: u64) -> Result<String> {
        match self.0.runtime.block_on(self.look(name))? {
            Some((found, Some(hash))) if found == bytes => Ok(hash),
            _ => Ok(self.hashes(&[(name, bytes)], |_| {})?.pop().unwrap_or_default()),
        }
    }

    /// The bytes of an object, and its hash if it has a header that tells; `None` if it is not there.
    async fn look(&self, name: &str) -> Result<Option<(u64, Option<String>)>> {
        let key = self.key(name)?;
        match self.0.store.get_opts(&key, GetOptions::new().with_head(true)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            found => {
                let found = found.map_err(|error| self.failed("look at", name, &error))?;
                let hash = found.attributes.get(&Attribute::Metadata(HASH.into()));
                Ok(Some((found.meta.size, hash.map(|hash| String::from(&**hash)))))
            }
        }
    }

    /// Gives the first bytes of an object to `take`, in order.
    async fn pieces(
        &self,
        name: &str,
        bytes: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let key = &self.key(name)?;
        let starts = (0..bytes.div_ceil(PIECE)).map(|piece| piece * PIECE);
        let pieces = starts.map(|start| self.0.store.get_range(key, start..bytes.min(start + PIECE)));
        let mut pieces = pin!(stream::iter(pieces).buffered(PIECES));
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| self.failed("read", name, &error))?;
            take(&piece).map_err(io("keep a copy of", &self.path(name)))?;
        }
        Ok(())
    }

    fn key(&self, name: &str) -> Result<Key> {
        let base: &str = self.0.base.as_ref();
        let key = if base.is_empty() { name.to_owned() } else { format!("{base}/{name}") };
        Key::parse(&key).map_err(|error| io("name", &self.path(name))(io::Error::other(error)))
    }

    /// What an object is called within the archive.
    fn name(&self, key: &Key) -> Option<String> {
        let (key, base): (&str, &str) = (key.as_ref(), self.0.base.as_ref());
        let name = key.strip_prefix(base)?.trim_start_matches('/');
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn failed(&self, operation: &'static str, name: &str, error: &object_store::Error) -> Error {
        io(operation, &self.path(name))(reason(error))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the store, which has keys.
        f.debug_tuple("Remote").field(&self.0.url).finish()
    }
}

/// S3 as the environment says, but impatient: somebody waits for it.
fn s3(url: &str) -> AmazonS3Builder {
    let retries = RetryConfig { max_retries: RETRIES, ..RetryConfig::default() };
    let store = AmazonS3Builder::from_env().with_url(url).with_retry(retries);
    match std::env::var_os("AWS_TIMEOUT") {
        Some(_) => store,
        None => store.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), PATIENCE),
    }
}

/// Why, in a line: what the store says, else what lies at the root of it.
fn reason(error: &object_store::Error) -> io::Error {
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        _ => ErrorKind::Other,
    };
    let advice = match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            "; look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and at what the bucket allows"
        }
        _ => "",
    };
    let mut root: &(dyn std::error::Error + 'static) = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    let (whole, root) = (error.to_string(), root.to_string());
    let text = match (element(&whole, "Code"), element(&whole, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => root.trim_end_matches([':', ' ']).to_owned(),
    };
    io::Error::new(kind, format!("{}{advice}", text.replace(['\r', '\n'], " ")))
}

/// What an element of an answer in XML says.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests;
