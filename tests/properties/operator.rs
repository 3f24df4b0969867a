//! What an operator asks for takes effect as of when he asked for it.

use spantape_core::control::{Answer, Effect, LiveCalls, Refusal, Request, Target};
use spantape_core::record::{EventRow, Side};
use spantape_core::rules::{Action, Config, Rule, Rules};
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};
use spantape_core::trigger::Verb;
use spantape_tests::call::{Call, PACKET};
use spantape_tests::frame::{Frame, merge, udp};
use spantape_tests::runner::{Outcome, run_with};

/// Who asks.
const SOMEBODY: ([u8; 4], u16) = ([192, 0, 2, 7], 4711);

fn config(action: Action) -> Config {
    Config { rules: Rules::new(vec![Rule::new("the-rule", action)], Vec::new()), ..Config::default() }
}

fn dn(user: &str) -> Target {
    Target::Dn(user.to_owned())
}

fn ask(target: Target, verb: Verb) -> Request {
    let from = Some(SOMEBODY.into());
    Request { source: "operator", target, verb: Some(verb), note: None, from, remark: String::new() }
}

type Answers = Vec<Result<Answer, Refusal>>;

/// Runs frames, and asks at these moments, which may be noticed later.
fn run(config: Config, frames: &[Frame], late: i64, requests: &[(i64, Request)]) -> (Outcome, Answers) {
    let (mut waiting, mut answers) = (requests.iter().peekable(), Vec::new());
    let outcome = run_with(config, frames, |engine, next| {
        while let Some((at, request)) = waiting.next_if(|(at, _)| at + late <= next.0) {
            answers.push(engine.control(Timestamp(*at), request));
        }
    });
    assert_eq!(answers.len(), requests.len(), "some request lies behind the last frame");
    (outcome, answers)
}

fn triggers(outcome: &Outcome) -> Vec<&EventRow> {
    outcome.events.iter().filter(|row| row.kind == "trigger").collect()
}

fn near(a: Timestamp, b: i64) -> bool {
    (a.0 - b).abs() <= PACKET + MILLISECOND
}

#[test]
fn start_and_stop_by_each_target() {
    let call = Call::plain(0, 0, 6 * SECOND);
    let (start, stop) = (call.answered() + SECOND, call.answered() + 3 * SECOND);
    let mut id = String::new();
    run_with(config(Action::All), &call.frames(), |engine, _| {
        if let Some(call) = engine.live_calls(None, 1).calls.first() {
            id = call.id.to_string();
        }
    });
    let targets = [
        Target::Id(id[..8].to_owned()),
        Target::Id(id.to_uppercase()),
        Target::CallId("call-0@test".to_owned()),
        dn("1000"),
        dn("2000"),
    ];
    for target in targets {
        let requests = [(start, ask(target.clone(), Verb::Start)), (stop, ask(target.clone(), Verb::Stop))];
        let (outcome, answers) = run(config(Action::OnDemand), &call.frames(), 0, &requests);
        let answers: Vec<Answer> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!([answers[0].effect, answers[1].effect], [Effect::Done; 2], "{target:?}");
        assert_eq!([answers[0].call.recording, answers[1].call.recording], [Some("operator"), None]);
        assert_eq!(answers[0].call.rule.as_deref(), Some("the-rule"));
        let [recording] = &outcome.recordings[..] else { panic!("{:?}", outcome.recordings.len()) };
        assert_eq!(recording.row.trigger, "operator");
        assert!(near(recording.row.start, start) && near(recording.row.end, stop), "{:?}", recording.row);
        let rows: Vec<_> =
            triggers(&outcome).iter().map(|row| (row.trigger, row.verb, row.outcome, row.at.0)).collect();
        let wanted = [("operator", "start", "confirmed", start), ("operator", "stop", "confirmed", stop)];
        assert_eq!(rows, wanted);
        assert!(triggers(&outcome).iter().all(|row| row.source == Some(SOMEBODY.into())));
    }
}

/// Also when the order is noticed only after frames that came behind it.
#[test]
fn a_pause_is_gone() {
    for late in [0, 70 * MILLISECOND, 2 * SECOND] {
        let call = Call::plain(0, 0, 10 * SECOND);
        let (pause, resume) = (call.answered() + 3 * SECOND, call.answered() + 5 * SECOND);
        let requests = [(pause, ask(dn("1000"), Verb::Pause)), (resume, ask(dn("1000"), Verb::Resume))];
        let (outcome, answers) = run(config(Action::All), &call.frames(), late, &requests);
        let answers: Vec<Answer> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!([answers[0].effect, answers[1].effect], [Effect::Done; 2]);
        assert_eq!([answers[0].call.paused, answers[1].call.paused], [true, false]);
        assert_eq!(answers[0].call.recording, Some("rule"));
        let [recording] = &outcome.recordings[..] else { panic!("{:?}", outcome.recordings.len()) };
        let rate = i64::from(recording.row.sample_rate);
        for side in [Side::Caller, Side::Callee] {
            let mut heard = [0, 0, 0];
            for (frame, sample) in recording.side(side).enumerate() {
                let at = recording.row.start.0 + frame as i64 * SECOND / rate;
                let part = usize::from(at > pause + MILLISECOND) + usize::from(at > resume - MILLISECOND);
                heard[part] += i64::from(sample != 0);
            }
            assert_eq!(heard[1], 0, "samples of the pause, told {late} ns later");
            let lost = if late == 0 { PACKET } else { late.min(SECOND) };
            assert!(heard[0] * SECOND / rate > 2900 * MILLISECOND, "{heard:?}");
            assert!(heard[2] * SECOND / rate > 4900 * MILLISECOND - 2 * lost, "{heard:?}, {late} ns later");
        }
    }
}

