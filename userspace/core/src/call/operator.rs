//! What an operator sees of a call, and what becomes of what he asks for.

use super::{Call, Context};
use crate::control::{Effect, LONGEST_NOTE, LiveCall, Refusal, Request};
use crate::event::Event;
use crate::record::EventRow;
use crate::rules::Action;
use crate::time::Timestamp;
use crate::trigger::{Trigger, Verb};

impl Call {
    /// As it is now.
    pub(super) fn live(&self) -> LiveCall {
        let rule = self.rule.map(|rule| self.rules.get(rule));
        LiveCall {
            id: self.id,
            call_id: self.call_id.clone(),
            conversation_id: self.conversation_id.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            start: self.start,
            answer: self.answer,
            last_media: self.last_media,
            rule: rule.map(|rule| rule.name.clone()),
            action: rule.map(|rule| rule.action.as_str()),
            recording: self.recorder.recording(),
            paused: self.recorder.is_paused(),
            is_own: self.is_own,
        }
    }

    /// Somebody asks for something by hand. A note may be made of a call that has just ended, too.
    pub(super) fn obey(
        &mut self,
        at: Timestamp,
        request: &Request,
        context: &mut Context<'_>,
    ) -> Result<Effect, Refusal> {
        let effect = match request.verb {
            Some(verb) => self.trigger(at, verb, request, context)?,
            None => Effect::Done,
        };
        if let Some(note) = &request.note {
            self.emit(context, || {
                let text = printable(note);
                let row = EventRow { kind: "note", source: request.from, text, ..self.event(at) };
                Event::Happened(Box::new(row))
            });
        }
        Ok(effect)
    }

    fn trigger(
        &mut self,
        at: Timestamp,
        verb: Verb,
        request: &Request,
        context: &mut Context<'_>,
    ) -> Result<Effect, Refusal> {
        let rule = self.decide(None, context.flows);
        let (action, ignored) = (rule.action, Refusal::Ignored(rule.name.clone()));
        let refusal = match action {
            _ if self.is_over() => Some(Refusal::Over),
            Action::Ignore => Some(ignored),
            Action::All | Action::OnDemand => None,
        };
        if let Some(refusal) = refusal {
            self.tell_refusal(at, verb, request, &refusal, context);
            return Err(refusal);
        }
        let state = |call: &Call| (call.recorder.recording(), call.recorder.is_paused());
        let before = state(self);
        let trigger = Trigger {
            source: request.source,
            verb,
            at,
            from: request.from,
            to: None,
            remark: request.remark.clone(),
            transaction: None,
        };
        self.request(trigger, context);
        if !self.triggers.is_empty() {
            return Ok(Effect::Pending);
        }
        if before != state(self) {
            return Ok(Effect::Done);
        }
        Ok(Effect::None(match (verb, action) {
            (Verb::Start | Verb::Stop, Action::All) => "its rule records the whole call",
            (Verb::Start | Verb::Stop, _) if !context.config.audio => "no audio is kept",
            (Verb::Start, _) => "it is being recorded already",
            (Verb::Stop, _) => "it is not being recorded",
            (Verb::Pause, _) => "it is paused already",
            (Verb::Resume, _) => "it is not paused",
        }))
    }

    fn tell_refusal(
        &self,
        at: Timestamp,
        verb: Verb,
        request: &Request,
        refusal: &Refusal,
        context: &mut Context<'_>,
    ) {
        self.emit(context, || {
            let row = EventRow {
                kind: "trigger",
                trigger: request.source,
                verb: verb.as_str(),
                outcome: "refused",
                source: request.from,
                text: format!("{refusal} {}", request.remark).trim_end().to_owned(),
                ..self.event(at)
            };
            Event::Happened(Box::new(row))
        });
    }
}

/// A line of text, at a sensible length.
fn printable(note: &str) -> String {
    let characters = note.chars().map(|character| if character.is_control() { ' ' } else { character });
    let line: String = characters.take(LONGEST_NOTE).collect();
    line.trim().to_owned()
}
