//! Processes that strace strikes.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use crate::script::{Recorder, Script, Step};

/// What strace does at a call. A signal comes before the call has any effect, and a call that fails has none.
pub(crate) const KILLED: &str = "signal=KILL";
/// Nothing tells these two from each other: they take turns.
pub(crate) const FAILURES: [&str; 2] = ["error=ENOSPC", "error=EIO"];
const SIGKILL: i32 = 9;

/// Tells a script's process in which directory it works: the archive is in it, and beside it what the process tells.
const DIRECTORY: &str = "SPANTAPE_FAULTS_CHILD";
pub(crate) const ARCHIVE: &str = "archive";
const TOLD: &str = "told";
/// How a script's process ends when it could not go on.
const FAILED: i32 = 3;
/// Calls that the script's thread makes before it begins: more than any other thread of the test harness makes.
const HEAD_START: usize = 128;
/// Scripts that run at a time.
const AT_ONCE: usize = 2;

/// Calls that change what is on the disk. Those with a question mark are not there on every kind of machine.
const TRACED: &str = "trace=write,pwrite64,writev,pwritev,?rename,?renameat,renameat2,?link,linkat,?unlink,unlinkat,\
    ftruncate,fallocate,openat,?mkdir,mkdirat,fsync,fdatasync,copy_file_range,sendfile,splice";

/// What a script's process does. It ends without a word to its archive, whether it could go on or not.
pub(crate) fn carry_out_and_tell(script: Script) {
    let Some(dir) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    (0..HEAD_START).for_each(|_| fs::write("/dev/null", "-").unwrap());
    let mut told = fs::File::create(dir.join(TOLD)).unwrap();
    let mut recorder = Recorder::new(script, &dir.join(ARCHIVE));
    for step in script.steps() {
        match recorder.carry_out(&step) {
            Ok(0) => told.write_all(b"done\n").unwrap(),
            Ok(_) => told.write_all(b"lost\n").unwrap(),
            Err(error) => {
                told.write_all(format!("{error}\n").as_bytes()).unwrap();
                std::process::exit(FAILED);
            }
        }
    }
}

/// What a script's process has told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Of each step that it has carried out, whether samples could not be written.
    pub(crate) lost: Vec<bool>,
    /// Why it could not go on.
    error: Option<String>,
}

impl Told {
    fn read(dir: &Path) -> Told {
        let mut told = Told::default();
        for line in fs::read_to_string(dir.join(TOLD)).unwrap_or_default().lines() {
            match line {
                "done" => told.lost.push(false),
                "lost" => told.lost.push(true),
                // Whatever the directory is called.
                error => told.error = Some(error.replace(&dir.display().to_string(), "")),
            }
        }
        told
    }
}

/// A script that was struck, and what came of it.
pub(crate) struct Struck<'a> {
    script: Script,
    dir: &'a Path,
    fault: &'a str,
    pub(crate) told: Told,
    output: Output,
}

impl Struck<'_> {
    pub(crate) fn archive(&self) -> PathBuf {
        self.dir.join(ARCHIVE)
    }

    /// What is wrong with how its process has ended: a fault ends a replay, and a live recorder hardly ever.
    fn wrong_end(&self, steps: &[Step]) -> Option<String> {
        let status = self.output.status;
        let is_as_told = match (&self.told.error, self.script) {
            _ if self.fault == KILLED => status.signal() == Some(SIGKILL),
            (Some(_), _) => status.code() == Some(FAILED),
            (None, Script::Live) => status.success(),
            (None, Script::Replay) => false,
        };
        if !is_as_told {
            let output = String::from_utf8_lossy(&self.output.stdout);
            let panic: Vec<&str> =
                output.lines().skip_while(|line| !line.contains("panicked")).take(2).collect();
            return Some(format!("the {:?} script ends with {status} {}", self.script, panic.join(" ")));
        }
        let step = steps.get(self.told.lost.len());
        let may_fail = self.script == Script::Replay || step.is_some_and(Step::may_fail);
        let error = self.told.error.as_ref().filter(|_| !may_fail)?;
        Some(format!("a disk that fails ends a live recorder: {error}"))
    }
}

