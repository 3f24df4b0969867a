//! Every case below `samples/` is replayed by the real binary, and what comes out is compared with what was
//! reviewed by eye and ear. `cargo xtask bless` takes what comes out as the new truth, to be reviewed again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod audio;
mod case;
mod conversations;

use case::{Archive, Case};

/// What a case gives, for every set of rules, is what stands in its `expected` folder.
#[test]
fn samples_give_what_was_reviewed() {
    let bless = std::env::var_os("SPANTAPE_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in Case::all() {
        for rules in case.rules() {
            let found = case.replay(rules).describe();
            let path = case.expected(rules);
            if bless {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &found).unwrap();
            } else if std::fs::read_to_string(&path).unwrap_or_default() != found {
                wrong.push(format!("{}\n{}", path.display(), first_difference(&path, &found)));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} results differ; `cargo xtask bless`, then `git diff`\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The evidence story: whoever replays the packets gets the same bytes.
#[test]
fn two_replays_give_the_same_bytes() {
    for case in Case::all() {
        assert_same(&case, &case.replay("default"), &case.replay("default"));
    }
}

/// So does whoever has more processors, or fewer.
#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    for case in Case::all() {
        for rules in case.rules() {
            let one = case.replay_by(rules, 1);
            for threads in [2, 4] {
                assert_same(&case, &one, &case.replay_by(rules, threads));
            }
        }
    }
}

fn assert_same(case: &Case, one: &Archive, other: &Archive) {
    let files = one.files();
    assert_eq!(files, other.files(), "{}", case.name);
    for file in files {
        let bytes = |archive: &Archive| std::fs::read(archive.path().join(&file)).unwrap();
        assert!(bytes(one) == bytes(other), "{}: {}", case.name, file.display());
    }
}

#[test]
fn replaying_again_adds_nothing() {
    for case in Case::all() {
        let archive = case.replay("default");
        let (files, rows) = (archive.files(), archive.describe());
        case.replay_into("default", archive.path());
        assert_eq!((archive.files(), archive.describe()), (files, rows), "{}", case.name);
    }
}

fn first_difference(path: &std::path::Path, found: &str) -> String {
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    let pair = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
    match pair {
        Some((expected, found)) => format!("  - {expected}\n  + {found}"),
        None => format!("  {} lines expected, {} found", expected.lines().count(), found.lines().count()),
    }
}
