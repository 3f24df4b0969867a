//! `spantape capture`: record from an interface.

mod report;

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use self::report::{Frozen, Report};
use super::FAILED;
use crate::config::{self, Configuration};
use crate::live::Live;
use crate::pipeline::Pipeline;
use crate::privileges;
use crate::source::interface::{Interface, LinkEvent, LinkWatch};
use crate::source::listen::{By, listen};

/// Record the calls that pass a switch's mirror port
///
/// Attaches to the interface, records, and sends nothing. SIGINT or SIGTERM ends it: calls that are up are completed and
/// catalogued; a second signal ends it at once. SIGHUP reads the rules again.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  spantape doctor --interface eth1
  spantape capture --interface eth1 --archive /srv/calls
  spantape capture --interface eth1 --archive /srv/calls --config rules.toml --json
  spantape capture --interface eth1 --archive /srv/calls --source packet

It takes CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK, or root; they are given up once it listens. With
`--source packet` CAP_NET_RAW is enough.

Exit code: 0 ended by a signal, 2 could not begin or not go on.")]
pub(crate) struct Args {
    /// Network interface at the mirror port
    #[arg(long, short, value_name = "IF")]
    interface: String,
    /// Directory of recordings and catalog; created if it is not there
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// What is recorded, and how; without it, every call is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How frames are had from the interface
    #[arg(long, value_enum, default_value = "auto")]
    source: By,
    /// Give frames that are not needed to the kernel's own stack: for an interface that has other uses as well
    #[arg(long)]
    pass_rest: bool,
    /// Poll the driver without pause: least delay, one CPU
    #[arg(long)]
    busy_poll: bool,
    /// Record RTP that belongs to no known call as well
    #[arg(long)]
    orphans: bool,
    /// Print what happens as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// What has been completed and not been printed yet.
const UNPRINTED: usize = 4096;
const STATUS: Duration = Duration::from_secs(1);
/// Exit code of a program ended by SIGINT.
const INTERRUPTED: i32 = 130;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut configuration = config::load(args.config.as_deref())?;
    configuration.capture.pass_rest |= args.pass_rest;
    configuration.capture.busy_poll |= args.busy_poll;
    configuration.engine.orphans |= args.orphans;
    configuration.engine.announces_media = true;
    // One thread: privileges are a thread's own, and are given up before there are others.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    runtime.block_on(capture(args, configuration))
}

async fn capture(args: &Args, configuration: Configuration) -> Result<ExitCode> {
    let interface = Interface::look(&args.interface).await?;
    if !interface.up {
        bail!("{name} is down: `ip link set dev {name} up` switches it on", name = interface.name);
    }
    let queue = usize::try_from(configuration.capture.queue).unwrap_or(usize::MAX);
    let mut pipeline = Pipeline::new(configuration.engine, &args.archive)?;
    let ear = listen(args.source, &interface, &configuration.capture).await?;
    let mut watch = LinkWatch::new(interface.index)?;
    privileges::give_up(&args.archive, || ear.count.is_readable())?;

    let (done, mut completed) = mpsc::channel(UNPRINTED);
    pipeline.steer(ear.steer);
    pipeline.tell(Box::new(move |row| {
        // Should printing not keep up, recording goes on: the catalog has it all.
        let _ = done.try_send(Frozen::from(row));
    }));
    let mut report = Report::new(args.json, &args.archive);
    report.started(&interface, &ear.means);
    let (mut interrupt, mut terminate, mut hangup) = (
        signal(SignalKind::interrupt()).context("listen to signals")?,
        signal(SignalKind::terminate()).context("listen to signals")?,
        signal(SignalKind::hangup()).context("listen to signals")?,
    );
    let mut tick = interval(STATUS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);

    let mut live = Live::start(ear.tap, pipeline, queue);
    let mut hold = Some(ear.hold);
    let mut gone = false;
    loop {
        tokio::select! {
            () = live.wait() => break,
            Some(row) = completed.recv() => report.completed(&row),
            _ = tick.tick() => {
                let missed = watch.missed().await;
                report.status(live.figures(), &ear.count.counts(), missed);
            }
            event = watch.next(), if !gone => {
                report.link(event);
                match event {
                    LinkEvent::Down => live.note("gap", format!("{}: the link is down", interface.name)),
                    LinkEvent::Up => live.note("gap", format!("{}: the link is up again", interface.name)),
                    LinkEvent::Gone => {
                        gone = true;
                        live.stop();
                    }
                }
            }
            _ = hangup.recv() => reload(args.config.as_deref(), &live, &mut report),
            _ = interrupt.recv() => stop(&live, &mut hold, &report),
            _ = terminate.recv() => stop(&live, &mut hold, &report),
        }
    }
    // Before the sockets go: what comes now is not lost, but not asked for.
    drop(hold);
    let missed = watch.missed().await;
    let ended = live.finish()?;
    while let Ok(row) = completed.try_recv() {
        report.completed(&row);
    }
    report.ended(&ended, &ear.count.counts(), missed);
    if gone {
        eprintln!("spantape: {} is gone; what was going on has been completed", interface.name);
        return Ok(ExitCode::from(FAILED));
    }
    if let Some(problem) = ended.problem {
        return Err(problem.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// The first time, ends what is going on; the second time, ends.
fn stop(live: &Live, hold: &mut Option<Box<dyn Any>>, report: &Report) {
    if hold.take().is_none() {
        std::process::exit(INTERRUPTED);
    }
    report.stopping();
    live.stop();
}

/// Reads the rules again; those that cannot be read change nothing.
fn reload(path: Option<&Path>, live: &Live, report: &mut Report) {
    let Some(path) = path else {
        report.rules(Err("there is no --config whose rules could be read again".to_owned()));
        return;
    };
    match config::load(Some(path)) {
        Ok(configuration) => {
            live.set_rules(configuration.engine.rules);
            report.rules(Ok(path));
        }
        Err(error) => report.rules(Err(format!("{error:#}; the rules are as they were"))),
    }
}
