//! The table of cases.

use std::time::Duration;

use anyhow::Result;

use super::{
    codecs, conversations, encrypted, external, generate, odd_sip, record_key, recorders, rewrite,
    transports, tunnels, url_record,
};
use crate::lab::Bench;
use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::live::{Call, Live, Party, Transport};
use crate::lab::media::{Clip, Digits};
use crate::lab::sipp::{SIP_PORT, media_port};
use crate::lab::speech::Speech;
use crate::lab::switch::{Family, Mirror, Phone};

const YEALINK: &str = "Yealink SIP-T46G 28.81.0.25";
const SNOM: &str = "snomD385/10.1.184.15";

/// How AudioCodes' devices pause and resume.
const PAUSE: [&str; 2] = ["X-AC-Action: pause-siprec", "X-AC-Action: resume-siprec"];

/// More than any call lasts: the phones speak until they hang up.
const WHOLE: u32 = 14_000;

/// A folder below `samples/`.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) make: Make,
}

/// Where a case's packets come from.
pub(super) enum Make {
    /// Calls between two SIPp processes behind the software SPAN; the function gets the case's name.
    Sipp(fn(&str) -> Live),
    /// The same with two baresip processes.
    Baresip,
    /// Another case's capture, changed.
    Rewrite { of: &'static str, with: fn(Capture) -> Result<Capture> },
    /// Nothing but the speech files.
    Generate(fn(&Bench) -> Result<Capture>),
}

impl Make {
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Sipp(_) | Self::Baresip)
    }

    pub(super) fn about(&self) -> String {
        match self {
            Self::Sipp(_) => "live, SIPp".to_owned(),
            Self::Baresip => "live, baresip".to_owned(),
            Self::Rewrite { of, .. } => format!("rewritten from {of}"),
            Self::Generate(_) => "generated".to_owned(),
        }
    }
}

/// In the order they are made in.
pub(super) const CASES: &[Case] = &[
    live("plain-pcmu", |name| simple(name, "plain-caller", "plain-callee")),
    live("yealink-record", |name| simple(name, "record-caller", "record-callee")),
    live("snom-record-refused", |name| asking(name, "refused-caller", "refused-callee", ["Record: On", ""])),
    live("audiocodes-pause", |name| asking(name, "record-caller", "record-callee", PAUSE)),
    live("audiocodes-refused", |name| asking(name, "refused-caller", "refused-callee", PAUSE)),
    live("record-on-off-on", |name| simple(name, "thrice-caller", "record-callee")),
    live("hold-resume", hold_resume),
    live("reinvite-codec", reinvite_codec),
    live("span-duplicates", span_duplicates),
    live("sip-tcp", sip_tcp),
    live("ipv6", ipv6),
    live("fragmented-invite", |name| simple(name, "fragmented-caller", "fragmented-callee")),
    Case { name: "tunnels", make: Make::Rewrite { of: "plain-pcmu", with: tunnels::wrap } },
    Case { name: "tunnel-copies", make: Make::Rewrite { of: "plain-pcmu", with: transports::copies } },
    Case { name: "websocket", make: Make::Rewrite { of: "plain-pcmu", with: transports::web_socket } },
    Case { name: "sctp", make: Make::Rewrite { of: "plain-pcmu", with: transports::sctp } },
    Case { name: "hep", make: Make::Rewrite { of: "plain-pcmu", with: transports::hep } },
    Case { name: "qinq", make: Make::Rewrite { of: "plain-pcmu", with: rewrite::tag_twice } },
    Case { name: "g722", make: Make::Baresip },
    live("dtmf", dtmf),
    live("feature-codes", feature_codes),
    Case { name: "loss-reorder-jitter", make: Make::Rewrite { of: "plain-pcmu", with: rewrite::impair } },
    live("bye-lost-port-reuse", bye_lost),
    live("early-media", |name| simple(name, "early-caller", "early-callee")),
    live("auth-retry", |name| simple(name, "auth-caller", "auth-callee")),
    live("late-offer", |name| simple(name, "late-caller", "plain-callee")),
    Case { name: "joined-mid-call", make: Make::Rewrite { of: "hold-resume", with: rewrite::join_late } },
    Case { name: "forked", make: Make::Generate(generate::forked) },
    Case { name: "nat", make: Make::Rewrite { of: "plain-pcmu", with: rewrite::behind_nat } },
    live("cancelled", |name| simple(name, "cancel-caller", "cancel-callee")),
    live("unanswered-busy", |name| simple(name, "busy-caller", "busy-callee")),
    Case { name: "l16", make: Make::Generate(generate::l16) },
    generated("gsm", codecs::gsm),
    generated("g726", codecs::g726),
    generated("opus", codecs::opus),
    generated("red", codecs::red),
    generated("comfort-noise", codecs::comfort_noise),
    Case { name: "undecodable", make: Make::Generate(external::undecodable) },
    Case { name: "g723", make: Make::Generate(external::g723) },
    generated("no-call-id", odd_sip::no_call_id),
    generated("call-id-reused", odd_sip::call_id_reused),
    generated("cancel-race", odd_sip::cancel_race),
    generated("t38-declined", odd_sip::t38_declined),
    generated("record-both-sides", record_key::both_sides),
    generated("url-record", url_record::started_and_stopped),
    generated("url-record-refused", url_record::refused),
    generated("url-record-two-calls", url_record::two_calls),
    generated("url-template", url_record::template),
    generated("recorder-leg", recorders::leg),
    generated("recorder-leg-refused", recorders::leg_refused),
    generated("recorder-leg-paused", recorders::leg_paused),
    generated("genesys", recorders::genesys),
    generated("genesys-refused", recorders::genesys_refused),
    generated("genesys-pair", recorders::genesys_pair),
    generated("siprec", recorders::siprec),
    generated("siprec-refused", recorders::siprec_refused),
    generated("siprec-paused", recorders::siprec_paused),
    generated("cisco-bib", recorders::cisco),
    generated("cisco-bib-one-end", recorders::cisco_one_end),
    generated("record-server", recorders::server),
    generated("record-server-failed", recorders::server_failed),
    generated("record-server-closed", recorders::server_closed),
    generated("srtp-sdes", encrypted::sdes),
    generated("srtp-gcm", encrypted::gcm),
    generated("dtls-srtp", encrypted::dtls),
    generated("zrtp", encrypted::zrtp),
    generated("ice", encrypted::ice),
    generated("transfer-blind", conversations::blind),
    generated("transfer-attended", conversations::attended),
    generated("conference-focus", conversations::conference),
    generated("relay-hops", conversations::relay_hops),
    generated("pbx-legs", conversations::pbx_legs),
];

