//! SIPREC metadata (RFC 7865): who speaks in which stream, and of which call.
//!
//! Clients follow the RFC or one of its drafts, more or less. So elements are known by their local names in
//! whatever case, wherever they stand; ids may be attributes or elements, and what a participant sends may be
//! said within it.

use super::{Carries, Recognised, Voice};
use crate::sdp::Media;
use crate::sip::{Message, multipart};
use crate::xml::{self, Element, Token};

/// The word by which the catalog names this system.
pub const NAME: &str = "siprec";

/// Participants, streams, links between them, and ids of calls: so many of each.
const MAX_ITEMS: usize = 64;
/// Bytes kept of a value.
const MAX_VALUE: usize = 1024;

/// Someone who takes part in the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Participant {
    /// What links name it by.
    pub id: String,
    /// Address of record: `sip:1009@example.net`.
    pub aor: Option<String>,
    /// Display name.
    pub name: Option<String>,
}

/// A stream of media.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// What links name it by.
    pub id: String,
    /// `a=label` of its `m=` section in the session description.
    pub label: Option<String>,
}

/// A participant and a stream, by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Participant's id.
    pub participant: String,
    /// Stream's id.
    pub stream: String,
}

/// What a document says of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// In the order of the document.
    pub participants: Vec<Participant>,
    /// In the order of the document.
    pub streams: Vec<Stream>,
    /// Who is heard in a stream. Links that have ended come last.
    pub sends: Vec<Link>,
    /// Who hears a stream. Links that have ended come last.
    pub receives: Vec<Link>,
    /// By what the recorded call may be known elsewhere: the session ids of its SIP dialogs (often the
    /// Call-ID), and ids of the vendor's.
    pub original_ids: Vec<String>,
    /// What has changed only (`dataMode` is `partial`): the rest is as documents before said.
    pub partial: bool,
    /// The end of the document was not read: it is no XML from some point on, or too long.
    pub truncated: bool,
}

impl Metadata {
    /// Who is heard in the stream with this label. Of several, as in a conference, the first.
    pub fn speaker(&self, label: &str) -> Option<&Participant> {
        let stream = self.streams.iter().find(|stream| stream.label.as_deref() == Some(label))?;
        let link = self.sends.iter().find(|link| link.stream == stream.id)?;
        self.participants.iter().find(|participant| participant.id == link.participant)
    }

    /// Participant by order, for what has no label. The first is most often the caller, or the client's own.
    pub fn participant(&self, index: usize) -> Option<&Participant> {
        self.participants.get(index)
    }
}

/// A session, if the INVITE begins one: it has metadata, or the client says what it is (RFC 7866, 6.1 and 9).
pub fn recognise(message: &Message<'_>) -> Option<Recognised> {
    let content_type = message.content_type.unwrap_or_default();
    let metadata = find(content_type, message.body).map(parse);
    let says = |name: &[u8], word: &[u8]| {
        let value = message.header(name).unwrap_or_default().to_ascii_lowercase();
        memchr::memmem::find(&value, word).is_some()
    };
    let is_session = metadata.is_some()
        || says(b"require", b"siprec")
        || says(b"contact", b"+sip.src")
        || says(b"m", b"+sip.src");
    if !is_session {
        return None;
    }
    let metadata = metadata.unwrap_or_default();
    let voices = metadata.voices(&super::streams(message));
    let users = metadata.participants.iter().filter_map(|one| one.aor.as_deref()).map(super::user_of);
    Some(Recognised {
        originals: metadata.original_ids.iter().map(|id| id.as_bytes().into()).collect(),
        voices,
        users: users.filter(|user| !user.is_empty()).collect(),
        ..Recognised::new(NAME, Carries::Parties)
    })
}

impl Metadata {
    /// Who is heard in each stream of a description.
    pub fn voices(&self, streams: &[Media]) -> Vec<Voice> {
        let speaker = |(index, media): (usize, &Media)| {
            let labelled = (!media.label.is_empty()).then(|| self.speaker(&media.label)).flatten();
            let participant = labelled.or_else(|| self.participant(index));
            participant.map(Participant::voice).unwrap_or_default()
        };
        streams.iter().enumerate().map(speaker).collect()
    }
}

