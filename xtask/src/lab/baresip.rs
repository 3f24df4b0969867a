//! The G.722 case: two baresip processes, which unlike SIPp have the codec.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::capture::Capture;
use super::live::Tap;
use super::process::Running;
use super::sipp::media_port;
use super::speech::Speech;
use super::switch::{Family, Lab, Mirror, Phone};

/// Start, call and hang-up; baresip ends its calls when it quits.
const CALLER_SECONDS: u32 = 12;
const CALLEE_SECONDS: u32 = 15;
const LISTEN: Duration = Duration::from_millis(1500);

pub(crate) fn record(bench: &Bench) -> Result<Capture> {
    let lab = Lab::build(Mirror::Ingress)?;
    let tap = Tap::at_monitor(bench, &lab)?;
    make_call(bench, &lab)?;
    tap.capture()
}

/// 1009 calls 1010, which answers at once.
pub(crate) fn make_call(bench: &Bench, lab: &Lab) -> Result<()> {
    let mut callee = start(bench, lab, Phone::B)?;
    std::thread::sleep(LISTEN);
    let mut caller = start(bench, lab, Phone::A)?;
    caller.wait(Duration::from_secs(30))?;
    callee.wait(Duration::from_secs(30)).map(|_| ())
}

fn start(bench: &Bench, lab: &Lab, phone: Phone) -> Result<Running> {
    let (name, speech) = match phone {
        Phone::A => ("baresip-caller", Speech::Caller),
        Phone::B | Phone::Server => ("baresip-callee", Speech::Callee),
    };
    let folder = bench.scratch.folder(name)?;
    configure(&folder, phone, &speech.file(&bench.samples, 16_000))?;
    let mut command = lab.at_phone(phone, "baresip", &folder);
    command.arg("-4").arg("-f").arg(&folder);
    dial_or_wait(&mut command, phone);
    let log = std::fs::File::create(folder.join("log")).context("create a log")?;
    command.stderr(log.try_clone().context("a log for two")?).stdout(Stdio::from(log));
    Running::spawn(name, &mut command)
}

fn dial_or_wait(command: &mut Command, phone: Phone) {
    match phone {
        Phone::A => {
            let dial = format!("/dial sip:1010@{}", Phone::B.ip(Family::V4));
            command.args(["-e", &dial, "-t", &CALLER_SECONDS.to_string()]);
        }
        Phone::B | Phone::Server => {
            command.args(["-t", &CALLEE_SECONDS.to_string()]);
        }
    }
}

/// Where packages put baresip's modules; the program itself looks in its working folder only.
fn modules() -> Result<&'static Path> {
    let places = ["/usr/lib/baresip/modules", "/usr/lib64/baresip/modules", "/usr/local/lib/baresip/modules"];
    let place = places.into_iter().map(Path::new).find(|place| place.join("g722.so").is_file());
    place.context("baresip's module g722.so is not installed: install the package baresip-core")
}

/// The players are bridges that nobody listens to: a build machine has no sound card.
fn configure(folder: &Path, phone: Phone, speech: &Path) -> Result<()> {
    let (ip, port) = (phone.ip(Family::V4), media_port(phone));
    let (user, answer) = match phone {
        Phone::A => (1009, "manual"),
        Phone::B | Phone::Server => (1010, "auto"),
    };
    let config = format!(
        "module_path {}\npoll_method epoll\nsip_listen {ip}:5060\nrtp_ports {port}-{}\nrtp_stats no\n\
         audio_source aufile,{}\naudio_player aubridge,heard\naudio_alert aubridge,alert\n\
         ausrc_srate 16000\nauplay_srate 16000\nausrc_channels 1\nauplay_channels 1\n\
         module g722.so\nmodule aufile.so\nmodule aubridge.so\nmodule_app account.so\nmodule_app menu.so\n",
        modules()?.display(),
        port + 10,
        speech.display()
    );
    let account =
        format!("<sip:{user}@{ip}>;regint=0;answermode={answer};audio_codecs=G722/16000;ptime=20\n");
    for (file, text) in [("config", config), ("accounts", account), ("contacts", String::new())] {
        std::fs::write(folder.join(file), text).with_context(|| format!("write {file} of baresip"))?;
    }
    Ok(())
}
