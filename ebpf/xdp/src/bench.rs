//! Programs for the bench of live capture: one that sends frames as a network card hands them over, and two that
//! stand where nobody looks at them in XDP.
//!
//! `unsafe` is needed to call the kernel and to read values of maps.

#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{bpf_xdp_adjust_tail, bpf_xdp_store_bytes};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;

/// Bytes of frames, each within one block.
const BLOCK: usize = 1 << 16;
const SHORTEST: usize = 14;
const LONGEST: usize = 1536;

/// Sized when it is loaded.
#[map]
static BLOCKS: Array<[u8; BLOCK]> = Array::with_max_entries(1, 0);

/// Frames in the order in which they are sent: number of the block, offset in it (16 bits), length (16 bits). Sized
/// when it is loaded.
#[map]
static FRAMES: Array<u64> = Array::with_max_entries(1, 0);

/// How many have been sent.
#[map]
static SENT: Array<u64> = Array::with_max_entries(1, 0);

/// Makes the next frame of whatever it is given, and sends it. What it is given must be as long as the longest.
#[xdp]
pub fn send(context: XdpContext) -> u32 {
    next(&context).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_TX)
}

#[xdp]
pub fn pass(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[xdp]
pub fn discard(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

#[inline(always)]
fn next(context: &XdpContext) -> Option<()> {
    let sent = SENT.get_ptr_mut(0)?;
    // SAFETY: one process sends, so that nobody else uses it.
    let number = unsafe { *sent };
    let frame = *FRAMES.get(number as u32)?;
    let (offset, length) = ((frame >> 16) as u16 as usize, frame as u16 as usize);
    if offset > BLOCK - LONGEST || length < SHORTEST || length > LONGEST {
        return None;
    }
    let block = BLOCKS.get_ptr((frame >> 32) as u32)?;
    // SAFETY: the block has as many bytes from there, and the kernel compares the length with the frame's.
    unsafe {
        if bpf_xdp_adjust_tail(context.ctx, length as i32 - LONGEST as i32) != 0 {
            return None;
        }
        let bytes = block.cast::<u8>().add(offset).cast_mut().cast();
        if bpf_xdp_store_bytes(context.ctx, 0, bytes, length as u32) != 0 {
            return None;
        }
        *sent = number + 1;
    }
    Some(())
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
