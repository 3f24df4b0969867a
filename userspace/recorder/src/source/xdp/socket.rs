//! One RX queue's AF_XDP socket and the memory that it shares with the kernel.
//!
//! `unsafe` is needed here, and nowhere else outside the XDP program: the `xdp` crate leaves it to its callers
//! that a packet does not outlive the memory it lies in, and two socket options are set that no safe wrapper
//! offers. No packet leaves [`Queue::receive`].
#![expect(unsafe_code, reason = "see above")]

use std::error::Error;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, recv};
use spantape_sieve::Stamp;
use xdp::nic::NicIndex;
use xdp::slab::{Slab, StackSlab};
use xdp::socket::{OptName, SocketError, XdpSocket, XdpSocketBuilder};
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{RingConfigBuilder, RxRing, Umem, WakableFillRing};

use super::XdpError;
use crate::source::clock::Clock;
use crate::source::tap::Batch;

/// Room in front of each frame, for the stamp that the XDP program writes there.
const STAMP: usize = size_of::<Stamp>();

/// Frames that are taken from a ring at once.
const AT_ONCE: usize = 32;

/// How long to try to get a queue that another socket has.
const PATIENCE: u32 = 20;
const BREATH: Duration = Duration::from_millis(50);

/// Frames that the kernel may keep back while busy polling.
const BUSY_POLL_BUDGET: libc::c_int = 64;
const BUSY_POLL_MICROSECONDS: libc::c_int = 20;

/// A queue's socket. Fields go in their order: the memory last.
pub(super) struct Queue {
    rx: RxRing,
    fill: WakableFillRing,
    socket: XdpSocket,
    umem: Umem,
    zero_copy: bool,
    /// Frames given to the kernel, and had back from it.
    given: u64,
    taken: u64,
    lost: u64,
}

/// Where the frames of a queue's memory are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    /// All there are.
    pub(crate) all: u64,
    /// The kernel has them, empty or full.
    pub(crate) kernel: u64,
    /// They wait to be given to the kernel.
    pub(crate) free: u64,
}

impl Queue {
    /// A socket for the queue, with memory for so many frames (a power of two), all of which the kernel has.
    /// Zero-copy if the driver can, and that is to be tried.
    pub(super) fn open(
        index: u32,
        queue: u32,
        frames: u32,
        large: bool,
        try_zero_copy: bool,
    ) -> Result<Queue, XdpError> {
        let mut zero_copy = try_zero_copy;
        let mut patience = PATIENCE;
        loop {
            match Queue::try_open(index, queue, frames, large, zero_copy) {
                // The kernel takes its time to let go of the memory of a socket that was closed.
                Err(XdpError::Raced) if patience > 0 => {
                    patience -= 1;
                    sleep(BREATH);
                }
                Err(XdpError::Raced) => return Err(XdpError::Raced),
                Err(_) if zero_copy => zero_copy = false,
                done => return done,
            }
        }
    }

    fn try_open(
        index: u32,
        queue: u32,
        frames: u32,
        large: bool,
        zero_copy: bool,
    ) -> Result<Queue, XdpError> {
        let failed = |what: &'static str| move |reason: String| XdpError::Socket { what, queue, reason };
        let text = |error: xdp::error::Error| error.to_string();
        let memory = UmemCfgBuilder {
            frame_size: if large { FrameSize::FourK } else { FrameSize::TwoK },
            head_room: STAMP as u32,
            frame_count: frames,
            ..UmemCfgBuilder::default()
        };
        let memory = memory.build().map_err(text).map_err(failed("size its memory"))?;
        let mut umem = Umem::map(memory).map_err(|error| failed("get its memory")(error.to_string()))?;
        // Each frame finds room in either ring, whoever has it.
        let rings =
            RingConfigBuilder { rx_count: frames, tx_count: 0, fill_count: frames, completion_count: 64 };
        let rings = rings.build().map_err(text).map_err(failed("size its rings"))?;
        let socket = |error: SocketError| failed("open it")(reason(&error));
        let mut builder = XdpSocketBuilder::new().map_err(socket)?;
        let (rings, mut flags) = builder.build_wakable_rings(&umem, rings).map_err(socket)?;
        if zero_copy {
            flags.force_zerocopy();
        } else {
            flags.force_copy();
        }
        let mut rx = rings.rx_ring;
        let mut fill = rings.fill_ring;
        // Before it is bound, so that a driver that fills the frames itself finds some from the start.
        // SAFETY: the memory outlives the socket: it is the last field.
        let given = unsafe { fill.enqueue(&mut umem, frames as usize, false) };
        let given = given.map_err(|error| failed("give it frames")(error.to_string()))? as u64;
        let socket = builder.bind(NicIndex::new(index), queue, flags).map_err(|error| match &error {
            SocketError::Bind(cause) if cause.raw_os_error() == Some(libc::EBUSY) => XdpError::Raced,
            _ => failed("bind it")(reason(&error)),
        })?;
        let rx = rx.take().ok_or_else(|| failed("open it")("there is no RX ring".to_owned()))?;
        Ok(Queue { rx, fill, socket, umem, zero_copy, given, taken: 0, lost: 0 })
    }

