//! Copying an archive to an object store, beside whoever records into it.
//!
//! What is there can be read at any moment, and whatever was interrupted is gone on with by the next round:
//!
//! - A recording, and what belongs to it, comes before the part of the catalog that names it, and all that was sealed before
//!   its manifest. So where the part or the manifest is, all of that is. What neither names is not finished, and stays here.
//! - What has gone here, and has a tombstone, goes there too: after all that takes its place has come, and the tombstone.
//!
//! Several archives can be copied to one place, each under the name of a node: it has a journal and manifests of its own
//! there, `journal/node=<name>/` and `manifests/node=<name>/`. All else they have in common, and no name comes up twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::journal::{self, Book, Deletion};
use crate::place::{Place, file_name, is_inside};
use crate::remote::{Outgoing, Remote};
use crate::seal::{Change, MANIFESTS, changes_name, hash_as_far_as, is_part_of_recordings};
use crate::{partition, retention, rows, scan};

/// An archive that is copied.
#[derive(Debug)]
pub struct Copier {
    archive: PathBuf,
    to: Remote,
    node: Option<String>,
    check: bool,
    there: There,
    /// Tombstones that have been read.
    tombstones: usize,
    /// What they name, and may be there.
    gone: BTreeSet<String>,
}

/// What a round has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files that have been sent.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were read there, and are as they are here.
    pub checked: u64,
    /// Files that have been removed there.
    pub removed: u64,
    /// What cannot be read here, and so was left out.
    pub problems: Vec<String>,
}

/// How far a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes more are to be sent, or to be read there.
    Wanted(u64),
    /// So many of them have been.
    Done(u64),
}

/// A file by its name, and its bytes.
type Named = (String, u64);

impl Copier {
    /// `node` tells apart archives that are copied to one place.
    pub fn new(archive: &Path, to: Remote, node: Option<String>) -> Result<Copier> {
        partition::check(archive)?;
        let (archive, there, gone) = (archive.to_owned(), There::default(), BTreeSet::new());
        Ok(Copier { archive, to, node, check: false, there, tombstones: 0, gone })
    }

    /// From now on reads what is there already, and sends anew what is not as it is here.
    pub fn checking(mut self) -> Copier {
        self.check = true;
        self
    }

    /// Copies what is finished and not there yet, and removes there what has gone here.
    pub fn round(&mut self, mut progress: impl FnMut(Step)) -> Result<Copied> {
        let here = Place::from(&self.archive);
        let mut round = Round { copied: Copied::default(), progress: &mut progress };
        // In this order: what has gone has been replaced by then, and what a manifest or a part names is there before it.
        let gone = self.gone()?;
        let manifests = own(here.files(&[MANIFESTS])?);
        let mut parts = here.files(&["catalog"])?;
        parts.retain(|(name, _)| partition::is_part(file_name(name)));

        // Another might be copied to the same place by mistake.
        let own_shelves = [self.target(MANIFESTS), self.target(journal::DIRECTORY)];
        self.there.forget(&own_shelves);
        self.there.list(&self.to, own_shelves.into_iter().chain(["catalog".to_owned()]))?;
        self.refuse_other_manifests(&here, &manifests)?;
        self.parts(parts, &mut round)?;
        let books = own(here.files(&[journal::DIRECTORY])?);
        self.refuse_other_books(&books)?;
        self.bring(books, &mut round)?;
        self.manifests(&here, manifests, &mut round)?;
        self.remove(&gone, &mut round)?;
        Ok(round.copied)
    }

    /// Brings parts, a day of recordings after the other.
    fn parts(&mut self, parts: Vec<Named>, round: &mut Round<'_>) -> Result<()> {
        let (recordings, others): (Vec<Named>, Vec<Named>) =
            parts.into_iter().partition(|(name, _)| is_part_of_recordings(name));
        let mut days: BTreeMap<String, Vec<Named>> = BTreeMap::new();
        for (name, bytes) in recordings {
            let day = name.split('/').nth(2).unwrap_or_default().to_owned();
            days.entry(day).or_default().push((name, bytes));
        }
        for mut parts in days.into_values() {
            let mut named = BTreeMap::new();
            parts.retain(|part| match self.named_by(part) {
                Ok(files) => {
                    named.extend(files);
                    true
                }
                Err(problem) => {
                    round.copied.problems.push(problem);
                    false
                }
            });
            self.bring(named.into_iter().collect(), round)?;
            self.bring(parts, round)?;
        }
        self.bring(others, round)
    }

