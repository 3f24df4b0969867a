//! What `spantape show` prints, section by section.

use anyhow::Result;
use spantape_core::time::{SECOND, Timestamp};

use super::ladder::{self, Step, What};
use super::show::{Found, Record};
use super::terminal::{Column, Screen, Style, clean};
use super::{waveform, when};
use crate::encode::Sound;

/// The whole report.
pub(crate) fn text(screen: Screen, found: &Found, sound: Result<Sound>) -> String {
    let waveform = match sound {
        Ok(sound) => waveform::draw(screen, sound),
        Err(error) => screen.list(&[("no waveform", clean(&format!("{error:#}")))]),
    };
    let mut out = String::new();
    for (title, body) in [
        ("Recording", summary(screen, found)),
        ("Signalling", signalling(screen, found)),
        ("Streams", streams(screen, found)),
        ("Triggers", triggers(screen, found)),
        ("Completeness", completeness(screen, &found.recording)),
        ("Quality", quality(screen, found)),
        ("Waveform", waveform),
    ] {
        let gap = if out.is_empty() { "" } else { "\n" };
        let body = if body.is_empty() { "  none\n" } else { &body };
        out.push_str(&format!("{gap}{}\n{body}", screen.paint(Style::Bold, title)));
    }
    out
}

/// What the ladder shows: events, and the bounds of the recording, in order of time.
pub(super) fn steps(found: &Found) -> Vec<Step> {
    let origin = origin(found);
    let mut steps: Vec<Step> = found.events.iter().filter_map(|event| step(event, origin)).collect();
    for (column, words) in [("start", "starts"), ("ended", "ends")] {
        if let Some(at) = found.recording.time(column) {
            let what = What::Note { kind: RECORDING.to_owned(), text: words.to_owned() };
            steps.push(Step { at: at.since(origin), what });
        }
    }
    // What a message brought about comes after it.
    steps.sort_by_key(|step| (step.at, matches!(step.what, What::Note { .. })));
    steps
}

/// Whose host that is, by address and port: the `caller`'s, the `callee`'s, or of neither or both.
pub(super) fn role(recording: &Record, host: &str) -> &'static str {
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    let is = |column: &str| !host.is_empty() && recording.text(column) == host;
    match (is("from_address"), is("to_address")) {
        (true, false) => "caller",
        (false, true) => "callee",
        _ => "",
    }
}

/// The kind of the steps that are the recording's bounds.
pub(super) const RECORDING: &str = "recording";

fn quality(screen: Screen, found: &Found) -> String {
    let (begin, end) = (found.recording.time("start"), found.recording.time("ended"));
    let times = begin.zip(end);
    times.map_or_else(String::new, |(begin, end)| super::quality::draw(screen, &found.quality, begin, end))
}

fn summary(screen: Screen, found: &Found) -> String {
    let recording = &found.recording;
    let call = found.call.as_ref();
    let mut entries = vec![
        ("recording", recording.text("recording_id")),
        ("from", party(recording, "from")),
        ("to", party(recording, "to")),
    ];
    let answered = call.and_then(|call| call.time("answered"));
    for (name, at) in
        [("start", recording.time("start")), ("end", recording.time("ended")), ("answered", answered)]
    {
        if let Some(at) = at {
            let (utc, local) = (when::utc(at, 3) + " UTC", when::local(at));
            entries.push((name, if utc == local { utc } else { format!("{utc}, local {local}") }));
        }
    }
    let length = recording.number("duration_s").unwrap_or_default() * SECOND as f64;
    let rate = recording.text("sample_rate");
    entries.push(("length", format!("{} at {rate} Hz", when::clock(length as i64, 3))));
    entries.push(("trigger", recording.text("trigger")));
    entries.push(("rule", recording.text("rule")));
    entries.push(("codecs", recording.text("codecs").replace(',', ", ")));
    entries.push(("ended by", reason(&recording.text("end_reason"))));
    entries.push(("file", recording.text("file")));
    entries.push(("bytes", recording.text("bytes")));
    entries.push(("sha256", recording.text("sha256")));
    entries.push(("Call-ID", recording.text("call_id")));
    entries.push(("call", recording.text("call_uid")));
    let together = found.conversation.iter().map(|other| {
        let [uid, from, to] = ["call_uid", "from_user", "to_user"].map(|column| other.text(column));
        ("with call", format!("{uid}  {from} -> {to}"))
    });
    entries.extend(together);
    if let Some(call) = call {
        entries.push(("call end", reason(&call.text("end_reason"))));
        entries.push(("SIP status", call.text("status")));
        entries.push(("not decoded", call.text("undecodable")));
    }
    if recording.flag("joined") {
        entries.push(("note", "the call was up already when the capture began".to_owned()));
    }
    let others: Vec<String> = found.others.iter().map(|other| other.text("recording_id")).collect();
    entries.push(("others", others.join(" ")));
    entries.retain(|(_, text)| !text.is_empty());
    screen.list(&entries)
}

fn party(recording: &Record, side: &str) -> String {
    let text = |column: &str| recording.text(&format!("{side}_{column}"));
    let uri = match (text("uri"), text("user")) {
        (uri, user) if uri.is_empty() => user,
        (uri, _) => format!("<{uri}>"),
    };
    let words = [text("display"), uri, text("address"), text("user_agent")];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("  ")
}

