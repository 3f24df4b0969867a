//! Running other programs: checks, one-shot commands, and children that never outlive us.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Says which package to install when `program` is not on the PATH.
pub(crate) fn require(program: &str, package: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    bail!(
        "{program} is not installed: install the package {package} (Debian, Ubuntu: apt-get install {package})"
    );
}

/// Namespaces, tc and raw sockets all need it; asking early gives one clear line in place of ten.
pub(crate) fn require_root() -> Result<()> {
    let out = Command::new("id").arg("-u").output().context("run id -u")?;
    if String::from_utf8_lossy(&out.stdout).trim() == "0" {
        return Ok(());
    }
    bail!("this needs root, for network namespaces and raw sockets: run as root");
}

/// Runs a command line without quoting rules: words are split at spaces.
pub(crate) fn run(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    let out = Command::new(program).args(words).output().with_context(|| format!("run `{line}`"))?;
    if !out.status.success() {
        bail!("`{line}`: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A child that is killed when its guard goes, on success and on error.
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Running {
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let child =
            command.stdin(Stdio::null()).spawn().with_context(|| format!("start {name} ({command:?})"))?;
        Ok(Self { child, name: name.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it prints, if its command was to pipe that.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// `INT`, `TERM`, `HUP`...
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        run(&format!("kill -{name} {}", self.id())).map(|_| ())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("wait for {}", self.name))
    }

    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("{} is still running after {} s", self.name, limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks nicely, as programs flush their files on SIGINT only.
    pub(crate) fn interrupt(&mut self) -> Result<()> {
        self.signal("INT")?;
        self.wait(Duration::from_secs(5)).map(|_| ())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the child has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SCRATCH: &str = "spantape-lab-";

/// A folder for what the programs read and write, gone afterwards.
pub(crate) struct Scratch(PathBuf);

/// Removes the folders of runs that were killed before they could.
pub(crate) fn remove_old_scratch() -> Result<()> {
    for entry in std::fs::read_dir(std::env::temp_dir()).context("read the folder of temporary files")? {
        let path = entry.context("read the folder of temporary files")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix(SCRATCH).and_then(|id| id.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{owner}")).exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{SCRATCH}{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
