//! Random numbers that a test can repeat: from `PACKHORSE_TEST_SEED`, or from a seed that it says.

use std::fmt;
use std::hash::BuildHasher as _;
use std::hash::Hasher as _;
use std::hash::RandomState;

/// The variable with the seed.
const SEED: &str = "PACKHORSE_TEST_SEED";

/// `SplitMix64`.
pub(crate) struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    /// With the seed of the environment, or another one each time.
    pub(crate) fn seeded() -> Self {
        let seed = std::env::var(SEED).map_or_else(
            |_| RandomState::new().build_hasher().finish() >> 32,
            |text| text.parse().unwrap(),
        );
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap()
    }
}

/// How to have the same again.
impl fmt::Display for Chance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{SEED}={}", self.seed)
    }
}
