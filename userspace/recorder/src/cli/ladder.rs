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
    let ladder = Ladder::new(screen, steps);
    let mut out = ladder.head(&role);
    let mut at = 0;
    while let Some(step) = steps.get(at) {
        out.push_str(&ladder.step(step));
        let run = steps[at..].iter().take_while(|other| same_kind(step, other)).count();
        if run > REPEATED
            && let Some(last) = steps.get(at + run - 1)
        {
            let words = format!("… {} more, the last at {}", run - 1, when::clock(last.at, 3));
            out.push_str(&ladder.note("", &words));
            at += run;
        } else {
            at += 1;
        }
    }
    out
}

/// More notes of a kind in a row than these are not drawn one by one.
const REPEATED: usize = 4;
/// Columns between two hosts.
const NEAREST: usize = 18;
const FARTHEST: usize = 44;
/// The second half of a character that takes two columns.
const WIDE: char = '\0';

struct Ladder<'a> {
    screen: Screen,
    /// Columns of the time.
    times: usize,
    spacing: usize,
    /// All hosts, of which some may not fit.
    hosts: Vec<&'a str>,
    drawn: HashMap<&'a str, usize>,
}

impl<'a> Ladder<'a> {
    fn new(screen: Screen, steps: &'a [Step]) -> Ladder<'a> {
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
        let room = screen.width.saturating_sub(times);
        let count = hosts.len().min((room / NEAREST).max(2));
        let drawn = hosts.iter().take(count).enumerate().map(|(i, host)| (*host, i)).collect();
        Ladder { screen, times, spacing: (room / count.max(1)).min(FARTHEST), hosts, drawn }
    }

    fn head(&self, role: &impl Fn(&str) -> &'static str) -> String {
        let hosts = &self.hosts[..self.drawn.len()];
        // Long addresses are told before, and the columns have letters.
        let long = hosts.iter().any(|host| width(host) >= self.spacing);
        let name = |i: usize| char::from_u32('A' as u32 + i as u32).unwrap_or('?').to_string();
        let mut out = String::new();
        if long {
            for (i, host) in hosts.iter().enumerate() {
                out.push_str(&format!("  {}  {host}\n", name(i)));
            }
        }
        let mut line = Line::new(self.screen.width);
        let mut roles = Line::new(self.screen.width);
        for (i, host) in hosts.iter().enumerate() {
            line.centre(self.column(i), &if long { name(i) } else { (*host).to_owned() });
            roles.centre(self.column(i), role(host));
        }
        for line in [line, roles] {
            let line = line.finish();
            if !line.is_empty() {
                out.push_str(&format!("{}\n", self.screen.paint(Style::Bold, &line)));
            }
        }
        out
    }

    fn step(&self, step: &Step) -> String {
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

    fn arrow(&self, time: &str, from: usize, to: usize, text: &str, bad: bool) -> String {
        let mut line = self.rails();
        let (left, right) = (from.min(to), from.max(to));
        (left + 1..right).for_each(|x| line.put(x, "─"));
        if from < to {
            line.put(right - 1, ">");
        } else {
            line.put(left + 1, "<");
        }
        let text = fit(text, (right - left).saturating_sub(6));
        line.centre(left.midpoint(right), &format!(" {text} "));
        let line = line.finish();
        self.line(time, &if bad { self.screen.paint(Style::Bad, &line) } else { line })
    }

    fn note(&self, time: &str, text: &str) -> String {
        let mut line = self.rails();
        line.put(self.times, &fit(&format!("* {text} "), self.screen.width.saturating_sub(self.times)));
        self.line(time, &self.screen.paint(Style::Note, &line.finish()))
    }

    /// A line of the hosts' rails, from the left edge on.
    fn rails(&self) -> Line {
        let mut line = Line::new(self.screen.width);
        (0..self.drawn.len()).for_each(|i| line.put(self.column(i), "│"));
        line
    }

    /// Puts the time before a line, which has left room for it.
    fn line(&self, time: &str, line: &str) -> String {
        let width = self.times - 2;
        let time = self.screen.paint(Style::Dim, &format!("{time:>width$}"));
        // The room lies before any colour but the line's own.
        let line = line.replacen(&" ".repeat(self.times), "  ", 1);
        format!("{time}{line}\n")
    }

    fn column(&self, host: usize) -> usize {
        self.times + host * self.spacing + self.spacing / 2
    }
}

fn same_kind(a: &Step, b: &Step) -> bool {
    matches!((&a.what, &b.what), (What::Note { kind: a, .. }, What::Note { kind: b, .. }) if a == b)
}

/// A line of a terminal, column by column.
struct Line(Vec<char>);

impl Line {
    fn new(width: usize) -> Line {
        Line(vec![' '; width])
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
