//! Calls in codecs that phones rarely offer first, encoded by ffmpeg; some packets are lost.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::script::{ANSWERED, By, Dialog, MEDIA, NOTHING, Scene};
use crate::lab::Bench;
use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::speech::Speech;

const LENGTH_MS: u64 = 8000;
const PACKET_MS: u64 = 20;
const PACKETS: usize = (LENGTH_MS / PACKET_MS) as usize;
/// What stands before the formats of a redundant payload that is the last: see RFC 2198 section 3.
const MORE: u8 = 0x80;

/// What one side sends.
struct Voice {
    payload_type: u8,
    /// Ticks a packet.
    ticks: u32,
    payloads: Vec<Vec<u8>>,
    /// Whether a packet is lost on its way.
    lost: fn(usize) -> bool,
}

/// GSM 06.10 under its static payload type, and under a dynamic one.
pub(super) fn gsm(bench: &Bench) -> Result<Capture> {
    let [caller, callee] = both(bench, 8000, "-c:a libgsm -f gsm")?.map(|bytes| chunks(&bytes, 33));
    let lines = "m=audio PORT RTP/AVP 3 95\r\na=rtpmap:95 GSM/8000\r\n";
    let caller = Voice { payload_type: 3, ticks: 160, payloads: caller, lost: |_| false };
    let callee = Voice { payload_type: 95, ticks: 160, payloads: callee, lost: |_| false };
    call(bench, "gsm-1@10.20.0.9", lines, [caller, callee])
}

/// G.726 at 32 kbit/s as RFC 3551 packs it, and at 24 kbit/s as AAL2 does.
pub(super) fn g726(bench: &Bench) -> Result<Capture> {
    let [caller, _] = both(bench, 8000, "-c:a g726le -code_size 4 -f g726le")?;
    let [_, callee] = both(bench, 8000, "-c:a g726 -code_size 3 -f g726")?;
    let lines = "m=audio PORT RTP/AVP 96 98\r\na=rtpmap:96 G726-32/8000\r\na=rtpmap:98 AAL2-G726-24/8000\r\n";
    let caller = Voice { payload_type: 96, ticks: 160, payloads: chunks(&caller, 80), lost: |_| false };
    let callee = Voice { payload_type: 98, ticks: 160, payloads: chunks(&callee, 60), lost: |_| false };
    call(bench, "g726-1@10.20.0.9", lines, [caller, callee])
}

/// Opus with in-band FEC, and in redundant audio as WebRTC sends it, with loss either way.
pub(super) fn opus(bench: &Bench) -> Result<Capture> {
    let encoder = "-c:a libopus -application voip -frame_duration 20 -page_duration 20000 -f ogg";
    // What is sent twice takes its share of the bits.
    let [caller, _] = both(bench, 16_000, &format!("-b:a 40k -fec 1 -packet_loss 20 {encoder}"))?;
    let [_, callee] = both(bench, 16_000, &format!("-b:a 24k {encoder}"))?;
    let lines = "m=audio PORT RTP/AVP 63 111\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n\
                 a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1;maxplaybackrate=16000\r\n";
    let caller = Voice { payload_type: 111, ticks: 960, payloads: ogg_packets(&caller)?, lost: every_tenth };
    let callee = redundant(63, 111, 960, &[1], &ogg_packets(&callee)?, every_tenth);
    call(bench, "opus-1@10.20.0.9", lines, [caller, callee])
}

/// PCMU in redundant audio: two packets before it, and the last but one alone.
pub(super) fn red(bench: &Bench) -> Result<Capture> {
    let [caller, callee] = both(bench, 8000, "-c:a pcm_mulaw -f mulaw")?.map(|bytes| chunks(&bytes, 160));
    let lines = "m=audio PORT RTP/AVP 97 0\r\na=rtpmap:97 red/8000\r\na=fmtp:97 0/0/0\r\n";
    let pairs = |index| matches!(index % 20, 5 | 6);
    let caller = redundant(97, 0, 160, &[2, 1], &caller, pairs);
    let callee = redundant(97, 0, 160, &[2], &callee, every_tenth);
    call(bench, "red-1@10.20.0.9", lines, [caller, callee])
}

/// Both are silent for half a minute: comfort noise (RFC 3389) for most of it, then nothing at all. Then they go on.
pub(super) fn comfort_noise(bench: &Bench) -> Result<Capture> {
    const SPOKEN: u32 = 4000;
    const NOISE: u32 = 20_000;
    const NOTHING_AT_ALL: u32 = 6000;
    /// From one packet of noise to the next.
    const REFRESH: u32 = 200;
    /// -70 dBov.
    const LEVEL: u8 = 70;
    let dialog = Dialog::of_phones("comfort-noise-1");
    let mut scene = Scene::new(bench);
    scene.set_up(0, &dialog, "", MEDIA)?;
    let [caller, callee] = [0, 1].map(|side| dialog.ends[side].at(MEDIA[side]));
    for (speech, from, to, after) in
        [(Speech::Caller, caller, callee, 20), (Speech::Callee, callee, caller, 15)]
    {
        let begin = ANSWERED + after;
        let first = Clip::new(speech, Codec::Pcmu, SPOKEN);
        scene.speak(begin, from, to, first)?;
        let mut next = first.resumed(NOISE + NOTHING_AT_ALL, 2 * SPOKEN);
        for after in (SPOKEN..SPOKEN + NOISE).step_by(REFRESH as usize) {
            let mut packet = vec![0x80, 13];
            packet.extend(next.sequence.to_be_bytes());
            packet.extend((first.timestamp + after * (first.codec.clock() / 1000)).to_be_bytes());
            packet.extend(first.ssrc.to_be_bytes());
            packet.push(LEVEL);
            scene.datagram(begin + u64::from(after), from, to, &packet)?;
            next.sequence += 1;
        }
        scene.speak(begin + u64::from(SPOKEN + NOISE + NOTHING_AT_ALL), from, to, next)?;
    }
    let length = 2 * SPOKEN + NOISE + NOTHING_AT_ALL;
    scene.hang_up(ANSWERED + u64::from(length), &dialog, By::Caller, 9)?;
    Ok(scene.finish())
}

