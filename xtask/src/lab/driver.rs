//! Frames as a network card's driver has them: pages that XDP sees before there is a socket buffer.
//!
//! The kernel runs a program on pages that it then sends out of the near end of a veth (`BPF_PROG_TEST_RUN` with live
//! frames), and at the far end they arrive as they are. A frame from a socket would have to be copied out of its socket
//! buffer first, for XDP alone.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::lab::process::run;
use crate::lab::switch::{Lab, MIRROR_PORTS};
use crate::workspace;

/// Sends frames that it has been told beforehand.
pub(crate) struct Driver {
    ebpf: Ebpf,
    context: Vec<u8>,
}

/// What becomes of frames at the monitor's end when nobody looks at them in XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They become socket buffers.
    Pass,
    /// They are gone at once.
    Discard,
}

/// A program at the monitor's end until this goes.
pub(crate) struct Standing(#[expect(dead_code, reason = "it is held, not used")] Ebpf);

const OBJECT: &str = "ebpf/bench.o";
/// As `ebpf/xdp/src/bench.rs` has them.
const BLOCK: usize = 1 << 16;
const LONGEST: usize = 1536;
/// Frames that the far end takes at once: so few that pages come back before there have to be more of them.
const BATCH: u32 = 32;

impl Driver {
    /// Frames are sent in this order.
    pub(crate) fn open<'a>(interface: &str, frames: impl Iterator<Item = &'a [u8]>) -> Result<Self> {
        let (blocks, frames) = arrange(frames)?;
        let mut ebpf = load(blocks.len(), frames.len())?;
        let mut all: Array<_, [u8; BLOCK]> = map(&mut ebpf, "BLOCKS")?;
        for (block, index) in blocks.iter().zip(0..) {
            let block: &[u8; BLOCK] = block;
            all.set(index, block, 0).context("a block of frames")?;
        }
        let mut all: Array<_, u64> = map(&mut ebpf, "FRAMES")?;
        for (frame, index) in frames.iter().zip(0..) {
            all.set(index, frame, 0).context("the place of a frame")?;
        }
        let send = program(&mut ebpf, "send")?;
        send.load().context("the kernel does not take the program")?;
        // Nothing comes to it there. But an interface sends nothing for XDP without a program, and one that is at no
        // interface is put among those that are by patching the kernel's code, which takes milliseconds each time.
        send.attach(interface, XdpMode::Driver).with_context(|| format!("a program at {interface}"))?;
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).context("open a socket")?;
        let index = name_to_index(&socket, interface).with_context(|| format!("look for {interface}"))?;
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, LONGEST as u32, 0, index, 0, 0];
        Ok(Self { ebpf, context: context.into_iter().flat_map(u32::to_ne_bytes).collect() })
    }

    /// Sends the next ones.
    pub(crate) fn send(&mut self, count: usize) -> Result<()> {
        let options = TestRunOptions {
            data_in: Some(&[0; LONGEST]),
            ctx_in: Some(&self.context),
            repeat: u32::try_from(count).context("too many at once")?,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        program(&mut self.ebpf, "send")?.test_run(options).context("send")?;
        Ok(())
    }

    /// The next one is the first again.
    pub(crate) fn rewind(&mut self) -> Result<()> {
        let mut sent: Array<_, u64> = map(&mut self.ebpf, "SENT")?;
        sent.set(0, 0, 0).context("begin again")
    }

    /// How many were sent since the beginning.
    pub(crate) fn sent(&mut self) -> Result<u64> {
        let sent: Array<_, u64> = map(&mut self.ebpf, "SENT")?;
        sent.get(&0, 0).context("how many were sent")
    }
}

impl Standing {
    /// At the monitor's end, which takes nothing without from an end that sends for XDP.
    pub(crate) fn far(lab: &Lab, verdict: Verdict) -> Result<Self> {
        let [(_, far), _] = MIRROR_PORTS;
        lab.within_monitor(|| {
            let mut ebpf = load(1, 1)?;
            let program = program(&mut ebpf, verdict.program())?;
            program.load().context("the kernel does not take the program")?;
            program.attach(far, XdpMode::Driver).with_context(|| format!("a program at {far}"))?;
            // It has come with the program. Here it would only add up checksums, which a card has done by then.
            run(&format!("ethtool -K {far} gro off"))?;
            Ok(Self(ebpf))
        })
    }
}

/// A program at no interface.
pub(crate) struct Alone {
    ebpf: Ebpf,
    name: &'static str,
}

impl Alone {
    pub(crate) fn load(verdict: Verdict) -> Result<Self> {
        let (mut ebpf, name) = (load(1, 1)?, verdict.program());
        program(&mut ebpf, name)?.load().context("the kernel does not take the program")?;
        Ok(Self { ebpf, name })
    }

    pub(crate) fn program(&self) -> Result<&Xdp> {
        Ok(self.ebpf.program(self.name).with_context(|| format!("no program {}", self.name))?.try_into()?)
    }
}

impl Verdict {
    fn program(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Discard => "discard",
        }
    }
}

/// As the kernel's map has them.
type Blocks = Vec<Box<[u8; BLOCK]>>;

/// Blocks with all frames, and each one's place: number of the block, offset, length. One that comes again and again
/// is there once.
fn arrange<'a>(frames: impl Iterator<Item = &'a [u8]>) -> Result<(Blocks, Vec<u64>)> {
    let (mut blocks, mut offset) = (Vec::new(), BLOCK);
    let (mut places, mut known) = (Vec::new(), HashMap::new());
    for frame in frames {
        ensure!(frame.len() <= LONGEST, "a frame of {} bytes", frame.len());
        let place = *known.entry(frame.as_ptr()).or_insert_with(|| {
            if offset > BLOCK - LONGEST {
                blocks.push(Box::new([0; BLOCK]));
                offset = 0;
            }
            if let Some(block) = blocks.last_mut() {
                block[offset..offset + frame.len()].copy_from_slice(frame);
            }
            let place = (blocks.len() as u64 - 1) << 32 | (offset as u64) << 16 | frame.len() as u64;
            offset += frame.len();
            place
        });
        places.push(place);
    }
    Ok((blocks, places))
}

fn load(blocks: usize, frames: usize) -> Result<Ebpf> {
    let object = workspace()?.join(OBJECT);
    EbpfLoader::new()
        .map_max_entries("BLOCKS", u32::try_from(blocks).context("too many frames")?)
        .map_max_entries("FRAMES", u32::try_from(frames).context("too many frames")?)
        .load_file(&object)
        .with_context(|| format!("load {}", object.display()))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

fn map<'a, T: aya::Pod>(ebpf: &'a mut Ebpf, name: &str) -> Result<Array<&'a mut MapData, T>> {
    Ok(ebpf.map_mut(name).with_context(|| format!("the program has no map {name}"))?.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_where_it_is_said_and_each_once() {
        let frames: Vec<Vec<u8>> = (0..100).map(|number| vec![number; 700 + usize::from(number)]).collect();
        let order = || frames.iter().chain(&frames).map(Vec::as_slice);
        let (blocks, places) = arrange(order()).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!(places.len(), 200);
        for (place, frame) in places.iter().zip(order()) {
            let (offset, length) = ((place >> 16) as u16 as usize, *place as u16 as usize);
            assert_eq!(&blocks[(place >> 32) as usize][offset..offset + length], frame);
        }
        assert!(arrange([&[0; LONGEST + 1][..]].into_iter()).is_err());
    }
}
