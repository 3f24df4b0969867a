//! The signalling as a ladder.

use super::canvas::{CELL, Canvas, Ink, LINE};
use super::{EDGE, LETTERS};
use crate::cli::ladder::{Step, What, lines};
use crate::cli::report::{RECORDING, role, steps};
use crate::cli::show::Found;

/// Draws messages, triggers and the recording's bounds; only the first, if there are very many.
pub(super) fn draw(canvas: &mut Canvas, found: &Found) {
    let steps: Vec<Step> = steps(found).into_iter().filter(is_drawn).collect();
    let lines = lines(LETTERS, &steps, |host| role(&found.recording, host));
    for line in lines.iter().take(MOST) {
        let y = canvas.extend(LINE);
        canvas.text(EDGE, y, &line.time, Ink::FAINT);
        canvas.text(EDGE + CELL * line.time.len() as i32, y, &line.text, Ink::of(line.style));
    }
    let left_out = lines.len().saturating_sub(MOST);
    if left_out > 0 {
        canvas.line(EDGE, &format!("… {left_out} more lines"), Ink::NOTE);
    }
}

/// Lines of the ladder, at most.
const MOST: usize = 200;

/// What is no signalling has its place elsewhere.
fn is_drawn(step: &Step) -> bool {
    match &step.what {
        What::Message { .. } => true,
        What::Note { kind, .. } => kind == "trigger" || kind == RECORDING,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::WIDTH;
    use super::*;
    use crate::cli::show::{Record, locate};
    use crate::cli::testing;

    /// Rows of pixels of the ladder of the first call with so many messages more.
    fn rows(more: usize) -> i32 {
        let dir = testing::archive();
        let (_, recording) = locate("ab000000", Some(dir.path())).unwrap().unwrap();
        let mut found = Found::gather(dir.path(), recording).unwrap();
        found.events.extend((0..more).map(|_| {
            Record::from_json(json!({
                "kind": "message", "start": "2023-11-14T22:13:22.000000Z", "text": "OPTIONS sip:pbx.example",
                "source_address": "192.0.2.9", "source_port": 5060,
                "destination_address": "192.0.2.1", "destination_port": 5060,
            }))
        }));
        let mut canvas = Canvas::new(WIDTH);
        draw(&mut canvas, &found);
        canvas.extend(0)
    }

    #[test]
    fn as_tall_as_it_needs_to_be_but_not_more() {
        // Hosts, six messages, a trigger, two bounds of the recording; the nine losses are not drawn.
        assert_eq!(rows(0), 10 * LINE);
        assert_eq!(rows(MOST - 10), MOST as i32 * LINE);
        assert_eq!(rows(1000), (MOST as i32 + 1) * LINE);
    }
}
