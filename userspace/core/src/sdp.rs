//! SDP (RFC 8866): what of a session description matters to find and decode its media.
//!
//! Real descriptions break the grammar in many ways, so this scans for the lines it needs and passes over
//! the others. Numbers that make no sense leave their line unread.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::codec::Codec;
use crate::sip::multipart::{self, Part};
use crate::srtp::{Encryption, MasterKey};
use crate::wire::Endpoint;

/// Streams read of one description.
const MAX_MEDIA: usize = 16;
/// Payload types read of one stream.
const MAX_FORMATS: usize = 64;
/// Bytes read of a format's parameters.
const MAX_PARAMETERS: usize = 512;
/// Bytes kept of a label.
const MAX_LABEL: usize = 64;
/// ICE candidates read of one stream.
const MAX_CANDIDATES: usize = 16;
/// Bytes of an ICE user name fragment at most (RFC 8839, section 5.4).
const MAX_FRAGMENT: usize = 256;
/// Keys read of one stream.
const MAX_KEYS: usize = 8;

/// `sendrecv` and its kin, as the author of the description means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// The author only sends: it has put the other on hold, or plays something.
    SendOnly,
    /// The author only listens.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Whether the other party is put on hold by it.
    pub fn holds(self) -> bool {
        matches!(self, Direction::SendOnly | Direction::Inactive)
    }
}

/// The kind of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `m=audio`
    Audio,
    /// `m=video`
    Video,
    /// `m=image`: fax by T.38, over UDPTL or TCP (ITU-T T.38, annex D). It is no RTP.
    Image,
    /// Anything else: `application`, `message`…
    Other,
}

/// A payload type and what the description says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// RTP payload type.
    pub payload_type: u8,
    /// By `a=rtpmap`, or by the static table of RFC 3551, and by `a=fmtp`.
    pub codec: Codec,
}

/// One `m=` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Kind of stream.
    pub kind: Kind,
    /// Where the author of the description wants to receive it. `None`: rejected (port 0), no IP address
    /// given, or the address 0.0.0.0 by which old phones say "hold".
    pub endpoint: Option<Endpoint>,
    /// Held by the old way: `c=IN IP4 0.0.0.0`.
    pub held_by_address: bool,
    /// Direction attribute, its own or the session's.
    pub direction: Direction,
    /// Payload types in order of preference.
    pub formats: Vec<Format>,
    /// The transport says that the media is encrypted (`SAVP`, `SAVPF`, DTLS).
    pub secure: bool,
    /// What attributes say of how it is encrypted: `a=crypto` (RFC 4568), `a=fingerprint` (RFC 5763). Where the
    /// transport is not secure, it may be (RFC 8643).
    pub encryption: Option<Encryption>,
    /// Keys of what the author of the description sends, by `a=crypto`.
    pub keys: Vec<Arc<MasterKey>>,
    /// Other addresses at which it may be received: ICE candidates for RTP over UDP (RFC 8839).
    pub candidates: Vec<Endpoint>,
    /// `a=ice-ufrag`, by which connectivity checks name the author; empty when there is none.
    pub ice_fragment: Box<[u8]>,
    /// `a=label` (RFC 4574), by which metadata of a recording session names it; empty when there is none.
    pub label: String,
}

impl Media {
    /// What a payload type stands for.
    pub fn codec(&self, payload_type: u8) -> Option<&Codec> {
        self.formats.iter().find(|format| format.payload_type == payload_type).map(|format| &format.codec)
    }

    /// Whether this puts the other party on hold.
    pub fn holds(&self) -> bool {
        self.direction.holds() || self.held_by_address
    }

    /// All addresses at which it may be received.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.endpoint.into_iter().chain(self.candidates.iter().copied())
    }
}

/// Reads the streams of a description. Empty when `body` is none.
pub fn parse(body: &[u8]) -> Vec<Media> {
    read(body, None)
}

