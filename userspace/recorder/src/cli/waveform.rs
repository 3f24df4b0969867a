//! The sound of a recording, as a picture of characters.

use spantape_core::time::SECOND;

use super::terminal::{Screen, Style};
use super::when;
use crate::encode::Sound;

/// Draws both channels of a recording, the caller above, over a time axis. It is read once, in pieces.
pub(crate) fn draw(screen: Screen, sound: Sound) -> String {
    let peaks = Peaks::of(sound, screen.width.saturating_sub(MARGIN));
    if peaks.columns.is_empty() {
        return "  no audio\n".to_owned();
    }
    let mut out = String::new();
    for (channel, name) in peaks.names().iter().enumerate() {
        out.push_str(&peaks.channel(screen, channel, name));
    }
    out.push_str(&peaks.axis(screen));
    if let Some(words) = peaks.cut_short() {
        out.push_str(&format!("  {}\n", screen.paint(Style::Bad, &words)));
    }
    out
}

/// Columns left of the picture.
pub(super) const MARGIN: usize = 10;
/// Lines of a channel; odd, so that there is a middle one. Each holds two blocks.
const ROWS: usize = 5;
/// Columns from one mark of the time axis to the next, at least.
const MARKS: usize = 10;

/// Lowest and highest sample.
type Range = (i16, i16);

const NOTHING: [Range; 2] = [(i16::MAX, i16::MIN); 2];

/// What each column of a picture shows of a recording: the highest and the lowest sample of each channel.
pub(super) struct Peaks {
    rate: u32,
    channels: usize,
    /// Samples a channel by the header, and those that could be read.
    frames: u64,
    read: u64,
    width: u64,
    /// From the caller and the callee; until it is finished the last one is not complete.
    pub(super) columns: Vec<[Range; 2]>,
}

impl Peaks {
    /// Reads a recording, for a picture of so many columns. What cannot be read is missing at the end.
    pub(super) fn of(mut sound: Sound, width: usize) -> Peaks {
        let frames = sound.frames().unwrap_or_default();
        let mut peaks = Peaks::new(sound.sample_rate(), sound.channels().into(), frames, width);
        let mut samples = Vec::new();
        while sound.read(&mut samples).unwrap_or_default() {
            peaks.add(&samples);
        }
        peaks.finish();
        peaks
    }

    fn new(rate: u32, channels: usize, frames: u64, width: usize) -> Peaks {
        let width = frames.min(width as u64);
        Peaks { rate: rate.max(1), channels: channels.max(1), frames, read: 0, width, columns: Vec::new() }
    }

    /// The frame after so many columns.
    fn end_of(&self, columns: u64) -> u64 {
        (u128::from(self.frames) * u128::from(columns) / u128::from(self.width.max(1))) as u64
    }

    /// Takes interleaved samples.
    fn add(&mut self, samples: &[i16]) {
        for frame in samples.chunks_exact(self.channels) {
            if self.read >= self.frames {
                return;
            }
            let begun = self.columns.len() as u64;
            if begun == 0 || self.read >= self.end_of(begun) {
                self.columns.push(NOTHING);
            }
            self.read += 1;
            for (range, &sample) in self.columns.last_mut().into_iter().flatten().zip(frame) {
                *range = (sample.min(range.0), sample.max(range.1));
            }
        }
    }

    /// A column that has not come to its end is not drawn.
    fn finish(&mut self) {
        if self.read < self.frames && self.read < self.end_of(self.columns.len() as u64) {
            self.columns.pop();
        }
    }

    /// How the channels are called.
    pub(super) fn names(&self) -> &'static [&'static str] {
        if self.channels == 1 { &["both"] } else { &["caller", "callee"] }
    }

    /// Columns of the whole recording, whether all of it can be read or not.
    pub(super) fn width(&self) -> usize {
        self.width as usize
    }

    /// How long the whole recording is, in nanoseconds.
    pub(super) fn duration(&self) -> i64 {
        self.nanoseconds(self.frames)
    }

    /// Both channels are drawn to one scale: this sample, the loudest, reaches the edge.
    pub(super) fn scale(&self) -> u16 {
        (0..self.channels.min(2)).map(|channel| self.loudest(channel)).max().unwrap_or_default().max(1)
    }

    /// The loudest sample of a channel, in words.
    pub(super) fn loudness(&self, channel: usize) -> String {
        match self.loudest(channel) {
            0 => "silent".to_owned(),
            peak => format!("{:.0} dBFS", 20.0 * (f64::from(peak) / 32768.0).log10()),
        }
    }

    /// How much of the recording can be read, in words, when that is not all.
    pub(super) fn cut_short(&self) -> Option<String> {
        let (read, whole) = (when::clock(self.nanoseconds(self.read), 1), when::clock(self.duration(), 1));
        (self.read < self.frames).then(|| format!("the file is cut short: {read} of {whole} can be read"))
    }

    fn loudest(&self, channel: usize) -> u16 {
        let ranges = self.columns.iter().map(|column| column[channel]);
        ranges.map(|(low, high)| low.unsigned_abs().max(high.unsigned_abs())).max().unwrap_or_default()
    }

    fn channel(&self, screen: Screen, channel: usize, name: &str) -> String {
        let (scale, peak) = (self.scale(), self.loudness(channel));
        let mut out = String::new();
        for row in 0..ROWS {
            let label = match row {
                1 => name,
                2 => &peak,
                _ => "",
            };
            let blocks = self.columns.iter().map(|column| block(column[channel], scale, row));
            let blocks: String = blocks.collect();
            let label = screen.paint(Style::Dim, &format!("{label:>width$}  ", width = MARGIN - 2));
            out.push_str(&format!("{}\n", format!("{label}{blocks}").trim_end()));
        }
        out
    }

    fn axis(&self, screen: Screen) -> String {
        // Of a file cut short the axis is longer than what is drawn.
        let (line, labels) = axis(self.duration(), self.width());
        let indent = " ".repeat(MARGIN);
        format!(
            "{indent}{}\n{indent}{}\n",
            screen.paint(Style::Dim, &line),
            screen.paint(Style::Dim, &labels)
        )
    }

    fn nanoseconds(&self, frames: u64) -> i64 {
        (frames as f64 / f64::from(self.rate) * SECOND as f64) as i64
    }
}

