//! What the machine has to do with it, whatever the interface.

use std::path::Path;

use caps::Capability;
use rustix::fs::{Access, StatVfsMountFlags};
use rustix::process::{Resource, getrlimit};

use super::Line;
use crate::decode::Ffmpeg;
use crate::privileges::{self, Source};
use crate::source::xdp::version;

/// What is known of the machine.
pub(super) struct System {
    kernel: String,
    btf: bool,
    /// `None` where it is not shown, as in a container.
    jit: Option<bool>,
    privileges: Privileges,
    disk: Result<Disk, String>,
    clocksource: Option<String>,
    /// The first service found that keeps the clock right.
    clock_service: Option<&'static str>,
    /// `None` is no limit.
    open_files: Option<u64>,
    /// Where ffmpeg is, and what it decodes; `None` when it is not there.
    ffmpeg: Option<(String, Result<Vec<&'static str>, String>)>,
}

struct Privileges {
    missing_for_xdp: Vec<Capability>,
    missing_for_packet: Vec<Capability>,
    /// May lock as much memory as it likes; `None` is no limit.
    locked_memory: Option<u64>,
    in_user_namespace: bool,
    sees_programs_of_others: bool,
}

struct Disk {
    /// The directory, or the one in which it will be created.
    directory: String,
    free: u64,
    size: u64,
    writable: bool,
}

impl System {
    pub(super) fn look(archive: &Path) -> System {
        System {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            jit: read("/proc/sys/net/core/bpf_jit_enable").map(|value| value != "0"),
            privileges: Privileges::look(),
            disk: Disk::look(archive),
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            clock_service: CLOCK_SERVICES
                .into_iter()
                .find_map(|(name, trace)| Path::new(trace).exists().then_some(name)),
            // spantape raises its own limit as far as this.
            open_files: getrlimit(Resource::Nofile).maximum,
            ffmpeg: Ffmpeg::find().map(|ffmpeg| {
                let decoders = ffmpeg.decoders().map_err(|error| error.to_string());
                (ffmpeg.path().display().to_string(), decoders)
            }),
        }
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        vec![
            kernel(&self.kernel),
            btf(self.btf),
            jit(self.jit),
            self.privileges.xdp(),
            self.privileges.packet(),
            self.privileges.memory(),
            disk(&self.disk),
            clocksource(self.clocksource.as_deref()),
            clock(self.clock_service),
            open_files(self.open_files),
            decoders(self.ffmpeg.as_ref()),
        ]
    }
}

/// What a service that disciplines the clock leaves in `/run` while it does.
const CLOCK_SERVICES: [(&str, &str); 10] = [
    ("systemd-timesyncd", "/run/systemd/timesync/synchronized"),
    ("chronyd", "/run/chrony"),
    ("chronyd", "/run/chronyd.pid"),
    ("ntpd", "/run/ntpd.pid"),
    ("ntpd", "/run/ntp.pid"),
    ("ntpd", "/run/ntpd"),
    ("OpenNTPD", "/run/ntpd.sock"),
    ("ptp4l", "/run/ptp4l"),
    ("ptp4l", "/run/ptp4lro"),
    ("timemaster", "/run/timemaster"),
];

/// Quick to read, and exact.
const GOOD_CLOCKSOURCES: [&str; 9] = [
    "tsc",
    "tsc-early",
    "kvm-clock",
    "arch_sys_counter",
    "hyperv_clocksource_tsc_page",
    "xen",
    "riscv_clocksource",
    "timebase",
    "tod",
];

const GIB: u64 = 1 << 30;
/// An hour of a call in stereo at 8 kHz and 16 bits.
const BYTES_AN_HOUR: u64 = 8000 * 2 * 2 * 3600;
/// A recording takes one, and a busy exchange has hundreds of calls at once.
const OPEN_FILES: u64 = 4096;
/// What the sockets of several queues lock for their frames.
const LOCKED_MEMORY: u64 = 256 << 20;

impl Privileges {
    fn look() -> Privileges {
        let unlimited = caps::has_cap(None, caps::CapSet::Effective, Capability::CAP_IPC_LOCK);
        Privileges {
            missing_for_xdp: privileges::missing(Source::Xdp),
            missing_for_packet: privileges::missing(Source::Packet),
            locked_memory: getrlimit(Resource::Memlock).current.filter(|_| !unlimited.unwrap_or_default()),
            in_user_namespace: privileges::in_user_namespace(),
            sees_programs_of_others: privileges::sees_programs_of_others(),
        }
    }

