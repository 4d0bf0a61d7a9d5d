//! What only root can set up: an engine of the test's own that may be restarted, a small disk that may be filled, and
//! an agent that runs as an ordinary user.
//!
//! `scripts/test` leaves this target out where it isn't run as root, and says so. Run otherwise it fails.

#![cfg(target_os = "linux")]

mod disk;
mod engine_restart;
mod ordinary_user;
mod own_engine;
mod small_disk;
#[path = "../support/mod.rs"]
mod support;

/// Fails the test, with the remedy, where it isn't root's.
fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests mount a disk, start an engine and change users, which only root may: run scripts/test as root, or \
         leave them out"
    );
}

#[test]
fn these_tests_run_as_root() {
    require_root();
}
