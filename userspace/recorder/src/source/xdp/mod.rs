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
use rustix::system::uname;
use spantape_core::time::{MILLISECOND, Timestamp};
use spantape_core::wire::LinkType;

pub(crate) use program::{Counters, Media};
pub(crate) use socket::Frames;

use self::program::Program;
use self::socket::Queue;
use super::clock::Clock;
use super::driver::{Driver, OffloadKind};
use super::interface::{AttachedMode, Interface, InterfaceError};
use super::memory::Sieving;
use super::packet;
use super::tap::{Batch, ENOUGH_FRAMES, Tap, TapError};

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
}

/// The sockets of all queues.
pub(crate) struct Sockets {
    interface: String,
    /// Goes before the sockets: no frame shall be handed up that finds none.
    attached: Option<OnInterface>,
    queues: Vec<Queue>,
    poll: Vec<PollFd<'static>>,
    clock: Clock,
    busy_poll: bool,
    /// The queue whose turn it is to be first.
    first: usize,
    /// How long frames may gather in the rings.
    nap: Duration,
    /// There was more than could be taken.
    more: bool,
}

/// What must live for as long as frames are to come up.
struct OnInterface {
    _program: Program,
    _sockets: XskMap<MapData>,
    _promiscuous: Option<Capture<Active>>,
}

/// Why frames cannot be had by AF_XDP.
#[derive(Debug, thiserror::Error)]
pub(crate) enum XdpError {
    #[error("{0}")]
    Privileges(String),
    #[error("another program has taken the interface, or a queue of it, in this moment; try again")]
    Raced,
    #[error("Linux {release} is too old for AF_XDP here: it takes 5.9; `--source packet` does without")]
    OldKernel { release: String },
    #[error("{interface} is no Ethernet interface, as XDP takes them; `--source packet` does without")]
    NotEthernet { interface: String },
    #[error(
        "{interface} takes frames of {mtu} bytes, more than AF_XDP has room for: `ip link set dev {interface} mtu 1500`, \
         or `--source packet`"
    )]
    LargeFrames { interface: String, mtu: u32 },
    #[error(
        "{interface} has XDP only behind GRO, which joins segments to more than AF_XDP has room for: \
         `ethtool -K {interface} gro off`, or `--source packet`"
    )]
    Joined { interface: String },
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
const FEWEST_AT_ONCE: usize = 32;
/// For this rate the ring must be large enough while frames gather in it, so that a wake-up serves many.
const FRAMES_A_SECOND: u64 = 500_000;
const LONGEST_NAP: Duration = Duration::from_millis(10);
/// Fewer frames could not bridge a nap, and more the kernel's rings do not take.
const FEWEST: u64 = 256;
const MOST: u64 = 1 << 20;
/// A frame of this size and its VLAN tags fit in 2 KiB beside what kernel, driver and stamp need.
const SMALL_MTU: u32 = 1600;
/// Likewise in 4 KiB.
const LARGE_MTU: u32 = 3500;
/// The first kernel whose links take the program off when the process ends, however it does.
const KERNEL: (u32, u32) = (5, 9);

impl Xdp {
    /// Puts the program on the interface and opens a socket for each queue.
    pub(crate) async fn open(
        interface: &Interface,
        told: &Sieving,
        settings: &Settings,
    ) -> Result<Xdp, XdpError> {
        let release = uname().release().to_string_lossy().into_owned();
        if version(&release).is_some_and(|version| version < KERNEL) {
            return Err(XdpError::OldKernel { release });
        }
        if !interface.ethernet {
            return Err(XdpError::NotEthernet { interface: interface.name.clone() });
        }
        if interface.mtu > LARGE_MTU {
            return Err(XdpError::LargeFrames { interface: interface.name.clone(), mtu: interface.mtu });
        }
        let mut program = Program::load(told, settings.pass_rest, interface.queues)?;
        let mut sockets = program.sockets()?;
        // Sockets first: no frame that the program hands up shall find none.
        let mut queues = open_queues(interface, settings, true, &mut sockets)?;
        let mode = program.attach(interface.index)?;
        if mode != AttachedMode::Native && joins_segments(interface).await {
            return Err(XdpError::Joined { interface: interface.name.clone() });
        }
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
                first: 0,
                nap: nap(frames_in(settings.ring, interface.mtu > SMALL_MTU)),
                more: false,
                attached: Some(OnInterface {
                    _program: program,
                    _sockets: sockets,
                    _promiscuous: promiscuous,
                }),
            },
        })
    }
}

impl Sockets {
    fn wait(&mut self) -> Result<(), Errno> {
        if self.busy_poll {
            self.queues.iter().for_each(Queue::busy_poll);
            return Ok(());
        }
        match poll(&mut self.poll, Some(&WAIT)) {
            Ok(_) | Err(Errno::INTR) => sleep(self.nap),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Tap for Sockets {
    fn link(&self) -> LinkType {
        LinkType::Ethernet
    }

    fn read(&mut self, batch: &mut Batch) -> Result<(), TapError> {
        // With more to take there is nothing to wait for.
        let waited = if self.more { Ok(()) } else { self.wait() };
        waited.map_err(|error| TapError {
            interface: self.interface.clone(),
            reason: io::Error::from(error).to_string(),
        })?;
        let now = self.clock.now();
        let mut more = false;
        let count = self.queues.len();
        // Each its share, so that none is left behind the others' time.
        let share = (ENOUGH_FRAMES / count.max(1)).max(FEWEST_AT_ONCE);
        self.first = (self.first + 1) % count.max(1);
        let (late, early) = self.queues.split_at_mut(self.first);
        for queue in early.iter_mut().chain(late) {
            more |= queue.receive(&self.clock, batch, share);
        }
        if count > 1 {
            batch.sort();
        }
        self.more = more;
        batch.seen_until = (!more).then(|| Timestamp(now.0 - SLACK));
        Ok(())
    }

    fn lost(&mut self) -> u64 {
        self.queues.iter_mut().map(Queue::lost).sum()
    }

    fn detach(&mut self) {
        self.attached = None;
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

/// As long as a quarter of a ring's frames take to come at a rate that is seldom seen.
fn nap(frames: u32) -> Duration {
    Duration::from_micros(u64::from(frames) / 4 * 1_000_000 / FRAMES_A_SECOND).min(LONGEST_NAP)
}

/// Whether the kernel joins segments before a generic XDP program sees them.
async fn joins_segments(interface: &Interface) -> bool {
    let Ok(driver) = Driver::open() else { return false };
    let offloads = driver.offloads(&interface.name).await.unwrap_or_default();
    offloads.iter().any(|offload| offload.kind != OffloadKind::Vlan)
}

/// How many frames of a ring's memory there are: a power of two.
fn frames_in(ring: u64, large: bool) -> u32 {
    let frames = (ring / if large { 4096 } else { 2048 }).clamp(FEWEST, MOST);
    1 << frames.ilog2()
}

/// Of `5.10.0-28-amd64`, 5 and 10.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
