//! What is recorded on demand is what a simple model of the record key says.

use proptest::prelude::*;
use spantape_core::record::Side;
use spantape_core::rules::{Action, Config, OnRefused, Paused, Rule, Rules};
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, PACKET, Sent};
use spantape_tests::frame::{Frame, merge, udp};
use spantape_tests::runner::run;
use spantape_tests::truth;

/// From a press to its answer.
const ANSWER: i64 = 150 * MILLISECOND;
/// Nobody presses more often.
const REST: i64 = 300 * MILLISECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Status(u16),
    Nothing,
    /// 401, and the request once more with credentials, which gets this status.
    Retried(u16),
}

#[derive(Clone, Copy, Debug)]
struct Press {
    /// After the press before.
    after: i64,
    by: Side,
    on: bool,
    answer: Answer,
}

fn press() -> impl Strategy<Value = Press> {
    let answer = prop_oneof![
        5 => Just(Answer::Status(200)),
        2 => Just(Answer::Status(403)),
        1 => Just(Answer::Status(481)),
        2 => Just(Answer::Nothing),
        2 => Just(Answer::Retried(200)),
        1 => Just(Answer::Retried(403)),
    ];
    let side = prop_oneof![Just(Side::Caller), Just(Side::Callee)];
    (0..3000i64, side, any::<bool>(), answer).prop_map(|(after, by, on, answer)| Press {
        after: REST + after * MILLISECOND,
        by,
        on,
        answer,
    })
}

/// Presses and the moments at which they are made.
fn timed(call: &Call, presses: &[Press]) -> Vec<(i64, Press)> {
    let mut at = call.answered() + 200 * MILLISECOND;
    let mut timed = Vec::new();
    for press in presses {
        at += press.after;
        timed.push((at, *press));
    }
    timed
}

