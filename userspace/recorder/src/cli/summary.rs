//! What is said at the end of a replay or a capture.

use spantape_core::engine::Counters;
use spantape_core::sip::Oddity;
use spantape_core::wire::Malformed;

use crate::pipeline::Figures;

/// For people.
pub(super) fn text(figures: &Figures<'_>) -> String {
    let Figures { counters, tally, .. } = figures;
    use std::fmt::Write;
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what:<12} {value}");
    };
    line("frames", counters.frames.to_string());
    line("calls", format!("{} ({} answered)", counters.calls, tally.answered));
    line("recordings", tally.recordings.to_string());
    line("audio", format!("{:.1} s", tally.seconds));
    line(
        "rtp",
        format!(
            "{} packets in {} streams; {} lost, {} late, {} duplicate",
            counters.rtp_packets, tally.streams, tally.lost, tally.late, tally.duplicate
        ),
    );
    for (what, count) in dropped(figures) {
        line("dropped", format!("{count} {what}"));
    }
    for (what, count) in odd(counters) {
        line("odd", format!("{count} {what}"));
    }
    text
}

/// For machines.
pub(super) fn json(figures: &Figures<'_>, problems: &[String]) -> serde_json::Value {
    let Figures { counters, tally, .. } = figures;
    let dropped: serde_json::Map<String, serde_json::Value> =
        dropped(figures).into_iter().map(|(what, count)| (what, count.into())).collect();
    let odd: serde_json::Map<String, serde_json::Value> =
        odd(counters).map(|(what, count)| (what, count.into())).collect();
    serde_json::json!({
        "frames": counters.frames,
        "bytes": counters.bytes,
        "calls": counters.calls,
        "calls_answered": tally.answered,
        "recordings": tally.recordings,
        "audio_seconds": (tally.seconds * 1000.0).round() / 1000.0,
        "sip_messages": counters.sip_messages,
        "rtp_packets": counters.rtp_packets,
        "rtcp_packets": counters.rtcp_packets,
        "stun_messages": counters.stun_messages,
        "key_agreement": counters.key_agreement,
        "streams": tally.streams,
        "lost": tally.lost,
        "late": tally.late,
        "duplicate": tally.duplicate,
        "memory_peak": counters.memory_peak,
        "dropped": dropped,
        "odd": odd,
        "problems": problems,
    })
}

/// What was not as the standard has it, and was understood all the same: only what happened.
fn odd(counters: &Counters) -> impl Iterator<Item = (String, u64)> {
    let odd = Oddity::ALL.iter().zip(counters.sip_odd).filter(|(_, count)| *count > 0);
    odd.map(|(oddity, count)| (format!("SIP messages with {}", oddity.as_str()), count))
}

/// What was dropped and why: only what happened.
fn dropped(figures: &Figures<'_>) -> Vec<(String, u64)> {
    let Figures { counters, tally, missed, unsteered } = figures;
    let malformed = Malformed::ALL.iter().zip(counters.malformed);
    let mut dropped: Vec<(String, u64)> =
        malformed.map(|(kind, count)| (format!("frames with a damaged {}", kind.as_str()), count)).collect();
    let plain = [
        ("IP packets with fragments missing", counters.fragments_abandoned),
        ("messages over SCTP with pieces missing", counters.sctp_abandoned),
        ("IP packets with fragments missing for want of room", counters.fragments_evicted),
        ("gaps in TCP streams", counters.tcp_gaps),
        ("TCP connections for want of room", counters.tcp_evicted),
        ("messages in WebSockets, too long or packed by what was not seen", counters.websocket_unread),
        ("copies in HEP (`hep_ports`)", counters.hep_left_out),
        ("SIP messages without Call-ID, of no call", counters.sip_without_call_id),
        ("RTP packets of no known call", counters.rtp_unclaimed),
        ("RTP packets after the end of their call", counters.rtp_after_end),
        ("RTP packets of calls that are not recorded", counters.rtp_unwanted),
        ("RTP packets for want of room", counters.rtp_no_room),
        ("RTP flows for want of room", counters.flows_evicted),
        ("RTP streams for want of room", counters.streams_evicted),
        ("calls for want of room", counters.calls_evicted),
        ("agreements on keys of media for want of room", counters.associations_evicted),
        ("frames for which the interface had no room", missed.interface),
        ("frames that found the ring full", missed.ring),
        ("frames because recording did not keep up", missed.queue),
        ("announcements of media for want of room (`media_endpoints`)", *unsteered),
        ("recordings left undecoded, or as WAV, as finishing them did not keep up", tally.skipped),
    ];
    dropped.extend(plain.map(|(what, count)| (what.to_owned(), count)));
    dropped.extend(tally.undecodable.iter().map(|(what, calls)| match what {
        _ if what.starts_with("encrypted") => {
            (format!("calls with audio that is {what}, kept as it is"), *calls)
        }
        _ if what == "T38" => ("calls that went over to a fax by T.38, which is not kept".to_owned(), *calls),
        _ => (format!("calls with audio in {what}, kept undecoded"), *calls),
    }));
    dropped.retain(|(_, count)| *count > 0);
    dropped
}
