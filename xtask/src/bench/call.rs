//! One call of a load: its two phones, what they say in SIP, and their RTP headers.

use std::net::Ipv4Addr;

use crate::lab::wire::Endpoint;

const SIP_PORT: u16 = 5060;
const PORTS: u32 = 10_000;
const HOSTS: u32 = 200;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Caller,
    Callee,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// A SIP message of a call, in the order they are sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Invite,
    Trying,
    Ringing,
    Answer,
    Ack,
    Bye,
    Gone,
}

impl Message {
    pub(super) const ALL: [Self; 7] =
        [Self::Invite, Self::Trying, Self::Ringing, Self::Answer, Self::Ack, Self::Bye, Self::Gone];

    pub(super) fn from(self) -> Side {
        match self {
            Self::Invite | Self::Ack | Self::Bye => Side::Caller,
            Self::Trying | Self::Ringing | Self::Answer | Self::Gone => Side::Callee,
        }
    }
}

/// The call with this number. No two calls share an address, a port pair, a user, a Call-ID or an SSRC.
#[derive(Clone, Copy)]
pub(super) struct Call(pub(super) u32);

impl Call {
    /// `1000 + n` calls `2000 + n`.
    pub(super) fn user(self, side: Side) -> u32 {
        self.0 + if side == Side::Caller { 1000 } else { 2000 }
    }

    pub(super) fn phone(self, side: Side) -> Endpoint {
        let net = self.0 / HOSTS;
        let (second, third, fourth) = ((net >> 8) as u8, net as u8, (self.0 % HOSTS) as u8 + 1);
        let second = second + if side == Side::Caller { 32 } else { 64 };
        let ip = Ipv4Addr::new(10, second, third, fourth);
        Endpoint { mac: [2, side as u8, 10, second, third, fourth], ip: ip.into(), port: SIP_PORT }
    }

    pub(super) fn media(self, side: Side) -> Endpoint {
        let first = if side == Side::Caller { 10_000 } else { 30_000 };
        self.phone(side).at(first + (self.0 % PORTS * 2) as u16)
    }

    /// Counts the streams of a load.
    pub(super) fn stream(self, side: Side) -> u32 {
        self.0 * 2 + side as u32
    }

    /// Everything of an RTP packet before its payload.
    pub(super) fn rtp_header(self, side: Side, packet: u32, samples: u32) -> [u8; 12] {
        let stream = self.stream(side);
        // Each stream starts its counters elsewhere, and many wrap in the course of the load.
        let sequence = (stream.wrapping_mul(40_503) as u16).wrapping_add(packet as u16).to_be_bytes();
        let start = stream.wrapping_mul(2_654_435_761);
        let timestamp = start.wrapping_add(packet * samples).to_be_bytes();
        let ssrc = (0x5a00_0000 + stream).to_be_bytes();
        let mut header = [0; 12];
        header[0] = 0x80;
        header[1] = if packet == 0 { 0x80 } else { 0 };
        header[2..4].copy_from_slice(&sequence);
        header[4..8].copy_from_slice(&timestamp);
        header[8..].copy_from_slice(&ssrc);
        header
    }

    /// The message as sent.
    pub(super) fn text(self, message: Message) -> String {
        let (first_line, sequence) = match message {
            Message::Invite => (self.request("INVITE"), "1 INVITE"),
            Message::Trying => ("SIP/2.0 100 Trying".to_owned(), "1 INVITE"),
            Message::Ringing => ("SIP/2.0 180 Ringing".to_owned(), "1 INVITE"),
            Message::Answer => ("SIP/2.0 200 OK".to_owned(), "1 INVITE"),
            Message::Ack => (self.request("ACK"), "1 ACK"),
            Message::Bye => (self.request("BYE"), "2 BYE"),
            Message::Gone => ("SIP/2.0 200 OK".to_owned(), "2 BYE"),
        };
        let headers = self.headers(message, sequence);
        let body = match message {
            Message::Invite | Message::Answer => self.sdp(message.from()),
            _ => String::new(),
        };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!("{first_line}\r\n{headers}{kind}Content-Length: {}\r\n\r\n{body}", body.len())
    }

    fn request(self, method: &str) -> String {
        let to = self.phone(Side::Callee);
        format!("{method} sip:{}@{}:{} SIP/2.0", self.user(Side::Callee), to.ip, to.port)
    }

    fn headers(self, message: Message, sequence: &str) -> String {
        let n = self.0;
        let [caller, callee] = [Side::Caller, Side::Callee].map(|side| self.phone(side).ip);
        let [from, to] = [Side::Caller, Side::Callee].map(|side| self.user(side));
        let transaction = sequence.replace(' ', "-");
        // Nobody has answered yet, so there is no tag.
        let tag = match message {
            Message::Invite | Message::Trying => String::new(),
            _ => format!(";tag=callee-{n}"),
        };
        let contact = match message.from() {
            Side::Caller => format!("<sip:{from}@{caller}:{SIP_PORT}>"),
            Side::Callee => format!("<sip:{to}@{callee}:{SIP_PORT}>"),
        };
        format!(
            "Via: SIP/2.0/UDP {caller}:{SIP_PORT};branch=z9hG4bK-{transaction}-{n}\r\n\
             Max-Forwards: 70\r\n\
             From: \"Caller {from}\" <sip:{from}@{caller}>;tag=caller-{n}\r\n\
             To: <sip:{to}@{callee}>{tag}\r\n\
             Call-ID: load-{n}@{caller}\r\n\
             CSeq: {sequence}\r\n\
             Contact: {contact}\r\n"
        )
    }

    fn sdp(self, side: Side) -> String {
        let media = self.media(side);
        format!(
            "v=0\r\no=- {} 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=sendrecv\r\n",
            self.0,
            ip = media.ip,
            port = media.port
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_apart_calls_have_addresses_of_their_own() {
        let last = Call(super::super::load::MOST_CALLS - 1);
        assert_eq!(last.media(Side::Caller).ip.to_string(), "10.33.243.200");
        assert_eq!(last.media(Side::Callee).ip.to_string(), "10.65.243.200");
        assert_eq!(Call(0).media(Side::Callee).ip.to_string(), "10.64.0.1");
    }

    #[test]
    fn an_invite_says_where_its_audio_goes() {
        let invite = Call(7).text(Message::Invite);
        assert!(invite.starts_with("INVITE sip:2007@10.64.0.8:5060 SIP/2.0\r\n"), "{invite}");
        assert!(invite.contains("From: \"Caller 1007\" <sip:1007@10.32.0.8>;tag=caller-7\r\n"), "{invite}");
        assert!(invite.contains("m=audio 10014 RTP/AVP 0\r\n"), "{invite}");
    }
}