/// What a key that is switched on, and off again, asks for.
#[derive(Clone, Copy)]
struct Asks([&'static str; 2]);

const RECORD: Asks = Asks(["Record: off\r\n", "Record: on\r\n"]);
const PAUSE: Asks = Asks(["X-AC-Action: resume-siprec\r\n", "X-AC-Action: pause-siprec\r\n"]);

fn frames(call: &Call, presses: &[(i64, Press)], asks: Asks) -> Vec<Frame> {
    let dialog = call.dialog();
    let mut frames = Vec::new();
    for (index, (at, press)) in presses.iter().enumerate() {
        let (by, cseq) = (press.by, 10 + 2 * index as u32);
        let [from, to] = [by, by.other()].map(|side| call.sip[side.channel()]);
        let header = asks.0[usize::from(press.on)];
        let mut ask = |at: i64, cseq: u32, status: Option<u16>| {
            let request = dialog.request("INFO", by, cseq, false, header, "");
            frames.push(udp(at, from, to, &request));
            if let Some(status) = status {
                frames.push(udp(at + ANSWER / 3, to, from, &dialog.response(status, "INFO", by, cseq, "")));
            }
        };
        match press.answer {
            Answer::Nothing => ask(*at, cseq, None),
            Answer::Status(status) => ask(*at, cseq, Some(status)),
            Answer::Retried(status) => {
                ask(*at, cseq, Some(401));
                ask(at + ANSWER * 2 / 3, cseq + 1, Some(status));
            }
        }
    }
    frames
}

/// When the answer that counts comes.
fn answered_at(at: i64, answer: Answer) -> i64 {
    match answer {
        Answer::Retried(_) => at + ANSWER,
        _ => at + ANSWER / 3,
    }
}

/// The intervals in which the key is on.
fn model(call: &Call, presses: &[(i64, Press)], honour: bool) -> Vec<(i64, i64)> {
    let gone = presses
        .iter()
        .find(|(_, press)| press.answer == Answer::Status(481))
        .map(|(at, press)| answered_at(*at, press.answer));
    let end = gone.map_or(call.end(), |gone| gone.min(call.end()));
    let (mut intervals, mut since) = (Vec::new(), None);
    for (at, press) in presses.iter().filter(|(at, _)| *at < end) {
        let obeyed = honour || matches!(press.answer, Answer::Status(200) | Answer::Retried(200));
        match (obeyed, press.on, since) {
            (true, true, None) => since = Some(*at),
            (true, false, Some(start)) => {
                intervals.push((start, *at));
                since = None;
            }
            _ => {}
        }
    }
    intervals.extend(since.map(|start| (start, end)));
    intervals
}

fn on_demand(on_refused: OnRefused) -> Config {
    let rule = Rule { on_refused, ..Rule::new("on-demand", Action::OnDemand) };
    Config { rules: Rules::new(vec![rule], Vec::new()), ..Config::default() }
}

fn check(presses: &[Press], honour: bool) -> Result<(), TestCaseError> {
    let length: i64 = presses.iter().map(|press| press.after).sum();
    let call = Call::plain(0, 0, length + 2 * SECOND);
    let presses = timed(&call, presses);
    let on_refused = if honour { OnRefused::HonourKey } else { OnRefused::FollowServer };
    let outcome = run(on_demand(on_refused), &merge([call.frames(), frames(&call, &presses, RECORD)]));
    let found: Vec<(i64, i64)> =
        outcome.recordings.iter().map(|recording| (recording.row.start.0, recording.row.end.0)).collect();
    let wanted = model(&call, &presses, honour);
    let shown = |intervals: &[(i64, i64)]| {
        let ms = |at: i64| (at - call.answered()) / MILLISECOND;
        intervals.iter().map(|(start, end)| format!("{}..{}", ms(*start), ms(*end))).collect::<Vec<_>>()
    };
    let near = |a: i64, b: i64| (a - b).abs() <= 21 * MILLISECOND;
    let same = found.len() == wanted.len()
        && found.iter().zip(&wanted).all(|(a, b)| near(a.0, b.0) && near(a.1, b.1));
    prop_assert!(same, "recorded {:?}, wanted {:?}", shown(&found), shown(&wanted));
    let media = call.media();
    for recording in &outcome.recordings {
        // The packet in which the key was pressed had come by before.
        let begun = |packet: &&Sent| (packet.spoken - recording.row.start.0).abs() <= PACKET;
        let begun: Vec<Sent> = media.iter().filter(begun).cloned().collect();
        truth::is_placed(recording, &media, &begun).map_err(TestCaseError::fail)?;
    }
    Ok(())
}

/// A call that is recorded as a whole, but for the times in which it is paused. Nothing is sent in its first moments.
fn check_pauses(presses: &[Press], honour: bool, quiet: i64) -> Result<(), TestCaseError> {
    let length: i64 = presses.iter().map(|press| press.after).sum();
    let call = Call::plain(0, 0, length + 2 * SECOND);
    let presses = timed(&call, presses);
    let on_refused = if honour { OnRefused::HonourKey } else { OnRefused::FollowServer };
    let rule = Rule { on_refused, ..Rule::new("all", Action::All) };
    let config = Config { rules: Rules::new(vec![rule], Vec::new()), ..Config::default() };
    let mut media = call.media();
    media.retain(|packet| packet.spoken >= call.answered() + quiet);
    let sent = media.iter().map(Sent::frame).collect();
    let outcome = run(config, &merge([call.signalling(), sent, frames(&call, &presses, PAUSE)]));
    let paused = model(&call, &presses, honour);
    prop_assert!(outcome.recordings.len() <= 1);
    let Some(recording) = outcome.recordings.first() else {
        // The dialog was gone before anything was sent.
        prop_assert!(presses.iter().any(|(_, press)| press.answer == Answer::Status(481)));
        return Ok(());
    };
    // The packet in which the key was pressed is cut, and may be moved by as much.
    let slack = PACKET + MILLISECOND;
    for side in [Side::Caller, Side::Callee] {
        for (frame, sample) in recording.side(side).enumerate() {
            let at = recording.row.start.0 + frame as i64 * SECOND / i64::from(recording.row.sample_rate);
            let silent = paused.iter().any(|(from, to)| at > from + MILLISECOND && at < to - MILLISECOND);
            prop_assert!(
                !silent || sample == 0,
                "{sample} is heard {} ms after the answer, while paused",
                (at - call.answered()) / MILLISECOND
            );
        }
    }
    let at_a_pause = |packet: &&Sent| {
        paused.iter().any(|(from, to)| packet.spoken > from - 2 * slack && packet.spoken < to + slack)
    };
    let around: Vec<Sent> = media.iter().filter(at_a_pause).cloned().collect();
    truth::is_placed(recording, &media, &around).map_err(TestCaseError::fail)
}

/// What is cut is the same recording without the times in which it is paused.
fn check_cuts(presses: &[Press], on_demand: bool) -> Result<(), TestCaseError> {
    let length: i64 = presses.iter().map(|press| press.after).sum();
    let call = Call::plain(0, 0, length + 2 * SECOND);
    let presses = timed(&call, presses);
    // On demand it goes on to the call's end, and may begin in a pause.
    let mut frames = merge([call.frames(), frames(&call, &presses, PAUSE)]);
    if on_demand {
        let (at, [from, to]) = (call.answered() + SECOND, call.sip);
        let dialog = call.dialog();
        let request = dialog.request("INFO", Side::Caller, 90, false, "Record: on\r\n", "");
        let answer = dialog.response(200, "INFO", Side::Caller, 90, "");
        frames = merge([frames, vec![udp(at, from, to, &request), udp(at + ANSWER / 3, to, from, &answer)]]);
    }
    let action = if on_demand { Action::OnDemand } else { Action::All };
    let record = |paused: Paused| {
        let rule = Rule { paused, ..Rule::new("all", action) };
        run(Config { rules: Rules::new(vec![rule], Vec::new()), ..Config::default() }, &frames)
    };
    let (silent, cut) = (record(Paused::Silence), record(Paused::Cut));
    let Some(whole) = silent.recordings.first() else {
        // The dialog was gone before anybody asked for a recording.
        prop_assert!(on_demand && cut.recordings.is_empty());
        return Ok(());
    };
    let rate = i64::from(whole.row.sample_rate);
    let frame = |at: i64| ((at - whole.row.start.0).max(0) * rate + SECOND / 2) / SECOND;
    let paused: Vec<(i64, i64)> =
        model(&call, &presses, false).into_iter().map(|(from, to)| (frame(from), frame(to))).collect();
    let kept = |place: i64| !paused.iter().any(|(from, to)| (*from..*to).contains(&place));
    let expected: Vec<i16> = (0..)
        .zip(whole.samples.as_chunks::<2>().0)
        .filter(|(place, _)| kept(*place))
        .flat_map(|(_, samples)| *samples)
        .collect();
    let found = cut.recordings.first();
    prop_assert_eq!(cut.recordings.len(), usize::from(!expected.is_empty()));
    prop_assert!(found.is_none_or(|found| found.samples == expected), "something else was kept");
    if let Some(found) = found {
        prop_assert_eq!((found.row.start, found.row.end), (whole.row.start, whole.row.end));
        let told = cut.events.iter().filter(|event| event.kind == "cut").count();
        let end = whole.row.frames as i64;
        let there = paused.iter().filter(|(from, to)| (*to).min(end) > *from).count();
        prop_assert_eq!(told, there);
    }
    Ok(())
}

/// A resume counts from when it was asked for, also if the recording begins before it is answered.
#[test]
fn a_recording_begins_while_a_resume_waits_for_its_answer() {
    let press = |on, answer| Press { after: REST, by: Side::Caller, on, answer };
    let presses = [press(true, Answer::Status(200)), press(false, Answer::Nothing)];
    check_pauses(&presses, true, 900 * MILLISECOND).unwrap();
}

proptest! {
    #![proptest_config(crate::cases(96))]

    #[test]
    fn as_the_server_says(presses in prop::collection::vec(press(), 1..8)) {
        check(&presses, false)?;
    }

    #[test]
    fn as_the_key_says(presses in prop::collection::vec(press(), 1..8)) {
        check(&presses, true)?;
    }

    #[test]
    fn pauses_are_cut(presses in prop::collection::vec(press(), 1..8), on_demand in any::<bool>()) {
        check_cuts(&presses, on_demand)?;
    }

    #[test]
    fn nothing_is_kept_of_pauses(
        presses in prop::collection::vec(press(), 1..8),
        honour in any::<bool>(),
        quiet in prop_oneof![Just(0), 0..2000i64],
    ) {
        check_pauses(&presses, honour, quiet * MILLISECOND)?;
    }
}
