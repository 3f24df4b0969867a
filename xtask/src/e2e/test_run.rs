//! The XDP program in the kernel, one frame at a time (`BPF_PROG_TEST_RUN`), beside the same sieve outside it:
//! what both count, what becomes of the frame, and the stamp in front of it.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, XskMap};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use rustix::net::{AddressFamily, SocketType, socket};
use spantape_sieve::testing::{self, Tables};
use spantape_sieve::{CLASSES, COUNT_NO_SOCKET, COUNTERS, Class, Endpoint, PATH, Path, Stamp, Wish, sieve};

use crate::lab::capture::Capture;
use crate::workspace;

const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// The kernel takes no shorter frame.
const SHORTEST: usize = 14;
const GARBAGE: usize = 50_000;

/// Runs all of it; the first frame of which both do not think the same ends it.
pub(crate) fn run() -> Result<()> {
    cases()?.told("a frame of everything")?;
    cut()?.told("the same, cut anywhere")?;
    garbage()?.told("garbage")?;
    samples()?.told("frames of the samples")?;
    announced_only()?.told("announced media only")?;
    rest_passed()?.told("the rest passed on")?;
    without_socket()?.told("without a socket")?;
    wishes()?.told("wishes that change")
}

fn cases() -> Result<Pair> {
    let mut pair = Pair::new(Tables::sample(), &Options::default())?;
    for case in testing::cases() {
        if case.frame.len() >= SHORTEST {
            let class = pair.compare(&case.frame).context(case.name)?;
            ensure!(
                class == case.class,
                "{}: {} instead of {}",
                case.name,
                class.as_str(),
                case.class.as_str()
            );
        }
    }
    for class in Class::ALL {
        ensure!(pair.counted[class as usize] > 0, "no frame of the class {}", class.as_str());
    }
    Ok(pair)
}

fn cut() -> Result<Pair> {
    let mut pair = Pair::new(Tables::sample(), &Options::default())?;
    for case in testing::cases() {
        for end in SHORTEST..case.frame.len() {
            pair.compare(&case.frame[..end]).with_context(|| format!("{} cut at {end}", case.name))?;
        }
    }
    Ok(pair)
}

fn garbage() -> Result<Pair> {
    let mut pair = Pair::new(Tables::sample(), &Options::default())?;
    for (number, frame) in
        testing::garbage().filter(|frame| frame.len() >= SHORTEST).take(GARBAGE).enumerate()
    {
        pair.compare(&frame).with_context(|| format!("garbage number {number}"))?;
    }
    Ok(pair)
}

fn samples() -> Result<Pair> {
    let directory = workspace()?.join("samples");
    let mut pair = Pair::new(Tables::sample(), &Options::default())?;
    let mut captures = 0;
    for entry in fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
        let path = entry?.path().join("input.pcap");
        if !path.exists() {
            continue;
        }
        for (number, frame) in Capture::read(&path)?.frames.iter().enumerate() {
            pair.compare(&frame.data).with_context(|| format!("{}, frame {}", path.display(), number + 1))?;
        }
        captures += 1;
    }
    ensure!(captures > 0, "no captures below {}", directory.display());
    Ok(pair)
}

fn announced_only() -> Result<Pair> {
    let tables = Tables { unknown_media: false, ..Tables::sample() };
    let mut pair = Pair::new(tables, &Options::default())?;
    for case in testing::cases() {
        pair.compare(&case.frame).context(case.name)?;
    }
    Ok(pair)
}

fn rest_passed() -> Result<Pair> {
    let mut pair = Pair::new(Tables::sample(), &Options { passes_rest: true, ..Options::default() })?;
    for case in testing::cases() {
        pair.compare(&case.frame).context(case.name)?;
    }
    Ok(pair)
}

fn without_socket() -> Result<Pair> {
    let mut pair = Pair::new(Tables::sample(), &Options { has_socket: false, ..Options::default() })?;
    for case in testing::cases() {
        pair.compare(&case.frame).context(case.name)?;
    }
    let needed: u64 =
        Class::ALL.iter().filter(|class| class.is_needed()).map(|&c| pair.counted[c as usize]).sum();
    ensure!(
        needed > 0 && pair.counted[COUNT_NO_SOCKET as usize] == needed,
        "frames without a socket not counted"
    );
    Ok(pair)
}

fn wishes() -> Result<Pair> {
    let mut pair = Pair::new(Tables::sample(), &Options::default())?;
    let (from, to) = (testing::alice(30_000), testing::bob(30_002));
    let [source, destination] = [from, to].map(|socket| Endpoint::new(socket.ip(), socket.port()));
    let rtp = testing::udp(from, to, &testing::rtp());
    let steps = [
        (None, Class::Rtp),
        (Some((source, Some(Wish::Unwanted))), Class::Unwanted),
        (Some((destination, Some(Wish::Wanted))), Class::Rtp),
        (Some((destination, Some(Wish::Unwanted))), Class::Unwanted),
        (Some((source, Some(Wish::Wanted))), Class::Rtp),
        (Some((source, None)), Class::Unwanted),
        (Some((destination, None)), Class::Rtp),
    ];
    for (step, (change, expected)) in steps.into_iter().enumerate() {
        if let Some((endpoint, wish)) = change {
            pair.announce(endpoint, wish)?;
        }
        let class = pair.compare(&rtp)?;
        ensure!(class == expected, "step {step}: {} instead of {}", class.as_str(), expected.as_str());
    }
    Ok(pair)
}

