//! A recording as one picture: who spoke, the waveform, the quality below it on the same time axis, the signalling.

mod canvas;
mod ladder;
mod quality;
mod waveform;

use anyhow::Result;
use spantape_core::time::SECOND;

use self::canvas::{CELL, Canvas, Ink};
use super::show::{Found, Record};
use super::terminal::fit;
use super::when;
use crate::encode::Sound;

/// Draws the picture; returns it as a file (PNG). What cannot be drawn of the sound is told in its place.
pub(super) fn draw(found: &Found, sound: Result<Sound>) -> Result<Vec<u8>> {
    let mut canvas = Canvas::new(WIDTH);
    canvas.extend(GAP);
    canvas.line(EDGE, &title(&found.recording), Ink::TITLE);
    canvas.extend(GAP);
    let columns = waveform::draw(&mut canvas, sound);
    quality::draw(&mut canvas, found, columns);
    canvas.extend(GAP);
    ladder::draw(&mut canvas, found);
    canvas.extend(GAP);
    canvas.png()
}

/// Pixels of a row.
const WIDTH: u32 = 1200;
/// Left of what has a time axis.
const LEFT: i32 = 96;
/// Of the time axis; some are left at its right.
const COLUMNS: usize = 1080;
/// Left and right of texts.
const EDGE: i32 = 16;
/// Letters that a line has room for.
const LETTERS: usize = ((WIDTH as i32 - 2 * EDGE) / CELL) as usize;
/// Between two things that are drawn.
const GAP: i32 = 8;
/// Letters of a party's name.
const NAME: usize = 40;

/// Parties, start, length.
fn title(recording: &Record) -> String {
    let party = |side: &str| {
        let [display, user] = ["display", "user"].map(|column| recording.text(&format!("{side}_{column}")));
        let words = format!("{display} {user}");
        let words = words.trim();
        if words.is_empty() { "unknown".to_owned() } else { fit(words, NAME) }
    };
    let start = recording.time("start").map(|at| when::utc(at, 0) + " UTC").unwrap_or_default();
    let length = recording.number("duration_s").unwrap_or_default() * SECOND as f64;
    format!("{} -> {}   {start}   {}", party("from"), party("to"), when::clock(length as i64, 3))
}

/// Puts a text at the right end of what is left of the time axis.
fn label(canvas: &mut Canvas, y: i32, text: &str, ink: Ink) {
    canvas.text(LEFT - GAP - CELL * text.len() as i32, y, text, ink);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;
    use std::path::Path;

    use super::super::identity::Identity;
    use super::super::show::locate;
    use super::super::testing;
    use super::*;

    /// Width, and rows of pixels.
    type Picture = (usize, Vec<[u8; 3]>);

    fn decode(file: &[u8]) -> Picture {
        let mut reader = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        assert_eq!(bytes.len(), info.width as usize * info.height as usize * 3);
        (info.width as usize, bytes.as_chunks::<3>().0.to_vec())
    }

    fn found(archive: &Path) -> Found {
        let (_, recording) = locate("ab000000", Some(archive)).unwrap().unwrap();
        Found::gather(archive, recording).unwrap()
    }

    fn drawn(archive: &Path, found: &Found) -> Result<Vec<u8>> {
        draw(found, Identity::default().sound(archive, &found.recording))
    }

    /// Rows and columns, from the first to the last, that have a colour.
    fn bounds((width, pixels): &Picture, ink: Ink) -> [usize; 4] {
        let places = pixels.iter().enumerate().filter(|(_, pixel)| **pixel == ink.bytes()).map(|(at, _)| at);
        places.fold([usize::MAX, 0, usize::MAX, 0], |[top, bottom, left, right], at| {
            let (x, y) = (at % width, at / width);
            [top.min(y), bottom.max(y), left.min(x), right.max(x)]
        })
    }

    #[test]
    fn all_of_a_recording() {
        let dir = testing::archive();
        let picture = decode(&drawn(dir.path(), &found(dir.path())).unwrap());
        assert_eq!(picture.0, WIDTH as usize);
        let ([caller, callee], last) =
            ([Ink::CALLER, Ink::CALLEE].map(|ink| bounds(&picture, ink)), LEFT as usize);
        // The caller's band comes first; both begin with the time axis, but for the label.
        assert!(caller[0] < callee[0] && caller[2] < last && callee[2] < last, "{caller:?} {callee:?}");
        assert!(caller[3] >= last + COLUMNS / 2, "{caller:?}");
        // Four seconds, of which the caller is heard in the first and third.
        let column = |ink: Ink, x: usize| {
            (0..picture.1.len() / picture.0).filter(|y| picture.1[y * picture.0 + x] == ink.bytes()).count()
        };
        let (first, second) = (last + COLUMNS / 8, last + COLUMNS * 3 / 8);
        assert!(column(Ink::CALLER, first) > 2 * column(Ink::CALLER, second));
        assert!(column(Ink::CALLEE, second) > column(Ink::CALLEE, first));
    }

    #[test]
    fn without_its_file() {
        let dir = testing::archive();
        let found = found(dir.path());
        let whole = decode(&drawn(dir.path(), &found).unwrap());
        fs::remove_file(dir.path().join(found.recording.text("file"))).unwrap();
        let less = decode(&drawn(dir.path(), &found).unwrap());
        assert!(less.1.len() < whole.1.len());
        assert!(less.1.contains(&Ink::BAD.bytes()));
    }

    #[test]
    fn who_when_how_long() {
        let dir = testing::archive();
        let title = title(&found(dir.path()).recording);
        assert_eq!(
            title,
            "\u{fffd}[2JEve\u{fffd} 1009 -> Desk 1010 1010   2023-11-14 22:13:20 UTC   0:04.000"
        );
        assert!(title.len() < LETTERS);
    }
}
