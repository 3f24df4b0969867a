//! Room on the disk: who may still begin a recording, and what could not be written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long what the file system has said is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// Keeps an eye on the disk of an archive.
#[derive(Debug)]
pub(crate) struct Room {
    archive: PathBuf,
    /// Bytes that are to stay free for what has begun already.
    reserve: u64,
    free: Option<(Instant, u64)>,
}

/// What could not be kept because the disk was full, or would not have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Recordings that were not begun.
    pub refused: u64,
    /// Frames of audio that could not be written: silence stands in their place.
    pub frames: u64,
    /// Attempts that failed, of all kinds.
    pub failures: u64,
    /// What the system said to the last of them.
    pub said: String,
}

impl Room {
    pub(crate) fn new(archive: &Path, reserve: u64) -> Room {
        Room { archive: archive.to_owned(), reserve, free: None }
    }

    /// Whether a recording by the `rank`-th of so many rules may begin. The less room there is the fewer rules have it:
    /// the last rule none once less than twice the reserve is free, the first one none once less than the reserve is.
    pub(crate) fn admits(&mut self, rank: usize, of: usize) -> bool {
        let share = u128::from(self.reserve) * rank.min(of) as u128 / of.max(1) as u128;
        u128::from(self.free()) >= u128::from(self.reserve) + share
    }

    /// Bytes that are free; where that cannot be told, all there could be.
    fn free(&mut self) -> u64 {
        match self.free {
            Some((at, free)) if at.elapsed() < BELIEVED => free,
            _ => {
                let stat = rustix::fs::statvfs(&self.archive);
                let free = stat.map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
                self.free = Some((Instant::now(), free));
                free
            }
        }
    }
}

impl Shortage {
    /// Takes note of a failure. One that has another cause than the disk is passed on.
    pub(crate) fn note(&mut self, result: Result<()>) -> Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(error @ (Error::Io { .. } | Error::Parquet { .. })) => {
                self.failures += 1;
                self.said = error.to_string();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_has_the_last_room() {
        let room = |free| Room {
            archive: PathBuf::new(),
            reserve: 1000,
            free: Some((Instant::now() + Duration::from_secs(60), free)),
        };
        let admitted = |free| (0..=4).filter(|&rank| room(free).admits(rank, 4)).collect::<Vec<_>>();
        assert_eq!(admitted(2000), [0, 1, 2, 3, 4]);
        assert_eq!(admitted(1999), [0, 1, 2, 3]);
        assert_eq!(admitted(1250), [0, 1]);
        assert_eq!(admitted(1000), [0]);
        assert!(admitted(999).is_empty());
        assert!(Room::new(Path::new("/"), 0).admits(0, 0));
    }
}
