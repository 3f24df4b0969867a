//! A vCon: a call and its recordings as a JSON document (draft-ietf-vcon-vcon-core-04).
//!
//! Where the draft leaves a choice, or could not be kept to:
//!
//! - `uuid` (4.1.2): begins with the time of the call, as the draft has it. What follows is a hash of what the vCon is
//!   made of, so that the same call gives the same one; not of a host's name, since a recorder need have none.
//! - `parties` of a recording that is mixed (4.3.4): `[[0, 1]]`, one channel with both. `[0, 1]`, which the draft would
//!   rather have, could as well be two channels.
//! - `originator` (4.3.5): is only for recordings whose first party is not the caller. Here it always is.
//! - `session_id` (4.3.12): is for the Session-ID of RFC 7989, which the catalog does not have. The Call-ID is in the
//!   attachments.
//! - `party_history` (4.3.13): knows no pause of the recording. That is in the attachments, with all else that the
//!   catalog says.
//! - `jwk` (5.2.2): the key of a signed vCon stands there itself, where the draft demands a certificate (`x5c`, `x5u`),
//!   which a key for sealing has not got.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use spantape_core::record::Id;
use spantape_store::rows::text_of;
use spantape_store::seal::SecretKey;

/// A row of the catalog.
pub(crate) type Row = Map<String, Value>;

/// A recording of the call.
pub(crate) struct Recording<'a> {
    /// What the catalog says of it.
    pub(crate) row: &'a Row,
    /// Its audio.
    pub(crate) media: Media<'a>,
}

/// Audio, of the kind that the end of the recording's `file` says.
pub(crate) enum Media<'a> {
    /// Within the vCon (2.3).
    Inline(&'a [u8]),
    /// Elsewhere (2.4).
    At {
        /// By HTTPS.
        url: String,
        /// Its hash.
        sha512: [u8; 64],
    },
}

/// The syntax's version (4.1.1).
const SYNTAX: &str = "0.4.0";
/// Places in `parties`. The recorder is one, since attachments have to be somebody's (4.4.3).
const CALLER: usize = 0;
const CALLEE: usize = 1;
const RECORDER: usize = 2;