fn every_tenth(index: usize) -> bool {
    index % 10 == 5
}

/// Each packet with those that were so many before it, the oldest first.
fn redundant(
    payload_type: u8,
    inner: u8,
    ticks: u32,
    back: &[usize],
    payloads: &[Vec<u8>],
    lost: fn(usize) -> bool,
) -> Voice {
    let wrap = |index: usize| {
        let earlier =
            || back.iter().filter_map(|&back| Some((back, payloads.get(index.checked_sub(back)?)?)));
        let mut bytes = Vec::new();
        for (back, payload) in earlier() {
            let header = (back as u32 * ticks) << 10 | payload.len() as u32;
            bytes.push(MORE | inner);
            bytes.extend(&header.to_be_bytes()[1..]);
        }
        bytes.push(inner);
        earlier().for_each(|(_, payload)| bytes.extend(payload));
        bytes.extend(&payloads[index]);
        bytes
    };
    Voice { payload_type, ticks, payloads: (0..payloads.len()).map(wrap).collect(), lost }
}

/// What the caller and the callee say, as ffmpeg encodes it.
fn both(bench: &Bench, rate: u32, encoder: &str) -> Result<[Vec<u8>; 2]> {
    let encode = |speech: Speech| ffmpeg(&speech.file(&bench.samples, rate), encoder);
    Ok([encode(Speech::Caller)?, encode(Speech::Callee)?])
}

fn ffmpeg(speech: &Path, encoder: &str) -> Result<Vec<u8>> {
    let seconds = (LENGTH_MS / 1000).to_string();
    let out = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-t", &seconds, "-i"])
        .arg(speech)
        .args(encoder.split_whitespace())
        .arg("-")
        .output()
        .context("run ffmpeg (Debian: apt-get install ffmpeg)")?;
    if !out.status.success() {
        bail!("ffmpeg: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(out.stdout)
}

fn chunks(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    bytes.chunks_exact(size).map(<[u8]>::to_vec).collect()
}

/// The audio packets of an Ogg file (RFC 3533) that has one on each page.
fn ogg_packets(mut file: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    while !file.is_empty() {
        let segments = usize::from(*file.get(26).context("an Ogg page that is cut short")?);
        let lacing = file.get(27..27 + segments).context("an Ogg page that is cut short")?;
        let length: usize = lacing.iter().map(|&part| usize::from(part)).sum();
        let body = 27 + segments..27 + segments + length;
        packets.push(file.get(body.clone()).context("an Ogg page that is cut short")?.to_vec());
        file = &file[body.end..];
    }
    // Before them come a head and a comment.
    Ok(packets.split_off(2))
}

/// Both speak from the answer on. `lines` are the stream in both descriptions.
fn call(bench: &Bench, id: &'static str, lines: &str, voices: [Voice; 2]) -> Result<Capture> {
    let (mut scene, dialog) = (Scene::new(bench), Dialog::of_phones(id));
    let [offer, answer] = [0, 1].map(|side| {
        let ip = dialog.ends[side].ip;
        let lines = lines.replace("PORT", &MEDIA[side].to_string());
        format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{lines}a=ptime:20\r\n")
    });
    scene.request(0, &dialog, By::Caller, ("INVITE", 1), "", ("application/sdp", &offer))?;
    scene.response(100, &dialog, By::Callee, ("180 Ringing", "1 INVITE"), "", NOTHING)?;
    let ok = ("200 OK", "1 INVITE");
    scene.response(ANSWERED, &dialog, By::Callee, ok, "", ("application/sdp", &answer))?;
    scene.request(ANSWERED + 10, &dialog, By::Caller, ("ACK", 1), "", NOTHING)?;
    for (side, voice) in voices.into_iter().enumerate() {
        let ends = [0, 1].map(|end| dialog.ends[end].at(MEDIA[end]));
        let (from, to) = (ends[side], ends[1 - side]);
        let start = ANSWERED + [20, 15][side];
        for (index, payload) in voice.payloads.iter().take(PACKETS).enumerate() {
            if (voice.lost)(index) {
                continue;
            }
            let packet = rtp(side, &voice, index, payload);
            scene.datagram(start + index as u64 * PACKET_MS, from, to, &packet)?;
        }
    }
    scene.hang_up(ANSWERED + LENGTH_MS + 30, &dialog, By::Caller, 2)?;
    Ok(scene.finish())
}

fn rtp(side: usize, voice: &Voice, index: usize, payload: &[u8]) -> Vec<u8> {
    let sequence = [1000u16, 30_000][side].wrapping_add(index as u16);
    let timestamp = [160_000u32, 3_200_000][side].wrapping_add(index as u32 * voice.ticks);
    let ssrc = [0x0a14_0009u32, 0x0a14_0010][side];
    let marker = u8::from(index == 0) << 7;
    let mut packet = vec![0x80, marker | voice.payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}
