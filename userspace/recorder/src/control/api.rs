//! What may be asked over the control interface. `docs/openapi.json` describes it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spantape_core::control::{self, LONGEST_NOTE, Refusal};
use spantape_core::trigger::{Verb, operator};

use super::body::{Calls, Done, Failure, Named, Note, Trigger};
use super::{Peer, Token};
use crate::live::{Operator, Unanswered};

/// What there is.
pub(super) const ROUTES: [(Method, &str, Route); 4] = [
    (Method::GET, "/v1/calls", Route::Calls),
    (Method::POST, "/v1/triggers", Route::Trigger),
    (Method::POST, "/v1/notes", Route::Note),
    (Method::GET, "/v1/openapi.json", Route::Description),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Calls,
    Trigger,
    Note,
    Description,
}

/// In the OpenAPI format.
pub(super) const DESCRIPTION: &str = include_str!("../../../../docs/openapi.json");

/// Calls that are listed, unless another number is asked for.
pub(super) const USUAL_LIMIT: usize = 100;
/// They are looked at by the thread that records, which has other things to do.
pub(super) const HIGHEST_LIMIT: usize = 1000;
/// Bytes of a request's body.
const LONGEST_BODY: usize = 16 << 10;

/// What is not done, and why.
struct Problem {
    status: StatusCode,
    error: String,
    hint: String,
    /// The method that is understood instead.
    allowed: Option<Method>,
}

/// Answers a request, whatever it is.
pub(super) async fn respond<B>(request: Request<B>, peer: &Peer, operator: &Operator) -> Response<Full<Bytes>>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut response = match answer(request, peer, operator).await {
        Ok(body) => Response::new(body.into()),
        Err(Problem { status, error, hint, allowed }) => {
            let mut response = Response::new(json(&Failure { error, hint }).into());
            *response.status_mut() = status;
            let headers = response.headers_mut();
            if status == StatusCode::UNAUTHORIZED {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            if let Some(allowed) = allowed.and_then(|method| HeaderValue::from_str(method.as_str()).ok()) {
                headers.insert(ALLOW, allowed);
            }
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn answer<B>(request: Request<B>, peer: &Peer, operator: &Operator) -> Result<Vec<u8>, Problem>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Some(token) = &peer.token
        && given(&request).as_ref() != Some(token)
    {
        let hint = "send `Authorization: Bearer TOKEN` with the token of `control.token_file`";
        return Err(problem(StatusCode::UNAUTHORIZED, "the token is missing or wrong", hint));
    }
    let path = request.uri().path();
    let Some((method, _, route)) = ROUTES.iter().find(|(_, known, _)| *known == path) else {
        let hint = "GET /v1/openapi.json says what there is";
        return Err(problem(StatusCode::NOT_FOUND, &format!("there is no {path}"), hint));
    };
    if method != request.method() {
        let error = format!("{path} does not understand {}", request.method());
        let mut problem =
            problem(StatusCode::METHOD_NOT_ALLOWED, &error, "GET /v1/openapi.json says what it does");
        problem.allowed = Some(method.clone());
        return Err(problem);
    }
    match route {
        Route::Description => Ok(DESCRIPTION.as_bytes().to_vec()),
        Route::Calls => {
            let (named, limit) = query(request.uri().query().unwrap_or_default())?;
            let target = named.target().map_err(|error| invalid(&error))?;
            Ok(json(&Calls::from(operator.calls(target, limit).await?)))
        }
        Route::Trigger => {
            let Trigger { verb, id, call_id, dn, note } = read(request.into_body()).await?;
            obey(Some(verb.into()), Named { id, call_id, dn }, note, peer, operator).await
        }
        Route::Note => {
            let Note { id, call_id, dn, text } = read(request.into_body()).await?;
            obey(None, Named { id, call_id, dn }, Some(text), peer, operator).await
        }
    }
}

async fn obey(
    verb: Option<Verb>,
    named: Named,
    note: Option<String>,
    peer: &Peer,
    operator: &Operator,
) -> Result<Vec<u8>, Problem> {
    let target = named.target().map_err(|error| invalid(&error))?;
    let target = target.ok_or_else(|| invalid("no call is named: by `id`, `call_id` or `dn`"))?;
    let long = |note: &String| note.chars().count() > LONGEST_NOTE || note.trim().is_empty();
    if note.as_ref().is_some_and(long) {
        return Err(invalid(&format!("a note has 1 to {LONGEST_NOTE} characters")));
    }
    let (from, remark) = (peer.address, peer.remark.clone());
    let request = control::Request { source: operator::NAME, target, verb, note, from, remark };
    match operator.control(request).await? {
        Ok(answer) => Ok(json(&Done::from(answer))),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The token that comes with a request.
fn given<B>(request: &Request<B>) -> Option<Token> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::of(token.trim()))
}

fn query(text: &str) -> Result<(Named, usize), Problem> {
    let (mut named, mut limit) = (Named::default(), USUAL_LIMIT);
    for (key, value) in form_urlencoded::parse(text.as_bytes()) {
        match &*key {
            "id" => named.id = Some(value.into_owned()),
            "call_id" => named.call_id = Some(value.into_owned()),
            "dn" => named.dn = Some(value.into_owned()),
            "limit" => {
                let number = value.parse().ok().filter(|limit| (1..=HIGHEST_LIMIT).contains(limit));
                limit = number
                    .ok_or_else(|| invalid(&format!("`limit` is a number from 1 to {HIGHEST_LIMIT}")))?;
            }
            _ => return Err(invalid("a query has `id`, `call_id`, `dn` and `limit`, and nothing else")),
        }
    }
    Ok((named, limit))
}

async fn read<T: DeserializeOwned, B>(body: B) -> Result<T, Problem>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = Limited::new(body, LONGEST_BODY).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let error = format!("a body has no more than {LONGEST_BODY} bytes");
            return problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                &error,
                "a note belongs to a call, a file does not",
            );
        }
        invalid("the body did not come as a whole")
    })?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| invalid(&error.to_string()))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and lists of them: there is nothing in it that JSON does not have.
    serde_json::to_vec(value).unwrap_or_default()
}

fn problem(status: StatusCode, error: &str, hint: &str) -> Problem {
    Problem { status, error: error.to_owned(), hint: hint.to_owned(), allowed: None }
}

fn invalid(error: &str) -> Problem {
    problem(StatusCode::BAD_REQUEST, error, "GET /v1/openapi.json says how it is written")
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let (status, hint) = match refusal {
            Refusal::NoCall => {
                (StatusCode::NOT_FOUND, "`spantape ctl list`, or GET /v1/calls, shows those that are")
            }
            Refusal::Ambiguous(_) => (StatusCode::CONFLICT, "give more digits"),
            Refusal::Over => (StatusCode::CONFLICT, "a note can still be made"),
            Refusal::Ignored(_) => {
                (StatusCode::CONFLICT, "a rule with action \"on-demand\" leaves it to the operator")
            }
        };
        problem(status, &refusal.to_string(), hint)
    }
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Problem {
        match unanswered {
            Unanswered::Busy => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "too many wait for an answer", "try again")
            }
            Unanswered::Late => problem(
                StatusCode::GATEWAY_TIMEOUT,
                "recording does not keep up",
                "what was asked for is done all the same, as of when it was asked for",
            ),
            Unanswered::Ended => problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "the capture has ended",
                "its calls are completed: `spantape search` finds them",
            ),
        }
    }
}
