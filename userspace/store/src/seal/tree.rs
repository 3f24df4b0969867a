//! The tree of hashes over the changes of a manifest (RFC 9162, section 2.1): one signed hash stands for all of them, and any
//! one of them can be proved by itself, without telling the others.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{hex, unhex};

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// That a manifest has a change, for somebody who has the manifest and not its changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The manifest's number.
    pub manifest: u64,
    /// The change's place among those of the manifest, from 0 on.
    pub index: u64,
    /// The change, as it is listed.
    pub change: String,
    /// What lies beside the way from the change to the root, in hex.
    pub path: Vec<String>,
}

/// A tree of so many leaves.
pub(super) struct Tree {
    /// From the leaves to the root.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Over lines.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Tree {
        let mut levels = vec![lines.map(leaf).collect::<Vec<_>>()];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let above = level.chunks(2).map(|pair| match pair {
                [left, right] => node(left, right),
                // One without a sibling goes up as it is.
                single => single[0],
            });
            let above = above.collect();
            levels.push(above);
        }
        Tree { levels }
    }

    /// Of no leaves: the hash of nothing.
    pub(super) fn root(&self) -> String {
        let root = self.levels.last().and_then(|level| level.first().copied());
        hex(&root.unwrap_or_else(|| Sha256::digest([]).into()))
    }

    /// What lies beside the way from a leaf to the root.
    pub(super) fn path(&self, index: usize) -> Vec<String> {
        let beside = |(height, level): (usize, &Vec<Hash>)| level.get((index >> height) ^ 1).copied();
        self.levels.iter().enumerate().filter_map(beside).map(|hash| hex(&hash)).collect()
    }
}

impl Proof {
    /// Whether it leads to the root of a manifest of so many changes (RFC 9162, section 2.1.3.2).
    pub(super) fn leads_to(&self, root: &str, changes: u64) -> bool {
        let Some(mut last) = changes.checked_sub(1).filter(|last| self.index <= *last) else { return false };
        let (mut at, mut hash) = (self.index, leaf(&self.change));
        for beside in &self.path {
            let beside: Option<Hash> = unhex(beside).and_then(|hash| hash.try_into().ok());
            let Some(beside) = beside.filter(|_| last > 0) else { return false };
            if at & 1 == 1 || at == last {
                hash = node(&beside, &hash);
                while at & 1 == 0 && at != 0 {
                    (at, last) = (at >> 1, last >> 1);
                }
            } else {
                hash = node(&hash, &beside);
            }
            (at, last) = (at >> 1, last >> 1);
        }
        last == 0 && hex(&hash) == root
    }
}

fn leaf(line: &str) -> Hash {
    Sha256::new().chain_update([0]).chain_update(line).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("change {n}")).collect()
    }

    /// The definition, which splits at the largest power of two below the number of leaves.
    fn root(lines: &[String]) -> Hash {
        match lines {
            [] => Sha256::digest([]).into(),
            [line] => leaf(line),
            lines => {
                let (left, right) = lines.split_at(lines.len().next_power_of_two() / 2);
                node(&root(left), &root(right))
            }
        }
    }

    #[test]
    fn as_the_standard_defines_it() {
        for count in 0..40 {
            let lines = lines(count);
            let tree = Tree::of(lines.iter().map(String::as_str));
            assert_eq!(tree.root(), hex(&root(&lines)), "{count}");
        }
    }

    #[test]
    fn each_change_is_proved_and_no_other() {
        for count in 1..20 {
            let lines = lines(count);
            let tree = Tree::of(lines.iter().map(String::as_str));
            for (index, change) in lines.iter().enumerate() {
                let proof = Proof {
                    manifest: 1,
                    index: index as u64,
                    change: change.clone(),
                    path: tree.path(index),
                };
                assert!(proof.leads_to(&tree.root(), count as u64), "{index} of {count}");
                let other = Proof { change: "another".to_owned(), ..proof.clone() };
                let elsewhere = Proof { index: count as u64, ..proof.clone() };
                let longer = Proof { path: [&proof.path[..], &[hex(&[7; 32])]].concat(), ..proof.clone() };
                for wrong in [other, elsewhere, longer] {
                    assert!(!wrong.leads_to(&tree.root(), count as u64), "{wrong:?} of {count}");
                }
                assert!(!proof.leads_to(&hex(&[0; 32]), count as u64));
            }
        }
    }
}
