//! Sending files to an object store, and removing them there.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Take};
use std::path::PathBuf;
use std::pin::pin;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
};
use sha2::{Digest, Sha256};

use super::{HASH, PIECE, Remote, TOGETHER};
use crate::error::{Error, Result, io};
use crate::seal::{hash_as_far_as, hash_of, hex};

/// A file that is to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) path: PathBuf,
    /// Under which name.
    pub(crate) name: String,
    /// So much of it.
    pub(crate) bytes: u64,
}

impl Remote {
    /// Sends files. `progress` is told of each, and whether it was sent: not if it has gone meanwhile.
    pub(crate) fn send(&self, files: &[Outgoing], mut progress: impl FnMut(&Outgoing, bool)) -> Result<()> {
        let sending = files.iter().map(|file| async move {
            let sent = self.send_one(file).await?;
            Ok::<_, Error>((file, sent))
        });
        self.0.runtime.block_on(async {
            let mut sending = pin!(stream::iter(sending).buffer_unordered(TOGETHER));
            while let Some((file, sent)) = sending.try_next().await? {
                progress(file, sent);
            }
            Ok::<_, Error>(())
        })
    }

    /// Removes objects. One that is not there is as good as removed.
    pub(crate) fn remove(&self, names: &[String]) -> Result<()> {
        let keys = names.iter().map(|name| self.key(name)).collect::<Result<Vec<_>>>()?;
        self.0.runtime.block_on(async {
            let mut removed = self.0.store.delete_stream(stream::iter(keys).map(Ok).boxed());
            while let Some(removed) = removed.next().await {
                match removed {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(self.failed("remove files from", "", &error)),
                }
            }
            Ok::<_, Error>(())
        })
    }

    async fn send_one(&self, file: &Outgoing) -> Result<bool> {
        let opened = match File::open(&file.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            opened => opened.map_err(io("open", &file.path))?,
        };
        let mut from = opened.take(file.bytes);
        let hash = if file.bytes <= PIECE {
            let bytes = next_piece(&mut from).map_err(io("read", &file.path))?;
            let hash = hash_of(&bytes);
            let options = PutOptions::from(self.attributes(&hash));
            let put = self.0.store.put_opts(&self.key(&file.name)?, bytes.into(), options).await;
            put.map_err(|error| self.failed("write", &file.name, &error))?;
            hash
        } else {
            self.send_in_pieces(file, from).await?
        };
        match self.look(&file.name).await? {
            Some((bytes, found))
                if bytes == file.bytes && found.as_ref().is_none_or(|found| *found == hash) =>
            {
                Ok(true)
            }
            _ => Err(io("write", &self.path(&file.name))(io::Error::other("it is not what was sent"))),
        }
    }

    /// Sends a large file. Returns the hash of what was sent.
    async fn send_in_pieces(&self, file: &Outgoing, from: Take<File>) -> Result<String> {
        let failed = |error: object_store::Error| self.failed("write", &file.name, &error);
        let hash = hash_as_far_as(&file.path, file.bytes)?;
        let options = PutMultipartOptions::from(self.attributes(&hash));
        let upload = self.0.store.put_multipart_opts(&self.key(&file.name)?, options).await;
        let mut upload = upload.map_err(failed)?;
        match self.send_pieces(&mut upload, file, from).await {
            Ok(sent) if sent == hash => {
                upload.complete().await.map_err(failed)?;
                Ok(hash)
            }
            sent => {
                // What is left of it there is for the store to clear up, if it does not want to hear of it now.
                let _ = upload.abort().await;
                sent.and_then(|_| {
                    Err(io("read", &file.path)(io::Error::other("it changes while it is read")))
                })
            }
        }
    }

    async fn send_pieces(
        &self,
        upload: &mut Box<dyn MultipartUpload>,
        file: &Outgoing,
        mut from: Take<File>,
    ) -> Result<String> {
        let mut hash = Sha256::new();
        loop {
            let bytes = next_piece(&mut from).map_err(io("read", &file.path))?;
            if bytes.is_empty() {
                return Ok(hex(&hash.finalize()));
            }
            hash.update(&bytes);
            let sent = upload.put_part(PutPayload::from(bytes)).await;
            sent.map_err(|error| self.failed("write", &file.name, &error))?;
        }
    }

    fn attributes(&self, hash: &str) -> Attributes {
        let mut attributes = Attributes::new();
        if self.0.headers {
            attributes.insert(Attribute::Metadata(HASH.into()), hash.to_owned().into());
        }
        attributes
    }
}

/// The next piece of a file; at its end it is empty.
fn next_piece(from: &mut Take<File>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(PIECE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