/// The same of a description that `sender` has sent. Where no connection field can be read, media is most likely
/// received there, although the field is mandatory (RFC 8866, 5.7).
pub fn parse_from(body: &[u8], sender: IpAddr) -> Vec<Media> {
    read(body, Some(sender))
}

fn read(body: &[u8], sender: Option<IpAddr>) -> Vec<Media> {
    let mut media: Vec<Media> = Vec::new();
    let mut session = Section::default();
    let mut section = Section::default();
    let finish =
        |line: MediaLine<'_>, session: &Section, section: &Section| line.finish(session, section, sender);
    let mut current: Option<MediaLine<'_>> = None;

    for line in body.split(|&byte| byte == b'\n' || byte == b'\r') {
        let Some((&kind, value)) =
            line.split_first().and_then(|(kind, rest)| Some((kind, rest.strip_prefix(b"=")?)))
        else {
            continue;
        };
        let target = if current.is_some() { &mut section } else { &mut session };
        match kind {
            b'c' => target.address = address(value).or(target.address),
            b'a' => target.attribute(value),
            b'm' => {
                if let Some(line) = current.take() {
                    media.push(finish(line, &session, &section));
                }
                if media.len() == MAX_MEDIA {
                    return media;
                }
                section = Section::default();
                current = MediaLine::parse(value);
            }
            _ => {}
        }
    }
    media.extend(current.map(|line| finish(line, &session, &section)));
    media
}

/// Finds the description in a message body: the body itself, or the part of a multipart body that is one.
pub fn find<'a>(content_type: &'a [u8], body: &'a [u8]) -> Option<&'a [u8]> {
    let is_description = |part: &Part<'_>| {
        part.is(b"application/sdp") || (part.content_type.is_empty() && part.body.starts_with(b"v=0"))
    };
    multipart::parts(content_type, body).find(is_description).map(|part| part.body)
}

/// What stands in the session's part or in that of one stream.
#[derive(Default)]
struct Section {
    address: Option<IpAddr>,
    direction: Option<Direction>,
    /// `a=rtpmap` by payload type.
    maps: Vec<(u8, Codec)>,
    /// `a=fmtp` by payload type.
    parameters: Vec<(u8, Box<str>)>,
    label: String,
    has_crypto: bool,
    keys: Vec<Arc<MasterKey>>,
    has_fingerprint: bool,
    candidates: Vec<Endpoint>,
    ice_fragment: Box<[u8]>,
}

impl Section {
    fn attribute(&mut self, value: &[u8]) {
        match value.trim_ascii() {
            b"sendrecv" => self.direction = Some(Direction::SendRecv),
            b"sendonly" => self.direction = Some(Direction::SendOnly),
            b"recvonly" => self.direction = Some(Direction::RecvOnly),
            b"inactive" => self.direction = Some(Direction::Inactive),
            other if other.starts_with(b"label:") => {
                let label = &other[b"label:".len()..];
                self.label = String::from_utf8_lossy(&label[..label.len().min(MAX_LABEL)]).trim().to_owned();
            }
            other if other.starts_with(b"crypto:") => {
                self.has_crypto = true;
                let keys = std::str::from_utf8(&other[b"crypto:".len()..]).map(MasterKey::from_attribute);
                let room = MAX_KEYS - self.keys.len();
                self.keys.extend(keys.into_iter().flatten().take(room).map(Arc::new));
            }
            other if other.starts_with(b"fingerprint:") => self.has_fingerprint = true,
            other if other.starts_with(b"candidate:") => {
                let found = candidate(other).filter(|found| !self.candidates.contains(found));
                self.candidates.extend(found.filter(|_| self.candidates.len() < MAX_CANDIDATES));
            }
            other if other.starts_with(b"ice-ufrag:") => {
                let fragment = other[b"ice-ufrag:".len()..].trim_ascii();
                self.ice_fragment = fragment[..fragment.len().min(MAX_FRAGMENT)].into();
            }
            other => {
                if let Some(map) = other.strip_prefix(b"rtpmap:").and_then(rtpmap)
                    && self.maps.len() < MAX_FORMATS
                {
                    self.maps.push(map);
                } else if let Some(parameters) = other.strip_prefix(b"fmtp:").and_then(fmtp)
                    && self.parameters.len() < MAX_FORMATS
                {
                    self.parameters.push(parameters);
                }
            }
        }
    }
}

