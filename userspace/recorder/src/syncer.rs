//! What has been written is on the disk a second later, whatever then happens to the machine.
//!
//! The kernel may keep what is written to itself for half a minute. A thread of its own asks it for more haste, so that
//! nobody who records waits for a disk.

use std::fs::File;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// Sees to it until it is dropped.
pub(crate) struct Syncer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Begins with the file system of an archive, which must be there.
    pub(crate) fn start(archive: &Path) -> Result<Syncer> {
        let dir = File::open(archive).with_context(|| format!("{}: cannot be opened", archive.display()))?;
        let (stop, stopped) = bounded::<()>(0);
        let thread = thread::spawn(move || {
            let mut failed = false;
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                match rustix::fs::syncfs(&dir) {
                    Ok(()) => failed = false,
                    // Once is enough, until it has gone well in between.
                    Err(error) if !std::mem::replace(&mut failed, true) => {
                        eprintln!("spantape: warning: the disk does not keep what is written: {error}");
                    }
                    Err(_) => {}
                }
            }
        });
        Ok(Syncer { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It has nothing to say that would matter now.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
