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

/// Reads the name of one of several recorders. Readers of Parquet guess what kind of value a directory's name has, and not all
/// of them guess alike: what one of them could take for a number, or for anything but a word, is refused.
pub(crate) fn node(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let is_name = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(fits);
    if !is_name || text.len() > LONGEST || is_value(text) {
        return Err(format!(
            "a node is named by a word of small letters, digits, `_` and `-`, at most {LONGEST}, such as `north`"
        ));
    }
    Ok(text.to_owned())
}

/// `null`, `true` and the like, and what ClickHouse believes to begin so: `n1`, `fa2`.
fn is_value(text: &str) -> bool {
    let word = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let has_number = word.len() < text.len();
    let word = word.strip_suffix('-').filter(|_| has_number).unwrap_or(word);
    let begins =
        |whole: &str| if has_number { whole.starts_with(word) && word != whole } else { whole == word };
    ["null", "true", "false"].into_iter().any(begins) || matches!(text, "nan" | "inf" | "infinity")
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
        for name in ["north", "berlin-2", "sbc_a", "north1", long.as_str()] {
            assert_eq!(node(name).unwrap(), name);
        }
        for name in [
            "",
            "a b",
            "a/b",
            "küche",
            "day=1",
            "North",
            "1",
            "01",
            "-a",
            "n1",
            "t2",
            "fa2",
            "n-2",
            "null",
            "inf",
            too_long.as_str(),
        ] {
            assert!(node(name).unwrap_err().contains("such as `north`"), "{name}");
        }
        let parse = |text: &str| toml::from_str::<Typed>(text).map(|typed| typed.node);
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("node = 'north'").unwrap().as_deref(), Some("north"));
        assert!(parse("node = '../x'").unwrap_err().to_string().contains("letters, digits"));
    }
}
