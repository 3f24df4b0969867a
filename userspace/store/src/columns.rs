//! The columns of each table, in order, and where each has its value from.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use spantape_core::record::{CallRow, Completeness, EventRow, Id, QualityRow, RecordingRow, StreamRow};
use spantape_core::time::Timestamp;

use crate::schema::Column;
use crate::spool::Saved;

type Call = Column<CallRow>;
type Recording = Column<(RecordingRow, Saved)>;
type Stream = Column<StreamRow>;
/// An event and its id, which costs something to make.
type Event = Column<(EventRow, Id)>;
type Quality = Column<QualityRow>;

pub(crate) const CALLS: &[Call] = &[
    Call::text("call_uid", |r| hex(r.id)).lookup().unique(),
    Call::text("call_id", |r| text(&r.call_id)).lookup().unique(),
    Call::text("conversation_id", |r| text(&r.conversation_id)).lookup().unique(),
    Call::text("from_user", |r| text(&r.from.user)).lookup(),
    Call::text("from_uri", |r| text(&r.from.uri)),
    Call::text("from_display", |r| text(&r.from.display)),
    Call::text("from_address", |r| host(r.from.address)).nullable(),
    Call::text("from_user_agent", |r| text(&r.from.user_agent)),
    Call::text("to_user", |r| text(&r.to.user)).lookup(),
    Call::text("to_uri", |r| text(&r.to.uri)),
    Call::text("to_display", |r| text(&r.to.display)),
    Call::text("to_address", |r| host(r.to.address)).nullable(),
    Call::text("to_user_agent", |r| text(&r.to.user_agent)),
    Call::time("start", |r| Some(r.start)),
    Call::time("answered", |r| r.answer).nullable(),
    Call::time("ended", |r| Some(r.end)),
    Call::float("duration_s", |r| seconds(r.start, r.end)),
    Call::float("talk_s", |r| r.answer.and_then(|answer| seconds(answer, r.end))).nullable(),
    Call::text("end_reason", |r| text(r.end_reason.as_str())),
    Call::int("status", |r| (r.status != 0).then_some(r.status.into())).nullable(),
    Call::flag("joined", |r| Some(r.joined)),
    Call::flag("orphan", |r| Some(r.orphan)),
    Call::text("rule", |r| text(&r.rule)),
    Call::text("action", |r| text(r.action)),
    Call::int("messages", |r| Some(r.messages.into())),
    Call::int("retransmissions", |r| Some(r.retransmissions.into())),
    Call::int("streams", |r| Some(r.streams.into())),
    Call::int("recordings", |r| Some(r.recordings.into())),
    Call::text("undecodable", |r| list(&r.undecodable)),
    Call::text("session", |r| text(r.session)),
];

