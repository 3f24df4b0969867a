//! Keys: Ed25519 (RFC 8032), as OpenSSL writes them (RFC 8410).

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::{hash_of, hex, unhex};
use crate::error::{Error, Result, io};

/// Signs manifests. To be kept apart from the archive.
pub struct SecretKey(SigningKey);

/// Tells whether a manifest was signed with the secret key of the pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl SecretKey {
    /// Makes a new key, and writes it to a file that nobody else may read, and its public key beside it with `.pub`.
    /// A file that is there is not touched, and an error.
    pub fn generate(path: &Path) -> Result<(SecretKey, PathBuf)> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| io("get random bytes for", path)(std::io::Error::other(error.to_string())))?;
        let key = SigningKey::from_bytes(&seed);
        let secret = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| bad_key(path))?;
        let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|_| bad_key(path))?;
        create(path, secret.as_bytes(), 0o600)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".pub");
        let public_path = PathBuf::from(name);
        create(&public_path, public.as_bytes(), 0o644)?;
        Ok((SecretKey(key), public_path))
    }

    /// Reads a key that [`SecretKey::generate`] or `openssl genpkey -algorithm ed25519` has written.
    pub fn read(path: &Path) -> Result<SecretKey> {
        let text = fs::read_to_string(path).map_err(io("read", path))?;
        SigningKey::from_pkcs8_pem(&text).map(SecretKey).map_err(|_| bad_key(path))
    }

    /// The other half of the pair.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// A signature (RFC 8032, section 5.1.6). What else than manifests is signed must not begin with `{`, as they do, so
    /// that neither can be taken for the other.
    pub fn sign_bytes(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }

    /// A signature in hex.
    pub fn sign(&self, bytes: &[u8]) -> String {
        hex(&self.sign_bytes(bytes))
    }
}

impl PublicKey {
    /// Reads a public key (PEM).
    pub fn read(path: &Path) -> Result<PublicKey> {
        let text = fs::read_to_string(path).map_err(io("read", path))?;
        VerifyingKey::from_public_key_pem(&text).map(PublicKey).map_err(|_| bad_key(path))
    }

    /// From 64 hex digits.
    pub fn from_hex(text: &str) -> Option<PublicKey> {
        let bytes: [u8; 32] = unhex(text)?.try_into().ok()?;
        VerifyingKey::from_bytes(&bytes).map(PublicKey).ok()
    }

    /// 64 hex digits.
    pub fn to_hex(&self) -> String {
        hex(self.0.as_bytes())
    }

    /// The key itself (RFC 8032, section 5.1.5).
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The first digits of its SHA-256, to be compared by eye.
    pub fn fingerprint(&self) -> String {
        hash_of(self.0.as_bytes())[..16].to_owned()
    }

    /// Whether a signature is one of these bytes.
    pub fn has_signed_bytes(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok()
    }

    /// Whether a signature in hex is one of these bytes.
    pub(super) fn has_signed(&self, bytes: &[u8], signature: &str) -> bool {
        let signature: Option<[u8; 64]> = unhex(signature).and_then(|bytes| bytes.try_into().ok());
        signature.is_some_and(|signature| self.has_signed_bytes(bytes, &signature))
    }
}

fn bad_key(path: &Path) -> Error {
    Error::NoKey { path: path.to_owned() }
}

fn create(path: &Path, text: &[u8], mode: u32) -> Result<()> {
    let file = File::options().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    })
    .map_err(io("create", path))
}
