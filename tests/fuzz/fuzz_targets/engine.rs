//! The engine as a sequence of operations: signalling in any order, media, time, and frames of any bytes.
#![no_main]

mod store;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use store::{Store, description, payload_type};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    on_demand: bool,
    operations: Vec<Operation<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    /// INVITE and 200.
    Call { call: u8 },
    /// One message of a dialog.
    Message(Message<'a>),
    /// Packets in a row.
    Media {
        call: u8,
        to_caller: bool,
        payload_type: u8,
        sequence: u16,
        timestamp: u32,
        ssrc: u8,
        packets: u8,
    },
    /// Time goes by; most often little of it.
    Wait { exponent: u8, mantissa: u8 },
    /// Timers fire.
    Tick,
    /// A frame of any bytes.
    Frame(&'a [u8]),
    /// A datagram of any bytes.
    Datagram { call: u8, to_caller: bool, sip: bool, payload: &'a [u8] },
}

#[derive(Arbitrary, Debug)]
struct Message<'a> {
    call: u8,
    to_caller: bool,
    by_callee: bool,
    method: u8,
    status: Option<u8>,
    cseq: u8,
    tagged: bool,
    described: u8,
    record: Option<bool>,
    extra: &'a [u8],
}

const METHODS: [&str; 10] =
    ["INVITE", "ACK", "BYE", "CANCEL", "INFO", "UPDATE", "PRACK", "REFER", "OPTIONS", "REGISTER"];
const STATUSES: [u16; 10] = [100, 180, 183, 200, 401, 403, 481, 487, 408, 500];

fuzz_target!(|input: Input<'_>| {
    let mut store = Store::new(input.on_demand);
    for operation in input.operations.iter().take(400) {
        carry_out(operation, &mut store);
    }
    store.finish();
});

fn carry_out(operation: &Operation<'_>, store: &mut Store) {
    match operation {
        Operation::Call { call } => store.begin_call(*call),
        Operation::Message(message) => {
            store.udp(message.call, message.to_caller, 5060, &compose(message));
        }
        Operation::Media { call, to_caller, payload_type: kind, sequence, timestamp, ssrc, packets } => {
            for packet in 0..u16::from(packets % 32) {
                store.wait(20_000_000);
                let sequence = sequence.wrapping_add(packet);
                let timestamp = timestamp.wrapping_add(u32::from(packet) * 160);
                store.rtp(
                    *call,
                    *to_caller,
                    payload_type(*kind),
                    sequence,
                    timestamp,
                    u32::from(*ssrc % 2),
                    160,
                );
            }
        }
        Operation::Wait { exponent, mantissa } => {
            store.wait(u64::from(*mantissa) << (16 + exponent % 24));
        }
        Operation::Tick => store.tick(),
        Operation::Frame(frame) => store.frame(frame),
        Operation::Datagram { call, to_caller, sip, payload } => {
            let payload = &payload[..payload.len().min(1400)];
            store.udp(*call, *to_caller, if *sip { 5060 } else { 4000 }, payload);
        }
    }
}

fn compose(message: &Message<'_>) -> Vec<u8> {
    let method = METHODS[usize::from(message.method) % METHODS.len()];
    let line = match message.status {
        Some(status) => format!("SIP/2.0 {} X", STATUSES[usize::from(status) % STATUSES.len()]),
        None => format!("{method} sip:x@example.net SIP/2.0"),
    };
    let mut body = match message.described % 6 {
        0 | 1 => String::new(),
        2 => description(message.call.wrapping_add(1), message.to_caller),
        3 => description(message.call, message.to_caller) + "a=sendonly\r\n",
        _ => description(message.call, message.to_caller),
    }
    .into_bytes();
    if message.described % 6 != 0 {
        body.extend_from_slice(&message.extra[..message.extra.len().min(200)]);
    }
    let (caller, callee) = ("<sip:a@example.net>;tag=a", "<sip:b@example.net>");
    let callee = if message.tagged { format!("{callee};tag=b") } else { callee.to_owned() };
    let (from, to) = if message.by_callee { (callee.as_str(), caller) } else { (caller, callee.as_str()) };
    let record = message.record.map_or("", |on| if on { "Record: on\r\n" } else { "Record: off\r\n" });
    let mut text = format!(
        "{line}\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n{record}\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n",
        message.call % 8,
        message.cseq % 8,
        body.len()
    )
    .into_bytes();
    text.extend(body);
    text
}
