//! Properties of the engine: what must be true of any calls, however they come by.

mod found;
mod garbage;
mod impaired;
mod leak;
mod order;
mod triggers;
mod whole;

use proptest::test_runner::Config;

/// So many cases; what fails is printed, and becomes a test of its own, not a file.
fn cases(cases: u32) -> Config {
    Config { failure_persistence: None, ..Config::with_cases(cases) }
}
