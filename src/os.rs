//! The operating system: files, processes, locks and time limits.

pub mod digest;
pub mod files;
pub mod folder;
mod missing;
pub mod mount_table;
pub mod own_address;
pub mod platform;
pub mod process;
pub mod random;
pub mod reserve;
pub mod terminal;
pub mod timeout;
pub mod trust;
