//! `spantape verify`: whether an archive is as it was sealed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;
use spantape_store::Place;
use spantape_store::seal::{self, PublicKey};

use super::PARTLY;
use super::terminal::{clean, clean_json};

/// Tell whether anything in an archive, or in an export, has been changed, removed or put in order anew
///
/// Of an archive: every manifest's signature and place in the chain, every file that was sealed, and every recording against the hash in
/// its row. What no manifest has sealed yet is counted.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  spantape verify --archive /srv/calls --key seal.key.pub
  spantape verify evidence --key seal.key.pub         # what was exported, without the archive
  spantape verify evidence --key seal.key.pub --signer export.key.pub
  spantape verify --archive /srv/calls --last 1f3a…   # the hash that `spantape seal` has printed

Exit code: 0 nothing contradicts what was sealed, 1 something does (each finding is a line), 2 it could not be told.")]
pub(crate) struct Args {
    /// What `spantape export` has made: a folder, a bag, or an unpacked zip file
    #[arg(value_name = "EXPORT", required_unless_present = "archive", conflicts_with = "archive")]
    export: Option<PathBuf>,

    /// The archive: a directory, or s3://BUCKET/PREFIX, all of which is read
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,

    /// The public key that all manifests must be signed with
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// The public key that has signed the export, if it is another
    #[arg(long, value_name = "FILE", requires = "export")]
    signer: Option<PathBuf>,

    /// The hash of a manifest that the chain must have, in hex: all of it, or at least 16 digits from its beginning
    #[arg(long, value_name = "SHA256", value_parser = hash)]
    last: Option<String>,

    /// Name what no manifest has sealed yet, and of an export what nothing proves, and count it as a finding
    #[arg(long)]
    sealed: bool,

    /// Print an object
    #[arg(long)]
    json: bool,
}

/// The digits of a hash, as manifests have them.
fn hash(text: &str) -> Result<String, String> {
    let digits = text.trim().to_ascii_lowercase();
    let is_hash = (16..=64).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hash {
        Ok(digits)
    } else {
        Err("a hash has 64 hex digits, of which the first 16 will do".to_owned())
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let trusted = args.key.as_deref().map(PublicKey::read).transpose()?;
    let signer = args.signer.as_deref().map(PublicKey::read).transpose()?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let progress = |bytes| bar.inc(bytes);
    let report = match (&args.archive, &args.export) {
        (Some(archive), _) => seal::verify(Place::named(archive)?, trusted.as_ref(), progress)?,
        (None, Some(export)) => seal::verify_export(export, trusted.as_ref(), signer.as_ref(), progress)?,
        (None, None) => anyhow::bail!("name an archive or an export"),
    };
    bar.finish_and_clear();
    let mut findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let is_there = |last: &&str| report.hashes.iter().any(|hash| hash.starts_with(*last));
    if let Some(last) = args.last.as_deref().filter(|last| !is_there(last)) {
        findings.push(format!("no manifest has the hash {last}: the chain was cut off, or written anew"));
    }
    if args.sealed {
        findings.extend(report.unsealed.iter().map(|what| format!("{what}: no manifest has sealed it")));
        findings.extend(report.unproved.iter().map(|path| format!("{path}: nothing proves it")));
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
            "deleted": report.deleted,
            "derived": report.derived,
            "unsealed": report.unsealed.len(),
            "signed": report.signed,
            "unproved": report.unproved.len(),
        });
        println!("{}", clean_json(&format!("{value:#}")));
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
        let (files, megabytes) = (report.files, report.bytes as f64 / 1e6);
        if args.archive.is_some() {
            println!("sealed     {files} files, {megabytes:.1} MB, as they were");
        } else {
            println!("listed     {files} files, {megabytes:.1} MB, as the list says");
            println!("signed     {} of them, by a signature of the list or by a proof", report.signed);
            println!("unproved   {}", report.unproved.len());
        }
        println!("recordings {} with the hash that their row says", report.rows);
        if report.deleted > 0 {
            println!("deleted    {} recordings, as tombstones say", report.deleted);
        }
        if report.derived > 0 {
            println!(
                "decoded    {} recordings, which cannot be held against what was sealed",
                report.derived
            );
        }
        println!("unsealed   {}", report.unsealed.len());
        let open = report.unsealed.len() + report.unproved.len();
        println!(
            "{}",
            match findings.len() {
                0 if open == 0 => "all is as it was".to_owned(),
                0 => format!("nothing contradicts what was sealed; {open} not sealed"),
                found => format!("{found} findings"),
            }
        );
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PARTLY) })
}
