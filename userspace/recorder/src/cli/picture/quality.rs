//! The quality of both sides over time: a bar a column, on the waveform's time axis.

use super::canvas::{Canvas, Ink, LINE};
use super::{GAP, LEFT, label};
use crate::cli::quality::{LEVELS, Row, graphs};
use crate::cli::show::Found;

/// Draws opinion score, loss and jitter of the sides of which they are known, over a time axis so many pixels long.
pub(super) fn draw(canvas: &mut Canvas, found: &Found, columns: usize) {
    let times = found.recording.time("start").zip(found.recording.time("ended"));
    let Some((begin, end)) = times else { return };
    for graph in graphs(&found.quality, columns, begin, end) {
        let ink = if graph.side == "caller" { Ink::CALLER } else { Ink::CALLEE };
        canvas.extend(GAP);
        canvas.line(LEFT, &graph.words, ink);
        graph.rows.iter().for_each(|row| bars(canvas, row, ink));
    }
}

/// Pixels of one step of a value.
const STEP: i32 = 3;

fn bars(canvas: &mut Canvas, row: &Row, ink: Ink) {
    let most = STEP * LEVELS.len() as i32;
    let top = canvas.extend(most + GAP / 2);
    label(canvas, top + (most - LINE) / 2, row.name, Ink::FAINT);
    for (x, column) in (LEFT..).zip(&row.columns) {
        let Some((level, is_bad)) = *column else { continue };
        let height = STEP * (level as i32 + 1);
        canvas.fill(x, top + most - height, 1, height, if is_bad { Ink::BAD } else { ink });
    }
}
