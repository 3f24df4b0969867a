//! What becomes of triggers: each waits for its answer, and takes effect in the order in which it was asked for.

use super::{Call, Context, TIMER_F};
use crate::event::{Event, Signal, Signalled};
use crate::media::Figures;
use crate::record::EventRow;
use crate::rules::{Action, OnRefused};
use crate::time::Timestamp;
use crate::trigger::{Answer, Outcome, Transaction, Trigger, Verb};

/// Triggers of one call that may wait for their answers.
const MAX_PENDING: usize = 32;

/// A trigger that waits for its answer.
pub(super) struct Pending {
    pub(super) trigger: Trigger,
    /// Figures of the tape when it was asked for.
    pub(super) figures: Figures,
    /// The server wants a password: the same press comes again.
    challenged: bool,
    /// What came of it, while an earlier one still waits.
    outcome: Option<Outcome>,
    /// In which words that was said.
    words: String,
}

impl Call {
    /// Somebody asks for a recording, or for its end.
    pub(super) fn request(&mut self, trigger: Trigger, context: &mut Context<'_>) {
        self.is_stirred = true;
        let again = self.triggers.iter_mut().find(|pending| {
            let known = &pending.trigger;
            let (Some(Transaction::Sip(tag, cseq)), Some(Transaction::Sip(known_tag, known_cseq))) =
                (&trigger.transaction, &known.transaction)
            else {
                return false;
            };
            let repeated = (known_tag, known_cseq) == (tag, cseq);
            // With credentials now: it is the same press, which counts from its beginning.
            let retried = pending.challenged && known_tag == tag && known_cseq < cseq;
            known.verb == trigger.verb && (repeated || retried)
        });
        if let Some(pending) = again {
            pending.trigger.transaction = trigger.transaction;
            pending.challenged = false;
            return;
        }
        if trigger.verb == Verb::Resume && self.recorder.paused_since.is_some() {
            // What is said from here on is wanted if the answer is yes, and erased if it is no.
            if let Some(tape) = &mut self.recorder.tape {
                tape.unmute(trigger.at);
            }
        }
        let wanted = trigger.verb == Verb::Start && !self.is_over() && !self.recorder.is_recording();
        if wanted
            && self.decide(None, context.flows).action == Action::OnDemand
            && self.keeps_audio(context.config)
            && self.recorder.tape.is_none()
        {
            // Audio is kept from here on, until the answer tells whether it is wanted.
            let rate = self.rate(0, context);
            self.open_tape(trigger.at, rate, context);
            self.recorder.on_demand = true;
        }
        if self.triggers.len() >= MAX_PENDING {
            // No person presses so fast, and no server leaves so much unanswered.
            if let Some(oldest) = self.triggers.front_mut() {
                oldest.outcome.get_or_insert(Outcome::Unconfirmed);
            }
            self.settle_in_order(context);
        }
        self.recorder.idle_since = None;
        let figures = self.recorder.tape.as_ref().map(|tape| tape.figures(trigger.at)).unwrap_or_default();
        let outcome = trigger.transaction.is_none().then_some(Outcome::Confirmed);
        self.triggers.push_back(Pending {
            trigger,
            figures,
            challenged: false,
            outcome,
            words: String::new(),
        });
        self.settle_in_order(context);
    }

    /// Whether it is being recorded, or will be once all that was asked for is answered with yes.
    pub(super) fn will_be_recording(&self) -> bool {
        wished(self.triggers.iter()).unwrap_or(self.recorder.is_on())
    }

    /// Whether it was being recorded, or would be, when that request outside SIP was made.
    pub(crate) fn was_recording(&self, number: u64) -> bool {
        let numbered = Transaction::Numbered(number);
        let before = self
            .triggers
            .iter()
            .take_while(|pending| pending.trigger.transaction.as_ref() != Some(&numbered));
        wished(before).unwrap_or(self.recorder.is_on())
    }

    /// Whether nothing of that moment may be kept, or may turn out not to be.
    pub(super) fn is_paused(&self, at: Timestamp) -> bool {
        let asked = self.triggers.iter().any(|pending| pending.trigger.verb == Verb::Pause);
        asked || self.recorder.paused_since.is_some_and(|since| at >= since)
    }

    /// Nothing is kept from then on, until somebody has asked for that already.
    pub(super) fn pause(&mut self, at: Timestamp, context: &mut Context<'_>) {
        self.recorder.paused_since.get_or_insert(at);
        let until = self.asked_to_resume(context).unwrap_or(Timestamp::FAR_FUTURE);
        self.recorder.mute(at..until, context);
    }

    /// Since when audio may be wanted again, by what has not taken effect yet.
    pub(super) fn asked_to_resume(&mut self, context: &mut Context<'_>) -> Option<Timestamp> {
        let honoured = self.decide(None, context.flows).on_refused == OnRefused::HonourKey;
        let resumes = self.triggers.iter().find(|pending| {
            let obeyed = honoured || matches!(pending.outcome, None | Some(Outcome::Confirmed));
            pending.trigger.verb == Verb::Resume && obeyed
        });
        resumes.map(|pending| pending.trigger.at)
    }

