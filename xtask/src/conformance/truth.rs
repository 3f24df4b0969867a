//! What a folder of captures says of itself: `truth.json`.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Name of the file with the truth, in the folder of the captures.
pub(super) const FILE: &str = "truth.json";

/// What is known of one capture.
#[derive(Clone, Debug, Default)]
pub(super) struct Capture {
    pub(super) file: String,
    pub(super) invited: u64,
    pub(super) answered: u64,
    pub(super) with_audio: u64,
    pub(super) calls: Vec<Call>,
    /// The streams that are tied to a call.
    pub(super) streams: Vec<Stream>,
    /// The others, which are nobody's business unless orphans are asked for.
    pub(super) untied: Vec<Stream>,
    /// What is in its streams cannot be heard.
    pub(super) is_encrypted: bool,
    /// How many recordings there must be, where that is known.
    pub(super) recordings: Option<u64>,
}

/// A Call-ID, as the truth lists it.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) invited: bool,
    pub(super) answered: bool,
    pub(super) status: Option<u64>,
}

/// An RTP stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    pub(super) ssrc: u64,
    pub(super) source: (String, u64),
    pub(super) destination: (String, u64),
    pub(super) kind: String,
    pub(super) packets: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    pub(super) restarts: u64,
    pub(super) codecs: Vec<String>,
    pub(super) media_seconds: Option<f64>,
    pub(super) packet_seconds: f64,
    /// From the first packet to the last.
    pub(super) seconds: f64,
    /// Keys pressed, where all of them could be told.
    pub(super) keys: Option<String>,
}

/// Reads the truth of all captures of a folder.
pub(super) fn read(folder: &Path) -> Result<Vec<Capture>> {
    let path = folder.join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    parse(&text).with_context(|| format!("understand {}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Capture>> {
    let truth: Value = serde_json::from_str(text)?;
    list(&truth, "captures")?
        .iter()
        .map(|entry| {
            let file = text_of(entry, "file")?;
            capture(entry, &file).with_context(|| format!("what it says of {file}"))
        })
        .collect()
}

fn capture(entry: &Value, file: &str) -> Result<Capture> {
    let sip = &entry["sip"];
    let features = list(entry, "features")?;
    let has = |name: &str| features.iter().any(|feature| feature == name);
    let (negative, is_encrypted) = (has("negative"), has("srtp"));
    let (mut streams, mut untied) = (Vec::new(), Vec::new());
    for stream in list(entry, "rtp_streams")? {
        let is_tied = stream["call_ids"].as_array().is_some_and(|ids| !ids.is_empty());
        let place = if is_tied { &mut streams } else { &mut untied };
        place.push(self::stream(stream)?);
    }
    Ok(Capture {
        file: file.to_owned(),
        invited: number(sip, "call_ids_with_invite")?,
        answered: number(sip, "call_ids_answered")?,
        with_audio: number(sip, "call_ids_answered_with_audio_rtp")?,
        calls: list(entry, "calls")?.iter().map(call).collect::<Result<_>>()?,
        streams,
        untied,
        is_encrypted,
        recordings: entry["expected_recordings"].as_u64().or(negative.then_some(0)),
    })
}

fn call(entry: &Value) -> Result<Call> {
    let status = entry["final_status"].as_str().map(str::parse).transpose().context("final_status")?;
    Ok(Call {
        id: text_of(entry, "call_id")?,
        invited: flag(entry, "invite_seen")?,
        answered: flag(entry, "answered")?,
        status,
    })
}

fn stream(entry: &Value) -> Result<Stream> {
    let ssrc = text_of(entry, "ssrc")?;
    let codecs = list(entry, "codecs")?.iter().map(|codec| text_of(codec, "codec"));
    let keys = entry["dtmf_2833"].as_str().filter(|keys| !keys.contains('?'));
    Ok(Stream {
        ssrc: u64::from_str_radix(ssrc.trim_start_matches("0x"), 16).context("ssrc")?,
        source: (text_of(entry, "src")?, number(entry, "sport")?),
        destination: (text_of(entry, "dst")?, number(entry, "dport")?),
        kind: text_of(entry, "kind")?,
        packets: number(entry, "packets")?,
        lost: number(entry, "lost")?,
        duplicates: number(entry, "duplicates")?,
        reordered: number(entry, "reordered")?,
        restarts: entry["sequence_restarts"].as_u64().unwrap_or(0),
        codecs: codecs.collect::<Result<_>>()?,
        media_seconds: entry["media_seconds"].as_f64(),
        packet_seconds: entry["ptime_ms"].as_f64().unwrap_or(0.0) / 1000.0,
        seconds: entry["wall_seconds"].as_f64().unwrap_or(0.0),
        keys: keys.map(str::to_owned),
    })
}

// A field that has another name than expected must not pass for one that agrees: hence the errors.

fn list<'a>(of: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    of[name].as_array().with_context(|| format!("no list `{name}`"))
}

fn number(of: &Value, name: &str) -> Result<u64> {
    of[name].as_u64().with_context(|| format!("no number `{name}`"))
}

fn flag(of: &Value, name: &str) -> Result<bool> {
    of[name].as_bool().with_context(|| format!("no `{name}`"))
}

fn text_of(of: &Value, name: &str) -> Result<String> {
    of[name].as_str().map(str::to_owned).with_context(|| format!("no text `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: &str = r##"{"captures": [{
        "file": "a.pcap", "features": ["negative"],
        "sip": {"call_ids_with_invite": 2, "call_ids_answered": 1, "call_ids_answered_with_audio_rtp": 1},
        "calls": [{"call_id": "1@a", "invite_seen": true, "answered": false, "final_status": "486"}],
        "rtp_streams": [
            {"ssrc": "0x0000000a", "src": "192.0.2.1", "sport": 4000, "dst": "192.0.2.2", "dport": 5000,
             "kind": "audio", "packets": 50, "lost": 1, "duplicates": 2, "reordered": 0, "ptime_ms": 20.0,
             "codecs": [{"pt": 0, "codec": "PCMU/8000", "packets": 50}], "media_seconds": 1.0,
             "call_ids": ["1@a"], "dtmf_2833": "1?"},
            {"ssrc": "0x0000000b", "src": "192.0.2.1", "sport": 4002, "dst": "192.0.2.2", "dport": 5002,
             "kind": "audio", "packets": 7, "lost": 0, "duplicates": 0, "reordered": 0, "codecs": [],
             "wall_seconds": 0.12, "call_ids": []}
        ]
    }]}"##;

    #[test]
    fn streams_of_no_call_stand_apart_and_keys_in_doubt_are_left_out() {
        let captures = parse(TRUTH).unwrap();
        let [capture] = captures.as_slice() else { panic!("one capture") };
        assert_eq!((capture.invited, capture.answered, capture.recordings), (2, 1, Some(0)));
        assert_eq!((capture.calls[0].id.as_str(), capture.calls[0].status), ("1@a", Some(486)));
        let [stream] = capture.streams.as_slice() else { panic!("one stream") };
        assert_eq!((stream.ssrc, stream.source.1, stream.destination.1), (10, 4000, 5000));
        assert_eq!((stream.packet_seconds, &stream.keys), (0.02, &None));
        assert!(matches!(capture.untied.as_slice(), [Stream { ssrc: 11, packets: 7, .. }]));
    }

    #[test]
    fn a_missing_number_is_an_error() {
        assert!(parse(&TRUTH.replace("call_ids_answered\"", "answered\"")).is_err());
    }
}
