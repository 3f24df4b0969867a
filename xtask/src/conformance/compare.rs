//! Truth and archive side by side.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::replay::Found;
use super::truth::{Capture, Stream};

/// Spans may differ by so many seconds, or by one packet: what the last packet lasts is a guess.
const MEDIA_TOLERANCE: f64 = 0.05;

/// What is not as it should be, in words.
pub(super) fn differences(truth: &Capture, found: &Found) -> Vec<String> {
    let mut out = Vec::new();
    counts(truth, found, &mut out);
    calls(truth, found, &mut out);
    streams(truth, found, &mut out);
    out
}

fn counts(truth: &Capture, found: &Found, out: &mut Vec<String>) {
    let own = found.calls.iter().filter(|call| call["joined"] != true);
    let invited = ids(own.filter(|call| call["orphan"] != true));
    let answered = ids(found.calls.iter().filter(|call| is_answered(call)));
    let heard = ids(found.streams.iter().filter(|stream| stream["kind"] == "audio"));
    differ("Call-IDs with INVITE", invited.len(), truth.invited, out);
    differ("answered", answered.len(), truth.answered, out);
    differ("answered with audio", answered.intersection(&heard).count(), truth.with_audio, out);
    differ("streams", found.streams.len(), truth.streams.len() as u64, out);
    if let Some(recordings) = truth.recordings {
        differ("recordings", found.recordings.len(), recordings, out);
    }
}

fn differ(what: &str, found: usize, truth: u64, out: &mut Vec<String>) {
    if found as u64 != truth {
        out.push(format!("{what} {found}, not {truth}"));
    }
}

fn ids<'a>(rows: impl Iterator<Item = &'a Value>) -> BTreeSet<&'a str> {
    rows.filter_map(|row| row["call_id"].as_str()).collect()
}

fn is_answered(call: &Value) -> bool {
    !call["answered"].is_null()
}

/// Looks at those calls that were found. Those that were not have been counted, and the list is long.
fn calls(truth: &Capture, found: &Found, out: &mut Vec<String>) {
    for call in truth.calls.iter().filter(|call| call.invited) {
        let rows = || found.calls.iter().filter(|row| row["call_id"] == call.id.as_str());
        if rows().next().is_none() {
            continue;
        }
        let answered = rows().any(is_answered);
        if answered != call.answered {
            out.push(format!("{}: answered {answered}, not {}", call.id, call.answered));
        }
        if let Some(status) = call.status
            && !rows().any(|row| row["status"] == status)
        {
            let found: Vec<_> = rows().map(|row| row["status"].to_string()).collect();
            out.push(format!("{}: status {}, not {status}", call.id, found.join(" ")));
        }
    }
}

fn streams(truth: &Capture, found: &Found, out: &mut Vec<String>) {
    let mut left: Vec<&Value> = found.streams.iter().collect();
    for stream in &truth.streams {
        let name = format!("{:#010x} {}>{}", stream.ssrc, stream.source.1, stream.destination.1);
        match take(stream, &mut left) {
            Some(row) => {
                let differing = fields(stream, row, found);
                if !differing.is_empty() {
                    out.push(format!("{name}: {}", differing.join(", ")));
                }
            }
            None => out.push(format!("{name}: missing ({} packets)", stream.packets)),
        }
    }
    for row in left {
        let ports = format!("{}>{}", row["source_port"], row["destination_port"]);
        let ssrc = row["ssrc"].as_u64().unwrap_or(0);
        out.push(format!("{ssrc:#010x} {ports}: not in the truth ({} packets)", row["packets"]));
    }
}

/// Takes the row of a stream; of several with the same numbers that with the same addresses.
fn take<'a>(stream: &Stream, left: &mut Vec<&'a Value>) -> Option<&'a Value> {
    let same = |row: &Value| {
        row["ssrc"] == stream.ssrc
            && row["source_port"] == stream.source.1
            && row["destination_port"] == stream.destination.1
    };
    let near = |row: &Value| {
        row["source_address"] == stream.source.0.as_str()
            && row["destination_address"] == stream.destination.0.as_str()
    };
    let place = left
        .iter()
        .position(|row| same(row) && near(row))
        .or_else(|| left.iter().position(|row| same(row)))?;
    Some(left.remove(place))
}

fn fields(stream: &Stream, row: &Value, found: &Found) -> Vec<String> {
    let mut out = Vec::new();
    let numbers = [
        ("packets", stream.packets),
        ("lost", stream.lost),
        ("duplicate", stream.duplicates),
        ("reordered", stream.reordered),
        ("restarts", stream.restarts),
    ];
    for (name, truth) in numbers {
        if row[name] != truth {
            out.push(format!("{name} {}, not {truth}", row[name]));
        }
    }
    if row["kind"] != stream.kind.as_str() {
        out.push(format!("kind {}, not {}", text(row, "kind"), stream.kind));
    }
    let codecs = sounds(text(row, "codecs").split(','));
    let truth = sounds(stream.codecs.iter().map(String::as_str));
    if codecs != truth {
        out.push(format!("codecs {}, not {}", join(&codecs), join(&truth)));
    }
    out.extend(media(stream, row));
    out.extend(keys(stream, row, found));
    out
}

fn media(stream: &Stream, row: &Value) -> Option<String> {
    let truth = stream.media_seconds.filter(|_| stream.kind == "audio")?;
    let tolerance = stream.packet_seconds.max(MEDIA_TOLERANCE);
    let media = row["media_s"].as_f64();
    // The truth is rounded to milliseconds, as is what is found.
    let agrees = (media.unwrap_or(0.0) - truth).abs() <= tolerance + 0.001;
    let shown = media.map_or("none".to_owned(), |media| format!("{media} s"));
    (!agrees).then(|| format!("media {shown}, not {truth} s"))
}

