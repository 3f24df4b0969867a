//! Who has had how much of the CPUs.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};

/// All clocks at one moment.
pub(super) struct Clocks {
    at: Instant,
    cores: f64,
    /// In which no CPU had anything to do, or the machine below it did something else.
    idle_s: f64,
    processes: Vec<(u32, f64)>,
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Used {
    /// By everything there is, but for the processes that have nothing to do with the bench: also what the kernel
    /// does in interrupts.
    pub(super) system_s: f64,
    /// By the process that was asked for.
    pub(super) own_s: f64,
    /// By processes that have nothing to do with the bench.
    pub(super) others_s: f64,
    /// All that there was to use.
    pub(super) machine_s: f64,
}

/// The unit of `/proc`: USER_HZ is 100 on every machine that Linux runs on today.
const TICK: f64 = 0.01;
/// Fields of `/proc/stat` behind the name.
const IDLE: usize = 3;
const IOWAIT: usize = 4;
const STEAL: usize = 7;
/// Fields of `/proc/*/stat` behind the name of the program.
const PARENT: usize = 1;
const FLAGS: usize = 6;
const USER: usize = 11;
const SYSTEM: usize = 12;
const CHILDREN_USER: usize = 13;
const CHILDREN_SYSTEM: usize = 14;
const KERNEL_THREAD: u64 = 0x0020_0000;

impl Clocks {
    /// Now.
    pub(super) fn read() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let cpu = stat.lines().next().context("/proc/stat is empty")?;
        let fields: Vec<f64> =
            cpu.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let of = |index: usize| fields.get(index).copied().unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, Into::into) as f64;
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One may have ended since it was listed.
            if let Some(process) = Process::read(id).filter(|process| !process.is_kernel) {
                processes.push((id, process.own_s + process.children_s));
            }
        }
        // What user, system and softirq say are samples, 100 to 1000 a second, and a sender that is woken by the
        // clock may be in step with them. What is idle is measured.
        Ok(Self { at: Instant::now(), cores, idle_s: (of(IDLE) + of(IOWAIT) + of(STEAL)) * TICK, processes })
    }

    /// What was used since then; `ours` are the processes of the bench, `own` is one of them.
    pub(super) fn since(&self, earlier: &Self, ours: &[u32], own: Option<u32>) -> Used {
        let machine_s = (self.at - earlier.at).as_secs_f64() * self.cores;
        let busy = machine_s - (self.idle_s - earlier.idle_s);
        // A process that has ended is among the children of another, so that the sum loses nothing.
        let sum = |clocks: &Self| -> f64 {
            let others = clocks.processes.iter().filter(|(id, _)| !ours.contains(id));
            others.map(|(_, seconds)| seconds).sum()
        };
        let of = |clocks: &Self| {
            let found = clocks.processes.iter().find(|(id, _)| Some(*id) == own);
            found.map_or(0.0, |(_, seconds)| *seconds)
        };
        let others_s = (sum(self) - sum(earlier)).max(0.0);
        Used { system_s: busy - others_s, own_s: of(self) - of(earlier), others_s, machine_s }
    }
}

impl Used {
    pub(super) fn others_share(&self) -> f64 {
        self.others_s / self.machine_s
    }
}

/// The largest resident set of a process so far, in 10^6 bytes.
pub(super) fn peak_mb(id: u32) -> Result<f64> {
    let path = format!("/proc/{id}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("read VmHWM")?;
    Ok(kib * 1024.0 / 1e6)
}

/// The only child of a process.
pub(super) fn child_of(id: u32) -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.find(|&child| Process::read(child).is_some_and(|process| process.parent == id))
}

struct Process {
    parent: u32,
    is_kernel: bool,
    own_s: f64,
    children_s: f64,
}

impl Process {
    fn read(id: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The program's name may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let seconds = |user, system| Some((number(user)? + number(system)?) as f64 * TICK);
        Some(Self {
            parent: u32::try_from(number(PARENT)?).ok()?,
            is_kernel: number(FLAGS)? & KERNEL_THREAD != 0,
            own_s: seconds(USER, SYSTEM)?,
            children_s: seconds(CHILDREN_USER, CHILDREN_SYSTEM)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 10 20 0 0 150 50 30 20 20 0 1 0 99";
        let process = Process::parse(stat).unwrap();
        assert_eq!((process.parent, process.is_kernel), (1, false));
        assert_eq!((process.own_s, process.children_s), (2.0, 0.5));
        assert!(Process::parse("7 (kworker) S 2 0 0 0 -1 69238880 0 0 0 0 1 2 3 4").unwrap().is_kernel);
        assert!(Process::parse("7 (cut) S 1").is_none());
    }

    #[test]
    fn what_ours_use_is_not_what_others_use() {
        let clocks = |idle_s, at, processes| Clocks { at, cores: 2.0, idle_s, processes };
        let start = Instant::now();
        let before = clocks(10.0, start, vec![(1, 1.0), (2, 5.0), (3, 7.0)]);
        let later = start + std::time::Duration::from_secs(10);
        let after = clocks(22.0, later, vec![(1, 3.0), (2, 7.0), (3, 10.0)]);
        let used = after.since(&before, &[1, 2], Some(2));
        assert_eq!(used, Used { system_s: 5.0, own_s: 2.0, others_s: 3.0, machine_s: 20.0 });
        assert_eq!(used.others_share(), 0.15);
    }

    #[test]
    fn this_process_has_a_peak() {
        assert!(peak_mb(std::process::id()).unwrap() > 0.5);
    }
}
