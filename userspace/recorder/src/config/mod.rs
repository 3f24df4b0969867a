//! The configuration file: what is typed, and what it means to the engine.

mod archive;
mod audio;
mod retention;
mod triggers;
mod value;

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use regex::Regex;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use spantape_core::record::Side;
use spantape_core::rules::{Action, Beginning, CallDirection, Config, OnRefused, Paused, Rule, Rules};
use spantape_core::schedule::Weekdays;
use spantape_core::trigger::Verb;
use spantape_core::trigger::feature_code::{Code, Effect};
use spantape_core::trigger::url_record::Template;
use spantape_sieve::Ports;
use spantape_store::retention::Retention;

use triggers::{TypedRecorder, TypedUrl, recorders, url};
use value::{
    Bytes, Correlation, DayCount, Duration, Keys, Network, OneOrMore, Patterns, Percent, TypedDays,
    TypedHours, TypedLookBack, TypedZone,
};

pub(crate) use archive::node;

use crate::control::{SOCKET, Settings, Tcp};
use crate::finish::Audio;
use crate::source::memory::Sieving;

/// Less memory than this is of no use to the engine.
pub(crate) const LEAST_MEMORY: usize = 1 << 20;

/// A configuration file, as it is typed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    site: Site,
    signalling: Signalling,
    record: Record,
    audio: audio::Typed,
    capture: TypedCapture,
    archive: archive::Typed,
    retention: retention::Typed,
    control: TypedControl,
    srtp: TypedSrtp,
    correlation: Correlation,
    limits: Limits,
    url: Vec<TypedUrl>,
    recorder: Vec<TypedRecorder>,
    rule: Vec<TypedRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Site {
    /// Users that belong to the house: tells inbound from outbound.
    internal: Patterns,
    /// Of the hours and days of rules.
    time_zone: TypedZone,
}

/// Where signalling is found, beside where it shows itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Signalling {
    sip_ports: Option<Vec<u16>>,
    /// Of collectors to which signalling is copied.
    hep_ports: Vec<u16>,
    /// Ports and beginnings of paths of HTTP record triggers.
    http_ports: Vec<u16>,
    http_paths: Vec<String>,
    control_ports: Vec<u16>,
}

/// Live capture.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TypedCapture {
    rtp: TypedRtp,
    ring: Option<Bytes>,
    queue: Option<Bytes>,
    engines: Option<NonZeroU8>,
    media_endpoints: Option<u32>,
    connections: Option<u32>,
    busy_poll: bool,
    pass_rest: bool,
    promiscuous: Option<bool>,
}

/// What a recorder at work is told by hand.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TypedControl {
    socket: Option<PathBuf>,
    listen: Option<SocketAddr>,
    token_file: Option<PathBuf>,
}

