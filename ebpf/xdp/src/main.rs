//! The XDP program: hands up through AF_XDP what [`spantape_sieve::sieve`] needs, and drops the rest.
//!
//! `unsafe` is needed here to read a frame through the pointers that the kernel gives, each time behind the
//! comparison with its end that the verifier demands, and to read values of maps.

#![no_std]
#![no_main]

use core::hint::black_box;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_meta};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, XskMap};
use aya_ebpf::programs::XdpContext;
use spantape_sieve::{
    Bytes, COUNT_NO_SOCKET, COUNTERS, Class, Endpoint, Flow, Memory, PATH, Path, Ports, Stamp, Wish, sieve,
};

/// Whether frames that are not needed go on to the kernel's own stack.
#[unsafe(no_mangle)]
static PASS_REST: u32 = 0;

/// Whether RTP that nobody has announced is needed.
#[unsafe(no_mangle)]
static TAKE_UNKNOWN_MEDIA: u32 = 1;

/// What is said of each port: one byte a port.
#[map]
static PORTS: Array<[u8; 65536]> = Array::with_max_entries(1, 0);

/// Beginnings of HTTP paths that are record triggers.
#[map]
static PATHS: LpmTrie<Path, u32> = LpmTrie::with_max_entries(256, 1 /* BPF_F_NO_PREALLOC */);

/// Media endpoints that the recorder has announced. Sized when it is loaded.
#[map]
static MEDIA: HashMap<Endpoint, u32> = HashMap::with_max_entries(1, 0);

/// How many of them have each port. Asked first: an array costs next to nothing, a hash map more than the rest of
/// the sieve.
#[map]
static MEDIA_PORTS: Array<u32> = Array::with_max_entries(65536, 0);

/// Connections that have shown what they carry. Sized when it is loaded.
#[map]
static FLOWS: LruHashMap<Flow, u32> = LruHashMap::with_max_entries(1, 0);

/// Whether a connection that has shown what it carries ever had that port; asked first, as [`MEDIA_PORTS`] is.
#[map]
static FLOW_PORTS: Array<u32> = Array::with_max_entries(65536, 0);

/// Frames by class.
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// One socket a queue. Sized when it is loaded.
#[map]
static SOCKETS: XskMap = XskMap::with_max_entries(1, 0);

#[xdp]
pub fn spantape(context: XdpContext) -> u32 {
    let class = sieve(&Frame { start: context.data(), end: context.data_end() }, &mut Kernel);
    count(class as u32);
    if !class.is_needed() {
        // SAFETY: a static that is never written; volatile, because the loader replaces its value.
        let pass = unsafe { core::ptr::read_volatile(&PASS_REST) } != 0;
        return if pass { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP };
    }
    stamp(&context);
    match SOCKETS.redirect(context.rx_queue_index(), u64::from(xdp_action::XDP_DROP)) {
        Ok(action) => action,
        Err(action) => {
            count(COUNT_NO_SOCKET);
            action
        }
    }
}

/// Writes in front of the frame when it came. Where the driver has no room for it, the recorder takes the time
/// itself.
#[inline(always)]
fn stamp(context: &XdpContext) {
    const SIZE: usize = size_of::<Stamp>();
    // SAFETY: the context is the one that the kernel gave.
    if unsafe { bpf_xdp_adjust_meta(context.ctx, -(SIZE as i32)) } != 0 {
        return;
    }
    let (meta, frame) = (context.metadata(), context.data());
    if meta + SIZE > frame {
        return;
    }
    // SAFETY: so many bytes lie between both pointers.
    unsafe {
        let stamp = meta as *mut Stamp;
        (*stamp).mark = Stamp::MARK;
        (*stamp).monotonic = bpf_ktime_get_ns();
    }
}

#[inline(always)]
fn count(index: u32) {
    if let Some(counter) = COUNTS.get_ptr_mut(index) {
        // SAFETY: the value is this CPU's own, and XDP does not interrupt itself.
        unsafe { *counter += 1 };
    }
}

/// A frame as the kernel shows it.
struct Frame {
    start: usize,
    end: usize,
}

/// No offset that the walk can come to is beyond; said so that the verifier need not find out.
const MAX_OFFSET: usize = 0x3fff;

impl Bytes for Frame {
    #[inline(always)]
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at > MAX_OFFSET {
            return None;
        }
        let from = self.start + at;
        // The verifier takes `from + 1 > end` for proof that there is one byte, but not `from >= end`, which
        // the compiler would make of it.
        let to = if N == 1 { black_box(from + N) } else { from + N };
        if to > self.end {
            return None;
        }
        // SAFETY: it was just compared that the frame has these bytes.
        Some(unsafe { core::ptr::read_unaligned(from as *const [u8; N]) })
    }
}

/// Whether anything is known of a port.
#[inline(always)]
fn is_marked(ports: &Array<u32>, port: u32) -> bool {
    ports.get(port).is_some_and(|count| *count != 0)
}

/// The maps.
struct Kernel;

impl Memory for Kernel {
    #[inline(always)]
    fn port(&self, port: u16) -> Ports {
        let Some(table) = PORTS.get_ptr(0) else { return Ports::default() };
        // SAFETY: the table has a byte for each port.
        Ports(unsafe { *table.cast::<u8>().add(port as usize) })
    }

    #[inline(always)]
    fn wish(&self, endpoint: &Endpoint) -> Option<Wish> {
        if !is_marked(&MEDIA_PORTS, endpoint.port) {
            return None;
        }
        // SAFETY: read at once; a value that is replaced meanwhile is one or the other.
        match unsafe { MEDIA.get(endpoint) }? {
            1 => Some(Wish::Wanted),
            2 => Some(Wish::Unwanted),
            _ => None,
        }
    }

    #[inline(always)]
    fn flow(&self, flow: &Flow) -> Option<Class> {
        let [low, high] = flow.ports();
        if !is_marked(&FLOW_PORTS, low) || !is_marked(&FLOW_PORTS, high) {
            return None;
        }
        // SAFETY: as above.
        Class::from_number(*unsafe { FLOWS.get(flow) }?)
    }

    #[inline(always)]
    fn remember(&mut self, flow: &Flow, class: Class) {
        for port in flow.ports() {
            if let Some(mark) = FLOW_PORTS.get_ptr_mut(port) {
                // SAFETY: all who write to it write the same.
                unsafe { *mark = 1 };
            }
        }
        // Should it fail, the next segment that shows what it carries is as good.
        let _ = FLOWS.insert(flow, class as u32, 0);
    }

    #[inline(always)]
    fn is_trigger(&self, path: &Path) -> bool {
        PATHS.get(Key::new(PATH as u32 * 8, *path)).is_some()
    }

    #[inline(always)]
    fn takes_unknown_media(&self) -> bool {
        // SAFETY: as for `PASS_REST`.
        unsafe { core::ptr::read_volatile(&TAKE_UNKNOWN_MEDIA) != 0 }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
