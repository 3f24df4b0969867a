//! The XDP program in the kernel, one frame at a time (`BPF_PROG_TEST_RUN`), beside the same sieve outside it:
//! what both count, what becomes of the frame, and the stamp in front of it.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::{TestRun as _, TestRunOptions};
use spantape_sieve::testing::{self, Tables};
use spantape_sieve::{CLASSES, COUNT_NO_SOCKET, COUNTERS, Class, Endpoint, Stamp, Wish, sieve};

use crate::lab::capture::Capture;
use crate::lab::sieve::{KernelSieve, Options};
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

/// The program in the kernel, and the sieve outside it with the same in its memory.
struct Pair {
    kernel: KernelSieve,
    passes_rest: bool,
    tables: Tables,
    /// What the kernel is to have counted.
    counted: [u64; COUNTERS as usize],
}

impl Pair {
    fn new(tables: Tables, options: &Options) -> Result<Pair> {
        let kernel = KernelSieve::load(&tables, options)?;
        Ok(Pair { kernel, passes_rest: options.passes_rest, tables, counted: [0; COUNTERS as usize] })
    }

    /// What the recorder says of an endpoint, to both.
    fn announce(&mut self, endpoint: Endpoint, wish: Option<Wish>) -> Result<()> {
        self.kernel.announce(endpoint, wish)?;
        match wish {
            Some(wish) => _ = self.tables.media.insert(endpoint, wish),
            None => _ = self.tables.media.remove(&endpoint),
        }
        Ok(())
    }

    /// Gives a frame to both. They must think the same of it.
    fn compare(&mut self, frame: &[u8]) -> Result<Class> {
        let class = sieve(frame, &mut self.tables);
        self.counted[class as usize] += 1;
        let expected = match (class.is_needed(), &self.kernel.socket) {
            (true, Some(_)) => REDIRECT,
            (true, None) => {
                self.counted[COUNT_NO_SOCKET as usize] += 1;
                DROP
            }
            (false, _) if self.passes_rest => PASS,
            (false, _) => DROP,
        };

        let mut out = vec![0; frame.len() + size_of::<Stamp>()];
        let done = self.kernel.program()?.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })?;
        out.truncate(done.data_size_out as usize);

        for (index, &expected) in self.counted.iter().enumerate() {
            let counted = self.kernel.count(index as u32)?;
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
