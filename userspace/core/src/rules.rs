//! What is recorded: rules, of which the first that matches a call decides.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use regex::Regex;

use crate::record::{Id, Side};
use crate::recording_session::Recorder;
use crate::schedule::{self, Hours, Weekdays, Zone};
use crate::share::Share;
use crate::time::{SECOND, Timestamp};
use crate::trigger::feature_code::Code;
use crate::trigger::url_record::Template;

/// What a rule does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Records the whole call; triggers are kept as marks.
    All,
    /// Records from trigger to trigger.
    OnDemand,
    /// Records nothing.
    Ignore,
}

impl Action {
    /// The word used in configuration and catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::All => "all",
            Action::OnDemand => "on-demand",
            Action::Ignore => "ignore",
        }
    }
}

/// Where a whole-call recording begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beginning {
    /// With the first media packet, early media included.
    #[default]
    Media,
    /// With the 2xx.
    Answer,
}

/// What a recording on demand holds of the time before its trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookBack {
    /// So many nanoseconds.
    For(i64),
    /// All since the first media packet.
    CallStart,
}

/// What happens when the PBX refuses a record trigger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRefused {
    /// The phone shows that nothing is recorded, so nothing is.
    #[default]
    FollowServer,
    /// The PBX cannot record and says so; this recorder can, and does what the key says.
    HonourKey,
}

/// What becomes of paused time in a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paused {
    /// Silence of the same length: the rest stands where it was said.
    #[default]
    Silence,
    /// Nothing: the recording is shorter by as much.
    Cut,
}

/// Whether a call stays within the house, by the users that the configuration calls internal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallDirection {
    /// From outside to an internal user.
    Inbound,
    /// From an internal user to outside.
    Outbound,
    /// Between internal users.
    Internal,
    /// Between others.
    External,
}

/// A rule: all conditions that are given must hold.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Shown in the catalog.
    pub name: String,
    /// User part of From matches one of these.
    pub from: Vec<Regex>,
    /// User part of To matches one of these.
    pub to: Vec<Regex>,
    /// Either matches one of these.
    pub party: Vec<Regex>,
    /// User part of From or To is one of these, or of the one of them that `dn_side` says.
    pub dn: Vec<String>,
    /// Whose number it must be.
    pub dn_side: Option<Side>,
    /// The call begins within these, in the time of the rules' zone.
    pub hours: Vec<Hours>,
    /// The call, or the hours in which it begins, begin on one of these.
    pub days: Weekdays,
    /// One of these.
    pub direction: Vec<CallDirection>,
    /// Some address of the call's signalling or media lies in one of these.
    pub network: Vec<IpNet>,
    /// Some codec of the call has one of these names.
    pub codec: Vec<String>,
    /// So many of a hundred calls, chosen by their Call-ID: the same ones wherever they are looked at.
    pub percent: u8,
    /// What to do.
    pub action: Action,
    /// For [`Action::All`].
    pub beginning: Beginning,
    /// For [`Action::OnDemand`].
    pub look_back: LookBack,
    /// For triggers.
    pub on_refused: OnRefused,
    /// For pauses.
    pub paused: Paused,
    /// Keys that a party may press.
    pub feature_codes: Arc<[Code]>,
}

impl Rule {
    /// A rule without conditions.
    pub fn new(name: &str, action: Action) -> Rule {
        Rule {
            name: name.to_owned(),
            from: Vec::new(),
            to: Vec::new(),
            party: Vec::new(),
            dn: Vec::new(),
            dn_side: None,
            hours: Vec::new(),
            days: Weekdays::default(),
            direction: Vec::new(),
            network: Vec::new(),
            codec: Vec::new(),
            percent: 100,
            action,
            beginning: Beginning::default(),
            look_back: LookBack::For(0),
            on_refused: OnRefused::default(),
            paused: Paused::default(),
            feature_codes: Arc::default(),
        }
    }

