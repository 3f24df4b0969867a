//! Fax by T.38 within a call (ITU-T T.38, annex D): who has offered it, and what has come of it.
//!
//! A fax is no audio and is not kept. What there is to know of it are events of kind `t38`; a call that has gone over
//! to it has `T38` among what could not be decoded.

use super::{Call, Context};
use crate::record::Side;
use crate::sdp::{Kind, Media};
use crate::sip::{Message, StartLine};
use crate::wire::FlowKey;

/// How the list of what could not be decoded names it, as the subtype of `image/t38` (RFC 3362).
const NAME: &str = "T38";

/// The latest offer of a fax in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fax {
    /// Who has asked, by the request with which CSeq.
    asker: Side,
    cseq: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offered,
    Accepted,
    Declined,
}

impl Call {
    /// A description may offer a fax, or answer such an offer.
    pub(super) fn note_fax(
        &mut self,
        message: &Message<'_>,
        author: Side,
        media: &[Media],
        context: &mut Context<'_>,
    ) {
        let is_open = |media: &Media| media.endpoint.is_some();
        let is_image_open = media.iter().any(|media| media.kind == Kind::Image && is_open(media));
        let has_audio = media.iter().any(|media| media.kind == Kind::Audio && is_open(media));
        let cseq = message.cseq().number;
        match message.start {
            StartLine::Request { .. } if is_image_open => {
                let offer = Fax { asker: author, cseq, state: State::Offered };
                self.set_fax(offer, format!("offered by {}", author.as_str()), context);
            }
            StartLine::Response { status: 200..=299, .. } => {
                let asker = author.other();
                if is_image_open {
                    let accepted = Fax { asker, cseq, state: State::Accepted };
                    self.set_fax(accepted, format!("accepted by {}", author.as_str()), context);
                    if !has_audio && !self.undecodable.iter().any(|name| name == NAME) {
                        self.undecodable.push(NAME.to_owned());
                    }
                } else if self.fax.is_some_and(|fax| fax.is_offered(asker, cseq)) {
                    let declined = Fax { asker, cseq, state: State::Declined };
                    self.set_fax(declined, format!("declined by {}", author.as_str()), context);
                } else if has_audio {
                    // Both have gone back to audio.
                    self.fax = None;
                }
            }
            _ => {}
        }
    }

    /// The request with that CSeq was refused by `author`: if it offered a fax, there is none.
    pub(super) fn refuse_fax(&mut self, status: u16, author: Side, cseq: u32, context: &mut Context<'_>) {
        let asker = author.other();
        if self.fax.is_some_and(|fax| fax.is_offered(asker, cseq)) {
            let declined = Fax { asker, cseq, state: State::Declined };
            self.set_fax(declined, format!("declined by {} ({status})", author.as_str()), context);
        }
    }

    /// Whether both have agreed on a fax, beside audio or instead of it.
    pub(super) fn has_fax(&self) -> bool {
        self.fax.is_some_and(Fax::is_accepted)
    }

    /// Whether what goes on a flow is a fax: it may look like RTP, and is none.
    pub fn is_fax(&self, flow: &FlowKey, speaker: Side) -> bool {
        self.has_fax() && self.descriptions.is_image(flow, speaker)
    }

    /// Says what has changed; messages of one call may be seen on several hops.
    fn set_fax(&mut self, fax: Fax, words: String, context: &mut Context<'_>) {
        let is_known = self.fax.is_some_and(|known| {
            known == fax || fax.state == State::Offered && (known.asker, known.cseq) == (fax.asker, fax.cseq)
        });
        if !is_known {
            self.fax = Some(fax);
            self.tell(context.now, "t38", words, context);
        }
    }
}

impl Fax {
    fn is_accepted(self) -> bool {
        self.state == State::Accepted
    }

    fn is_offered(self, asker: Side, cseq: u32) -> bool {
        self == Fax { asker, cseq, state: State::Offered }
    }
}
