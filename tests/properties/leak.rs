//! No call's audio ever enters another call's recording.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use spantape_core::rules::Config;
use spantape_core::time::{MILLISECOND, SECOND};
use spantape_tests::call::{Call, EPOCH, Lost, Move};
use spantape_tests::frame::merge;
use spantape_tests::runner::run;
use spantape_tests::truth;

/// The next user of a port waits so long after the one before has stopped.
const REST: i64 = SECOND + 20 * MILLISECOND;
/// The same where no message tells that another call has begun: only silence can.
const REST_UNTOLD: i64 = 7 * SECOND;

/// What chance decides of a call; [`calls`] makes a call of it that uses no port before its time.
#[derive(Clone, Debug)]
struct Draft {
    places: [usize; 2],
    pause: i64,
    talk: i64,
    early: bool,
    lost: [bool; 7],
    moves: Option<(i64, usize)>,
    ssrc: [u32; 2],
    sequence: [u16; 2],
    timestamp: [u32; 2],
}

fn near_the_wrap<T: Copy + std::fmt::Debug + 'static>(wrap: Vec<T>) -> impl Strategy<Value = T> {
    prop::sample::select(wrap)
}

fn draft(moving: bool) -> impl Strategy<Value = Draft> {
    let sequence = || prop_oneof![any::<u16>(), near_the_wrap(vec![65_500, 65_535, 0, 1])];
    let timestamp = || prop_oneof![any::<u32>(), near_the_wrap(vec![u32::MAX - 8000, u32::MAX, 0x7fff_f000])];
    let ssrc = || prop_oneof![1u32..4, any::<u32>()];
    let lost = prop::array::uniform7(prop::bool::weighted(0.25));
    let moves = (300..1500i64, 0..4usize).prop_map(move |drawn| moving.then_some(drawn));
    (
        (prop::array::uniform2(0..4usize), 0..3000i64, 400..3000i64, any::<bool>(), lost),
        (moves, [ssrc(), ssrc()], [sequence(), sequence()], [timestamp(), timestamp()]),
    )
        .prop_map(|((places, pause, talk, early, lost), (moves, ssrc, sequence, timestamp))| Draft {
            places,
            pause,
            talk,
            early,
            lost,
            moves,
            ssrc,
            sequence,
            timestamp,
        })
}

fn place(net: u8, index: usize) -> SocketAddrV4 {
    let host = Ipv4Addr::new(10, net, 0, 1 + index as u8 / 2);
    SocketAddrV4::new(host, 4000 + 2 * (index as u16 % 2))
}

/// When ports are free again, and for whom.
#[derive(Default)]
struct Ports(HashMap<SocketAddrV4, i64>);

impl Ports {
    fn free_from(&self, ports: &[SocketAddrV4], rest: i64) -> i64 {
        let stopped = ports.iter().filter_map(|port| self.0.get(port));
        stopped.max().map_or(EPOCH, |stopped| stopped + rest)
    }

    fn use_until(&mut self, port: SocketAddrV4, until: i64) {
        let stopped = self.0.entry(port).or_insert(until);
        *stopped = until.max(*stopped);
    }
}

fn calls(drafts: &[Draft]) -> Vec<Call> {
    let mut ports = Ports::default();
    let mut at = EPOCH;
    drafts.iter().enumerate().map(|(index, draft)| call(index, draft, &mut at, &mut ports)).collect()
}

fn call(index: usize, draft: &Draft, at: &mut i64, ports: &mut Ports) -> Call {
    let [invite, progress, answer, ack, reinvite, reanswer, bye] = draft.lost;
    let mut call = Call::plain(index as u8, 0, draft.talk * MILLISECOND);
    call.media = [place(1, draft.places[0]), place(2, draft.places[1])];
    call.early = draft.early;
    call.lost = Lost { invite, progress, answer, ack, reinvite, reanswer, bye };
    (call.ssrc, call.sequence, call.timestamp) = (draft.ssrc, draft.sequence, draft.timestamp);
    // Early media without any message before it cannot be known from what was there before.
    call.early &= !(invite || progress);
    let moved = draft.moves.filter(|_| draft.talk > 600).map(|(after, to)| (after, place(3, to)));
    let used: Vec<SocketAddrV4> = call.media.iter().copied().chain(moved.map(|(_, to)| to)).collect();
    let untold = invite && answer || moved.is_some() && reinvite;
    let rest = if untold { REST_UNTOLD } else { REST };
    call.start = ports.free_from(&used, rest).max(*at);
    call.moves = moved.map(|(after, to)| Move { after: after.min(draft.talk - 300) * MILLISECOND, to });
    for port in used {
        ports.use_until(port, call.end());
    }
    *at = call.start + draft.pause * MILLISECOND;
    call
}

fn check(drafts: &[Draft]) -> Result<(), TestCaseError> {
    let calls = calls(drafts);
    let outcome = run(Config::default(), &merge(calls.iter().map(Call::frames)));
    for recording in &outcome.recordings {
        let call = calls.iter().find(|call| call.dialog().call_id == recording.row.call_id);
        let call = call.expect("every recording is of a call that was made");
        truth::is_of(recording, call).map_err(TestCaseError::fail)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(crate::cases(256))]

    #[test]
    fn of_calls_that_share_ports(drafts in prop::collection::vec(draft(false), 2..9)) {
        check(&drafts)?;
    }

    #[test]
    fn of_calls_that_move(drafts in prop::collection::vec(draft(true), 2..9)) {
        check(&drafts)?;
    }
}
