//! The programs under test, built as users build them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace;

/// This very program, for its floor and its load: `cargo xtask` alone builds it without optimisation.
pub(crate) fn optimised_xtask() -> Result<PathBuf> {
    if cfg!(debug_assertions) {
        return release_build("xtask");
    }
    std::env::current_exe().context("find this program")
}

/// Builds a package on its own, as another one beside it could switch on features of what both depend on.
pub(crate) fn release_build(package: &str) -> Result<PathBuf> {
    eprintln!("building {package}");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", package])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace()?)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    if !out.status.success() {
        bail!("{package} does not build");
    }
    executable(&String::from_utf8_lossy(&out.stdout), package)
        .with_context(|| format!("cargo does not say where it has built {package}"))
}

fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = messages.filter(|message| message["target"]["name"] == target);
    ours.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"clap"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"spantape"},"executable":"/built/spantape"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "spantape"), Some(PathBuf::from("/built/spantape")));
        assert_eq!(executable(messages, "clap"), None);
    }
}
