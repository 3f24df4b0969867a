//! RFC 3161: what a time-stamping authority is asked, and its answer, kept beside the manifest.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::chain::{directory, links, with_suffix, write};
use crate::error::{Error, Result};

/// The request for the manifest of that number, or for the last one: a DER `TimeStampReq` for the SHA-256 of its bytes, with
/// the authority's certificate asked for. As `openssl ts -query -data MANIFEST -sha256 -cert -no_nonce` makes it.
pub fn time_stamp_request(archive: &Path, number: Option<u64>) -> Result<(PathBuf, Vec<u8>)> {
    let (path, bytes) = manifest(archive, number)?;
    let mut hash = vec![0x04, 32];
    hash.extend(Sha256::digest(&bytes));
    // AlgorithmIdentifier of SHA-256: its OID, and NULL.
    const SHA256: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00];
    let imprint = sequence(&[&SHA256, &hash]);
    const VERSION_1: [u8; 3] = [0x02, 0x01, 0x01];
    const CERTIFICATE: [u8; 3] = [0x01, 0x01, 0xff];
    Ok((path, sequence(&[&VERSION_1, &imprint, &CERTIFICATE])))
}

/// Keeps an authority's answer beside the manifest that it is for. One that does not speak of that manifest's hash, or in
/// which the authority refuses, is an error. Whose certificate has signed it is for `openssl ts -verify` to say.
pub fn attach_time_stamp(archive: &Path, number: Option<u64>, answer: &[u8]) -> Result<PathBuf> {
    let (path, bytes) = manifest(archive, number)?;
    let hash = Sha256::digest(&bytes);
    let speaks_of_it = answer.windows(hash.len()).any(|window| window == hash.as_slice());
    // TimeStampResp ::= SEQUENCE { PKIStatusInfo ::= SEQUENCE { status INTEGER, … }, … }: 0 is granted, 1 with changes.
    let granted = content(answer, 0x30)
        .and_then(|response| content(response, 0x30))
        .and_then(|info| content(info, 0x02))
        .is_some_and(|status| matches!(status, [0 | 1]));
    if !speaks_of_it || !granted {
        return Err(Error::NoTimeStamp { path });
    }
    let target = with_suffix(&path, ".tsr");
    write(&directory(archive), &target, answer)?;
    Ok(target)
}

fn manifest(archive: &Path, number: Option<u64>) -> Result<(PathBuf, Vec<u8>)> {
    let mut links = links(archive)?;
    let is_meant = |link: &super::chain::Link| {
        number.is_none_or(|number| link.manifest.as_ref().is_some_and(|manifest| manifest.number == number))
    };
    match links.iter().rposition(is_meant) {
        Some(index) => {
            let link = links.swap_remove(index);
            Ok((link.path, link.bytes))
        }
        None => Err(Error::NoManifest { path: directory(archive) }),
    }
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // All that is made here is shorter than 128 bytes.
    let mut out = vec![0x30, length as u8];
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// The content of a DER value that must be of that tag.
fn content(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (&found, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    if found == tag { rest.get(..length) } else { None }
}
