//! Where a decoder of hostile bytes runs: with no way to files, to the network or to other processes.
//!
//! This very program is started again, takes from itself what the decoder does not need, and becomes the decoder. So
//! nothing of it needs `unsafe`, as code between fork and exec does, and it can be tried with any program.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use caps::{CapSet, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Bytes of address space: what a decoder and its libraries take, several times.
const MEMORY: u64 = 2 << 30;
/// Files open at once.
const OPEN_FILES: u64 = 64;

/// Gives up what a decoder does not need, and becomes it. Returns only if that fails.
pub(crate) fn enter(program: &Path, args: &[OsString], cpu_seconds: u64) -> Result<Infallible> {
    // Fails only for a process that leads a group already.
    let _ = rustix::process::setsid();
    limit(Resource::Cpu, cpu_seconds)?;
    limit(Resource::As, MEMORY)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, OPEN_FILES)?;
    for set in [CapSet::Effective, CapSet::Inheritable, CapSet::Permitted] {
        caps::set(None, set, &CapsHashSet::new()).context("give up capabilities")?;
    }
    rustix::thread::set_no_new_privs(true).context("give up new privileges")?;
    // A kernel without Landlock has the filter of system calls all the same: files can be read then, but what is in
    // them cannot be sent anywhere.
    forbid_files(program)?;
    forbid_calls()?;
    let error = Command::new(program).args(args).env_clear().current_dir("/").exec();
    Err(error).with_context(|| format!("start {}", program.display()))
}

fn limit(resource: Resource, value: u64) -> Result<()> {
    let value = Some(value);
    setrlimit(resource, Rlimit { current: value, maximum: value }).context("set limits of the decoder")
}

/// Landlock: libraries may be read, the program may be run, and that is all.
fn forbid_files(program: &Path) -> Result<()> {
    let abi = ABI::V6;
    let read: BitFlags<AccessFs> = AccessFs::from_read(abi);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    let libraries = ["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib"];
    // A program that somebody has put elsewhere has its libraries beside it.
    let own = program.parent().and_then(Path::parent).map(|prefix| prefix.join("lib"));
    for path in libraries.into_iter().map(PathBuf::from).chain(own) {
        if let Ok(path) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(path, read))?;
        }
    }
    let files = [
        (Path::new("/etc/ld.so.cache"), AccessFs::ReadFile.into()),
        (program, AccessFs::from_file(abi) & read),
    ];
    for (path, access) in files {
        if let Ok(path) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(path, access))?;
        }
    }
    rules.restrict_self().context("forbid files by Landlock")?;
    Ok(())
}

fn forbid_calls() -> Result<()> {
    let whole = |call: libc::c_long| (call, Vec::new());
    let mut forbidden: Vec<(libc::c_long, Vec<SeccompRule>)> = FORBIDDEN.iter().copied().map(whole).collect();
    #[cfg(target_arch = "x86_64")]
    {
        forbidden.extend(FORBIDDEN_X86_64.iter().copied().map(whole));
        forbidden.push((libc::SYS_open, writing(1)?));
    }
    forbidden.push((libc::SYS_openat, writing(2)?));
    // Threads, but no processes.
    let no_thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
    forbidden.push((libc::SYS_clone, vec![rule(0, no_thread, 0)?]));
    apply(forbidden, libc::EPERM)?;
    // Its flags are out of a filter's sight; the C library goes on without it when there is none.
    apply(vec![whole(libc::SYS_clone3)], libc::ENOSYS)
}

/// A file opened for writing, by the argument that has the flags.
fn writing(argument: u8) -> Result<Vec<SeccompRule>> {
    [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC]
        .into_iter()
        .map(|flag| rule(argument, SeccompCmpOp::MaskedEq(flag as u64), flag as u64))
        .collect()
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn apply(forbidden: Vec<(libc::c_long, Vec<SeccompRule>)>, error: libc::c_int) -> Result<()> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).context("filter system calls")?;
    let refuse = SeccompAction::Errno(error as u32);
    let filter =
        SeccompFilter::new(forbidden.into_iter().collect(), SeccompAction::Allow, refuse, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program).context("filter system calls")
}

/// What leads out of the process: sockets, other processes, the kernel's more exotic doors, changes of files.
const FORBIDDEN: [libc::c_long; 54] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_openat2,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_mq_open,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_shmget,
    libc::SYS_execveat,
];

/// The same by their older names.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN_X86_64: [libc::c_long; 13] = [
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_fork,
    libc::SYS_vfork,
];
