//! Recordings at rest, encrypted with age (age-encryption.org/v1), each by a key of its own.
//!
//! ```text
//! <archive>/recordings/2026/11/22/….wav.age    the recording, to a key that was made for it
//! <archive>/keys/2026/11/22/….key              that key, to the recipients: without it nobody can hear the recording
//! ```
//!
//! Both are files that `age` itself decrypts: `age -d -i <(age -d -i identity.txt ….key) ….wav.age`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::iter;
use std::path::Path;
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, Encryptor};

use crate::error::{Error, Result, io as io_error};
use crate::finished::Finished;
use crate::place::Place;
use crate::seal;
use crate::spool::{self, Saved};

/// What the names of encrypted files end with.
pub(crate) const SUFFIX: &str = ".age";
/// The longest file that may be a key.
const LONGEST_KEY: u64 = 64 << 10;

/// To whom the keys of recordings are encrypted: any one of them can decrypt.
#[derive(Clone, Default)]
pub struct Recipients(Vec<Recipient>);

/// Who can decrypt.
#[derive(Clone)]
pub struct Identities(Vec<Identity>);

/// A file of a recording, in clear.
pub trait Clear: Read + Seek + Send {}

impl<T: Read + Seek + Send> Clear for T {}

impl Recipients {
    /// Adds one: `age1…`, as `age-keygen` prints it.
    pub fn add(&mut self, recipient: &str) -> Result<(), String> {
        let recipient = Recipient::from_str(recipient.trim());
        self.0.push(recipient.map_err(|_| "that is no recipient of age: it begins with `age1`".to_owned())?);
        Ok(())
    }

    /// Who they are: `age1…` of each.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    /// Whether there is nobody, and nothing is encrypted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

impl PartialEq for Recipients {
    fn eq(&self, other: &Recipients) -> bool {
        self.0.iter().map(ToString::to_string).eq(other.0.iter().map(ToString::to_string))
    }
}

impl Eq for Recipients {}

impl Identities {
    /// Reads a file of identities, as `age-keygen` writes it.
    pub fn read(path: &Path) -> Result<Identities> {
        let text = fs::read_to_string(path).map_err(io_error("read", path))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let identities: Option<Vec<Identity>> = lines.map(|line| Identity::from_str(line).ok()).collect();
        let identities = identities.filter(|identities| !identities.is_empty());
        identities.map(Identities).ok_or_else(|| Error::NoIdentity { path: path.to_owned() })
    }

    /// Opens a file of a recording whose key lies at `key`, relative to the archive as `file` is.
    fn open(&self, archive: &Place, file: &str, key: &str) -> Result<Box<dyn Clear>> {
        let (path, key_path) = (archive.path(file), archive.path(key));
        let sealed = archive.file(key)?.ok_or_else(|| Error::KeyDestroyed { path: path.clone() })?;
        let recipients = self.0.iter().map(|identity| identity as &dyn age::Identity);
        let mut text = String::new();
        Decryptor::new_buffered(io::BufReader::new(sealed))
            .and_then(|decryptor| decryptor.decrypt(recipients))
            .and_then(|reader| Ok(reader.take(LONGEST_KEY).read_to_string(&mut text)?))
            .map_err(cannot(&key_path))?;
        let own = Identity::from_str(text.trim())
            .map_err(|why| io_error("read", &key_path)(io::Error::new(io::ErrorKind::InvalidData, why)))?;
        let file = found(archive, file)?;
        let reader = Decryptor::new_buffered(io::BufReader::new(file))
            .and_then(|decryptor| decryptor.decrypt(iter::once(&own as &dyn age::Identity)));
        Ok(Box::new(reader.map_err(cannot(&path))?))
    }
}

/// Opens a file of a recording, in clear whether it is encrypted or not. `key` is what its row says, and empty if nothing is.
pub fn open(
    archive: impl Into<Place>,
    file: &str,
    key: &str,
    identities: Option<&Identities>,
) -> Result<Box<dyn Clear>> {
    let archive: Place = archive.into();
    if !file.ends_with(SUFFIX) {
        return Ok(Box::new(found(&archive, file)?));
    }
    match identities {
        Some(identities) => identities.open(&archive, file, key),
        None => Err(Error::Encrypted { path: archive.path(file) }),
    }
}

/// A file that must be there.
fn found(archive: &Place, file: &str) -> Result<File> {
    let missing = || io_error("open", &archive.path(file))(io::ErrorKind::NotFound.into());
    archive.file(file)?.ok_or_else(missing)
}

/// The name of a file in clear.
pub fn clear_name(file: &str) -> &str {
    file.strip_suffix(SUFFIX).unwrap_or(file)
}

impl Finished {
    /// Whether recordings are to be encrypted.
    pub fn encrypts(&self) -> bool {
        !self.recipients().is_empty()
    }

