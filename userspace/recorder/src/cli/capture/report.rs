//! What a capture tells while it goes on: a line for people, a stream of objects for machines.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde_json::{Map, Value, json};
use spantape_core::time::{SECOND, Timestamp};
use spantape_sieve::{COUNT_NO_SOCKET, Class};
use spantape_store::Recovered;

use super::printer::{Printer, Say};
use crate::archivist::Done;
use crate::cli::terminal::clean;
use crate::cli::{summary, when};
use crate::control::Server;
use crate::live::{Ended, Figures};
use crate::source::interface::{Interface, LinkEvent};
use crate::source::listen::Means;
use crate::source::tap::{Counts, Lost};

/// Something that was completed, to be printed elsewhere.
pub(super) enum Frozen {
    Call(Value),
    Recording { value: Value, line: String },
}

/// Tells people on the terminal, or machines on the standard output.
pub(super) struct Report {
    json: bool,
    archive: PathBuf,
    printer: Printer,
    frames: u64,
    looked: Instant,
}

impl From<Done<'_>> for Frozen {
    fn from(done: Done<'_>) -> Frozen {
        match done {
            Done::Call(row) => Frozen::Call(json!({
                "event": "call",
                "call": row.id.to_string(),
                "call_id": row.call_id,
                "from": row.from.user,
                "to": row.to.user,
                "start": rfc3339(row.start),
                "answered": row.answer.map(rfc3339),
                "ended": rfc3339(row.end),
                "end_reason": row.end_reason.as_str(),
                "status": row.status,
                "action": row.action,
                "rule": row.rule,
                "recordings": row.recordings,
            })),
            Done::Recording(row, saved) => {
                let seconds = row.frames as f64 / f64::from(row.sample_rate.max(1));
                let length = when::clock((seconds * SECOND as f64) as i64, 1);
                let line = format!(
                    "{}  {} -> {}  {length}  {}",
                    when::utc(row.start, 0),
                    row.from.user,
                    row.to.user,
                    saved.file
                );
                let value = json!({
                    "event": "recording",
                    "recording": row.id.to_string(),
                    "call": row.call.to_string(),
                    "call_id": row.call_id,
                    "from": row.from.user,
                    "to": row.to.user,
                    "start": rfc3339(row.start),
                    "duration_s": (seconds * 1000.0).round() / 1000.0,
                    "trigger": row.trigger,
                    "rule": row.rule,
                    "codecs": row.codecs,
                    "end_reason": row.end_reason.as_str(),
                    "file": saved.file,
                    "bytes": saved.bytes,
                });
                Frozen::Recording { value, line: clean(&line) }
            }
        }
    }
}

impl Report {
    pub(super) fn new(json: bool, archive: &Path) -> Report {
        let printer = Printer::new(!json);
        Report { json, archive: archive.to_owned(), printer, frames: 0, looked: Instant::now() }
    }

    pub(super) fn started(&self, interface: &Interface, means: &Means) {
        let name = &interface.name;
        let text = match means {
            Means::Xdp { mode, zero_copy, queues } => {
                let copy = if *zero_copy { "zero-copy" } else { "copy mode" };
                let plural = if *queues == 1 { "" } else { "s" };
                format!("listening to {name} by AF_XDP: {mode} XDP, {copy}, {queues} queue{plural}")
            }
            Means::Packet { instead: None } => format!("listening to {name} by AF_PACKET"),
            Means::Packet { instead: Some(why) } => {
                format!("listening to {name} by AF_PACKET, as AF_XDP is not to be had: {why}")
            }
        };
        let value = match means {
            Means::Xdp { mode, zero_copy, queues } => {
                json!({ "source": "xdp", "mode": mode, "zero_copy": zero_copy, "queues": queues })
            }
            Means::Packet { instead } => json!({ "source": "packet", "instead_of_xdp_because": instead }),
        };
        self.say("started", value, &text, &[("interface", json!(name)), ("archive", json!(self.archive))]);
    }

    /// What an earlier process was in the middle of when it was killed, and how many of its calls are still up.
    pub(super) fn recovered(&self, recovered: &Recovered, goes_on: usize) {
        if recovered.is_empty() && goes_on == 0 {
            return;
        }
        let files: Vec<&str> = recovered.recordings.iter().map(|(_, saved)| saved.file.as_str()).collect();
        let value = json!({ "calls_up": goes_on, "recordings": files, "rows": recovered.rows });
        let text = format!("{}; {goes_on} calls that were up are followed on", recovered.text());
        self.say("recovered", value, &text, &[]);
    }

    /// The interface has other uses.
    pub(super) fn shared(&self, interface: &Interface) {
        let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
        let text = format!(
            "{} has the address {}: what is not needed goes on to this machine, as with --pass-rest",
            interface.name,
            addresses.join(", ")
        );
        self.say("shared", json!({ "addresses": addresses }), &text, &[]);
    }

    /// Where it may be told what to do.
    pub(super) fn control(&self, control: &Server) {
        let (socket, listen) = control.addresses();
        let listen = listen.map(|listen| listen.to_string());
        let mut value = json!({ "socket": socket, "listen": listen });
        let socket = socket.map(|socket| socket.display().to_string());
        let at = [socket, listen].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        let text = match &control.problem {
            Some(problem) => {
                value["problem"] = json!(problem);
                format!("it records, but `spantape ctl` finds no socket: {problem}")
            }
            None if at.is_empty() => return,
            None => format!("`spantape ctl` is answered at {at}"),
        };
        self.say("control", value, &text, &[]);
    }

