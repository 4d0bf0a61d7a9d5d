//! The real program with the fake Server and a real Docker engine.
//!
//! A missing engine fails these tests.
//!
//! Signals and shell scripts are Unix: on Windows this target is empty.

#![cfg(unix)]

mod adoption;
mod border_in;
mod border_out;
mod cancel;
mod capacity;
mod check;
mod container;
mod container_options;
mod contract;
mod crash;
mod delivery;
mod detach;
mod engine_away;
mod environment;
mod executors;
mod failing;
mod instance;
mod isolation;
mod ledger;
mod left_out;
mod log_lines;
mod metrics;
mod mounts;
mod not_started;
mod output_volume;
mod paste;
mod report;
mod retention;
mod secrets;
mod server_trouble;
mod signals;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod tasks;
mod trial;
