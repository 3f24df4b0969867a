//! spantape: a passive call recorder.

fn main() {}
