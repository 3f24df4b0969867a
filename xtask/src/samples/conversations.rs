//! Calls that belong together, and one call that is seen on several hops.

use anyhow::Result;

use super::script::{By, Dialog, MEDIA, NOTHING, Scene, description, host};
use crate::lab::Bench;
use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::speech::Speech;
use crate::lab::wire::Endpoint;

const SDP: &str = "application/sdp";
const SIPFRAG: &str = "message/sipfrag;version=2.0";
const REFERRED_BY: &str = "Referred-By: <sip:1010@10.20.0.10>\r\n";

/// What one party says from a moment of its speech file on, for some time.
fn clip(speech: Speech, ssrc: u32, from_ms: u32, length_ms: u32) -> Clip {
    Clip { from_ms, ssrc, ..Clip::new(speech, Codec::Pcmu, from_ms + length_ms) }
}

/// INVITE, 180, 200, ACK, with the media ports of both; returns the media addresses.
fn answered(
    scene: &mut Scene,
    dialog: &Dialog,
    [at_ms, answered_ms]: [u64; 2],
    headers: [&str; 2],
    ports: [u16; 2],
) -> Result<[Endpoint; 2]> {
    let media = [0, 1].map(|side| dialog.ends[side].at(ports[side]));
    let [offer, answer] = media.map(|end| description(end, Codec::Pcmu, ""));
    scene.request(at_ms, dialog, By::Caller, ("INVITE", 1), headers[0], (SDP, &offer))?;
    scene.response(at_ms + 20, dialog, By::Callee, ("180 Ringing", "1 INVITE"), "", NOTHING)?;
    scene.response(answered_ms, dialog, By::Callee, ("200 OK", "1 INVITE"), headers[1], (SDP, &answer))?;
    scene.request(answered_ms + 10, dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
    Ok(media)
}

/// REFER by the callee, 202, and a first NOTIFY.
fn refer(scene: &mut Scene, at_ms: u64, dialog: &Dialog, target: &str) -> Result<()> {
    let headers = format!("Refer-To: <{target}>\r\n{REFERRED_BY}");
    scene.request(at_ms, dialog, By::Callee, ("REFER", 11), &headers, NOTHING)?;
    scene.response(at_ms + 10, dialog, By::Caller, ("202 Accepted", "11 REFER"), "", NOTHING)?;
    notify(scene, at_ms + 15, dialog, 21, "100 Trying")
}

fn notify(scene: &mut Scene, at_ms: u64, dialog: &Dialog, cseq: u32, status: &str) -> Result<()> {
    let body = format!("SIP/2.0 {status}\r\n");
    let headers = "Event: refer;id=11\r\nSubscription-State: active\r\n";
    scene.request(at_ms, dialog, By::Caller, ("NOTIFY", cseq), headers, (SIPFRAG, &body))?;
    scene.response(at_ms + 5, dialog, By::Callee, ("200 OK", &format!("{cseq} NOTIFY")), "", NOTHING)
}

/// 1010 refers 1009 to 1011 without asking there first; 1009's phone uses the same media port again.
pub(super) fn blind(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let first = Dialog::of_phones("transfer-blind-1");
    let [a, b] = answered(&mut scene, &first, [0, 1500], ["", ""], MEDIA)?;
    scene.speak(1515, b, a, clip(Speech::Callee, 0x0a14_0010, 0, 4480))?;
    scene.speak(1520, a, b, clip(Speech::Caller, 0x0a14_0009, 0, 4480))?;
    refer(&mut scene, 6000, &first, "sip:1011@10.20.0.11")?;
    let second = Dialog::between("transfer-blind-2", ("1009", host(9)), ("1011", host(11)));
    let [a, c] = answered(&mut scene, &second, [6050, 7000], [REFERRED_BY, ""], MEDIA)?;
    notify(&mut scene, 7020, &first, 22, "200 OK")?;
    scene.hang_up(7050, &first, By::Callee, 12)?;
    scene.speak(7015, c, a, clip(Speech::Callee, 0x0a14_0011, 6000, 5000))?;
    scene.speak(7020, a, c, clip(Speech::Caller, 0x0a14_0009, 5500, 5000))?;
    scene.hang_up(12_100, &second, By::Caller, 2)?;
    Ok(scene.finish())
}

/// 1010 asks 1011 first, while 1009 is on hold, then has 1009 take that call over.
pub(super) fn attended(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let first = Dialog::of_phones("transfer-attended-1");
    let [a, b] = answered(&mut scene, &first, [0, 1500], ["", ""], MEDIA)?;
    scene.speak(1515, b, a, clip(Speech::Callee, 0x0a14_0010, 0, 2480))?;
    scene.speak(1520, a, b, clip(Speech::Caller, 0x0a14_0009, 0, 2480))?;
    let [held, holds] =
        [(a, "a=recvonly\r\n"), (b, "a=sendonly\r\n")].map(|(end, how)| description(end, Codec::Pcmu, how));
    scene.request(4000, &first, By::Callee, ("INVITE", 10), "", (SDP, &holds))?;
    scene.response(4020, &first, By::Caller, ("200 OK", "10 INVITE"), "", (SDP, &held))?;
    scene.request(4030, &first, By::Callee, ("ACK", 10), "", NOTHING)?;

    let asked = Dialog::between("transfer-attended-2", ("1010", host(10)), ("1011", host(11)));
    let [b, c] = answered(&mut scene, &asked, [4200, 5000], ["", ""], [12_010, 13_000])?;
    scene.speak(5015, c, b, clip(Speech::Callee, 0x0a14_0011, 6000, 2480))?;
    scene.speak(5020, b, c, clip(Speech::Caller, 0x0a14_1010, 8000, 2480))?;

    let replaced =
        "transfer-attended-2%4010.20.0.9%3Bto-tag%3Db-transfer-attended-2%3Bfrom-tag%3Da-transfer-attended-2";
    refer(&mut scene, 7600, &first, &format!("sip:1011@10.20.0.11?Replaces={replaced}"))?;
    let last = Dialog::between("transfer-attended-3", ("1009", host(9)), ("1011", host(11)));
    let headers = format!(
        "{REFERRED_BY}Replaces: transfer-attended-2@10.20.0.9;to-tag=b-transfer-attended-2;from-tag=a-transfer-attended-2\r\n"
    );
    let [a, c] = answered(&mut scene, &last, [7650, 7700], [&headers, ""], [MEDIA[0], 13_000])?;
    scene.hang_up(7720, &asked, By::Callee, 2)?;
    notify(&mut scene, 7725, &first, 22, "200 OK")?;
    scene.hang_up(7740, &first, By::Callee, 12)?;
    scene.speak(7715, c, a, clip(Speech::Callee, 0x0a14_2011, 8600, 4400))?;
    scene.speak(7720, a, c, clip(Speech::Caller, 0x0a14_2009, 2600, 4400))?;
    scene.hang_up(12_200, &last, By::Callee, 2)?;
    Ok(scene.finish())
}

/// Three calls to one conference, the third of them after the others are over.
pub(super) fn conference(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let focus = host(40);
    let contact = "Contact: <sip:conf-4711@10.20.0.40>;isfocus\r\n";
    let ids = ["conference-focus-1", "conference-focus-2", "conference-focus-3"];
    let users = [("1009", host(9)), ("1010", host(10)), ("1011", host(11))];
    for (index, (begin, length)) in [(0, 7000), (1000, 7000), (20_000, 3000)].into_iter().enumerate() {
        let dialog = Dialog::between(ids[index], users[index], ("conf-4711", focus));
        let ports = [MEDIA[0], 30_000 + 2 * index as u16];
        let ends = answered(&mut scene, &dialog, [begin, begin + 500], ["", contact], ports)?;
        let [own, others] =
            if index == 1 { [Speech::Callee, Speech::Caller] } else { [Speech::Caller, Speech::Callee] };
        let ssrc = index as u32;
        scene.speak(begin + 520, ends[0], ends[1], clip(own, 0x0a14_3000 + ssrc, 0, length as u32))?;
        scene.speak(begin + 525, ends[1], ends[0], clip(others, 0x0a14_4000 + ssrc, 4000, length as u32))?;
        scene.hang_up(begin + 520 + length, &dialog, By::Caller, 2)?;
    }
    Ok(scene.finish())
}

/// One dialog between phone, two proxies and phone; the media passes a relay, and is seen before and behind it. The
/// relay keeps the SSRC of the caller, and has one of its own for the callee.
pub(super) fn relay_hops(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let (phones, proxies, relay) = ([host(9), host(10)], [host(1), host(2)], host(3));
    let hops = [[phones[0], proxies[0]], proxies, [proxies[1], phones[1]]];
    let hop = |ends| Dialog { ends, ..Dialog::of_phones("relay-hops-1") };
    let [inner, outer] = [relay.at(30_000), relay.at(30_002)];
    let media = [phones[0].at(MEDIA[0]), phones[1].at(MEDIA[1])];
    // The second proxy puts the relay in both descriptions.
    let offers = [media[0], media[0], outer];
    let answers = [inner, inner, media[1]];
    for (index, ends) in hops.into_iter().enumerate() {
        let (dialog, later) = (hop(ends), index as u64);
        let [offer, answer] = [offers[index], answers[index]].map(|end| description(end, Codec::Pcmu, ""));
        scene.request(later, &dialog, By::Caller, ("INVITE", 1), "", (SDP, &offer))?;
        let sooner = 2 - later;
        scene.response(100 + sooner, &dialog, By::Callee, ("180 Ringing", "1 INVITE"), "", NOTHING)?;
        scene.response(1500 + sooner, &dialog, By::Callee, ("200 OK", "1 INVITE"), "", (SDP, &answer))?;
        scene.request(1510 + later, &dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
        scene.request(9600 + later, &dialog, By::Caller, ("BYE", 2), "", NOTHING)?;
        scene.response(9605 + sooner, &dialog, By::Callee, ("200 OK", "2 BYE"), "", NOTHING)?;
    }
    let caller = clip(Speech::Caller, 0x0a14_0009, 0, 8000);
    let callee = clip(Speech::Callee, 0x0a14_0010, 0, 8000);
    scene.speak(1520, media[0], inner, caller)?;
    scene.speak(1521, outer, media[1], caller)?;
    scene.speak(1530, media[1], outer, callee)?;
    let renamed = Clip { ssrc: 0x0a14_0003, sequence: 500, timestamp: 7, ..callee };
    scene.speak(1531, inner, media[0], renamed)?;
    Ok(scene.finish())
}

/// Two calls at once through a PBX that gives its own legs other numbers and sends on what it receives: nothing but what
/// is said tells which legs belong together.
pub(super) fn pbx_legs(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let pbx = host(1);
    let ids = ["pbx-legs-1", "pbx-legs-2", "pbx-legs-3", "pbx-legs-4"];
    let callers = ["1009", "1008", "3001", "3002"];
    let phones = [[host(9), host(10)], [host(8), host(11)]];
    let mut ends = Vec::new();
    for index in 0..2 {
        let inner =
            Dialog::between(ids[index], (callers[index], phones[index][0]), (["*17", "*18"][index], pbx));
        let at_ms = 20 * index as u64;
        let ports = [MEDIA[0], 30_000 + 4 * index as u16];
        ends.push((index, answered(&mut scene, &inner, [at_ms, 1500 + at_ms], ["", ""], ports)?, inner));
        // The one that comes second on this side came first on the other.
        let outer = Dialog::between(
            ids[index + 2],
            (callers[index + 2], pbx),
            (["1010", "1011"][index], phones[index][1]),
        );
        let at_ms = 60 - at_ms;
        let ports = [30_002 + 4 * index as u16, MEDIA[1]];
        ends.push((index, answered(&mut scene, &outer, [at_ms, 1400 + at_ms], ["", ""], ports)?, outer));
    }
    for (index, [from, to], dialog) in ends {
        let is_inner = dialog.ends[1].ip == pbx.ip;
        let later = u64::from(!is_inner);
        let (skip, ssrc) = (4000 * index as u32, 0x0a14_5000 + 16 * index as u32 + 8 * later as u32);
        scene.speak(1600 + later, from, to, clip(Speech::Caller, ssrc, skip, 6000))?;
        scene.speak(1611 - later, to, from, clip(Speech::Callee, ssrc + 1, skip, 6000))?;
        scene.hang_up(7700 + later, &dialog, By::Caller, 2)?;
    }
    Ok(scene.finish())
}
