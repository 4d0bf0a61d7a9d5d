//! The tests' own Server, tested: PROTOCOL's nine points, and every fault that can be scripted.
//!
//! Neither the program nor Docker takes part.

mod client;
mod faults;
mod limits;
mod queue;
mod wire;

#[path = "../support/server/mod.rs"]
mod server;
