//! The real program with the fake Server and a real Docker engine.
//!
//! A missing engine fails these tests.
//!
//! Signals and shell scripts are Unix: on Windows this target is empty.

#![cfg(unix)]

mod adoption;
mod archives;
mod cancel;
mod capacity;
mod check;
mod container;
mod container_options;
mod contract;
mod couriers;
mod crash;
#[cfg(target_os = "linux")]
mod created_files;
mod dated_answers;
mod delivery;
mod detach;
mod engine_down;
mod environment;
mod executors;
mod failed_tasks;
mod gateway;
mod hostile_answers;
mod hostile_results;
mod hostile_server;
mod isolation;
mod ledger;
mod left_out;
mod log_lines;
mod logged_command;
mod metrics;
mod mounts;
mod not_started;
mod notes;
mod output_volume;
mod report;
mod retention;
mod reused_ids;
mod secrets;
mod server_faults;
mod several_agents;
mod signals;
mod stop;
mod submitter;
#[path = "../support/mod.rs"]
mod support;
mod task_commands;
mod trial;
