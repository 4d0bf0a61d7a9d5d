//! The real program with the fake Server and a real Docker engine.
//!
//! A missing engine fails these tests.

mod cancel;
mod container;
mod contract;
mod deadline;
mod delivery;
mod executors;
mod failing;
mod left_out;
mod mounts;
mod not_started;
mod output_volume;
mod paste;
mod report;
#[path = "../support/mod.rs"]
mod support;
