//! The beginning of a DTLS handshake (RFC 6347, RFC 9147), and the SRTP keys that come of it (RFC 5764).
//!
//! Only the hellos are read, and of them what stands at their beginning: a first fragment is enough.

use hmac::{Hmac, KeyInit, Mac};
use sha2::digest::Digest;
use sha2::{Sha256, Sha384};
use zeroize::Zeroizing;

use super::be16;
use super::key_log::{RANDOM, Random, Secret};
use crate::srtp::{MasterKey, Suite};

const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const USE_SRTP: u16 = 14;
const SUPPORTED_VERSIONS: u16 = 43;
const DTLS_1_3: u16 = 0xfefc;
const DTLS_1_0: u16 = 0xfeff;
/// RFC 5764, section 4.2.
const LABEL: &str = "EXTRACTOR-dtls_srtp";
/// Of labels in version 1.3 (RFC 9147, section 5.9).
const PREFIX: &str = "dtls13";
/// Cipher suites whose names end in SHA384 (RFC 5288, 5289, 5487, 8446): the others have SHA-256.
const PRF_SHA384: [u16; 16] = [
    0x009d, 0x009f, 0x00a1, 0x00a3, 0x00a5, 0x00a7, 0x00a9, 0x00ab, 0x1302, 0xc024, 0xc026, 0xc028, 0xc02a,
    0xc02c, 0xc02e, 0xc030,
];
/// Records looked at in one datagram, and extensions in one hello.
const MAX_RECORDS: usize = 8;
const MAX_EXTENSIONS: usize = 64;

/// Whether a datagram begins with a record. Those that version 1.3 encrypts have a header of their own, and nothing in
/// them is of use.
pub(super) fn is_record(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=26, 0xfe, 0xff | 0xfd | 0xfc, ..]) && datagram.len() >= RECORD_HEADER
}

/// A hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    Client(Random),
    Server(Chosen),
}

/// What the server has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    random: Random,
    version: u16,
    cipher_suite: u16,
    /// In version 1.3 it is not to be seen.
    profile: Option<u16>,
}

/// The hello in a datagram, if there is one.
pub(super) fn hello(datagram: &[u8]) -> Option<Hello> {
    let mut rest = datagram;
    for _ in 0..MAX_RECORDS {
        let length = usize::from(be16(rest, 11)?);
        let record = rest.get(RECORD_HEADER..)?;
        // A capture may have cut it.
        let record = &record[..length.min(record.len())];
        if rest[0] == HANDSHAKE
            && be16(rest, 3)? == 0
            && let Some(hello) = hello_of(record)
        {
            return Some(hello);
        }
        rest = rest.get(RECORD_HEADER + length..)?;
    }
    None
}

fn hello_of(message: &[u8]) -> Option<Hello> {
    let is_first = message.get(6..9)? == [0; 3];
    let body = message.get(HANDSHAKE_HEADER..).filter(|_| is_first)?;
    let random = *body.get(2..)?.first_chunk::<RANDOM>()?;
    match message[0] {
        CLIENT_HELLO => Some(Hello::Client(random)),
        SERVER_HELLO => {
            let session_id = usize::from(*body.get(2 + RANDOM)?);
            let rest = body.get(3 + RANDOM + session_id..)?;
            let mut chosen =
                Chosen { random, version: be16(body, 0)?, cipher_suite: be16(rest, 0)?, profile: None };
            // Behind the compression method and the length of all.
            let mut extensions = rest.get(5..).unwrap_or_default();
            for _ in 0..MAX_EXTENSIONS {
                let Some(extension) = next_extension(&mut extensions) else { break };
                match extension {
                    (USE_SRTP, value) if be16(value, 0) == Some(2) => chosen.profile = be16(value, 2),
                    (SUPPORTED_VERSIONS, value) => chosen.version = be16(value, 0).unwrap_or(chosen.version),
                    _ => {}
                }
            }
            Some(Hello::Server(chosen))
        }
        _ => None,
    }
}

fn next_extension<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let (kind, length) = (be16(rest, 0)?, usize::from(be16(rest, 2)?));
    let value = rest.get(4..4 + length)?;
    *rest = &rest[4 + length..];
    Some((kind, value))
}

/// What client and server write with, for each suite that they may have agreed on. Empty when the secret is not of
/// such a handshake, or its version is too old.
pub(super) fn keys(client: &Random, chosen: &Chosen, secret: &Secret) -> Vec<[MasterKey; 2]> {
    let suites: Vec<Suite> = match chosen.profile {
        Some(profile) => Suite::from_dtls(profile).into_iter().collect(),
        None => Suite::OF_DTLS.to_vec(),
    };
    suites.into_iter().filter_map(|suite| keys_of(suite, client, chosen, secret)).collect()
}

