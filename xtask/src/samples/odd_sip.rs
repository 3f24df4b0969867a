//! SIP that is not as the books have it: a call without Call-ID, one Call-ID for two calls, a fax that is declined, an
//! answer that crosses the CANCEL.

use std::time::Duration;

use anyhow::Result;

use super::script::{ANSWERED, By, Dialog, ENDED, MEDIA, NOTHING, Scene, description};
use crate::lab::Bench;
use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::speech::Speech;
use crate::lab::wire::Datagram;

/// The plain call, without Call-ID.
pub(super) fn no_call_id(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    scene.call(&Dialog::of_phones("no-call-id-1"), "")?;
    with_texts(scene.finish(), |_, text| {
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("Call-ID:")).collect()
    })
}

/// Two calls in turn, with one Call-ID and other tags.
pub(super) fn call_id_reused(bench: &Bench) -> Result<Capture> {
    const LENGTH: u64 = 4000;
    const AGAIN: u64 = 6500;
    let dialog = Dialog::of_phones("call-id-reused-1");
    let mut scene = Scene::new(bench);
    for (begin, from_ms) in [(0, 0), (AGAIN, 6000)] {
        scene.set_up(begin, &dialog, "", MEDIA)?;
        speak(&mut scene, &dialog, begin + ANSWERED, LENGTH as u32, from_ms)?;
        scene.hang_up(begin + ANSWERED + LENGTH, &dialog, By::Caller, 9)?;
    }
    let capture = scene.finish();
    let second = capture.frames.first().map(|first| first.at + Duration::from_millis(AGAIN));
    with_texts(capture, |at, text| {
        let is_second = second.is_some_and(|second| at >= second);
        if is_second { text.replace(";tag=", ";tag=again-") } else { text.to_owned() }
    })
}

/// The callee's gateway hears a fax tone and asks for T.38; the caller does not want it, and both go on with audio.
pub(super) fn t38_declined(bench: &Bench) -> Result<Capture> {
    const OFFERED: u64 = 5000;
    let dialog = Dialog::of_phones("t38-declined-1");
    let mut scene = Scene::new(bench);
    scene.call(&dialog, "")?;
    let ip = dialog.ends[1].ip;
    let offer = format!(
        "v=0\r\no=- 1 2 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=image {} udptl t38\r\n\
         a=T38FaxVersion:0\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n",
        MEDIA[1]
    );
    scene.request(OFFERED, &dialog, By::Callee, ("INVITE", 2), "", ("application/sdp", &offer))?;
    scene.response(
        OFFERED + 80,
        &dialog,
        By::Caller,
        ("488 Not Acceptable Here", "2 INVITE"),
        "",
        NOTHING,
    )?;
    scene.request(OFFERED + 90, &dialog, By::Callee, ("ACK", 2), "", NOTHING)?;
    Ok(scene.finish())
}

/// The caller has given up when the callee picks up: the 200 crosses the CANCEL, and the call is up.
pub(super) fn cancel_race(bench: &Bench) -> Result<Capture> {
    let dialog = Dialog::of_phones("cancel-race-1");
    let mut scene = Scene::new(bench);
    let [offer, answer] = [0, 1].map(|side| description(dialog.ends[side].at(MEDIA[side]), Codec::Pcmu, ""));
    scene.request(0, &dialog, By::Caller, ("INVITE", 1), "", ("application/sdp", &offer))?;
    scene.response(100, &dialog, By::Callee, ("180 Ringing", "1 INVITE"), "", NOTHING)?;
    scene.request(ANSWERED - 10, &dialog, By::Caller, ("CANCEL", 1), "", NOTHING)?;
    scene.response(
        ANSWERED,
        &dialog,
        By::Callee,
        ("200 OK", "1 INVITE"),
        "",
        ("application/sdp", &answer),
    )?;
    scene.response(ANSWERED + 5, &dialog, By::Callee, ("200 OK", "1 CANCEL"), "", NOTHING)?;
    scene.request(ANSWERED + 10, &dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
    speak(&mut scene, &dialog, ANSWERED, (ENDED - ANSWERED) as u32, 0)?;
    scene.hang_up(ENDED, &dialog, By::Caller, 9)?;
    Ok(scene.finish())
}

/// Both talk from the answer on, for so long, from some place of what they have to say.
fn speak(scene: &mut Scene, dialog: &Dialog, answered: u64, length: u32, from_ms: u32) -> Result<()> {
    let [caller, callee] = [0, 1].map(|side| dialog.ends[side].at(MEDIA[side]));
    let clip = |speech| Clip { from_ms, ..Clip::new(speech, Codec::Pcmu, from_ms + length) };
    scene.speak(answered + 20, caller, callee, clip(Speech::Caller))?;
    scene.speak(answered + 15, callee, caller, clip(Speech::Callee))
}

/// The same with the texts of its SIP messages changed.
fn with_texts(mut capture: Capture, change: impl Fn(Duration, &str) -> String) -> Result<Capture> {
    for frame in &mut capture.frames {
        let Some(datagram) = Datagram::parse(&frame.data) else { continue };
        let Some(text) = datagram.sip() else { continue };
        let text = change(frame.at, text);
        frame.data = Datagram { from: datagram.from, to: datagram.to, payload: text.as_bytes() }.build()?;
    }
    Ok(capture)
}
