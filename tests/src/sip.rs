//! SIP messages of one dialog.

use std::net::SocketAddrV4;

use spantape_core::record::Side;

/// What all messages of a dialog have in common.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Users, `[caller, callee]`.
    pub users: [String; 2],
}

impl Dialog {
    /// A request. `initial`: the callee has no tag yet.
    pub fn request(
        &self,
        method: &str,
        author: Side,
        cseq: u32,
        initial: bool,
        header: &str,
        body: &str,
    ) -> Vec<u8> {
        let line = format!("{method} sip:{}@example.net SIP/2.0", self.users[author.other().channel()]);
        self.message(&line, (method, cseq, author), !initial, header, body)
    }

    /// A response to a request of `asker`.
    pub fn response(&self, status: u16, method: &str, asker: Side, cseq: u32, body: &str) -> Vec<u8> {
        let line = format!("SIP/2.0 {status} Whatever");
        self.message(&line, (method, cseq, asker), status > 100, "", body)
    }

    fn message(
        &self,
        line: &str,
        (method, cseq, asker): (&str, u32, Side),
        tagged: bool,
        header: &str,
        body: &str,
    ) -> Vec<u8> {
        let party = |side: Side| {
            let tag = match side {
                Side::Caller => ";tag=caller".to_owned(),
                Side::Callee if tagged => ";tag=callee".to_owned(),
                Side::Callee => String::new(),
            };
            format!("<sip:{}@example.net>{tag}", self.users[side.channel()])
        };
        let (from, to) = (party(asker), party(asker.other()));
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let call_id = &self.call_id;
        format!(
            "{line}\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{method}{cseq}\r\nMax-Forwards: 70\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{header}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// A description that wants PCMU at an endpoint.
pub fn sdp(endpoint: SocketAddrV4) -> String {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
    )
}
