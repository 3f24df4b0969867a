//! `spantape keygen`: a key to sign manifests with.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use spantape_store::seal::SecretKey;

/// Make a key that seals archives
///
/// An Ed25519 key in PEM, which OpenSSL reads too, and its public key beside it with `.pub`. Keep the key apart from
/// the archive: who has both can make any archive look as if it had always been so. Give the public key to whoever is
/// to verify.
#[derive(clap::Args)]
#[command(after_help = "Example:
  spantape keygen --to /etc/spantape/seal.key

Exit code: 0 done, 2 it could not be done.")]
pub(crate) struct Args {
    /// The key's file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (key, public) = SecretKey::generate(&args.to)?;
    println!("key         {}", args.to.display());
    println!("public key  {}", public.display());
    println!("fingerprint {}", key.public().fingerprint());
    Ok(ExitCode::SUCCESS)
}