/// The unsigned form (4): a call, its recordings, and events of it, as of `created` (RFC 3339). A call that is in no table
/// any more is known by its first recording.
///
/// With `redact_digits` nothing tells which keys were pressed, but the audio is left as it is.
pub(crate) fn vcon(
    call: Option<&Row>,
    recordings: &[Recording<'_>],
    events: &[Row],
    created: &str,
    redact_digits: bool,
) -> Value {
    let nothing = Row::new();
    let first = recordings.first().map(|recording| recording.row);
    let about = call.or(first).unwrap_or(&nothing);
    let mut dialog: Vec<Value> = recordings.iter().map(recorded).collect();
    if dialog.is_empty() {
        dialog.push(unrecorded(about));
    }
    let events: Vec<Row> = events.iter().map(|event| told(event, redact_digits)).collect();
    let mut attachments = vec![attachment("call", 0, created, &json!({ "call": call, "events": events }))];
    for (index, Recording { row, .. }) in recordings.iter().enumerate() {
        let body = json!({ "recording": row, "pauses": pauses(row, &events) });
        attachments.push(attachment("recording", index, created, &body));
    }
    let mut vcon = json!({
        "vcon": SYNTAX,
        "uuid": uuid(about, recordings, redact_digits),
        "created_at": date(created),
        "subject": format!("Call from {} to {}", who(about, "from_user"), who(about, "to_user")),
        "parties": [
            party(about, ["from_user", "from_uri", "from_display"]),
            party(about, ["to_user", "to_uri", "to_display"]),
            { "name": "spantape", "type": "bot", "validation": "none" },
        ],
        "analysis": [],
    });
    if redact_digits {
        // What it would be without: 4.1.8.1.
        vcon["redacted"] = json!({ "uuid": uuid(about, recordings, false), "type": "dtmf" });
    }
    // Put there, and not copied: they may be large.
    vcon["dialog"] = dialog.into();
    vcon["attachments"] = attachments.into();
    vcon
}

/// The signed form (5.2): JWS in its general JSON serialisation (RFC 7515, section 7.2.1), by Ed25519 (RFC 8037).
///
/// `alg` is protected, and so not in `header` as well, where the draft has it: no name may be in both. A signature proves
/// nothing by the key that comes with it, only by one that is known otherwise.
pub(crate) fn sign(vcon: &Value, key: &SecretKey) -> Value {
    let protected = base64url(json!({ "alg": "EdDSA" }).to_string().as_bytes());
    let payload = base64url(vcon.to_string().as_bytes());
    let signature = key.sign_bytes(format!("{protected}.{payload}").as_bytes());
    let public = base64url(&key.public().to_bytes());
    let mut signed = json!({
        "signatures": [{
            "protected": protected,
            "header": { "jwk": { "kty": "OKP", "crv": "Ed25519", "x": public }, "uuid": vcon["uuid"] },
            "signature": base64url(&signature),
        }],
    });
    signed["payload"] = payload.into();
    signed
}

/// Version 8 (RFC 9562, section 5.8): milliseconds of the call's start, then a hash of what the vCon is made of.
fn uuid(call: &Row, recordings: &[Recording<'_>], redacted: bool) -> String {
    let hashes: Vec<[u8; 64]> = recordings.iter().map(|recording| recording.media.sha512()).collect();
    let mut parts = vec![&b"vcon"[..], text_of(call, "call_uid").as_bytes()];
    for (recording, hash) in recordings.iter().zip(&hashes) {
        parts.extend([text_of(recording.row, "recording_id").as_bytes(), &hash[..]]);
    }
    if redacted {
        parts.push(b"redacted");
    }
    let hash = Id::derive(&parts).0;
    let milliseconds = moment(call, "start").map_or(0, Timestamp::as_millisecond);
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&hash[..10]);
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let hex = Id(bytes).to_string();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// 4.2. Nobody has made sure that the name is the party's (4.2.7).
fn party(call: &Row, [user, uri, display]: [&str; 3]) -> Value {
    let (user, uri, display) = (text_of(call, user), text_of(call, uri), text_of(call, display));
    let mut party = json!({});
    if let Some(tel) = tel(user, uri) {
        party["tel"] = tel.into();
    }
    let scheme = uri.split(':').next().unwrap_or_default();
    let is_sip = scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips");
    if is_sip && uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        party["sip"] = uri.into();
    }
    if !display.is_empty() {
        party["name"] = display.into();
        party["validation"] = "none".into();
    }
    party
}

/// A number as a tel URI (RFC 3966, section 3). One that is not global is of the domain it was called in; where that is a
/// bare address, no such URI could be right, and the number is given as it is.
fn tel(user: &str, uri: &str) -> Option<String> {
    let digits = user.strip_prefix('+').unwrap_or(user);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match domain(uri).filter(|_| !user.starts_with('+')) {
        Some(domain) => Some(format!("tel:{user};phone-context={domain}")),
        None => Some(format!("tel:{user}")),
    }
}

/// The host of a SIP URI, if it is no address.
fn domain(uri: &str) -> Option<&str> {
    let host = uri.rsplit_once('@')?.1.split([':', ';', '?']).next()?;
    let top = host.trim_end_matches('.').rsplit('.').next()?;
    let is_domain = top.starts_with(|first: char| first.is_ascii_alphabetic())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    is_domain.then_some(host)
}

fn who<'a>(call: &'a Row, column: &str) -> &'a str {
    match text_of(call, column) {
        "" => "unknown",
        user => user,
    }
}

/// A recording (4.3.1.1). Left is the caller, right the callee.
fn recorded(recording: &Recording<'_>) -> Value {
    let row = recording.row;
    let parties = if flag(row, "mixed") { json!([[CALLER, CALLEE]]) } else { json!([CALLER, CALLEE]) };
    let name = text_of(row, "file").rsplit('/').next().unwrap_or_default();
    let mut dialog = stretch("recording", row, &parties);
    dialog["mediatype"] = mediatype(name).into();
    dialog["filename"] = name.into();
    match &recording.media {
        Media::Inline(bytes) => {
            dialog["encoding"] = "base64url".into();
            dialog["body"] = base64url(bytes).into();
        }
        Media::At { url, sha512 } => {
            dialog["url"] = url.as_str().into();
            dialog["content_hash"] = format!("sha512-{}", base64url(sha512)).into();
        }
    }
    dialog
}

