//! Calls that phones send to a recorder, beside the calls that they record.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use spantape_core::control::{Request, Target};
use spantape_core::record::Side;
use spantape_core::recording_session::{Carries, Recorder};
use spantape_core::rules::{Action, Config, Rule, Rules, glob};
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};
use spantape_core::trigger::Verb;
use spantape_tests::call::{Call, Sent, values};
use spantape_tests::frame::{Frame, merge, udp};
use spantape_tests::runner::{Outcome, run, run_with};
use spantape_tests::sip::{Dialog, sdp};

use super::cases;

const PBX: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 3, 0, 1), 5060);
const RECORDER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 4, 0, 1), 5060);

fn config(action: Action) -> Config {
    let recorder = glob("7900").map(|uri| Recorder { uri, carries: Carries::Mixed });
    let rules = Rules::new(vec![Rule::new("the-rule", action)], Vec::new());
    Config { rules, recorders: recorder.into_iter().collect(), ..Config::default() }
}

/// A call to the recorder by `user`, from `host`: answered after 50 ms, with media for as long as it lasts.
fn leg(user: &str, host: SocketAddrV4, at: i64, length: i64, media: &[Sent]) -> Vec<Frame> {
    let dialog = Dialog { call_id: "leg@test".to_owned(), users: [user.to_owned(), "7900".to_owned()] };
    let [from, to] = [SocketAddrV4::new(*host.ip(), 6000), SocketAddrV4::new(*RECORDER.ip(), 7000)];
    let (offer, answer) = (sdp(from), sdp(to));
    let answered = at + 50 * MILLISECOND;
    let signalling = vec![
        udp(at, host, RECORDER, &dialog.request("INVITE", Side::Caller, 1, true, "", &offer)),
        udp(answered, RECORDER, host, &dialog.response(200, "INVITE", Side::Caller, 1, &answer)),
        udp(answered + MILLISECOND, host, RECORDER, &dialog.request("ACK", Side::Caller, 1, false, "", "")),
        udp(at + length, host, RECORDER, &dialog.request("BYE", Side::Caller, 2, false, "", "")),
    ];
    let within = media.iter().filter(|sent| (answered..at + length).contains(&sent.at));
    let copies = within.map(|sent| Sent { path: [from, to], ssrc: 0x1e9, ..sent.clone() }.frame());
    merge([signalling, copies.collect()])
}

/// All calls pass the same PBX, which calls the recorder on behalf of the one whose phone has asked for it.
#[test]
fn a_pbx_is_no_phone() {
    for (who, other) in [(0, 1), (1, 0)] {
        let mut calls = [Call::plain(0, 0, 6 * SECOND), Call::plain(1, 200 * MILLISECOND, 6 * SECOND)];
        for call in &mut calls {
            call.sip[1] = PBX;
        }
        let user = calls[who].dialog().users[0].clone();
        let at = calls[0].answered() + SECOND;
        let frames = merge([calls[0].frames(), calls[1].frames(), leg(&user, PBX, at, 3 * SECOND, &[])]);
        let outcome = run(config(Action::OnDemand), &frames);
        let started = |index: usize| outcome.recordings_of(&calls[index].dialog().call_id).count();
        assert_eq!((started(who), started(other)), (1, 0));
    }
}

/// Two calls through a PBX, with both legs of the first.
#[test]
fn both_legs_of_a_pbx_are_one_conversation() {
    let mut calls = [Call::plain(0, 0, 6 * SECOND), Call::plain(1, 300 * MILLISECOND, 6 * SECOND)];
    for call in &mut calls {
        call.sip[1] = PBX;
    }
    let phone = SocketAddrV4::new(Ipv4Addr::new(10, 2, 0, 9), 5060);
    let dialog = Dialog { call_id: "second-leg@test".to_owned(), users: calls[0].dialog().users };
    let at = calls[0].start + 50 * MILLISECOND;
    let [from, to] = [SocketAddrV4::new(*PBX.ip(), 6000), SocketAddrV4::new(*phone.ip(), 7000)];
    let leg = vec![
        udp(at, PBX, phone, &dialog.request("INVITE", Side::Caller, 1, true, "", &sdp(from))),
        udp(at + SECOND, phone, PBX, &dialog.response(200, "INVITE", Side::Caller, 1, &sdp(to))),
        udp(calls[0].end(), PBX, phone, &dialog.request("BYE", Side::Caller, 2, false, "", "")),
    ];
    let outcome = run(Config::default(), &merge([calls[0].frames(), calls[1].frames(), leg]));
    let conversation = |call_id: &str| {
        let call = outcome.calls.iter().find(|call| call.call_id == call_id);
        call.map(|call| call.conversation_id.clone()).unwrap()
    };
    let [first, other] = [0, 1].map(|index: usize| conversation(&calls[index].dialog().call_id));
    assert_eq!(conversation("second-leg@test"), first);
    assert_ne!(other, first);
}