    /// Brings manifests in their order, each after what it has sealed.
    fn manifests(&mut self, here: &Place, files: Vec<Named>, round: &mut Round<'_>) -> Result<()> {
        let (manifests, beside): (Vec<Named>, Vec<Named>) =
            files.into_iter().partition(|(name, _)| name.ends_with(".json"));
        for manifest in manifests {
            if self.is_news(&manifest) {
                let changes = here.read_one(&changes_name(&manifest.0))?.unwrap_or_default();
                let changes = changes.split(|&byte| byte == b'\n');
                let sealed = changes.filter_map(|line| match serde_json::from_slice(line).ok()? {
                    Change::Added(entry) if is_of_recording(&entry.path) => self.with_bytes(entry.path),
                    _ => None,
                });
                let sealed = sealed.collect();
                self.bring(sealed, round)?;
            }
            // Signature and changes, and a time stamp that may have come later.
            let stem = manifest.0.trim_end_matches("json");
            let its = beside.iter().filter(|(name, _)| name.starts_with(stem)).cloned().collect();
            self.bring(its, round)?;
            self.bring(vec![manifest], round)?;
        }
        Ok(())
    }

    /// Brings those that are not there, or, if that is to be checked, not as they are here.
    fn bring(&mut self, files: Vec<Named>, round: &mut Round<'_>) -> Result<()> {
        let shelves: BTreeSet<String> =
            files.iter().map(|(name, _)| shelf(&self.target(name)).to_owned()).collect();
        self.there.list(&self.to, shelves.iter().cloned())?;
        let (mut wanted, there): (Vec<Named>, Vec<Named>) =
            files.into_iter().partition(|file| self.is_lacking(file));
        if self.check {
            wanted.extend(self.altered(there, round)?);
        }
        let outgoing = wanted.into_iter().map(|(name, bytes)| {
            let (path, name) = (self.archive.join(&name), self.target(&name));
            Outgoing { path, name, bytes }
        });
        let outgoing: Vec<Outgoing> = outgoing.collect();
        round.tell(Step::Wanted(outgoing.iter().map(|file| file.bytes).sum()));
        let known = &mut self.there;
        self.to.send(&outgoing, |file, sent| {
            round.tell(Step::Done(file.bytes));
            if sent {
                known.put(&file.name, file.bytes);
                round.copied.files += 1;
                round.copied.bytes += file.bytes;
            }
        })?;
        self.there.keep(&shelves);
        Ok(())
    }

    /// Those whose bytes there are not what they are here.
    fn altered(&self, files: Vec<Named>, round: &mut Round<'_>) -> Result<Vec<Named>> {
        round.tell(Step::Wanted(files.iter().map(|(_, bytes)| bytes).sum()));
        let targets: Vec<Named> = files.iter().map(|(name, bytes)| (self.target(name), *bytes)).collect();
        let ours = Place::from(&self.archive).hashes(&borrowed(&files), |_| {})?;
        let theirs = self.to.hashes(&borrowed(&targets), |bytes| round.tell(Step::Done(bytes)))?;
        round.copied.checked +=
            ours.iter().zip(&theirs).filter(|(ours, theirs)| ours == theirs).count() as u64;
        let both = files.into_iter().zip(ours.into_iter().zip(theirs));
        Ok(both.filter(|(_, (ours, theirs))| ours != theirs).map(|(file, _)| file).collect())
    }

    /// Removes there what has gone here.
    fn remove(&mut self, gone: &[String], round: &mut Round<'_>) -> Result<()> {
        for names in gone.chunk_by(|a, b| shelf(a) == shelf(b)) {
            let shelves = BTreeSet::from_iter(names.iter().map(|name| shelf(name).to_owned()));
            self.there.list(&self.to, shelves.iter().cloned())?;
            let is_left =
                |name: &&String| self.there.bytes(name).is_some() && !self.archive.join(name).exists();
            let left: Vec<String> = names.iter().filter(is_left).cloned().collect();
            self.to.remove(&left)?;
            left.iter().for_each(|name| self.there.remove(name));
            names.iter().for_each(|name| _ = self.gone.remove(name));
            round.copied.removed += left.len() as u64;
            self.there.keep(&shelves);
        }
        Ok(())
    }

    /// What tombstones name and is not here any more, in order.
    fn gone(&mut self) -> Result<Vec<String>> {
        let (tombstones, _) = journal::read::<Deletion>(&self.archive, &Book::Deletions)?;
        let paths = tombstones.iter().skip(self.tombstones).flat_map(|deletion| &deletion.files);
        let ours = paths.map(|entry| &entry.path).filter(|path| is_of_recording(path) || is_of_catalog(path));
        self.gone.extend(ours.cloned());
        self.tombstones = tombstones.len();
        Ok(self.gone.iter().filter(|name| !self.archive.join(name).exists()).cloned().collect())
    }

