//! A recorder that hears a sample as if it were live, and is told what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use spantape_core::rules::{Action, Config, Rule, Rules};
use spantape_core::time::{SECOND, Timestamp};
use spantape_core::wire::LinkType;
use spantape_store::{ArchiveOptions, Query, Table, rows};
use tempfile::TempDir;
use tokio::runtime;
use tokio::sync::oneshot;

use super::{SOCKET, Server, Settings, Tcp};
use crate::finish::{Audio, Haste};
use crate::live::Live;
use crate::pipeline::Pipeline;
use crate::source::capture_file::CaptureFile;
use crate::source::clock::Clock;
use crate::source::tap::{Batch, Tap, TapError};
use crate::source::xdp::Frames;

/// A call of 1009 to 1010, answered after 1.5 s, with 11 s of speech.
const SAMPLE: &str = "plain-pcmu";
/// So much of it is past when it begins.
const PAST: i64 = 5 * SECOND;
pub(crate) const CALL_ID: &str = "plain-pcmu-1@10.20.0.9";
pub(crate) const TOKEN: &str = "0123456789abcdef";

/// Plays a sample at its own speed, as of now.
struct Player {
    clock: Clock,
    frames: std::iter::Peekable<std::vec::IntoIter<(Timestamp, Vec<u8>)>>,
}

impl Player {
    fn new() -> Player {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(SAMPLE).join("input.pcap");
        let mut file = CaptureFile::open(&path, &Arc::default()).unwrap();
        let (clock, mut frames) = (Clock::new(), Vec::new());
        let mut offset = None;
        while file.advance().unwrap() {
            let frame = file.frame();
            let offset = *offset.get_or_insert_with(|| clock.now().since(frame.at) - PAST);
            frames.push((frame.at + offset, frame.data.to_vec()));
        }
        Player { clock, frames: frames.into_iter().peekable() }
    }
}

impl Tap for Player {
    fn link(&self) -> LinkType {
        LinkType::Ethernet
    }

    fn read(&mut self, batch: &mut Batch) -> Result<(), TapError> {
        let now = self.clock.now();
        while !batch.is_full()
            && let Some((at, frame)) = self.frames.next_if(|(at, _)| *at <= now)
        {
            batch.push(at, &frame);
        }
        if !batch.is_full() {
            batch.seen_until = Some(now);
        }
        if batch.is_empty() {
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn lost(&mut self) -> u64 {
        0
    }

    fn detach(&mut self) {}

    fn frames(&self) -> Option<Frames> {
        None
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }
}

/// A recorder at work.
pub(crate) struct Scene {
    pub(crate) archive: TempDir,
    pub(crate) listen: std::net::SocketAddr,
    live: Live,
    server: JoinHandle<()>,
    quit: oneshot::Sender<()>,
}

impl Scene {
    pub(crate) fn begin(action: Action) -> Scene {
        Scene::begin_with(action, 1)
    }

    /// With so many engines.
    pub(crate) fn begin_with(action: Action, engines: usize) -> Scene {
        let archive = TempDir::new().unwrap();
        let rules = Rules::new(vec![Rule::new("the-rule", action)], Vec::new());
        let pipeline = Pipeline::new(
            Config { rules, ..Config::default() },
            engines,
            &Audio::default(),
            Haste::Live,
            archive.path(),
            ArchiveOptions::default(),
        )
        .unwrap();
        let live = Live::start(Box::new(Player::new()), pipeline, 0).unwrap();
        let token_file = archive.path().join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
        let tcp = Tcp { listen: "127.0.0.1:0".parse().unwrap(), token_file };
        let settings = Settings { socket: Some(SOCKET.into()), demanded: true, tcp: Some(tcp) };
        let (quit, told) = oneshot::channel();
        let (ready, bound) = std::sync::mpsc::channel();
        let (operator, path) = (live.operator(), archive.path().to_owned());
        let server = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(&settings, &path).unwrap();
                ready.send(server.addresses().1.unwrap()).unwrap();
                tokio::select! { () = server.serve(operator) => {}, _ = told => {} }
            });
        });
        let listen = bound.recv().unwrap();
        Scene { archive, listen, live, server, quit }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.archive.path().join(SOCKET)
    }

    /// Ends it. The socket goes with it, the archive stays.
    pub(crate) fn end(self) -> TempDir {
        self.live.stop();
        self.live.finish().unwrap();
        let socket = self.archive.path().join(SOCKET);
        assert!(socket.exists());
        drop(self.quit);
        self.server.join().unwrap();
        assert!(!socket.exists(), "the socket is left behind");
        self.archive
    }
}

/// The rows of a table, as JSON.
pub(crate) fn rows_of(archive: &Path, table: Table, trigger: Option<&str>) -> Vec<serde_json::Value> {
    let query = Query { table, trigger: trigger.map(str::to_owned), ..Query::default() };
    let batches = query.run(archive).unwrap();
    batches.flat_map(|batch| rows::objects(&batch.unwrap()).map(Into::into).collect::<Vec<_>>()).collect()
}
