//! What comes out, whatever goes in.

use super::*;

const CREATED: &str = "2026-11-30T00:00:00.000Z";
const AUDIO: &[u8] = b"RIFF\xfb\xff\xfe\x01";

fn row(value: Value) -> Row {
    value.as_object().unwrap().clone()
}

fn call() -> Row {
    row(json!({
        "call_uid": "0a1b2c3d00000000000000000000ca11", "call_id": "c1@192.0.2.9", "from_user": "1009",
        "from_uri": "sip:1009@pbx.example:5060", "from_display": "Desk 1009", "to_user": "+4930123456",
        "to_uri": "sip:+4930123456@192.0.2.1", "to_display": "", "start": "2026-11-22T06:12:09.123Z",
        "answered": "2026-11-22T06:12:12.000Z", "ended": "2026-11-22T06:13:12.000Z", "duration_s": 62.877,
        "status": 200, "end_reason": "bye", "joined": false, "orphan": false,
    }))
}

fn recording() -> Row {
    let mut row = call();
    row.extend(self::row(json!({
        "recording_id": "7eedd4ef6241b37997bd2d23df78a477", "start": "2026-11-22T06:12:12.000Z",
        "duration_s": 60.0, "mixed": false, "file": "recordings/2026/11/22/20261122T061212.000Z_1009.wav",
    })));
    row
}

fn event(kind: &str, start: &str, text: &str) -> Row {
    let id = "11112222333344445555666677778888";
    row(json!({ "event_id": id, "kind": kind, "start": start, "verb": "", "text": text }))
}

fn inline(row: &Row) -> Recording<'_> {
    Recording { row, media: Media::Inline(AUDIO) }
}

