//! Calls that somebody has recorded on demand: a phone by a URL, by a record server or by a leg to a recorder, and a
//! session border controller by SIPREC.
//!
//! SIPp makes the calls, behind the switch; whom they turn to is a host of its own, with real connections. Of the two
//! mirror ports one is captured with XDP, the other with `AF_PACKET`. What tcpdump has seen meanwhile says when
//! things were asked for, and what was said then; replayed, it gives the same.

mod http;
mod record_server;
mod seen;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::Value;

use super::compare::compare;
use crate::lab::Bench;
use crate::lab::archive::Archive;
use crate::lab::codec::Codec;
use crate::lab::live::{Live, Tap};
use crate::lab::media::Clip;
use crate::lab::recorder::{Order, Recorder, Source, ensure_nothing_lost};
use crate::lab::speech::Speech;
use crate::lab::switch::{Family, Lab, MIRROR_PORTS, Mirror, Phone};
use crate::programs::release_build;
use crate::samples::cases;
use seen::{Seen, Voice};

const RULES: &str = r#"
[[recorder]]
uri = "7900"
[[rule]]
name = "by request"
action = "on-demand"
"#;

/// From what was asked for to where a recording begins or ends.
const NEAR_S: f64 = 0.1;
/// Two SIPp have started, and one has rung.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a call goes on, and what is said before and while it is recorded.
const CALL: Duration = Duration::from_secs(8);
const BEFORE: Duration = Duration::from_secs(1);
const WHILE: Duration = Duration::from_secs(4);
/// Who talks in the calls: user and display name.
const PHONES: [[&str; 2]; 2] = [["1009", "1009"], ["1010", ""]];

pub(super) fn run() -> Result<()> {
    let binary = release_build("spantape")?;
    let bench = Bench::new()?;
    for case in &CASES {
        case.run(&bench, &binary).with_context(|| format!("case {}", case.name))?;
    }
    Ok(())
}

