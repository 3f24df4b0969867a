//! `spantape verify`: whether an archive is as it was sealed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;
use spantape_store::seal::{self, PublicKey};

use super::PARTLY;
use super::terminal::clean;

/// Tell whether anything in an archive has been changed, removed or put in order anew
///
/// Every manifest's signature and place in the chain, every file that was sealed, and every recording against the hash in
/// its row. What no manifest has sealed yet is counted.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  spantape verify --archive /srv/calls --key seal.key.pub
  spantape verify --archive /srv/calls --last 1f3a…   # the hash that `spantape seal` has printed

Exit code: 0 all is as it was, 1 it is not (each finding is a line), 2 it could not be told.")]
pub(crate) struct Args {
    /// The archive
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,

    /// The public key that all manifests must be signed with
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// The hash of a manifest that the chain must have, in hex
    #[arg(long, value_name = "SHA256")]
    last: Option<String>,

    /// Name what no manifest has sealed yet, and count it as a finding
    #[arg(long)]
    sealed: bool,

    /// Print an object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let trusted = args.key.as_deref().map(PublicKey::read).transpose()?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let report = seal::verify(&args.archive, trusted.as_ref(), |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let mut findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    if let Some(last) = args.last.as_deref().filter(|last| !report.hashes.iter().any(|hash| hash == last)) {
        findings.push(format!("no manifest has the hash {last}: the chain was cut off, or written anew"));
    }
    if args.sealed {
        findings.extend(report.unsealed.iter().map(|path| format!("{path}: no manifest has sealed it")));
    }
    if args.json {
        let value = json!({
            "findings": findings,
            "manifests": report.hashes.len(),
            "last": report.hashes.last(),
            "keys": report.keys,
            "files": report.files,
            "bytes": report.bytes,
            "recordings": report.rows,
            "unsealed": report.unsealed.len(),
        });
        println!("{value:#}");
    } else {
        for finding in &findings {
            println!("{}", clean(finding));
        }
        let keys: Vec<&str> = report.keys.iter().map(String::as_str).collect();
        println!(
            "manifests  {}, signed by {}",
            report.hashes.len(),
            if keys.is_empty() { "nobody".to_owned() } else { keys.join(", ") }
        );
        println!("sealed     {} files, {:.1} MB, as they were", report.files, report.bytes as f64 / 1e6);
        println!("recordings {} with the hash that their row says", report.rows);
        println!("unsealed   {} files", report.unsealed.len());
        println!(
            "{}",
            if findings.is_empty() {
                "all is as it was".to_owned()
            } else {
                format!("{} findings", findings.len())
            }
        );
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PARTLY) })
}
