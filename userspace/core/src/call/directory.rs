//! By what a call can be found when something that is not part of its signalling speaks of it.

use std::collections::BTreeSet;

use crate::media::CallKey;

/// Names kept of one call.
const MAX_NAMES: usize = 64;
/// Hosts among them.
const MAX_HOSTS: usize = 32;
/// Calls of one name that are looked at, the latest ones: of a host with more of them, which is a PBX or a flood,
/// those before are not found by it.
const MAX_FOUND: usize = 1024;

/// One of the names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whom {
    /// An address between which and another its signalling or media passes.
    Host(u128),
    /// The hardware address of a phone.
    Device(u64),
    /// User part of a party's URI: an extension, a DN, a number.
    User(Box<str>),
    /// What another system calls it, or its participants do.
    Token(Box<[u8]>),
    /// A user name fragment in connectivity checks of its media (RFC 8839, section 5.4).
    IceFragment(Box<[u8]>),
    /// What other calls of its conversation carry as well.
    Mark(Box<[u8]>),
    /// The conference that it is a part of.
    Focus(Box<[u8]>),
    /// Whom a party of it was asked to call.
    Referred(Box<[u8]>),
    /// Its conversation, or one that this was before it became part of another.
    Conversation(Box<str>),
}

/// The names of one call.
#[derive(Debug, Default)]
pub(super) struct Names {
    all: Vec<Whom>,
    /// So many of them are in the directory.
    entered: usize,
}

impl Names {
    /// One more. What is beyond a sensible number is not kept.
    pub(super) fn add(&mut self, name: Whom) {
        let most = if matches!(name, Whom::Host(_)) { MAX_HOSTS } else { MAX_NAMES };
        if self.all.len() < most && !self.all.contains(&name) {
            self.all.push(name);
        }
    }

    /// The marks among them.
    pub(super) fn marks(&self) -> impl Iterator<Item = &[u8]> {
        self.all.iter().filter_map(|name| match name {
            Whom::Mark(mark) => Some(&**mark),
            _ => None,
        })
    }

    pub(super) fn has(&self, name: &Whom) -> bool {
        self.all.contains(name)
    }

    /// Bytes that they take, here and in the directory, about.
    pub(super) fn memory(&self) -> usize {
        let text = |name: &Whom| match name {
            Whom::Host(_) | Whom::Device(_) => 0,
            Whom::User(text) | Whom::Conversation(text) => text.len() + 32,
            Whom::Token(bytes)
            | Whom::IceFragment(bytes)
            | Whom::Mark(bytes)
            | Whom::Focus(bytes)
            | Whom::Referred(bytes) => bytes.len() + 32,
        };
        let entry = 3 * size_of::<(Whom, CallKey)>();
        self.all.iter().map(|name| 2 * text(name) + entry).sum()
    }
}

/// Which calls have a name.
#[derive(Debug, Default)]
pub(super) struct Directory {
    entries: BTreeSet<(Whom, CallKey)>,
}

impl Directory {
    /// Takes up names that have been added since.
    pub(super) fn enter(&mut self, call: CallKey, names: &mut Names) {
        for name in &names.all[names.entered..] {
            self.entries.insert((name.clone(), call));
        }
        names.entered = names.all.len();
    }

    /// The call is gone.
    pub(super) fn strike(&mut self, call: CallKey, names: &Names) {
        for name in &names.all {
            self.entries.remove(&(name.clone(), call));
        }
    }

    /// Calls of that name, the latest first.
    pub(super) fn find<'a>(&'a self, name: &Whom) -> impl Iterator<Item = CallKey> + use<'a> {
        let first = CallKey { slot: 0, generation: 0 };
        let last = CallKey { slot: usize::MAX, generation: u64::MAX };
        self.entries
            .range((name.clone(), first)..=(name.clone(), last))
            .rev()
            .take(MAX_FOUND)
            .map(|(_, call)| *call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_by_each_name_until_it_is_gone() {
        let call = |slot| CallKey { slot, generation: slot as u64 };
        let mut directory = Directory::default();
        let (mut one, mut two) = (Names::default(), Names::default());
        one.add(Whom::Host(7));
        one.add(Whom::User("1009".into()));
        directory.enter(call(1), &mut one);
        two.add(Whom::Host(7));
        directory.enter(call(2), &mut two);
        two.add(Whom::Device(5));
        directory.enter(call(2), &mut two);
        let find =
            |directory: &Directory, name| directory.find(&name).map(|call| call.slot).collect::<Vec<_>>();
        assert_eq!(find(&directory, Whom::Host(7)), [2, 1]);
        assert_eq!(find(&directory, Whom::Device(5)), [2]);
        assert_eq!(find(&directory, Whom::User("1009".into())), [1]);
        directory.strike(call(1), &one);
        assert_eq!(find(&directory, Whom::Host(7)), [2]);
        assert!(find(&directory, Whom::User("1009".into())).is_empty());
        assert_eq!(directory.entries.len(), 2);
    }

    #[test]
    fn of_a_flood_of_calls_the_latest_are_found() {
        let mut directory = Directory::default();
        for generation in 0..2 * MAX_FOUND {
            let mut names = Names::default();
            names.add(Whom::Host(7));
            // Places in the table are used again.
            directory.enter(
                CallKey { slot: 3 * MAX_FOUND - generation, generation: generation as u64 },
                &mut names,
            );
        }
        let found: Vec<u64> = directory.find(&Whom::Host(7)).map(|call| call.generation).collect();
        assert_eq!((found.len(), found[0]), (MAX_FOUND, 2 * MAX_FOUND as u64 - 1));
    }

    #[test]
    fn a_call_has_no_end_of_names() {
        let mut names = Names::default();
        (0..1000).for_each(|host| names.add(Whom::Host(host)));
        assert_eq!(names.all.len(), MAX_HOSTS);
        (0..1000u32).for_each(|mark| names.add(Whom::Mark(mark.to_be_bytes().into())));
        assert_eq!(names.all.len(), MAX_NAMES);
    }
}
