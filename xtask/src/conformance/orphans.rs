//! What `--orphans` is to make of captures in which no call is told of: one recording for each pair of streams.

use super::replay::Found;
use super::truth::{Capture, Stream};

/// Fewer packets, or a shorter time, may not be enough to know a stream for one.
const FEWEST: u64 = 10;
const SHORTEST: f64 = 0.25;
/// What every build can decode, by the static payload types of RFC 3551.
const ALWAYS_HEARD: [&str; 3] = ["PCMU/8000", "PCMA/8000", "G722/8000"];

/// Whether there is something to be learnt from a replay with `--orphans`.
pub(super) fn apply(truth: &Capture) -> bool {
    truth.invited == 0 && truth.streams.is_empty()
}

/// What is not as it should be, in words.
pub(super) fn differences(truth: &Capture, found: &Found) -> Option<String> {
    let groups = if truth.is_encrypted { Vec::new() } else { groups(&truth.untied) };
    let heard = |group: &&Vec<&Stream>| {
        let mut codecs = group.iter().flat_map(|stream| &stream.codecs);
        codecs.any(|codec| ALWAYS_HEARD.contains(&codec.as_str()))
    };
    let (least, most) = (groups.iter().filter(heard).count(), groups.len());
    let recordings = found.recordings.len();
    (!(least..=most).contains(&recordings))
        .then(|| format!("with --orphans recordings {recordings}, not {least} to {most}"))
}

/// The streams of each conversation.
fn groups(streams: &[Stream]) -> Vec<Vec<&Stream>> {
    let mut groups: Vec<Vec<&Stream>> = Vec::new();
    let lasting =
        |stream: &&Stream| stream.packets - stream.duplicates >= FEWEST && stream.seconds >= SHORTEST;
    for stream in streams.iter().filter(lasting) {
        let (source, destination) = (&stream.source, &stream.destination);
        let pairs = |other: &&Stream| {
            (&other.source, &other.destination) == (source, destination)
                || (&other.destination, &other.source) == (source, destination)
        };
        // Ports may differ, where nobody else answers.
        let answers = |group: &Vec<&Stream>| group.iter().all(|other| is_reverse(other, stream));
        let known = groups.iter().position(|group| group.iter().any(pairs));
        let known = known.or_else(|| groups.iter().position(answers));
        match known.and_then(|known| groups.get_mut(known)) {
            Some(group) => group.push(stream),
            None => groups.push(vec![stream]),
        }
    }
    groups
}

/// One end is the other's in reverse, and of the other end host or port.
fn is_reverse(one: &Stream, other: &Stream) -> bool {
    let near = |a: &(String, u64), b: &(String, u64)| a.0 == b.0 || a.1 == b.1;
    other.destination == one.source && near(&other.source, &one.destination)
        || other.source == one.destination && near(&other.destination, &one.source)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stream(source: (&str, u64), destination: (&str, u64), codec: &str) -> Stream {
        Stream {
            source: (source.0.to_owned(), source.1),
            destination: (destination.0.to_owned(), destination.1),
            packets: 20,
            duplicates: 5,
            seconds: 0.4,
            codecs: vec![codec.to_owned()],
            ..Stream::default()
        }
    }

    #[test]
    fn a_recording_for_each_pair() {
        let untied = vec![
            stream(("a", 1), ("b", 2), "PCMU/8000"),
            stream(("b", 2), ("a", 1), "PT101"),
            stream(("a", 3), ("b", 4), "PT96"),
            stream(("c", 1), ("b", 2), "PCMA/8000"),
            Stream { packets: 14, ..stream(("d", 1), ("b", 2), "PCMA/8000") },
        ];
        let truth = Capture { untied, ..Capture::default() };
        assert!(apply(&truth));
        let found = |count| Found { recordings: vec![json!({}); count], ..Found::default() };
        assert!(differences(&truth, &found(2)).is_none() && differences(&truth, &found(3)).is_none());
        assert_eq!(differences(&truth, &found(1)).unwrap(), "with --orphans recordings 1, not 2 to 3");
        let encrypted = Capture { is_encrypted: true, ..truth };
        assert!(differences(&encrypted, &found(2)).is_some() && differences(&encrypted, &found(0)).is_none());
    }
}
