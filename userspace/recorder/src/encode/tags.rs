//! What a recording's file says of it: comments as Vorbis writes them, which FLAC and Opus have taken over.

use spantape_core::record::RecordingRow;
use spantape_store::{utc, wav};

/// A list of comments (Vorbis I specification, section 5), without a framing bit.
pub(super) fn comments(row: &RecordingRow) -> Vec<u8> {
    let comments = [
        format!("TITLE={}", wav::parties(row)),
        format!("ARTIST={}", row.from.user),
        format!("DATE={}", utc::rfc3339(row.start)),
        format!("COMMENT=recording {}, Call-ID {}", row.id, row.call_id),
        format!("RECORDING_ID={}", row.id),
    ];
    let mut list = Vec::new();
    put(&mut list, "spantape");
    list.extend((comments.len() as u32).to_le_bytes());
    comments.iter().for_each(|comment| put(&mut list, comment));
    list
}

fn put(list: &mut Vec<u8>, text: &str) {
    list.extend((text.len() as u32).to_le_bytes());
    list.extend(text.as_bytes());
}