    fn has_dn(&self, facts: &Facts<'_>) -> bool {
        let is = |user: &str| self.dn.iter().any(|dn| dn == user);
        match self.dn_side {
            Some(Side::Caller) => is(facts.from),
            Some(Side::Callee) => is(facts.to),
            None => is(facts.from) || is(facts.to),
        }
    }

    /// Whether audio is kept before anything asks for it.
    pub fn keeps_look_back(&self) -> bool {
        self.action == Action::OnDemand && self.look_back != LookBack::For(0)
    }
}

/// What is known of a call when its rule is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// SIP Call-ID.
    pub call_id: &'a str,
    /// When it began.
    pub start: Timestamp,
    /// User part of From.
    pub from: &'a str,
    /// User part of To.
    pub to: &'a str,
    /// Addresses of its signalling and media.
    pub addresses: &'a [IpAddr],
    /// Names of its codecs.
    pub codecs: &'a [String],
}

/// The rules in their order. Where none matches, the whole call is recorded. A clone is the same rules: each
/// call keeps those that it began under.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Arc<[Rule]>,
    internal: Arc<[Regex]>,
    zone: Zone,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::new(Vec::new(), Vec::new())
    }
}

impl Rules {
    /// Takes the rules, and the patterns of users that are internal.
    pub fn new(mut rules: Vec<Rule>, internal: Vec<Regex>) -> Rules {
        rules.push(Rule::new("default", Action::All));
        Rules { rules: rules.into(), internal: internal.into(), zone: Zone::default() }
    }

    /// The same rules, with hours and days in the time of a place.
    pub fn in_zone(self, zone: Zone) -> Rules {
        Rules { zone, ..self }
    }

    /// Where hours and days are told.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The index of the first rule that matches.
    pub fn decide(&self, facts: &Facts<'_>) -> usize {
        let last = self.rules.len() - 1;
        self.rules.iter().position(|rule| self.matches(rule, facts)).unwrap_or(last)
    }

    /// A rule by its index.
    pub fn get(&self, index: usize) -> &Rule {
        &self.rules[index]
    }

    /// The rules in their order, that for all the rest included.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    fn matches(&self, rule: &Rule, facts: &Facts<'_>) -> bool {
        let any = |patterns: &[Regex], users: &[&str]| {
            patterns.is_empty()
                || patterns.iter().any(|pattern| users.iter().any(|user| pattern.is_match(user)))
        };
        any(&rule.from, &[facts.from])
            && any(&rule.to, &[facts.to])
            && any(&rule.party, &[facts.from, facts.to])
            && (rule.dn.is_empty() || rule.has_dn(facts))
            && schedule::holds(&rule.hours, rule.days, self.zone.local(facts.start))
            && (rule.direction.is_empty() || rule.direction.contains(&self.direction(facts)))
            && (rule.network.is_empty()
                || rule.network.iter().any(|net| facts.addresses.iter().any(|address| net.contains(address))))
            && (rule.codec.is_empty()
                || rule.codec.iter().any(|name| {
                    facts.codecs.iter().any(|codec| {
                        codec.split('/').next().is_some_and(|codec| codec.eq_ignore_ascii_case(name))
                    })
                }))
            && (rule.percent >= 100 || share(facts.call_id) < u32::from(rule.percent))
    }

    /// Whether under any of them keys do something.
    pub fn have_feature_codes(&self) -> bool {
        self.rules.iter().any(|rule| !rule.feature_codes.is_empty())
    }

    /// Whether a user belongs to the house, if the configuration says who does.
    pub fn is_internal(&self, user: &str) -> Option<bool> {
        let internal = || self.internal.iter().any(|pattern| pattern.is_match(user));
        (!self.internal.is_empty()).then(internal)
    }

    fn direction(&self, facts: &Facts<'_>) -> CallDirection {
        let internal = |user: &str| self.is_internal(user).unwrap_or_default();
        match (internal(facts.from), internal(facts.to)) {
            (true, true) => CallDirection::Internal,
            (true, false) => CallDirection::Outbound,
            (false, true) => CallDirection::Inbound,
            (false, false) => CallDirection::External,
        }
    }
}