fn made(call: &Row, recordings: &[Recording<'_>]) -> Value {
    vcon(Some(call), recordings, &[], CREATED, false)
}

fn bytes(text: &Value) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

#[test]
fn the_same_call_gives_the_same() {
    let (call, recording) = (call(), recording());
    let vcon = made(&call, &[inline(&recording)]);
    assert_eq!(vcon, made(&call, &[inline(&recording)]));
    assert_eq!(vcon["uuid"], "01a201e2-2b23-8b52-bdc4-9c4f01b88ba4");
    assert_eq!(vcon["vcon"], "0.4.0");
    assert_eq!(vcon["created_at"], "2026-11-30T00:00:00Z");
    assert_eq!(vcon["subject"], "Call from 1009 to +4930123456");
    // Without the call's own row, its recordings tell what it was.
    let alone = super::vcon(None, &[inline(&recording)], &[], CREATED, false);
    assert_eq!(alone["parties"], vcon["parties"]);
}

#[test]
fn other_content_has_another_uuid() {
    let (call, recording) = (call(), recording());
    let mut other = recording.clone();
    other.insert("recording_id".to_owned(), "0123".into());
    let again = Recording { row: &recording, media: Media::Inline(b"decoded anew") };
    let both = [inline(&recording), inline(&other)];
    let contents: [&[Recording<'_>]; 5] = [&both[..1], &both[1..], &both, &[], &[again]];
    let mut uuids: Vec<Value> = contents.map(|of| made(&call, of)["uuid"].clone()).into();
    let hidden = vcon(Some(&call), &both, &[], CREATED, true);
    assert_eq!(hidden["redacted"], json!({ "uuid": uuids[2], "type": "dtmf" }));
    uuids.push(hidden["uuid"].clone());
    for (index, uuid) in uuids.iter().enumerate() {
        let digits = uuid.as_str().unwrap().as_bytes();
        assert_eq!((digits.len(), digits[14]), (36, b'8'), "{uuid}");
        assert!(b"89ab".contains(&digits[19]), "{uuid}");
        assert!(!uuids[..index].contains(uuid), "{uuid}");
    }
    // Where the audio lies makes no difference.
    let media = Media::At { url: "https://a.example/1.wav".to_owned(), sha512: Sha512::digest(AUDIO).into() };
    assert_eq!(made(&call, &[Recording { row: &recording, media }])["uuid"], uuids[0]);
}

#[test]
fn parties() {
    let parties = json!([
        {
            "tel": "tel:1009;phone-context=pbx.example", "sip": "sip:1009@pbx.example:5060",
            "name": "Desk 1009", "validation": "none",
        },
        { "tel": "tel:+4930123456", "sip": "sip:+4930123456@192.0.2.1" },
        { "name": "spantape", "type": "bot", "validation": "none" },
    ]);
    assert_eq!(made(&call(), &[])["parties"], parties);
    for (user, uri, expected) in [
        ("1009", "sip:1009@192.0.2.1", Some("tel:1009")),
        ("1009", "sip:1009@[2001:db8::1]:5060", Some("tel:1009")),
        ("1009", "sips:1009@pbx.example.", Some("tel:1009;phone-context=pbx.example.")),
        ("1009", "sip:1009@a\"b.example", Some("tel:1009")),
        ("+4930123456", "tel:+4930123456", Some("tel:+4930123456")),
        ("+", "sip:+@pbx.example", None),
        ("", "", None),
        ("alice", "sip:alice@pbx.example", None),
        ("49 30", "sip:49%2030@pbx.example", None),
        ("\u{0661}", "sip:%D9%A1@pbx.example", None),
    ] {
        assert_eq!(tel(user, uri).as_deref(), expected, "{user} {uri}");
    }
    let orphan =
        row(json!({ "from_user": "192.0.2.9", "to_user": "192.0.2.10", "from_uri": "", "to_uri": "" }));
    assert_eq!(made(&orphan, &[])["parties"][0], json!({}));
}

#[test]
fn audio_within() {
    let (call, mut recording) = (call(), recording());
    let dialog = json!([{
        "type": "recording", "start": "2026-11-22T06:12:12Z", "duration": 60.0, "parties": [0, 1],
        "mediatype": "audio/x-wav", "filename": "20261122T061212.000Z_1009.wav",
        "encoding": "base64url", "body": "UklGRvv__gE",
    }]);
    assert_eq!(made(&call, &[inline(&recording)])["dialog"], dialog);
    recording.insert("mixed".to_owned(), true.into());
    for (file, mediatype) in
        [("a.flac", "audio/flac"), ("b/a.opus", "audio/ogg"), ("a", "application/octet-stream")]
    {
        recording.insert("file".to_owned(), file.into());
        let dialog = made(&call, &[inline(&recording)])["dialog"][0].clone();
        assert_eq!((&dialog["mediatype"], &dialog["parties"]), (&json!(mediatype), &json!([[0, 1]])));
    }
}

#[test]
fn audio_elsewhere() {
    let recording = recording();
    let url = "https://archive.example/1.wav";
    let media = Media::At { url: url.to_owned(), sha512: [0xff; 64] };
    let dialog = made(&call(), &[Recording { row: &recording, media }])["dialog"][0].clone();
    assert_eq!(dialog["url"], url);
    assert_eq!(dialog["content_hash"], format!("sha512-{}w", "_".repeat(85)));
    assert!(dialog.get("body").is_none() && dialog.get("encoding").is_none());
}

#[test]
fn calls_without_recording() {
    let mut call = call();
    let dialog = made(&call, &[])["dialog"].clone();
    let placeholder = json!([{
        "type": "recording", "start": "2026-11-22T06:12:09.123Z", "duration": 62.877, "parties": [0, 1],
    }]);
    assert_eq!(dialog, placeholder);
    call.insert("answered".to_owned(), Value::Null);
    for (status, end_reason, disposition) in [
        (json!(486), "rejected", "busy"),
        (json!(503), "rejected", "congestion"),
        (json!(487), "cancelled", "no-answer"),
        (Value::Null, "cancelled", "no-answer"),
        (json!(404), "rejected", "failed"),
        (Value::Null, "signalling-timeout", "failed"),
    ] {
        call.insert("status".to_owned(), status);
        call.insert("end_reason".to_owned(), end_reason.into());
        let dialog = made(&call, &[])["dialog"][0].clone();
        assert_eq!((&dialog["type"], &dialog["disposition"]), (&json!("incomplete"), &json!(disposition)));
    }
    call.insert("joined".to_owned(), true.into());
    assert_eq!(made(&call, &[])["dialog"][0]["type"], "recording");
}

#[test]
fn what_the_catalog_says() {
    let (call, mut recording) = (call(), recording());
    recording.insert("ended".to_owned(), "2026-11-22T06:13:12.000400Z".into());
    let mut pause = event("trigger", "2026-11-22T06:13:12.000Z", "");
    pause.insert("verb".to_owned(), "pause".into());
    let mut later = pause.clone();
    later.insert("start".to_owned(), "2026-11-22T06:13:12.001Z".into());
    let cut = "5.003 s, at 4.004 s of recording 7eedd4ef6241b37997bd2d23df78a477";
    let events = [
        pause,
        later,
        event("cut", "2026-11-22T06:12:30.000Z", cut),
        event("cut", "2026-11-22T06:12:30.000Z", "1.000 s, at 0.000 s of recording 00"),
        event("hold", "2026-11-22T06:12:40.000Z", "by caller"),
    ];
    let vcon = vcon(Some(&call), &[inline(&recording)], &events, CREATED, false);
    let attached = &vcon["attachments"];
    assert_eq!(attached[0]["body"], json!({ "call": call, "events": events }));
    assert_eq!(attached[1]["body"], json!({ "recording": recording, "pauses": [events[0], events[2]] }));
    for attachment in attached.as_array().unwrap() {
        assert_eq!((&attachment["party"], &attachment["dialog"]), (&json!(2), &json!(0)));
        assert_eq!(
            (&attachment["encoding"], &attachment["mediatype"]),
            (&json!("json"), &json!("application/json"))
        );
    }
}

#[test]
fn keys_are_hidden() {
    let recording = recording();
    let events = ["5 (caller)", "# (callee)", "12"].map(|text| event("dtmf", CREATED, text));
    let told = |redact_digits: bool| {
        let vcon = vcon(None, &[inline(&recording)], &events, CREATED, redact_digits);
        vcon["attachments"][0]["body"]["events"].clone()
    };
    assert_eq!(told(false), json!(events));
    for (index, text) in ["* (caller)", "* (callee)", "**"].into_iter().enumerate() {
        assert_eq!(told(true)[index]["text"], text);
        assert!(told(true)[index].get("event_id").is_none());
    }
    assert_eq!(super::told(&event("hold", CREATED, "by caller"), true), event("hold", CREATED, "by caller"));
}

#[test]
fn signed() {
    let dir = tempfile::tempdir().unwrap();
    let (key, _) = SecretKey::generate(&dir.path().join("key")).unwrap();
    let (call, recording) = (call(), recording());
    let vcon = made(&call, &[inline(&recording)]);
    let signed = sign(&vcon, &key);
    assert_eq!(serde_json::from_slice::<Value>(&bytes(&signed["payload"])).unwrap(), vcon);
    let by = &signed["signatures"][0];
    assert_eq!(bytes(&by["protected"]), br#"{"alg":"EdDSA"}"#);
    assert_eq!(bytes(&by["header"]["jwk"]["x"]), key.public().to_bytes());
    assert_eq!(by["header"]["uuid"], vcon["uuid"]);
    let input = format!("{}.{}", by["protected"].as_str().unwrap(), signed["payload"].as_str().unwrap());
    let signature: [u8; 64] = bytes(&by["signature"]).try_into().unwrap();
    assert!(key.public().has_signed_bytes(input.as_bytes(), &signature));
    assert!(!key.public().has_signed_bytes(&input.as_bytes()[1..], &signature));
}

#[test]
fn no_padding() {
    for length in 0..4 {
        let text = base64url(&AUDIO[4..4 + length]);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
        assert_eq!(bytes(&text.into()), AUDIO[4..4 + length]);
    }
}

#[test]
fn hostile_names() {
    let name = "\u{1b}[2JEve\u{202e}\u{0}\"}],\\ \u{2028}</script>";
    let mut call = call();
    for column in ["from_user", "from_display", "from_uri"] {
        call.insert(column.to_owned(), name.into());
    }
    let mut recording = recording();
    recording.insert("file".to_owned(), "../../\u{1b}\n.wav".into());
    let vcon = made(&call, &[inline(&recording)]);
    assert_eq!(vcon["parties"][0], json!({ "name": name, "validation": "none" }));
    assert_eq!(vcon["dialog"][0]["filename"], "\u{1b}\n.wav");
    let text = vcon.to_string();
    assert!(!text.contains(char::is_control));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), vcon);
}

#[test]
fn moments() {
    assert_eq!(date("2026-11-22T06:12:09.000Z"), "2026-11-22T06:12:09Z");
    for moment in ["2026-11-22T06:12:09Z", "2026-11-22T06:12:09.120Z", "2026-11-22T06:12:09.000+02:00", ""] {
        assert_eq!(date(moment), moment);
    }
}