pub(crate) const RECORDINGS: &[Recording] = &[
    Recording::text("recording_id", |(r, _)| hex(r.id)).lookup().unique(),
    Recording::text("call_uid", |(r, _)| hex(r.call)).lookup().unique(),
    Recording::text("call_id", |(r, _)| text(&r.call_id)).lookup().unique(),
    Recording::text("conversation_id", |(r, _)| text(&r.conversation_id)).lookup().unique(),
    Recording::text("from_user", |(r, _)| text(&r.from.user)).lookup(),
    Recording::text("from_uri", |(r, _)| text(&r.from.uri)),
    Recording::text("from_display", |(r, _)| text(&r.from.display)),
    Recording::text("from_address", |(r, _)| host(r.from.address)).nullable(),
    Recording::text("from_user_agent", |(r, _)| text(&r.from.user_agent)),
    Recording::text("to_user", |(r, _)| text(&r.to.user)).lookup(),
    Recording::text("to_uri", |(r, _)| text(&r.to.uri)),
    Recording::text("to_display", |(r, _)| text(&r.to.display)),
    Recording::text("to_address", |(r, _)| host(r.to.address)).nullable(),
    Recording::text("to_user_agent", |(r, _)| text(&r.to.user_agent)),
    Recording::time("start", |(r, _)| Some(r.start)),
    Recording::time("ended", |(r, _)| Some(r.end)),
    Recording::float("duration_s", |(r, _)| Some(r.frames as f64 / f64::from(r.sample_rate.max(1)))),
    Recording::int("sample_rate", |(r, _)| Some(r.sample_rate.into())),
    Recording::int("frames", |(r, _)| count(r.frames)),
    Recording::text("trigger", |(r, _)| text(&r.trigger)),
    Recording::text("rule", |(r, _)| text(&r.rule)),
    Recording::text("codecs", |(r, _)| list(&r.codecs)),
    Recording::text("end_reason", |(r, _)| text(r.end_reason.as_str())),
    Recording::flag("joined", |(r, _)| Some(r.joined)),
    Recording::flag("mixed", |(r, _)| Some(r.mixed)),
    Recording::text("file", |(_, saved)| text(&saved.file)).unique(),
    Recording::int("bytes", |(_, saved)| count(saved.bytes)),
    Recording::text("sha256", |(_, saved)| saved.sha256.as_deref().map(Cow::Borrowed)).nullable().unique(),
    Recording::text("key", |(_, saved)| text(saved.key.as_deref().unwrap_or_default())),
    Recording::text("content_sha256", |(_, saved)| saved.content_sha256.as_deref().map(Cow::Borrowed))
        .nullable()
        .unique(),
    Recording::text("caller_rtpdump", |(_, saved)| text(saved.rtpdump[0].as_deref().unwrap_or_default())),
    Recording::text("callee_rtpdump", |(_, saved)| text(saved.rtpdump[1].as_deref().unwrap_or_default())),
    Recording::int("lost", |(r, _)| both(r, |side| side.lost)),
    Recording::int("concealed_ms", |(r, _)| both(r, |side| side.concealed_ms)),
    Recording::int("caller_expected", |(r, _)| count(r.completeness[0].expected)),
    Recording::int("caller_received", |(r, _)| count(r.completeness[0].received)),
    Recording::int("caller_lost", |(r, _)| count(r.completeness[0].lost)),
    Recording::int("caller_recovered", |(r, _)| count(r.completeness[0].recovered)),
    Recording::int("caller_late", |(r, _)| count(r.completeness[0].late)),
    Recording::int("caller_duplicate", |(r, _)| count(r.completeness[0].duplicate)),
    Recording::int("caller_dropped", |(r, _)| count(r.completeness[0].dropped)),
    Recording::int("caller_concealed_ms", |(r, _)| count(r.completeness[0].concealed_ms)),
    Recording::int("caller_silent_ms", |(r, _)| count(r.completeness[0].silent_ms)),
    Recording::int("callee_expected", |(r, _)| count(r.completeness[1].expected)),
    Recording::int("callee_received", |(r, _)| count(r.completeness[1].received)),
    Recording::int("callee_lost", |(r, _)| count(r.completeness[1].lost)),
    Recording::int("callee_recovered", |(r, _)| count(r.completeness[1].recovered)),
    Recording::int("callee_late", |(r, _)| count(r.completeness[1].late)),
    Recording::int("callee_duplicate", |(r, _)| count(r.completeness[1].duplicate)),
    Recording::int("callee_dropped", |(r, _)| count(r.completeness[1].dropped)),
    Recording::int("callee_concealed_ms", |(r, _)| count(r.completeness[1].concealed_ms)),
    Recording::int("callee_silent_ms", |(r, _)| count(r.completeness[1].silent_ms)),
];