/// Encrypted media.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TypedSrtp {
    keylog: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedRtp {
    #[default]
    Heuristic,
    Announced,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Record {
    headers: Option<Vec<String>>,
    rtp_timeout: Option<Duration>,
    hold_timeout: Option<Duration>,
    ring_timeout: Option<Duration>,
    digit_timeout: Option<Duration>,
    orphans: bool,
    audio: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    memory: Option<Bytes>,
    calls: Option<usize>,
    flows: Option<usize>,
    tcp_connections: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedRule {
    name: String,
    #[serde(default, rename = "match", deserialize_with = "conditions")]
    conditions: Conditions,
    action: TypedAction,
    #[serde(default)]
    from: TypedBeginning,
    #[serde(default)]
    lookback: TypedLookBack,
    #[serde(default)]
    on_refused: TypedOnRefused,
    #[serde(default)]
    paused: TypedPaused,
    #[serde(default)]
    feature_codes: TypedCodes,
    retention_days: Option<DayCount>,
}

/// What parties may press, by what it does.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TypedCodes {
    start: OneOrMore<Keys>,
    stop: OneOrMore<Keys>,
    toggle: OneOrMore<Keys>,
    pause: OneOrMore<Keys>,
    resume: OneOrMore<Keys>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Conditions {
    from: Patterns,
    to: Patterns,
    party: Patterns,
    /// Extension numbers, and whose they must be.
    dn: OneOrMore<String>,
    record: Option<TypedSide>,
    hours: OneOrMore<TypedHours>,
    days: OneOrMore<TypedDays>,
    direction: OneOrMore<TypedDirection>,
    network: OneOrMore<Network>,
    codec: OneOrMore<String>,
    percent: Option<Percent>,
}

fn conditions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Conditions, D::Error> {
    let conditions = Conditions::deserialize(deserializer)?;
    if conditions.record.is_some() && conditions.dn.0.is_empty() {
        return Err(D::Error::custom(
            "`record` says which party has one of the numbers in `dn`: there are none",
        ));
    }
    Ok(conditions)
}

/// Which party has an extension number, in Genesys' words.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedSide {
    Source,
    Destination,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedAction {
    All,
    OnDemand,
    Ignore,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedBeginning {
    #[default]
    Media,
    Answer,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedOnRefused {
    #[default]
    FollowServer,
    HonourKey,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedPaused {
    #[default]
    Silence,
    Cut,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TypedDirection {
    Inbound,
    Outbound,
    Internal,
    External,
}

/// What a configuration file means.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    /// To the engine.
    pub(crate) engine: Config,
    /// To live capture.
    pub(crate) capture: Capture,
    /// To whoever decodes.
    pub(crate) audio: Audio,
    /// To whoever tells a recorder at work what to do.
    pub(crate) control: Settings,
    /// A key log of DTLS, by which media is decrypted.
    pub(crate) key_log: Option<PathBuf>,
    /// Which of several recorders into one archive this is.
    pub(crate) node: Option<String>,
    /// To whoever purges the archive.
    pub(crate) retention: Retention,
}

/// How an interface is listened to.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    /// What the sieve is told.
    pub(crate) sieving: Sieving,
    /// Bytes of memory in which the kernel puts frames, for each queue of the interface.
    pub(crate) ring: u64,
    /// Bytes that may wait between the ring and the engine.
    pub(crate) queue: u64,
    /// Engines that have the calls between them, each on a thread of its own.
    pub(crate) engines: usize,
    /// Bytes of the disk that are to stay free for recordings that have begun.
    pub(crate) reserve: u64,
    pub(crate) busy_poll: bool,
    pub(crate) pass_rest: bool,
    pub(crate) promiscuous: bool,
}

/// Reads a configuration file; without one, everything is recorded.
pub(crate) fn load(path: Option<&Path>) -> Result<Configuration> {
    let Some(path) = path else { return Ok(parse("")?) };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let mut configuration =
        parse(&text).with_context(|| format!("{}: is no valid configuration", path.display()))?;
    // As it stands beside the file.
    let beside = |file: PathBuf| path.parent().unwrap_or(Path::new("")).join(file);
    configuration.key_log = configuration.key_log.map(beside);
    Ok(configuration)
}

fn parse(text: &str) -> Result<Configuration, toml::de::Error> {
    let file: File = toml::from_str(text)?;
    let defaults = Config::default();
    let or = |typed: Option<Duration>, default: i64| typed.map_or(default, |duration| duration.0);
    let sip_ports = file.signalling.sip_ports.clone().unwrap_or_else(|| defaults.sip_ports.clone());
    let mut signalling = file.signalling;
    let hep_ports = signalling.hep_ports.clone();
    let urls = file.url.iter().map(|typed| Template::literal_path(&typed.url).to_owned());
    signalling.http_paths.extend(urls.filter(|path| !path.is_empty()));
    signalling.http_paths.extend(Template::YEALINK.map(str::to_owned));
    let capture = capture(file.capture, &file.archive, signalling, &sip_ports);
    let urls = file.url.into_iter().map(url).collect::<Result<Vec<_>, _>>()?;
    let audio = Audio { recipients: file.archive.recipients.0, ..Audio::from(file.audio) };
    let control = control(file.control)?;
    let retention = retention::retention(&file.retention, &file.rule)?;
    let engine = Config {
        sip_ports,
        hep_ports,
        rules: Rules::new(file.rule.into_iter().map(rule).collect(), regexes(file.site.internal))
            .in_zone(file.site.time_zone.0),
        urls: urls.into_iter().chain(Template::yealink()).collect(),
        recorders: file.recorder.into_iter().flat_map(recorders).collect(),
        correlation_headers: file.correlation.headers,
        orphans: file.record.orphans,
        audio: file.record.audio.unwrap_or(defaults.audio),
        record_headers: file.record.headers.unwrap_or(defaults.record_headers),
        rtp_timeout: or(file.record.rtp_timeout, defaults.rtp_timeout),
        hold_timeout: or(file.record.hold_timeout, defaults.hold_timeout),
        ring_timeout: or(file.record.ring_timeout, defaults.ring_timeout),
        digit_timeout: or(file.record.digit_timeout, defaults.digit_timeout),
        max_memory: file.limits.memory.map_or(defaults.max_memory, |bytes| {
            usize::try_from(bytes.0).unwrap_or(usize::MAX).max(LEAST_MEMORY)
        }),
        max_calls: file.limits.calls.unwrap_or(defaults.max_calls).max(1),
        max_flows: file.limits.flows.unwrap_or(defaults.max_flows).max(1),
        max_tcp_flows: file.limits.tcp_connections.unwrap_or(defaults.max_tcp_flows).max(1),
        ..defaults
    };
    let (key_log, node) = (file.srtp.keylog, file.archive.node);
    Ok(Configuration { engine, capture, audio, control, key_log, node, retention })
}

fn capture(
    typed: TypedCapture,
    archive: &archive::Typed,
    signalling: Signalling,
    sip_ports: &[u16],
) -> Capture {
    let said = |ports: &[u16], what: Ports| ports.iter().map(|port| (*port, what)).collect::<Vec<_>>();
    let ports = [
        said(sip_ports, Ports::SIP),
        said(&signalling.hep_ports, Ports::SIP),
        said(&signalling.http_ports, Ports::HTTP),
        said(&signalling.control_ports, Ports::CONTROL),
    ];
    Capture {
        sieving: Sieving {
            ports: ports.concat(),
            paths: signalling.http_paths,
            unknown_media: matches!(typed.rtp, TypedRtp::Heuristic),
            media: typed.media_endpoints.unwrap_or(1 << 17).max(1),
            flows: typed.connections.unwrap_or(1 << 16).max(1),
        },
        ring: typed.ring.map_or(64 << 20, |bytes| bytes.0),
        queue: typed.queue.map_or(64 << 20, |bytes| bytes.0),
        engines: typed.engines.map_or(1, |engines| usize::from(engines.get())),
        reserve: archive.reserve.as_ref().map_or(1 << 30, |bytes| bytes.0),
        busy_poll: typed.busy_poll,
        pass_rest: typed.pass_rest,
        promiscuous: typed.promiscuous.unwrap_or(true),
    }
}

fn control(typed: TypedControl) -> Result<Settings, toml::de::Error> {
    let tcp = match (typed.listen, typed.token_file) {
        (Some(listen), Some(token_file)) => Some(Tcp { listen, token_file }),
        (Some(_), None) => {
            return Err(toml::de::Error::custom("`control.listen` takes a `control.token_file`"));
        }
        (None, _) => None,
    };
    let demanded = typed.socket.is_some();
    let socket = typed.socket.unwrap_or_else(|| SOCKET.into());
    Ok(Settings { socket: Some(socket).filter(|path| !path.as_os_str().is_empty()), demanded, tcp })
}

fn rule(typed: TypedRule) -> Rule {
    let conditions = typed.conditions;
    Rule {
        name: typed.name,
        from: regexes(conditions.from),
        to: regexes(conditions.to),
        party: regexes(conditions.party),
        dn: conditions.dn.0,
        dn_side: conditions.record.map(|side| match side {
            TypedSide::Source => Side::Caller,
            TypedSide::Destination => Side::Callee,
        }),
        hours: conditions.hours.0.into_iter().map(|hours| hours.0).collect(),
        days: conditions.days.0.iter().fold(Weekdays::default(), |days, these| days.and(these.0)),
        direction: conditions
            .direction
            .0
            .iter()
            .map(|direction| match direction {
                TypedDirection::Inbound => CallDirection::Inbound,
                TypedDirection::Outbound => CallDirection::Outbound,
                TypedDirection::Internal => CallDirection::Internal,
                TypedDirection::External => CallDirection::External,
            })
            .collect(),
        network: conditions.network.0.into_iter().map(|network| network.0).collect(),
        codec: conditions.codec.0,
        percent: conditions.percent.map_or(100, |percent| percent.0),
        action: match typed.action {
            TypedAction::All => Action::All,
            TypedAction::OnDemand => Action::OnDemand,
            TypedAction::Ignore => Action::Ignore,
        },
        beginning: match typed.from {
            TypedBeginning::Media => Beginning::Media,
            TypedBeginning::Answer => Beginning::Answer,
        },
        look_back: typed.lookback.0,
        feature_codes: codes(typed.feature_codes),
        paused: match typed.paused {
            TypedPaused::Silence => Paused::Silence,
            TypedPaused::Cut => Paused::Cut,
        },
        on_refused: match typed.on_refused {
            TypedOnRefused::FollowServer => OnRefused::FollowServer,
            TypedOnRefused::HonourKey => OnRefused::HonourKey,
        },
    }
}

fn codes(typed: TypedCodes) -> Arc<[Code]> {
    let each = [
        (typed.start, Effect::Verb(Verb::Start)),
        (typed.stop, Effect::Verb(Verb::Stop)),
        (typed.toggle, Effect::Toggle),
        (typed.pause, Effect::Verb(Verb::Pause)),
        (typed.resume, Effect::Verb(Verb::Resume)),
    ];
    let mut codes: Vec<Code> = each
        .into_iter()
        .flat_map(|(keys, effect)| keys.0.into_iter().map(move |Keys(keys)| Code { keys, effect }))
        .collect();
    // Of two that end alike the longer one is meant when it was pressed.
    codes.sort_by_key(|code| std::cmp::Reverse(code.keys.len()));
    codes.into()
}

fn regexes(patterns: Patterns) -> Vec<Regex> {
    patterns.0.into_iter().map(|pattern| pattern.0).collect()
}

#[cfg(test)]
mod tests {
    use spantape_core::rules::{Facts, LookBack};
    use spantape_core::time::SECOND;

    use super::*;

    #[test]
    fn a_full_file() {
        let config = parse(
            r#"
            [site]
            internal = ["1???", "/^2[0-9]{2}$/"]
            [record]
            headers = ["Record"]
            rtp_timeout = "90s"
            [correlation]
            headers = ["X-Call-Tag"]
            [[rule]]
            name = "board"
            action = "ignore"
            match = { party = "1001" }
            [[rule]]
            name = "sales"
            action = "on-demand"
            lookback = "call-start"
            on_refused = "honour-key"
            match = { from = ["10*"], direction = "outbound", network = ["10.0.0.0/8", "fd00::1"], codec = "PCMU" }
            [[rule]]
            name = "rest"
            action = "all"
            from = "answer"
            "#,
        )
        .unwrap()
        .engine;
        assert_eq!(config.rtp_timeout, 90 * SECOND);
        assert_eq!(config.correlation_headers, ["X-Call-Tag"]);
        let sales = config.rules.get(1);
        assert_eq!((sales.look_back, sales.network.len()), (LookBack::CallStart, 2));
        assert_eq!(config.rules.get(2).beginning, Beginning::Answer);
    }

    #[test]
    fn hours_days_and_extensions() {
        let rules = parse(
            r#"
            [site]
            time_zone = "Europe/Berlin"
            [[rule]]
            name = "agents"
            action = "all"
            match = { hours = "22:00-06:00", days = ["mon-fri", "sun"], dn = ["7001", "7002"], record = "source" }
            [[rule]]
            name = "rest"
            action = "ignore"
            "#,
        )
        .unwrap()
        .engine
        .rules;
        let decide = |start: &str, from: &str, to: &str| {
            let start: jiff::Timestamp = start.parse().unwrap();
            let start = spantape_core::time::Timestamp(start.as_nanosecond() as i64);
            let facts = Facts { call_id: "1", start, from, to, addresses: &[], codecs: &[] };
            rules.get(rules.decide(&facts)).name.clone()
        };
        // A Thursday in winter, and one in summer: 22:00 in Berlin is another hour of UTC.
        assert_eq!(decide("2026-11-26T21:00:00Z", "7001", "1"), "agents");
        assert_eq!(decide("2026-11-26T20:59:59Z", "7001", "1"), "rest");
        assert_eq!(decide("2026-07-02T20:00:00Z", "7002", "1"), "agents");
        // As far as moments go.
        assert_eq!(decide("2250-07-01T19:59:59Z", "7002", "1"), "rest");
        assert_eq!(decide("2250-07-01T20:00:00Z", "7002", "1"), "agents");
        assert_eq!(decide("2026-11-26T21:00:00Z", "1", "7001"), "rest");
        // Saturday's morning is Friday's night, Sunday's morning is nobody's.
        assert_eq!(decide("2026-11-28T03:00:00Z", "7001", "1"), "agents");
        assert_eq!(decide("2026-11-29T03:00:00Z", "7001", "1"), "rest");
        assert_eq!(
            (rules.zone().name(), load(None).unwrap().engine.rules.zone().name()),
            ("Europe/Berlin", "UTC")
        );
    }

    #[test]
    fn live_capture() {
        let capture = parse(
            r#"
            [signalling]
            sip_ports = [5060, 5080]
            hep_ports = [9061]
            http_paths = ["/record"]
            control_ports = [8000]
            [capture]
            rtp = "announced"
            ring = "128 MiB"
            queue = "512KiB"
            promiscuous = false
            "#,
        )
        .unwrap()
        .capture;
        assert_eq!((capture.ring, capture.queue, capture.promiscuous), (128 << 20, 512 << 10, false));
        let ports = [(5060, Ports::SIP), (5080, Ports::SIP), (9061, Ports::SIP), (8000, Ports::CONTROL)];
        assert_eq!(capture.sieving.ports, ports);
        assert!(!capture.sieving.unknown_media && capture.sieving.paths[0] == "/record");
        let usual = load(None).unwrap().capture;
        assert!(usual.sieving.unknown_media && usual.promiscuous && !usual.pass_rest);
    }

    #[test]
    fn control() {
        let control = |text: &str| parse(text).map(|configuration| configuration.control);
        let usual = control("").unwrap();
        let of_node = usual.of_node(Some("north"));
        assert_eq!(of_node.socket, Some("control-north.sock".into()));
        assert_eq!((usual.socket, usual.demanded), (Some(SOCKET.into()), false));
        let none = control("[control]\nsocket = \"\"").unwrap();
        assert!(none.socket.is_none() && none.tcp.is_none());
        let both = "[control]\nsocket = \"/run/x\"\nlisten = \"[::1]:7373\"\ntoken_file = \"t\"";
        let both = control(both).unwrap();
        assert!(both.socket == Some("/run/x".into()) && both.demanded);
        assert_eq!(both.tcp.map(|tcp| tcp.listen.port()), Some(7373));
        let error = control("[control]\nlisten = \"127.0.0.1:7373\"").unwrap_err();
        assert!(error.to_string().contains("control.token_file"), "{error}");
    }

    #[test]
    fn limits() {
        let limits = |text: &str| {
            let engine = parse(text).unwrap().engine;
            (engine.max_memory, engine.max_calls)
        };
        let usual = Config::default();
        assert_eq!(limits("[limits]\nmemory = \"512MiB\"\ncalls = 5"), (512 << 20, 5));
        assert_eq!(limits("[limits]\nmemory = \"1KiB\"\ncalls = 0"), (LEAST_MEMORY, 1));
        assert_eq!(limits(""), (usual.max_memory, usual.max_calls));
    }

    /// `docs/configuration.md` is the contract: its first example has every key, and those of capture as they are
    /// without a file.
    #[test]
    fn every_key_is_documented() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let text = std::fs::read_to_string(path).unwrap();
        let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        for section in
            ["site", "record", "signalling", "capture", "archive", "retention", "control", "limits"]
        {
            let (_, documented) = example.split_once(&format!("[{section}]")).expect(section);
            let documented = documented.split("\n[").next().unwrap_or_default();
            // The error lists the keys that there are.
            let error = parse(&format!("[{section}]\nno_such_key = 1")).unwrap_err();
            let (_, known) = error.message().split_once("expected ").expect(section);
            for key in known.split('`').skip(1).step_by(2) {
                let is_it = |line: &str| line.starts_with(&format!("{key} = "));
                assert!(documented.lines().any(is_it), "docs/configuration.md, [{section}] {key}");
            }
        }
        let (documented, usual) = (parse(example).unwrap().capture, load(None).unwrap().capture);
        assert_eq!(format!("{documented:?}"), format!("{usual:?}"));
    }

    #[test]
    fn errors_name_the_line_the_key_and_what_is_allowed() {
        let cases = [
            ("[[rule]]\nname = \"x\"\naction = \"al\"", "line 3", "`all`, `on-demand`, `ignore`"),
            ("[[rule]]\nname = \"x\"\naktion = \"all\"", "line 3", "`action`"),
            ("[[rule]]\nname = \"x\"\naction = \"all\"\nlookback = \"soon\"", "line 4", "`call-start`"),
            (
                "[[rule]]\nname = \"x\"\naction = \"all\"\nmatch = { from = \"/(/\" }",
                "line 4",
                "regular expression",
            ),
            (
                "[[rule]]\nname = \"x\"\naction = \"all\"\n[rule.match]\nnetwork = [\"x\"]",
                "line 5",
                "10.0.0.0/8",
            ),
            (
                "[[rule]]\nname = \"x\"\naction = \"all\"\nmatch = { percent = 101 }",
                "line 4",
                "from 0 to 100",
            ),
            (
                "[[rule]]\nname = \"x\"\naction = \"all\"\nfeature_codes = { start = \"x1\" }",
                "line 4",
                "`*1`",
            ),
            ("[site]\ntime_zone = \"Berlin\"", "line 2", "`Europe/Berlin`"),
            (
                "[[rule]]\nname = \"x\"\naction = \"all\"\n[rule.match]\nhours = \"8-18\"",
                "line 5",
                "`08:00-18:00`",
            ),
            (
                "[[rule]]\nname = \"x\"\naction = \"all\"\n[rule.match]\ndays = [\"monday\"]",
                "line 5",
                "`mon-fri`",
            ),
            (
                "[[rule]]\nname = \"x\"\naction = \"all\"\nmatch = { dn = \"1\", record = \"both\" }",
                "line 4",
                "`source` or `destination`",
            ),
            ("[[rule]]\nname = \"x\"\naction = \"all\"\nmatch = { record = \"source\" }", "line 4", "`dn`"),
            ("[[rule]]\nname = \"x\"\naction = \"all\"\npaused = \"skip\"", "line 4", "`silence` or `cut`"),
            ("[record]\nrtp_timeout = 5", "line 2", "expected a string"),
            ("[capture]\nring = \"64\"", "line 2", "64MiB"),
            ("[archive]\nnode = \"a b\"", "line 2", "small letters"),
            ("[retention]\ndays = 0", "line 2", "from 1 to 36500"),
            ("[control]\nlisten = \"7373\"", "line 2", "socket address"),
            ("[capture]\nrtp = \"all\"", "line 2", "`heuristic` or `announced`"),
        ];
        for (text, line, allowed) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(allowed), "{error}");
        }
    }
}
