//! `spantape ctl`: tell a recorder at work what to do.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::terminal::{Column, Screen, clean, clean_json, reader_left};
use super::{PARTLY, when};
use crate::control::SOCKET;
use crate::control::body::{Call, Calls, Done, Failure};
use crate::control::client::Server;

/// Tell a recorder at work what to do
///
/// Shows the calls that are up, starts, stops, pauses and resumes their recordings, and notes something with them. What
/// is asked for counts from that moment on. During a pause nothing is kept.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  spantape ctl list --archive /srv/calls
  spantape ctl list --dn 1009 --json
  spantape ctl pause --dn 1009
  spantape ctl resume --dn 1009
  spantape ctl start --call-id 3c26-9f@192.0.2.9 --note 'complaint'
  spantape ctl note --id 3357caa8 'order 4711'
  spantape ctl list --url http://127.0.0.1:7373 --token-file ~/.spantape-token

Exit code: 0 done, 1 refused, or no such call is up, 2 no recorder answers.")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// The archive that the recorder records into: its control socket is there
    #[arg(long, global = true, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: Option<PathBuf>,
    /// The recorder's control socket, where it is elsewhere
    #[arg(long, global = true, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// The recorder's address, for those who have its token: http://HOST:PORT
    #[arg(long, global = true, value_name = "URL", requires = "token_file", conflicts_with = "socket")]
    url: Option<String>,
    /// File with the token
    #[arg(long, global = true, value_name = "FILE", env = "SPANTAPE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Print the recorder's answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Show the calls that are up, the latest first
    List {
        #[command(flatten)]
        call: Wanted,
        /// Not more than so many
        #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Begin to record
    Start(Order),
    /// End the recording; the call goes on
    Stop(Order),
    /// Keep nothing from now on, until it is resumed
    Pause(Order),
    /// Keep what comes again
    Resume(Order),
    /// Note something with a call
    Note {
        #[command(flatten)]
        call: Meant,
        /// What is noted
        text: String,
    },
}

#[derive(clap::Args)]
struct Order {
    #[command(flatten)]
    call: Meant,
    /// Noted with the call as well
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// One call.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Meant {
    /// The call, and with it the recording that goes on, by the first digits of its id, as `list` shows it
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The call with this SIP Call-ID
    #[arg(long, value_name = "CALL-ID")]
    call_id: Option<String>,
    /// The call of this number, on either side; of several the one that was answered last
    #[arg(long, value_name = "NUMBER")]
    dn: Option<String>,
}

/// Some calls.
#[derive(clap::Args)]
#[group(multiple = false)]
struct Wanted {
    /// Only the call whose id begins so
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only the call with this SIP Call-ID
    #[arg(long, value_name = "CALL-ID")]
    call_id: Option<String>,
    /// Only calls of this number, on either side
    #[arg(long, value_name = "NUMBER")]
    dn: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match args.run(&mut io::stdout().lock(), Screen::stdout()) {
        Err(error) if reader_left(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) => {
                eprintln!("spantape: {}", clean(&refused.0));
                Ok(ExitCode::from(PARTLY))
            }
            None => Err(error),
        },
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::from(PARTLY)),
    }
}