pub(crate) const STREAMS: &[Stream] = &[
    Stream::text("stream_id", |r| hex(stream_id(r))).lookup().unique(),
    Stream::text("call_uid", |r| hex(r.call)).lookup(),
    Stream::text("call_id", |r| text(&r.call_id)).lookup(),
    Stream::text("side", |r| text(r.side.as_str())),
    Stream::text("source_address", |r| host(Some(r.source.ip()))),
    Stream::int("source_port", |r| Some(r.source.port().into())),
    Stream::text("destination_address", |r| host(Some(r.destination.ip()))),
    Stream::int("destination_port", |r| Some(r.destination.port().into())),
    Stream::int("ssrc", |r| Some(r.ssrc.into())),
    Stream::text("kind", |r| text(r.kind)),
    Stream::text("codecs", |r| list(&r.codecs)),
    Stream::flag("guessed", |r| Some(r.guessed)),
    Stream::time("start", |r| Some(r.start)),
    Stream::time("ended", |r| Some(r.end)),
    Stream::float("duration_s", |r| seconds(r.start, r.end)),
    Stream::int("packets", |r| count(r.packets)),
    Stream::int("expected", |r| count(r.completeness.expected)),
    Stream::int("received", |r| count(r.completeness.received)),
    Stream::int("lost", |r| count(r.completeness.lost)),
    Stream::int("recovered", |r| count(r.completeness.recovered)),
    Stream::int("late", |r| count(r.completeness.late)),
    Stream::int("duplicate", |r| count(r.completeness.duplicate)),
    Stream::int("dropped", |r| count(r.completeness.dropped)),
    Stream::int("concealed_ms", |r| count(r.completeness.concealed_ms)),
    Stream::int("silent_ms", |r| count(r.completeness.silent_ms)),
    Stream::int("reordered", |r| count(r.reordered)),
    Stream::int("restarts", |r| Some(r.restarts.into())),
    Stream::float("media_s", |r| known(r.media_seconds)).nullable(),
    Stream::float("jitter_ms", |r| Some(r.jitter_ms)),
    Stream::float("max_jitter_ms", |r| Some(r.max_jitter_ms)),
    Stream::float("mos", |r| known(r.mos)).nullable(),
    Stream::int("bursts", |r| count(r.pattern.bursts)),
    Stream::float("burst_loss", |r| Some(r.pattern.burst_loss)),
    Stream::float("burst_ms", |r| Some(r.pattern.burst_ms)),
    Stream::float("gap_loss", |r| Some(r.pattern.gap_loss)),
    Stream::float("gap_ms", |r| Some(r.pattern.gap_ms)),
    Stream::text("cname", |r| text(&r.cname)),
    Stream::float("reported_loss", |r| r.reported.loss).nullable(),
    Stream::int("reported_lost", |r| r.reported.lost).nullable(),
    Stream::float("reported_jitter_ms", |r| r.reported.jitter_ms).nullable(),
    Stream::float("reported_mos", |r| r.reported.mos).nullable(),
    Stream::float("round_trip_ms", |r| r.reported.round_trip_ms).nullable(),
    Stream::text("bound_by", |r| text(r.bound_by)),
    Stream::text("not_decoded", |r| text(r.not_decoded)),
];

pub(crate) const EVENTS: &[Event] = &[
    Event::text("event_id", |(_, id)| hex(*id)).unique(),
    Event::text("call_uid", |(r, _)| hex(r.call)).lookup(),
    Event::text("call_id", |(r, _)| text(&r.call_id)).lookup(),
    Event::time("start", |(r, _)| Some(r.at)),
    Event::text("kind", |(r, _)| text(r.kind)),
    Event::text("trigger", |(r, _)| text(r.trigger)),
    Event::text("verb", |(r, _)| text(r.verb)),
    Event::text("outcome", |(r, _)| text(r.outcome)),
    Event::text("source_address", |(r, _)| host(r.source.map(|source| source.ip()))).nullable(),
    Event::int("source_port", |(r, _)| port(r.source)).nullable(),
    Event::text("destination_address", |(r, _)| host(r.destination.map(|to| to.ip()))).nullable(),
    Event::int("destination_port", |(r, _)| port(r.destination)).nullable(),
    Event::text("text", |(r, _)| text(&r.text)),
];

pub(crate) const QUALITY: &[Quality] = &[
    Quality::text("quality_id", |r| hex(quality_id(r))).unique(),
    Quality::text("stream_id", |r| hex(sliced_stream_id(r))).lookup(),
    Quality::text("call_uid", |r| hex(r.call)).lookup(),
    Quality::text("call_id", |r| text(&r.call_id)).lookup(),
    Quality::text("side", |r| text(r.side.as_str())),
    Quality::int("ssrc", |r| Some(r.slice.ssrc.into())),
    Quality::time("start", |r| Some(r.slice.start)),
    Quality::time("ended", |r| Some(r.slice.end)),
    Quality::int("expected", |r| count(r.slice.received.saturating_add(r.slice.lost))),
    Quality::int("received", |r| count(r.slice.received)),
    Quality::int("lost", |r| count(r.slice.lost)),
    Quality::int("late", |r| count(r.slice.late)),
    Quality::int("duplicate", |r| count(r.slice.duplicate)),
    Quality::float("jitter_ms", |r| Some(r.slice.jitter_ms)),
    Quality::float("max_jitter_ms", |r| Some(r.slice.max_jitter_ms)),
    Quality::int("bursts", |r| count(r.slice.pattern.bursts)),
    Quality::float("burst_loss", |r| Some(r.slice.pattern.burst_loss)),
    Quality::float("burst_ms", |r| Some(r.slice.pattern.burst_ms)),
    Quality::float("gap_loss", |r| Some(r.slice.pattern.gap_loss)),
    Quality::float("gap_ms", |r| Some(r.slice.pattern.gap_ms)),
    Quality::float("mos", |r| known(r.slice.mos)).nullable(),
    Quality::float("reported_loss", |r| r.slice.reported.loss).nullable(),
    Quality::int("reported_lost", |r| r.slice.reported.lost).nullable(),
    Quality::float("reported_jitter_ms", |r| r.slice.reported.jitter_ms).nullable(),
    Quality::float("reported_mos", |r| r.slice.reported.mos).nullable(),
    Quality::float("round_trip_ms", |r| r.slice.reported.round_trip_ms).nullable(),
];

