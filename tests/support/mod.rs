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

use std::env;
use std::path::PathBuf;
use std::time::Duration;

/// The program that is driven. A test has the one that was built for it. An example has none; the variable
/// `AGENT_CORE_PROGRAM` names it.
pub fn program() -> String {
    match option_env!("CARGO_BIN_EXE_agent-core") {
        Some(built) => built.to_owned(),
        None => env::var("AGENT_CORE_PROGRAM").expect("AGENT_CORE_PROGRAM names the program"),
    }
}

/// The folder for temporary files: cargo's for tests, else the system's.
pub fn temporary_folder() -> PathBuf {
    option_env!("CARGO_TARGET_TMPDIR").map_or_else(env::temp_dir, PathBuf::from)
}

/// A deadline in seconds.
pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
