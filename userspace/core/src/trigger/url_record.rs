//! Record keys that fetch a URL: Yealink's *URL Record*, action URLs, and whatever else a template describes.
//!
//! Yealink's key sends the same GET at each press, so that nothing but the text of the answer says what has happened.

use percent_encoding::percent_decode_str;
use regex::Regex;

use super::feature_code::Effect;
use super::{Answer, Outcome, Verb};
use crate::http::Head;

/// The word by which the catalog names this system.
pub const NAME: &str = "url-record";

/// What a request that is a record trigger looks like.
#[derive(Clone, Debug)]
pub struct Template {
    path: Regex,
    /// Parameters of the query that must be there, in whatever order, and what they may be.
    query: Vec<(String, Regex)>,
    /// Matches User-Agent.
    agent: Option<Regex>,
    meaning: Meaning,
    answer: Answers,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Always this.
    Always(Effect),
    /// What the value of `{action}` stands for.
    Action(Vec<(String, Effect)>),
}

/// What tells whether the server has agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// The status alone.
    Status,
    /// The text of a Yealink IP phone document: it even tells what has been done.
    Text,
    /// The same; and where it says nothing of a recording, there was no trigger.
    TextOrNothing,
}

/// A request that is a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What for.
    pub effect: Effect,
    /// What tells how it ended.
    pub answer: Answers,
    /// `{ext}`: who is to be recorded.
    pub extension: Option<String>,
    /// `{call_id}`: may be a Call-ID.
    pub call_id: Option<String>,
    /// `{mac}`, or what User-Agent has: the phone's hardware address.
    pub device: Option<u64>,
    /// User-Agent.
    pub agent: String,
}

/// Why a template is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without `}`, or nothing within.
    #[error("`{0}`: a placeholder is a name in braces, such as {{action}}")]
    Placeholder(String),
    /// A parameter of the query without `=`.
    #[error("`{0}`: a parameter is a name, `=` and a value")]
    Parameter(String),
    /// The same name twice, or something beyond what can be looked for.
    #[error("`{0}` cannot be looked for")]
    Pattern(String),
}

/// What the actions of a template stand for unless it says otherwise.
pub const ACTIONS: [(&str, Effect); 15] = [
    ("start", Effect::Verb(Verb::Start)),
    ("on", Effect::Verb(Verb::Start)),
    ("1", Effect::Verb(Verb::Start)),
    ("true", Effect::Verb(Verb::Start)),
    ("record", Effect::Verb(Verb::Start)),
    ("stop", Effect::Verb(Verb::Stop)),
    ("off", Effect::Verb(Verb::Stop)),
    ("0", Effect::Verb(Verb::Stop)),
    ("false", Effect::Verb(Verb::Stop)),
    ("pause", Effect::Verb(Verb::Pause)),
    ("suspend", Effect::Verb(Verb::Pause)),
    ("mute", Effect::Verb(Verb::Pause)),
    ("resume", Effect::Verb(Verb::Resume)),
    ("unmute", Effect::Verb(Verb::Resume)),
    ("toggle", Effect::Toggle),
];

