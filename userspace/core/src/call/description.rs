//! Who has said what about where and how it receives: offers and answers (RFC 3264).

use std::net::IpAddr;
use std::sync::Arc;

use crate::codec::{Codec, CodecKind};
use crate::media::{CallKey, Flows};
use crate::record::Side;
use crate::rtp::red;
use crate::sdp::{Format, Kind, Media};
use crate::srtp::{Encryption, MasterKey, Protection};
use crate::time::{SECOND, Timestamp};
use crate::wire::{Endpoint, FlowKey};

/// Media goes on to an old address for a while after a new one was agreed on.
const GRACE: i64 = SECOND;
/// Descriptions kept of a call; a hostile one has no end of them.
const MAX_DESCRIPTIONS: usize = 32;
/// Keys tried on one stream.
const MAX_KEYS: usize = 16;

/// Where a description came from: messages of one call may be seen on several hops, with different
/// addresses in them, and forks answer each for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) side: Side,
    /// Tag of the callee that wrote it; empty for the caller.
    pub(super) fork: Box<[u8]>,
    /// The addresses between which it was seen, in order.
    pub(super) hop: (u128, u128),
}

/// The streams of a description, and with which request it came.
pub(super) struct Offer {
    /// CSeq of the request that carried it or is answered by it.
    pub(super) cseq: u32,
    pub(super) lines: Vec<Line>,
    /// May still be rejected.
    pub(super) tentative: bool,
}

/// One stream of a description.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// Who receives there: what is sent there is said by the other. Of a recording session, in which one side sends
    /// everything, it is whoever does not speak.
    pub(super) receiver: Side,
    pub(super) media: Media,
}

#[derive(Clone, Debug)]
struct Description {
    origin: Origin,
    /// CSeq of the request it came with or answered.
    cseq: u32,
    lines: Arc<[Line]>,
    /// An offer within the call that has not been answered: it may still be rejected.
    tentative: bool,
    /// Another has taken its place, at once or once the request with this CSeq is answered.
    superseded: Option<Superseded>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Superseded {
    Done,
    OnAnswer(u32),
}

/// All descriptions of a call that matter.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    all: Vec<Description>,
    held: [bool; 2],
}

impl Descriptions {
    /// Whether `side` has said where it receives.
    pub(super) fn has_side(&self, side: Side) -> bool {
        let lines = self.all.iter().flat_map(|description| description.lines.iter());
        lines.into_iter().any(|line| line.receiver == side)
    }

    /// Bytes that they take, about.
    pub(super) fn memory(&self) -> usize {
        let line = |line: &Line| {
            let formats = line.media.formats.capacity() * (32 + size_of::<Format>());
            size_of::<Line>() + line.media.label.capacity() + formats
        };
        let description = |description: &Description| {
            size_of::<Description>() + 64 + description.lines.iter().map(line).sum::<usize>()
        };
        self.all.iter().map(description).sum()
    }

    /// Whether somebody has put the other on hold.
    pub(super) fn is_held(&self) -> bool {
        self.held[0] || self.held[1]
    }

    /// Takes a description. Returns whether it says anything new.
    pub(super) fn add(
        &mut self,
        origin: Origin,
        offer: Offer,
        call: CallKey,
        now: Timestamp,
        flows: &mut Flows,
    ) -> bool {
        let Offer { cseq, lines, tentative } = offer;
        for line in &lines {
            for endpoint in line.media.endpoints() {
                flows.claim(endpoint, call, line.receiver, now);
            }
        }
        let same = |other: &Description| other.origin == origin && *other.lines == *lines;
        if self.all.iter().any(|other| same(other) && other.superseded.is_none()) {
            return false;
        }
        let superseded = if tentative { Superseded::OnAnswer(cseq) } else { Superseded::Done };
        for other in &mut self.all {
            if other.origin == origin && other.superseded != Some(Superseded::Done) {
                other.superseded = Some(superseded);
            }
        }
        self.all.push(Description { origin, cseq, lines: lines.into(), tentative, superseded: None });
        if !tentative {
            self.retire(now + GRACE, call, flows);
        }
        while self.all.len() > MAX_DESCRIPTIONS {
            let old = self.all.remove(0);
            self.limit(&old, now, call, flows);
            self.drop_unnamed(endpoints(&old), call, flows);
        }
        true
    }