fn keys_of(suite: Suite, client: &Random, chosen: &Chosen, secret: &Secret) -> Option<[MasterKey; 2]> {
    let (key, salt) = (suite.key_length(), suite.salt_length());
    let mut material = Zeroizing::new(vec![0; 2 * (key + salt)]);
    let is_sha384 = PRF_SHA384.contains(&chosen.cipher_suite);
    match secret {
        Secret::Master(master) if chosen.version != DTLS_1_3 && chosen.version != DTLS_1_0 => {
            let seed = [LABEL.as_bytes(), client, &chosen.random].concat();
            if is_sha384 {
                p_hash(|| Hmac::<Sha384>::new_from_slice(master).ok(), &seed, &mut material)?;
            } else {
                p_hash(|| Hmac::<Sha256>::new_from_slice(master).ok(), &seed, &mut material)?;
            }
        }
        Secret::Exporter(master) if chosen.version == DTLS_1_3 => {
            if is_sha384 {
                let empty = Sha384::digest(b"");
                export(
                    |key| Hmac::<Sha384>::new_from_slice(key).ok(),
                    PREFIX,
                    &empty,
                    master,
                    &mut material,
                )?;
            } else {
                let empty = Sha256::digest(b"");
                export(
                    |key| Hmac::<Sha256>::new_from_slice(key).ok(),
                    PREFIX,
                    &empty,
                    master,
                    &mut material,
                )?;
            }
        }
        _ => return None,
    }
    // Both keys, then both salts; the client's stand first.
    let side = |side: usize| {
        let (keys, salts) = material.split_at(2 * key);
        let both = Zeroizing::new([&keys[side * key..][..key], &salts[side * salt..][..salt]].concat());
        MasterKey::new(suite, &both)
    };
    Some([side(0)?, side(1)?])
}

/// P_hash of RFC 5246, section 5.
fn p_hash<M: Mac>(mac: impl Fn() -> Option<M>, seed: &[u8], out: &mut [u8]) -> Option<()> {
    let once = |parts: &[&[u8]]| {
        let mut mac = mac()?;
        parts.iter().for_each(|part| mac.update(part));
        Some(Zeroizing::new(mac.finalize().into_bytes().to_vec()))
    };
    let mut a = once(&[seed])?;
    let mut rest = out;
    while !rest.is_empty() {
        let block = once(&[&a, seed])?;
        let length = block.len().min(rest.len());
        let (now, later) = rest.split_at_mut(length);
        now.copy_from_slice(&block[..length]);
        rest = later;
        a = once(&[&a])?;
    }
    Some(())
}

/// The exporter of RFC 8446, section 7.5, without a context: `empty` is the hash of nothing.
fn export<M: Mac>(
    mac: impl Fn(&[u8]) -> Option<M>,
    prefix: &str,
    empty: &[u8],
    master: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let mut secret = Zeroizing::new(vec![0; empty.len()]);
    expand_label(&mac, prefix, master, LABEL, empty, &mut secret)?;
    expand_label(&mac, prefix, &secret, "exporter", empty, out)
}