/// The recorder does not do it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl Args {
    /// Whether there was something.
    fn run(&self, out: &mut impl Write, screen: Screen) -> Result<bool> {
        let server = self.server()?;
        let (verb, order) = match &self.what {
            What::List { call, limit } => return self.list(&server, call, *limit, out, screen),
            What::Start(order) => ("start", order),
            What::Stop(order) => ("stop", order),
            What::Pause(order) => ("pause", order),
            What::Resume(order) => ("resume", order),
            What::Note { call, text } => {
                let body = call.with(json!({ "text": text }));
                return self.obeyed("note", &server, "/v1/notes", &body, out);
            }
        };
        let note = order.note.as_ref().map_or_else(|| json!({}), |note| json!({ "note": note }));
        let mut body = order.call.with(note);
        body["verb"] = json!(verb);
        self.obeyed(verb, &server, "/v1/triggers", &body, out)
    }

    fn server(&self) -> Result<Server> {
        match (&self.url, &self.token_file, &self.socket, &self.archive) {
            (Some(url), Some(token_file), ..) => Server::at(url, token_file),
            (_, _, Some(socket), _) => Ok(Server::Socket(socket.clone())),
            (.., Some(archive)) => Ok(Server::Socket(archive.join(SOCKET))),
            _ => bail!("which recorder? --archive, --socket or --url says it, as does SPANTAPE_ARCHIVE"),
        }
    }

    fn list(
        &self,
        server: &Server,
        wanted: &Wanted,
        limit: u32,
        out: &mut impl Write,
        screen: Screen,
    ) -> Result<bool> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &limit.to_string());
        for (name, value) in [("id", &wanted.id), ("call_id", &wanted.call_id), ("dn", &wanted.dn)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        let path = format!("/v1/calls?{}", query.finish());
        let (text, Calls { calls, matched }) = ask(server, Method::GET, &path, Vec::new())?;
        if self.json {
            writeln!(out, "{}", clean_json(&text))?;
        } else if calls.is_empty() {
            eprintln!("spantape: no such call is up");
        } else {
            let limit = screen.terminal.then_some(screen.width);
            let rows = calls.iter().map(row).collect();
            out.write_all(screen.table(&COLUMNS, rows, limit).as_bytes())?;
            if calls.len() < matched {
                writeln!(out, "{} of {matched} calls; --limit N shows more", calls.len())?;
            }
        }
        out.flush()?;
        Ok(matched > 0)
    }

    fn obeyed(
        &self,
        verb: &str,
        server: &Server,
        path: &str,
        body: &Value,
        out: &mut impl Write,
    ) -> Result<bool> {
        let (text, done): (_, Done) = ask(server, Method::POST, path, body.to_string().into_bytes())?;
        if self.json {
            writeln!(out, "{}", clean_json(&text))?;
        } else {
            writeln!(out, "{}", clean(&sentence(verb, &done)))?;
        }
        out.flush()?;
        Ok(true)
    }
}

