//! Frames that have been copied out of wherever they came from.

use std::ops::Range;

use spantape_core::engine;
use spantape_core::share::{Glance, Glimpse};
use spantape_core::time::Timestamp;
use spantape_core::wire::LinkType;

use super::Frame;

/// Frames, one after the other. It is filled and emptied again and again.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    glance: Option<Glance>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    at: Timestamp,
    link: LinkType,
    begin: usize,
    end: usize,
    glimpse: Option<Glimpse>,
}

impl FrameBuffer {
    /// One with room for so much.
    pub(crate) fn with_capacity(bytes: usize, frames: usize) -> FrameBuffer {
        FrameBuffer { bytes: Vec::with_capacity(bytes), spans: Vec::with_capacity(frames), glance: None }
    }

    /// One that looks at each frame for several engines.
    pub(crate) fn glancing(self, glance: Option<Glance>) -> FrameBuffer {
        FrameBuffer { glance, ..self }
    }

    /// Adds a frame.
    pub(crate) fn push(&mut self, Frame { at, link, data }: Frame<'_>) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(data);
        let glimpse = self.glance.as_ref().and_then(|glance| glance.at(link, data));
        self.spans.push(Span { at, link, begin, end: self.bytes.len(), glimpse });
    }

    /// How many frames are in it.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// There is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of all frames.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes for which there is room.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Puts them in the order of time, and those of the same time in that in which they came.
    pub(crate) fn sort(&mut self) {
        self.spans.sort_unstable_by_key(|span| (span.at, span.begin));
    }

    /// Some of its frames, as far as there are so many.
    pub(crate) fn frames(&self, range: Range<usize>) -> impl Iterator<Item = Frame<'_>> {
        self.with_glimpses(range).map(|engine::Frame { at, link, data, .. }| Frame { at, link, data })
    }

    /// The same, each with what was seen of it at a glance.
    pub(crate) fn with_glimpses(
        &self,
        range: Range<usize>,
    ) -> impl Iterator<Item = engine::Frame<'_>> + Clone {
        let end = range.end.min(self.spans.len());
        let spans = self.spans.get(range.start..end).unwrap_or_default().iter();
        spans.map(|&Span { at, link, begin, end, glimpse }| {
            let data = self.bytes.get(begin..end).unwrap_or_default();
            engine::Frame { at, link, data, glimpse }
        })
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }
}
