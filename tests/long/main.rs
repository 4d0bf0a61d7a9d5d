//! Measurements that take minutes: memory and files over many tasks, the Server's limit on requests, a scan of very
//! many results, and an upload that the Server doesn't read.
//!
//! They run only on request: `scripts/test --test long -- --ignored --nocapture`. Each prints a table of its
//! measurements, which come from /proc.

#![cfg(target_os = "linux")]

mod budget;
mod scan;
mod soak;
mod unread_upload;

#[path = "../support/mod.rs"]
mod support;
