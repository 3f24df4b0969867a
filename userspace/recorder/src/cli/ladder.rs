//! Signalling as a ladder: hosts side by side, time downwards, a message an arrow.

use std::collections::HashMap;

use super::terminal::{Screen, Style, fit, width};
use super::when;

/// Something that happened, so many nanoseconds after the call began. Its texts are clean.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: i64,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// From one host to another, by address and port.
    Message { from: String, to: String, text: String, bad: bool },
    /// What is no message; of many of one kind in a row only the first is drawn.
    Note { kind: String, text: String },
}

/// Draws the steps, which are in order of time. A host's role is told below its address.
pub(crate) fn draw(screen: Screen, steps: &[Step], role: impl Fn(&str) -> &'static str) -> String {
    let mut out = String::new();
    for Line { time, text, style } in lines(screen.width, steps, role) {
        let text = match style {
            Some(style) => screen.paint(style, &text),
            None => text,
        };
        out.push_str(&format!("{}{text}\n", screen.paint(Style::Dim, &time)));
    }
    out
}

/// A line of the drawing. Beside letters it is made of `─`, `│` and `…`.
pub(super) struct Line {
    /// The left part: when it was; empty above the ladder.
    pub(super) time: String,
    pub(super) text: String,
    pub(super) style: Option<Style>,
}

/// The lines of the drawing, of so many columns at most.
pub(super) fn lines(columns: usize, steps: &[Step], role: impl Fn(&str) -> &'static str) -> Vec<Line> {
    let ladder = Ladder::new(columns, steps);
    let mut lines = ladder.head(&role);
    let mut at = 0;
    while let Some(step) = steps.get(at) {
        lines.push(ladder.step(step));
        let run = steps[at..].iter().take_while(|other| same_kind(step, other)).count();
        if run > REPEATED
            && let Some(last) = steps.get(at + run - 1)
        {
            let words = format!("… {} more, the last at {}", run - 1, when::clock(last.at, 3));
            lines.push(ladder.note("", &words));
            at += run;
        } else {
            at += 1;
        }
    }
    lines
}

/// More notes of a kind in a row than these are not drawn one by one.
const REPEATED: usize = 4;
/// Columns between two hosts.
const NEAREST: usize = 18;
const FARTHEST: usize = 44;
/// The second half of a character that takes two columns.
const WIDE: char = '\0';

struct Ladder<'a> {
    columns: usize,
    /// Columns of the time.
    times: usize,
    spacing: usize,
    /// All hosts, of which some may not fit.
    hosts: Vec<&'a str>,
    drawn: HashMap<&'a str, usize>,
}

impl<'a> Ladder<'a> {
    fn new(columns: usize, steps: &'a [Step]) -> Ladder<'a> {
        let mut hosts: Vec<&str> = Vec::new();
        for step in steps {
            if let What::Message { from, to, .. } = &step.what {
                for host in [from.as_str(), to.as_str()] {
                    if !hosts.contains(&host) {
                        hosts.push(host);
                    }
                }
            }
        }
        let times = steps.iter().map(|step| when::clock(step.at, 3).len()).max().unwrap_or_default() + 4;
        let room = columns.saturating_sub(times);
        let count = hosts.len().min((room / NEAREST).max(2));
        let drawn = hosts.iter().take(count).enumerate().map(|(i, host)| (*host, i)).collect();
        Ladder { columns, times, spacing: (room / count.max(1)).min(FARTHEST), hosts, drawn }
    }

    fn head(&self, role: &impl Fn(&str) -> &'static str) -> Vec<Line> {
        let hosts = &self.hosts[..self.drawn.len()];
        // Long addresses are told before, and the columns have letters.
        let long = hosts.iter().any(|host| width(host) >= self.spacing);
        let name = |i: usize| char::from_u32('A' as u32 + i as u32).unwrap_or('?').to_string();
        let untimed = |text: String, style: Option<Style>| Line { time: String::new(), text, style };
        let mut lines = Vec::new();
        if long {
            let names = hosts.iter().enumerate().map(|(i, host)| format!("  {}  {host}", name(i)));
            lines.extend(names.map(|text| untimed(text, None)));
        }
        let mut names = Cells::new(self.columns);
        let mut roles = Cells::new(self.columns);
        for (i, host) in hosts.iter().enumerate() {
            names.centre(self.column(i), &if long { name(i) } else { (*host).to_owned() });
            roles.centre(self.column(i), role(host));
        }
        let heads = [names, roles].map(Cells::finish).into_iter().filter(|text| !text.is_empty());
        lines.extend(heads.map(|text| untimed(text, Some(Style::Bold))));
        lines
    }

    fn step(&self, step: &Step) -> Line {
        let time = when::clock(step.at, 3);
        match &step.what {
            What::Note { kind, text } => self.note(&time, format!("{kind} {text}").trim_end()),
            What::Message { from, to, text, bad } => {
                let column = |host: &String| self.drawn.get(host.as_str()).map(|&i| self.column(i));
                match (column(from), column(to)) {
                    (Some(from), Some(to)) if from != to => self.arrow(&time, from, to, text, *bad),
                    _ => self.note(&time, &format!("{from} > {to} {text}")),
                }
            }
        }
    }

    fn arrow(&self, time: &str, from: usize, to: usize, text: &str, bad: bool) -> Line {
        let mut cells = self.rails();
        let (left, right) = (from.min(to), from.max(to));
        (left + 1..right).for_each(|x| cells.put(x, "─"));
        if from < to {
            cells.put(right - 1, ">");
        } else {
            cells.put(left + 1, "<");
        }
        let text = fit(text, (right - left).saturating_sub(6));
        cells.centre(left.midpoint(right), &format!(" {text} "));
        self.line(time, cells, bad.then_some(Style::Bad))
    }

    fn note(&self, time: &str, text: &str) -> Line {
        let mut cells = self.rails();
        cells.put(self.times, &fit(&format!("* {text} "), self.columns.saturating_sub(self.times)));
        self.line(time, cells, Some(Style::Note))
    }

    /// The hosts' rails, with room for the time.
    fn rails(&self) -> Cells {
        let mut cells = Cells::new(self.columns);
        (0..self.drawn.len()).for_each(|i| cells.put(self.column(i), "│"));
        cells
    }

    /// Puts the time before what has left room for it.
    fn line(&self, time: &str, cells: Cells, style: Option<Style>) -> Line {
        let width = self.times - 2;
        let text = cells.finish();
        let text = format!("  {}", text.get(self.times..).unwrap_or_default());
        Line { time: format!("{time:>width$}"), text, style }
    }

    fn column(&self, host: usize) -> usize {
        self.times + host * self.spacing + self.spacing / 2
    }
}

fn same_kind(a: &Step, b: &Step) -> bool {
    matches!((&a.what, &b.what), (What::Note { kind: a, .. }, What::Note { kind: b, .. }) if a == b)
}

/// A line, column by column.
struct Cells(Vec<char>);

impl Cells {
    fn new(width: usize) -> Cells {
        Cells(vec![' '; width])
    }

