//! Calls whose media is sent to a recorder by the phone, the PBX or the session border controller.

use anyhow::Result;

use super::script::{ANSWERED, By, Connection, Dialog, ENDED, NOTHING, Scene, description, host, stream};
use crate::lab::Bench;
use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::speech::Speech;
use crate::lab::wire::Endpoint;

const SDP: &str = "application/sdp";
const SSRCS: [u32; 2] = [0x0a14_2009, 0x0a14_2010];

fn recorder() -> Endpoint {
    host(20)
}

/// What is said from a moment of the call on, sent to a recorder.
fn copy(speech: Speech, from_ms: u64, to_ms: u64, ssrc: u32) -> Clip {
    let [from_ms, to_ms] = [from_ms, to_ms].map(|at_ms| (at_ms - ANSWERED) as u32);
    Clip { from_ms, ssrc, ..Clip::new(speech, Codec::Pcmu, to_ms) }
}

/// Both voices in one stream.
fn mixed(codec: Codec, from_ms: u64, to_ms: u64) -> Clip {
    Clip { codec, mixed_with: Some(Speech::Callee), ..copy(Speech::Caller, from_ms, to_ms, SSRCS[0]) }
}

/// The phone makes a conference of its call and the recorder, and ends that after some seconds.
pub(super) fn leg(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    conference(&mut scene, ["recorder-leg-1", "recorder-leg-2"])?;
    Ok(scene.finish())
}

/// The same; and in the call itself the recording is paused for a while.
pub(super) fn leg_paused(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let ids = ["recorder-leg-paused-1", "recorder-leg-paused-2"];
    conference(&mut scene, ids)?;
    let call = Dialog::of_phones(ids[0]);
    for (cseq, (action, at_ms)) in (2..).zip([("pause-siprec", 6000), ("resume-siprec", 7500)]) {
        let header = format!("X-AC-Action: {action}\r\n");
        scene.request(at_ms, &call, By::Callee, ("INFO", cseq), &header, NOTHING)?;
        scene.response(at_ms + 40, &call, By::Caller, ("200 OK", &format!("{cseq} INFO")), "", NOTHING)?;
    }
    Ok(scene.finish())
}

fn conference(scene: &mut Scene, ids: [&'static str; 2]) -> Result<()> {
    let agent = "User-Agent: snomD385/10.1.184.15\r\n";
    scene.call(&Dialog::of_phones(ids[0]), agent)?;
    let leg = Dialog::between(ids[1], ("1009", host(9)), ("7900", recorder()));
    let ends = [host(9).at(11_010), recorder().at(30_000)];
    let [offer, answer] = ends.map(|end| description(end, Codec::Pcmu, ""));
    scene.request(4000, &leg, By::Caller, ("INVITE", 1), agent, (SDP, &offer))?;
    scene.response(4300, &leg, By::Callee, ("200 OK", "1 INVITE"), "", (SDP, &answer))?;
    scene.request(4310, &leg, By::Caller, ("ACK", 1), "", NOTHING)?;
    scene.speak(4320, ends[0], ends[1], mixed(Codec::Pcmu, 4320, 9000))?;
    scene.hang_up(9000, &leg, By::Caller, 2)
}

/// The recorder has no room.
pub(super) fn leg_refused(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("recorder-leg-refused-1"), "")?;
    let leg = Dialog::between("recorder-leg-refused-2", ("1009", host(9)), ("7900", recorder()));
    let offer = description(host(9).at(11_010), Codec::Pcmu, "");
    scene.request(4000, &leg, By::Caller, ("INVITE", 1), "", (SDP, &offer))?;
    scene.response(4040, &leg, By::Callee, ("486 Busy Here", "1 INVITE"), "", NOTHING)?;
    scene.request(4050, &leg, By::Caller, ("ACK", 1), "", NOTHING)?;
    Ok(scene.finish())
}

const UUID: &str = "X-Genesys-CallUUID: 01J3KQ8T7N9M2P4R6S8V0W2X4Y6Z8A0B\r\n";

/// SIP Server's dialog with the media server, and the two by which that sends the recorder both voices.
struct Genesys {
    control: Dialog,
    voices: [Dialog; 2],
}

