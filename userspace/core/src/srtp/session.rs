//! One direction of SRTP under one master key (RFC 3711, 6188, 7714).

use std::ops::Range;

use aes::cipher::consts::{U12, U16};
use aes::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipherCore};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::{AeadCore, AeadInOut};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use zeroize::Zeroizing;

use super::{MasterKey, Suite};

/// Labels of RFC 3711, section 4.3.2.
const ENCRYPTION: u8 = 0;
const AUTHENTICATION: u8 = 1;
const SALT: u8 = 2;
/// Bytes of an HMAC-SHA1 key.
const AUTHENTICATION_KEY: usize = 20;

/// An SRTP packet, or what of it the capture has.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// The RTP header, which is authenticated and not encrypted.
    pub header: &'a [u8],
    /// All behind it.
    pub body: &'a [u8],
    /// Sequence number.
    pub sequence: u16,
    /// Synchronisation source.
    pub ssrc: u32,
}

/// The keys of a session, derived from a master key.
pub struct Session {
    cipher: Cipher,
    /// Of 112 bits; Galois/counter mode uses the first 96.
    salt: Zeroizing<[u8; 14]>,
    authentication: Hmac<Sha1>,
    tag_length: usize,
    mki_length: usize,
    is_encrypted: bool,
    is_authenticated: bool,
}

/// Keys are scheduled once, and wiped by the crates that hold them.
enum Cipher {
    Cm128(Aes128),
    Cm192(Aes192),
    Cm256(Aes256),
    Gcm128(Box<Aes128Gcm>),
    Gcm256(Box<Aes256Gcm>),
}

impl Session {
    /// Derives the keys of a session, for a key derivation rate of 0 (RFC 3711, section 4.3.1). `None` never happens
    /// with a key that [`MasterKey`] has taken.
    pub fn derive(master: &MasterKey) -> Option<Session> {
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..master.suite.key_length()];
        derive(master, ENCRYPTION, key)?;
        let cipher = match master.suite {
            Suite::AesCm128Sha1_80 | Suite::AesCm128Sha1_32 => Cipher::Cm128(Aes128::new_from_slice(key).ok()?),
            Suite::AesCm192Sha1_80 | Suite::AesCm192Sha1_32 => Cipher::Cm192(Aes192::new_from_slice(key).ok()?),
            Suite::AesCm256Sha1_80 | Suite::AesCm256Sha1_32 => Cipher::Cm256(Aes256::new_from_slice(key).ok()?),
            Suite::AeadAes128Gcm => Cipher::Gcm128(Box::new(Aes128Gcm::new_from_slice(key).ok()?)),
            Suite::AeadAes256Gcm => Cipher::Gcm256(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
        };
        let mut salt = Zeroizing::new([0; 14]);
        derive(master, SALT, &mut salt[..master.suite.salt_length()])?;
        let mut authentication = Zeroizing::new([0; AUTHENTICATION_KEY]);
        derive(master, AUTHENTICATION, &mut authentication[..])?;
        Some(Session {
            cipher,
            salt,
            authentication: Hmac::new_from_slice(&authentication[..]).ok()?,
            tag_length: if master.is_authenticated { master.suite.tag_length() } else { 0 },
            mki_length: master.mki_length,
            is_encrypted: master.is_encrypted,
            is_authenticated: master.is_authenticated,
        })
    }

    /// Whether a wrong key is noticed.
    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Undoes a packet for the first of some rollover counters under which it is authentic: returns that, with the
    /// payload in `clear`. Of a packet that the capture has cut nothing can be said.
    pub fn open(
        &self,
        packet: &Sealed<'_>,
        counters: impl IntoIterator<Item = u32>,
        clear: &mut Vec<u8>,
    ) -> Option<u32> {
        match &self.cipher {
            Cipher::Gcm128(cipher) => self.open_gcm(&**cipher, packet, counters, clear),
            Cipher::Gcm256(cipher) => self.open_gcm(&**cipher, packet, counters, clear),
            cipher => {
                let body = self.authentic_part(packet)?;
                let counter = self.authenticate(packet, body.end, counters)?;
                clear.clear();
                clear.extend_from_slice(&packet.body[body]);
                if self.is_encrypted {
                    let iv = self.counter_block(packet, counter);
                    match cipher {
                        Cipher::Cm128(cipher) => apply(cipher, &iv, clear),
                        Cipher::Cm192(cipher) => apply(cipher, &iv, clear),
                        Cipher::Cm256(cipher) => apply(cipher, &iv, clear),
                        Cipher::Gcm128(_) | Cipher::Gcm256(_) => return None,
                    }
                }
                Some(counter)
            }
        }
    }

