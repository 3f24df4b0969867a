//! AF_XDP: the sieve runs in the kernel, and only what is needed comes up.

mod program;
mod socket;

use std::io;
use std::thread::sleep;
use std::time::Duration;

use aya::maps::{MapData, XskMap};
use pcap::{Active, Capture};
use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;
use spantape_core::time::{MILLISECOND, Timestamp};
use spantape_core::wire::LinkType;

pub(crate) use program::{Counters, Media};
pub(crate) use socket::Frames;

use self::program::Program;
use self::socket::Queue;
use super::clock::Clock;
use super::interface::{Attached, AttachedMode, Interface, InterfaceError};
use super::memory::Sieving;
use super::packet;
use super::tap::{Batch, Tap, TapError};

/// How it is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Bytes of memory a queue.
    pub(crate) ring: u64,
    pub(crate) busy_poll: bool,
    /// Frames that are not needed go to the kernel's own stack.
    pub(crate) pass_rest: bool,
    pub(crate) promiscuous: bool,
}

/// An interface with the XDP program on it, which leaves it when this goes.
pub(crate) struct Xdp {
    pub(crate) mode: AttachedMode,
    pub(crate) zero_copy: bool,
    pub(crate) queues: usize,
    pub(crate) media: Media,
    pub(crate) counters: Counters,
    pub(crate) tap: Sockets,
    /// When this goes, the program leaves the interface and nothing comes up any more.
    pub(crate) hold: Hold,
}

/// What must live for as long as frames are to come up.
pub(crate) struct Hold {
    _program: Program,
    _sockets: XskMap<MapData>,
    _promiscuous: Option<Capture<Active>>,
}

/// The sockets of all queues.
pub(crate) struct Sockets {
    interface: String,
    queues: Vec<Queue>,
    poll: Vec<PollFd<'static>>,
    clock: Clock,
    busy_poll: bool,
}

