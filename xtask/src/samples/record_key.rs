//! Record keys that one pair of phones cannot be made to press.

use anyhow::Result;

use super::script::{ANSWERED, By, Dialog, ENDED, MEDIA, NOTHING, Scene, description, host_v6};
use crate::lab::Bench;
use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::speech::Speech;

/// A PBX rings two phones, of which one answers; then both parties press, over IPv6. The callee's `off` is refused.
pub(super) fn both_sides(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let (phone, other, pbx) = (host_v6(9), host_v6(11), host_v6(1));
    let dialog = Dialog::between("record-both-sides-1", ("1009", phone), ("1010", pbx));
    let unheard =
        Dialog { branch: "-x", ..Dialog::between("record-both-sides-1", ("1009", phone), ("1010", pbx)) };
    let [caller, callee] = [phone.at(MEDIA[0]), other.at(MEDIA[1])];
    let body = |end| description(end, Codec::Pcmu, "");
    let sdp = "application/sdp";
    scene.request(0, &dialog, By::Caller, ("INVITE", 1), "", (sdp, &body(caller)))?;
    scene.response(300, &unheard, By::Callee, ("180 Ringing", "1 INVITE"), "", NOTHING)?;
    scene.response(
        400,
        &dialog,
        By::Callee,
        ("183 Session Progress", "1 INVITE"),
        "",
        (sdp, &body(callee)),
    )?;
    scene.response(ANSWERED, &dialog, By::Callee, ("200 OK", "1 INVITE"), "", (sdp, &body(callee)))?;
    scene.request(ANSWERED + 10, &dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
    let length = (ENDED - ANSWERED) as u32;
    scene.speak(ANSWERED + 20, caller, callee, Clip::new(Speech::Caller, Codec::Pcmu, length))?;
    scene.speak(ANSWERED + 15, callee, caller, Clip::new(Speech::Callee, Codec::Pcmu, length))?;
    let presses = [
        (3000, By::Caller, 2, "on", "200 OK"),
        (5000, By::Callee, 1, "ON", "200 OK"),
        (7000, By::Callee, 2, "off", "403 Forbidden"),
        (9000, By::Caller, 3, "off", "200 OK"),
    ];
    for (at_ms, by, cseq, value, answer) in presses {
        let other = if by == By::Caller { By::Callee } else { By::Caller };
        scene.request(at_ms, &dialog, by, ("INFO", cseq), &format!("Record: {value}\r\n"), NOTHING)?;
        scene.response(at_ms + 30, &dialog, other, (answer, &format!("{cseq} INFO")), "", NOTHING)?;
    }
    scene.hang_up(ENDED, &dialog, By::Caller, 9)?;
    Ok(scene.finish())
}