    /// Takes what has come, but no more than so many frames and what the batch has room for. Says whether there may
    /// be more.
    pub(super) fn receive(&mut self, clock: &Clock, batch: &mut Batch, most: usize) -> bool {
        let mut packets = StackSlab::<AT_ONCE>::new();
        let mut taken = 0;
        while !batch.is_full() && taken < most {
            // SAFETY: the packets are freed below, before this returns; the memory is this queue's own.
            let count = unsafe { self.rx.recv(&self.umem, &mut packets) };
            if count == 0 {
                return false;
            }
            while let Some(mut packet) = packets.pop_back() {
                let stamped = packet.adjust_head(-(STAMP as i32)).is_ok();
                let (stamp, frame) = packet.split_at_mut(if stamped { STAMP } else { 0 });
                let at = received_at(stamp).map_or_else(|| clock.now(), |time| clock.at_monotonic(time));
                batch.push(at, frame);
                // The memory will be another frame's, which may have no stamp.
                stamp.fill(0);
                self.umem.free_packet(packet);
            }
            taken += count;
            self.taken += count as u64;
            self.give(count);
        }
        true
    }

    /// Frames that found no room so far, or were too long for it.
    pub(super) fn lost(&mut self) -> u64 {
        if let Ok(stats) = self.socket.statistics() {
            self.lost = stats.rx_dropped + stats.rx_ring_full;
        }
        self.lost
    }

    /// Has the driver look for frames, in this thread: busy polling happens where somebody receives.
    pub(super) fn busy_poll(&self) {
        // SAFETY: the socket lives while this runs.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        // It receives nothing, and says so.
        let _ = recv(fd, &mut [0u8; 0], RecvFlags::DONTWAIT);
    }

    /// Where the frames are.
    pub(super) fn frames(&self) -> Frames {
        Frames {
            all: self.umem.capacity() as u64,
            kernel: self.given - self.taken,
            free: self.umem.allocatable() as u64,
        }
    }

    pub(super) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// The socket, for XSKMAP.
    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The socket, to be polled. Polling is also what wakes a driver that waits for frames.
    pub(super) fn poll_fd(&self) -> PollFd<'static> {
        // SAFETY: whoever polls has the queue beside it, and gives both up together.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        PollFd::from_borrowed_fd(fd, PollFlags::IN)
    }

    /// Leaves the driver's work to [`Self::busy_poll`] (`SO_PREFER_BUSY_POLL`).
    pub(super) fn prefer_busy_poll(&self) -> std::io::Result<()> {
        let options = [
            (libc::SO_PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, BUSY_POLL_MICROSECONDS),
            (libc::SO_BUSY_POLL_BUDGET, BUSY_POLL_BUDGET),
        ];
        for (option, value) in options {
            let value: libc::c_int = value;
            // SAFETY: the kernel reads so many bytes of a value that lives.
            let done = unsafe {
                libc::setsockopt(
                    self.socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const value).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            if done != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Gives the kernel so many frames.
    fn give(&mut self, count: usize) {
        // SAFETY: the memory outlives the socket: it is the last field.
        // The driver is woken by the next poll, and has its frames then.
        let given = unsafe { self.fill.enqueue(&mut self.umem, count, false) };
        self.given += given.map_or(0, |given| given as u64);
    }
}

/// In one line, with the remedy where there is one.
fn reason(error: &SocketError) -> String {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    match error {
        SocketError::SetSockOpt { option: OptName::UmemRegion, inner }
            if inner.raw_os_error() == Some(libc::ENOBUFS) =>
        {
            "it may not lock so much memory: give it CAP_IPC_LOCK, raise `ulimit -l`, or lower `ring`"
                .to_owned()
        }
        _ => cause,
    }
}

/// When the XDP program has seen the frame, if what stands before it is its stamp.
fn received_at(stamp: &[u8]) -> Option<i64> {
    let (mark, time) = stamp.split_first_chunk::<8>()?;
    let time = time.first_chunk::<8>()?;
    (u64::from_ne_bytes(*mark) == Stamp::MARK).then(|| i64::try_from(u64::from_ne_bytes(*time)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_known_by_its_mark() {
        let stamp = |mark: u64, time: u64| [mark.to_ne_bytes(), time.to_ne_bytes()].concat();
        assert_eq!(received_at(&stamp(Stamp::MARK, 7)), Some(7));
        assert_eq!(received_at(&stamp(Stamp::MARK, u64::MAX)), None);
        assert_eq!(received_at(&stamp(0, 7)), None);
        assert_eq!(received_at(&[]), None);
    }
}
