//! What a payload begins like.

use crate::{Bytes, PATH, Path};

/// Whether a SIP message begins at `at` (RFC 3261, 7.1 and 7.2), in whatever case. Empty lines may stand
/// before it (7.5).
#[inline(always)]
pub(crate) fn is_sip<B: Bytes + ?Sized>(frame: &B, mut at: usize) -> bool {
    // Two empty lines are a keep-alive (RFC 5626, 3.5.1).
    let mut skipped = 0;
    while skipped < 4 {
        match frame.array::<1>(at) {
            Some([b'\r' | b'\n']) => at += 1,
            _ => break,
        }
        skipped += 1;
    }
    let Some(start) = frame.array::<8>(at) else { return false };
    let word = |bytes: &[u8; 4]| u32::from_be_bytes(*bytes) & 0xdfdf_dfdf;
    let begins = word(&[start[0], start[1], start[2], start[3]]);
    macro_rules! is {
        ($($text:literal)|+) => { $(begins == word($text))||+ };
    }
    // HTTP, and what is made from it, has these methods too, for paths and not for URIs.
    if is!(b"OPTI" | b"NOTI") {
        let target = if is!(b"OPTI") { at + 8 } else { at + 7 };
        return !matches!(frame.array::<1>(target), None | Some([b'/' | b'*' | b'h']));
    }
    is!(b"INVI" | b"ACK " | b"BYE " | b"CANC" | b"REGI" | b"PRAC" | b"UPDA" | b"INFO" | b"REFE" | b"SUBS")
        || is!(b"MESS" | b"PUBL" | b"SIP/")
}

/// The path of an HTTP request that begins at `at`.
#[inline(always)]
pub(crate) fn http_path<B: Bytes + ?Sized>(frame: &B, at: usize) -> Option<Path> {
    let start = frame.array::<5>(at)?;
    let target = match &start {
        b"GET /" | b"PUT /" => at + 4,
        b"POST " => at + 5,
        _ => return None,
    };
    let mut path = [0; PATH];
    let mut index = 0;
    // By eight: the seven bytes that may be left at the end are not the path's, behind which stands the version.
    while index < PATH {
        let Some(bytes) = frame.array::<8>(target + index) else { break };
        path[index..index + 8].copy_from_slice(&bytes);
        index += 8;
    }
    Some(path)
}

/// How many bytes may stand before the first command of a record-control message: how they are framed is not
/// documented.
const CONTROL_PREFIX: usize = 8;

/// Whether a record-control message (`cmd=RecordStartRequest&…`) begins at `at` or soon after.
#[inline(always)]
pub(crate) fn is_control<B: Bytes + ?Sized>(frame: &B, at: usize) -> bool {
    let mut prefix = 0;
    while prefix <= CONTROL_PREFIX {
        match frame.array::<8>(at + prefix) {
            Some(text) if u64::from_be_bytes(text) == u64::from_be_bytes(*b"cmd=Reco") => return true,
            Some(_) => {}
            None => return false,
        }
        prefix += 1;
    }
    false
}
