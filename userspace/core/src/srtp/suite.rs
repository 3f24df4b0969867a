//! Crypto suites: what protects a stream (RFC 4568, 6188, 7714) and what DTLS calls it (RFC 5764, 7714).

use std::fmt;

/// A crypto suite that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// AES-128 in counter mode, authenticated by 80 bits.
    AesCm128Sha1_80,
    /// AES-128 in counter mode, authenticated by 32 bits.
    AesCm128Sha1_32,
    /// AES-192 in counter mode, authenticated by 80 bits.
    AesCm192Sha1_80,
    /// AES-192 in counter mode, authenticated by 32 bits.
    AesCm192Sha1_32,
    /// AES-256 in counter mode, authenticated by 80 bits.
    AesCm256Sha1_80,
    /// AES-256 in counter mode, authenticated by 32 bits.
    AesCm256Sha1_32,
    /// AES-128 in Galois/counter mode.
    AeadAes128Gcm,
    /// AES-256 in Galois/counter mode.
    AeadAes256Gcm,
}

impl Suite {
    const NAMES: [(&'static str, Suite); 9] = [
        ("AES_CM_128_HMAC_SHA1_80", Suite::AesCm128Sha1_80),
        ("AES_CM_128_HMAC_SHA1_32", Suite::AesCm128Sha1_32),
        ("AES_192_CM_HMAC_SHA1_80", Suite::AesCm192Sha1_80),
        ("AES_192_CM_HMAC_SHA1_32", Suite::AesCm192Sha1_32),
        ("AES_256_CM_HMAC_SHA1_80", Suite::AesCm256Sha1_80),
        ("AES_256_CM_HMAC_SHA1_32", Suite::AesCm256Sha1_32),
        ("AEAD_AES_128_GCM", Suite::AeadAes128Gcm),
        ("AEAD_AES_256_GCM", Suite::AeadAes256Gcm),
        // What drafts called it, and some phones still do.
        ("AEAD_AES_256_GCM_16", Suite::AeadAes256Gcm),
    ];

    /// All of them that DTLS has a number for.
    pub(crate) const OF_DTLS: [Suite; 4] =
        [Suite::AesCm128Sha1_80, Suite::AesCm128Sha1_32, Suite::AeadAes128Gcm, Suite::AeadAes256Gcm];

    /// By its name in `a=crypto`. `None`: not known, or one that cannot be undone, as `F8_128_HMAC_SHA1_80`.
    pub fn from_name(name: &str) -> Option<Suite> {
        // Drafts of RFC 6188 had the words in the older order, and phones have them still.
        let name =
            name.to_ascii_uppercase().replace("AES_CM_256", "AES_256_CM").replace("AES_CM_192", "AES_192_CM");
        Suite::NAMES.iter().find(|(known, _)| *known == name).map(|(_, suite)| *suite)
    }

    /// By its number in the `use_srtp` extension (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
    pub fn from_dtls(profile: u16) -> Option<Suite> {
        match profile {
            0x0001 => Some(Suite::AesCm128Sha1_80),
            0x0002 => Some(Suite::AesCm128Sha1_32),
            0x0007 => Some(Suite::AeadAes128Gcm),
            0x0008 => Some(Suite::AeadAes256Gcm),
            _ => None,
        }
    }

    /// Bytes of the master key.
    pub fn key_length(self) -> usize {
        match self {
            Suite::AesCm128Sha1_80 | Suite::AesCm128Sha1_32 | Suite::AeadAes128Gcm => 16,
            Suite::AesCm192Sha1_80 | Suite::AesCm192Sha1_32 => 24,
            Suite::AesCm256Sha1_80 | Suite::AesCm256Sha1_32 | Suite::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of the master salt.
    pub fn salt_length(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Bytes of the authentication tag behind each packet.
    pub fn tag_length(self) -> usize {
        match self {
            Suite::AesCm128Sha1_80 | Suite::AesCm192Sha1_80 | Suite::AesCm256Sha1_80 => 10,
            Suite::AesCm128Sha1_32 | Suite::AesCm192Sha1_32 | Suite::AesCm256Sha1_32 => 4,
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => 16,
        }
    }

    pub(super) fn is_aead(self) -> bool {
        matches!(self, Suite::AeadAes128Gcm | Suite::AeadAes256Gcm)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Suite::NAMES.iter().find(|(_, suite)| suite == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_there_and_back() {
        for (name, suite) in &Suite::NAMES[..8] {
            assert_eq!((suite.to_string().as_str(), Suite::from_name(name)), (*name, Some(*suite)));
        }
        assert_eq!(Suite::from_name("aes_cm_256_hmac_sha1_80"), Some(Suite::AesCm256Sha1_80));
        assert_eq!(Suite::from_name("F8_128_HMAC_SHA1_80"), None);
    }

    #[test]
    fn those_of_dtls() {
        let numbered: Vec<_> = (0..=u16::MAX).filter_map(Suite::from_dtls).collect();
        assert_eq!(numbered, Suite::OF_DTLS);
    }
}
