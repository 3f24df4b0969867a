//! How well a stream comes through: in slices of five seconds, in bursts and gaps, and as its receiver has reported.

use super::super::burst::Bursts;
use super::super::quality::opinion_score;
use super::super::rtcp::{Block, VoipMetrics};
use super::super::slice::{Open, Slice};
use super::{Note, Playout, Stream};
use crate::record::{LossPattern, Reported};
use crate::time::{MILLISECOND, SECOND, Timestamp};

/// What RTCP has said of a stream.
#[derive(Default)]
pub(super) struct Reports {
    latest: Reported,
    /// Stamp of the sender's last report, and when it came by.
    sent: Option<(u32, Timestamp)>,
    cname: String,
}

impl Stream {
    /// Bursts and gaps of loss.
    pub fn loss_pattern(&self) -> LossPattern {
        self.bursts.pattern(self.packet_ms())
    }

    /// What its receiver has said of it last.
    pub fn reported(&self) -> &Reported {
        &self.reports.latest
    }

    /// What its sender calls itself; empty if it has not said.
    pub fn cname(&self) -> &str {
        &self.reports.cname
    }

    /// The slice that goes on ends here; `None` if nothing has happened in it.
    pub fn end_slice(&mut self) -> Option<Slice> {
        let Open { start, end, received, lost, late, duplicate, bursts, reported, .. } = self.slice;
        let (jitter, max_jitter) = self.slice.jitter();
        let jitter_ms = jitter / MILLISECOND as f64;
        let useless = (lost + late) as f64 / (received + lost).max(1) as f64;
        let slice = Slice {
            stream: self.first,
            ssrc: self.ssrc,
            start,
            end,
            received,
            lost,
            late,
            duplicate,
            jitter_ms,
            max_jitter_ms: max_jitter / MILLISECOND as f64,
            pattern: bursts.pattern(self.packet_ms()),
            mos: self.score(useless, &bursts, jitter_ms),
            reported,
        };
        let happened = !self.slice.is_empty();
        self.slice = Open::default();
        happened.then_some(slice)
    }

    /// Its sender has sent a report, to which the receiver's answers will refer by that stamp.
    pub fn note_sender_report(&mut self, at: Timestamp, stamp: u32) {
        self.reports.sent = Some((stamp, at));
    }

    /// Its receiver has reported on it.
    pub fn note_receiver_report(&mut self, at: Timestamp, block: &Block) {
        let clock = self.main_format().map_or(0, |format| format.codec.clock);
        let jitter = f64::from(block.jitter) * 1000.0 / f64::from(clock.max(1));
        let answered = self.reports.sent.filter(|sent| block.last_report != 0 && sent.0 == block.last_report);
        let delay = i64::from(block.delay) * SECOND / 65_536;
        let round_trip = answered.map(|(_, sent)| at.since(sent) - delay).filter(|trip| *trip >= 0);
        self.note_reported(&Reported {
            loss: Some(f64::from(block.fraction_lost) / 256.0),
            lost: Some(block.lost.into()),
            jitter_ms: (clock != 0).then_some(jitter),
            round_trip_ms: round_trip.map(|trip| trip as f64 / MILLISECOND as f64),
            mos: None,
        });
    }

    /// Its receiver has said how it sounds.
    pub fn note_voip_metrics(&mut self, metrics: &VoipMetrics) {
        self.note_reported(&Reported {
            round_trip_ms: (metrics.round_trip != 0).then_some(metrics.round_trip.into()),
            mos: metrics.mos_lq.or(metrics.mos_cq).map(|score| f64::from(score) / 10.0),
            ..Reported::default()
        });
    }

    /// Its sender has said what it calls itself.
    pub fn note_name(&mut self, name: &[u8]) {
        if self.reports.cname.as_bytes() != name {
            self.reports.cname = String::from_utf8_lossy(name).into_owned();
        }
    }

    /// The E-model's opinion score of the stream, or a part of it, in which so much was useless.
    pub(super) fn score(&self, useless: f64, bursts: &Bursts, jitter_ms: f64) -> f64 {
        match self.main_format().filter(|format| format.codec.clock != 0) {
            Some(format) => {
                let (ratio, packet_ms) = (bursts.burst_ratio(), self.packet_ms());
                opinion_score(&format.codec, useless, ratio, packet_ms, jitter_ms)
            }
            None => 0.0,
        }
    }

    /// Milliseconds from one packet to the next; 0 when that is not known.
    fn packet_ms(&self) -> f64 {
        let clock = self.main_format().map_or(0, |format| format.codec.clock);
        if clock == 0 { 0.0 } else { 1000.0 * self.span.packet() as f64 / f64::from(clock) }
    }

    fn note_reported(&mut self, reported: &Reported) {
        self.reports.latest.update(reported);
        self.slice.reported.update(reported);
    }

    /// A packet had its turn.
    pub(super) fn count(&mut self, at: Timestamp, out: &mut Playout<'_>) {
        self.turn_slice(at, out);
        self.slice.receive(at, self.jitter.now);
        self.bursts.receive();
    }

    /// Begins another slice, if `at` is of one.
    pub(super) fn turn_slice(&mut self, at: Timestamp, out: &mut Playout<'_>) {
        if self.slice.is_over(at) {
            let slice = self.end_slice();
            out.notes.extend(slice.map(|slice| (slice.start, Note::Slice(Box::new(slice)))));
            self.slice.begin(at);
        }
    }
}
