//! The XDP program: loaded, told what to look for, put on an interface, and asked what it has counted.

use std::io;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader};
use rustix::io::Errno;
use spantape_core::wire::Endpoint;
use spantape_sieve::{COUNTERS, Endpoint as Key20, Wish};

use super::XdpError;
use crate::source::interface::{AttachedMode, PROGRAM};
use crate::source::memory::{PORTS, Sieving};
use crate::source::tap::{Count, Counts, Steer};

/// As `cargo xtask build-ebpf` has built it from `ebpf/xdp`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../../ebpf/spantape.o");

/// The program. It leaves the interface when this goes, also with the process: a link of the kernel's holds it there.
pub(crate) struct Program {
    ebpf: Ebpf,
}

/// The map of announced media.
pub(crate) struct Media {
    map: HashMap<MapData, [u32; 5], u32>,
    /// How many of them have each port, in the kernel and here.
    ports: Array<MapData, u32>,
    counts: std::collections::HashMap<u16, u32>,
}

/// The counters.
pub(crate) struct Counters {
    map: PerCpuArray<MapData, u64>,
}

impl Program {
    /// Loads it; `queues` is how many sockets there will be.
    pub(crate) fn load(told: &Sieving, pass_rest: bool, queues: u32) -> Result<Program, XdpError> {
        let (pass, unknown) = (u32::from(pass_rest), u32::from(told.unknown_media));
        let ebpf = EbpfLoader::new()
            .override_global("PASS_REST", &pass, true)
            .override_global("TAKE_UNKNOWN_MEDIA", &unknown, true)
            .map_max_entries("MEDIA", told.media.max(1))
            .map_max_entries("FLOWS", told.flows.max(1))
            .map_max_entries("SOCKETS", queues.max(1))
            .load(OBJECT);
        let mut program = Program { ebpf: ebpf.map_err(load_failed)? };
        program.xdp()?.load().map_err(|error| match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                let last = log.lines().rev().find(|line| !line.starts_with("processed")).unwrap_or_default();
                XdpError::Refused { reason: format!("{io_error}; {}", last.trim()) }
            }
            other => failed("load the XDP program")(other),
        })?;
        // Only now: the maps that are taken out to be written to are no longer there to be loaded with.
        program.tell(told)?;
        Ok(program)
    }

    /// Puts it on the interface: in the driver if that can, else behind it.
    pub(crate) fn attach(&mut self, index: u32) -> Result<AttachedMode, XdpError> {
        let xdp = self.xdp()?;
        let native = match xdp.attach_to_if_index(index, XdpMode::Driver) {
            Ok(_) => return Ok(AttachedMode::Native),
            Err(error) => error,
        };
        if is_busy(&native) {
            return Err(XdpError::Raced);
        }
        match xdp.attach_to_if_index(index, XdpMode::Skb) {
            Ok(_) => Ok(AttachedMode::Generic),
            Err(error) => Err(failed("put the XDP program on the interface")(error)),
        }
    }

    /// The map that gives each queue its socket.
    pub(crate) fn sockets(&mut self) -> Result<XskMap<MapData>, XdpError> {
        self.map("SOCKETS")
    }

    /// The map of announced media.
    pub(crate) fn media(&mut self) -> Result<Media, XdpError> {
        let (map, ports) = (self.map("MEDIA")?, self.map("MEDIA_PORTS")?);
        Ok(Media { map, ports, counts: std::collections::HashMap::new() })
    }

    /// The counters.
    pub(crate) fn counters(&mut self) -> Result<Counters, XdpError> {
        Ok(Counters { map: self.map("COUNTS")? })
    }

    fn tell(&mut self, told: &Sieving) -> Result<(), XdpError> {
        let mut ports: Array<MapData, [u8; PORTS]> = self.map("PORTS")?;
        ports.set(0, *told.port_table(), 0).map_err(failed("tell the XDP program its ports"))?;
        let mut paths: LpmTrie<MapData, [u8; spantape_sieve::PATH], u32> = self.map("PATHS")?;
        for (path, bits) in told.prefixes() {
            paths
                .insert(&Key::new(bits, path), 1, 0)
                .map_err(failed("tell the XDP program its HTTP paths"))?;
        }
        Ok(())
    }

    fn map<M>(&mut self, name: &'static str) -> Result<M, XdpError>
    where
        M: TryFrom<Map, Error = MapError>,
    {
        let map = self.ebpf.take_map(name).ok_or(XdpError::Object { missing: name })?;
        map.try_into().map_err(failed("use the XDP program's maps"))
    }

    fn xdp(&mut self) -> Result<&mut Xdp, XdpError> {
        let program = self.ebpf.program_mut(PROGRAM).ok_or(XdpError::Object { missing: PROGRAM })?;
        program.try_into().map_err(failed("use the XDP program"))
    }
}

impl Steer for Media {
    fn steer(&mut self, endpoint: Endpoint, wanted: Option<bool>) -> bool {
        let key = words(endpoint);
        let wish = match wanted {
            None => {
                // It may never have found room.
                if self.map.remove(&key).is_ok() {
                    self.count(endpoint.port, false);
                }
                return true;
            }
            Some(true) => Wish::Wanted,
            Some(false) => Wish::Unwanted,
        };
        let known = self.map.get(&key, 0).is_ok();
        let done = self.map.insert(key, wish as u32, 0).is_ok();
        if done && !known {
            self.count(endpoint.port, true);
        }
        done
    }
}

impl Media {
    /// One more endpoint has that port, or one less.
    fn count(&mut self, port: u16, more: bool) {
        let count = self.counts.entry(port).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        let now = *count;
        if now == 0 {
            self.counts.remove(&port);
        }
        // Fails for no port that there is.
        let _ = self.ports.set(port.into(), now, 0);
    }
}

impl Count for Counters {
    fn counts(&self) -> Counts {
        let mut counts = [0; COUNTERS as usize];
        for (index, count) in (0..COUNTERS).zip(&mut counts) {
            // One that cannot be read stays 0, as those of an interface that has gone.
            *count = self.map.get(&index, 0).map_or(0, |each| each.iter().sum());
        }
        counts
    }

    fn is_readable(&self) -> bool {
        self.map.get(&0, 0).is_ok()
    }
}

/// The key of an endpoint as the kernel's map has it.
fn words(endpoint: Endpoint) -> [u32; 5] {
    let Key20 { address: [a, b, c, d], port } = Key20::new(endpoint.address(), endpoint.port);
    [a, b, c, d, port]
}

fn load_failed(error: EbpfError) -> XdpError {
    failed("load the XDP program")(error)
}

/// Another program is there.
fn is_busy(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(error) = error else { return false };
    matches!(Errno::from_io_error(&error.io_error), Some(Errno::BUSY | Errno::EXIST))
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    operation: &'static str,
) -> impl FnOnce(E) -> XdpError {
    move |source| XdpError::Failed { operation, source: io::Error::other(source) }
}
