//! Properties of the engine: what must be true of any calls, however they come by.

mod conversations;
mod encrypted;
mod floods;
mod foresight;
mod found;
mod garbage;
mod impaired;
mod leak;
mod long;
mod odd_sip;
mod operator;
mod order;
mod orphans;
mod sessions;
mod triggers;
mod whole;

use proptest::test_runner::{Config, RngSeed};

/// So many cases; what fails is printed, and becomes a test of its own, not a file.
fn cases(cases: u32) -> Config {
    // A change is judged by the same cases as the one before it. PROPTEST_CASES asks for that many others.
    let rng_seed = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => RngSeed::Random,
        None => RngSeed::Fixed(0x5ba9_7a9e),
    };
    Config { failure_persistence: None, rng_seed, ..Config::with_cases(cases) }
}
