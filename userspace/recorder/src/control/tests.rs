use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener as StdListener;
use std::thread::sleep;

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use spantape_core::rules::Action;
use spantape_store::Table;

use super::testing::{CALL_ID, Scene, TOKEN, rows_of};
use super::*;

fn ask(server: &client::Server, method: Method, path: &str, body: &str) -> (u16, Value) {
    let (status, body) = server.ask(method, path, body.as_bytes().to_vec()).unwrap();
    (status.as_u16(), serde_json::from_slice(&body).unwrap())
}

/// Each path and method that is described is understood, and the other way round.
#[test]
fn what_is_described_is_what_there_is() {
    let description: Value = serde_json::from_str(api::DESCRIPTION).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let described = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let described: BTreeSet<_> = described.collect();
    let routes = api::ROUTES.iter().map(|(method, path, _)| (method.to_string(), (*path).to_owned()));
    assert_eq!(described, routes.collect());
    let limit = &paths["/v1/calls"]["get"]["parameters"][3]["schema"];
    assert_eq!(
        (&limit["default"], &limit["maximum"]),
        (&json!(api::USUAL_LIMIT), &json!(api::HIGHEST_LIMIT))
    );
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_call_is_paused_and_resumed() {
    [1, 3].into_iter().for_each(a_call_is_paused_and_resumed_by);
}

fn a_call_is_paused_and_resumed_by(engines: usize) {
    let scene = Scene::begin_with(Action::All, engines);
    let server = client::Server::Socket(scene.socket());
    let (status, list) = ask(&server, Method::GET, "/v1/calls?dn=1010", "");
    let call = &list["calls"][0];
    assert_eq!((status, &list["matched"], &call["call_id"]), (200, &json!(1), &json!(CALL_ID)), "{list}");
    assert_eq!(
        (&call["recording"], &call["trigger"], &call["rule"]),
        (&json!(true), &json!("rule"), &json!("the-rule"))
    );
    let description: Value = serde_json::from_str(api::DESCRIPTION).unwrap();
    let schemas = &description["components"]["schemas"];
    for (shown, schema) in [(&list, "Calls"), (call, "Call"), (&call["from"], "User")] {
        assert_eq!(keys(shown), keys(&schemas[schema]["properties"]), "{schema}");
    }

    let (status, done) = ask(&server, Method::POST, "/v1/triggers", r#"{"verb":"pause","dn":"1009"}"#);
    assert_eq!(
        (status, &done["effect"], &done["call"]["paused"]),
        (200, &json!("done"), &json!(true)),
        "{done}"
    );
    assert_eq!(keys(&done), keys(&schemas["Done"]["properties"]));
    sleep(Duration::from_millis(1000));
    let id = &call["id"].as_str().unwrap()[..8];
    let body = json!({ "verb": "resume", "id": id, "note": "card number is through" }).to_string();
    let (status, done) = ask(&server, Method::POST, "/v1/triggers", &body);
    assert_eq!((status, &done["effect"], &done["call"]["paused"]), (200, &json!("done"), &json!(false)));
    let body = json!({ "verb": "stop", "call_id": CALL_ID }).to_string();
    let (status, done) = ask(&server, Method::POST, "/v1/triggers", &body);
    assert_eq!((status, &done["effect"]), (200, &json!("none")));
    assert_eq!(done["reason"], "its rule records the whole call");
    sleep(Duration::from_millis(500));

    let archive = scene.end();
    let events = rows_of(archive.path(), Table::Events, Some("operator"));
    let found: Vec<_> = events.iter().map(|row| (&row["verb"], &row["outcome"], &row["text"])).collect();
    let by = json!(format!("by uid {}", rustix::process::geteuid().as_raw()));
    let confirmed = json!("confirmed");
    let verbs = ["pause", "resume", "stop"].map(Value::from);
    assert_eq!(found, verbs.iter().map(|verb| (verb, &confirmed, &by)).collect::<Vec<_>>());
    let notes = rows_of(archive.path(), Table::Events, None);
    assert!(notes.iter().any(|row| row["kind"] == "note" && row["text"] == "card number is through"));

    let recordings = rows_of(archive.path(), Table::Recordings, None);
    let [recording] = &recordings[..] else { panic!("{recordings:?}") };
    let moment = |row: &Value| row["start"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let since = |row: &Value| moment(row).duration_since(moment(recording)).as_secs_f64();
    let (from, to) = (since(&events[0]), since(&events[1]));
    assert!((1.0..1.5).contains(&(to - from)), "{from} {to}");
    let mut wav = hound::WavReader::open(archive.path().join(recording["file"].as_str().unwrap())).unwrap();
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    let heard = |from: f64, to: f64| {
        let frames = &samples[(from * 8000.0) as usize * 2..(to * 8000.0) as usize * 2];
        frames.iter().filter(|sample| **sample != 0).count()
    };
    assert_eq!(heard(from + 0.001, to - 0.001), 0, "something is kept of the pause");
    assert!(heard(from - 1.0, from) > 1000 && heard(to + 0.1, to + 0.4) > 400, "around it everything is");
}

#[test]
fn what_is_wrong_is_said() {
    [1, 3].into_iter().for_each(what_is_wrong_is_said_by);
}

fn what_is_wrong_is_said_by(engines: usize) {
    let scene = Scene::begin_with(Action::Ignore, engines);
    let server = client::Server::Socket(scene.socket());
    let long = format!(r#"{{"verb":"start","dn":"{}"}}"#, "9".repeat(20_000));
    let note = format!(r#"{{"text":"{}","dn":"1009"}}"#, "x".repeat(1001));
    let cases = [
        (Method::GET, "/v2/calls", "", 404, "there is no /v2/calls"),
        (Method::GET, "/v1/calls/1", "", 404, "there is no"),
        (Method::POST, "/v1/calls", "", 405, "POST"),
        (Method::GET, "/v1/calls?limit=0", "", 400, "1 to 1000"),
        (Method::GET, "/v1/calls?limit=1001", "", 400, "1 to 1000"),
        (Method::GET, "/v1/calls?user=1", "", 400, "`dn`"),
        (Method::GET, "/v1/calls?id=xyz", "", 400, "hexadecimal"),
        (Method::GET, "/v1/calls?id=", "", 400, "1 to"),
        (Method::GET, "/v1/calls?id=1&dn=1", "", 400, "exclude"),
        (Method::POST, "/v1/triggers", "", 400, "EOF"),
        (Method::POST, "/v1/triggers", r#"{"verb":"start"}"#, 400, "no call is named"),
        (Method::POST, "/v1/triggers", r#"{"verb":"erase","dn":"1009"}"#, 400, "`pause`"),
        (Method::POST, "/v1/triggers", r#"{"verb":"start","dn":"1","when":"now"}"#, 400, "unknown field"),
        (Method::POST, "/v1/triggers", &long, 413, "bytes"),
        (Method::POST, "/v1/triggers", r#"{"verb":"start","dn":"4711"}"#, 404, "no such call is up"),
        (Method::POST, "/v1/triggers", r#"{"verb":"start","dn":"1009"}"#, 409, "`the-rule` ignores"),
        (Method::POST, "/v1/notes", r#"{"dn":"1009"}"#, 400, "`text`"),
        (Method::POST, "/v1/notes", r#"{"dn":"1009","text":" "}"#, 400, "1 to 1000"),
        (Method::POST, "/v1/notes", &note, 400, "1 to 1000"),
    ];
    for (method, path, body, status, error) in cases {
        let (found, answer) = ask(&server, method, path, body);
        assert_eq!(found, status, "{path} {body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(error), "{path} {body}: {answer}");
        assert!(!answer["hint"].as_str().unwrap().is_empty());
    }
    let (status, _) = ask(&server, Method::POST, "/v1/notes", r#"{"dn":"1009","text":"noted"}"#);
    assert_eq!(status, 200, "a note may be made of a call that is not recorded");
    // Whoever says nothing, or nonsense, is in nobody's way.
    let mut silent: Vec<_> = (0..8).map(|_| StdStream::connect(scene.socket()).unwrap()).collect();
    silent[0].write_all(b"\x16\x03\x01\r\n\r\n").unwrap();
    let mut answer = String::new();
    silent[0].read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(ask(&server, Method::GET, "/v1/calls", "").0, 200);
    let archive = scene.end();
    let [row] = &rows_of(archive.path(), Table::Events, Some("operator"))[..] else { panic!() };
    assert_eq!((&row["verb"], &row["outcome"]), (&json!("start"), &json!("refused")));
}

#[test]
fn by_tcp_with_the_token() {
    let scene = Scene::begin(Action::OnDemand);
    let url = format!("http://{}", scene.listen);
    let server = client::Server::at(&url, &scene.archive.path().join("token")).unwrap();
    let (status, done) = ask(&server, Method::POST, "/v1/triggers", r#"{"verb":"start","dn":"1009"}"#);
    assert_eq!((status, &done["call"]["trigger"]), (200, &json!("operator")), "{done}");
    for wrong in ["Bearer ", "Bearer 0123456789abcdeF", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef"]
    {
        let server = client::Server::Tcp(scene.listen.to_string(), HeaderValue::from_static(wrong));
        for (method, path) in
            [(Method::GET, "/v1/openapi.json"), (Method::POST, "/v1/triggers"), (Method::GET, "/")]
        {
            let (status, _) = server.ask(method, path, Vec::new()).unwrap();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{wrong} {path}");
        }
    }
    let server = client::Server::Tcp(
        scene.listen.to_string(),
        HeaderValue::from_str(&format!("bearer {TOKEN}")).unwrap(),
    );
    assert_eq!(ask(&server, Method::GET, "/v1/openapi.json", "").1["openapi"], "3.1.0");
    let archive = scene.end();
    let [row] = &rows_of(archive.path(), Table::Events, Some("operator"))[..] else { panic!() };
    assert_eq!((&row["source_address"], &row["text"]), (&json!("127.0.0.1"), &json!("")));
    assert!(row["source_port"].as_u64().unwrap() > 0);
    let [recording] = &rows_of(archive.path(), Table::Recordings, Some("operator"))[..] else { panic!() };
    assert_eq!(recording["end_reason"], "capture-end");
}

#[tokio::test]
async fn who_may_have_the_socket() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("x.sock");
    let settings = |path: &Path| Settings { socket: Some(path.to_owned()), demanded: true, tcp: None };
    let refusal = |settings: &Settings| match Server::bind(settings, folder.path()) {
        Ok(_) => panic!("it is taken"),
        Err(error) => format!("{error:#}"),
    };
    let first = Server::bind(&settings(Path::new("x.sock")), folder.path()).unwrap();
    assert_eq!(first.addresses().0, Some(path.as_path()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(refusal(&settings(&path)).contains("somebody listens there"));
    drop(first);
    assert!(!path.exists());
    // A socket whose owner was killed is nobody's.
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Server::bind(&settings(&path), folder.path()).unwrap());
    std::fs::write(&path, "text").unwrap();
    assert!(refusal(&settings(&path)).contains("no socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
    // What nobody has asked for is done without.
    let usual = Settings { demanded: false, ..settings(&path) };
    let server = Server::bind(&usual, folder.path()).unwrap();
    assert!(server.problem.is_some_and(|problem| problem.contains("no socket")));

    let tcp = |token: &str| {
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, token).unwrap();
        let tcp = Some(Tcp { listen: "127.0.0.1:0".parse().unwrap(), token_file });
        Settings { socket: None, demanded: false, tcp }
    };
    assert!(refusal(&tcp("short\n")).contains("16 characters"));
    assert!(refusal(&tcp("               \n  \n")).contains("16 characters"));
    assert!(Server::bind(&tcp(TOKEN), folder.path()).is_ok());
}
