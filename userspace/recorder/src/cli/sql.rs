//! `spantape sql`: the program that does it, which is installed on its own.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

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
    let beside = beside.filter(|path| path.is_file());
    let program = beside.as_deref().unwrap_or(Path::new(PROGRAM));
    let error = Command::new(program).args(&args.arguments).exec();
    if error.kind() == ErrorKind::NotFound {
        bail!(
            "there is no {PROGRAM}, by which `spantape sql` is done: \
             `cargo install --path userspace/sql` installs it"
        );
    }
    Err(error).with_context(|| format!("{}: cannot be started", program.display()))
}
