//! Calls whose audio tells whose it is.
//!
//! Every side of every call sends two sample values that no other side sends, one and the other in turns
//! of half a second. So any sample in a recording tells the call and side it came from, and where one value
//! gives way to the other tells the moment.

use std::net::{Ipv4Addr, SocketAddrV4};

use spantape_core::record::Side;
use spantape_core::time::{MILLISECOND, SECOND};

use crate::frame::{self, Frame};
use crate::sip::{Dialog, sdp};

/// Both sides, caller first.
pub const SIDES: [Side; 2] = [Side::Caller, Side::Callee];
/// Packet time.
pub const PACKET: i64 = 20 * MILLISECOND;
/// Samples in it.
pub const PACKET_SAMPLES: usize = 160;
/// Packets with the same value.
const TURN: u64 = 25;
/// Moment at which scenarios begin.
pub const EPOCH: i64 = 1_700_000_000 * SECOND;

/// Which messages the mirror port did not deliver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    /// INVITE.
    pub invite: bool,
    /// 183 with the callee's description.
    pub progress: bool,
    /// 200 to the INVITE.
    pub answer: bool,
    /// ACK.
    pub ack: bool,
    /// Re-INVITE.
    pub reinvite: bool,
    /// 200 to the re-INVITE.
    pub reanswer: bool,
    /// BYE and what answers it.
    pub bye: bool,
}

/// A re-INVITE by which the caller's media moves.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// After the answer.
    pub after: i64,
    /// Where to.
    pub to: SocketAddrV4,
}

/// A call between two phones.
#[derive(Clone, Debug)]
pub struct Call {
    /// Tells calls apart; below 30.
    pub index: u8,
    /// SIP addresses, `[caller, callee]`.
    pub sip: [SocketAddrV4; 2],
    /// Media endpoints, `[caller, callee]`.
    pub media: [SocketAddrV4; 2],
    /// INVITE.
    pub start: i64,
    /// From INVITE to 200.
    pub ring: i64,
    /// From 200 to BYE.
    pub talk: i64,
    /// The callee is heard while it rings.
    pub early: bool,
    /// Signalling that was not seen.
    pub lost: Lost,
    /// The caller's media moves.
    pub moves: Option<Move>,
    /// SSRCs.
    pub ssrc: [u32; 2],
    /// First sequence numbers.
    pub sequence: [u16; 2],
    /// First RTP timestamps.
    pub timestamp: [u32; 2],
}

/// An RTP packet and when its first sample was spoken.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When its first sample was spoken; all delays are measured from here.
    pub spoken: i64,
    /// When it came by.
    pub at: i64,
    /// Who spoke.
    pub side: Side,
    /// Sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// The µ-law code of all its samples.
    pub code: u8,
    /// Samples.
    pub samples: usize,
    /// Sender and receiver.
    pub path: [SocketAddrV4; 2],
}

impl Sent {
    /// The frame that carried it.
    pub fn frame(&self) -> Frame {
        let packet = frame::rtp(self.sequence, self.timestamp, self.ssrc, &vec![self.code; self.samples]);
        frame::udp(self.at, self.path[0], self.path[1], &packet)
    }

    /// The value of its samples.
    pub fn value(&self) -> i16 {
        decode(self.code)
    }
}

/// The sample that a µ-law code stands for (ITU-T G.711).
pub fn decode(code: u8) -> i16 {
    let bits = i32::from(!code);
    let magnitude = ((((bits & 15) << 3) + 0x84) << ((bits >> 4) & 7)) - 0x84;
    (if bits & 0x80 != 0 { -magnitude } else { magnitude }) as i16
}

/// The code that one side of a call sends in its `packet`th packet.
pub fn code(index: u8, side: Side, packet: u64) -> u8 {
    let turn = (packet / TURN % 2) as u8;
    // 0xff and 0x7f are silent; positive values fall from 0x80 on.
    0x80 + index * 4 + side.channel() as u8 * 2 + turn
}

/// Both values that one side of a call sends.
pub fn values(index: u8, side: Side) -> [i16; 2] {
    [0, TURN].map(|packet| decode(code(index, side, packet)))
}

impl Call {
    /// A plain call of so many nanoseconds that nothing has been lost of.
    pub fn plain(index: u8, start: i64, talk: i64) -> Call {
        let host = |net: u8| Ipv4Addr::new(10, net, 0, index + 1);
        Call {
            index,
            sip: [SocketAddrV4::new(host(1), 5060), SocketAddrV4::new(host(2), 5060)],
            media: [SocketAddrV4::new(host(1), 4000), SocketAddrV4::new(host(2), 5000)],
            start: EPOCH + start,
            ring: 500 * MILLISECOND,
            talk,
            early: false,
            lost: Lost::default(),
            moves: None,
            ssrc: [u32::from(index) + 1, u32::from(index) + 101],
            sequence: [100, 200],
            timestamp: [1000, 2000],
        }
    }

