//! The agent killed with SIGKILL: at every outside step, and at random (P1 and P2).
//!
//! There is no switch for this in the program. The fake Server kills the agent when a chosen request is at a chosen
//! point; for docker's part `executor.docker` names a script that logs each call and kills the agent at the chosen one.
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
