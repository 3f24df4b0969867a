//! The command line. One file a command: what is typed (`Args`) and what it does (`run`).

mod access;
mod capture;
mod check_config;
mod compact;
#[cfg(feature = "remote")]
mod copy;
mod ctl;
mod decode_sandbox;
mod doctor;
mod export;
mod filter;
mod hold;
mod identity;
mod import;
mod keygen;
mod ladder;
mod listing;
mod operator;
mod picture;
mod play;
mod purge;
mod quality;
mod replay;
mod report;
mod seal;
mod search;
mod show;
mod sql;
mod summary;
mod terminal;
#[cfg(test)]
pub(crate) mod testing;
mod verify;
mod waveform;
mod when;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code when nothing matched, or when some input could not be read.
pub(crate) const PARTLY: u8 = 1;
/// Exit code of a command that could not do its work.
pub(crate) const FAILED: u8 = 2;

/// A passive call recorder: it sits on a switch's mirror port, or reads captures, and sends nothing.
#[derive(Parser)]
#[command(name = "spantape", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Capture(capture::Args),
    Replay(replay::Args),
    Import(import::Args),
    Search(search::Args),
    Show(show::Args),
    Play(play::Args),
    Sql(sql::Args),
    Seal(seal::Args),
    Verify(verify::Args),
    Keygen(keygen::Args),
    Hold(hold::Args),
    Purge(purge::Args),
    Compact(compact::Args),
    Access(access::Args),
    #[cfg(feature = "remote")]
    Copy(copy::Args),
    Ctl(ctl::Args),
    CheckConfig(check_config::Args),
    Doctor(doctor::Args),
    Export(export::Args),
    #[command(name = crate::decode::SANDBOX, hide = true)]
    DecodeSandbox(decode_sandbox::Args),
}

pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Capture(args) => capture::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Import(args) => import::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Export(args) => export::run(&args),
        Command::DecodeSandbox(args) => decode_sandbox::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Play(args) => play::run(&args),
        Command::Sql(args) => sql::run(&args),
        Command::Seal(args) => seal::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Hold(args) => hold::run(&args),
        Command::Purge(args) => purge::run(&args),
        Command::Compact(args) => compact::run(&args),
        Command::Access(args) => access::run(&args),
        #[cfg(feature = "remote")]
        Command::Copy(args) => copy::run(&args),
        Command::Ctl(args) => ctl::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("spantape: {}", told(&error));
        ExitCode::from(FAILED)
    })
}

/// An error as a terminal may have it: what is named in it may come from the network. Its lines stay lines.
fn told(error: &anyhow::Error) -> String {
    format!("{error:#}").split('\n').map(terminal::clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn errors_are_not_obeyed() {
        let error = anyhow::anyhow!("1 | x\n2 | y").context("cannot open \x1b[2J.wav");
        assert_eq!(super::told(&error), "cannot open \u{fffd}[2J.wav: 1 | x\n2 | y");
    }
}
