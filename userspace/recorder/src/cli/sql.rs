//! `spantape sql`: the program that does it, which is installed on its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use super::access;
use crate::decode::in_path;

/// Ask the catalog of an archive in SQL
///
/// That is done by `spantape-sql`, a program of its own: `cargo install --path userspace/sql` installs it.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
#[command(after_help = "\
Examples:
  spantape sql --archive tape \"select from_user, count(*) as calls from calls group by from_user\"
  spantape sql --help    # what it says of itself")]
pub(crate) struct Args {
    /// What it is given
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

const PROGRAM: &str = "spantape-sql";

/// Becomes the program: the one beside this one, else the one that a shell would find.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let Some(program) = beside.filter(|path| path.is_file()).or_else(|| in_path(PROGRAM)) else {
        bail!(
            "there is no {PROGRAM}, by which `spantape sql` is done: \
             `cargo install --path userspace/sql` installs it"
        );
    };
    if let Some((archive, what)) = look(&args.arguments, std::env::var_os("SPANTAPE_ARCHIVE")) {
        access::note(&archive, "sql", &what);
    }
    let error = Command::new(&program).args(&args.arguments).exec();
    Err(error).with_context(|| format!("{}: cannot be started", program.display()))
}

/// Which archive is looked at, and what it is asked; `None` where it is not.
fn look(arguments: &[OsString], usual: Option<OsString>) -> Option<(PathBuf, String)> {
    let (mut archive, mut words) = (usual, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_bytes() {
            b"-h" | b"--help" | b"-V" | b"--version" => return None,
            b"--archive" => archive = arguments.next().cloned(),
            bytes => match bytes.strip_prefix(b"--archive=") {
                Some(dir) => archive = Some(OsStr::from_bytes(dir).to_owned()),
                None => words.push(argument.to_string_lossy()),
            },
        }
    }
    archive.map(|archive| (archive.into(), words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_at() {
        let look = |arguments: &[&str], usual: Option<&str>| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let (archive, what) = super::look(&arguments, usual.map(OsString::from))?;
            Some((archive.to_str().unwrap().to_owned(), what))
        };
        let is = |archive: &str, what: &str| Some((archive.to_owned(), what.to_owned()));
        assert_eq!(look(&["--archive", "a", "select 1"], Some("b")), is("a", "select 1"));
        let typed = ["select 1", "--archive=a", "--into", "x"];
        assert_eq!(look(&typed, None), is("a", "select 1 --into x"));
        assert_eq!(look(&["select 1"], Some("b")), is("b", "select 1"));
        assert_eq!(look(&["select 1"], None), None);
        assert_eq!(look(&["select 1", "--archive"], None), None);
        assert_eq!(look(&["--archive", "a", "--help"], None), None);
    }
}