impl Participant {
    fn voice(&self) -> Voice {
        let uri = self.aor.clone().unwrap_or_default();
        let name = self.name.clone().unwrap_or_default();
        Voice { user: super::user_of(&uri), uri, name, side: None, is_known: true }
    }
}

/// Finds the metadata in a message body: the body itself, or the part of a multipart body that is one.
pub fn find<'a>(content_type: &'a [u8], body: &'a [u8]) -> Option<&'a [u8]> {
    let is_metadata = |part: &multipart::Part<'_>| {
        let plain =
            part.is(b"application/xml") || part.is(b"text/xml") || part.is(b"application/recording+xml");
        let disposition =
            part.disposition.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        part.is(b"application/rs-metadata")
            || (plain && disposition.eq_ignore_ascii_case(b"recording-session"))
            || (plain && memchr::memmem::find(part.body, b"ns:recording").is_some())
    };
    multipart::parts(content_type, body).find(is_metadata).map(|part| part.body)
}

/// Reads a document, as far as it can be read.
pub fn parse(document: &[u8]) -> Metadata {
    let mut reading = Reading::default();
    let whole = xml::read(document, |token| match token {
        Token::Open(element) => reading.open(&element),
        Token::Text(text) => reading.text(&text),
        Token::Close => reading.close(),
    });
    let mut metadata = reading.metadata;
    metadata.sends.append(&mut reading.former_sends);
    metadata.receives.append(&mut reading.former_receives);
    metadata.truncated = !whole;
    metadata
}

/// Elements that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    DataMode,
    Participant,
    NameId,
    Aor,
    DisplayName,
    Stream,
    Label,
    Association,
    Send,
    Receive,
    Ended,
    Id,
    ParticipantId,
    StreamId,
    OriginalId,
    Other,
}

impl Tag {
    fn of(element: &str) -> Tag {
        let name = element.to_ascii_lowercase().replace(['_', '-'], "");
        match name.as_str() {
            "datamode" => Tag::DataMode,
            "participant" => Tag::Participant,
            "nameid" => Tag::NameId,
            "aor" => Tag::Aor,
            "name" => Tag::DisplayName,
            "stream" => Tag::Stream,
            "label" => Tag::Label,
            "participantstreamassoc" => Tag::Association,
            "send" => Tag::Send,
            "recv" => Tag::Receive,
            "disassociatetime" => Tag::Ended,
            "id" => Tag::Id,
            "participantid" => Tag::ParticipantId,
            "streamid" => Tag::StreamId,
            "sipsessionid" | "exttrackingid" => Tag::OriginalId,
            // With the vendor's name in front of it, or without.
            _ if ["callid", "ucid", "calluuid"].iter().any(|end| name.ends_with(end)) => Tag::OriginalId,
            _ => Tag::Other,
        }
    }
}

/// The state of reading a document.
#[derive(Default)]
struct Reading {
    metadata: Metadata,
    former_sends: Vec<Link>,
    former_receives: Vec<Link>,
    /// The elements that are open.
    path: Vec<Tag>,
    /// Of the innermost element.
    value: String,
    participant: Option<Participant>,
    stream: Option<Stream>,
    association: Option<Association>,
}

/// What links one participant to streams.
#[derive(Default)]
struct Association {
    participant: String,
    sends: Vec<String>,
    receives: Vec<String>,
    ended: bool,
}