    pub(super) fn completed(&self, done: Frozen) {
        match done {
            Frozen::Call(value) => self.print(&value),
            Frozen::Recording { value, .. } if self.json => self.print(&value),
            Frozen::Recording { line, .. } => self.printer.say(Say::Out(line)),
        }
    }

    pub(super) fn link(&self, event: LinkEvent) {
        let (state, text) = match event {
            LinkEvent::Up => ("up", "the link is up again"),
            LinkEvent::Down => ("down", "the link is down: nothing is heard until it comes up again"),
            LinkEvent::Gone => ("gone", "the interface is gone"),
        };
        self.say("link", json!({ "state": state }), text, &[]);
    }

    pub(super) fn rules(&self, outcome: Result<&Path, String>) {
        match outcome {
            Ok(path) => {
                let text = format!("{}: these rules hold for calls that begin from now on", path.display());
                self.say("rules", json!({ "ok": true }), &text, &[]);
            }
            Err(problem) => {
                if self.json {
                    // Somebody who has just changed them looks for this here.
                    self.printer.say(Say::Err(format!("spantape: {}", clean(&problem))));
                }
                self.say("rules", json!({ "ok": false, "problem": problem }), &problem, &[]);
            }
        }
    }

    pub(super) fn stopping(&self) {
        self.say("stopping", json!({}), "completing what is going on; a second signal ends at once", &[]);
    }

    pub(super) fn status(&mut self, figures: &Figures, counts: &Counts) {
        let frames = figures.frames.load(Relaxed);
        let seconds = self.looked.elapsed().as_secs_f64().max(0.001);
        let rate = (frames.saturating_sub(self.frames) as f64 / seconds).round();
        (self.frames, self.looked) = (frames, Instant::now());
        let lost = figures.lost.now();
        let step = figures.clock_step.load(Relaxed) as f64 / SECOND as f64;
        let (up, recordings) = (figures.calls_up.load(Relaxed), figures.recordings.load(Relaxed));
        let free = free(&self.archive);
        if self.json {
            self.print(&json!({
                "event": "status",
                "at": now(),
                "calls_up": up,
                "calls": figures.calls.load(Relaxed),
                "recordings": recordings,
                "frames": frames,
                "frames_per_s": rate,
                "classes": classes(counts),
                "drops": drops(lost, counts),
                "disk_free": free,
                "refused": figures.refused.load(Relaxed),
                "unwritten": figures.unwritten.load(Relaxed),
                "clock_step_s": step,
                "unprinted": self.printer.unsaid(),
            }));
            return;
        }
        let mut text = format!("calls up: {up}, recordings: {recordings}, frames/s: {rate}");
        for (what, count) in [("ring", lost.ring), ("queue", lost.queue), ("interface", lost.interface)] {
            if count > 0 {
                text.push_str(&format!(", {count} lost ({what})"));
            }
        }
        for (count, what) in [
            (figures.refused.load(Relaxed), "recordings refused: the disk is nearly full"),
            (figures.unwritten.load(Relaxed), "writes failed"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        if let Some(free) = free {
            text.push_str(&format!(", {:.1} GiB free", free as f64 / f64::from(1 << 30)));
        }
        if step != 0.0 {
            text.push_str(&format!(", the wall clock was set by {step:+.1} s"));
        }
        self.printer.say(Say::Status(text));
    }

    pub(super) fn ended(&self, ended: &Ended, counts: &Counts) {
        let figures = ended.pipeline.figures();
        if !self.json {
            let mut text = summary::text(&figures);
            for (class, count) in Class::ALL.iter().zip(counts).filter(|(_, count)| **count > 0) {
                text.push_str(&format!("{:<12} {count} {}\n", "sieve", class.as_str()));
            }
            self.printer.say(Say::Out(text.trim_end().to_owned()));
            return;
        }
        let problems: Vec<String> = ended.problem.iter().map(ToString::to_string).collect();
        let mut value = summary::json(&figures, &problems);
        value["event"] = json!("summary");
        value["classes"] = classes(counts);
        value["drops"] = drops(figures.missed, counts);
        if let Some(frames) = ended.frames {
            let leaked = frames.all.saturating_sub(frames.kernel + frames.free);
            value["umem"] = json!({ "frames": frames.all, "kernel": frames.kernel, "leaked": leaked });
        }
        self.print(&value);
    }

    fn say(&self, event: &str, mut value: Value, text: &str, more: &[(&str, Value)]) {
        if !self.json {
            self.printer.say(Say::Err(format!("spantape: {}", clean(text))));
            return;
        }
        value["event"] = json!(event);
        value["at"] = json!(now());
        for (name, what) in more {
            value[*name] = what.clone();
        }
        self.print(&value);
    }

    fn print(&self, value: &Value) {
        if self.json {
            self.printer.say(Say::Out(value.to_string()));
        }
    }
}

fn classes(counts: &Counts) -> Value {
    let each = Class::ALL.iter().zip(counts);
    each.map(|(class, count)| (class.as_str().to_owned(), json!(count))).collect::<Map<_, _>>().into()
}

fn drops(lost: Lost, counts: &Counts) -> Value {
    let no_socket = counts.get(COUNT_NO_SOCKET as usize).copied().unwrap_or_default();
    json!({ "interface": lost.interface, "ring": lost.ring, "queue": lost.queue, "no_socket": no_socket })
}

/// Bytes that the archive may still grow by.
fn free(archive: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(archive).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(at.0.into()).map_or_else(|_| String::new(), |at| at.to_string())
}
