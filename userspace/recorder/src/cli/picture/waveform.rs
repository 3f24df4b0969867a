//! The sound: a band of pixels for each channel, and the time axis.

use anyhow::Result;

use super::canvas::{CELL, Canvas, Ink, LINE};
use super::{COLUMNS, GAP, LEFT, WIDTH, label};
use crate::cli::terminal::clean;
use crate::cli::waveform::{Peaks, marks};
use crate::encode::Sound;

/// Draws the channels of a recording, the caller above, over a time axis. Returns how many pixels long that is.
pub(super) fn draw(canvas: &mut Canvas, sound: Result<Sound>) -> usize {
    let peaks = match sound {
        Ok(sound) => Peaks::of(sound, COLUMNS),
        Err(error) => {
            canvas.line(LEFT, &clean(&format!("no waveform: {error:#}")), Ink::BAD);
            return COLUMNS;
        }
    };
    if peaks.columns.is_empty() {
        canvas.line(LEFT, "no audio", Ink::FAINT);
        return COLUMNS;
    }
    for (channel, (name, ink)) in peaks.names().iter().zip([Ink::CALLER, Ink::CALLEE]).enumerate() {
        band(canvas, &peaks, channel, name, ink);
    }
    axis(canvas, &peaks);
    if let Some(words) = peaks.cut_short() {
        canvas.line(LEFT, &words, Ink::BAD);
    }
    peaks.width()
}

/// Pixels from the middle of a band to its edge.
const HALF: i32 = 60;
/// From one mark of the time axis to the next, at least.
const APART: usize = 80;
/// How long a mark is.
const MARK: i32 = 5;

fn band(canvas: &mut Canvas, peaks: &Peaks, channel: usize, name: &str, ink: Ink) {
    let middle = canvas.extend(2 * HALF + 1 + GAP) + HALF;
    label(canvas, middle - LINE, name, ink);
    label(canvas, middle, &peaks.loudness(channel), Ink::FAINT);
    let scale = i32::from(peaks.scale());
    let pixels = |sample: i16| i32::from(sample).abs() * HALF / scale;
    for (x, column) in (LEFT..).zip(&peaks.columns) {
        let (low, high) = column[channel];
        let (up, down) = (pixels(high.max(0)), pixels(low.min(0)));
        canvas.fill(x, middle - up, 1, up + 1 + down, ink);
    }
}

fn axis(canvas: &mut Canvas, peaks: &Peaks) {
    let top = canvas.extend(MARK + LINE);
    canvas.fill(LEFT, top, peaks.width() as i32, 1, Ink::FAINT);
    for (column, time) in marks(peaks.duration(), peaks.width(), APART) {
        let x = LEFT + column as i32;
        canvas.fill(x, top, 1, MARK, Ink::FAINT);
        if x + CELL * (time.len() as i32) < WIDTH as i32 {
            canvas.text(x, top + MARK, &time, Ink::FAINT);
        }
    }
}
