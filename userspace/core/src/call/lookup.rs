//! Which call is meant by those who do not speak of it by its Call-ID alone.

use super::directory::Whom;
use super::session::Original;
use super::table::Calls;
use super::{Call, Context};
use crate::control::{Refusal, Target};
use crate::media::CallKey;
use crate::record::Party;
use crate::recording_session::{Carries, Recognised};
use crate::trigger::url_record;
use crate::wire::{Endpoint, FlowKey};

/// Somebody at a phone, as a message of another protocol shows him.
pub(super) struct Caller<'a> {
    pub(super) host: u128,
    /// Whose phone it is, where that is said.
    pub(super) user: Option<&'a str>,
    /// What the phone calls itself.
    pub(super) agent: &'a str,
}

impl Calls {
    /// Which call a request is for: the one whose Call-ID it names, else the most prominent one of the extension that
    /// it names, else of the phone that has sent it.
    pub(super) fn meant_by(
        &self,
        flow: &FlowKey,
        asked: &url_record::Asked,
        context: &Context<'_>,
    ) -> Option<CallKey> {
        let by_call_id = asked.call_id.as_ref().and_then(|call_id| self.by_call_id.get(call_id.as_bytes()));
        if let Some(&call) = by_call_id.filter(|call| self.get(**call).is_some_and(|call| !call.is_over())) {
            return Some(call);
        }
        if let Some(extension) = &asked.extension {
            return self.most_prominent(&Whom::User(extension.as_str().into()), context);
        }
        let phone = Caller { host: flow.source.ip, user: None, agent: &asked.agent };
        self.of_phone(&phone, context, |_| true)
            .or_else(|| self.most_prominent(&Whom::Device(asked.device?), context))
    }

    /// The most prominent call of a phone. A host may be a PBX, with calls of many phones: one of those is meant only
    /// if it is told which.
    pub(super) fn of_phone(
        &self,
        phone: &Caller<'_>,
        context: &Context<'_>,
        fits: impl Fn(&Call) -> bool,
    ) -> Option<CallKey> {
        let host = Whom::Host(phone.host);
        if let Some(user) = phone.user.filter(|user| !user.is_empty()) {
            // Of a user there are fewer calls than of a PBX.
            let user = Whom::User(user.into());
            let found = self.most_prominent_of(&user, context, |call| fits(call) && call.has_name(&host));
            if found.is_some() {
                return found;
            }
        }
        let candidates = self.conversations_of(&host).filter(|call| fits(call));
        let mut users = candidates.map(|call| call.party_at(phone.host).map(|party| &party.user));
        let first = users.next()?;
        if users.all(|user| user == first) {
            return self.most_prominent_of(&host, context, fits);
        }
        // Another phone's name is not this one's, nor is the PBX's.
        let name = product(phone.agent)?;
        self.most_prominent_of(&host, context, |call| {
            fits(call) && call.party_at(phone.host).and_then(|party| product(&party.user_agent)) == Some(name)
        })
    }

    /// Of the calls of that name that go on, the one that is most likely meant.
    fn most_prominent(&self, name: &Whom, context: &Context<'_>) -> Option<CallKey> {
        self.most_prominent_of(name, context, |_| true)
    }

    pub(super) fn most_prominent_of(
        &self,
        name: &Whom,
        context: &Context<'_>,
        fits: impl Fn(&Call) -> bool,
    ) -> Option<CallKey> {
        let calls = self.conversations_of(name).filter(|call| fits(call));
        calls.max_by_key(|call| call.prominence(context)).map(|call| call.key)
    }

    /// The calls of that name in which people talk.
    fn conversations_of(&self, name: &Whom) -> impl Iterator<Item = &Call> {
        let calls = self.directory.find(name).filter_map(|key| self.get(key));
        calls.filter(|call| !call.is_over() && call.is_conversation())
    }

