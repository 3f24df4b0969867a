//! What the core cannot decode is decoded by ffmpeg, if it is there.

mod ffmpeg;
mod redecode;
pub(crate) mod sandbox;
mod stream;

pub(crate) use ffmpeg::{Ffmpeg, SANDBOX, in_path};
pub(crate) use redecode::{Gained, redecode};
