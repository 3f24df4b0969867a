//! Calls whose media is encrypted, or goes where no description says.

use anyhow::{Context as _, Result};
use spantape_core::srtp::{MasterKey, Session, Suite};

use super::script::{ANSWERED, By, Dialog, ENDED, MEDIA, NOTHING, Scene, description};
use crate::lab::Bench;
use crate::lab::capture::Capture;
use crate::lab::codec::Codec;
use crate::lab::media::Clip;
use crate::lab::speech::Speech;
use crate::lab::wire::Endpoint;

/// What the two sides speak from the answer to the end.
const LENGTH: u32 = (ENDED - ANSWERED) as u32;
/// Bytes of an RTP header.
const HEADER: usize = 12;
/// The clips' first sequence numbers are far from a wrap; these are not.
const NEAR_THE_END: u16 = 65_400;
/// When the phones agree on keys by ZRTP.
const AGREED: u64 = ANSWERED + 5000;

/// The second hello of a client, with a cookie, and the server's: between `openssl s_client` and `openssl s_server`,
/// whose key log is the sample's, and which have exported these keys.
const CLIENT_HELLO: &str = "16feff000000000000000100a90100009d000100000000009dfefd0af794d2df1e1e886a6f8c9849dc19433fb279777d058f7a58\
    98ec0825699d4b00140c8d29ed1056465bc14768073da96303405b9e5e0004c02b00ff0100005b000b000403000102000a000c00\
    0a001d0017001e0019001800230000000e000500020001000016000000170000000d002a0028040305030603080708080809080a\
    080b080408050806040105010601030303010302040205020602";
const SERVER_HELLO: &str = "16fefd00000000000000010052020000460001000000000046fefd5b98e9a2835e663cb449ab37dccd609235a68aec3acbbc79bd\
    295775709d1a2300c02b00001eff01000100000b00040300010200230000000e0005000200010000170000";
const CLIENT_KEY: &str = "75cbb6e8c799c8bd566a761513c6e1c80637da6c5d10e5e2c19e6d652c1c";
const SERVER_KEY: &str = "a6bc188d45ef0a4895906a1b5607e9ae85fa7b12a85c4dc35063513ce5c2";

/// Keys in the descriptions; the callee takes the second that the caller offers, and the numbers of both wrap.
pub(super) fn sdes(bench: &Bench) -> Result<Capture> {
    by_sdes(
        bench,
        "srtp-sdes-1",
        &[
            "1 AES_256_CM_HMAC_SHA1_80 inline:R3BXUEg0aUZ0VmF3b3F4bHVKc2RLZUxtTm9QcVJzVHVWd1h5WjAxMjM0NTY3OA==",
            "2 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^31",
        ],
        "2 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:4",
    )
}

/// The same with AES in Galois/counter mode.
pub(super) fn gcm(bench: &Bench) -> Result<Capture> {
    by_sdes(
        bench,
        "srtp-gcm-1",
        &["1 AEAD_AES_256_GCM inline:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXI="],
        "1 AEAD_AES_256_GCM inline:MDEyMzQ1Njc4OUFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaYWJjZGVmZ2g=",
    )
}

fn by_sdes(bench: &Bench, id: &'static str, offered: &[&str], taken: &str) -> Result<Capture> {
    let line = |value: &&str| format!("a=crypto:{value}\r\n");
    let lines = [offered.iter().map(line).collect::<String>(), line(&taken)];
    let key = |value: &str| MasterKey::from_attribute(value).pop().context("a key");
    let keys = [key(offered.last().context("an offer")?)?, key(taken)?];
    let mut scene = Scene::new(bench);
    let dialog = Dialog::of_phones(id);
    set_up(&mut scene, &dialog, "RTP/SAVP", &lines)?;
    speak_sealed(&mut scene, ends(&dialog), &keys)?;
    scene.hang_up(ENDED, &dialog, By::Caller, 9)?;
    Ok(scene.finish())
}

