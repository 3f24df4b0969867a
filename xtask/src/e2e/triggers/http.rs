//! A record key that fetches a URL: a client and a server that speak real HTTP.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::lab::switch::{Family, Lab, Phone};

pub(super) const PATH: &str = "/URLRecord/record.xml";
const PORT: u16 = 80;
/// In HTTP the phone adds its hardware address.
const AGENT: &str = "Yealink SIP-T46G 28.81.0.25 00:15:65:74:b1:50";

/// The key of phone A is pressed, and once more after `between`: both on one connection.
pub(super) fn press_twice(lab: &Lab, between: Duration) -> Result<()> {
    let at = SocketAddr::new(Phone::Server.ip(Family::V4), PORT);
    let listener = lab.within_phone(Phone::Server, || Ok(TcpListener::bind(at)?)).context("listen")?;
    let client = lab.within_phone(Phone::A, || Ok(TcpStream::connect(at)?)).context("connect")?;
    let (server, _) = listener.accept().context("accept")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, server) = (io(client)?, io(server)?);
        tokio::try_join!(serve(server), press(client, between)).map(|_| ())
    })
}

type Io = TokioIo<tokio::net::TcpStream>;

fn io(stream: TcpStream) -> Result<Io> {
    stream.set_nonblocking(true)?;
    Ok(TokioIo::new(tokio::net::TcpStream::from_std(stream)?))
}

/// Until the client closes the connection. Every request turns the recording on or off.
async fn serve(connection: Io) -> Result<()> {
    let is_recording = AtomicBool::new(false);
    let answer = |request: Request<Incoming>| {
        let was_recording = is_recording.fetch_xor(true, Ordering::Relaxed);
        async move {
            ensure!(request.uri().path() == PATH, "a request for {}", request.uri());
            let done = if was_recording { "stopped" } else { "started" };
            let document = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<YealinkIPPhoneTextScreen>\n<Title>Record</Title>\n\
                 <Text>The recording is successfully {done}.</Text>\n</YealinkIPPhoneTextScreen>\n"
            );
            Ok(Response::builder().header(CONTENT_TYPE, "text/xml").body(Full::<Bytes>::from(document))?)
        }
    };
    let server = hyper::server::conn::http1::Builder::new();
    server.serve_connection(connection, service_fn(answer)).await.context("serve")
}

async fn press(connection: Io, between: Duration) -> Result<()> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(connection).await?;
    let presses = async move {
        for wait in [Duration::ZERO, between] {
            tokio::time::sleep(wait).await;
            let host = Phone::Server.ip(Family::V4).to_string();
            let request = Request::get(PATH).header(HOST, host).header(USER_AGENT, AGENT);
            let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
            ensure!(response.status() == StatusCode::OK, "the server answers {}", response.status());
            response.into_body().collect().await?;
        }
        // With the sender goes the connection.
        Ok(())
    };
    let connection = async { connection.await.context("the connection of the client") };
    tokio::try_join!(connection, presses).map(|_| ())
}
