//! A phone that orders recordings from a record server by TCP, and sends it what it hears by UDP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::speak;
use crate::lab::media::Clip;
use crate::lab::switch::{Family, Lab, Phone};

/// Ids of a recording for which there is no room, and of one for which there is.
pub(super) const FAILED: &str = "16";
pub(super) const GRANTED: &str = "17";

const CONTROL_PORT: u16 = 8000;
const STREAM_PORTS: [u16; 2] = [12_010, 32_000];
/// What a server needs to answer.
const THINKS: Duration = Duration::from_millis(20);

/// Phone B is refused once, then has the clip recorded.
pub(super) fn record(lab: &Lab, samples: &Path, clip: &Clip) -> Result<()> {
    let server = Phone::Server.ip(Family::V4);
    let at = SocketAddr::new(server, CONTROL_PORT);
    let listener = lab.within_phone(Phone::Server, || Ok(TcpListener::bind(at)?)).context("listen")?;
    let client = lab.within_phone(Phone::B, || Ok(TcpStream::connect(at)?)).context("connect")?;
    let mut control = Control { client, server: listener.accept().context("accept")?.0 };
    let receiver = SocketAddr::new(server, STREAM_PORTS[1]);
    let _receiver = lab.within_phone(Phone::Server, || Ok(UdpSocket::bind(receiver)?)).context("receive")?;

    let start = |id| {
        format!(
            "cmd=RecordStartRequest&id={id}&device=000413AA1010&remote_number=1009&remote_name=&\
             local_number=1010&local_name=Zoë&dir=in&codec=PCMA"
        )
    };
    let failed = format!("cmd=RecordStartResponse&id={FAILED}&result=failed&reason=disk%20full");
    control.exchange(&start(FAILED), &failed)?;
    std::thread::sleep(Duration::from_millis(500));
    let granted = format!(
        "cmd=RecordStartResponse&id={GRANTED}&result=success&reason=&server={server}&port={}",
        receiver.port()
    );
    control.exchange(&start(GRANTED), &granted)?;
    speak(lab, samples, clip, [(Phone::B, STREAM_PORTS[0]), (Phone::Server, receiver.port())])?;
    control.exchange(
        &format!("cmd=RecordStopRequest&id={GRANTED}&reason=user"),
        &format!("cmd=RecordStopResponse&id={GRANTED}&result=success"),
    )
}

/// Both ends of the control connection.
struct Control {
    client: TcpStream,
    server: TcpStream,
}

impl Control {
    fn exchange(&mut self, request: &str, answer: &str) -> Result<()> {
        hand_over(&mut self.client, &mut self.server, request)?;
        std::thread::sleep(THINKS);
        hand_over(&mut self.server, &mut self.client, answer)
    }
}

/// Messages have no end of their own.
fn hand_over(from: &mut TcpStream, to: &mut TcpStream, text: &str) -> Result<()> {
    from.write_all(text.as_bytes()).context("send a message")?;
    let mut received = vec![0; text.len()];
    to.read_exact(&mut received).context("receive a message")?;
    ensure!(received == text.as_bytes(), "another message was received");
    Ok(())
}
