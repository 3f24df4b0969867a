//! `spantape capture`: record from an interface.

mod printer;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use spantape_sieve::COUNT_NO_SOCKET;
use spantape_store::{ArchiveOptions, SpoolOptions};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use self::report::{Frozen, Report};
use crate::config::{self, Configuration};
use crate::control;
use crate::finish::Haste;
use crate::live::Live;
use crate::pipeline::Pipeline;
use crate::privileges;
use crate::source::interface::{Interface, LinkEvent, LinkWatch};
use crate::source::key_log::KeyLogFile;
use crate::source::listen::{By, listen};
use crate::source::tap::{Count, Lost, TapError};
use crate::syncer::Syncer;

/// Record the calls that pass a switch's mirror port
///
/// Attaches to the interface, records, and sends nothing. SIGINT or SIGTERM ends it: calls that are up are completed and
/// catalogued; a second signal ends it at once. SIGHUP reads the rules again, and nothing else of the configuration.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  spantape doctor --interface eth1
  spantape capture --interface eth1 --archive /srv/calls
  spantape capture --interface eth1 --archive /srv/calls --config rules.toml --json
  spantape capture --interface eth1 --archive /srv/calls --source packet

It takes CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON and CAP_IPC_LOCK, or root, and gives them up once
it listens. With `--source packet` CAP_NET_RAW is enough.

Exit code: 0 ended by a signal, 2 could not begin or not go on, 130 ended at once by a second signal.")]
pub(crate) struct Args {
    /// Network interface at the mirror port
    #[arg(long, short, value_name = "IF")]
    interface: String,
    /// Directory of recordings and catalog; created if it is not there
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: PathBuf,
    /// What is recorded, and how; without it, every call is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What this recorder is called, of several that record into the archive (`[archive] node`)
    #[arg(long, value_name = "NAME", value_parser = config::node)]
    node: Option<String>,
    /// How frames are had from the interface
    #[arg(long, value_enum, default_value = "auto")]
    source: By,
    /// Give frames that are not needed to the kernel's own stack: for an interface with other uses as well. SIP, RTP,
    /// fragments and tunnels to this very machine are still taken
    #[arg(long)]
    pass_rest: bool,
    /// Poll the driver without pause: least delay, one CPU
    #[arg(long)]
    busy_poll: bool,
    /// Record RTP that belongs to no known call as well
    #[arg(long)]
    orphans: bool,
    /// Keep no audio: calls, streams and their quality come into the catalog, and there are no recordings
    #[arg(long)]
    no_audio: bool,
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
    configuration.engine.audio &= !args.no_audio;
    configuration.engine.announces_media = true;
    configuration.engine.tells_signalling = true;
    // One thread: privileges are a thread's own, and are given up before there are others.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    runtime.block_on(capture(args, configuration))
}

