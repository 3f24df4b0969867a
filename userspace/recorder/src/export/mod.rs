//! What of an archive is made for other systems.

pub(crate) mod vcon;