impl Genesys {
    fn new(ids: [&'static str; 3]) -> Self {
        let (server, media_server) = (host(1), host(30));
        let mut control = Dialog::between(ids[0], ("1009", server), ("conf-4711", media_server));
        control.uri = format!("sip:msml=conf-4711@{};dn=1009;record", media_server.ip);
        let voice = |id, user| Dialog::between(id, (user, media_server), ("recorder", recorder()));
        // The callee's comes first: what the call says of its parties decides, not the order.
        Self { control, voices: [voice(ids[1], "1010"), voice(ids[2], "1009")] }
    }

    fn begin(&self, scene: &mut Scene, at_ms: u64) -> Result<()> {
        scene.request(at_ms, &self.control, By::Caller, ("INVITE", 1), UUID, NOTHING)?;
        scene.response(at_ms + 5, &self.control, By::Callee, ("200 OK", "1 INVITE"), "", NOTHING)?;
        scene.request(at_ms + 8, &self.control, By::Caller, ("ACK", 1), "", NOTHING)?;
        for (index, dialog) in self.voices.iter().enumerate() {
            let [offer, answer] = self.media(index);
            let offer = description(offer, Codec::Pcmu, "a=sendonly\r\n");
            let answer = description(answer, Codec::Pcmu, "a=recvonly\r\n");
            let at_ms = at_ms + 20 + 5 * index as u64;
            scene.request(at_ms, dialog, By::Caller, ("INVITE", 1), UUID, (SDP, &offer))?;
            scene.response(at_ms + 20, dialog, By::Callee, ("200 OK", "1 INVITE"), "", (SDP, &answer))?;
            scene.request(at_ms + 25, dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
        }
        Ok(())
    }

    fn media(&self, index: usize) -> [Endpoint; 2] {
        [host(30).at(41_000 + 2 * index as u16), recorder().at(31_000 + 2 * index as u16)]
    }

    /// What was said from then to then.
    fn speak(&self, scene: &mut Scene, from_ms: u64, to_ms: u64) -> Result<()> {
        for (index, speech) in [Speech::Callee, Speech::Caller].into_iter().enumerate() {
            let [from, to] = self.media(index);
            scene.speak(from_ms, from, to, copy(speech, from_ms, to_ms, SSRCS[1 - index]))?;
        }
        Ok(())
    }

    /// An order to the media server, and its result.
    fn order(&self, scene: &mut Scene, at_ms: u64, cseq: u32, state: &str, result: u16) -> Result<()> {
        let body = format!(
            "<?xml version=\"1.0\"?>\n<msml version=\"1.1\" xmlns:gvp=\"http://www.genesyslab.com/\">\n\
             <modifyconference id=\"conf-4711\"><gvp:recorder state=\"{state}\"/></modifyconference>\n</msml>\n"
        );
        let answer = format!(
            "<?xml version=\"1.0\"?>\n<msml version=\"1.1\"><result response=\"{result}\"/></msml>\n"
        );
        let kind = "application/vnd.radisys.msml+xml";
        scene.request(at_ms, &self.control, By::Caller, ("INFO", cseq), "", (kind, &body))?;
        let to = format!("{cseq} INFO");
        scene.response(at_ms + 30, &self.control, By::Callee, ("200 OK", &to), "", (kind, &answer))
    }

    fn end(&self, scene: &mut Scene, at_ms: u64) -> Result<()> {
        for dialog in &self.voices {
            scene.hang_up(at_ms, dialog, By::Caller, 2)?;
        }
        scene.hang_up(at_ms + 10, &self.control, By::Caller, 9)
    }
}

/// Both voices reach the recorder in calls of their own; SIP Server pauses and resumes by MSML, and stops before the
/// call ends.
pub(super) fn genesys(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("genesys-1"), UUID)?;
    let session = Genesys::new(["genesys-control-1", "genesys-voice-1", "genesys-voice-2"]);
    session.begin(&mut scene, ANSWERED + 100)?;
    session.speak(&mut scene, 1700, 13_000)?;
    session.order(&mut scene, 5000, 2, "pause", 200)?;
    session.order(&mut scene, 8000, 3, "resume", 200)?;
    session.order(&mut scene, 11_000, 4, "stop", 200)?;
    session.end(&mut scene, 13_000)?;
    Ok(scene.finish())
}

/// The media server takes the INFO and refuses what it asks for. The call itself is not seen.
pub(super) fn genesys_refused(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let session = Genesys::new(["genesys-control-2", "genesys-voice-3", "genesys-voice-4"]);
    session.begin(&mut scene, ANSWERED + 100)?;
    session.speak(&mut scene, 1700, 9000)?;
    session.order(&mut scene, 5000, 2, "pause", 404)?;
    session.end(&mut scene, 9000)?;
    Ok(scene.finish())
}

/// Two calls to a recorder that begin together, and nothing else that says that they belong together.
pub(super) fn genesys_pair(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let voices = [("genesys-pair-1", "1009", Speech::Caller), ("genesys-pair-2", "1010", Speech::Callee)];
    for (index, (id, user, speech)) in voices.into_iter().enumerate() {
        let dialog = Dialog::between(id, (user, host(30)), ("7950", recorder()));
        let more = 2 * index as u16;
        let ends = [host(30).at(41_000 + more), recorder().at(31_000 + more)];
        let [offer, answer] = ends.map(|end| description(end, Codec::Pcmu, ""));
        let at_ms = 1600 + 5 * index as u64;
        scene.request(at_ms, &dialog, By::Caller, ("INVITE", 1), "", (SDP, &offer))?;
        scene.response(at_ms + 20, &dialog, By::Callee, ("200 OK", "1 INVITE"), "", (SDP, &answer))?;
        scene.request(at_ms + 25, &dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
        scene.speak(1700, ends[0], ends[1], copy(speech, 1700, 9000, SSRCS[index]))?;
        scene.hang_up(9010, &dialog, By::Caller, 2)?;
    }
    Ok(scene.finish())
}

const BOUNDARY: &str = "multipart/mixed;boundary=uniqueBoundary";

/// Metadata of two participants. The first stream is the callee's, and the first participant too.
fn metadata(original: &str) -> String {
    let participant = |id: &str, user: &str, name: &str| {
        format!(
            "  <participant participant_id=\"{id}\">\n    <nameID aor=\"sip:{user}@10.20.0.1\">\n      \
             <name xml:lang=\"en\">{name}</name>\n    </nameID>\n  </participant>\n"
        )
    };
    let stream = |id: &str, label: &str| {
        format!("  <stream stream_id=\"{id}\" session_id=\"s1\">\n    <label>{label}</label>\n  </stream>\n")
    };
    let sends = |participant: &str, sent: &str, received: &str| {
        format!(
            "  <participantstreamassoc participant_id=\"{participant}\">\n    <send>{sent}</send>\n    \
             <recv>{received}</recv>\n  </participantstreamassoc>\n"
        )
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<recording xmlns=\"urn:ietf:params:xml:ns:recording:1\">\n  \
         <datamode>complete</datamode>\n  <session session_id=\"s1\">\n    <sipSessionID>{original}</sipSessionID>\n  \
         </session>\n{}{}{}{}{}{}</recording>\n",
        participant("p2", "1010", "Beate &amp; Söhne"),
        participant("p1", "1009", "Anton"),
        stream("m2", "96"),
        stream("m1", "97"),
        sends("p2", "m2", "m1"),
        sends("p1", "m1", "m2"),
    )
}

struct Siprec {
    dialog: Dialog,
    original: String,
}

impl Siprec {
    fn new(id: &'static str, original: String) -> Self {
        Self { dialog: Dialog::between(id, ("src", host(30)), ("srs", recorder())), original }
    }

    fn media() -> [[Endpoint; 2]; 2] {
        [0, 2].map(|more| [host(30).at(41_000 + more), recorder().at(31_000 + more)])
    }

    fn offer(&self, direction: &str) -> String {
        let [[callee, _], [caller, _]] = Self::media();
        let lines = |label| format!("a={direction}\r\na=label:{label}\r\n");
        let sdp = description(callee, Codec::Pcmu, &lines(96)) + &stream(caller, Codec::Pcmu, &lines(97));
        format!(
            "--uniqueBoundary\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--uniqueBoundary\r\n\
             Content-Type: application/rs-metadata+xml\r\nContent-Disposition: recording-session\r\n\r\n{}\r\n\
             --uniqueBoundary--\r\n",
            metadata(&self.original)
        )
    }

    fn answer(direction: &str) -> String {
        let [[_, callee], [_, caller]] = Self::media();
        let lines = |label| format!("a={direction}\r\na=label:{label}\r\n");
        description(callee, Codec::Pcmu, &lines(96)) + &stream(caller, Codec::Pcmu, &lines(97))
    }

    /// An INVITE, its answer, and the ACK.
    fn invite(&self, scene: &mut Scene, at_ms: u64, cseq: u32, directions: [&str; 2]) -> Result<()> {
        let headers = "Require: siprec\r\nContact: <sip:src@10.20.0.30:5060>;+sip.src\r\n";
        let (offer, answer) = (self.offer(directions[0]), Self::answer(directions[1]));
        scene.request(at_ms, &self.dialog, By::Caller, ("INVITE", cseq), headers, (BOUNDARY, &offer))?;
        let to = format!("{cseq} INVITE");
        scene.response(at_ms + 20, &self.dialog, By::Callee, ("200 OK", &to), "", (SDP, &answer))?;
        scene.request(at_ms + 25, &self.dialog, By::Caller, ("ACK", cseq), "", NOTHING)
    }

    fn speak(scene: &mut Scene, from_ms: u64, to_ms: u64) -> Result<()> {
        let speeches = [Speech::Callee, Speech::Caller];
        for ([from, to], (speech, ssrc)) in
            Self::media().into_iter().zip(speeches.into_iter().zip([SSRCS[1], SSRCS[0]]))
        {
            scene.speak(from_ms, from, to, copy(speech, from_ms, to_ms, ssrc))?;
        }
        Ok(())
    }
}

/// A session border controller sends both voices to a recorder. The call is seen too.
pub(super) fn siprec(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("siprec-1"), "")?;
    let session = Siprec::new("siprec-2", "siprec-1@10.20.0.9".to_owned());
    session.invite(&mut scene, 1600, 1, ["sendonly", "recvonly"])?;
    Siprec::speak(&mut scene, 1640, ENDED)?;
    scene.hang_up(ENDED + 20, &session.dialog, By::Caller, 2)?;
    Ok(scene.finish())
}

/// The recorder is out of order. The call is seen, and goes on.
pub(super) fn siprec_refused(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("siprec-refused-1"), "")?;
    let session = Siprec::new("siprec-refused-2", "siprec-refused-1@10.20.0.9".to_owned());
    let offer = session.offer("sendonly");
    let body = (BOUNDARY, offer.as_str());
    scene.request(1600, &session.dialog, By::Caller, ("INVITE", 1), "Require: siprec\r\n", body)?;
    let answer = ("503 Service Unavailable", "1 INVITE");
    scene.response(1620, &session.dialog, By::Callee, answer, "", NOTHING)?;
    scene.request(1625, &session.dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
    Ok(scene.finish())
}

/// Both streams are inactive for a while. Nothing is seen of the call.
pub(super) fn siprec_paused(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let session = Siprec::new("siprec-paused-1", "a-call-elsewhere".to_owned());
    session.invite(&mut scene, 1600, 1, ["sendonly", "recvonly"])?;
    session.invite(&mut scene, 5000, 2, ["inactive", "inactive"])?;
    session.invite(&mut scene, 8000, 3, ["sendonly", "recvonly"])?;
    // A client that does not stop sending at once, nor ever quite.
    Siprec::speak(&mut scene, 1640, 11_000)?;
    scene.hang_up(11_020, &session.dialog, By::Caller, 4)?;
    Ok(scene.finish())
}

/// The built-in bridge of the callee's phone: two INVITEs without a description, from Unified CM; the phone sends.
pub(super) fn cisco(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("cisco-bib-1"), "")?;
    bridge(&mut scene, ["cisco-bib-near-1", "cisco-bib-far-1"], false)?;
    Ok(scene.finish())
}

