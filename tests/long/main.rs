//! Measurements that take minutes: memory and files over many tasks, the Server's limit on requests, a scan of very
//! many results, and an upload that the Server doesn't read.
//!
//! Each prints a table of its measurements, which come from /proc: `scripts/test --test long -- --nocapture` shows them.

#![cfg(target_os = "linux")]

mod budget;
mod scan;
mod soak;
mod unread_upload;

#[path = "../support/mod.rs"]
mod support;