impl Reading {
    fn open(&mut self, element: &Element<'_>) {
        let name = Tag::of(element.name());
        self.path.push(name);
        self.value.clear();
        let id = |names: &[&str]| {
            let id = element.attribute(names).or_else(|| element.attribute(&["id"]));
            limited(&id.unwrap_or_default()).to_owned()
        };
        match name {
            Tag::Participant => {
                let id = id(&["participant_id", "participant-id"]);
                self.participant = Some(Participant { id, ..Participant::default() });
            }
            Tag::Association => {
                let participant = match &self.participant {
                    Some(around) => around.id.clone(),
                    None => id(&["participant_id", "participant-id", "participant"]),
                };
                self.leave_association();
                self.association = Some(Association { participant, ..Association::default() });
            }
            Tag::Stream => {
                let id = id(&["stream_id", "stream-id"]);
                self.stream = Some(Stream { id, label: None });
            }
            Tag::NameId => {
                if let (Some(participant), Some(aor)) = (&mut self.participant, element.attribute(&["aor"])) {
                    participant.aor = some(&aor);
                }
            }
            _ => {}
        }
        if self.path.len() == 1
            && let Some(mode) = element.attribute(&["dataMode"])
        {
            self.metadata.partial = mode.eq_ignore_ascii_case("partial");
        }
    }

    fn text(&mut self, text: &str) {
        if self.value.len() < MAX_VALUE {
            self.value.push_str(text);
        }
    }

    fn close(&mut self) {
        let value = std::mem::take(&mut self.value);
        let value = limited(value.trim());
        let Some(name) = self.path.pop() else { return };
        let within = |name| self.path.last() == Some(&name);
        match name {
            Tag::DataMode => self.metadata.partial = value.eq_ignore_ascii_case("partial"),
            Tag::DisplayName | Tag::Aor if within(Tag::NameId) || within(Tag::Participant) => {
                if let Some(participant) = &mut self.participant {
                    let field = if name == Tag::Aor { &mut participant.aor } else { &mut participant.name };
                    *field = some(value).or(field.take());
                }
            }
            Tag::Label => {
                if let Some(stream) = &mut self.stream {
                    stream.label = some(value);
                }
            }
            Tag::Id | Tag::ParticipantId if within(Tag::Participant) => self.name_participant(value),
            Tag::ParticipantId if within(Tag::Association) => self.name_participant(value),
            Tag::Id | Tag::StreamId if within(Tag::Stream) => {
                if let Some(stream) = &mut self.stream {
                    value.clone_into(&mut stream.id);
                }
            }
            Tag::Send | Tag::Receive => self.link(name, value),
            Tag::Ended if within(Tag::Association) => {
                if let Some(association) = &mut self.association {
                    association.ended = true;
                }
            }
            Tag::OriginalId => self.original_id(value),
            Tag::Participant => self.leave_participant(),
            Tag::Association => self.leave_association(),
            Tag::Stream => self.leave_stream(),
            _ => {}
        }
    }

    /// An id that is an element of its own.
    fn name_participant(&mut self, id: &str) {
        if let Some(association) = &mut self.association {
            id.clone_into(&mut association.participant);
        }
        if let Some(participant) = &mut self.participant {
            id.clone_into(&mut participant.id);
        }
    }

    fn link(&mut self, name: Tag, stream: &str) {
        // In drafts it is said within the participant.
        if let (None, Some(around)) = (&self.association, &self.participant) {
            self.association = Some(Association { participant: around.id.clone(), ..Association::default() });
        }
        let Some(association) = &mut self.association else { return };
        let streams = if name == Tag::Send { &mut association.sends } else { &mut association.receives };
        if streams.len() < MAX_ITEMS && !stream.is_empty() {
            streams.push(stream.to_owned());
        }
    }

    fn original_id(&mut self, value: &str) {
        // RFC 7989: the ids of both ends, or zeros where one is not known.
        let mut parts = value.split(';').map(str::trim);
        let first = parts.next();
        for id in first.into_iter().chain(parts.filter_map(|part| part.strip_prefix("remote="))) {
            let known = &mut self.metadata.original_ids;
            let says_nothing = id.bytes().all(|byte| byte == b'0') || known.iter().any(|other| other == id);
            if !says_nothing && known.len() < MAX_ITEMS {
                known.push(id.to_owned());
            }
        }
    }