    fn put(&mut self, mut x: usize, text: &str) {
        for c in text.chars() {
            let wide = width(c.encode_utf8(&mut [0; 4]));
            if x + wide > self.0.len() {
                return;
            }
            self.0[x..x + wide].fill(WIDE);
            if let Some(place) = self.0[x..x + wide].first_mut() {
                *place = c;
            }
            x += wide;
        }
    }

    fn centre(&mut self, x: usize, text: &str) {
        self.put((x + 1).saturating_sub(width(text).div_ceil(2)), text);
    }

    fn finish(self) -> String {
        let text: String = self.0.into_iter().filter(|&c| c != WIDE).collect();
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(at: i64, from: &str, to: &str, text: &str) -> Step {
        let (from, to, text) = (from.to_owned(), to.to_owned(), text.to_owned());
        Step { at: at * 1_000_000, what: What::Message { from, to, text, bad: false } }
    }

    fn note(at: i64, text: &str) -> Step {
        let what = What::Note { kind: "dtmf".to_owned(), text: text.to_owned() };
        Step { at: at * 1_000_000, what }
    }

    #[test]
    fn two_hosts() {
        let steps = [
            message(0, "10.0.0.1:5060", "10.0.0.2:5060", "INVITE"),
            message(20, "10.0.0.2:5060", "10.0.0.1:5060", "200 承知 (INVITE)"),
            note(30, "5"),
        ];
        let text = draw(Screen::plain(60), &steps, |host| if host.contains(".1:") { "caller" } else { "" });
        let expected = "                  10.0.0.1:5060           10.0.0.2:5060
                      caller
  0:00.000              │──────── INVITE ──────>│
  0:00.020              │<─ 200 承知 (INVITE) ──│
  0:00.030  * dtmf 5    │                       │
";
        assert_eq!(text, expected);
    }

    #[test]
    fn more_than_fits() {
        let mut steps: Vec<Step> = (0..9)
            .map(|i| message(i, &format!("[2001:db8:0:1::{i}]:5060"), &format!("10.0.0.{i}:5060"), "OPTIONS"))
            .collect();
        steps.extend((10..30).map(|i| note(i, "1")));
        let text = draw(Screen::plain(80), &steps, |_| "");
        assert!(text.starts_with("  A  [2001:db8:0:1::0]:5060\n  B  10.0.0.0:5060\n"), "{text}");
        assert!(text.contains("* [2001:db8:0:1::8]:5060 > 10.0.0.8:5060 OPTIONS"), "{text}");
        assert!(
            text.contains("* … 19 more, the last at 0:00.029") && text.matches("dtmf").count() == 1,
            "{text}"
        );
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
        assert_eq!(draw(Screen::plain(80), &[], |_| ""), "");
    }
}
