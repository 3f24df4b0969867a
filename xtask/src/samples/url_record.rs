//! Phones that fetch a URL to be recorded.

use anyhow::Result;

use super::script::{ANSWERED, By, Connection, Dialog, MEDIA, NOTHING, Scene, description, host};
use crate::lab::Bench;
use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::speech::Speech;
use crate::lab::wire::Endpoint;

const AGENT: &str = "User-Agent: Yealink SIP-T46G 28.81.0.25\r\n";
/// In HTTP the phone adds its hardware address.
const HTTP_AGENT: &str = "Yealink SIP-T46G 28.81.0.25 02:00:0a:14:00:09";
const HTTP_PORT: u16 = 80;

fn server() -> Endpoint {
    host(1).at(HTTP_PORT)
}

fn get(target: &str, version: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/{version}\r\nHost: {}\r\nUser-Agent: {HTTP_AGENT}\r\nAccept: */*\r\n\r\n",
        server().ip
    )
    .into_bytes()
}

fn document(text: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<YealinkIPPhoneTextScreen>\r\n<Title>Record</Title>\r\n\
         <Text>{text}</Text>\r\n</YealinkIPPhoneTextScreen>\r\n"
    )
}

fn plain(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// In two chunks.
fn chunked(body: &str) -> Vec<u8> {
    let (one, two) = body.split_at(body.len() / 3);
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{one}\r\n{:X};a=b\r\n{two}\r\n0\r\n\r\n",
        one.len(),
        two.len()
    )
    .into_bytes()
}

/// Two presses on one connection: the same request, and what was done stands in the answers. The second answer is
/// chunked and comes in two segments.
pub(super) fn started_and_stopped(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("url-record-1"), AGENT)?;
    let mut http = Connection::open(&mut scene, 3990, host(9).at(40_001), server())?;
    http.client_says(&mut scene, 4000, &get("/URLRecord/record.xml", "1.1"))?;
    http.server_says(
        &mut scene,
        4060,
        &plain("200 OK", &document("The recording is successfully started.")),
    )?;
    http.client_says(&mut scene, 9000, &get("/URLRecord/record.xml", "1.1"))?;
    let answer = chunked(&document("The recording is successfully stopped."));
    let (one, two) = answer.split_at(150);
    http.server_says(&mut scene, 9050, one)?;
    http.server_says(&mut scene, 9070, two)?;
    http.close(&mut scene, 9100, false)?;
    Ok(scene.finish())
}

/// Older firmware, with a connection for each press: it cannot be recorded; then the server is out of order.
pub(super) fn refused(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("url-record-refused-1"), AGENT)?;
    let target = "/phonerecording.cgi?model=yealink";
    let answers =
        [plain("200 OK", &document("The call cannot be recorded!")), plain("503 Service Unavailable", "")];
    for ((answer, at_ms), port) in answers.iter().zip([4000, 8000]).zip(40_001..) {
        let mut http = Connection::open(&mut scene, at_ms - 10, host(9).at(port), server())?;
        http.client_says(&mut scene, at_ms, &get(target, "1.0"))?;
        http.server_says(&mut scene, at_ms + 40, answer)?;
        http.close(&mut scene, at_ms + 60, false)?;
    }
    Ok(scene.finish())
}

/// The phone has a call on hold and talks in a second one, where the key is pressed.
pub(super) fn two_calls(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let first = Dialog::of_phones("url-record-held-1");
    let second = Dialog::between("url-record-active-1", ("1009", host(9)), ("1011", host(11)));
    scene.set_up(0, &first, AGENT, MEDIA)?;
    let clip = |speech, to_ms| Clip::new(speech, Codec::Pcmu, to_ms);
    let ends = |dialog: &Dialog, ports: [u16; 2]| [0, 1].map(|side: usize| dialog.ends[side].at(ports[side]));
    let [caller, callee] = ends(&first, MEDIA);
    scene.speak(ANSWERED + 20, caller, callee, clip(Speech::Caller, 1500))?;
    scene.speak(ANSWERED + 15, callee, caller, clip(Speech::Callee, 1500))?;
    let hold = description(caller, Codec::Pcmu, "a=sendonly\r\n");
    scene.request(3000, &first, By::Caller, ("INVITE", 2), "", ("application/sdp", &hold))?;
    let held = description(callee, Codec::Pcmu, "a=recvonly\r\n");
    scene.response(3010, &first, By::Callee, ("200 OK", "2 INVITE"), "", ("application/sdp", &held))?;
    scene.request(3015, &first, By::Caller, ("ACK", 2), "", NOTHING)?;
    let ports = [11_002, 12_000];
    scene.set_up(3200, &second, AGENT, ports)?;
    let [caller, callee] = ends(&second, ports);
    let other = |clip: Clip| Clip { ssrc: clip.ssrc | 0x0100, ..clip };
    scene.speak(4720, caller, callee, other(clip(Speech::Caller, 8000)))?;
    scene.speak(4715, callee, caller, other(clip(Speech::Callee, 8000)))?;
    let mut http = Connection::open(&mut scene, 6990, host(9).at(40_001), server())?;
    http.client_says(&mut scene, 7000, &get("/URLRecord/record.xml", "1.1"))?;
    http.server_says(
        &mut scene,
        7050,
        &plain("200 OK", &document("The recording is successfully started.")),
    )?;
    http.close(&mut scene, 7100, false)?;
    scene.hang_up(12_800, &second, By::Caller, 2)?;
    scene.hang_up(13_000, &first, By::Callee, 3)?;
    Ok(scene.finish())
}

/// Another vendor's desk asks on behalf of an extension, and names a call: start, pause, resume, stop.
pub(super) fn template(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("url-template-1"), "")?;
    let mut http = Connection::open(&mut scene, 1990, host(40).at(50_001), host(41).at(8080))?;
    let presses = [
        (3000, "action=start&ext=1010", "204 No Content"),
        (6000, "action=pause&id=url-template-1%4010.20.0.9&ext=none", "204 No Content"),
        (8000, "ext=1009&x=y&action=resume", "204 No Content"),
        (9000, "action=stop&ext=1010", "409 Conflict"),
        (11_000, "action=stop&ext=1010", "204 No Content"),
    ];
    // A long page comes first, on the same connection.
    http.client_says(&mut scene, 2000, b"GET /login HTTP/1.1\r\nUser-Agent: Desk/1.0\r\n\r\n")?;
    let page = plain("200 OK", &"<p>Lorem ipsum dolor sit amet.</p>\r\n".repeat(200));
    for piece in page.chunks(1400) {
        http.server_says(&mut scene, 2100, piece)?;
    }
    for (at_ms, query, status) in presses {
        let request = format!("GET /api/recording?{query} HTTP/1.1\r\nUser-Agent: Desk/1.0\r\n\r\n");
        http.client_says(&mut scene, at_ms, request.as_bytes())?;
        http.server_says(&mut scene, at_ms + 30, &plain(status, ""))?;
    }
    http.close(&mut scene, 11_100, false)?;
    Ok(scene.finish())
}