/// The recorder takes the far end alone. Nothing is seen of the call.
pub(super) fn cisco_one_end(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    bridge(&mut scene, ["cisco-bib-near-2", "cisco-bib-far-2"], true)?;
    Ok(scene.finish())
}

fn bridge(scene: &mut Scene, ids: [&'static str; 2], near_is_refused: bool) -> Result<()> {
    let manager = host(1);
    let ends = [("x-nearend", Speech::Callee), ("x-farend", Speech::Caller)];
    for (index, (end, speech)) in ends.into_iter().enumerate() {
        let id = ids[index];
        let mut dialog = Dialog::between(id, ("1010", manager), ("recorder", recorder()));
        dialog.from = format!(
            "<sip:1010@{};{end};x-refci=27000;x-nearendclusterid=c1;x-nearenddevice=SEP02000A140010;\
             x-nearendaddr=1010;x-farendrefci=26999;x-farenddevice=SEP02000A140009;x-farendaddr=1009>",
            manager.ip
        );
        // Both streams leave the phone by one port.
        let (from, to) = (host(10).at(24_000), recorder().at(31_000 + 2 * index as u16));
        let offer = description(to, Codec::Pcmu, "a=recvonly\r\n");
        let answer = description(from, Codec::Pcmu, "a=sendonly\r\n");
        let at_ms = 1600 + 10 * index as u64;
        scene.request(at_ms, &dialog, By::Caller, ("INVITE", 1), "", NOTHING)?;
        if near_is_refused && index == 0 {
            let answer = ("486 Busy Here", "1 INVITE");
            scene.response(at_ms + 20, &dialog, By::Callee, answer, "", NOTHING)?;
            scene.request(at_ms + 25, &dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
            continue;
        }
        scene.response(at_ms + 20, &dialog, By::Callee, ("200 OK", "1 INVITE"), "", (SDP, &offer))?;
        scene.request(at_ms + 25, &dialog, By::Caller, ("ACK", 1), "", (SDP, &answer))?;
        scene.speak(1700, from, to, copy(speech, 1700, ENDED, SSRCS[1 - index]))?;
        scene.hang_up(ENDED + 10, &dialog, By::Caller, 2)?;
    }
    Ok(())
}

const CONTROL_PORT: u16 = 8000;
const STREAM_PORT: u16 = 32_000;

fn start(id: &str, codec: &str) -> String {
    format!(
        "cmd=RecordStartRequest&id={id}&device=02000A140010&remote_number=1009&remote_name=J%C3%BCrgen%20100%&\
         local_number=1010&local_name=Zoë&dir=in&codec={codec}"
    )
}

fn granted(id: &str) -> String {
    format!(
        "cmd=RecordStartResponse&id={id}&result=success&reason=&server={}&port={STREAM_PORT}",
        recorder().ip
    )
}

/// Two recordings on one connection, messages without an end; nothing is seen of the call.
pub(super) fn server(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let phone = host(10);
    let mut control = Connection::open(&mut scene, 1900, phone.at(40_001), recorder().at(CONTROL_PORT))?;
    for (id, at_ms, until_ms) in [("17", 2000, 6000), ("18", 7000, 11_000)] {
        let (one, two) = (start(id, "PCMA"), granted(id));
        let (head, tail) = one.split_at(30);
        control.client_says(&mut scene, at_ms, head.as_bytes())?;
        control.client_says(&mut scene, at_ms + 2, tail.as_bytes())?;
        control.server_says(&mut scene, at_ms + 20, two.as_bytes())?;
        let clip = mixed(Codec::Pcma, at_ms + 40, until_ms);
        let clip = Clip { ssrc: clip.ssrc + (at_ms as u32), ..clip };
        scene.speak(at_ms + 40, phone.at(12_010), recorder().at(STREAM_PORT), clip)?;
        let stop = format!("cmd=RecordStopRequest&id={id}&reason=user");
        control.client_says(&mut scene, until_ms, stop.as_bytes())?;
        let stopped = format!("cmd=RecordStopResponse&id={id}&result=success");
        control.server_says(&mut scene, until_ms + 15, stopped.as_bytes())?;
    }
    control.close(&mut scene, 12_000, false)?;
    Ok(scene.finish())
}

/// The server has no room: nothing is recorded, and nothing sent. The call is seen.
pub(super) fn server_failed(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("record-server-failed-1"), "")?;
    let mut control = Connection::open(&mut scene, 3900, host(10).at(40_001), recorder().at(CONTROL_PORT))?;
    control.client_says(&mut scene, 4000, (start("1", "PCMU") + "\r\n").as_bytes())?;
    let refused = "cmd=RecordStartResponse&id=1&result=failed&reason=disk%20full\r\n";
    control.server_says(&mut scene, 4020, refused.as_bytes())?;
    control.close(&mut scene, 12_000, false)?;
    Ok(scene.finish())
}

/// The connection is reset in mid-recording. The call is seen, and goes on.
pub(super) fn server_closed(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("record-server-closed-1"), "")?;
    let phone = host(10);
    let mut control = Connection::open(&mut scene, 3900, phone.at(40_001), recorder().at(CONTROL_PORT))?;
    control.client_says(&mut scene, 4000, (start("7", "PCMU") + "\n").as_bytes())?;
    control.server_says(&mut scene, 4020, (granted("7") + "\n").as_bytes())?;
    scene.speak(4040, phone.at(12_010), recorder().at(STREAM_PORT), mixed(Codec::Pcmu, 4040, 8000))?;
    control.close(&mut scene, 8000, true)?;
    Ok(scene.finish())
}