    fn leave_participant(&mut self) {
        self.leave_association();
        let Some(found) = self.participant.take() else { return };
        let known = &mut self.metadata.participants;
        if let Some(other) = known.iter_mut().find(|other| !found.id.is_empty() && other.id == found.id) {
            other.aor = found.aor.or(other.aor.take());
            other.name = found.name.or(other.name.take());
        } else if known.len() < MAX_ITEMS {
            known.push(found);
        }
    }

    fn leave_stream(&mut self) {
        let Some(found) = self.stream.take() else { return };
        let known = &mut self.metadata.streams;
        if let Some(other) = known.iter_mut().find(|other| !found.id.is_empty() && other.id == found.id) {
            other.label = found.label.or(other.label.take());
        } else if known.len() < MAX_ITEMS {
            known.push(found);
        }
    }

    fn leave_association(&mut self) {
        let Some(association) = self.association.take() else { return };
        if association.participant.is_empty() {
            return;
        }
        let (sends, receives) = if association.ended {
            (&mut self.former_sends, &mut self.former_receives)
        } else {
            (&mut self.metadata.sends, &mut self.metadata.receives)
        };
        for (links, streams) in [(sends, association.sends), (receives, association.receives)] {
            let link = |stream| Link { participant: association.participant.clone(), stream };
            let room = MAX_ITEMS.saturating_sub(links.len());
            links.extend(streams.into_iter().take(room).map(link));
        }
    }
}

fn some(value: &str) -> Option<String> {
    Some(limited(value)).filter(|value| !value.is_empty()).map(str::to_owned)
}