struct Options {
    has_socket: bool,
    passes_rest: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { has_socket: true, passes_rest: false }
    }
}

/// The program in the kernel, and the sieve outside it with the same in its memory.
struct Pair {
    ebpf: Ebpf,
    media: HashMap<MapData, [u32; 5], u32>,
    /// Ports of which it may know something: looked at first.
    media_ports: Array<MapData, u32>,
    counts: PerCpuArray<MapData, u64>,
    /// The map takes no hold of it.
    socket: Option<OwnedFd>,
    passes_rest: bool,
    tables: Tables,
    /// What the kernel is to have counted.
    counted: [u64; COUNTERS as usize],
}

impl Pair {
    fn new(tables: Tables, options: &Options) -> Result<Pair> {
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
        let mut media = HashMap::try_from(map(&mut ebpf, "MEDIA")?)?;
        let mut media_ports = Array::try_from(map(&mut ebpf, "MEDIA_PORTS")?)?;
        for (&endpoint, &wish) in &tables.media {
            media_ports.set(endpoint.port, 1, 0)?;
            media.insert(key(endpoint), wish as u32, 0)?;
        }
        let mut sockets = XskMap::try_from(map(&mut ebpf, "SOCKETS")?)?;
        let socket =
            options.has_socket.then(|| socket(AddressFamily::XDP, SocketType::RAW, None)).transpose()?;
        if let Some(socket) = &socket {
            sockets.set(0, socket.as_raw_fd(), 0).context("a socket for the program")?;
        }
        let counts = PerCpuArray::try_from(map(&mut ebpf, "COUNTS")?)?;
        let counted = [0; COUNTERS as usize];
        Ok(Pair {
            ebpf,
            media,
            media_ports,
            counts,
            socket,
            passes_rest: options.passes_rest,
            tables,
            counted,
        })
    }

    /// What the recorder says of an endpoint, to both.
    fn announce(&mut self, endpoint: Endpoint, wish: Option<Wish>) -> Result<()> {
        match wish {
            Some(wish) => {
                self.media_ports.set(endpoint.port, 1, 0)?;
                self.media.insert(key(endpoint), wish as u32, 0)?;
                self.tables.media.insert(endpoint, wish);
            }
            None => {
                self.media.remove(&key(endpoint))?;
                self.tables.media.remove(&endpoint);
            }
        }
        Ok(())
    }

    /// Gives a frame to both. They must think the same of it.
    fn compare(&mut self, frame: &[u8]) -> Result<Class> {
        let class = sieve(frame, &mut self.tables);
        self.counted[class as usize] += 1;
        let expected = match (class.is_needed(), &self.socket) {
            (true, Some(_)) => REDIRECT,
            (true, None) => {
                self.counted[COUNT_NO_SOCKET as usize] += 1;
                DROP
            }
            (false, _) if self.passes_rest => PASS,
            (false, _) => DROP,
        };

        let program: &Xdp = self.ebpf.program("spantape").context("no program spantape")?.try_into()?;
        let mut out = vec![0; frame.len() + size_of::<Stamp>()];
        let done = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })?;
        out.truncate(done.data_size_out as usize);

        for (index, &expected) in self.counted.iter().enumerate() {
            let counted: u64 = self.counts.get(&(index as u32), 0)?.iter().sum();
            if counted != expected {
                let name = Class::from_number(index as u32).map_or("no socket", Class::as_str);
                bail!(
                    "{} here; {counted} of {name} instead of {expected} there: {frame:02x?}",
                    class.as_str()
                );
            }
        }
        let action = done.return_value;
        ensure!(
            action == expected,
            "{}: action {action} instead of {expected}: {frame:02x?}",
            class.as_str()
        );
        let stamp = if class.is_needed() { size_of::<Stamp>() } else { 0 };
        ensure!(out.get(stamp..) == Some(frame), "the frame has been changed: {frame:02x?} to {out:02x?}");
        ensure!(stamp == 0 || out.starts_with(&Stamp::MARK.to_ne_bytes()), "no stamp: {out:02x?}");
        Ok(class)
    }

    /// Prints what was done. It must have been something.
    fn told(&self, part: &str) -> Result<()> {
        let frames: u64 = self.counted[..CLASSES].iter().sum();
        ensure!(frames > 0, "{part}: nothing was run");
        let classes = Class::ALL.into_iter().filter(|&class| self.counted[class as usize] > 0);
        let figures: Vec<_> =
            classes.map(|class| format!("{} {}", self.counted[class as usize], class.as_str())).collect();
        println!("  {part}: {frames} frames, all agreed: {}", figures.join(", "));
        Ok(())
    }
}

fn map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the program has no map {name}"))
}

/// An endpoint as the kernel's map has it.
fn key(Endpoint { address: [a, b, c, d], port }: Endpoint) -> [u32; 5] {
    [a, b, c, d, port]
}