/// What happens, and what must come of it.
struct Case {
    name: &'static str,
    system: &'static str,
    happens: fn(&Scene<'_>) -> Result<()>,
    gives: fn(&Seen) -> Result<Given>,
}

const CASES: [Case; 4] = [
    Case { name: "URL", system: "url-record", happens: url, gives: url_gives },
    Case { name: "record server", system: "record-server", happens: server, gives: server_gives },
    Case { name: "leg to a recorder", system: "recorder-leg", happens: leg, gives: leg_gives },
    Case { name: "SIPREC", system: "siprec", happens: siprec, gives: siprec_gives },
];

/// Moments are counted from the epoch.
struct Given {
    parties: [[&'static str; 2]; 2],
    /// The call's, then those that have but one channel.
    recordings: Vec<Track>,
    /// Verb, outcome, and when it was asked for.
    triggers: Vec<(&'static str, &'static str, Duration)>,
}

struct Track {
    from: Duration,
    to: Duration,
    /// What is heard on its channels.
    voices: Vec<Clip>,
    paused: Option<[Duration; 2]>,
}

/// The key is pressed twice on one connection.
fn url(scene: &Scene<'_>) -> Result<()> {
    scene.during(&call("url"), || {
        std::thread::sleep(BEFORE);
        http::press_twice(scene.lab, WHILE)
    })
}

fn url_gives(seen: &Seen) -> Result<Given> {
    let presses: Vec<Duration> = seen.moments(&[&format!("GET {}", http::PATH)]).collect();
    let [first, second] = presses[..] else { bail!("{} presses were seen", presses.len()) };
    Ok(Given {
        parties: PHONES,
        recordings: vec![of_call(first, second)],
        triggers: vec![("start", "confirmed", first), ("stop", "confirmed", second)],
    })
}

/// The callee's phone is refused once.
fn server(scene: &Scene<'_>) -> Result<()> {
    scene.during(&call("record-server"), || {
        std::thread::sleep(BEFORE);
        record_server::record(scene.lab, &scene.bench.samples, &mixed(Codec::Pcma))
    })
}

fn server_gives(seen: &Seen) -> Result<Given> {
    let asked = |verb, id| seen.moment(&[&format!("cmd=Record{verb}Request&id={id}&")]);
    let refused = asked("Start", record_server::FAILED)?;
    let [start, stop] = [asked("Start", record_server::GRANTED)?, asked("Stop", record_server::GRANTED)?];
    Ok(Given {
        parties: PHONES,
        recordings: vec![of_call(start, stop), track(start, stop, vec![mixed(Codec::Pcma)])],
        triggers: vec![
            ("start", "refused", refused),
            ("start", "confirmed", start),
            ("stop", "confirmed", stop),
        ],
    })
}

/// The caller's phone calls the recorder, and sends it what both say.
fn leg(scene: &Scene<'_>) -> Result<()> {
    let mut leg = cases::simple("leg", "plain-caller", "recorder-callee");
    for call in &mut leg.calls {
        call.id = LEG.to_owned();
        call.pause = WHILE;
        (call.caller.sip_port, call.caller.media_port) = (5062, 11_010);
        call.caller.clips = vec![mixed(Codec::Pcmu)];
        (call.callee.at, call.callee.user, call.callee.media_port) = (Phone::Server, "7900", 31_000);
    }
    scene.during(&call("recorder-leg"), || leg.make_calls(scene.bench, scene.lab))
}

const LEG: &str = "to-the-recorder@10.20.0.9";

fn leg_gives(seen: &Seen) -> Result<Given> {
    let start = seen.moment(&["SIP/2.0 200 OK", LEG, "CSeq: 1 INVITE"])?;
    let stop = seen.moment(&["BYE sip:7900@", LEG])?;
    Ok(Given {
        parties: PHONES,
        recordings: vec![of_call(start, stop), track(start, stop, vec![mixed(Codec::Pcmu)])],
        triggers: vec![("start", "confirmed", start), ("stop", "confirmed", stop)],
    })
}

const SESSION: &str = "siprec-session@10.20.0.9";
/// A session has three parts of this length; in the second one both streams are inactive.
const PART: Duration = Duration::from_millis(2500);

/// Nothing is seen of the call itself. The client goes on sending during the pause, and for a while after the end.
fn siprec(scene: &Scene<'_>) -> Result<()> {
    let mut session = cases::simple("siprec", "siprec-caller", "siprec-callee");
    for call in &mut session.calls {
        call.id = SESSION.to_owned();
        call.pause = PART;
        call.caller.clips.clear();
        call.callee.clips.clear();
        (call.callee.at, call.callee.user, call.callee.media_port) = (Phone::Server, "srs", 31_000);
    }
    scene.during(&session, || {
        let send = |index: usize, clip: &Clip| {
            let more = 2 * index as u16;
            let ends = [(Phone::A, 11_010 + more), (Phone::Server, 31_000 + more)];
            speak(scene.lab, &scene.bench.samples, clip, ends)
        };
        let [first, second] = in_session();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| send(1, &second));
            send(0, &first)?;
            other.join().map_err(|_| anyhow!("the second stream has ended by itself"))?
        })
    })
}

/// The callee's stream comes first, as the first participant is the callee.
fn in_session() -> [Clip; 2] {
    [Speech::Callee, Speech::Caller].map(|speech| Clip::new(speech, Codec::Pcmu, 8500))
}

fn siprec_gives(seen: &Seen) -> Result<Given> {
    let begun = seen.moment(&["SIP/2.0 200 OK", SESSION, "CSeq: 1 INVITE"])?;
    let [pause, resume] =
        [2, 3].map(|number| seen.moment(&["INVITE sip:", &format!("CSeq: {number} INVITE")]));
    let (pause, resume) = (pause?, resume?);
    let end = seen.moment(&["BYE sip:srs@"])?;
    let clips = in_session();
    let from = clips.iter().map(|clip| seen.clip(clip)).collect::<Result<Vec<_>>>()?;
    let from = from.into_iter().min().unwrap_or_default();
    Ok(Given {
        parties: [["1010", "Beate & Söhne"], ["1009", "Anton"]],
        recordings: vec![Track { paused: Some([pause, resume]), ..track(from, end, clips.to_vec()) }],
        triggers: vec![
            ("start", "confirmed", begun),
            ("pause", "confirmed", pause),
            ("resume", "confirmed", resume),
            ("stop", "confirmed", end),
        ],
    })
}

