//! An archive to test with.

#[path = "../../../store/tests/examples/mod.rs"]
mod examples;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use spantape_core::media::TapeId;
use spantape_core::record::{CallRow, EventRow, QualityRow, RecordingRow, Side, StreamRow};
use spantape_core::time::MILLISECOND;
use spantape_store::Archive;

/// Removed when it is dropped.
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A call's row.
pub(crate) fn call() -> CallRow {
    examples::call(0)
}

/// A row to encode with.
pub(crate) fn recording() -> RecordingRow {
    examples::recording(1)
}

/// Three calls from 1009, a minute apart: of four seconds each, with signalling, a trigger, audio.
/// The display name of the first caller is hostile.
pub(super) fn archive() -> Dir {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = Dir(std::env::temp_dir().join(format!("spantape-cli-{}-{count}", std::process::id())));
    let mut archive = Archive::create(dir.path()).unwrap();
    for n in 0..3u64 {
        let at = n * 60;
        let start = examples::at(at);
        let id = examples::id(0xab00_0000 + n);
        let frames = 32_000;
        let mut row = RecordingRow {
            id,
            call: id,
            frames,
            end: start + 4_000 * MILLISECOND,
            ..examples::recording(at)
        };
        if n == 0 {
            row.from.display = "\x1b[2JEve\u{202e}".to_owned();
        }
        if n == 2 {
            row.trigger = "sip-info".into();
        }
        archive.open_tape(TapeId(n), 8000, 2, (0, 1)).unwrap();
        let tone =
            |i: u64| if (i / 8000).is_multiple_of(2) { [((i % 20) as i16 - 10) * 1000, 0] } else { [0, 300] };
        archive.write(TapeId(n), &(0..frames).flat_map(tone).collect::<Vec<i16>>()).unwrap();
        archive.cut(TapeId(n), 0..frames, &[], &row, true).unwrap();

        let mut call = examples::call(at);
        (call.id, call.end) = (id, row.end);
        archive.call(&call).unwrap();
        let caller = StreamRow { call: id, end: row.end, ..examples::stream(at) };
        let callee = StreamRow {
            side: Side::Callee,
            source: caller.destination,
            destination: caller.source,
            ..caller.clone()
        };
        archive.stream(&caller).unwrap();
        archive.stream(&callee).unwrap();
        archive.quality(&QualityRow { call: id, ..examples::quality(at, 0) }).unwrap();

        let (phone, pbx) = (([192, 0, 2, 9], 5060).into(), ([192, 0, 2, 1], 5060).into());
        let mut message = |ms: i64, up: bool, text: &str| {
            let (source, destination) = if up { (phone, pbx) } else { (pbx, phone) };
            let row = EventRow {
                call: id,
                at: start + ms * MILLISECOND,
                source: Some(source),
                destination: Some(destination),
                text: text.to_owned(),
                ..examples::event(at, "message")
            };
            archive.event(&row).unwrap();
        };
        message(0, true, "INVITE sip:1010@pbx.example [sdp]");
        message(20, false, "100 Trying (INVITE)");
        message(400, false, "200 OK (INVITE) [sdp]");
        message(420, true, "ACK sip:1010@pbx.example");
        message(4000, true, "BYE sip:1010@pbx.example");
        message(4010, false, "200 OK (BYE)");
        let trigger = EventRow {
            call: id,
            at: start + 1500 * MILLISECOND,
            text: String::new(),
            ..examples::event(at, "trigger")
        };
        archive.event(&trigger).unwrap();
        for i in 0..9 {
            let at = start + (2000 + i * 10) * MILLISECOND;
            let text = format!("{} packets in a row (callee)", i + 1);
            archive
                .event(&EventRow { call: id, at, text, source: None, ..examples::event(0, "loss") })
                .unwrap();
        }
    }
    archive.flush().unwrap();
    dir
}
