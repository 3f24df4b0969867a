//! `cargo xtask bench`: what a replay costs, side by side with a program that does the least possible, what live
//! capture costs, side by side with others that listen, and how long a search takes, side by side with DuckDB.
//!
//! Seconds of CPU on another machine, or on this one an hour later, mean little; the ratio of two programs that
//! take turns on the same input means more. So every figure here comes in pairs.

mod call;
mod capture;
mod codecs;
mod engines;
mod figures;
mod floods;
mod floor;
mod instructions;
mod load;
mod machine;
mod measure;
mod replay;
mod search;
mod signalling;
mod stages;
mod verify;
mod voice;

pub(crate) use verify::files;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use load::Load;

use crate::workspace;

/// What `cargo xtask bench` understands.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Write a capture of many calls at the same time; the same parameters always give the same bytes.
    Load(LoadArgs),
    /// Replay such a capture, in turn with the floor program, and compare what they cost.
    Replay(replay::Args),
    /// Decode, codec by codec, and compare with decoding by table.
    Codecs(codecs::Args),
    /// Capture live, in network namespaces, in turn with others that listen, and compare; needs root.
    Capture(capture::Args),
    /// Replay hostile traffic around a call, with a limit on memory; the call must be recorded as without it.
    Floods(floods::Args),
    /// Look calls up in a catalog of ten million, in turn with DuckDB on the same files; needs Python with DuckDB.
    Search(search::Args),
    /// Replay set-ups of calls without media, few and many, and compare what they cost and how much memory they take.
    Signalling(signalling::Args),
    /// Have the first of 1, 2, 4… engines take a load whose calls they have between them, and say how much faster it is.
    Engines(engines::Args),
    /// Measure each stage of a packet's way by itself, and the sieve in the kernel by class of frame, which needs root.
    Stages(stages::Args),
    /// Count the instructions and calls of the kernel that a message and a packet take, the same on each run; needs valgrind
    /// and strace.
    Instructions(instructions::Args),
    /// What sends frames for live capture.
    #[command(hide = true)]
    Send(capture::send::Args),
    /// The floor program: read, look up, decode, write.
    #[command(hide = true)]
    Floor(FloorArgs),
}

#[derive(clap::Args)]
struct LoadArgs {
    #[command(flatten)]
    load: Load,
    /// Where to write it [default: below target/bench, named for the parameters]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(clap::Args)]
struct FloorArgs {
    file: PathBuf,
    folder: PathBuf,
    /// Hash what has been written
    #[arg(long)]
    hash: bool,
}

/// Runs one of the benches.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Load(args) => {
            let path = match &args.out {
                Some(path) => path.clone(),
                None => folder()?.join(args.load.file_name()),
            };
            args.load.write(&path)?;
            println!("{}: {} RTP packets", path.display(), args.load.rtp_packets());
            Ok(())
        }
        What::Replay(args) => replay::run(args),
        What::Codecs(args) => codecs::run(args),
        What::Capture(args) => capture::run(args),
        What::Floods(args) => floods::run(args),
        What::Search(args) => search::run(args),
        What::Signalling(args) => signalling::run(args),
        What::Engines(args) => engines::run(args),
        What::Stages(args) => stages::run(args),
        What::Instructions(args) => instructions::run(args),
        What::Send(args) => capture::send::run(args),
        What::Floor(args) => floor::run(&args.file, &args.folder, args.hash),
    }
}

/// Where loads are kept, and where the programs under test write.
fn folder() -> Result<PathBuf> {
    let path = workspace()?.join("target").join("bench");
    std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// As good as random, and the same for the same seed (the finisher of SplitMix64).
pub(crate) fn scatter(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