/// 1009 calls 1010.
fn call(name: &str) -> Live {
    let mut live = cases::simple(name, "plain-caller", "plain-callee");
    for call in &mut live.calls {
        call.pause = CALL;
    }
    live
}

/// What its recording must be.
fn of_call(from: Duration, to: Duration) -> Track {
    let clips = [Speech::Caller, Speech::Callee].map(|speech| Clip::new(speech, Codec::Pcmu, 14_000));
    track(from, to, clips.to_vec())
}

fn track(from: Duration, to: Duration, voices: Vec<Clip>) -> Track {
    Track { from, to, voices, paused: None }
}

/// Both voices in a stream of its own.
fn mixed(codec: Codec) -> Clip {
    let clip = Clip::new(Speech::Caller, codec, WHILE.as_millis() as u32);
    Clip { ssrc: clip.ssrc | 0x2000, mixed_with: Some(Speech::Callee), ..clip }
}

/// Sends a clip from a host's port to another's, each packet when it is due.
fn speak(lab: &Lab, samples: &Path, clip: &Clip, [from, to]: [(Phone, u16); 2]) -> Result<()> {
    let [local, remote] = [from, to].map(|(host, port)| SocketAddr::new(host.ip(Family::V4), port));
    let socket = lab.within_phone(from.0, || Ok(UdpSocket::bind(local)?)).context("bind a media port")?;
    let since = Instant::now();
    for packet in clip.packets(samples)? {
        std::thread::sleep((since + packet.after).saturating_duration_since(Instant::now()));
        socket.send_to(&packet.bytes, remote).context("send a packet")?;
    }
    Ok(())
}

/// What is at work while things happen.
struct Scene<'a> {
    bench: &'a Bench,
    lab: &'a Lab,
    recorders: &'a [Recorder],
}

