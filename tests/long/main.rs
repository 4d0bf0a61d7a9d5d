//! Proofs that take minutes: that nothing grows in a long day, that a Server's limit on requests is kept,
//! that very many results are looked through in little time and memory, and that an upload which nobody reads comes
//! to an end.
//!
//! They are left out unless they are asked for: `scripts/test --test long -- --ignored --nocapture`. Each prints a
//! table of what it has measured. What they measure stands in /proc.

#![cfg(target_os = "linux")]

mod budget;
mod scan;
mod soak;
mod unread_upload;

#[path = "../support/mod.rs"]
mod support;
