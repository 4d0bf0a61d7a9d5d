//! The Server: its wire, a client with one method per endpoint, and how often and when calls are made.

mod answer;
pub mod budget;
mod client;
pub mod probe;
pub mod protocol;
pub mod proxy;
pub mod retry;

pub use answer::ClientError;
pub use client::{Client, Upload, register};