impl Template {
    /// Reads `path?name=value&…`, in which `{name}` stands for a value, `*` for anything. What `{action}` may be is
    /// in `meaning`; without it that must say what is always meant.
    pub fn new(
        url: &str,
        agent: Option<Regex>,
        meaning: Meaning,
        answer: Answers,
    ) -> Result<Template, TemplateError> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let mut parameters = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) =
                parameter.split_once('=').ok_or_else(|| TemplateError::Parameter(parameter.to_owned()))?;
            parameters.push((name.to_owned(), pattern(value)?));
        }
        Ok(Template { path: pattern(path)?, query: parameters, agent, meaning, answer })
    }

    /// Paths that Yealink's phones ask for out of the box.
    pub const YEALINK: [&str; 2] = ["/URLRecord/record.xml", "/phonerecording.cgi"];

    /// What Yealink's phones ask for out of the box, and what any URL of theirs comes to if the answer speaks of a
    /// recording.
    pub fn yealink() -> Vec<Template> {
        let toggle = || Meaning::Always(Effect::Toggle);
        let agent = Regex::new("(?i)yealink").ok();
        let urls = [
            (Template::YEALINK[0], None, Answers::Text),
            (Template::YEALINK[1], None, Answers::Text),
            ("*", agent, Answers::TextOrNothing),
        ];
        let made = urls.into_iter().map(|(url, agent, answer)| Template::new(url, agent, toggle(), answer));
        made.filter_map(Result::ok).collect()
    }

    /// The path up to its first placeholder.
    pub fn literal_path(url: &str) -> &str {
        url.split(['?', '{', '*']).next().unwrap_or_default()
    }

    /// What a request asks for, if it is one of these.
    pub fn read(&self, head: &Head<'_>) -> Option<Asked> {
        let Head::Request { target, user_agent, .. } = head else { return None };
        let agent = std::str::from_utf8(user_agent).unwrap_or_default();
        if self.agent.as_ref().is_some_and(|wanted| !wanted.is_match(agent)) {
            return None;
        }
        let (path, query) = split_target(target);
        let path = decode(path);
        let mut found = Placeholders::default();
        found.take(&self.path, &path)?;
        let given: Vec<(String, String)> = query
            .split('&')
            .take(MAX_PARAMETERS)
            .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect();
        for (name, wanted) in &self.query {
            let (_, value) = given.iter().find(|(given, _)| given.eq_ignore_ascii_case(name))?;
            found.take(wanted, value)?;
        }
        let effect = match &self.meaning {
            Meaning::Always(effect) => *effect,
            Meaning::Action(actions) => {
                let action = found.action?;
                let known = actions.iter().find(|(name, _)| name.eq_ignore_ascii_case(&action));
                known.map(|(_, effect)| *effect)?
            }
        };
        Some(Asked {
            effect,
            answer: self.answer,
            extension: found.extension,
            call_id: found.call_id,
            device: found.device.as_deref().and_then(device).or_else(|| device(agent)),
            agent: agent.to_owned(),
        })
    }
}

/// Parameters looked at.
const MAX_PARAMETERS: usize = 32;

#[derive(Default)]
struct Placeholders {
    action: Option<String>,
    extension: Option<String>,
    call_id: Option<String>,
    device: Option<String>,
}

impl Placeholders {
    fn take(&mut self, pattern: &Regex, text: &str) -> Option<()> {
        let captures = pattern.captures(text)?;
        let take = |place: &mut Option<String>, name: &str| {
            if let Some(value) = captures.name(name).filter(|value| !value.is_empty()) {
                *place = Some(value.as_str().to_owned());
            }
        };
        take(&mut self.action, "action");
        take(&mut self.extension, "ext");
        take(&mut self.call_id, "call_id");
        take(&mut self.device, "mac");
        Some(())
    }
}

/// A pattern over a whole text.
fn pattern(text: &str) -> Result<Regex, TemplateError> {
    let mut expression = String::from("(?s)^");
    let mut rest = text;
    while let Some(place) = rest.find(['{', '*']) {
        expression.push_str(&regex::escape(&rest[..place]));
        rest = &rest[place..];
        if let Some(behind) = rest.strip_prefix('*') {
            expression.push_str(".*");
            rest = behind;
            continue;
        }
        let end = rest.find('}').ok_or_else(|| TemplateError::Placeholder(text.to_owned()))?;
        let name = &rest[1..end];
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(TemplateError::Placeholder(text.to_owned()));
        }
        expression.push_str(&format!("(?P<{name}>[^/]*)"));
        rest = &rest[end + 1..];
    }
    expression.push_str(&regex::escape(rest));
    expression.push('$');
    Regex::new(&expression).map_err(|_| TemplateError::Pattern(text.to_owned()))
}

/// Path and query of a request target, whose scheme and host do not matter (RFC 9112, 3.2).
fn split_target(target: &str) -> (&str, &str) {
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.find(['/', '?']).map_or("", |place| &rest[place..]),
        None => target,
    };
    let target = target.split('#').next().unwrap_or_default();
    target.split_once('?').unwrap_or((target, ""))
}

