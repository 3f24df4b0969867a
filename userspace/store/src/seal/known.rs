//! What manifests have sealed, and what tombstones say of that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::chain::of_each_node;
use super::{Change, Entry, grows, key};
use crate::error::Result;
use crate::journal::{self, Book, Deletion};
use crate::place::Place;
use crate::schema::Table;

/// What is sealed, as far as manifests have been read.
#[derive(Default)]
pub(super) struct Known {
    pub(super) files: BTreeMap<String, Held>,
}

/// A file that is sealed.
pub(super) struct Held {
    pub(super) entry: Entry,
    /// What was sealed of it before, if it grows: lengths and hashes.
    pub(super) before: Vec<(u64, String)>,
    /// Where the journal of its chain lies.
    journal: Arc<str>,
    /// How many bytes of tombstones had been sealed with it: what they say is of what was there before.
    told: u64,
}

impl Known {
    /// Takes what a manifest says, by whose archive the journal in that directory was kept.
    pub(super) fn take(&mut self, journal: &Arc<str>, changes: Vec<Change>) {
        let book = deletions(journal);
        let told = changes.iter().rev().find_map(|change| match change {
            Change::Added(entry) if entry.path == book => Some(entry.bytes),
            _ => None,
        });
        let told = told.unwrap_or_else(|| self.bytes(&book));
        for change in changes {
            match change {
                Change::Added(entry) => {
                    let last = self.files.remove(&entry.path).filter(|_| grows(&entry.path));
                    let before = last.map(|last| {
                        let mut before = last.before;
                        before.push((last.entry.bytes, last.entry.sha256));
                        before
                    });
                    let before = before.unwrap_or_default();
                    let held = Held { entry, before, journal: journal.clone(), told };
                    self.files.insert(held.entry.path.clone(), held);
                }
                Change::Removed(removal) => _ = self.files.remove(&removal.entry.path),
                Change::Row(_) => {}
            }
        }
    }

    /// How much of a file is sealed.
    fn bytes(&self, path: &str) -> u64 {
        self.files.get(path).map_or(0, |held| held.entry.bytes)
    }
}

/// What tombstones say of files and rows.
pub(super) struct Tombstones {
    told: Vec<Told>,
    /// By path: hashes, and which has told of it.
    files: HashMap<String, Vec<(u128, usize)>>,
    /// By ids of recordings.
    rows: HashMap<u128, usize>,
}

/// What is said of something that has gone.
pub(super) struct Told {
    pub(super) reason: String,
    pub(super) at: String,
    /// Whether it is sealed that it has been said.
    pub(super) is_sealed: bool,
    journal: Arc<str>,
    /// Where it ends in the book.
    end: u64,
}

impl Tombstones {
    pub(super) fn read(archive: &Place, known: &Known) -> Result<Tombstones> {
        let mut all = Tombstones { told: Vec::new(), files: HashMap::new(), rows: HashMap::new() };
        for dir in of_each_node(archive, journal::DIRECTORY)? {
            let name: Arc<str> = dir.as_str().into();
            let sealed = known.bytes(&deletions(&name));
            journal::each(archive, &dir, &Book::Deletions, |deletion: Deletion, end| {
                let index = all.told.len();
                for entry in deletion.files.into_iter().filter(|entry| may_go(&entry.path)) {
                    all.files.entry(entry.path).or_default().push((key(&entry.sha256), index));
                }
                all.rows.extend(deletion.rows.iter().map(|id| (key(id), index)));
                let Deletion { reason, at, .. } = deletion;
                all.told.push(Told { reason, at, is_sealed: end <= sealed, journal: name.clone(), end });
            })?;
        }
        Ok(all)
    }

    /// Why a file that was sealed has gone. What was said before it was sealed, or of another one, is not of it.
    pub(super) fn of(&self, held: &Held) -> Option<&Told> {
        let is_of_it = |told: &&Told| told.journal == held.journal && told.end > held.told;
        self.of_path(&held.entry.path, &held.entry.sha256).find(is_of_it)
    }

    /// Why a file has gone that no manifest has, if its hash is known, of that hash.
    pub(super) fn of_unsealed(&self, path: &str, sha256: &str) -> Option<&Told> {
        self.of_path(path, sha256).next()
    }

    /// Why the row of a recording has gone, by its [`key`].
    pub(super) fn of_row(&self, id: u128) -> Option<&Told> {
        self.rows.get(&id).map(|&index| &self.told[index])
    }

    /// The last first.
    fn of_path(&self, path: &str, sha256: &str) -> impl Iterator<Item = &Told> {
        let wanted = Some(sha256).filter(|sha256| !sha256.is_empty()).map(key);
        let told = self.files.get(path).into_iter().flatten().rev();
        let told = told.filter(move |(hash, _)| wanted.is_none_or(|wanted| wanted == *hash));
        told.map(move |&(_, index)| &self.told[index])
    }
}

/// Whether a tombstone can say that a file has gone: what is said of it, and who has looked, stays.
fn may_go(path: &str) -> bool {
    ["recordings/", "keys/", "catalog/"].iter().any(|dir| path.starts_with(dir))
}

fn deletions(journal: &str) -> String {
    format!("{journal}/{}", Book::Deletions.name())
}

/// Tables whose rows are sealed one by one.
const BY_ROWS: [Table; 3] = [Table::Recordings, Table::Calls, Table::Events];

/// The table of which a file has rows that are sealed one by one.
pub(super) fn table_of_part(path: &str) -> Option<Table> {
    let table = path.strip_prefix("catalog/").filter(|_| path.ends_with(".parquet"))?.split('/').next()?;
    BY_ROWS.into_iter().find(|known| known.as_str() == table)
}

/// Whether a file has rows of the table of recordings.
pub(crate) fn is_part_of_recordings(path: &str) -> bool {
    table_of_part(path) == Some(Table::Recordings)
}
