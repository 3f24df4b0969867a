//! XML as recording systems write it: read to where it can be read, whatever the namespaces are.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};

/// Bytes read of one document.
const MAX_DOCUMENT: usize = 256 * 1024;
/// Elements within each other.
const MAX_DEPTH: usize = 64;

/// What is met on the way through a document.
pub(crate) enum Token<'a> {
    /// An element begins.
    Open(Element<'a>),
    /// Some of the text of the innermost element; more may follow.
    Text(Cow<'a, str>),
    /// The innermost element ends.
    Close,
}

/// The beginning of an element.
pub(crate) struct Element<'a>(BytesStart<'a>);

impl Element<'_> {
    /// Its name without a prefix.
    pub(crate) fn name(&self) -> &str {
        self.0.local_name().into_inner()
    }

    /// The first attribute that has one of these names, without a prefix and in whatever case.
    pub(crate) fn attribute(&self, names: &[&str]) -> Option<String> {
        let mut attributes = self.0.attributes();
        let attribute = attributes.with_checks(false).filter_map(Result::ok).find(|attribute| {
            let found = attribute.key.local_name().into_inner();
            names.iter().any(|name| name.eq_ignore_ascii_case(found))
        })?;
        let value = unescape(&attribute.value).unwrap_or(Cow::Borrowed(&attribute.value));
        Some(value.trim().to_owned())
    }
}

/// Shows all of a document to `visit`, in order. Says whether it was read to its end; if not, the rest of it is
/// no XML, or too much. Entities but the predefined ones are left as they are, so a document cannot grow.
pub(crate) fn read(document: &[u8], mut visit: impl FnMut(Token<'_>)) -> bool {
    let cut = document.len() > MAX_DOCUMENT;
    let text = String::from_utf8_lossy(&document[..document.len().min(MAX_DOCUMENT)]);
    let mut reader = Reader::from_str(&text);
    let config = reader.config_mut();
    config.allow_dangling_amp = true;
    config.allow_unmatched_ends = true;
    config.check_end_names = false;
    config.expand_empty_elements = true;
    let mut depth = 0;
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                if depth == MAX_DEPTH {
                    return false;
                }
                depth += 1;
                visit(Token::Open(Element(start)));
            }
            Ok(Event::End(_)) if depth > 0 => {
                depth -= 1;
                visit(Token::Close);
            }
            Ok(Event::Text(text)) => visit(Token::Text(text.into_inner())),
            Ok(Event::CData(text)) => visit(Token::Text(text.into_inner())),
            Ok(Event::GeneralRef(reference)) => {
                let character = reference.resolve_char_ref().ok().flatten().map(String::from);
                let entity = || resolve_predefined_entity(&reference).map(str::to_owned);
                let text = character.or_else(entity).unwrap_or_else(|| format!("&{};", &*reference));
                visit(Token::Text(Cow::Owned(text)));
            }
            Ok(Event::Eof) => return depth == 0 && !cut,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(document: &[u8]) -> (String, bool) {
        let mut shown = String::new();
        let whole = read(document, |token| match token {
            Token::Open(element) => {
                let id = element.attribute(&["id", "x_id"]).unwrap_or_default();
                shown.push_str(&format!("<{} {id}>", element.name()));
            }
            Token::Text(text) => shown.push_str(&text),
            Token::Close => shown.push_str("</>"),
        });
        (shown, whole)
    }

    #[test]
    fn prefixes_entities_and_sections() {
        let (text, whole) = shown(
            b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><n:a n:X_ID=' 1&amp;2 '>&lt;&#x41;&b;\
              <!-- --><b/><![CDATA[<x>&amp;]]> & </n:a>",
        );
        assert_eq!(text, "<a 1&2><A&b;<b ></><x>&amp; & </>");
        assert!(whole);
    }

    #[test]
    fn what_is_no_xml_ends_it() {
        assert_eq!(shown(b"<a><b id=1 x>t</c><d"), ("<a ><b >t</>".to_owned(), false));
        assert_eq!(shown(b"<a>"), ("<a >".to_owned(), false));
        assert_eq!(shown(b"</a></b>"), (String::new(), true));
        assert!(!shown(&b"<a>".repeat(MAX_DEPTH + 1)).1);
        let long = [b"<a/>", &[b' '; MAX_DOCUMENT][..]].concat();
        assert_eq!(shown(&long), ("<a ></>".to_owned() + &" ".repeat(MAX_DOCUMENT - 4), false));
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, text in "[<>/&;!\\[\\]a= '\"#x1-]{0,80}") {
            shown(&bytes);
            shown(text.as_bytes());
        }
    }
}
