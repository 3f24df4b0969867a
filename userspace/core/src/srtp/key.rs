//! Master keys, and where they stand in a session description (RFC 4568).

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::Suite;

/// Phones leave the padding out, or have bits in it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// Keys read of one `a=crypto` line; each has an identifier of its own.
const MAX_KEYS: usize = 4;
/// RFC 4568, section 6.1.
const MAX_MKI_LENGTH: usize = 128;

/// A master key and its salt, from which the keys of a stream are derived. It is nowhere printed, and wiped when it
/// is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    pub(super) suite: Suite,
    /// Key and salt.
    secret: Zeroizing<Box<[u8]>>,
    /// Number of the `a=crypto` line; an answer says by it which of an offer it takes.
    pub(crate) tag: u32,
    /// Bytes of the master key identifier in each packet.
    pub(super) mki_length: usize,
    /// `UNENCRYPTED_SRTP` is not said.
    pub(super) is_encrypted: bool,
    /// `UNAUTHENTICATED_SRTP` is not said.
    pub(super) is_authenticated: bool,
}

impl MasterKey {
    /// A key with the salt behind it. `None`: not as long as the suite needs it.
    pub fn new(suite: Suite, key_and_salt: &[u8]) -> Option<MasterKey> {
        let length = suite.key_length() + suite.salt_length();
        let secret = Zeroizing::new(Box::from(key_and_salt));
        (key_and_salt.len() == length).then_some(MasterKey {
            suite,
            secret,
            tag: 0,
            mki_length: 0,
            is_encrypted: true,
            is_authenticated: true,
        })
    }

    /// Reads the value of an `a=crypto` attribute: `1 AES_CM_128_HMAC_SHA1_80 inline:…|2^31|1:4 KDR=0`. Empty when
    /// it cannot be used: another suite, another key derivation rate than 0, or a key of the wrong length.
    pub fn from_attribute(value: &str) -> Vec<MasterKey> {
        MasterKey::parse(value).unwrap_or_default()
    }

    fn parse(value: &str) -> Option<Vec<MasterKey>> {
        let mut words = value.split_ascii_whitespace();
        let tag = words.next()?.parse().ok()?;
        let suite = Suite::from_name(words.next()?)?;
        let inline = words.next()?;
        let (mut is_encrypted, mut is_authenticated) = (true, true);
        for parameter in words {
            let is = |name: &str| parameter.eq_ignore_ascii_case(name);
            is_encrypted &= !is("UNENCRYPTED_SRTP");
            is_authenticated &= !is("UNAUTHENTICATED_SRTP");
            let rate = parameter.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("KDR"));
            if rate.is_some_and(|(_, rate)| rate.trim() != "0") {
                return None;
            }
        }
        let method = "inline:";
        let key = |text: &str| {
            let text = match text.get(..method.len()) {
                Some(start) if start.eq_ignore_ascii_case(method) => &text[method.len()..],
                _ => text,
            };
            let mut parts = text.split('|');
            let secret = Zeroizing::new(BASE64.decode(parts.next()?).ok()?);
            // The lifetime is in it or not; what has a colon is the identifier's value and length.
            let mki = parts.find_map(|part| part.split_once(':'));
            let mki_length = match mki {
                Some((_, length)) => {
                    length.parse().ok().filter(|length| (1..=MAX_MKI_LENGTH).contains(length))?
                }
                None => 0,
            };
            let key = MasterKey::new(suite, &secret)?;
            // Galois/counter mode authenticates whatever is said (RFC 7714, section 14.3).
            let is_authenticated = is_authenticated || suite.is_aead();
            Some(MasterKey { tag, mki_length, is_encrypted, is_authenticated, ..key })
        };
        Some(inline.split(';').take(MAX_KEYS).filter_map(key).collect())
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.secret[..self.suite.key_length()]
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.secret[self.suite.key_length()..]
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({} {}, not shown)", self.tag, self.suite)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_rfc_4568_has_it() {
        let keys = MasterKey::from_attribute(
            "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4 FEC_ORDER=FEC_SRTP",
        );
        let [key] = &keys[..] else { panic!("{keys:?}") };
        assert_eq!((key.tag, key.suite, key.mki_length), (1, Suite::AesCm128Sha1_80, 4));
        assert_eq!((key.key(), key.salt()), (&b"YS___semctl () {"[..], &b"\t220;}\n}\nunles"[..]));
        assert!(key.is_encrypted && key.is_authenticated);
    }

    #[test]
    fn session_parameters_and_several_keys() {
        let inline = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
        let read = |rest: &str| {
            MasterKey::from_attribute(&format!("2 AES_CM_128_HMAC_SHA1_32 INLINE:{inline}{rest}"))
        };
        assert_eq!(read(&format!("|1:2;inline:{inline}|2:2")).len(), 2);
        assert!(!read(" UNENCRYPTED_SRTP")[0].is_encrypted);
        assert!(!read(" unauthenticated_srtp")[0].is_authenticated);
        assert_eq!(read(" KDR=0 WSH=64 UNENCRYPTED_SRTCP").len(), 1);
        assert!(read(" KDR=4").is_empty() && read("|1:0").is_empty() && read("AAAA").is_empty());
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = MasterKey::new(Suite::AesCm128Sha1_80, &[0x41; 30]).unwrap();
        let text = format!("{key:?} {key:#?}");
        assert!(!text.contains("41") && !text.contains("65") && !text.contains("AAA"), "{text}");
    }

    proptest! {
        #[test]
        fn never_panics(text: String, inline in "[0-9] AES_CM_128_HMAC_SHA1_80 inline:[A-Za-z0-9+/=|:;^ ]{0,60}") {
            MasterKey::from_attribute(&text);
            MasterKey::from_attribute(&inline);
        }
    }
}
