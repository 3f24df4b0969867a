//! `[archive]`: where recordings are kept.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::value::{Bytes, TypedRecipients};

/// As it is typed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Typed {
    pub(super) reserve: Option<Bytes>,
    #[serde(deserialize_with = "typed_node")]
    pub(super) node: Option<String>,
    /// Of age, for whom recordings are encrypted.
    pub(super) recipients: TypedRecipients,
}

/// Characters of a name.
const LONGEST: usize = 64;

/// Reads the name of one of several recorders.
pub(crate) fn node(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > LONGEST || !text.chars().all(fits) {
        return Err(format!(
            "a node is named by letters, digits, `.`, `_` and `-`, at most {LONGEST}, such as `north`"
        ));
    }
    Ok(text.to_owned())
}

fn typed_node<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    node(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes() {
        let (long, too_long) = ("x".repeat(64), "x".repeat(65));
        for name in ["north", "pbx-2.example", "A_1", long.as_str()] {
            assert_eq!(node(name).unwrap(), name);
        }
        for name in ["", "a b", "a/b", "küche", "day=1", too_long.as_str()] {
            assert!(node(name).unwrap_err().contains("such as `north`"), "{name}");
        }
        let parse = |text: &str| toml::from_str::<Typed>(text).map(|typed| typed.node);
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("node = 'north'").unwrap().as_deref(), Some("north"));
        assert!(parse("node = '../x'").unwrap_err().to_string().contains("letters, digits"));
    }
}
