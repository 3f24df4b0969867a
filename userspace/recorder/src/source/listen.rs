//! Beginning to listen to an interface, by the best means that it has.

use clap::ValueEnum;

use super::interface::{Interface, InterfaceError};
use super::packet::{self, Listener, PacketError};
use super::tap::{Count, Steer, Tap};
use super::xdp::{self, Xdp, XdpError};
use crate::config::Capture;
use crate::privileges::{self, Source};

/// How frames are had from an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// The best that the machine has
    Auto,
    /// AF_XDP: the kernel keeps away what is not needed
    Xdp,
    /// AF_PACKET, by libpcap: works everywhere
    Packet,
}

/// An interface that is listened to.
pub(crate) struct Ear {
    pub(crate) tap: Box<dyn Tap>,
    pub(crate) steer: Box<dyn Steer>,
    pub(crate) count: Box<dyn Count>,
    pub(crate) means: Means,
}

/// By which means, and why.
#[derive(Clone, Debug)]
pub(crate) enum Means {
    Xdp { mode: &'static str, zero_copy: bool, queues: usize },
    Packet { instead: Option<String> },
}

/// Why it cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    #[error(transparent)]
    Xdp(#[from] XdpError),
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error("{packet}; nor by AF_XDP: {xdp}")]
    Neither { xdp: String, packet: PacketError },
    #[error("another spantape is at work on {interface} (XDP program {program}); stop it first")]
    Occupied { interface: String, program: u32 },
    #[error(
        "the XDP program {program} is on {interface}, perhaps another spantape's, which must be stopped first; whose it \
         is only root is told: `sudo bpftool net show dev {interface}`"
    )]
    Unknown { interface: String, program: u32 },
    #[error(
        "the XDP program {name} is on {interface}, and not ours; `bpftool net show dev {interface}` and \
         `ip -details link show dev {interface}` show it; {remedy}"
    )]
    Foreign { interface: String, name: String, remedy: String },
}

/// Begins to listen.
pub(crate) async fn listen(by: By, interface: &Interface, how: &Capture) -> Result<Ear, ListenError> {
    // Behind another program nobody can tell what does not arrive, whatever the means.
    nobody_is_there(interface)?;
    // What is still there is a left-over of ours.
    interface.detach_xdp().await?;
    let instead = match by {
        By::Packet => None,
        By::Xdp => return Ok(by_xdp(interface, how).await?),
        By::Auto => match by_xdp(interface, how).await {
            Ok(ear) => return Ok(ear),
            // Whoever has taken it in this moment takes frames that would be missed here.
            Err(error @ XdpError::Raced) => return Err(error.into()),
            Err(error) => Some(causes(&error)),
        },
    };
    match by_packet(interface, how, instead.clone()) {
        Ok(ear) => Ok(ear),
        Err(packet) => Err(match instead {
            Some(xdp) => ListenError::Neither { xdp, packet },
            None => packet.into(),
        }),
    }
}

fn nobody_is_there(interface: &Interface) -> Result<(), ListenError> {
    let Some(attached) = &interface.xdp else { return Ok(()) };
    let (interface, program) = (interface.name.clone(), attached.program);
    match &attached.name {
        // A left-over: it will be taken off.
        Some(_) if attached.is_ours() && !attached.held => Ok(()),
        Some(_) if attached.is_ours() => Err(ListenError::Occupied { interface, program }),
        Some(name) => {
            let remedy = if attached.held {
                "stop whoever holds it (`bpftool link show`)".to_owned()
            } else {
                format!("`ip link set dev {interface} xdp off` takes it off")
            };
            Err(ListenError::Foreign { interface, name: name.clone(), remedy })
        }
        None => Err(ListenError::Unknown { interface, program }),
    }
}

async fn by_xdp(interface: &Interface, how: &Capture) -> Result<Ear, XdpError> {
    if let Some(lacking) = lacking(Source::Xdp) {
        return Err(XdpError::Privileges(lacking));
    }
    let settings = xdp::Settings {
        ring: how.ring,
        busy_poll: how.busy_poll,
        pass_rest: how.pass_rest,
        promiscuous: how.promiscuous,
    };
    let Xdp { mode, zero_copy, queues, media, counters, tap } =
        Xdp::open(interface, &how.sieving, &settings).await?;
    Ok(Ear {
        tap: Box::new(tap),
        steer: Box::new(media),
        count: Box::new(counters),
        means: Means::Xdp { mode: mode.as_str(), zero_copy, queues },
    })
}

fn by_packet(interface: &Interface, how: &Capture, instead: Option<String>) -> Result<Ear, PacketError> {
    if let Some(lacking) = lacking(Source::Packet) {
        return Err(PacketError::Privileges(lacking));
    }
    let ring = i32::try_from(how.ring).unwrap_or(i32::MAX);
    let settings = packet::Settings { ring, promiscuous: how.promiscuous };
    let (tap, wishes, classes) = Listener::open(&interface.name, &how.sieving, &settings)?;
    Ok(Ear {
        tap: Box::new(tap),
        steer: Box::new(wishes),
        count: Box::new(classes),
        means: Means::Packet { instead },
    })
}

/// What the process may not do, and how it may.
fn lacking(source: Source) -> Option<String> {
    let missing = privileges::missing(source);
    let names = privileges::names(&missing);
    (!missing.is_empty()).then(|| format!("this process lacks {names}: {}", privileges::remedy(source)))
}

/// The error and what lies behind it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some say what their cause says already.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
