//! The quality of a recording's streams over time, as a picture of characters on the waveform's time axis.

use spantape_core::time::Timestamp;

use super::show::Record;
use super::terminal::{Screen, Style, wrap};
use super::waveform::MARGIN;

/// How high a value stands.
pub(super) const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Below this opinion score nearly all users are dissatisfied (ITU-T G.107, annex B).
const BAD_SCORE: f64 = 2.58;
/// More loss than this is heard, whatever conceals it.
const BAD_LOSS: f64 = 5.0;
/// More than most phones smooth out, in milliseconds.
const BAD_JITTER: f64 = 100.0;

/// Draws opinion score, loss and jitter of both sides between two moments, a line each; of several streams of a side the
/// worst counts. Empty when nothing is known.
pub(super) fn draw(screen: Screen, slices: &[Record], begin: Timestamp, end: Timestamp) -> String {
    let columns = screen.width.saturating_sub(MARGIN).max(1);
    let mut out = String::new();
    for graph in graphs(slices, columns, begin, end) {
        wrap(&graph.words, screen.width.saturating_sub(2))
            .iter()
            .for_each(|line| out.push_str(&format!("  {line}\n")));
        for row in graph.rows {
            let label = screen.paint(Style::Dim, &format!("{:>width$}  ", row.name, width = MARGIN - 2));
            let blocks = row.columns.into_iter().map(|column| match column {
                Some((level, true)) => screen.paint(Style::Bad, &LEVELS[level].to_string()),
                Some((level, false)) => LEVELS[level].to_string(),
                None => " ".to_owned(),
            });
            out.push_str(format!("{label}{}", blocks.collect::<String>()).trim_end());
            out.push('\n');
        }
    }
    out
}

/// What is known of one side.
pub(super) struct Graph {
    pub(super) side: &'static str,
    /// The side and its worst values.
    pub(super) words: String,
    pub(super) rows: [Row; 3],
}

/// A value over time.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// How high it stands, of [`LEVELS`], and whether it is bad; `None` where nothing is known.
    pub(super) columns: Vec<Option<(usize, bool)>>,
}

/// The graphs of the sides of which something is known, in so many columns between two moments.
pub(super) fn graphs(slices: &[Record], columns: usize, begin: Timestamp, end: Timestamp) -> Vec<Graph> {
    let graph = |side: &'static str| {
        let slices: Vec<Slice> = slices.iter().filter_map(|slice| Slice::of(slice, side)).collect();
        let slices: Vec<&Slice> =
            slices.iter().filter(|slice| slice.end >= begin && slice.start <= end).collect();
        let rows = [
            row(
                "MOS",
                columns,
                (begin, end),
                &slices,
                |slice| slice.score,
                f64::min,
                |score| (level(score, &[1.5, 2.0, 2.5, 3.0, 3.5, 3.8, 4.1]), score < BAD_SCORE),
            ),
            row(
                "loss",
                columns,
                (begin, end),
                &slices,
                |slice| Some(slice.loss),
                f64::max,
                |loss| (level(loss, &[0.01, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]), loss > BAD_LOSS),
            ),
            row(
                "jitter",
                columns,
                (begin, end),
                &slices,
                |slice| Some(slice.jitter),
                f64::max,
                |jitter| (level(jitter, &[2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 100.0]), jitter > BAD_JITTER),
            ),
        ];
        (!slices.is_empty()).then(|| Graph { side, words: worst(side, &slices), rows })
    };
    ["caller", "callee"].into_iter().filter_map(graph).collect()
}

/// The worst values of a side, in words.
fn worst(side: &str, slices: &[&Slice]) -> String {
    let worst = |value: fn(&Slice) -> Option<f64>, worse: fn(f64, f64) -> f64| {
        slices.iter().filter_map(|slice| value(slice)).reduce(worse)
    };
    let score = worst(|slice| slice.score, f64::min).map(|score| format!("MOS {score:.1}, "));
    let loss = worst(|slice| Some(slice.loss), f64::max).unwrap_or_default();
    let jitter = worst(|slice| Some(slice.jitter), f64::max).unwrap_or_default();
    let score = score.unwrap_or_default();
    format!("{side}, at worst: {score}loss {loss:.1} %, jitter {jitter:.0} ms")
}

/// Some seconds of a stream.
struct Slice {
    start: Timestamp,
    end: Timestamp,
    score: Option<f64>,
    /// Of a hundred packets.
    loss: f64,
    jitter: f64,
}

impl Slice {
    fn of(record: &Record, side: &str) -> Option<Slice> {
        let number = |column| record.number(column).unwrap_or_default();
        let useless = number("lost") + number("late");
        (record.text("side") == side).then_some(())?;
        Some(Slice {
            start: record.time("start")?,
            end: record.time("ended")?,
            score: record.number("mos"),
            loss: useless * 100.0 / number("expected").max(1.0),
            jitter: number("jitter_ms"),
        })
    }
}

/// In each column the worst value of the slices that it touches, as `show` has it.
fn row(
    name: &'static str,
    columns: usize,
    (begin, end): (Timestamp, Timestamp),
    slices: &[&Slice],
    value: impl Fn(&Slice) -> Option<f64>,
    worse: fn(f64, f64) -> f64,
    show: impl Fn(f64) -> (usize, bool),
) -> Row {
    let moment =
        |column: usize| begin.0 as i128 + (end.since(begin) as i128 * column as i128) / columns as i128;
    let shown = |column: usize| {
        let (from, to) = (moment(column), moment(column + 1));
        let touched =
            slices.iter().filter(|slice| i128::from(slice.start.0) < to && i128::from(slice.end.0) >= from);
        let (level, is_bad) = touched.filter_map(|slice| value(slice)).reduce(worse).map(&show)?;
        Some((level.min(LEVELS.len() - 1), is_bad))
    };
    Row { name, columns: (0..columns).map(shown).collect() }
}

/// How many of the steps a value has reached.
fn level(value: f64, steps: &[f64; 7]) -> usize {
    steps.iter().filter(|&&step| value >= step).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_worst_of_each_column() {
        let at = |seconds: u64| format!("2026-01-15T09:00:{seconds:02}.000000Z");
        let slice = |side: &str, from: u64, lost: u64, mos: f64| {
            let row = json!({
                "side": side, "start": at(from), "ended": at(from + 4), "expected": 250, "lost": lost, "late": 0,
                "jitter_ms": 3.0, "mos": mos,
            });
            Record::from_json(row)
        };
        let slices = [
            slice("caller", 0, 0, 4.4),
            slice("caller", 5, 50, 2.0),
            slice("caller", 15, 0, 4.4),
            slice("callee", 5, 0, 3.6),
        ];
        let begin = slices[0].time("start").unwrap();
        let text = draw(Screen::plain(MARGIN + 20), &slices, begin, begin + 20 * spantape_core::time::SECOND);
        let expected = "  caller, at worst: MOS 2.0,
  loss 20.0 %, jitter 3 ms
     MOS  █████▃▃▃▃▃     █████
    loss  ▁▁▁▁▁█████     ▁▁▁▁▁
  jitter  ▂▂▂▂▂▂▂▂▂▂     ▂▂▂▂▂
  callee, at worst: MOS 3.6,
  loss 0.0 %, jitter 3 ms
     MOS       ▆▆▆▆▆
    loss       ▁▁▁▁▁
  jitter       ▂▂▂▂▂
";
        assert_eq!(text, expected);
        assert_eq!(draw(Screen::plain(80), &[], begin, begin), "");
    }
}
