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
/// Cipher suites whose names end in SHA384 (RFC 5288, 5289, 5487, 8446): the others have SHA-256.
const PRF_SHA384: [u16; 16] = [
    0x009d, 0x009f, 0x00a1, 0x00a3, 0x00a5, 0x00a7, 0x00a9, 0x00ab, 0x1302, 0xc024, 0xc026, 0xc028, 0xc02a, 0xc02c,
    0xc02e, 0xc030,
];
/// Records looked at in one datagram, and extensions in one hello.
const MAX_RECORDS: usize = 8;
const MAX_EXTENSIONS: usize = 64;

/// Whether a datagram begins with a record. Those of version 1.3 that are encrypted have a header of their own, which
/// nothing else has in a media flow (RFC 9147, section 4).
pub(super) fn is_record(datagram: &[u8]) -> bool {
    match *datagram {
        [20..=26, 0xfe, 0xff | 0xfd | 0xfc, ..] => datagram.len() >= RECORD_HEADER,
        [first, ..] => first & 0b1110_0000 == 0b0010_0000 && datagram.len() > 16,
        [] => false,
    }
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
        if rest[0] == HANDSHAKE && be16(rest, 3)? == 0
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
                export(|key| Hmac::<Sha384>::new_from_slice(key).ok(), &empty, master, &mut material)?;
            } else {
                let empty = Sha256::digest(b"");
                export(|key| Hmac::<Sha256>::new_from_slice(key).ok(), &empty, master, &mut material)?;
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
    empty: &[u8],
    master: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let mut secret = Zeroizing::new(vec![0; empty.len()]);
    expand_label(&mac, master, LABEL, empty, &mut secret)?;
    expand_label(&mac, &secret, "exporter", empty, out)
}

/// HKDF-Expand-Label (RFC 8446, section 7.1), with the prefix of RFC 9147, section 5.9.
fn expand_label<M: Mac>(
    mac: impl Fn(&[u8]) -> Option<M>,
    secret: &[u8],
    label: &str,
    context: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let name = ["dtls13", label].concat();
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let info =
        [&length[..], &[u8::try_from(name.len()).ok()?], name.as_bytes(), &[u8::try_from(context.len()).ok()?], context]
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