    /// The server has answered a SIP request. Returns whether it was a trigger.
    pub(super) fn answer_trigger(
        &mut self,
        tag: &[u8],
        cseq: u32,
        status: u16,
        context: &mut Context<'_>,
    ) -> bool {
        let transaction = Transaction::Sip(tag.into(), cseq);
        let Some(pending) = self.pending(&transaction) else { return false };
        match status {
            100..=199 => {}
            401 | 407 => pending.challenged = true,
            200..=299 => pending.outcome = Some(Outcome::Confirmed),
            _ => pending.outcome = Some(Outcome::Refused(status)),
        }
        self.settle_in_order(context);
        true
    }

    /// A request outside SIP has been answered; `None` when it turns out to have been no trigger.
    pub(crate) fn answer_numbered(&mut self, number: u64, answer: Option<Answer>, context: &mut Context<'_>) {
        let transaction = Transaction::Numbered(number);
        match answer {
            Some(Answer { outcome, verb, words }) => {
                let Some(pending) = self.pending(&transaction) else { return };
                pending.trigger.verb = verb.unwrap_or(pending.trigger.verb);
                (pending.outcome, pending.words) = (Some(outcome), words);
            }
            None => {
                self.triggers.retain(|pending| pending.trigger.transaction.as_ref() != Some(&transaction));
                self.note_idle(context.now);
            }
        }
        self.settle_in_order(context);
    }

    fn pending(&mut self, transaction: &Transaction) -> Option<&mut Pending> {
        self.triggers.iter_mut().find(|pending| pending.trigger.transaction.as_ref() == Some(transaction))
    }

    /// Those that nobody has answered in time are not confirmed.
    pub(super) fn expire_triggers(&mut self, context: &mut Context<'_>) {
        for pending in &mut self.triggers {
            if context.now.since(pending.trigger.at) >= TIMER_F {
                pending.outcome.get_or_insert(Outcome::Unconfirmed);
            }
        }
        self.settle_in_order(context);
    }

    /// The call is over: whoever has not answered will not.
    pub(super) fn give_up_triggers(&mut self, context: &mut Context<'_>) {
        for pending in &mut self.triggers {
            pending.outcome.get_or_insert(Outcome::Unconfirmed);
        }
        self.settle_in_order(context);
    }

    /// What was asked for first takes effect first, whoever is answered first.
    fn settle_in_order(&mut self, context: &mut Context<'_>) {
        while let Some(outcome) = self.triggers.front().and_then(|pending| pending.outcome) {
            if let Some(pending) = self.triggers.pop_front() {
                self.settle(&pending, outcome, context);
            }
        }
    }

    /// What a trigger does now that its outcome is known.
    fn settle(&mut self, pending: &Pending, outcome: Outcome, context: &mut Context<'_>) {
        let trigger = &pending.trigger;
        let rule = self.decide(None, context.flows);
        let (action, look_back) = (rule.action, rule.look_back);
        let obeyed = outcome == Outcome::Confirmed || rule.on_refused == OnRefused::HonourKey;
        let mut text = match outcome {
            _ if !pending.words.is_empty() => pending.words.clone(),
            Outcome::Refused(status) if status > 0 => format!("{status}"),
            _ => trigger.remark.clone(),
        };
        if obeyed && outcome != Outcome::Confirmed {
            text = format!("{text} honoured all the same").trim_start().to_owned();
        }
        let on_demand = action == Action::OnDemand || !self.is_conversation() && action != Action::Ignore;
        if on_demand && obeyed {
            match trigger.verb {
                Verb::Start => self.start_segment(pending, look_back, self.keeps_audio(context.config)),
                Verb::Stop => self.stop_segment(pending),
                Verb::Pause | Verb::Resume => {}
            }
        }
        let is_message = matches!(trigger.transaction, Some(Transaction::Sip(..)));
        if obeyed && !is_message && context.config.tells_signalling {
            let (call, name) = (self.id, trigger.source.to_owned());
            let what = Signalled::Order { call, trigger: name, verb: trigger.verb };
            self.emit(context, || Event::Signalled { call, signal: Signal { at: trigger.at, what } });
        }
        match (trigger.verb, obeyed) {
            (Verb::Pause, true) => self.pause(trigger.at, context),
            (Verb::Resume, true) => self.recorder.resume(trigger.at),
            // What has been kept since it was asked for.
            (Verb::Resume, false) if self.recorder.paused_since.is_some() => self.pause(trigger.at, context),
            _ => {}
        }
        if obeyed && matches!(trigger.verb, Verb::Pause | Verb::Resume) {
            self.pass_on(trigger);
        }
        self.note_idle(context.now);
        self.tell_trigger(trigger, outcome, text, context);
    }

    /// Notes what has become of a trigger.
    pub(super) fn tell_trigger(
        &self,
        trigger: &Trigger,
        outcome: Outcome,
        text: String,
        context: &mut Context<'_>,
    ) {
        self.emit(context, || {
            let row = EventRow {
                kind: "trigger",
                trigger: trigger.source,
                verb: trigger.verb.as_str(),
                outcome: outcome.as_str(),
                source: trigger.from,
                destination: trigger.to,
                text,
                ..self.event(trigger.at)
            };
            Event::Happened(Box::new(row))
        });
    }
}

/// Whether those triggers, once they are all answered with yes, begin or end a recording.
fn wished<'a>(triggers: impl Iterator<Item = &'a Pending>) -> Option<bool> {
    triggers.fold(None, |wished, pending| match pending.trigger.verb {
        Verb::Start => Some(true),
        Verb::Stop => Some(false),
        Verb::Pause | Verb::Resume => wished,
    })
}