impl Meant {
    fn with(&self, mut body: Value) -> Value {
        for (name, value) in [("id", &self.id), ("call_id", &self.call_id), ("dn", &self.dn)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        body
    }
}

/// The answer as it came, and what it says.
fn ask<T: DeserializeOwned>(
    server: &Server,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(String, T)> {
    let (status, body) = server.ask(method, path, body)?;
    let strange = || format!("this is no recorder of this version: it answers {status}");
    if status == StatusCode::OK {
        let answer = serde_json::from_slice(&body).with_context(strange)?;
        return Ok((String::from_utf8_lossy(&body).into_owned(), answer));
    }
    let Failure { error, hint } = serde_json::from_slice(&body).with_context(strange)?;
    let text = format!("{error}: {hint}");
    match status {
        StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::BAD_REQUEST => Err(Refused(text).into()),
        _ => bail!("{}", clean(&text)),
    }
}

fn sentence(verb: &str, done: &Done) -> String {
    let call = &done.call;
    let effect = match (done.effect.as_str(), &done.reason) {
        ("none", Some(reason)) => format!("no effect, {reason}"),
        ("pending", _) => "waits for the answer to an earlier trigger, and counts from now on".to_owned(),
        _ => "done".to_owned(),
    };
    let id: String = call.id.chars().take(SHORT_ID).collect();
    let mut text = format!("{verb}: {effect}: {id}  {} -> {}  {}", call.from.user, call.to.user, state(call));
    if done.matched > 1 {
        text.push_str(&format!("  (of {} calls the one answered last)", done.matched));
    }
    text
}

const fn left(title: &'static str, rank: u8) -> Column {
    Column { title, rank, right: false }
}

const COLUMNS: [Column; 9] = [
    left("ID", 0),
    left("START (UTC)", 3),
    left("ANSWERED", 6),
    left("FROM", 0),
    left("TO", 0),
    left("STATE", 0),
    left("TRIGGER", 4),
    left("RULE", 5),
    left("CALL-ID", 7),
];

const SHORT_ID: usize = 8;

fn row(call: &Call) -> Vec<String> {
    let moment = |text: &str| when::of_row(text).map_or_else(String::new, |at| when::utc(at, 0));
    let time = |text: &str| moment(text).split_whitespace().last().unwrap_or_default().to_owned();
    let cells = [
        call.id.chars().take(SHORT_ID).collect(),
        moment(&call.start),
        call.answered.as_deref().map(time).unwrap_or_default(),
        call.from.user.clone(),
        call.to.user.clone(),
        state(call).to_owned(),
        call.trigger.clone().unwrap_or_default(),
        call.rule.clone().unwrap_or_default(),
        call.call_id.clone(),
    ];
    cells.iter().map(|cell| clean(cell)).collect()
}

fn state(call: &Call) -> &'static str {
    match (call.recording, call.paused, call.action.as_deref()) {
        (true, true, _) => "paused",
        (true, false, _) => "recording",
        (false, _, Some("ignore")) => "ignored",
        (false, true, _) => "not recorded, paused",
        (false, false, _) => "not recorded",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use spantape_core::rules::Action;

    use super::*;
    use crate::control::testing::{CALL_ID, Scene};

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(scene: &Scene, typed: &[&str]) -> Args {
        let mut all = vec!["ctl"];
        all.extend(typed);
        let archive = scene.archive.path().to_str().unwrap();
        all.extend(["--archive", archive]);
        Cli::try_parse_from(all).unwrap().args
    }

    fn ctl(scene: &Scene, typed: &[&str], width: usize) -> (Result<bool>, String) {
        let mut out = Vec::new();
        let found = args(scene, typed).run(&mut out, Screen::plain(width));
        (found, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_shift_at_the_desk() {
        let scene = Scene::begin(Action::OnDemand);
        let say = |typed: &[&str]| {
            let (found, text) = ctl(&scene, typed, 80);
            assert!(found.unwrap(), "{typed:?}");
            text
        };
        let list = say(&["list"]);
        assert!(list.starts_with("ID        START (UTC)") && list.contains("not recorded"), "{list}");
        for width in [40, 60, 80, 120, 200] {
            let (_, list) = ctl(&scene, &["list"], width);
            let widest = list.lines().map(crate::cli::terminal::width).max().unwrap();
            assert!(widest <= width && list.lines().count() == 2, "{width}:\n{list}");
        }
        let id = &list.lines().nth(1).unwrap()[..8];
        let start = say(&["start", "--dn", "1009", "--note", "complaint"]);
        assert_eq!(start, format!("start: done: {id}  1009 -> 1010  recording\n"));
        assert_eq!(say(&["pause", "--id", id]), format!("pause: done: {id}  1009 -> 1010  paused\n"));
        let again = say(&["pause", "--call-id", CALL_ID]);
        assert_eq!(again, format!("pause: no effect, it is paused already: {id}  1009 -> 1010  paused\n"));
        let json: Value = serde_json::from_str(&say(&["resume", "--dn", "1010", "--json"])).unwrap();
        assert_eq!((&json["effect"], &json["call"]["paused"]), (&json!("done"), &json!(false)));
        assert!(say(&["note", "--dn", "1009", "order 4711"]).starts_with("note: done"));
        assert!(say(&["stop", "--dn", "1009"]).ends_with("not recorded\n"));
        let json: Value = serde_json::from_str(&say(&["list", "--dn", "1009", "--json"])).unwrap();
        assert_eq!(json["calls"][0]["call_id"], CALL_ID);

        let (found, text) = ctl(&scene, &["list", "--dn", "4711"], 80);
        assert!(!found.unwrap() && text.is_empty());
        let (refused, _) = ctl(&scene, &["stop", "--dn", "4711"], 80);
        assert!(refused.unwrap_err().downcast::<Refused>().unwrap().0.starts_with("no such call is up"));
        assert_eq!(run(&args(&scene, &["stop", "--dn", "4711"])).unwrap(), ExitCode::from(PARTLY));
        let socket = scene.socket();
        let mut late = args(&scene, &["list"]);
        scene.end();
        late.socket = Some(socket);
        let error = format!("{:#}", run(&late).unwrap_err());
        assert!(error.contains("no recorder answers here"), "{error}");
    }

    #[test]
    fn what_is_typed() {
        let parse = |typed: &str| Cli::try_parse_from(typed.split_whitespace()).map(|cli| cli.args);
        for wrong in [
            "ctl",
            "ctl pause",
            "ctl pause --dn 1 --id 2",
            "ctl list --dn 1 --call-id 2",
            "ctl list --limit 0",
            "ctl note --dn 1",
            "ctl list --url http://x:1 --socket y --token-file z",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let by = |typed: &str| parse(typed).unwrap().server();
        assert!(
            matches!(by("ctl list --archive a").unwrap(), Server::Socket(path) if path.ends_with("a/control.sock"))
        );
        assert!(
            matches!(by("ctl --socket b list --archive a").unwrap(), Server::Socket(path) if path.ends_with("b"))
        );
        for url in ["https://x:1", "x:1", "http:///", "127.0.0.1"] {
            let error = by(&format!("ctl list --url {url} --token-file Cargo.toml")).unwrap_err();
            assert!(format!("{error:#}").contains("http://"), "{error:#}");
        }
    }
}
