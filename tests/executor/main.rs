//! The image of `executor-example` from end to end: fake Server → the real program → a real container → pi → a scripted
//! model endpoint on 127.0.0.1 → tool calls → results on the Server.
//!
//! A missing engine, or an image that can't be built, fails these tests.

#![cfg(unix)]

mod agent_folder;
mod answers;
mod configuration;
mod container;
mod deadline;
mod endpoint;
mod image;
mod isolation;
mod minimal;
mod model;
mod scene;
mod stops;
mod success;
#[path = "../support/mod.rs"]
mod support;
mod trial;