/// Why something ended, in words.
fn reason(word: &str) -> String {
    let words = match word {
        "bye" => "BYE was seen",
        "cancelled" => "the caller gave up before an answer",
        "rejected" => "the call was not accepted",
        "dialog-gone" => "one side did not know the dialog any more",
        "rtp-timeout" => "no RTP came any more, and no BYE was seen",
        "signalling-timeout" => "no answer and no sign of life",
        "superseded" => "another call took the same addresses",
        "capture-end" => "the capture ended first",
        "trigger" => "a trigger stopped the recording",
        "evicted" => "given up for want of memory",
        "file-end" => "the imported file ended",
        _ => return word.to_owned(),
    };
    format!("{word}: {words}")
}

fn signalling(screen: Screen, found: &Found) -> String {
    ladder::draw(screen, &steps(found), |host| role(&found.recording, host))
}

/// When the call began, or else the recording.
fn origin(found: &Found) -> Timestamp {
    let start = found.call.as_ref().and_then(|call| call.time("start"));
    start.or_else(|| found.recording.time("start")).unwrap_or_default()
}

fn step(event: &Record, origin: Timestamp) -> Option<Step> {
    let (kind, text) = (event.text("kind"), event.text("text"));
    let at = event.time("start")?.since(origin);
    let what = match (kind.as_str(), event.address("source"), event.address("destination")) {
        ("message", Some(from), Some(to)) => {
            What::Message { from, to, bad: text.starts_with(['4', '5', '6']), text: short(&text) }
        }
        ("trigger", ..) => {
            let words = ["trigger", "verb"].map(|column| event.text(column)).join(" ");
            let text = format!("{words}: {} {text}", event.text("outcome"));
            What::Note { kind, text: text.trim().to_owned() }
        }
        _ => What::Note { kind, text },
    };
    Some(Step { at, what })
}

/// A request without its URI: `INVITE sip:1010@pbx [sdp]` is `INVITE [sdp]`.
fn short(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    if words.len() > 1 && !text.starts_with(|c: char| c.is_ascii_digit()) {
        words.remove(1);
    }
    words.join(" ")
}

fn streams(screen: Screen, found: &Found) -> String {
    if found.streams.is_empty() {
        return String::new();
    }
    let left = |title, rank| Column { title, rank, right: false };
    let right = |title, rank| Column { title, rank, right: true };
    let columns = [
        left("  side", 0),
        left("source > destination", 0),
        left("codecs", 3),
        right("packets", 4),
        right("lost", 0),
        right("late", 5),
        right("dup", 6),
        right("jitter", 2),
        right("MOS", 1),
    ];
    let address = |stream: &Record, end: &str| stream.address(end).unwrap_or_default();
    let rows = found.streams.iter().map(|stream| {
        vec![
            format!("  {}", stream.text("side")),
            format!("{} > {}", address(stream, "source"), address(stream, "destination")),
            stream.text("codecs").replace(',', " ") + if stream.flag("guessed") { " (guessed)" } else { "" },
            stream.text("packets"),
            loss(stream),
            stream.text("late"),
            stream.text("duplicate"),
            stream.number("jitter_ms").map(|jitter| format!("{jitter:.1} ms")).unwrap_or_default(),
            stream.number("mos").map(|mos| format!("{mos:.1}")).unwrap_or_default(),
        ]
    });
    let mut out = screen.table(&columns, rows.collect(), Some(screen.width));
    for stream in &found.streams {
        let why = stream.text("not_decoded");
        if !why.is_empty() {
            let words = format!("{} of the {}: {why}", stream.text("codecs"), stream.text("side"));
            out.push_str(&screen.list(&[("not heard", words)]));
        }
    }
    out
}

fn loss(stream: &Record) -> String {
    let (lost, expected) = (stream.number("lost"), stream.number("expected"));
    match lost.zip(expected) {
        Some((lost, expected)) if expected > 0.0 => format!("{:.2} %", lost / expected * 100.0),
        _ => String::new(),
    }
}

fn triggers(screen: Screen, found: &Found) -> String {
    let origin = origin(found);
    let left = |title, rank| Column { title, rank, right: false };
    let columns = [
        left("  time", 0),
        left("trigger", 0),
        left("verb", 0),
        left("outcome", 0),
        left("from", 2),
        left("", 1),
    ];
    let triggers = found.events.iter().filter(|event| event.text("kind") == "trigger");
    let rows: Vec<Vec<String>> = triggers
        .map(|event| {
            let at = event.time("start").map_or(0, |at| at.since(origin));
            let time = format!("  {}", when::clock(at, 3));
            let mut row = vec![time];
            row.extend(["trigger", "verb", "outcome"].map(|column| event.text(column)));
            row.extend([event.address("source").unwrap_or_default(), event.text("text")]);
            row
        })
        .collect();
    if rows.is_empty() { String::new() } else { screen.table(&columns, rows, Some(screen.width)) }
}

fn completeness(screen: Screen, recording: &Record) -> String {
    let column = |title| Column { title, rank: 0, right: title != FIGURE };
    let rows = [
        ("expected", "expected", ""),
        ("received", "received", ""),
        ("lost on the network", "lost", ""),
        ("recovered of them", "recovered", ""),
        ("late", "late", ""),
        ("duplicate", "duplicate", ""),
        ("dropped by spantape", "dropped", ""),
        ("concealed", "concealed_ms", " ms"),
        ("silent", "silent_ms", " ms"),
    ];
    let rows = rows.map(|(words, figure, unit)| {
        let of = |side: &str| format!("{}{unit}", recording.text(&format!("{side}_{figure}")));
        vec![format!("  {words}"), of("caller"), of("callee")]
    });
    screen.table(&[column(FIGURE), column("caller"), column("callee")], rows.into(), Some(screen.width))
}

const FIGURE: &str = "  packets";
