//! `spantape doctor`: whether this machine can record, and what to change if it cannot.

mod port;
mod system;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use super::PARTLY;
use super::terminal::{Screen, Style, clean, clean_json, reader_left, wrap};
use crate::source::interface::Interface;

/// Check whether this machine can record: kernel, privileges, interfaces, disk, clock
///
/// Changes nothing. What is wrong comes with the command to type, or with what to change.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  spantape doctor
  sudo spantape doctor --interface eth1 --archive /srv/calls
  spantape doctor --interface eth1 --interface eth2 --json | jq '.[] | select(.state != \"ok\")'

Exit code: 0 nothing failed (there may be warnings), 1 something failed, 2 it could not be checked.")]
pub(crate) struct Args {
    /// An interface to record from; may be given several times. Without it, all but the loopback are checked
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// Where recordings are to lie; without it, the current directory
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: Option<PathBuf>,
    /// Print an array of objects with check, interface, state, found and remedy
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let archive = args.archive.clone().unwrap_or_else(|| PathBuf::from("."));
    let mut lines = system::System::look(&archive).lines();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    lines.extend(runtime.context("start the runtime that asks the kernel")?.block_on(interfaces(args)));
    let text = if args.json { as_json(&lines)? } else { as_text(Screen::stdout(), &lines) };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(anyhow::Error::from) {
        Err(error) if !reader_left(&error) => Err(error),
        _ if lines.iter().any(|line| line.state == State::Fail) => Ok(ExitCode::from(PARTLY)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// What a check has come to.
#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    state: State,
    found: String,
    /// What is to be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Recording works, but not as well as it could.
    Warn,
    /// Recording does not work.
    Fail,
}

impl Line {
    fn ok(check: &'static str, found: impl Into<String>) -> Line {
        Line { check, interface: None, state: State::Ok, found: found.into(), remedy: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Line {
        Line { state: State::Warn, remedy: Some(remedy.into()), ..Line::ok(check, found) }
    }

    fn fail(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Line {
        Line { state: State::Fail, ..Line::warn(check, found, remedy) }
    }

    fn of(self, interface: &str) -> Line {
        Line { interface: Some(interface.to_owned()), ..self }
    }
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

async fn interfaces(args: &Args) -> Vec<Line> {
    let mut lines = Vec::new();
    let asked = !args.interface.is_empty();
    let names = if asked { Ok(args.interface.clone()) } else { Interface::names().await };
    for name in names.as_deref().unwrap_or_default() {
        match Interface::look(name).await {
            Ok(interface) if interface.loopback && !asked => {}
            Ok(interface) => lines.extend(port::Port::look(interface, asked).await.lines()),
            Err(error) => lines.push(port::unknown(error).of(name)),
        }
    }
    if let Err(error) = names {
        lines.push(port::unknown(error));
    } else if lines.is_empty() {
        lines.push(port::none());
    }
    lines
}

fn as_json(lines: &[Line]) -> Result<String> {
    Ok(clean_json(&serde_json::to_string_pretty(lines)?) + "\n")
}

/// The machine first, then each interface under its name.
fn as_text(screen: Screen, lines: &[Line]) -> String {
    let longest = lines.iter().map(|line| line.check.len()).max().unwrap_or_default();
    let indent = STATE + longest + GAP;
    let mut out = String::new();
    let mut under = None;
    for line in lines {
        if line.interface.is_some() && line.interface != under {
            under.clone_from(&line.interface);
            let name = clean(under.as_deref().unwrap_or_default());
            out.push_str(&format!("\n{}\n", screen.paint(Style::Bold, &name)));
        }
        let style = match line.state {
            State::Ok => Style::Dim,
            State::Warn => Style::Note,
            State::Fail => Style::Bad,
        };
        let state = screen.paint(style, &format!("{:<STATE$}", line.state.as_str()));
        let mut head = format!("{state}{:<longest$}{:GAP$}", line.check, "");
        let remedy = line.remedy.as_ref().map(|remedy| format!("-> {}", clean(remedy)));
        for text in [Some(clean(&line.found)), remedy].into_iter().flatten() {
            for part in wrap(&text, screen.width.saturating_sub(indent)) {
                out.push_str(&format!("{head}{part}\n"));
                head = " ".repeat(indent);
            }
        }
    }
    let count = |state| lines.iter().filter(|line| line.state == state).count();
    let (ok, warn, fail) = (count(State::Ok), count(State::Warn), count(State::Fail));
    out.push_str(&format!("\n{ok} ok, {warn} warn, {fail} fail\n"));
    out
}

/// Columns of a state and what follows it.
const STATE: usize = 6;
/// Spaces after a check's name.
const GAP: usize = 2;

#[cfg(test)]
mod tests {
    use super::super::terminal;
    use super::*;

    fn lines() -> Vec<Line> {
        vec![
            Line::ok("kernel", "6.12.0"),
            Line::fail(
                "link",
                "is switched off",
                "sudo ip link set dev eth1 up, and see that the mirror is plugged in",
            )
            .of("eth1"),
            Line::warn("queues", "a\x1b[2J", "b").of("eth1"),
        ]
    }

    #[test]
    fn as_text_that_fits() {
        for width in [40, 60, 100] {
            let text = as_text(Screen::plain(width), &lines());
            let widest = text.lines().map(terminal::width).max().unwrap();
            assert!(widest <= width && !text.contains('\x1b'), "{width}:\n{text}");
            assert_eq!(text.matches("\neth1\n").count(), 1, "{text}");
            assert!(text.starts_with("ok    kernel  6.12.0\n"), "{text}");
            assert!(text.ends_with("\n1 ok, 1 warn, 1 fail\n"), "{text}");
        }
        let text = as_text(Screen::plain(100), &lines());
        assert!(text.contains("fail  link    is switched off\n              -> sudo ip link set"), "{text}");
    }

    #[test]
    fn as_json_without_what_is_not_there() {
        let json: serde_json::Value = serde_json::from_str(&as_json(&lines()).unwrap()).unwrap();
        assert_eq!(json[0], serde_json::json!({ "check": "kernel", "state": "ok", "found": "6.12.0" }));
        assert_eq!(json[1]["interface"], "eth1");
        assert_eq!((&json[1]["state"], &json[2]["state"]), (&"fail".into(), &"warn".into()));
        assert!(json[1]["remedy"].as_str().unwrap().contains("ip link set dev eth1 up"));
    }
}