fn keys(stream: &Stream, row: &Value, found: &Found) -> Option<String> {
    let truth = stream.keys.as_ref()?;
    let side = format!("({})", text(row, "side"));
    let (start, end) = (time(row, "start")?, time(row, "ended")?);
    let of_stream = |event: &&Value| {
        event["kind"] == "dtmf"
            && event["call_id"] == row["call_id"]
            && text(event, "text").ends_with(&side)
            && time(event, "start").is_some_and(|at| (start..=end).contains(&at))
    };
    let mut pressed: Vec<_> = found
        .events
        .iter()
        .filter(of_stream)
        .map(|event| (time(event, "start"), text(event, "text").chars().next()))
        .collect();
    pressed.sort();
    let pressed: String = pressed.into_iter().filter_map(|(_, key)| key).collect();
    (pressed != *truth).then(|| format!("keys {pressed}, not {truth}"))
}

fn time(row: &Value, name: &str) -> Option<Timestamp> {
    row[name].as_str()?.parse().ok()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

/// Names and clocks of the codecs that carry the sound itself. The number of channels is often left out.
fn sounds<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    names
        .map(|name| name.split('/').take(2).collect::<Vec<_>>().join("/").to_ascii_lowercase())
        // The one static type of RFC 3551 that the truth has by its number.
        .map(|name| if name == "pt14" { "mpa/90000".to_owned() } else { name })
        .filter(|name| !name.is_empty() && !name.starts_with("telephone-event/") && !name.starts_with("cn/"))
        .collect()
}

fn join(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(String::as_str).collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::truth::Call;
    use super::*;

    fn truth() -> Capture {
        let stream = Stream {
            ssrc: 10,
            source: ("192.0.2.1".into(), 4000),
            destination: ("192.0.2.2".into(), 5000),
            kind: "audio".into(),
            packets: 50,
            codecs: vec!["PCMU/8000".into(), "telephone-event/8000".into()],
            media_seconds: Some(1.0),
            packet_seconds: 0.02,
            keys: Some("12".into()),
            ..Stream::default()
        };
        let call = Call { id: "1@a".into(), invited: true, answered: true, status: Some(200) };
        Capture {
            file: "a.pcap".into(),
            invited: 1,
            answered: 1,
            with_audio: 1,
            calls: vec![call],
            streams: vec![stream],
            ..Capture::default()
        }
    }

    fn found() -> Found {
        let key =
            |text: &str, start: &str| json!({"call_id": "1@a", "kind": "dtmf", "text": text, "start": start});
        Found {
            calls: vec![
                json!({"call_id": "1@a", "joined": false, "orphan": false, "status": 200,
                       "answered": "2026-11-22T10:00:00Z"}),
                json!({"call_id": "2@a", "joined": true, "orphan": false, "status": null, "answered": null}),
            ],
            streams: vec![json!({
                "call_id": "1@a", "side": "caller", "kind": "audio", "ssrc": 10, "source_port": 4000,
                "destination_port": 5000, "source_address": "192.0.2.1", "destination_address": "192.0.2.2",
                "packets": 50, "lost": 0, "duplicate": 0, "reordered": 0, "restarts": 0,
                "codecs": "pcmu/8000/1,telephone-event/8000", "media_s": 1.04,
                "start": "2026-11-22T10:00:00.5Z", "ended": "2026-11-22T10:00:02Z",
            })],
            recordings: vec![json!({})],
            events: vec![
                key("2 (caller)", "2026-11-22T10:00:01.25Z"),
                key("1 (caller)", "2026-11-22T10:00:01Z"),
                key("9 (callee)", "2026-11-22T10:00:01Z"),
                key("9 (caller)", "2026-11-22T10:00:03Z"),
            ],
        }
    }

    #[test]
    fn what_is_the_same_does_not_differ() {
        assert_eq!(differences(&truth(), &found()), Vec::<String>::new());
    }

    #[test]
    fn every_field_is_looked_at() {
        let mut found = found();
        found.calls[0]["status"] = json!(486);
        for (name, value) in [
            ("packets", json!(49)),
            ("lost", json!(1)),
            ("kind", json!("video")),
            ("codecs", json!("G722/8000")),
            ("media_s", json!(null)),
            ("side", json!("callee")),
        ] {
            found.streams[0][name] = value;
        }
        let expected = [
            "answered with audio 0, not 1",
            "1@a: status 486, not 200",
            "0x0000000a 4000>5000: packets 49, not 50, lost 1, not 0, kind video, not audio, \
             codecs g722/8000, not pcmu/8000, media none, not 1 s, keys 9, not 12",
        ];
        assert_eq!(differences(&truth(), &found), expected);
    }

    #[test]
    fn streams_that_only_one_side_knows_are_told() {
        let mut found = found();
        found.streams[0]["ssrc"] = json!(11);
        let expected = [
            "0x0000000a 4000>5000: missing (50 packets)",
            "0x0000000b 4000>5000: not in the truth (50 packets)",
        ];
        assert_eq!(differences(&truth(), &found), expected);
    }

    #[test]
    fn a_static_type_has_the_same_name_by_its_number() {
        let (mut truth, mut found) = (truth(), found());
        truth.streams[0].codecs = vec!["PT14".into()];
        assert_eq!(differences(&truth, &found).len(), 1);
        found.streams[0]["codecs"] = json!("MPA/90000");
        assert_eq!(differences(&truth, &found), Vec::<String>::new());
    }

    #[test]
    fn a_negative_gives_no_recording() {
        let truth = Capture { recordings: Some(0), ..truth() };
        assert_eq!(differences(&truth, &found()), ["recordings 1, not 0"]);
    }
}
