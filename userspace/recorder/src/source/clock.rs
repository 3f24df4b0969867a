//! The time of live frames: steady, whatever happens to the wall clock.
//!
//! A recording must neither stretch nor tear because somebody, or NTP, sets the clock while it goes on. So time
//! runs by `CLOCK_MONOTONIC`, and the wall clock is only asked how far that is from it. A clock that is put
//! forward is followed once no call is up; one that is put back is not: time does not run backwards here.

use rustix::time::{ClockId, clock_gettime};
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};

/// A wall clock that is off by less is not said to have been set.
const STEP: i64 = 500 * MILLISECOND;

/// From the kernel's clocks to time stamps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What lies between `CLOCK_MONOTONIC` and the time stamps.
    offset: i64,
}

impl Clock {
    /// Goes by the wall clock as it is now.
    pub(crate) fn new() -> Clock {
        Clock { offset: wall_offset() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        self.at_monotonic(read(ClockId::Monotonic))
    }

    /// A time of `CLOCK_MONOTONIC`.
    pub(crate) fn at_monotonic(&self, nanoseconds: i64) -> Timestamp {
        Timestamp(nanoseconds.saturating_add(self.offset))
    }

    /// What is to be added to a recent time of `CLOCK_REALTIME`.
    pub(crate) fn correction(&self) -> i64 {
        self.offset.saturating_sub(wall_offset())
    }

    /// By how much the wall clock has been set since it was last followed: nanoseconds, 0 if it has not been.
    pub(crate) fn step(&self) -> i64 {
        match self.correction().saturating_neg() {
            step if step.saturating_abs() < STEP => 0,
            step => step,
        }
    }

    /// Follows a wall clock that has been put forward. No call may be up.
    pub(crate) fn follow(&mut self) {
        self.offset = self.offset.max(wall_offset());
    }
}

/// Now, by `CLOCK_MONOTONIC`.
pub(crate) fn monotonic() -> i64 {
    read(ClockId::Monotonic)
}

/// Two clocks that are read within so many nanoseconds are read at the same time.
const TOGETHER: i64 = 20_000;
const TRIES: usize = 8;

/// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`.
fn wall_offset() -> i64 {
    let mut best = (i64::MAX, 0);
    for _ in 0..TRIES {
        let before = read(ClockId::Monotonic);
        let wall = read(ClockId::Realtime);
        let took = read(ClockId::Monotonic).saturating_sub(before);
        // Something may have come between: the shortest look is the truest.
        best = best.min((took, wall.saturating_sub(before).saturating_sub(took / 2)));
        if took < TOGETHER {
            break;
        }
    }
    best.1
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_say_the_same() {
        let clock = Clock::new();
        let wall = read(ClockId::Realtime);
        assert!((clock.now().0 - wall).abs() < STEP);
        assert!(clock.correction().abs() < STEP && clock.step() == 0);
    }

    #[test]
    fn a_clock_that_is_put_forward_is_followed_and_one_that_is_put_back_is_not() {
        let mut slow = Clock { offset: wall_offset() - 3600 * SECOND };
        assert!((slow.step() - 3600 * SECOND).abs() < STEP);
        slow.follow();
        assert_eq!(slow.step(), 0);
        let mut fast = Clock { offset: wall_offset() + 3600 * SECOND };
        fast.follow();
        assert!((fast.step() + 3600 * SECOND).abs() < STEP);
        assert!((fast.now().0 - read(ClockId::Realtime) - 3600 * SECOND).abs() < STEP);
    }
}
