//! What there is to say of a call and its streams once they are over.

use super::{Call, Context};
use crate::event::Event;
use crate::media::{Binding, FlowId};
use crate::record::{CallRow, EndReason, QualityRow, Side, StreamRow};
use crate::rtp::{Slice, Stream};
use crate::wire::FlowKey;

/// Names of codecs without a decoder that are kept of one call.
const MAX_UNDECODABLE: usize = 32;

impl Call {
    /// Ends what is still open and says all there is to say. The call is not to be used afterwards.
    pub(super) fn finish(&mut self, reason: EndReason, context: &mut Context<'_>) {
        self.catch_up(context.flows);
        if self.end.is_none() {
            self.end_at_last_media(reason, context);
        }
        self.give_up_triggers(context);
        self.drain_streams(true, context);
        let Some(end) = self.end else { return };
        self.tell_end(end.at, context);
        self.finish_recording(end.at, end.reason, context);
        for id in std::mem::take(&mut self.flows) {
            self.let_go(id, context);
        }
        for endpoint in self
            .descriptions
            .endpoints()
            .into_iter()
            .chain(self.receives_at)
            .chain(std::mem::take(&mut self.checked))
        {
            context.flows.drop_claim(endpoint, self.key);
        }
        if self.is_spare() {
            return;
        }
        let rule = self.decide(None, context.flows);
        let (rule, action) = (rule.name.clone(), rule.action.as_str());
        if !self.is_own {
            return;
        }
        let row = CallRow {
            id: self.id,
            call_id: self.call_id.clone(),
            conversation_id: self.conversation_id.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            start: self.start,
            answer: self.answer,
            end: end.at,
            end_reason: end.reason,
            status: self.status,
            joined: self.joined,
            orphan: self.orphan,
            rule,
            action,
            messages: self.messages,
            retransmissions: self.retransmissions,
            streams: self.streams,
            recordings: self.recordings,
            undecodable: std::mem::take(&mut self.undecodable),
            session: self.session.as_ref().map_or("", |session| session.system),
        };
        context.events.push_back(Event::Call(Box::new(row)));
    }

    /// A flow of this call is its own no more: its streams are over.
    pub fn let_go(&mut self, id: FlowId, context: &mut Context<'_>) {
        let flow = context.flows.get_mut(id);
        let streams = std::mem::take(&mut flow.streams);
        flow.current = 0;
        flow.spent = true;
        let (key, binding) = (flow.key, flow.binding);
        context.flows.bind(id, None, context.now);
        context.flows.weigh(id);
        if self.orphan {
            // No description names its endpoints.
            context.flows.drop_claim(key.source, self.key);
            context.flows.drop_claim(key.destination, self.key);
        }
        let Some(binding) = binding.filter(|_| self.is_own && !self.is_ignored()) else { return };
        for mut stream in streams {
            if let Some(slice) = stream.end_slice() {
                self.tell_slice(slice, &key, binding.speaker, context);
            }
            self.tell_stream(&stream, &key, &binding, context);
        }
    }

    /// Five seconds of a stream are over.
    pub(super) fn tell_slice(
        &self,
        mut slice: Slice,
        key: &FlowKey,
        speaker: Side,
        context: &mut Context<'_>,
    ) {
        if self.descriptions.kind(key, speaker) != "audio" {
            slice.mos = 0.0;
        }
        let row = QualityRow {
            call: self.id,
            call_id: self.call_id.clone(),
            side: speaker,
            source: key.source.socket(),
            destination: key.destination.socket(),
            slice,
        };
        self.emit(context, || Event::Quality(Box::new(row)));
    }

    fn tell_stream(&mut self, stream: &Stream, key: &FlowKey, binding: &Binding, context: &mut Context<'_>) {
        self.streams += 1;
        let kind = self.descriptions.kind(key, binding.speaker);
        let encrypted = stream.encryption().map(|encryption| encryption.as_str().to_owned());
        for codec in stream.undecodable().chain(encrypted) {
            let has_room = self.undecodable.len() < MAX_UNDECODABLE;
            if kind == "audio" && has_room && !self.undecodable.contains(&codec) {
                self.undecodable.push(codec);
            }
        }
        let (decrypted, not_authentic) = stream.decrypted();
        if decrypted > 0 && not_authentic > 0 {
            let side = binding.speaker.as_str();
            let text = format!("SRTP: {not_authentic} packets are not authentic, {decrypted} are ({side})");
            self.tell(stream.last, "note", text, context);
        }
        let (jitter_ms, max_jitter_ms) = stream.jitter_ms();
        let event_only = stream.is_event_only();
        let not_decoded = if let Some(encryption) = stream.encryption() {
            encryption.as_str()
        } else if stream.is_heard() || event_only {
            ""
        } else if kind != "audio" {
            "no audio"
        } else if stream.undecodable().next().is_some() {
            "no decoder"
        } else {
            "not recorded"
        };
        let row = StreamRow {
            call: self.id,
            call_id: self.call_id.clone(),
            side: binding.speaker,
            source: key.source.socket(),
            destination: key.destination.socket(),
            ssrc: stream.ssrc,
            kind: if event_only { "event" } else { kind },
            codecs: stream.codecs(),
            guessed: stream.is_guessed(),
            start: stream.first,
            end: stream.last,
            packets: stream.packets,
            completeness: stream.completeness(),
            reordered: stream.reordered(),
            restarts: stream.restarts(),
            media_seconds: stream.media_seconds(),
            jitter_ms,
            max_jitter_ms,
            mos: if kind == "audio" && !event_only { stream.opinion_score() } else { 0.0 },
            pattern: stream.loss_pattern(),
            cname: stream.cname().to_owned(),
            reported: *stream.reported(),
            bound_by: binding.by.as_str(),
            not_decoded,
        };
        context.events.push_back(Event::Stream(Box::new(row)));
    }
}