/// What one column shows in one row: the blocks between its lowest and highest sample.
fn block((low, high): Range, scale: u16, row: usize) -> char {
    let blocks = |sample: i16| (f64::from(sample.max(0)) / f64::from(scale) * ROWS as f64).round() as usize;
    let (up, down) = (blocks(high), blocks(low.checked_neg().unwrap_or(i16::MAX)));
    let filled = |half: usize| half + up >= ROWS && half < ROWS + down;
    match (filled(2 * row), filled(2 * row + 1)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) if row == ROWS / 2 => '─',
        (false, false) => ' ',
    }
}

/// The marks of a time axis: the column of each, at least so many apart, and its time.
pub(super) fn marks(nanoseconds: i64, columns: usize, apart: usize) -> Vec<(usize, String)> {
    let (columns, apart) = (columns.max(1) as i64, apart.max(1) as i64);
    let tenth = SECOND / 10;
    let fine = [1, 2, 5].map(|tenths| tenths * tenth);
    let seconds = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].map(|seconds| seconds * SECOND);
    let hours = (0..=20).map(|power| 3600 * SECOND * (1 << power));
    let mut steps = fine.into_iter().chain(seconds).chain(hours);
    let step =
        steps.find(|step| (step / apart).saturating_mul(columns) >= nanoseconds).unwrap_or(i64::MAX / 2);
    let decimals = usize::from(step < SECOND);
    let mut marks = Vec::new();
    for mark in 0.. {
        let at = step.saturating_mul(mark);
        let x = (i128::from(at) * i128::from(columns) / i128::from(nanoseconds.max(1))) as usize;
        if x >= columns as usize {
            break;
        }
        marks.push((x, when::clock(at, decimals)));
    }
    marks
}

/// The line below the picture and the times below its marks.
fn axis(nanoseconds: i64, columns: usize) -> (String, String) {
    let mut line = vec!['─'; columns.max(1)];
    let mut labels = String::new();
    for (x, label) in marks(nanoseconds, columns, MARKS) {
        line[x] = '┬';
        if x + label.len() <= line.len() {
            labels.push_str(&format!("{:width$}{label}", "", width = x.saturating_sub(labels.len())));
        }
    }
    (line.into_iter().collect(), labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_in_its_place() {
        // The caller speaks in the first half, the callee, at half the level, in the second.
        let frame = |i: usize| if i < 40 { [[16384, -16384][i % 2], 0] } else { [0, [8192, -8192][i % 2]] };
        let mut peaks = Peaks::new(8000, 2, 80, 8);
        peaks.add(&(0..80).flat_map(frame).collect::<Vec<i16>>());
        peaks.finish();
        assert_eq!((peaks.read, peaks.columns.len()), (80, 8));
        let caller = peaks.channel(Screen::plain(80), 0, "caller");
        let expected = "          ████\n  caller  ████\n -6 dBFS  ████────\n          ████\n          ████\n";
        assert_eq!(caller, expected);
        let callee = peaks.channel(Screen::plain(80), 1, "callee");
        assert_eq!(callee.lines().nth(2), Some("-12 dBFS  ────████"));
        assert_eq!(callee.lines().next(), Some(""));
    }

    #[test]
    fn a_file_cut_short() {
        let mut peaks = Peaks::new(8000, 2, 8000, 10);
        (0..7).for_each(|_| peaks.add(&[1; 2 * 560]));
        peaks.finish();
        assert_eq!((peaks.read, peaks.columns.len()), (3920, 4));
        assert_eq!(peaks.axis(Screen::plain(80)).lines().next(), Some("          ┬─────────"));
        // More than the header says is not drawn.
        peaks.add(&[1; 20_000]);
        peaks.finish();
        assert_eq!((peaks.read, peaks.columns.len()), (8000, 10));
        let mut peaks = Peaks::new(8000, 1, 0, 10);
        peaks.add(&[1]);
        peaks.finish();
        assert!(peaks.columns.is_empty());
    }

    #[test]
    fn a_time_axis() {
        let (line, labels) = axis(4 * SECOND, 40);
        assert_eq!(line, "┬─────────┬─────────┬─────────┬─────────");
        assert_eq!(labels, "0:00      0:01      0:02      0:03");
        let (_, labels) = axis(3600 * SECOND, 60);
        assert_eq!(labels, "0:00      10:00     20:00     30:00     40:00     50:00");
        assert_eq!(axis(SECOND / 2, 50).1, "0:00.0    0:00.1    0:00.2    0:00.3    0:00.4");
        assert_eq!(axis(i64::MAX, 90).0.chars().count(), 90);
        assert_eq!(axis(0, 0).1, "");
    }
}
