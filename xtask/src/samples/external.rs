//! Codecs that the recorder has no decoder for.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::script::{ANSWERED, By, Dialog, MEDIA, NOTHING, Scene, description};
use crate::lab::Bench;
use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::speech::Speech;

/// Milliseconds that are spoken.
const SPOKEN: u32 = 9000;
const ENDED: u64 = ANSWERED + 20 + SPOKEN as u64;

/// What the caller sends.
struct Stream {
    payload_type: u8,
    map: &'static str,
    /// Milliseconds, and ticks, from packet to packet.
    packet: (u64, u32),
    payloads: Vec<Vec<u8>>,
}

/// The caller speaks a codec that nobody knows, the callee PCMU.
pub(super) fn undecodable(bench: &Bench) -> Result<Capture> {
    // Whatever it means, no two packets are the same.
    let payload = |number: u32| {
        (0..48).map(|at: u32| ((number * 48 + at).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    };
    let payloads = (0..SPOKEN / 20).map(payload).collect();
    call(
        bench,
        "undecodable-1",
        &Stream { payload_type: 107, map: "BV32/16000", packet: (20, 320), payloads },
    )
}

/// The caller speaks G.723.1, the callee PCMU.
pub(super) fn g723(bench: &Bench) -> Result<Capture> {
    let speech = Speech::Caller.file(&bench.samples, 8000);
    let mut encoder = Command::new("ffmpeg");
    encoder.args(["-nostdin", "-loglevel", "error", "-bitexact", "-i"]).arg(&speech);
    encoder.args(["-c:a", "g723_1", "-b:a", "6300", "-f", "g723_1", "-"]);
    let encoded = encoder.output().context("run ffmpeg, which encodes G.723.1")?;
    if !encoded.status.success() {
        bail!("ffmpeg cannot encode G.723.1: {}", String::from_utf8_lossy(&encoded.stderr));
    }
    let payloads = encoded.stdout.chunks_exact(24).take(SPOKEN as usize / 30).map(<[u8]>::to_vec).collect();
    call(bench, "g723-1", &Stream { payload_type: 4, map: "G723/8000", packet: (30, 240), payloads })
}

fn call(bench: &Bench, id: &'static str, stream: &Stream) -> Result<Capture> {
    let dialog = Dialog::of_phones(id);
    let mut scene = Scene::new(bench);
    let [caller, callee] = [0, 1].map(|side: usize| dialog.ends[side].at(MEDIA[side]));
    let (number, map) = (stream.payload_type, stream.map);
    let more = format!("a=rtpmap:{number} {map}\r\n");
    let [offer, answer] = [caller, callee].map(|end| {
        description(end, Codec::Pcmu, &more).replace("RTP/AVP 0\r\n", &format!("RTP/AVP {number} 0\r\n"))
    });
    scene.request(0, &dialog, By::Caller, ("INVITE", 1), "", ("application/sdp", &offer))?;
    scene.response(100, &dialog, By::Callee, ("180 Ringing", "1 INVITE"), "", NOTHING)?;
    let answered = ("200 OK", "1 INVITE");
    scene.response(ANSWERED, &dialog, By::Callee, answered, "", ("application/sdp", &answer))?;
    scene.request(ANSWERED + 10, &dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
    // As the speech of other cases is numbered.
    let Clip { ssrc, sequence, timestamp, .. } = Clip::new(Speech::Caller, Codec::Pcmu, SPOKEN);
    let (milliseconds, ticks) = stream.packet;
    for (payload, index) in stream.payloads.iter().zip(0u32..) {
        let mut packet = vec![0x80, number];
        packet.extend(sequence.wrapping_add(index as u16).to_be_bytes());
        packet.extend((timestamp + index * ticks).to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.extend(payload);
        scene.datagram(ANSWERED + 20 + u64::from(index) * milliseconds, caller, callee, &packet)?;
    }
    scene.speak(ANSWERED + 15, callee, caller, Clip::new(Speech::Callee, Codec::Pcmu, SPOKEN))?;
    scene.hang_up(ENDED, &dialog, By::Caller, 9)?;
    Ok(scene.finish())
}