    /// Where the payload is, in front of key identifier and tag.
    fn authentic_part(&self, packet: &Sealed<'_>) -> Option<Range<usize>> {
        Some(0..packet.body.len().checked_sub(self.tag_length + self.mki_length)?)
    }

    fn authenticate(
        &self,
        packet: &Sealed<'_>,
        end: usize,
        counters: impl IntoIterator<Item = u32>,
    ) -> Option<u32> {
        let mut counters = counters.into_iter();
        if !self.is_authenticated {
            return counters.next();
        }
        let tag = &packet.body[end + self.mki_length..];
        let mut mac = self.authentication.clone();
        mac.update(packet.header);
        mac.update(&packet.body[..end]);
        counters.find(|counter| {
            let mut mac = mac.clone();
            mac.update(&counter.to_be_bytes());
            mac.verify_truncated_left(tag).is_ok()
        })
    }

    fn open_gcm<A>(
        &self,
        cipher: &A,
        packet: &Sealed<'_>,
        counters: impl IntoIterator<Item = u32>,
        clear: &mut Vec<u8>,
    ) -> Option<u32>
    where
        A: AeadInOut + AeadCore<NonceSize = U12, TagSize = U16>,
    {
        // RFC 7714, section 8.2: the key identifier stands behind the tag, which is part of the ciphertext.
        let end = packet.body.len().checked_sub(self.mki_length)?;
        let (text, tag) = packet.body[..end].split_last_chunk::<16>()?;
        counters.into_iter().find(|counter| {
            // RFC 7714, section 8.1.
            let mut nonce = [0; 12];
            nonce[2..6].copy_from_slice(&packet.ssrc.to_be_bytes());
            nonce[6..10].copy_from_slice(&counter.to_be_bytes());
            nonce[10..].copy_from_slice(&packet.sequence.to_be_bytes());
            nonce.iter_mut().zip(&self.salt[..]).for_each(|(byte, salt)| *byte ^= salt);
            clear.clear();
            clear.extend_from_slice(text);
            if self.is_encrypted {
                return cipher
                    .decrypt_inout_detached(&nonce.into(), packet.header, clear.as_mut_slice().into(), &(*tag).into())
                    .is_ok();
            }
            // Nothing is encrypted, all is authenticated (RFC 7714, section 8.3).
            let all = [packet.header, text].concat();
            cipher.decrypt_inout_detached(&nonce.into(), &all, (&mut [][..]).into(), &(*tag).into()).is_ok()
        })
    }

    /// RFC 3711, section 4.1.1.
    fn counter_block(&self, packet: &Sealed<'_>, counter: u32) -> [u8; 16] {
        let mut block = [0; 16];
        block[4..8].copy_from_slice(&packet.ssrc.to_be_bytes());
        block[8..12].copy_from_slice(&counter.to_be_bytes());
        block[12..14].copy_from_slice(&packet.sequence.to_be_bytes());
        block.iter_mut().zip(&self.salt[..]).for_each(|(byte, salt)| *byte ^= salt);
        block
    }
}

/// AES in counter mode as a pseudo-random function (RFC 3711, section 4.3.3), with the key length that the suite has
/// (RFC 6188, section 3).
fn derive(master: &MasterKey, label: u8, out: &mut [u8]) -> Option<()> {
    let mut block = [0; 16];
    // A salt of 96 bits has zeros behind it.
    block[..master.salt().len()].copy_from_slice(master.salt());
    block[7] ^= label;
    out.fill(0);
    match master.key().len() {
        16 => apply(&Aes128::new_from_slice(master.key()).ok()?, &block, out),
        24 => apply(&Aes192::new_from_slice(master.key()).ok()?, &block, out),
        _ => apply(&Aes256::new_from_slice(master.key()).ok()?, &block, out),
    }
    Some(())
}

/// AES in counter mode.
fn apply<C>(cipher: &C, block: &[u8; 16], data: &mut [u8])
where
    C: BlockCipherEncrypt<BlockSize = U16>,
{
    CtrCore::<&C, Ctr128BE>::inner_iv_init(cipher, &(*block).into()).apply_keystream_partial(data.into());
}
