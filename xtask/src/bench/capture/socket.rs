//! Frames from a socket.

use std::io::IoSlice;

use anyhow::{Context as _, Result};
use pcap::{Active, Capture};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

/// An interface that is only sent to. libpcap opens and binds the socket, which takes `unsafe` otherwise.
pub(super) struct Socket {
    socket: Capture<Active>,
    pub(super) sent: u64,
    /// By the interface, which had no room.
    pub(super) refused: u64,
}

impl Socket {
    pub(super) fn open(interface: &str) -> Result<Self> {
        let open = || {
            let mut socket = Capture::from_device(interface)?.snaplen(64).buffer_size(1 << 16).open()?;
            // It is to receive nothing.
            socket.filter("less 1", true)?;
            Ok(socket)
        };
        let socket =
            open().map_err(|error: pcap::Error| error).with_context(|| format!("open {interface}"))?;
        Ok(Self { socket, sent: 0, refused: 0 })
    }

    pub(super) fn send(&mut self, frames: &[&[u8]]) -> Result<()> {
        let slices: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let mut nothing: Vec<SendAncillaryBuffer<'_, '_, '_>> =
            frames.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let messages = slices.iter().zip(&mut nothing);
        let mut messages: Vec<MMsgHdr<'_>> =
            messages.map(|(slice, nothing)| MMsgHdr::new(slice, nothing)).collect();
        let mut rest = &mut messages[..];
        while !rest.is_empty() {
            let done = match sendmmsg(&self.socket, rest, SendFlags::empty()) {
                Ok(count) => {
                    self.sent += count as u64;
                    count
                }
                // The queue to the other end is full, and the frame is lost.
                Err(Errno::NOBUFS) => {
                    self.refused += 1;
                    1
                }
                Err(Errno::INTR | Errno::AGAIN) => 0,
                Err(error) => return Err(error).context("send"),
            };
            rest = &mut rest[done..];
        }
        Ok(())
    }
}