#[test]
fn what_changes_nothing_says_so() {
    let call = Call::plain(0, 0, 6 * SECOND);
    let at = |ms: i64| call.answered() + ms * MILLISECOND;
    let effects = |action, verbs: &[Verb]| -> Vec<Effect> {
        let request = |(index, verb)| (at(1000 + 500 * index as i64), ask(dn("1000"), verb));
        let requests: Vec<_> = verbs.iter().copied().enumerate().map(request).collect();
        let (outcome, answers) = run(config(action), &call.frames(), 0, &requests);
        assert_eq!(triggers(&outcome).len(), verbs.len(), "each trigger is an event");
        answers.into_iter().map(|answer| answer.unwrap().effect).collect()
    };
    use Verb::{Pause, Resume, Start, Stop};
    let whole = "its rule records the whole call";
    assert_eq!(effects(Action::All, &[Start, Stop]), [Effect::None(whole); 2]);
    let found = effects(Action::OnDemand, &[Stop, Start, Start, Resume, Pause, Pause]);
    let wanted = [
        Effect::None("it is not being recorded"),
        Effect::Done,
        Effect::None("it is being recorded already"),
        Effect::None("it is not paused"),
        Effect::Done,
        Effect::None("it is paused already"),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn what_is_refused_is_an_event_of_the_call() {
    let call = Call::plain(0, 0, 4 * SECOND);
    let at = call.answered() + SECOND;
    let (outcome, answers) =
        run(config(Action::Ignore), &call.frames(), 0, &[(at, ask(dn("2000"), Verb::Start))]);
    assert_eq!(answers[0].as_ref().unwrap_err(), &Refusal::Ignored("the-rule".to_owned()));
    let [row] = triggers(&outcome)[..] else { panic!("{:?}", outcome.events) };
    assert_eq!((row.trigger, row.verb, row.outcome), ("operator", "start", "refused"));
    assert_eq!((row.text.as_str(), row.at.0), ("the rule `the-rule` ignores the call", at));
    assert!(row.source.is_some() && outcome.recordings.is_empty());

    // Ended, but still known: the second call's frames let time pass.
    let other = Call::plain(1, 0, 8 * SECOND);
    let frames = merge([call.frames(), other.frames()]);
    let over = Target::CallId("call-0@test".to_owned());
    let requests = [
        (call.end() + SECOND, ask(over.clone(), Verb::Stop)),
        (call.end() + SECOND, ask(dn("1000"), Verb::Stop)),
        (call.end() + SECOND, ask(dn("4711"), Verb::Stop)),
        (call.end() + SECOND, ask(Target::Id("zz".to_owned()), Verb::Stop)),
    ];
    let (outcome, answers) = run(config(Action::All), &frames, 0, &requests);
    let refusals: Vec<Refusal> = answers.into_iter().map(Result::unwrap_err).collect();
    assert_eq!(refusals, [Refusal::Over, Refusal::NoCall, Refusal::NoCall, Refusal::NoCall]);
    let [row] = triggers(&outcome)[..] else { panic!("{:?}", outcome.events) };
    assert_eq!((row.outcome, row.text.as_str()), ("refused", "the call is over"));
}

#[test]
fn a_note_is_an_event_of_the_call_even_just_after_its_end() {
    let call = Call::plain(0, 0, 4 * SECOND);
    let other = Call::plain(1, 0, 8 * SECOND);
    let frames = merge([call.frames(), other.frames()]);
    let note = |text: &str| Request {
        source: "operator",
        verb: None,
        note: Some(text.to_owned()),
        ..ask(Target::CallId("call-0@test".to_owned()), Verb::Stop)
    };
    let long = "x".repeat(2000);
    let requests = [
        (call.answered(), note("claim\x1b[2J\n 4711 ")),
        (call.end() + SECOND, note(&long)),
        (call.end() + SECOND, Request { target: dn("1001"), ..note("") }),
    ];
    let (outcome, answers) = run(config(Action::OnDemand), &frames, 0, &requests);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().effect == Effect::Done));
    let notes: Vec<_> = outcome.events.iter().filter(|row| row.kind == "note").collect();
    assert_eq!(notes[0].text, "claim [2J  4711");
    assert_eq!((notes[1].text.len(), notes[1].call_id.as_str()), (1000, "call-0@test"));
    assert_eq!(notes[2].call_id, "call-1@test");
    assert!(triggers(&outcome).is_empty(), "a note is no trigger");
}