/// Keys are agreed on in the media flow; they are in a key log, or nowhere.
pub(super) fn dtls(bench: &Bench) -> Result<Capture> {
    let fingerprint = "a=fingerprint:sha-256 \
        5A:17:0B:31:99:A4:20:CE:44:0D:61:5F:27:81:B6:3E:5A:17:0B:31:99:A4:20:CE:44:0D:61:5F:27:81:B6:3E\r\n";
    let lines = ["actpass", "active"].map(|setup| format!("a=setup:{setup}\r\n{fingerprint}"));
    let mut scene = Scene::new(bench);
    let dialog = Dialog::of_phones("dtls-srtp-1");
    set_up(&mut scene, &dialog, "UDP/TLS/RTP/SAVP", &lines)?;
    let [caller, callee] = ends(&dialog);
    // The active one is the client.
    scene.datagram(ANSWERED + 1, callee, caller, &bytes(CLIENT_HELLO)?)?;
    scene.datagram(ANSWERED + 3, caller, callee, &bytes(SERVER_HELLO)?)?;
    let key = |text: &str| MasterKey::new(Suite::AesCm128Sha1_80, &bytes(text)?).context("a key");
    speak_sealed(&mut scene, [caller, callee], &[key(SERVER_KEY)?, key(CLIENT_KEY)?])?;
    scene.hang_up(ENDED, &dialog, By::Caller, 9)?;
    Ok(scene.finish())
}

/// Nothing is encrypted until the phones have agreed on keys; then all is, with keys that nobody else has.
pub(super) fn zrtp(bench: &Bench) -> Result<Capture> {
    let hash =
        "a=zrtp-hash:1.10 9e2a31d5f0a17d06c1b5b64a1f8d84f4b6b8cbb7a0f05cf4f3bd5d9e77e2ab10\r\n".to_owned();
    let mut scene = Scene::new(bench);
    let dialog = Dialog::of_phones("zrtp-1");
    set_up(&mut scene, &dialog, "RTP/AVP", &[hash.clone(), hash])?;
    let ends = ends(&dialog);
    let kinds =
        ["Hello   ", "HelloACK", "Commit  ", "DHPart1 ", "DHPart2 ", "Confirm1", "Confirm2", "Conf2ACK"];
    for (kind, number) in kinds.into_iter().zip(0..) {
        let from = usize::from(number % 2 == 1);
        let message =
            [b"\x10\0\0\x01ZRTP\x0a\x14\0\x09\x50\x5a\0\x03".as_slice(), kind.as_bytes(), &[0; 4]].concat();
        scene.datagram(AGREED - 14 + 2 * number, ends[from], ends[1 - from], &message)?;
    }
    let session = Session::derive(&MasterKey::new(Suite::AesCm128Sha1_32, &[0x5a; 30]).context("a key")?);
    let session = session.context("a session")?;
    for (side, speech) in [Speech::Caller, Speech::Callee].into_iter().enumerate() {
        let begins = ANSWERED + 20 - 5 * side as u64;
        let plain = ((AGREED - begins) / 20 + 1) as u32;
        scene.speak_as(
            begins,
            ends[side],
            ends[1 - side],
            Clip::new(speech, Codec::Pcmu, LENGTH),
            |number, packet| {
                if number < plain { Ok(packet.to_vec()) } else { seal(&session, packet, 0) }
            },
        )?;
    }
    scene.hang_up(ENDED, &dialog, By::Caller, 9)?;
    Ok(scene.finish())
}