    fn xdp(&self) -> Line {
        const CHECK: &str = "privileges, xdp";
        if !self.missing_for_xdp.is_empty() {
            let missing = privileges::names(&self.missing_for_xdp);
            Line::fail(CHECK, format!("{missing} missing"), privileges::remedy(Source::Xdp))
        } else if self.in_user_namespace {
            Line::fail(
                CHECK,
                "all, but only in a user namespace, where the kernel loads no XDP program",
                "run it outside of the rootless container, or use --source packet",
            )
        } else if self.sees_programs_of_others {
            Line::ok(CHECK, "all that it takes")
        } else {
            Line::ok(CHECK, "all that it takes; without CAP_SYS_ADMIN, programs of others have no names")
        }
    }

    fn packet(&self) -> Line {
        const CHECK: &str = "privileges, packet";
        if self.missing_for_packet.is_empty() {
            return Line::ok(CHECK, "all that it takes");
        }
        let missing = privileges::names(&self.missing_for_packet);
        Line::fail(CHECK, format!("{missing} missing"), privileges::remedy(Source::Packet))
    }

    fn memory(&self) -> Line {
        const CHECK: &str = "locked memory";
        match self.locked_memory {
            None => Line::ok(CHECK, "no limit"),
            Some(limit) if limit >= LOCKED_MEMORY => Line::ok(CHECK, format!("{} MiB", limit >> 20)),
            Some(limit) => Line::warn(
                CHECK,
                format!("{} KiB; AF_XDP sockets lock the memory of their frames", limit >> 10),
                "ulimit -l unlimited, or by systemd LimitMEMLOCK=infinity, or the capability CAP_IPC_LOCK",
            ),
        }
    }
}

impl Disk {
    fn look(archive: &Path) -> Result<Disk, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", archive.display());
        let whole = std::path::absolute(archive).map_err(failed)?;
        let there = whole.ancestors().find(|directory| directory.exists()).unwrap_or(Path::new("/"));
        let figures = rustix::fs::statvfs(there).map_err(|error| failed(error.into()))?;
        let read_only = figures.f_flag.contains(StatVfsMountFlags::RDONLY);
        Ok(Disk {
            directory: there.display().to_string(),
            free: figures.f_bavail.saturating_mul(figures.f_frsize),
            size: figures.f_blocks.saturating_mul(figures.f_frsize),
            writable: !read_only && there.is_dir() && rustix::fs::access(there, Access::WRITE_OK).is_ok(),
        })
    }
}

