//! The agent is killed with SIGKILL at every call to the Server or docker, and at random (P1 and P2).
//!
//! The program has no switch for this. The fake Server kills the agent at a chosen point of a chosen request;
//! `executor.docker` names a script that logs each docker call and kills the agent at the chosen one.
#![cfg(unix)]

mod case;
mod cases;
mod expected;
mod matrix;
mod point;
mod random;
mod scene;
mod soak;
mod stand_in;

#[path = "../support/mod.rs"]
mod support;