pub(crate) fn stream_id(r: &StreamRow) -> Id {
    stream(r.call, r.source, r.destination, r.ssrc, r.start)
}

/// A slice is what it is by its stream and its beginning.
pub(crate) fn quality_id(r: &QualityRow) -> Id {
    Id::derive(&[b"quality", &sliced_stream_id(r).0, &r.slice.start.0.to_be_bytes()])
}

fn sliced_stream_id(r: &QualityRow) -> Id {
    stream(r.call, r.source, r.destination, r.slice.ssrc, r.slice.stream)
}

/// A stream is what it is by call, addresses, SSRC and first packet.
fn stream(call: Id, source: SocketAddr, destination: SocketAddr, ssrc: u32, start: Timestamp) -> Id {
    Id::derive(&[
        b"stream",
        &call.0,
        socket_text(source).as_bytes(),
        socket_text(destination).as_bytes(),
        &ssrc.to_be_bytes(),
        &start.0.to_be_bytes(),
    ])
}

/// An event is all that is said of it: of two that are equal in everything, one is kept.
pub(crate) fn event_id(r: &EventRow) -> Id {
    let address = |address: Option<SocketAddr>| address.map(socket_text).unwrap_or_default();
    Id::derive(&[
        b"event",
        &r.call.0,
        &r.at.0.to_be_bytes(),
        r.kind.as_bytes(),
        r.trigger.as_bytes(),
        r.verb.as_bytes(),
        r.outcome.as_bytes(),
        address(r.source).as_bytes(),
        address(r.destination).as_bytes(),
        r.text.as_bytes(),
    ])
}

fn text(value: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(value))
}

fn hex(id: Id) -> Option<Cow<'static, str>> {
    Some(Cow::Owned(id.to_string()))
}

fn list(values: &[String]) -> Option<Cow<'_, str>> {
    Some(Cow::Owned(values.join(",")))
}

fn host(address: Option<IpAddr>) -> Option<Cow<'static, str>> {
    address.map(|address| Cow::Owned(address_text(address)))
}

/// As its `Display` writes it, which takes several times as long: each row has some.
fn address_text(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    // As long as any with a port.
    let mut text = String::with_capacity("255.255.255.255:65535".len());
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

/// The same with its port.
fn socket_text(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { return address.to_string() };
    let mut text = address_text((*address.ip()).into());
    text.push(':');
    text.push_str(itoa::Buffer::new().format(address.port()));
    text
}

fn port(address: Option<SocketAddr>) -> Option<i64> {
    address.map(|address| address.port().into())
}

fn count(value: u64) -> Option<i64> {
    Some(i64::try_from(value).unwrap_or(i64::MAX))
}

fn both(row: &RecordingRow, figure: fn(&Completeness) -> u64) -> Option<i64> {
    count(row.completeness.iter().map(figure).fold(0, u64::saturating_add))
}

fn seconds(from: Timestamp, to: Timestamp) -> Option<f64> {
    Some(to.since(from) as f64 / 1e9)
}

/// The core says 0 for what it does not know; a mean over the column must not count it.
fn known(value: f64) -> Option<f64> {
    (value != 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_they_are_displayed() {
        for text in
            ["0.0.0.0:0", "10.20.0.9:5060", "255.255.255.255:65535", "[2001:db8::1]:9", "[::ffff:1.2.3.4]:80"]
        {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(
                (socket_text(address), address_text(address.ip())),
                (text.to_owned(), address.ip().to_string())
            );
        }
    }
}
