//! A thread of its own for what is printed: whoever reads it may be slow, or gone, and recording goes on.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints in the order in which it is told.
pub(super) struct Printer {
    say: Option<SyncSender<Say>>,
    done: Receiver<()>,
    unsaid: AtomicU64,
}

/// What is printed, without the line's end.
pub(super) enum Say {
    Out(String),
    Err(String),
    /// The line that stays at the bottom of a terminal.
    Status(String),
}

/// What may wait to be printed.
const WAITING: usize = 4096;
/// How long to wait for a reader at the end.
const PATIENCE: Duration = Duration::from_secs(5);

impl Printer {
    /// `status`: a line is shown if somebody looks.
    pub(super) fn new(status: bool) -> Printer {
        let (say, said) = sync_channel(WAITING);
        let (end, done) = channel();
        thread::spawn(move || {
            print(&said, status && io::stderr().is_terminal());
            // Nobody waits any more if this came too late.
            let _ = end.send(());
        });
        Printer { say: Some(say), done, unsaid: AtomicU64::new(0) }
    }

    /// Prints it when it is its turn; if too much waits, never.
    pub(super) fn say(&self, what: Say) {
        if self.say.as_ref().is_none_or(|say| say.try_send(what).is_err()) {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was never printed.
    pub(super) fn unsaid(&self) -> u64 {
        self.unsaid.load(Ordering::Relaxed)
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.say = None;
        let _ = self.done.recv_timeout(PATIENCE);
    }
}

fn print(said: &Receiver<Say>, status: bool) {
    let target = if status { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let line = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        line.set_style(style);
    }
    // A reader that has left is no reason to stop: the others may be there.
    while let Ok(what) = said.recv() {
        match what {
            Say::Out(text) => drop(line.suspend(|| writeln!(io::stdout(), "{text}"))),
            Say::Err(text) => drop(line.suspend(|| writeln!(io::stderr(), "{text}"))),
            Say::Status(text) => {
                line.set_message(text);
                line.tick();
            }
        }
    }
    line.finish_and_clear();
}