    /// The request with that CSeq was answered with 2xx: what it offered holds.
    pub(super) fn commit(&mut self, cseq: u32, call: CallKey, now: Timestamp, flows: &mut Flows) {
        let mut changed = false;
        for description in &mut self.all {
            if description.tentative && description.cseq == cseq {
                description.tentative = false;
                changed = true;
            }
            if description.superseded == Some(Superseded::OnAnswer(cseq)) {
                description.superseded = Some(Superseded::Done);
                changed = true;
            }
        }
        if changed {
            self.retire(now + GRACE, call, flows);
        }
    }

    /// The request with that CSeq was refused: what held before goes on to hold.
    pub(super) fn reject(&mut self, cseq: u32, call: CallKey, flows: &mut Flows) {
        let rejected = |description: &Description| description.tentative && description.cseq == cseq;
        let dropped: Vec<Endpoint> =
            self.all.iter().filter(|description| rejected(description)).flat_map(endpoints).collect();
        self.all.retain(|description| !rejected(description));
        for description in &mut self.all {
            if description.superseded == Some(Superseded::OnAnswer(cseq)) {
                description.superseded = None;
            }
        }
        self.drop_unnamed(dropped, call, flows);
    }

    /// Of several callees this one has answered: what the others said is void.
    pub(super) fn choose(&mut self, fork: &[u8], call: CallKey, now: Timestamp, flows: &mut Flows) {
        let callee = |description: &Description| description.origin.side == Side::Callee;
        if !self.all.iter().any(|description| callee(description) && *description.origin.fork == *fork) {
            return;
        }
        for description in &mut self.all {
            if callee(description) && *description.origin.fork != *fork {
                description.superseded = Some(Superseded::Done);
            }
        }
        self.retire(now, call, flows);
    }

    /// Endpoints of callees that were not chosen, and that no description which holds names.
    pub(super) fn void_endpoints(&self) -> Vec<Endpoint> {
        let done = |description: &&Description| description.superseded == Some(Superseded::Done);
        let live: Vec<Endpoint> =
            self.all.iter().filter(|description| !done(description)).flat_map(endpoints).collect();
        let callee = |description: &&Description| description.origin.side == Side::Callee;
        let void = self.all.iter().filter(callee).filter(done).flat_map(endpoints);
        void.filter(|endpoint| !live.contains(endpoint)).collect()
    }

    /// Works out who is on hold. Returns, for each side that has changed it, whether it holds now.
    pub(super) fn update_hold(&mut self) -> Vec<(Side, bool)> {
        let mut changes = Vec::new();
        for side in [Side::Caller, Side::Callee] {
            let latest = self
                .all
                .iter()
                .rev()
                .find(|description| description.origin.side == side && !description.tentative);
            let Some(latest) = latest else { continue };
            let mut audio = latest.audio().peekable();
            let holds = audio.peek().is_some() && audio.all(Media::holds);
            if self.held[side.channel()] != holds {
                self.held[side.channel()] = holds;
                changes.push((side, holds));
            }
        }
        changes
    }

    /// What a payload type stands for on a flow: the receiver says so, or else the sender.
    pub(super) fn codec(&self, flow: &FlowKey, speaker: Side, payload_type: u8) -> Codec {
        let found = self
            .media(flow, speaker)
            .find_map(|media| media.codec(payload_type).map(|codec| (codec, media.kind)));
        let Some((codec, kind)) = found else { return Codec::guess(payload_type) };
        let mut codec = codec.clone();
        // Video must not be taken for audio.
        if kind != Kind::Audio && (codec.kind == CodecKind::Red || !codec.is_auxiliary()) {
            codec.kind = CodecKind::Unsupported;
        }
        codec
    }

