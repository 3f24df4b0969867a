//! The sieve in the kernel: the recorder's XDP program, at no interface, told what [`Tables`] say.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, XskMap};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use rustix::net::{AddressFamily, SocketType, socket};
use spantape_sieve::testing::Tables;
use spantape_sieve::{Endpoint, PATH, Path, Wish};

use crate::workspace;

/// How it is loaded.
pub(crate) struct Options {
    /// There is one for what is needed.
    pub(crate) has_socket: bool,
    /// What is not needed goes to the kernel's own stack.
    pub(crate) passes_rest: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { has_socket: true, passes_rest: false }
    }
}

/// The program and its maps.
pub(crate) struct KernelSieve {
    ebpf: Ebpf,
    media: HashMap<MapData, [u32; 5], u32>,
    /// Ports of which it may know something: looked at first.
    media_ports: Array<MapData, u32>,
    counts: PerCpuArray<MapData, u64>,
    /// The map takes no hold of it.
    pub(crate) socket: Option<OwnedFd>,
}

impl KernelSieve {
    pub(crate) fn load(tables: &Tables, options: &Options) -> Result<KernelSieve> {
        let object = workspace()?.join("ebpf/spantape.o");
        let mut ebpf = EbpfLoader::new()
            .override_global("PASS_REST", &u32::from(options.passes_rest), true)
            .override_global("TAKE_UNKNOWN_MEDIA", &u32::from(tables.unknown_media), true)
            .map_max_entries("MEDIA", 1 << 12)
            .map_max_entries("FLOWS", 1 << 16)
            .map_max_entries("SOCKETS", 1)
            .load_file(&object)
            .with_context(|| format!("load {} (it needs root)", object.display()))?;
        let program: &mut Xdp = ebpf.program_mut("spantape").context("no program spantape")?.try_into()?;
        program.load().context("the kernel does not take the program")?;

        let mut table = [0; 1 << 16];
        for (byte, said) in table.iter_mut().zip(&tables.ports) {
            *byte = said.0;
        }
        Array::<_, [u8; 1 << 16]>::try_from(map(&mut ebpf, "PORTS")?)?.set(0, table, 0)?;
        let mut paths = LpmTrie::<_, Path, u32>::try_from(map(&mut ebpf, "PATHS")?)?;
        for text in &tables.paths {
            let mut path = [0; PATH];
            path[..text.len()].copy_from_slice(text.as_bytes());
            paths.insert(&Key::new(8 * text.len() as u32, path), 1, 0)?;
        }
        let mut sockets = XskMap::try_from(map(&mut ebpf, "SOCKETS")?)?;
        let socket =
            options.has_socket.then(|| socket(AddressFamily::XDP, SocketType::RAW, None)).transpose()?;
        if let Some(socket) = &socket {
            sockets.set(0, socket.as_raw_fd(), 0).context("a socket for the program")?;
        }
        let media = HashMap::try_from(map(&mut ebpf, "MEDIA")?)?;
        let media_ports = Array::try_from(map(&mut ebpf, "MEDIA_PORTS")?)?;
        let counts = PerCpuArray::try_from(map(&mut ebpf, "COUNTS")?)?;
        let mut sieve = KernelSieve { ebpf, media, media_ports, counts, socket };
        for (&endpoint, &wish) in &tables.media {
            sieve.announce(endpoint, Some(wish))?;
        }
        Ok(sieve)
    }

    /// What the recorder says of an endpoint.
    pub(crate) fn announce(&mut self, endpoint: Endpoint, wish: Option<Wish>) -> Result<()> {
        match wish {
            Some(wish) => {
                self.media_ports.set(endpoint.port, 1, 0)?;
                self.media.insert(key(endpoint), wish as u32, 0)?;
            }
            None => self.media.remove(&key(endpoint))?,
        }
        Ok(())
    }

    pub(crate) fn program(&self) -> Result<&Xdp> {
        Ok(self.ebpf.program("spantape").context("no program spantape")?.try_into()?)
    }

    /// How often it has counted that.
    pub(crate) fn count(&self, index: u32) -> Result<u64> {
        Ok(self.counts.get(&index, 0)?.iter().sum())
    }
}

fn map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the program has no map {name}"))
}

/// An endpoint as the kernel's map has it.
fn key(Endpoint { address: [a, b, c, d], port }: Endpoint) -> [u32; 5] {
    [a, b, c, d, port]
}
