//! Record triggers by HTTP, and where calls are sent to be recorded.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Error as _;
use spantape_core::recording_session::{Carries, Recorder};
use spantape_core::trigger::Verb;
use spantape_core::trigger::feature_code::Effect;
use spantape_core::trigger::url_record::{ACTIONS, Answers, Meaning, Template};

use super::regexes;
use super::value::{Pattern, Patterns};

/// A record trigger by HTTP.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypedUrl {
    pub(super) url: String,
    /// Of User-Agent.
    agent: Option<Pattern>,
    /// What it always means.
    does: Option<TypedEffect>,
    /// What `{action}` stands for.
    actions: Option<BTreeMap<String, TypedEffect>>,
    answer: Option<TypedAnswer>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedEffect {
    Start,
    Stop,
    Toggle,
    Pause,
    Resume,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedAnswer {
    Status,
    Text,
}

/// Where calls are sent to be recorded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TypedRecorder {
    uri: Patterns,
    #[serde(default)]
    carries: TypedCarries,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedCarries {
    #[default]
    Mixed,
    Parties,
}

pub(super) fn url(typed: TypedUrl) -> Result<Template, toml::de::Error> {
    let meaning = match (typed.does, typed.actions) {
        (Some(effect), None) => Meaning::Always(effect.into()),
        (None, Some(actions)) => {
            Meaning::Action(actions.into_iter().map(|(name, effect)| (name, effect.into())).collect())
        }
        (None, None) if typed.url.contains("{action}") => {
            Meaning::Action(ACTIONS.iter().map(|(name, effect)| ((*name).to_owned(), *effect)).collect())
        }
        (None, None) => Meaning::Always(Effect::Toggle),
        (Some(_), Some(_)) => {
            let reason = format!("`{}`: either `does` or `actions` says what it means", typed.url);
            return Err(toml::de::Error::custom(reason));
        }
    };
    // The same request for on and off: nothing but the text can tell them apart.
    let by_text = meaning == Meaning::Always(Effect::Toggle);
    let answer = match typed.answer {
        Some(TypedAnswer::Status) => Answers::Status,
        Some(TypedAnswer::Text) => Answers::Text,
        None if by_text => Answers::Text,
        None => Answers::Status,
    };
    let agent = typed.agent.map(|pattern| pattern.0);
    Template::new(&typed.url, agent, meaning, answer).map_err(toml::de::Error::custom)
}

impl From<TypedEffect> for Effect {
    fn from(typed: TypedEffect) -> Effect {
        match typed {
            TypedEffect::Start => Effect::Verb(Verb::Start),
            TypedEffect::Stop => Effect::Verb(Verb::Stop),
            TypedEffect::Toggle => Effect::Toggle,
            TypedEffect::Pause => Effect::Verb(Verb::Pause),
            TypedEffect::Resume => Effect::Verb(Verb::Resume),
        }
    }
}

pub(super) fn recorders(typed: TypedRecorder) -> impl Iterator<Item = Recorder> {
    let carries = match typed.carries {
        TypedCarries::Mixed => Carries::Mixed,
        TypedCarries::Parties => Carries::Parties,
    };
    regexes(typed.uri).into_iter().map(move |uri| Recorder { uri, carries })
}