/// Why frames cannot be had by AF_XDP.
#[derive(Debug, thiserror::Error)]
pub(crate) enum XdpError {
    #[error("{0}")]
    Privileges(String),
    #[error("another spantape is at work on {interface} (XDP program {program}); stop it first")]
    Occupied { interface: String, program: u32 },
    #[error(
        "the XDP program {name} is on {interface}, and not ours; `bpftool net show dev {interface}` and \
         `ip -details link show dev {interface}` show it, `ip link set dev {interface} xdp off` takes it off"
    )]
    Foreign { interface: String, name: String },
    #[error("the kernel refuses the XDP program: {reason}")]
    Refused { reason: String },
    #[error("the XDP program that was built in lacks `{missing}`")]
    Object { missing: &'static str },
    #[error("cannot {operation}")]
    Failed { operation: &'static str, source: io::Error },
    #[error("the AF_XDP socket of queue {queue}: cannot {what}: {reason}")]
    Socket { what: &'static str, queue: u32, reason: String },
    #[error(transparent)]
    Interface(#[from] InterfaceError),
}

/// What may still be on its way into a ring when the ring is found empty.
const SLACK: i64 = 20 * MILLISECOND;
/// How long to wait for the first frame.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100 * MILLISECOND };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// After the first, so that a wake-up serves many.
const NAP: Duration = Duration::from_millis(1);
/// Fewer frames could not bridge a nap, and more the kernel's rings do not take.
const FEWEST: u64 = 256;
const MOST: u64 = 1 << 20;
/// A frame of this size and its VLAN tags fit in 2 KiB beside what the kernel and the stamp need.
const SMALL_MTU: u32 = 1700;

impl Xdp {
    /// Puts the program on the interface and opens a socket for each queue.
    pub(crate) async fn open(
        interface: &Interface,
        told: &Sieving,
        settings: &Settings,
    ) -> Result<Xdp, XdpError> {
        make_room(interface).await?;
        let mut program = Program::load(told, settings.pass_rest, interface.queues)?;
        let mut sockets = program.sockets()?;
        // Sockets first: no frame that the program hands up shall find none.
        let mut queues = open_queues(interface, settings, true, &mut sockets)?;
        let mode = program.attach(interface.index)?;
        if mode != AttachedMode::Native && queues.iter().any(Queue::is_zero_copy) {
            // The driver fills such sockets itself, and would not.
            drop(queues);
            queues = open_queues(interface, settings, false, &mut sockets)?;
        }
        let promiscuous = if settings.promiscuous {
            let failed = |reason: String| XdpError::Failed {
                operation: "switch promiscuous mode on",
                source: io::Error::other(reason),
            };
            Some(packet::promiscuous(&interface.name).map_err(failed)?)
        } else {
            None
        };
        Ok(Xdp {
            mode,
            zero_copy: queues.iter().all(Queue::is_zero_copy),
            queues: queues.len(),
            media: program.media()?,
            counters: program.counters()?,
            tap: Sockets {
                interface: interface.name.clone(),
                poll: queues.iter().map(Queue::poll_fd).collect(),
                queues,
                clock: Clock::new(),
                busy_poll: settings.busy_poll,
            },
            hold: Hold { _program: program, _sockets: sockets, _promiscuous: promiscuous },
        })
    }
}

impl Sockets {
    fn wait(&mut self) -> Result<(), Errno> {
        let limit = if self.busy_poll { &AT_ONCE } else { &WAIT };
        match poll(&mut self.poll, Some(limit)) {
            // A signal, or a link that went down: frames may come again.
            Ok(_) | Err(Errno::INTR | Errno::NETDOWN) => {}
            Err(error) => return Err(error),
        }
        if !self.busy_poll {
            sleep(NAP);
        }
        Ok(())
    }
}

impl Tap for Sockets {
    fn link(&self) -> LinkType {
        LinkType::Ethernet
    }

    fn read(&mut self, batch: &mut Batch) -> Result<(), TapError> {
        self.wait().map_err(|error| TapError {
            interface: self.interface.clone(),
            reason: io::Error::from(error).to_string(),
        })?;
        let now = self.clock.now();
        let mut more = false;
        for queue in &mut self.queues {
            more |= queue.receive(&self.clock, batch);
        }
        if self.queues.len() > 1 {
            batch.sort();
        }
        batch.seen_until = (!more).then(|| Timestamp(now.0 - SLACK));
        Ok(())
    }

    fn lost(&mut self) -> u64 {
        self.queues.iter().map(Queue::lost).sum()
    }

    fn frames(&self) -> Option<Frames> {
        let mut all = Frames::default();
        for frames in self.queues.iter().map(Queue::frames) {
            all.all += frames.all;
            all.kernel += frames.kernel;
            all.free += frames.free;
        }
        Some(all)
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }
}

/// A socket for each queue, known to the program.
fn open_queues(
    interface: &Interface,
    settings: &Settings,
    try_zero_copy: bool,
    sockets: &mut XskMap<MapData>,
) -> Result<Vec<Queue>, XdpError> {
    let large = interface.mtu > SMALL_MTU;
    let frames = frames_in(settings.ring, large);
    let mut queues = Vec::new();
    for number in 0..interface.queues {
        let queue = Queue::open(interface.index, number, frames, large, try_zero_copy)?;
        if settings.busy_poll {
            let failed = |source| XdpError::Failed { operation: "set busy polling", source };
            queue.prefer_busy_poll().map_err(failed)?;
        }
        sockets.set(number, queue.fd(), 0).map_err(|error| XdpError::Failed {
            operation: "tell the XDP program its sockets",
            source: io::Error::other(error),
        })?;
        queues.push(queue);
    }
    Ok(queues)
}

/// How many frames of a ring's memory there are: a power of two.
fn frames_in(ring: u64, large: bool) -> u32 {
    let frames = (ring / if large { 4096 } else { 2048 }).clamp(FEWEST, MOST);
    1 << frames.ilog2()
}

/// Takes a program of ours off that nobody stands behind any more.
async fn make_room(interface: &Interface) -> Result<(), XdpError> {
    let Some(attached) = &interface.xdp else { return Ok(()) };
    let name = interface.name.clone();
    match attached {
        Attached { held: false, .. } if attached.is_ours() => Ok(interface.detach_xdp().await?),
        Attached { program, .. } if attached.is_ours() => {
            Err(XdpError::Occupied { interface: name, program: *program })
        }
        Attached { program, name: program_name, .. } => {
            let program_name = program_name.clone().unwrap_or_else(|| format!("number {program}"));
            Err(XdpError::Foreign { interface: name, name: program_name })
        }
    }
}