impl Scene<'_> {
    /// Makes a call, and does something from its answer on.
    fn during(&self, live: &Live, job: impl FnOnce() -> Result<()>) -> Result<()> {
        std::thread::scope(|scope| {
            let calling = scope.spawn(|| live.make_calls(self.bench, self.lab));
            let done =
                live.calls.iter().try_for_each(|call| self.wait_for_answer(&call.id)).and_then(|()| job());
            calling.join().map_err(|_| anyhow!("the call has ended by itself"))??;
            done
        })
    }

    /// Until all recorders know of it.
    fn wait_for_answer(&self, call_id: &str) -> Result<()> {
        let is_up = |call: &Value| call["call_id"] == call_id && !call["answered"].is_null();
        let end = Instant::now() + ANSWER;
        // It says so by its exit code when there is no call.
        while !self.recorders.iter().all(|recorder| {
            let list = recorder.ctl(0, &["list"]).unwrap_or_default();
            list["calls"].as_array().is_some_and(|calls| calls.iter().any(is_up))
        }) {
            ensure!(Instant::now() < end, "no recorder knows of {call_id}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Case {
    fn run(&self, bench: &Bench, binary: &Path) -> Result<()> {
        let path = |name: &str| -> PathBuf { bench.scratch.path().join(name) };
        let config = path("by-request.toml");
        std::fs::write(&config, RULES).context("write the rules")?;
        let config = Some(config.as_path());
        let lab = Lab::with_server(Mirror::Both)?;
        let tap = Tap::at_switch(bench, &lab)?;
        let mut recorders = Vec::new();
        for (source, (_, interface)) in Source::ALL.into_iter().zip(MIRROR_PORTS) {
            let name = format!("{}-{}", self.system, source.name());
            let order = Order { binary, name: &name, source, interface, config, options: &[] };
            recorders.push(Recorder::start(bench, &lab, &order).context(source.name())?);
        }
        (self.happens)(&Scene { bench, lab: &lab, recorders: &recorders })?;
        let mut summaries = Vec::new();
        for recorder in &mut recorders {
            summaries.push(recorder.stop()?);
        }
        let capture = tap.stop()?;
        let replayed =
            Archive::replay(binary, &capture, config, &path(&format!("replayed-{}", self.system)))?;
        let seen = Seen::read(&capture)?;
        let given = (self.gives)(&seen).context("what tcpdump has seen")?;
        for ((source, recorder), summary) in Source::ALL.into_iter().zip(&recorders).zip(&summaries) {
            let check = || {
                ensure_nothing_lost(summary)?;
                self.check(recorder.archive(), &given, &seen, &bench.samples)?;
                compare(recorder.archive(), &replayed)
            };
            let same = check().context(source.name())?;
            println!("  {:<18} {:<7} {same}", self.name, source.name());
        }
        Ok(())
    }

    fn check(&self, archive: &Archive, given: &Given, seen: &Seen, samples: &Path) -> Result<()> {
        archive.row("calls")?;
        let mut recordings = archive.rows("recordings")?;
        let wanted = given.recordings.len();
        ensure!(recordings.len() == wanted, "{} recordings, not {wanted}", recordings.len());
        recordings.sort_by_key(|row| row["mixed"] == true);
        for (row, track) in recordings.iter().zip(&given.recordings) {
            let which = if row["mixed"] == true { "the mixed recording" } else { "the recording" };
            self.check_recording(archive, row, track, given, seen, samples).context(which)?;
        }
        let mut events = archive.rows("events")?;
        events.retain(|row| row["kind"] == "trigger");
        events.sort_by_key(|row| row["start"].to_string());
        ensure!(events.len() == given.triggers.len(), "{} triggers: {events:?}", events.len());
        for (event, (verb, outcome, asked)) in events.iter().zip(&given.triggers) {
            let is_it =
                event["trigger"] == self.system && event["verb"] == *verb && event["outcome"] == *outcome;
            ensure!(is_it, "not a {verb} that was {outcome}: {event}");
            ensure_near(event, "start", *asked).with_context(|| format!("the {verb}"))?;
        }
        Ok(())
    }

    fn check_recording(
        &self,
        archive: &Archive,
        row: &Value,
        track: &Track,
        given: &Given,
        seen: &Seen,
        samples: &Path,
    ) -> Result<()> {
        ensure!(row["trigger"] == self.system, "it was caused by {}", row["trigger"]);
        let audio = archive.audio(row)?;
        ensure!(audio.channels.len() == track.voices.len(), "it has {} channels", audio.channels.len());
        ensure_near(row, "start", track.from)?;
        ensure_near(row, "ended", track.to)?;
        for (side, [user, name]) in ["from", "to"].iter().zip(given.parties) {
            let known = [&row[format!("{side}_user")], &row[format!("{side}_display")]];
            ensure!(known[0] == user && known[1] == name, "{side} is {known:?}");
        }
        let start = moment(row, "start")?;
        let within = |at: Duration| at.as_secs_f64() - start;
        for (channel, clip) in track.voices.iter().enumerate() {
            let said = clip.spoken(samples)?;
            let since = within(seen.clip(clip)?);
            let voice = Voice { said: &said, since, paused: track.paused.map(|edges| edges.map(within)) };
            voice.ensure_heard(&audio, channel)?;
        }
        Ok(())
    }
}

/// Seconds from the epoch.
fn moment(row: &Value, column: &str) -> Result<f64> {
    let text = row[column].as_str().with_context(|| format!("there is no {column}"))?;
    let moment: jiff::Timestamp = text.parse().with_context(|| format!("read {text}"))?;
    Ok(moment.as_duration().as_secs_f64())
}

fn ensure_near(row: &Value, column: &str, at: Duration) -> Result<()> {
    let late = moment(row, column)? - at.as_secs_f64();
    ensure!(late.abs() <= NEAR_S, "{column} is {late:.3} s after what was asked for");
    Ok(())
}
