//! Measures what agent-core costs, against what bare docker, `curl` and the Server itself cost in the same run.
//!
//! `scripts/bench` builds and runs it. The agent is the program that `AGENT_CORE_PROGRAM` names, the Server is the tests'
//! fake one, and the containers are real unless a row says otherwise. `rows.rs` has the list of what is measured.

#[cfg(target_os = "linux")]
mod agents;
#[cfg(target_os = "linux")]
mod bare;
#[cfg(target_os = "linux")]
mod chart;
#[cfg(target_os = "linux")]
mod expected;
#[cfg(target_os = "linux")]
mod figure;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod marks;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod stand_in;
#[cfg(target_os = "linux")]
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("bench: it reads /proc, so it runs on Linux only");
    ExitCode::FAILURE
}
