//! Random numbers.

use std::hash::{BuildHasher, RandomState};

/// Random bits, good enough to keep agents apart and not for secrets: the standard library seeds each hasher from the
/// system's source.
pub fn random_u64() -> u64 {
    RandomState::new().hash_one(0)
}