fn limited(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMPLETE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <recording xmlns="urn:ietf:params:xml:ns:recording:1" xmlns:ac="http://vendor.example/">
          <datamode>complete</datamode>
          <session session_id="s">
            <sipSessionID>ab30317f1a784dc4;remote=00000000000000000000000000000000</sipSessionID>
          </session>
          <participant participant_id="p1">
            <nameID aor="sip:1009@example.net"><name xml:lang="de">M&#xfc;ller &amp; Co</name></nameID>
          </participant>
          <participant participant_id="p2"><nameID aor="tel:+4930123"/>
            <extensiondata><ac:AvayaUCID><![CDATA[00FA080019]]>;encoding=hex</ac:AvayaUCID></extensiondata>
          </participant>
          <participant participant_id="p3"/>
          <stream stream_id="x1" session_id="s"><label>96</label></stream>
          <stream stream_id="x2" session_id="s"><label>97</label></stream>
          <participantsessionassoc participant_id="p1" session_id="s"/>
          <participantstreamassoc participant_id="p3"><send>x2</send>
            <disassociate-time>2026-01-15T09:00:00Z</disassociate-time></participantstreamassoc>
          <participantstreamassoc participant_id="p1"><send>x1</send><recv>x2</recv></participantstreamassoc>
          <participantstreamassoc participant_id="p2"><send> x2 </send><recv>x1</recv></participantstreamassoc>
        </recording>"#;

    fn aor<'a>(metadata: &'a Metadata, label: &str) -> Option<&'a str> {
        metadata.speaker(label)?.aor.as_deref()
    }

    #[test]
    fn as_in_the_rfc() {
        let metadata = parse(COMPLETE.as_bytes());
        assert_eq!(metadata.participants.len(), 3);
        assert_eq!(metadata.participant(0).unwrap().name.as_deref(), Some("Müller & Co"));
        assert_eq!(aor(&metadata, "96"), Some("sip:1009@example.net"));
        assert_eq!(aor(&metadata, "97"), Some("tel:+4930123"));
        assert_eq!(aor(&metadata, "98"), None);
        let senders: Vec<_> = metadata.sends.iter().map(|link| link.participant.as_str()).collect();
        assert_eq!(senders, ["p1", "p2", "p3"]);
        assert_eq!(metadata.receives.len(), 2);
        assert_eq!(metadata.original_ids, ["ab30317f1a784dc4", "00FA080019"]);
        assert!(!metadata.partial && !metadata.truncated);
    }

    #[test]
    fn as_in_drafts() {
        let metadata = parse(
            b"<tns:recording xmlns:tns='urn:ietf:params:xml:ns:recording'><tns:dataMode>Partial</tns:dataMode>
              <session id='s'><call-id>7@10.0.0.1</call-id><extTrackingID>T1</extTrackingID>
              <participant id='a' session='s'><nameID aor='1009'></nameID><send>1</send><recv>2</recv>
              </participant>
              <participant><participant_id>b</participant_id><name>Bob</name><aor>sip:b@x</aor>
                <participantstreamassoc id='q'><send>2</send></participantstreamassoc></participant></session>
              <participantstreamassoc id='q' participant='c'><send>3</send></participantstreamassoc>
              <participantstreamassoc><send>3</send><participant_id>d</participant_id></participantstreamassoc>
              <stream id='1' session='s'><label>l1</label></stream>
              <stream><stream_id>2</stream_id><label>l2</label></stream></tns:recording>",
        );
        assert!(metadata.partial);
        assert_eq!(metadata.speaker("l1").unwrap().id, "a");
        let bob = Participant { id: "b".into(), aor: Some("sip:b@x".into()), name: Some("Bob".into()) };
        assert_eq!(metadata.speaker("l2"), Some(&bob));
        assert_eq!(metadata.participants.len(), 2);
        let third: Vec<_> = metadata.sends.iter().filter(|link| link.stream == "3").collect();
        assert_eq!(third.iter().map(|link| link.participant.as_str()).collect::<Vec<_>>(), ["c", "d"]);
        assert_eq!(metadata.original_ids, ["7@10.0.0.1", "T1"]);
    }

    #[test]
    fn what_was_read_before_the_end_counts() {
        let cut = &COMPLETE[..COMPLETE.find("<participantstreamassoc participant_id=\"p2\"").unwrap() + 5];
        let metadata = parse(cut.as_bytes());
        assert!(metadata.truncated);
        assert_eq!(aor(&metadata, "96"), Some("sip:1009@example.net"));
    }

    #[test]
    fn limits() {
        let item = |n: usize| {
            format!(
                "<participant id='p{n}'><send>s{n}</send></participant><stream id='s{n}'/><ucid>1{n}</ucid>"
            )
        };
        let many: String = (0..200).map(item).collect();
        let metadata =
            parse(format!("<recording>{many}<name>{}</name></recording>", "x".repeat(5000)).as_bytes());
        assert_eq!((metadata.participants.len(), metadata.streams.len()), (MAX_ITEMS, MAX_ITEMS));
        assert_eq!((metadata.sends.len(), metadata.original_ids.len()), (MAX_ITEMS, MAX_ITEMS));
        let long = parse(format!("<ucid>{}</ucid>", "ü".repeat(5000)).as_bytes());
        assert_eq!(long.original_ids[0].len(), MAX_VALUE);
    }

    #[test]
    fn found_in_bodies() {
        let body = format!(
            "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\nContent-Type: application/xml\r\n\
             Content-Disposition: recording-session;handling=optional\r\n\r\n{COMPLETE}\r\n--b--\r\n"
        );
        assert_eq!(find(b"multipart/mixed;boundary=b", body.as_bytes()), Some(COMPLETE.as_bytes()));
        assert_eq!(find(b"application/rs-metadata+xml", b"<recording/>"), Some(&b"<recording/>"[..]));
        assert_eq!(find(b"text/xml", b"<a xmlns='x:ns:recording:1'/>").map(<[u8]>::len), Some(29));
        assert_eq!(find(b"application/xml", b"<presence/>"), None);
    }

    proptest! {
        #[test]
        fn never_panics(
            bytes: Vec<u8>,
            text in "(</?(participant(streamassoc)?|stream|send|label|name|nameID|callid|id)( id='[ab]')?/?>\
                |[ab;0\u{fc}&]{0,3}){0,40}",
        ) {
            for document in [&bytes[..], text.as_bytes()] {
                let metadata = parse(document);
                let _ = (metadata.speaker("a"), metadata.participant(0));
            }
        }
    }
}
