//! `spantape check-config`: try a configuration without recording anything.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use spantape_core::record::Side;
use spantape_core::recording_session::Carries;
use spantape_core::rules::{Action, Beginning, LookBack, OnRefused, Paused, Rule};
use spantape_core::time::SECOND;
use spantape_core::trigger::feature_code::Effect;
use spantape_store::encrypt::Recipients;
use spantape_store::retention::Retention;

use crate::config;
use crate::control::Settings;
use crate::finish::Choice;

/// Check a configuration file, and say what it means
#[derive(clap::Args)]
#[command(after_help = "Example:
  spantape check-config rules.toml

Exit code: 0 the file is valid, 2 it is not.")]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let config::Configuration { engine: config, capture, audio, control, key_log, node, retention } =
        config::load(Some(&args.file))?;
    println!("{} is valid. Of these rules the first that matches a call decides:", args.file.display());
    for (index, rule) in config.rules.iter().enumerate() {
        let (effect, paused) = (effect(rule), paused(rule));
        println!("{:>3}. {}: {effect}{paused}{}{}", index + 1, rule.name, conditions(rule), codes(rule));
    }
    if config.rules.iter().any(|rule| !rule.hours.is_empty() || !rule.days.is_empty()) {
        println!("Hours and days are those of {}, when the call begins", config.rules.zone().name());
    }
    println!("Record triggers: INFO with {}, or with X-AC-Action", config.record_headers.join(" or "));
    println!("Record triggers: {} kinds of URL, those of Yealink's phones included", config.urls.len());
    for recorder in &config.recorders {
        let carries = match recorder.carries {
            Carries::Mixed => "all voices in one stream",
            Carries::Parties => "a stream for each party",
        };
        println!("Recorder: what matches {} is sent {carries}", recorder.uri.as_str());
    }
    let rtp = if capture.sieving.unknown_media { "any RTP" } else { "announced RTP only" };
    println!(
        "Live capture: {rtp}; SIP on port {}, and wherever it shows itself",
        config.sip_ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
    if !config.hep_ports.is_empty() {
        let ports = config.hep_ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        println!("Copies in HEP are calls on port {ports}");
    }
    if let Some(key_log) = key_log {
        println!("DTLS-SRTP: decrypted by the key log {}", key_log.display());
    }
    let decoder = match &audio.ffmpeg {
        Choice::Auto => "by ffmpeg, if it is in PATH".to_owned(),
        Choice::Off => "not".to_owned(),
        Choice::At(path) => format!("by {}", path.display()),
    };
    println!("Codecs without a decoder here: decoded {decoder}");
    println!("Control: {}", listens(&control));
    println!("Archive: {}", recorder(node.as_deref()));
    println!("Recordings: {}", encrypted(&audio.recipients));
    println!("Kept: {}", kept(&retention));
    Ok(ExitCode::SUCCESS)
}

fn listens(control: &Settings) -> String {
    let socket = control.socket.as_ref().map(|socket| match socket.is_absolute() {
        true => format!("by the socket {}", socket.display()),
        false => format!("by the socket {} in the archive", socket.display()),
    });
    let tcp = control
        .tcp
        .as_ref()
        .map(|tcp| format!("at {} with the token in {}", tcp.listen, tcp.token_file.display()));
    let ways: Vec<String> = [socket, tcp].into_iter().flatten().collect();
    if ways.is_empty() { "none".to_owned() } else { ways.join(", and ") }
}

fn recorder(node: Option<&str>) -> String {
    node.map_or_else(
        || "this recorder has no name: it is the only one that records into it".to_owned(),
        |node| format!("this recorder is `{node}`, one of several"),
    )
}

fn encrypted(recipients: &Recipients) -> String {
    let names: Vec<String> = recipients.names().collect();
    if names.is_empty() {
        return "not encrypted: whoever can read the files can hear them".to_owned();
    }
    format!("encrypted, to be heard with the identity of {}", names.join(" or of "))
}

