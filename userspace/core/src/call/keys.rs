//! Keys that a party presses during the call.

use std::sync::Arc;

use super::{Call, Context};
use crate::record::Side;
use crate::time::Timestamp;
use crate::trigger::feature_code::{self, Effect, Way};
use crate::trigger::{Trigger, Verb};
use crate::wire::FlowKey;

impl Call {
    /// A party has pressed a key.
    pub(super) fn press(
        &mut self,
        key: char,
        way: Way,
        author: Side,
        flow: &FlowKey,
        at: Timestamp,
        context: &mut Context<'_>,
    ) {
        if !self.is_paused(at) {
            self.tell(at, "dtmf", format!("{key} ({})", author.as_str()), context);
        }
        if !self.rules.have_feature_codes() || !self.may_press(author) {
            return;
        }
        let codes = Arc::clone(&self.decide(None, context.flows).feature_codes);
        let timeout = context.config.digit_timeout;
        let Some(effect) = self.keys[author.channel()].press(key, way, at, timeout, &codes) else { return };
        let verb = match effect {
            Effect::Verb(verb) => verb,
            Effect::Toggle if self.will_be_recording() => Verb::Stop,
            Effect::Toggle => Verb::Start,
        };
        let trigger = Trigger::new(feature_code::NAME, verb, at, flow, None);
        self.request(trigger, context);
    }

    /// Whether a party's keys are obeyed: those of the house, where it is known who that is.
    fn may_press(&self, author: Side) -> bool {
        let user = match author {
            Side::Caller => &self.from.user,
            Side::Callee => &self.to.user,
        };
        self.rules.is_internal(user).unwrap_or(true)
    }
}
