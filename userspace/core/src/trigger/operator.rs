//! An operator's orders: by `spantape ctl`, or by a program that speaks the control interface.

/// The word by which the catalog names this system.
pub const NAME: &str = "operator";
