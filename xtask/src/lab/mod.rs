//! Phones behind a switch with a mirror port, and what passes between them: real SIP programs in network
//! namespaces, the speech that they play, and the frames that it makes.

pub(crate) mod archive;
pub(crate) mod baresip;
pub(crate) mod capture;
pub(crate) mod codec;
pub(crate) mod driver;
pub(crate) mod live;
pub(crate) mod media;
pub(crate) mod process;
pub(crate) mod recorder;
pub(crate) mod sieve;
pub(crate) mod sipp;
pub(crate) mod speech;
pub(crate) mod switch;
pub(crate) mod wire;

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace;
use process::Scratch;

/// Where things are read from and written to.
pub(crate) struct Bench {
    pub(crate) samples: PathBuf,
    pub(crate) scenarios: PathBuf,
    pub(crate) scratch: Scratch,
}

impl Bench {
    pub(crate) fn new() -> Result<Self> {
        let workspace = workspace()?;
        Ok(Self {
            samples: workspace.join("samples"),
            scenarios: workspace.join("xtask/scenarios"),
            scratch: Scratch::new()?,
        })
    }
}
