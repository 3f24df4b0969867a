//! What a log of a SIP Server says was asked for is obeyed in a replay.

use tempfile::TempDir;

use super::{sample, spantape, stderr, stdout, text};

const RULES: &str = "[[rule]]\nname = \"on demand\"\naction = \"on-demand\"\n";

/// Of the sample `forked`: the call is answered at 3.3 s and ends at 11.86 s. The clock is one hour ahead of UTC.
const LOG: &str = "\
Local time:       2026-01-15T09:58:00.000
UTC time:         2026-01-15T08:58:00.000
10:00:04.000 Trc 04541 RequestPrivateService received from [12] (0000000a Desktop 10.0.0.7:1041)
\tAttributePrivateMsgID\t3013
\tAttributeThisDN\t'1009'
\tAttributeConnID\t00a2021fd3d9d004
@10:00:05.5000 [0] 8.1.1 other trace
10:00:06.000 Trc 04541 RequestPrivateService received from [12] (0000000a Desktop 10.0.0.7:1041)
\tAttributeCallUUID\t'01J3KQ8T7N9M2P4R6S8V0W2X4Y6Z8A0B'
\tAttributePrivateMsgID\t3014
\tAttributeThisDN\t'1009'
10:00:07.000 Trc 04541 RequestPrivateService received from [12]
\tAttributePrivateMsgID\t3013
\tAttributeThisDN\t'4711'
";

#[test]
fn requests_start_and_stop_a_recording() {
    let folder = TempDir::new().unwrap();
    let put = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (rules, log) = (put("rules.toml", RULES), put("server.log", LOG));
    let (input, archive) = (sample("forked"), folder.path().join("archive"));
    let replay = |log: &str| {
        let arguments = ["replay", text(&input), "--archive", text(&archive), "--config", text(&rules)];
        spantape(&[&arguments[..], &["--genesys-log", log]].concat())
    };
    let output = replay(text(&log));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 mean no call that was up"), "{}", stderr(&output));
    let found =
        spantape(&["search", "--trigger", "genesys-log", "--format", "jsonl", "--archive", text(&archive)]);
    let rows: Vec<serde_json::Value> =
        stdout(&found).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(
        (&row["start"], &row["ended"]),
        (&"2026-01-15T09:00:04.000Z".into(), &"2026-01-15T09:00:06.000Z".into())
    );

    let events = ["--table", "events", "--format", "jsonl", "--archive", text(&archive)];
    let found = spantape(&[&["search", "--trigger", "genesys-log"], &events[..]].concat());
    assert_eq!(stdout(&found).lines().count(), 2, "{}", stdout(&found));

    let missing = replay("no-such.log");
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("no-such.log"), "{}", stderr(&missing));
}
