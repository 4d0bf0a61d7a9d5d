//! Tests that need root: they start their own engine, fill a small disk, and run the agent as an ordinary user.
//!
//! Without root `scripts/test` leaves this target out and reports that; `cargo test` fails.

#![cfg(target_os = "linux")]

mod disk;
mod engine_restart;
mod environment_paths;
mod fetch;
mod fetch_choice;
mod first_process;
mod foreign_paths;
mod frozen_disk;
mod full_disk;
mod hostile_trees;
mod ordinary_user;
mod own_engine;
mod prepared_data_dir;
mod read_only_disk;
mod removal;
mod shortage;
mod small_disk;
#[path = "../support/mod.rs"]
mod support;

/// Fails the test when it doesn't run as root.
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
