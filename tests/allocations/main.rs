//! On the way of an RTP packet nothing is allocated, but for what leaves.
//!
//! A binary of its own, for the allocator that counts is the whole program's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use spantape_core::engine::Engine;
use spantape_core::event::Event;
use spantape_core::rules::Config;
use spantape_core::time::{SECOND, Timestamp};
use spantape_core::wire::LinkType;
use spantape_tests::call::Call;

/// The first seconds of a call: payloads are compared with others', and a second copy of each may be on its way.
const BEGINNING: i64 = 10 * SECOND;
const TALK: i64 = 40 * SECOND;

/// What a call takes from packet to packet, once it has begun.
struct Count {
    packets: u64,
    /// That were taken without any allocation.
    quiet: u64,
    allocations: u64,
    /// Blocks of audio and rows that left.
    events: u64,
}

fn count(config: Config) -> Count {
    let call = Call::plain(1, 0, TALK);
    let mut engine = Engine::new(config);
    let mut count = Count { packets: 0, quiet: 0, allocations: 0, events: 0 };
    let mut left = Vec::with_capacity(1 << 12);
    for frame in call.frames() {
        let info = allocation_counter::measure(|| {
            engine.handle_frame(frame.at, LinkType::Ethernet, &frame.bytes);
        });
        let before = left.len();
        left.extend(std::iter::from_fn(|| engine.poll_event()));
        // Until the call ends, when rows are made of it.
        if (BEGINNING..TALK).contains(&frame.at.since(Timestamp(call.start))) {
            count.packets += 1;
            count.quiet += u64::from(info.count_total == 0);
            count.allocations += info.count_total;
            count.events += (left.len() - before) as u64;
        }
    }
    engine.finish();
    left.extend(std::iter::from_fn(|| engine.poll_event()));
    assert!(left.iter().any(|event| matches!(event, Event::Call(_))));
    count
}

#[test]
fn a_packet_costs_no_allocation_and_a_block_of_audio_a_few() {
    let count = count(Config::default());
    assert!(count.packets > 2500, "{}", count.packets);
    // A block is a quarter of a second of 100 packets a second.
    let blocks = count.packets / 25;
    assert!(count.events >= blocks, "{} events", count.events);
    // One begins a block, another has one leave; and a few, rows.
    assert!(count.quiet + 2 * blocks + 20 >= count.packets, "{} of {}", count.quiet, count.packets);
    // A block to come, its samples in turn, and of a row its texts.
    assert!(count.allocations <= 6 * blocks, "{} for {blocks} blocks", count.allocations);
}

#[test]
fn without_audio_only_rows_are_allocated() {
    let count = count(Config { audio: false, ..Config::default() });
    assert!(count.packets - count.quiet <= count.events, "{} of {}", count.quiet, count.packets);
    // Five seconds of two streams each.
    assert!((10..=16).contains(&count.events), "{}", count.events);
}