/// HKDF-Expand-Label (RFC 8446, section 7.1).
fn expand_label<M: Mac>(
    mac: impl Fn(&[u8]) -> Option<M>,
    prefix: &str,
    secret: &[u8],
    label: &str,
    context: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let name = [prefix, label].concat();
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let info = [
        &length[..],
        &[u8::try_from(name.len()).ok()?],
        name.as_bytes(),
        &[u8::try_from(context.len()).ok()?],
        context,
    ]
    .concat();
    // HKDF-Expand of RFC 5869.
    let mut before = Zeroizing::new(Vec::new());
    for (piece, number) in out.chunks_mut(M::output_size()).zip(1u8..) {
        let mut mac = mac(secret)?;
        mac.update(&before);
        mac.update(&info);
        mac.update(&[number]);
        before = Zeroizing::new(mac.finalize().into_bytes().to_vec());
        piece.copy_from_slice(&before[..piece.len()]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key_log::KeyLog;
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }

    /// The second hello of the client, with a cookie, and the server's, of handshakes between `openssl s_client` and
    /// `openssl s_server`; then the key log of the first and what it says that the exporter gives.
    const HANDSHAKES: [(Suite, &str, &str, &str, &str); 2] = [
        (
            Suite::AesCm128Sha1_80,
            "16feff000000000000000100a90100009d000100000000009dfefd0af794d2df1e1e886a6f8c9849dc19433fb279\
            777d058f7a5898ec0825699d4b00140c8d29ed1056465bc14768073da96303405b9e5e0004c02b00ff0100005b00\
            0b000403000102000a000c000a001d0017001e0019001800230000000e000500020001000016000000170000000d\
            002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602",
            "16fefd00000000000000010052020000460001000000000046fefd5b98e9a2835e663cb449ab37dccd609235a68a\
            ec3acbbc79bd295775709d1a2300c02b00001eff01000100000b00040300010200230000000e0005000200010000\
            170000",
            "CLIENT_RANDOM 0af794d2df1e1e886a6f8c9849dc19433fb279777d058f7a5898ec0825699d4b 6dba6b04986eca50b91b85ddc49\
            bc87571f5540a79996e9cadc2b2fd8f48f88ebbb410b9193376ca95ee8f576fb30984",
            "75cbb6e8c799c8bd566a761513c6e1c8a6bc188d45ef0a4895906a1b5607e9ae0637da6c5d10e5e2c19e6d652c1c\
            85fa7b12a85c4dc35063513ce5c2",
        ),
        (
            Suite::AeadAes256Gcm,
            "16feff000000000000000100a90100009d000100000000009dfefdb9eabdd7e7436c1c00bb4d442b8ec0827538f2\
            c27b58bd6cddec01a1b18492e200140417b13258e073226f992f03de0a50db071ae14b0004c02c00ff0100005b00\
            0b000403000102000a000c000a001d0017001e0019001800230000000e000500020008000016000000170000000d\
            002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602",
            "16fefd00000000000000010052020000460001000000000046fefda946cd582c64ecfba4c54c5e51ca540dfb5c88\
            6ff762c14edbcc090f4e88df2600c02c00001eff01000100000b00040300010200230000000e0005000200080000\
            170000",
            "CLIENT_RANDOM b9eabdd7e7436c1c00bb4d442b8ec0827538f2c27b58bd6cddec01a1b18492e2 82c1fc5535c1d350924e225fe9c\
            6a5572bd5c05241dbd6505ed6ecac0885067dd5a2a979de76a0c13964b9f8c64ba0c7",
            "5d6350114d14587654609f94b5b3cc42119c5ad2128ce91dd2290435d5c8073bb5238638aa1ffec88c28724a5182\
            de362ca80d36ae432b4643821cf5798625116b9726ae944ac3037e1ce9de796fcd2c86aea334b2179811",
        ),
    ];

    #[test]
    fn keys_as_openssl_exports_them() {
        for (suite, client, server, log, exported) in HANDSHAKES {
            let Some(Hello::Client(client)) = hello(&hex(client)) else { panic!("no client") };
            let Some(Hello::Server(server)) = hello(&hex(server)) else { panic!("no server") };
            let mut key_log = KeyLog::default();
            assert_eq!(key_log.add(log.as_bytes()), 1);
            let found = keys(&client, &server, key_log.secret(&client).unwrap());
            let exported = hex(exported);
            let (key, salt) = (suite.key_length(), suite.salt_length());
            let expected = [0, 1].map(|side| {
                let salts = &exported[2 * key..];
                let both = [&exported[side * key..][..key], &salts[side * salt..][..salt]].concat();
                MasterKey::new(suite, &both).unwrap()
            });
            assert!(found == [expected], "{suite}");
            // What was agreed on may not be seen: then all are tried.
            let hidden = Chosen { profile: None, ..server };
            assert_eq!(keys(&client, &hidden, key_log.secret(&client).unwrap()).len(), 4);
            let old = Chosen { version: DTLS_1_0, ..server };
            assert!(keys(&client, &old, key_log.secret(&client).unwrap()).is_empty());
        }
    }

    /// What OpenSSL exports of TLS 1.3, which differs from DTLS 1.3 in the prefix of labels.
    #[test]
    fn the_exporter_of_version_1_3() {
        let secret = hex("f8e46b526c13ee351b5517c96a9a9e0afa0220c9f3d3869fa903daaf79f58093");
        let exported = hex(
            "28da6366c03086cbbdcf9da774de98fa814af6ea2a4ab88eddf4e5f32c38338ce878a10c53729197f53bb31177fa9297fbbaa77c4c61\
             10b3c5796717",
        );
        let mut out = [0; 60];
        let mac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).ok();
        export(mac, "tls13 ", &Sha256::digest(b""), &secret, &mut out).unwrap();
        assert_eq!(out[..], exported);
        let secret = hex(
            "eccf1326e05693c35c0d5335bd8a98579a40a33f6a006a05a82f8ec4814b6a6201cd43ef5d177ecc15b315c0ebed65aa",
        );
        let exported = hex(
            "760d4fd0457f867ec9712badbf8c4fba5f89fa7b48e1519f665a5c4703a27442f361bf1bb559be596b9a5e1dfeed625dded0f9fcd84d\
             010350aab6e3",
        );
        let mac = |key: &[u8]| Hmac::<Sha384>::new_from_slice(key).ok();
        export(mac, "tls13 ", &Sha384::digest(b""), &secret, &mut out).unwrap();
        assert_eq!(out[..], exported);
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, cut in 0usize..200, at in 0usize..90, byte: u8) {
            let _ = (is_record(&bytes), hello(&bytes));
            for message in [HANDSHAKES[0].1, HANDSHAKES[0].2] {
                let mut message = hex(message);
                message[at] = byte;
                message.truncate(cut);
                let _ = hello(&message);
            }
        }
    }
}