struct MediaLine<'a> {
    kind: Kind,
    port: u16,
    secure: bool,
    formats: &'a [u8],
}

impl<'a> MediaLine<'a> {
    fn parse(value: &'a [u8]) -> Option<MediaLine<'a>> {
        let value = value.trim_ascii();
        let mut words = value.splitn(4, |byte| byte.is_ascii_whitespace());
        let kind = match words.next()? {
            kind if kind.eq_ignore_ascii_case(b"audio") => Kind::Audio,
            kind if kind.eq_ignore_ascii_case(b"video") => Kind::Video,
            kind if kind.eq_ignore_ascii_case(b"image") => Kind::Image,
            _ => Kind::Other,
        };
        // "49170/2" announces two ports; the first is the one that matters.
        let port = words.next()?.split(|&byte| byte == b'/').next().and_then(number)?;
        let transport = words.next().unwrap_or_default();
        let secure = memchr::memmem::find(transport, b"SAVP").is_some();
        let rtp = memchr::memmem::find(transport, b"RTP").is_some();
        let kind = if rtp || kind == Kind::Image { kind } else { Kind::Other };
        Some(MediaLine { kind, port, secure, formats: words.next().unwrap_or_default() })
    }

    fn finish(self, session: &Section, section: &Section, sender: Option<IpAddr>) -> Media {
        let address = section.address.or(session.address).or(sender);
        let own_fragment = Some(&section.ice_fragment).filter(|fragment| !fragment.is_empty());
        let ice_fragment = own_fragment.unwrap_or(&session.ice_fragment).clone();
        // With ICE it may say that no address is known yet (RFC 8840, section 4.1.1).
        let is_unspecified = address.is_some_and(|address| address.is_unspecified());
        let held_by_address = is_unspecified && self.port != 0 && ice_fragment.is_empty();
        let endpoint = address
            .filter(|address| !address.is_unspecified() && self.port != 0)
            .map(|address| Endpoint::new(address, self.port));
        let formats = self
            .formats
            .split(u8::is_ascii_whitespace)
            .filter_map(number::<u8>)
            .filter(|payload_type| *payload_type < 128)
            .take(MAX_FORMATS)
            .map(|payload_type| Format { payload_type, codec: codec(payload_type, session, section) })
            .collect();
        Media {
            kind: self.kind,
            endpoint,
            held_by_address,
            direction: section.direction.or(session.direction).unwrap_or_default(),
            formats,
            secure: self.secure,
            encryption: match section.has_crypto {
                true => Some(Encryption::Sdes),
                false if section.has_fingerprint || session.has_fingerprint => Some(Encryption::DtlsSrtp),
                false => self.secure.then_some(Encryption::Unknown),
            },
            keys: section.keys.clone(),
            candidates: section.candidates.clone(),
            ice_fragment,
            label: section.label.clone(),
        }
    }
}

fn codec(payload_type: u8, session: &Section, section: &Section) -> Codec {
    let mapped = section.maps.iter().chain(&session.maps).find(|(number, _)| *number == payload_type);
    let codec = mapped.map_or_else(|| Codec::from_static(payload_type), |(_, codec)| codec.clone());
    let mut parameters = section.parameters.iter().chain(&session.parameters);
    match parameters.find(|(number, _)| *number == payload_type) {
        Some((_, parameters)) => codec.with_parameters(parameters),
        None => codec,
    }
}

/// `IN IP4 192.0.2.1/127`
fn address(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?;
    let word = text.split_ascii_whitespace().nth(2)?;
    let address = word.split('/').next()?.trim_matches(['[', ']']);
    // Old phones write 0.0.0.0 with IP6 as well.
    address.parse().ok().or_else(|| (address == "0").then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

/// `candidate:1 1 UDP 2130706431 192.0.2.1 3478 typ host`: of the first component, RTP, over UDP.
fn candidate(value: &[u8]) -> Option<Endpoint> {
    let text = std::str::from_utf8(value).ok()?;
    let mut words = text.split_ascii_whitespace().skip(1);
    let (component, transport) = (words.next()?, words.next()?);
    let (address, port): (IpAddr, u16) = (words.nth(1)?.parse().ok()?, words.next()?.parse().ok()?);
    let is_rtp = component == "1" && transport.eq_ignore_ascii_case("udp");
    // Port 9 is that of a connection that others are to open.
    (is_rtp && !matches!(port, 0 | 9) && !address.is_unspecified()).then(|| Endpoint::new(address, port))
}

/// `96 opus/48000/2`
fn rtpmap(value: &[u8]) -> Option<(u8, Codec)> {
    let text = std::str::from_utf8(value).ok()?;
    let (payload_type, encoding) = text.trim().split_once(|c: char| c.is_ascii_whitespace())?;
    let payload_type: u8 = payload_type.trim().parse().ok().filter(|&number: &u8| number < 128)?;
    let mut parts = encoding.trim().split('/');
    let name = parts.next()?.trim();
    let clock = parts.next().and_then(|clock| clock.trim().parse().ok()).unwrap_or(8000);
    let channels = parts.next().and_then(|channels| channels.trim().parse().ok()).unwrap_or(1);
    Some((payload_type, Codec::from_rtpmap(name, clock, channels)))
}

/// `96 useinbandfec=1; minptime=10`
fn fmtp(value: &[u8]) -> Option<(u8, Box<str>)> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let (payload_type, parameters) = text.split_once(|c: char| c.is_ascii_whitespace())?;
    let payload_type: u8 = payload_type.parse().ok().filter(|&number: &u8| number < 128)?;
    (parameters.len() <= MAX_PARAMETERS).then(|| (payload_type, parameters.into()))
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::CodecKind;

    #[test]
    fn two_streams_with_their_own_addresses() {
        let media = parse(
            b"v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\nc=IN IP4 10.0.0.1\r\na=sendonly\r\nt=0 0\r\n\
              m=audio 4000 RTP/AVP 0 9 101\r\na=rtpmap:101 telephone-event/8000\r\n\
              m=video 4002 RTP/SAVP 96\r\nc=IN IP6 fd00::1\r\na=rtpmap:96 H264/90000\r\na=inactive\r\n",
        );
        assert_eq!(media.len(), 2);
        assert_eq!(media[0].endpoint.unwrap().socket(), "10.0.0.1:4000".parse().unwrap());
        assert_eq!((media[0].direction, media[0].kind), (Direction::SendOnly, Kind::Audio));
        let codecs: Vec<_> = media[0].formats.iter().map(|format| format.codec.to_string()).collect();
        assert_eq!(codecs, ["PCMU/8000", "G722/8000", "telephone-event/8000"]);
        assert_eq!(media[1].endpoint.unwrap().socket(), "[fd00::1]:4002".parse().unwrap());
        assert!(media[1].secure && media[1].direction == Direction::Inactive);
    }

    #[test]
    fn hold_by_address_and_rejected_stream() {
        let media = parse(b"v=0\nc=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 8\nm=image 0 udptl t38\n");
        assert!(media[0].holds() && media[0].endpoint.is_none());
        assert_eq!((media[1].kind, media[1].endpoint), (Kind::Image, None));
    }

    #[test]
    fn without_a_readable_connection_field() {
        let sender = "10.0.0.7".parse().unwrap();
        for field in ["", "c=IN IP4 host.example.com\r\n", "c=IN\r\n"] {
            let body = format!("v=0\r\n{field}m=audio 23031 RTP\r\nm=audio 0 RTP/AVP 0\r\n");
            assert_eq!(parse(body.as_bytes())[0].endpoint, None);
            let media = parse_from(body.as_bytes(), sender);
            assert_eq!(media[0].endpoint.unwrap().socket(), "10.0.0.7:23031".parse().unwrap());
            assert_eq!((media[1].endpoint, media[1].held_by_address), (None, false));
        }
        let held = parse_from(b"v=0\nc=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 8\n", sender);
        assert!(held[0].holds() && held[0].endpoint.is_none());
    }

    #[test]
    fn fax_and_what_else_is_no_rtp() {
        let media = parse(
            b"v=0\nc=IN IP4 10.0.0.1\nm=image 6022 udptl t38\nm=audio 6024 udptl t38\nm=IMAGE 6026 TCP t38\n",
        );
        let kinds: Vec<_> = media.iter().map(|media| media.kind).collect();
        assert_eq!(kinds, [Kind::Image, Kind::Other, Kind::Image]);
        assert!(media.iter().all(|media| media.formats.is_empty()));
    }

    #[test]
    fn keys_candidates_and_who_is_who() {
        let media = parse(
            b"v=0\r\nc=IN IP4 0.0.0.0\r\na=fingerprint:sha-256 00:11\r\na=ice-ufrag:F7gI\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
              a=candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host\r\n\
              a=candidate:2 2 udp 2130706430 192.0.2.1 4001 typ host\r\n\
              a=candidate:3 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n\
              a=candidate:4 1 udp 1 example.local 4000 typ host\r\n\
              a=candidate:5 1 udp 41885439 2001:db8::1 5000 typ relay raddr 0.0.0.0 rport 0\r\n\
              m=audio 4000 RTP/SAVP 0\r\na=ice-ufrag:8hhY\r\n\
              a=crypto:1 F8_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n\
              a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n",
        );
        let found: Vec<String> = media[0].endpoints().map(|endpoint| endpoint.socket().to_string()).collect();
        assert_eq!(found, ["192.0.2.1:4000", "[2001:db8::1]:5000"]);
        assert_eq!((&*media[0].ice_fragment, &*media[1].ice_fragment), (&b"F7gI"[..], &b"8hhY"[..]));
        assert_eq!(
            (media[0].encryption, media[1].encryption),
            (Some(Encryption::DtlsSrtp), Some(Encryption::Sdes))
        );
        assert_eq!((media[0].holds(), media[1].keys.len(), media[1].keys[0].tag), (false, 1, 2));
        let text = format!("{media:?}");
        assert!(!text.contains("WVNf") && !text.contains("89, 83"), "{text}");
    }

    #[test]
    fn parameters_of_a_format() {
        let media = parse(
            b"v=0\nc=IN IP4 10.0.0.1\nm=audio 4000 RTP/AVP 97 98 18\na=fmtp:97 mode=20\n\
              a=rtpmap:97 iLBC/8000\na=rtpmap:98 iLBC/8000\na=fmtp:18 annexb=no\na=fmtp:x\na=fmtp:999 a\n",
        );
        let kinds: Vec<_> = media[0].formats.iter().map(|format| format.codec.kind).collect();
        assert_eq!(kinds, [CodecKind::Ilbc { mode: 20 }, CodecKind::Ilbc { mode: 30 }, CodecKind::G729]);
    }

    #[test]
    fn found_in_multipart() {
        let body =
            b"--b\r\nContent-Type: text/xml\r\n\r\n<v=0/>\r\n--b\r\nContent-Type: application/sdp\r\n\r\n\
            v=0\r\nm=audio 1 RTP/AVP 0\r\n--b--\r\n";
        let found = find(b"multipart/mixed;boundary=b", body).unwrap();
        assert!(found.starts_with(b"v=0\r\nm=") && parse(found).len() == 1);
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>, text in "([mcav]=[ -~]{0,60}\r?\n){0,20}") {
            parse(&body);
            parse(text.as_bytes());
            let _ = find(b"multipart/mixed", &body);
        }
    }
}
