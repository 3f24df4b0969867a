//! `cargo xtask build-ebpf`: builds the XDP programs. Their objects are checked in, so that nobody else needs the tools.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace;

/// What to do with it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if the objects that are checked in are not what the source builds.
    #[arg(long)]
    check: bool,
    /// Fail if ebpf/xdp/Cargo.lock is not up to date.
    #[arg(long)]
    locked: bool,
}

/// The objects below the workspace, and as which they are built: the recorder's, and the bench's.
const OBJECTS: [(&str, &str); 2] = [("ebpf/spantape.o", "spantape-xdp"), ("ebpf/bench.o", "spantape-bench")];
/// What built them.
const BUILT_BY: &str = "ebpf/built-by.txt";

/// Builds the objects, and puts them where they are taken from or compares them with what is there.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = workspace()?;
    let toolchain = Toolchain::find()?;
    let built_by = format!("{}\n{}\n", toolchain.version()?, linker()?);
    let folder = toolchain.build(workspace, args.locked)?;
    let by = workspace.join(BUILT_BY);
    for (object, name) in OBJECTS {
        let (path, built) = (workspace.join(object), folder.join(name));
        let built = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
        if args.check {
            let checked_in = fs::read(&path).with_context(|| format!("read {object}"))?;
            let checked_in_by = fs::read_to_string(&by).with_context(|| format!("read {BUILT_BY}"))?;
            let difference = difference(object, (&checked_in, &checked_in_by), (&built, &built_by));
            if let Some(difference) = difference {
                bail!(difference);
            }
            println!("{object} is what ebpf/xdp builds: {} bytes", built.len());
        } else {
            fs::write(&path, &built).with_context(|| format!("write {object}"))?;
            println!("{object}: {} bytes, built by {}", built.len(), one_line(&built_by));
        }
    }
    if !args.check {
        fs::write(&by, &built_by).with_context(|| format!("write {BUILT_BY}"))?;
    }
    Ok(())
}

/// A compiler that has the source of Rust's core library, which there is no binary of for BPF.
enum Toolchain {
    /// Debian's packages. They are stable, and have to be told that they may build core.
    Debian,
    /// Rustup's nightly with rust-src.
    Nightly,
}

impl Toolchain {
    fn find() -> Result<Toolchain> {
        let there = |path: &str| Path::new(path).exists();
        if there("/usr/bin/cargo")
            && there("/usr/bin/rustc")
            && there("/usr/lib/rustlib/src/rust/library/core")
        {
            return Ok(Toolchain::Debian);
        }
        if let Some(sysroot) = output(Toolchain::Nightly.command("rustc").args(["--print", "sysroot"]))
            && Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").exists()
        {
            return Ok(Toolchain::Nightly);
        }
        bail!(
            "no compiler with the source of Rust's core library, which the XDP program is built from: install \
             Debian's with xtask/setup-ebpf, or rustup's with `rustup toolchain install nightly --component rust-src`"
        );
    }

    /// One of its programs. Whatever the cargo that runs this one has told it about itself is kept from it.
    fn command(&self, program: &str) -> Command {
        let mut command = match self {
            Toolchain::Debian => {
                let mut command = Command::new(Path::new("/usr/bin").join(program));
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Toolchain::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", program]).env_remove("RUSTC");
                command
            }
        };
        for variable in
            ["CARGO", "LD_LIBRARY_PATH", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"]
        {
            command.env_remove(variable);
        }
        command
    }

    fn version(&self) -> Result<String> {
        output(self.command("rustc").arg("--version")).context("rustc does not say its version")
    }

    /// Builds the objects, and says into which folder.
    fn build(&self, workspace: &Path, locked: bool) -> Result<PathBuf> {
        let target = target_directory(workspace)?.join("ebpf");
        // The same bytes from whatever directory: nothing of it, nor of cargo's home, may get into messages of
        // panics. It also keeps flags out that are meant for this machine.
        let mut flags = vec![format!("--remap-path-prefix={}=/spantape", workspace.display())];
        if let Some(home) = cargo_home() {
            flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
        }
        let mut cargo = self.command("cargo");
        cargo
            .args(["build", "--quiet", "--release", "--target", "bpfel-unknown-none", "-Zbuild-std=core"])
            .args(locked.then_some("--locked"))
            .current_dir(workspace.join("ebpf/xdp"))
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        eprintln!("building ebpf/xdp");
        if !cargo.status().context("run cargo")?.success() {
            bail!("ebpf/xdp does not build");
        }
        Ok(target.join("bpfel-unknown-none/release"))
    }
}

fn linker() -> Result<String> {
    output(Command::new("bpf-linker").arg("--version")).context(
        "no bpf-linker in PATH, which links the XDP program: install it with xtask/setup-ebpf, or with \
         `cargo install bpf-linker` where rustup's nightly is used",
    )
}

/// What it prints, if it is there and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let done = command.stderr(Stdio::null()).output().ok().filter(|done| done.status.success())?;
    Some(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

fn target_directory(workspace: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = output(
        Command::new(cargo)
            .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
            .current_dir(workspace),
    );
    let metadata = metadata.context("cargo does not say where it builds")?;
    let metadata: Value = serde_json::from_str(&metadata).context("read what cargo says of the workspace")?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo does not say where it builds")
}

fn cargo_home() -> Option<PathBuf> {
    let is_set = |value: &std::ffi::OsString| value.as_os_str() != OsStr::new("");
    let home = std::env::var_os("CARGO_HOME").filter(is_set).map(PathBuf::from);
    home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME").filter(is_set)?).join(".cargo")))
}

/// What to tell when the object is another one: (bytes, what built them).
fn difference(object: &str, checked_in: (&[u8], &str), built: (&[u8], &str)) -> Option<String> {
    if checked_in.0 == built.0 {
        return None;
    }
    let mut told = format!(
        "{object} is not what ebpf/xdp and ebpf/sieve build: run `cargo xtask build-ebpf` and commit it with {BUILT_BY}"
    );
    if checked_in.1 != built.1 {
        let (was, is) = (one_line(checked_in.1), one_line(built.1));
        told += &format!("\n(that may be for the tools: it was built by {was}; here are {is})");
    }
    Some(told)
}

fn one_line(lines: &str) -> String {
    lines.trim().replace('\n', ", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_the_same_whatever_built_them() {
        assert_eq!(difference("ebpf/a.o", (b"object", "a\nb\n"), (b"object", "c\n")), None);
    }

    #[test]
    fn another_object_names_the_command_that_makes_it() {
        let told = difference("ebpf/a.o", (b"object", "a\nb\n"), (b"another", "a\nb\n")).unwrap();
        assert!(told.contains("cargo xtask build-ebpf"), "{told}");
        assert!(!told.contains("tools"), "{told}");
    }

    #[test]
    fn other_tools_are_named() {
        let told =
            difference("ebpf/a.o", (b"object", "rustc 1\nlinker 1\n"), (b"another", "rustc 2\nlinker 1\n"))
                .unwrap();
        assert!(told.contains("built by rustc 1, linker 1; here are rustc 2, linker 1"), "{told}");
    }
}