    /// Call-ID and users.
    pub fn dialog(&self) -> Dialog {
        let index = self.index;
        Dialog {
            call_id: format!("call-{index}@test"),
            users: [format!("1{index:03}"), format!("2{index:03}")],
        }
    }

    /// 200 to the INVITE.
    pub fn answered(&self) -> i64 {
        self.start + self.ring
    }

    /// BYE; nothing is sent from then on.
    pub fn end(&self) -> i64 {
        self.answered() + self.talk
    }

    /// First packet of a side.
    pub fn first_packet(&self, side: Side) -> i64 {
        match side {
            Side::Caller => self.answered() + 30 * MILLISECOND,
            Side::Callee if self.early => self.start + 120 * MILLISECOND,
            Side::Callee => self.answered() + 13 * MILLISECOND,
        }
    }

    /// All frames.
    pub fn frames(&self) -> Vec<Frame> {
        let media = self.media().iter().map(Sent::frame).collect();
        frame::merge([self.signalling(), media])
    }

    /// What of the signalling was seen.
    pub fn signalling(&self) -> Vec<Frame> {
        use Side::{Callee, Caller};
        let dialog = self.dialog();
        let [offer, answer] = self.media.map(sdp);
        let (start, answered, end) = (self.start, self.answered(), self.end());
        let mut frames = Vec::new();
        let mut send = |lost: bool, at: i64, author: Side, message: Vec<u8>| {
            if !lost {
                let [from, to] = [author, author.other()].map(|side| self.sip[side.channel()]);
                frames.push(frame::udp(at, from, to, &message));
            }
        };
        let lost = &self.lost;
        send(lost.invite, start, Caller, dialog.request("INVITE", Caller, 1, true, "", &offer));
        if self.early {
            let at = start + 100 * MILLISECOND;
            send(lost.progress, at, Callee, dialog.response(183, "INVITE", Caller, 1, &answer));
        }
        send(lost.answer, answered, Callee, dialog.response(200, "INVITE", Caller, 1, &answer));
        let at = answered + 10 * MILLISECOND;
        send(lost.ack, at, Caller, dialog.request("ACK", Caller, 1, false, "", ""));
        if let Some(moves) = &self.moves {
            let (at, offer) = (answered + moves.after, sdp(moves.to));
            send(lost.reinvite, at, Caller, dialog.request("INVITE", Caller, 2, false, "", &offer));
            let at = at + 20 * MILLISECOND;
            send(lost.reanswer, at, Callee, dialog.response(200, "INVITE", Caller, 2, &answer));
            let at = at + 10 * MILLISECOND;
            send(lost.ack, at, Caller, dialog.request("ACK", Caller, 2, false, "", ""));
        }
        send(lost.bye, end, Caller, dialog.request("BYE", Caller, 9, false, "", ""));
        send(lost.bye, end + 10 * MILLISECOND, Callee, dialog.response(200, "BYE", Caller, 9, ""));
        frames
    }

    /// The RTP packets of both sides.
    pub fn media(&self) -> Vec<Sent> {
        SIDES.iter().flat_map(|&side| self.media_of(side)).collect()
    }

    /// The RTP packets of a side.
    pub fn media_of(&self, side: Side) -> Vec<Sent> {
        let first = self.first_packet(side);
        let count = (self.end() - first) / PACKET;
        (0..count as u64).map(|packet| self.packet(side, first, packet)).collect()
    }

    fn packet(&self, side: Side, first: i64, packet: u64) -> Sent {
        let spoken = first + packet as i64 * PACKET;
        let channel = side.channel();
        let mut media = self.media;
        if let Some(moves) = &self.moves
            && spoken > self.answered() + moves.after + 40 * MILLISECOND
        {
            media[0] = moves.to;
        }
        Sent {
            spoken,
            at: spoken,
            side,
            sequence: self.sequence[channel].wrapping_add(packet as u16),
            timestamp: self.timestamp[channel].wrapping_add((packet * PACKET_SAMPLES as u64) as u32),
            ssrc: self.ssrc[channel],
            code: code(self.index, side, packet),
            samples: PACKET_SAMPLES,
            path: [media[channel], media[1 - channel]],
        }
    }
}