    /// Encrypts a recording and what lies beside it. Those in clear stay until the catalog names the others; of what cannot
    /// be encrypted as a whole only they are left.
    pub(crate) fn encrypt(&self, saved: &Saved) -> Result<Saved> {
        if !self.encrypts() || saved.file.ends_with(SUFFIX) {
            return Ok(saved.clone());
        }
        self.encrypt_all(saved).inspect_err(|_| {
            let beside = spool::beside(&saved.file).into_iter().chain([saved.file.clone()]);
            let made = beside.map(|name| format!("{name}{SUFFIX}")).chain([spool::key_name(&saved.file)]);
            // What cannot be removed either is nothing without its key, and is written over the next time.
            made.for_each(|name| _ = spool::remove(&self.path(&name)));
        })
    }

    fn encrypt_all(&self, saved: &Saved) -> Result<Saved> {
        let own = Identity::generate();
        let key = spool::key_name(&saved.file);
        // First the key: without it what follows is nothing.
        self.write_encrypted(&key, &self.recipients().0, &mut own.to_string().expose_secret().as_bytes())?;
        let own = [own.to_public()];
        let mut replaces = saved.replaces.clone();
        let mut encrypted = |name: &str| {
            let path = self.path(name);
            let mut clear = File::open(&path).map_err(io_error("open", &path))?;
            let target = format!("{name}{SUFFIX}");
            self.write_encrypted(&target, &own, &mut clear)?;
            replaces.push(name.to_owned());
            Ok(target)
        };
        let trace = spool::trace_name(&saved.file);
        if self.path(&trace).exists() {
            encrypted(&trace)?;
        }
        let [caller, callee] = &saved.rtpdump;
        let rtpdump = [caller, callee].map(|name| name.as_deref().map(&mut encrypted).transpose());
        let [caller, callee] = rtpdump;
        let file = encrypted(&saved.file)?;
        let target = self.path(&file);
        let bytes = fs::metadata(&target).map_err(io_error("look at", &target))?.len();
        let sha256 = if saved.sha256.is_some() { Some(seal::hash(&target)?) } else { None };
        Ok(Saved {
            file,
            bytes,
            sha256,
            rtpdump: [caller?, callee?],
            replaces,
            key: Some(key),
            content_sha256: saved.sha256.clone(),
        })
    }

    fn write_encrypted(&self, name: &str, to: &[Recipient], clear: &mut impl Read) -> Result<()> {
        let target = self.path(name);
        if let Some(dir) = target.parent() {
            fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        }
        let scratch = self.scratch()?;
        let recipients = to.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other);
        let written = encryptor.and_then(|encryptor| {
            let mut writer = encryptor.wrap_output(io::BufWriter::new(scratch.as_file()))?;
            io::copy(clear, &mut writer)?;
            writer.finish()?.flush()?;
            // What is in clear is removed soon after, and must not be all that the disk has.
            scratch.as_file().sync_data()
        });
        written.map_err(io_error("encrypt to", &target))?;
        scratch.persist(&target).map_err(|error| io_error("rename into place", &target)(error.error))?;
        Ok(())
    }
}

/// Why something could not be decrypted.
fn cannot(path: &Path) -> impl FnOnce(DecryptError) -> Error {
    move |error| match error {
        DecryptError::Io(error) => io_error("read", path)(error),
        DecryptError::NoMatchingKeys => Error::OtherIdentity { path: path.to_owned() },
        other => io_error("decrypt", path)(io::Error::new(io::ErrorKind::InvalidData, other.to_string())),
    }
}
