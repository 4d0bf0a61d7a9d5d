//! The program's command line, its configuration file and its calls to the Server, tested from outside.
//!
//! These tests need no Docker engine: their agents reach none and accept no task.
//!
//! Signals and shell scripts are Unix: on Windows this target is empty.

#![cfg(unix)]

mod agent_log;
mod authorization;
mod check;
mod check_server;
mod closed_output;
mod config_errors;
#[cfg(target_os = "linux")]
mod created_files;
mod discard;
mod folder;
mod heartbeats;
mod help;
mod https;
mod init;
mod interference;
mod ledger;
mod lock;
mod log_lines;
mod manual;
mod missing_data_dir;
mod outage;
mod paths;
mod pause;
mod permissions;
mod polls;
mod proxy;
mod readme;
mod redirects;
mod register;
mod register_fails;
mod relay;
mod reload;
mod shell;
mod starts;
mod status;
mod task_names;
mod tasks;
mod trial;
mod unregistered;
mod wire;

#[path = "../support/mod.rs"]
mod support;
