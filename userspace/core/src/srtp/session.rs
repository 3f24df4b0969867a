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
            Suite::AesCm128Sha1_80 | Suite::AesCm128Sha1_32 => {
                Cipher::Cm128(Aes128::new_from_slice(key).ok()?)
            }
            Suite::AesCm192Sha1_80 | Suite::AesCm192Sha1_32 => {
                Cipher::Cm192(Aes192::new_from_slice(key).ok()?)
            }
            Suite::AesCm256Sha1_80 | Suite::AesCm256Sha1_32 => {
                Cipher::Cm256(Aes256::new_from_slice(key).ok()?)
            }
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
                self.apply_counter_mode(cipher, packet, counter, clear)?;
                Some(counter)
            }
        }
    }

    /// Protects a packet as its sender does, so that there is something to try a recorder with.
    pub fn seal(&self, header: &[u8], payload: &[u8], counter: u32) -> Option<Vec<u8>> {
        let field = |at: usize| Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?));
        let (sequence, ssrc) = (field(0)? as u16, field(8)?);
        let packet = Sealed { header, body: &[], sequence, ssrc };
        let mki = vec![1; self.mki_length];
        let mut body = payload.to_vec();
        let tag: Vec<u8> = match &self.cipher {
            Cipher::Gcm128(cipher) => self.seal_gcm(&**cipher, &packet, counter, &mut body)?,
            Cipher::Gcm256(cipher) => self.seal_gcm(&**cipher, &packet, counter, &mut body)?,
            cipher => {
                self.apply_counter_mode(cipher, &packet, counter, &mut body)?;
                let mut mac = self.authentication.clone();
                [header, &body, &counter.to_be_bytes()].into_iter().for_each(|part| mac.update(part));
                mac.finalize().into_bytes()[..self.tag_length].to_vec()
            }
        };
        let behind = match &self.cipher {
            Cipher::Gcm128(_) | Cipher::Gcm256(_) => [tag, mki],
            _ => [mki, tag],
        };
        Some([header, &body, &behind[0], &behind[1]].concat())
    }

    fn seal_gcm<A: AeadInOut + AeadCore<NonceSize = U12, TagSize = U16>>(
        &self,
        cipher: &A,
        packet: &Sealed<'_>,
        counter: u32,
        body: &mut [u8],
    ) -> Option<Vec<u8>> {
        let nonce = self.nonce(packet, counter);
        let tag = if self.is_encrypted {
            cipher.encrypt_inout_detached(&nonce.into(), packet.header, body.into())
        } else {
            let all = [packet.header, &*body].concat();
            cipher.encrypt_inout_detached(&nonce.into(), &all, (&mut [][..]).into())
        };
        Some(tag.ok()?.to_vec())
    }

    /// Undoes what it does.
    fn apply_counter_mode(
        &self,
        cipher: &Cipher,
        packet: &Sealed<'_>,
        counter: u32,
        data: &mut [u8],
    ) -> Option<()> {
        if !self.is_encrypted {
            return Some(());
        }
        let block = self.counter_block(packet, counter);
        match cipher {
            Cipher::Cm128(cipher) => apply(cipher, &block, data),
            Cipher::Cm192(cipher) => apply(cipher, &block, data),
            Cipher::Cm256(cipher) => apply(cipher, &block, data),
            Cipher::Gcm128(_) | Cipher::Gcm256(_) => return None,
        }
        Some(())
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
            let nonce = self.nonce(packet, *counter);
            clear.clear();
            clear.extend_from_slice(text);
            if self.is_encrypted {
                return cipher
                    .decrypt_inout_detached(
                        &nonce.into(),
                        packet.header,
                        clear.as_mut_slice().into(),
                        &(*tag).into(),
                    )
                    .is_ok();
            }
            // Nothing is encrypted, all is authenticated (RFC 7714, section 8.3).
            let all = [packet.header, text].concat();
            cipher.decrypt_inout_detached(&nonce.into(), &all, (&mut [][..]).into(), &(*tag).into()).is_ok()
        })
    }

    /// RFC 7714, section 8.1.
    fn nonce(&self, packet: &Sealed<'_>, counter: u32) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&packet.ssrc.to_be_bytes());
        nonce[6..10].copy_from_slice(&counter.to_be_bytes());
        nonce[10..].copy_from_slice(&packet.sequence.to_be_bytes());
        nonce.iter_mut().zip(&self.salt[..]).for_each(|(byte, salt)| *byte ^= salt);
        nonce
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
            .collect()
    }

    fn derived(suite: Suite, key: &str, salt: &str, label: u8, length: usize) -> Vec<u8> {
        let master = MasterKey::new(suite, &[hex(key), hex(salt)].concat()).unwrap();
        let mut out = vec![0; length];
        derive(&master, label, &mut out).unwrap();
        out
    }

    /// RFC 3711, appendix B.3.
    #[test]
    fn keys_of_rfc_3711() {
        let (key, salt) = ("E1F97A0D3E018BE0D64FA32C06DE4139", "0EC675AD498AFEEBB6960B3AABE6");
        let derived = |label, length| derived(Suite::AesCm128Sha1_80, key, salt, label, length);
        assert_eq!(derived(ENCRYPTION, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derived(SALT, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(derived(AUTHENTICATION, 20), hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    /// RFC 6188, section 7.4.
    #[test]
    fn keys_of_rfc_6188() {
        let key = "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6";
        let derived = |label, length| {
            derived(Suite::AesCm256Sha1_80, key, "3b04803de51ee7c96423ab5b78d2", label, length)
        };
        assert_eq!(
            derived(ENCRYPTION, 32),
            hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4")
        );
        assert_eq!(derived(SALT, 14), hex("fa31791685ca444a9e07c6c64e93"));
    }

    fn sealed(packet: &[u8]) -> Sealed<'_> {
        let (header, body) = packet.split_at(12);
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        let ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        Sealed { header, body, sequence, ssrc }
    }

    /// RFC 7714, section 16.1.1.
    #[test]
    fn packet_of_rfc_7714() {
        let master = MasterKey::new(Suite::AeadAes128Gcm, &[0; 28]).unwrap();
        let mut session = Session::derive(&master).unwrap();
        let key: Vec<u8> = (0..16).collect();
        session.cipher = Cipher::Gcm128(Box::new(Aes128Gcm::new_from_slice(&key).unwrap()));
        session.salt[..12].copy_from_slice(b"Quid pro quo");
        let packet = hex(
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833\
             899d7f27beb16a9152cf765ee4390cce",
        );
        let mut clear = Vec::new();
        assert_eq!(session.open(&sealed(&packet), [0], &mut clear), Some(0));
        assert_eq!(clear, b"Gallia est omnis divisa in partes tres");
    }

    /// Made with libsrtp: the bytes of key and salt count from 0, the numbers 65535 and 0 follow each other.
    #[test]
    fn packets_of_libsrtp() {
        let cases = [
            (
                Suite::AesCm128Sha1_80,
                [
                    "8000ffff000000a0decafbadfcf109e6a82a69351881d3460b81178cd6ca794b064938efd9e672",
                    "80000000000000a0decafbad68b2d8dbd2652dcf387d3b3af8d6470d05931563cd314246823056",
                ],
            ),
            (
                Suite::AesCm128Sha1_32,
                [
                    "8000ffff000000a0decafbadfcf109e6a82a69351881d3460b81178cd6ca794b06",
                    "80000000000000a0decafbad68b2d8dbd2652dcf387d3b3af8d6470d05931563cd",
                ],
            ),
            (
                Suite::AeadAes128Gcm,
                [
                    "8000ffff000000a0decafbad5873186e61ab45fbc92d81cbbfc8547edc15a6287dba89770e4dbd79974cc9e2bf",
                    "80000000000000a0decafbad72941d077d0b73a7850088a3c26b88feebf4b8d37e2f60962f899f18f2776e4b91",
                ],
            ),
            (
                Suite::AeadAes256Gcm,
                [
                    "8000ffff000000a0decafbadd6bb9239a571bfcb9ca6f0fd2ed3a0fc3655b403bb8e5786f686119581ac5738df",
                    "80000000000000a0decafbadff266a7439878e12cfd0947c33fab899e29b040af19f50a5289c3b5506910c5dfc",
                ],
            ),
        ];
        for (suite, packets) in cases {
            let key: Vec<u8> = (0u8..).take(suite.key_length() + suite.salt_length()).collect();
            let session = Session::derive(&MasterKey::new(suite, &key).unwrap()).unwrap();
            let mut clear = Vec::new();
            for (packet, counter) in packets.into_iter().zip([0, 1]) {
                let mut packet = hex(packet);
                assert_eq!(
                    session.open(&sealed(&packet), [7, counter], &mut clear),
                    Some(counter),
                    "{suite}"
                );
                assert_eq!(clear, b"Hello, SRTP world");
                assert_eq!(session.seal(&packet[..12], b"Hello, SRTP world", counter), Some(packet.clone()));
                assert_eq!(session.open(&sealed(&packet), [7], &mut clear), None);
                packet[20] ^= 1;
                assert_eq!(session.open(&sealed(&packet), [counter], &mut clear), None);
            }
        }
    }

    #[test]
    fn key_identifier_and_nothing_encrypted() {
        let inline = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
        let gcm = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGU=";
        for value in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{inline}|1:4"),
            format!("1 AES_CM_128_HMAC_SHA1_32 inline:{inline} UNENCRYPTED_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{inline} UNAUTHENTICATED_SRTP"),
            format!("1 AEAD_AES_128_GCM inline:{}|1:4", &gcm[..38]),
            format!("1 AEAD_AES_128_GCM inline:{} UNENCRYPTED_SRTP", &gcm[..38]),
        ] {
            let keys = MasterKey::from_attribute(&value);
            let session = Session::derive(keys.first().expect(&value)).unwrap();
            let header = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
            let packet = session.seal(&header, b"heard", 3).unwrap();
            let mut clear = Vec::new();
            assert_eq!(session.open(&sealed(&packet), [3], &mut clear), Some(3), "{value}");
            assert_eq!(clear, b"heard");
        }
    }

    proptest! {
        #[test]
        fn never_panics(header: Vec<u8>, body: Vec<u8>, index in 0usize..8) {
            const ALL: [Suite; 8] = [
                Suite::AesCm128Sha1_80, Suite::AesCm128Sha1_32, Suite::AesCm192Sha1_80, Suite::AesCm192Sha1_32,
                Suite::AesCm256Sha1_80, Suite::AesCm256Sha1_32, Suite::AeadAes128Gcm, Suite::AeadAes256Gcm,
            ];
            let suite = ALL[index];
            let key = vec![7; suite.key_length() + suite.salt_length()];
            let session = Session::derive(&MasterKey::new(suite, &key).unwrap()).unwrap();
            let packet = Sealed { header: &header, body: &body, sequence: 1, ssrc: 2 };
            prop_assert_eq!(session.open(&packet, 0..3, &mut Vec::new()), None);
        }
    }
}