    /// What is inside a packet, which carries that payload type: with redundancy (RFC 2198) its payload says so.
    pub(super) fn carried(&self, flow: &FlowKey, speaker: Side, payload_type: u8, payload: &[u8]) -> Codec {
        let codec = self.codec(flow, speaker, payload_type);
        match red::primary(payload).filter(|_| codec.kind == CodecKind::Red) {
            Some((inner, _)) => self.codec(flow, speaker, inner),
            None => codec,
        }
    }

    /// What RTP on a flow is: `audio`, `video` or `unknown`.
    pub(super) fn kind(&self, flow: &FlowKey, speaker: Side) -> &'static str {
        // A fax on the same ports is no RTP.
        match self.media(flow, speaker).map(|media| media.kind).find(|kind| *kind != Kind::Image) {
            Some(Kind::Audio) | None => "audio",
            Some(Kind::Video) => "video",
            Some(Kind::Image | Kind::Other) => "unknown",
        }
    }

    /// How the media of a flow is protected. `agreed` is what its ends have agreed on beside it.
    pub(super) fn protection(&self, flow: &FlowKey, speaker: Side, agreed: Option<Protection>) -> Protection {
        let Some(media) = self.media(flow, speaker).next() else { return agreed.unwrap_or(Protection::None) };
        let is_dtls = media.secure || media.encryption == Some(Encryption::DtlsSrtp);
        match agreed {
            Some(Protection::Closed(Encryption::Zrtp)) => return Protection::Closed(Encryption::Zrtp),
            // What a call before this one has agreed on does not make plain media secret.
            Some(agreed) if is_dtls => return agreed,
            _ => {}
        }
        let Some(encryption) = media.encryption else { return Protection::None };
        let otherwise = media.secure.then_some(encryption);
        // Nothing else is decoded, so it need not be decrypted.
        let keys = if media.kind == Kind::Audio { self.keys(speaker) } else { Vec::new() };
        if !keys.is_empty() {
            return Protection::Keys { keys, otherwise };
        }
        match otherwise {
            None => Protection::None,
            // It may send before its answer is seen.
            Some(Encryption::Sdes) if !self.has_side(speaker) => Protection::Awaited(Encryption::Sdes),
            Some(encryption) => Protection::Closed(encryption),
        }
    }

    /// The keys of what a side sends, the likeliest first. Which it is, the packets tell; so there is no harm in those
    /// of earlier descriptions and of other branches, nor, when it has none of its own, in those of the other side.
    fn keys(&self, speaker: Side) -> Vec<Arc<MasterKey>> {
        let lines = || self.all.iter().rev().flat_map(|description| description.lines.iter());
        let of = |side: Side| lines().filter(move |line| line.receiver == side).map(|line| &line.media.keys);
        // An answer has the one key whose number in the offer it takes.
        let chosen = of(speaker.other()).find(|keys| keys.len() == 1).map(|keys| keys[0].tag);
        let own: Vec<&Arc<MasterKey>> = of(speaker).flatten().collect();
        let (first, rest): (Vec<_>, Vec<_>) = own.into_iter().partition(|key| Some(key.tag) == chosen);
        let others = of(speaker.other()).flatten().filter(|_| self.has_side(speaker));
        let mut keys: Vec<Arc<MasterKey>> = Vec::new();
        for key in first.into_iter().chain(rest).chain(others) {
            if keys.len() < MAX_KEYS && !keys.contains(key) {
                keys.push(Arc::clone(key));
            }
        }
        keys
    }

    /// Whose descriptions have that ICE user name fragment.
    pub(super) fn side_of_fragment(&self, fragment: &[u8]) -> Option<Side> {
        let lines = self.all.iter().rev().flat_map(|description| description.lines.iter());
        let mut lines = lines.filter(|line| !fragment.is_empty() && *line.media.ice_fragment == *fragment);
        lines.next().map(|line| line.receiver)
    }

    /// Whether what a flow carries is audio, decodable here or not.
    pub(super) fn is_audio(&self, flow: &FlowKey, speaker: Side, codec: &Codec) -> bool {
        codec.is_decodable() || codec.is_undecoded_audio() && self.kind(flow, speaker) == "audio"
    }

    /// Whether what goes on a flow is a fax by T.38.
    pub(super) fn is_image(&self, flow: &FlowKey, speaker: Side) -> bool {
        self.media(flow, speaker).next().is_some_and(|media| media.kind == Kind::Image)
    }

    /// The highest sample rate of the codec that both sides would rather use.
    pub(super) fn preferred_rate(&self) -> Option<u32> {
        let formats = |side: Side| {
            let latest = self.all.iter().rev().find(|description| description.origin.side == side)?;
            latest.audio().next()
        };
        let (caller, callee) = (formats(Side::Caller)?, formats(Side::Callee)?);
        let common = callee.formats.iter().find(|format| {
            caller.formats.iter().any(|other| other.codec.name().eq_ignore_ascii_case(format.codec.name()))
        })?;
        Some(common.codec.recorded_rate()).filter(|&rate| rate != 0)
    }

    /// Endpoints that any description names.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        self.all.iter().flat_map(endpoints).collect()
    }

    /// Their addresses.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.all.iter().flat_map(endpoints).map(Endpoint::address).collect()
    }

    /// Names of all audio codecs.
    pub(super) fn codec_names(&self) -> Vec<String> {
        let formats = self.all.iter().flat_map(Description::audio).flat_map(|media| &media.formats);
        formats.map(|format| format.codec.name().to_owned()).collect()
    }

    /// The streams that a flow may be, best first: the one whose endpoint it goes to, the one it comes from,
    /// then whatever the receiver and the sender said last.
    fn media(&self, flow: &FlowKey, speaker: Side) -> impl Iterator<Item = &Media> {
        let receiver = speaker.other();
        // What may still be refused counts after what holds.
        let newest = |side: Side| {
            let holds = self.all.iter().rev().filter(|description| !description.tentative);
            let may_hold = self.all.iter().rev().filter(|description| description.tentative);
            let lines = holds.chain(may_hold).flat_map(|description| description.lines.iter());
            lines.filter(move |line| line.receiver == side).map(|line| &line.media)
        };
        let at = |side: Side, endpoint: Endpoint| {
            newest(side).filter(move |media| media.endpoints().any(|own| own == endpoint))
        };
        let audio = |side: Side| newest(side).filter(|media| media.kind == Kind::Audio);
        at(receiver, flow.destination)
            .chain(at(speaker, flow.source))
            .chain(audio(receiver))
            .chain(audio(speaker))
    }

    /// Ends, at `until`, the claims of descriptions that hold no more. They are kept for their codecs.
    fn retire(&mut self, until: Timestamp, call: CallKey, flows: &mut Flows) {
        let done: Vec<Description> = self
            .all
            .iter()
            .filter(|description| description.superseded == Some(Superseded::Done))
            .cloned()
            .collect();
        for description in done {
            self.limit(&description, until, call, flows);
        }
    }

    /// Gives up the endpoints that no description names any more.
    fn drop_unnamed(&self, dropped: impl IntoIterator<Item = Endpoint>, call: CallKey, flows: &mut Flows) {
        for endpoint in dropped {
            if !self.all.iter().flat_map(endpoints).any(|other| other == endpoint) {
                flows.drop_claim(endpoint, call);
            }
        }
    }

    fn limit(&self, old: &Description, until: Timestamp, call: CallKey, flows: &mut Flows) {
        let live = self.all.iter().filter(|description| description.superseded != Some(Superseded::Done));
        let kept: Vec<(Side, Endpoint)> = live.flat_map(Description::claims).collect();
        for (side, endpoint) in old.claims().filter(|claim| !kept.contains(claim)) {
            flows.limit_claim(endpoint, call, side, until);
        }
    }
}

impl Description {
    fn audio(&self) -> impl Iterator<Item = &Media> {
        self.lines.iter().map(|line| &line.media).filter(|media| media.kind == Kind::Audio)
    }

    /// Who receives where.
    fn claims(&self) -> impl Iterator<Item = (Side, Endpoint)> + '_ {
        self.lines.iter().flat_map(|line| line.media.endpoints().map(|endpoint| (line.receiver, endpoint)))
    }
}

fn endpoints(description: &Description) -> impl Iterator<Item = Endpoint> + '_ {
    description.claims().map(|(_, endpoint)| endpoint)
}
