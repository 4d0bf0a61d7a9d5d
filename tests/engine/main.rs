//! The real program with the fake Server and a real Docker engine.
//!
//! A missing engine fails these tests.
//!
//! Signals and shell scripts are Unix: on Windows this target is empty.

#![cfg(unix)]

mod a_silent_container;
mod a_site_outage;
mod a_slow_server;
mod a_stuck_docker;
mod adoption;
mod bad_files;
mod border_in;
mod border_out;
mod cancel;
mod capacity;
mod check;
mod container;
mod container_options;
mod contract;
mod crash;
mod deadline;
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
mod pull;
mod report;
mod retention;
mod secrets;
mod server_trouble;
mod signals;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod tally;
mod tasks;
mod trial;
mod wall_clock;