    /// The files that a part names, if it is one of recordings that may not be there; or why it cannot be read.
    fn named_by(&self, part: &Named) -> Result<Vec<Named>, String> {
        if !self.is_news(part) {
            return Ok(Vec::new());
        }
        let path = self.archive.join(&part.0);
        match scan::whole(&path) {
            Ok(batches) => {
                let rows = batches.iter().flat_map(rows::objects);
                let files = rows.flat_map(|row| retention::files_of(&self.archive, &row));
                Ok(files.filter_map(|name| self.with_bytes(name)).collect())
            }
            // Gone meanwhile, into another part.
            Err(_) if !path.exists() => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn with_bytes(&self, name: String) -> Option<Named> {
        let bytes = fs::metadata(self.archive.join(&name)).ok()?.len();
        Some((name, bytes))
    }

    /// Whether what it names may not be there.
    fn is_news(&self, file: &Named) -> bool {
        self.check || self.is_lacking(file)
    }

    fn is_lacking(&self, (name, bytes): &Named) -> bool {
        self.there.bytes(&self.target(name)) != Some(*bytes)
    }

    /// The chain that is there must be the beginning of the one that is here.
    fn refuse_other_manifests(&self, here: &Place, files: &[Named]) -> Result<()> {
        let manifests = files.iter().map(|(name, _)| name).filter(|name| name.ends_with(".json"));
        let common = manifests.clone().rfind(|name| self.there.bytes(&self.target(name)).is_some());
        let is_other = match common {
            Some(name) => {
                let theirs = self.to.read(&[self.target(name)])?.pop().flatten();
                here.read_one(name)? != theirs
            }
            None => manifests.count() > 0 && self.there.has_any(&self.target(MANIFESTS), ".json"),
        };
        if is_other { Err(self.other(MANIFESTS)) } else { Ok(()) }
    }

    /// The journal that is there must be the beginning of the one that is here.
    fn refuse_other_books(&self, books: &[Named]) -> Result<()> {
        for (name, bytes) in books {
            let target = self.target(name);
            let Some(there) = self.there.bytes(&target).filter(|there| there != bytes) else { continue };
            let is_beginning = there < *bytes
                && self.to.hash(&target, there)? == hash_as_far_as(&self.archive.join(name), there)?;
            if !is_beginning {
                return Err(self.other(name));
            }
        }
        Ok(())
    }

    fn other(&self, name: &str) -> Error {
        Error::OtherArchive { path: self.to.path(&self.target(name)) }
    }

    /// What a file is called there.
    fn target(&self, name: &str) -> String {
        let (dir, rest) = name.split_once('/').unwrap_or((name, ""));
        match &self.node {
            Some(node) if dir == MANIFESTS || dir == journal::DIRECTORY => {
                let dir = format!("{dir}/{}", partition::node_directory(node));
                if rest.is_empty() { dir } else { format!("{dir}/{rest}") }
            }
            _ => name.to_owned(),
        }
    }
}

/// A round that goes on.
struct Round<'a> {
    copied: Copied,
    progress: &'a mut dyn FnMut(Step),
}

impl Round<'_> {
    fn tell(&mut self, step: Step) {
        if step != Step::Wanted(0) {
            (self.progress)(step);
        }
    }
}

/// What is known to be there: the files of each directory that was looked at, and those of the catalog as a whole.
#[derive(Debug, Default)]
struct There(HashMap<String, HashMap<String, u64>>);

/// Directories that are remembered.
const SHELVES: usize = 64;

impl There {
    /// Looks at directories that have not been looked at.
    fn list(&mut self, to: &Remote, shelves: impl IntoIterator<Item = String>) -> Result<()> {
        let unknown: Vec<String> = shelves.into_iter().filter(|shelf| !self.0.contains_key(shelf)).collect();
        for (shelf, files) in unknown.iter().zip(to.list(&unknown)?) {
            self.0.insert(shelf.clone(), files.into_iter().collect());
        }
        Ok(())
    }

    fn bytes(&self, name: &str) -> Option<u64> {
        self.0.get(shelf(name))?.get(name).copied()
    }

    /// Whether a directory itself has a file whose name ends so.
    fn has_any(&self, dir: &str, end: &str) -> bool {
        let files = self.0.get(dir).into_iter().flat_map(HashMap::keys);
        files.filter(|name| shelf(name) == dir).any(|name| name.ends_with(end))
    }

    fn put(&mut self, name: &str, bytes: u64) {
        if let Some(files) = self.0.get_mut(shelf(name)) {
            files.insert(name.to_owned(), bytes);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(files) = self.0.get_mut(shelf(name)) {
            files.remove(name);
        }
    }

    fn forget(&mut self, shelves: &[String]) {
        shelves.iter().for_each(|shelf| _ = self.0.remove(shelf));
    }

    /// Forgets directories of recordings, but for these, once there are many.
    fn keep(&mut self, shelves: &BTreeSet<String>) {
        if self.0.len() > SHELVES {
            self.0.retain(|shelf, _| !is_of_recording(shelf) || shelves.contains(shelf));
        }
    }
}

/// With what a file is looked at.
fn shelf(name: &str) -> &str {
    match name.rsplit_once('/') {
        _ if is_of_catalog(name) => "catalog",
        Some((dir, _)) => dir,
        None => "",
    }
}

fn is_of_catalog(name: &str) -> bool {
    name.starts_with("catalog/") && is_inside(name)
}

fn is_of_recording(name: &str) -> bool {
    (name.starts_with("recordings/") || name.starts_with("keys/")) && is_inside(name)
}

/// Without what other archives have there.
fn own(mut files: Vec<Named>) -> Vec<Named> {
    files.retain(|(name, _)| name.matches('/').count() == 1);
    files
}

fn borrowed(files: &[Named]) -> Vec<(&str, u64)> {
    files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect()
}