/// Undoes percent-encoding (RFC 3986, 2.1) where it is valid.
fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The hardware address within a text: twelve hex digits, in a row or in pairs set apart by `:` or `-`.
pub fn device(text: &str) -> Option<u64> {
    text.split(|character: char| !(character.is_ascii_hexdigit() || matches!(character, ':' | '-'))).find_map(
        |word| {
            let digits: String = word.chars().filter(char::is_ascii_hexdigit).collect();
            let marks = word.len() - digits.len();
            let is_address = digits.len() == 12 && (marks == 0 || marks == 5);
            is_address.then(|| u64::from_str_radix(&digits, 16).ok()).flatten()
        },
    )
}

/// What is on after the press, and in which words that was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Started,
    Stopped,
    /// It is on, though that was not asked for.
    StaysOn,
    /// It is off, though that was not asked for.
    StaysOff,
}

/// In this order they are looked for.
const PHRASES: [(&str, Said); 6] = [
    ("successfully started", Said::Started),
    ("cannot be stopped", Said::StaysOn),
    ("successfully stopped", Said::Stopped),
    ("the recording box is full", Said::StaysOff),
    ("cannot be started", Said::StaysOff),
    ("cannot be recorded", Said::StaysOff),
];

/// What an answer says. `is_on`: whether the call was being recorded before. `None`: there was no trigger.
pub fn answer(how: Answers, status: u16, body: &[u8], is_on: bool) -> Option<Answer> {
    let outcome = if (200..300).contains(&status) { Outcome::Confirmed } else { Outcome::Refused(status) };
    let by_status = Answer { outcome, verb: None, words: String::new() };
    if how == Answers::Status {
        return Some(by_status);
    }
    let text = text_of(body);
    let said = PHRASES.iter().find(|(phrase, _)| text.contains(phrase)).map(|(_, said)| *said);
    let Some(said) = said.filter(|_| outcome == Outcome::Confirmed) else {
        return match (how, outcome) {
            (Answers::TextOrNothing, _) => None,
            // Without a word of what was done the phone changes nothing.
            (_, Outcome::Confirmed) => Some(Answer { outcome: Outcome::Unconfirmed, ..by_status }),
            _ => Some(by_status),
        };
    };
    let (verb, outcome) = match (said, is_on) {
        (Said::Started, _) | (Said::StaysOn, false) => (Verb::Start, Outcome::Confirmed),
        (Said::Stopped, _) | (Said::StaysOff, true) => (Verb::Stop, Outcome::Confirmed),
        (Said::StaysOn, true) => (Verb::Stop, Outcome::Refused(status)),
        (Said::StaysOff, false) => (Verb::Start, Outcome::Refused(status)),
    };
    Some(Answer { outcome, verb: Some(verb), words: text })
}

/// So much of a text is kept.
const MAX_WORDS: usize = 120;