/// From 0 to 99, as good as evenly spread.
fn share(call_id: &str) -> u32 {
    let [a, b, c, d, ..] = Id::derive(&[b"percent", call_id.as_bytes()]).0;
    u32::from_be_bytes([a, b, c, d]) % 100
}

/// A glob (`*` any characters, `?` one) as a regular expression over the whole user part.
pub fn glob(pattern: &str) -> Result<Regex, regex::Error> {
    let mut expression = String::from("^(?:");
    for character in pattern.chars() {
        match character {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push_str(")$");
    Regex::new(&expression)
}

/// How the engine is to work.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is recorded.
    pub rules: Rules,
    /// Keep audio of what is to be recorded; without it there are no tapes and no recordings, but all that is to be known
    /// of calls and streams.
    pub audio: bool,
    /// Say by [`Event::Media`](crate::event::Event::Media) which media is wanted.
    pub announces_media: bool,
    /// Say by [`Event::Signalled`](crate::event::Event::Signalled) what another engine has to know to go on with the
    /// calls of this one.
    pub tells_signalling: bool,
    /// Give by [`Event::TapePacket`](crate::event::Event::TapePacket) all packets that are recorded, those that are
    /// decoded too.
    pub keeps_packets: bool,
    /// Ports of SIP, beside any on which a payload begins like it.
    pub sip_ports: Vec<u16>,
    /// Ports of a collector, on which the copies in HEP are read as what they are copies of.
    pub hep_ports: Vec<u16>,
    /// Record RTP that belongs to no call as well.
    pub orphans: bool,
    /// Names of the header fields by which phones ask for a recording in INFO.
    pub record_headers: Vec<String>,
    /// Record triggers by HTTP; the first one that fits a request tells what it asks for.
    pub urls: Vec<Template>,
    /// Names of header fields that say which calls belong together: they have the same value, or the Call-ID of the
    /// other call.
    pub correlation_headers: Vec<String>,
    /// Recorders to which calls are sent; those by SIPREC and some others are known without.
    pub recorders: Vec<Recorder>,
    /// A call that had media and has none for so long (nanoseconds) is over: its BYE was lost.
    pub rtp_timeout: i64,
    /// The same for a call on hold.
    pub hold_timeout: i64,
    /// An INVITE without a final answer is given up after so long.
    pub ring_timeout: i64,
    /// Keys of a feature code that are pressed further apart (nanoseconds) are none.
    pub digit_timeout: i64,
    /// A call without media and without signalling is given up after so long.
    pub idle_timeout: i64,
    /// Bytes that all state takes at most, about. What has been idle longest goes first, and calls that are being
    /// recorded last.
    pub max_memory: usize,
    /// Calls kept at most; the one with which least is lost goes first.
    pub max_calls: usize,
    /// Media flows kept at most.
    pub max_flows: usize,
    /// TCP connections (each direction) kept at most.
    pub max_tcp_flows: usize,
    /// Incomplete IP packets kept at most.
    pub max_fragments: usize,
    /// Flows without a call of which the last seconds are kept, in case a call claims them. When there are more, only
    /// those of the first second are.
    pub max_unclaimed: usize,
    /// Which calls are this engine's own, of several that see the same frames.
    pub share: Share,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            rules: Rules::default(),
            audio: true,
            share: Share::default(),
            announces_media: false,
            tells_signalling: false,
            keeps_packets: false,
            sip_ports: vec![5060],
            hep_ports: Vec::new(),
            orphans: false,
            record_headers: ["Record", "X-Record"].map(str::to_owned).to_vec(),
            urls: Template::yealink(),
            correlation_headers: Vec::new(),
            recorders: Vec::new(),
            rtp_timeout: 60 * SECOND,
            hold_timeout: 2 * 3600 * SECOND,
            ring_timeout: 300 * SECOND,
            digit_timeout: SECOND,
            idle_timeout: 4 * 3600 * SECOND,
            max_memory: 2 << 30,
            max_calls: 100_000,
            max_flows: 500_000,
            max_tcp_flows: 100_000,
            max_fragments: 4096,
            max_unclaimed: 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(from: &'a str, to: &'a str) -> Facts<'a> {
        Facts { call_id: "1", start: Timestamp(0), from, to, addresses: &[], codecs: &[] }
    }

    #[test]
    fn the_first_match_decides() {
        let mut sales = Rule::new("sales", Action::OnDemand);
        sales.party = vec![glob("10?9").unwrap()];
        let mut outbound = Rule::new("outbound", Action::Ignore);
        outbound.direction = vec![CallDirection::Outbound];
        let rules = Rules::new(vec![sales, outbound], vec![glob("1???").unwrap()]);
        let decide = |from, to| rules.get(rules.decide(&facts(from, to))).name.clone();
        assert_eq!(decide("1009", "0301234"), "sales");
        assert_eq!(decide("1001", "0301234"), "outbound");
        assert_eq!(decide("0301234", "1001"), "default");
    }

    #[test]
    fn extensions_are_whole_numbers_of_either_side() {
        let rule = |side| {
            let mut rule = Rule::new("dn", Action::All);
            (rule.dn, rule.dn_side) = (vec!["7001".to_owned(), "7002".to_owned()], side);
            Rules::new(vec![rule], Vec::new())
        };
        let matches = |side, from, to| rule(side).decide(&facts(from, to)) == 0;
        assert!(matches(None, "7001", "1") && matches(None, "1", "7002"));
        assert!(!matches(None, "70011", "17001") && !matches(None, "", ""));
        assert!(matches(Some(Side::Caller), "7001", "1") && !matches(Some(Side::Caller), "1", "7001"));
        assert!(matches(Some(Side::Callee), "1", "7001") && !matches(Some(Side::Callee), "7001", "1"));
    }

    #[test]
    fn hours_are_those_of_the_zone_and_combine_with_other_conditions() {
        let mut office = Rule::new("office", Action::All);
        office.hours = vec![Hours::parse("08:00-18:00").unwrap()];
        office.party = vec![glob("10??").unwrap()];
        let rules = Rules::new(vec![office], Vec::new());
        let at = |rules: &Rules, hour: i64, from: &str| {
            let start = Timestamp(hour * 3600 * SECOND);
            rules.decide(&Facts { start, ..facts(from, "2") }) == 0
        };
        assert!(at(&rules, 8, "1009") && !at(&rules, 7, "1009") && !at(&rules, 8, "2009"));
        let rules = rules.in_zone(Zone::new("", 3600, Vec::new()));
        assert!(at(&rules, 7, "1009") && !at(&rules, 17, "1009"));
    }

    #[test]
    fn a_share_of_the_calls_by_their_call_id() {
        let mut tenth = Rule::new("tenth", Action::All);
        tenth.percent = 10;
        let rules = Rules::new(vec![tenth], Vec::new());
        let chosen = |number: &u32| {
            let call_id = format!("{number}@host");
            rules.decide(&Facts { call_id: &call_id, ..facts("1", "2") }) == 0
        };
        let count = (0..10_000).filter(chosen).count();
        assert!((900..1100).contains(&count), "{count}");
        assert!((0..100).all(|number| chosen(&number) == chosen(&number)));
    }

    #[test]
    fn globs_match_the_whole_user() {
        assert!(glob("+49*").unwrap().is_match("+4930123"));
        assert!(!glob("100").unwrap().is_match("1001"));
        assert!(!glob("1.0").unwrap().is_match("100"));
    }
}
