//! The control interface of a recorder at work: HTTP and JSON on a Unix socket, and on TCP for those with a token.
//!
//! It is served beside signals and status, on a thread that never sees a packet. What is asked goes as an order to the
//! thread that follows calls, which does it between two frames; the archivist answers once that is in the archive.

mod api;
pub(crate) mod body;
pub(crate) mod client;

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::live::Operator;

/// The socket, where the configuration names none: in the archive.
pub(crate) const SOCKET: &str = "control.sock";

/// How the recorder may be told what to do.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Relative to the archive. `None`: there is none.
    pub(crate) socket: Option<PathBuf>,
    /// It is not only what is done where nothing is said, so it must be had.
    pub(crate) demanded: bool,
    pub(crate) tcp: Option<Tcp>,
}

impl Settings {
    /// Of one of several recorders: nobody takes the other's place at the socket that all of them would have.
    pub(crate) fn of_node(&self, node: Option<&str>) -> Settings {
        let mut own = self.clone();
        if let (Some(node), Some(socket), false) = (node, &mut own.socket, self.demanded) {
            *socket = format!("control-{node}.sock").into();
        }
        own
    }
}

/// Where it listens for those who have the token in that file.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) listen: SocketAddr,
    pub(crate) token_file: PathBuf,
}

/// Listens, and does not answer yet.
pub(crate) struct Server {
    unix: Option<(UnixListener, SocketFile)>,
    tcp: Option<(TcpListener, Token)>,
    /// Why there is no socket, where one was not asked for.
    pub(crate) problem: Option<String>,
}

/// Who asks.
#[derive(Clone, Debug)]
struct Peer {
    address: Option<SocketAddr>,
    remark: String,
    /// What is to be shown before anything is answered.
    token: Option<Token>,
}

/// Of a secret only the hash is kept: how long a comparison of hashes takes tells nothing that helps to guess it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token([u8; 32]);

/// It is taken away with whoever listens.
struct SocketFile(PathBuf);

/// Connections at the same time; others wait.
const CONNECTIONS: usize = 64;
/// The longest that one of them lasts: it has one request.
const CONNECTION: Duration = Duration::from_secs(15);
const HEADERS: Duration = Duration::from_secs(5);
const HEADER_BYTES: usize = 16 << 10;
/// After a connection could not be taken, for want of files.
const REST: Duration = Duration::from_millis(200);
/// Whoever may write to the socket may do everything: its user, and its group.
const MODE: u32 = 0o660;
/// Connections that may wait to be taken.
const WAITING: u32 = 128;
/// Less can be guessed.
const SHORTEST_TOKEN: usize = 16;

impl Server {
    /// Opens what is asked for. Privileges that are needed for it must still be there.
    pub(crate) fn bind(settings: &Settings, archive: &Path) -> Result<Server> {
        let (mut unix, mut problem) = (None, None);
        if let Some(path) = &settings.socket {
            match bind_unix(&archive.join(path)) {
                Ok(socket) => unix = Some(socket),
                Err(error) if settings.demanded => return Err(error),
                Err(error) => problem = Some(format!("{error:#}")),
            }
        }
        let tcp = settings.tcp.as_ref().map(|tcp| Ok((bind_tcp(tcp.listen)?, token(&tcp.token_file)?)));
        Ok(Server { unix, tcp: tcp.transpose().map_err(|error: anyhow::Error| error)?, problem })
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> (Option<&Path>, Option<SocketAddr>) {
        let socket = self.unix.as_ref().map(|(_, file)| file.0.as_path());
        let listen = self.tcp.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        (socket, listen)
    }

    /// Answers, until it is dropped.
    pub(crate) async fn serve(self, operator: Operator) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let unix = async {
            let Some((listener, _file)) = self.unix else { return };
            loop {
                let Ok(turn) = Arc::clone(&room).acquire_owned().await else { return };
                let Ok((stream, _)) = listener.accept().await else {
                    sleep(REST).await;
                    continue;
                };
                let who = stream.peer_cred().map(|who| format!("by uid {}", who.uid())).unwrap_or_default();
                let peer = Peer { address: None, remark: who, token: None };
                let operator = operator.clone();
                tokio::spawn(async move {
                    converse(stream, peer, operator).await;
                    drop(turn);
                });
            }
        };
        let tcp = async {
            let Some((listener, token)) = self.tcp else { return };
            loop {
                let Ok(turn) = Arc::clone(&room).acquire_owned().await else { return };
                let Ok((stream, address)) = listener.accept().await else {
                    sleep(REST).await;
                    continue;
                };
                let peer = Peer { address: Some(address), remark: String::new(), token: Some(token.clone()) };
                let operator = operator.clone();
                tokio::spawn(async move {
                    converse(stream, peer, operator).await;
                    drop(turn);
                });
            }
        };
        tokio::join!(unix, tcp);
    }
}

/// One request and its answer.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, operator: Operator) {
    let answer =
        service_fn(async |request| Ok::<_, Infallible>(api::respond(request, &peer, &operator).await));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    // A client that has gone, or talks nonsense, is its own concern.
    let _ = timeout(CONNECTION, connection).await;
}

fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile)> {
    let context = || format!("control socket {}", path.display());
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match StdStream::connect(path) {
            Ok(_) => bail!("{}: somebody listens there; `control.socket` names another", context()),
            // Whoever listened there has been killed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).with_context(context)?;
            }
            Err(error) => return Err(error).with_context(context),
        },
        Ok(_) => bail!("{}: a file that is no socket is there", context()),
        Err(_) => {}
    }
    let socket = UnixSocket::new_stream().with_context(context)?;
    socket.bind(path).with_context(context)?;
    let file = SocketFile(path.to_owned());
    // Nobody can connect before it listens, so it is never there for others.
    std::fs::set_permissions(path, Permissions::from_mode(MODE)).with_context(context)?;
    Ok((socket.listen(WAITING).with_context(context)?, file))
}

fn bind_tcp(listen: SocketAddr) -> Result<TcpListener> {
    let context = || format!("control.listen = \"{listen}\"");
    let listener = std::net::TcpListener::bind(listen).with_context(context)?;
    listener.set_nonblocking(true).with_context(context)?;
    TcpListener::from_std(listener).with_context(context)
}

fn token(path: &Path) -> Result<Token> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("control.token_file {}", path.display()))?;
    ensure!(
        text.trim().len() >= SHORTEST_TOKEN,
        "control.token_file {}: a token has {SHORTEST_TOKEN} characters or more; `openssl rand -hex 32` makes one",
        path.display()
    );
    Ok(Token::of(text.trim()))
}

impl Token {
    fn of(secret: &str) -> Token {
        Token(Sha256::digest(secret).into())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // What cannot be removed is replaced by the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