#[test]
fn of_several_calls_of_a_number_the_one_answered_last_is_meant() {
    // The second call rings for longer: it is answered after the third.
    let mut calls =
        [0, 1, 2].map(|index| Call::plain(index, i64::from(index) * 100 * MILLISECOND, 6 * SECOND));
    calls[1].ring = 2 * SECOND;
    let same = |frame: Frame| {
        let text = String::from_utf8_lossy(&frame.bytes);
        // All calls are of 1000: users have the same length.
        if !text.contains("SIP/2.0") {
            return frame;
        }
        let bytes = replace(&frame.bytes, &[(b"sip:1001@", b"sip:1000@"), (b"sip:1002@", b"sip:1000@")]);
        Frame { bytes, ..frame }
    };
    let frames: Vec<Frame> = merge(calls.each_ref().map(Call::frames)).into_iter().map(same).collect();
    let at = calls[1].answered() + SECOND;
    let mut live = LiveCalls::default();
    let requests = [
        (calls[0].start + 300 * MILLISECOND, ask(dn("1000"), Verb::Start)),
        (at, ask(dn("1000"), Verb::Start)),
    ];
    let (outcome, answers) = run(config(Action::OnDemand), &frames, 0, &requests);
    let answers: Vec<Answer> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!((answers[0].call.call_id.as_str(), answers[0].matched), ("call-2@test", 3));
    assert_eq!((answers[1].call.call_id.as_str(), answers[1].matched), ("call-1@test", 3));
    assert_eq!(outcome.recordings.len(), 2);
    run_with(config(Action::All), &frames, |engine, next| {
        if next.0 >= at && live.calls.is_empty() {
            live = engine.live_calls(Some(&dn("1000")), 2);
        }
    });
    let listed: Vec<&str> = live.calls.iter().map(|call| call.call_id.as_str()).collect();
    assert_eq!((listed, live.matched), (vec!["call-2@test", "call-1@test"], 3));
}

fn replace(bytes: &[u8], pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (from, to) in pairs {
        for at in 0..bytes.len().saturating_sub(from.len()) {
            if bytes[at..].starts_with(from) {
                bytes[at..at + from.len()].copy_from_slice(to);
            }
        }
    }
    bytes
}

#[test]
fn an_id_that_begins_like_another_names_no_call() {
    // Of seventeen hexadecimal digits two are the same.
    let calls: Vec<Call> = (0..17).map(|index| Call::plain(index, 0, 4 * SECOND)).collect();
    let frames = merge(calls.iter().map(Call::frames));
    let mut refused = 0;
    let mut done = false;
    run_with(config(Action::OnDemand), &frames, |engine, next| {
        if next.0 > calls[0].answered() + SECOND && !done {
            done = true;
            for digit in "0123456789abcdef".chars() {
                let ask = ask(Target::Id(digit.to_string()), Verb::Start);
                let alike = engine.live_calls(Some(&ask.target), 20).matched;
                match engine.control(next, &ask) {
                    Ok(answer) => assert_eq!((alike, answer.matched), (1, 1)),
                    Err(Refusal::NoCall) => assert_eq!(alike, 0),
                    Err(refusal) => {
                        assert_eq!(refusal, Refusal::Ambiguous(alike));
                        refused += 1;
                    }
                }
            }
        }
    });
    assert!(refused > 0);
}

#[test]
fn behind_a_trigger_that_waits_for_its_answer() {
    let call = Call::plain(0, 0, 6 * SECOND);
    let dialog = call.dialog();
    let (info, pause, answer) =
        (call.answered() + SECOND, call.answered() + 1500 * MILLISECOND, call.answered() + 2 * SECOND);
    let info = [
        udp(
            info,
            call.sip[0],
            call.sip[1],
            &dialog.request("INFO", Side::Caller, 5, false, "Record: on\r\n", ""),
        ),
        udp(answer, call.sip[1], call.sip[0], &dialog.response(200, "INFO", Side::Caller, 5, "")),
    ];
    let frames = merge([call.frames(), info.to_vec()]);
    let (outcome, answers) =
        run(config(Action::OnDemand), &frames, 0, &[(pause, ask(dn("1000"), Verb::Pause))]);
    assert_eq!(answers[0].as_ref().unwrap().effect, Effect::Pending);
    let [recording] = &outcome.recordings[..] else { panic!("{:?}", outcome.recordings.len()) };
    let samples = recording.side(Side::Caller).enumerate();
    let heard = samples.filter(|(_, sample)| *sample != 0).last().unwrap().0 as i64;
    let heard = recording.row.start.0 + heard * SECOND / i64::from(recording.row.sample_rate);
    assert!(near(Timestamp(heard), pause), "heard until {} ms", (heard - call.answered()) / MILLISECOND);
}