/// The caller is behind a NAT and hears by a TURN server on this side of it; what is between both is seen. Neither end
/// is in a description, but the connectivity check has both names.
pub(super) fn ice(bench: &Bench) -> Result<Capture> {
    let mut scene = Scene::new(bench);
    let dialog = Dialog::of_phones("ice-1");
    let candidate =
        |ip: &str, kind: &str| format!("a=candidate:1 1 UDP 2130706431 {ip} 40000 typ {kind}\r\n");
    let lines = [
        format!(
            "a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n{}",
            candidate("192.168.1.20", "host")
        ),
        format!(
            "a=ice-ufrag:9uB6\r\na=ice-pwd:YH75Fviy6338Vbrhrlp8Yh\r\n{}",
            candidate("10.20.0.40", "host")
        ),
    ];
    set_up(&mut scene, &dialog, "RTP/AVP", &lines)?;
    let client = Endpoint { ip: [10, 20, 0, 77].into(), ..ends(&dialog)[0] }.at(31_000);
    let server = Endpoint { ip: [10, 20, 0, 78].into(), ..ends(&dialog)[1] }.at(3478);
    let username = b"9uB6:8hhY";
    let attribute = [&[0, 6, 0, username.len() as u8][..], username, &[0; 3]].concat();
    let check =
        [&[0, 1, 0, attribute.len() as u8, 0x21, 0x12, 0xa4, 0x42][..], b"connectivity", &attribute].concat();
    scene.datagram(ANSWERED + 2, client, server, &channel_data(&check))?;
    for (side, speech) in [Speech::Caller, Speech::Callee].into_iter().enumerate() {
        let (from, to) = if side == 0 { (client, server) } else { (server, client) };
        let clip = Clip::new(speech, Codec::Pcmu, LENGTH);
        let begins = ANSWERED + 20 - 5 * side as u64;
        scene.speak_as(begins, from, to, clip, |_, packet| Ok(channel_data(packet)))?;
    }
    scene.hang_up(ENDED, &dialog, By::Caller, 9)?;
    Ok(scene.finish())
}

/// Where both sides receive.
fn ends(dialog: &Dialog) -> [Endpoint; 2] {
    [0, 1].map(|side| dialog.ends[side].at(MEDIA[side]))
}

/// INVITE, 200, ACK, with further lines in both descriptions.
fn set_up(scene: &mut Scene, dialog: &Dialog, transport: &str, lines: &[String; 2]) -> Result<()> {
    let [caller, callee] = ends(dialog);
    let written = |end, more: &str| description(end, Codec::Pcmu, more).replace("RTP/AVP", transport);
    let (offer, answer) = (written(caller, &lines[0]), written(callee, &lines[1]));
    scene.request(0, dialog, By::Caller, ("INVITE", 1), "", ("application/sdp", &offer))?;
    scene.response(100, dialog, By::Callee, ("180 Ringing", "1 INVITE"), "", NOTHING)?;
    scene.response(ANSWERED, dialog, By::Callee, ("200 OK", "1 INVITE"), "", ("application/sdp", &answer))?;
    scene.request(ANSWERED + 10, dialog, By::Caller, ("ACK", 1), "", NOTHING)
}

/// Both sides talk from the answer to the end, each with its key.
fn speak_sealed(scene: &mut Scene, ends: [Endpoint; 2], keys: &[MasterKey; 2]) -> Result<()> {
    for (side, speech) in [Speech::Caller, Speech::Callee].into_iter().enumerate() {
        let session = Session::derive(&keys[side]).context("a session")?;
        let clip = Clip { sequence: NEAR_THE_END, ..Clip::new(speech, Codec::Pcmu, LENGTH) };
        let wrap =
            |number: u32, packet: &[u8]| seal(&session, packet, (u32::from(NEAR_THE_END) + number) >> 16);
        scene.speak_as(ANSWERED + 20 - 5 * side as u64, ends[side], ends[1 - side], clip, wrap)?;
    }
    Ok(())
}

fn seal(session: &Session, packet: &[u8], counter: u32) -> Result<Vec<u8>> {
    let (header, payload) = packet.split_at_checked(HEADER).context("an RTP header")?;
    session.seal(header, payload, counter).context("an RTP header")
}

/// What a TURN server and its client send each other (RFC 8656, section 12.4).
fn channel_data(data: &[u8]) -> Vec<u8> {
    let padding = data.len().next_multiple_of(4) - data.len();
    [&0x4001_u16.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data, &vec![0; padding]].concat()
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let pair = |at: usize| hex.get(at..at + 2).context("an odd digit");
    (0..hex.len()).step_by(2).map(|at| Ok(u8::from_str_radix(pair(at)?, 16)?)).collect()
}
