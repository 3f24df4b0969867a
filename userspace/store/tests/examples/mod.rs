//! Rows to test with: plain ones that differ by a number.

#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

use spantape_core::record::{
    CallRow, Completeness, EndReason, EventRow, Id, LossPattern, Party, QualityRow, RecordingRow, Reported,
    Side, StreamRow,
};
use spantape_core::rtp::Slice;
use spantape_core::time::{SECOND, Timestamp};

/// 2023-11-14T22:13:20Z, plus as many seconds.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp(1_700_000_000 * SECOND + seconds as i64 * SECOND)
}

/// An id whose first digits are the number.
pub fn id(n: u64) -> Id {
    let mut id = Id::derive(&[&n.to_be_bytes()]);
    id.0[..4].copy_from_slice(&(n as u32).to_be_bytes());
    id
}

pub fn party(user: &str) -> Party {
    Party {
        user: user.to_owned(),
        uri: format!("sip:{user}@pbx.example"),
        display: format!("Desk {user}"),
        address: Some([192, 0, 2, 9].into()),
        user_agent: "phone 1.0".to_owned(),
    }
}

pub fn call(n: u64) -> CallRow {
    CallRow {
        id: id(n),
        call_id: format!("call-{n}@192.0.2.9"),
        conversation_id: format!("conversation-{n}"),
        from: party("1009"),
        to: party("1010"),
        start: at(n),
        answer: Some(at(n + 2)),
        end: at(n + 62),
        end_reason: EndReason::Bye,
        status: 200,
        joined: false,
        orphan: false,
        rule: "default".to_owned(),
        action: "all",
        messages: 7,
        retransmissions: 1,
        streams: 2,
        recordings: 1,
        undecodable: Vec::new(),
        session: "",
    }
}

pub fn recording(n: u64) -> RecordingRow {
    let side =
        Completeness { expected: 3000, received: 2998, lost: 2, concealed_ms: 40, ..Default::default() };
    RecordingRow {
        id: id(n),
        call: id(n),
        call_id: format!("call-{n}@192.0.2.9"),
        conversation_id: format!("conversation-{n}"),
        from: party("1009"),
        to: party("1010"),
        start: at(n),
        end: at(n + 60),
        sample_rate: 8000,
        frames: 480_000,
        trigger: "rule".into(),
        rule: "default".to_owned(),
        codecs: vec!["PCMU".to_owned()],
        end_reason: EndReason::Bye,
        joined: false,
        mixed: false,
        completeness: [side, Completeness { lost: 1, ..side }],
    }
}

pub fn stream(n: u64) -> StreamRow {
    StreamRow {
        call: id(n),
        call_id: format!("call-{n}@192.0.2.9"),
        side: Side::Caller,
        source: ([192, 0, 2, 9], 4000).into(),
        destination: ([192, 0, 2, 10], 4002).into(),
        ssrc: 0x1234_5678,
        kind: "audio",
        codecs: vec!["PCMU/8000".to_owned(), "telephone-event/8000".to_owned()],
        guessed: false,
        start: at(n),
        end: at(n + 60),
        packets: 3000,
        completeness: Completeness { expected: 3000, received: 3000, ..Default::default() },
        reordered: 0,
        restarts: 0,
        media_seconds: 60.0,
        jitter_ms: 0.5,
        max_jitter_ms: 1.25,
        mos: 4.4,
        pattern: LossPattern::default(),
        cname: "phone@192.0.2.9".to_owned(),
        reported: Reported { loss: Some(0.25), lost: Some(7), ..Reported::default() },
        bound_by: "sdp",
        not_decoded: "",
    }
}

/// The `slice`th slice of a stream.
pub fn quality(n: u64, slice: u64) -> QualityRow {
    let stream = stream(n);
    QualityRow {
        call: stream.call,
        call_id: stream.call_id,
        side: stream.side,
        source: stream.source,
        destination: stream.destination,
        slice: Slice {
            stream: stream.start,
            ssrc: stream.ssrc,
            start: at(n + slice * 5),
            end: at(n + slice * 5 + 4),
            received: 248,
            lost: 2,
            late: 1,
            duplicate: 3,
            jitter_ms: 1.5,
            max_jitter_ms: 2.5,
            pattern: LossPattern { gap_loss: 0.008, gap_ms: 5000.0, ..LossPattern::default() },
            mos: 4.1,
            reported: Reported { round_trip_ms: Some(42.0), ..Reported::default() },
        },
    }
}

pub fn event(n: u64, kind: &'static str) -> EventRow {
    EventRow {
        call: id(n),
        call_id: format!("call-{n}@192.0.2.9"),
        at: at(n + 5),
        kind,
        trigger: if kind == "trigger" { "sip-info" } else { "" },
        verb: if kind == "trigger" { "start" } else { "" },
        outcome: if kind == "trigger" { "confirmed" } else { "" },
        source: Some(([192, 0, 2, 9], 5060).into()),
        destination: None,
        text: format!("{kind} {n}"),
    }
}
