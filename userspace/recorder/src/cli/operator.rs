//! Who runs this, and when: what the journal says of those who look at an archive, or change it.

use std::fs;

use nix::unistd::{Uid, User};
use spantape_core::time::{MILLISECOND, Timestamp};
use spantape_store::repack::Order;
use spantape_store::utc::rfc3339;

/// The user that this process belongs to; where somebody has logged in as another one, both: `root (login alice)`.
pub(super) fn name() -> String {
    let login = fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| logged_in(&text));
    told(user(Uid::current().as_raw()), login.map(user))
}

/// Now, in whole milliseconds.
pub(super) fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond().saturating_mul(MILLISECOND))
}

/// What tombstones say of what is done now, for that reason.
pub(super) fn order(reason: &str) -> Order {
    Order { at: rfc3339(now()), by: name(), reason: reason.to_owned() }
}

/// Whether a user is the one, or one of the two, that [`name`] has told.
pub(super) fn is(told: &str, wanted: &str) -> bool {
    let (user, login) = told.split_once(LOGIN).unwrap_or((told, ""));
    [told, user, login.trim_end_matches(')')].contains(&wanted)
}

const LOGIN: &str = " (login ";
/// What the kernel says where nobody has logged in, as of a service.
const NOBODY: u32 = u32::MAX;

fn told(user: String, login: Option<String>) -> String {
    match login.filter(|login| *login != user) {
        Some(login) => format!("{user}{LOGIN}{login})"),
        None => user,
    }
}

fn logged_in(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|&uid| uid != NOBODY)
}

/// By name, if it has one.
fn user(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_it_is() {
        let login = |name: &str| Some(name.to_owned());
        assert_eq!(told("alice".to_owned(), None), "alice");
        assert_eq!(told("alice".to_owned(), login("alice")), "alice");
        let both = told("root".to_owned(), login("alice"));
        assert_eq!(both, "root (login alice)");
        for wanted in ["root", "alice", both.as_str()] {
            assert!(is(&both, wanted), "{wanted}");
        }
        assert!(!is(&both, "login") && !is(&both, "bob"));
        assert!(is("uid 4711", "uid 4711") && !is("alice", "root"));
        assert_eq!((logged_in("1000\n"), logged_in("4294967295"), logged_in("")), (Some(1000), None, None));
        assert_eq!(user(0), "root");
        assert_eq!(user(4_200_000_001), "uid 4200000001");
        assert!(!name().is_empty());
    }

    #[test]
    fn when_it_is() {
        let order = order("compaction");
        assert_eq!(order.reason, "compaction");
        let at = spantape_store::utc::parse(&order.at).unwrap();
        assert!(order.at.len() == 24 && now().since(at) >= 0, "{}", order.at);
    }
}
