//! Helpers for all test targets: a fake Server, the real program in its own folder, the real engine.

// Each test target compiles all of this and uses the part that it needs.
#![allow(dead_code, unused_imports)]

pub mod agent;
pub mod docker;
pub mod ledger;
#[cfg(unix)]
pub mod ordinary_user;
pub mod prometheus;
pub mod server;
pub mod tally;
#[cfg(unix)]
pub mod terminal;
pub mod twin;
#[cfg(target_os = "linux")]
pub mod watcher;

use std::time::Duration;

/// A deadline in seconds.
pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