/// A media server sends both voices under its own name.
#[test]
fn voices_of_one_user_are_two() {
    let start = Call::plain(0, 0, SECOND).start;
    let server = SocketAddrV4::new(Ipv4Addr::new(10, 3, 0, 1), 5060);
    let uuid = "X-Genesys-CallUUID: 0123456789ABCDEF\r\n";
    let mut parts = Vec::new();
    for (index, side) in [Side::Caller, Side::Callee].into_iter().enumerate() {
        let users = ["mcp".to_owned(), "recorder".to_owned()];
        let dialog = Dialog { call_id: format!("voice-{index}@test"), users };
        let more = index as u16 * 2;
        let [from, to] =
            [(server, 6000), (RECORDER, 7000)].map(|(host, port)| SocketAddrV4::new(*host.ip(), port + more));
        let only = |end, direction: &str| sdp(end).replace("sendrecv", direction);
        let at = start + index as i64 * 5 * MILLISECOND;
        let answer = dialog.response(200, "INVITE", Side::Caller, 1, &only(to, "recvonly"));
        let call = Call::plain(0, 0, 2 * SECOND);
        let media = call.media_of(side);
        let copies = media.iter().map(|sent| Sent { path: [from, to], ..sent.clone() }.frame());
        let invite = dialog.request("INVITE", Side::Caller, 1, true, uuid, &only(from, "sendonly"));
        let signalling = vec![
            udp(at, server, RECORDER, &invite),
            udp(at + 20 * MILLISECOND, RECORDER, server, &answer),
            udp(call.end(), server, RECORDER, &dialog.request("BYE", Side::Caller, 2, false, "", "")),
        ];
        parts.push(merge([signalling, copies.collect()]));
    }
    let outcome = run(Config::default(), &merge(parts));
    let [recording] = &outcome.recordings[..] else { panic!("{} recordings", outcome.recordings.len()) };
    for side in [Side::Caller, Side::Callee] {
        let spoken = values(0, side);
        let heard = recording.side(side).filter(|sample| spoken.contains(sample)).count();
        assert!(heard > 12_000, "{side:?}: {heard}");
    }
}

fn paused(outcome: &Outcome, from: i64, to: i64) -> Result<(), TestCaseError> {
    for recording in &outcome.recordings {
        let channels = if recording.row.mixed { 1 } else { 2 };
        let rate = i64::from(recording.row.sample_rate);
        let moment = |index: usize| recording.row.start.0 + (index / channels) as i64 * SECOND / rate;
        for (index, sample) in recording.samples.iter().enumerate() {
            let is_paused = (from..to - SECOND / rate).contains(&moment(index));
            prop_assert!(!is_paused || *sample == 0, "{} in {:?}", moment(index) - from, recording.row);
        }
    }
    Ok(())
}

/// A call that is paused for a time, and its copy. All in milliseconds, from when the call is answered.
#[derive(Debug)]
struct Pause {
    begins: i64,
    lasts: i64,
    copy_begins: i64,
    copy_lasts: i64,
    by_rule: bool,
}

impl Pause {
    /// The pause is asked for outside of both.
    fn check(&self) -> Result<(), TestCaseError> {
        let call = Call::plain(0, 0, 8 * SECOND);
        let [pause, begins] =
            [self.begins, self.copy_begins].map(|after| call.answered() + after * MILLISECOND);
        let resume = pause + self.lasts * MILLISECOND;
        let media = call.media_of(Side::Caller);
        let copy = leg("1000", call.sip[0], begins, self.copy_lasts * MILLISECOND, &media);
        let frames = merge([call.frames(), copy]);
        let ask = |verb| Request {
            source: "operator",
            target: Target::CallId("call-0@test".to_owned()),
            verb: Some(verb),
            note: None,
            from: None,
            remark: String::new(),
        };
        let mut asks = [(pause, ask(Verb::Pause)), (resume, ask(Verb::Resume))].into_iter().peekable();
        let action = if self.by_rule { Action::All } else { Action::OnDemand };
        let outcome = run_with(config(action), &frames, |engine, next| {
            while let Some((at, request)) = asks.next_if(|(at, _)| *at <= next.0) {
                engine.control(Timestamp(at), &request).expect("the call is up");
            }
        });
        let mixed = outcome.recordings.iter().filter(|recording| recording.row.mixed).count();
        prop_assert_eq!(outcome.recordings.len() - mixed, 1);
        prop_assert_eq!(mixed, 1);
        let heard =
            outcome.recordings.iter().all(|recording| recording.samples.iter().any(|sample| *sample != 0));
        let outlasts = begins < pause - 200 * MILLISECOND;
        prop_assert!(heard || !outlasts);
        paused(&outcome, pause, resume)
    }
}

/// Packets of the pause still wait for a recording to begin when it is over.
#[test]
fn a_copy_that_begins_in_a_pause_begins_after_it() {
    for copy_begins in 2031..2171 {
        let pause = Pause { begins: 1188, lasts: 983, copy_begins, copy_lasts: 500, by_rule: true };
        pause.check().unwrap();
    }
}

proptest! {
    #![proptest_config(cases(60))]

    /// Whoever pauses the call, and whenever its copy begins.
    #[test]
    fn nothing_is_kept_of_a_pause_in_any_copy(
        begins in 1000i64..4000,
        lasts in 100i64..3000,
        copy_begins in 500i64..4500,
        copy_lasts in 500i64..4000,
        by_rule: bool,
    ) {
        Pause { begins, lasts, copy_begins, copy_lasts, by_rule }.check()?;
    }
}
