//! Tests that mostly wait, many for a minute: the rule or limit under test takes that long.
//!
//! They use little processor time. `scripts/test` starts this target first and runs the others beside it.
//!
//! Most of them need a Docker engine; a missing one fails them.
//!
//! Signals and shell scripts are Unix: on Windows this target is empty.

#![cfg(unix)]

mod failing_files;
mod idle;
mod pull;
mod silent_container;
mod site_outage;
mod slow_server;
mod stuck_container;
mod stuck_docker;
#[path = "../support/mod.rs"]
mod support;
mod task_timeout;
mod unclaimed_cancellation;
mod wall_clock;
