//! Tests of the fake Server itself: PROTOCOL's nine points, and every fault that can be scripted.
//!
//! They need neither the program nor Docker.

mod client;
mod faults;
mod limits;
mod queue;
mod wire;

#[path = "../support/server/mod.rs"]
mod server;
