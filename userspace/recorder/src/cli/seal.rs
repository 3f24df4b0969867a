//! `spantape seal`: put what has been recorded into the signed chain.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use spantape_store::seal::{self, SecretKey};

/// Sign what has come into an archive since the last time
///
/// Each manifest names the recordings and the parts of the catalog that are new by their SHA-256, and carries the hash of
/// the manifest before it. Run it once a day, by a timer; it may run while an archive is recorded into. The hash that
/// it prints, kept anywhere else, proves all that was sealed until then.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  spantape seal --archive /srv/calls --key /etc/spantape/seal.key
  spantape seal --archive /srv/calls --time-stamp-request last.tsq
  spantape seal --archive /srv/calls --time-stamp last.tsr

Exit code: 0 done, 2 it could not be done.")]
pub(crate) struct Args {
    /// The archive
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,

    /// The key, made by `spantape keygen`
    #[arg(long, value_name = "FILE", required_unless_present_any = ["time_stamp_request", "time_stamp"])]
    key: Option<PathBuf>,

    /// Write a request (RFC 3161) for the last manifest, to be sent to a time-stamping authority
    #[arg(long, value_name = "FILE")]
    time_stamp_request: Option<PathBuf>,

    /// Keep the authority's answer beside the last manifest
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    time_stamp: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(key) = &args.key {
        let key = SecretKey::read(key)?;
        let now = jiff::Timestamp::now().to_string();
        match seal::seal(&args.archive, &key, &now)? {
            None => println!("nothing new"),
            Some(sealed) => {
                println!("manifest {}", sealed.path.display());
                println!("sealed   {} new files, {} gone", sealed.added, sealed.removed.len());
                println!("sha256   {}", sealed.hash);
            }
        }
    }
    if let Some(file) = &args.time_stamp_request {
        let (manifest, request) = seal::time_stamp_request(&args.archive, None)?;
        fs::write(file, request).with_context(|| format!("{}: cannot be written", file.display()))?;
        println!("request  {} for {}", file.display(), manifest.display());
    }
    if let Some(file) = &args.time_stamp {
        let answer = fs::read(file).with_context(|| format!("{}: cannot be read", file.display()))?;
        println!("kept     {}", seal::attach_time_stamp(&args.archive, None, &answer)?.display());
    }
    Ok(ExitCode::SUCCESS)
}