async fn capture(args: &Args, configuration: Configuration) -> Result<ExitCode> {
    let interface = Interface::look(&args.interface).await?;
    if !interface.up {
        bail!("{name} is down: `ip link set dev {name} up` switches it on", name = interface.name);
    }
    let mut how = configuration.capture;
    // Whoever works on this machine by this interface shall not be locked out.
    let shared = !interface.addresses.is_empty() && !how.pass_rest;
    how.pass_rest |= shared;
    let queue = usize::try_from(how.queue).unwrap_or(usize::MAX);
    let node = args.node.clone().or(configuration.node);
    let settings = configuration.control.of_node(node.as_deref());
    let spool = SpoolOptions { node, ..SpoolOptions::default() };
    let options = ArchiveOptions { spool, reserve: how.reserve, ..ArchiveOptions::default() };
    let audio = &configuration.audio;
    let mut pipeline =
        Pipeline::new(configuration.engine, how.engines, audio, Haste::Live, &args.archive, options)?;
    let mut key_log = configuration.key_log.as_deref().map(KeyLogFile::open).transpose()?;
    if let Some(key_log) = &mut key_log {
        pipeline.add_secrets(&key_log.added()?);
    }
    let mut ear = listen(args.source, &interface, &how).await?;
    let watch = LinkWatch::new(interface.index)?;
    let control = control::Server::bind(&settings, &args.archive)?;
    privileges::give_up(&args.archive, || ear.count.is_readable())?;

    let (done, mut completed) = mpsc::channel(UNPRINTED);
    pipeline.steer(ear.steer);
    let goes_on = pipeline.go_on(ear.tap.clock().now())?;
    pipeline.tell(Box::new(move |row| {
        // Should printing not keep up, recording goes on: the catalog has it all.
        let _ = done.try_send(Frozen::from(row));
    }));
    let mut report = Report::new(args.json, &args.archive);
    report.started(&interface, &ear.means);
    if shared {
        report.shared(&interface);
    }
    report.recovered(pipeline.recovered(), goes_on);
    report.control(&control);
    let mut listener = Listener { watch, count: ear.count, missed: 0, unheard: 0 };
    listener.missed = listener.watch.missed().await.unwrap_or_default();
    let (mut interrupt, mut terminate, mut hangup) = (
        signal(SignalKind::interrupt()).context("listen to signals")?,
        signal(SignalKind::terminate()).context("listen to signals")?,
        signal(SignalKind::hangup()).context("listen to signals")?,
    );
    let mut tick = interval(STATUS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);

    let syncer = Syncer::start(&args.archive)?;
    let mut live = Live::start(ear.tap, pipeline, queue)?;
    let control = tokio::spawn(control.serve(live.operator()));
    let (mut stopping, mut gone) = (false, false);
    loop {
        tokio::select! {
            () = live.wait() => break,
            Some(row) = completed.recv() => report.completed(row),
            _ = tick.tick() => {
                live.lost(Lost { interface: listener.lost().await, ..Lost::default() });
                report.status(live.figures(), &listener.count.counts());
                // One that cannot be read any more is tried again: recording goes on.
                if let Some(Ok(added)) = key_log.as_mut().map(KeyLogFile::added)
                    && !added.is_empty()
                {
                    live.add_secrets(added);
                }
            }
            // Once it is to stop, taking the program off may look like a link that fails.
            event = listener.watch.next(), if !stopping => {
                report.link(event);
                match event {
                    LinkEvent::Down => live.note("gap", format!("{}: the link is down", interface.name)),
                    LinkEvent::Up => live.note("gap", format!("{}: the link is up again", interface.name)),
                    LinkEvent::Gone => {
                        (gone, stopping) = (true, true);
                        live.stop();
                    }
                }
            }
            _ = hangup.recv() => reload(args.config.as_deref(), &live, &report),
            _ = interrupt.recv() => stop(&live, &mut stopping, &report),
            _ = terminate.recv() => stop(&live, &mut stopping, &report),
        }
    }
    control.abort();
    drop(syncer);
    let last = Lost { interface: listener.lost().await, ..Lost::default() };
    let mut ended = live.finish()?;
    ended.pipeline.add_lost(last);
    while let Ok(row) = completed.try_recv() {
        report.completed(row);
    }
    if gone {
        ended.problem.get_or_insert(TapError { interface: interface.name, reason: "it is gone".to_owned() });
    }
    report.ended(&ended, &listener.count.counts());
    if let Some(problem) = ended.problem {
        return Err(problem.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// What interface and sieve have to say, beside frames.
struct Listener {
    watch: LinkWatch,
    count: Box<dyn Count>,
    /// What the interface has missed so far, also before this began.
    missed: u64,
    /// Frames that were needed and could not be handed up.
    unheard: u64,
}

impl Listener {
    /// Frames that were lost before the ring since this was last asked.
    async fn lost(&mut self) -> u64 {
        // Where it does not answer, what it has missed until now is told with the next answer.
        let missed = self.watch.missed().await.unwrap_or(self.missed);
        let unheard = self.count.counts().get(COUNT_NO_SOCKET as usize).copied().unwrap_or_default();
        let lost = missed.saturating_sub(self.missed) + unheard.saturating_sub(self.unheard);
        (self.missed, self.unheard) = (missed, unheard);
        lost
    }
}

/// The first time, ends what is going on; the second time, ends.
fn stop(live: &Live, stopping: &mut bool, report: &Report) {
    if std::mem::replace(stopping, true) {
        std::process::exit(INTERRUPTED);
    }
    report.stopping();
    live.stop();
}

/// Reads the rules again; those that cannot be read change nothing.
fn reload(path: Option<&Path>, live: &Live, report: &Report) {
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