/// The calls of a case that is made by SIPp.
pub(crate) fn calls_of(name: &str) -> Option<Live> {
    let case = CASES.iter().find(|case| case.name == name)?;
    let Make::Sipp(describe) = case.make else { return None };
    Some(describe(name))
}

const fn live(name: &'static str, describe: fn(&str) -> Live) -> Case {
    Case { name, make: Make::Sipp(describe) }
}

const fn generated(name: &'static str, generate: fn(&Bench) -> Result<Capture>) -> Case {
    Case { name, make: Make::Generate(generate) }
}

pub(crate) fn simple(name: &str, caller: &'static str, callee: &'static str) -> Live {
    with_codec(name, caller, callee, Codec::Pcmu)
}

fn with_codec(name: &str, caller: &'static str, callee: &'static str, codec: Codec) -> Live {
    let party = |at, user, scenario, agent, speech| Party {
        at,
        user,
        sip_port: SIP_PORT,
        media_port: media_port(at),
        scenario,
        agent,
        clips: vec![Clip::new(speech, codec, WHOLE)],
    };
    Live {
        mirror: Mirror::Ingress,
        family: Family::V4,
        transport: Transport::Udp,
        codec,
        calls: vec![Call {
            id: format!("{name}-1@10.20.0.9"),
            caller: party(Phone::A, "1009", caller, YEALINK, Speech::Caller),
            callee: party(Phone::B, "1010", callee, SNOM, Speech::Callee),
            pause: Duration::from_secs(11),
            after: Duration::ZERO,
        }],
        asks: ["Record: on", "Record: off"],
        finish: Ok,
    }
}

/// The caller goes on with its stream as if it had been muted; the callee starts another, as many phones do.
fn hold_resume(name: &str) -> Live {
    let mut live = simple(name, "hold-caller", "hold-callee");
    for call in &mut live.calls {
        let first = Clip::new(Speech::Caller, Codec::Pcmu, 4000);
        call.caller.clips = vec![first, first.resumed(4000, 8000)];
        let first = Clip::new(Speech::Callee, Codec::Pcmu, 4000);
        call.callee.clips =
            vec![first, Clip { ssrc: 0x0a14_1010, sequence: 7, timestamp: 0, ..first.resumed(0, 8000) }];
    }
    live
}

fn reinvite_codec(name: &str) -> Live {
    let mut live = simple(name, "codec-caller", "codec-callee");
    for call in &mut live.calls {
        for (party, speech) in [(&mut call.caller, Speech::Caller), (&mut call.callee, Speech::Callee)] {
            let first = Clip::new(speech, Codec::Pcmu, 5000);
            let ssrc = first.ssrc | 0x2000;
            let second = Clip { codec: Codec::Pcma, ssrc, ..first.resumed(0, 11_000) };
            party.clips = vec![first, second];
        }
    }
    live
}

fn span_duplicates(name: &str) -> Live {
    Live { mirror: Mirror::Both, ..simple(name, "plain-caller", "plain-callee") }
}

fn sip_tcp(name: &str) -> Live {
    Live { transport: Transport::Tcp, ..with_codec(name, "record-caller", "record-callee", Codec::Pcma) }
}

fn ipv6(name: &str) -> Live {
    let mut live = simple(name, "plain-caller", "plain-callee");
    for call in &mut live.calls {
        call.id = format!("{name}-1@[fd00:20::9]");
    }
    Live { family: Family::V6, ..live }
}

fn dtmf(name: &str) -> Live {
    let mut live = simple(name, "dtmf-caller", "record-callee");
    for call in &mut live.calls {
        call.caller.clips[0].digits = Some(Digits { keys: "1234#", at_ms: 3000 });
    }
    live
}

/// Start, pause, two keys that nobody is to see, resume, stop: by `*1`, `*8`, `*9`, `*1`.
fn feature_codes(name: &str) -> Live {
    let mut live = simple(name, "dtmf-caller", "record-callee");
    for call in &mut live.calls {
        let keys = "*1        *8  42 *9       *1";
        call.caller.clips[0].digits = Some(Digits { keys, at_ms: 1000 });
    }
    live
}

fn asking(name: &str, caller: &'static str, callee: &'static str, asks: [&'static str; 2]) -> Live {
    Live { asks, ..simple(name, caller, callee) }
}

/// The second call has the voices the other way round, so that audio of the one in the other is heard at once.
fn bye_lost(name: &str) -> Live {
    let mut live = simple(name, "plain-caller", "plain-callee");
    let mut second = simple(name, "plain-caller", "plain-callee").calls;
    for call in &mut second {
        call.id = format!("{name}-2@10.20.0.9");
        call.after = Duration::from_millis(2000);
        std::mem::swap(&mut call.caller.clips, &mut call.callee.clips);
    }
    live.calls.extend(second);
    Live { finish: rewrite::lose_first_bye, ..live }
}