    /// Which call a recording session records, if that is seen.
    pub(super) fn original_of(
        &self,
        found: &Recognised,
        flow: &FlowKey,
        context: &Context<'_>,
    ) -> Option<Original> {
        let by_call_id = found.originals.iter().filter_map(|id| self.by_call_id.get(id).copied());
        let by_call_id =
            by_call_id.into_iter().find(|key| self.get(*key).is_some_and(|call| call.is_conversation()));
        let by_token = || {
            let tokens = found.originals.iter().map(|id| Whom::Token(id.clone()));
            tokens.into_iter().find_map(|token| self.most_prominent(&token, context))
        };
        let user = |user: &String| Whom::User(user.as_str().into());
        let by_users = || {
            let mut users = found.users.iter().map(user);
            let (first, second) = (users.next()?, users.next()?);
            self.most_prominent_of(&first, context, |call| call.has_name(&second))
        };
        // A phone that calls a recorder by itself talks to somebody already. Behind a PBX the number alone tells whose
        // phone it is.
        let by_phone = || {
            let is_up = |call: &Call| call.is_answered();
            let name = found.users.first()?;
            let phone = Caller { host: flow.source.ip, user: Some(name), agent: &found.agent };
            let by_user = || self.most_prominent_of(&user(name), context, is_up);
            self.of_phone(&phone, context, is_up).or_else(by_user)
        };
        let key = match found.carries {
            Carries::Parties => by_call_id.or_else(by_token).or_else(by_users),
            Carries::Mixed => by_phone(),
        };
        key.and_then(|key| self.get(key)).map(Original::of)
    }

    /// The call that is meant, and how many may have been. By id and Call-ID also one that has just ended.
    pub(super) fn find(&self, target: &Target) -> Result<(CallKey, usize), Refusal> {
        let mut meant = self.meant(target);
        match target {
            Target::Id(_) | Target::CallId(_) if meant.len() > 1 => {
                return Err(Refusal::Ambiguous(meant.len()));
            }
            Target::Id(_) | Target::CallId(_) => {}
            Target::Dn(_) | Target::Token(_) => meant.retain(|call| !call.is_over()),
        }
        // Of a call and what records it, the call: it takes the others along.
        let rank = |call: &&&Call| (call.is_conversation(), call.answer, call.key.generation);
        let latest = meant.iter().max_by_key(rank);
        latest.map(|call| (call.key, meant.len())).ok_or(Refusal::NoCall)
    }

    /// Calls that are known and may be meant.
    pub(super) fn meant(&self, target: &Target) -> Vec<&Call> {
        match target {
            Target::Id(digits) => {
                self.calls.iter().map(|(_, call)| call).filter(|call| call.id.begins_with(digits)).collect()
            }
            Target::CallId(call_id) => {
                let key = self.by_call_id.get(call_id.as_bytes());
                key.and_then(|&key| self.get(key)).into_iter().collect()
            }
            Target::Token(token) => {
                let found = self.directory.find(&Whom::Token(token.as_bytes().into()));
                found.filter_map(|key| self.get(key)).collect()
            }
            Target::Dn(user) => {
                let found = self.directory.find(&Whom::User(user.as_str().into()));
                let calls = found.filter_map(|key| self.get(key));
                calls.filter(|call| call.from.user == *user || call.to.user == *user).collect()
            }
        }
    }
}

impl Call {
    /// The party whose phone is at that host.
    fn party_at(&self, host: u128) -> Option<&Party> {
        let is_there =
            |party: &Party| party.address.is_some_and(|address| Endpoint::new(address, 0).ip == host);
        match (is_there(&self.from), is_there(&self.to)) {
            (true, false) => Some(&self.from),
            (false, true) => Some(&self.to),
            _ => None,
        }
    }
}

/// `Yealink SIP-T46G` of `Yealink SIP-T46G 28.81.0.25 00:15:65:74:B1:50`, `snomD385` of `snomD385/10.1.184.15`: what
/// comes before the first version.
fn product(agent: &str) -> Option<&str> {
    let version = agent.split([' ', '/']).find(|word| word.contains('.') || word.contains(':'));
    let end = version.and_then(|version| agent.find(version)).unwrap_or(agent.len());
    Some(agent[..end].trim_end_matches([' ', '/'])).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phone_calls_itself() {
        assert_eq!(product("Yealink SIP-T46G 28.81.0.25 00:15:65:74:B1:50"), Some("Yealink SIP-T46G"));
        assert_eq!(product("snomD385/10.1.184.15"), Some("snomD385"));
        assert_eq!(product("Asterisk PBX"), Some("Asterisk PBX"));
        assert_eq!(product(""), None);
    }
}
