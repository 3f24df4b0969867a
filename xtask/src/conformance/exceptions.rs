//! The list of captures whose differences are known: a file name, then the reason.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// File names and reasons.
#[derive(Debug, Default)]
pub(super) struct Exceptions(BTreeMap<String, String>);

impl Exceptions {
    /// Reads the list.
    pub(super) fn read(path: &Path) -> Result<Exceptions> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Exceptions::parse(&text).with_context(|| format!("understand {}", path.display()))
    }

    fn parse(text: &str) -> Result<Exceptions> {
        let mut known = BTreeMap::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((file, reason)) = line.split_once(char::is_whitespace) else {
                bail!("{line}: no reason is given");
            };
            if known.insert(file.to_owned(), reason.trim().to_owned()).is_some() {
                bail!("{file}: stands there twice");
            }
        }
        Ok(Exceptions(known))
    }

    /// Why a capture may differ.
    pub(super) fn reason(&self, file: &str) -> Option<&str> {
        self.0.get(file).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_and_a_reason() {
        let known = Exceptions::parse("# comment\n\na.pcap   not yet, really\n").unwrap();
        assert_eq!(known.reason("a.pcap"), Some("not yet, really"));
        assert_eq!(known.reason("b.pcap"), None);
    }

    #[test]
    fn a_name_alone_or_twice_is_refused() {
        assert!(Exceptions::parse("a.pcap").is_err());
        assert!(Exceptions::parse("a.pcap x\na.pcap y").is_err());
    }
}