fn read(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn kernel(release: &str) -> Line {
    const CHECK: &str = "kernel";
    match version(release) {
        Some((5, 9..) | (6.., _)) => Line::ok(CHECK, release),
        Some(_) => Line::fail(CHECK, format!("{release}: too old for xdp"), "use --source packet"),
        None => Line::warn(CHECK, format!("{release}: unknown version"), "boot a kernel from 5.9 on"),
    }
}

fn btf(there: bool) -> Line {
    if there {
        return Line::ok("BTF", "the kernel has it");
    }
    Line::warn(
        "BTF",
        "the kernel does not have it; spantape's XDP program does without",
        "nothing for spantape; bpftool and others show more with CONFIG_DEBUG_INFO_BTF=y",
    )
}

fn jit(on: Option<bool>) -> Line {
    match on {
        Some(true) => Line::ok("BPF JIT", "on"),
        Some(false) => Line::warn(
            "BPF JIT",
            "off: the XDP program is interpreted, which takes several times as long",
            "sudo sysctl -w net.core.bpf_jit_enable=1",
        ),
        None => Line::warn(
            "BPF JIT",
            "not shown: this is a container or network namespace, or the kernel has none",
            "on the host itself: sysctl net.core.bpf_jit_enable",
        ),
    }
}

fn disk(disk: &Result<Disk, String>) -> Line {
    const CHECK: &str = "disk";
    let disk = match disk {
        Ok(disk) => disk,
        Err(error) => return Line::fail(CHECK, error, "choose another --archive"),
    };
    if !disk.writable {
        let found = format!("{} cannot be written to", disk.directory);
        return Line::fail(
            CHECK,
            found,
            "choose another --archive, or give its directory to the recorder's user",
        );
    }
    let percent = if disk.size == 0 { 0 } else { u128::from(disk.free) * 100 / u128::from(disk.size) };
    let found = format!(
        "{:.1} GiB free in {} ({percent} %), about {} hours of one call (stereo, 8 kHz, 16 bits)",
        disk.free as f64 / GIB as f64,
        disk.directory,
        disk.free / BYTES_AN_HOUR
    );
    let remedy = "make room, or choose an --archive on a larger file system";
    match disk.free {
        free if free < GIB => Line::fail(CHECK, found, remedy),
        free if free < 10 * GIB || percent < 10 => Line::warn(CHECK, found, remedy),
        _ => Line::ok(CHECK, found),
    }
}

fn clocksource(name: Option<&str>) -> Line {
    const CHECK: &str = "clock source";
    let remedy = "cat /sys/devices/system/clocksource/clocksource0/available_clocksource, and boot with \
                  clocksource=tsc (in a virtual machine, its hypervisor's) if that is among them";
    match name {
        Some(name) if GOOD_CLOCKSOURCES.contains(&name) => Line::ok(CHECK, name),
        Some(name @ ("hpet" | "acpi_pm" | "jiffies" | "refined-jiffies" | "pit")) => {
            Line::warn(CHECK, format!("{name}: slow to read or coarse; each frame is stamped"), remedy)
        }
        Some(name) => Line::ok(CHECK, format!("{name}, which is not known as slow")),
        None => Line::ok(CHECK, "not shown here"),
    }
}

fn clock(service: Option<&str>) -> Line {
    match service {
        Some(service) => Line::ok("clock", format!("kept right by {service}")),
        None => Line::warn(
            "clock",
            "no known service keeps it right (in a container, its host's may)",
            "sudo apt install chrony, or the like: recordings are named and found by their time",
        ),
    }
}

fn open_files(limit: Option<u64>) -> Line {
    match limit {
        Some(limit) if limit < OPEN_FILES => Line::warn(
            "open files",
            format!("no more than {limit}"),
            format!("ulimit -n {}, or by systemd LimitNOFILE={}", 4 * OPEN_FILES, 4 * OPEN_FILES),
        ),
        Some(limit) => Line::ok("open files", format!("up to {limit}")),
        None => Line::ok("open files", "no limit"),
    }
}

/// Codecs that only ffmpeg decodes.
const BY_FFMPEG: &str = "G.729, G.723.1, iLBC, AMR, AMR-WB and Speex";

fn decoders(ffmpeg: Option<&(String, Result<Vec<&'static str>, String>)>) -> Line {
    let remedy = "sudo apt-get install ffmpeg, or what installs it here";
    match ffmpeg {
        None => {
            Line::warn("decoders", format!("ffmpeg is not there: {BY_FFMPEG} are kept undecoded"), remedy)
        }
        Some((path, Err(error))) => {
            Line::warn("decoders", format!("{path} cannot be used: {error}"), "use a kernel with seccomp")
        }
        Some((path, Ok(decoders))) if decoders.len() < 6 => {
            let has = if decoders.is_empty() { "nothing".to_owned() } else { decoders.join(", ") };
            Line::warn(
                "decoders",
                format!("{path} decodes {has} of {BY_FFMPEG}"),
                "install one with all decoders",
            )
        }
        Some((path, Ok(_))) => Line::ok("decoders", format!("{path}: {BY_FFMPEG}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn states<const N: usize>(lines: [Line; N]) -> [State; N] {
        for line in &lines {
            assert_eq!(line.remedy.is_none(), line.state == State::Ok, "{line:?}");
        }
        lines.map(|line| line.state)
    }

    #[test]
    fn kernels() {
        let of = |release: &str| kernel(release).state;
        assert_eq!(["6.1.0-28-amd64", "5.9.0", "5.10.0-rc1", "10.0"].map(of), [State::Ok; 4]);
        assert_eq!(["who knows", "6"].map(of), [State::Warn; 2]);
        assert_eq!(["5.8.18", "5.3.18", "4.19.0", "3.10.0-1160.el7.x86_64"].map(of), [State::Fail; 4]);
        assert!(kernel("4.19.0").remedy.unwrap().contains("--source packet"));
    }

    #[test]
    fn btf_and_jit() {
        assert_eq!(states([btf(true), btf(false)]), [State::Ok, State::Warn]);
        let of_jit = [jit(Some(true)), jit(Some(false)), jit(None)];
        assert_eq!(states(of_jit), [State::Ok, State::Warn, State::Warn]);
    }

    fn all() -> Privileges {
        Privileges {
            missing_for_xdp: vec![],
            missing_for_packet: vec![],
            locked_memory: None,
            in_user_namespace: false,
            sees_programs_of_others: true,
        }
    }

    #[test]
    fn privileges() {
        assert_eq!(states([all().xdp(), all().packet(), all().memory()]), [State::Ok; 3]);
        let none = Privileges {
            missing_for_xdp: vec![Capability::CAP_BPF, Capability::CAP_NET_RAW],
            missing_for_packet: vec![Capability::CAP_NET_RAW],
            ..all()
        };
        assert_eq!(states([none.xdp(), none.packet()]), [State::Fail; 2]);
        assert_eq!(none.xdp().found, "CAP_BPF, CAP_NET_RAW missing");
        assert!(none.xdp().remedy.unwrap().contains("setcap"));
        let rootless = Privileges { in_user_namespace: true, ..all() };
        assert_eq!(states([rootless.xdp(), rootless.packet()]), [State::Fail, State::Ok]);
        let some = Privileges { sees_programs_of_others: false, ..all() }.xdp();
        assert!(some.state == State::Ok && some.found.contains("CAP_SYS_ADMIN"), "{some:?}");
        let memory = |limit| Privileges { locked_memory: Some(limit), ..all() }.memory();
        assert_eq!(states([memory(1 << 30), memory(8 << 20)]), [State::Ok, State::Warn]);
    }

    #[test]
    fn disks() {
        let of = |free: u64, size: u64, writable| {
            disk(&Ok(Disk { directory: "/srv".to_owned(), free: free * GIB, size: size * GIB, writable }))
        };
        let lines =
            [of(100, 500, true), of(9, 20, true), of(40, 500, true), of(0, 20, true), of(9, 9, false)];
        assert_eq!(states(lines), [State::Ok, State::Warn, State::Warn, State::Fail, State::Fail]);
        assert_eq!(states([of(0, 0, true), disk(&Err("gone".to_owned()))]), [State::Fail; 2]);
        let hours = of(100, 500, true).found;
        assert!(hours.contains("100.0 GiB free in /srv (20 %), about 932 hours"), "{hours}");
    }

    #[test]
    fn an_archive_that_is_not_there_yet() {
        let folder = tempfile::TempDir::new().unwrap();
        let disk = Disk::look(&folder.path().join("a/b")).unwrap();
        assert_eq!(disk.directory, folder.path().display().to_string());
        assert!(disk.writable && disk.size > 0);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!Disk::look(&file).unwrap().writable);
    }

    #[test]
    fn clocks() {
        let sources =
            [Some("tsc"), Some("kvm-clock"), Some("unheard-of"), None, Some("hpet"), Some("jiffies")];
        let states_of_sources = states(sources.map(clocksource));
        assert_eq!(states_of_sources[..4], [State::Ok; 4]);
        assert_eq!(states_of_sources[4..], [State::Warn; 2]);
        assert_eq!(states([clock(Some("chronyd")), clock(None)]), [State::Ok, State::Warn]);
    }

    #[test]
    fn limits_of_files() {
        let lines = [Some(1024), Some(4096), None].map(open_files);
        assert_eq!(states(lines), [State::Warn, State::Ok, State::Ok]);
    }
}
