//! Keys pressed during a call, such as `*1`: what a rule makes of them.

use super::Verb;
use crate::time::{MILLISECOND, Timestamp};

/// The word by which the catalog names this system.
pub const NAME: &str = "feature-code";

/// No code has more keys.
pub const LONGEST: usize = 8;

/// The same key heard so soon again by another way is the same press: some phones send it both ways.
const SAME_PRESS: i64 = 500 * MILLISECOND;

/// What a code does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This.
    Verb(Verb),
    /// Start, or stop what is recorded.
    Toggle,
}

/// A code: keys, and what they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// `0`-`9`, `*`, `#`, `A`-`D`.
    pub keys: String,
    /// What they do.
    pub effect: Effect,
}

/// By which way a key came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// RFC 4733.
    Rtp,
    /// SIP INFO.
    Info,
}

/// The keys that one party has pressed lately.
#[derive(Debug, Default)]
pub struct Keys {
    pressed: String,
    last: Option<(char, Way, Timestamp)>,
}

impl Keys {
    /// A key has been pressed. Which code is complete with it.
    pub fn press(
        &mut self,
        key: char,
        way: Way,
        at: Timestamp,
        timeout: i64,
        codes: &[Code],
    ) -> Option<Effect> {
        let again = self.last.is_some_and(|(last, by, when)| {
            last == key && by != way && at.since(when).saturating_abs() < SAME_PRESS
        });
        if again {
            return None;
        }
        if self.last.is_none_or(|(.., when)| at.since(when) > timeout) {
            self.pressed.clear();
        }
        self.last = Some((key, way, at));
        if self.pressed.len() >= LONGEST {
            self.pressed.remove(0);
        }
        self.pressed.push(key.to_ascii_uppercase());
        let code = codes.iter().find(|code| self.pressed.ends_with(&code.keys))?;
        self.pressed.clear();
        Some(code.effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    fn codes() -> Vec<Code> {
        let code = |keys: &str, effect| Code { keys: keys.to_owned(), effect };
        vec![
            code("*1", Effect::Toggle),
            code("*9", Effect::Verb(Verb::Pause)),
            code("#A0", Effect::Verb(Verb::Stop)),
        ]
    }

    fn press(keys: &mut Keys, pressed: &[(char, i64)]) -> Vec<Effect> {
        let press = |&(key, at): &(char, i64)| {
            keys.press(key, Way::Rtp, Timestamp(at * 100 * MILLISECOND), SECOND, &codes())
        };
        pressed.iter().filter_map(press).collect()
    }

    #[test]
    fn a_code_ends_with_its_last_key() {
        let mut keys = Keys::default();
        assert_eq!(press(&mut keys, &[('5', 0), ('*', 5), ('*', 9), ('1', 15)]), [Effect::Toggle]);
        assert_eq!(press(&mut keys, &[('1', 20), ('*', 21), ('9', 22)]), [Effect::Verb(Verb::Pause)]);
        assert_eq!(press(&mut keys, &[('#', 30), ('a', 31), ('0', 32)]), [Effect::Verb(Verb::Stop)]);
    }

    #[test]
    fn keys_too_far_apart_are_no_code() {
        let mut keys = Keys::default();
        assert_eq!(press(&mut keys, &[('*', 0), ('1', 11)]), []);
        assert_eq!(press(&mut keys, &[('*', 30), ('2', 35), ('1', 40)]), []);
    }

    #[test]
    fn one_press_by_two_ways_counts_once() {
        let mut keys = Keys::default();
        let mut press = |key, way, at| keys.press(key, way, Timestamp(at * MILLISECOND), SECOND, &codes());
        assert_eq!(press('*', Way::Rtp, 0), None);
        assert_eq!(press('*', Way::Info, 40), None);
        assert_eq!(press('1', Way::Info, 400), Some(Effect::Toggle));
        assert_eq!(press('1', Way::Rtp, 410), None);
    }
}
