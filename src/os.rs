//! The operating system: files, processes, locks and time limits.

pub mod files;
mod missing;
pub mod platform;
pub mod process;
pub mod random;
pub mod terminal;
pub mod timeout;
