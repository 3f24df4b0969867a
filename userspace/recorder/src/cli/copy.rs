//! `spantape copy`: an archive to an object store.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use spantape_store::copy::{Copied, Copier, Step};
use spantape_store::{Error, Remote};

use super::terminal::clean;
use super::{PARTLY, when};
use crate::config;

/// Copy an archive to an object store, beside whoever records into it
///
/// Whatever is finished and not there yet is sent: recordings before the part of the catalog that names them. What has been
/// compacted or purged here is removed there, once what takes its place has come. Interrupted, it goes on where it was. The copy
/// can be searched, played, exported and verified: give its URL as `--archive`.
///
/// How the store is reached is said by the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, and for others
/// than Amazon's AWS_ENDPOINT_URL, and AWS_ALLOW_HTTP=true if it speaks no TLS.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  spantape copy --archive /srv/calls --to s3://recordings/site-1
  spantape copy --archive /srv/calls --to s3://recordings --node north --follow=5m
  spantape copy --archive /srv/calls --to s3://recordings/site-1 --check
  AWS_ENDPOINT_URL=http://minio:9000 AWS_ALLOW_HTTP=true spantape copy --archive /srv/calls --to s3://recordings

Exit code: 0 all that is finished is there, 1 some could not be read, 2 it could not be done.")]
pub(crate) struct Args {
    /// The archive, a directory
    #[arg(long, value_name = "DIR", env = "SPANTAPE_ARCHIVE")]
    archive: PathBuf,
    /// Where to: s3://BUCKET/PREFIX, or file:///DIRECTORY
    #[arg(long, value_name = "URL")]
    to: String,
    /// What tells this archive from others that are copied to the same URL
    #[arg(long, value_name = "NAME", value_parser = config::node)]
    node: Option<String>,
    /// Go on: look for what is new so often, and try again what has failed
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1m", value_parser = when::seconds)]
    follow: Option<f64>,
    /// Read what is there already, and send anew what is not as it is here
    #[arg(long, conflicts_with = "follow")]
    check: bool,
}

/// The longest wait after a failure, and the first: it doubles each time.
const LONGEST: Duration = Duration::from_secs(600);
const FIRST: Duration = Duration::from_secs(5);
/// Between two looks at what is new, at least.
const SHORTEST: f64 = 1.0;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut copier = Copier::new(&args.archive, Remote::open(&args.to)?, args.node.clone())?;
    if args.check {
        copier = copier.checking();
    }
    let Some(every) = args.follow else {
        let copied = round(&mut copier)?;
        tell(&copied);
        println!("{}", text(&copied, args.check));
        return Ok(if copied.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PARTLY) });
    };
    let every = Duration::try_from_secs_f64(every.max(SHORTEST)).unwrap_or(LONGEST);
    let (mut wait, mut problems) = (FIRST, Vec::new());
    loop {
        match round(&mut copier) {
            Ok(copied) => {
                // What cannot be read now will not be the next time either: it is told once.
                if copied.problems != problems {
                    tell(&copied);
                    problems = copied.problems.clone();
                }
                if copied.files + copied.removed > 0 {
                    println!("{}", text(&copied, false));
                }
                wait = FIRST;
                thread::sleep(every);
            }
            Err(error @ Error::OtherArchive { .. }) => return Err(error.into()),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                eprintln!("spantape: {}; once more in {} s", clean(&error), wait.as_secs());
                thread::sleep(wait);
                wait = (wait * 2).min(LONGEST);
            }
        }
    }
}

/// One look at what is new, with a bar for those who watch.
fn round(copier: &mut Copier) -> spantape_store::Result<Copied> {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    // A template of indicatif's own language, which is right.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}") {
        bar.set_style(style);
    }
    let copied = copier.round(|step| match step {
        Step::Wanted(bytes) => bar.inc_length(bytes),
        Step::Done(bytes) => bar.inc(bytes),
    });
    bar.finish_and_clear();
    copied
}

fn tell(copied: &Copied) {
    copied.problems.iter().for_each(|problem| eprintln!("spantape: warning: left out: {}", clean(problem)));
}

fn text(copied: &Copied, check: bool) -> String {
    let mut text = format!("{} files copied, {:.1} MB", copied.files, copied.bytes as f64 / 1e6);
    if copied.removed > 0 {
        text.push_str(&format!("; {} removed", copied.removed));
    }
    if check {
        text.push_str(&format!("; {} were there as they are here", copied.checked));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use spantape_store::Place;

    use super::super::identity::Identity;
    use super::super::show::{self, Found};
    use super::super::terminal::Screen;
    use super::super::{report, testing};
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(given: &[&str]) -> Result<Args, clap::Error> {
        let always = ["copy", "--archive", "a", "--to", "s3://b"];
        Cli::try_parse_from(always.into_iter().chain(given.iter().copied())).map(|cli| cli.args)
    }

    #[test]
    fn how_often() {
        assert_eq!(args(&[]).unwrap().follow, None);
        assert_eq!(args(&["--follow"]).unwrap().follow, Some(60.0));
        assert_eq!(args(&["--follow=5m"]).unwrap().follow, Some(300.0));
        assert!(args(&["--follow", "--check"]).is_err());
        assert_eq!(args(&["--node", "north-1"]).unwrap().node.as_deref(), Some("north-1"));
        assert!(args(&["--node", "../x"]).is_err() && args(&["--node", ""]).is_err());
    }

    #[test]
    fn a_copy_is_an_archive() {
        let archive = testing::archive();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}/copy", dir.path().display());
        let mut copier = Copier::new(archive.path(), Remote::open(&url).unwrap(), None).unwrap();
        let copied = round(&mut copier).unwrap();
        assert!(copied.files > 3, "{copied:?}");
        assert!(text(&copied, false).starts_with(&format!("{} files copied, ", copied.files)));
        let (place, recording) = show::locate("ab000001", Some(url.as_ref())).unwrap().unwrap();
        let read = |path: PathBuf| std::fs::read(path).unwrap();
        let file = recording.text("file");
        assert_eq!(read(place.path(&file)), read(archive.path().join(&file)));
        // As if it were far away.
        let far = Place::Remote(Remote::open(&url).unwrap());
        let found = Found::gather(&far, recording).unwrap();
        let sound = Identity::default().sound(&far, &found.recording);
        assert_eq!(sound.unwrap().frames(), Some(32_000));
        let report = |place: Place| {
            let sound = Identity::default().sound(&place, &found.recording);
            report::text(Screen::plain(100), &found, sound)
        };
        assert_eq!(report(far), report(archive.path().into()));
    }
}