/// A call of which there is no recording: one that did not come about (4.3.1.5), or one of which nothing is kept, which
/// then is a placeholder (4.3).
fn unrecorded(call: &Row) -> Value {
    let parties = json!([CALLER, CALLEE]);
    // Of a call that was up before the capture began the answer was not seen.
    let was_up = !text_of(call, "answered").is_empty() || flag(call, "joined") || flag(call, "orphan");
    if was_up {
        return stretch("recording", call, &parties);
    }
    let mut dialog = stretch("incomplete", call, &parties);
    dialog["disposition"] = disposition(call).into();
    dialog
}

/// What all dialogs have (4.3.1.6).
fn stretch(kind: &str, row: &Row, parties: &Value) -> Value {
    let mut dialog = json!({ "type": kind, "parties": parties });
    let start = text_of(row, "start");
    if !start.is_empty() {
        dialog["start"] = date(start).into();
    }
    if let Some(seconds) = row.get("duration_s").filter(|seconds| seconds.is_number()) {
        dialog["duration"] = seconds.clone();
    }
    dialog
}

/// Why a call did not come about (4.3.11), by the status of its INVITE (RFC 3261, section 21).
fn disposition(call: &Row) -> &'static str {
    match call.get("status").and_then(Value::as_i64) {
        Some(486 | 600) => "busy",
        Some(503) => "congestion",
        Some(408 | 480 | 487) => "no-answer",
        _ if text_of(call, "end_reason") == "cancelled" => "no-answer",
        _ => "failed",
    }
}

/// 4.3.8; FLAC is not among those that the draft names, but registered (RFC 9639).
fn mediatype(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("wav") => "audio/x-wav",
        Some("flac") => "audio/flac",
        Some("opus") => "audio/ogg",
        _ => "application/octet-stream",
    }
}

/// Something that the recorder adds to a dialog (4.4).
fn attachment(purpose: &str, dialog: usize, created: &str, body: &Value) -> Value {
    json!({
        "purpose": purpose,
        "start": date(created),
        "party": RECORDER,
        "dialog": dialog,
        "mediatype": "application/json",
        "encoding": "json",
        "body": body,
    })
}

/// What was left out of a recording, and the pauses until its end, in which it is silent if they were not left out.
fn pauses<'a>(recording: &Row, events: &'a [Row]) -> Vec<&'a Row> {
    let (id, end) = (text_of(recording, "recording_id"), moment(recording, "ended"));
    let concerns = |event: &&Row| match text_of(event, "kind") {
        "cut" => text_of(event, "text").rsplit(' ').next() == Some(id),
        "trigger" => matches!(text_of(event, "verb"), "pause" | "resume") && moment(event, "start") <= end,
        _ => false,
    };
    events.iter().filter(concerns).collect()
}

/// An event as it is told. A key that is not to be known could be found by the event's id, which is a hash of it.
pub(crate) fn told(event: &Row, redact_digits: bool) -> Row {
    let mut event = event.clone();
    if redact_digits && text_of(&event, "kind") == "dtmf" {
        let words = text_of(&event, "text");
        let (keys, author) = words.split_at(words.find(" (").unwrap_or(words.len()));
        let hidden = format!("{}{author}", "*".repeat(keys.chars().count()));
        event.insert("text".to_owned(), hidden.into());
        event.remove("event_id");
    }
    event
}

impl Media<'_> {
    fn sha512(&self) -> [u8; 64] {
        match self {
            Media::Inline(bytes) => Sha512::digest(bytes).into(),
            Media::At { sha512, .. } => *sha512,
        }
    }
}

/// Without padding (RFC 7515, section 2).
fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A moment without a fraction that is zero (2.2; RFC 8620, section 1.4).
fn date(moment: &str) -> String {
    match moment.strip_suffix('Z').and_then(|moment| moment.split_once('.')) {
        Some((seconds, fraction)) if fraction.bytes().all(|digit| digit == b'0') => format!("{seconds}Z"),
        _ => moment.to_owned(),
    }
}

fn moment(row: &Row, column: &str) -> Option<Timestamp> {
    text_of(row, column).parse().ok()
}

fn flag(row: &Row, column: &str) -> bool {
    row.get(column).and_then(Value::as_bool).unwrap_or_default()
}

#[cfg(test)]
mod tests;
