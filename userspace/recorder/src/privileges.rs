//! The capabilities that live capture takes: which of them this process lacks, and how it gets them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};

/// By what frames are taken from an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An XDP program and AF_XDP sockets.
    Xdp,
    /// AF_PACKET sockets.
    Packet,
}

/// The capabilities that the source takes and this process lacks.
pub(crate) fn missing(source: Source) -> Vec<Capability> {
    // If even that cannot be asked, the kernel says later what it refuses.
    let Ok(has) = caps::read(None, CapSet::Effective) else { return Vec::new() };
    lacking(source, &has, knows_cap_bpf())
}

/// Gives up, for good, what this process may do beyond writing the archive. Threads that begin later have no more than
/// this one. `maps_work` tries whether the kernel still lets the maps of the XDP program be used: before 5.19 that
/// took a capability even for who has them open.
pub(crate) fn give_up(archive: &Path, maps_work: impl Fn() -> bool) -> Result<()> {
    let context = "give up privileges";
    let may = caps::read(None, CapSet::Permitted).context(context)?;
    let mut keep = CapsHashSet::new();
    let is_ours = |path: &Path| {
        let owner = std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.uid();
        anyhow::Ok(owner == rustix::process::geteuid().as_raw())
    };
    let mut ours = is_ours(archive)?;
    for entry in std::fs::read_dir(archive).with_context(|| format!("look at {}", archive.display()))? {
        ours &= is_ours(&entry?.path())?;
    }
    if !ours && may.contains(&Capability::CAP_DAC_OVERRIDE) {
        // Root records into the archive of somebody else.
        keep.insert(Capability::CAP_DAC_OVERRIDE);
    }
    caps::set(None, CapSet::Effective, &keep).context(context)?;
    if !maps_work() {
        let bpf = [Capability::CAP_BPF, Capability::CAP_SYS_ADMIN].into_iter().find(|cap| may.contains(cap));
        keep.extend(bpf);
        caps::set(None, CapSet::Effective, &keep).context(context)?;
    }
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).context(context)?;
    caps::set(None, CapSet::Permitted, &keep).context(context)?;
    rustix::thread::set_no_new_privs(true).context(context)
}

/// Whether the kernel tells this process what programs of others are called.
pub(crate) fn sees_programs_of_others() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or_default()
}

/// Whether this process has its capabilities only in a user namespace, as in a rootless container.
pub(crate) fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_whole(&map))
}

/// `CAP_BPF, CAP_NET_ADMIN`.
pub(crate) fn names(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// How a process gets all that the source takes.
pub(crate) fn remedy(source: Source) -> String {
    let mut needed = needed(source, knows_cap_bpf());
    if source == Source::Xdp {
        // Or a higher limit of locked memory: what frames lie in is locked.
        needed.push(Capability::CAP_IPC_LOCK);
    }
    let names: Vec<String> = needed.iter().map(|capability| capability.to_string().to_lowercase()).collect();
    format!(
        "sudo setcap {}+ep $(command -v spantape), or run it as root, or by systemd with AmbientCapabilities={}",
        names.join(","),
        names.join(" ").to_uppercase()
    )
}

fn needed(source: Source, knows_cap_bpf: bool) -> Vec<Capability> {
    match source {
        // The verifier takes the program's arithmetic with pointers only from who has CAP_PERFMON.
        Source::Xdp if knows_cap_bpf => vec![
            Capability::CAP_BPF,
            Capability::CAP_PERFMON,
            Capability::CAP_NET_ADMIN,
            Capability::CAP_NET_RAW,
        ],
        Source::Xdp => vec![Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW],
        Source::Packet => vec![Capability::CAP_NET_RAW],
    }
}

fn lacking(source: Source, has: &CapsHashSet, knows_cap_bpf: bool) -> Vec<Capability> {
    let split_off = [Capability::CAP_BPF, Capability::CAP_PERFMON];
    let mut lacking = needed(source, knows_cap_bpf);
    lacking.retain(|capability| !has.contains(capability));
    // CAP_SYS_ADMIN still does what it did before these were split off from it.
    if has.contains(&Capability::CAP_SYS_ADMIN) {
        lacking.retain(|capability| !split_off.contains(capability));
    }
    lacking
}

/// Linux has it and CAP_PERFMON since 5.8.
fn knows_cap_bpf() -> bool {
    caps::runtime::procfs_all_supported(None).map_or(true, |all| all.contains(&Capability::CAP_BPF))
}

/// The map of the first user namespace: every user is who it is.
fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing() {
        use Capability::{CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_SYS_ADMIN};
        let lacking = |source, has: &[Capability], knows| {
            super::lacking(source, &has.iter().copied().collect::<CapsHashSet>(), knows)
        };
        assert_eq!(lacking(Source::Xdp, &[], true), [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW]);
        assert_eq!(lacking(Source::Xdp, &[], false), [CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW]);
        assert_eq!(lacking(Source::Xdp, &[CAP_BPF, CAP_PERFMON, CAP_NET_RAW], true), [CAP_NET_ADMIN]);
        assert!(lacking(Source::Xdp, &[CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW], true).is_empty());
        assert_eq!(lacking(Source::Packet, &[CAP_NET_ADMIN], true), [CAP_NET_RAW]);
        assert!(lacking(Source::Packet, &[CAP_NET_RAW], true).is_empty());
    }

    #[test]
    fn in_words() {
        use Capability::{CAP_NET_ADMIN, CAP_NET_RAW};
        assert_eq!(names(&[CAP_NET_ADMIN, CAP_NET_RAW]), "CAP_NET_ADMIN, CAP_NET_RAW");
        let text = remedy(Source::Packet);
        assert!(text.starts_with("sudo setcap cap_net_raw+ep $(command -v spantape)"), "{text}");
        assert!(text.ends_with("AmbientCapabilities=CAP_NET_RAW"), "{text}");
    }

    #[test]
    fn maps_of_users() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("         0       1000          1\n         1     100000      65536\n"));
    }
}
