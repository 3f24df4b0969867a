//! The capture's clock.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// One second in nanoseconds.
pub const SECOND: i64 = 1_000_000_000;
/// One millisecond in nanoseconds.
pub const MILLISECOND: i64 = 1_000_000;

/// A moment in the capture's own time: nanoseconds since the Unix epoch, UTC.
///
/// The core never asks a clock. Every moment it knows was made by a source from a frame's stamp, so a
/// replay runs through the same timers as the live capture did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// A moment that lies after every other: "no timer is set".
    pub const FAR_FUTURE: Timestamp = Timestamp(i64::MAX);

    /// Nanoseconds from `earlier` to `self`; negative when `earlier` is the later one.
    pub fn since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<i64> for Timestamp {
    type Output = Timestamp;
    fn add(self, nanoseconds: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(nanoseconds))
    }
}

impl Sub<i64> for Timestamp {
    type Output = Timestamp;
    fn sub(self, nanoseconds: i64) -> Timestamp {
        Timestamp(self.0.saturating_sub(nanoseconds))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ns) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND));
        write!(f, "{s}.{ns:09}")
    }
}
