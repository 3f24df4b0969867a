//! How long what is kept, and that it goes: with a tombstone, and never what is under a legal hold.

pub mod hold;
mod kept;
mod purge;
mod rows_of_calls;

use std::collections::BTreeMap;

pub use hold::{Held, Hold};
#[cfg(feature = "remote")]
pub(crate) use purge::named as files_of;
pub use purge::{Doomed, Plan, Purged, Wanted, plan, purge};
pub(crate) use rows_of_calls::recover;

/// How many days what is kept; `None` is for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Recordings of rules that say nothing.
    pub recordings: Option<u32>,
    /// Recordings by the name of their rule.
    pub by_rule: BTreeMap<String, u32>,
    /// What the catalog says of calls of which there is no recording any more.
    pub catalog: Option<u32>,
}

impl Retention {
    /// Days for a recording of that rule.
    fn of(&self, rule: &str) -> Option<u32> {
        self.by_rule.get(rule).copied().or(self.recordings)
    }

    /// The least that anything is kept.
    fn least(&self) -> Option<u32> {
        self.by_rule.values().copied().chain(self.recordings).min()
    }

    /// Whether everything is kept for ever.
    pub fn is_for_ever(&self) -> bool {
        self.least().is_none() && self.catalog.is_none()
    }
}