/// The text of the first element `Text` within the first one whose name has `IPPhoneText` in it, in lower case and
/// with single spaces. Documents in the field are not always well formed.
fn text_of(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body).to_ascii_lowercase();
    let element = body.find("ipphonetext").map(|place| &body[place..]).unwrap_or_default();
    let text = ["<text>", "<text "].iter().filter_map(|tag| element.find(tag)).min().map(|at| &element[at..]);
    let text = text.and_then(|text| Some(&text[text.find('>')? + 1..])).unwrap_or_default();
    let text = match text.trim_start().strip_prefix("<![cdata[") {
        Some(inner) => inner.split("]]>").next().unwrap_or_default(),
        None => text.split('<').next().unwrap_or_default(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(target: &'a str, user_agent: &'a str) -> Head<'a> {
        Head::Request { method: "GET", target, user_agent: user_agent.as_bytes() }
    }

    fn actions() -> Meaning {
        Meaning::Action(ACTIONS.iter().map(|(name, effect)| ((*name).to_owned(), *effect)).collect())
    }

    #[test]
    fn yealink_out_of_the_box() {
        let read = |head: Head<'_>| Template::yealink().iter().find_map(|template| template.read(&head));
        let agent = "Yealink SIP-T46G 28.81.0.25 00:15:65:74:B1:50";
        let asked = read(get("/URLRecord/record.xml", agent)).unwrap();
        assert_eq!((asked.effect, asked.answer), (Effect::Toggle, Answers::Text));
        assert_eq!(asked.device, Some(0x0015_6574_b150));
        assert!(read(get("http://10.0.0.1/phonerecording.cgi?model=yealink", "x")).is_some());
        assert_eq!(read(get("/anything?a=b", agent)).unwrap().answer, Answers::TextOrNothing);
        assert_eq!(read(get("/anything", "Mozilla/5.0")), None);
    }

    #[test]
    fn a_template_of_any_vendor() {
        let template = Template::new(
            "/rec/{ext}/do.php?action={action}&id={call_id}&v=2",
            None,
            actions(),
            Answers::Status,
        );
        let template = template.unwrap();
        let asked = template.read(&get("/rec/7001/do.php?v=2&x=&id=a%40b+c&ACTION=Pause", "")).unwrap();
        assert_eq!(asked.effect, Effect::Verb(Verb::Pause));
        assert_eq!(asked.extension.as_deref(), Some("7001"));
        assert_eq!(asked.call_id.as_deref(), Some("a@b+c"));
        assert_eq!(template.read(&get("/rec/7001/do.php?v=3&id=a&action=stop", "")), None);
        assert_eq!(template.read(&get("/rec/7001/do.php?v=2&id=a&action=dance", "")), None);
        assert_eq!(template.read(&get("/rec/70/01/do.php?v=2&id=a&action=stop", "")), None);
        assert_eq!(Template::literal_path("/rec/{ext}?a=b"), "/rec/");
    }

    #[test]
    fn templates_that_are_none() {
        let new = |url| Template::new(url, None, actions(), Answers::Status).map(|_| ());
        assert!(matches!(new("/a/{ext"), Err(TemplateError::Placeholder(_))));
        assert!(matches!(new("/a?{}=b"), Ok(())));
        assert!(matches!(new("/a?b={}"), Err(TemplateError::Placeholder(_))));
        assert!(matches!(new("/a?b"), Err(TemplateError::Parameter(_))));
        assert!(matches!(new("/{ext}/{ext}"), Err(TemplateError::Pattern(_))));
    }

    #[test]
    fn hardware_addresses() {
        assert_eq!(device("x 001565AABBCC y"), Some(0x0015_65aa_bbcc));
        assert_eq!(device("00-15-65-aa-bb-cc"), Some(0x0015_65aa_bbcc));
        assert_eq!(device("28.81.0.25"), None);
        assert_eq!(device("0015:65aa:bbcc"), None);
    }

    fn document(text: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<YealinkIPPhoneTextScreen Beep=\"no\">\n<Title>Record</Title>\n\
             <Text>{text}</Text>\n</YealinkIPPhoneText>"
        )
    }

    #[test]
    fn the_text_decides() {
        let said = |text: &str, is_on| {
            let answer = answer(Answers::Text, 200, document(text).as_bytes(), is_on)?;
            Some((answer.verb, answer.outcome))
        };
        let (start, stop) = (Some(Verb::Start), Some(Verb::Stop));
        let (yes, no) = (Outcome::Confirmed, Outcome::Refused(200));
        assert_eq!(said("The recording is Successfully\n started", false), Some((start, yes)));
        assert_eq!(said("The recording is successfully stopped", true), Some((stop, yes)));
        assert_eq!(said("Recording cannot be stopped", true), Some((stop, no)));
        assert_eq!(said("Recording cannot be stopped", false), Some((start, yes)));
        assert_eq!(said("The call cannot be recorded", false), Some((start, no)));
        assert_eq!(said("The recording box is full", true), Some((stop, yes)));
        assert_eq!(said("", false), Some((None, Outcome::Unconfirmed)));
        let refused = answer(Answers::Text, 503, document("successfully started").as_bytes(), false).unwrap();
        assert_eq!((refused.verb, refused.outcome), (None, Outcome::Refused(503)));
        assert_eq!(answer(Answers::TextOrNothing, 200, b"<html>", false), None);
    }

    #[test]
    fn texts_as_they_come() {
        assert_eq!(text_of(b"<aIPPhoneText><Text  x='1'> A  b</text>"), "a b");
        assert_eq!(
            text_of(b"<YealinkIPPhoneText><Text><![CDATA[ Cannot be <started> ]]></Text>"),
            "cannot be <started>"
        );
        assert_eq!(text_of(b"<Text>none</Text>"), "");
        assert_eq!(text_of(b"<YealinkIPPhoneText><Text"), "");
        assert_eq!(text_of(&[0xff; 40]), "");
    }
}
