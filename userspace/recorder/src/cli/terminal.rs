//! What a terminal is shown: its width, its colours, tables that fit, and texts that cannot harm it.

use std::io::{self, ErrorKind, IsTerminal};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, Row, Table, Width};

pub(crate) use spantape_store::rows::{clean, clean_json};

/// Where the answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Somebody looks at it; else it goes to a file or another program.
    pub(crate) terminal: bool,
    /// Columns that a line may have.
    pub(crate) width: usize,
    colour: bool,
}

/// How a text stands out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    Bold,
    Dim,
    Note,
    Bad,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// The column with the highest rank is the first that a narrow terminal goes without. 0 always stays.
    pub(crate) rank: u8,
    /// Numbers stand on the right.
    pub(crate) right: bool,
}

impl Screen {
    /// The standard output.
    pub(crate) fn stdout() -> Screen {
        let terminal = io::stdout().is_terminal();
        let width = Table::new().width().map_or(0, usize::from);
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Screen {
            terminal,
            // A terminal that does not know its width says 0.
            width: if width == 0 { DEFAULT_WIDTH } else { width.max(NARROWEST) },
            colour: terminal && !dumb && !set("NO_COLOR"),
        }
    }

    /// A file, which gets everything as it is.
    pub(crate) fn file() -> Screen {
        Screen { terminal: false, width: DEFAULT_WIDTH, colour: false }
    }

    /// A screen of this width without colours.
    #[cfg(test)]
    pub(crate) fn plain(width: usize) -> Screen {
        Screen { terminal: true, width, colour: false }
    }

    /// The text in a colour, if there are colours.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Note => 33,
            Style::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A table no wider than this, if its columns can be made to fit; `None` for one that has all of
    /// every text.
    pub(crate) fn table(self, columns: &[Column], rows: Vec<Vec<String>>, limit: Option<usize>) -> String {
        let mut table = Table::new();
        table.force_no_tty().load_style(NOTHING);
        table.set_header(columns.iter().map(|column| {
            let cell = Cell::new(column.title);
            if self.colour { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        if self.colour {
            table.enforce_styling();
        }
        for cells in rows {
            let mut row = Row::from(cells);
            row.max_height(1);
            table.add_row(row);
        }
        let widths = widths(columns, table.column_max_content_widths(), limit);
        for ((column, shown), wanted) in table.column_iter_mut().zip(widths).zip(columns) {
            column.set_padding((0, GAP));
            let width = shown.map(|width| ColumnConstraint::Absolute(Width::Fixed(width + GAP)));
            column.set_constraint(width.unwrap_or(ColumnConstraint::Hidden));
            column.set_cell_alignment(if wanted.right { CellAlignment::Right } else { CellAlignment::Left });
        }
        table.set_truncation_indicator("…");
        table.trim_fmt() + "\n"
    }

    /// Names and what they stand for, wrapped to the width.
    pub(crate) fn list(self, entries: &[(&str, String)]) -> String {
        let longest = entries.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut out = String::new();
        for (name, text) in entries {
            let mut head = self.paint(Style::Dim, &format!("  {name:<longest$}  "));
            for line in wrap(text, self.width.saturating_sub(longest + 4)) {
                out.push_str(&format!("{head}{line}\n"));
                head = " ".repeat(longest + 4);
            }
        }
        out
    }
}

/// Columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    let mut table = Table::new();
    table.add_row([text]);
    table.column_max_content_widths().first().copied().map_or(0, usize::from)
}

/// As much of the text as fits, with a mark where something is missing.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = take(text, columns.saturating_sub(1)).to_owned();
    out.push('…');
    out
}

/// The text in lines of no more than so many columns, broken at spaces where there are any.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<&str> {
    let (mut lines, mut rest) = (Vec::new(), text);
    loop {
        let line = take(rest, columns.max(1));
        if line.is_empty() || line.len() == rest.len() {
            lines.push(rest);
            return lines;
        }
        let end = line.rfind(' ').filter(|&at| at > 0).unwrap_or(line.len());
        lines.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(' ');
    }
}

/// Whether writing failed because the reader has seen enough (`| head`): that is no error.
pub(crate) fn reader_left(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

const DEFAULT_WIDTH: usize = 100;
/// Below this nothing can be laid out; lines are left to the terminal to break.
const NARROWEST: usize = 40;
/// Spaces between two columns of a table.
const GAP: u16 = 2;
/// A column is not made narrower than this.
const LEAST: u16 = 6;

/// How wide each column becomes; `None` for the columns that are left out.
fn widths(columns: &[Column], content: Vec<u16>, limit: Option<usize>) -> Vec<Option<u16>> {
    let mut shown: Vec<Option<u16>> = content.into_iter().map(Some).collect();
    let Some(limit) = limit else { return shown };
    let total = |shown: &[Option<u16>]| {
        let gaps = usize::from(GAP) * shown.iter().flatten().count().saturating_sub(1);
        shown.iter().flatten().map(|&width| usize::from(width)).sum::<usize>() + gaps
    };
    while total(&shown) > limit {
        let last = (0..shown.len()).filter(|&i| shown[i].is_some()).max_by_key(|&i| columns[i].rank);
        match last {
            Some(last) if columns[last].rank > 0 => shown[last] = None,
            _ => break,
        }
    }
    while total(&shown) > limit {
        let over = u16::try_from(total(&shown) - limit).unwrap_or(u16::MAX);
        match shown.iter_mut().flatten().max() {
            Some(widest) if *widest > LEAST => *widest = widest.saturating_sub(over).max(LEAST),
            _ => break,
        }
    }
    shown
}

/// The beginning of a text that takes no more columns than these.
fn take(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    for (at, c) in text.char_indices() {
        taken += width(c.encode_utf8(&mut [0; 4]));
        if taken > columns {
            return &text[..at];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_of_texts() {
        assert_eq!((width("abc"), width("é"), width("山田")), (3, 1, 4));
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("山田山田", 6), "山田…");
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("recordings/2026", 8), ["recordin", "gs/2026"]);
        assert_eq!(wrap("", 8), [""]);
    }

    #[test]
    fn a_table_that_fits() {
        let column = |title, rank, right| Column { title, rank, right };
        let columns = [column("id", 0, false), column("n", 2, true), column("file", 1, false)];
        let rows = vec![vec!["0a1b".to_owned(), "7".to_owned(), "recordings/x.wav".to_owned()]];
        let show = |limit| Screen::plain(80).table(&columns, rows.clone(), limit);
        assert_eq!(show(None), "id    n  file\n0a1b  7  recordings/x.wav\n");
        assert_eq!(show(Some(25)), show(None));
        assert_eq!(show(Some(24)), "id    file\n0a1b  recordings/x.wav\n");
        assert_eq!(show(Some(21)), "id\n0a1b\n");
        let columns = [column("id", 0, false), column("file", 0, false)];
        let rows = vec![vec!["0a1b".to_owned(), "recordings/x.wav".to_owned()]];
        assert_eq!(Screen::plain(80).table(&columns, rows, Some(16)), "id    file\n0a1b  recording…\n");
    }
}
