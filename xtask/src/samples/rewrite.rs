//! Captures changed after the fact.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use etherparse::{EtherType, SingleVlanHeader, VlanId, VlanPcp};

use crate::lab::capture::{Capture, Frame};
use crate::lab::switch::{Family, Phone};
use crate::lab::wire::{Datagram, Endpoint};

const PROVIDER_TAG: u16 = 100;
const CUSTOMER_TAG: u16 = 42;

const NAT_ADDRESS: &str = "192.168.77.5";
const NAT_PORT: u16 = 41_234;

/// Shares of a hundred, and times, of the impaired network.
const LOSS_PERCENT: u64 = 5;
const REORDER_PERCENT: u64 = 4;
const MAX_JITTER_US: u64 = 40_000;
const SEED: u64 = 0x5350_414e_5441_5045;

/// A trunk of a provider's network: 802.1ad outside, 802.1Q inside.
pub(super) fn tag_twice(mut capture: Capture) -> Result<Capture> {
    for frame in &mut capture.frames {
        let inner = EtherType(u16::from_be_bytes([frame.data[12], frame.data[13]]));
        let mut tags = EtherType::PROVIDER_BRIDGING.0.to_be_bytes().to_vec();
        tags.extend(tag(PROVIDER_TAG, EtherType::VLAN_TAGGED_FRAME)?);
        tags.extend(tag(CUSTOMER_TAG, inner)?);
        frame.data.splice(12..14, tags);
    }
    Ok(capture)
}

fn tag(id: u16, ether_type: EtherType) -> Result<[u8; 4]> {
    let header = SingleVlanHeader {
        pcp: VlanPcp::try_new(5)?,
        drop_eligible_indicator: false,
        vlan_id: VlanId::try_new(id)?,
        ether_type,
    };
    Ok(header.to_bytes())
}

/// Loss and reordering in the caller's stream, jitter in the callee's.
pub(super) fn impair(capture: Capture) -> Result<Capture> {
    let mut random = Random(SEED);
    let mut kept = Capture::default();
    let (mut lost, mut moved) = (0, 0);
    // The packet after a reordered one stays where it is, so that swaps never chain beyond 60 ms.
    let mut just_moved = false;
    for mut frame in capture.frames {
        match speaker(&frame) {
            Some(Phone::A) if random.percent(LOSS_PERCENT) => {
                lost += 1;
                continue;
            }
            Some(Phone::A) => {
                just_moved = !just_moved && random.percent(REORDER_PERCENT);
                if just_moved {
                    moved += 1;
                    frame.at += Duration::from_micros(21_000 + random.below(15_000));
                }
            }
            Some(Phone::B) => frame.at += Duration::from_micros(random.below(MAX_JITTER_US)),
            Some(Phone::Server) | None => {}
        }
        kept.frames.push(frame);
    }
    kept.sort();
    println!("{lost} RTP packets of the caller are lost, {moved} are late");
    Ok(kept)
}

/// The recorder is switched on when the phones have been talking for two seconds.
pub(super) fn join_late(mut capture: Capture) -> Result<Capture> {
    let mut frames = capture.frames.iter();
    let talk = frames.find(|frame| speaker(frame).is_some()).context("no RTP")?;
    let start = talk.at + Duration::from_secs(2);
    capture.frames.retain(|frame| frame.at >= start);
    Ok(capture)
}

/// The caller sits behind a router: its messages name its private address, the wire shows the router's, and
/// the callee sends its RTP to where the caller's comes from.
pub(super) fn behind_nat(mut capture: Capture) -> Result<Capture> {
    let public = Phone::A.ip(Family::V4);
    let translate = |end: Endpoint, rtp: bool| if rtp && end.ip == public { end.at(NAT_PORT) } else { end };
    for frame in &mut capture.frames {
        let Some(datagram) = Datagram::parse(&frame.data) else { continue };
        let text = datagram.sip().map(|text| privately(text, &public.to_string()));
        let rtp = datagram.is_rtp();
        let (from, to) = (translate(datagram.from, rtp), translate(datagram.to, rtp));
        let payload = text.as_deref().map_or(datagram.payload, str::as_bytes);
        frame.data = Datagram { from, to, payload }.build()?;
    }
    Ok(capture)
}

/// Cuts the first call's BYE and its answer out.
pub(super) fn lose_first_bye(mut capture: Capture) -> Result<Capture> {
    let invite = first(&capture, |text| text.starts_with("INVITE ")).context("no INVITE")?;
    let call = header(invite, "Call-ID").context("no Call-ID")?.to_owned();
    let before = capture.frames.len();
    capture.frames.retain(|frame| {
        let text = Datagram::parse(&frame.data).and_then(|datagram| datagram.sip());
        !text.is_some_and(|text| header(text, "Call-ID") == Some(&call) && is_bye(text))
    });
    ensure!(capture.frames.len() + 2 == before, "not one BYE with one answer");
    Ok(capture)
}

fn is_bye(text: &str) -> bool {
    header(text, "CSeq").is_some_and(|value| value.ends_with("BYE"))
}

/// The message as a phone writes it that knows its private address only.
fn privately(text: &str, public: &str) -> String {
    let text = text.replace(public, NAT_ADDRESS).replace("plain-pcmu-1@", "nat-1@");
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return text };
    let lines = head.split("\r\n").map(|line| match line.split_once(':') {
        Some(("Content-Length", _)) => format!("Content-Length: {}", body.len()),
        _ => line.to_owned(),
    });
    format!("{}\r\n\r\n{body}", lines.collect::<Vec<_>>().join("\r\n"))
}

/// The value of a header as our scenarios write it.
fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| *field == name).map(|(_, value)| value.trim())
}

/// The first SIP message that is wanted.
fn first(capture: &Capture, wanted: fn(&str) -> bool) -> Option<&str> {
    let mut messages = capture.frames.iter().filter_map(|frame| Datagram::parse(&frame.data)?.sip());
    messages.find(|text| wanted(text))
}

/// Who sent the RTP packet in a frame, if there is one.
fn speaker(frame: &Frame) -> Option<Phone> {
    let datagram = Datagram::parse(&frame.data).filter(Datagram::is_rtp)?;
    [Phone::A, Phone::B].into_iter().find(|phone| phone.ip(Family::V4) == datagram.from.ip)
}

/// SplitMix64: the same numbers everywhere and always.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_behind_nat_names_its_private_address_and_counts_its_body_again() {
        let message = "BYE sip:x SIP/2.0\r\nCall-ID: plain-pcmu-1@10.20.0.9\r\nContent-Length:    15\r\n\r\nc=IN 10.20.0.9\n";
        let private = privately(message, "10.20.0.9");
        assert_eq!(header(&private, "Call-ID"), Some("nat-1@192.168.77.5"));
        assert_eq!(header(&private, "Content-Length"), Some("18"));
        assert!(private.ends_with("\r\n\r\nc=IN 192.168.77.5\n"));
    }

    #[test]
    fn both_tags_stand_between_the_addresses_and_the_type() -> Result<()> {
        let frame = Frame { at: Duration::ZERO, data: [[1; 12].as_slice(), &[8, 0, 0x45]].concat() };
        let tagged = tag_twice(Capture { frames: vec![frame] })?;
        assert_eq!(tagged.frames[0].data[12..], [0x88, 0xa8, 0xa0, 100, 0x81, 0, 0xa0, 42, 8, 0, 0x45]);
        Ok(())
    }
}