fn kept(retention: &Retention) -> String {
    if retention.is_for_ever() {
        return "everything, for ever".to_owned();
    }
    let time =
        |days: Option<u32>| days.map_or_else(|| "for ever".to_owned(), |days| format!("for {days} days"));
    let rules =
        retention.by_rule.iter().map(|(name, days)| format!(", those of `{name}` {}", time(Some(*days))));
    let (recordings, rules, catalog) =
        (time(retention.recordings), rules.collect::<String>(), time(retention.catalog));
    format!(
        "recordings {recordings}{rules}; what the catalog says of calls without one, {catalog}: \
         `spantape purge` deletes the rest"
    )
}

fn effect(rule: &Rule) -> String {
    let honoured = match rule.on_refused {
        OnRefused::FollowServer => "",
        OnRefused::HonourKey => ", even when the server refuses",
    };
    match (rule.action, rule.beginning, rule.look_back) {
        (Action::All, Beginning::Media, _) => "records the whole call".to_owned(),
        (Action::All, Beginning::Answer, _) => "records the call from its answer".to_owned(),
        (Action::OnDemand, _, LookBack::CallStart) => {
            format!("records from the start of a call in which a trigger asks for it{honoured}")
        }
        (Action::OnDemand, _, LookBack::For(0)) => format!("records from trigger to trigger{honoured}"),
        (Action::OnDemand, _, LookBack::For(time)) => {
            format!("records from {} s before a trigger{honoured}", time as f64 / SECOND as f64)
        }
        (Action::Ignore, ..) => "records nothing".to_owned(),
    }
}

fn paused(rule: &Rule) -> &'static str {
    match (rule.action, rule.paused) {
        (Action::Ignore, _) | (_, Paused::Silence) => "",
        (_, Paused::Cut) => ", without paused time",
    }
}

fn codes(rule: &Rule) -> String {
    let each = rule.feature_codes.iter().map(|code| {
        let effect = match code.effect {
            Effect::Verb(verb) => verb.as_str(),
            Effect::Toggle => "toggle",
        };
        format!("{} {effect}", code.keys)
    });
    let all: Vec<String> = each.collect();
    if all.is_empty() { String::new() } else { format!("; keys: {}", all.join(", ")) }
}

fn conditions(rule: &Rule) -> String {
    let mut all = Vec::new();
    for (what, patterns) in [("from", &rule.from), ("to", &rule.to), ("party", &rule.party)] {
        if !patterns.is_empty() {
            let patterns: Vec<&str> = patterns.iter().map(|pattern| pattern.as_str()).collect();
            all.push(format!("{what} matches {}", patterns.join(" or ")));
        }
    }
    if !rule.dn.is_empty() {
        let party = match rule.dn_side {
            Some(Side::Caller) => "the caller",
            Some(Side::Callee) => "the callee",
            None => "a party",
        };
        all.push(format!("{party} is {}", rule.dn.join(" or ")));
    }
    if !rule.hours.is_empty() {
        let hours: Vec<String> = rule.hours.iter().map(ToString::to_string).collect();
        all.push(format!("it begins within {}", hours.join(" or ")));
    }
    if !rule.days.is_empty() {
        all.push(format!("the day is {}", rule.days));
    }
    if !rule.direction.is_empty() {
        all.push(format!("direction is {:?}", rule.direction).to_lowercase());
    }
    if !rule.network.is_empty() {
        let networks: Vec<String> = rule.network.iter().map(ToString::to_string).collect();
        all.push(format!("an address is in {}", networks.join(" or ")));
    }
    if rule.percent < 100 {
        all.push(format!("it is one of {} % of calls, by Call-ID", rule.percent));
    }
    if !rule.codec.is_empty() {
        all.push(format!("codec is {}", rule.codec.join(" or ")));
    }
    if all.is_empty() { String::new() } else { format!(" if {}", all.join(" and ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_records_and_for_whom() {
        assert!(recorder(None).contains("no name"));
        assert_eq!(recorder(Some("north")), "this recorder is `north`, one of several");
        let mut recipients = Recipients::default();
        assert!(encrypted(&recipients).starts_with("not encrypted"));
        let one = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        recipients.add(one).unwrap();
        assert_eq!(encrypted(&recipients), format!("encrypted, to be heard with the identity of {one}"));
    }
}
