//! The other end of the control interface.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime;

/// Where a recorder listens.
#[derive(Clone, Debug)]
pub(crate) enum Server {
    Socket(PathBuf),
    /// Host and port, and the token.
    Tcp(String, HeaderValue),
}

/// For all of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// A thousand calls with long names.
const LONGEST_ANSWER: usize = 16 << 20;

impl Server {
    /// The one at an address such as `http://127.0.0.1:7373`.
    pub(crate) fn at(url: &str, token_file: &Path) -> Result<Server> {
        let uri: Uri = url.parse().with_context(|| format!("{url}: is no URL"))?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
        let authority = authority.with_context(|| format!("{url}: write it as http://127.0.0.1:7373"))?;
        let host = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let token = std::fs::read_to_string(token_file)
            .with_context(|| format!("{}: cannot be read", token_file.display()))?;
        let mut token = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .with_context(|| format!("{}: is no token", token_file.display()))?;
        token.set_sensitive(true);
        Ok(Server::Tcp(host, token))
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes)> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start")?;
        let answer = runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await });
        answer.map_err(|_| anyhow!("{}: no answer in {} s", self.name(), PATIENCE.as_secs()))?
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().context("write the request")?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Server::Socket(path) => {
                headers.insert(HOST, HeaderValue::from_static("localhost"));
                let stream = UnixStream::connect(path).await.with_context(|| {
                    format!(
                        "{}: no recorder answers here; `spantape capture` makes this socket",
                        path.display()
                    )
                })?;
                send(stream, request).await
            }
            Server::Tcp(host, token) => {
                headers.insert(HOST, HeaderValue::try_from(host.as_str()).context("write the request")?);
                headers.insert(AUTHORIZATION, token.clone());
                let stream = TcpStream::connect(host.as_str()).await;
                send(stream.with_context(|| format!("{host}: no recorder answers here"))?, request).await
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Server::Socket(path) => path.display().to_string(),
            Server::Tcp(host, _) => host.clone(),
        }
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes)> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.context("talk to the recorder")?;
    let exchange = async {
        let response = sender.send_request(request).await.context("talk to the recorder")?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let Ok(body) = body else { bail!("the recorder's answer broke off, or has no end") };
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // It ends when all has been said, or when the recorder has gone: the exchange knows which.
        _ = connection => exchange.await,
    }
}