/// A directory in memory where there is one, as a disk would have to be waited for each time.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Strikes a script at each call by which it changes its archive; the faults take turns. `check` says what is wrong then.
pub(crate) fn strike(script: Script, faults: &[&str], check: impl Fn(&Struck<'_>) -> Vec<String> + Sync) {
    if !can_trace() {
        println!("skipped: strace is not installed, or may not trace");
        return;
    }
    let (steps, changes) = (script.steps(), changes(script));
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<String, Vec<String>>::new()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(Change { name, number, step }) = changes.get(index) else { break };
            let (dir, fault) = (scratch(), faults[index % faults.len()]);
            let [only, inject] = [format!("trace={name}"), format!("inject={name}:{fault}:when={number}")];
            let output = trace(script, dir.path(), &["-o", "/dev/null", "-e", &only, "-e", &inject]);
            let struck = Struck { script, dir: dir.path(), fault, told: Told::read(dir.path()), output };
            let found = struck.wrong_end(&steps).into_iter().chain(check(&struck));
            let in_step = steps.get(*step).map_or_else(|| "the end".to_owned(), Step::name);
            let place = format!("{fault} at {name} {number} in step {step}, {in_step}");
            found.for_each(|what| wrong.lock().unwrap().entry(what).or_default().push(place.clone()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let lines = wrong.iter().map(|(what, places)| format!("{what}\n    {}\n", places.join("\n    ")));
    assert!(wrong.is_empty(), "of {} calls:\n{}", changes.len(), lines.collect::<String>());
}

fn can_trace() -> bool {
    let mut strace = Command::new("strace");
    let status = strace.args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Carries out a script in a process of its own, with these options of strace.
fn trace(script: Script, dir: &Path, options: &[&str]) -> Output {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-s", "0"]).args(options).arg(std::env::current_exe().unwrap());
    strace.args([script.child(), "--exact", "--ignored", "--test-threads=1"]);
    // For each folder that cargo names there the loader looks in several, as many as the processor has generations.
    strace.env(DIRECTORY, dir).env_remove("LD_LIBRARY_PATH").output().unwrap()
}

/// A call by which a script changes its archive.
#[derive(Debug)]
struct Change {
    name: String,
    /// Which of the calls of that name: strace counts them in each thread.
    number: usize,
    /// In which step.
    step: usize,
}

/// All of them that have an effect.
fn changes(script: Script) -> Vec<Change> {
    let dir = scratch();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (log, archive, told) = (path("calls"), path(ARCHIVE), path(TOLD));
    let output = trace(script, dir.path(), &["-o", &log, "-e", TRACED]);
    assert!(output.status.success(), "{output:?}");
    let (mut changes, mut step, mut own) = (Vec::new(), 0, String::new());
    let mut counts = HashMap::<(String, String), usize>::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let Some((thread, name, rest)) = read_line(line) else { continue };
        let number = counts.entry((thread.to_owned(), name.to_owned())).or_default();
        *number += 1;
        if name == "write" && rest.contains(&told) {
            step += 1;
        }
        let has_effect = !rest.contains(" = -1 ") && (name != "openat" || rest.contains("O_CREAT"));
        if has_effect && rest.contains(&archive) {
            changes.push(Change { name: name.to_owned(), number: *number, step });
            own = thread.to_owned();
        }
    }
    let others = counts.iter().filter(|((thread, _), _)| *thread != own).map(|(_, count)| *count);
    assert!(others.max().unwrap_or(0) < HEAD_START, "{counts:?}");
    changes
}

/// A thread, spaces, and `name(arguments) = result`, in which each file has its path.
fn read_line(line: &str) -> Option<(&str, &str, &str)> {
    let (thread, call) = line.split_once(' ')?;
    let (name, rest) = call.trim_start().split_once('(')?;
    Some((thread, name, rest))
}
